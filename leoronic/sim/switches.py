"""Ways to break the system under test, to prove that the checks see it.

Nothing of this is in the machines: what they want done is done wrongly, or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from leoronic.core.entries import Entry, Finished, Started
from leoronic.core.peer import Probe
from leoronic.core.queue_messages import StopAttempt
from leoronic.core.scheduler import SchedulerMachine
from leoronic.journal.journal import Journal
from leoronic.journal.schema import STATE_CODES

SUPERSEDED = "superseded"


@dataclass(frozen=True)
class Switches:
    """What works. `nodes`: how many, 0 for what the seed says. `faults`: these alone, if any.
    `fickle`: outcomes depend on where a task runs. `retention`: history is kept for seconds.
    `files`: tasks have files.

    `fsync`: what was committed survives a power cut. `fence`: the journal refuses starts that come
    too late, old assignments are marked stale, superseded runs are stopped. `tie_break`: of two
    outcomes the same one counts everywhere, not the last that arrived. `probes`: others are asked
    before a node is given up. `awaits_entries`: who begins to own tasks waits for the entries that
    an executor's offer stands on.
    """

    fsync: bool = True
    fence: bool = True
    tie_break: bool = True
    probes: bool = True
    awaits_entries: bool = True
    nodes: int = 0
    faults: tuple[str, ...] = ()
    fickle: bool = False
    retention: bool = False
    files: bool = False
    ghosts: bool = False
    ghost_faults: tuple[str, ...] = ()

    def lets_pass(self, message: object) -> bool:
        """Whether a message that a machine sends is sent."""
        if isinstance(message, Probe):
            return self.probes
        if isinstance(message, StopAttempt) and message.reason.startswith(SUPERSEDED):
            return self.fence
        return True

    def sabotage(self, journal: Journal) -> Journal:
        """The journal, with what is switched off taken out of it."""
        if not self.fence:
            _take_every_start(journal)
        if not self.tie_break:
            _let_the_last_win(journal)
        return journal

    def hasten(self, scheduler: SchedulerMachine) -> SchedulerMachine:
        """The scheduler, with what is switched off taken out of it."""
        if not self.awaits_entries:
            _believe_offers_alone(scheduler)
        return scheduler


INTACT = Switches()


def _believe_offers_alone(scheduler: SchedulerMachine) -> None:
    barriers = scheduler.pictures.barriers
    heard = barriers.heard

    def hasty(node: str, seen: int, entries: dict[str, int], now: float, *, alone: bool) -> bool:
        return heard(node, seen, {}, now, alone=alone)

    barriers.heard = hasty  # type: ignore[method-assign]


def _take_every_start(journal: Journal) -> None:
    join = journal._join

    def start(entry: Started, seq: int) -> bool:
        if not join.knows(entry.task):
            return False
        join.apply(entry, seq, journal.node)
        return True

    join.start = start  # type: ignore[method-assign]


def _let_the_last_win(journal: Journal) -> None:
    join = journal._join
    apply = join.apply

    def hasty(entry: Entry, seq: int, writer: str) -> None:
        apply(entry, seq, writer)
        if isinstance(entry, Finished) and entry.final:
            state = STATE_CODES["succeeded" if entry.outcome.succeeded else "failed"]
            journal.connection.execute(
                "UPDATE tasks SET state = ? WHERE id = ? AND cancelled_at IS NULL",
                (state, entry.task),
            )

    join.apply = hasty  # type: ignore[method-assign]
