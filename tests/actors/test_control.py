"""The control socket: every command over a real socket, and clients that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from leoronic.actors import control
from leoronic.actors.control import COMMAND_BYTES_MAX, REQUESTS_MAX
from leoronic.core.executor_messages import SetDraining, SetTag
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.errors import Ambiguous, BadRequest, Conflict, NotFound, Refused
from tests.actors.node import HEADER, Client, Node, node_in
from tests.runtime.actors import until

GOOD = Outcome(5.0, 6.0, exit_code=0, stdout=StreamRef(3, b"hi\n"))
BAD = Outcome(5.0, 6.0, exit_code=3)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with node_in(tmp_path) as made:
        yield made


@pytest.fixture
async def client(node: Node) -> AsyncIterator[Client]:
    async with node.client() as made:
        yield made


async def submit(client: Client, *tasks: dict[str, Any]) -> list[str]:
    filled = [{"command": "x", **task} for task in tasks]
    answer = await client.ask("submit", json.dumps(filled).encode())
    return answer["ids"]  # type: ignore[no-any-return]


# ---- commands ----


async def test_the_socket_is_for_its_owner_alone(node: Node) -> None:
    """File permissions guard it."""
    assert 0o600 == stat.S_IMODE(node.socket.stat().st_mode)


async def test_submit_and_show(client: Client) -> None:
    """An id is answered once the task is on disk; who holds it is named."""
    answer = await client.ask("submit", b'{"command": "echo hi", "id": "a", "name": "n"}')
    assert {"ids": ["a"], "held_by": ["one"]} == answer
    for ref in ("a", "n"):
        shown = await client.ask("show", id=ref)
        assert ("a", "n", "waiting", "echo hi", "socket") == (
            shown["id"],
            shown["name"],
            shown["state"],
            shown["command"],
            shown["source"],
        )


async def test_lines(client: Client) -> None:
    """JSON lines, said to be such."""
    lines = b'{"command": "x", "id": "a"}\n{"command": "y", "id": "b"}\n'
    assert ["a", "b"] == (await client.ask("submit", lines, lines=True))["ids"]


async def test_others_are_answered_while_a_large_submission_is_read(client: Client) -> None:
    """It is read in slices, before what came later, and a mistake at its end refuses it whole."""
    large = client.send({"type": "submit"}, b'{"command": "x"}\n' * 50_000 + b"x")
    small = client.send({"type": "submit"}, b"x")
    question = client.send({"type": "taglist"})
    frames = [(await client.receive())[0] for _ in range(3)]
    assert [question, large, small] == [frame["request"] for frame in frames]
    assert ["line 50001: not JSON: expecting value (column 1)"] == frames[1]["error"]["problems"]
    assert {"tasks": [], "more": False} == await client.ask("list")


async def test_mistakes_come_back_with_their_places(client: Client) -> None:
    """Code, message, definite, and each problem."""
    number = client.send({"type": "submit"}, b'[{"command": "x"}, {"memory": -1}]')
    frame, _ = await client.receive()
    assert number == frame["request"]
    error = frame["error"]
    assert ("bad_request", True) == (error["code"], error["definite"])
    assert 2 == len(error["problems"])
    assert {"tasks": [], "more": False} == await client.ask("list")


async def test_refs_that_fit_several_or_none(client: Client) -> None:
    """What to do is in the message."""
    await submit(client, {"id": "abc"}, {"id": "abd"}, {"id": "arr", "count": 2})
    with pytest.raises(Ambiguous, match="type more of the id"):
        await client.ask("show", id="ab")
    with pytest.raises(NotFound, match="`leoronic list` shows"):
        await client.ask("show", id="zzz")
    with pytest.raises(NotFound, match="array arr has elements 0 to 1"):
        await client.ask("show", id="arr.2")
    with pytest.raises(NotFound, match="abc is not an array"):
        await client.ask("show", id="abc.0")
    with pytest.raises(NotFound):
        await client.ask("show", id="abc." + "1" * 5000)
    assert "arr.1" == (await client.ask("show", id="ar.1"))["id"]


async def test_list(client: Client) -> None:
    """By state and label, newest first, page by page."""
    await submit(client, *({"id": f"t{n}", "labels": {"k": str(n % 2)}} for n in range(5)))
    await client.ask("hold", ids=["t3"])
    await client.ask("cancel", ids=["t1"])
    ids = [task["id"] for task in (await client.ask("list", state="waiting"))["tasks"]]
    assert ["t4", "t2", "t0"] == ids
    labelled = await client.ask("list", label="k=1", state="held")
    assert ["t3"] == [task["id"] for task in labelled["tasks"]]
    page = await client.ask("list", limit=2)
    assert (["t4", "t3"], True) == ([task["id"] for task in page["tasks"]], page["more"])
    rest = await client.ask("list", limit=3, before=page["tasks"][-1]["order"])
    assert (["t2", "t1", "t0"], False) == ([t["id"] for t in rest["tasks"]], rest["more"])
    assert ["t1"] == [t["id"] for t in (await client.ask("list", state="cancelled"))["tasks"]]


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "sleeping"},
        {"limit": 0},
        {"limit": 10**6},
        {"before": -1},
        {"before": 2**63},
        {"before": 2**64 - 1},
    ],
)
async def test_a_list_of_nonsense(node: Node, client: Client, fields: dict[str, Any]) -> None:
    """It is refused, and harms nobody."""
    with pytest.raises(BadRequest):
        await client.ask("list", **fields)
    assert [] == (await client.ask("list"))["tasks"]
    assert {0} == {line["restarts"] for line in node.tree.statistics()}


async def test_cancel_hold_release(client: Client) -> None:
    """What changed and what did not, each once."""
    await submit(client, {"id": "a"}, {"id": "b"})
    assert {"changed": ["a"], "unchanged": []} == await client.ask("hold", ids=["a", "a"])
    shown = await client.ask("show", id="a")
    assert ("held", "held by hand") == (shown["state"], shown["reason"])
    assert {"changed": ["a"], "unchanged": ["b"]} == await client.ask("release", ids=["a", "b"])
    assert {"changed": ["b"], "unchanged": []} == await client.ask("cancel", ids=["b"])
    assert {"changed": [], "unchanged": ["b"]} == await client.ask("cancel", ids=["b"])
    with pytest.raises(BadRequest, match="which tasks"):
        await client.ask("cancel", ids=[])


async def test_why(node: Node, client: Client) -> None:
    """Live tasks by what keeps them, ended ones by how they ended."""
    await submit(client, {"id": "a"}, {"id": "b", "after": ["a"]}, {"id": "c"})
    assert {
        "id": "b",
        "state": "waiting",
        "reasons": ["it runs after a has succeeded"],
        "nodes": {},
    } == await client.ask("why", id="b")
    await node.run("a", BAD)
    blocked = await client.ask("why", id="b")
    assert ("blocked", ["it runs after a has succeeded, but that failed"]) == (
        blocked["state"],
        blocked["reasons"],
    )
    assert ["exit code 3 (attempt 1 of 1)"] == (await client.ask("why", id="a"))["reasons"]
    assert {"one": ["it has not told what is free yet"]} == (await client.ask("why", id="c"))[
        "nodes"
    ]


async def test_redo(node: Node, client: Client) -> None:
    """As a new task that says what it redoes; once; only what has ended."""
    await submit(client, {"id": "a", "labels": {"k": ""}}, {"id": "b"}, {"id": "arr", "count": 3})
    with pytest.raises(Refused, match="a has not ended"):
        await client.ask("redo", ids=["a"])
    await node.run("a", BAD)
    [again] = (await client.ask("redo", ids=["a"]))["ids"]
    shown = await client.ask("show", id=again)
    assert ("a", {"k": ""}, "x") == (shown["redo_of"], shown["labels"], shown["command"])
    with pytest.raises(Conflict, match=f"a was redone as {again}"):
        await client.ask("redo", ids=["a"])
    await node.run("arr.0", BAD)
    await node.run("arr.1", GOOD)
    with pytest.raises(Refused, match="arr has not ended"):
        await client.ask("redo", ids=["arr"])
    await client.ask("cancel", ids=["arr"])
    [rest] = (await client.ask("redo", ids=["arr"]))["ids"]
    assert 2 == (await client.ask("show", id=rest))["count"]
    with pytest.raises(BadRequest, match="--failed"):
        await client.ask("redo")


async def test_redo_all_that_failed(node: Node, client: Client) -> None:
    """Each that nobody has redone, also if it is named besides; nothing to do is no error."""
    assert {"ids": [], "held_by": []} == await client.ask("redo", failed=True)
    await submit(client, {"id": "a"}, {"id": "b"})
    await node.run("a", BAD)
    await node.run("b", BAD)
    assert 2 == len((await client.ask("redo", ids=["b"], failed=True))["ids"])
    assert [] == (await client.ask("redo", failed=True))["ids"]


async def test_exec(node: Node, client: Client) -> None:
    """A task of its own, pinned to this node, that needs no cpu."""
    answer = await client.ask("exec", command="uptime", node="one")
    shown = await client.ask("show", id=answer["ids"]["one"])
    assert (0.0, {"exec": "one"}, "exec") == (shown["cpus"], shown["labels"], shown["source"])
    wrong: list[dict[str, Any]] = [
        {"command": " "},
        {"command": "x", "node": "two"},
        {"command": "x", "tag": "gpu"},
    ]
    for fields in wrong:
        with pytest.raises(Refused):
            await client.ask("exec", **fields)


async def test_status_and_nodes(node: Node, client: Client) -> None:
    """This node, its tasks by state, and what it offers."""
    await submit(client, {"id": "a"}, {"id": "arr", "count": 4})
    status = await client.ask("status")
    assert (node.id, "one", os.getpid()) == tuple(status["node"][k] for k in ("id", "name", "pid"))
    assert 5 == status["tasks"]["waiting"]
    [shown] = (await client.ask("nodes"))["nodes"]
    assert ("one", "up", "node", ["fast"]) == tuple(
        shown[k] for k in ("name", "state", "kind", "tags")
    )


async def test_tags_drain_stop(node: Node, client: Client) -> None:
    """They are the executor's and the node's to do."""
    assert {"node": "one", "tags": ["gpu"]} == await client.ask("tagadd", tag="gpu")
    assert {"node": "one", "tags": []} == await client.ask("tagdel", tag="gpu", node="one")
    assert {"node": "one", "tags": ["fast"]} == await client.ask("taglist")
    with pytest.raises(BadRequest, match="one word"):
        await client.ask("tagadd", tag="two words")
    with pytest.raises(NotFound, match="there is no node 'two'"):
        await client.ask("tagadd", tag="gpu", node="two")
    await client.ask("drain")
    await client.ask("drain", undo=True)
    assert [SetTag("gpu", True), SetTag("gpu", False), SetDraining(True), SetDraining(False)] == [
        message for message in node.asked if isinstance(message, SetTag | SetDraining)
    ]
    assert {} == await client.ask("stop", now=True)
    await until(lambda: bool(node.stopped))
    assert [True] == node.stopped


async def test_debug_needs_leave(client: Client) -> None:
    """Nobody crashes actors by accident."""
    with pytest.raises(Refused, match="LEORONIC_DEBUG=1"):
        await client.ask("debug", actor="queue")


async def test_debug(tmp_path: Path) -> None:
    """With leave an actor is crashed, and its supervisor restarts it."""
    async with node_in(tmp_path, debug=True) as node, node.client() as client:
        with pytest.raises(NotFound, match="no actor 'zzz'"):
            await client.ask("debug", actor="zzz")
        assert {} == await client.ask("debug", actor="queue")
        await until(lambda: any(line["restarts"] for line in node.tree.statistics()))
        await submit(client, {"id": "a"})


async def test_watch(node: Node, client: Client) -> None:
    """Each change as it happens, in order."""
    number = client.send({"type": "watch"})
    async with node.client() as other:
        await until(lambda: node.watched)
        await submit(other, {"id": "a"})
        await node.run("a", GOOD)
    seen: list[tuple[Any, ...]] = []
    while len(seen) < 3:
        frame, _ = await client.receive()
        assert number == frame["request"]
        seen.append((frame["item"]["id"], frame["item"]["state"], frame["item"]["node"]))
    assert [("a", "waiting", None), ("a", "running", "one"), ("a", "succeeded", "one")] == seen


# ---- clients that misbehave ----


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another protocol"),
        pytest.param(HEADER.pack(1 << 31, 0), id="a frame said to be huge"),
        pytest.param(HEADER.pack(0, 0xFFFFFFFF), id="a blob said to be 4 GiB"),
        pytest.param(HEADER.pack(COMMAND_BYTES_MAX + 1, 0), id="a command too long"),
        pytest.param(HEADER.pack(0, 0), id="an empty frame"),
        pytest.param(HEADER.pack(5, 0) + b"\xff\xfe\x00ab", id="no JSON"),
        pytest.param(HEADER.pack(2, 0) + b"[]", id="no object"),
    ],
)
async def test_bad_bytes_close_that_connection_alone(
    node: Node, client: Client, data: bytes
) -> None:
    """A reason is logged; nobody else notices."""
    async with node.client() as bad:
        bad.writer.write(data)
        await bad.closed()
    assert {"tasks": [], "more": False} == await client.ask("list")


@pytest.mark.parametrize(
    "request_",
    [
        {"request": 1},
        {"request": "1", "command": {"type": "status"}},
        {"request": 1, "command": {"type": "explode"}},
        {"request": 1, "command": {"type": "show"}},
        {"request": 1, "command": {"type": "show", "id": 7}},
        {"request": 1, "command": {"type": "cancel", "ids": [1]}},
        {"request": 1, "command": "status"},
    ],
    ids=str,
)
async def test_what_is_no_request_closes_the_connection(
    node: Node, client: Client, request_: object
) -> None:
    """Unknown commands, missing fields, wrong types."""
    async with node.client() as bad:
        bad.send_json(request_)
        await bad.closed()
    assert [] == (await client.ask("list"))["tasks"]


async def test_more_requests_than_are_served_at_once(client: Client) -> None:
    """They wait in line; each is answered."""
    numbers = [client.send({"type": "list"}) for _ in range(REQUESTS_MAX * 4)]
    answered = [(await client.receive())[0] for _ in numbers]
    assert sorted(numbers) == sorted(frame["request"] for frame in answered)
    assert all({"tasks": [], "more": False} == frame["result"] for frame in answered)


async def test_requests_beyond_the_limit_wait_in_the_socket(node: Node, monkeypatch: Any) -> None:
    """So many are under way at once for a connection; the next is not even begun."""
    monkeypatch.setattr(control, "REQUESTS_MAX", 2)
    async with node.client() as client:
        for _ in range(5):
            client.send({"type": "watch"})
        await until(lambda: sum(node.requests) == 5)
        assert (2, 3) == node.requests


async def test_bytes_beyond_the_limit_wait_in_the_socket(node: Node, monkeypatch: Any) -> None:
    """Requests under way have so many bytes for each connection; a single one always fits."""
    monkeypatch.setattr(control, "CONNECTION_BYTES_MAX", 1000)
    async with node.client() as client:
        for _ in range(5):
            client.send({"type": "watch"}, b"x" * 600)
        await until(lambda: node.requests[1] > 0)
        assert 1 == node.requests[0]


async def test_many_bytes_are_answered_in_turn(client: Client, monkeypatch: Any) -> None:
    """Reading goes on when there is room again."""
    monkeypatch.setattr(control, "CONNECTION_BYTES_MAX", 1000)
    numbers = [client.send({"type": "submit"}, big(f"t{n}")) for n in range(5)]
    assert numbers == [(await client.receive())[0]["request"] for _ in numbers]


async def test_submissions_of_all_clients_are_bounded(node: Node, monkeypatch: Any) -> None:
    """Beyond so many bytes they wait for each other; questions do not, and all are answered."""
    monkeypatch.setattr(control, "SUBMISSION_BYTES_MAX", 1000)
    async with contextlib.AsyncExitStack() as stack:
        first, *others = [await stack.enter_async_context(node.client()) for _ in range(4)]
        first.send({"type": "watch"}, b"x" * 900)
        await until(lambda: node.requests == (1, 0))
        numbers = [other.send({"type": "submit"}, big(f"t{n}")) for n, other in enumerate(others)]
        await until(lambda: node.requests == (1, 3))
        assert [] == (await first.ask("list"))["tasks"]
        first.writer.close()
        for other, number in zip(others, numbers, strict=True):
            assert 1 == len((await other.result(number))[-1]["ids"])
        assert 3 == len((await others[0].ask("list"))["tasks"])
    await until(lambda: node.clients == 0)
    assert (0, {}) == (node.control._submission_bytes, node.control._held_up)


def big(task: str) -> bytes:
    """A submission of about 900 bytes."""
    return json.dumps({"command": "x" * 870, "id": task}).encode()


async def test_a_client_that_never_reads_is_cut(
    node: Node, client: Client, monkeypatch: Any
) -> None:
    """Once too much waits for it; others are served all the time."""
    await submit(client, *({"id": f"t{n}", "command": "x" * 1000} for n in range(200)))
    monkeypatch.setattr(control, "SEND_BYTES_MAX", 300_000)
    deaf = socket.socket(socket.AF_UNIX)
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(deaf, str(node.socket))
    text = b'{"request": 1, "command": {"type": "list", "limit": 200}}'
    await loop.sock_sendall(deaf, (HEADER.pack(len(text), 0) + text) * 20)
    await until(lambda: node.clients == 2)
    while node.clients > 1:
        await client.ask("taglist")
    deaf.close()
    assert 200 == len((await client.ask("list", limit=200))["tasks"])


async def test_too_many_clients(node: Node, client: Client, monkeypatch: Any) -> None:
    """One more than there may be is turned away at once; those there are go on."""
    await client.ask("taglist")
    monkeypatch.setattr(control, "CONNECTIONS_MAX", 2)
    async with node.client() as second:
        await second.ask("taglist")
        async with node.client() as third:
            await third.closed()
        await second.ask("taglist")


async def test_who_hangs_up_ends_its_requests(node: Node, client: Client) -> None:
    """What it waited for is given up: nobody watches any more."""
    async with node.client() as gone:
        gone.send({"type": "watch"})
        await until(lambda: node.watched)
    await until(lambda: not node.watched)
    await client.ask("taglist")


async def test_an_earlier_life_left_its_file(tmp_path: Path) -> None:
    """It is replaced."""
    (tmp_path / "control.sock").write_bytes(b"")
    async with node_in(tmp_path) as node, node.client() as client:
        await client.ask("taglist")
    assert not (tmp_path / "control.sock").exists()
