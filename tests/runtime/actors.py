"""Small actors that the runtime's tests share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from leoronic.core.tree import ChildSpec, SupervisorSpec
from leoronic.runtime.actor import Actor
from leoronic.runtime.supervisor import Tree

Diary = list[str]


class Echo(Actor):
    """Answers what it gets; raises it if it is an error; writes its life into a diary."""

    def __init__(self, name: str = "echo", diary: Diary | None = None) -> None:
        self.name = name
        self.diary = diary if diary is not None else []
        self.seen: list[Any] = []

    async def started(self) -> None:
        self.diary.append(f"+{self.name}")

    async def handle(self, message: Any) -> Any:
        self.seen.append(message)
        if isinstance(message, BaseException):
            raise message
        return message

    async def stopping(self) -> None:
        self.diary.append(f"-{self.name}")


class Gated(Echo):
    """As Echo, but handles nothing until its gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def handle(self, message: Any) -> Any:
        await self.gate.wait()
        return await super().handle(message)


def child(name: str, factory: Callable[[], Actor], **fields: Any) -> ChildSpec:
    return ChildSpec(name=name, factory=factory, **fields)


@asynccontextmanager
async def running(*children: ChildSpec | SupervisorSpec, **fields: Any) -> AsyncIterator[Tree]:
    """A started tree; stopped at the end."""
    clock = fields.pop("clock", lambda: 0.0)
    tree = Tree(SupervisorSpec(name="root", children=children, **fields), clock=clock)
    await tree.start()
    try:
        yield tree
    finally:
        await tree.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until `condition` holds; the test's own timeout is the limit."""
    while not condition():  # noqa: ASYNC110 - there is no event for what is looked at
        await asyncio.sleep(0)
