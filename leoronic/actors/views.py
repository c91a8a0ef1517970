"""What the journal and the queue know, as the objects that people and scripts see (CONTRACT)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from leoronic.core.arrays import split_element
from leoronic.core.blob import FileRef
from leoronic.core.outcome import Outcome
from leoronic.core.queue_messages import Change, LiveTask
from leoronic.core.runs import STOPPED_AS
from leoronic.core.spec import TaskSpec
from leoronic.errors import BadRequest, LeoronicError
from leoronic.journal.rows import AttemptRow, TaskRow
from leoronic.journal.splits import Split

"""The reason in the outcome of a run that was stopped because another one counts."""

_PLAIN = (
    "memory",
    "cpus",
    "storage",
    "resources",
    "concurrent",
    "workdir",
    "labels",
    "priority",
    "env",
    "time_limit",
    "retries",
    "retry_delay",
    "on_loss",
    "pids",
    "fresh_shell",
    "keep_names",
    "cache",
)


def rfc3339(at: float | None) -> str | None:
    """Seconds since the epoch as RFC 3339 in UTC, to the millisecond."""
    if at is None:
        return None
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def error_object(error: LeoronicError) -> dict[str, Any]:
    """An error as it goes to a client or another node."""
    found: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "definite": error.definite,
    }
    if isinstance(error, BadRequest) and error.problems:
        found["problems"] = error.problems
    return found


def real_runs(rows: Iterable[AttemptRow]) -> list[AttemptRow]:
    """Those that are runs, in order of (attempt, node).

    Left out is the row that says that an element was cancelled before its turn.
    """
    return sorted((row for row in rows if row.attempt), key=lambda row: (row.attempt, row.node))


def winner(runs: Iterable[AttemptRow]) -> AttemptRow | None:
    """The run whose outcome is the task's, if one of them ended it."""
    finals = ("succeeded", "failed")
    return next((run for run in runs if run.attempt and run.final_state in finals), None)


def attempt_object(
    row: AttemptRow, names: Mapping[str, str], *, won: bool = False
) -> dict[str, Any]:
    """One run: an attempt on a node.

    Its `state`: `running`, `succeeded`, `failed`, `lost`, `cancelled`, or `superseded`: stopped, as
    another run counts. `won`: the task's outcome is that of this run. `given_up`: why it was held
    for lost at some time, or empty; it may have ended well after all.
    """
    outcome = row.outcome
    # The journal's `Started` comes just before the process; the outcome knows better.
    return {
        "attempt": row.attempt,
        "node": names.get(row.node, row.node),
        "state": _attempt_state(row),
        "won": won,
        "given_up": row.given_up,
        "started_at": rfc3339(outcome.started_at if outcome else row.started_at),
        "finished_at": rfc3339(row.ended_at),
        **_ending(outcome, _why_ended(row)),
    }


def _why_ended(row: AttemptRow) -> str:
    """What ended it, if that was not the run itself. An end counts more than a loss before it."""
    return row.outcome.reason if row.outcome is not None else (row.lost or "")


def _attempt_state(row: AttemptRow) -> str:
    if row.outcome is None and row.lost is not None:
        return "lost"
    if row.ended_at is None:
        return "running"
    if row.outcome is not None:
        if row.outcome.reason in ("cancelled", STOPPED_AS):
            return row.outcome.reason
        return "succeeded" if row.outcome.succeeded else "failed"
    return row.final_state or "failed"


def _ending(outcome: Outcome | None, reason: str) -> dict[str, Any]:
    return {
        "exit_code": outcome.exit_code if outcome else None,
        "signal": outcome.signal if outcome else None,
        "reason": reason,
        "peak_memory": outcome.peak_memory if outcome else None,
        "cpu_seconds": outcome.cpu_seconds if outcome else None,
        "stdout_bytes": outcome.stdout.size if outcome else None,
        "stderr_bytes": outcome.stderr.size if outcome else None,
        "stragglers": outcome.stragglers if outcome else 0,
    }


def task_object(
    task: str,
    row: TaskRow,
    attempts: list[AttemptRow],
    live: LiveTask | None,
    names: Mapping[str, str],
    failed_elements: Sequence[int] = (),
) -> dict[str, Any]:
    """A task, or the element `task` of the array in `row`. `names`: node id -> its name."""
    element = split_element(task) if task != row.id else None
    state = _state(row, attempts, live, element is not None)
    runs = real_runs(attempts)
    won = winner(runs) if state in ("succeeded", "failed") else None
    attempt_objects = [attempt_object(run, names, won=run is won) for run in runs]
    marker = next((a for a in attempts if not a.attempt), None)
    # Several runs of a task, after a split: the one that won, else the one that goes on.
    last = won or (runs[-1] if runs else marker)
    shown_run = next((o for run, o in zip(runs, attempt_objects, strict=True) if run is last), None)
    node = (live.node if live and live.node else last.node if last else None) or None
    shown = {
        "id": task,
        "name": row.spec.name or None,
        "state": state,
        "command": row.spec.command,
        "submitted_at": rfc3339(row.submitted_at),
        "started_at": shown_run["started_at"] if shown_run else None,
        "finished_at": _finished_at(row, last, state, element is not None),
        "origin": names.get(row.origin, row.origin),
        "node": names.get(node, node) if node else None,
        "attempt": shown_run["attempt"] if shown_run else 0,
        "attempts": attempt_objects,
        **_ending(last.outcome if last else None, _reason(row, last, live, state)),
        **_left(last.outcome if last else None),
        "cached_from": row.spec.cached_from or None,
        "order": row.order,
        "source": row.source,
        **_asked_for(row.spec),
    }
    if row.redo_of:
        shown["redo_of"] = row.redo_of
    if element is not None:
        shown["index"] = element[1]
        if row.spec.items is not None and element[1] < len(row.spec.items):
            shown["item"] = row.spec.items[element[1]]
    elif row.elements is not None:
        shown["count"] = row.elements
        shown["elements"] = _elements(row, live)
        if failed_elements:
            shown["failed_elements"] = list(failed_elements)
    if live is not None and live.reasons:
        shown["reasons"] = live.reasons
    return shown


def _left(outcome: Outcome | None) -> dict[str, Any]:
    """The files that a run left, and what could not be kept."""
    return {
        "outputs": [_file_object(file) for file in outcome.outputs] if outcome else [],
        "output_problems": list(outcome.output_problems) if outcome else [],
    }


def _file_object(file: FileRef) -> dict[str, Any]:
    """`digest` and `size` are None of another task's output: what that leaves is told there."""
    size = file.size if file.digest else None
    return {"path": file.path, "size": size, "digest": file.digest or None}


def _asked_for(spec: TaskSpec) -> dict[str, Any]:
    shown: dict[str, Any] = {field: getattr(spec, field) for field in _PLAIN}
    shown["files"] = [_file_object(file) for file in spec.files]
    shown["conditions"] = list(spec.conditions)
    shown["after"] = [{"id": a.id, "when": a.when} for a in spec.after]
    return shown


def _state(
    row: TaskRow, attempts: list[AttemptRow], live: LiveTask | None, is_element: bool
) -> str:
    if live is not None:
        return live.state
    if is_element:
        won = winner(attempts)
        if any(a.final_state == "cancelled" for a in attempts):
            return "cancelled"
        return (won.final_state if won else row.state) or "waiting"
    # Neither live nor final for a moment: its commit is told to the queue right now.
    return row.state or "waiting"


def _finished_at(row: TaskRow, last: AttemptRow | None, state: str, is_element: bool) -> str | None:
    if state not in ("succeeded", "failed", "cancelled"):
        return None
    if is_element:
        return rfc3339(last.ended_at if last else row.ended_at)
    return rfc3339(row.ended_at)


def _reason(row: TaskRow, last: AttemptRow | None, live: LiveTask | None, state: str) -> str:
    if state == "cancelled":
        return "cancelled"
    if live is not None and live.reasons and state in ("blocked", "held"):
        return live.reasons[0]
    if last is not None:
        return _why_ended(last)
    return ""


def _elements(row: TaskRow, live: LiveTask | None) -> dict[str, int]:
    if live is not None and live.elements is not None:
        return live.elements
    succeeded, failed = row.succeeded or 0, row.failed or 0
    counts = {
        "succeeded": succeeded,
        "failed": failed,
        "cancelled": (row.elements or 0) - succeeded - failed,
    }
    return {state: count for state, count in counts.items() if count}


def split_object(split: Split, name: str, names: Mapping[str, str]) -> dict[str, Any]:
    """A task that ran twice: all its runs, what was suspected, and what it cost."""
    runs = real_runs(split.runs)
    won = winner(runs)
    # While nothing has won, the last one still may.
    counts = won or runs[-1]
    took = [
        (run.outcome.finished_at - run.outcome.started_at)
        if run.outcome is not None
        else (run.ended_at - run.started_at)
        for run in runs
        if run is not counts and run.ended_at is not None and run.started_at is not None
    ]
    return {
        "id": split.task,
        "name": name or None,
        "runs": [attempt_object(run, names, won=run is won) for run in runs],
        "suspicions": [
            {
                "node": names.get(one.node, one.node),
                "by": names.get(one.writer, one.writer),
                "at": rfc3339(one.at),
                "reason": one.reason,
            }
            for one in split.suspicions
        ],
        "seconds_lost": round(sum(max(0.0, seconds) for seconds in took), 3),
        "outputs_differ": split.outputs_differ,
    }


def change_object(change: Change, names: Mapping[str, str]) -> dict[str, Any]:
    """One line of `watch`."""
    return {
        "id": change.id,
        "state": change.state,
        "attempt": change.attempt,
        "node": names.get(change.node, change.node) or None,
        "at": rfc3339(change.at),
        "reason": change.reason,
    }
