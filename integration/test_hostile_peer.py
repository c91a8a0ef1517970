"""A real node and a peer that holds the cookie and lies: its neighbours and users do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from integration.harness import Node, running, wait_until
from integration.hostile_peer import Hostile
from integration.weapons import GHOST, TAG, Weapons
from integration.witness import wait_agreement
from leoronic.core import commands, entries, peer
from leoronic.journal.digest import digest
from leoronic.wire.cookie import read_cookies

SEED = int(os.environ.get("LEORONIC_SEED", "20261120"))
MIB = 1 << 20
FRAMES = 3000
GROWTH_MAX = 40 * MIB
CALM_S = 20.0
# Before the first task of an origin is placed, who does not tell what it runs is waited for 10 s.
ENDED_S_MAX = 15.0
LIE_S = 8.0
# What stands in a log only when something broke.
BROKEN = ("child_crashed", "child_restarted", "restart_failed")

Answer = Callable[[Hostile, peer.Pull, dict[str, int]], Awaitable[None]]


class Cluster(NamedTuple):
    """Two honest nodes; `victim` is the one that the hostile peers call."""

    victim: Node
    other: Node
    port: int
    cookie: str

    @property
    def nodes(self) -> list[Node]:
        return [self.victim, self.other]

    def ids(self) -> list[str]:
        return [node.status()["node"]["id"] for node in self.nodes]

    def peer(self, name: str) -> Hostile:
        """A hostile peer."""
        return Hostile(name, self.cookie, self.port)


def address(node: Node) -> str:
    """HOST:PORT of its peer port."""
    name = node.status()["node"]["name"]
    [found] = [shown for shown in node.ask(commands.Nodes())["nodes"] if shown["name"] == name]
    return str(found["address"])


def vectors(node: Node) -> dict[str, int]:
    """What it holds of each origin."""
    with contextlib.closing(sqlite3.connect(f"file:{node.database}?mode=ro", uri=True)) as database:
        return dict(database.execute("SELECT node, have FROM origins WHERE have > 0"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    options = ("--cpus", "4", "--log-format", "json", "--tag", "honest")
    with contextlib.ExitStack() as stack:
        victim = stack.enter_context(running(tmp_path, "--name", "victim", *options))
        called = address(victim)
        cookie = victim.state / "cookie"
        peers = ("--peer", called, "--cookie", str(cookie))
        other = stack.enter_context(running(tmp_path, "--name", "other", *options, *peers))
        for node in (victim, other):
            wait_until(
                lambda node=node: list(node.states().values()) == ["up", "up"],
                "both see each other",
                story=lambda node=node: (node.states(), node.tail()),
            )
        port = int(called.rpartition(":")[2])
        yield Cluster(victim, other, port, read_cookies(cookie)[0])


class Honest:
    """Somebody who goes on as if nothing were: submits on both nodes, and waits for the ends."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.tasks: list[str] = []
        self.slowest_s = 0.0
        self._over = threading.Event()

    def work(self) -> None:
        """Until it is over."""
        turn = 0
        while not self._over.is_set():
            node = self._cluster.nodes[turn % 2]
            turn += 1
            began = time.monotonic()
            [task] = node.submit({"command": f"echo {turn}", "conditions": ["worker:tag honest"]})
            self.tasks.append(task)
            [ended] = node.wait(task)
            assert "succeeded" == ended["state"], ended
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self._over.wait(0.05)

    def stop(self) -> None:
        self._over.set()


@contextlib.asynccontextmanager
async def undisturbed(cluster: Cluster) -> AsyncIterator[Honest]:
    """Honest work goes on meanwhile, and afterwards all is as it should be."""
    cores = [node.core_pid() for node in cluster.nodes]
    before = [node.memory() for node in cluster.nodes]
    honest = Honest(cluster)
    working = asyncio.create_task(asyncio.to_thread(honest.work))
    try:
        yield honest
    finally:
        honest.stop()
        await working
    assert honest.slowest_s < ENDED_S_MAX, f"a task took {honest.slowest_s:.1f} s"
    for node, core, bytes_before in zip(cluster.nodes, cores, before, strict=True):
        broken = [event for event in node.events() if event["event"] in BROKEN]
        assert not broken, broken[:3]
        assert core == node.core_pid()
        grown = node.memory() - bytes_before
        assert grown < GROWTH_MAX, f"it has grown by {grown // MIB} MiB"
    await asyncio.to_thread(wait_calm, cluster, honest.tasks)


def wait_calm(cluster: Cluster, tasks: list[str]) -> None:
    """Wait until both hold the same, and tell the same of these tasks."""
    wait_until(
        lambda: vectors(cluster.victim) == vectors(cluster.other),
        "the vectors are equal",
        within_s=CALM_S,
        story=lambda: [vectors(node) for node in cluster.nodes],
    )
    told = wait_agreement(cluster.nodes, tasks)
    assert {"succeeded"} == {told[task]["state"] for task in tasks}
    assert [1] * len(tasks) == [told[task]["attempt"] for task in tasks]
    digests = []
    for node in cluster.nodes:
        with contextlib.closing(
            sqlite3.connect(f"file:{node.database}?mode=ro", uri=True)
        ) as database:
            digests.append(digest(database))
    assert digests[0] == digests[1]


async def test_damaged_messages(cluster: Cluster) -> None:
    """Messages of all types, of real ids and entries, damaged by chance."""
    print(f"LEORONIC_SEED={SEED}")  # shown if it fails
    chance = random.Random(SEED)
    # What only the hostile say that they can run: so they are asked what they have to offer.
    bait = [{"command": "true", "conditions": [f"worker:tag {TAG}"]}] * 5
    tasks = await asyncio.to_thread(cluster.victim.submit, "true", "false", *bait)
    peers = [cluster.peer(f"peer{n}") for n in range(3)]
    nodes = [*cluster.ids(), *(one.node for one in peers)]
    async with undisturbed(cluster) as honest:
        weapons = Weapons(chance, nodes, tasks)
        await asyncio.gather(*(attack(one, weapons, FRAMES // len(peers)) for one in peers))
    assert len(honest.tasks) > 10, honest.tasks


async def attack(hostile: Hostile, weapons: Weapons, frames: int) -> None:
    """Send so many, and come back whenever it is cut off."""
    await hostile.join()
    for _ in range(frames):
        hostile.send(*weapons.frame(hostile))
        while True:
            try:
                await hostile.listen(0.004)
                break
            except ConnectionError:
                await hostile.join()
    hostile.close()


async def test_a_liar_about_vectors(cluster: Cluster) -> None:
    """It claims what it has not, and answers with nothing, with a part, or without an end."""
    liars = [cluster.peer(f"liar{n}") for n in range(4)]
    victim, other = cluster.ids()
    async with undisturbed(cluster), asyncio.TaskGroup() as group:
        for liar, answer in zip(liars, (silence, nothing, a_part, for_ever), strict=True):
            claims = {GHOST: 1_000_000, f"{GHOST}2": 1 << 53, other: 1 << 40, liar.node: 1 << 30}
            group.create_task(lie(liar, claims, answer))
        group.create_task(lie(cluster.peer("liar4"), {victim: 1 << 40}, nothing))
        many = {f"{GHOST}{n}": 1 << 53 for n in range(100_000)}
        group.create_task(lie(cluster.peer("liar5"), many, nothing))


async def lie(liar: Hostile, claims: dict[str, int], answer: Answer) -> None:
    """Claim, answer what is asked for, and do it again."""
    over_at = time.monotonic() + LIE_S
    while time.monotonic() < over_at:
        await liar.join()
        liar.tell(peer.Heartbeat(liar.node, 1, have=claims))
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < over_at:
                # Asked for all the time, too: pages that nobody takes.
                liar.tell(peer.Pull(liar.node, {}, 1))
                for message in await liar.listen(0.1):
                    if isinstance(message, peer.Pull):
                        await answer(liar, message, claims)
    liar.close()


async def silence(liar: Hostile, pull: peer.Pull, claims: dict[str, int]) -> None:
    """No answer."""


async def nothing(liar: Hostile, pull: peer.Pull, claims: dict[str, int]) -> None:
    """A last page, empty, that repeats the claim."""
    have = {**pull.have, **claims}
    liar.tell(peer.Entries(liar.node, last=True, have=have, pull=pull.number))


async def a_part(liar: Hostile, pull: peer.Pull, claims: dict[str, int]) -> None:
    """One entry of what was claimed, as if that were all."""
    place = (GHOST, pull.have.get(GHOST, 0) + 1, 1)
    have = {**pull.have, **claims}
    tag = entries.encode(entries.Tagged(GHOST, TAG, 1.0))
    liar.tell(peer.Entries(liar.node, tag, [place], {}, True, have, pull.number))


async def for_ever(liar: Hostile, pull: peer.Pull, claims: dict[str, int]) -> None:
    """Empty pages, of which none is the last."""
    have = {**pull.have, **claims}
    while True:
        liar.tell(peer.Entries(liar.node, have=have, pull=pull.number))
        await liar.listen(0.01)


async def test_a_slow_reader(cluster: Cluster) -> None:
    """It asks for all there is, again and again, and reads nothing."""
    reader = cluster.peer("reader")
    await asyncio.to_thread(cluster.victim.submit, *[f"echo {'x' * 1000}"] * 2000)
    async with undisturbed(cluster):
        await reader.join()
        over_at = time.monotonic() + LIE_S
        number = 0
        while time.monotonic() < over_at:
            number += 1
            reader.tell(peer.Pull(reader.node, {}, number))
            reader.tell(peer.Have(reader.node, {}, number))
            question = msgspec.Raw(b'{"type":"nodes"}')
            reader.tell(peer.Ask(reader.node, request=number, command=question))
            await asyncio.sleep(0.001)
            with contextlib.suppress(ConnectionError):
                await reader.drain()
        reader.close()
