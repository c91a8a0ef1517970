"""What comes from another node, and who gets it."""

from __future__ import annotations

from pathlib import Path

from leoronic.core.outbound import Outbound
from leoronic.core.peer import Assign, Entries, Heartbeat, Interest
from leoronic.core.view import About
from tests.actors.peer_node import linked, on_uvloop, only_link
from tests.runtime.actors import Gated, until


@on_uvloop
async def test_a_full_receiver_holds_the_sender_up(tmp_path: Path) -> None:
    """Nothing is dropped, nothing piles up here; the order is kept."""
    gated = Gated()
    async with linked(tmp_path, replication=gated) as (a, b):
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
async def test_an_assignment_that_was_under_way_for_long(tmp_path: Path) -> None:
    """It is marked, by the receiver's own clock and what was echoed of it."""
    now_ms = [1_000_000]
    async with linked(tmp_path, clock_ms=lambda: now_ms[0]) as (a, b):

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
    async with linked(tmp_path) as (a, b):
        about = About(name="name-bbb", version="0.3", life=1, revision=1, addresses=["127.0.0.9:1"])
        await b.tell(Outbound("aaa", Heartbeat("bbb", sent_ms=1, about=about)))
        await a.membership.first(1)
        places = {place.address: place.node for place in (await a.describe()).places}
        assert {b.address: "bbb", "127.0.0.9:1": "bbb"} == places


@on_uvloop
async def test_interest_is_for_the_executor(tmp_path: Path) -> None:
    """The type of a message says who gets it; an actor that is not there gets nothing."""
    async with linked(tmp_path) as (a, b):
        await a.tell(Outbound("bbb", Interest("aaa", on=True)))
        assert [Interest("aaa", on=True)] == await b.runner.first(1)
        assert ["aaa"] == await b.links()
