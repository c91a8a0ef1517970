"""What ran twice: after a split of the network, or because a node was given up wrongly."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.runs import NEVER_BEGAN, SUPERSEDED
from leoronic.journal.rows import AttemptRow

# Clocks of nodes differ, and a suspicion comes a while after the last sign of life.
CLOCKS_S = 60.0
SUSPICIONS_MAX = 20


class Suspicion(NamedTuple):
    """`writer` believed from `at` on that `node` was down."""

    node: str
    writer: str
    at: float
    reason: str


class Split(NamedTuple):
    """A task or element that ran twice. `outputs_differ` is None where that is not known."""

    task: str
    runs: list[AttemptRow]
    suspicions: list[Suspicion]
    outputs_differ: bool | None


def read_splits(
    connection: sqlite3.Connection, attempts: Callable[[str], list[AttemptRow]], limit: int
) -> list[Split]:
    """The last `limit` tasks of which two runs overlapped, or one ended that was given up."""
    found: list[tuple[float, Split]] = []
    for (task,) in connection.execute("SELECT task FROM doubled").fetchall():
        runs = [run for run in attempts(task) if run.attempt > 0]
        if not _ran_twice(runs):
            continue
        begun = max((run.started_at for run in runs if run.started_at is not None), default=0.0)
        suspicions = _suspicions(connection, runs, begun)
        found.append((begun, Split(task, runs, suspicions, _differ(runs))))
    found.sort(key=lambda one: (-one[0], one[1].task))
    return [split for _, split in found[:limit]]


def _ran_twice(runs: list[AttemptRow]) -> bool:
    if any(run.phase >= SUPERSEDED and run.given_up for run in runs):
        return True
    begun = [run for run in runs if run.started_at is not None and run.phase != NEVER_BEGAN]
    return any(one.attempt == other.attempt for one, other in combinations(begun, 2))


def _suspicions(
    connection: sqlite3.Connection, runs: list[AttemptRow], begun: float
) -> list[Suspicion]:
    nodes = sorted({run.node for run in runs})
    started = [run.started_at for run in runs if run.started_at is not None]
    ended = [run.ended_at for run in runs if run.ended_at is not None]
    rows = connection.execute(
        "SELECT node, writer, at, reason FROM suspicions "
        f"WHERE node IN ({', '.join('?' * len(nodes))}) AND at BETWEEN ? AND ? "
        "ORDER BY at, node, writer LIMIT ?",
        (
            *nodes,
            min(started, default=begun) - CLOCKS_S,
            max(ended, default=begun) + CLOCKS_S,
            SUSPICIONS_MAX,
        ),
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
