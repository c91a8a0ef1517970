"""What the journal and the queue know, as the objects that people and scripts see (CONTRACT)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from leoronic.core.arrays import split_element
from leoronic.core.outcome import Outcome
from leoronic.core.queue_messages import Change, LiveTask
from leoronic.core.spec import TaskSpec
from leoronic.journal.reads import AttemptRow, TaskRow

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
)


def rfc3339(at: float | None) -> str | None:
    """Seconds since the epoch as RFC 3339 in UTC, to the millisecond."""
    if at is None:
        return None
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def attempt_object(row: AttemptRow, names: Mapping[str, str]) -> dict[str, Any]:
    """One attempt. Its `state`: `running`, `succeeded`, `failed`, `lost` or `cancelled`."""
    outcome = row.outcome
    # The journal's `Started` comes just before the process; the outcome knows better.
    return {
        "attempt": row.attempt,
        "node": names.get(row.node, row.node),
        "state": _attempt_state(row),
        "started_at": rfc3339(outcome.started_at if outcome else row.started_at),
        "finished_at": rfc3339(row.ended_at),
        **_ending(outcome, row.lost or (outcome.reason if outcome else "")),
    }


def _attempt_state(row: AttemptRow) -> str:
    if row.lost is not None:
        return "lost"
    if row.ended_at is None:
        return "running"
    if row.outcome is not None:
        if row.outcome.reason == "cancelled":
            return "cancelled"
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
    attempt_objects = [attempt_object(a, names) for a in attempts if a.attempt]
    last = attempts[-1] if attempts else None
    node = (live.node if live and live.node else last.node if last else None) or None
    shown = {
        "id": task,
        "name": row.spec.name or None,
        "state": state,
        "command": row.spec.command,
        "submitted_at": rfc3339(row.submitted_at),
        "started_at": attempt_objects[-1]["started_at"] if attempt_objects else None,
        "finished_at": _finished_at(row, last, state, element is not None),
        "origin": names.get(row.origin, row.origin),
        "node": names.get(node, node) if node else None,
        "attempt": attempt_objects[-1]["attempt"] if attempt_objects else 0,
        "attempts": attempt_objects,
        **_ending(last.outcome if last else None, _reason(row, last, live, state)),
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


def _asked_for(spec: TaskSpec) -> dict[str, Any]:
    shown: dict[str, Any] = {field: getattr(spec, field) for field in _PLAIN}
    shown["conditions"] = list(spec.conditions)
    shown["after"] = [{"id": a.id, "when": a.when} for a in spec.after]
    return shown


def _state(
    row: TaskRow, attempts: list[AttemptRow], live: LiveTask | None, is_element: bool
) -> str:
    if live is not None:
        return live.state
    if is_element:
        final = [a.final_state for a in attempts if a.final_state is not None]
        return final[-1] if final else (row.state or "waiting")
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
        return last.lost or (last.outcome.reason if last.outcome else "")
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
