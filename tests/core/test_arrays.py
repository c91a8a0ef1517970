"""Arrays as one record, against a plain set of elements."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leoronic.core.arrays import ArrayRecord, split_element
from leoronic.core.records import ClassTable, Status
from leoronic.core.spec import TaskSpec

CLASS = ClassTable().intern(TaskSpec("x"))


def array(count: int) -> ArrayRecord:
    return ArrayRecord("a", 7, CLASS, count)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("k3.12", ("k3", 12)),
        ("k3.0", ("k3", 0)),
        ("v1.2.3", ("v1.2", 3)),
        ("k3", None),
        ("k3.", None),
        (".3", ("", 3)),
        ("k3.x", None),
        ("k3.-1", None),
        ("k3.²", None),
        ("k3." + "9" * 5000, None),
    ],
)
def test_ids_of_elements(task: str, expected: tuple[str, int] | None) -> None:
    """An element's id is its array's, a point and a number that is not out of this world."""
    assert expected == split_element(task)


def test_elements_are_made_in_order_and_belong_together() -> None:
    """Each is a record with the array's class and place, made when its turn comes."""
    record = array(3)
    assert 3 == record.unmade
    made = [record.next_element() for _ in range(3)]
    assert ["a.0", "a.1", "a.2"] == [element.id for element in made]
    assert {(7, CLASS, record)} == {(e.order, e.task_class, e.parent) for e in made}
    assert not record.has_more()
    assert 0 == record.unmade
    with pytest.raises(AssertionError, match="has no element 3"):
        record.next_element()


def test_the_state_of_an_array() -> None:
    """Waiting until an element starts, running until the last has ended."""
    record = array(2)
    assert "waiting" == record.state
    element = record.next_element()
    element.status = Status.RUNNING
    assert "running" == record.state
    record.end(0, "failed")
    assert "running" == record.state
    record.status = Status.HELD
    assert "held" == record.state


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (["succeeded", "succeeded"], "succeeded"),
        (["succeeded", "cancelled"], "cancelled"),
        (["cancelled", "failed"], "failed"),
    ],
)
def test_what_an_array_ends_as(ends: list[str], expected: str) -> None:
    """The worst of its elements decides."""
    record = array(2)
    assert [False, True] == [record.end(index, end) for index, end in enumerate(ends)]
    assert expected == record.final_state()


def test_an_element_is_held_with_its_array() -> None:
    """Its own reason comes first."""
    record = array(1)
    element = record.next_element()
    assert element.why_held() is None
    record.held = "by hand"
    assert "by hand" == element.why_held()


def test_a_million_with_one_far_end_known() -> None:
    """An array whose last element alone is known after a restart costs no more for it."""
    record = array(1_000_000)
    record.restore([999_999], {"cancelled": 1})
    assert ["a.0", "a.1"] == [record.next_element().id, record.next_element().id]
    assert not record.is_open(999_999)
    assert 999_997 == record.unmade


COUNT = 8
steps = st.lists(
    st.tuples(
        st.sampled_from(["next", "touch", "end", "end", "restart"]),
        st.integers(-1, COUNT),
        st.sampled_from(["succeeded", "failed", "cancelled"]),
    ),
    max_size=40,
)


@given(steps)
@settings(max_examples=300)
def test_like_plain_sets(steps: list[tuple[str, int, str]]) -> None:
    """Whatever the order of things, what is open, made and ended is as plain sets have it."""
    record = array(COUNT)
    unmade, made, ended = set(range(COUNT)), set[int](), dict[int, str]()
    for what, index, state in steps:
        if what == "next" and record.has_more():
            element = record.next_element()
            assert f"a.{min(unmade)}" == element.id
            made.add(min(unmade))
            unmade.remove(min(unmade))
        elif what == "touch" and record.is_open(index):
            assert f"a.{index}" == record.element(index).id
            unmade.discard(index)
            made.add(index)
        elif what == "end":
            if index in unmade | made:
                ended[index] = state
            unmade.discard(index)
            made.discard(index)
            assert (len(ended) == COUNT) == record.end(index, state)
        elif what == "restart":
            counts = {s: list(ended.values()).count(s) for s in set(ended.values())}
            record = array(COUNT)
            record.restore([*made, *ended], counts)
            for known in made:
                record.element(known)
        assert bool(unmade) == record.has_more()
        assert made == set(record.elements)
        assert len(unmade) == record.unmade
        assert [i in unmade | made for i in range(-1, COUNT + 1)] == [
            record.is_open(i) for i in range(-1, COUNT + 1)
        ]
        assert (len(ended) == COUNT) == record.is_done()


def test_an_element_that_turns_out_otherwise() -> None:
    """It is counted as what it is now, and so the array ends."""
    record = array(2)
    record.end(0, "failed")
    record.flip("failed", "succeeded")
    assert record.end(1, "succeeded")
    assert "succeeded" == record.final_state()
