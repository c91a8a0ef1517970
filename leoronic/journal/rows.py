"""Rows of the journal's tables, as those who ask get them."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from leoronic.core.entries import Started, Submitted, decode
from leoronic.core.outcome import Outcome
from leoronic.core.runs import ENDED, NEVER_BEGAN, SUPERSEDED
from leoronic.core.spec import TaskSpec
from leoronic.journal.schema import STATE_NAMES

outcomes: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Outcome)

TASK = """
SELECT t.ord, t.id, t.state, t.submitted_at, t.ended_at, t.held, t.elements, t.succeeded,
       t.failed, o.node, e.body, t.redo_of
FROM tasks t JOIN entries e ON e.seq = t.entry JOIN origins o ON o.origin = t.origin
"""
ATTEMPT = """
SELECT task, attempt, node, phase, started_at, ended_at, winner, state, lost_at, lost, hold, outcome
FROM attempts
"""


class TaskRow(NamedTuple):
    """A task as it is on disk; `state` is None while it lives."""

    order: int
    id: str
    state: str | None
    submitted_at: float
    ended_at: float | None
    held: str | None
    elements: int | None
    succeeded: int | None
    failed: int | None
    origin: str
    spec: TaskSpec
    source: str
    redo_of: str


class AttemptRow(NamedTuple):
    """A run as it is on disk; `phase` as in `core/runs.py`.

    `final_state` is set if it gave the task its state (then `winner`). `lost` is the suspicion
    of a run that is lost; `given_up` is that of one that was held for lost at some time, whatever
    became of it. Attempt 0 of an element, on no node, says that it was cancelled.
    """

    task: str
    attempt: int
    node: str
    started_at: float | None
    ended_at: float | None
    final_state: str | None
    lost: str | None
    outcome: Outcome | None
    begun: bool = True
    phase: int = ENDED
    winner: bool = False
    given_up: str = ""
    hold: bool = False


class Copy(NamedTuple):
    """A copy of what a run printed on `stream`: `size` bytes, kept by `keeper`."""

    stream: str
    keeper: str
    size: int


class Uncopied(NamedTuple):
    """Output of a run that is nowhere but on its own node: `size` bytes of `stream`."""

    task: str
    attempt: int
    node: str
    stream: str
    size: int


def submitted_of(body: bytes) -> Submitted:
    """The entry that made a task."""
    entry = decode(body)
    assert isinstance(entry, Submitted)
    return entry


def started_of(body: bytes) -> Started:
    """The entry that began a run."""
    entry = decode(body)
    assert isinstance(entry, Started)
    return entry


def task_row(row: tuple[Any, ...]) -> TaskRow:
    """From a row of `TASK`."""
    entry = submitted_of(row[10])
    return TaskRow(
        order=row[0],
        id=row[1],
        state=STATE_NAMES.get(row[2]),
        submitted_at=row[3],
        ended_at=row[4],
        held=row[5],
        elements=row[6],
        succeeded=row[7],
        failed=row[8],
        origin=row[9],
        spec=entry.spec,
        source=entry.source,
        redo_of=row[11] or "",
    )


def attempt_row(row: tuple[Any, ...]) -> AttemptRow:
    """From a row of `ATTEMPT`."""
    task, attempt, node, phase, started, ended, winner, state, lost_at, lost, hold, outcome = row
    return AttemptRow(
        task,
        attempt,
        node,
        started,
        lost_at if ended is None else ended,
        STATE_NAMES[state] if winner else None,
        None if phase >= SUPERSEDED else lost,
        None if outcome is None else outcomes.decode(outcome),
        phase != NEVER_BEGAN,
        phase,
        bool(winner),
        lost or "",
        bool(hold),
    )
