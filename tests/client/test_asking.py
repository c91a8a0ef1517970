"""Each command of the contract as a method, of both clients."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from fake_node import Error, FakeNode, Item, task

from leoronic.client import AsyncClient, Client
from leoronic.client.asking import Asking
from leoronic.core import commands
from leoronic.errors import BadRequest, NotFound

Start = Callable[..., FakeNode]

PLAIN: list[tuple[str, tuple[Any, ...], dict[str, Any], Any]] = [
    ("show", ("a",), {}, commands.Show("a")),
    ("why", ("a",), {}, commands.Why("a")),
    ("tasks", (), {"state": "failed", "limit": 5}, commands.List(state="failed", limit=5)),
    ("cancel", ("a", "b"), {}, commands.Cancel(["a", "b"])),
    ("hold", ("a",), {}, commands.Hold(["a"])),
    ("release", ("a",), {}, commands.Release(["a"])),
    ("redo", (), {"failed": True}, commands.Redo(failed=True)),
    ("splits", (), {}, commands.Splits()),
    ("status", (), {}, commands.Status()),
    ("nodes", (), {}, commands.Nodes()),
    ("tag_add", ("gpu",), {"node": "attic"}, commands.TagAdd("gpu", "attic")),
    ("tag_del", ("gpu",), {}, commands.TagDel("gpu")),
    ("tag_list", ("attic",), {}, commands.TagList("attic")),
    ("drain", ("attic",), {"undo": True}, commands.Drain("attic", True)),
    ("stop", (), {"now": True}, commands.Stop(True)),
    ("join", (), {"ghost": True}, commands.Join(True)),
    ("cookie", ("rotate",), {}, commands.Cookie("rotate")),
    ("execute", ("uptime",), {"all": True}, commands.Exec("uptime", all=True)),
    ("wait", ("a", "b"), {"time_limit_s": 5.0}, commands.Wait(["a", "b"], 5.0)),
    ("left", ("a",), {}, commands.Get("a")),
]


def name_of(command: object) -> str:
    return type(command).__name__.lower()


@pytest.mark.parametrize(("method", "args", "options", "command"), PLAIN, ids=lambda v: str(v)[:20])
def test_methods_are_commands(
    start: Start, method: str, args: Any, options: Any, command: Any
) -> None:
    """The same ones with both clients, and the result is the node's."""
    node = start(**{name_of(command): {"done": method}})
    with Client() as client:
        assert {"done": method} == getattr(client, method)(*args, **options)

    async def ask() -> Any:
        async with await AsyncClient.connect() as client:
            return await getattr(client, method)(*args, **options)

    assert {"done": method} == asyncio.run(ask())
    assert [(command, b"")] * 2 == node.asked


def test_every_command_has_a_method() -> None:
    """But those that only programs need."""
    internal = {"Debug", "Locate", "ListFiles", "ReadFiles"}
    source = inspect.getsource(Asking) + inspect.getsource(Client)
    asked = {kind.__name__ for kind in get_args(commands.Command)} - internal
    assert set() == {
        name for name in asked if f"commands.{name}(" not in source and f"({name}(" not in source
    }


def test_submit(start: Start) -> None:
    """Commands and fields, the latter for all that do not say otherwise."""
    node = start(submit={"ids": ["a", "b"], "held_by": ["attic"]})
    with Client() as client:
        found = client.submit("echo 1", {"command": "echo 2", "cpus": 3}, cpus=0.5)
    assert ["a", "b"] == found["ids"]
    [(command, blob)] = node.asked
    assert commands.Submit() == command
    assert [{"command": "echo 1", "cpus": 0.5}, {"command": "echo 2", "cpus": 3}] == orjson.loads(
        blob
    )


def test_submit_with_files(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths count from here, and however long they take to be stored, it waits."""
    monkeypatch.chdir(tmp_path)
    node = start(submit=lambda c, _: iter([Item({"stored": 1, "size": 2}), {"ids": ["a"]}]))
    with Client() as client:
        assert {"ids": ["a"]} == client.submit({"command": "cat x", "files": ["x"]})
    assert commands.Submit(cwd=str(tmp_path), progress=True) == node.asked[0][0]


def test_what_is_no_json(start: Start) -> None:
    """Is refused before it is sent."""
    node = start(submit={})
    with Client() as client, pytest.raises(BadRequest, match="JSON"):
        client.submit({"command": "x", "env": {"A": object()}})
    assert [] == node.asked


def test_put(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is left out, the result is what came last."""
    monkeypatch.chdir(tmp_path)
    node = start(put=lambda c, _: iter([Item({"stored": 1, "size": 2}), {"nodes": {}}]))
    with Client() as client:
        assert {"nodes": {}} == client.put("a", "b", tag="gpu")
    assert commands.Put(["a", "b"], str(tmp_path), tag="gpu") == node.asked[0][0]


def test_output_and_watch(start: Start) -> None:
    """Streams as iterators."""
    start(
        logs=lambda c, _: iter([Item({"offset": 0}, b"ab"), Item({"offset": 2}, b"c"), {}]),
        watch=lambda c, _: iter([Item({"id": "a"}), Item({"id": "b"}), {}]),
    )
    with Client() as client:
        assert [b"ab", b"c"] == list(client.output("a"))
        assert ["a", "b"] == [item["id"] for item in client.watch()]

    async def ask() -> list[bytes]:
        async with await AsyncClient.connect() as client:
            return [data async for data in client.output("a", follow=True)]

    assert [b"ab", b"c"] == asyncio.run(ask())


def test_refusals_are_raised(start: Start) -> None:
    """Of streams, too."""
    start(show=task(), wait=Error("not_found", "no such thing"))
    with Client() as client, pytest.raises(NotFound, match="no such thing"):
        client.wait("a")

    async def ask() -> None:
        async with await AsyncClient.connect() as client:
            await client.wait("a")

    with pytest.raises(NotFound, match="no such thing"):
        asyncio.run(ask())
