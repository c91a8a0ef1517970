"""How a task ended: in words, and as the exit code that stands for it."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping
from typing import Any

ENDED = ("succeeded", "failed", "cancelled")
TIME_LIMIT_CODE = 124


def _last(task: Mapping[str, Any], field: str) -> Any:
    """The field of the task, else of its last attempt."""
    if task.get(field) is not None:
        return task[field]
    attempts = task.get("attempts") or [{}]
    return attempts[-1].get(field)


def exit_code(task: Mapping[str, Any]) -> int:
    """The task's own code; 128+N for signal N; 124 for its time limit; 1 if it never ran."""
    if task["state"] == "succeeded":
        return 0
    reason = task.get("reason") or ""
    if reason.startswith("time limit"):
        return TIME_LIMIT_CODE
    code, number = _last(task, "exit_code"), _last(task, "signal")
    if task["state"] in ENDED:
        if code:
            return int(code)
        if number:
            return 128 + int(number)
    return 1


def first_failure(tasks: Iterable[Mapping[str, Any]]) -> int:
    """The exit code of the first that did not succeed; 0 if all did."""
    return next((code for code in map(exit_code, tasks) if code), 0)


def signal_name(number: int) -> str:
    """`SIGKILL`, or `signal 99` for one without a name here."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _how_array_ended(task: Mapping[str, Any]) -> str:
    # A code or a signal would be that of one element, and nobody could tell of which.
    if task["state"] == "failed":
        failed = (task.get("elements") or {}).get("failed")
        return f"{failed} of {task['count']} elements" if failed else ""
    return "" if task["state"] == "waiting" else str(task.get("reason") or "")


def how_it_ended(task: Mapping[str, Any], *, brief: bool = False) -> str:
    """`exit code 3`, `SIGKILL`, the reason; empty for a success and while it runs.

    A task that waits to be tried again tells of its last attempt, an array how much of it failed.
    `brief` leaves out the reason of a cancelled task, which says what its state says already.
    """
    state, reason = task.get("state"), task.get("reason") or ""
    if state in ("succeeded", "running") or (brief and reason == state):
        return ""
    if "count" in task:
        return _how_array_ended(task)
    if state == "waiting":
        last = how_it_ended(dict(task) | {"state": "failed"}) if task.get("attempt") else ""
        return f"attempt {task['attempt']}: {last}" if last else ""
    if reason:
        return str(reason)
    code, number = task.get("exit_code"), task.get("signal")
    if number:
        return signal_name(int(number))
    return f"exit code {code}" if code else ""
