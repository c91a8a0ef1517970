"""Parties in a folder that looks like a node's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leoronic.remote.party import Party

MakeParty = Callable[[str], Party]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of a node `n`, which does not run."""
    state = tmp_path / ".leoronic"
    state.mkdir()
    (state / "node").write_text("n\n")
    return tmp_path


@pytest.fixture
def make_party(root: Path) -> Iterator[MakeParty]:
    """Makes parties of that node; not started. They are ended after the test."""
    made: list[Party] = []

    def make(name: str) -> Party:
        made.append(Party(str(root), name, job="job"))
        return made[-1]

    yield make
    for party in made:
        party.stop()
