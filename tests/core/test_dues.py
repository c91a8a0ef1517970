"""What is due when."""

from __future__ import annotations

from leoronic.core.dues import Dues


def test_the_earliest_is_due_first_each_once() -> None:
    """In order of their times."""
    dues = Dues()
    for name, at in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
        dues.set(name, at)
    assert 1.0 == dues.first()
    assert ["a", "b"] == dues.overdue(2.0)
    assert [] == dues.overdue(2.0)
    assert 3.0 == dues.first()


def test_a_later_time_replaces_the_one_before() -> None:
    """Also an earlier one does, and none at all."""
    dues = Dues()
    dues.set("a", 1.0)
    dues.set("a", 5.0)
    assert [] == dues.overdue(4.0)
    dues.set("a", 3.0)
    assert ["a"] == dues.overdue(4.0)
    dues.set("a", 6.0)
    dues.forget("a")
    dues.forget("never")
    assert dues.first() is None


def test_what_is_set_again_and_again_takes_no_room() -> None:
    """What is left of earlier times is cleared away."""
    dues = Dues()
    for number in range(10_000):
        dues.set(f"{number % 5}", float(number))
    assert len(dues._heap) < 100
    assert 9_995.0 == dues.first()
