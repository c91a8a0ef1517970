"""The scheduler: which task starts next, and where, for all tasks that this node owns.

It knows this node's executor always and, while it has more than that can take (`Interest`), those
of all other nodes; each is the authority on what fits there, and several schedulers may offer it
work. Priority first, then the order of submission (`placement.py`). A task that others keep
overtaking is not starved: after `PATIENCE_S` a node takes nothing that would keep it waiting.

No attempt is assigned twice: what any node has is taken (`claims.py`), and of an origin that is new
nothing is placed before all nodes have told what they have (`barrier.py`). What was assigned over a
connection that broke goes back to the queue once the executor has told that it never arrived.

A process that stood still (a suspended machine) may have been given up, and its tasks placed by
others. So whoever heard nothing for `STILL_S` places nothing before membership, which judges that,
has told the view again.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from leoronic.core.barrier import Barriers
from leoronic.core.conditions import HasFile
from leoronic.core.effects import Asked, Effect, Fired, Reply, Send, SetTimer
from leoronic.core.interests import LOOK_S, Interests
from leoronic.core.nodes import NodePicture
from leoronic.core.peer import (
    CheckFiles,
    FilesPresent,
    Freed,
    Interest,
    Offer,
    Outstanding,
    Reserve,
)
from leoronic.core.placement import PATIENCE_S, Placement, Window
from leoronic.core.queue_messages import (
    AskBegun,
    AskReached,
    Begun,
    Declined,
    Offered,
    Reached,
    SchedulerStarted,
    Withdrawn,
)
from leoronic.core.resources import Need
from leoronic.core.ring import owner_of
from leoronic.core.run import AttemptKey
from leoronic.core.scheduler_messages import Explain
from leoronic.core.view import AskView, View

FILES_EVERY_S = 2.0
RESERVE_EVERY_S = 2.0
RESERVE_S = 6.0
# Entries of another node are here long before that, unless it can't be reached.
ENTRIES_S = 3.0
TOGETHER_S = 0.25
OUTSTANDING_S = 10.0
OUTSTANDING_MAX = 10_000
STILL_S = 1.0


class Start:
    """The machine's first message."""


class SchedulerMachine:
    """See the module; `node` is this node's id. Places nothing before it has a `View`.

    Its memory can be lost: the queue and the executors tell it all again. What it says is numbered
    from `number` on, which must be higher than all that an earlier life used. `now` is seconds of a
    steady clock: if the time of day is set forward, what it waits for is no more certain.
    """

    def __init__(self, node: str, number: int = 0) -> None:
        self._node = node
        self._view: View | None = None
        self._heard_at: float | None = None
        self._view_must_be_of = 0.0  # an older one may say what does not hold any more
        self._barriers = Barriers()
        self.placement = Placement(node, self._barriers.is_clear)
        self._number = number
        self._interests = Interests()
        self._timers: dict[str, float] = {}
        self._contested = False
        self._reserved: dict[str, int] = {}  # nodes that were told so, and for which class
        self._effects: list[Effect] = []
        self._now = 0.0
        self._handlers: dict[type, Callable[..., None]] = {
            Start: self._on_start,
            View: self._on_view,
            Offered: self._on_offered,
            Withdrawn: self._on_withdrawn,
            Begun: self._on_begun,
            Reached: lambda message: self._barriers.reached(message.have),
            Offer: self._on_offer,
            Freed: self._on_freed,
            FilesPresent: self._on_files_present,
            Outstanding: self._on_outstanding,
            Fired: self._on_fired,
            Asked: self._on_asked,
        }

    def handle(self, message: object, now: float) -> list[Effect]:
        """Take one message."""
        self._now = now
        self._notice_pause()
        self._handlers[type(message)](message)
        due_at = self.placement.claims.due_at()
        if due_at is not None and due_at <= now:
            self._decline(self.placement.claims.expire(now, self._out_of_reach()))
        self._pass_barriers()
        self._place()
        self._arm("claims", self.placement.claims.due_at())
        effects, self._effects = self._effects, []
        return effects

    # ---- small parts ----

    def _tell(self, node: str, message: object) -> None:
        """Say something to a node's executor."""
        to = "runner" if node == self._node else f"runner@{node}"
        self._effects.append(Send(to, message))

    def _decline(self, tasks: list[str]) -> None:
        if tasks:
            self._effects.append(Send("queue", Declined(tasks)))

    def _arm(self, timer: str, at: float | None) -> None:
        """Have the timer fire at `at` or before."""
        if at is not None and self._timers.get(timer, at + 1.0) > at:
            self._timers[timer] = at
            self._effects.append(SetTimer(timer, at))

    def _next_number(self) -> int:
        self._number += 1
        return self._number

    def _alive(self) -> list[str]:
        return [] if self._view is None else sorted({self._node, *self._view.alive()})

    def _out_of_reach(self) -> set[str]:
        """Nodes that count as there, and whose entries may not come just now."""
        members = {} if self._view is None else self._view.members
        return {member.id for member in members.values() if member.alive and not member.linked}

    def _peers(self) -> list[str]:
        return [node for node in self._alive() if node != self._node]

    # ---- who is there ----

    def _on_start(self, _message: Start) -> None:
        self._effects.append(Send("queue", SchedulerStarted()))
        self._effects.append(Send("membership", AskView("scheduler")))

    def _notice_pause(self) -> None:
        """It may as well be that there was nothing to be told: that looks the same."""
        last, self._heard_at = self._heard_at, self._now
        alone = self._view is None or len(self._view.members) == 1
        if last is not None and self._now - last > STILL_S and not alone:
            self._view_must_be_of = self._now
            self._ask_view()

    def _ask_view(self) -> None:
        self._effects.append(Send("membership", AskView("scheduler")))
        self._arm("view", self._now + STILL_S)

    def _on_view(self, view: View) -> None:
        old, self._view = self._view, view
        alive = self._alive()
        nodes = self.placement.nodes
        for node in [node for node in nodes if node not in alive]:
            self._lose(node)
        if old is not None:
            for node in sorted({*old.alive()} - {*alive}):
                self._interests.forget(node)
                self._barriers.gone(node, self._now, alone=len(alive) == 1)
            for node in self._peers():
                before = old.members.get(node)
                if before is None or not before.alive:
                    self._barriers.joined(node)
                now = view.members[node]
                if before is None or before.about.life != now.about.life or not before.linked:
                    self._interests.forget(node)  # it never knew, or has forgotten
        self._see_owners(old, view)
        for window in list(self.placement.windows.values()):
            self._await_barrier(window.task_class.origin)
        self._look_around()

    def _lose(self, node: str) -> None:
        """A node is gone, and with it whatever it had: the queue knows best what goes on."""
        had = self.placement.claims.forget_node(node)
        del self.placement.nodes[node]
        if had:
            self.placement.windows.clear()
            for other in self.placement.nodes.values():
                other.release_reservation()
                self.placement.node_changed(other.node)
            self._effects.append(Send("queue", SchedulerStarted()))

    def _see_owners(self, old: View | None, view: View) -> None:
        owners = view.owners()
        for origin in self._barriers.origins():
            if owner_of(origin, owners) != self._node:
                self._barriers.forget(origin)
        before = [] if old is None else old.owners()
        for node in owners:
            if old is not None and node != self._node and node not in before:
                self._tell_outstanding(node, owners)

    def _tell_outstanding(self, node: str, owners: list[str]) -> None:
        """`node` owns tasks again that this one has placed: it must not place them as well."""
        attempts = [
            (task, attempt, picture.node)
            for _, picture in sorted(self.placement.nodes.items())
            for (task, attempt), ours in picture.ours.items()
            if owner_of(ours.task_class.origin, owners) == node
        ]
        if attempts:
            message = Outstanding(self._node, attempts[:OUTSTANDING_MAX])
            self._effects.append(Send(f"scheduler@{node}", message))

    def _on_outstanding(self, message: Outstanding) -> None:
        claims = self.placement.claims
        for task, attempt, node in message.attempts:
            if (task, attempt) not in claims:
                claims.take((task, attempt), node)
                claims.leave((task, attempt), node, self._now + OUTSTANDING_S)

    # ---- barriers and interest ----

    def _await_barrier(self, origin: str) -> None:
        if self._view is None or self._barriers.knows(origin):
            return
        self._barriers.begin(origin, self._next_number(), self._alive(), self._now)
        self._interests.take(self._now)
        self._interests.forget_all()
        self._look_around()

    def _pass_barriers(self) -> None:
        passed = self._barriers.pass_due(self._now)
        if passed:
            for number, window in self.placement.windows.items():
                if window.task_class.origin in passed:
                    self.placement.class_changed(number)
        self._arm("barrier", self._barriers.due_at())

    def _look_around(self) -> None:
        """Ask the executors what they have, as long as there is a reason to."""
        urgent = self._barriers.pending()
        nodes = self._alive() if self._interests.on and self._peers() else urgent
        waiting = self.placement.waiting() if nodes else []

        def waits_for(node: str) -> Need | None:
            picture = self.placement.nodes.get(node)
            fitting = (
                w.task_class.need for w in waiting if picture and picture.could(w.task_class)
            )
            return next(fitting, None)

        for node, need in self._interests.due(nodes, urgent, waits_for, self._now):
            self._ask(node, need)
        if self._interests.on or urgent:
            self._arm("interest", self._now + LOOK_S)

    def _ask(self, node: str, need: Need | None = None, *, on: bool = True) -> None:
        self._tell(node, Interest(self._node, on, need, self._next_number()))

    def _take_interest(self) -> None:
        """After a round: what still waits may find room elsewhere."""
        if not self._peers():
            return
        own = self.placement.nodes.get(self._node)
        mine = (self._node,) if own is None else (self._node, own.name)
        waits = any(w.task_class.node not in mine for w in self.placement.windows.values())
        if waits and self._interests.take(self._now):
            self._look_around()

    def _lose_interest(self) -> None:
        """Once nothing waits, and the queue knows of all that others run for it.

        Whatever it does not know of may be given back yet, or be lost with its node; and only who
        is interested hears of that.
        """
        if not self._may_lose_interest():
            return
        attempts = self._elsewhere()
        if attempts:
            self._effects.append(Send("queue", AskBegun(attempts)))
        else:
            self._on_begun(Begun([]))

    def _may_lose_interest(self) -> bool:
        claims = self.placement.claims
        if not self._interests.on or not self._interests.is_calm(self._now):
            return False
        peers = self._peers()
        unsettled = any(not n.settled for node, n in self.placement.nodes.items() if node in peers)
        return not (claims.awaiting or self._barriers.waited_for() or unsettled)

    def _elsewhere(self) -> list[AttemptKey]:
        """What other nodes have of what this scheduler assigned."""
        nodes = self.placement.nodes
        return [key for node in self._peers() if node in nodes for key in nodes[node].ours]

    def _on_begun(self, message: Begun) -> None:
        if not self._may_lose_interest() or not {*self._elsewhere()} <= {*message.attempts}:
            return
        self._interests.lose()
        for node in self._alive():
            self._ask(node, on=False)
        for node in self._peers():
            if self.placement.nodes.pop(node, None) is not None:
                self.placement.claims.forget_node(node)

    # ---- the queue ----

    def _on_offered(self, message: Offered) -> None:
        number = message.task_class.number
        windows = self.placement.windows
        if number not in windows:
            windows[number] = Window(message.task_class)
        windows[number].add(message.items)
        self.placement.class_changed(number)
        self._await_barrier(message.task_class.origin)
        if any(isinstance(condition, HasFile) for condition in message.task_class.worker):
            self._ask_files()

    def _on_withdrawn(self, message: Withdrawn) -> None:
        self.placement.withdraw(message.class_number, message.tasks)

    # ---- the executors ----

    def _on_offer(self, message: Offer) -> None:
        if message.node != self._node and not (
            self._interests.on and message.node in self._alive()
        ):
            # What is told to nobody's interest would not be told when it changes.
            self._ask(message.node, on=False)
            return
        placement = self.placement
        picture = placement.nodes.get(message.node)
        if picture is None:
            picture = placement.nodes[message.node] = NodePicture(message.node, message)
        else:
            gone, lost = picture.update(message)
            for key in gone:
                self._left(key, message.node)
            for key in lost:
                # Never got, or ended: the queue knows which.
                placement.claims.await_end(key)
                self._left(key, message.node)
        for held in message.held:
            key = (held.task, held.attempt)
            if key in picture.ours and held.owner not in ("", self._node):
                # Another owner's: it may be given back to that one without having begun.
                placement.claims.await_end(key)
        for key in [*picture.ledger.held, *message.queued]:
            placement.claims.take(key, message.node)
        placement.node_changed(message.node)
        alone = len(self._alive()) == 1
        # Alone, only this node's journal counts: it refuses what it knows, and it knows its own.
        number = 0 if alone else message.number
        if self._barriers.heard(message.node, message.seen, number, self._now, alone=alone):
            self._ask_reached()
        if message.fresh:
            # What was assigned to its former life may be lost: the answer tells.
            self._interests.forget(message.node)
            self._ask(message.node)
        self._look_around()
        self._ask_files(message.node)

    def _ask_reached(self) -> None:
        behind = self._barriers.behind()
        if behind:
            self._effects.append(Send("queue", AskReached(behind)))

    def _left(self, key: AttemptKey, node: str) -> None:
        """`node` does not have the attempt. The queue hears of an end from entries, maybe later."""
        until = self._now
        if node != self._node:  # rounded up, so that many are let go of together
            until = math.ceil((until + ENTRIES_S) / TOGETHER_S) * TOGETHER_S
        self.placement.claims.leave(key, node, until)

    def _on_freed(self, message: Freed) -> None:
        placement = self.placement
        picture = placement.nodes.get(message.node)
        for key in message.declined:
            placement.claims.give_back(key, message.node)
            ours = None if picture is None else picture.drop(key)
            if ours is not None and picture is not None and message.retry_s > 0:
                until = self._now + message.retry_s
                picture.pause(ours.task_class.number, until)
                self._arm("place", until)
        self._decline(list(dict.fromkeys(task for task, _ in message.declined)))
        if picture is None:
            return
        for key in picture.free(message):
            self._left(key, message.node)
        for key, successor in message.attempts:
            if successor is not None and key != successor:
                placement.claims.take(successor, message.node)
        for held in message.taken:
            key = (held.task, held.attempt)
            placement.claims.take(key, message.node)
            self._contested = self._contested or key not in picture.ours
        placement.node_changed(message.node)

    def _on_files_present(self, message: FilesPresent) -> None:
        node = self.placement.nodes.get(message.node)
        if node is not None and node.files != message.present:
            node.files = message.present
            self.placement.node_changed(message.node)

    def _ask_files(self, only: str = "") -> None:
        """While tasks wait for files, look for them every `FILES_EVERY_S`."""
        paths = self.placement.paths()
        if paths:
            for node in [only] if only else sorted(self.placement.nodes):
                self._tell(node, CheckFiles(self._node, paths))
            self._arm("files", self._now + FILES_EVERY_S)

    # ---- placing ----

    def _place(self) -> None:
        if self._view is None or self._view.at < self._view_must_be_of:
            return
        placement = self.placement
        assigns = placement.round(self._next_number(), self._now, contested=self._contested)
        self._contested = False
        for node, assign in assigns:
            self._tell(node, assign)
        for node, number in list(self._reserved.items()):
            picture = placement.nodes.get(node)
            if picture is None or picture.reserved is None or picture.reserved.number != number:
                del self._reserved[node]
                self._tell(node, Reserve(self._node, number))
        if placement.windows:
            self._take_interest()
            if "patience" not in self._timers and placement.overtaken():
                self._arm("patience", self._now + PATIENCE_S)

    def _reserve(self) -> None:
        """Keep nodes free for those that were overtaken for too long, and tell these nodes so."""
        overtaken = self.placement.overtaken()
        for _ in self.placement.reserve(self._now):
            pass
        for _, node in sorted(self.placement.nodes.items()):
            if node.reserved is not None and self._peers():
                reserved = node.reserved
                self._reserved[node.node] = reserved.number
                reserve = Reserve(self._node, reserved.number, reserved.need, RESERVE_S)
                self._tell(node.node, reserve)
        if overtaken:
            since = min(window.overtaken_at or 0.0 for window in overtaken)
            self._arm("patience", max(since + PATIENCE_S, self._now + RESERVE_EVERY_S))

    def _on_fired(self, message: Fired) -> None:
        self._timers.pop(message.name, None)
        match message.name:
            case "files":
                self._ask_files()
            case "view":
                if self._view is not None and self._view.at < self._view_must_be_of:
                    self._ask_view()
            case "patience":
                self._reserve()
            case "interest":
                self._lose_interest()
                self._look_around()
                self._ask_reached()  # the queue may have begun a new life
            case "place":
                for node, picture in sorted(self.placement.nodes.items()):
                    self.placement.node_changed(node)
                    self._arm("place", picture.end_pauses(self._now))

    # ---- questions ----

    def _on_asked(self, asked: Asked) -> None:
        assert isinstance(asked.message, Explain)
        window = self.placement.windows.get(asked.message.class_number)
        answer: dict[str, list[str]] = {}
        if window is not None and self._view is not None:
            for node in self._alive():
                name = self._name(node)
                answer[f"{name} ({node})" if name in answer else name] = self._why(node, window)
        self._effects.append(Reply(asked.request, answer))

    def _name(self, node: str) -> str:
        picture = self.placement.nodes.get(node)
        if picture is not None:
            return picture.name
        member = None if self._view is None else self._view.members.get(node)
        return node if member is None else member.about.name

    def _why(self, node: str, window: Window) -> list[str]:
        picture = self.placement.nodes.get(node)
        if picture is None:
            return ["it has not told what is free yet"]
        reasons = picture.why_not(window.task_class)
        if not reasons and not self._barriers.is_clear(window.task_class.origin):
            waited = [self._name(other) for other in self._barriers.waited_for()]
            reasons = [f"first it must be known what runs on {', '.join(waited) or 'all nodes'}"]
        return reasons or ["it can start here; others are before it"]
