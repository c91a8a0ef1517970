"""The window of one class: its oldest tasks, in order, and never too many."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from leoronic.core.arrays import ArrayRecord
from leoronic.core.ready import WINDOW_TASKS, ReadyClass
from leoronic.core.records import ClassTable, Record, Status
from leoronic.core.spec import TaskSpec

CLASS = ClassTable().intern(TaskSpec("x"))


def record(order: int) -> Record:
    return Record(f"t{order}", order, CLASS)


def ids(ready: ReadyClass, tasks_max: int = WINDOW_TASKS) -> list[str]:
    return [one.id for one in ready.offer(tasks_max)]


def test_oldest_first_and_no_more_than_asked_for() -> None:
    """What is offered is marked and remembered, the rest stays."""
    ready = ReadyClass(CLASS)
    records = [record(order) for order in range(5)]
    for one in records:
        ready.add(one)
    assert ["t0", "t1"] == ids(ready, 2)
    assert ["t0", "t1"] == list(ready.offered)
    assert [Status.OFFERED] * 2 + [Status.READY] * 3 == [one.status for one in records]
    assert [] == ids(ready, 0)
    assert ["t2", "t3", "t4"] == ids(ready)
    assert [] == ids(ready)


def test_what_comes_back_keeps_its_place() -> None:
    """Retries and releases go before what was submitted later."""
    ready = ReadyClass(CLASS)
    first, second, third = record(1), record(2), record(3)
    for one in (first, second, third):
        ready.add(one)
    assert ["t1", "t2"] == ids(ready, 2)
    del ready.offered["t2"], ready.offered["t1"]
    ready.add(second)
    ready.add(first)
    assert first is ready.head()
    assert ["t1", "t2", "t3"] == ids(ready)


def test_what_is_no_longer_ready_is_passed_over() -> None:
    """A task that was held or cancelled meanwhile is not offered; if it returns it is, once."""
    ready = ReadyClass(CLASS)
    held, other = record(1), record(2)
    ready.add(held)
    ready.add(other)
    held.status = Status.HELD
    assert other is ready.head()
    ready.add(held)
    ready.add(held)
    assert ["t1", "t2"] == ids(ready)


def test_give_back() -> None:
    """All that was offered is ready again, in its old order."""
    ready = ReadyClass(CLASS)
    for order in range(4):
        ready.add(record(order))
    ids(ready, 3)
    assert ["t0", "t1", "t2"] == [one.id for one in ready.give_back()]
    assert {} == ready.offered
    assert ["t0", "t1", "t2", "t3"] == ids(ready)


def test_arrays_stay_in_front_until_their_last_element() -> None:
    """Elements are made as they are offered; then comes what was submitted after the array."""
    ready = ReadyClass(CLASS)
    array = ArrayRecord("a", 1, CLASS, 3)
    ready.add(array)
    ready.add(record(2))
    assert ["a.0", "a.1"] == ids(ready, 2)
    assert Status.READY == array.status
    assert ["a.2", "t2"] == ids(ready)
    assert [Status.RUNNING] == [array.status]


def test_an_element_that_comes_back_goes_before_new_ones() -> None:
    """The retry of an element does not wait for a million others."""
    ready = ReadyClass(CLASS)
    array = ArrayRecord("a", 1, CLASS, 1_000_000)
    ready.add(array)
    assert ["a.0", "a.1"] == ids(ready, 2)
    del ready.offered["a.0"]
    ready.add(array.elements[0])
    assert ["a.0", "a.2"] == ids(ready, 2)


def test_an_array_without_more_elements_is_no_head() -> None:
    """When its rest ended one by one, the array steps aside."""
    ready = ReadyClass(CLASS)
    array = ArrayRecord("a", 1, CLASS, 2)
    ready.add(array)
    ready.add(record(2))
    ids(ready, 1)
    array.end(1, "cancelled")
    assert ["t2"] == ids(ready)
    assert Status.RUNNING == array.status
    assert 1 == len(array.elements)


steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "offer", "start", "hold", "return", "give back"]),
        st.integers(0, 20),
    ),
    max_size=50,
)


@given(steps)
@settings(max_examples=200)
def test_like_a_sorted_list(steps: list[tuple[str, int]]) -> None:
    """What is offered next is always the oldest that is ready, as sorting all would say."""
    ready = ReadyClass(CLASS)
    records: list[Record] = []
    for what, number in steps:
        if what == "add":
            records.append(record(len(records)))
            ready.add(records[-1])
        elif what == "offer":
            expected = sorted(r.order for r in records if r.status is Status.READY)[:number]
            assert expected == [one.order for one in ready.offer(number)]
        elif what == "give back":
            ready.give_back()
        elif records:
            one = records[number % len(records)]
            if what == "return" and one.status in (Status.RUNNING, Status.HELD):
                ready.add(one)
            elif what == "start" and one.status is Status.OFFERED:
                del ready.offered[one.id]
                one.status = Status.RUNNING
            elif what == "hold" and one.status in (Status.READY, Status.OFFERED):
                ready.offered.pop(one.id, None)
                one.status = Status.HELD
        assert {r.id for r in records if r.status is Status.OFFERED} == set(ready.offered)
