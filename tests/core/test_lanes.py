"""Lanes: nothing runs twice, no share is lost or made, nobody waits beside a free slot."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from leoronic.core.lanes import BEHIND_MAX, CLASSES_MAX, Lanes
from leoronic.core.run import AttemptKey


def key(name: str) -> AttemptKey:
    return (name, 1)


def lanes(*heads: str) -> Lanes[int]:
    made: Lanes[int] = Lanes()
    for head in heads:
        made.open(key(head), 1)
    return made


def test_the_shortest_lane_is_joined() -> None:
    """Of its class; without one of its class there is nothing to join."""
    made = lanes("a", "b")
    assert [True] * 3 == [made.join(key(name), 1) for name in "cde"]
    assert [key("a"), key("b"), key("c")] == [made.before(key(name)) for name in "cde"]
    assert made.is_queued(key("c"))
    assert not made.is_queued(key("a"))
    assert made.before(key("a")) is None
    assert not made.join(key("f"), 2)


def test_a_lane_has_an_end() -> None:
    """No more than `BEHIND_MAX` stand behind one."""
    made = lanes("a")
    assert [True] * BEHIND_MAX == [made.join((str(n), 1), 1) for n in range(BEHIND_MAX)]
    assert not made.join(key("more"), 1)


def test_the_next_takes_over() -> None:
    """In order, with the rest of the lane behind it; nobody moved."""
    made = lanes("a")
    for name in "bc":
        made.join(key(name), 1)
    assert key("b") == made.advance(key("a"))
    assert key("b") == made.before(key("c"))
    assert key("c") == made.advance(key("b"))
    assert made.advance(key("c")) is None
    assert made.advance(key("c")) is None
    assert [] == made.take_moved()
    assert not made.join(key("d"), 1)


def test_the_last_of_the_longest_lane_moves_to_a_free_one() -> None:
    """It is named as moved, once; the lane that it left is undisturbed."""
    made = lanes("a", "b")
    for name in "cdef":
        made.join(key(name), 1)
    assert [key("c"), key("e")] == [made.advance(key("a")), made.advance(key("c"))]
    assert key("f") == made.advance(key("e"))
    assert [key("f")] == made.take_moved()
    assert [] == made.take_moved()
    assert key("b") == made.before(key("d"))


def test_who_leaves_is_passed_over() -> None:
    """The one behind it stands behind the one before it."""
    made = lanes("a")
    for name in "bcd":
        made.join(key(name), 1)
    made.leave(key("c"))
    assert key("b") == made.before(key("d"))
    assert not made.is_queued(key("c"))


def test_more_is_wanted_only_of_short_tasks() -> None:
    """Thirty milliseconds of work for each that runs; nothing is known of a class at first."""
    made = lanes("a", "b")
    assert {} == made.wants()
    made.note_duration(1, 0.004)
    assert {1: 14} == made.wants()
    made.join(key("c"), 1)
    assert {1: 13} == made.wants()
    for name in "defghij":
        made.join(key(name), 1)
    assert {} == made.wants()  # less than half is missing: not worth a message


def test_slow_tasks_want_nobody_behind() -> None:
    """The running mean follows what a class does now."""
    made = lanes("a")
    made.note_duration(1, 0.001)
    assert {1: 16} == made.wants()
    for _ in range(30):
        made.note_duration(1, 1.0)
    assert {} == made.wants()


def test_durations_of_old_classes_are_forgotten() -> None:
    """Their number is bounded."""
    made: Lanes[int] = Lanes()
    for number in range(CLASSES_MAX + 5):
        made.note_duration(number, 0.1)
    assert 5 == len(made._mean_s)


steps = st.lists(
    st.tuples(
        st.sampled_from(["open", "join", "join", "end", "leave"]),
        st.integers(0, 20),
        st.integers(1, 2),
    ),
    max_size=60,
)


@given(steps)
@settings(max_examples=200)
def test_shares_are_conserved(steps: list[tuple[str, int, int]]) -> None:
    """Each attempt runs at most once; slots come by opening and go only when nobody waits."""
    made: Lanes[int] = Lanes()
    running: dict[AttemptKey, int] = {}
    behind: dict[AttemptKey, int] = {}
    ran: set[AttemptKey] = set()
    for number, (what, pick, class_number) in enumerate(steps):
        new = (f"t{number}", 1)
        if what == "open":
            made.open(new, class_number)
            running[new] = class_number
            ran.add(new)
        elif what == "join":
            if made.join(new, class_number):
                assert class_number in running.values()
                behind[new] = class_number
        elif what == "end" and running:
            ended = list(running)[pick % len(running)]
            of_class = running.pop(ended)
            successor = made.advance(ended)
            waiting = [k for k, c in behind.items() if c == of_class]
            assert (successor is None) == (not waiting)
            if successor is not None:
                assert successor not in ran
                ran.add(successor)
                assert of_class == behind.pop(successor)
                running[successor] = of_class
        elif what == "leave" and behind:
            gone = list(behind)[pick % len(behind)]
            made.leave(gone)
            del behind[gone]
        for one in behind:
            assert made.is_queued(one)
            before = made.before(one)
            assert before in running or before in behind
        assert not any(made.is_queued(one) for one in running)
    for one in made.take_moved():
        assert one in ran
