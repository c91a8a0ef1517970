"""What an executor has taken on, for whom, and what it takes more: attempts, ledger, lanes, turns.

It says what is to be written (`Started` entries) and, by `flush`, what the schedulers are told; the
executor itself deals with the journal and the runner.
"""

from __future__ import annotations

from msgspec import structs

from leoronic.core.audience import Audience
from leoronic.core.effects import Send
from leoronic.core.entries import Entry, Started
from leoronic.core.executor_messages import OpenAttempt
from leoronic.core.holding import Attempt, Stage
from leoronic.core.lanes import Lanes
from leoronic.core.peer import Assign, AssignClass, AssignItem, Held, Interest, Offer, Reserve
from leoronic.core.resources import Capacity, Ledger
from leoronic.core.run import AttemptKey
from leoronic.core.sharing import Sharing
from leoronic.core.view import Standing, View

# The runner holds 4,096, ended ones among them until their outcomes are on disk.
ATTEMPTS_MAX = 3000
# When to try again what was declined although there is room: others come first; something that
# takes a while is in the way; room is kept for a task that may have to wait for long.
AFTER_OTHERS_S = 0.05
LATER_S = 0.2
RESERVED_S = 1.0


class Holdings:
    """See the module. `node` is this node's id, `name` what people call it; or those of a ghost."""

    def __init__(
        self,
        node: str,
        name: str,
        capacity: Capacity,
        tags: frozenset[str],
        *,
        ghost: bool = False,
    ) -> None:
        self.attempts: dict[AttemptKey, Attempt] = {}
        self.ledger = Ledger(capacity)
        self.lanes: Lanes[tuple[str, int]] = Lanes()  # classes are an owner's: (owner, number)
        self.sharing = Sharing()
        self.audience = Audience(node, ghost=ghost)
        self.tags = tags
        self.draining = False
        self.abandoned = False
        self.closed = True  # it is not known yet what runs here
        self.number = 0  # of the last own entry known to be on disk
        self._told_ending: set[AttemptKey] = set()
        self._node = node
        self._name = name

    # ---- what the schedulers say ----

    def see(self, view: View) -> None:
        """Only those who are there count."""
        alive = [self._node, *view.peers()]
        self.sharing.keep_only(alive)
        self.audience.keep_only(alive)

    def interest(self, message: Interest, now: float) -> None:
        """Somebody wants to be told what gets free, or no longer."""
        # Not the highest: the clock that the numbers go by may have been set back.
        self.audience.seen[message.node] = message.number
        if message.on:
            self.sharing.interest(message.node, message.need, now)
            self.audience.offer(message.node)
        else:
            self.sharing.no_interest(message.node)

    def reserve(self, message: Reserve, now: float) -> None:
        """Somebody's big task waits for room here."""
        until = now + message.for_s
        self.sharing.reserve(message.node, message.class_number, message.need, until, now)

    def assign(self, message: Assign, runner: str, now: float) -> list[Entry]:
        """Take what fits, for this life of the runner, and give back the rest."""
        owner = message.node
        seen = self.audience.seen
        # One that others overtook came over a connection that is gone: it was given up since.
        late = message.stale or 0 < message.number <= seen.get(owner, 0)
        seen[owner] = max(message.number, seen.get(owner, 0))
        self.audience.assigned(owner)
        classes = {one.number: one for one in message.classes}
        entries: list[Entry] = []
        for item in message.items:
            key = (item.task, item.attempt)
            if key in self.attempts:
                if key not in self.ledger.held:
                    self.audience.offer(owner)  # its picture of this node is wrong
                continue
            one = classes.get(item.class_number)
            retry_s = LATER_S if one is None or late else self._objects(owner, one, now)
            if one is None or retry_s is not None:
                # Its ledger differs from ours (an offer crossed an assignment): without telling
                # all again, it would assign the same again at once, for ever.
                self.audience.declined(owner, key, retry_s or 0.0)
                self.audience.offer(owner)
                continue
            self._occupy(key, one, owner, now)
            entries.append(self._begin(item, one, owner, runner, now))
        queueing = not (late or self.draining or self.abandoned or self.closed)
        if message.ahead and queueing:
            queueing = self.sharing.may_queue_up(owner, self.ledger, now)
        for item in message.ahead:
            key = (item.task, item.attempt)
            if key in self.attempts:
                continue
            one = classes.get(item.class_number)
            if one is None or not queueing:
                self.audience.declined(owner, key, 0.0)
                continue
            if not self.lanes.join(key, (owner, one.number)):
                if self._objects(owner, one, now) is not None:
                    self.audience.declined(owner, key, 0.0)
                    continue
                # All that it was to stand behind has ended while it was under way.
                self._occupy(key, one, owner, now, at_once=True)
            entries.append(self._begin(item, one, owner, runner, now))
        return entries

    def _occupy(
        self, key: AttemptKey, one: AssignClass, owner: str, now: float, *, at_once: bool = False
    ) -> None:
        """The attempt takes a share of the node, and others may stand behind it."""
        self.ledger.take(key, one.need)
        self.sharing.starts(key, owner, one.number, one.need, now)
        self.audience.taken(Held(*key, one.need, owner), at_once=at_once)
        self.lanes.open(key, (owner, one.number))

    def _begin(
        self, item: AssignItem, one: AssignClass, owner: str, runner: str, now: float
    ) -> Started:
        self.attempts[item.task, item.attempt] = Attempt(
            one.need, item, Stage.STARTING, runner, owner
        )
        started = Started(item.task, item.attempt, self._node, now, runner)
        if item.attempt > 1:
            left, hold = item.retries_left, item.hold_if_lost
            started = structs.replace(started, retries_left=left, hold_if_lost=hold)
        return started

    def _objects(self, owner: str, one: AssignClass, now: float) -> float | None:
        """None: a task of the class may start. Else in how many seconds to ask again."""
        if self.abandoned or self.closed or len(self.attempts) >= ATTEMPTS_MAX:
            return LATER_S
        if (self.draining and not one.pinned) or not self.ledger.fits(one.need):
            return 0.0  # the offer tells
        if self.sharing.may_start(owner, one.number, one.need, self.ledger, now):
            return None
        free = self.sharing.leaves_room(owner, one.number, one.need, self.ledger.capacity, now)
        return AFTER_OTHERS_S if free else RESERVED_S

    # ---- what begins and ends ----

    def restore(self, known: OpenAttempt) -> None:
        """It runs here since an earlier life; who its owner is does not matter any more."""
        key = (known.task, known.attempt)
        item = AssignItem(*key, known.retries_left, hold_if_lost=known.hold_if_lost)
        attempt = Attempt(known.need, item, Stage.RUNNING, known.runner)
        attempt.stop_reason = known.stop_reason
        attempt.has_folder = known.has_folder
        attempt.outputs = known.outputs
        attempt.private = known.private
        self.attempts[key] = attempt
        self.ledger.restore(key, known.need)
        self.sharing.holds(key, "", known.need)

    def release(self, key: AttemptKey) -> None:
        """The attempt is over, or never was: its share goes to the next of its lane, if any."""
        if self.lanes.is_queued(key):
            self.lanes.leave(key)
            self.audience.freed(key, None)
            return
        need = self.ledger.held.get(key)
        if need is None:
            return
        self.ledger.release(key)
        successor = self.lanes.advance(key)
        if successor is not None:
            self.ledger.restore(successor, need)
        self.sharing.ends(key, successor)
        self.audience.freed(key, successor)

    def forget(self, key: AttemptKey) -> None:
        """How the attempt ended is on disk."""
        self.attempts.pop(key, None)
        if key in self._told_ending:  # who was told that it is here is told that it is not
            self._told_ending.discard(key)
            self.audience.freed(key, None)

    def drop(self, key: AttemptKey, *, known: bool) -> None:
        """The journal refused the start: the task ended or was started elsewhere meanwhile.

        Or it is not `known`: what its owner knows of it is not here yet.
        """
        owner = self.attempts.pop(key).owner
        self.release(key)
        if not known:
            self.audience.declined(owner, key, LATER_S)

    def crowded(self, keys: list[AttemptKey]) -> list[AttemptKey]:
        """Of attempts to be sent again, those that do not fit: once they stood behind others.

        Which lane that was is not on disk, so each that is open holds a share of its own.
        """
        needs = {key: self.ledger.held[key] for key in keys if key in self.ledger.held}
        for key in needs:
            self.ledger.release(key)
        crowded: list[AttemptKey] = []
        for key, need in needs.items():
            if self.ledger.fits(need):
                self.ledger.take(key, need)
            else:
                crowded.append(key)
        for key in crowded:  # until the loss is on its way
            self.ledger.restore(key, needs[key])
        return crowded

    # ---- what is told ----

    def standing(self) -> Standing:
        """What other nodes should know."""
        return Standing(self.ledger.capacity, sorted(self.tags), self.draining)

    def description(self) -> dict[str, object]:
        """The same and more, for people."""
        capacity = self.ledger.capacity
        return {
            "tags": sorted(self.tags),
            "draining": self.draining,
            "running": [list(key) for key in self.attempts],
            "cpus": capacity.cpus_milli / 1000,
            "memory": capacity.memory,
            "storage": capacity.storage,
            "resources": dict(capacity.resources),
            "free": self.ledger.free(),
        }

    def flush(self, now: float, *, can_offer: bool) -> list[Send]:
        """What the schedulers are to be told of all that happened since the last time."""
        return self.audience.flush(
            self.sharing.interested(now),
            lambda: self._wants(now),
            self._make_offer if can_offer else None,
        )

    def _wants(self, now: float) -> dict[str, dict[int, int]]:
        """By owner: how many more of its classes may stand in lanes."""
        wants: dict[str, dict[int, int]] = {}
        if self.draining or self.abandoned:
            return wants
        for (owner, number), room in self.lanes.wants().items():
            if self.sharing.may_queue_up(owner, self.ledger, now):
                wants.setdefault(owner, {})[number] = room
        return wants

    def _make_offer(self) -> Offer:
        held = [
            Held(*key, need, self.attempts[key].owner if key in self.attempts else "")
            for key, need in self.ledger.held.items()
        ]
        queued = [key for key in self.attempts if key not in self.ledger.held]
        self._told_ending.update(key for key in queued if not self.lanes.is_queued(key))
        return Offer(
            self._node,
            self._name,
            self.ledger.capacity,
            self.tags,
            self.draining or self.abandoned,
            held,
            queued=queued,
            number=self.number,
        )
