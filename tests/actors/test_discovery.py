"""All the ways in which nodes find each other, with a stand-in for the local network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from leoronic.actors import addresses, discovery
from leoronic.actors.addresses import (
    is_here,
    met_before,
    own_addresses,
    read_remembered,
    remembering,
    resolve,
)
from leoronic.actors.discovery import DiscoveryActor, Identity
from leoronic.actors.mdns import Announcement, Sighting, _sighting
from leoronic.core.member_record import Acquaintance
from leoronic.core.membership_messages import Addresses, Found, Remember
from leoronic.core.tree import ChildSpec, SupervisorSpec
from leoronic.runtime.supervisor import Tree
from tests.actors.recorder import Recorder


class FakeMdns:
    """The local network: what was announced, and errors to raise first."""

    def __init__(self) -> None:
        self.errors: list[OSError] = []
        self.announced: list[Announcement] = []
        self.opened = 0
        self.closed = 0
        self.told = asyncio.Event()
        self.sight: Callable[[Sighting], None]

    def make(self, on_sighting: Callable[[Sighting], None], spawn: Any) -> Any:
        self.sight = on_sighting
        return self

    async def open(self, host: str) -> None:
        self.opened += 1
        if self.errors:
            self.told.set()
            raise self.errors.pop(0)

    async def announce(self, announcement: Announcement) -> None:
        self.announced.append(announcement)
        self.told.set()

    async def close(self) -> None:
        self.closed += 1

    async def until_told(self) -> None:
        async with asyncio.timeout(20):
            await self.told.wait()
        self.told.clear()


class Home:
    """A discovery actor between a `peers` and a `membership` that keep what they are told."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.peers, self.membership = Recorder(), Recorder()
        self.mdns = FakeMdns()
        self.identity = Identity("me", "attic", ("f1",), (1, 1))
        self.options: dict[str, Any] = {
            "host": "127.0.0.1", "port": 7, "static": (), "local_network": True,
            "path": path / "peers.json", "open_mdns": self.mdns.make,
        } | options  # fmt: skip
        self.actor: DiscoveryActor

    def make(self) -> DiscoveryActor:
        self.actor = DiscoveryActor(lambda: self.identity, **self.options)
        return self.actor


@asynccontextmanager
async def running(home: Home) -> AsyncIterator[Tree]:
    children = (
        ChildSpec(name="peers", factory=lambda: home.peers),
        ChildSpec(name="membership", factory=lambda: home.membership),
        ChildSpec(name="discovery", factory=home.make),
    )
    tree = Tree(SupervisorSpec(name="root", children=children))
    await tree.start()
    try:
        async with asyncio.timeout(20):
            yield tree
    finally:
        await tree.stop()


def sighting(node: str = "other", cluster: str = "f1", *at: str) -> Sighting:
    return Sighting(node, "shed", (cluster,), at or ("10.0.0.2:7",))


@pytest.fixture(autouse=True)
def _slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes again while a test runs, unless the test wants it."""
    monkeypatch.setattr(discovery, "WATCH_S", 0.01)
    monkeypatch.setattr(discovery, "REPEAT_S", 1000.0)


async def test_static_peers_and_own_addresses_are_told(tmp_path: Path) -> None:
    """Those that were named go to the connections, where this node listens to membership."""
    home = Home(tmp_path, static=("10.0.0.9:1", "[fd00::9]:2"), local_network=False)
    async with running(home):
        found = await home.peers.first(2)
        assert [
            Found(["10.0.0.9:1"], "static 10.0.0.9:1"),
            Found(["[fd00::9]:2"], "static [fd00::9]:2"),
        ] == sorted(found, key=lambda one: one.source)
        assert [Addresses(["127.0.0.1:7"])] == await home.membership.first(1)
    assert 0 == home.mdns.opened


async def test_who_was_learnt_of_is_called_at_once(tmp_path: Path) -> None:
    """Whom membership names is told to the connections, each time that there is news of it."""
    home = Home(tmp_path, local_network=False)
    async with running(home) as tree:
        actor = tree.find("discovery")
        for members in (
            {"one": ["10.0.0.1:7"], "me": ["10.0.0.9:7"]},
            {"one": ["10.0.0.1:7"]},
            {"two": ["10.0.0.2:7"], "one": ["10.0.0.1:7"]},
            {"one": ["10.0.0.3:7"]},
        ):
            await actor.cast(Remember(members, {}))
        expected = [
            Found(["10.0.0.1:7"], "remembered one"),
            Found(["10.0.0.2:7"], "remembered two"),
            Found(["10.0.0.3:7"], "remembered one"),
        ]
        told = await home.peers.until(lambda found: expected[-1] in found)
    assert expected == [message for message in told if isinstance(message, Found)]


async def test_a_name_is_looked_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it stands for now is told; while nobody knows the name, what it stood for before."""
    monkeypatch.setattr(discovery, "REPEAT_S", 0.001)
    answers: list[Any] = [["10.0.0.1:7"], OSError(0, "no such name"), ["10.0.0.2:7"]]

    async def look_up(text: str) -> list[str]:
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(found, OSError):
            raise found
        return list(found)

    monkeypatch.setattr(discovery, "resolve", look_up)
    home = Home(tmp_path, static=("shed:7",), local_network=False)
    async with running(home):
        told = await home.peers.until(lambda found: found[-1:] == [found_at("10.0.0.2:7")])
    assert [found_at("10.0.0.1:7")] * 2 == told[:2]


def found_at(address: str) -> Found:
    return Found([address], "static shed:7")


async def test_all_is_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was restarted and forgot it hears it once more, without any news."""
    monkeypatch.setattr(discovery, "REPEAT_S", 0.001)
    home = Home(tmp_path, static=("10.0.0.9:1",))
    async with running(home):
        await home.mdns.until_told()
        home.mdns.sight(sighting())
        await home.peers.until(
            lambda found: {"static 10.0.0.9:1", "mdns other"} <= {one.source for one in found[:-8]}
        )
        await home.membership.first_of(3)


async def test_remembered_peers(tmp_path: Path) -> None:
    """Those met in an earlier life are looked for, but not this node itself."""
    path = tmp_path / "peers.json"
    met = [["old", "shed", ["10.0.0.3:7", "junk!"]], ["me", "attic", ["10.0.0.1:7"]]]
    path.write_text(json.dumps({"peers": met}))
    home = Home(tmp_path)
    async with running(home):
        assert [Found(["10.0.0.3:7"], "remembered old")] == await home.peers.first(1)


async def test_peers_are_remembered(tmp_path: Path) -> None:
    """What membership tells is on disk after an ordered stop, readable by this user only."""
    home = Home(tmp_path)
    path = tmp_path / "peers.json"
    async with running(home) as tree:
        told = {"a": ["10.0.0.3:7"], "b": ["10.0.0.4:7"]}
        await tree.find("discovery").cast(Remember(told, {"b": "barn"}))
        await tree.find("discovery").cast(Remember({"a": [], "b": ["10.0.0.5:7"]}))
    barn = Acquaintance("b", "barn", ["10.0.0.5:7"])
    assert {"b": barn} == read_remembered(path)
    assert [barn] == met_before(path)
    assert [] == met_before(tmp_path / "none")
    assert 0o600 == path.stat().st_mode & 0o777


@pytest.mark.parametrize("content", ["{", "[]", '{"peers": {"a": 5}}', '{"peers": [["a"]]}', "\0"])
async def test_a_damaged_file_of_peers(tmp_path: Path, content: str) -> None:
    """It is told and passed over; the next that is remembered replaces it."""
    path = tmp_path / "peers.json"
    path.write_text(content)
    assert [] == met_before(path)
    home = Home(tmp_path)
    async with running(home) as tree:
        assert 0 == home.actor.statistics["remembered"]
        await tree.find("discovery").cast(Remember({"b": ["10.0.0.4:7"]}))
    assert {"b": Acquaintance("b", "", ["10.0.0.4:7"])} == read_remembered(path)


def test_remembering_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that changed last are kept; what is no address is not."""
    monkeypatch.setattr(addresses, "REMEMBERED_MAX", 2)
    first = remembering({}, {"a": ["h:1"], "b": ["h:2"]}, {})
    known = remembering(first, {"c": ["h:3", "x y"], "b": ["h:2"]}, {"c": "shed"})
    expected = [Acquaintance("b", "", ["h:2"]), Acquaintance("c", "shed", ["h:3"])]
    assert expected == list(known.values())


def test_who_had_left_is_remembered_so(tmp_path: Path) -> None:
    """Also over a restart; a file of an earlier version does not say."""
    path = tmp_path / "peers.json"
    known = remembering({}, {"a": ["h:1"], "b": ["h:2"]}, {}, ["b"])
    addresses.write_remembered(path, known)
    assert [False, True] == [one.left for one in met_before(path)]
    path.write_text('{"peers": [["a", "attic", ["h:1"]]]}')
    assert [Acquaintance("a", "attic", ["h:1"], False)] == met_before(path)


async def test_the_local_network(tmp_path: Path) -> None:
    """This node is announced with its address, and those of its cluster are told as they change."""
    home = Home(tmp_path)
    async with running(home):
        await home.mdns.until_told()
        assert [
            Announcement("me", "attic", ("f1",), (1, 1), ("127.0.0.1:7",), 7)
        ] == home.mdns.announced
        home.mdns.sight(sighting())
        home.mdns.sight(sighting())
        home.mdns.sight(sighting("me"))
        home.mdns.sight(sighting("other", "f1", "10.0.0.5:7"))
        assert [
            Found(["10.0.0.2:7"], "mdns other"),
            Found(["10.0.0.5:7"], "mdns other"),
        ] == await home.peers.first(2)
    assert 1 <= home.mdns.closed


async def test_another_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A node with another cookie is told to people once, and not to the connections."""
    home = Home(tmp_path)
    async with running(home):
        await home.mdns.until_told()
        for _ in range(2):
            home.mdns.sight(sighting("alien", "f2"))
        home.mdns.sight(sighting("other", "f1"))
        assert [Found(["10.0.0.2:7"], "mdns other")] == await home.peers.first(1)
        assert 1 == home.actor.statistics["strangers"]
    assert 1 == capsys.readouterr().out.count("node of another cluster")


async def test_a_cookie_that_changes(tmp_path: Path) -> None:
    """While two cookies are accepted, nodes with either are of this cluster; it is announced."""
    home = Home(tmp_path)
    async with running(home):
        await home.mdns.until_told()
        home.identity = home.identity._replace(fingerprints=("f2", "f1"))
        await home.mdns.until_told()
        assert ("f2", "f1") == home.mdns.announced[-1].fingerprints
        home.mdns.sight(sighting("new", "f2"))
        home.mdns.sight(sighting("old", "f1"))
        assert ["mdns new", "mdns old"] == [one.source for one in await home.peers.first(2)]


async def test_an_address_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Membership, the connections and the local network hear where the node is now."""
    own = ["10.0.0.1:7"]
    monkeypatch.setattr(discovery, "own_addresses", lambda host, port: list(own))
    home = Home(tmp_path)
    async with running(home):
        assert [Addresses(["10.0.0.1:7"])] == await home.membership.first(1)
        await home.mdns.until_told()
        own[:] = ["10.0.0.2:7"]
        assert [Addresses(["10.0.0.2:7"])] == await home.membership.first(1)
        await home.mdns.until_told()
        assert ("10.0.0.2:7",) == home.mdns.announced[-1].addresses
        assert [Addresses(["10.0.0.2:7"])] == await home.peers.first(1)


async def test_no_network_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again until there is one; all else goes on."""
    monkeypatch.setattr(discovery, "RETRY_S", 0.001)
    home = Home(tmp_path, static=("10.0.0.9:1",))
    home.mdns.errors = [OSError("no interface"), OSError("no interface")]
    async with running(home):
        assert [Found(["10.0.0.9:1"], "static 10.0.0.9:1")] == await home.peers.first(1)
        while not home.mdns.announced:
            await home.mdns.until_told()
        assert 3 == home.mdns.opened


def adapter(name: str, *ips: Any) -> Any:
    return SimpleNamespace(nice_name=name, ips=[SimpleNamespace(ip=ip) for ip in ips])


def test_own_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real interfaces before bridges, IPv4 before IPv6; loopback only if there is nothing else."""
    lo = adapter("lo", "127.0.0.1", ("::1", 0, 0))
    found = [
        lo,
        adapter("docker0", "172.17.0.1"),
        adapter("eth0", ("fd00::2", 0, 0), ("fe80::1", 0, 4), "192.168.1.2"),
        adapter("eth1", "169.254.1.1"),
    ]
    monkeypatch.setattr("ifaddr.get_adapters", lambda: found)
    expected = ["192.168.1.2:7", "[fd00::2]:7", "169.254.1.1:7", "172.17.0.1:7"]
    assert expected == own_addresses("::", 7)
    assert [one for one in expected if "[" not in one] == own_addresses("0.0.0.0", 7)
    assert ["10.0.0.1:7"] == own_addresses("10.0.0.1", 7)
    found[1:] = []
    assert ["127.0.0.1:7", "[::1]:7"] == own_addresses("::", 7)


def test_addresses_that_this_machine_has() -> None:
    """Whatever can be bound; what can't be told is taken for one."""
    assert [True, True, False, False, True] == [
        is_here(host) for host in ("127.0.0.1", "127.0.0.9", "192.0.2.1", "2001:db8::1", "fe80::1")
    ]


async def test_addresses_need_no_name_server() -> None:
    """An IP address stands for itself; a name for its addresses, the port kept."""
    assert ["[fd00::1]:7"] == await resolve("[fd00::1]:7")
    assert "127.0.0.1:7" in await resolve("localhost:7")


def info(properties: dict[Any, Any], port: int | None = 7) -> Any:
    hosts = ["fd00::1", "10.0.0.1"]
    return SimpleNamespace(
        properties=properties, port=port, parsed_scoped_addresses=lambda: list(hosts)
    )


def test_what_others_announce_is_checked() -> None:
    """Bytes of any kind make a sighting or none, never an error."""
    told = {b"id": b"other", b"name": b"shed", b"cluster": b"f1,,f2", b"x": None, b"\xff": b"\xff"}
    assert Sighting("other", "shed", ("f1", "f2"), ("10.0.0.1:7", "[fd00::1]:7")) == _sighting(
        info(told)
    )
    for broken in (
        info({}),
        info({b"id": None}),
        info({b"id": b"a b"}),
        info({b"id": b"\xff"}),
        info(told, None),
        info(told, 0),
    ):
        assert _sighting(broken) is None
