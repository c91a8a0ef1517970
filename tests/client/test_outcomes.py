"""The exit code that stands for how a task ended."""

from __future__ import annotations

from typing import Any

import pytest
from fake_node import task

from leoronic.client import outcomes


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 0),
        ({"state": "failed", "exit_code": 3}, 3),
        ({"state": "failed", "exit_code": None, "signal": 9}, 137),
        ({"state": "failed", "exit_code": None, "attempts": [{"signal": 15}]}, 143),
        ({"state": "failed", "signal": 15, "exit_code": None, "reason": "time limit 5 s"}, 124),
        ({"state": "failed", "exit_code": None, "reason": "cannot start: no bash"}, 1),
        ({"state": "failed", "exit_code": 0, "reason": "killed: memory 512 MiB"}, 1),
        ({"state": "cancelled", "exit_code": None}, 1),
        ({"state": "blocked", "exit_code": None}, 1),
    ],
)
def test_exit_codes(fields: dict[str, Any], expected: int) -> None:
    """The task's own code, 128+N for signal N, 124 for its time limit, else 1."""
    assert expected == outcomes.exit_code(task(**fields))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ""),
        ({"state": "running", "exit_code": 3, "attempt": 2}, ""),
        ({"state": "waiting", "attempt": 0}, ""),
        ({"state": "waiting", "attempt": 1, "exit_code": 3}, "attempt 1: exit code 3"),
        ({"state": "failed", "exit_code": 3}, "exit code 3"),
        ({"state": "blocked", "reason": "needs 77b1"}, "needs 77b1"),
        ({"state": "cancelled", "reason": "cancelled"}, "cancelled"),
        ({"state": "failed", "exit_code": 7, "count": 30, "elements": {"failed": 2}},
         "2 of 30 elements"),
        ({"state": "waiting", "attempt": 1, "reason": "time limit 5 s", "count": 30}, ""),
        ({"state": "held", "reason": "held by hand", "count": 30}, "held by hand"),
    ],
)  # fmt: skip
def test_in_words(fields: dict[str, Any], expected: str) -> None:
    """What ended it; of a task that will be tried again, its last attempt."""
    assert expected == outcomes.how_it_ended(task(**fields))


def test_the_first_failure_counts() -> None:
    """Of several tasks the first that failed, in the order given, gives the code."""
    tasks = [task(), task(state="failed", exit_code=4), task(state="failed", exit_code=5)]
    assert outcomes.first_failure(tasks) == 4
    assert outcomes.first_failure(tasks[:1]) == 0
