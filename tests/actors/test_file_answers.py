"""put, get, and reading working directories: over the control socket, with other nodes."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from leoronic.actors import folder_reading, getting, placings, putting
from leoronic.actors.file_calls import Fetch, FolderPart, PutFile, ReadBlob
from leoronic.core.blob import CHUNK_BYTES, FileRef
from leoronic.core.entries import Lost, Started
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.view import DOWN
from leoronic.errors import BadRequest, DiskFull, MailboxFull, NotFound, Refused, Unavailable
from tests.actors.fake_store import Content
from tests.actors.node import Node, joined_nodes, node_in
from tests.actors.peered import Pipes, member


@pytest.fixture
def content() -> Content:
    return Content()


@pytest.fixture
async def joined(tmp_path: Path, content: Content) -> AsyncIterator[tuple[Pipes, list[Node]]]:
    async with joined_nodes(tmp_path, "one", "two", "three", store=content.store) as found:
        yield found


@pytest.fixture
def nodes(joined: tuple[Pipes, list[Node]]) -> list[Node]:
    return joined[1]


async def ask(asked: Node, type_: str, /, **fields: Any) -> list[Any]:
    """All items with their blobs, then the result."""
    async with asked.client() as client:
        return await client.result(client.send({"type": type_, **fields}))


# ---- put ----


async def test_a_file_goes_to_all_nodes(nodes: list[Node], tmp_path: Path) -> None:
    """Under its last name, from where the person is; each node has it, whole."""
    (tmp_path / "big.csv").write_bytes(b"a,b\n")
    *_, result = await ask(nodes[0], "put", files=["./big.csv"], cwd=str(tmp_path))
    assert {name: {"placed": ["big.csv"], "problems": []} for name in ("one", "two", "three")} == (
        result["nodes"]
    )
    assert [("./big.csv", "big.csv", 4)] == [
        (file["path"], file["name"], file["size"]) for file in result["files"]
    ]
    assert [b"a,b\n"] * 3 == [(node.folder / "big.csv").read_bytes() for node in nodes]


async def test_one_node_under_another_name(nodes: list[Node], tmp_path: Path) -> None:
    """Folders on the way are made; nobody else gets it."""
    (tmp_path / "x").write_bytes(b"1")
    *_, result = await ask(
        nodes[0], "put", files=["x"], cwd=str(tmp_path), name="data/y", node="two"
    )
    assert {"two": {"placed": ["data/y"], "problems": []}} == result["nodes"]
    assert (nodes[1].folder / "data" / "y").read_bytes() == b"1"
    assert not (nodes[0].folder / "data").exists()


async def test_put_again(nodes: list[Node], tmp_path: Path) -> None:
    """What somebody changed meanwhile is put right."""
    (tmp_path / "x").write_bytes(b"1")
    for _ in range(2):
        *_, result = await ask(nodes[0], "put", files=["x"], cwd=str(tmp_path), node="two")
        assert {"two": {"placed": ["x"], "problems": []}} == result["nodes"]
        assert b"1" == (nodes[1].folder / "x").read_bytes()
        (nodes[1].folder / "x").write_bytes(b"changed")


async def test_progress_of_each_node(nodes: list[Node], tmp_path: Path) -> None:
    """Items tell how far each node is, of all files together."""
    (tmp_path / "x").write_bytes(b"123")
    (tmp_path / "y").write_bytes(b"4567")
    *items, _ = await ask(nodes[0], "put", files=["x", "y"], cwd=str(tmp_path))
    last = {item["node"]: (item["done"], item["size"]) for item, _ in items if "node" in item}
    assert {"one": (7, 7), "two": (7, 7), "three": (7, 7)} == last


async def test_nodes_that_are_down_or_full_are_named(
    joined: tuple[Pipes, list[Node]], content: Content, tmp_path: Path
) -> None:
    """The others get it all the same."""
    _, (one, two, three) = joined
    lost = member("lost", "attic", DOWN, reason="silent")
    await one.see(one.member, two.member, three.member, lost)

    def fails(name: str, message: Any) -> None:
        if name == "two" and isinstance(message, PutFile):
            raise DiskFull("no room for x: make room on the disk of /two")

    content.fails = fails
    (tmp_path / "x").write_bytes(b"1")
    *_, result = await ask(one, "put", files=["x"], cwd=str(tmp_path))
    assert {
        "one": {"placed": ["x"], "problems": []},
        "two": {
            "placed": [],
            "problems": ["x: no room for x: make room on the disk of /two"],
        },
        "three": {"placed": ["x"], "problems": []},
        "attic": {"placed": [], "problems": ["attic is down (silent)"]},
    } == result["nodes"]


async def test_a_node_that_says_why_is_not_asked_again(
    nodes: list[Node], content: Content, tmp_path: Path, monkeypatch: Any
) -> None:
    """That there is no room, or that it has none of it, is an answer, and told at once."""
    monkeypatch.setattr(putting, "AWAY_PAUSE_S", 60.0)
    (tmp_path / "x").write_bytes(b"1")

    def fails(name: str, message: Any) -> None:
        if name == "two" and isinstance(message, Fetch):
            content.blobs.clear()

    content.fails = fails
    *_, result = await ask(nodes[0], "put", files=["x"], cwd=str(tmp_path), node="two")
    assert {"two": {"placed": [], "problems": ["x: it is nowhere"]}} == result["nodes"]


@pytest.mark.parametrize("name", ["inbox/x.json", "./inbox/x.json", "a/.leoronic/x"])
async def test_what_would_be_submitted_or_be_a_nodes_own_is_not_put(
    nodes: list[Node], tmp_path: Path, name: str
) -> None:
    """Neither is where files of others belong; that is told before anything is done."""
    (tmp_path / "x").write_bytes(b"{}")
    with pytest.raises(BadRequest, match="give another name"):
        await ask(nodes[0], "put", files=["x"], cwd=str(tmp_path), name=name)
    assert not (nodes[1].folder / name).exists()


async def test_a_node_that_is_lost_sight_of_is_asked_again(
    joined: tuple[Pipes, list[Node]], content: Content, tmp_path: Path, monkeypatch: Any
) -> None:
    """A core that is restarted has forgotten what it was asked, and is asked again."""
    monkeypatch.setattr(putting, "AWAY_PAUSE_S", 0)
    pipes, (one, two, _) = joined
    (tmp_path / "x").write_bytes(b"1")
    broken: list[str] = []

    def fails(name: str, message: Any) -> None:
        if name == "two" and isinstance(message, Fetch) and not broken:
            broken.append(name)
            pipes.break_link(one.id, two.id)

    content.fails = fails
    *_, result = await ask(one, "put", files=["x"], cwd=str(tmp_path), node="two")
    assert ["two"] == broken
    assert {"two": {"placed": ["x"], "problems": []}} == result["nodes"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"files": []}, "which files"),
        ({"files": ["x", "none"]}, "nothing was put: none: No such file"),
        ({"files": ["x", "y/x"]}, "several files are called x"),
        ({"files": ["x", "z"], "name": "n"}, "for one file"),
        ({"files": ["x"], "name": "../n"}, r"must not have \.\."),
        ({"files": ["x"], "name": "/n"}, "must be relative"),
        ({"files": ["x"], "name": ".leoronic/cookie"}, "the node's own"),
        ({"files": [".."]}, r"\.\."),
    ],
)
async def test_what_cannot_be_put(
    nodes: list[Node], tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    """It is refused whole, before any node is asked."""
    (tmp_path / "x").write_bytes(b"1")
    with pytest.raises(BadRequest, match=message):
        await ask(nodes[0], "put", cwd=str(tmp_path), **fields)
    assert not (nodes[1].folder / "x").exists()


async def test_a_file_that_is_not_there(nodes: list[Node], tmp_path: Path) -> None:
    """Of a single file, the error is that of the file store."""
    with pytest.raises(NotFound, match="none: No such file"):
        await ask(nodes[0], "put", files=["none"], cwd=str(tmp_path))


async def test_what_another_node_may_not_place(nodes: list[Node], content: Content) -> None:
    """Not even a node may write into the state of another."""
    file = content.add(b"1")
    command = placings.PlaceFile(FileRef("x", ".leoronic/cookie", file.digest, file.size))
    files = nodes[1].control._answers.files
    with pytest.raises(BadRequest, match="the node's own"):
        await files.place(command)


async def test_placings_are_bounded(nodes: list[Node], content: Content, monkeypatch: Any) -> None:
    """More than a few files at once wait at whoever puts them."""
    monkeypatch.setattr(placings, "PLACINGS_MAX", 0)
    file = placings.PlaceFile(FileRef("x", "x", content.add(b"1").digest, 1))
    with pytest.raises(MailboxFull):
        await nodes[1].control._answers.files.place(file)


# ---- get ----


async def done(node: Node, outcome: Outcome) -> str:
    async with node.client() as client:
        [task] = (await client.ask("submit", b'{"command": "x"}'))["ids"]
    await node.run(task, outcome)
    return str(task)


def outcome(*files: Any, **fields: Any) -> Outcome:
    return Outcome(5.0, 6.0, **{"exit_code": 0, "outputs": files, **fields})


async def test_what_a_task_left_is_told(nodes: list[Node], content: Content) -> None:
    """Without `have`, no bytes: paths, sizes, digests and what could not be kept."""
    file = content.add(b"result", "out/r.txt")
    task = await done(nodes[0], outcome(file, exit_code=3, output_problems=("big: no room",)))
    assert [
        {
            "task": task,
            "attempt": 1,
            "files": [{"path": "out/r.txt", "size": 6, "mode": 0o644, "digest": file.digest}],
            "problems": ["big: no room"],
        }
    ] == await ask(nodes[0], "get", id=task)


async def test_what_is_wanted_is_sent(nodes: list[Node], content: Content) -> None:
    """From the offset that is asked for, a chunk at a time; an empty file has an item too."""
    large = os.urandom(CHUNK_BYTES + 10)
    files = (content.add(large, "large"), content.add(b"", "empty"), content.add(b"no", "not"))
    task = await done(nodes[0], outcome(*files))
    *items, _ = await ask(nodes[0], "get", id=task, have={"large": 5, "empty": 0})
    found = [(item["path"], item["offset"], blob) for item, blob in items if "path" in item]
    assert [
        ("large", 5, large[5:CHUNK_BYTES]),
        ("large", CHUNK_BYTES, large[CHUNK_BYTES:]),
        ("empty", 0, b""),
    ] == found


async def test_what_cannot_be_had_is_a_problem_of_that_file(
    nodes: list[Node], content: Content
) -> None:
    """The others are sent."""
    here, gone = content.add(b"1", "here"), content.add(b"2", "gone")
    del content.blobs[gone.digest]
    task = await done(nodes[0], outcome(gone, here))
    *items, _ = await ask(nodes[0], "get", id=task, have={"here": 0, "gone": 0})
    assert [
        {"path": "here", "offset": 0},
        {"path": "gone", "problem": "it is nowhere"},
    ] == [item for item, _ in items if "path" in item]


async def test_all_that_cannot_be_had_is_sought_at_once(
    nodes: list[Node], content: Content, monkeypatch: Any
) -> None:
    """Beside the rest, which need not wait; that it is nowhere is told as soon as that is known."""
    monkeypatch.setattr(getting, "BATCH_FILES_MAX", 1)
    files = [content.add(b"%d" % number, f"f{number}") for number in range(8)]
    for file in files[:5]:
        del content.blobs[file.digest]
    task = await done(nodes[0], outcome(*files))
    have = dict.fromkeys((file.path for file in files), 0)
    *items, _ = await ask(nodes[0], "get", id=task, have=have)
    told = [(item["path"], "problem" in item) for item, _ in items if "path" in item]
    gone = [(f"f{number}", True) for number in range(5)]
    assert [("f5", False), *gone, ("f6", False), ("f7", False)] == told
    asked = [len(message.files) for _, message in content.asked if isinstance(message, Fetch)]
    assert [1, 1, 1, 5] == sorted(asked)


async def test_a_damaged_blob_is_fetched_again(nodes: list[Node], content: Content) -> None:
    """Found to be damaged while it is read, it comes from another node."""
    file = content.add(b"1", "x")
    task = await done(nodes[0], outcome(file))
    damaged = [True]

    def fails(name: str, message: Any) -> None:
        if isinstance(message, ReadBlob) and damaged:
            damaged.pop()
            raise NotFound("damaged")

    content.fails = fails
    *items, _ = await ask(nodes[0], "get", id=task, have={"x": 0})
    assert [({"path": "x", "offset": 0}, b"1")] == [item for item in items if "path" in item[0]]
    assert 2 == sum(isinstance(message, Fetch) for _, message in content.asked)


async def test_what_cannot_be_got(nodes: list[Node], content: Content) -> None:
    """Files of a task that goes on, of an array, and files that it did not leave."""
    async with nodes[0].client() as client:
        [live] = (await client.ask("submit", b'{"command": "x"}'))["ids"]
        [array] = (await client.ask("submit", b'{"command": "x", "count": 3}'))["ids"]
    with pytest.raises(Refused, match="kept when it ends"):
        await ask(nodes[0], "get", id=live)
    with pytest.raises(Refused, match=f"{array}.0 to {array}.2"):
        await ask(nodes[0], "get", id=array)
    task = await done(nodes[0], outcome(content.add(b"1", "x")))
    with pytest.raises(NotFound, match="left no file y"):
        await ask(nodes[0], "get", id=task, have={"y": 0})
    with pytest.raises(BadRequest, match="1 bytes"):
        await ask(nodes[0], "get", id=task, have={"x": 2})


# ---- working directories ----


async def pages(node: Node, of: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    after = ""
    while True:
        [page] = await ask(node, "listfiles", node=of, after=after)
        entries += page["entries"]
        after = page["after"]
        if not page["more"]:
            return entries


def furnish(folder: Path) -> None:
    (folder / "data" / "deep").mkdir(parents=True)
    (folder / "data" / "deep" / "x").write_bytes(b"12345")
    (folder / "inbox" / "accepted").mkdir(parents=True)
    (folder / "inbox" / "accepted" / "task.json").write_bytes(b"{}")
    (folder / ".leoronic").mkdir()
    (folder / ".leoronic" / "cookie").write_bytes(b"secret")
    (folder / "data" / ".leoronic-half-1").write_bytes(b"half")
    (folder / "link").symlink_to("data")
    (folder / "zero").write_bytes(b"")


@pytest.mark.parametrize("of", ["one", "two"])
async def test_a_working_directory_without_state(nodes: list[Node], of: str) -> None:
    """Everything but the node's own: not the inbox, and not what is being written."""
    furnish(nodes[0].folder if of == "one" else nodes[1].folder)
    found = {entry["path"]: entry for entry in await pages(nodes[0], of)}
    theirs = {path for path in found if not path.startswith(("control.sock", "leoronic.db"))}
    assert {"data", "data/deep", "data/deep/x", "link", "zero", "output"} == theirs
    assert ("link", "data") == (found["link"]["kind"], found["link"]["target"])
    assert 5 == found["data/deep/x"]["size"]


async def test_pages_go_on_where_they_stopped(nodes: list[Node], monkeypatch: Any) -> None:
    """Each entry once, with any size of pages; a large inbox is passed over."""
    walk = folder_reading.FolderWalk.page
    walked: list[str] = []

    def page(self: Any, after: str) -> Any:
        walked.append(after)
        return walk(self, after, 2)

    monkeypatch.setattr(folder_reading.FolderWalk, "page", page)
    furnish(nodes[0].folder)
    for number in range(20):
        (nodes[0].folder / "inbox" / f"{number}.json").write_bytes(b"{}")
    found = [entry["path"] for entry in await pages(nodes[0], "one")]
    assert sorted(set(found)) == sorted(found)
    assert "zero" in found
    assert not [path for path in found if path.startswith("inbox")]
    assert 1 == sum(after.startswith("inbox/") for after in walked)


@pytest.mark.parametrize("of", ["one", "two"])
async def test_files_are_read_in_parts(nodes: list[Node], of: str, monkeypatch: Any) -> None:
    """In order, from the offset asked for; each with the size and time that it has."""
    monkeypatch.setattr(folder_reading, "PART_BYTES", 2)
    folder = nodes[0].folder if of == "one" else nodes[1].folder
    furnish(folder)
    content_of_two = [["data/deep/x", 1, 5], ["zero", 0, 0], ["none", 0, 3], ["data", 0, 3]]
    *items, result = await ask(nodes[0], "readfiles", node=of, files=content_of_two)
    assert {} == result
    stamp = (folder / "data" / "deep" / "x").stat().st_mtime_ns
    assert {
        "path": "data/deep/x", "offset": 1, "size": 5, "mtime_ns": stamp, "last": False,
    } == items[0][0]  # fmt: skip
    read = [
        (item["path"], item.get("offset"), item.get("last"), blob or item.get("problem"))
        for item, blob in items
    ]
    assert [
        ("data/deep/x", 1, False, b"23"),
        ("data/deep/x", 3, True, b"45"),
        ("zero", 0, True, None),
        ("none", None, None, "there is no file none"),
        ("data", None, None, "data is a folder"),
    ] == read


async def test_a_file_that_changes_is_a_problem(
    nodes: list[Node], content: Content, monkeypatch: Any
) -> None:
    """Between its parts, or since it was listed: told once, and nothing more of it is sent."""
    monkeypatch.setattr(folder_reading, "PART_BYTES", 1)
    monkeypatch.setattr(folder_reading, "AHEAD_MAX", 1)
    file = nodes[1].folder / "log"
    file.write_bytes(b"123")
    (nodes[1].folder / "next").write_bytes(b"9")

    def fails(name: str, message: Any) -> None:
        if isinstance(message, FolderPart) and message.path == "log" and message.offset:
            file.write_bytes(b"12345")

    content.fails = fails
    wanted = [["log", 0, 3], ["next", 0, 1]]
    *items, _ = await ask(nodes[0], "readfiles", node="two", files=wanted)
    assert [("log", None), ("log", folder_reading.CHANGED), ("next", None)] == [
        (item["path"], item.get("problem")) for item, _ in items
    ]
    (nodes[1].folder / "next").write_bytes(b"99")
    *items, _ = await ask(nodes[0], "readfiles", node="two", files=[["next", 0, 1]])
    assert [("next", folder_reading.CHANGED)] == [(i["path"], i.get("problem")) for i, _ in items]


async def test_a_node_that_is_gone(nodes: list[Node]) -> None:
    """Its directory cannot be read, and that is told."""
    one = nodes[0]
    await one.see(one.member, member(nodes[1].id, "two", DOWN, reason="silent"))
    with pytest.raises(Unavailable, match="two is down"):
        await ask(one, "listfiles", node="two")
    with pytest.raises(Unavailable, match="two is down"):
        await ask(one, "readfiles", node="two", files=[["x", 0, 1]])


async def test_a_busy_node_is_asked_again(
    nodes: list[Node], content: Content, monkeypatch: Any
) -> None:
    """One that serves as many as it can has room later."""
    monkeypatch.setattr(folder_reading, "BUSY_PAUSE_S", 0)
    furnish(nodes[1].folder)
    busy = [1, 2, 3]

    def fails(name: str, message: Any) -> None:
        if busy:
            busy.pop()
            raise MailboxFull("busy")

    content.fails = fails
    assert "data/deep/x" in {entry["path"] for entry in await pages(nodes[0], "two")}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([["../x", 0, 1]], r"\.\."),
        ([[".leoronic/cookie", 0, 1]], "not handed out"),
        ([["inbox/accepted/task.json", 0, 2]], "not handed out"),
    ],
)
async def test_what_is_not_handed_out(nodes: list[Node], files: Any, message: str) -> None:
    """Neither what is outside, nor what is the node's own."""
    furnish(nodes[0].folder)
    [(item, _), _] = await ask(nodes[0], "readfiles", files=files)
    assert re.search(message, item["problem"])


async def test_a_node_without_a_file_store(tmp_path: Path) -> None:
    """It says so."""
    async with node_in(tmp_path) as node:
        with pytest.raises(Refused, match="keeps no files"):
            await ask(node, "put", files=["x"])


# ---- why, and logs ----


async def test_why_a_task_waits_for_its_files(nodes: list[Node], tmp_path: Path) -> None:
    """The node where it is to run tells, whichever is asked."""
    one, two, _ = nodes
    (tmp_path / "in").write_bytes(b"12345")
    async with one.client() as client:
        blob = b'{"command": "cat in", "files": ["in"], "id": "t"}'
        await client.ask("submit", blob, cwd=str(tmp_path))
    await one.copy_to(two)
    await two.write(Started("t", 1, two.id, 5.0))
    await one.take([body for body in two.copied if body.origin == two.id])
    two.staging = [("t", 1)]
    for asked in (one, two):
        [told] = await ask(asked, "why", id="t")
        assert ("running", ["its files (5 bytes) are on their way to two"]) == (
            told["state"],
            told["reasons"],
        )
    two.staging = []
    assert [] == (await ask(one, "why", id="t"))[0]["reasons"]


async def test_why_a_task_waits_for_its_files_again(nodes: list[Node], tmp_path: Path) -> None:
    """What the attempt before it could not have stands beside it."""
    one = nodes[0]
    (tmp_path / "in").write_bytes(b"12345")
    async with one.client() as client:
        blob = b'{"command": "cat in", "files": ["in"], "id": "t"}'
        await client.ask("submit", blob, cwd=str(tmp_path))
    await one.write(Started("t", 1, one.id, 5.0))
    lost = Lost("t", 1, one.id, 6.0, "in: no node that can be reached has it", False, False)
    await one.write(lost)
    await one.write(Started("t", 2, one.id, 7.0))
    one.staging = [("t", 2)]
    [told] = await ask(one, "why", id="t")
    assert [
        "its files (5 bytes) are on their way to one",
        "attempt 1 could not start on one: in: no node that can be reached has it",
    ] == told["reasons"]


async def test_why_a_task_could_not_start(nodes: list[Node]) -> None:
    """What was missing the last time is told while it waits for the next."""
    async with nodes[0].client() as client:
        await client.ask("submit", b'{"command": "x", "id": "t"}')
    node = nodes[0].id
    lost = Lost("t", 1, node, 6.0, "s2:0 is nowhere", hold=False, begun=False)
    await nodes[0].write(Started("t", 1, node, 5.0), lost)
    [told] = await ask(nodes[0], "why", id="t")
    assert "attempt 1 could not start on one: s2:0 is nowhere" in told["reasons"]


async def test_logs_of_a_task_that_was_answered_from_another(nodes: list[Node]) -> None:
    """What is kept in a file was not copied: it is read from the one that ran, however often."""
    node = nodes[0]
    submission = b'{"command": "x", "cache": true, "id": "%s"}'
    async with node.client() as client:
        await client.ask("submit", submission % b"first")
        (node.output / "f").write_bytes(b"12345" * 1000)
        await node.run("first", Outcome(5.0, 6.0, exit_code=0, stdout=StreamRef(5000, b"", "f", 0)))
        await client.ask("submit", submission % b"second")
        await client.ask("submit", submission % b"third")
    for task in ("second", "third"):
        for follow in (False, True):
            *items, result = await ask(node, "logs", id=task, follow=follow)
            assert b"12345" * 1000 == b"".join(blob for _, blob in items)
            assert result["at_end"]
        *items, _ = await ask(node, "logs", id=task, stream="stderr")
        assert b"" == b"".join(blob for _, blob in items)
