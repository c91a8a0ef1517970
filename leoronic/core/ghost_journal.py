"""What looks like the journal to a ghost's executor: it is its clairvoyant's.

What is to be written is forwarded, and kept until it is answered; the next clairvoyant gets it
again, and the starts of all that runs as well. By level: what the journal there has as running,
and the ghost does not have, is handed over again if it ended lately; else it is lost.
"""

from __future__ import annotations

from collections.abc import Callable

from leoronic.core.effects import CancelTimer, Effect, Fired, Log, Send, SetTimer
from leoronic.core.entries import Entry, Finished, Lost, Started
from leoronic.core.executor_messages import LoadOpen, Open, OpenAttempt
from leoronic.core.ghost_messages import (
    ANSWER_S,
    FROM_GHOST,
    GhostAppend,
    GhostAppended,
    GhostAppendFailed,
    GhostEntry,
    GhostLoadOpen,
    GhostOpen,
    GhostSpecs,
)
from leoronic.core.ghost_notices import (
    Attached,
    TicketsCame,
    ToClairvoyant,
    Unanswered,
    Working,
)
from leoronic.core.ghost_pending import Pending, Pendings, Wanted, parts, starts
from leoronic.core.ghost_runs import GhostRuns
from leoronic.core.ghost_specs import SpecFetches
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
# How long an end is kept that belongs to a task of which the node has not heard yet.
UNKNOWN_S = 120.0
# And how long something runs that no node knows of: whoever accepted it may come back.
RUNS_UNKNOWN_S = 600.0
NOBODYS = "no node knows its task any more"
UNANSWERED_S_MAX = 60.0
NEVER_STARTED = "its ghost had no node to tell when it was to start, and it never did"
NOT_HERE = "the ghost does not have it"


class GhostJournal:
    """See the module; `ghost` is its id.

    `now` is seconds since the epoch, by a clock that goes on steadily: whoever sets the machine's
    must neither hasten nor hold up what waits here.
    """

    def __init__(self, ghost: str) -> None:
        self._ghost = ghost
        self._effects: list[Effect] = []
        self._now = 0.0
        self._attached = False
        self._pending = Pendings()
        self._runs = GhostRuns(ghost)
        self._load: LoadOpen | None = None
        self._unknown: dict[AttemptKey, float] = {}  # of these that run, since when nobody knows
        self._loaded = False  # the executor knows what ran
        self._fetches = SpecFetches()
        self._compares = 0
        self._comparing = 0  # the number of the question under way
        self._waits_since: float | None = None  # since when there was no answer
        self._patience_s = ANSWER_S
        self._retry_at: float | None = None
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
            TicketsCame: lambda message: self._runs.note_tickets(message.tickets),
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
        """Whether anything runs, and whether anything waits for an answer.

        What the node does not know yet and is to be told again was answered.
        """
        waits = self._pending.under_way or bool(self._fetches) or self._load is not None
        working = waits or bool(self._pending or self._runs.running)
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
            self._retry_at = None
            self._stop_what_is_nobodys()
            for number, pending in self._pending:
                if not pending.under_way:
                    self._forward(number, pending)
        elif self._waits_since is not None:
            waited_s = self._now - self._waits_since
            self._waits_since = None  # it is counted again from now on
            if waited_s >= self._patience_s:
                self._patience_s = min(2 * self._patience_s, UNANSWERED_S_MAX)
                self._send("membership", Unanswered(f"it wrote nothing for {waited_s:.1f} s"))

    def _retry(self, after_s: float) -> None:
        """What was not written is told again by then; sooner, if something else is."""
        at = self._now + after_s
        if self._retry_at is None or at < self._retry_at:
            self._retry_at = at
            self._effects.append(SetTimer("retry", at))

    # ---- the executor ----

    def _on_append(self, append: Append) -> None:
        for number in self._pending.want(append):
            self._forward_found(number)

    def _add(self, entries: list[Entry]) -> None:
        for part in parts(entries):
            self._forward_found(self._pending.add(Pending(part)))

    def _forward_found(self, number: int) -> None:
        pending = self._pending.find(number)
        assert pending is not None, "it was just added"
        self._forward(number, pending)

    def _forward(self, number: int, pending: Pending) -> None:
        entries: list[GhostEntry] = []
        for entry in pending.entries:
            assert isinstance(entry, GhostEntry), f"an executor does not write {entry!r}"
            entries.append(entry)
        tickets = [self._ticket(entry) for entry in entries]
        pending.under_way = self._attached
        self._tell(
            GhostAppend(number, entries, pending.want_specs, tickets if any(tickets) else [])
        )

    def _ticket(self, entry: Entry) -> str:
        if not isinstance(entry, Started | Finished | Lost):
            return ""
        return self._runs.ticket((entry.task, entry.attempt))

    def _on_load(self, load: LoadOpen) -> None:
        """The executor begins anew: what it wanted to start before that is void."""
        self._load = load
        self._loaded = False
        self._void_starts()
        self._fetches.clear()
        self._pending.orphan()
        for number, pending in self._pending:
            if not pending.under_way:
                self._forward(number, pending)
        self._tell(GhostLoadOpen(load.life))

    def _on_fetch(self, fetch: FetchSpecs) -> None:
        self._ask_specs(fetch.tasks, fetch)

    def _ask_specs(self, tasks: list[str], asker: FetchSpecs | Wanted) -> None:
        question = self._fetches.add(tasks, asker)
        if question is not None:
            self._tell(question)

    def _void_starts(self) -> list[Append]:
        """Starts of which the executor was not told are not made: they may be written down, though.

        Who wanted them. What is to be written instead is not forwarded yet.
        """
        found = [*self._pending.drop_starts(), *self._fetches.drop_starts()]
        voided = list({one.append.token: one for one in found}.values())
        losses: list[Entry] = []
        for wanted in voided:
            for one in wanted.starts():
                key = (one.task, one.attempt)
                self._runs.drop(key)
                losses.append(Lost(*key, self._ghost, self._now, NEVER_STARTED, begun=False))
        for part in parts(losses):
            self._pending.add(Pending(part))
        return [wanted.append for wanted in voided]

    # ---- a clairvoyant, the first or another ----

    def _on_attached(self, message: Attached) -> None:
        self._attached = True
        self._waits_since = None
        if message.lost_s > START_S_MAX:
            for append in self._void_starts():
                keys = frozenset(starts(append.entries))
                self._send(append.sender, Appended(append.token, keys, unknown=keys))
        # Before all else: the journal there may not have heard of what runs.
        self._pending.hand_over(self._runs.handed())
        for number, pending in self._pending:
            self._forward(number, pending)
        if self._load is not None:
            self._tell(GhostLoadOpen(self._load.life))
        question = self._fetches.question()
        if question is not None:
            self._tell(question)
        self._compares = 0
        self._compare_later()

    def _on_appended(self, message: GhostAppended) -> None:
        pending = self._pending.take(message.number)
        if pending is None:
            return
        self._answered()
        done = self._put_off(pending, message)
        if pending.hands_over:
            self._note_unknown(pending, message)
        for entry in done:
            match entry:
                case Started(task, attempt):
                    if pending.wanted is not None and (task, attempt) not in message.refused:
                        self._runs.running[task, attempt] = entry
                case Finished(task, attempt) | Lost(task, attempt):
                    self._runs.end((task, attempt), entry)
        wanted = pending.wanted
        if wanted is not None:
            wanted.note(message.refused, message.unknown, message.specs)
            if message.left:
                self._ask_specs(message.left, wanted)
            else:
                self._conclude(wanted)

    def _conclude(self, wanted: Wanted) -> None:
        """Another part of it is answered for."""
        wanted.parts -= 1
        if wanted.parts:
            return
        answer = wanted.answer()
        for key in answer.refused:
            self._runs.drop(key)
        self._send(wanted.append.sender, answer)

    def _note_unknown(self, pending: Pending, message: GhostAppended) -> None:
        """Of what runs, that node does not know these tasks (yet): it is told again."""
        runs = [key for key in starts(pending.entries) if key in self._runs.running]
        for key in runs:
            if key not in message.unknown:
                self._unknown.pop(key, None)
            else:
                self._unknown.setdefault(key, self._now)
        unknown = [key for key in runs if key in message.unknown]
        if unknown:
            pending.entries = self._runs.handed(unknown)
            self._pending.add(pending)
            self._retry(2 * ANSWER_S)

    def _stop_what_is_nobodys(self) -> None:
        for key, since in self._unknown.items():
            if self._now - since > RUNS_UNKNOWN_S and key in self._runs.running:
                self._send("runner", StopAttempt(*key, NOBODYS))

    def _put_off(self, pending: Pending, message: GhostAppended) -> list[Entry]:
        """What the node does not know yet is told again: its former clairvoyant alone did.

        All other entries, which are done with.
        """
        early = [
            entry
            for entry in pending.entries
            if isinstance(entry, Finished | Lost) and (entry.task, entry.attempt) in message.unknown
        ]
        since = self._now if pending.unknown_at is None else pending.unknown_at
        if not early or self._now - since > UNKNOWN_S:
            return pending.entries  # whoever knew it does not come back: nobody waits for it
        rest = Pending(early, pending.wanted)
        rest.unknown_at = since
        if rest.wanted is not None:
            rest.wanted.parts += 1
        self._pending.add(rest)
        self._retry(ANSWER_S)
        return [entry for entry in pending.entries if entry not in early]

    def _on_append_failed(self, message: GhostAppendFailed) -> None:
        pending = self._pending.find(message.number)
        if pending is None:
            return
        self._answered()
        wanted = pending.wanted
        if wanted is None:
            pending.under_way = False
            self._retry(ANSWER_S)
        else:
            # Whoever wants it tries all of it again: what is written is known by then.
            self._pending.drop(wanted)
            error = DiskFull(message.reason)
            self._send(wanted.append.sender, AppendFailed(wanted.append.token, error))

    def _on_specs(self, message: GhostSpecs) -> None:
        self._answered()
        heard = self._fetches.hear(message)
        question = self._fetches.question()
        if question is not None:
            self._tell(question)
        if heard is None:
            return
        asker, specs = heard
        if isinstance(asker, FetchSpecs):
            self._send(asker.sender, SpecsFetched(specs))
        else:
            asker.note((), (), specs)
            self._conclude(asker)

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
        attempts = [
            one for one in found.attempts if (one.task, one.attempt) not in self._runs.ended
        ]
        self._runs.restore(attempts, self._now)
        self._load, self._loaded = None, True
        self._send(load.sender, Open(attempts, found.tags, found.life))

    def _compare_later(self) -> None:
        after = [*COMPARE_AFTER_S, COMPARE_EVERY_S][min(self._compares, len(COMPARE_AFTER_S))]
        self._compares += 1
        self._effects.append(SetTimer("compare", self._now + after))

    def _compare(self) -> None:
        if self._loaded and self._load is None:
            self._comparing = self._pending.next_number()
            self._tell(GhostLoadOpen(self._comparing))
        self._compare_later()

    def _compared(self, attempts: list[OpenAttempt]) -> None:
        """What the journal there has as running here, against what does."""
        known = {*self._runs.running, *self._pending.ends(), *self._pending.starts()}
        entries: list[Entry] = []
        for one in attempts:
            key = (one.task, one.attempt)
            if key in self._runs.running and one.stop_reason:
                self._send("runner", StopAttempt(*key, one.stop_reason))
            elif key in known:
                continue
            elif key in self._runs.ended:
                entries.append(self._runs.ended[key])
            else:
                fields = {"task": one.task, "attempt": one.attempt}
                self._effects.append(Log("attempt not here", "warning", dict(fields)))
                hold = one.hold_if_lost
                entries.append(Lost(*key, self._ghost, self._now, NOT_HERE, hold))
        if entries:
            self._add(entries)
