"""The journal's host: the real journal code on a disk that fails (`disk.py`).

It does what `actors/journal.py` does: group commit of what this node writes and of what it takes
from others, `Committed` to the queue before `Appended` to the sender, loads only between two
commits, questions answered from what is committed. What is written becomes visible and durable
together, at one moment of the commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import NamedTuple

from leoronic.core.effects import Asked
from leoronic.core.entries import Numbered, Started, Submitted, decode
from leoronic.core.executor_messages import LoadOpen, Open
from leoronic.core.file_effects import LookNeeded, NeededTold, NewNeeds
from leoronic.core.gates import search
from leoronic.core.queue_messages import (
    Append,
    Appended,
    AppendFailed,
    CommandsMatched,
    Committed,
    FetchSpecs,
    Flip,
    Loaded,
    LoadLive,
    Lookup,
    MatchCommands,
    SpecsFetched,
)
from leoronic.core.replication_messages import (
    Body,
    LoadVector,
    PageRead,
    ReadPage,
    Take,
    TakeFailed,
    Taken,
    VectorLoaded,
)
from leoronic.core.replication_messages import Written as WrittenBodies
from leoronic.core.spec import TaskSpec
from leoronic.errors import DiskFull
from leoronic.journal.journal import Journal
from leoronic.journal.reads import Reads
from leoronic.sim.disk import Disk
from leoronic.sim.file_needs import referred
from leoronic.sim.hosts import Mailbox, Node
from leoronic.sim.observer import Observer

# Small, so that small worlds need several.
SLICE_ENTRIES = 16

# As in `actors/journal.py`: how long a start waits for its task to come from another node.
UNKNOWN_S = 1.0

_Job = Append | Take


class Trim(NamedTuple):
    """Asked: as `Trim` in `actors/journal.py`. `members`: who was counted in."""

    before: float
    tasks_max: int
    stable: dict[str, int]
    members: list[str]


class _Scan:
    def __init__(self, message: MatchCommands) -> None:
        self.message = message
        self.after = 0
        self.found: list[str] = []


class _Overdue(NamedTuple):
    """An append was kept back long enough."""

    append: Append


class JournalHost(Mailbox):
    """One life of the journal actor. `observer` is told of all that is on disk now."""

    def __init__(self, node: Node, disk: Disk, observer: Observer) -> None:
        super().__init__(node, "journal")
        self._disk = disk
        self.journal, self.reads = disk.open()
        self._observer = observer
        self._waiting: deque[_Job] = deque()
        self._boundary: deque[LoadLive | LoadOpen | LoadVector | Asked] = deque()
        self._writing: list[_Job] | None = None
        self._kept_back: list[Append] = []
        self._overdue: set[int] = set()  # tokens of appends that were kept back long enough
        self._cycle = False
        self._seen = self._last_place()

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way to the disk."""
        return not self._cycle and not len(self)

    def take(self, message: object) -> None:
        """Take appends, and answer what is asked of the disk."""
        match message:
            case Append() | Take():
                self._waiting.append(message)
                self._wake()
            case ReadPage(token, have, after, bytes_max):
                page = self.journal.page(have, after, bytes_max)
                self.node.send("replication", PageRead(token, *page))
            case Lookup() | FetchSpecs() | LookNeeded():
                self._look_up(message)
            case MatchCommands():
                self.deliver(_Scan(message))
            case _Scan():
                self._scan(message)
            case _Overdue(append):
                if append in self._kept_back:
                    self._kept_back.remove(append)
                    self._overdue.add(append.token)
                    self._waiting.append(append)
                    self._wake()
            case Asked():
                self._boundary.append(message)
                self._wake()
            case LoadOpen(node=ghost) if ghost:
                self._boundary.append(message)
                self._wake()
            case LoadLive(sender) | LoadOpen(sender) | LoadVector(sender):
                self._waiting = deque(job for job in self._waiting if _sender(job) != sender)
                self._kept_back = [append for append in self._kept_back if append.sender != sender]
                self._boundary.append(message)
                self._wake()
            case _:
                raise AssertionError(f"the journal does not take {message!r}")

    def _look_up(self, message: Lookup | FetchSpecs | LookNeeded) -> None:
        match message:
            case Lookup(sender, token, refs, keys, left):
                self.node.send(sender, self.reads.look_up(token, refs, keys, left))
            case FetchSpecs(sender, tasks):
                self.node.send(sender, SpecsFetched(self.reads.specs(tasks)))
            case LookNeeded(sender, after, limit):
                found = self.reads.needed_page(after, limit)
                told = NeededTold(after, tuple(found), len(found) < limit)
                self.node.send(sender, told)

    def stop(self, in_order: bool) -> None:
        """A commit under way may or may not have reached the disk."""
        super().stop(in_order)
        writing, self._writing = self._writing, None
        if writing is not None and self._disk.full < 2 and self.node.chance.random() < 0.5:
            self._write(writing)

    def _scan(self, scan: _Scan) -> None:
        rows = self.reads.commands(scan.after, SLICE_ENTRIES)
        scan.found += [task for _, task, spec in rows if search(scan.message.regex, spec)]
        if rows:
            scan.after = rows[-1][0]
            self.deliver(scan)
        else:
            answer = CommandsMatched(scan.message.regex, scan.found)
            self.node.send(scan.message.sender, answer)

    # ---- the cycle of commits; each step is a turn of its own ----

    def _wake(self) -> None:
        if not self._cycle:
            self._cycle = True
            self._soon(self._begin)

    def _soon(self, step: Callable[[], None], at_most_s: float | None = None) -> None:
        delay_s = self.node.chance.random() * (self.node.turn_s if at_most_s is None else at_most_s)
        self.node.clock.after(delay_s, lambda: self.node.when_awake(lambda: self._run(step)))

    def _run(self, step: Callable[[], None]) -> None:
        if self.alive:
            step()

    def _begin(self) -> None:
        self._load_all()
        if not self._waiting:
            self._cycle = False
            return
        batch: list[_Job] = []
        while self._waiting:
            job = self._waiting.popleft()
            if self._disk.full and isinstance(job, Append) and _submits(job):
                self._fail(job)
            else:
                batch.append(job)
        self._writing = batch
        self._soon(self._reach_disk, self._disk.commit_s)

    def _reach_disk(self) -> None:
        writing, self._writing = self._writing, None
        assert writing is not None
        if self._disk.full == 2 and writing:
            written = [job for job in writing if not self._keep_back(job)]
            self._write_rows(written)
            self.journal.rollback()
            for job in written:
                self._fail(job)
            self._soon(self._begin)
            return
        tell = self._write(writing)
        self._soon(lambda: self._publish(tell))

    def _write_rows(self, jobs: list[_Job]) -> list[Callable[[], None]]:
        """Write it all into one transaction; returns what is to be told once it is on disk."""
        tell: list[Callable[[], None]] = []
        first: list[Callable[[], None]] = []
        bodies: list[Body] = []
        for job in jobs:
            if isinstance(job, Take):
                first.append(self._take_others(job, tell))
            else:
                bodies += self._append(job, tell)
        if bodies:
            first.append(lambda: self.node.send("replication", WrittenBodies(bodies)))
        # What was taken before what was written: it may have caused it.
        return first + tell

    def _write(self, jobs: list[_Job]) -> list[Callable[[], None]]:
        tell: list[Callable[[], None]] = []
        takes = [job for job in jobs if isinstance(job, Take)]
        jobs = [job for job in jobs if not self._keep_back(job)]
        if not jobs:
            return tell
        tell = self._write_rows(jobs)
        self.journal.commit()
        if not self._disk.fsync and self.node.chance.random() < 0.05:
            self._disk.sync()
        self._observer.committed(self._news(), self._skipped())
        if takes:
            # What they lacked may have come: they go first, as they came first.
            self._waiting.extendleft(reversed(self._kept_back))
            self._kept_back = []
        return tell

    def _keep_back(self, job: _Job) -> bool:
        """Whether it has to wait for a task that is not here yet."""
        if isinstance(job, Take):
            return False
        starts = [entry for entry in job.entries if isinstance(entry, Started)]
        if all(self.journal.knows(entry.task) for entry in starts):
            return False
        if job.token in self._overdue:
            self._overdue.remove(job.token)
            return False
        self._kept_back.append(job)
        self.node.clock.after(UNKNOWN_S, lambda: self._note_overdue(job))
        return True

    def _note_overdue(self, append: Append) -> None:
        if self.alive:
            self.deliver(_Overdue(append))

    def _append(self, append: Append, tell: list[Callable[[], None]]) -> list[Body]:
        before = self.journal.number
        written = self.journal.write(append.entries)
        number = self.journal.number
        refused = written.refused | written.unknown
        have = {self._disk.node_id: number} if number > before else {}
        tell.append(lambda: self._commit(written.entries, written.orders, written.flips, have))
        tell.append(
            lambda: self.node.send(
                append.sender,
                Appended(append.token, refused, self._specs(append), number, written.unknown),
            )
        )
        return written.bodies

    def _take_others(self, take: Take, tell: list[Callable[[], None]]) -> Callable[[], None]:
        taken = self.journal.take(take.bodies, take.floor, take.have)
        tell.append(lambda: self._commit(taken.entries, taken.orders, taken.flips, taken.have))
        answer = Taken(take.token, taken.have, taken.refused)
        return lambda: self.node.send("replication", answer)

    def _commit(
        self,
        entries: list[Numbered],
        orders: dict[str, int],
        flips: list[Flip],
        have: dict[str, int],
    ) -> None:
        needs = referred(entries)
        if needs:
            self.node.send("file_store", NewNeeds(needs))
        for start in range(0, max(len(entries), bool(flips or have)), SLICE_ENTRIES):
            part = entries[start : start + SLICE_ENTRIES]
            last = start + SLICE_ENTRIES >= len(entries)
            rest = (flips, have) if last else ([], {})
            self.node.send("queue", Committed(part, orders, *rest))

    def _specs(self, append: Append) -> dict[str, TaskSpec]:
        specs: dict[str, TaskSpec] = {}
        if append.want_specs:
            for entry in append.entries:
                task = entry.task  # type: ignore[union-attr]
                spec = self.reads.spec(task)
                if spec is not None:
                    specs[task] = spec
        return specs

    def _publish(self, tell: list[Callable[[], None]]) -> None:
        for action in tell:
            action()
        self._begin()

    def _news(self) -> list[Numbered]:
        """All entries that the last commit brought, as they are on disk."""
        rows = self.journal.connection.execute(
            "SELECT seq, node, number, body FROM entries e JOIN origins o ON o.origin = e.origin "
            "WHERE seq > ? ORDER BY seq",
            (self._seen,),
        ).fetchall()
        if rows:
            self._seen = rows[-1][0]
        return [Numbered(node, number, decode(body)) for _, node, number, body in rows]

    def _skipped(self) -> dict[str, int]:
        """The version vector, if it counts in what others have forgotten."""
        return self.journal.vector() if self.journal.floor() else {}

    def _last_place(self) -> int:
        [last] = self.journal.connection.execute(
            "SELECT coalesce(max(seq), 0) FROM entries"
        ).fetchone()
        return int(last)

    def _fail(self, job: _Job) -> None:
        error = DiskFull("the disk is full")
        if isinstance(job, Append):
            self.node.send(job.sender, AppendFailed(job.token, error))
        else:
            self.node.send("replication", TakeFailed(job.token, error))

    def _load_all(self) -> None:
        while self._boundary:
            message = self._boundary.popleft()
            node = self._disk.node_id
            match message:
                case Asked(request, trim):
                    assert isinstance(trim, Trim)
                    self._trim(request, trim)
                case LoadOpen(sender, life, of) if of:
                    attempts, tags = self.reads.open_attempts(of), self.reads.tags(of)
                    self.node.send(sender, Open(attempts, tags, life, self.journal.number))
                case LoadOpen(sender, life):
                    # What was being written when it was asked may have been kept back since.
                    self._waiting = deque(job for job in self._waiting if not _starts(job, sender))
                    self._kept_back = [job for job in self._kept_back if not _starts(job, sender)]
                    attempts, tags = self.reads.open_attempts(node), self.reads.tags(node)
                    self.node.send(sender, Open(attempts, tags, life, self.journal.number))
                case LoadVector(sender, life):
                    have, floor = self.journal.vector(), self.journal.floor()
                    self.node.send(sender, VectorLoaded(node, have, floor, life))
                case LoadLive(sender, life):
                    self._observer.loads_live(life)
                    for loaded in load_live(self.journal, self.reads, life):
                        self.node.send(sender, loaded)

    def _trim(self, request: object, trim: Trim) -> None:
        """Forget a slice of what is old; on disk at once, and told at once."""
        if self._disk.full == 2:
            self.node.answer(request, None, DiskFull("the disk is full"))
            return
        tasks, places = self._held()
        count = self.journal.trim(trim.before, trim.tasks_max, trim.stable)
        self.journal.commit()
        tasks_left, places_left = self._held()
        self._observer.forgets(trim.before, trim.members, tasks - tasks_left, places - places_left)
        self.node.answer(request, count, None)

    def _held(self) -> tuple[set[str], set[tuple[str, int]]]:
        """Which tasks and which entries are on disk."""
        execute = self.journal.connection.execute
        tasks = {task for [task] in execute("SELECT id FROM tasks")}
        places = execute("SELECT node, number FROM entries e JOIN origins o ON o.origin = e.origin")
        return tasks, set(places.fetchall())


def _sender(job: _Job) -> str:
    return job.sender if isinstance(job, Append) else "replication"


def _starts(job: _Job, sender: str) -> bool:
    """Whether `sender`, in an earlier life, wanted to start something with it."""
    return (
        isinstance(job, Append)
        and job.sender == sender
        and any(isinstance(entry, Started) for entry in job.entries)
    )


def _submits(append: Append) -> bool:
    return isinstance(append.entries[0], Submitted)


def load_live(journal: Journal, reads: Reads, life: int) -> list[Loaded]:
    """The answer to `LoadLive`, in slices."""
    answers: list[Loaded] = []
    live = reads.live()
    while part := list(islice(live, SLICE_ENTRIES)):
        answers.append(Loaded(part, life=life))
    finals = reads.ended()
    last = Loaded([], True, journal.node, journal.number, finals, life, journal.vector())
    return [*answers, last]
