"""Parties of two nodes prove to each other that they hold the cookie."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from leoronic.remote import said
from leoronic.remote.channel import Channel
from leoronic.remote.gone import PartyGone
from leoronic.remote.said import Hello
from leoronic.remote.tls import Tls
from leoronic.wire.calls import CALL, NO_PARTY
from leoronic.wire.cookie import fingerprint, write_cookies
from leoronic.wire.preface import Preface, decode_preface

WITHIN_S = 20.0
OLD, NEW, OTHER = "a" * 32, "b" * 32, "c" * 32

MakeEnd = Callable[..., "End"]


class End:
    """A party of node `node` that holds `cookies`, and what it hears."""

    def __init__(self, folder: Path, node: str, *cookies: str, says: str = "") -> None:
        write_cookies(folder / "cookie", list(cookies))
        self.tls = Tls(folder, lambda: node)
        self.folder = folder
        self.hello = Hello(f"party of {node}", says or node)
        self.heard: asyncio.Queue[object] = asyncio.Queue()
        self.reasons: asyncio.Queue[str] = asyncio.Queue()

    def channel(self) -> Channel:
        return Channel(
            self.hello,
            on_said=lambda channel, kind, body: self.heard.put_nowait(body),
            on_closed=lambda channel, reason: self.reasons.put_nowait(reason),
        )


@pytest.fixture
def make_end(tmp_path: Path) -> MakeEnd:
    """Makes ends, in a folder each."""

    def make(node: str, *cookies: str, says: str = "") -> End:
        folder = tmp_path / node
        folder.mkdir()
        return End(folder, node, *cookies, says=says)

    return make


def pair() -> tuple[socket.socket, socket.socket]:
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    return ends


async def first_line(found: socket.socket) -> bytes:
    """As the node reads it before it hands the connection over."""
    return (await asyncio.get_running_loop().sock_recv(found, 512)).rstrip(b"\n")


async def connect(caller: End, called: End) -> tuple[Channel, Channel]:
    """Both ends of a connection between them."""
    here, there = pair()
    calling = asyncio.ensure_future(caller.tls.call(here, "t.1", caller.channel))
    line = await first_line(there)
    answering = asyncio.ensure_future(called.tls.called(there, line, called.channel))
    done = await asyncio.gather(calling, answering, return_exceptions=True)
    for one in done:
        if isinstance(one, BaseException):
            raise one
    one, other = done
    assert isinstance(one, Channel)
    assert isinstance(other, Channel)
    return one, other


@pytest.mark.parametrize("cookies", [((NEW,), (NEW,)), ((NEW, OLD), (OLD,)), ((OLD,), (NEW, OLD))])
async def test_who_holds_a_common_cookie_is_let_in(
    make_end: MakeEnd, cookies: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    """Also while the cookie changes; each knows the other's node by its certificate."""
    a, b = make_end("a", *cookies[0]), make_end("b", *cookies[1])
    async with asyncio.timeout(WITHIN_S):
        here, there = await connect(a, b)
        assert ("b", "b") == ((await here.opened).node, here.certified)
        assert ("a", "a") == ((await there.opened).node, there.certified)
        here.say(said.ASK, (1, "hello"))
        assert (1, "hello") == await b.heard.get()
        here.close("enough")
        assert "enough" == await b.reasons.get()
        await asyncio.gather(here.lost(), there.lost())


async def test_a_new_cookie_counts_at_once(make_end: MakeEnd) -> None:
    """It is read anew for each connection, and certificates are made for what is new."""
    a, b = make_end("a", OLD), make_end("b", OLD)
    async with asyncio.timeout(WITHIN_S):
        for cookies in ([OLD], [NEW, OLD], [NEW]):
            for end in (a, b):
                write_cookies(end.folder / "cookie", cookies)
            here, there = await connect(a, b)
            await here.opened
            here.abort("enough")
            await asyncio.gather(here.lost(), there.lost())


async def test_nobody_says_that_it_is_of_another_node(make_end: MakeEnd) -> None:
    """The certificate tells whose it is."""
    a, b = make_end("a", NEW, says="somebody"), make_end("b", NEW)
    async with asyncio.timeout(WITHIN_S):
        here, there = await connect(a, b)
        assert "its certificate is that of a, not somebody" == await b.reasons.get()
        await asyncio.gather(here.lost(), there.lost())


async def test_another_cluster_is_told_before_tls(make_end: MakeEnd) -> None:
    """Both learn what to do."""
    a, b = make_end("a", NEW), make_end("b", OTHER)
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(PartyGone, match="it belongs to another cluster") as raised:
            await connect(a, b)
    assert not raised.value.nobody_listens


async def test_who_names_a_cookie_that_it_does_not_hold_is_refused(make_end: MakeEnd) -> None:
    """The fingerprint is public; the handshake is what counts."""
    a, b = make_end("a", OTHER), make_end("b", NEW)
    liar = (await a.tls._current())[fingerprint(OTHER)]
    a.tls._by_cookie = {NEW: liar._replace(fingerprint=fingerprint(NEW))}
    write_cookies(a.folder / "cookie", [NEW])
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(OSError, match=r"(?i)certificate"):
            await connect(a, b)
    assert b.heard.empty()


@pytest.mark.parametrize(
    ("purpose", "told", "nobody_listens"),
    [(NO_PARTY, "t.1 is not there", True), ("", "takes no calls: update it", False)],
)
async def test_what_the_node_answers_itself(
    make_end: MakeEnd, purpose: str, told: str, nobody_listens: bool
) -> None:
    """That nobody of that id is there; or nothing about calls, as it does not know them."""
    a = make_end("a", NEW)
    here, node = pair()
    with node:
        calling = asyncio.ensure_future(a.tls.call(here, "t.1", a.channel))
        async with asyncio.timeout(WITHIN_S):
            asked = decode_preface(await first_line(node))
            assert (CALL, "t.1") == (asked.purpose, asked.party)
            answer = Preface((fingerprint(NEW),), "0.1", purpose=purpose)
            await asyncio.get_running_loop().sock_sendall(node, answer.encode())
            with pytest.raises(PartyGone, match=told) as raised:
                await calling
    assert nobody_listens == raised.value.nobody_listens
    assert -1 == here.fileno()


@pytest.mark.parametrize(
    ("answer", "error"),
    [(b"", OSError), (b"SSH-2.0-OpenSSH\r\n", PartyGone), (b"x" * 2000, PartyGone)],
)
async def test_what_is_no_node(make_end: MakeEnd, answer: bytes, error: type[Exception]) -> None:
    """It ends there, and the socket is closed."""
    a = make_end("a", NEW)
    here, node = pair()
    with node:
        calling = asyncio.ensure_future(a.tls.call(here, "t.1", a.channel))
        async with asyncio.timeout(WITHIN_S):
            await first_line(node)
            await asyncio.get_running_loop().sock_sendall(node, answer)
            node.shutdown(socket.SHUT_WR)
            with pytest.raises(error):
                await calling
    assert -1 == here.fileno()


async def test_without_a_cookie_nobody_is_called(make_end: MakeEnd) -> None:
    """The reason says so."""
    a = make_end("a", NEW)
    (a.folder / "cookie").unlink()
    here, node = pair()
    with node, pytest.raises(PartyGone, match="cookie"):
        await a.tls.call(here, "t.1", a.channel)
    assert -1 == here.fileno()
