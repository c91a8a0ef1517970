"""Which of two connections between two nodes stays: real sockets on loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from leoronic.actors import link_table
from leoronic.core.peer import LinkUp
from tests.actors.peer_node import on_uvloop, only_link, peer_in
from tests.runtime.actors import until


@on_uvloop
async def test_three_nodes_that_call_each_other_at_once(tmp_path: Path) -> None:
    """There is one connection for each pair, the same on both sides."""
    async with (
        peer_in(tmp_path, "aaa") as a,
        peer_in(tmp_path, "bbb") as b,
        peer_in(tmp_path, "ccc") as c,
    ):
        everybody = (a, b, c)
        for one in everybody:
            await one.find(*everybody)
        for one in everybody:
            await one.up(*({"aaa", "bbb", "ccc"} - {one.node}))
        while True:
            if not any(one.actor._connecting for one in everybody):
                break
            await asyncio.sleep(0)
        for one in everybody:
            assert sorted({"aaa", "bbb", "ccc"} - {one.node}) == await one.links()
        calls = [link.called for one in everybody for link in (await one.describe()).links]
        assert 3 == calls.count(True)
        # What was one's own address is known to be that.
        assert all(place.node for place in (await a.describe()).places)


@on_uvloop
async def test_a_node_that_starts_again(tmp_path: Path) -> None:
    """It is connected at once, by either side, with its new life."""
    async with peer_in(tmp_path, "bbb") as b:
        async with peer_in(tmp_path, "aaa", life=1) as a:
            await b.find(a)
            await b.up("aaa")
            port = a.port
        async with peer_in(tmp_path, "aaa", life=2, port=port) as again:
            (up,) = await b.up("aaa")
            assert 2 == up.about.life
            await again.up("bbb")


@on_uvloop
async def test_a_silent_connection_gives_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that lost its connection without a word, and calls again, is let in."""
    monkeypatch.setattr(link_table, "SILENT_S_MAX", 0.05)
    async with peer_in(tmp_path, "aaa") as a, peer_in(tmp_path, "bbb") as b:
        await b.find(a)
        await b.up("aaa")
        await a.up("bbb")
        old = only_link(b)
        # As if the machine had lost power: nothing is sent, and nothing answered.
        b.actor._links.remove(old)
        old._pause(True)
        b.actor._calling.book.lost("aaa", asyncio.get_running_loop().time())
        b.actor._calling.call_due()
        down, up = await a.membership.until(lambda messages: len(messages) >= 2)
        assert "it was silent, and calls again" == down.reason
        assert isinstance(up, LinkUp)
        old.close("test over", abort=True)


@pytest.mark.parametrize("first", ["original", "copy"])
@on_uvloop
async def test_a_copied_folder(tmp_path: Path, first: str) -> None:
    """Of two nodes with one identity, the one that started later is told, whoever came first."""
    async with (
        peer_in(tmp_path, "bbb") as b,
        peer_in(tmp_path, "aaa", life=5) as original,
        peer_in(tmp_path, "aaa", life=6) as copy,
    ):
        one, two = (original, copy) if first == "original" else (copy, original)
        await one.find(b)
        await one.up("bbb")
        await b.up("aaa")
        await two.find(b)
        await until(lambda: bool(copy.copied))
        assert [] == original.copied
        assert "runs already, as name-aaa" in copy.copied[0]
        if first == "copy":
            await original.up("bbb")
        assert [5] == [link.hello.about.life for link in b.actor._links.all()]


@on_uvloop
async def test_a_copy_meets_the_original(tmp_path: Path) -> None:
    """The later started of the two is told, whoever calls."""
    async with (
        peer_in(tmp_path, "aaa", life=5) as original,
        peer_in(tmp_path, "aaa", life=6) as copy,
    ):
        await original.find(copy)
        await until(lambda: bool(copy.copied))
        copy.copied.clear()
        await copy.find(original)
        await until(lambda: bool(copy.copied))
        assert [] == original.copied
        assert [] == await original.links()
