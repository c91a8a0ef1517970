"""A full disk: a small file system of its own as the node's folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.harness import Node, wait_until
from leoronic.core.commands import Submit
from leoronic.errors import DiskFull

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root")

DISK = "24m"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file system of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={DISK}", "tmpfs"]
    if subprocess.run(["mount", *options, folder], check=False).returncode:
        pytest.skip("this machine does not let root mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def node(small_disk: Path) -> Iterator[Node]:
    """A node in it."""
    node = Node(small_disk / "root", "--cpus", "2")
    try:
        node.start()
        yield node
    finally:
        node.close()


def fill(folder: Path, leave_bytes: int = 0) -> Path:
    """Take all room of the disk but so much."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        usage = os.statvfs(folder)
        left = usage.f_bavail * usage.f_frsize - leave_bytes
        try:
            while left > 0:
                left -= file.write(bytes(min(left, 65536)))
        except OSError:
            pass
    return ballast


def submit_until_full(node: Node) -> list[str]:
    """Submit big tasks until they are refused; the ids of those that were not."""
    accepted: list[str] = []
    for i in range(4000):
        try:
            accepted += node.submit({"command": "true " + "x" * 50_000, "id": f"b{i}", "cpus": 100})
        except DiskFull:
            return accepted
    raise AssertionError("4000 tasks of 50 kB fit")


def test_submissions_fill_the_disk(node: Node, small_disk: Path) -> None:
    """New tasks are refused, clearly; what was acknowledged is there; with room it goes on."""
    [running] = node.submit("until [ -e go ]; do sleep 0.05; done; echo it went")
    node.wait_state(running, "running")
    accepted = submit_until_full(node)
    assert accepted
    # The whole of it, as a user sees it.
    told = subprocess.run(
        [sys.executable, "-m", "leoronic", "submit", "--root", str(node.root), "--", "echo", "hi"],
        env=node.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (1, "") == (told.returncode, told.stdout)
    assert told.stderr.startswith("leoronic: ")
    assert "room" in told.stderr
    assert 1 == len(told.stderr.splitlines())

    # There is room for the end of what runs.
    (node.root / "go").touch()
    [ended] = node.wait(running)
    assert "succeeded" == ended["state"]
    assert b"it went\n" == node.output(running)

    node.kill_all()
    node.start()
    assert {"succeeded": 1, "blocked": len(accepted)} == node.counts()
    assert [event for event in node.events() if event["event"] == "disk full"]
    # More room, by a bigger disk.
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert "succeeded" == node.run("echo again")["state"]


def test_somebody_else_fills_the_disk(node: Node) -> None:
    """To the last byte, while tasks run and end: they end once, as soon as there is room."""
    lines = "for i in 1 2 3 4 5; do echo line $i; sleep 0.1; done"
    tasks = node.submit(*[{"command": lines, "cpus": 0.2} for _ in range(10)])
    waiting = node.submit(*[{"command": "echo waited", "cpus": 2} for _ in range(5)])
    node.wait_state(tasks[0], "running")
    ballast = fill(node.root)
    with pytest.raises(DiskFull):
        node.ask(Submit(), b'{"command": "echo no"}')
    wait_until(
        lambda: [event for event in node.events() if event["event"] == "disk full"], "it is told"
    )
    assert node.answers()
    ballast.unlink()
    ended = node.wait(*tasks, *waiting)
    assert ["succeeded"] * 15 == [task["state"] for task in ended]
    assert [1] * 15 == [task["attempt"] for task in ended]
    assert [b"waited\n"] * 5 == [node.output(task) for task in waiting]
    assert "succeeded" == node.run("echo again")["state"]


def test_killed_while_the_disk_is_full(node: Node) -> None:
    """Nothing acknowledged is lost; it starts on a full disk, or says why not, and never hangs."""
    done = node.run("echo done")["id"]
    tasks = node.submit(*[{"command": "echo waited", "cpus": 2} for _ in range(20)])
    node.wait(*tasks)
    [running] = node.submit({"command": "sleep 60", "cpus": 2})
    node.wait_state(running, "running")
    more = node.submit(*[{"command": "echo waited", "cpus": 2} for _ in range(20)])
    ballast = fill(node.root)
    node.kill_all()
    node.process = node.spawn()
    with_room = wait_until(
        lambda: (node.process.poll() is not None and "ended") or (node.answers() and "answers"),
        "it starts or says why not",
        story=node.tail,
    )
    if with_room == "ended":
        assert "leoronic: " in node.tail() or "disk" in node.tail()
    ballast.unlink()
    if with_room == "ended":
        node.start()
    assert 1 == node.show(done)["attempt"]
    node.wait_state(running, "running")
    from leoronic.core.commands import Cancel

    node.ask(Cancel([running]))
    node.wait_counts(succeeded=41, cancelled=1)
    assert [1] * 20 == [node.show(task)["attempt"] for task in more]


def test_output_fills_the_disk(node: Node, small_disk: Path) -> None:
    """A task that prints more than there is room for waits, and loses nothing."""
    [task] = node.submit("head -c 60000000 /dev/zero; echo over >&2")
    wait_until(
        lambda: [event for event in node.events() if event["event"] == "disk_full"], "it is told"
    )
    assert node.answers()
    assert "running" == node.show(task)["state"]
    subprocess.run(["mount", "-o", "remount,size=200m", small_disk], check=True)
    [ended] = node.wait(task)
    assert ("succeeded", 60_000_000) == (ended["state"], ended["stdout_bytes"])
    assert 60_000_000 == sum(map(len, node.parts(task)))
    assert b"over\n" == node.output(task, "stderr")


def test_one_submission_is_too_big(node: Node) -> None:
    """It is refused whole, and leaves the room that others need."""
    big = [{"command": "true " + "x" * 9_000, "cpus": 100} for _ in range(1500)]
    with pytest.raises(DiskFull):
        node.submit(*big)
    assert {} == node.counts()
    for _ in range(50):
        assert "succeeded" == node.run("head -c 2000 /dev/zero")["state"]
