"""Beginning anew: the order, the journal set aside, and what is carried into the next one."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from leoronic.actors import carrying
from leoronic.actors.carrying import CarryingActor, begin_anew, note_begin_anew
from leoronic.actors.nodes import Nodes
from leoronic.core.entries import Submitted
from leoronic.core.queue_messages import Accepted, SubmitSpecs
from leoronic.core.spec import TaskSpec
from leoronic.errors import BadRequest, Unavailable
from leoronic.journal.database import open_database
from leoronic.journal.journal import Journal
from leoronic.journal.leaving import Carried
from tests.actors.peered import member, view
from tests.actors.recorder import Recorder
from tests.runtime.actors import child, running, until

KEPT_S = 100.0
NOW = 1_700_000_000.0


def with_journal(folder: Path, *tasks: str) -> None:
    opened = open_database(folder / "leoronic.db", first_start=True)
    journal = Journal(opened.connection, opened.node)
    journal.write([Submitted(task, TaskSpec("x"), 100.0) for task in tasks])
    journal.commit()
    opened.connection.close()


def test_no_order(tmp_path: Path) -> None:
    """A start like any other changes nothing."""
    with_journal(tmp_path, "t1")
    assert "" == begin_anew(tmp_path, 0.0)
    assert ["leoronic.db"] == [file.name for file in tmp_path.iterdir()]


def test_an_order(tmp_path: Path) -> None:
    """The journal is set aside, its tasks are kept, and it is told once."""
    with_journal(tmp_path, "t1", "t2")
    (tmp_path / "node").write_text("before\n")
    note_begin_anew(tmp_path, "it was copied")
    told = begin_anew(tmp_path, 0.0)
    [aside] = [f for f in tmp_path.glob("leoronic.db.*") if not f.name.endswith(("-wal", "-shm"))]
    assert told.startswith("it was copied; it takes a new identity")
    assert aside.name in told
    assert "2 tasks are carried over" in told
    assert "damaged" not in aside.name
    assert not (tmp_path / "leoronic.db").exists()
    assert not (tmp_path / "node").exists(), "else a new journal counts as a lost one"
    assert "" == begin_anew(tmp_path, 0.0)


def test_an_order_without_a_journal(tmp_path: Path) -> None:
    """There is nothing to carry."""
    note_begin_anew(tmp_path, "why")
    assert "why; it takes a new identity" == begin_anew(tmp_path, 0.0)


@pytest.mark.parametrize("fails", ["replace_file", "set_aside", "unlink"])
def test_a_power_cut_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """Whatever step it comes before, the next start finds every task once."""
    with_journal(tmp_path, "t1", "t2")
    note_begin_anew(tmp_path, "why")

    class PowerCut(Exception):
        pass

    def cut(*_: Any, **__: Any) -> None:
        raise PowerCut

    with monkeypatch.context() as patched:
        patched.setattr(Path if fails == "unlink" else carrying, fails, cut)
        with pytest.raises(PowerCut):
            begin_anew(tmp_path, 0.0)
    assert begin_anew(tmp_path, 0.0).startswith("why")
    carried = carrying._decoder.decode((tmp_path / "carried.json").read_bytes())
    assert ["t1", "t2"] == [one.spec.id for one in carried]


def test_anew_again(tmp_path: Path) -> None:
    """What was not taken over yet is carried on."""
    for task in ("t1", "t2"):
        with_journal(tmp_path, task)
        note_begin_anew(tmp_path, "why")
        begin_anew(tmp_path, 0.0)
    carried = carrying._decoder.decode((tmp_path / "carried.json").read_bytes())
    assert ["t1", "t2"] == [one.spec.id for one in carried]


class Home:
    """A carrying actor beside a queue that answers by `answer`, in a node that is not ready yet."""

    def __init__(self, folder: Path, *specs: TaskSpec, at: float = NOW) -> None:
        tasks = [Carried(spec, at) for spec in specs]
        carrying.replace_file(folder / "carried.json", carrying._encoder.encode(tasks))
        self.path = folder / "carried.json"
        self.nodes = Nodes(lambda: "me", "attic")
        self.answers: list[Exception] = []
        self.refused: set[str] = set()
        self.taken: list[list[str]] = []
        self.queue = Recorder(self._answer)

    def _answer(self, message: Any) -> Any:
        assert isinstance(message, SubmitSpecs)
        if self.answers:
            raise self.answers.pop(0)
        ids = [spec.id for spec in message.specs]
        if self.refused & {*ids}:
            raise BadRequest("it waits for a task that nobody knows")
        self.taken.append(ids)
        return Accepted(ids)

    def see(self, *, ready: bool = True) -> None:
        self.nodes.see(view("me", member("me", ready=ready)))


@asynccontextmanager
async def carried(home: Home) -> AsyncIterator[Home]:
    async with running(
        child("queue", lambda: home.queue),
        child("carrying", lambda: CarryingActor(home.path.parent, home.nodes, KEPT_S)),
    ):
        yield home


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrying, "LOOK_S", 0.001)
    monkeypatch.setattr(time, "time", lambda: NOW)


async def test_carried_once_it_has_caught_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only then does the queue know which of them are known already. In slices; then it is done."""
    monkeypatch.setattr(carrying, "SLICE_TASKS", 2)
    home = Home(tmp_path, *(TaskSpec("x", id=f"t{n}") for n in range(5)))
    home.see(ready=False)
    async with carried(home):
        home.see(ready=False)
        assert [] == home.taken
        home.see()
        await until(lambda: not home.path.exists())
    assert [["t0", "t1"], ["t2", "t3"], ["t4"]] == home.taken


async def test_a_queue_that_is_not_there(tmp_path: Path) -> None:
    """It is asked again: nothing is dropped."""
    home = Home(tmp_path, TaskSpec("x", id="t1"))
    home.answers = [Unavailable("later"), Unavailable("later")]
    home.see()
    async with carried(home):
        await until(lambda: not home.path.exists())
    assert [["t1"]] == home.taken


async def test_one_that_is_refused(tmp_path: Path) -> None:
    """The others are taken all the same."""
    home = Home(tmp_path, *(TaskSpec("x", id=f"t{n}") for n in range(3)))
    home.refused = {"t1"}
    home.see()
    async with carried(home):
        await until(lambda: not home.path.exists())
    assert [["t0"], ["t2"]] == home.taken


async def test_what_was_accepted_too_long_ago(tmp_path: Path) -> None:
    """Others may have done it, and forgotten that: it is not done again."""
    home = Home(tmp_path, TaskSpec("x", id="old"), at=NOW - KEPT_S - 1)
    home.see()
    async with carried(home):
        await until(lambda: not home.path.exists())
    assert [] == home.taken


async def test_a_file_of_a_version_that_did_not_say_when(tmp_path: Path) -> None:
    """Its tasks were accepted before it was written."""
    home = Home(tmp_path)
    home.path.write_bytes(carrying._encoder.encode([TaskSpec("x", id="t1")]))
    os.utime(home.path, (NOW, NOW))
    home.see()
    async with carried(home):
        await until(lambda: not home.path.exists())
    assert [["t1"]] == home.taken
