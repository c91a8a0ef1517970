"""What is asked of the queue: tasks to be added, cancelled, held or released.

Each becomes entries, and is answered once these are on disk. A submission waits (is *parked*) while
another one with the same ids is on its way there.
"""

from __future__ import annotations

import msgspec

from leoronic.core.admission import Plan
from leoronic.core.bounds import ATTEMPT_MAX
from leoronic.core.effects import Asked, CancelTimer, Fail, Reply, SetTimer
from leoronic.core.entries import Cancelled, Entry, Held, Released
from leoronic.core.file_messages import BlobsFound, FindBlobs
from leoronic.core.queue_messages import (
    Accepted,
    ChangedTasks,
    ChangeTasks,
    LookedUp,
    Lookup,
    SubmitSpecs,
)
from leoronic.core.queue_outbox import Outbox
from leoronic.core.records import Record, Status
from leoronic.core.replication_messages import AwaitCopies, Copied
from leoronic.core.tasks import Tasks
from leoronic.errors import LeoronicError, Unavailable

LIVE_TASKS_MAX = 10_000_000
PARKED_REQUESTS_MAX = 1024
# Replication answers within 2 s, unless it has just begun a new life.
COPIES_S = 3.0
# The file store answers sooner, unless it has just begun a new life.
FIND_S = 5.0


class Requests:
    """See the module. `tasks` are what is known; they are changed by entries alone."""

    def __init__(self, tasks: Tasks, out: Outbox) -> None:
        self._tasks = tasks
        self._out = out
        self._ids_seed = ""
        self._next_id = 1
        self._parked: list[Asked] = []
        self._plans: dict[int, Plan] = {}
        self._claimed: set[str] = set()  # ids of submissions on their way to the disk
        # Until it is known whether what was left before is still somewhere; at the latest then.
        self._finding: dict[int, tuple[Plan, LookedUp, float]] = {}
        self._changing: dict[int, tuple[object, ChangedTasks]] = {}
        # On disk here; answered at the latest then.
        self._copying: dict[int, tuple[Plan, float]] = {}

    def give_ids(self, seed: str, first: int) -> None:
        """New tasks get the ids that `seed` names, from number `first` on."""
        self._ids_seed, self._next_id = seed, first

    def park(self, asked: Asked) -> None:
        """It is to wait until something else is decided."""
        if len(self._parked) >= PARKED_REQUESTS_MAX:
            self._out.add(
                Fail(asked.request, Unavailable("the queue is busy; try again in a moment"))
            )
        else:
            self._parked.append(asked)

    def unpark(self) -> list[Asked]:
        """Those that waited: each is to be looked at again, and may wait again."""
        parked, self._parked = self._parked, []
        return parked

    # ---- submitting ----

    def submit(self, asked: Asked) -> None:
        """Tasks are to be added: they are checked against what is known, and written."""
        assert isinstance(asked.message, SubmitSpecs)
        plan = Plan(asked.request, asked.message)
        claims = plan.claims()
        if not self._claimed.isdisjoint(claims):
            self.park(asked)  # the same id is on its way to the disk: wait how that ends
            return
        if len(self._tasks.live) + len(asked.message.specs) > LIVE_TASKS_MAX:
            self._refuse(plan, Unavailable(f"the queue holds {LIVE_TASKS_MAX} tasks, its most"))
            return
        self._claimed.update(claims)
        refs, keys = plan.references(), plan.cache_keys()
        if refs or keys:
            token = self._out.next_token()
            self._plans[token] = plan
            left = plan.outputs_wanted()
            self._out.send("journal", Lookup("queue", token, refs, keys, left))
        else:
            self._admit(plan, LookedUp(0, {}))

    def _admit(self, plan: Plan, answer: LookedUp) -> None:
        try:
            self._next_id += plan.resolve(
                answer, self._ids_seed, self._next_id, self._out.now, self._tasks.ownership.me
            )
        except LeoronicError as error:
            self._refuse(plan, error)
            return
        if plan.entries:
            self._plans[self._out.append(plan.entries)] = plan
        else:
            self._claimed.difference_update(plan.claims())
            self._out.add(Reply(plan.request, Accepted(plan.ids)))

    def _refuse(self, plan: Plan, error: LeoronicError) -> None:
        self._claimed.difference_update(plan.claims())
        self._out.add(Fail(plan.request, error))

    # ---- what the journal says ----

    def written(self, token: int, number: int) -> None:
        """What was asked to be appended is on disk, up to this node's entry `number`."""
        plan = self._plans.pop(token, None)
        if plan is not None:
            self._claimed.difference_update(plan.claims())
            self._await_copies(token, number, plan)
        changing = self._changing.pop(token, None)
        if changing is not None:
            self._out.add(Reply(*changing))

    def not_written(self, token: int, error: LeoronicError) -> None:
        """The disk refused it."""
        plan = self._plans.pop(token, None)
        if plan is not None:
            self._refuse(plan, error)
        changing = self._changing.pop(token, None)
        if changing is not None:
            self._out.add(Fail(changing[0], error))

    def looked_up(self, message: LookedUp) -> bool:
        """What the journal knows of the ids that a submission names; whether it still waited."""
        plan = self._plans.pop(message.token, None)
        if plan is None:
            return False
        digests = _left_before(message)
        if not digests:
            self._admit(plan, message)
        else:
            # An answer from before is none if what was left is nowhere any more.
            if not self._finding:
                self._out.add(SetTimer("find", self._out.now + FIND_S))
            self._finding[message.token] = (plan, message, self._out.now + FIND_S)
            self._out.send("file_store", FindBlobs(message.token, digests))
        return True

    def blobs_found(self, message: BlobsFound) -> bool:
        """Which outputs of earlier tasks are lost; whether a submission waited for that."""
        waiting = self._finding.pop(message.token, None)
        if waiting is None:
            return False
        plan, answer, _ = waiting
        cached = {
            key: [
                one
                for one in some
                if message.lost.isdisjoint(file.digest for file in one.outcome.outputs)
            ]
            for key, some in answer.cached.items()
        }
        self._admit(plan, msgspec.structs.replace(answer, cached=cached))
        return True

    def stop_finding(self) -> None:
        """The file store has said nothing for too long: what it was asked for counts as lost."""
        for token, (_, answer, until) in list(self._finding.items()):
            if until > self._out.now:
                self._out.add(SetTimer("find", until))
                return
            self.blobs_found(BlobsFound(token, frozenset(_left_before(answer))))

    # ---- who else holds a submission ----

    def _await_copies(self, token: int, number: int, plan: Plan) -> None:
        """A submission is on this disk: who else holds it is told as well, if it comes soon."""
        if not self._copying:
            self._out.add(SetTimer("copies", self._out.now + COPIES_S))
        self._copying[token] = (plan, self._out.now + COPIES_S)
        self._out.send("replication", AwaitCopies(token, number))

    def on_copied(self, message: Copied) -> None:
        """Replication says who else holds a submission."""
        waiting = self._copying.pop(message.token, None)
        if waiting is None:
            return
        plan, _ = waiting
        self._out.add(Reply(plan.request, Accepted(plan.ids, sorted(message.nodes))))
        if not self._copying:
            self._out.add(CancelTimer("copies"))

    def stop_waiting(self) -> None:
        """Replication has said nothing for too long: the tasks are safe here, and that is told."""
        for token, (plan, until) in list(self._copying.items()):
            if until > self._out.now:
                self._out.add(SetTimer("copies", until))
                return
            del self._copying[token]
            self._out.add(Reply(plan.request, Accepted(plan.ids)))

    # ---- changing ----

    def change(self, asked: Asked) -> None:
        """Tasks are to be cancelled, held or released."""
        assert isinstance(asked.message, ChangeTasks)
        make = {"cancel": self._cancel, "hold": self._hold, "release": self._release}
        changed: list[str] = []
        unchanged: list[str] = []
        entries: list[Entry] = []
        for task in dict.fromkeys(asked.message.ids):
            entry = make[asked.message.what](task, asked.message.reason)
            found = [] if entry is None else [entry]
            if asked.message.what == "release":
                found += self._release_elements(task)
            (changed if found else unchanged).append(task)
            entries += found
        running = [task for task in changed if self._goes_on(asked.message.what, task)]
        changed = [task for task in changed if task not in running]
        answer = ChangedTasks(changed, unchanged, running)
        if entries:
            self._changing[self._out.append(entries)] = (asked.request, answer)
        else:
            self._out.add(Reply(asked.request, answer))

    def _cancel(self, task: str, _reason: str) -> Entry | None:
        found = self._tasks.array_of(task)
        if task in self._tasks.live or (found is not None and found[0].is_open(found[1])):
            return Cancelled(task, self._out.now)
        return None

    def _goes_on(self, what: str, task: str) -> bool:
        """Whether a task that is held runs on, as holding ends nothing."""
        record = self._tasks.live.get(task)
        return what == "hold" and record is not None and record.status is Status.RUNNING

    def _hold(self, task: str, reason: str) -> Entry | None:
        record = self._tasks.live.get(task)  # an element is held with its array
        if record is None or record.why_held() is not None:
            return None
        return Held(task, _next_revision(record), self._out.now, reason)

    def _release(self, task: str, _reason: str) -> Entry | None:
        record = self._tasks.find(task)
        if record is None or record.why_held() is None:
            return None
        # What runs now may still be lost: that loss is not forgiven in advance.
        return Released(task, _next_revision(record), self._out.now, record.runs.forgivable())

    def _release_elements(self, task: str) -> list[Entry]:
        """Of an array that is released, the elements that a loss holds."""
        array = self._tasks.arrays.get(task)
        elements = () if array is None else array.elements.values()
        lost = [element for element in elements if element.is_lost_held()]
        released = (self._release(element.id, "") for element in lost)
        return [entry for entry in released if entry is not None]


def _left_before(answer: LookedUp) -> tuple[str, ...]:
    """The outputs of tasks that may answer for new ones."""
    before = (one for some in answer.cached.values() for one in some)
    outputs = (file for one in before for file in one.outcome.outputs)
    return tuple({file.digest: None for file in outputs})


def _next_revision(record: Record) -> int:
    return min(record.revision + 1, ATTEMPT_MAX)
