from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_node import FakeNode
from ran import Ran

from leoronic.client.cli import main


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node's folder that clients find by LEORONIC_ROOT; nothing answers there yet."""
    found = tmp_path / "root"
    monkeypatch.setenv("LEORONIC_ROOT", str(found))
    monkeypatch.delenv("NO_COLOR", raising=False)
    return found


@pytest.fixture
def start(root: Path) -> Iterator[Callable[..., FakeNode]]:
    """Starts a fake node with the given answers."""
    started: list[FakeNode] = []

    def start_one(**answers: Any) -> FakeNode:
        # `submit` asks it of every single task.
        why = {"id": "3f2a", "state": "waiting", "reasons": [], "nodes": {"attic": []}}
        started.append(FakeNode(root, **{"why": why} | answers))
        return started[-1]

    yield start_one
    for node in started:
        node.stop()


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], root: Path) -> Callable[..., Ran]:
    """Runs the command line in this process."""

    def run_one(*argv: str) -> Ran:
        code = main(list(argv))
        printed = capfd.readouterr()
        return Ran(code, printed.out, printed.err)

    return run_one
