"""Forgetting what is past retention."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from leoronic.actors import history
from leoronic.actors.history import MARGIN_S, SLICE_TASKS, HistoryActor
from leoronic.actors.journal import Trim
from leoronic.errors import ActorGone, DiskFull, LeoronicError
from tests.actors.recorder import Recorder
from tests.runtime.actors import child, running, until

DAY_S = 86400.0


async def test_slices_until_nothing_is_left(tmp_path: Path, monkeypatch: Any) -> None:
    """Each asks for the same time; an hour later it looks again."""
    monkeypatch.setattr(history, "PAUSE_S", 0.0)
    counts = [SLICE_TASKS, 3, 0]
    journal = Recorder(lambda message: counts.pop(0))
    before = time.time() - 5 * DAY_S
    async with running(
        child("journal", lambda: journal),
        child("replication", lambda: Recorder(lambda message: {"a": 7})),
        child("history", lambda: HistoryActor(tmp_path, 5 * DAY_S)),
    ):
        asked = await journal.first(3)
    assert {SLICE_TASKS} == {trim.tasks_max for trim in asked}
    assert 1 == len({trim.before for trim in asked})
    assert [{"a": 7}] * 3 == [trim.stable for trim in asked]
    assert before <= asked[0].before <= time.time() - 5 * DAY_S
    assert isinstance(asked[0], Trim)


@pytest.mark.parametrize("error", [DiskFull("full"), ActorGone("between two lives")])
async def test_trouble_is_waited_out(
    tmp_path: Path, monkeypatch: Any, error: LeoronicError
) -> None:
    """A full disk, or a journal that is being restarted, does not end it: it tries again later."""
    monkeypatch.setattr(history, "EVERY_S", 0.0)
    answers: list[Any] = [error, error, 0]
    journal = Recorder(lambda message: answers.pop(0) if answers else 0)
    async with running(
        child("journal", lambda: journal),
        child("replication", lambda: Recorder(lambda message: {})),
        child("history", lambda: HistoryActor(tmp_path, 1.0)),
    ) as tree:
        await journal.until(lambda messages: len(messages) > 3)
        assert {0} == {line["restarts"] for line in tree.statistics()}


async def test_nothing_is_forgotten_while_somebody_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it holds would come back with it; when all have caught up, it goes."""
    monkeypatch.setattr(history, "EVERY_S", 0.0)
    answers: list[Any] = [None, ActorGone("between two lives"), None]
    replication = Recorder(lambda message: answers.pop(0) if answers else {"a": 1})
    journal = Recorder(lambda message: 0)
    async with running(
        child("journal", lambda: journal),
        child("replication", lambda: replication),
        child("history", lambda: HistoryActor(tmp_path, 1.0)),
    ):
        [first, *_] = await journal.first_of(1)
    assert ({"a": 1}, []) == (first.stable, answers)


async def test_old_output_is_removed(tmp_path: Path) -> None:
    """By the age of its last byte, with a margin; folders are somebody else's."""
    now = time.time()
    old, young, folder = tmp_path / "old", tmp_path / "young", tmp_path / "folder"
    for path in (old, young):
        path.write_bytes(b"x")
    folder.mkdir()
    os.utime(old, (now, now - DAY_S - MARGIN_S - 60))
    os.utime(young, (now, now - DAY_S - MARGIN_S + 60))
    os.utime(folder, (now, 0.0))
    async with running(
        child("journal", lambda: Recorder(lambda message: 0)),
        child("replication", lambda: Recorder(lambda message: {})),
        child("history", lambda: HistoryActor(tmp_path, DAY_S)),
    ):
        await until(lambda: not old.exists())
    assert ["folder", "young"] == sorted(path.name for path in tmp_path.iterdir())


async def test_no_output_yet(tmp_path: Path) -> None:
    """A folder that is not there yet is no trouble."""
    HistoryActor(tmp_path / "nowhere", 1.0)._remove_output(time.time())
