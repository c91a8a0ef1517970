"""What a scheduler knows of the nodes: who is there, what each has and what is free there.

Each executor is the authority on what fits there, and tells those who are interested of every
change (`interests.py`). What any node has is taken (`claims.py`); of an origin that is new nothing
is placed before all nodes have told what they have (`barrier.py`).
"""

from __future__ import annotations

import math

from msgspec import structs

from leoronic.core.barrier import Barriers
from leoronic.core.interests import LOOK_S, Interests
from leoronic.core.nodes import NodePicture
from leoronic.core.peer import (
    HELD_MAX,
    CheckFiles,
    FilesPresent,
    Freed,
    Interest,
    Offer,
    Outstanding,
)
from leoronic.core.placement import Placement
from leoronic.core.queue_messages import AskBegun, AskReached, Begun, SchedulerStarted
from leoronic.core.resources import Need
from leoronic.core.ring import owner_of
from leoronic.core.run import AttemptKey
from leoronic.core.scheduler_outbox import Outbox
from leoronic.core.view import GhostMember, Member, View

FILES_EVERY_S = 2.0
# Entries of another node are here long before that, unless it can't be reached.
ENTRIES_S = 3.0
TOGETHER_S = 0.25
OUTSTANDING_S = 10.0
# For so long the entries of a node from which a ghost has gone may be missing.
FORMER_S = 30.0
OUTSTANDING_MAX = 10_000


class Pictures:
    """See the module. It draws the `nodes` of `placement`, and says by `barriers` what is clear.

    `alive` and `peers` (the others of these) are sorted ids of those that count as there, ghosts
    among them; of those
    `out_of_reach` the entries may not come just now. All empty before there is a `View`.
    `contested`: others' tasks took room since this was last put to False.
    """

    def __init__(self, out: Outbox, placement: Placement, barriers: Barriers) -> None:
        self._out = out
        self._placement = placement
        self.barriers = barriers
        self._interests = Interests()
        self.view: View | None = None
        self.alive: list[str] = []
        self.peers: list[str] = []
        self.out_of_reach: set[str] = set()
        self.contested = False
        self._former: dict[tuple[str, str], float] = {}  # (ghost, node) it was attached to, till

    def name(self, node: str) -> str:
        """What people call `node`."""
        picture = self._placement.nodes.get(node)
        if picture is not None:
            return picture.name
        member = None if self.view is None else self.view.find(node)
        return node if member is None else member.about.name

    # ---- who is there ----

    def see(self, view: View) -> None:
        """Who is there is another now."""
        old, self.view = self.view, view
        alive = self.alive = sorted({self._out.me, *view.executors()})
        self.peers = [node for node in alive if node != self._out.me]
        self._note_former(old, view)
        self.out_of_reach = {m.id for m in view.everyone() if m.alive and not m.linked}
        self.out_of_reach |= self._with_former_out_of_reach(view)
        nodes = self._placement.nodes
        for node in [node for node in nodes if node not in alive]:
            self._lose(node)
        if old is not None:
            for node in sorted({*old.executors()} - {*alive}):
                self._interests.forget(node)
                self.barriers.gone(node, self._out.now, alone=len(alive) == 1)
            for node in self.peers:
                before, now = old.find(node), view.find(node)
                assert now is not None, "whoever is there is known"
                if before is None or not before.alive:
                    self.barriers.joined(node)
                if before is None or not before.linked or _life(before) != _life(now):
                    self._interests.forget(node)  # it never knew, or has forgotten
        self._see_owners(old, view)
        for window in list(self._placement.windows.values()):
            self.await_barrier(window.task_class.origin)
        self.look_around()

    def _note_former(self, old: View | None, view: View) -> None:
        """What a ghost did before stands in the journal of the node that it was attached to."""
        now = self._out.now
        before = {} if old is None else old.ghosts
        for ghost, member in view.ghosts.items():
            was = before.get(ghost)
            if was is not None and was.clairvoyant != member.clairvoyant:
                self._former[ghost, was.clairvoyant] = now
        self._former = {key: at for key, at in self._former.items() if now - at < FORMER_S}

    def _with_former_out_of_reach(self, view: View) -> set[str]:
        """Ghosts of which entries are to come from a node that cannot be reached."""
        found = ((ghost, view.members.get(node)) for ghost, node in self._former)
        return {ghost for ghost, member in found if member is None or not member.linked}

    def _lose(self, node: str) -> None:
        """A node is gone, and with it whatever it had: the queue knows best what goes on."""
        had = self._placement.claims.forget_node(node)
        del self._placement.nodes[node]
        if had:
            self._placement.windows.clear()
            for other in self._placement.nodes.values():
                other.release_reservation()
                self._placement.node_changed(other.node)
            self._out.send("queue", SchedulerStarted())

    def _see_owners(self, old: View | None, view: View) -> None:
        owners = view.owners()
        for origin in self.barriers.origins():
            if not self._is_mine(origin):
                self.barriers.forget(origin)
        before = [] if old is None else old.owners()
        for node in owners:
            if old is not None and node != self._out.me and node not in before:
                self._tell_outstanding(node, owners)

    def _is_mine(self, origin: str) -> bool:
        """Whether this node owns the tasks of `origin`: none, as long as it is not ready."""
        owners = [] if self.view is None else self.view.owners()
        return bool(owners) and owner_of(origin, owners) == self._out.me

    def _tell_outstanding(self, node: str, owners: list[str]) -> None:
        """`node` owns tasks again that this one has placed: it must not place them as well."""
        attempts = [
            (task, attempt, picture.node)
            for _, picture in sorted(self._placement.nodes.items())
            for (task, attempt), ours in picture.ours.items()
            if owner_of(ours.task_class.origin, owners) == node
        ]
        if attempts:
            message = Outstanding(self._out.me, attempts[:OUTSTANDING_MAX])
            self._out.send(f"scheduler@{node}", message)

    def on_outstanding(self, message: Outstanding) -> None:
        """What another scheduler placed of tasks that this one owns again."""
        claims = self._placement.claims
        for task, attempt, node in message.attempts:
            if (task, attempt) not in claims:
                claims.take((task, attempt), node)
                claims.leave((task, attempt), node, self._out.now + OUTSTANDING_S)

    # ---- barriers and interest ----

    def await_barrier(self, origin: str) -> None:
        """Nothing of `origin` is placed before all nodes have told what they have."""
        if self.barriers.knows(origin) or not self._is_mine(origin):
            return
        self.barriers.begin(origin, self._out.next_number(), self.alive, self._out.now)
        self._interests.take(self._out.now)
        self._interests.forget_all()
        self.look_around()

    def pass_barriers(self) -> None:
        """Tasks of origins that all have told of may be placed."""
        passed = self.barriers.pass_due(self._out.now)
        if passed:
            for number, window in self._placement.windows.items():
                if window.task_class.origin in passed:
                    self._placement.class_changed(number)
        self._out.arm("barrier", self.barriers.due_at())

    def look_around(self) -> None:
        """Ask the executors what they have, as long as there is a reason to."""
        urgent = self.barriers.pending()
        nodes = self.alive if self._interests.on and self.peers else urgent
        waiting = self._placement.waiting() if nodes else []

        def waits_for(node: str) -> Need | None:
            picture = self._placement.nodes.get(node)
            fitting = (
                w.task_class.need for w in waiting if picture and picture.could(w.task_class)
            )
            return next(fitting, None)

        for node, need in self._interests.due(nodes, urgent, waits_for, self._out.now):
            self._ask(node, need)
        if self._interests.on or urgent:
            self._out.arm("interest", self._out.now + LOOK_S)

    def _ask(self, node: str, need: Need | None = None, *, on: bool = True) -> None:
        self._out.tell(node, Interest(self._out.me, on, need, self._out.next_number()))

    def take_interest(self) -> None:
        """After a round: what still waits may find room elsewhere."""
        if not self.peers:
            return
        own = self._placement.nodes.get(self._out.me)
        mine = (self._out.me,) if own is None else (self._out.me, own.name)
        waits = any(w.task_class.node not in mine for w in self._placement.windows.values())
        if waits and self._interests.take(self._out.now):
            self.look_around()

    def lose_interest(self) -> None:
        """Once nothing waits, and the queue knows of all that others run for it.

        Whatever it does not know of may be given back yet, or be lost with its node; and only who
        is interested hears of that.
        """
        if not self._may_lose_interest():
            return
        attempts = self._elsewhere()
        if attempts:
            self._out.send("queue", AskBegun(attempts))
        else:
            self.on_begun(Begun([]))

    def _may_lose_interest(self) -> bool:
        claims = self._placement.claims
        if not self._interests.on or not self._interests.is_calm(self._out.now):
            return False
        peers = self.peers
        unsettled = any(not n.settled for node, n in self._placement.nodes.items() if node in peers)
        return not (claims.awaiting or self.barriers.waited_for() or unsettled)

    def _elsewhere(self) -> list[AttemptKey]:
        """What other nodes have of what this scheduler assigned."""
        nodes = self._placement.nodes
        return [key for node in self.peers if node in nodes for key in nodes[node].ours]

    def on_begun(self, message: Begun) -> None:
        """The queue knows of all that others run for this node."""
        if not self._may_lose_interest() or not {*self._elsewhere()} <= {*message.attempts}:
            return
        self._interests.lose()
        for node in self.alive:
            self._ask(node, on=False)
        for node in self.peers:
            if self._placement.nodes.pop(node, None) is not None:
                self._placement.claims.forget_node(node)

    # ---- the executors ----

    def on_offer(self, message: Offer) -> None:
        """What a node has, and what is free there."""
        if message.node != self._out.me and not (self._interests.on and message.node in self.alive):
            # What is told to nobody's interest would not be told when it changes.
            self._ask(message.node, on=False)
            return
        placement = self._placement
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
            if key in picture.ours and held.owner not in ("", self._out.me):
                # Another owner's: it may be given back to that one without having begun.
                placement.claims.await_end(key)
        for key in [*picture.ledger.held, *message.queued]:
            placement.claims.take(key, message.node)
        placement.node_changed(message.node)
        alone = len(self.alive) == 1
        # Alone, only this node's journal counts: it refuses what it knows, and it knows its own.
        entries: dict[str, int] = {}
        if not alone:
            entries.update(message.journals)
            if message.number:
                entries[message.node] = message.number
        if self.barriers.heard(message.node, message.seen, entries, self._out.now, alone=alone):
            self.ask_reached()
        if message.fresh:
            # What was assigned to its former life may be lost: the answer tells.
            self._interests.forget(message.node)
            self._ask(message.node)
        self.look_around()
        self.ask_files(message.node)

    def ask_reached(self) -> None:
        """Have the queue tell once it goes by the entries that the answers stand on."""
        behind = self.barriers.behind()
        if behind:
            self._out.send("queue", AskReached(behind))

    def _left(self, key: AttemptKey, node: str) -> None:
        """`node` does not have the attempt. The queue hears of an end from entries, maybe later."""
        until = self._out.now
        if node != self._out.me:  # rounded up, so that many are let go of together
            until = math.ceil((until + ENTRIES_S) / TOGETHER_S) * TOGETHER_S
        self._placement.claims.leave(key, node, until)

    def on_freed(self, message: Freed) -> None:
        """What became of attempts at a node."""
        placement = self._placement
        picture = placement.nodes.get(message.node)
        for key in message.declined:
            placement.claims.give_back(key, message.node)
            ours = None if picture is None else picture.drop(key)
            if ours is not None and picture is not None and message.retry_s > 0:
                until = self._out.now + message.retry_s
                picture.pause(ours.task_class.number, until)
                self._out.arm("place", until)
        self._out.decline(list(dict.fromkeys(task for task, _ in message.declined)))
        if picture is None:
            return
        if len(message.taken) > HELD_MAX - len(picture.ledger.held):
            # No node has so much at once: what it does have it shall tell.
            message = structs.replace(message, taken=[])
            self._ask(message.node)
        for key in picture.free(message):
            self._left(key, message.node)
        for key, successor in message.attempts:
            known = successor in picture.ledger.held or successor in picture.ours
            if successor is not None and key != successor and known:
                placement.claims.take(successor, message.node)
        for held in message.taken:
            key = (held.task, held.attempt)
            placement.claims.take(key, message.node)
            self.contested = self.contested or key not in picture.ours
        placement.node_changed(message.node)

    def on_files_present(self, message: FilesPresent) -> None:
        """Which of the files that tasks wait for a node has."""
        node = self._placement.nodes.get(message.node)
        if node is not None and node.files != message.present:
            node.files = message.present
            self._placement.node_changed(message.node)

    def ask_files(self, only: str = "") -> None:
        """While tasks wait for files, look for them every `FILES_EVERY_S`."""
        paths = self._placement.paths()
        if paths:
            for node in [only] if only else sorted(self._placement.nodes):
                self._out.tell(node, CheckFiles(self._out.me, paths))
            self._out.arm("files", self._out.now + FILES_EVERY_S)


def _life(member: Member | GhostMember) -> tuple[int, str]:
    """What was said to a life of an executor, or on the way to a ghost, is lost with it."""
    by = member.clairvoyant if isinstance(member, GhostMember) else ""
    return member.about.life, by
