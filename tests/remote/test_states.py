"""States of actors: saved after calls, restored in the next life, kept in two places."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leoronic.errors import NodeUnreachable
from leoronic.remote import said
from leoronic.remote.states import Keeper, Saver


class Counter:
    def __init__(self) -> None:
        self.n = 0

    def __leoronic_save__(self) -> int:
        return self.n

    def __leoronic_restore__(self, state: int) -> None:
        self.n = state


class Eager(Counter):
    __leoronic_save_s__ = 0


class Maker:
    """The process that made the actor: its keeper, and what it said."""

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[..., None]] = {}
        self.said: list[Any] = []
        Keeper(self)  # type: ignore[arg-type]

    def say(self, kind: int, body: Any) -> None:
        assert said.ANSWER == kind
        self.said.append(body)

    def tell(self, question: Any) -> None:
        sent = pickle.loads(pickle.dumps((0, question), 5))
        self.handlers[said.ASK](self, sent)

    def ask(self, question: Any) -> Any:
        self.handlers[said.ASK](self, (1, question))
        return self.said.pop()[2]


class Life:
    """One life of an actor."""

    def __init__(self, root: Path, maker: Maker, actor: Counter, attempt: int = 1) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.actor = actor
        self.saver = Saver(
            str(root),
            "t",
            attempt,
            ask=maker.ask,
            tell=maker.tell,
            later=lambda wait_s, function: self.due.append((wait_s, function)),
        )
        self.saver.begin(actor)

    def add(self, n: int) -> None:
        self.actor.n += n
        self.saver.called()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of a node."""
    (tmp_path / ".leoronic").mkdir()
    return tmp_path


def test_calls_are_saved_together(root: Path) -> None:
    """A second after the first of them."""
    life = Life(root, maker := Maker(), Counter())
    life.add(1)
    life.add(1)
    ((wait_s, save),) = life.due
    assert 1.0 == wait_s
    save()
    assert 2 == Life(root, maker, Counter(), 2).actor.n
    life.add(1)
    assert 2 == len(life.due)


def test_each_call_if_asked(root: Path) -> None:
    """Before its answer."""
    maker = Maker()
    Life(root, maker, Eager()).add(5)
    assert 5 == Life(root, maker, Eager(), 2).actor.n


def test_a_first_life_restores_nothing(root: Path) -> None:
    """What lies there is of another that had the same id."""
    maker = Maker()
    Life(root, maker, Eager()).add(5)
    assert 0 == Life(root, maker, Eager()).actor.n


def test_the_newest_counts(root: Path) -> None:
    """A life elsewhere has gone on; the file here is older."""
    here, maker = root, Maker()
    Life(here, maker, Eager()).add(5)
    there = root / "there"
    (there / ".leoronic").mkdir(parents=True)
    Life(there, maker, Eager(), 2).add(1)
    assert 6 == Life(here, maker, Eager(), 3).actor.n


def test_without_its_maker_there_is_the_file(root: Path) -> None:
    """A detached actor outlives the process that made it."""
    maker = Maker()
    Life(root, maker, Eager()).add(5)

    def gone(question: Any) -> Any:
        raise NodeUnreachable("gone")

    maker.ask = gone  # type: ignore[method-assign]
    assert 5 == Life(root, maker, Eager(), 2).actor.n


def test_a_damaged_file_is_no_state(root: Path) -> None:
    """What the maker keeps is used."""
    maker = Maker()
    Life(root, maker, Eager()).add(5)
    (root / ".leoronic" / "states" / "t").write_bytes(b"nonsense")
    assert 5 == Life(root, maker, Eager(), 2).actor.n


def test_an_end_for_good_leaves_nothing(root: Path) -> None:
    """An end before another life saves once more."""
    life = Life(root, Maker(), Counter())
    life.add(1)
    file = root / ".leoronic" / "states" / "t"
    life.saver.end(is_final=False)
    assert file.exists()
    assert 0 == file.stat().st_mode & 0o077
    life.saver.end(is_final=True)
    assert not file.exists()


def test_a_late_word_of_an_earlier_life(root: Path) -> None:
    """It does not replace what a later one has saved."""
    maker = Maker()
    maker.tell(("keep", "t", (2, 1, b"new")))
    maker.tell(("keep", "t", (1, 9, b"old")))
    assert (2, 1, b"new") == maker.ask(("kept", "t"))
    assert maker.ask(("kept", "u")) is None
