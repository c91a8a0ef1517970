"""What is remembered of live tasks: shared classes, and why a task is held."""

from __future__ import annotations

from itertools import permutations

import pytest
from msgspec.structs import replace

from leoronic.core.conditions import AllWithCmdDone, HasFile, HasTag, NotTag, QueueIsFirst, Unknown
from leoronic.core.records import LOSSES_MAX, STATE_NAMES, ClassTable, Record, Status
from leoronic.core.resources import Need
from leoronic.core.runs import LOST, NO_RUNS, RunState
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


@pytest.mark.parametrize("text", ["worker:arch arm", "queue:calm 5", "worker:tag a b", ""])
def test_a_condition_of_a_newer_version(text: str) -> None:
    """Who can't read it lets no task with it start."""
    made = ClassTable().intern(TaskSpec("x", conditions=(text,)))
    assert ((Unknown(text),), ()) == (made.worker, made.gates)


def test_a_class_goes_with_its_last_task() -> None:
    """Its number is never used again."""
    table = ClassTable()
    first = table.intern(SPEC)
    table.intern(SPEC)
    assert [False, True] == [table.release(first), table.release(first)]
    assert 0 == len(table)
    assert first.number < table.intern(SPEC).number


def test_tasks_of_two_origins_are_of_two_classes() -> None:
    """So that those who own them place them apart."""
    table = ClassTable()
    here, there = table.intern(SPEC, "a"), table.intern(SPEC, "b")
    assert here is not there
    assert ("a", "b") == (here.origin, there.origin)
    assert there is table.intern(SPEC, "b")


def test_why_a_task_is_held() -> None:
    """By hand, by a loss that nobody has looked at, or with its array."""
    table = ClassTable()
    array, element = (Record(name, 1, table.intern(SPEC)) for name in ("a", "a.0"))
    assert array.why_held() is None
    array.held = "by hand"
    assert "by hand" == array.why_held()
    array.held = None
    array.runs_to_change().join((2, "n"), RunState(LOST, hold=True))
    assert "attempt 2 was lost; look what it did, then release the task" == array.why_held()
    element.parent = array
    assert array.why_held() == element.why_held()
    array.released = 2
    assert element.why_held() is None
    array.runs_to_change().join((3, "n"), RunState(LOST, hold=True))
    assert "attempt 3 was lost" in (array.why_held() or "")


def test_the_last_word_on_holding_a_task() -> None:
    """The highest revision; of equal ones the hold, and of equal holds always the same."""
    words: list[tuple[int, str | None]] = [(1, "a"), (2, None), (2, "b"), (2, "c"), (1, "z")]
    for order in permutations(words):
        record = Record("a", 1, ClassTable().intern(SPEC))
        for word in order:
            record.join_hold(*word)
        assert (2, "c") == (record.revision, record.held)
    assert not record.join_hold(2, "c")


def test_one_loss_too_many_holds() -> None:
    """Whether the next one does is known in advance."""
    record = Record("a", 1, ClassTable().intern(SPEC))
    for attempt in range(1, LOSSES_MAX):
        assert not record.hold_if_lost()
        record.runs_to_change().join((attempt, "n"), RunState(LOST))
    assert record.hold_if_lost()


def test_what_never_ran_shares_nothing_that_changes() -> None:
    """A waiting task has no runs of its own; one that gets some doesn't give them to others."""
    one, other = (Record(name, 1, ClassTable().intern(SPEC)) for name in ("a", "b"))
    assert one.runs is NO_RUNS
    one.runs_to_change().join((1, "n"), RunState(LOST))
    assert ({}, {}) == (NO_RUNS.phases(), other.runs.phases())


def test_each_status_of_a_live_task_has_a_state() -> None:
    """What users see is one of the states of CONTRACT."""
    assert set(Status) - {Status.FINAL} == set(STATE_NAMES)
    assert {"waiting", "blocked", "running", "held"} == set(STATE_NAMES.values())
