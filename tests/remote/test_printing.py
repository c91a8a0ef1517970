"""Prints of remote code: whole lines, bounded, and untouched in the process' own output."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leoronic.remote import printing
from leoronic.remote.printing import Relay, redirect


class Printing:
    def __init__(self, out: Path, begin: Callable[[], None]) -> None:
        self.out = out
        self.woken = 0
        self.relay = Relay(lambda: "who", self.wake)
        self.flush: Callable[[], None]
        self._begin = begin

    def begin(self) -> None:
        """Redirect the streams: in the test, as pytest has others before it."""
        self._begin()
        self.flush = redirect(self.relay)

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Printing]:
    """Both streams of this process, to be redirected."""
    with (tmp_path / "out").open("w") as file:

        def begin() -> None:
            monkeypatch.setattr(sys, "stdout", file)
            monkeypatch.setattr(sys, "stderr", file)

        yield Printing(tmp_path / "out", begin)


def test_lines_are_relayed_whole(printed: Printing) -> None:
    """A line that is printed in parts arrives in one; one that has no end, at the end."""
    printed.begin()
    print("a", "b")
    print("c", end="")
    assert [("stdout", "a b\n", "who")] == printed.relay.take()
    print("d")
    assert [("stdout", "cd\n", "who")] == printed.relay.take()
    print("e", end="", file=sys.stderr)
    printed.flush()
    assert [("stderr", "e", "who")] == printed.relay.take()
    assert "a b\ncd\ne" == printed.out.read_text()


def test_one_wake_for_many_lines(printed: Printing) -> None:
    """Until they are taken."""
    printed.begin()
    for _ in range(10):
        print("x")
    assert 1 == printed.woken
    assert 10 == len(printed.relay.take())
    print("y")
    assert 2 == printed.woken


def test_binary_is_shown_as_text(printed: Printing) -> None:
    """And written as it is."""
    printed.begin()
    sys.stdout.buffer.write(b"\xff\n")
    sys.stdout.flush()
    assert [("stdout", "\\xff\n", "who")] == printed.relay.take()
    assert b"\xff\n" == printed.out.read_bytes()


def test_too_much_is_left_out_and_said(printed: Printing, monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay is bounded; the process' own output is not."""
    printed.begin()
    monkeypatch.setattr(printing, "PENDING_BYTES_MAX", 10)
    for _ in range(4):
        print("1234")
    *lines, last = printed.relay.take()
    assert 2 == len(lines)
    assert "10 bytes are left out" in last[1]
    assert 20 == len(printed.out.read_bytes())


def test_a_line_without_end_is_cut(printed: Printing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the end of a line for ever."""
    printed.begin()
    monkeypatch.setattr(printing, "LINE_BYTES_MAX", 10)
    sys.stdout.write("x" * 30)
    sys.stdout.flush()
    assert "x" * 30 == "".join(text for _, text, _ in printed.relay.take())


def test_a_child_relays_nothing(printed: Printing) -> None:
    """It has no thread that could send it; its lines are in the output."""
    printed.begin()
    child = os.fork()
    if not child:
        print("in the child")
        sys.stdout.flush()
        os._exit(len(printed.relay.take()))
    assert 0 == os.waitpid(child, 0)[1]
    assert "in the child\n" == printed.out.read_text()


def test_streams_have_descriptors(printed: Printing) -> None:
    """For those who hand them to other programs."""
    printed.begin()
    os.write(sys.stdout.fileno(), b"direct\n")
    assert "direct\n" == printed.out.read_text()
    assert not sys.stdout.isatty()
