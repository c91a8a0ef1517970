"""What a node notes of itself from one life to the next."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from leoronic.lives import next_life


def test_copies_that_start_together_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two copies of one folder: even if they begin within the same millisecond, one is later."""
    for name in "ab":
        (tmp_path / name).write_text("17\n")
    monkeypatch.setattr(time, "time_ns", iter([1_800_000_000_000_000_000] * 2).__next__)
    first = next_life(tmp_path / "a")
    monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000_000_050_000)
    assert first < next_life(tmp_path / "b") < 2**52


def test_a_life_is_greater_than_all_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the clock goes back; and what cannot be read counts as none."""
    path = tmp_path / "life"
    path.write_text("nonsense")
    first = next_life(path)
    monkeypatch.setattr(time, "time_ns", lambda: 5)
    assert [first + 1, first + 2] == [next_life(path), next_life(path)]
