"""What looks like the journal to a ghost's executor: it is its clairvoyant's.

What is to be written is forwarded, and kept until it is answered; the next clairvoyant gets it
again, and the starts of all that runs as well. By level: what the journal there has as running,
and the ghost does not have, is handed over again if it ended lately; else it is lost.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from leoronic.core.effects import CancelTimer, Effect, Fired, Log, Send, SetTimer
from leoronic.core.entries import Entry, Finished, Lost, Started
from leoronic.core.executor_messages import LoadOpen, Open, OpenAttempt
from leoronic.core.ghost_messages import (
    ANSWER_S,
    ENTRIES_MAX,
    FROM_GHOST,
    Attached,
    GhostAppend,
    GhostAppended,
    GhostAppendFailed,
    GhostEntry,
    GhostFetchSpecs,
    GhostLoadOpen,
    GhostOpen,
    GhostSpecs,
    ToClairvoyant,
    Unanswered,
    Working,
)
from leoronic.core.queue_messages import (
    Append,
    Appended,
    AppendFailed,
    FetchSpecs,
    SpecsFetched,
    StopAttempt,
)
from leoronic.core.run import AttemptKey
from leoronic.errors import DiskFull

# What was to start when contact was lost starts no more if that lasted so long: with the time that
# it takes to notice, it must be less than `GHOST_GRACE_S`, after which it may start elsewhere.
START_S_MAX = 8.0
# After each attachment it is compared what runs, and then now and then.
COMPARE_AFTER_S = (0.0, 5.0, 30.0)
COMPARE_EVERY_S = 300.0
ENDED_MAX = 1024
# How long an end is kept that belongs to a task of which the node has not heard yet.
UNKNOWN_S = 120.0
# And how long something runs that no node knows of: whoever accepted it may come back.
RUNS_UNKNOWN_S = 600.0
NOBODYS = "no node knows its task any more"
UNANSWERED_S_MAX = 60.0
NEVER_STARTED = "its ghost had no node to tell when it was to start, and it never did"
NOT_HERE = "the ghost does not have it"


class _Pending:
    """To be written. `append`: who wants it; None: this machine does.

    `hands_over`: it tells of what runs, as it is told to each clairvoyant.
    """

    def __init__(
        self, entries: list[Entry], append: Append | None, *, hands_over: bool = False
    ) -> None:
        self.entries = entries
        self.append = append
        self.hands_over = hands_over
        self.unknown_at: float | None = None  # since when its tasks are not known where it is told


class GhostJournal:
    """See the module; `ghost` is its id. `now` is seconds since the epoch."""

    def __init__(self, ghost: str) -> None:
        self._ghost = ghost
        self._effects: list[Effect] = []
        self._now = 0.0
        self._number = 0
        self._attached = False
        self._pending: dict[int, _Pending] = {}
        self._running: dict[AttemptKey, Started] = {}
        self._ended: dict[AttemptKey, Entry] = {}  # lately, as the journal knows
        self._load: LoadOpen | None = None
        self._unknown: dict[AttemptKey, float] = {}  # of these that run, since when nobody knows
        self._loaded = False  # the executor knows what ran
        self._fetches: list[FetchSpecs] = []
        self._compares = 0
        self._comparing = 0  # the number of the question under way
        self._waits_since: float | None = None  # since when there was no answer
        self._patience_s = ANSWER_S
        self._working = False
        self._handlers: dict[type, Callable[..., None]] = {
            Append: self._on_append,
            LoadOpen: self._on_load,
            FetchSpecs: self._on_fetch,
            Attached: self._on_attached,
            GhostAppended: self._on_appended,
            GhostAppendFailed: self._on_append_failed,
            GhostOpen: self._on_open,
            GhostSpecs: self._on_specs,
            Fired: self._on_fired,
        }

    def handle(self, message: object, now: float) -> list[Effect]:
        """Take one message."""
        self._now = now
        self._handlers[type(message)](message)
        self._look()
        effects, self._effects = self._effects, []
        return effects

    def _send(self, to: str, message: object) -> None:
        self._effects.append(Send(to, message))

    def _tell(self, message: FROM_GHOST) -> None:
        self._send("membership", ToClairvoyant(message))

    def _look(self) -> None:
        """Whether anything runs, and whether anything waits for an answer."""
        waits = bool(self._pending or self._fetches) or self._load is not None
        working = waits or bool(self._running)
        if working != self._working:
            self._working = working
            self._send("membership", Working(working))
        if not (waits and self._attached):
            if self._waits_since is not None:
                self._waits_since = None
                self._effects.append(CancelTimer("answer"))
        elif self._waits_since is None:
            self._waits_since = self._now
            self._effects.append(SetTimer("answer", self._now + self._patience_s))

    def _answered(self) -> None:
        self._waits_since = None
        self._patience_s = ANSWER_S

    def _on_fired(self, message: Fired) -> None:
        if message.name == "compare":
            self._compare()
        elif message.name == "retry":
            self._stop_what_is_nobodys()
            for number, pending in self._pending.items():
                if pending.append is None or pending.unknown_at is not None:
                    self._forward(number, pending)
        elif self._waits_since is not None:
            waited_s = self._now - self._waits_since
            self._waits_since = None  # it is counted again from now on
            if waited_s >= self._patience_s:
                self._patience_s = min(2 * self._patience_s, UNANSWERED_S_MAX)
                self._send("membership", Unanswered(f"it wrote nothing for {waited_s:.1f} s"))

    # ---- the executor ----

    def _on_append(self, append: Append) -> None:
        self._add(append.entries, append)

    def _add(self, entries: list[Entry], append: Append | None = None) -> None:
        self._number += 1
        pending = self._pending[self._number] = _Pending(entries, append)
        self._forward(self._number, pending)

    def _forward(self, number: int, pending: _Pending) -> None:
        entries: list[GhostEntry] = []
        for entry in pending.entries:
            assert isinstance(entry, GhostEntry), f"an executor does not write {entry!r}"
            entries.append(entry)
        want_specs = pending.append is not None and pending.append.want_specs
        self._tell(GhostAppend(number, entries, want_specs))

    def _on_load(self, load: LoadOpen) -> None:
        """The executor begins anew: what it wanted to start before that is void."""
        self._load = load
        self._loaded = False
        self._fetches.clear()
        self._void_starts()
        for number, pending in self._pending.items():
            if pending.append is None:
                self._forward(number, pending)
            pending.append = None  # nobody waits for the answer any more
        self._tell(GhostLoadOpen(load.life))

    def _on_fetch(self, fetch: FetchSpecs) -> None:
        self._fetches.append(fetch)
        self._tell(GhostFetchSpecs(fetch.tasks[:ENTRIES_MAX]))

    def _void_starts(self) -> list[tuple[Append, frozenset[AttemptKey]]]:
        """Starts that nobody has answered are not made, though they may have been written down.

        Who wanted them, and which these are. What is written instead is not forwarded yet.
        """
        voided: list[tuple[Append, frozenset[AttemptKey]]] = []
        for number, pending in list(self._pending.items()):
            starts = [entry for entry in pending.entries if isinstance(entry, Started)]
            if not starts or pending.append is None:
                continue
            del self._pending[number]
            voided.append((pending.append, frozenset((one.task, one.attempt) for one in starts)))
            self._number += 1  # what was answered to the other must not be taken for this
            losses: list[Entry] = [
                Lost(one.task, one.attempt, self._ghost, self._now, NEVER_STARTED, begun=False)
                for one in starts
            ]
            self._pending[self._number] = _Pending(losses, None)
        return voided

    # ---- a clairvoyant, the first or another ----

    def _on_attached(self, message: Attached) -> None:
        self._attached = True
        self._waits_since = None
        self._fetches, fetches = [], self._fetches
        if message.lost_s > START_S_MAX:
            for append, keys in self._void_starts():
                self._send(append.sender, Appended(append.token, keys, unknown=keys))
        self._hand_over()
        for number, pending in self._pending.items():
            self._forward(number, pending)
        if self._load is not None:
            self._tell(GhostLoadOpen(self._load.life))
        for fetch in fetches:
            self._on_fetch(fetch)
        self._compares = 0
        self._compare_later()

    def _hand_over(self) -> None:
        """Before all else the journal is told of what runs here: it may not have heard of it."""
        others = {n: one for n, one in self._pending.items() if not one.hands_over}
        starts: list[Entry] = [structs.replace(o, handed=True) for o in self._running.values()]
        if starts:
            self._number += 1
            others = {self._number: _Pending(starts, None, hands_over=True), **others}
        self._pending = others

    def _on_appended(self, message: GhostAppended) -> None:
        pending = self._pending.pop(message.number, None)
        if pending is None:
            return
        self._answered()
        if self._is_put_off(pending, message):
            return
        if pending.hands_over:
            self._note_unknown(pending, message)
        for entry in pending.entries:
            match entry:
                case Started(task, attempt):
                    key = (task, attempt)
                    if pending.append is not None and key not in message.refused:
                        self._running[key] = entry
                case Finished(task, attempt) | Lost(task, attempt):
                    self._note_end((task, attempt), entry)
        if pending.append is not None:
            append = pending.append
            answer = Appended(append.token, message.refused, message.specs, unknown=message.unknown)
            self._send(append.sender, answer)

    def _note_unknown(self, pending: _Pending, message: GhostAppended) -> None:
        """Of what runs, that node does not know these tasks (yet): it is told again."""
        keys = [(one.task, one.attempt) for one in pending.entries if isinstance(one, Started)]
        unknown = [key for key in keys if key in message.unknown and key in self._running]
        self._unknown = {key: self._unknown.get(key, self._now) for key in unknown}
        if unknown:
            pending.entries = [structs.replace(self._running[key], handed=True) for key in unknown]
            self._number += 1
            self._pending[self._number] = pending
            self._effects.append(SetTimer("retry", self._now + 2 * ANSWER_S))

    def _stop_what_is_nobodys(self) -> None:
        for key, since in self._unknown.items():
            if self._now - since > RUNS_UNKNOWN_S and key in self._running:
                self._send("runner", StopAttempt(*key, NOBODYS))

    def _is_put_off(self, pending: _Pending, message: GhostAppended) -> bool:
        """Whether the node does not know yet what ended: its former clairvoyant alone did."""
        early = [
            entry
            for entry in pending.entries
            if isinstance(entry, Finished | Lost) and (entry.task, entry.attempt) in message.unknown
        ]
        since = self._now if pending.unknown_at is None else pending.unknown_at
        if not early or self._now - since > UNKNOWN_S:
            return False  # whoever knew it does not come back: nobody waits for it
        pending.unknown_at = since
        self._number += 1
        self._pending[self._number] = pending
        self._effects.append(SetTimer("retry", self._now + ANSWER_S))
        return True

    def _note_end(self, key: AttemptKey, entry: Entry) -> None:
        self._running.pop(key, None)
        self._ended.pop(key, None)
        self._ended[key] = entry
        if len(self._ended) > ENDED_MAX:
            del self._ended[next(iter(self._ended))]

    def _on_append_failed(self, message: GhostAppendFailed) -> None:
        pending = self._pending.get(message.number)
        if pending is None:
            return
        self._answered()
        if pending.append is not None:
            del self._pending[message.number]
            error = DiskFull(message.reason)
            self._send(pending.append.sender, AppendFailed(pending.append.token, error))
        else:
            self._effects.append(SetTimer("retry", self._now + ANSWER_S))

    def _on_specs(self, message: GhostSpecs) -> None:
        if self._fetches:
            self._answered()
            self._send(self._fetches.pop(0).sender, SpecsFetched(message.specs))

    # ---- what has no end ----

    def _on_open(self, message: GhostOpen) -> None:
        self._answered()
        found = message.open
        if self._load is not None and found.life == self._load.life:
            self._tell_open(self._load, found)
        elif found.life == self._comparing and self._loaded:
            self._comparing = 0
            self._compared(found.attempts)

    def _tell_open(self, load: LoadOpen, found: Open) -> None:
        """To the executor: but not what has ended, though the journal there does not know it."""
        attempts = [one for one in found.attempts if (one.task, one.attempt) not in self._ended]
        self._running = {
            (one.task, one.attempt): Started(
                one.task,
                one.attempt,
                self._ghost,
                self._now,
                one.runner,
                retries_left=one.retries_left if one.attempt > 1 else None,
                hold_if_lost=one.hold_if_lost and one.attempt > 1,
            )
            for one in attempts
        }
        self._load, self._loaded = None, True
        self._send(load.sender, Open(attempts, found.tags, found.life))

    def _pending_ends(self) -> list[AttemptKey]:
        return [
            (entry.task, entry.attempt)
            for pending in self._pending.values()
            for entry in pending.entries
            if isinstance(entry, Finished | Lost)
        ]

    def _compare_later(self) -> None:
        after = [*COMPARE_AFTER_S, COMPARE_EVERY_S][min(self._compares, len(COMPARE_AFTER_S))]
        self._compares += 1
        self._effects.append(SetTimer("compare", self._now + after))

    def _compare(self) -> None:
        if self._loaded and self._load is None:
            self._number += 1
            self._comparing = self._number
            self._tell(GhostLoadOpen(self._comparing))
        self._compare_later()

    def _compared(self, attempts: list[OpenAttempt]) -> None:
        """What the journal there has as running here, against what does."""
        known = {*self._running, *self._pending_ends(), *self._pending_starts()}
        entries: list[Entry] = []
        for one in attempts:
            key = (one.task, one.attempt)
            if key in self._running and one.stop_reason:
                self._send("runner", StopAttempt(*key, one.stop_reason))
            elif key in known:
                continue
            elif key in self._ended:
                entries.append(self._ended[key])
            else:
                fields = {"task": one.task, "attempt": one.attempt}
                self._effects.append(Log("attempt not here", "warning", dict(fields)))
                hold = one.hold_if_lost
                entries.append(Lost(*key, self._ghost, self._now, NOT_HERE, hold))
        if entries:
            self._add(entries)

    def _pending_starts(self) -> list[AttemptKey]:
        return [
            (entry.task, entry.attempt)
            for pending in self._pending.values()
            for entry in pending.entries
            if isinstance(entry, Started)
        ]
