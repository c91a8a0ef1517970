"""Any node answers about all: nodes, tags, drain, exec, and why, through real control sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from leoronic.actors import answers, node_answers
from leoronic.actors.peers_messages import PlaceFacts
from leoronic.core.executor_messages import SetDraining, SetTag
from leoronic.core.peer import Answered, Ask
from leoronic.core.view import DOWN, LEFT, SUSPECT, UP, Member
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
        member("zz", "beta", DOWN, reason="gone", heard_s=9.0, address="10.0.0.1:1"),
        member("aa", "zeta", LEFT),
    )
    found = (await pair.ask("nodes"))["nodes"]
    assert ["one", "beta", "two", "zeta"] == names(found)
    assert ["up", "down", "draining", "left"] == names(found, "state")
    assert [0, None, 0, None] == names(found, "running")
    assert ["", "gone", "", ""] == names(found, "reason")
    assert [["fast"], [], ["gpu"], []] == names(found, "tags")
    assert found[3]["seen_s"] is None
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


async def test_a_node_that_drains(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is shown as soon as it is so there; being suspected is the worse news."""
    pair.two.draining = True
    assert "draining" == (await pair.ask("nodes"))["nodes"][1]["state"]
    await pair.see(two=member(pair.two.id, "two", SUSPECT, draining=True))
    assert "suspect" == (await pair.ask("nodes"))["nodes"][1]["state"]
    pair.two.draining = False
    await pair.see(two=member(pair.two.id, "two", draining=True))
    assert "up" == (await pair.ask("nodes"))["nodes"][1]["state"]
    monkeypatch.setattr(node_answers, "LIVE_S", 0.01)
    pair.pipes.lost = lambda node, message: isinstance(message, Answered)
    assert "draining" == (await pair.ask("nodes"))["nodes"][1]["state"]


async def test_tags_are_those_of_now(pair: Pair) -> None:
    """Not those that were heard of last."""
    pair.two.tags = ["new"]
    await pair.see(two=member(pair.two.id, "two", tags=["old"]))
    assert ["new"] == (await pair.ask("nodes"))["nodes"][1]["tags"]


async def test_why_a_node_cannot_be_met(pair: Pair) -> None:
    """What its address said is told of it; addresses where nobody was ever met are told too."""
    pair.pipes.places = [
        PlaceFacts("10.0.0.1:22582", "", "cannot be reached: no route"),
        PlaceFacts("10.0.0.9:1", "zz", "it belongs to another cluster"),
        PlaceFacts("10.0.0.9:2", pair.two.id, "cannot be reached: an old address"),
        PlaceFacts("10.77.0.99:22580", "", "no answer within 5 s"),
        PlaceFacts("10.77.0.98:22580", "", ""),
        PlaceFacts("10.0.0.9:3", "yy", "cannot be reached: it has left"),
        PlaceFacts("10.0.0.9:4", "xx", "it belongs to another cluster"),
    ]
    await pair.see(
        member("zz", "beta", DOWN, reason="silent for 5 s"),
        member("yy", "gamma", LEFT),
        member("xx", "theta", LEFT),
    )
    answer = await pair.ask("nodes")
    cookie = "it belongs to another cluster"
    assert ["", f"silent for 5 s; 10.0.0.9:1: {cookie}", "", f"10.0.0.9:4: {cookie}", ""] == names(
        answer["nodes"], "reason"
    )
    assert [{"address": "10.77.0.99:22580", "reason": "no answer within 5 s"}] == answer[
        "unreached"
    ]


async def test_status_counts_nodes(pair: Pair) -> None:
    """By state, without asking any."""
    await pair.see(member("aa", "x", DOWN), member("bb", "y", DOWN))
    pair.pipes.sent.clear()
    status = await pair.ask("status")
    assert {"up": 2, "down": 2} == status["nodes"]
    assert ("one", []) == (status["node"]["name"], pair.pipes.sent)
    assert 0 == status["node"]["running"]
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
    with pytest.raises(Refused, match="nobody is there for it: lost is down"):
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


async def test_why_tells_of_nodes_that_are_no_choice(pair: Pair) -> None:
    """Those that are gone, with the reason, and those that the owner is not connected with."""
    [task] = (await pair.ask("submit", b'{"command": "x"}'))["ids"]
    await pair.see(
        member("zz", "c", DOWN, reason="silent for 5.0 s"),
        member("yy", "d", LEFT),
        two=member(pair.two.id, "two", reason="heard through c", linked=False),
    )
    nodes = (await pair.ask("why", id=task))["nodes"]
    port = pair.one.member.about.addresses[0].rpartition(":")[2]
    assert ["down: silent for 5.0 s"] == nodes["c"]
    assert ["left"] == nodes["d"]
    assert [
        f"no direct connection between two and one: open port {port}/tcp between them"
    ] == nodes["two"]
    assert {"one", "two", "c", "d"} == set(nodes)


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
