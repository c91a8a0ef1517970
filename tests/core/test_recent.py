"""The newest entries of a journal, kept as they were pushed."""

from __future__ import annotations

from leoronic.core.peer import Push
from leoronic.core.recent import Recent


def push(first: int, count: int = 1) -> Push:
    return Push("n", b"x" * 10, first, count)


def test_what_closes_the_gap() -> None:
    """All that brings something new; None if older ones would be needed."""
    recent = Recent()
    for one in (push(4, 2), push(6), push(7)):
        recent.add(one)
    assert [push(4, 2), push(6), push(7)] == recent.past(4)
    assert [push(7)] == recent.past(6)
    assert [] == recent.past(7)
    assert None is recent.past(2)


def test_a_gap_begins_it_anew() -> None:
    """What comes before it would be pushed without what follows."""
    recent = Recent()
    recent.add(push(1))
    recent.add(push(3))
    assert None is recent.past(1)
    assert [push(3)] == recent.past(2)


def test_what_may_be_forgotten_is_not_pushed() -> None:
    """It may be gone from the disk, and whoever asks must be told so."""
    recent = Recent()
    for one in (push(1, 3), push(4), push(5)):
        recent.add(one)
    recent.forget(2)
    assert None is recent.past(2)
    assert [push(4), push(5)] == recent.past(3)
    recent.forget(9)
    assert None is recent.past(5)
