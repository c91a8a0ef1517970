"""Nodes for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from integration.harness import Node, running

StartNode = Callable[..., Node]


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[StartNode]:
    """Starts a node with the given options, in a folder of its own; ends it after the test."""
    with ExitStack() as stack:
        yield lambda *options, **settings: stack.enter_context(
            running(tmp_path, *options, **settings)
        )
