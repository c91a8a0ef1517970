"""The line that brings another machine in, and the cookie: shown, changed, and that ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from leoronic.actors import joining
from leoronic.actors.peers_messages import CookieChanged
from leoronic.core.peer import Ask
from leoronic.core.view import DOWN
from leoronic.errors import BadRequest, Refused
from leoronic.wire.cookie import fingerprint, new_cookie, read_cookies, write_cookies
from tests.actors.node import Client, Node, joined_nodes
from tests.actors.peered import Pipes, member
from tests.runtime.actors import until

OLD = "old-" + "x" * 20


class Three:
    """Nodes `one` (which is asked), `two` and `three`, joined, all with cookie `OLD`."""

    def __init__(self, pipes: Pipes, nodes: list[Node], client: Client) -> None:
        self.pipes = pipes
        self.nodes = nodes
        self.client = client

    async def see(self, *gone: Node) -> None:
        """Those that are there see each other and not those that are `gone`."""
        there = [node for node in self.nodes if node not in gone]
        members = [node.member for node in there]
        members += [member(node.id, node.name, DOWN) for node in gone]
        for node in there:
            await node.see(*members)

    async def cookie(self, action: str = "show") -> Any:
        return await self.client.ask("cookie", action=action)

    def cookies(self) -> list[list[str]]:
        """What each node has in its file."""
        return [cookies_of(node) for node in self.nodes]


def path_of(node: Node) -> Path:
    return node.folder / ".leoronic" / "cookie"


def cookies_of(node: Node) -> list[str]:
    return read_cookies(path_of(node))


@pytest.fixture
async def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Three]:
    monkeypatch.setattr(joining, "ASK_S", 5.0)
    for name in ("one", "two", "three"):
        (tmp_path / name / ".leoronic").mkdir(parents=True)
        write_cookies(tmp_path / name / ".leoronic" / "cookie", [OLD])
    async with (
        joined_nodes(tmp_path, "one", "two", "three") as (pipes, nodes),
        nodes[0].client() as client,
    ):
        yield Three(pipes, nodes, client)


async def test_join(three: Three) -> None:
    """The addresses, the cookie, and the line to paste."""
    found = await three.client.ask("join")
    [address] = found["addresses"]
    assert (OLD, True) == (found["cookie"], address.startswith("10.0.0.1:"))
    assert f"LEORONIC_COOKIE={OLD} leoronic start --peer {address}" == found["line"]


async def test_join_without_an_address(three: Three) -> None:
    """Nobody could come in: that is said."""
    three.nodes[0].nodes._view = None
    with pytest.raises(Refused, match="no address"):
        await three.client.ask("join")


async def test_show(three: Three) -> None:
    """The cookie, its fingerprint, and who has it."""
    write_cookies(path_of(three.nodes[1]), [new_cookie()])
    await three.see(three.nodes[2])
    assert {
        "cookie": OLD,
        "fingerprint": fingerprint(OLD),
        "old": "",
        "nodes": {"one": True, "two": False, "three": False},
        "not_there": ["three"],
    } == await three.cookie()


async def test_rotate_and_finish(three: Three) -> None:
    """First all accept the new one, then all use it; at the end the old one is dropped."""
    steps: list[tuple[str, str]] = []

    def note(node: str, message: Any) -> bool:
        if isinstance(message, Ask) and b'"takecookie"' in bytes(message.command):
            step = bytes(message.command).partition(b'"step":"')[2].partition(b'"')[0].decode()
            steps.append((step, node))
        return False

    three.pipes.lost = note
    shown = await three.cookie("rotate")
    new = shown["cookie"]
    assert ([[new, OLD]] * 3, {"one": True, "two": True, "three": True}) == (
        three.cookies(),
        shown["nodes"],
    )
    assert (fingerprint(new), fingerprint(OLD)) == (shown["fingerprint"], shown["old"])
    assert ["accept", "accept", "use", "use", "show", "show"] == [step for step, _ in steps]
    assert 6 == len([told for told in three.pipes.told if isinstance(told, CookieChanged)])
    finished = await three.cookie("finish")
    assert ([[new]] * 3, "", new) == (three.cookies(), finished["old"], finished["cookie"])


async def test_who_had_it_before_it_went_away(three: Three) -> None:
    """That is remembered, and it is told that it can't be asked now."""
    await three.cookie("rotate")
    await three.see(three.nodes[2])
    finished = await three.cookie("finish")
    assert ({"one": True, "two": True, "three": True}, ["three"]) == (
        finished["nodes"],
        finished["not_there"],
    )


async def test_one_change_at_a_time(three: Three) -> None:
    """A second one waits until the first is finished."""
    new = (await three.cookie("rotate"))["cookie"]
    with pytest.raises(Refused, match="is being changed already"):
        await three.cookie("rotate")
    await three.cookie("finish")
    assert new != (await three.cookie("rotate"))["cookie"]


async def test_a_node_that_was_away_is_told_when_it_is_back(three: Three) -> None:
    """It still gets in with the old one, and has the new one then."""
    one, two, away = three.nodes
    await three.see(away)
    shown = await three.cookie("rotate")
    assert {"one": True, "two": True, "three": False} == shown["nodes"]
    assert [OLD] == cookies_of(away)
    await three.see()
    await until(lambda: cookies_of(away) == [shown["cookie"], OLD])
    assert [[shown["cookie"], OLD]] * 2 == [cookies_of(one), cookies_of(two)]


async def test_a_node_that_not_all_can_reach(three: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the one that is to tell it can't, another does."""
    monkeypatch.setattr(joining, "TELL_S", 0.01)
    monkeypatch.setattr(joining, "TELL_AGAIN_S", 0.01)
    away = max(three.nodes, key=lambda node: node.id)
    first = min(three.nodes, key=lambda node: node.id)
    if away is three.nodes[0]:
        away = max(three.nodes[1:], key=lambda node: node.id)
    await three.see(away)
    shown = await three.cookie("rotate")
    three.pipes.lost = lambda to, message: {to, message.node} == {away.id, first.id}
    await three.see()
    await until(lambda: cookies_of(away) == [shown["cookie"], OLD])


async def test_finish_waits_for_all_that_are_there(three: Three) -> None:
    """It is refused while one that is up lacks the new cookie, and tells that one again."""
    await three.cookie("rotate")
    lagging = three.nodes[1]
    write_cookies(path_of(lagging), [OLD])
    path_of(lagging).chmod(0o644)
    with pytest.raises(Refused, match="two did not take the new cookie yet"):
        await three.cookie("finish")
    assert 2 == len(cookies_of(three.nodes[2]))
    path_of(lagging).chmod(0o600)
    await three.cookie("finish")
    assert 1 == len({cookie for cookies in three.cookies() for cookie in cookies})


async def test_nonsense(three: Three) -> None:
    """Refused, and nothing is changed."""
    with pytest.raises(BadRequest, match="show, rotate or finish"):
        await three.client.ask("cookie", action="eat")
    assert [[OLD]] * 3 == three.cookies()


async def test_a_client_cannot_take_the_part_of_a_node(three: Three) -> None:
    """The steps of a change are told by nodes alone: such a client is cut off."""
    three.client.send({"type": "takecookie", "step": "use", "cookie": "x" * 30})
    await three.client.closed()
    assert [[OLD]] * 3 == three.cookies()


async def test_a_cookie_that_others_may_read(three: Three) -> None:
    """How to mend it is said; coming and going nodes harm nobody meanwhile."""
    path_of(three.nodes[0]).chmod(0o644)
    with pytest.raises(BadRequest, match="chmod 600"):
        await three.cookie()
    await three.see(three.nodes[2])
    await three.see()
    path_of(three.nodes[0]).unlink()
    with pytest.raises(Refused, match="is gone: start the node again"):
        await three.cookie()
    assert {0} == {line["restarts"] for line in three.nodes[0].tree.statistics()}
