"""How many calls are handed over ahead."""

from __future__ import annotations

from leoronic.remote.pace import ROOM_MAX, Pace


def test_a_limit_is_a_limit() -> None:
    """Whatever ends how quickly."""
    pace = Pace(3, 3.0, now=0.0)
    for n in range(1000):
        pace.ended(n * 0.0001)
    assert 3 == pace.room


def test_long_calls_have_one_that_follows() -> None:
    """Two for each that can run, as soon as nothing is known and as long as calls are long."""
    pace = Pace(None, 2.0, now=0.0)
    assert 4 == pace.room
    for n in range(1, 20):
        pace.ended(n * 1.0)
    assert 4 == pace.room


def test_short_calls_are_handed_over_ahead() -> None:
    """As many as end in a tenth of a second; when they get long, that ends."""
    pace = Pace(None, 2.0, now=0.0)
    for n in range(1, 1001):
        pace.ended(n * 0.001)
    assert 90 < pace.room < 115
    pace.ended(31.0)
    assert 4 == pace.room


def test_it_is_bounded() -> None:
    """Also where millions seem to end at once."""
    pace = Pace(None, 2.0, now=0.0)
    for _ in range(1_000_000):
        pace.ended(0.0199)
    pace.ended(0.02)
    assert ROOM_MAX == pace.room


def test_slots_may_change() -> None:
    """Nodes come and go; a part of a processor is room for one."""
    pace = Pace(None, 2.0, now=0.0)
    pace.slots = 7.5
    assert 16 == pace.room
    pace.slots = 0.25
    assert 2 == pace.room
