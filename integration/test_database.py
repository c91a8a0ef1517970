"""A database that is damaged, cut off, missing or no file at all: told, set aside, started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from integration.conftest import StartNode
from integration.harness import Node


def flip(path: Path, offset: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        data = file.read(length)
        file.seek(offset)
        file.write(bytes(byte ^ 0xA5 for byte in data))


def overwrite_header(path: Path) -> None:
    flip(path, 0, 100)


def overwrite_first_page(path: Path) -> None:
    flip(path, 16, 4000)


def overwrite_middle(path: Path) -> None:
    flip(path, 4096 * (path.stat().st_size // 4096 // 2), 4096)


def cut_off(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def cut_off_within_a_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1000)


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_text(path: Path) -> None:
    path.write_text("this is not a database\n" * 500)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_text("somebody's")


def used_node(start_node: StartNode) -> tuple[Node, str]:
    """A stopped node that has a history, and its id."""
    node = start_node("--cpus", "1")
    node.submit("sleep 60", *[f"echo {i}" for i in range(300)])
    node.wait_counts(running=1, waiting=300)
    node_id = node.status()["node"]["id"]
    assert 0 == node.stop()
    assert node.database.stat().st_size > 10 * 4096
    return node, node_id


@pytest.mark.parametrize(
    "damage",
    [
        overwrite_header,
        overwrite_first_page,
        overwrite_middle,
        cut_off,
        cut_off_within_a_page,
        make_empty,
        make_text,
        make_folder,
    ],
)
def test_damaged(start_node: StartNode, damage: Callable[[Path], None]) -> None:
    """It is told and set aside, whole, and the node starts with an empty one and a new id."""
    node, old_id = used_node(start_node)
    damage(node.database)
    content = node.database.read_bytes() if node.database.is_file() else None
    before = len(node.events())
    node.start()
    assert old_id != node.status()["node"]["id"]
    assert {} == node.counts()
    assert "succeeded" == node.run("echo new")["state"]
    [aside] = [p for p in node.state.glob("leoronic.db.damaged-*") if p.name[-4:-2] != "-w"][:1]
    if content is not None:
        assert content == aside.read_bytes()
    else:
        assert "somebody's" == (aside / "file").read_text()
    [told] = [e for e in node.events()[before:] if e["event"] == "database replaced"]
    assert aside.name in told["why"]
    assert "error" == told["level"]
    # What it has now is as good as any.
    node.kill_all()
    node.start()
    assert {"succeeded": 1} == node.counts()


def test_missing(start_node: StartNode) -> None:
    """It is told, and the node starts with an empty one and a new id."""
    node, old_id = used_node(start_node)
    for path in node.state.glob("leoronic.db*"):
        path.unlink()
    node.start()
    assert old_id != node.status()["node"]["id"]
    assert "succeeded" == node.run("echo new")["state"]
    [told] = [event for event in node.events() if event["event"] == "database replaced"]
    assert "missing" in told["why"]


def test_sound(start_node: StartNode) -> None:
    """After a stop or a kill in the middle of work nothing is set aside, and the id stays."""
    node, old_id = used_node(start_node)
    for _ in range(3):
        node.start()
        node.submit(*[f"echo {i}" for i in range(200)])
        node.kill_all()
    node.start()
    assert old_id == node.status()["node"]["id"]
    assert not list(node.state.glob("leoronic.db.damaged*"))
    assert not [event for event in node.events() if event["event"] == "database replaced"]
