"""Pipes of attempts that run: what they printed is in files once they are old."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from leoronic.core.run import Run
from leoronic.runner.live import Live
from leoronic.runner.output import OutputStore
from leoronic.runner.pipes import Pipes
from leoronic.runner.stream import Stream
from tests.runner.test_output import Log

FILE_AFTER_S = 1.0


class Timer:
    def __init__(self, at: float, action: Callable[[], None]) -> None:
        self.at = at
        self.action = action
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class VirtualLoop:
    """The part of a loop that `Pipes` uses: its time goes on, and its pipes are read, when told."""

    def __init__(self) -> None:
        self.now = 100.0
        self.set: list[Timer] = []
        self.readers: dict[int, Callable[[], None]] = {}

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, action: Callable[[], None]) -> Timer:
        self.set.append(Timer(at, action))
        return self.set[-1]

    def add_reader(self, fd: int, action: Callable[..., None], *arguments: Any) -> None:
        self.readers[fd] = lambda: action(*arguments)

    def remove_reader(self, fd: int) -> None:
        del self.readers[fd]

    @property
    def timers(self) -> list[Timer]:
        """Those that will fire."""
        return [timer for timer in self.set if not timer.cancelled]

    def sleep(self, seconds: float) -> None:
        """Let time pass, and what is due happen on its way."""
        end = self.now + seconds
        while due := [timer for timer in self.timers if timer.at <= end]:
            first = min(due, key=lambda timer: timer.at)
            self.set.remove(first)
            self.now = max(self.now, first.at)
            first.action()
        self.now = end


class Task:
    """An attempt whose pipes the test fills."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench = bench
        self.folder = bench.folder
        self.writers: dict[str, int] = {}
        self.live = Live(
            Run(name, 1, "x"), "", self._stream(name, "stdout"), self._stream(name, "stderr")
        )
        self.live.started = bench.loop.now
        bench.pipes.attach(self.live)

    def _stream(self, task: str, name: str) -> Stream:
        read_fd, self.writers[name] = os.pipe()
        os.set_blocking(read_fd, False)
        return Stream(self.bench.store, (task, 1), name, read_fd)

    def prints(self, data: bytes, name: str = "stdout") -> None:
        """It writes, and the loop notices."""
        os.write(self.writers[name], data)
        self.bench.loop.readers[self.live.stream(name).fd]()

    def file(self, name: str = "stdout") -> bytes | None:
        """What its file holds."""
        path = self.folder / f"{self.live.key[0]}.1.{name}"
        return path.read_bytes() if path.exists() else None


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = VirtualLoop()
        self.store = OutputStore(
            folder,
            log=Log(),
            memory_bytes_max=64 * 1024,
            pack_bytes_max=1 << 20,
            on_room=lambda stream: None,
        )
        self.store.open()
        self.closed: list[str] = []
        self.pipes = Pipes(
            self.loop,  # type: ignore[arg-type]
            lambda function: function,
            FILE_AFTER_S,
            news=lambda live: None,
            closed=lambda live: self.closed.append(live.key[0]),
        )

    def task(self, name: str) -> Task:
        return Task(self, name)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_small_output_gets_a_file_when_its_attempt_is_old(bench: Bench) -> None:
    """However little a silent attempt has printed, it is in a file after `file_after_s`."""
    task, complaint = bench.task("t"), bench.task("u")
    bench.loop.sleep(0.3)
    complaint.prints(b"why", "stderr")
    task.prints(b"out")
    task.prints(b"err", "stderr")
    bench.loop.sleep(0.6)
    assert (None, None) == (task.file(), task.file("stderr"))
    bench.loop.sleep(0.2)
    assert (b"out", b"err") == (task.file(), task.file("stderr"))
    assert (None, b"why") == (complaint.file(), complaint.file("stderr"))


def test_output_of_an_old_attempt_goes_to_its_file_as_it_comes(bench: Bench) -> None:
    """Each small piece is in the file at once, with no timer."""
    task = bench.task("t")
    bench.loop.sleep(FILE_AFTER_S)
    for i in range(3):
        task.prints(b"small\n")
        assert b"small\n" * (i + 1) == task.file()
    assert [] == bench.loop.timers
    assert b"small" == task.live.stdout.part(6, 5)


def test_silence_sets_no_timer(bench: Bench) -> None:
    """An attempt that has printed nothing has no timer, and never gets a file."""
    task = bench.task("t")
    assert [] == bench.loop.timers
    bench.loop.sleep(10)
    assert None is task.file()


def test_one_timer_serves_all(bench: Bench) -> None:
    """Attempts get their files in time, each, and there is never more than one timer."""
    tasks = []
    for i in range(5):
        tasks.append(bench.task(f"t{i}"))
        tasks[-1].prints(b"x")
        bench.loop.sleep(0.1)
        assert 1 == len(bench.loop.timers)
    bench.loop.sleep(0.65)
    assert [b"x", b"x", None, None, None] == [task.file() for task in tasks]
    bench.loop.sleep(0.3)
    assert [b"x"] * 5 == [task.file() for task in tasks]
    assert [] == bench.loop.timers


def test_an_attempt_that_ended_gets_no_file(bench: Bench) -> None:
    """What was handed on while it was young is not written here."""
    task = bench.task("t")
    task.prints(b"x")
    bench.pipes.forget(task.live)
    bench.loop.sleep(10)
    assert None is task.file()


def test_last_words_of_an_old_attempt(bench: Bench) -> None:
    """What an old attempt prints just before its end is in its file too."""
    task = bench.task("t")
    bench.loop.sleep(5)
    os.write(task.writers["stdout"], b"done\n")
    bench.pipes.pump(task.live, task.live.stdout)
    assert b"done\n" == task.file()


def test_file_all(bench: Bench) -> None:
    """On a stop all output goes to files at once: what was printed, and what is said in reply."""
    young, late = bench.task("young"), bench.task("late")
    young.prints(b"before ")
    bench.pipes.file_all([young.live, late.live])
    assert (b"before ", None) == (young.file(), late.file())
    young.prints(b"after")
    late.prints(b"tidy")
    assert (b"before after", b"tidy") == (young.file(), late.file())
    bench.pipes.stop()
    assert [] == bench.loop.timers


def test_both_ends_are_told_once(bench: Bench) -> None:
    """`closed` is told when the second pipe has ended."""
    task = bench.task("t")
    os.close(task.writers["stdout"])
    bench.loop.readers[task.live.stdout.fd]()
    assert [] == bench.closed
    os.close(task.writers["stderr"])
    bench.loop.readers[task.live.stderr.fd]()
    bench.pipes.tell_closed(task.live)
    assert ["t"] == bench.closed
    assert {} == bench.loop.readers


async def test_a_full_disk_does_not_stop_small_output(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the outcome can carry is read on while the disk is full; beyond that the task pauses."""

    def refuse(*arguments: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    task = bench.task("t")
    bench.loop.sleep(FILE_AFTER_S)
    task.prints(b"one ")
    task.prints(b"two")
    assert b"one two" == task.live.stdout.part(0, 100)
    assert not task.live.stdout.blocked
    task.prints(b"x" * 4096)
    assert task.live.stdout.blocked
    await bench.store.close()
