"""The inbox of a real node: files dropped by other processes, and what `kill -9` does to them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DEADLINE_S = 20.0
START = [sys.executable, "-m", "leoronic", "start"]
ASK = [sys.executable, "-m", "leoronic.client"]


class Node:
    """A node started by its command, and asked by its command."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inbox = root / "inbox"
        self.log = root.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*START, "--root", str(self.root)], stdout=log, stderr=log
            )
        until(lambda: self.ask("status") is not None, "the node answers", self.tail)

    def ask(self, *arguments: str) -> Any:
        """What a command says with --json; None if it failed."""
        done = subprocess.run(
            [*ASK, *arguments, "--json", "--root", str(self.root)],
            capture_output=True,
            check=False,
            timeout=DEADLINE_S,
        )
        return json.loads(done.stdout) if done.returncode == 0 else None

    def tasks(self) -> list[dict[str, Any]]:
        """The newest thousand tasks."""
        answer = self.ask("list", "--limit", "1000")
        if isinstance(answer, dict):
            answer = answer["tasks"]
        assert isinstance(answer, list), f"list said {answer!r}"
        return answer

    def commands(self) -> list[str]:
        """Commands of all tasks, sorted."""
        return sorted(task["command"] for task in self.tasks())

    def core_pid(self) -> int:
        """The process that `kill -9` is for."""
        status = self.ask("status")
        assert status is not None
        return int(status["node"]["pid"])

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """Stop it, by force if it must be."""
        if self._process is None:
            return
        self.ask("stop", "--now")
        for _ in range(3):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
                return
            # The second TERM stops it at once. Killed, it would be replaced by its core.
            self._process.terminate()
        raise AssertionError(f"the node does not stop: {self.tail()}")


def until(holds: Callable[[], bool], what: str, state: Callable[[], object]) -> None:
    """Wait until something is so; if it does not come, say the last state seen."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"never came: {what}; last seen: {state()}"
        time.sleep(0.02)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    root = tmp_path / "node"
    root.mkdir()
    node = Node(root)
    try:
        yield node
    finally:
        node.stop()


def gone(node: Node) -> bool:
    """Whether nothing waits in the inbox any longer."""
    return not list(node.inbox.glob("*.json"))


def test_files_of_every_kind(node: Node) -> None:
    """Copied, moved, written slowly, or bad: each ends where it belongs, and good ones run."""
    node.inbox.mkdir()
    (node.inbox / "early.json").write_text('{"command": "echo early"}')
    node.start()
    one = node.root / "one.txt"
    one.write_text('[{"command": "echo copied"}, {"command": "echo copied too"}]')
    subprocess.run(["cp", one, node.inbox / "copied.json"], check=True)
    subprocess.run(["mv", one, node.inbox / "moved.json"], check=True)
    slow = "(printf '{\"command\":'; sleep 0.7; printf '\"echo slow\"}') > inbox/slow.json"
    subprocess.run(["bash", "-c", slow], cwd=node.root, check=True)
    (node.inbox / "bad.json").write_text('{"command": "echo", "memory": "lots"}')
    (node.inbox / "folder.json").mkdir()
    (node.inbox / "out.json").symlink_to("/etc/hostname")
    with (node.inbox / "huge.json").open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    until(lambda: gone(node), "an empty inbox", lambda: list(node.inbox.iterdir()))
    rejected = sorted(path.name for path in (node.inbox / "rejected").glob("*.json"))
    assert rejected == ["bad.json", "folder.json", "huge.json", "out.json"]
    report = (node.inbox / "rejected" / "bad.json.error.txt").read_text()
    assert report.startswith("memory: 'lots' is not a size")
    expected = ["copied", "copied", "copied too", "copied too", "early", "slow"]
    assert node.commands() == [f"echo {word}" for word in expected]
    until(
        lambda: all(task["state"] == "succeeded" for task in node.tasks()),
        "all tasks succeeded",
        node.tasks,
    )


def test_killed_while_files_come_in(node: Node) -> None:
    """However often the core is killed, each dropped file becomes its task, once."""
    node.start()
    count = 300
    expected = sorted(f"true {i}" for i in range(count))
    for i in range(count):
        hidden = node.inbox / f".{i}"
        hidden.write_text(json.dumps({"command": f"true {i}"}))
        hidden.rename(node.inbox / f"{i}.json")
        if i % 100 == 50:
            os.kill(node.core_pid(), signal.SIGKILL)
            until(lambda: node.ask("status") is not None, "the core is back", node.tail)
    until(lambda: gone(node), "an empty inbox", lambda: len(list(node.inbox.iterdir())))
    assert node.commands() == expected


def test_the_folder_is_deleted(node: Node) -> None:
    """Deleted while the node runs, the inbox is made again and works."""
    node.start()
    subprocess.run(["rm", "-rf", node.inbox], check=True)
    until((node.inbox / "rejected").exists, "a new inbox", node.tail)
    (node.inbox / "a.json").write_text('{"command": "echo again"}')
    until(lambda: gone(node), "an empty inbox", node.tail)
    assert node.commands() == ["echo again"]
