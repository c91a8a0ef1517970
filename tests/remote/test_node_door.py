"""The node is asked again after it was restarted, and not for ever."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from leoronic.core.commands import Locate
from leoronic.errors import NodeUnreachable, NotFound
from leoronic.remote import node_door
from leoronic.remote.node_door import NodeDoor
from leoronic.wire.frames import Frame
from leoronic.wire.protocol import FrameProtocol
from leoronic.wire.unix import listen_unix

WITHIN_S = 10.0


class FakeNode:
    """Answers at the control socket with what it is told to; `None` closes the connection."""

    def __init__(self, root: Path) -> None:
        self.path = root / ".leoronic" / "control.sock"
        self.answers: list[dict[str, Any] | bytes | None] = []
        self.asked: list[dict[str, Any]] = []
        self.server: asyncio.Server | None = None

    async def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self.server = await asyncio.get_running_loop().create_unix_server(
            lambda: FrameProtocol(self._on_frame, lambda _, reason: None),
            sock=listen_unix(str(self.path)),
        )

    def stop(self) -> None:
        if self.server is not None:
            self.server.close()

    def _on_frame(self, protocol: FrameProtocol, frame: Frame) -> None:
        request = json.loads(frame.json)
        self.asked.append(request["command"])
        while self.answers:
            answer = self.answers.pop(0)
            if answer is None:
                protocol.close()
                return
            if isinstance(answer, bytes):
                item = {"request": request["request"], "item": {}}
                protocol.send(json.dumps(item).encode(), answer)
                continue
            protocol.send(json.dumps({"request": request["request"], **answer}).encode())
            return


@pytest.fixture
async def node(root: Path) -> AsyncIterator[FakeNode]:
    """It is to be started by the test."""
    found = FakeNode(root)
    yield found
    found.stop()


@pytest.fixture
async def door(root: Path) -> AsyncIterator[NodeDoor]:
    """A door to it."""
    found = NodeDoor(str(root))
    yield found
    found.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds takes moments."""
    monkeypatch.setattr(node_door, "BACK_S_MAX", 0.1)
    monkeypatch.setattr(node_door, "REPEAT_S_MAX", 0.0)


async def test_who_goes_away_before_it_answers_is_asked_again(
    node: FakeNode, door: NodeDoor
) -> None:
    """Its core was killed, and is back."""
    node.answers = [{"result": 1}, None, {"result": 2}]
    await node.start()
    async with asyncio.timeout(WITHIN_S):
        assert [1, 2] == [await door.ask(Locate("t")), await door.ask(Locate("t"))]
    assert 3 == len(node.asked)


async def test_what_must_not_be_done_twice_is_not_asked_again(
    node: FakeNode, door: NodeDoor
) -> None:
    """Who asked must look what became of it; the next question gets an answer."""
    node.answers = [None, {"result": 2}]
    await node.start()
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(NodeUnreachable):
            await door.ask(Locate("t"), again=False)
        assert 2 == await door.ask(Locate("t"), again=False)


async def test_a_node_that_is_not_there_yet_is_waited_for(node: FakeNode, door: NodeDoor) -> None:
    """It starts within moments."""
    node.answers = [{"result": 1}]
    asking = asyncio.ensure_future(door.ask(Locate("t")))
    await asyncio.sleep(0)
    await node.start()
    async with asyncio.timeout(WITHIN_S):
        assert 1 == await asking


@pytest.mark.usefixtures("impatient")
async def test_a_node_that_stays_away_is_given_up(node: FakeNode, door: NodeDoor) -> None:
    """Whether it never answers at its socket, or goes away each time that it is asked."""
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(NodeUnreachable):
            await door.ask(Locate("t"))
        node.answers = [None] * 3
        await node.start()
        with pytest.raises(NodeUnreachable):
            await door.ask(Locate("t"))
    assert len(node.asked) < 3


async def test_errors_of_the_node_are_raised(node: FakeNode, door: NodeDoor) -> None:
    """As what they are there."""
    node.answers = [{"error": {"code": "not_found", "message": "no such task", "definite": True}}]
    await node.start()
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(NotFound, match="no such task"):
            await door.ask(Locate("t"))


async def test_the_end_of_what_a_task_printed(node: FakeNode, door: NodeDoor) -> None:
    """Only the last bytes are asked for, and no more are kept."""
    node.answers = [{"result": {"stderr_bytes": 1000}}, b"abc", b"def", {"result": {}}]
    await node.start()
    async with asyncio.timeout(WITHIN_S):
        assert b"cdef" == await door.read_logs("t", "stderr", 4)
    assert ("logs", "stderr", 996) == tuple(
        node.asked[1][key] for key in ("type", "stream", "offset")
    )
