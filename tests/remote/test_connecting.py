"""Of several addresses, the first that answers is used, and silent ones are not waited for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from leoronic.remote import connecting
from leoronic.remote.connecting import NoneAnswers, connect_any

WITHIN_S = 10.0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody is there."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


@pytest.fixture
def closed() -> str:
    """An address where nobody is."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return f"127.0.0.1:{found.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that does not answer: its queue of connections is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as found:
        place = found.getsockname()
        fill = [socket.socket() for _ in range(4)]
        for one in fill:
            one.setblocking(False)
            one.connect_ex(place)
        yield f"127.0.0.1:{place[1]}"
        for one in fill:
            one.close()


def address_of(listener: socket.socket) -> str:
    return f"127.0.0.1:{listener.getsockname()[1]}"


async def test_who_refuses_is_passed_over_at_once(listener: socket.socket, closed: str) -> None:
    """And what is no address is, too."""
    wanted = address_of(listener)
    async with asyncio.timeout(WITHIN_S):
        address, found = await connect_any(["no address", closed, wanted])
    assert wanted == address
    with found:
        assert listener.getsockname() == found.getpeername()
        assert 1 == found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_silent_address_is_not_waited_for_alone(
    listener: socket.socket, silent: str
) -> None:
    """The next one is tried beside it."""
    async with asyncio.timeout(connecting.CONNECT_S_MAX / 2):
        address, found = await connect_any([silent, address_of(listener)])
    found.close()
    assert address_of(listener) == address


async def test_the_first_is_preferred(listener: socket.socket) -> None:
    """While it answers, no other is called."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        async with asyncio.timeout(WITHIN_S):
            _, found = await connect_any([address_of(listener), address_of(other)])
        found.close()
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()


async def test_if_nobody_answers_the_reason_tells_of_each(
    closed: str, silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who refused, who was silent, and what is no address."""
    monkeypatch.setattr(connecting, "CONNECT_S_MAX", 0.05)
    with pytest.raises(NoneAnswers) as raised:
        await connect_any([closed, silent, "what"])
    told = str(raised.value)
    assert f"{closed}: " in told
    assert f"{silent}: no answer within 0.05 s" in told
    assert "what: " in told
    with pytest.raises(NoneAnswers, match="not known"):
        await connect_any([])
