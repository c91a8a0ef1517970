"""The executor: what this node has taken on, and what became of it.

It stands between the scheduler and the runner process. Its ledger is the authority on what fits
here. An attempt is started only once `Started` is on disk, and forgotten by the runner only once
`Finished` is; whatever can't be accounted for after a restart is `Lost`.

    Assign -> STARTING (Started on its way to the disk) -> RUNNING (the runner has it)
           -> ENDING (Finished or Lost on its way to the disk) -> forgotten

While tasks of a class are short, some more of them stand in lanes, each behind one that runs; the
runner starts the next of a lane by itself, and the share of the ledger passes on (`lanes.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum

from msgspec import structs

from leoronic.core.effects import Asked, Effect, Fail, Fired, Reply, Send, SetTimer
from leoronic.core.entries import Entry, Finished, Lost, Started, Tagged, Untagged
from leoronic.core.executor_messages import (
    Abandon,
    Describe,
    LoadOpen,
    Open,
    RunnerDown,
    SetDraining,
    SetTag,
    WaitIdle,
)
from leoronic.core.lanes import Lanes
from leoronic.core.make_run import frames, make_run
from leoronic.core.outcome import Outcome
from leoronic.core.queue_messages import (
    Append,
    Appended,
    AppendFailed,
    Declined,
    FetchSpecs,
    Item,
    SpecsFetched,
    StopAttempt,
)
from leoronic.core.records import TaskClass
from leoronic.core.resources import Capacity, Ledger, Need
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
from leoronic.core.scheduler_messages import (
    Assign,
    Freed,
    Held,
    Offer,
)
from leoronic.core.spec import TaskSpec
from leoronic.errors import Refused

RETRY_APPEND_S = 1.0
# The runner holds 4,096, ended ones among them until their outcomes are on disk.
ATTEMPTS_MAX = 3000


class Start:
    """The machine's first message: ask the journal what this node was running."""


class _Stage(Enum):
    STARTING = 1
    RUNNING = 2
    ENDING = 3


class _Attempt:
    __slots__ = (
        "class_number",
        "hold_if_lost",
        "need",
        "retries_left",
        "runner",
        "stage",
        "stop_reason",
    )

    def __init__(
        self,
        need: Need,
        retries_left: int,
        hold_if_lost: bool,
        stage: _Stage,
        runner: str,
        class_number: int = 0,
    ) -> None:
        self.runner = runner  # the life of the runner it is meant for
        self.need = need
        self.class_number = class_number
        self.retries_left = retries_left
        self.hold_if_lost = hold_if_lost
        self.stage = stage
        self.stop_reason = ""


class ExecutorMachine:
    """See the module. `node` is this node's id, `name` what people call it, `root` its folder."""

    def __init__(
        self,
        node: str,
        name: str,
        capacity: Capacity,
        tags: Iterable[str] = (),
        root: str = "",
    ) -> None:
        self._node = node
        self._root = root
        self._name = name
        self._ledger = Ledger(capacity)
        self._fixed_tags = frozenset(tags)
        self._tags: set[str] = set()
        self._draining = False
        self._abandoned = False
        self._open: bool = False  # the journal has told what was running
        self._early: list[Inventory | ExitedMany] = []  # what the runner told before that
        self._connected = False  # the runner has told what is running
        self._runner = ""  # which life of it
        self._offered = False
        self._attempts: dict[AttemptKey, _Attempt] = {}
        self._unsent: list[Run] = []
        self._token = 0
        self._life = 0
        self._appends: dict[int, Append] = {}
        self._tag_requests: dict[int, object] = {}
        self._failed: list[Append] = []
        self._idle_requests: list[object] = []
        self._lanes = Lanes()
        self._freed: list[tuple[AttemptKey, AttemptKey | None]] = []
        self._effects: list[Effect] = []
        self._now = 0.0
        self._handlers: dict[type, Callable[..., None]] = {
            Start: self._on_start,
            Open: self._on_open,
            Assign: self._on_assign,
            Appended: self._on_appended,
            AppendFailed: self._on_append_failed,
            Spawned: self._on_spawned,
            Exited: self._on_exited,
            ExitedMany: self._on_exited_many,
            Inventory: self._on_inventory,
            RunnerDown: self._on_runner_down,
            SpecsFetched: self._on_specs_fetched,
            StopAttempt: self._on_stop_attempt,
            Abandon: self._on_abandon,
            Asked: self._on_asked,
            Fired: self._on_fired,
            Capacity: self._on_capacity,
        }

    def handle(self, message: object, now: float) -> list[Effect]:
        """Take one message; `now` in seconds since the epoch."""
        self._now = now
        self._handlers[type(message)](message)
        self._start_moved()
        if self._freed:
            wants = {} if self._draining else self._lanes.wants()
            self._send("scheduler", Freed(self._node, self._freed, wants))
            self._freed = []
        if self._idle_requests and not self._attempts:
            self._effects += [Reply(request, None) for request in self._idle_requests]
            self._idle_requests = []
        effects, self._effects = self._effects, []
        return effects

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

    def _on_open(self, message: Open) -> None:
        if message.life not in (0, self._life):
            return
        self._open = True
        self._tags = set(message.tags)
        for known in message.attempts:
            key = (known.task, known.attempt)
            self._attempts[key] = _Attempt(
                known.need,
                known.retries_left,
                known.hold_if_lost,
                _Stage.RUNNING,
                known.runner,
            )
            self._attempts[key].stop_reason = known.stop_reason
            self._ledger.restore(key, known.need)
        early, self._early = self._early, []
        for told in early:
            self._handlers[type(told)](told)

    def _on_inventory(self, message: Inventory) -> None:
        """The runner tells all that it holds: reconcile, by level."""
        if not self._open:
            self._early.append(message)  # the journal's word comes first
            return
        first = not self._connected
        self._connected = True
        self._runner = message.runner
        held = {(s.task, s.attempt) for s in message.running} | {e.key for e in message.exited}
        unsent = {run.key for run in self._unsent}
        missing = [
            key
            for key, attempt in self._attempts.items()
            if attempt.stage is _Stage.RUNNING and key not in held and key not in unsent
        ]
        # A runner forgets nothing before it is on disk: what this life of it does not have, it
        # never got, and so it never ran.
        never = [key for key in missing if message.runner and self._meant_for(key, message.runner)]
        self._lose([key for key in missing if key not in never], "the runner no longer has it")
        self._end(message.exited)
        crowded = self._crowded(never)
        self._lose(crowded, "it waited behind another when the core ended, and never ran")
        again = [task for task, attempt in never if (task, attempt) not in crowded]
        if again:
            self._send("journal", FetchSpecs("runner", again))
        for spawned in message.running:
            known = self._attempts.get((spawned.task, spawned.attempt))
            reason = "superseded" if known is None else known.stop_reason
            if reason:
                self._send("runner_host", Kill(spawned.task, spawned.attempt, reason))
        if first:
            self._offer()
        self._flush_unsent()

    def _crowded(self, keys: list[AttemptKey]) -> list[AttemptKey]:
        """Of attempts to be sent again, those that do not fit: once they stood behind others.

        Which lane that was is not on disk, so each that is open holds a share of its own.
        """
        needs = {key: self._ledger.held[key] for key in keys if key in self._ledger.held}
        for key in needs:
            self._ledger.release(key)
        crowded: list[AttemptKey] = []
        for key, need in needs.items():
            if self._ledger.fits(need):
                self._ledger.take(key, need)
            else:
                crowded.append(key)
        for key in crowded:  # until the loss is on its way
            self._ledger.restore(key, needs[key])
        return crowded

    def _meant_for(self, key: AttemptKey, runner: str) -> bool:
        return self._attempts[key].runner == runner

    def _on_specs_fetched(self, message: SpecsFetched) -> None:
        """Attempts that never reached the runner are sent again."""
        unsent = {run.key for run in self._unsent}
        for key, attempt in self._attempts.items():
            spec = message.specs.get(key[0])
            if spec is not None and attempt.stage is _Stage.RUNNING and key not in unsent:
                self._unsent.append(make_run(*key, spec, self._name, self._root))
        self._flush_unsent()

    def _lose(self, keys: list[AttemptKey], suspicion: str) -> None:
        entries: list[Entry] = []
        for key in keys:
            attempt = self._attempts[key]
            attempt.stage = _Stage.ENDING
            entries.append(Lost(key[0], key[1], self._now, suspicion, attempt.hold_if_lost))
            self._release(key)
        if entries:
            self._append(entries)

    def _on_runner_down(self, _message: RunnerDown) -> None:
        self._connected = False
        # An outcome stays true; what was running may not run any more.
        self._early = [told for told in self._early if isinstance(told, ExitedMany)]

    def _offer(self) -> None:
        if not (self._connected or self._offered):
            return  # what runs here is not known yet: nothing must be assigned
        held = [Held(key[0], key[1], need) for key, need in self._ledger.held.items()]
        self._send(
            "scheduler",
            Offer(
                self._node,
                self._name,
                self._ledger.capacity,
                frozenset(self._tags | self._fixed_tags),
                self._draining,
                held,
                fresh=not self._offered,
            ),
        )
        self._offered = True

    def _on_capacity(self, capacity: Capacity) -> None:
        """The machine changed (a disk filled up): what runs stays, the rest is as it is now."""
        if capacity != self._ledger.capacity:
            self._ledger.capacity = capacity
            self._offer()

    # ---- attempts ----

    def _on_assign(self, message: Assign) -> None:
        entries: list[Entry] = []
        declined: list[str] = []
        misjudged = False
        for item, task_class in message.items:
            key = (item.task, item.attempt)
            if key in self._attempts:
                # Offered twice. If it holds no share (any more), the scheduler must not think so.
                if key not in self._ledger.held:
                    self._freed.append((key, None))
                continue
            if not self._takes(task_class):
                declined.append(item.task)
                self._freed.append((key, None))
                misjudged = True
                continue
            self._ledger.take(key, task_class.need)
            self._lanes.open(key, task_class.number)
            entries.append(self._begin(item, task_class))
        for item, task_class in message.ahead:
            key = (item.task, item.attempt)
            if key in self._attempts:
                continue
            if self._abandoned or self._draining or not self._lanes.join(key, task_class.number):
                declined.append(item.task)
                continue
            entries.append(self._begin(item, task_class))
        if entries:
            self._append(entries, want_specs=True)
        if misjudged:
            # The scheduler's ledger differs from ours (an offer crossed an assignment): without
            # telling all again, it would assign the same again at once, for ever.
            self._offer()
        if declined:
            self._send("queue", Declined(declined))

    def _begin(self, item: Item, task_class: TaskClass) -> Started:
        self._attempts[item.task, item.attempt] = _Attempt(
            task_class.need,
            item.retries_left,
            item.hold_if_lost,
            _Stage.STARTING,
            self._runner,
            task_class.number,
        )
        return Started(item.task, item.attempt, self._node, self._now, self._runner)

    def _takes(self, task_class: TaskClass) -> bool:
        if self._abandoned or (self._draining and not task_class.node):
            return False
        if len(self._attempts) >= ATTEMPTS_MAX:
            return False
        return self._ledger.fits(task_class.need)

    def _on_appended(self, message: Appended) -> None:
        append = self._appends.pop(message.token, None)
        if append is None:
            return
        forgotten: list[AttemptKey] = []
        for entry in append.entries:
            match entry:
                case Started(task, attempt):
                    if (task, attempt) in message.refused:
                        self._drop((task, attempt))
                    else:
                        self._start(entry, message.specs[task])
                case Finished(task, attempt) | Lost(task, attempt):
                    forgotten.append((task, attempt))
                    self._attempts.pop((task, attempt), None)
                case Tagged() | Untagged():
                    self._tagged(message.token, entry)
                case _:
                    raise AssertionError(f"the executor does not write {entry!r}")
        self._flush_unsent()
        if forgotten:
            self._send("runner_host", Forget(forgotten))

    def _start(self, entry: Started, spec: TaskSpec) -> None:
        key = (entry.task, entry.attempt)
        attempt = self._attempts[key]
        attempt.stage = _Stage.RUNNING
        self._unsent.append(make_run(entry.task, entry.attempt, spec, self._name, self._root))

    def _flush_unsent(self) -> None:
        if not self._connected or not self._unsent:
            return
        runs, self._unsent = self._unsent, []
        for some in frames(runs):
            self._send("runner_host", Runs([self._in_lane(run) for run in some]))
        for run in runs:
            reason = self._attempts[run.key].stop_reason
            if reason:
                self._send("runner_host", Kill(run.task, run.attempt, reason))

    def _in_lane(self, run: Run) -> Run:
        behind = self._lanes.before(run.key)
        return run if behind is None else structs.replace(run, behind=behind)

    def _drop(self, key: AttemptKey) -> None:
        """The journal refused the start: the task ended or was started elsewhere meanwhile."""
        del self._attempts[key]
        self._release(key)

    def _release(self, key: AttemptKey) -> None:
        """The attempt is over, or never was: its share goes to the next of its lane, if any."""
        if self._lanes.is_queued(key):
            self._lanes.leave(key)
            return
        need = self._ledger.held.get(key)
        if need is None:
            return
        self._ledger.release(key)
        successor = self._lanes.advance(key)
        if successor is not None:
            self._ledger.restore(successor, need)
        self._freed.append((key, successor))

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

    def _on_fired(self, _message: Fired) -> None:
        failed, self._failed = self._failed, []
        for append in failed:
            self._append(append.entries, append.want_specs)

    def _on_spawned(self, _message: Spawned) -> None:
        """The journal said so before: nothing to do."""

    def _on_exited(self, message: Exited) -> None:
        self._end([message])

    def _on_exited_many(self, message: ExitedMany) -> None:
        self._end(message.exits)

    def _end(self, exits: list[Exited]) -> None:
        if self._abandoned:
            return
        if not self._open:
            # Not unknown, only not known yet: to be forgotten here would lose the outcome.
            self._early.append(ExitedMany(exits))
            return
        entries: list[Entry] = []
        unknown: list[AttemptKey] = []
        for exited in exits:
            attempt = self._attempts.get(exited.key)
            if attempt is None:
                unknown.append(exited.key)  # its end is on disk already
            elif attempt.stage is _Stage.RUNNING:
                attempt.stage = _Stage.ENDING
                outcome = self._dated(exited.outcome)
                duration_s = outcome.finished_at - outcome.started_at
                self._lanes.note_duration(attempt.class_number, duration_s)
                self._release(exited.key)
                entries.append(_ending(exited, outcome, attempt, self._now))
        if entries:
            self._append(entries)
        if unknown:
            self._send("runner_host", Forget(unknown))

    def _start_moved(self) -> None:
        """Tell the runner to start those that changed lanes, which it holds behind another."""
        for key in self._lanes.take_moved():
            attempt = self._attempts.get(key)
            # One that is not on disk yet will be sent without `behind` anyway, and one whose start
            # was refused meanwhile is gone.
            if attempt and attempt.stage is _Stage.RUNNING and self._connected:
                self._send("runner_host", StartNow(*key))

    def _dated(self, outcome: Outcome) -> Outcome:
        """An attempt that never began has no times of its own."""
        if outcome.finished_at:
            return outcome
        return structs.replace(outcome, started_at=self._now, finished_at=self._now)

    def _on_stop_attempt(self, message: StopAttempt) -> None:
        attempt = self._attempts.get((message.task, message.attempt))
        if attempt is None or attempt.stage is _Stage.ENDING:
            return
        attempt.stop_reason = message.reason
        if attempt.stage is _Stage.RUNNING and self._connected:
            self._send("runner_host", Kill(message.task, message.attempt, message.reason))

    def _on_abandon(self, _message: Abandon) -> None:
        self._abandoned = True
        running = [key for key, a in self._attempts.items() if a.stage is _Stage.RUNNING]
        self._lose(running, "it was stopped with the node")

    # ---- requests ----

    def _on_asked(self, asked: Asked) -> None:
        match asked.message:
            case SetTag(tag, on):
                self._set_tag(asked.request, tag, on)
            case SetDraining(on):
                self._draining = on
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
        self._offer()
        request = self._tag_requests.pop(token, None)
        if request is not None:
            self._effects.append(Reply(request, sorted(self._tags | self._fixed_tags)))

    def _description(self) -> dict[str, object]:
        capacity = self._ledger.capacity
        return {
            "tags": sorted(self._tags | self._fixed_tags),
            "draining": self._draining,
            "running": [list(key) for key in self._attempts],
            "cpus": capacity.cpus_milli / 1000,
            "memory": capacity.memory,
            "storage": capacity.storage,
            "resources": dict(capacity.resources),
            "free": self._ledger.free(),
            "connected": self._connected,
        }


def _ending(exited: Exited, outcome: Outcome, attempt: _Attempt, now: float) -> Entry:
    """The entry that tells of an attempt's end."""
    if outcome.not_started and not attempt.stop_reason:
        # For want of something that may pass: it counts for nothing, and is tried again.
        return Lost(exited.task, exited.attempt, now, outcome.reason, hold=False, begun=False)
    final = outcome.succeeded or attempt.retries_left <= 0 or bool(attempt.stop_reason)
    return Finished(exited.task, exited.attempt, outcome, final)
