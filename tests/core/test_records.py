"""What is remembered of live tasks: shared classes, and why a task is held."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from leoronic.core.conditions import AllWithCmdDone, HasFile, HasTag, NotTag, QueueIsFirst
from leoronic.core.records import STATE_NAMES, ClassTable, Record, Status
from leoronic.core.resources import Need
from leoronic.core.spec import TaskSpec

SPEC = TaskSpec("x")


def test_equal_requirements_share_a_class() -> None:
    """Command, name, environment and labels make no difference."""
    table = ClassTable()
    first = table.intern(SPEC)
    assert first is table.intern(TaskSpec("y", name="n", env={"A": "b"}, labels={"l": ""}))
    assert 1 == len(table)


@pytest.mark.parametrize(
    "fields",
    [
        {"cpus": 2.0},
        {"memory": 1},
        {"storage": 1},
        {"resources": {"gpu": 1.0}},
        {"concurrent": False},
        {"conditions": ("queue:is_first",)},
        {"priority": 1},
        {"retries": 1},
        {"retry_delay": 2.0},
        {"on_loss": "hold"},
        {"node": "n"},
    ],
)
def test_what_makes_a_class_of_its_own(fields: dict[str, object]) -> None:
    """Whatever placing or trying again depends on."""
    table = ClassTable()
    assert table.intern(SPEC) is not table.intern(replace(SPEC, **fields))


def test_what_a_class_holds() -> None:
    """Needs in exact units, conditions parsed and split by who evaluates them."""
    spec = TaskSpec(
        "x",
        cpus=0.5,
        memory=7,
        storage=9,
        resources={"b": 2.0, "a": 1.0},
        concurrent=False,
        conditions=(
            "queue:is_first",
            "worker:tag t",
            "queue:all_with_cmd_done r",
            "worker:not_tag u",
            "worker:has_file f",
        ),
    )
    made = ClassTable().intern(spec)
    assert Need(500, 7, 9, (("a", 1.0), ("b", 2.0)), True) == made.need
    assert (QueueIsFirst(), AllWithCmdDone("r")) == made.gates
    assert (HasTag("t"), NotTag("u"), HasFile("f")) == made.worker


def test_a_class_goes_with_its_last_task() -> None:
    """Its number is never used again."""
    table = ClassTable()
    first = table.intern(SPEC)
    table.intern(SPEC)
    assert [False, True] == [table.release(first), table.release(first)]
    assert 0 == len(table)
    assert first.number < table.intern(SPEC).number


def test_why_a_task_is_held() -> None:
    """By hand, by a loss that nobody has looked at, or with its array."""
    table = ClassTable()
    array, element = (Record(name, 1, table.intern(SPEC)) for name in ("a", "a.0"))
    assert array.why_held() is None
    array.held = "by hand"
    assert "by hand" == array.why_held()
    array.held = None
    array.lost_hold = 2
    assert "attempt 2 was lost; look what it did, then release the task" == array.why_held()
    element.parent = array
    assert array.why_held() == element.why_held()
    array.released = 2
    assert element.why_held() is None
    array.lost_hold = 3
    assert "attempt 3 was lost" in (array.why_held() or "")


def test_each_status_of_a_live_task_has_a_state() -> None:
    """What users see is one of the states of CONTRACT."""
    assert set(Status) - {Status.FINAL} == set(STATE_NAMES)
    assert {"waiting", "blocked", "running", "held"} == set(STATE_NAMES.values())
