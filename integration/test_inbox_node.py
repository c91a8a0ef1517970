"""What only a real node shows of its inbox: permissions, repetition, and crashes in between."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

from integration.conftest import StartNode
from integration.harness import Node, kill, wait_until

# Root without the right to ignore permissions: as everybody else.
BOUND = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
CAN_BE_BOUND = os.getuid() != 0 or (
    shutil.which("setpriv") is not None
    and subprocess.run([*BOUND, "true"], check=False).returncode == 0
)


def drop(node: Node, name: str, content: object, mode: int = 0o644) -> None:
    """Put a file into the inbox, whole."""
    hidden = node.inbox / f".{name}"
    hidden.write_text(content if isinstance(content, str) else json.dumps(content))
    hidden.chmod(mode)
    hidden.rename(node.inbox / name)


def gone(node: Node) -> bool:
    """Whether nothing waits in the inbox."""
    return not list(node.inbox.glob("*.json"))


@pytest.mark.skipif(not CAN_BE_BOUND, reason="root cannot give up its rights here")
def test_no_permission(start_node: StartNode) -> None:
    """A file that may not be read is rejected with the reason; the node goes on."""
    node = start_node(prefix=BOUND if os.getuid() == 0 else ())
    drop(node, "secret.json", {"command": "echo secret"}, mode=0)
    drop(node, "open.json", {"id": "open", "command": "echo open"})
    wait_until(lambda: gone(node), "an empty inbox", story=node.tail)
    told = (node.inbox / "rejected" / "secret.json.error.txt").read_text()
    assert "permission" in told.lower()
    assert "succeeded" == node.wait("open")[0]["state"]
    assert {"succeeded": 1} == node.counts()


@pytest.mark.skipif(not CAN_BE_BOUND, reason="root cannot give up its rights here")
def test_a_folder_without_permission(start_node: StartNode) -> None:
    """Shut, the inbox is told of once; open again, it works."""
    node = start_node(prefix=BOUND if os.getuid() == 0 else ())
    node.inbox.chmod(0)
    wait_until(
        lambda: [event for event in node.events() if event["event"] == "inbox_trouble"],
        "it is told",
        story=node.tail,
    )
    assert "succeeded" == node.run("echo other doors work")["state"]
    node.inbox.chmod(0o755)
    drop(node, "late.json", {"id": "late", "command": "echo late"})
    wait_until(lambda: gone(node), "an empty inbox", story=node.tail)
    assert "succeeded" == node.wait("late")[0]["state"]


def test_the_same_file_twice(start_node: StartNode) -> None:
    """With an id it is the same task, once; the file is accepted both times."""
    node = start_node()
    task = {"id": "mine", "command": "echo x >> log"}
    for copy in range(3):
        drop(node, "same.json", task)
        wait_until(lambda: gone(node), f"copy {copy} is taken", story=node.tail)
    node.wait("mine")
    assert {"succeeded": 1} == node.counts()
    assert "x\n" == (node.root / "log").read_text()
    assert not list((node.inbox / "rejected").iterdir())
    # The same id for something else is refused, with the reason.
    drop(node, "other.json", {"id": "mine", "command": "echo y >> log"})
    wait_until((node.inbox / "rejected" / "other.json.error.txt").exists, "it is rejected")
    assert "mine" in (node.inbox / "rejected" / "other.json.error.txt").read_text()
    assert "x\n" == (node.root / "log").read_text()


def test_everything_killed_while_files_come_in(start_node: StartNode) -> None:
    """Dropped before, during and after power cuts, each file becomes its task, once."""
    node = start_node("--cpus", "8")
    for batch in range(3):
        for i in range(60):
            name = f"{batch}-{i}"
            drop(node, f"{name}.json", {"command": f"echo {name} >> log", "cpus": 0.5})
            if i == 30:
                node.kill_all()
        node.start()
    wait_until(lambda: gone(node), "an empty inbox", story=node.tail)
    node.wait_counts(succeeded=180)
    names = {f"{batch}-{i}" for batch in range(3) for i in range(60)}
    assert names == set((node.root / "log").read_text().split())
    assert 180 == len(list((node.inbox / "accepted").glob("*.json")))


def test_the_folder_is_swapped(start_node: StartNode) -> None:
    """Renamed away and replaced by another folder, or by a file for a while, it works again."""
    node = start_node()
    shutil.move(node.inbox, node.root / "old")
    node.inbox.write_text("no folder")
    assert "succeeded" == node.run("echo other doors work")["state"]
    kill(node.core_pid())
    node.wait_ready()
    node.inbox.unlink()
    wait_until(node.inbox.is_dir, "it is made again", story=node.tail)
    drop(node, "new.json", {"id": "new", "command": "echo new"})
    wait_until(lambda: gone(node), "an empty inbox", story=node.tail)
    assert "succeeded" == node.wait("new")[0]["state"]
