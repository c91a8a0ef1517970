"""Task objects, as CONTRACT has them."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from leoronic.actors.views import (
    attempt_object,
    change_object,
    error_object,
    rfc3339,
    split_object,
    task_object,
)
from leoronic.core.blob import FileRef
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.queue_messages import Change, LiveTask
from leoronic.core.spec import After, TaskSpec
from leoronic.errors import BadRequest, NotFound
from leoronic.journal.rows import AttemptRow, TaskRow
from leoronic.journal.splits import Split, Suspicion

NAMES = {"id1": "one"}
GOOD = Outcome(
    100.25, 101.5, exit_code=0, peak_memory=7, cpu_seconds=0.5, stdout=StreamRef(3, b"hi\n")
)
CUT = Outcome(100.0, 101.0, signal=9, reason="time limit 1 s", stragglers=2)


def row(spec: TaskSpec | None = None, **fields: Any) -> TaskRow:
    defaults: dict[str, Any] = {
        "order": 4,
        "id": "a",
        "state": None,
        "submitted_at": 99.0,
        "ended_at": None,
        "held": None,
        "elements": None,
        "succeeded": None,
        "failed": None,
        "origin": "id1",
        "spec": spec or TaskSpec("x"),
        "source": "socket",
        "redo_of": "",
    }
    return TaskRow(**{**defaults, **fields})


def attempt(outcome: Outcome | None = None, **fields: Any) -> AttemptRow:
    defaults: dict[str, Any] = {
        "task": "a",
        "attempt": 1,
        "node": "id1",
        "started_at": 100.0,
        "ended_at": outcome.finished_at if outcome else None,
        "final_state": None,
        "lost": None,
        "outcome": outcome,
    }
    return AttemptRow(**{**defaults, **fields})


def live(state: str, *reasons: str, **fields: Any) -> LiveTask:
    defaults: dict[str, Any] = {"order": 4, "attempt": 0, "node": "", "class_number": 1}
    return LiveTask("a", state=state, reasons=list(reasons), **{**defaults, **fields})


def test_files() -> None:
    """What a task brings and what it left, as lists; and which task it was answered from."""
    brought = (FileRef("in/a", "a", "s2:1", 5), FileRef("task:b/c", task="b", output="c"))
    spec = TaskSpec("x", files=brought, cached_from="other")
    left = (FileRef("out", digest="s2:2", size=7),)
    outcome = structs.replace(GOOD, outputs=left, output_problems=("no file matches *.x",))
    ended = attempt(outcome, final_state="succeeded")
    shown = task_object("a", row(spec, state="succeeded"), [ended], None, NAMES)
    assert [
        {"path": "in/a", "size": 5, "digest": "s2:1"},
        {"path": "task:b/c", "size": None, "digest": None},
    ] == shown["files"]
    assert [{"path": "out", "size": 7, "digest": "s2:2"}] == shown["outputs"]
    assert (["no file matches *.x"], "other") == (shown["output_problems"], shown["cached_from"])
    waiting = task_object("a", row(), [], live("waiting"), NAMES)
    assert ([], [], None) == (waiting["outputs"], waiting["files"], waiting["cached_from"])


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (None, None),
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_800_000_000.1239, "2027-01-15T08:00:00.123Z"),
    ],
)
def test_times(at: float | None, expected: str | None) -> None:
    """RFC 3339 in UTC, to the millisecond."""
    assert expected == rfc3339(at)


def test_everything_the_contract_promises() -> None:
    """A task that ended: all fields are there."""
    shown = task_object(
        "a",
        row(TaskSpec("x", name="n", after=(After("z"),)), state="succeeded", ended_at=101.5),
        [attempt(GOOD, final_state="succeeded")],
        None,
        NAMES,
    )
    expected = {
        "id": "a",
        "name": "n",
        "state": "succeeded",
        "command": "x",
        "submitted_at": "1970-01-01T00:01:39.000Z",
        "started_at": "1970-01-01T00:01:40.250Z",
        "finished_at": "1970-01-01T00:01:41.500Z",
        "origin": "one",
        "node": "one",
        "attempt": 1,
        "exit_code": 0,
        "signal": None,
        "reason": "",
        "peak_memory": 7,
        "cpu_seconds": 0.5,
        "stdout_bytes": 3,
        "stderr_bytes": 0,
        "stragglers": 0,
        "order": 4,
        "source": "socket",
        "after": [{"id": "z", "when": "succeeded"}],
        "conditions": [],
        "cpus": 1.0,
    }
    assert expected == {key: shown[key] for key in expected}
    assert 1 == len(shown["attempts"])
    assert not {"index", "count", "elements", "redo_of", "reasons"} & set(shown)


@pytest.mark.parametrize(
    ("made", "state", "reason"),
    [
        (attempt(), "running", ""),
        (attempt(GOOD), "succeeded", ""),
        (attempt(CUT), "failed", "time limit 1 s"),
        (attempt(Outcome(1.0, 2.0, signal=15, reason="cancelled")), "cancelled", "cancelled"),
        (attempt(lost="the runner is gone", ended_at=5.0), "lost", "the runner is gone"),
        (attempt(ended_at=5.0, final_state="cancelled"), "cancelled", ""),
        (attempt(Outcome(1.0, 2.0, signal=15, reason="superseded")), "superseded", "superseded"),
        (attempt(GOOD, lost="node one is down"), "succeeded", ""),
    ],
)
def test_states_of_an_attempt(made: AttemptRow, state: str, reason: str) -> None:
    """With the reason, when something other than the task itself ended it."""
    shown = attempt_object(made, NAMES)
    assert (state, reason) == (shown["state"], shown["reason"])


def test_a_task_that_waits() -> None:
    """No attempt, no times, no node; the reasons of the queue."""
    shown = task_object("a", row(), [], live("blocked", "because", "and"), NAMES)
    assert ("blocked", "because", ["because", "and"]) == (
        shown["state"],
        shown["reason"],
        shown["reasons"],
    )
    assert [None] * 4 == [shown[k] for k in ("started_at", "finished_at", "node", "exit_code")]
    assert (0, []) == (shown["attempt"], shown["attempts"])


def test_a_task_that_runs_again() -> None:
    """The last attempt counts; the earlier ones are listed."""
    attempts = [attempt(CUT), attempt(attempt=2, started_at=200.0, node="id2")]
    shown = task_object("a", row(), attempts, live("running", attempt=2, node="id2"), NAMES)
    assert ("running", 2, "id2", None, "", None) == tuple(
        shown[key] for key in ("state", "attempt", "node", "exit_code", "reason", "finished_at")
    )
    assert ["failed", "running"] == [one["state"] for one in shown["attempts"]]


def test_runs_of_both_sides_of_a_split() -> None:
    """All are listed, by (attempt, node); the task is told by the one that won."""
    won = attempt(GOOD, attempt=1, node="id2", final_state="succeeded")
    other = attempt(CUT, attempt=1, node="id1")
    stopped = attempt(Outcome(1.0, 2.0, signal=15, reason="superseded"), attempt=2, node="id1")
    shown = task_object(
        "a", row(state="succeeded", ended_at=101.5), [stopped, won, other], None, NAMES
    )
    assert [
        (1, "one", "failed", False),
        (1, "id2", "succeeded", True),
        (2, "one", "superseded", False),
    ] == [(run["attempt"], run["node"], run["state"], run["won"]) for run in shown["attempts"]]
    assert ("id2", 1, 0, "", "1970-01-01T00:01:40.250Z") == tuple(
        shown[key] for key in ("node", "attempt", "exit_code", "reason", "started_at")
    )


def test_two_runs_that_go_on() -> None:
    """Until one wins, the last in order of (attempt, node) is the task's."""
    runs = [attempt(attempt=1, node="id2"), attempt(attempt=1, node="id1")]
    shown = task_object("a", row(), runs, live("running", attempt=1, node="id2"), NAMES)
    assert ("id2", 1, ["running"] * 2) == (
        shown["node"],
        shown["attempt"],
        [run["state"] for run in shown["attempts"]],
    )


def test_a_split() -> None:
    """Who ran it, who was suspected, and the time of those that did not win."""
    won = attempt(GOOD, node="id2", final_state="succeeded")
    lost = attempt(node="id1", ended_at=107.5, lost="node one is down")
    suspicion = Suspicion("id1", "id3", 103.0, "silent for 5 s")
    shown = split_object(Split("a", [won, lost], [suspicion], None), "n", NAMES)
    assert ("a", "n", 7.5, None) == tuple(
        shown[key] for key in ("id", "name", "seconds_lost", "outputs_differ")
    )
    assert [("one", False), ("id2", True)] == [(r["node"], r["won"]) for r in shown["runs"]]
    assert [
        {
            "node": "one",
            "by": "id3",
            "at": "1970-01-01T00:01:43.000Z",
            "reason": "silent for 5 s",
        }
    ] == shown["suspicions"]


def test_a_split_that_is_not_decided() -> None:
    """What may still win is not lost."""
    runs = [attempt(node="id1", ended_at=101.0, lost="gone"), attempt(node="id2")]
    shown = split_object(Split("a", runs, [], None), "", NAMES)
    assert (1.0, None, [False, False]) == (
        shown["seconds_lost"],
        shown["name"],
        [run["won"] for run in shown["runs"]],
    )


def test_errors() -> None:
    """With the places of mistakes, if there are any."""
    assert {"code": "not_found", "message": "m", "definite": True} == error_object(NotFound("m"))
    assert ["p"] == error_object(BadRequest("m", ["p"]))["problems"]


def test_a_cancelled_task() -> None:
    """That is its reason, whatever its last attempt came to."""
    cancelled = row(state="cancelled", ended_at=9.0)
    shown = task_object("a", cancelled, [attempt(GOOD)], None, NAMES)
    assert ("cancelled", "cancelled") == (shown["state"], shown["reason"])


def test_an_array() -> None:
    """Live elements from the queue, ended ones from the disk."""
    array = row(TaskSpec("x", count=9), elements=9)
    counts = {"running": 1, "waiting": 8}
    shown = task_object("a", array, [], live("running", elements=counts), NAMES)
    assert (9, counts) == (shown["count"], shown["elements"])
    ended = row(
        TaskSpec("x", count=9), elements=9, succeeded=4, failed=2, state="failed", ended_at=9.0
    )
    shown = task_object("a", ended, [attempt(CUT, task="a.3")], None, NAMES)
    assert {"succeeded": 4, "failed": 2, "cancelled": 3} == shown["elements"]
    assert "time limit 1 s" == shown["reason"]


def test_elements() -> None:
    """Their state is their own last word, else the array's."""
    spec = TaskSpec("x", items=["p", "q"])
    ended = attempt(GOOD, task="a.1", final_state="succeeded")
    shown = task_object("a.1", row(spec, elements=2), [ended], None, NAMES)
    assert (1, "q", "succeeded", "1970-01-01T00:01:41.500Z") == tuple(
        shown[key] for key in ("index", "item", "state", "finished_at")
    )
    assert "count" not in shown
    waits = task_object("a.0", row(spec, elements=2), [], None, NAMES)
    assert "waiting" == waits["state"]
    gone = task_object(
        "a.0", row(spec, elements=2, state="cancelled", ended_at=9.0), [], None, NAMES
    )
    assert ("cancelled", "1970-01-01T00:00:09.000Z") == (gone["state"], gone["finished_at"])


def test_an_element_cancelled_before_its_turn_has_no_attempt() -> None:
    """The row that says so is not one."""
    marker = attempt(
        task="a.0", attempt=0, node="", started_at=None, ended_at=5.0, final_state="cancelled"
    )
    shown = task_object("a.0", row(TaskSpec("x", count=2), elements=2), [marker], None, NAMES)
    assert ("cancelled", 0, [], None) == (
        shown["state"],
        shown["attempt"],
        shown["attempts"],
        shown["node"],
    )


def test_an_element_cancelled_while_it_ran() -> None:
    """It is cancelled, and its attempt is listed."""
    marker = attempt(attempt=0, node="", started_at=None, ended_at=5.0, final_state="cancelled")
    killed = attempt(Outcome(1.0, 2.0, signal=15, reason="cancelled"))
    array = row(TaskSpec("x", count=2), elements=2)
    shown = task_object("a.0", array, [marker, killed], None, NAMES)
    assert ("cancelled", 1, "cancelled") == (shown["state"], shown["attempt"], shown["reason"])


def test_a_redo_names_what_it_redoes() -> None:
    """Nobody else carries the field."""
    assert "z" == task_object("a", row(redo_of="z"), [], None, NAMES)["redo_of"]


def test_a_line_of_watch() -> None:
    """Nodes by name; none yet is null."""
    assert {
        "id": "a",
        "state": "running",
        "attempt": 2,
        "node": "one",
        "at": "1970-01-01T00:00:01.000Z",
        "reason": "r",
    } == change_object(Change("a", "running", 2, "id1", 1.0, "r"), NAMES)
    assert change_object(Change("a", "waiting", 0, "", 1.0), NAMES)["node"] is None
