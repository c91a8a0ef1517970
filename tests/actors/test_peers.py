"""Connections between nodes: real sockets on loopback, on the loop that nodes use."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from leoronic.actors import link_table, peers
from leoronic.actors.link import Link
from leoronic.actors.peers import PeersActor
from leoronic.actors.peers_messages import CookieChanged, Describe, Described, NotAsked, TellLinks
from leoronic.core.membership_messages import Addresses, Found
from leoronic.core.outbound import Outbound
from leoronic.core.peer import (
    Ask,
    Assign,
    Entries,
    Heartbeat,
    Interest,
    LinkDown,
    LinkUp,
    Probe,
    ProbeAnswer,
)
from leoronic.core.replication_messages import Misbehaved, Rejoin
from leoronic.core.view import About
from leoronic.errors import BadRequest
from leoronic.runtime.loop import new_event_loop
from leoronic.runtime.supervisor import StartFailed, Tree
from leoronic.wire.cookie import fingerprint, new_cookie, write_cookies
from tests.actors.recorder import Recorder
from tests.runtime.actors import Gated, child, running, until

COOKIE = "0123456789abcdefghjkmnpqrstvwxyz"


def on_uvloop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an asynchronous test on the loop of a real node."""

    async def bounded(*arguments: Any, **named: Any) -> None:
        # pytest's own limit cannot interrupt this loop.
        async with asyncio.timeout(30):
            await test(*arguments, **named)

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(bounded(*arguments, **named))

    return run


class Peer:
    """One node: its actor `peers`, and stand-ins for those around it."""

    def __init__(self, folder: Path, node: str, life: int, **settings: Any) -> None:
        self.node = node
        self.cookies = folder / f"{node}-{life}.cookie"
        write_cookies(self.cookies, settings.pop("cookies", [COOKIE]))
        self.membership = settings.pop("membership", None) or Recorder()
        self.replication = settings.pop("replication", None) or Recorder()
        self.runner = Recorder()
        self.questions = Recorder()
        self.copied: list[str] = []
        self.rejoin: list[str] = []
        self.port = 0
        self.tree: Tree
        self.actor: PeersActor
        self._settings = settings
        self.about = About(name=f"name-{node}", version="0.3", life=life)

    def listening(self, port: int) -> None:
        self.port = port

    def make(self) -> PeersActor:
        settings = {"host": "127.0.0.1", "port": 0, **self._settings}
        self.actor = PeersActor(
            node=lambda: self.node,
            about=lambda: self.about,
            cookies=self.cookies,
            on_copied=self.copied.append,
            on_rejoin=self.rejoin.append,
            on_listening=self.listening,
            **settings,
        )
        return self.actor

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def tell(self, message: Any) -> None:
        await self.tree.find("peers").cast(message)

    async def find(self, *others: Peer) -> None:
        """Discovery has found these."""
        await self.tell(Found([other.address for other in others], "static x"))

    async def describe(self) -> Described:
        return await self.tree.find("peers").call(Describe())  # type: ignore[no-any-return]

    async def links(self) -> list[str]:
        return [link.node for link in (await self.describe()).links]

    async def reason_at(self, address: str) -> str:
        """Why nobody was met at `address`, once that is known."""
        while True:
            for place in (await self.describe()).places:
                if place.address == address and place.reason:
                    return place.reason

    async def up(self, *nodes: str) -> list[LinkUp]:
        """Wait until membership was told of connections to these."""
        found = await self.membership.until(
            lambda messages: {*nodes} <= {m.node for m in messages if isinstance(m, LinkUp)}
        )
        return [message for message in found if isinstance(message, LinkUp)]


@asynccontextmanager
async def peer_in(folder: Path, node: str, life: int = 1, **settings: Any) -> AsyncIterator[Peer]:
    peer = Peer(folder, node, life, **settings)
    async with running(
        child("membership", lambda: peer.membership),
        child("replication", lambda: peer.replication, mailbox_max=8),
        child("runner", lambda: peer.runner),
        child("questions", lambda: peer.questions),
        child("peers", peer.make),
    ) as tree:
        peer.tree = tree
        yield peer


def only_link(peer: Peer) -> Link:
    (link,) = peer.actor._links.all()
    return link


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
async def test_what_a_newer_version_says_is_ignored(tmp_path: Path) -> None:
    """Unknown messages and fields do no harm."""
    with structlog.testing.capture_logs() as logs:
        async with peer_in(tmp_path, "aaa") as a, peer_in(tmp_path, "bbb") as b:
            await a.find(b)
            await a.up("bbb")
            await b.up("aaa")
            link = only_link(a)
            for _ in range(3):
                link._send(b'{"type":"Sing","node":"aaa"}', b"")
            link._send(b'{"type":"Probe","node":"aaa","target":"x","colour":"red"}', b"")
            assert [Probe("aaa", target="x")] == await b.membership.first(1)
            assert ["aaa"] == await b.links()
    assert 1 == len([log for log in logs if log.get("message") == "Sing"])


@pytest.mark.parametrize(
    ("json", "reason"),
    [
        (b'{"type":"Probe","node":"ccc","target":"x"}', "says that it is from ccc"),
        (b'{"type":"Probe","node":"aaa","target":5}', "Probe: "),
        (b'{"type":"Hello"}', "not a message that belongs here"),
        (b'{"type":"Welcome"}', "Welcome comes twice"),
        (b"nonsense", "not a message"),
        (b'{"type":"\xff"}', "not a message"),
        (b"[" * 5000, "not a message"),
    ],
)
@on_uvloop
async def test_what_must_not_be_sent(tmp_path: Path, json: bytes, reason: str) -> None:
    """The connection ends, both sides know why, and nothing was handed on."""
    with structlog.testing.capture_logs() as logs:
        async with peer_in(tmp_path, "aaa") as a, peer_in(tmp_path, "bbb") as b:
            await a.find(b)
            await a.up("bbb")
            await b.up("aaa")
            only_link(a)._send(json, b"")
            (down,) = await b.membership.until(bool)
            assert isinstance(down, LinkDown)
            assert reason in down.reason
            await a.up("bbb")
    told = [log["reason"] for log in logs if log["event"] == "disconnected"]
    assert any(r.startswith("it closed the connection: ") and reason in r for r in told)


@on_uvloop
async def test_a_frame_that_is_too_large(tmp_path: Path) -> None:
    """Its header is enough to end the connection; a message that large is never sent."""
    with structlog.testing.capture_logs() as logs:
        async with peer_in(tmp_path, "aaa") as a, peer_in(tmp_path, "bbb") as b:
            await a.find(b)
            await a.up("bbb")
            await b.up("aaa")
            await a.tell(Outbound("bbb", Entries("aaa", blob=b"x" * (17 << 20))))
            await until(lambda: any(log["event"] == "message_too_large" for log in logs))
            assert ["bbb"] == await a.links()
            transport = only_link(a)._frames.transport
            assert transport is not None
            transport.write(b"\xff" * 8)
            (down,) = await b.membership.until(bool)
            assert "over the limit" in down.reason


@on_uvloop
async def test_a_cut_connection_is_made_again(tmp_path: Path) -> None:
    """Membership and replication hear of both, in order."""
    async with peer_in(tmp_path, "aaa") as a, peer_in(tmp_path, "bbb") as b:
        await a.find(b)
        await b.up("aaa")
        await a.up("bbb")
        only_link(b)._raw.abort()
        for actor in (a.membership, b.membership):
            messages = await actor.until(lambda messages: len(messages) >= 2)
            assert [LinkDown, LinkUp] == [type(message) for message in messages]
        kinds = [type(m) for m in await a.replication.until(lambda found: len(found) >= 3)]
        assert [LinkUp, LinkDown, LinkUp] == kinds


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
        b.actor._book.lost("aaa", b.actor._now())
        b.actor._dial_due()
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


@on_uvloop
async def test_a_full_receiver_holds_the_sender_up(tmp_path: Path) -> None:
    """Nothing is dropped, nothing piles up here; the order is kept."""
    gated = Gated()
    async with (
        peer_in(tmp_path, "aaa") as a,
        peer_in(tmp_path, "bbb", replication=gated) as b,
    ):
        await a.find(b)
        await a.up("bbb")
        await b.up("aaa")
        sent = [Entries("aaa", floor={"x": n}, blob=b"x" * 200_000) for n in range(60)]
        for message in sent:
            await a.tell(Outbound("bbb", message))
        link = only_link(b)
        await until(lambda: link._waiting is not None)
        assert link._inbox.__len__() <= 4
        assert 8 >= len(b.tree.find("replication").cell.mailbox)  # type: ignore[attr-defined]
        gated.gate.set()
        await until(lambda: len(gated.seen) == 61)
        assert sent == gated.seen[1:]


@on_uvloop
async def test_a_peer_that_does_not_keep_up(tmp_path: Path) -> None:
    """What waits for it is bounded: then the connection ends, and another begins."""
    gated = Gated()
    async with (
        peer_in(tmp_path, "aaa") as a,
        peer_in(tmp_path, "bbb", replication=gated) as b,
    ):
        await a.find(b)
        await a.up("bbb")
        await b.up("aaa")
        for _ in range(10):
            await a.tell(Outbound("bbb", Entries("aaa", blob=b"x" * 8_000_000)))
        for _ in range(4):
            await a.tell(Outbound("bbb", Entries("aaa", blob=b"x" * 8_000_000)))
        (down, *_) = await a.membership.until(bool)
        assert "does not keep up" in down.reason
        gated.gate.set()


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
async def test_an_assignment_that_was_under_way_for_long(tmp_path: Path) -> None:
    """It is marked, by the receiver's own clock and what was echoed of it."""
    now_ms = [1_000_000]
    async with (
        peer_in(tmp_path, "aaa") as a,
        peer_in(tmp_path, "bbb", clock_ms=lambda: now_ms[0]) as b,
    ):
        await a.find(b)
        await a.up("bbb")
        await b.up("aaa")

        async def assigned() -> bool:
            await a.tell(Outbound("bbb", Assign("aaa")))
            (message,) = await b.runner.first(1)
            return message.stale  # type: ignore[no-any-return]

        assert not await assigned()
        now_ms[0] += 4_000
        assert await assigned()
        await b.tell(Outbound("aaa", Heartbeat("bbb", sent_ms=now_ms[0])))
        await a.membership.first(1)
        await a.tell(Outbound("bbb", Heartbeat("aaa", sent_ms=7, echo_ms=now_ms[0])))
        assert not await assigned()


@on_uvloop
async def test_new_addresses_are_learnt_from_heartbeats(tmp_path: Path) -> None:
    """A node that moved is called where it said that it would be."""
    async with peer_in(tmp_path, "aaa") as a, peer_in(tmp_path, "bbb") as b:
        await a.find(b)
        await a.up("bbb")
        await b.up("aaa")
        about = About(name="name-bbb", version="0.3", life=1, revision=1, addresses=["127.0.0.9:1"])
        await b.tell(Outbound("aaa", Heartbeat("bbb", sent_ms=1, about=about)))
        await a.membership.first(1)
        places = {place.address: place.node for place in (await a.describe()).places}
        assert {b.address: "bbb", "127.0.0.9:1": "bbb"} == places


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
async def test_what_the_others_ask_for(tmp_path: Path) -> None:
    """A connection is ended, links are told again, and the owner hears of a wish to begin anew."""
    async with peer_in(tmp_path, "aaa") as a, peer_in(tmp_path, "bbb") as b:
        await a.find(b)
        (up,) = await a.up("bbb")
        await b.up("aaa")
        await a.tell(TellLinks("runner"))
        assert [up] == await a.runner.first(1)
        await a.tell(Rejoin("away too long"))
        await a.tell(Misbehaved("bbb", "it lies about vectors"))
        await a.tell(Misbehaved("nobody", "x"))
        (down, *_) = await b.membership.until(bool)
        assert "it closed the connection: it lies about vectors" == down.reason
        assert ["away too long"] == a.rejoin


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


@on_uvloop
async def test_a_crash_tells_that_all_links_are_gone(tmp_path: Path) -> None:
    """Those around it are told, and the connections come back."""
    async with peer_in(tmp_path, "aaa") as a, peer_in(tmp_path, "bbb") as b:
        await b.find(a)
        await a.up("bbb")
        await b.up("aaa")
        a._settings["port"] = a.port
        a.actor.context.crash(RuntimeError("a bug"))
        down, up = await a.membership.until(lambda messages: len(messages) >= 2)
        assert ("bbb", "bbb") == (down.node, up.node)
        assert isinstance(down, LinkDown)


@on_uvloop
async def test_interest_is_for_the_executor(tmp_path: Path) -> None:
    """The type of a message says who gets it; an actor that is not there gets nothing."""
    async with peer_in(tmp_path, "aaa") as a, peer_in(tmp_path, "bbb") as b:
        await a.find(b)
        await a.up("bbb")
        await b.up("aaa")
        await a.tell(Outbound("bbb", Interest("aaa", on=True)))
        assert [Interest("aaa", on=True)] == await b.runner.first(1)
        assert ["aaa"] == await b.links()
