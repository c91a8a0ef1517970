"""An attempt that an executor has taken on, and the entry that tells of its end."""

from __future__ import annotations

from enum import Enum

from leoronic.core.entries import Finished, Lost
from leoronic.core.outcome import Outcome
from leoronic.core.peer import AssignItem
from leoronic.core.resources import Need
from leoronic.core.run import Exited
from leoronic.core.runs import STOPPED_AS, STOPPED_WITH_NODE


class Stage(Enum):
    """STARTING: `Started` is on its way to the disk. ENDING: so is `Finished` or `Lost`.

    KEEPING: it has ended, and what it leaves is being kept.
    """

    STARTING = 1
    RUNNING = 2
    KEEPING = 3
    ENDING = 4


class Attempt:
    """`owner` assigned it, as one of its class `class_number`; '' if that is not known any more."""

    __slots__ = (
        "began_at",
        "class_number",
        "fetch_s",
        "has_folder",
        "hold_if_lost",
        "need",
        "outputs",
        "owner",
        "private",
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
        self.began_at = 0.0  # when its files were asked for
        self.fetch_s = 0.0  # how long it waited for files that were not here
        self.has_folder = False  # there are files of its own to be removed
        self.outputs: tuple[str, ...] = ()  # what to keep when it ends
        self.private = False  # it runs in a folder of its own


def ending(
    exited: Exited, outcome: Outcome, attempt: Attempt, node: str, now: float
) -> Finished | Lost:
    """The entry that tells of an attempt's end on `node`."""
    # Who ends all that runs here ends no task.
    stop_reason = "" if attempt.stop_reason == STOPPED_WITH_NODE else attempt.stop_reason
    if outcome.not_started and not stop_reason:
        # For want of something that may pass: it counts for nothing, and is tried again.
        return Lost(exited.task, exited.attempt, node, now, outcome.reason, hold=False, begun=False)
    if outcome.reason == STOPPED_WITH_NODE:
        hold = attempt.hold_if_lost
        return Lost(exited.task, exited.attempt, node, now, outcome.reason, hold=hold)
    if stop_reason == STOPPED_AS:
        # The task goes on elsewhere: that this run was ended must not end the task.
        final = outcome.succeeded
    else:
        final = outcome.succeeded or attempt.retries_left <= 0 or bool(stop_reason)
    return Finished(exited.task, exited.attempt, node, outcome, final)
