"""Any node answers about all: nodes, tags, drain, exec, and why, through real control sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from leoronic.actors import answers, node_answers
from leoronic.core.executor_messages import SetDraining, SetTag
from leoronic.core.peer import Answered, Ask
from leoronic.core.view import DOWN, LEFT, SUSPECT, Member, UP
from leoronic.errors import Ambiguous, BadRequest, NotFound, Refused, Unavailable
from tests.actors.node import Client, Node, joined_nodes
from tests.actors.peered import Pipes, member
from tests.runtime.actors import until


class Pair:
    """Nodes `one` (which is asked, by `client`) and `two`, joined."""

    def __init__(self, pipes: Pipes, one: Node, two: Node, client: Client) -> None:
        self.pipes = pipes
        self.one = one
        self.two = two
        self.client = client

    async def see(self, *others: Member, two: Member | None = None) -> None:
        """What node one sees: itself, two, and others."""
        await self.one.see(self.one.member, two or self.two.member, *others)

    async def lose_two(self, state: str = DOWN) -> None:
        """Node two is gone, as one sees it."""
        await self.see(two=member(self.two.id, "two", state, reason="silent for 5 s", heard_s=7.0))

    async def ask(self, type_: str, blob: bytes = b"", **fields: Any) -> Any:
        return await self.client.ask(type_, blob, **fields)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with joined_nodes(tmp_path, "one", "two") as (pipes, (one, two)), one.client() as client:
        two.tags = ["gpu"]
        made = Pair(pipes, one, two, client)
        await made.see()
        yield made


def names(found: list[dict[str, Any]], key: str = "name") -> list[Any]:
    return [one[key] for one in found]


# ---- nodes ----


async def test_nodes(pair: Pair) -> None:
    """The one asked first, then by name; those that are there tell how they are now."""
    pair.two.draining = True
    await pair.see(
        member("zz", "beta", DOWN, reason="gone", heard_s=9.0), member("aa", "zeta", LEFT)
    )
    found = (await pair.ask("nodes"))["nodes"]
    assert ["one", "beta", "two", "zeta"] == names(found)
    assert ["up", "down", "up", "left"] == names(found, "state")
    assert [0, None, 0, None] == names(found, "running")
    assert ["", "gone", "", ""] == names(found, "reason")
    assert [["fast"], [], ["gpu"], []] == names(found, "tags")
    assert (0.0, 0.0, True) == (found[0]["seen_s"], found[2]["seen_s"], found[1]["seen_s"] >= 9.0)
    assert found[2]["address"].startswith("10.0.0.1:")
    assert {"cpus": 2.0, "memory": 5, "storage": 6} == {
        key: found[2][key] for key in ("cpus", "memory", "storage")
    }
    heirs = {node["name"]: node["owner_of"] for node in found}
    assert ["beta", "zeta"] == sorted(heirs["one"] + heirs["two"])


@pytest.mark.parametrize(
    ("seen", "listens", "shown"),
    [
        ("10.0.0.7:51234", ["192.168.1.7:22580", "10.0.0.7:22580"], "10.0.0.7:22580"),
        ("10.9.9.9:51234", ["192.168.1.7:22580"], "192.168.1.7:22580"),
        ("10.9.9.9:51234", [], "10.9.9.9:51234"),
    ],
)
async def test_the_address_of_a_node(pair: Pair, seen: str, listens: list[str], shown: str) -> None:
    """Where it listens, on the host where it is met; not the port that it happened to call from."""
    known = member("zz", "other", DOWN, address=seen)
    about = msgspec.structs.replace(known.about, addresses=listens)
    await pair.see(msgspec.structs.replace(known, about=about))
    found = (await pair.ask("nodes"))["nodes"]
    assert {shown} == {node["address"] for node in found if node["name"] == "other"}


async def test_a_node_that_does_not_answer_soon(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told of as it is known; its numbers are not."""
    monkeypatch.setattr(node_answers, "LIVE_S", 0.01)
    pair.pipes.lost = lambda node, message: isinstance(message, Answered)
    [_, two] = (await pair.ask("nodes"))["nodes"]
    assert ("two", "up", None, None) == (two["name"], two["state"], two["free"], two["running"])


async def test_a_node_that_drains(pair: Pair) -> None:
    """So it is shown, by whoever is asked; being suspected is the worse news."""
    await pair.see(two=member(pair.two.id, "two", draining=True))
    assert "draining" == (await pair.ask("nodes"))["nodes"][1]["state"]
    await pair.see(two=member(pair.two.id, "two", SUSPECT, draining=True))
    assert "suspect" == (await pair.ask("nodes"))["nodes"][1]["state"]


async def test_status_counts_nodes(pair: Pair) -> None:
    """By state, without asking any."""
    await pair.see(member("aa", "x", DOWN), member("bb", "y", DOWN))
    pair.pipes.sent.clear()
    status = await pair.ask("status")
    assert {"up": 2, "down": 2} == status["nodes"]
    assert ("one", []) == (status["node"]["name"], pair.pipes.sent)
    assert status["node"]["address"].startswith("10.0.0.1:")


# ---- tags and drain ----


async def test_tags_of_another_node(pair: Pair) -> None:
    """Added there, removed there, listed from there."""
    assert {"node": "two", "tags": ["new"]} == await pair.ask("tagadd", tag="new", node="two")
    assert {"node": "two", "tags": []} == await pair.ask("tagdel", tag="new", node=pair.two.id[:5])
    assert [SetTag("new", True), SetTag("new", False)] == [
        message for message in pair.two.asked if isinstance(message, SetTag)
    ]
    assert {"node": "two", "tags": ["gpu"]} == await pair.ask("taglist", node="two")
    assert {"node": "one", "tags": ["fast"]} == await pair.ask("taglist")
    with pytest.raises(BadRequest):
        await pair.ask("tagadd", tag="no tag", node="two")


async def test_a_node_that_is_down_cannot_be_changed(pair: Pair) -> None:
    """That is said at once; its tags are still known."""
    await pair.lose_two()
    for command, fields in (("tagadd", {"tag": "x"}), ("tagdel", {"tag": "x"}), ("drain", {})):
        with pytest.raises(Refused, match=r"two is down \(silent for 5 s\)"):
            await pair.ask(command, node="two", **fields)
    assert {"node": "two", "tags": []} == await pair.ask("taglist", node="two")
    assert not any(isinstance(one.message, Ask) for one in pair.pipes.sent)


async def test_a_node_that_goes_down_meanwhile(pair: Pair) -> None:
    """Nobody waits for its answer any longer than it takes to know."""
    pair.pipes.lost = lambda node, message: isinstance(message, Answered)
    number = pair.client.send({"type": "drain", "node": "two"})
    await until(lambda: any(isinstance(one.message, Ask) for one in pair.pipes.sent))
    await pair.lose_two()
    with pytest.raises(Unavailable, match=r"two is down \(silent for 5 s\)"):
        await pair.client.result(number)


async def test_drain_another_node(pair: Pair) -> None:
    """And undo it; the answer is that node's object."""
    drained = await pair.ask("drain", node="two")
    assert ("two", "draining") == (drained["name"], drained["state"])
    assert "up" == (await pair.ask("drain", node="two", undo=True))["state"]
    assert [SetDraining(True), SetDraining(False)] == [
        message for message in pair.two.asked if isinstance(message, SetDraining)
    ]
    assert not any(isinstance(message, SetDraining) for message in pair.one.asked)


async def test_names_that_fit_none_or_several(pair: Pair) -> None:
    """Who there is, is said."""
    await pair.see(member("t1", "twin"), member("t2", "twin"))
    with pytest.raises(Ambiguous, match=r"twin fits several nodes \(t1, t2\)"):
        await pair.ask("drain", node="twin")
    with pytest.raises(NotFound, match="there is no node 'three'; there are: one, twin"):
        await pair.ask("taglist", node="three")


# ---- exec ----


async def exec_on(pair: Pair, **fields: Any) -> tuple[list[str], dict[str, str]]:
    """Names of the nodes that run it, each asked for its own task, and those that are skipped."""
    answer = await pair.ask("exec", command="hostname", **fields)
    for name, task in answer["ids"].items():
        shown = await pair.ask("show", id=task)
        assert ({"exec": name}, 0.0) == (shown["labels"], shown["cpus"])
    return list(answer["ids"]), answer["skipped"]


async def test_exec(pair: Pair) -> None:
    """On this node, another, those of a tag, or all: a task pinned to each."""
    assert (["one"], {}) == await exec_on(pair)
    assert (["two"], {}) == await exec_on(pair, node="two")
    assert (["two"], {}) == await exec_on(pair, tag="gpu")
    found, skipped = await exec_on(pair, all=True)
    assert (["one", "two"], {}) == (sorted(found), skipped)


async def test_exec_skips_who_is_down(pair: Pair) -> None:
    """It says whom and why; those that left are none; with nobody left it is refused."""
    await pair.see(member("aa", "lost", DOWN, tags=["t"]), member("bb", "past", LEFT, tags=["t"]))
    found, skipped = await exec_on(pair, all=True)
    assert (["one", "two"], {"lost": "lost is down"}) == (sorted(found), skipped)
    with pytest.raises(Refused, match="nobody is there to run it: lost is down"):
        await exec_on(pair, tag="t")
    with pytest.raises(Refused, match="lost is down"):
        await exec_on(pair, node="lost")
    with pytest.raises(NotFound, match="no node carries the tag 'none'"):
        await exec_on(pair, tag="none")


async def test_exec_skips_whom_it_cannot_reach(pair: Pair) -> None:
    """A node that only others are connected with would not begin: people want it now."""
    heard = "no direct connection; heard through three"
    away = member(pair.two.id, "two", UP, tags=["gpu"], reason=heard, linked=False)
    await pair.see(two=away)
    found, skipped = await exec_on(pair, all=True)
    assert (["one"], {"two": f"two: {heard}: ask on another node"}) == (found, skipped)
    with pytest.raises(Refused, match="no direct connection"):
        await exec_on(pair, node="two")


# ---- tasks ----


async def test_held_by_names_the_nodes(pair: Pair) -> None:
    """This one first, then those that hold it durably as well."""
    pair.one.holders = [pair.two.id]
    answer = await pair.ask("submit", b'{"command": "x"}')
    assert ["one", "two"] == answer["held_by"]
    pair.one.holders = []
    assert ["one"] == (await pair.ask("submit", b'{"command": "x"}'))["held_by"]


async def submit_at_two(pair: Pair) -> None:
    """A task whose origin, and so its owner, is node two."""
    async with pair.two.client() as client:
        await client.ask("submit", json.dumps({"command": "x", "id": "t"}).encode())
    await pair.two.copy_to(pair.one)


async def test_why_is_asked_of_the_owner(pair: Pair) -> None:
    """Its scheduler alone knows what stands in the way on each node."""
    await submit_at_two(pair)
    why = await pair.ask("why", id="t")
    assert ("waiting", {"one", "two"}) == (why["state"], set(why["nodes"]))


async def test_why_while_the_owner_cannot_be_asked(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known here is told, and why no more."""
    monkeypatch.setattr(answers, "_WHY_S", 0.01)
    await submit_at_two(pair)
    pair.pipes.lost = lambda node, message: isinstance(message, Answered)
    why = await pair.ask("why", id="t")
    assert ("waiting", {}) == (why["state"], why["nodes"])
    assert "two can't be asked: two did not answer within 0.01 s" == why["reasons"][-1]
