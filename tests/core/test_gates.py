"""Conditions on the queue, gate by gate."""

from __future__ import annotations

from leoronic.core.gates import Gates, search
from leoronic.core.records import ClassTable, Record, Status, TaskClass
from leoronic.core.spec import TaskSpec

TABLE = ClassTable()
PLAIN = TABLE.intern(TaskSpec("x"))
FIRST = TABLE.intern(TaskSpec("x", conditions=("queue:is_first",)))
MAKE = TABLE.intern(TaskSpec("x", conditions=("queue:all_with_cmd_done ^make",)))
MAKE2 = TABLE.intern(TaskSpec("x", conditions=("queue:all_with_cmd_done ^make",), memory=1))
BOTH = TABLE.intern(
    TaskSpec("x", conditions=("queue:all_with_cmd_done ^make", "queue:all_with_cmd_done b$"))
)


def known(*classes: TaskClass) -> Gates:
    """Gates of these classes, for which nothing matches so far."""
    gates = Gates()
    for task_class in classes:
        for regex in gates.add_class(task_class, list):
            gates.matched(regex, [], lambda task: None)
    return gates


def test_each_regex_is_asked_for_once() -> None:
    """Not again for another class that uses it, but again after all of them have gone."""
    gates = Gates()
    assert ["^make"] == gates.add_class(MAKE, list)
    assert [] == gates.add_class(MAKE2, list)
    assert ["b$"] == gates.add_class(BOTH, list)
    for task_class in (MAKE, MAKE2, BOTH):
        gates.drop_class(task_class)
    assert ["^make"] == gates.add_class(MAKE, list)


def test_shut_until_the_journal_has_answered() -> None:
    """Nobody starts on a guess."""
    gates = Gates()
    gates.add_class(MAKE, list)
    assert gates.is_shut(MAKE)
    assert ["looking for tasks that match '^make'"] == gates.reasons(MAKE)
    assert {MAKE.number} == gates.matched(
        "^make", ["a", "gone", "me"], {"a": 99, "me": MAKE.number}.get
    )
    assert gates.is_shut(MAKE)
    assert ["queue:all_with_cmd_done ^make: 1 not done yet, such as a"] == gates.reasons(MAKE)
    assert {MAKE.number} == gates.task_ended("a")
    assert not gates.is_shut(MAKE)
    assert [] == gates.reasons(MAKE)


def test_an_answer_nobody_waits_for_is_ignored() -> None:
    """The class has gone meanwhile."""
    assert set() == Gates().matched("^make", ["a"], lambda task: 1)


def test_a_matching_task_closes_the_gate_again() -> None:
    """It is tested when it is submitted; those that carry the condition do not count."""
    gates = known(MAKE, BOTH)
    assert set() == gates.task_added("a", TaskSpec("other"), PLAIN)
    assert set() == gates.task_added("a", TaskSpec("make"), MAKE)
    assert {MAKE.number, BOTH.number} == gates.task_added("b", TaskSpec(["make x"]), PLAIN)
    assert gates.is_shut(MAKE)
    assert {BOTH.number} == gates.task_added("c", TaskSpec("b"), MAKE)
    gates.task_ended("b")
    assert (False, True) == (gates.is_shut(MAKE), gates.is_shut(BOTH))
    assert set() == gates.task_ended("zzz")


def test_who_is_first() -> None:
    """No earlier task still waits for its turn; what runs, is held or blocked does not."""
    gates = Gates()
    live = {name: Record(name, order, PLAIN) for order, name in enumerate("abc")}
    gates.add_class(FIRST, live.values)
    assert gates.wants_first(FIRST)
    assert not gates.wants_first(PLAIN)
    assert gates.is_first(live["a"], live)
    assert not gates.is_first(live["b"], live)
    live["a"].status = Status.RUNNING
    assert gates.is_first(live["b"], live)
    live["a"].status = Status.DELAYED
    gates.task_waits(live["a"])
    assert not gates.is_first(live["b"], live)
    live["a"].status = Status.HELD
    live["b"].status = Status.BLOCKED
    assert gates.is_first(live["c"], live)


def test_what_no_node_can_run_is_in_nobodys_way() -> None:
    """It counts again as soon as a node could."""
    infeasible: dict[int, list[str]] = {PLAIN.number: ["too big"]}
    gates = Gates(infeasible)
    live = {name: Record(name, order, PLAIN) for order, name in enumerate("ab")}
    gates.add_class(FIRST, live.values)
    assert gates.is_first(live["b"], live)
    infeasible.clear()
    gates.task_waits(live["a"])
    assert not gates.is_first(live["b"], live)


def test_nothing_is_kept_when_nobody_wants_to_be_first() -> None:
    """The list of those that wait exists only while it is of use."""
    gates = Gates()
    one = Record("a", 1, PLAIN)
    gates.task_waits(one)
    assert [] == gates._waiting
    gates.add_class(FIRST, lambda: [one])
    gates.task_waits(one)
    gates.drop_class(FIRST)
    assert [] == gates._waiting


def test_search() -> None:
    """Anywhere in the command, lines of a list joined."""
    assert search("b.*c", TaskSpec("abcd"))
    assert search("^y", TaskSpec(["x", "y"])) is False
    assert search("(?m)^y", TaskSpec(["x", "y"]))


def test_a_regex_that_cannot_be_used_any_more_keeps_its_tasks_waiting() -> None:
    """Nobody starts on a guess, nothing breaks, and the reason is told."""
    gates = Gates()
    bad = TABLE.intern(TaskSpec("x", conditions=("queue:all_with_cmd_done (?=a)",)))
    assert [] == gates.add_class(bad, list)
    assert set() == gates.task_added("a", TaskSpec("a"), PLAIN)
    gates.matched("(?=a)", [], lambda task: None)
    assert gates.is_shut(bad)
    (reason,) = gates.reasons(bad)
    assert "look ahead" in reason
    assert search("(?=a)", TaskSpec("b"))
    gates.drop_class(bad)
    assert not gates.is_shut(PLAIN)
