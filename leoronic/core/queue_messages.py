"""What the queue, the journal and those who ask them say to each other."""

from __future__ import annotations

import msgspec

from leoronic.core.entries import Entry, Numbered
from leoronic.core.outcome import Outcome
from leoronic.core.records import TaskClass
from leoronic.core.spec import TaskSpec
from leoronic.errors import LeoronicError

# ---- asked of the queue (calls) ----


class SubmitSpecs(msgspec.Struct, frozen=True):
    """Add tasks, all or none. Answer: `Accepted`. `source` tells the door, for people."""

    specs: list[TaskSpec]
    source: str = ""


class Accepted(msgspec.Struct, frozen=True):
    """The tasks are on disk. `ids` in the order of the specs.

    `held_by`: ids of the other nodes that hold them durably as well.
    """

    ids: list[str]
    held_by: list[str] = []


class ChangeTasks(msgspec.Struct, frozen=True):
    """`what` is `cancel`, `hold` or `release`; full ids. Answer: `ChangedTasks`."""

    what: str
    ids: list[str]
    reason: str = ""


class ChangedTasks(msgspec.Struct, frozen=True):
    """Which were changed (durably) and which could not be: ended already, or not in that state.

    `running` are held, but run already: the hold counts if they are tried again.
    """

    changed: list[str]
    unchanged: list[str]
    running: list[str] = []


class Describe(msgspec.Struct, frozen=True):
    """What is known of live tasks, by full id; those not live are left out. Answer: a dict."""

    ids: list[str]


class LiveTask(msgspec.Struct, frozen=True):
    """A live task, as the queue has it. `elements` counts an array's elements by state.

    `owner` is the id of the node that places it, "" while there is none.
    """

    id: str
    order: int
    state: str
    attempt: int
    node: str
    reasons: list[str]
    class_number: int
    not_before: float = 0.0
    elements: dict[str, int] | None = None
    owner: str = ""


class FindLive(msgspec.Struct, frozen=True):
    """Ids of live tasks in `state`, newest first. Answer: list of ids."""

    state: str
    limit: int
    before: int | None = None


class Count(msgspec.Struct, frozen=True):
    """Answer: {state: number of tasks}, elements of arrays counted one by one."""


class Watching(msgspec.Struct, frozen=True):
    """Whether anybody wants `TasksChanged` (a cast)."""

    on: bool


# ---- told by the queue ----


class Change(msgspec.Struct, frozen=True):
    """A task (or element) changed. `state` is what users see."""

    id: str
    state: str
    attempt: int
    node: str
    at: float
    reason: str = ""


class TasksChanged(msgspec.Struct, frozen=True):
    """To the control actor, after each commit, while somebody watches."""

    changes: list[Change]


class QueueStarted(msgspec.Struct, frozen=True):
    """The queue has loaded its tasks: whoever depends on its memory says so again."""


class Item(msgspec.Struct, frozen=True, gc=False):
    """One task that may start. `order` is its place in the order of submission.

    `hold_if_lost`: should the attempt be lost, the task is held instead of tried again.
    """

    task: str
    attempt: int
    retries_left: int
    order: int
    hold_if_lost: bool = False


class Offered(msgspec.Struct, frozen=True):
    """To the scheduler: these may start, oldest first."""

    task_class: TaskClass
    items: list[Item]


class Withdrawn(msgspec.Struct, frozen=True):
    """To the scheduler: forget these if they have not been assigned. `tasks` None: all."""

    class_number: int
    tasks: list[str] | None = None


class AskBegun(msgspec.Struct, frozen=True):
    """From the scheduler to the queue: have these attempts begun, as far as entries tell?

    Answer: `Begun`, as soon as it is asked when all have; until then, none.
    """

    attempts: list[tuple[str, int]]


class Begun(msgspec.Struct, frozen=True):
    """From the queue: no entry is awaited that tells how these began. They may have ended."""

    attempts: list[tuple[str, int]]


class AskReached(msgspec.Struct, frozen=True):
    """From the scheduler to the queue: tell when it goes by the entries up to these.

    `needs` has a number of an entry by origin. Answers: `Reached`, as they are reached. One that is
    asked for again is answered once, for the last number.
    """

    needs: dict[str, int]


class Reached(msgspec.Struct, frozen=True):
    """From the queue, after all that follows from them: it goes by all entries up to these."""

    have: dict[str, int]


class SchedulerStarted(msgspec.Struct, frozen=True):
    """To the queue: the scheduler has an empty memory; offer again."""


class NodeDown(msgspec.Struct, frozen=True):
    """From membership: from now on this node goes on without `node`. It becomes `Suspected`."""

    node: str
    reason: str


class Declined(msgspec.Struct, frozen=True):
    """To the queue: these were assigned and do not fit; offer them again."""

    tasks: list[str]


class StopAttempt(msgspec.Struct, frozen=True):
    """To the executor: end this attempt if it runs."""

    task: str
    attempt: int
    reason: str


class StopOnGhost(msgspec.Struct, frozen=True):
    """To the relay: the same of a ghost that is attached to this node."""

    ghost: str
    stop: StopAttempt


# ---- asked of the journal (casts with a token, answered by casts to `sender`) ----


class Append(msgspec.Struct, frozen=True):
    """Write entries in one transaction. Answer: `Appended` or `AppendFailed` to `sender`.

    `want_specs`: for `Started` entries, the answer brings the tasks' specs along.
    """

    sender: str
    token: int
    entries: list[Entry]
    want_specs: bool = False


class Appended(msgspec.Struct, frozen=True):
    """On disk. `refused` are the (task, attempt) of `Started` entries that came too late.

    Or too early: `unknown` are those of them whose task was not known here when it was looked for.
    `number` is that of the last entry in this node's own journal.
    """

    token: int
    refused: frozenset[tuple[str, int]] = frozenset()
    specs: dict[str, TaskSpec] = {}
    number: int = 0
    unknown: frozenset[tuple[str, int]] = frozenset()


class AppendFailed(msgspec.Struct, frozen=True):
    """Nothing of it is on disk."""

    token: int
    error: LeoronicError


class FetchSpecs(msgspec.Struct, frozen=True):
    """The specs of these tasks or elements. Answer: `SpecsFetched`."""

    sender: str
    tasks: list[str]


class SpecsFetched(msgspec.Struct, frozen=True):
    """Answer to `FetchSpecs`: by task; those forgotten meanwhile are left out."""

    specs: dict[str, TaskSpec]


class Flip(msgspec.Struct, frozen=True):
    """The outcome of a task (or element) that was final is another now: after a split, mostly.

    `array`: it is one, whose elements are counted instead of it.
    """

    task: str
    was: str
    state: str
    array: bool = False


class Committed(msgspec.Struct, frozen=True):
    """To the queue: entries that are on disk now, whoever wrote them, in local order.

    A `Submitted` is among them only if it made the task, or changed whose it is while it lives
    (two nodes took the same id): the one with the lesser (at, origin) holds. `orders` gives the
    task's place in the local order for each `Submitted`. `have` is what changed in the version
    vector, told with the last entries of a commit; there may be nothing else.
    """

    entries: list[Numbered]
    orders: dict[str, int] = {}
    flips: list[Flip] = []
    have: dict[str, int] = {}


class Lookup(msgspec.Struct, frozen=True):
    """Find tasks by id, name or unique beginning, or by cache key. Answer: `LookedUp`.

    `left`: those of `refs`, or elements of them, whose outputs are asked about, too.
    """

    sender: str
    token: int
    refs: list[str]
    keys: list[str] = []
    left: list[str] = []


class Cached(msgspec.Struct, frozen=True):
    """How a task with the same cache key ended, well."""

    task: str
    outcome: Outcome


class Known(msgspec.Struct, frozen=True):
    """A task on disk. `state` is None while it lives; `redone_as` is its newest redo, or ''.

    `elements`: how many an array has; None for a task that is none.
    """

    id: str
    state: str | None
    redone_as: str = ""
    elements: int | None = None


class LookedUp(msgspec.Struct, frozen=True):
    """`found[ref]` are the tasks that `ref` names: by id, else by name, else by beginning.

    `left`: by full id of a task or element that ended, the paths that it left. `cached`: some of
    those with that cache key, the latest first.
    """

    token: int
    found: dict[str, list[Known]]
    specs: dict[str, TaskSpec] = {}
    cached: dict[str, list[Cached]] = {}
    left: dict[str, tuple[str, ...]] = {}


class MatchCommands(msgspec.Struct, frozen=True):
    """Ids of live tasks whose command matches `regex`. Answer: `CommandsMatched`."""

    sender: str
    regex: str


class CommandsMatched(msgspec.Struct, frozen=True):
    """Answer to `MatchCommands`: everything committed before it was considered."""

    regex: str
    ids: list[str]


class LoadLive(msgspec.Struct, frozen=True):
    """Asked by a queue that starts. Answers: `Loaded` in order of submission, the last `last`.

    `life` comes back with the answers: those meant for an earlier life of the asker are void.
    """

    sender: str
    life: int = 0


class LoadedRun(msgspec.Struct, frozen=True):
    """A run of a live task, joined from its entries. `phase` as in `core/runs.py`."""

    attempt: int
    node: str
    phase: int
    ended_at: float = 0.0
    hold: bool = False


class LoadedTask(msgspec.Struct, frozen=True):
    """A task that is not final, joined from its entries. Arrays bring their elements.

    `known_elements` are all indexes with an entry, `live_elements` the runs of those that are not
    final; `released` is the attempt up to which losses hold the task no longer.
    """

    task: str
    order: int
    origin: str
    spec: TaskSpec
    runs: list[LoadedRun] = []
    revision: int = 0
    held: str | None = None
    released: int = 0
    known_elements: list[int] = []
    ended_elements: dict[str, int] = {}
    live_elements: dict[int, list[LoadedRun]] = {}
    released_elements: dict[int, int] = {}


class Loaded(msgspec.Struct, frozen=True):
    """A batch of live tasks. `finals` counts ended tasks by state; `number` is the last entry's.

    `have` is the version vector.
    """

    tasks: list[LoadedTask]
    last: bool = False
    node: str = ""
    number: int = 0
    finals: dict[str, int] = {}
    life: int = 0
    have: dict[str, int] = {}
