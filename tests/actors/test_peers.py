"""Connections between nodes: real sockets on loopback, on the loop that nodes use."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import structlog

from leoronic.actors import peers
from leoronic.actors.peers_messages import CookieChanged, NotAsked
from leoronic.core.membership_messages import Addresses, Found
from leoronic.core.outbound import Outbound
from leoronic.core.peer import Ask, Entries, Interest, LinkDown, LinkUp, Probe, ProbeAnswer
from leoronic.errors import BadRequest
from leoronic.runtime.supervisor import StartFailed
from leoronic.wire.cookie import fingerprint, new_cookie, write_cookies
from tests.actors.peer_node import COOKIE, on_uvloop, peer_in
from tests.runtime.actors import until


@on_uvloop
async def test_two_nodes_connect(tmp_path: Path) -> None:
    """Found once, both are told, and messages go both ways, blobs among them."""
    async with peer_in(tmp_path, "aaa") as a, peer_in(tmp_path, "bbb") as b:
        await a.find(b)
        assert [LinkUp("bbb", b.about, b.address, 1)] == await a.up("bbb")
        (seen,) = await b.up("aaa")
        assert ("aaa", a.about, 1) == (seen.node, seen.about, seen.version)
        assert [LinkUp("bbb", b.about, b.address, 1)] == await a.replication.first(1)
        await b.replication.first(1)
        await a.tell(Outbound("bbb", Probe("aaa", target="ccc")))
        assert [Probe("aaa", target="ccc")] == await b.membership.first(1)
        await b.tell(Outbound("aaa", ProbeAnswer("bbb", target="ccc")))
        assert [ProbeAnswer("bbb", target="ccc")] == await a.membership.first(1)
        entries = Entries("aaa", blob=b"x" * 3_000_000, last=True)
        await a.tell(Outbound("bbb", entries))
        assert [entries] == await b.replication.first(1)
        await a.tell(Outbound("nobody", Probe("aaa", target="ccc")))
        (link,) = (await a.describe()).links
        assert ("bbb", "name-bbb", b.address, 1, fingerprint(COOKIE), True) == (
            link.node,
            link.name,
            link.address,
            link.protocol,
            link.cluster,
            link.called,
        )
        assert link.sent_bytes > 3_000_000
        assert (await b.describe()).links[0].received_bytes > 3_000_000


@on_uvloop
async def test_another_cookie(tmp_path: Path) -> None:
    """Both sides say what to do, and which clusters it is about."""
    other = new_cookie()
    with structlog.testing.capture_logs() as logs:
        async with (
            peer_in(tmp_path, "aaa") as a,
            peer_in(tmp_path, "bbb", cookies=[other]) as b,
        ):
            await a.find(b)
            reason = await a.reason_at(b.address)
            await until(lambda: len([log for log in logs if log["event"] == "not connected"]) > 1)
    assert f"(its cookie is {fingerprint(other)}, ours {fingerprint(COOKIE)})" in reason
    told = {log["actor"]: log["reason"] for log in logs if log["event"] == "not connected"}
    assert all("`leoronic join`" in log for log in told.values())
    reasons = [log["reason"] for log in logs if log["event"] == "not connected"]
    assert any(
        f"(its cookie is {fingerprint(COOKIE)}, ours {fingerprint(other)})" in r for r in reasons
    )


@on_uvloop
async def test_nodes_of_two_versions(tmp_path: Path) -> None:
    """One that speaks 1 to 2 speaks 1 with one that speaks 1; both are told."""
    async with (
        peer_in(tmp_path, "aaa", speaks=(1, 2), version="0.4") as a,
        peer_in(tmp_path, "bbb", speaks=(1, 1)) as b,
        peer_in(tmp_path, "ccc", speaks=(2, 3)) as c,
    ):
        await a.find(b, c)
        assert {("bbb", 1), ("ccc", 2)} == {
            (up.node, up.version) for up in await a.up("bbb", "ccc")
        }
        assert [1] == [up.version for up in await b.up("aaa")]
        await b.find(c)
        reason = await b.reason_at(c.address)
        assert "speaks protocol 2 to 3" in reason
        assert reason.endswith("update leoronic on this node")


@on_uvloop
async def test_another_cookie_without_stopping(tmp_path: Path) -> None:
    """Two are accepted meanwhile; open connections stay; the old one is refused in the end."""
    new = new_cookie()
    async with (
        peer_in(tmp_path, "aaa") as a,
        peer_in(tmp_path, "bbb") as b,
        peer_in(tmp_path, "ccc", cookies=[new]) as c,
    ):
        await a.find(b)
        await a.up("bbb")
        await b.up("aaa")
        for one, cookies in ((a, [COOKIE, new]), (b, [new, COOKIE])):
            write_cookies(one.cookies, cookies)
            await one.tree.find("peers").call(CookieChanged())
        assert [fingerprint(COOKIE), fingerprint(new)] == (await a.describe()).clusters
        assert [] == a.membership.messages
        await c.find(a, b)
        await c.up("aaa", "bbb")
        only = next(link for link in (await c.describe()).links if link.node == "aaa")
        assert fingerprint(new) == only.cluster
        write_cookies(a.cookies, [new])
        await a.tree.find("peers").call(CookieChanged())
        assert ["bbb", "ccc"] == await a.links()
        a.cookies.chmod(0o644)
        with pytest.raises(BadRequest, match="chmod 600"):
            await a.tree.find("peers").call(CookieChanged())
        assert ["bbb", "ccc"] == await a.links()


@on_uvloop
async def test_a_question_that_cannot_leave(tmp_path: Path) -> None:
    """Who asked is told that there is no connection; of anything else nothing is said."""
    async with peer_in(tmp_path, "aaa") as a:
        for message in (
            Interest("aaa", on=True),
            Ask("aaa", request=1, cancel=True),
            Ask("aaa", request=2),
        ):
            await a.tell(Outbound("bbb", message))
        assert [NotAsked("bbb")] == await a.questions.first(1)


@on_uvloop
async def test_an_address_of_its_own_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What went by it is closed and called again at once; nothing else is."""
    async with peer_in(tmp_path, "aaa") as a, peer_in(tmp_path, "bbb") as b:
        await b.find(a)
        await a.up("bbb")
        await b.up("aaa")
        await b.tell(Addresses(["127.0.0.1:1"]))
        assert ["aaa"] == await b.links()
        gone = {"127.0.0.1"}
        monkeypatch.setattr(peers, "is_here", lambda host: host not in gone)
        await b.tell(Addresses(["127.0.0.2:1"]))
        down, _ = await b.membership.first(2)
        assert LinkDown("aaa", "this machine no longer has the address 127.0.0.1") == down


@on_uvloop
async def test_the_port_is_in_use(tmp_path: Path) -> None:
    """The start fails, and says how to choose another."""
    async with peer_in(tmp_path, "aaa") as a:
        with pytest.raises(StartFailed, match=rf"port {a.port} is in use.*--listen"):
            async with peer_in(tmp_path, "bbb", port=a.port, host="::"):
                pass
        with pytest.raises(StartFailed, match=r"no address 203\.0\.113\.7.*--listen"):
            async with peer_in(tmp_path, "bbb", host="203.0.113.7"):
                pass


@on_uvloop
async def test_both_kinds_of_addresses(tmp_path: Path) -> None:
    """By default a node is reached by IPv4 and IPv6, and addresses are written as such."""
    async with peer_in(tmp_path, "bbb", host="::") as b, peer_in(tmp_path, "ccc") as c:
        await c.find(b)
        (up,) = await b.up("ccc")
        assert up.address.startswith("127.0.0.1:")
        async with peer_in(tmp_path, "aaa") as a:
            await a.tell(Found([f"[::1]:{b.port}", "not an address:x"], "mdns bbb"))
            assert [f"[::1]:{b.port}"] == [up.address for up in await a.up("bbb")]


@on_uvloop
async def test_strangers_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that say nothing make way for others, oldest first, and for the peers among them."""
    monkeypatch.setattr(peers, "STRANGERS_MAX", 4)
    async with peer_in(tmp_path, "aaa") as a, peer_in(tmp_path, "bbb") as b:
        opened = [await asyncio.open_connection("127.0.0.1", a.port) for _ in range(9)]
        for reader, _ in opened[:5]:
            assert b"" == await reader.read()
        assert 4 == (await a.describe()).strangers
        await b.find(a)
        await b.up("aaa")
        assert 3 == (await a.describe()).strangers
        for _, writer in opened:
            writer.close()


@on_uvloop
async def test_a_stranger_has_little_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever speaks a byte now and then is not waited for."""
    monkeypatch.setattr(peers, "HANDSHAKE_S_MAX", 0.05)
    async with peer_in(tmp_path, "aaa") as a:
        reader, writer = await asyncio.open_connection("127.0.0.1", a.port)
        writer.write(b"leoronic proto")
        assert b"" == await reader.read()
        assert 0 == (await a.describe()).strangers
        writer.close()
