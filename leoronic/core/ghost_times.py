"""Times that a ghost tells, by the clock of the node that writes them down.

A small board without a battery believes in 1970 until somebody tells it otherwise. What ended then
by its clock would be forgotten at once, as its retention is over. So a ghost says what time it
believes it is, and whatever it tells is put right by that.
"""

from __future__ import annotations

from msgspec import structs

from leoronic.core.entries import Finished
from leoronic.core.ghost_messages import GhostAppend, GhostEntry

OFF_S_MAX = 60.0
"""Nodes differ by as much and nobody minds; and what says so may have been under way for long."""


def off_s(message: GhostAppend, at: float) -> float:
    """How far the ghost's clock is behind ours, by which `message` came `at`; 0: not worth it."""
    if not (message.at and at):
        return 0.0
    behind_s = at - message.at
    return behind_s if abs(behind_s) > OFF_S_MAX else 0.0


def put_right(message: GhostAppend, behind_s: float, at: float) -> GhostAppend:
    """The same by our clock, by which it is `at`: nothing of it lies in the future."""

    def right(time: float) -> float:
        return max(0.0, min(time + behind_s, at))

    def entry_of(entry: GhostEntry) -> GhostEntry:
        if isinstance(entry, Finished):
            outcome = entry.outcome
            began, ended = right(outcome.started_at), right(outcome.finished_at)
            outcome = structs.replace(outcome, started_at=began, finished_at=ended)
            return structs.replace(entry, outcome=outcome)
        return structs.replace(entry, at=right(entry.at))

    return structs.replace(message, entries=[entry_of(entry) for entry in message.entries])
