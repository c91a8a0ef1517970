"""The peer port among strangers, liars and bad bytes: nobody else is disturbed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from integration.harness import alive, proportional
from integration.peer_victim import NODE
from leoronic.core import peer
from leoronic.core.view import About
from leoronic.wire.cookie import fingerprint, write_cookies
from leoronic.wire.frames import FrameDecoder, encode_frame
from leoronic.wire.hello import Hello, Ping, Welcome, codec
from leoronic.wire.identity import Identity, make_identities
from leoronic.wire.preface import Preface

COOKIE = "0123456789abcdefghjkmnpqrstvwxyz"
GREETING = Preface((fingerprint(COOKIE),), "1").encode()
ANSWER_S_MAX = 1.0
MIB = 1 << 20
SEED = 20261120

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Victim:
    """The process under attack."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.pid = process.pid
        self.port = port

    def memory(self) -> int:
        return proportional([self.pid])


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    cookie = tmp_path_factory.mktemp("victim") / "cookie"
    write_cookies(cookie, [COOKIE])
    log = cookie.with_name("log")
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "integration.peer_victim", str(cookie)],
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    try:
        assert process.stdout is not None
        yield Victim(process, int(process.stdout.readline()))
        assert alive(process.pid), log.read_text()[-3000:]
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="module")
def identities() -> dict[str, Identity]:
    return {node: make_identities([COOKIE], node)[0] for node in ("bystander", "liar")}


async def connect(victim: Victim, identity: Identity) -> Streams:
    """As far as TLS."""
    reader, writer = await asyncio.open_connection("127.0.0.1", victim.port)
    writer.write(GREETING)
    await reader.readline()
    await writer.start_tls(identity.calling)
    return reader, writer


async def join(victim: Victim, identity: Identity, node: str) -> Streams:
    """All the way: welcomed by the victim."""
    reader, writer = await connect(victim, identity)
    about = About(name=node, version="1", life=1)
    for said in (Hello(node, about, 1, 1, 1), Welcome()):
        writer.write(encode_frame(codec.encode(said)))
    decoder, frames = FrameDecoder(), []
    while len(frames) < 2:
        data = await reader.read(65536)
        assert data, "not welcomed"
        frames += decoder.feed(data)
    assert [Hello, Welcome] == [type(codec.decode(frame.json)) for frame in frames]
    return reader, writer


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while part := await reader.read(65536):
            data += part
    return data


@contextlib.asynccontextmanager
async def bystander(victim: Victim, identity: Identity) -> AsyncIterator[None]:
    """Another node, which must get its answers all the time; and memory stays as it was."""
    before = victim.memory()
    reader, writer = await join(victim, identity, "bystander")
    slowest_s, answers, over = 0.0, 0, asyncio.Event()

    async def ask() -> None:
        nonlocal slowest_s, answers
        decoder = FrameDecoder()
        while not over.is_set() or not answers:
            began = time.monotonic()
            json, blob = peer.encode(peer.Probe("bystander", target=str(answers)))
            writer.write(encode_frame(json, blob))
            frames = []
            while not frames:
                data = await reader.read(65536)
                assert data, "the bystander lost its connection"
                frames = decoder.feed(data)
            assert peer.ProbeAnswer(NODE, target=str(answers)) == peer.decode(frames[0].json)
            slowest_s = max(slowest_s, time.monotonic() - began)
            answers += 1
            await asyncio.sleep(0.01)

    asking = asyncio.create_task(ask())
    yield
    over.set()
    async with asyncio.timeout(5):
        await asking
    writer.close()
    assert slowest_s < ANSWER_S_MAX, f"an answer took {slowest_s:.2f} s"
    assert victim.memory() < before + 24 * MIB


async def test_random_bytes(victim: Victim, identities: dict[str, Identity]) -> None:
    """Before the greeting, after it, and where TLS should begin."""
    chance = random.Random(SEED)
    async with bystander(victim, identities["bystander"]), asyncio.timeout(20):
        for number in range(150):
            reader, writer = await asyncio.open_connection("127.0.0.1", victim.port)
            if number % 3:
                writer.write(GREETING)
            if number % 3 == 2:
                await reader.readline()
            writer.write(chance.randbytes(chance.choice([1, 8, 100, 5_000, 200_000])) + b"\n")
            with contextlib.suppress(OSError):
                await writer.drain()
                writer.write_eof()
            await read_to_end(reader)
            writer.close()


async def test_a_thousand_connections(victim: Victim, identities: dict[str, Identity]) -> None:
    """Most are closed at once; those that remain say nothing, and are closed in a while."""
    async with bystander(victim, identities["bystander"]), asyncio.timeout(20):
        opened = [await asyncio.open_connection("127.0.0.1", victim.port) for _ in range(1000)]
        for place, (_, writer) in enumerate(opened):
            with contextlib.suppress(ConnectionError):
                # A slow-loris: a byte of the greeting at a time.
                writer.write(GREETING[place % 5 : place % 5 + 1])
        newcomer = await join(victim, identities["liar"], "liar")
        newcomer[1].close()
        for reader, writer in opened:
            await read_to_end(reader)
            writer.close()


def session() -> list[tuple[bytes, bytes]]:
    """What a real node might send."""
    about = About(name="liar", version="1", life=1, addresses=["127.0.0.1:9"])
    return [
        peer.encode(message)
        for message in (
            peer.Heartbeat("liar", sent_ms=5, echo_ms=4, have={"liar": 3}, about=about),
            peer.Probe("liar", target="x"),
            peer.ProbeAnswer("liar", target="x", heard_s=1.5),
            peer.Push("liar", first=1, count=1, needs={"x": 1}, blob=b'{"type":"Submitted"}'),
            peer.Pull("liar", have={"x": 1}),
            peer.Entries("liar", places=[("x", 1, 1)], last=True, blob=b"{}"),
            peer.Have("liar", have={"x": 2}),
            peer.Assign("liar", items=[peer.AssignItem("t", 1)]),
            peer.Interest("liar", on=True),
            peer.CheckFiles("liar", paths=["a"]),
            peer.Ask("liar", request=1),
        )
    ] + [(codec.encode(Ping(1)), b"")]


async def test_mutated_frames(victim: Victim, identities: dict[str, Identity]) -> None:
    """From somebody who holds the cookie: its own connection may end, and nothing else."""
    chance = random.Random(SEED)
    frames = session()
    async with bystander(victim, identities["bystander"]), asyncio.timeout(25):
        for _ in range(150):
            reader, writer = await join(victim, identities["liar"], "liar")
            reading = asyncio.create_task(read_to_end(reader))
            for _ in range(20):
                json, blob = chance.choice(frames)
                data = bytearray(encode_frame(json, blob))
                for _ in range(chance.choice([0, 1, 1, 3])):
                    data[chance.randrange(len(data))] = chance.randrange(256)
                with contextlib.suppress(ConnectionError):
                    writer.write(bytes(data))
            writer.close()
            await reading


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("!II", 2**32 - 1, 0),
        struct.pack("!II", 0, 2**32 - 1),
        encode_frame(*peer.encode(peer.Probe("bystander", target="x"))),
        encode_frame(b"[" * 100_000),
    ],
    ids=["huge json", "huge blob", "another sender", "nested"],
)
async def test_what_ends_a_connection(
    victim: Victim, identities: dict[str, Identity], data: bytes
) -> None:
    """With a reason, and at once."""
    async with bystander(victim, identities["bystander"]), asyncio.timeout(10):
        reader, writer = await join(victim, identities["liar"], "liar")
        writer.write(data)
        assert b'"Refused"' in await read_to_end(reader)
        writer.close()


async def test_a_name_of_somebody_else(victim: Victim, identities: dict[str, Identity]) -> None:
    """The certificate says who it is."""
    async with bystander(victim, identities["bystander"]), asyncio.timeout(10):
        reader, writer = await connect(victim, identities["liar"])
        about = About(name="x", version="1", life=2)
        writer.write(encode_frame(codec.encode(Hello("bystander", about, 1, 1, 1))))
        assert b"your certificate says liar" in await read_to_end(reader)
        writer.close()


async def test_large_frames_before_a_hello(victim: Victim, identities: dict[str, Identity]) -> None:
    """Nobody who has not been welcomed may make the node keep much."""
    async with bystander(victim, identities["bystander"]), asyncio.timeout(10):
        reader, writer = await connect(victim, identities["liar"])
        writer.write(struct.pack("!II", 1 << 20, 0))
        assert b"over the limit" in await read_to_end(reader)
        writer.close()
