"""A ghost may speak fast for a moment, and not for long."""

from __future__ import annotations

import pytest

from leoronic.ghost.pace import FRAME_BYTES_MIN, Pace


def test_a_burst_is_taken_at_once() -> None:
    """Then as much as flows in."""
    pace = Pace(100.0, bytes_a_second=8192, burst_bytes=40960)
    assert [0.0] * 5 == [pace.take(8192, 100.0) for _ in range(5)]
    assert 1.0 == pytest.approx(pace.take(8192, 100.0))
    assert 1.0 == pytest.approx(pace.take(8192, 101.0))


def test_after_a_while_there_is_room_for_another() -> None:
    """But for no larger one."""
    pace = Pace(0.0, bytes_a_second=8192, burst_bytes=40960)
    pace.take(40960, 0.0)
    assert 0.0 == pace.take(40960, 1000.0)
    assert 1.0 == pytest.approx(pace.take(8192, 1000.0))


def test_small_frames_cost_more_than_their_bytes() -> None:
    """Each is work for the core, however little it says."""
    pace = Pace(0.0, bytes_a_second=FRAME_BYTES_MIN, burst_bytes=FRAME_BYTES_MIN)
    assert [0.0, 1.0] == pytest.approx([pace.take(1, 0.0) for _ in range(2)])
