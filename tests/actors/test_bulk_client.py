"""What one node gets from another: real sockets, real threads, real TLS."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from leoronic.actors import bulk_client
from leoronic.actors.bulk_asking import FileBytes
from leoronic.actors.bulk_client import PER_NODE_MAX
from leoronic.core.blob import CHUNK_BYTES
from leoronic.wire.bulk import CORRUPT, NOT_HERE, REFUSED, UNREACHABLE, Missed, Page
from tests.actors.bulk_node import BulkNode, bulk_in, two
from tests.actors.peer_node import on_uvloop
from tests.runtime.actors import until

DATA = os.urandom(65536) * 160 + b"the end"


@on_uvloop
async def test_a_blob_comes_whole(tmp_path: Path) -> None:
    """Chunks are asked for at once, and each is checked and written; the last one is shorter."""
    async with two(tmp_path) as (a, b):
        ref = a.keep(DATA)
        part = b.begin(ref, a)
        assert 3 == part.chunks.count
        got = await asyncio.gather(*(b.client.pull("aaa", part, index) for index in range(3)))
        assert [None] * 3 == got
        part.finish()
        assert DATA == b.store.path(ref.digest).read_bytes()
        assert 1 == b.client.connections


@on_uvloop
async def test_what_has_come_is_handed_on(tmp_path: Path) -> None:
    """A node that has only a part of a blob serves the chunks that it has."""
    async with two(tmp_path) as (a, b), bulk_in(tmp_path, "ccc") as c:
        ref = a.keep(DATA)
        part, third = b.begin(ref, a), c.begin(ref, a)
        assert await b.client.pull("aaa", part, 1) is None
        c.others = {"bbb": b}
        assert await c.client.pull("bbb", third, 1) is None
        got = await c.client.pull("bbb", third, 0)
        assert isinstance(got, Missed)
        assert NOT_HERE == got.code


@on_uvloop
async def test_a_damaged_chunk(tmp_path: Path) -> None:
    """It is found where it is read, and never leaves; another connection goes on."""
    async with two(tmp_path) as (a, b):
        ref = a.keep(DATA)
        part = b.begin(ref, a)
        path = a.store.path(ref.digest)
        path.chmod(0o644)
        with path.open("r+b") as file:
            file.seek(CHUNK_BYTES + 5)
            file.write(b"damage")
        got = await b.client.pull("aaa", part, 1)
        assert isinstance(got, Missed)
        assert CORRUPT == got.code
        other = a.keep(b"something else")
        assert await b.client.pull("aaa", b.begin(other, a), 0) is None


@on_uvloop
async def test_bytes_that_are_not_the_chunk(tmp_path: Path) -> None:
    """What another node sends is believed only if it has the digest; the connection stays."""
    async with two(tmp_path) as (a, b):
        ref = a.keep(DATA)
        part = b.begin(ref, a)
        for size in (CHUNK_BYTES, CHUNK_BYTES - 1, 0):
            a.server._store = Liar(size)
            got = await b.client.pull("aaa", part, 0)
            assert isinstance(got, Missed)
            assert CORRUPT == got.code
            assert not part.has(0)
        a.server._store = a.store
        assert await b.client.pull("aaa", part, 0) is None
        assert 1 == b.client.connections


class Liar:
    """A store whose chunks are zeros."""

    def __init__(self, size: int = CHUNK_BYTES) -> None:
        self._size = size

    def read_chunk(self, digest: str, index: int) -> bytes:
        return bytes(self._size)

    def under_way(self, digest: str) -> None:
        return None


@on_uvloop
async def test_a_chunk_that_is_too_big(tmp_path: Path) -> None:
    """It would not fit: the connection ends, and what was asked on it is missed."""
    async with two(tmp_path) as (a, b):
        part = b.begin(a.keep(b"short"), a)
        a.server._store = Liar()
        got = await b.client.pull("aaa", part, 0)
        assert isinstance(got, Missed)
        assert UNREACHABLE == got.code
        assert "over the limit" in got.reason


@on_uvloop
async def test_two_connections_to_one_node_at_most(tmp_path: Path) -> None:
    """Many requests make a second connection, and no third."""
    async with two(tmp_path) as (a, b):
        parts = [b.begin(a.keep(os.urandom(100)), a) for _ in range(40)]
        asked = [b.client.pull("aaa", part, 0) for part in parts]
        assert PER_NODE_MAX == b.client.connections
        assert [None] * 40 == await asyncio.gather(*asked)
        assert PER_NODE_MAX == b.client.connections


@on_uvloop
async def test_more_nodes_than_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gets its turn: a connection gives way once its work is done."""
    monkeypatch.setattr(bulk_client, "CONNECTIONS_MAX", 1)
    async with two(tmp_path) as (a, b), bulk_in(tmp_path, "ccc") as c:
        b.others["ccc"] = c
        asked = []
        for origin in (a, c, a, c):
            part = b.begin(origin.keep(os.urandom(CHUNK_BYTES + 1)), origin)
            asked += [b.client.pull(origin.node, part, index) for index in range(2)]
        assert 1 == b.client.connections
        assert [None] * 8 == await asyncio.gather(*asked)
        assert 1 == b.client.connections


@on_uvloop
async def test_a_node_that_cannot_be_called(tmp_path: Path) -> None:
    """It is asked to call, and serves on that connection."""
    async with two(tmp_path) as (a, b):
        b.silent.add("aaa")
        part = b.begin(a.keep(DATA), a)
        got = await asyncio.gather(*(b.client.pull("aaa", part, index) for index in range(3)))
        assert [None] * 3 == got
        assert ["aaa"] == b.asked
        assert 1 == a.server.serving
        assert 0 == b.server.serving


@on_uvloop
async def test_a_node_that_does_not_call(tmp_path: Path) -> None:
    """Nobody waits for it for ever."""
    async with two(tmp_path) as (a, b):
        b.silent.add("aaa")
        a.others.clear()
        b.client._called_s_max = 0.01
        got = await b.client.pull("aaa", b.begin(a.keep(DATA), a), 0)
        assert got == Missed(0, UNREACHABLE, "it cannot be called, and does not call within 0.01 s")


@on_uvloop
async def test_the_other_side_ends(tmp_path: Path) -> None:
    """What was asked is missed; asked again, it goes on over a new connection."""
    async with two(tmp_path) as (a, b):
        part = b.begin(a.keep(DATA), a)
        assert await b.client.pull("aaa", part, 0) is None
        a.server._store = Leaver(a)
        got = await b.client.pull("aaa", part, 1)
        assert isinstance(got, Missed)
        assert UNREACHABLE == got.code


class Leaver(Liar):
    """A store that ends its node's connections when it is asked."""

    def __init__(self, node: BulkNode) -> None:
        super().__init__()
        self._node = node

    def read_chunk(self, digest: str, index: int) -> bytes:
        self._node.server.close()
        return b""


@on_uvloop
async def test_silence(tmp_path: Path) -> None:
    """Who answers nothing is given up after a while, and so is one that is idle."""
    async with two(tmp_path, idle_s=0.01) as (a, b):
        part = b.begin(a.keep(DATA), a)
        assert await b.client.pull("aaa", part, 0) is None
        await until(lambda: not b.client.connections and not a.server.serving)
        assert await b.client.pull("aaa", part, 1) is None


@on_uvloop
async def test_a_node_that_goes_down(tmp_path: Path) -> None:
    """What was asked of it is missed at once."""
    async with two(tmp_path) as (a, b):
        b.silent.add("aaa")
        a.others.clear()
        asked = b.client.pull("aaa", b.begin(a.keep(DATA), a), 0)
        b.client.drop("aaa", "it is down")
        assert Missed(0, UNREACHABLE, "it is down") == await asked


@on_uvloop
async def test_files_of_the_working_directory(tmp_path: Path) -> None:
    """They are listed, and read part by part; nothing of the node's own is among them."""
    async with two(tmp_path) as (a, b):
        (a.root / "out").mkdir()
        (a.root / "out" / "x.txt").write_bytes(b"0123456789")
        page = await b.client.list_page("aaa")
        assert isinstance(page, Page)
        assert [("out", "folder", 0), ("out/x.txt", "file", 10)] == [
            (entry.path, entry.kind, entry.size) for entry in page.entries
        ]
        got = await b.client.read_part("aaa", "out/x.txt", 4, 3)
        assert isinstance(got, FileBytes)
        assert FileBytes(bytearray(b"456"), 10, page.entries[1].mtime_ns) == got
        got = await b.client.read_part("aaa", ".leoronic/cookie", 0)
        assert isinstance(got, Missed)
        assert REFUSED == got.code


@on_uvloop
async def test_who_has_just_started_waits_until_it_knows_who_it_is(tmp_path: Path) -> None:
    """What it asks for before that comes soon after, though nobody can call it then."""
    async with two(tmp_path) as (a, b):
        ref = a.keep(b"data")
        known = b.client._standing
        looked: list[None] = []

        def standing() -> object:
            looked.append(None)
            return known() if len(looked) > 3 else None

        b.client._standing = standing  # type: ignore[assignment]
        b.client._ask_to_call = lambda node: None
        assert await b.client.pull("aaa", b.begin(ref, a), 0) is None
