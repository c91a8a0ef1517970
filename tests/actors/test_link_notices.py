"""Who is told of connections that come and go."""

from __future__ import annotations

from pathlib import Path

from leoronic.actors.peers_messages import TellLinks
from leoronic.core.peer import LinkDown, LinkUp
from leoronic.core.replication_messages import Misbehaved, Rejoin
from tests.actors.peer_node import linked, on_uvloop, only_link, peer_in


@on_uvloop
async def test_a_cut_connection_is_made_again(tmp_path: Path) -> None:
    """Membership and replication hear of both, in order."""
    async with linked(tmp_path) as (a, b):
        only_link(b)._raw.abort()
        for actor in (a.membership, b.membership):
            messages = await actor.until(lambda messages: len(messages) >= 2)
            assert [LinkDown, LinkUp] == [type(message) for message in messages]
        kinds = [type(m) for m in await a.replication.until(lambda found: len(found) >= 3)]
        assert [LinkUp, LinkDown, LinkUp] == kinds


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
