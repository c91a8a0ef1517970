"""Waiting for tasks, and reading output while it is written."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from leoronic.actors import following, output_reading, own_output
from leoronic.core.entries import Finished, Lost, Started
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.run import OutputPart, ReadOutput
from leoronic.errors import BadRequest, NotFound, Refused
from tests.actors.node import Client, Node, node_in
from tests.runtime.actors import until

BAD = Outcome(5.0, 6.0, exit_code=3)


def good(text: bytes = b"", **fields: Any) -> Outcome:
    return Outcome(5.0, 6.0, exit_code=0, stdout=StreamRef(len(text), text), **fields)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with node_in(tmp_path) as made:
        yield made


@pytest.fixture
async def client(node: Node) -> AsyncIterator[Client]:
    async with node.client() as made:
        yield made


async def submit(client: Client, *tasks: str) -> None:
    await client.ask("submit", ("[" + ",".join(tasks) + "]").encode())


async def item(client: Client) -> dict[str, Any]:
    frame, _ = await client.receive()
    found: dict[str, Any] = frame["item"]
    return found


# ---- wait ----


async def test_wait_tells_of_progress_and_then_of_the_end(node: Node, client: Client) -> None:
    """States as they change, each once; the task objects last."""
    await submit(client, '{"command": "x", "id": "a"}', '{"command": "x", "id": "b"}')
    number = client.send({"type": "wait", "ids": ["a", "b", "a"]})
    assert [("a", "waiting"), ("b", "waiting")] == [
        (one["id"], one["state"]) for one in (await item(client), await item(client))
    ]
    await node.run("a", good())
    seen = []
    while ("a", "succeeded") not in seen:
        one = await item(client)
        seen.append((one["id"], one["state"]))
    await node.run("b", BAD)
    *more, result = await client.result(number)
    assert ("b", "failed") in [(one["id"], one["state"]) for one, _ in more]
    assert (["a", "b"], [0, 3], False) == (
        [task["id"] for task in result["tasks"]],
        [task["exit_code"] for task in result["tasks"]],
        result["timed_out"],
    )


async def test_wait_for_what_is_over(node: Node, client: Client) -> None:
    """Answered at once; a blocked task counts as ended, it can never start."""
    await submit(client, '{"command": "x", "id": "a"}', '{"command": "x", "id": "b", "after": "a"}')
    await node.run("a", BAD)
    *items, result = await client.result(client.send({"type": "wait", "ids": ["a", "b"]}))
    assert ["failed", "blocked"] == [one["state"] for one, _ in items]
    assert not result["timed_out"]


async def test_wait_with_a_limit(node: Node, client: Client) -> None:
    """When the time is up, what there is is told."""
    await submit(client, '{"command": "x", "id": "a"}')
    command = {"type": "wait", "ids": ["a"], "time_limit": 0.0}
    *_, result = await client.result(client.send(command))
    assert (True, ["waiting"]) == (result["timed_out"], [t["state"] for t in result["tasks"]])


async def test_wait_for_an_array(node: Node, client: Client, monkeypatch: Any) -> None:
    """Progress counts its elements."""
    monkeypatch.setattr(following, "ARRAY_PAUSE_S", 0.0)
    await submit(client, '{"command": "x", "id": "a", "count": 2}')
    number = client.send({"type": "wait", "ids": ["a"]})
    assert {"done": 0, "count": 2, "elements": {"waiting": 2}} == (await item(client))["progress"]
    await node.run("a.0", good())
    await node.run("a.1", good())
    *_, result = await client.result(number)
    assert {"succeeded": 2} == result["tasks"][0]["elements"]


async def test_wait_for_nothing(client: Client) -> None:
    """That is a mistake, and so is what does not exist."""
    with pytest.raises(BadRequest, match="which tasks"):
        await client.ask("wait", ids=[])
    with pytest.raises(BadRequest, match="1001 ids are too many"):
        await client.ask("wait", ids=["zzz"] * 1001)
    with pytest.raises(NotFound):
        await client.ask("wait", ids=["zzz"])


# ---- logs ----


async def logs(client: Client, task: str = "a", **fields: Any) -> tuple[bytes, Any]:
    """Everything that `logs` answers: the bytes, and the result."""
    *items, result = await client.result(client.send({"type": "logs", "id": task, **fields}))
    return b"".join(blob for _, blob in items), result


async def test_logs_of_what_has_ended(node: Node, client: Client) -> None:
    """Kept within the outcome; whatever its bytes."""
    await submit(client, '{"command": "x", "id": "a"}')
    assert (b"", {"task": "a", "attempt": 0, "at_end": False}) == await logs(client)
    await node.run("a", good(b"h\xffi\0\n", stderr=StreamRef(3, b"err")))
    assert (b"h\xffi\0\n", {"task": "a", "attempt": 1, "at_end": True}) == await logs(client)
    assert b"err" == (await logs(client, stream="stderr"))[0]
    assert b"i\0\n" == (await logs(client, offset=2))[0]
    assert b"" == (await logs(client, offset=99))[0]
    assert b"h\xffi\0\n" == (await logs(client, follow=True))[0]


async def test_logs_from_a_file(node: Node, client: Client, monkeypatch: Any) -> None:
    """Its part of a packed file, in pieces, and nothing of its neighbours."""
    monkeypatch.setattr(output_reading, "CHUNK_BYTES", 4)
    (node.output / "pack").write_bytes(b"before0123456789after")
    await submit(client, '{"command": "x", "id": "a"}')
    await node.run("a", Outcome(5.0, 6.0, exit_code=0, stdout=StreamRef(10, file="pack", offset=6)))
    assert b"0123456789" == (await logs(client))[0]
    assert b"789" == (await logs(client, offset=7))[0]
    (node.output / "pack").unlink()
    with pytest.raises(Refused, match="the output is gone: pack was removed"):
        await logs(client)


@pytest.mark.parametrize(
    "fields",
    [{"stream": "stdin"}, {"offset": -1}, {"offset": -(2**63)}, {"offset": 2**64 - 1}],
    ids=str,
)
async def test_logs_of_nonsense(node: Node, client: Client, fields: dict[str, Any]) -> None:
    """It is refused, and harms nobody: nothing of other tasks is shown either."""
    (node.output / "pack").write_bytes(b"before0123456789after")
    await submit(client, '{"command": "x", "id": "a"}')
    await node.run("a", Outcome(5.0, 6.0, exit_code=0, stdout=StreamRef(10, file="pack", offset=6)))
    with pytest.raises(BadRequest):
        await logs(client, **fields)
    assert b"0123456789" == (await logs(client))[0]
    assert {0} == {line["restarts"] for line in node.tree.statistics()}


async def test_logs_of_an_array(node: Node, client: Client) -> None:
    """It has none of its own; its elements have."""
    await submit(client, '{"command": "x", "id": "a", "count": 3}')
    with pytest.raises(Refused, match=r"ask for an element, a\.0 to a\.2"):
        await logs(client)
    await node.run("a.1", good(b"one"))
    assert b"one" == (await logs(client, "a.1"))[0]


async def test_logs_of_what_runs(node: Node, client: Client) -> None:
    """What it has printed so far, from the runner."""
    await submit(client, '{"command": "x", "id": "a"}')
    await node.write(Started("a", 1, node.id, 5.0))
    node.live_output["a"] = b"so far"
    assert (b"so far", {"task": "a", "attempt": 1, "at_end": False}) == await logs(client)
    assert b"far" == (await logs(client, offset=3))[0]


async def test_following_begins_before_the_first_attempt(node: Node, client: Client) -> None:
    """It waits for the start, and ends with the task."""
    await submit(client, '{"command": "x", "id": "a"}')
    number = client.send({"type": "logs", "id": "a", "follow": True})
    await node.run("a", good(b"all of it"))
    assert [({"attempt": 1, "node": "one"}, b""), ({"offset": 0}, b"all of it")] == (
        await client.result(number)
    )[:-1]


async def test_following_over_retries_shows_each_attempt_once(
    node: Node, client: Client, monkeypatch: Any
) -> None:
    """However often there is other news between them."""
    monkeypatch.setattr(following, "LOOK_AGAIN_S", 0.001)
    await submit(client, '{"command": "x", "id": "a", "retries": 1, "retry_delay": 0}')
    number = client.send({"type": "logs", "id": "a", "follow": True})
    failed = Outcome(5.0, 6.0, exit_code=1, stdout=StreamRef(5, b"first"))
    await node.run("a", failed, final=False)
    async with node.client() as other:
        for what in ("hold", "release", "hold", "release"):
            await other.ask(what, ids=["a"])
    await node.run("a", good(b"second"), attempt=2)
    *items, result = await client.result(number)
    assert [
        ({"attempt": 1, "node": "one"}, b""),
        ({"offset": 0}, b"first"),
        ({"attempt": 2, "node": "one"}, b""),
        ({"offset": 0}, b"second"),
    ] == items
    assert {"task": "a", "attempt": 2, "at_end": True} == result
    assert b"first" == (await logs(client, attempt=1, follow=True))[0]


async def test_following_while_the_runner_does_not_know_it(
    node: Node, client: Client, monkeypatch: Any
) -> None:
    """Between the journal's word and the process, or while the runner can't be asked: it waits."""
    monkeypatch.setattr(output_reading, "UNKNOWN_PAUSE_S", 0.001)
    await submit(client, '{"command": "x", "id": "a"}')
    await node.write(Started("a", 1, node.id, 5.0))
    number = client.send({"type": "logs", "id": "a", "follow": True})
    assert {"attempt": 1, "node": "one"} == await item(client)
    await node.host.first_of(2)
    node.live_output["a"] = None  # the runner is gone for a moment
    await node.host.first_of(2)
    node.live_output["a"] = b"at last"
    assert {"offset": 0} == await item(client)
    await node.write(Finished("a", 1, node.id, good(b"at last"), True))
    assert [] == (await client.result(number))[:-1]


async def test_output_of_a_lost_attempt(node: Node, client: Client) -> None:
    """What reached the disk by then is still there."""
    await submit(client, '{"command": "x", "id": "a", "on_loss": "hold"}')
    (node.output / "a.1.stdout").write_bytes(b"half of")
    await node.write(Started("a", 1, node.id, 5.0), Lost("a", 1, node.id, 6.0, "gone", True))
    assert (b"half of", {"task": "a", "attempt": 1, "at_end": False}) == await logs(client)
    assert b"" == (await logs(client, stream="stderr"))[0]


async def test_followers_of_a_cancelled_task_are_let_go(node: Node, client: Client) -> None:
    """Also if it never started."""
    await submit(client, '{"command": "x", "id": "a"}')
    number = client.send({"type": "logs", "id": "a", "follow": True})
    await until(lambda: node.watched)
    async with node.client() as other:
        await other.ask("cancel", ids=["a"])
    assert [{"task": "a", "attempt": 0, "at_end": True}] == await client.result(number)


async def test_many_readers_of_what_runs(node: Node, client: Client, monkeypatch: Any) -> None:
    """Only so many ask the runner at once for much; all are answered in the end."""
    await submit(client, '{"command": "x", "id": "a"}')
    await node.write(Started("a", 1, node.id, 5.0))
    gate = asyncio.Event()
    asked: list[ReadOutput] = []

    class Runner:
        async def call(self, message: ReadOutput, timeout_s: float) -> OutputPart:
            asked.append(message)
            await gate.wait()
            return OutputPart(message.offset, b"all" if message.offset == 0 else b"", at_end=False)

    monkeypatch.setattr(node.local._running, "_runner_host", Runner())
    async with contextlib.AsyncExitStack() as stack:
        many = [await stack.enter_async_context(node.client()) for _ in range(20)]
        numbers = [one.send({"type": "logs", "id": "a"}) for one in many]
        await until(lambda: len(asked) == own_output.LIVE_READS_MAX)
        for _ in range(20):
            await client.ask("show", id="a")
        assert len(asked) == own_output.LIVE_READS_MAX
        gate.set()
        for one, number in zip(many, numbers, strict=True):
            assert b"all" == b"".join(blob for _, blob in (await one.result(number))[:-1])


async def test_many_readers_at_one_connection(node: Node, client: Client, monkeypatch: Any) -> None:
    """They read in turn: of what its client does not take, one chunk at most is held."""
    await submit(client, '{"command": "x", "id": "a"}')
    await node.write(Started("a", 1, node.id, 5.0))
    gate = asyncio.Event()
    asked: list[ReadOutput] = []

    class Runner:
        async def call(self, message: ReadOutput, timeout_s: float) -> OutputPart:
            asked.append(message)
            await gate.wait()
            return OutputPart(message.offset, b"", at_end=False)

    monkeypatch.setattr(node.local._running, "_runner_host", Runner())
    numbers = {client.send({"type": "logs", "id": "a"}) for _ in range(10)}
    await until(lambda: len(asked) > 0)
    async with node.client() as other:
        for _ in range(20):
            await other.ask("show", id="a")
    assert 1 == len(asked)
    gate.set()
    while numbers:
        frame, _ = await client.receive()
        if "result" in frame:
            numbers.remove(frame["request"])


async def test_who_waits_for_output_gets_little_at_once(node: Node, client: Client) -> None:
    """All who wait are woken together: only who reads on gets much."""
    await submit(client, '{"command": "x", "id": "a"}')
    await node.write(Started("a", 1, node.id, 5.0))
    news = [b"first", b"x" * output_reading.WAITED_BYTES, b"y" * 10_000]
    asked: list[ReadOutput] = []

    def runner(message: ReadOutput) -> OutputPart:
        asked.append(message)
        data = news.pop(0)[: message.limit] if news else b""
        return OutputPart(message.offset, data, at_end=not news)

    node.host.answer = runner
    client.send({"type": "logs", "id": "a", "follow": True})
    items = [await client.receive() for _ in range(4)]
    assert [5, output_reading.WAITED_BYTES, 10_000] == [len(blob) for _, blob in items[1:]]
    wanted = [(output_reading.CHUNK_BYTES, 0.0), (output_reading.WAITED_BYTES, 20.0)]
    assert [*wanted, wanted[0]] == [(one.limit, one.wait_s) for one in asked[:3]]
