"""Work that blocks: in order where it matters, in few threads, which end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from leoronic.actors import file_work
from leoronic.actors.file_work import FileWork


class Bench:
    """Jobs that go on until they are let, and what became of them."""

    def __init__(self, threads_max: int = 4, long_max: int = 4) -> None:
        self.work = FileWork(threads_max, long_max)
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.crashes: list[BaseException] = []
        self._gates: dict[str, threading.Event] = {}
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def add(self, name: str, **settings: Any) -> None:
        self._gates[name] = gate = threading.Event()

        def work() -> str:
            self._loop.call_soon_threadsafe(self._note, self.begun, name)
            assert gate.wait(10)
            return name

        self.do(work, **settings)

    def do(self, work: Callable[[], Any], **settings: Any) -> None:
        self.work.do(work, lambda done: self._note(self.ended, done), self._crashed, **settings)

    def let(self, *names: str) -> None:
        for name in names:
            self._gates[name].set()

    def _note(self, where: list[str], what: str) -> None:
        where.append(what)
        self._news.set()

    def _crashed(self, error: BaseException) -> None:
        self.crashes.append(error)
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._news.clear()
                await self._news.wait()


def test_one_key_one_at_a_time() -> None:
    """What has a key in common is done in the order in which it was asked for."""

    async def story() -> None:
        bench = Bench()
        bench.add("a1", alone=["a"])
        bench.add("a2", alone=["a", "b"])
        bench.add("b", alone=["b"])
        bench.add("c", alone=["c"])
        await bench.until(lambda: {"a1", "c"} == set(bench.begun))
        bench.let("a1", "b")
        await bench.until(lambda: "a2" in bench.begun)
        assert "b" not in bench.begun
        bench.let("a2", "c")
        await bench.until(lambda: len(bench.ended) == 4)
        assert bench.ended.index("a1") < bench.ended.index("a2") < bench.ended.index("b")
        assert bench.work.is_idle

    asyncio.run(story())


def test_a_key_is_shared_or_alone() -> None:
    """Those who share a key go together; who wants it alone comes after them, before the next."""

    async def story() -> None:
        bench = Bench()
        bench.add("one", shared=["all"])
        bench.add("two", shared=["all"])
        bench.add("alone", alone=["all"])
        bench.add("three", shared=["all"])
        await bench.until(lambda: {"one", "two"} == set(bench.begun))
        bench.let("one")
        await bench.until(lambda: ["one"] == bench.ended)
        assert {"one", "two"} == set(bench.begun)
        bench.let("two")
        await bench.until(lambda: "alone" in bench.begun)
        assert "three" not in bench.begun
        bench.let("alone", "three")
        await bench.until(lambda: len(bench.ended) == 4)

    asyncio.run(story())


def test_few_threads_and_some_for_what_is_short() -> None:
    """However much there is to do; what takes long leaves a thread for the rest."""

    async def story() -> None:
        bench = Bench(threads_max=3, long_max=2)
        for name in ("l1", "l2", "l3"):
            bench.add(name, long=True)
        bench.add("s1")
        bench.add("s2")
        await bench.until(lambda: {"l1", "l2", "s1"} == set(bench.begun))
        bench.let("s1")
        await bench.until(lambda: "s2" in bench.begun)
        assert "l3" not in bench.begun
        bench.let("l1", "l2", "l3", "s2")
        await bench.until(lambda: len(bench.ended) == 5)

    asyncio.run(story())


def test_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing to do there is none; then work is done all the same."""
    monkeypatch.setattr(file_work, "LINGER_S", 0.001)

    async def story() -> None:
        bench = Bench()
        for turn in range(3):
            bench.do(lambda turn=turn: f"{turn}")
            await bench.until(lambda turn=turn: f"{turn}" in bench.ended)
            for thread in threading.enumerate():
                if thread.name == "files":
                    thread.join(10)
                    assert not thread.is_alive()

    asyncio.run(story())


def test_what_is_dropped_tells_nobody() -> None:
    """What has not begun is not done, and what has tells nobody; later work comes after it."""

    async def story() -> None:
        bench = Bench()
        bench.add("old", alone=["a"])
        bench.add("older", alone=["a"])
        await bench.until(lambda: ["old"] == bench.begun)
        bench.work.drop()
        bench.add("new", alone=["a"])
        bench.let("old", "new")
        await bench.until(lambda: bool(bench.ended))
        assert (["new"], ["old", "new"]) == (bench.ended, bench.begun)

    asyncio.run(story())


def test_an_error_is_told() -> None:
    """What a job raises is handed over, and the next is done."""

    async def story() -> None:
        bench = Bench()
        bench.do(lambda: 1 // 0, alone=["a"])
        bench.do(lambda: "next", alone=["a"])
        await bench.until(lambda: ["next"] == bench.ended)
        assert [ZeroDivisionError] == [type(error) for error in bench.crashes]

    asyncio.run(story())
