"""A ghost's link: whom it has as its clairvoyant, and all that goes there and comes from there.

It stands for the membership and for the connections of a node: in a ghost it is the actor
`membership`, and gets what machines send to others (`Outbound`). Losing contact, or without an
answer for `ANSWER_S`, it goes to the next node (`ghost_choice.py`). A ghost that does nothing says
so seldom; when it runs something, or has just been told something, it pings once a second.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import msgspec
from msgspec import structs

from leoronic.core import peer
from leoronic.core.effects import Asked, CancelTimer, Effect, Fired, Log, Reply, Send, SetTimer
from leoronic.core.ghost_choice import GhostChoice
from leoronic.core.ghost_lease import GhostLease
from leoronic.core.ghost_messages import (
    ANSWER_S,
    PING_BUSY_S,
    PING_IDLE_S,
    Attach,
    Detach,
    Down,
    GhostAbout,
    GhostAppended,
    GhostAppendFailed,
    GhostMessage,
    GhostOpen,
    GhostPing,
    GhostPong,
    GhostSpecs,
    GhostStop,
    Nodes,
    NodeTold,
    NotWelcome,
    Up,
    Welcome,
)
from leoronic.core.ghost_notices import (
    AskLink,
    Attached,
    Candidates,
    Dial,
    Dialled,
    HangUp,
    Heard,
    HungUp,
    LeaveNow,
    NodesThere,
    TicketsCame,
    ToClairvoyant,
    Transmit,
    Unanswered,
    Working,
)
from leoronic.core.ghost_routes import read_to_leaf
from leoronic.core.ghost_view import members_of, stands_on
from leoronic.core.outbound import Outbound
from leoronic.core.peer import Assign
from leoronic.core.queue_messages import StopAttempt
from leoronic.core.view import UP, About, AskView, Member, Standing, View

DIAL_S = 2.0
AGAIN_S = 0.2
AGAIN_S_MAX = 5.0
# After it was told something it pings for so long, so that it is known to have got it.
ATTENTIVE_S = 2.0
# A timer that fires so late shows that this process stood still.
LATE_S = 2.0
NOBODY = "no node was found yet: name one with --peer ADDR"


class Start:
    """The machine's first message."""


class Stage(Enum):
    """ALONE: nobody is called. DIALLING: a connection is being made. ASKING: it is there."""

    ALONE = 1
    DIALLING = 2
    ASKING = 3
    ATTACHED = 4


class GhostLink:
    """See the module. `now` is seconds of a steady clock that goes on while the machine sleeps.

    `about.life` must be greater with each start of the ghost, and less than 2**52. `wanted` says
    whom it chooses: see `GhostChoice`.
    """

    def __init__(self, ghost: str, about: About, wanted: str = "") -> None:
        self._ghost = ghost
        self._about = about
        self._choice = GhostChoice(wanted)
        self._effects: list[Effect] = []
        self._now = 0.0
        self._stage = Stage.ALONE
        self._connection = 0
        self._attachments = 0
        self._address = ""
        self._node = ""
        self._node_about = About("", "", 0)
        self._nodes: list[NodeTold] = []
        self._reason = NOBODY
        self._lost_at: float | None = None
        self._again_s = AGAIN_S
        self._journals: dict[str, int] = {}
        self._lease = GhostLease()
        self._working = False
        self._said_busy = True  # what the clairvoyant goes by
        self._told_at = 0.0  # when it was told anything but an answer to a ping
        self._said_at = 0.0
        self._asked_at: float | None = None  # the first ping without an answer
        self._tick_at = 0.0
        self._leaving = False
        self._handlers: dict[type, Callable[..., None]] = {
            Start: lambda _: None,
            Candidates: self._on_candidates,
            Dialled: self._on_dialled,
            HungUp: self._on_hung_up,
            Heard: self._on_heard,
            Outbound: self._on_outbound,
            ToClairvoyant: lambda message: self._say(message.message),
            Working: self._on_working,
            Unanswered: self._on_unanswered,
            Standing: self._on_standing,
            AskView: lambda message: self._tell_view(message.sender),
            LeaveNow: self._on_leave,
            Asked: self._on_asked,
            Fired: self._on_fired,
        }
        self._said: dict[type, Callable[..., None]] = {
            Welcome: self._on_welcome,
            NotWelcome: lambda message: self._lose(message.reason),
            Nodes: self._on_nodes,
            GhostPong: self._on_pong,
            GhostAppended: self._on_appended,
            GhostAppendFailed: self._to_journal,
            GhostOpen: self._to_journal,
            GhostSpecs: self._to_journal,
            Down: self._on_down,
            GhostStop: self._on_stop,
        }

    def handle(self, message: object, now: float) -> list[Effect]:
        """Take one message."""
        self._now = now
        self._handlers[type(message)](message)
        effects, self._effects = self._effects, []
        return effects

    def _send(self, to: str, message: object) -> None:
        self._effects.append(Send(to, message))

    def _log(self, event: str, level: str = "info", **fields: object) -> None:
        self._effects.append(Log(event, level, fields))

    def _now_ms(self) -> int:
        return max(1, int(self._now * 1000))

    @property
    def clairvoyant(self) -> str:
        """The id of the node that it is attached to; '' if there is none."""
        return self._node if self._stage is Stage.ATTACHED else ""

    # ---- finding one ----

    def _on_candidates(self, message: Candidates) -> None:
        self._choice.find(message.addresses)
        if self._stage is Stage.ALONE and not self._leaving:
            self._choice.begin_round()
            self._dial(self._choice.next())

    def _dial(self, address: str) -> None:
        if not address:
            self._stage = Stage.ALONE
            self._effects.append(SetTimer("again", self._now + self._again_s))
            self._again_s = min(2 * self._again_s, AGAIN_S_MAX)
            return
        self._effects.append(CancelTimer("again"))
        self._connection += 1
        self._address = address
        self._stage = Stage.DIALLING
        self._send("wire", Dial(self._connection, address))
        self._effects.append(SetTimer("answer", self._now + DIAL_S))

    def _on_dialled(self, message: Dialled) -> None:
        if message.connection != self._connection or self._stage is not Stage.DIALLING:
            self._send("wire", HangUp(message.connection, "another one was called meanwhile"))
            return
        self._stage = Stage.ASKING
        self._node = message.node
        self._choice.met(self._address, message.node)
        self._attachments += 1
        number = self._about.life + self._attachments
        attach = Attach(self._ghost, self._about, number, self._now_ms(), dict(self._journals))
        self._send("wire", Transmit(self._connection, attach))
        self._effects.append(SetTimer("answer", self._now + ANSWER_S))

    def _on_hung_up(self, message: HungUp) -> None:
        if message.connection == self._connection and self._stage is not Stage.ALONE:
            self._lose(message.reason, hang_up=False)

    def _lose(self, reason: str, *, hang_up: bool = True) -> None:
        """There is no contact any more: go to the next."""
        if hang_up:
            self._send("wire", HangUp(self._connection, reason))
        was_attached = self._stage is Stage.ATTACHED
        self._stage = Stage.ALONE
        self._reason = f"{self._address}: {reason}"
        self._effects += [CancelTimer("answer"), CancelTimer("tick")]
        if was_attached:
            self._lost_at = self._now
            self._log(
                "clairvoyant_lost", "warning", clairvoyant=self._node_about.name, reason=reason
            )
            self._choice.begin_round(but=self._address)
            self._tell_views()
        if not self._leaving:
            self._dial(self._choice.next())

    def _on_welcome(self, message: Welcome) -> None:
        if self._stage is not Stage.ASKING:
            return
        lost_s = 0.0 if self._lost_at is None else self._now - self._lost_at
        self._stage = Stage.ATTACHED
        self._node, self._node_about = message.node, message.about
        self._lost_at, self._again_s, self._reason = None, AGAIN_S, ""
        self._lease = GhostLease()
        self._lease.hear(message.echo_ms, message.at_ms, self._now_ms())
        self._asked_at, self._told_at, self._said_at = None, self._now, self._now
        self._said_busy = True
        self._effects.append(CancelTimer("answer"))
        self._log("attached", clairvoyant=message.about.name, address=self._address)
        self._send("journal", Attached(message.node, lost_s))
        self._on_nodes(Nodes(message.nodes))
        self._set_tick()

    def _on_nodes(self, message: Nodes) -> None:
        self._nodes = message.nodes
        self._choice.tell(message.nodes)
        places = {node.id: tuple(node.addresses) for node in message.nodes}
        self._send("file_store", NodesThere(places))
        self._tell_views()

    # ---- whether it is there ----

    @property
    def _is_busy(self) -> bool:
        return self._working or self._now < self._told_at + ATTENTIVE_S

    @property
    def _every_s(self) -> float:
        """Until the clairvoyant knows that it is not busy, it is pinged as if it were."""
        return PING_BUSY_S if self._is_busy or self._said_busy else PING_IDLE_S

    def _set_tick(self) -> None:
        due = self._said_at + self._every_s
        if self._asked_at is not None:
            due = min(due, self._asked_at + ANSWER_S)
        self._tick_at = max(due, self._now)
        self._effects.append(SetTimer("tick", self._tick_at))

    def _on_fired(self, message: Fired) -> None:
        match message.name:
            case "tick" if self._stage is Stage.ATTACHED:
                self._tick()
            case "answer" if self._stage in (Stage.DIALLING, Stage.ASKING):
                self._lose("no answer")
            case "again" if self._stage is Stage.ALONE and not self._leaving:
                self._choice.begin_round()
                self._dial(self._choice.next())

    def _tick(self) -> None:
        if self._now - self._tick_at > LATE_S and self._asked_at is not None:
            self._asked_at = self._now  # it was this process that stood still
        if self._asked_at is not None and self._now >= self._asked_at + ANSWER_S:
            self._lose(f"no answer for {ANSWER_S:g} s")
            return
        if self._now >= self._said_at + self._every_s:
            self._ping()
        self._set_tick()

    def _ping(self) -> None:
        self._said_at = self._now
        if self._asked_at is None:
            self._asked_at = self._now
        self._said_busy = self._is_busy
        self._say(GhostPing(self._now_ms(), self._said_busy))

    def _on_pong(self, message: GhostPong) -> None:
        self._lease.hear(message.echo_ms, message.at_ms, self._now_ms())

    def _on_working(self, message: Working) -> None:
        if message.on != self._working:
            self._working = message.on
            if self._stage is Stage.ATTACHED:
                self._ping()  # so that it is known how soon the next one comes
                self._set_tick()

    def _on_unanswered(self, message: Unanswered) -> None:
        """The clairvoyant answers pings, and yet does not do what it is asked for."""
        if self._stage is Stage.ATTACHED and self._choice.others(self._node):
            self._lose(message.reason)

    # ---- what is said ----

    def _say(self, message: GhostMessage) -> None:
        if self._stage is Stage.ATTACHED:
            self._send("wire", Transmit(self._connection, message))

    def _on_outbound(self, outbound: Outbound) -> None:
        text, blob = peer.encode(outbound.message)
        self._say(Up(outbound.node, msgspec.Raw(text), blob))

    def _on_standing(self, message: Standing) -> None:
        about = structs.replace(
            self._about,
            capacity=message.capacity,
            tags=message.tags,
            draining=message.draining,
        )
        if about != self._about:
            self._about = structs.replace(about, revision=self._about.revision + 1)
            self._say(GhostAbout(self._about))
            self._tell_views()

    def _on_leave(self, message: LeaveNow) -> None:
        self._leaving = True
        self._say(Detach(message.reason))
        if self._stage is not Stage.ALONE:
            self._lose(message.reason)

    # ---- what is heard ----

    def _on_heard(self, heard: Heard) -> None:
        if heard.connection != self._connection or self._stage is Stage.ALONE:
            return
        self._asked_at = None
        handler = self._said.get(type(heard.message))
        if handler is None:
            self._lose(f"it said {type(heard.message).__name__}")
        elif self._stage is Stage.ATTACHED or isinstance(heard.message, Welcome | NotWelcome):
            handler(heard.message)

    def _note_told(self) -> None:
        """It is to be known soon that this got here."""
        was_busy = self._is_busy
        self._told_at = self._now
        if not was_busy:
            self._set_tick()

    def _on_down(self, envelope: Down) -> None:
        self._note_told()
        message = read_to_leaf(envelope.message, envelope.blob)
        if isinstance(message, str):
            self._log("not_taken", "warning", reason=message)
            return
        if isinstance(message, Assign):
            stale = envelope.stale or self._lease.is_stale(envelope.at_ms, self._now_ms())
            message = structs.replace(message, stale=stale)
            items = [(item.task, item.attempt) for item in (*message.items, *message.ahead)]
            tickets = dict(zip(items, envelope.tickets, strict=False))
            self._send("journal", TicketsCame(tickets))
        self._send(peer.RECEIVERS[type(message)], message)

    def _on_stop(self, message: GhostStop) -> None:
        self._note_told()
        self._send("runner", StopAttempt(message.task, message.attempt, message.reason))

    def _to_journal(self, message: GhostMessage) -> None:
        self._send("journal", message)

    def _on_appended(self, message: GhostAppended) -> None:
        if message.entry:
            self._journals = stands_on(self._journals, self._node, message.entry)
        self._to_journal(message)

    # ---- the view ----

    def _tell_views(self) -> None:
        self._tell_view("runner")
        self._tell_view("file_store")

    def _tell_view(self, viewer: str) -> None:
        """Whom the executor may hear of; files go by the clairvoyant alone."""
        nodes = [] if viewer == "file_store" else self._nodes
        members = members_of(self._ghost, self._about, nodes)
        if self._stage is Stage.ATTACHED:
            members[self._node] = Member(
                self._node, self._node_about, UP, ready=True, address=self._address
            )
        self._send(viewer, View(self._ghost, members, self._now))

    # ---- questions ----

    def _on_asked(self, asked: Asked) -> None:
        assert isinstance(asked.message, AskLink), f"not asked of a link: {asked.message!r}"
        attached = self._stage is Stage.ATTACHED
        found = {
            "clairvoyant": self.clairvoyant,
            "name": self._node_about.name if attached else "",
            "address": self._address if attached else "",
            "candidates": self._choice.candidates(),
            "reason": self._reason,
        }
        self._effects.append(Reply(asked.request, found))
