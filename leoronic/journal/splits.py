"""What ran twice: after a split of the network, or because a node was given up wrongly."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from leoronic.core.arrays import split_element
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.runs import NEVER_BEGAN, SUPERSEDED, RunKey
from leoronic.journal.rows import AttemptRow

# Clocks of nodes differ, and a suspicion is noted a while before or after what follows from it.
CLOCKS_S = 5.0
SUSPICIONS_MAX = 20


class Suspicion(NamedTuple):
    """`writer` believed from `at` on that `node` was down."""

    node: str
    writer: str
    at: float
    reason: str


class Split(NamedTuple):
    """A task or element that ran twice: the runs that began. `outputs_differ` None: not known."""

    task: str
    runs: list[AttemptRow]
    suspicions: list[Suspicion]
    outputs_differ: bool | None


def read_splits(
    connection: sqlite3.Connection, attempts: Callable[[str], list[AttemptRow]], limit: int
) -> list[Split]:
    """The last `limit` tasks that ran twice.

    Either one attempt began on two nodes, or a run that others gave up went on to an end of its
    own, although another began after it. A run that was lost and then tried again is none.
    """
    found: list[tuple[float, Split]] = []
    for (task,) in connection.execute("SELECT task FROM doubled").fetchall():
        runs = [run for run in attempts(task) if run.attempt > 0 and _began(run)]
        if not _ran_twice(runs, _lost_by_their_own(connection, task)):
            continue
        begun = [run.started_at for run in runs if run.started_at is not None]
        suspicions = _suspicions(connection, task, runs, min(begun), max(begun))
        found.append((max(begun), Split(task, runs, suspicions, _differ(runs))))
    found.sort(key=lambda one: (-one[0], one[1].task))
    return [split for _, split in found[:limit]]


def _began(run: AttemptRow) -> bool:
    return run.started_at is not None and run.phase != NEVER_BEGAN


def _lost_by_their_own(connection: sqlite3.Connection, task: str) -> set[RunKey]:
    """Runs of which their own node says that they are lost: that is no suspicion."""
    rows = connection.execute("SELECT attempt, node FROM attempts WHERE task = ? AND gone", (task,))
    return set(rows)


def _ran_twice(runs: list[AttemptRow], lost_by_their_own: set[RunKey]) -> bool:
    if len({run.attempt for run in runs}) < len(runs):
        return True
    last = max((run.attempt for run in runs), default=0)
    return any(
        run.phase >= SUPERSEDED and run.given_up and run.attempt < last
        for run in runs
        if (run.attempt, run.node) not in lost_by_their_own
    )


def _suspicions(
    connection: sqlite3.Connection, task: str, runs: list[AttemptRow], first: float, last: float
) -> list[Suspicion]:
    """Those that led to a second run: of a node that ran it or that it came from, meanwhile.

    The task may have waited for room on both sides of a split, so that nobody was suspected once it
    ran: then the last ones before, since it was submitted.
    """
    element = split_element(task)
    origin, submitted = connection.execute(
        "SELECT o.node, t.submitted_at FROM tasks t JOIN origins o ON o.origin = t.origin "
        "WHERE t.id = ?",
        (element[0] if element is not None else task,),
    ).fetchone() or ("", first)
    nodes = sorted({run.node for run in runs} | {origin})
    found = _suspicions_of(connection, nodes, first - CLOCKS_S, last + CLOCKS_S, "ASC")
    return found or _suspicions_of(connection, nodes, submitted, first, "DESC")[::-1]


def _suspicions_of(
    connection: sqlite3.Connection, nodes: list[str], since: float, until: float, order: str
) -> list[Suspicion]:
    rows = connection.execute(
        "SELECT node, writer, at, reason FROM suspicions "
        f"WHERE node IN ({', '.join('?' * len(nodes))}) AND at BETWEEN ? AND ? "
        f"ORDER BY at {order}, node {order}, writer {order} LIMIT ?",
        (*nodes, since, until, SUSPICIONS_MAX),
    )
    return [Suspicion(*row) for row in rows]


def _differ(runs: list[AttemptRow]) -> bool | None:
    outcomes = [run.outcome for run in runs if run.outcome is not None]
    if len(outcomes) < 2:
        return None
    answers = [_outputs_differ(outcomes[0], other) for other in outcomes[1:]]
    if True in answers:
        return True
    return None if None in answers else False


def _outputs_differ(one: Outcome, other: Outcome) -> bool | None:
    answers = [
        _streams_differ(one.stdout, other.stdout),
        _streams_differ(one.stderr, other.stderr),
    ]
    if True in answers:
        return True
    return None if None in answers else False


def _streams_differ(one: StreamRef, other: StreamRef) -> bool | None:
    if one.size != other.size:
        return True
    if one.inline and other.inline:
        return one.inline != other.inline
    if not one.size:
        return False
    digests = getattr(one, "digest", ""), getattr(other, "digest", "")
    return digests[0] != digests[1] if all(digests) else None
