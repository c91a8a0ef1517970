"""Output of runs on other nodes: while they run, when they have ended, and when nodes are gone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from leoronic.actors import output_reading
from leoronic.core.entries import Finished, Kept, Lost, Started
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.run import OutputPart, ReadOutput
from leoronic.core.view import DOWN
from leoronic.errors import Refused, Unavailable
from tests.actors.node import Client, Frame, Node, joined_nodes
from tests.actors.peered import Pipes, member
from tests.runtime.actors import until

TEXT = b"0123456789"


class Three:
    """Nodes `one` (which is asked, by `client`), `two` and `three`, and task `a` of node one."""

    def __init__(self, pipes: Pipes, nodes: list[Node], client: Client) -> None:
        self.pipes = pipes
        self.nodes = nodes
        self.one, self.two, self.three = nodes
        self.client = client

    async def copied(self, node: Node) -> None:
        """What `node` wrote is on all disks."""
        for other in self.nodes:
            if other is not node:
                await node.copy_to(other)

    async def writes(self, node: Node, *entries: Any) -> None:
        await node.write(*entries)
        await self.copied(node)

    async def see(self, *gone: Node) -> None:
        """What node one sees."""
        members = [n.member for n in self.nodes if n not in gone]
        await self.one.see(*members, *(member(n.id, n.name, DOWN, reason="silent") for n in gone))

    async def logs(self, **fields: Any) -> tuple[bytes, list[Any], Any]:
        """The bytes, the items without bytes, and the result."""
        number = self.client.send({"type": "logs", "id": "a", **fields})
        *items, result = await self.client.result(number)
        notes = [item for item, blob in items if not blob]
        return b"".join(blob for _, blob in items), notes, result


@pytest.fixture
async def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Three]:
    for name in ("UNKNOWN_PAUSE_S", "AWAY_PAUSE_S"):
        monkeypatch.setattr(output_reading, name, 0.001)
    async with (
        joined_nodes(tmp_path, "one", "two", "three") as (pipes, nodes),
        nodes[0].client() as client,
    ):
        made = Three(pipes, nodes, client)
        await client.ask("submit", b'{"command": "x", "id": "a", "retries": 3, "retry_delay": 0}')
        await made.copied(nodes[0])
        yield made


def began(node: Node, attempt: int = 1) -> Started:
    return Started("a", attempt, node.id, 5.0)


def ended(
    node: Node, ref: StreamRef, attempt: int = 1, *, final: bool = True, code: int = 0
) -> Finished:
    return Finished("a", attempt, node.id, Outcome(5.0, 6.0, exit_code=code, stdout=ref), final)


IN_FILE = StreamRef(len(TEXT), file="a.1.stdout")


async def ran(three: Three, node: Node) -> None:
    """Attempt 1 ended on `node`, and its output is in a file there."""
    (node.output / "a.1.stdout").write_bytes(TEXT)
    await three.writes(node, began(node), ended(node, IN_FILE))


# ---- from where ----


async def test_of_a_run_that_ended_elsewhere(three: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its node is named, and sends it in parts."""
    monkeypatch.setattr(output_reading, "CHUNK_BYTES", 4)
    await ran(three, three.two)
    data, notes, result = await three.logs()
    assert (TEXT, [{"attempt": 1, "node": "two"}]) == (data, notes)
    assert {"task": "a", "attempt": 1, "at_end": True} == result
    assert b"789" == (await three.logs(offset=7))[0]
    assert TEXT == (await three.logs(follow=True))[0]


async def test_of_a_run_that_runs_elsewhere(three: Three) -> None:
    """What it has printed so far, from the runner there."""
    await three.writes(three.two, began(three.two))
    three.two.live_output["a"] = TEXT
    assert (TEXT, False) == ((found := await three.logs())[0], found[2]["at_end"])


async def test_small_output_needs_nobody(three: Three) -> None:
    """It came with the outcome: its node may be gone."""
    ref = StreamRef(5, b"small")
    await three.writes(three.two, began(three.two), ended(three.two, ref))
    await three.see(three.two, three.three)
    assert b"small" == (await three.logs())[0]


async def test_a_copy_on_a_third_node(three: Three) -> None:
    """When the node of the run is gone, who keeps a copy is asked."""
    await ran(three, three.two)
    (three.three.output / f"a.1.stdout@{three.two.id}").write_bytes(TEXT)
    kept = Kept("a", 1, three.two.id, "stdout", len(TEXT))
    await three.writes(three.three, kept)
    await three.see(three.two)
    assert TEXT == (await three.logs())[0]
    assert TEXT == (await three.logs(follow=True))[0]


async def test_a_copy_here(three: Three) -> None:
    """Nobody is asked."""
    await ran(three, three.two)
    (three.one.output / f"a.1.stdout@{three.two.id}").write_bytes(TEXT)
    await three.see(three.two, three.three)
    assert TEXT == (await three.logs())[0]


async def test_output_that_is_out_of_reach(three: Three) -> None:
    """Where it is, and why it can't be had; who follows is told so and not refused."""
    await ran(three, three.two)
    await three.writes(three.three, Kept("a", 1, three.two.id, "stdout", len(TEXT)))
    await three.see(three.two, three.three)
    words = (
        r"what a printed in attempt 1 is kept by two and three, and two is down \(silent\); three "
        r"is down \(silent\): ask again when it is back"
    )
    with pytest.raises(Unavailable, match=words):
        await three.logs()
    data, notes, result = await three.logs(follow=True)
    assert (b"", True, 1) == (data, result["at_end"], notes[1]["attempt"])
    assert "is kept by two and three" in notes[1]["missing"]


async def test_output_that_is_gone(three: Three) -> None:
    """Removed where it was: that is another matter."""
    await ran(three, three.two)
    (three.two.output / "a.1.stdout").unlink()
    with pytest.raises(Refused, match=r"the output is gone: a\.1\.stdout was removed"):
        await three.logs()


async def test_a_run_on_a_node_that_is_down(three: Three) -> None:
    """What it prints is there alone."""
    await three.writes(three.two, began(three.two))
    await three.see(three.two)
    with pytest.raises(Unavailable, match=r"attempt 1 of a runs on two, .* two is down \(silent\)"):
        await three.logs()


# ---- following ----


def printing(node: Node, *parts: bytes) -> list[ReadOutput]:
    """The runner of `node` has these parts, one after the other, and then waits for more."""
    asked: list[ReadOutput] = []
    left = list(parts)

    def runner(message: ReadOutput) -> OutputPart:
        asked.append(message)
        data = left.pop(0) if left else b""
        return OutputPart(message.offset, data, at_end=False)

    node.host.answer = runner
    return asked


async def follow(three: Three, frames: int) -> tuple[int, list[Frame]]:
    number = three.client.send({"type": "logs", "id": "a", "follow": True})
    return number, [await three.client.receive() for _ in range(frames)]


async def test_following_to_the_end(three: Three) -> None:
    """From its runner while it runs, then what is left, from where it is kept."""
    await three.writes(three.two, began(three.two))
    printing(three.two, b"012", b"345")
    number, frames = await follow(three, 3)
    assert [b"", b"012", b"345"] == [blob for _, blob in frames]
    (three.two.output / "a.1.stdout").write_bytes(TEXT)
    three.two.host.answer = lambda message: OutputPart(message.offset, b"", True, known=False)
    await three.writes(three.two, ended(three.two, IN_FILE))
    *items, result = await three.client.result(number)
    assert (b"6789", 1, True) == (
        b"".join(b for _, b in items),
        result["attempt"],
        result["at_end"],
    )


async def test_following_over_retries_on_different_nodes(three: Three) -> None:
    """Each attempt is told of, with its node."""
    number = three.client.send({"type": "logs", "id": "a", "follow": True})
    first, second = StreamRef(5, b"first"), StreamRef(6, b"second")
    await three.writes(three.two, began(three.two), ended(three.two, first, final=False, code=1))
    assert [{"attempt": 1, "node": "two"}, {"offset": 0}] == [
        (await three.client.receive())[0]["item"] for _ in range(2)
    ]
    await three.writes(three.three, began(three.three, 2), ended(three.three, second, 2))
    *items, result = await three.client.result(number)
    assert [({"attempt": 2, "node": "three"}, b""), ({"offset": 0}, b"second")] == items
    assert 2 == result["attempt"]


async def test_following_over_the_loss_of_a_node(three: Three) -> None:
    """It waits while nobody knows what becomes of it, says what is missing, and goes on."""
    await three.writes(three.two, began(three.two))
    printing(three.two, b"012")
    number, frames = await follow(three, 2)
    assert [b"", b"012"] == [blob for _, blob in frames]
    await three.see(three.two)
    await three.one.write(Lost("a", 1, three.two.id, 9.0, "two is down", False))
    await three.copied(three.one)
    ref = StreamRef(6, b"second")
    await three.writes(three.three, began(three.three, 2), ended(three.three, ref, 2))
    *items, result = await three.client.result(number)
    missing, *rest = items
    assert 1 == missing[0]["attempt"]
    assert "two is down" in missing[0]["missing"]
    assert [({"attempt": 2, "node": "three"}, b""), ({"offset": 0}, b"second")] == rest
    assert (2, True) == (result["attempt"], result["at_end"])


async def test_a_node_that_comes_back(three: Three) -> None:
    """Its run goes on to be read where it was left."""
    await three.writes(three.two, began(three.two))
    asked = printing(three.two, b"012")
    number, _ = await follow(three, 2)
    await three.see(three.two)
    three.pipes.break_link(three.one.id, three.two.id)
    before = len(asked)
    await three.see()
    await until(lambda: len(asked) > before)
    assert 3 == asked[-1].offset
    ref = StreamRef(6, b"012345")
    await three.two.write(ended(three.two, ref))
    three.two.host.answer = lambda message: OutputPart(message.offset, b"", True, known=False)
    assert ({"offset": 3}, b"345") == ((f := await three.client.receive())[0]["item"], f[1])
    await three.copied(three.two)
    *items, result = await three.client.result(number)
    assert ([], True) == (items, result["at_end"])


# ---- what ran twice ----


async def run_twice(three: Three) -> None:
    """Attempt 1 on nodes that don't know of each other; then all know of both."""
    for node in (three.two, three.three):
        text = node.name.encode()
        await node.write(began(node), ended(node, StreamRef(len(text), text)))
    for node in (three.two, three.three):
        await three.copied(node)


async def test_of_two_runs_of_one_attempt_the_winner_is_shown(three: Three) -> None:
    """Whichever side of the split it was on; each is listed with its state."""
    await run_twice(three)
    won = max(three.two, three.three, key=lambda node: node.id)
    shown = await three.client.ask("show", id="a")
    assert (won.name, 1, "succeeded") == (shown["node"], shown["attempt"], shown["state"])
    assert {won.name: True} == {one["node"]: one["won"] for one in shown["attempts"] if one["won"]}
    assert ["succeeded"] * 2 == [one["state"] for one in shown["attempts"]]
    data, notes, _ = await three.logs()
    assert (won.name.encode(), [{"attempt": 1, "node": won.name}]) == (data, notes)


async def test_splits(three: Three) -> None:
    """What ran twice, who was suspected, what it cost, and whether it mattered."""
    assert {"splits": []} == await three.client.ask("splits")
    await run_twice(three)
    [split] = (await three.client.ask("splits"))["splits"]
    assert ("a", None, 1.0, True) == (
        split["id"],
        split["name"],
        split["seconds_lost"],
        split["outputs_differ"],
    )
    assert {"two", "three"} == {run["node"] for run in split["runs"]}
    assert [False, True] == sorted(run["won"] for run in split["runs"])
