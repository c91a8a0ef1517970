"""Who may be served, and that those who misbehave harm nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from leoronic.actors import bulk_greeting, bulk_server, standing
from leoronic.actors.bulk_greeting import BulkRefused, Opened, call
from leoronic.actors.standing import make_standing
from leoronic.errors import ProtocolError
from leoronic.wire.bulk import (
    ANSWER_BYTES_MAX,
    FILES,
    REFUSED,
    GetPart,
    Missed,
    decode_answer,
    encode,
)
from leoronic.wire.cookie import new_cookie
from leoronic.wire.hello import BUSY, Refused
from leoronic.wire.preface import PROTOCOL_MAX, PROTOCOL_MIN
from tests.actors.bulk_node import BulkNode, bulk_in, line_of, read_line
from tests.actors.peer_node import COOKIE, on_uvloop, peer_in
from tests.runtime.actors import until

ENDS_S_MAX = 10.0


async def stranger(node: str = "zzz", cookie: str = COOKIE) -> standing.Standing:
    """Somebody who holds that cookie."""
    return await make_standing([cookie], node, "0", (PROTOCOL_MIN, PROTOCOL_MAX))


async def called(victim: BulkNode, who: standing.Standing, me: str = "zzz") -> Opened:
    """Call the victim for files."""
    return await asyncio.to_thread(call, victim.peer.address, FILES, who, me, victim.node)


def closed_after(opened: Opened, said: bytes) -> list[Refused | object]:
    """What is answered to `said`, sent as it is inside TLS, until the other side closes."""
    stream = opened.stream
    stream._tls.write(said)
    stream._begin(0)
    stream._flush()
    answers: list[Refused | object] = []
    try:
        while True:
            answers.append(decode_answer(stream.receive(ANSWER_BYTES_MAX, 1 << 20)[0]))
    except ConnectionError:
        return answers
    finally:
        stream.close()


@on_uvloop
async def test_an_old_node_is_not_confused(tmp_path: Path) -> None:
    """Who does not take such connections leaves the word out of its line, and closes."""
    async with peer_in(tmp_path, "aaa") as old, bulk_in(tmp_path, "bbb") as b:
        line = await asyncio.to_thread(read_line, old.port, line_of(b, FILES))
        assert b"leoronic protocol=1-1" == line[:21]
        assert b"for=" not in line
        who = await stranger()
        with pytest.raises(BulkRefused, match="takes no connection for files now"):
            await asyncio.to_thread(call, old.address, FILES, who, "zzz", "aaa")


@on_uvloop
async def test_another_cookie(tmp_path: Path) -> None:
    """It is told so before TLS, as between nodes."""
    async with bulk_in(tmp_path, "aaa") as a:
        with pytest.raises(BulkRefused, match="belongs to another cluster"):
            await called(a, await stranger(cookie=new_cookie()))


@on_uvloop
async def test_a_line_that_lies(tmp_path: Path) -> None:
    """The cluster's name is public; its certificate cannot be made without the cookie."""
    async with bulk_in(tmp_path, "aaa") as a:
        assert a.port.standing is not None
        wrong = await stranger(cookie=new_cookie())
        (identity,) = wrong.identities.values()
        (cluster,) = a.port.standing.identities
        lie = standing.Standing(a.port.standing.preface, {cluster: identity})
        with pytest.raises((BulkRefused, ConnectionError)):
            await called(a, lie)
        await until(lambda: bool(a.problems))
        assert not a.server._strangers


@on_uvloop
async def test_another_node_than_was_called(tmp_path: Path) -> None:
    """Addresses change hands: who answers is told by its certificate."""
    async with bulk_in(tmp_path, "aaa") as a:
        who = await stranger()
        with pytest.raises(BulkRefused, match="another node answers at"):
            await asyncio.to_thread(call, a.peer.address, FILES, who, "zzz", "ccc")


@on_uvloop
async def test_a_name_that_is_not_its_own(tmp_path: Path) -> None:
    """Nobody is served in the name of another."""
    async with bulk_in(tmp_path, "aaa") as a:
        with pytest.raises(BulkRefused, match="you say that you are ccc"):
            await called(a, await stranger(), me="ccc")


@pytest.mark.parametrize(
    "said",
    [
        struct.pack("!II", 0xFFFFFFFF, 0),
        struct.pack("!II", 2, 0xFFFFFFFF) + b"{}",
        struct.pack("!II", 2, 0) + b"{}",
        struct.pack("!II", 4, 0) + b"\xff\xfe[[",
        struct.pack("!II", 40000, 0) + b"[" * 40000,
        struct.pack("!II", 57, 0) + b'{"type":"GetChunk","request":1,"digest":"../x","index":0}',
    ],
    ids=["huge", "blob", "empty", "bytes", "deep", "digest"],
)
def test_what_nobody_may_say(tmp_path: Path, said: bytes) -> None:
    """It is told why, its connection ends, and others are served as before."""

    @on_uvloop
    async def run() -> None:
        async with bulk_in(tmp_path, "aaa") as a:
            who = await stranger()
            answers = await asyncio.to_thread(closed_after, await called(a, who), said)
            assert [Refused] == [type(answer) for answer in answers]
            await until(lambda: a.server.serving == 0)
            opened = await called(a, who)
            assert REFUSED == (await asked(opened, GetPart(1, "../x", 0, 1))).code
            opened.stream.close()

    run()


async def asked(opened: Opened, request: GetPart) -> Missed:
    """What is answered."""
    opened.stream.send(encode(request))
    json, _ = await asyncio.to_thread(opened.stream.receive, ANSWER_BYTES_MAX)
    said = decode_answer(json)
    assert isinstance(said, Missed)
    return said


@on_uvloop
async def test_strangers_who_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They hold a few threads at most, the oldest goes first, and others are served meanwhile."""
    monkeypatch.setattr(bulk_server, "STRANGERS_MAX", 2)
    monkeypatch.setattr(bulk_greeting, "HANDSHAKE_S_MAX", 60.0)
    async with bulk_in(tmp_path, "aaa") as a:
        silent = []
        for _ in range(5):
            found = socket.create_connection(("127.0.0.1", a.peer.port), 5)
            found.sendall(line_of(a, FILES))
            assert await asyncio.to_thread(found.recv, 512)
            silent.append(found)
        opened = await called(a, await stranger())
        assert REFUSED == (await asked(opened, GetPart(1, "/x", 0, 1))).code
        await until(lambda: len(a.server._strangers) <= 2)
        assert b"" == await asyncio.to_thread(silent[0].recv, 1)
        opened.stream.close()
        for found in silent:
            found.close()


@on_uvloop
async def test_a_greeting_byte_by_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line, TLS and the first frame have one deadline, however often a byte comes."""
    monkeypatch.setattr(bulk_greeting, "HANDSHAKE_S_MAX", 0.1)
    async with bulk_in(tmp_path, "aaa") as a:
        assert await asyncio.to_thread(_drips, a.peer.port, line_of(a, FILES)) < ENDS_S_MAX
        await until(lambda: not a.server._strangers)


def _drips(port: int, line: bytes) -> float:
    """Seconds until the other side has had enough of one who begins TLS in single bytes."""
    with socket.create_connection(("127.0.0.1", port), ENDS_S_MAX) as found:
        found.sendall(line)
        found.recv(512)
        found.settimeout(0.02)
        began = time.monotonic()
        try:
            for byte in _client_hello():
                found.sendall(bytes([byte]))
                try:
                    if not found.recv(512):
                        break
                except TimeoutError:
                    pass
        except ConnectionError:
            pass
        return time.monotonic() - began


def _client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    with contextlib.suppress(ssl.SSLWantReadError):
        client.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


@on_uvloop
async def test_as_many_as_it_can(tmp_path: Path) -> None:
    """One node is served on a few connections, and told to come back for more."""
    async with bulk_in(tmp_path, "aaa") as a:
        who = await stranger()
        opened = [await called(a, who) for _ in range(bulk_server.SERVED_PER_NODE_MAX)]
        with pytest.raises(BulkRefused) as caught:
            await called(a, who)
        assert BUSY == caught.value.reason_code
        opened.pop().stream.close()
        await until(lambda: a.server.serving == len(opened))
        opened.append(await called(a, who))
        for one in opened:
            one.stream.close()


@on_uvloop
async def test_who_does_not_read(tmp_path: Path) -> None:
    """An answer that is not taken ends the connection, and its thread."""
    async with bulk_in(tmp_path, "aaa", stall_s=0.05) as a:
        (a.root / "x").write_bytes(bytes(4 << 20))
        opened = await called(a, await stranger())
        for number in range(64):
            opened.stream.send(encode(GetPart(number, "x", 0, 4 << 20)))
        await until(lambda: a.server.serving == 0 and bool(a.problems))
        assert [("zzz", "timed out")] == a.problems
        opened.stream.close()


@on_uvloop
async def test_half_a_request(tmp_path: Path) -> None:
    """Who begins a frame and never ends it is not waited for."""
    async with bulk_in(tmp_path, "aaa", stall_s=0.05) as a:
        opened = await called(a, await stranger())
        said = struct.pack("!II", 40, 0) + b"{"
        assert [] == await asyncio.to_thread(closed_after, opened, said)
        await until(lambda: a.server.serving == 0 and bool(a.problems))


@on_uvloop
async def test_an_answer_to_nothing(tmp_path: Path) -> None:
    """A served node that gets an answer instead of a request ends the connection."""
    async with bulk_in(tmp_path, "aaa") as a:
        opened = await called(a, await stranger())
        answers = await asyncio.to_thread(
            closed_after, opened, _frame(encode(Missed(1, REFUSED, "no")))
        )
        assert [Refused] == [type(answer) for answer in answers]


def _frame(json: bytes) -> bytes:
    return struct.pack("!II", len(json), 0) + json


@on_uvloop
async def test_a_frame_that_claims_too_much_of_a_client(tmp_path: Path) -> None:
    """Its limit is checked before anything of it is kept."""
    async with bulk_in(tmp_path, "aaa") as a:
        opened = await called(a, await stranger())
        opened.stream.send(encode(GetPart(1, "x", 0, 10)))
        receive: Callable[..., object] = opened.stream.receive
        with pytest.raises(ProtocolError, match="over the limit"):
            await asyncio.to_thread(receive, 3)
        opened.stream.close()
