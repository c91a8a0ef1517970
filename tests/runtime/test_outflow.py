"""Answers that are asked for faster than they are read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from leoronic.runtime import host_frames
from leoronic.runtime.host_frames import FromHost, Outflow
from leoronic.wire.frames import FrameDecoder
from leoronic.wire.protocol import FrameProtocol

LARGE = "x" * 100_000


class Connection:
    """Both ends; what is sent at one is read at the other only when a test says so."""

    def __init__(self, protocol: FrameProtocol, other: socket.socket) -> None:
        self.protocol = protocol
        self._other = other
        self._decoder = FrameDecoder()

    async def read(self, count: int) -> list[dict[str, Any]]:
        """The next frames."""
        loop = asyncio.get_running_loop()
        found: list[dict[str, Any]] = []
        while len(found) < count:
            data = await loop.sock_recv(self._other, 1 << 20)
            assert data, "it was cut off"
            found += [orjson.loads(frame.json) for frame in self._decoder.feed(data)]
        return found


@pytest.fixture
async def connection() -> AsyncIterator[Connection]:
    one, other = socket.socketpair()
    other.setblocking(False)
    protocol = FrameProtocol(lambda *_: None, lambda *_: None, send_bytes_max=500_000)
    await asyncio.get_running_loop().create_connection(lambda: protocol, sock=one)
    yield Connection(protocol, other)
    protocol.abort()
    other.close()


async def test_large_answers_do_not_cost_the_connection(connection: Connection) -> None:
    """Together they are far more than may wait to be sent: they leave as they are read."""
    outflow = Outflow(connection.protocol)
    for number in range(50):
        outflow.answer(FromHost(answer=number, result=LARGE))
    outflow.answer(FromHost(answer=50, result="small"))
    answers = await connection.read(51)
    assert list(range(51)) == sorted(answer["answer"] for answer in answers)
    # It did not wait behind all of them.
    assert 50 in [answer["answer"] for answer in answers[:20]]


async def test_what_waits_is_bounded(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond that, who asked is told so."""
    monkeypatch.setattr(host_frames, "LARGE_WAITING_BYTES_MAX", 250_000)
    outflow = Outflow(connection.protocol)
    for number in range(3):
        outflow.answer(FromHost(answer=number, result=LARGE))
    answers = {answer["answer"]: answer for answer in await connection.read(3)}
    assert [LARGE, LARGE] == [answers[number]["result"] for number in (0, 1)]
    assert "unavailable" == answers[2]["error"]["code"]
