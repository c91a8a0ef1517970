"""The relay: what a node does for the ghosts whose clairvoyant it is, and for those of others.

In: what ghosts say (`Heard`, by the host process that has their connections), what is said to them
(by the machines of this node, `Outward`, and those of others, `ToGhost`), what the journal and
replication answer. Out: the same handed on. Who is attached is told to membership, which tells the
others. Every node has this machine; the host process is there only while there are ghosts.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import structs

from leoronic.core import peer
from leoronic.core.effects import Effect, Fired, Log, Send, SetTimer
from leoronic.core.executor_messages import Open, Relaying
from leoronic.core.ghost_messages import (
    ANSWER_S,
    ENTRIES_MAX,
    Attach,
    Detach,
    Down,
    GhostAbout,
    GhostAppend,
    GhostFetchSpecs,
    GhostLoadOpen,
    GhostMessage,
    GhostPing,
    GhostPong,
    GhostStop,
    Nodes,
    NodeTold,
    NotWelcome,
    Up,
    Welcome,
)
from leoronic.core.ghost_notices import (
    Came,
    EndRelay,
    GhostIds,
    HangUp,
    Heard,
    HungUp,
    Outward,
    RelayDown,
    RelayUp,
    TicketKeys,
    Transmit,
)
from leoronic.core.ghost_routes import read_from_leaf, read_to_leaf
from leoronic.core.ghost_tickets import Tickets
from leoronic.core.peer import GHOSTS_MAX, Assign, FromGhost, Offer, PeerMessage, ToGhost
from leoronic.core.queue_messages import Appended, AppendFailed, SpecsFetched, StopOnGhost
from leoronic.core.relay_attachments import (
    ATTACHED_MAX,
    Attachment,
    Attachments,
)
from leoronic.core.relay_requests import RelayRequests
from leoronic.core.replication_messages import Copied
from leoronic.core.view import LEFT, View

LOOK_S = 1.0
# A look that comes so late shows that this process stood still.
LATE_S = 2.0
IDLE_S = 60.0
REASON_MAX = 200


class Start:
    """The machine's first message."""


class RelayMachine:
    """See the module; `node` is this node's id. `now` is seconds of membership's steady clock."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._now = 0.0
        self._effects: list[Effect] = []
        self._attached = Attachments()
        self._requests = RelayRequests(
            node, self._effects, self._attached, self._say, self._cut_off
        )
        self._view: View | None = None
        self._nodes: list[NodeTold] = []
        self._ids: frozenset[str] = frozenset()
        self._up = False
        self._idle_at: float | None = None
        self._look_at: float | None = None
        self._handlers: dict[type, Callable[..., None]] = {
            Start: self._on_start,
            View: self._on_view,
            RelayUp: self._on_relay_up,
            RelayDown: self._on_relay_down,
            TicketKeys: self._on_ticket_keys,
            Came: self._on_came,
            HungUp: lambda message: self._drop(message.connection, message.reason),
            Heard: self._on_heard,
            Outward: self._on_outward,
            ToGhost: self._on_to_ghost,
            FromGhost: self._on_from_ghost,
            StopOnGhost: self._on_stop,
            Appended: lambda message: self._requests.appended(message, self._now),
            AppendFailed: self._requests.append_failed,
            Copied: self._requests.copied,
            Open: self._requests.opened,
            SpecsFetched: self._requests.fetched,
            Fired: self._on_fired,
        }
        self._said: dict[type, Callable[..., None]] = {
            GhostPing: self._on_ping,
            GhostAbout: self._on_about,
            GhostAppend: lambda ghost, said: self._requests.append(ghost, said, self._now),
            GhostLoadOpen: self._requests.load,
            GhostFetchSpecs: self._requests.fetch,
            Up: self._on_up,
            Detach: self._on_detach,
        }

    def handle(self, message: object, now: float) -> list[Effect]:
        """Take one message."""
        self._now = now
        self._handlers[type(message)](message)
        effects = list(self._effects)
        self._effects.clear()
        return effects

    def _send(self, to: str, message: object) -> None:
        self._effects.append(Send(to, message))

    def _log(self, event: str, **fields: object) -> None:
        self._effects.append(Log(event, "info", fields))

    def _now_ms(self) -> int:
        return max(1, int(self._now * 1000))

    # ---- this node ----

    def _on_start(self, _message: Start) -> None:
        self._requests.begin(int(self._now * 1_000_000))
        self._send("runner", Relaying(False))
        self._send("membership", self._attached.here())

    def _on_view(self, view: View) -> None:
        self._view = view
        ids = frozenset(view.ghosts)
        if ids or ids != self._ids:
            self._ids = ids
            self._send("peers", GhostIds(ids))
        nodes = [
            NodeTold(node, view.members[node].about.name, view.members[node].about.addresses)
            for node in view.alive()
        ]
        if nodes != self._nodes:
            self._nodes = nodes
            for attached in self._attached.by_ghost.values():
                self._say(attached.connection, Nodes(nodes))
        if self._is_leaving():
            for attached in list(self._attached.by_ghost.values()):
                self._cut_off(attached.connection, "the node stops")
        self._compare(view)

    def _is_leaving(self) -> bool:
        me = None if self._view is None else self._view.members.get(self._node)
        return me is not None and me.state == LEFT

    def _compare(self, view: View) -> None:
        """Membership may have begun anew, or a ghost gone to another node unnoticed."""
        differs = False
        for ghost, attached in self._attached.by_ghost.items():
            known = view.ghosts.get(ghost)
            here = known is not None and known.clairvoyant == self._node and known.alive
            differs = differs or not here
            if here:
                attached.elsewhere_at = None
            elif attached.elsewhere_at is None:
                attached.elsewhere_at = self._now
        if differs:
            self._send("membership", self._attached.here())

    # ---- connections ----

    def _on_relay_up(self, message: RelayUp) -> None:
        self._lose_all()
        self._up = True
        self._idle_at = self._now
        self._send("runner", Relaying(True))
        for came in message.came:
            self._on_came(came)
        self._look_soon()

    def _on_relay_down(self, _message: RelayDown) -> None:
        self._lose_all()
        self._up = False
        self._send("runner", Relaying(False))

    def _on_ticket_keys(self, message: TicketKeys) -> None:
        self._requests.tickets = Tickets(message.keys)

    def _lose_all(self) -> None:
        self._attached.clear()
        self._send("membership", self._attached.here())

    def _on_came(self, message: Came) -> None:
        self._attached.came[message.connection] = (message.ghost, self._now)
        self._look_soon()

    def _drop(self, connection: int, reason: str) -> None:
        attached = self._attached.drop(connection)
        if attached is not None:
            self._log("ghost_detached", ghost=attached.ghost, reason=reason[:REASON_MAX])
            self._send("membership", self._attached.here())

    def _cut_off(self, connection: int, reason: str) -> None:
        self._send("relay_host", HangUp(connection, reason[:REASON_MAX]))
        self._drop(connection, reason)

    def _say(self, connection: int, message: GhostMessage) -> None:
        self._send("relay_host", Transmit(connection, message))

    # ---- time ----

    def _look_soon(self) -> None:
        if self._look_at is None:
            self._look_at = self._now + LOOK_S
            self._effects.append(SetTimer("look", self._look_at))

    def _on_fired(self, _message: Fired) -> None:
        due, self._look_at = self._look_at, None
        if due is not None and self._now - due > LATE_S:
            self._attached.stood_still(self._now)
        for connection, why in self._attached.overdue(self._now):
            self._cut_off(connection, why)
        for attached in list(self._attached.by_ghost.values()):
            since = attached.elsewhere_at
            if since is not None and self._now - since > ANSWER_S:
                self._cut_off(attached.connection, "another node has it")
        self._requests.overdue(self._now)
        if not self._up:
            return
        # The executor may have begun anew.
        self._send("runner", Relaying(True))
        if self._attached:
            self._idle_at = None
        elif self._idle_at is None:
            self._idle_at = self._now
        elif self._now - self._idle_at >= IDLE_S:
            self._idle_at = self._now
            self._send("relay_host", EndRelay())
        self._look_soon()

    # ---- what ghosts say ----

    def _on_heard(self, heard: Heard) -> None:
        attached = self._attached.of(heard.connection)
        message = heard.message
        if attached is not None:
            attached.heard_at = self._now
            attached.asked_at = None
            attached.heard_time = heard.at
            handler = self._said.get(type(message))
            if handler is not None:
                handler(attached, message)
                return
        elif heard.connection not in self._attached.came:
            return  # It was cut off meanwhile.
        elif isinstance(message, Attach):
            self._attach(heard.connection, message)
            return
        self._cut_off(heard.connection, f"it may not say {type(message).__name__} now")

    def _attach(self, connection: int, message: Attach) -> None:
        ghost, _ = self._attached.came[connection]
        why = self._why_not(ghost, message)
        if why:
            self._say(connection, NotWelcome(why))
            self._cut_off(connection, why)
            return
        assert self._view is not None, "else it was not welcome"
        former = self._attached.by_ghost.get(ghost)
        if former is not None:
            self._cut_off(former.connection, "it has a newer connection")
        self._requests.look(self._attached.attach(connection, message, self._now))
        about = self._view.members[self._node].about
        now_ms = self._now_ms()
        self._say(connection, Welcome(self._node, about, message.sent_ms, now_ms, self._nodes))
        self._log("ghost_attached", ghost=ghost, name=message.about.name)
        self._send("membership", self._attached.here())

    def _why_not(self, ghost: str, message: Attach) -> str:
        me = None if self._view is None else self._view.members.get(self._node)
        if me is None or self._view is None:
            return "it has just begun: try again"
        if message.ghost != ghost:
            return f"its certificate is that of {ghost}"
        if ghost in self._view.members:
            return "a node has that id"
        if self._is_leaving():
            return "the node stops"
        if not me.ready:
            return "it has not caught up with the other nodes yet: try again"
        there = self._view.ghosts
        if ghost not in there and sum(one.alive for one in there.values()) >= GHOSTS_MAX:
            return f"there are {GHOSTS_MAX} ghosts already"
        if len(self._attached.by_ghost) >= ATTACHED_MAX and ghost not in self._attached.by_ghost:
            return f"it has {ATTACHED_MAX} ghosts already"
        return ""

    def _on_ping(self, attached: Attachment, message: GhostPing) -> None:
        attached.busy = message.busy
        self._say(attached.connection, GhostPong(message.sent_ms, self._now_ms()))

    def _on_about(self, attached: Attachment, message: GhostAbout) -> None:
        attached.about = message.about
        self._send("membership", self._attached.here())

    def _on_detach(self, attached: Attachment, message: Detach) -> None:
        self._cut_off(attached.connection, message.reason or "it left")

    def _on_up(self, attached: Attachment, envelope: Up) -> None:
        message = read_from_leaf(attached.ghost, envelope.message, envelope.blob)
        if isinstance(message, str):
            self._cut_off(attached.connection, message)
            return
        if isinstance(message, Offer):
            # The ghost does not know what its words stand on: its entries are in others' journals.
            message = structs.replace(message, number=0, journals=dict(attached.journals))
        if envelope.node == self._node:
            self._send(peer.RECEIVERS[type(message)], message)
        else:
            text, blob = peer.encode(message)
            wrapped = FromGhost(
                self._node, ghost=attached.ghost, message=msgspec.Raw(text), blob=blob
            )
            self._send(f"relay@{envelope.node}", wrapped)

    # ---- what is said to ghosts ----

    def _on_outward(self, outward: Outward) -> None:
        text, blob = peer.encode(outward.message)
        ghost = outward.ghost
        attached = self._attached.by_ghost.get(ghost)
        if attached is not None:
            down = Down(msgspec.Raw(text), self._now_ms(), blob=blob)
            self._hand(attached, outward.message, down)
            return
        known = None if self._view is None else self._view.ghosts.get(ghost)
        if known is not None and known.linked and known.clairvoyant != self._node:
            wrapped = ToGhost(self._node, ghost=ghost, message=msgspec.Raw(text), blob=blob)
            self._send(f"relay@{known.clairvoyant}", wrapped)

    def _on_to_ghost(self, message: ToGhost) -> None:
        attached = self._attached.by_ghost.get(message.ghost)
        if attached is None:
            return
        told = read_to_leaf(message.message, message.blob)
        if isinstance(told, str):
            self._log("not_handed", ghost=message.ghost, reason=told[:REASON_MAX])
            return
        down = Down(message.message, self._now_ms(), message.stale, message.blob)
        self._hand(attached, told, down)

    def _hand(self, attached: Attachment, message: PeerMessage, down: Down) -> None:
        if isinstance(message, Assign):
            keys = [(item.task, item.attempt) for item in (*message.items, *message.ahead)]
            attached.assign(keys)
            tickets = [self._requests.tickets.make(attached.ghost, *key) for key in keys]
            if any(tickets):
                down = structs.replace(down, tickets=tickets[:ENTRIES_MAX])
        self._expect_answer(attached)
        self._say(attached.connection, down)

    def _expect_answer(self, attached: Attachment) -> None:
        if attached.asked_at is None:
            attached.asked_at = self._now

    def _on_from_ghost(self, envelope: FromGhost) -> None:
        """Another node's ghost speaks to a machine of this node."""
        if self._view is not None and envelope.ghost in self._view.members:
            return
        message = read_from_leaf(envelope.ghost, envelope.message, envelope.blob)
        if isinstance(message, str):
            self._log("ghost_refused", ghost=envelope.ghost, reason=message[:REASON_MAX])
        else:
            self._send(peer.RECEIVERS[type(message)], message)

    def _on_stop(self, message: StopOnGhost) -> None:
        attached = self._attached.by_ghost.get(message.ghost)
        if attached is not None:
            stop = message.stop
            self._expect_answer(attached)
            reason = stop.reason[:REASON_MAX]
            self._say(attached.connection, GhostStop(stop.task, stop.attempt, reason))
