"""The live view: it fits, it scrolls, it lasts through a restart."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_node import NODE, STATUS, Die, FakeNode, Hang, Item, task
from ran import Ran
from rich.console import Console

from leoronic.client import top
from leoronic.client.connection import Client
from leoronic.client.snapshot import Snapshot

Start = Callable[..., FakeNode]
NOW = 1_795_176_010.0

ENDED = {"id": "e1", "state": "failed", "attempt": 1, "node": "attic", "exit_code": 3,
         "at": "2026-11-20T12:00:05Z", "name": "nightly"}  # fmt: skip


def listed(command: Any, blob: bytes) -> Any:
    """Sixty running tasks, two hundred waiting, nothing that has ended."""
    counts = {"running": 60, "waiting": 200}
    found = [
        task(id=f"{command.state[0]}{n:03}", state=command.state, finished_at=None)
        for n in range(counts.get(command.state, 0))
    ]
    yield {"tasks": found, "more": False}


ANSWERS: dict[str, Any] = {
    "status": STATUS,
    "nodes": {"nodes": [NODE]},
    "list": listed,
    "show": task(id="e1") | ENDED,
}


@pytest.fixture
def snapshot(start: Start) -> Snapshot:
    start(**ANSWERS)
    found = Snapshot()
    with Client() as client:
        found.poll(client)
        found.seed_ended(client)
    found.take_change(ENDED)
    return found


def drawn(view: top.View, snapshot: Snapshot, width: int = 80, height: int = 24) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, color_system=None, highlight=False)
    console.print(view.draw(snapshot, NOW, width, height))
    return [line.rstrip() for line in out.getvalue().rstrip("\n").split("\n")]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 15), (200, 60), (40, 10)])
def test_it_fits(snapshot: Snapshot, width: int, height: int) -> None:
    """No line is wider and the whole is not higher than the terminal."""
    lines = drawn(top.View(), snapshot, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


def test_what_is_on_it(snapshot: Snapshot) -> None:
    """What the node is and uses, counts by state, and the three lists."""
    lines = drawn(top.View(), snapshot)
    assert lines[0] == "attic  up for 2 min 5 s"
    assert lines[1].startswith("cpus")
    assert lines[1].endswith("1.5 of 2 in use")
    assert lines[2].startswith("memory")
    assert lines[2].endswith("1 GiB of 4 GiB in use")
    assert lines[3] == "tasks    1,200 waiting  3 running  40 succeeded  1 failed"
    assert lines[4] == " running: 3"
    assert lines[5].startswith("r000  running")
    assert any(line.startswith(" newest waiting: 1,200") for line in lines)
    assert any("e1" in line and "exit code 3  nightly" in line for line in lines)


def test_lists_share_the_room() -> None:
    """A short list leaves its room to the long ones; nothing is promised that is not there."""
    assert top.share(22, [60, 200, 1]) == [9, 9, 1]
    assert top.share(2, [5, 5, 5]) == [0, 0, 0]
    assert top.share(22, [2, 0, 1]) == [2, 0, 1]


def test_keys_scroll_the_chosen_list(snapshot: Snapshot) -> None:
    """Tab chooses a list, arrows and pages move in it, never beyond its ends."""
    view = top.View()
    drawn(view, snapshot)
    assert view.press("down", 8)
    assert any(line.startswith("r001") for line in drawn(view, snapshot))
    view.press("next", 8)
    view.press("page down", 8)
    lines = drawn(view, snapshot)
    assert any(line.startswith("w008") for line in lines)
    assert any(line.startswith(" newest waiting: 1,200 (from 9)") for line in lines)
    for _ in range(100):
        view.press("page down", 8)
        drawn(view, snapshot)
    assert any(line.startswith("w199") for line in drawn(view, snapshot))
    view.press("home", 8)
    view.press("up", 8)
    assert any(line.startswith("w000") for line in drawn(view, snapshot))
    assert not view.press("quit", 8)


def test_keys_are_recognised() -> None:
    """Escape sequences of a terminal, several in one read; anything else is ignored."""
    assert list(top.parse_keys("\x1b[A\x1b[Bx\t\x1b[6~q")) == [
        "up",
        "down",
        "next",
        "page down",
        "quit",
    ]


def test_it_lasts_through_a_restart(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the node is away that is said; when it is back the view goes on."""
    monkeypatch.setattr(top, "RECONNECT_PAUSE_S", 0.0)
    lives = iter([Die(), Hang()])

    def watch(command: Any, blob: bytes) -> Any:
        yield Item(ENDED)
        yield next(lives)

    node = start(**ANSWERS, watch=watch)
    snapshot = Snapshot()
    feed = top._Feed(None, snapshot)
    while not snapshot.lost:
        feed.tick()
    assert any("waiting for the node to come back" in line for line in drawn(top.View(), snapshot))
    feed.tick()
    assert snapshot.lost
    node.start()
    while snapshot.lost:
        feed.tick()
    assert len(snapshot.running) == 60


def test_once(run: Callable[..., Ran], start: Start) -> None:
    """Where there is no terminal it is printed once, as text or as data."""
    start(**ANSWERS)
    ran = run("top")
    assert ran.code == 0
    assert "1,200 waiting" in ran.out
    assert "\x1b" not in ran.out
    found = json.loads(run("top", "--json").out)
    assert {"status", "nodes", "running", "waiting", "ended"} == set(found)


def test_on_a_terminal(start: Start, root: Path) -> None:
    """Drawn on the other screen of the terminal, which q leaves as it was."""
    start(**ANSWERS, watch=lambda c, _: iter([Hang()]))
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        os.environ["TERM"] = "xterm"
        command = [sys.executable, "-m", "leoronic.client", "top", "--root", str(root)]
        os.execv(sys.executable, command)
    try:
        seen = read_until(terminal, b"1.5 of 2 in use")
        os.write(terminal, b"q")
        seen += read_until(terminal, b"\x1b[?1049l")
        assert b"\x1b[?1049h" in seen
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(terminal)


def read_until(terminal: int, wanted: bytes) -> bytes:
    """All that is printed until `wanted` has been; the test's time limit bounds it."""
    seen = b""
    while wanted not in seen:
        seen += os.read(terminal, 65_536)
    return seen
