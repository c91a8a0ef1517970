"""The executor: what this node has taken on, and what became of it.

It stands between the schedulers (this node's and those of other nodes: each assigns the tasks that
its node owns) and the runner process. Its ledger is the authority on what fits here, and it lets
the owners in by turns (`sharing.py`). An attempt is started only once `Started` is on disk, and
forgotten by the runner only once `Finished` is; whatever can't be accounted for after a restart is
`Lost`.

    Assign -> STARTING (Started on its way to the disk)
           -> RUNNING (the runner has it, or gets it when its files are there)
           -> KEEPING (of those that leave files: the file store keeps them)
           -> ENDING (Finished or Lost on its way to the disk) -> forgotten

While tasks of a class are short, some more of them stand in lanes, each behind one that runs; the
runner starts the next of a lane by itself, and the share of the ledger passes on (`lanes.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import structs

from leoronic.core.effects import Asked, Effect, Fail, Fired, Reply, Send, SetTimer
from leoronic.core.entries import Entry, Finished, Lost, Started, Tagged, Untagged
from leoronic.core.executor_messages import (
    Abandon,
    Describe,
    LoadOpen,
    Open,
    Relaying,
    RunnerDown,
    SetDraining,
    SetTag,
    WaitIdle,
)
from leoronic.core.file_messages import (
    FilesMissing,
    FilesOf,
    FilesPlaced,
    FilesStarted,
    ForgetFiles,
    OutputsKept,
)
from leoronic.core.holding import Attempt, Stage, ending
from leoronic.core.holdings import Holdings
from leoronic.core.make_run import frames, make_run
from leoronic.core.outcome import Outcome
from leoronic.core.peer import Assign, Interest, Reserve
from leoronic.core.queue_messages import (
    Append,
    Appended,
    AppendFailed,
    FetchSpecs,
    SpecsFetched,
    StopAttempt,
)
from leoronic.core.resources import Capacity
from leoronic.core.run import (
    AttemptKey,
    Exited,
    ExitedMany,
    Forget,
    Inventory,
    Kill,
    Run,
    Runs,
    Spawned,
    StartNow,
)
from leoronic.core.runs import STOPPED_AS, STOPPED_WITH_NODE
from leoronic.core.spec import TaskSpec
from leoronic.core.staging import STORE, Staging
from leoronic.core.view import AskView, Standing, View
from leoronic.errors import Refused

RETRY_APPEND_S = 1.0
# What runs here and must not is killed within that time, unless it can't be.
STRAYS_S = 20.0


CLAIRVOYANT = "clairvoyant"
"""The tag of a node that serves ghosts."""
GHOST = "ghost"
"""The tag of a ghost."""
RELAY_CPUS_MILLI = 1000


class Start:
    """The machine's first message: ask the journal what this node was running."""


class ExecutorMachine:
    """See the module. `node` is this node's id, `name` what people call it, `root` its folder.

    `python` is the interpreter that tasks are told of (`LEORONIC_PYTHON`). `ghost`: it is a
    ghost's, who has no scheduler; the actor `journal` is its clairvoyant's.
    """

    def __init__(
        self,
        node: str,
        name: str,
        capacity: Capacity,
        tags: Iterable[str] = (),
        root: str = "",
        *,
        ghost: bool = False,
        python: str = "",
    ) -> None:
        self._node = node
        self._root = root
        self._python = python
        self._name = name
        self._ghost = ghost
        self._fixed_tags = frozenset(tags) | ({GHOST} if ghost else set())
        self._has = Holdings(node, name, capacity, self._fixed_tags, ghost=ghost)
        self._capacity = capacity
        self._relaying = False
        self._tags: set[str] = set()
        self._open: bool = False  # the journal has told what was running
        self._early: list[Inventory | ExitedMany] = []  # what the runner told before that
        self._connected = False  # the runner has told what is running
        self._strays: set[AttemptKey] = set()  # it runs these, and they are being ended
        self._runner = ""  # which life of it
        self._unsent: list[Run] = []
        self._staging = Staging(root)
        self._token = 0
        self._life = 0
        self._appends: dict[int, Append] = {}
        self._tag_requests: dict[int, object] = {}
        self._failed: list[Append] = []
        self._idle_requests: list[object] = []
        self._standing: Standing | None = None  # as membership was told last
        self._effects: list[Effect] = []
        self._now = 0.0
        self._handlers: dict[type, Callable[..., None]] = {
            Start: self._on_start,
            Open: self._on_open,
            View: self._on_view,
            Interest: lambda message: self._has.interest(message, self._now),
            Reserve: lambda message: self._has.reserve(message, self._now),
            Assign: self._on_assign,
            Appended: self._on_appended,
            AppendFailed: self._on_append_failed,
            Spawned: self._on_spawned,
            Exited: lambda message: self._end([message]),
            ExitedMany: lambda message: self._end(message.exits),
            Inventory: self._on_inventory,
            RunnerDown: self._on_runner_down,
            SpecsFetched: self._on_specs_fetched,
            FilesPlaced: self._on_files_placed,
            FilesMissing: self._on_files_missing,
            OutputsKept: self._on_outputs_kept,
            FilesStarted: self._on_files_started,
            StopAttempt: self._on_stop_attempt,
            Abandon: self._on_abandon,
            Asked: self._on_asked,
            Fired: self._on_fired,
            Capacity: self._on_capacity,
            Relaying: self._on_relaying,
        }

    def handle(self, message: object, now: float) -> list[Effect]:
        """Take one message; `now` in seconds since the epoch."""
        self._now = now
        self._handlers[type(message)](message)
        self._send_placed()
        self._start_moved()
        # What runs here may not be known yet: then nothing must be assigned.
        self._effects += self._has.flush(now, can_offer=not self._has.closed)
        if self._idle_requests and self.is_idle:
            self._effects += [Reply(request, None) for request in self._idle_requests]
            self._idle_requests = []
        effects, self._effects = self._effects, []
        return effects

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs here, or has ended and is not on disk yet."""
        return not self._has.attempts

    def _send(self, to: str, message: object) -> None:
        self._effects.append(Send(to, message))

    def _append(self, entries: list[Entry], want_specs: bool = False) -> None:
        self._token += 1
        append = Append("runner", self._token, entries, want_specs)
        self._appends[self._token] = append
        self._send("journal", append)

    # ---- starting, and starting again ----

    def _on_start(self, _message: Start) -> None:
        # Answers to an earlier life of this actor must not be taken for ours.
        self._token = int(self._now * 1_000_000)
        self._life = self._token
        self._send("journal", LoadOpen("runner", self._life))
        self._send("membership", AskView("runner"))

    def _on_open(self, message: Open) -> None:
        if message.life not in (0, self._life):
            return
        self._open = True
        self._has.number = message.number
        self._tags = set(message.tags)
        self._set_tags()
        self._tell_standing()
        for known in message.attempts:
            self._has.restore(known)
        self._tell_files()
        early, self._early = self._early, []
        for told in early:
            self._handlers[type(told)](told)

    def _on_inventory(self, message: Inventory) -> None:
        """The runner tells all that it holds: reconcile, by level."""
        if not self._open:
            self._early.append(message)  # the journal's word comes first
            return
        self._connected = True
        self._runner = message.runner
        held = {(s.task, s.attempt) for s in message.running} | {e.key for e in message.exited}
        unsent = {run.key for run in self._unsent}
        missing = [
            key
            for key, attempt in self._has.attempts.items()
            if attempt.stage is Stage.RUNNING
            and key not in held
            and key not in unsent
            and key not in self._staging
        ]
        never = [key for key in missing if self._never_got(key, message.runner)]
        self._lose([key for key in missing if key not in never], "the runner no longer has it")
        self._end(message.exited)
        crowded = self._has.crowded(never)
        self._lose(crowded, "it waited behind another when the core ended, and never ran")
        again = [task for task, attempt in never if (task, attempt) not in crowded]
        if again:
            self._send("journal", FetchSpecs("runner", again))
        self._strays.clear()
        for spawned in message.running:
            key = (spawned.task, spawned.attempt)
            known = self._has.attempts.get(key)
            if known is None:
                self._strays.add(key)
            reason = STOPPED_AS if known is None else known.stop_reason
            if reason:
                self._send("runner_host", Kill(*key, reason))
        if self._strays and self._has.closed:
            self._effects.append(SetTimer("strays", self._now + STRAYS_S))
        else:
            self._open_up()
        self._flush_unsent()

    def _never_got(self, key: AttemptKey, runner: str) -> bool:
        """Whether the attempt, which that life of the runner does not have, never ran.

        A runner forgets nothing before it is on disk. But what an earlier life of a ghost had may
        have ended, and only a node that is out of reach knows.
        """
        attempt = self._has.attempts[key]
        if self._ghost and not attempt.owner:
            return False
        return bool(runner) and attempt.runner == runner

    def _open_up(self) -> None:
        """It is known what runs here, and all of it is counted."""
        self._has.closed = False
        self._offer()

    def _on_specs_fetched(self, message: SpecsFetched) -> None:
        """Attempts that never reached the runner are sent again."""
        unsent = {run.key for run in self._unsent}
        for key, attempt in self._has.attempts.items():
            spec = message.specs.get(key[0])
            if key in unsent or key in self._staging:
                continue
            if spec is not None and attempt.stage is Stage.RUNNING:
                self._prepare(key, attempt, spec)
        self._flush_unsent()

    def _lose(self, keys: list[AttemptKey], suspicion: str) -> None:
        entries: list[Entry] = []
        for key in keys:
            attempt = self._has.attempts[key]
            attempt.stage = Stage.ENDING
            hold = attempt.hold_if_lost
            entries.append(Lost(*key, self._node, self._now, suspicion, hold))
            self._has.release(key)
        if entries:
            self._append(entries)

    def _on_runner_down(self, _message: RunnerDown) -> None:
        self._connected = False
        # An outcome stays true; what was running may not run any more.
        self._early = [told for told in self._early if isinstance(told, ExitedMany)]

    def _offer(self) -> None:
        self._has.audience.offer()
        self._tell_standing()

    def _tell_standing(self) -> None:
        standing = self._has.standing()
        if self._open and standing != self._standing:
            self._standing = standing
            self._send("membership", standing)

    def _on_capacity(self, capacity: Capacity) -> None:
        """The machine changed (a disk filled up): what runs stays, the rest is as it is now."""
        self._capacity = capacity
        offered = offered_capacity(capacity, relaying=self._relaying)
        if offered != self._has.ledger.capacity:
            self._has.ledger.capacity = offered
            self._offer()

    def _on_relaying(self, message: Relaying) -> None:
        if message.on != self._relaying:
            self._relaying = message.on
            self._set_tags()
            offered = offered_capacity(self._capacity, relaying=message.on)
            self._has.ledger.capacity = offered
            self._offer()

    def _set_tags(self) -> None:
        relaying = {CLAIRVOYANT} if self._relaying else set()
        self._has.tags = self._fixed_tags | self._tags | relaying

    # ---- the schedulers ----

    def _on_view(self, view: View) -> None:
        self._has.see(view)
        mine = view.members.get(self._node)
        if mine is not None and self._standing is not None:
            about = Standing(mine.about.capacity, mine.about.tags, mine.about.draining)
            if about != self._standing:
                self._standing = None  # membership has started anew, or what we told was lost
        self._tell_standing()

    # ---- attempts ----

    def _on_assign(self, message: Assign) -> None:
        entries = self._has.assign(message, self._runner, self._now)
        if entries:
            self._append(entries, want_specs=True)

    def _on_appended(self, message: Appended) -> None:
        append = self._appends.pop(message.token, None)
        if append is None:
            return
        self._has.number = max(self._has.number, message.number)
        forgotten: list[AttemptKey] = []
        with_files: list[AttemptKey] = []
        for entry in append.entries:
            match entry:
                case Started(task, attempt):
                    if (task, attempt) in message.refused:
                        known = (task, attempt) not in message.unknown
                        self._has.drop((task, attempt), known=known)
                    else:
                        self._start(entry, message.specs[task])
                case Finished(task, attempt) | Lost(task, attempt):
                    key = (task, attempt)
                    forgotten.append(key)
                    if key in self._has.attempts and self._has.attempts[key].has_folder:
                        with_files.append(key)
                    self._has.forget(key)
                case Tagged() | Untagged():
                    self._tagged(message.token, entry)
                case _:
                    raise AssertionError(f"the executor does not write {entry!r}")
        self._flush_unsent()
        if forgotten:
            self._send("runner_host", Forget(forgotten))
        if with_files:
            self._send(STORE, ForgetFiles(tuple(with_files)))

    def _start(self, entry: Started, spec: TaskSpec) -> None:
        key = (entry.task, entry.attempt)
        attempt = self._has.attempts[key]
        attempt.stage = Stage.RUNNING
        self._prepare(key, attempt, spec)

    def _prepare(self, key: AttemptKey, attempt: Attempt, spec: TaskSpec) -> None:
        """Have it sent to the runner, once its files are there."""
        run = make_run(*key, spec, self._name, self._root, self._python)
        attempt.has_folder = run.keep_folder
        attempt.outputs = spec.outputs
        attempt.private = run.workdir == "private"
        absent = [file for file in spec.files if not file.digest]
        if self._has.abandoned:
            self._end_unstarted(key, STOPPED_WITH_NODE, passing=True)
        elif absent:
            self._end_unstarted(
                key, f"cannot start: task {absent[0].task} left no {absent[0].output}"
            )
        elif spec.files and attempt.stop_reason:
            self._end_unstarted(key, attempt.stop_reason)
        elif spec.files:
            attempt.began_at = self._now
            self._effects.append(self._staging.place(run, spec.files))
        else:
            self._unsent.append(run)

    def _end_unstarted(self, key: AttemptKey, reason: str, *, passing: bool = False) -> None:
        """It never reached the runner. `passing`: what is in the way may pass; it comes again."""
        self._end([Exited(*key, Outcome(0.0, 0.0, reason=reason, not_started=passing))])

    def _on_files_placed(self, message: FilesPlaced) -> None:
        if self._staging.placed(message.key) and message.fetched:
            attempt = self._has.attempts[message.key]
            attempt.fetch_s = max(0.0, self._now - attempt.began_at)

    def _send_placed(self) -> None:
        ready = self._staging.take_ready(self._has.lanes.before)
        if ready:
            self._unsent += ready
            self._flush_unsent()

    def _on_files_missing(self, message: FilesMissing) -> None:
        if self._staging.take_placing(message.key) is None:
            return
        if message.lost:
            # To try again and again would be for ever.
            self._end_unstarted(message.key, f"cannot start: {message.reason}: it is lost")
        else:
            self._end_unstarted(message.key, message.reason, passing=True)

    def _on_outputs_kept(self, message: OutputsKept) -> None:
        exited = self._staging.take_kept(message)
        if exited is not None:
            self._conclude([exited])

    def _on_files_started(self, _message: FilesStarted) -> None:
        self._effects += self._staging.again()
        if self._open:
            self._tell_files()

    def _tell_files(self) -> None:
        """Files of any other attempt are left over from an earlier life."""
        mine = tuple(key for key, attempt in self._has.attempts.items() if attempt.has_folder)
        self._send(STORE, FilesOf(mine))

    def _flush_unsent(self) -> None:
        if not self._connected or not self._unsent:
            return
        runs, self._unsent = self._unsent, []
        for some in frames(runs):
            self._send("runner_host", Runs([self._in_lane(run) for run in some]))
        for run in runs:
            attempt = self._has.attempts[run.key]
            attempt.runner = self._runner  # what that one does not have is still to be sent
            reason = attempt.stop_reason
            if reason:
                self._send("runner_host", Kill(run.task, run.attempt, reason))

    def _in_lane(self, run: Run) -> Run:
        behind = self._has.lanes.before(run.key)
        return run if behind is None else structs.replace(run, behind=behind)

    def _on_append_failed(self, message: AppendFailed) -> None:
        """The disk refused (it is full): nothing is forgotten, it is tried again."""
        append = self._appends.pop(message.token, None)
        if append is None:
            return
        request = self._tag_requests.pop(message.token, None)
        if request is not None:
            self._effects.append(Fail(request, message.error))
            return
        if not self._failed:
            self._effects.append(SetTimer("append", self._now + RETRY_APPEND_S))
        self._failed.append(append)

    def _on_fired(self, message: Fired) -> None:
        if message.name == "strays":
            if self._has.closed:
                self._open_up()
            return
        failed, self._failed = self._failed, []
        for append in failed:
            self._append(append.entries, append.want_specs)

    def _on_spawned(self, _message: Spawned) -> None:
        """The journal said so before: nothing to do."""

    def _end(self, exits: list[Exited]) -> None:
        if not self._open:
            # Not unknown, only not known yet: to be forgotten here would lose the outcome.
            self._early.append(ExitedMany(exits))
            return
        ended: list[Exited] = []
        unknown: list[AttemptKey] = []
        for exited in exits:
            attempt = self._has.attempts.get(exited.key)
            if attempt is None:
                unknown.append(exited.key)  # its end is on disk already
            elif attempt.stage is Stage.RUNNING:
                if attempt.outputs and exited.outcome.began:
                    attempt.stage = Stage.KEEPING
                    keep = self._staging.keep(exited, attempt.outputs, private=attempt.private)
                    self._effects.append(keep)
                else:
                    ended.append(exited)
        self._conclude(ended)
        if unknown:
            self._send("runner_host", Forget(unknown))
            self._strays.difference_update(unknown)
            if self._has.closed and not self._strays and self._connected:
                self._open_up()

    def _conclude(self, exits: list[Exited]) -> None:
        """Write down how these ended."""
        entries: list[Entry] = []
        for exited in exits:
            attempt = self._has.attempts[exited.key]
            attempt.stage = Stage.ENDING
            outcome = self._dated(exited.outcome)
            # Who has to wait for files would keep others waiting that stand behind it.
            duration_s = outcome.finished_at - outcome.started_at + attempt.fetch_s
            self._has.lanes.note_duration((attempt.owner, attempt.class_number), duration_s)
            self._has.release(exited.key)
            entries.append(ending(exited, outcome, attempt, self._node, self._now))
        if entries:
            self._append(entries)

    def _start_moved(self) -> None:
        """Tell the runner to start those that changed lanes, which it holds behind another."""
        for key in self._has.lanes.take_moved():
            attempt = self._has.attempts.get(key)
            # One that is not on disk yet will be sent without `behind` anyway, and one whose start
            # was refused meanwhile is gone.
            if key in self._staging:
                continue  # It is sent as one that stands behind nobody.
            if attempt and attempt.stage is Stage.RUNNING and self._connected:
                self._send("runner_host", StartNow(*key))

    def _dated(self, outcome: Outcome) -> Outcome:
        """An attempt that never began has no times of its own."""
        if outcome.finished_at:
            return outcome
        return structs.replace(outcome, started_at=self._now, finished_at=self._now)

    def _on_stop_attempt(self, message: StopAttempt) -> None:
        attempt = self._has.attempts.get((message.task, message.attempt))
        if attempt is None or attempt.stage in (Stage.KEEPING, Stage.ENDING):
            return
        attempt.stop_reason = message.reason
        if self._staging.take_placing((message.task, message.attempt)) is not None:
            self._end_unstarted((message.task, message.attempt), message.reason)
        elif attempt.stage is Stage.RUNNING and self._connected:
            self._send("runner_host", Kill(message.task, message.attempt, message.reason))

    def _on_abandon(self, _message: Abandon) -> None:
        self._has.abandoned = True
        unsent, self._unsent = [run.key for run in self._unsent], []
        for key, attempt in list(self._has.attempts.items()):
            if attempt.stage is not Stage.RUNNING:
                continue
            if key in unsent or self._staging.take_placing(key) is not None:
                self._end_unstarted(key, STOPPED_WITH_NODE, passing=True)
            else:
                attempt.stop_reason = attempt.stop_reason or STOPPED_WITH_NODE
                if self._connected:
                    self._send("runner_host", Kill(*key, attempt.stop_reason))

    # ---- requests ----

    def _on_asked(self, asked: Asked) -> None:
        match asked.message:
            case SetTag(tag, on):
                self._set_tag(asked.request, tag, on)
            case SetDraining(on):
                self._has.draining = on
                self._offer()
                self._effects.append(Reply(asked.request, None))
            case WaitIdle():
                self._idle_requests.append(asked.request)
            case Describe():
                self._effects.append(Reply(asked.request, self._description()))
            case _:
                raise AssertionError(f"not asked of an executor: {asked.message!r}")

    def _set_tag(self, request: object, tag: str, on: bool) -> None:
        if not on and tag in self._fixed_tags:
            error = Refused(f"the tag {tag} was given at the start; start the node without it")
            self._effects.append(Fail(request, error))
            return
        self._append([(Tagged if on else Untagged)(self._node, tag, self._now)])
        self._tag_requests[self._token] = request

    def _tagged(self, token: int, entry: Tagged | Untagged) -> None:
        (self._tags.add if isinstance(entry, Tagged) else self._tags.discard)(entry.tag)
        self._set_tags()
        self._offer()
        request = self._tag_requests.pop(token, None)
        if request is not None:
            self._effects.append(Reply(request, sorted(self._has.tags)))

    def _description(self) -> dict[str, object]:
        staging = self._staging.waiting()
        return {**self._has.description(), "connected": self._connected, "staging": staging}


def offered_capacity(capacity: Capacity, *, relaying: bool) -> Capacity:
    """What a machine of `capacity` offers: one cpu less while it serves ghosts, if it has two."""
    if not relaying or capacity.cpus_milli < 2 * RELAY_CPUS_MILLI:
        return capacity
    return structs.replace(capacity, cpus_milli=capacity.cpus_milli - RELAY_CPUS_MILLI)
