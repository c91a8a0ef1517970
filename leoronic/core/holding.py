"""An attempt that an executor has taken on, and the entry that tells of its end."""

from __future__ import annotations

from enum import Enum

from leoronic.core.entries import Finished, Lost
from leoronic.core.outcome import Outcome
from leoronic.core.peer import AssignItem
from leoronic.core.resources import Need
from leoronic.core.run import Exited
from leoronic.core.runs import STOPPED_AS


class Stage(Enum):
    """STARTING: `Started` is on its way to the disk. ENDING: so is `Finished` or `Lost`."""

    STARTING = 1
    RUNNING = 2
    ENDING = 3


class Attempt:
    """`owner` assigned it, as one of its class `class_number`; '' if that is not known any more."""

    __slots__ = (
        "class_number",
        "hold_if_lost",
        "need",
        "owner",
        "retries_left",
        "runner",
        "stage",
        "stop_reason",
    )

    def __init__(
        self, need: Need, item: AssignItem, stage: Stage, runner: str, owner: str = ""
    ) -> None:
        self.runner = runner  # the life of the runner it is meant for
        self.need = need
        self.owner = owner
        self.class_number = item.class_number
        self.retries_left = item.retries_left
        self.hold_if_lost = item.hold_if_lost
        self.stage = stage
        self.stop_reason = ""


def ending(
    exited: Exited, outcome: Outcome, attempt: Attempt, node: str, now: float
) -> Finished | Lost:
    """The entry that tells of an attempt's end on `node`."""
    if outcome.not_started and not attempt.stop_reason:
        # For want of something that may pass: it counts for nothing, and is tried again.
        return Lost(exited.task, exited.attempt, node, now, outcome.reason, hold=False, begun=False)
    if attempt.stop_reason == STOPPED_AS:
        # The task goes on elsewhere: that this run was ended must not end the task.
        final = outcome.succeeded
    else:
        final = outcome.succeeded or attempt.retries_left <= 0 or bool(attempt.stop_reason)
    return Finished(exited.task, exited.attempt, node, outcome, final)
