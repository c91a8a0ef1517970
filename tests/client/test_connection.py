"""Finding a node, talking to it, and what is said when that fails."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_node import Die, Error, FakeNode, Hang, Item, task

from leoronic.client import AsyncClient, Client, locate
from leoronic.core.commands import Logs, Nodes, Show, Status, Submit
from leoronic.errors import (
    BadRequest,
    CallTimeout,
    Conflict,
    LeoronicError,
    NodeUnreachable,
    NotFound,
)

Start = Callable[..., FakeNode]


def test_requests_carry_types_and_blobs(start: Start) -> None:
    """A command arrives as it was sent, with its blob, and its result comes back."""
    node = start(submit={"ids": ["a"], "held_by": ["attic"]}, show=task())
    with Client() as client:
        assert client.request(Submit(lines=True), b"{}")["ids"] == ["a"]
        assert task() == client.request(Show("3f2a"))
    assert [(Submit(lines=True), b"{}"), (Show("3f2a"), b"")] == node.asked


def test_pipelined_answers_find_their_requests(start: Start) -> None:
    """Answers may be taken in another order than they come in."""
    start(show=lambda command, _: iter([{"id": command.id}]))
    with Client() as client:
        numbers = [client.send(Show(f"t{i}")) for i in range(20)]
        found = [client.answer(number)["id"] for number in reversed(numbers)]
    assert [f"t{i}" for i in reversed(range(20))] == found


def test_a_stream_ends_with_its_result(start: Start) -> None:
    """Items come with their blobs; the result is there after the last."""
    start(
        logs=lambda c, _: iter(
            [Item({"offset": 0}, b"\xff\0"), Item({"offset": 2}, b"x"), {"at_end": True}]
        )
    )
    with Client() as client:
        stream = client.stream(Logs("a"))
        assert list(stream) == [({"offset": 0}, b"\xff\0"), ({"offset": 2}, b"x")]
    assert stream.result == {"at_end": True}


@pytest.mark.parametrize(
    ("code", "kind"),
    [("not_found", NotFound), ("conflict", Conflict), ("something_new", LeoronicError)],
)
def test_errors_have_their_types(start: Start, code: str, kind: type[LeoronicError]) -> None:
    """What the node refuses is raised as the exception of its code."""
    start(show=lambda c, _: iter([Error(code, "no such thing")]))
    with Client() as client, pytest.raises(kind, match="no such thing"):
        client.request(Show("x"))


def test_problems_come_along(start: Start) -> None:
    """A bad request names every mistake."""
    start(submit=lambda c, _: iter([Error("bad_request", "2 mistakes", ["a: b", "c: d"])]))
    with Client() as client, pytest.raises(BadRequest) as caught:
        client.request(Submit(), b"{}")
    assert caught.value.problems == ["a: b", "c: d"]


def test_no_answer_in_time(start: Start) -> None:
    """A node that hangs is told apart from one that is not there."""
    start(status=lambda c, _: iter([Hang()]))
    with Client(timeout_s=0.05) as client, pytest.raises(CallTimeout, match="no answer"):
        client.request(Status())


def test_a_node_that_dies_before_it_answers(start: Start) -> None:
    """The error says that it is not known whether it was done."""
    start(status=lambda c, _: iter([Die()]))
    with Client() as client, pytest.raises(NodeUnreachable, match="whether it was done"):
        client.request(Status())


def test_a_path_longer_than_a_socket_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node in a deep folder is reached like any other."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    node = FakeNode(deep, status={"node": {}})
    try:
        assert len(str(node.path)) > locate.SOCKET_PATH_BYTES_MAX
        with Client(str(deep)) as client:
            assert client.request(Status()) == {"node": {}}
    finally:
        node.stop()


def test_text_that_is_not_utf8_is_refused(start: Start) -> None:
    """An id that JSON cannot hold is refused before it is sent."""
    start()
    with Client() as client, pytest.raises(BadRequest, match="UTF-8"):
        client.request(Show("\udcff"))


# finding


def test_root_is_found_upward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument wins over LEORONIC_ROOT, that over the nearest folder upward."""
    (tmp_path / ".leoronic").mkdir()
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    monkeypatch.delenv("LEORONIC_ROOT", raising=False)
    assert str(tmp_path) == locate.find_root()
    monkeypatch.setenv("LEORONIC_ROOT", "/one")
    assert locate.find_root() == "/one"
    assert locate.find_root("/two") == "/two"
    assert str(inner / "x") == locate.find_root("x")


def test_no_folder_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a node's folder from here upward the error says how to name one."""
    monkeypatch.chdir("/")
    monkeypatch.delenv("LEORONIC_ROOT", raising=False)
    if Path("/.leoronic").exists():
        pytest.skip("there is a node in /")
    with pytest.raises(NodeUnreachable, match="--root or LEORONIC_ROOT"):
        Client()


def test_a_stale_socket(start: Start, root: Path) -> None:
    """A socket nobody listens on any longer: the error says how to start the node."""
    node = start()
    node.stop()
    with pytest.raises(NodeUnreachable, match=f"start it with `leoronic --root {root}`"):
        Client()


def test_another_users_node(start: Start, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that may not be used says whose fault it is."""
    start()

    class Refusing:  # root may talk to everybody's nodes
        def __init__(self, *_arguments: object) -> None:
            pass

        def connect(self, _address: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        def close(self) -> None:
            pass

    monkeypatch.setattr("_socket.socket", Refusing)
    with pytest.raises(NodeUnreachable, match="not allowed"):
        Client()


# async


async def test_the_async_client(start: Start) -> None:
    """Requests run side by side; streams deliver items and the last answer."""
    start(
        show=lambda command, _: iter([{"id": command.id}]),
        logs=lambda c, _: iter([Item({"offset": 0}, b"x"), {"at_end": True}]),
        nodes=lambda c, _: iter([Error("not_found", "no such thing")]),
    )
    async with await AsyncClient.connect() as client:
        found = await asyncio.gather(*(client.request(Show(f"t{i}")) for i in range(5)))
        assert [f"t{i}" for i in range(5)] == [answer["id"] for answer in found]
        answers = [answer async for answer in client.stream(Logs("a"))]
        assert [(a.last, a.blob) for a in answers] == [(False, b"x"), (True, b"")]
        with pytest.raises(NotFound):
            await client.request(Nodes())


async def test_the_async_client_loses_its_node(start: Start) -> None:
    """Whoever waits for an answer hears that the node went away; so does the next request."""
    start(status=lambda c, _: iter([Die()]))
    async with await AsyncClient.connect() as client:
        with pytest.raises(NodeUnreachable):
            await client.request(Status())
        with pytest.raises(NodeUnreachable):
            await client.request(Status())
    with pytest.raises(NodeUnreachable):
        await AsyncClient.connect()
