"""put, get, collect, and files of submit: what is asked, what is written, and what is told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from fake_node import NODE, Die, Error, FakeNode, Item, reborn
from ran import Ran

from leoronic.blobs.hashing import digest_bytes, name_of
from leoronic.client import collecting, thin, upload
from leoronic.client.connection import Client
from leoronic.client.saving import PART, Saving
from leoronic.core.blob import ChunkList, chunk_bytes_for
from leoronic.core.commands import Get, Put, Submit
from leoronic.errors import BadRequest, DiskFull, Refused

Start = Callable[..., FakeNode]
Run = Callable[..., Ran]

ONE = {"ids": ["3f2a"], "held_by": ["attic"]}


def digest(data: bytes) -> str:
    """The name of the blob that has these bytes."""
    size = chunk_bytes_for(len(data))
    names = [digest_bytes("s2", data[i : i + size]) for i in range(0, len(data), size)]
    return name_of(ChunkList("s2", len(data), size, b"".join(names)))


# ---- submit ----


def test_files_go_with_a_task(
    run: Run, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node is told which and where from; it tells how far it is."""
    monkeypatch.chdir(tmp_path)
    node = start(submit=lambda c, _: iter([Item({"stored": 1, "size": 2}), ONE]))
    ran = run(
        "submit", "--file", "a.csv", "--file", "task:77/x", "--keep-names", "--output", "out/*",
        "--cache", "--", "x",
    )  # fmt: skip
    assert (0, "3f2a\n", "") == (ran.code, ran.out, ran.err)
    command, blob = node.asked[0]
    assert Submit(cwd=str(tmp_path), progress=True) == command
    assert {
        "command": "x", "files": ["a.csv", "task:77/x"], "keep_names": True,
        "outputs": ["out/*"], "cache": True,
    } == json.loads(blob)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"command": "x", "files": ["a"]}\n{"command": "y"}\n', True),
        ('{"command": "x"}\n{"command": "y"}\n', False),
    ],
)
def test_files_in_a_file_of_tasks(
    run: Run,
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    expected: bool,
) -> None:
    """Their paths count from where the person is; without any, nothing of it is asked."""
    monkeypatch.chdir(tmp_path)
    node = start(submit={"ids": ["a", "b"], "held_by": []})
    (tmp_path / "tasks").write_text(text)
    ran = run("submit", "-f", "tasks")
    assert (0, "a\nb\n") == (ran.code, ran.out)
    cwd = str(tmp_path) if expected else ""
    assert [Submit(lines=True, cwd=cwd, progress=expected)] == node.commands()


def test_files_in_parts_of_a_file_of_tasks(
    run: Run, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only of the parts that bring files anything is waited for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(upload, "BLOB_BYTES_MAX", 60)
    monkeypatch.setattr(upload, "PART_BYTES_MAX", 50)
    progress = Item({"stored": 1, "size": 2})

    def submit(command: Submit, blob: bytes) -> Iterator[Any]:
        if command.progress:
            yield progress
        yield {"ids": [str(blob.count(b"\n"))], "held_by": []}

    node = start(submit=submit)
    (tmp_path / "tasks").write_text('{"command": "x"}\n' * 4 + '{"command": "x", "files": ["a"]}\n')
    ran = run("submit", "-f", "tasks")
    assert (0, "2\n2\n1\n") == (ran.code, ran.out)
    plain = Submit(lines=True)
    assert [plain, plain, Submit(True, str(tmp_path), True)] == node.commands()


def test_files_of_the_thin_client(
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """FILES are as `files`, and items before the answer are passed over."""
    monkeypatch.chdir(tmp_path)
    items = [Item({"stored": n, "size": 9}) for n in range(5)]
    node = start(submit=lambda c, _: iter([*items, ONE]))
    assert 0 == thin.main(["add", "1", "1", "1", "true", "", r"a.csv;b\;c", "cat a.csv"])
    assert "3f2a\n" == capsys.readouterr().out
    lines = tmp_path / "lines"
    lines.write_text("1 1 1 true '' a.csv 'cat a.csv'\n")
    assert 0 == thin.main(["add-many", str(lines)])
    cwd = str(tmp_path)
    assert [
        Submit(cwd=cwd, progress=True), Submit(lines=True, cwd=cwd, progress=True),
    ] == node.commands()  # fmt: skip
    assert r"a.csv;b\;c" == json.loads(node.asked[0][1])["files"]


# ---- put ----

PLACED = {"placed": ["x"], "problems": []}


def put_answer(**nodes: Any) -> Any:
    file = {"path": "x", "name": "x", "size": 2048, "digest": "s2:0"}
    items = [Item({"stored": 1, "size": 2048}), Item({"node": "attic", "done": 1, "size": 2048})]
    return lambda c, _: iter([*items, {"files": [file], "nodes": nodes}])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["x"], {}),
        (["x", "y", "--all"], {"files": ["x", "y"]}),
        (["--tag", "gpu", "x"], {"tag": "gpu"}),
        (["--node", "attic", "--as", "etc/x", "x"], {"node": "attic", "name": "etc/x"}),
    ],
)
def test_put(run: Run, start: Start, words: list[str], expected: dict[str, Any]) -> None:
    """What is asked, and a line for each file."""
    node = start(put=put_answer(attic=PLACED, cellar=PLACED))
    ran = run("put", *words)
    assert (0, "x (2 KiB) to attic, cellar\n", "") == (ran.code, ran.out, ran.err)
    assert [Put(**{"files": ["x"], "cwd": str(Path.cwd()), **expected})] == node.commands()


def test_put_tells_where_it_is_not(run: Run, start: Start) -> None:
    """Each problem in a line of its own; the exit code says that not all is done."""
    lost = {"placed": [], "problems": ["cellar is down"]}
    start(put=put_answer(attic=PLACED, cellar=lost))
    ran = run("put", "x")
    assert (1, "x (2 KiB) to attic\n") == (ran.code, ran.out)
    assert "leoronic: not on cellar: cellar is down\n" == ran.err
    told = json.loads(run("put", "x", "--json").out)
    assert {"attic": PLACED, "cellar": lost} == told["nodes"]


def test_put_needs_one_place(run: Run, start: Start) -> None:
    """Two are wrong usage."""
    start()
    assert 2 == run("put", "--all", "--tag", "t", "x").code


# ---- get ----

HELLO = b"hello"


class Outputs:
    """Answers `get`; `sent` are the offsets that were asked for."""

    def __init__(self, **files: bytes) -> None:
        self.files = {name.replace("__", "/").replace("_", "."): d for name, d in files.items()}
        self.problems: list[str] = []
        self.broken: dict[str, str] = {}
        self.sent: list[dict[str, int]] = []
        self.die_after: int | None = None
        self.node: FakeNode

    def __call__(self, command: Get, _: bytes) -> Iterator[Any]:
        if command.have:
            self.sent.append(command.have)
        for path, offset in command.have.items():
            if path in self.broken:
                yield Item({"path": path, "problem": self.broken[path]})
                continue
            data = self.files[path]
            middle = (offset + len(data) + 1) // 2
            yield Item({"fetched": 1, "size": 2})
            yield Item({"path": path, "offset": offset}, data[offset:middle])
            if self.die_after == middle:
                self.die_after = None
                reborn(self.node)
                yield Die()
            if middle < len(data):
                yield Item({"path": path, "offset": middle}, data[middle:])
        files = [
            {"path": path, "size": len(data), "mode": 0o755, "digest": digest(data)}
            for path, data in self.files.items()
        ]
        yield {"task": "3f2a77", "attempt": 1, "files": files, "problems": self.problems}


def test_get(run: Run, start: Start, tmp_path: Path) -> None:
    """Files come into DIR with their folders and permissions, and their paths are printed."""
    outputs = Outputs(r_txt=HELLO, out__empty=b"")
    start(get=outputs)
    ran = run("get", "3f2a", str(tmp_path / "dir"))
    expected = [tmp_path / "dir" / "r.txt", tmp_path / "dir" / "out" / "empty"]
    assert (0, "".join(f"{path}\n" for path in expected), "") == (ran.code, ran.out, ran.err)
    assert [HELLO, b""] == [path.read_bytes() for path in expected]
    assert 0o755 == expected[0].stat().st_mode & 0o777
    assert [{"r.txt": 0, "out/empty": 0}] == outputs.sent


def test_get_brings_only_what_is_missing(run: Run, start: Start, tmp_path: Path) -> None:
    """A file that is the same stays as it is; one that differs stays, too, unless told else."""
    outputs = Outputs(same=HELLO, other=b"theirs")
    start(get=outputs)
    (tmp_path / "same").write_bytes(HELLO)
    (tmp_path / "other").write_bytes(b"mine!!")
    ran = run("get", "3f2a", str(tmp_path))
    assert (1, f"{tmp_path / 'same'}\n") == (ran.code, ran.out)
    assert "other: another file is there already" in ran.err
    assert ([], b"mine!!") == (outputs.sent, (tmp_path / "other").read_bytes())
    assert 0 == run("get", "3f2a", str(tmp_path), "--replace").code
    assert ([{"other": 0}], b"theirs") == (outputs.sent, (tmp_path / "other").read_bytes())


def test_get_goes_on_when_the_node_comes_back(run: Run, start: Start, tmp_path: Path) -> None:
    """What came in part is not asked for again; nothing half-made is left."""
    outputs = Outputs(big=b"0123456789")
    outputs.die_after = 5
    outputs.node = start(get=outputs)
    assert 0 == run("get", "3f2a", str(tmp_path)).code
    assert b"0123456789" == (tmp_path / "big").read_bytes()
    assert [{"big": 0}, {"big": 5}] == outputs.sent
    assert ["big"] == [path.name for path in tmp_path.iterdir() if path.is_file()]


def test_a_part_that_was_touched_is_not_trusted(run: Run, start: Start, tmp_path: Path) -> None:
    """What is put together is checked; a wrong part is thrown away, and that is said."""
    outputs = Outputs(big=b"0123456789")
    start(get=outputs)
    part = Saving(tmp_path).part("big", digest(b"0123456789"), 10)
    part.write(b"xx", 0)
    part.close()
    ran = run("get", "3f2a", str(tmp_path))
    assert 1 == ran.code
    assert "the part that was here was damaged" in ran.err
    assert not [path for path in tmp_path.iterdir() if path.is_file()]
    assert 0 == run("get", "3f2a", str(tmp_path)).code


def test_get_tells_what_cannot_be_had(run: Run, start: Start, tmp_path: Path) -> None:
    """The rest is got; what was not kept in the first place is told, too."""
    outputs = Outputs(a=b"1", b=b"2")
    outputs.broken = {"a": "nobody has it"}
    outputs.problems = ["c: no room"]
    start(get=outputs)
    ran = run("get", "3f2a", str(tmp_path))
    assert (1, f"{tmp_path / 'b'}\n") == (ran.code, ran.out)
    assert "leoronic: c: no room\nleoronic: a: nobody has it\n" == ran.err
    told = json.loads(run("get", "3f2a", str(tmp_path), "--json").out)
    assert (["c: no room", "a: nobody has it"], [str(tmp_path / "b")]) == (
        told["problems"],
        told["there"],
    )


@pytest.mark.parametrize("path", ["../up", "/abs", "a/../../up", "new\nline", "", "."])
def test_get_stays_inside(run: Run, start: Start, tmp_path: Path, path: str) -> None:
    """Whatever a node calls a file."""
    outputs = Outputs()
    outputs.files = {path: b"evil", "good": b"1"}
    start(get=outputs)
    inside = tmp_path / "a" / "dir"
    ran = run("get", "3f2a", str(inside))
    assert (1, f"{inside / 'good'}\n") == (ran.code, ran.out)
    assert [inside / "good"] == [p for p in (tmp_path / "a").rglob("*") if p.is_file()]


def test_get_follows_no_link(run: Run, start: Start, tmp_path: Path) -> None:
    """Neither on the way nor at the end."""
    outputs = Outputs(link__x=b"evil", last=b"new")
    start(get=outputs)
    (tmp_path / "outside").mkdir()
    (tmp_path / "victim").write_bytes(b"old")
    inside = tmp_path / "dir"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path / "outside")
    (inside / "last").symlink_to(tmp_path / "victim")
    ran = run("get", "3f2a", str(inside), "--replace")
    assert 1 == ran.code
    assert "link is no folder" in ran.err
    assert [] == list((tmp_path / "outside").iterdir())
    assert (b"old", b"new") == ((tmp_path / "victim").read_bytes(), (inside / "last").read_bytes())


def test_a_task_that_left_nothing(run: Run, start: Start, tmp_path: Path) -> None:
    """It is told how to have files kept."""
    start(get=Outputs())
    ran = run("get", "3f2a", str(tmp_path))
    assert (0, "") == (ran.code, ran.out)
    assert "--output" in ran.err


def test_a_node_that_sends_too_much(run: Run, start: Start, tmp_path: Path) -> None:
    """More than it said is not written."""
    file = {"path": "x", "size": 3, "mode": 0o644, "digest": digest(b"123")}
    told = {"task": "3f2a", "attempt": 1, "files": [file], "problems": []}
    start(
        get=lambda c, _: iter(
            [*([Item({"path": "x", "offset": 0}, b"12345")] if c.have else []), told]
        )
    )
    ran = run("get", "3f2a", str(tmp_path))
    assert (1, "leoronic: x: the node sent other bytes than were asked for\n") == (
        ran.code,
        ran.err,
    )
    assert not [path for path in tmp_path.iterdir() if path.is_file()]


# ---- collect ----


class Folder:
    """Answers `listfiles` and `readfiles` for one node's directory, two entries a page."""

    def __init__(self, **files: bytes) -> None:
        self.entries: list[dict[str, Any]] = []
        self.data: dict[str, bytes] = {}
        self.asked: list[tuple[str, int, int]] = []
        self.stop_after: int | None = None
        self.end: Any = None
        for name, data in files.items():
            self.add(name.replace("__", "/"), data)

    def add(self, path: str, data: bytes, mtime_ns: int = 1_700_000_000_000_000_001) -> None:
        self.entries = [entry for entry in self.entries if entry["path"] != path]
        self.entries.append(
            {"path": path, "kind": "file", "size": len(data), "mode": 0o640, "mtime_ns": mtime_ns}
        )
        self.data[path] = data

    def list(self, after: str) -> dict[str, Any]:
        start = int(after or 0)
        page = self.entries[start : start + 2]
        return {
            "entries": page,
            "more": start + 2 < len(self.entries),
            "after": str(start + 2),
        }

    def read(self, files: list[tuple[str, int, int]]) -> Iterator[Any]:
        by_path = {entry["path"]: entry for entry in self.entries}
        for path, offset, size in files:
            self.asked.append((path, offset, size))
            data = self.data[path]
            for begin in range(offset, max(len(data), offset + 1), 4):
                if self.stop_after is not None and begin >= self.stop_after:
                    yield self.end
                    return
                end = min(begin + 4, len(data))
                yield Item(
                    {
                        "path": path,
                        "offset": begin,
                        "size": len(data),
                        "mtime_ns": by_path[path]["mtime_ns"],
                        "last": end == len(data),
                    },
                    data[begin:end],
                )
        yield {}


def nodes_of(*folders: Folder, **states: str) -> dict[str, Any]:
    """Nodes n1 and on, called attic1 and on."""
    nodes = [
        NODE | {"id": f"n{i}", "name": f"attic{i}", "state": states.get(f"n{i}", "up")}
        for i in range(1, len(folders) + 1)
    ]
    by_id = {node["id"]: folder for node, folder in zip(nodes, folders, strict=True)}
    return {
        "nodes": {"nodes": nodes, "unreached": []},
        "listfiles": lambda c, _: iter([by_id[c.node].list(c.after)]),
        "readfiles": lambda c, _: by_id[c.node].read(c.files),
    }


def test_collect(run: Run, start: Start, tmp_path: Path) -> None:
    """Each node's files under its name, with their times; then only what is new."""
    one, two = Folder(a=b"12345", deep__er__b=b"", c=b"3"), Folder(a=b"other")
    one.entries.insert(0, {"path": "empty", "kind": "folder", "mode": 0o500})
    start(**nodes_of(one, two))
    target = tmp_path / "all"
    ran = run("collect", str(target))
    assert (0, "attic1: 3 files, 6 B\nattic2: 1 file, 5 B\n", "") == (ran.code, ran.out, ran.err)
    assert [b"12345", b"", b"3", b"other"] == [
        (target / path).read_bytes()
        for path in ("attic1/a", "attic1/deep/er/b", "attic1/c", "attic2/a")
    ]
    assert 1_700_000_000_000_000_001 == (target / "attic1" / "a").stat().st_mtime_ns
    assert (target / "attic1" / "empty").is_dir()

    one.asked.clear()
    one.add("c", b"new!!", 1_800_000_000_000_000_000)
    ran = run("collect", str(target))
    assert "attic1: 1 file, 5 B; 2 unchanged\nattic2: 0 files, 0 B; 1 unchanged\n" == ran.out
    assert ([("c", 0, 5)], b"new!!") == (one.asked, (target / "attic1" / "c").read_bytes())


@pytest.mark.parametrize("end", [Error("unavailable", "attic1 is down"), Error("refused", "no")])
def test_collect_goes_on_with_the_others(
    run: Run, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Error
) -> None:
    """A node that goes away is told of; what came of it is kept, and the next time it goes on."""
    monkeypatch.setattr(collecting, "TRY_AGAIN_S", 0)
    one, two = Folder(big=b"0123456789"), Folder(a=b"1")
    one.stop_after, one.end = 8, end
    start(**nodes_of(one, two))
    ran = run("collect", str(tmp_path))
    assert (1, True) == (ran.code, "attic2: 1 file, 1 B\n" in ran.out)
    assert f"leoronic: attic1: {end.fields['message']}" in ran.err
    one.asked.clear()
    one.stop_after = None
    assert 0 == run("collect", str(tmp_path)).code
    assert ([("big", 8, 10)], b"0123456789") == (
        one.asked,
        (tmp_path / "attic1" / "big").read_bytes(),
    )
    assert ["big"] == [path.name for path in (tmp_path / "attic1").iterdir()]


def test_collect_does_not_go_on_with_another_file(
    run: Run, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came of an earlier state of a file is thrown away."""
    monkeypatch.setattr(collecting, "TRY_AGAIN_S", 0)
    one = Folder(big=b"0123456789")
    one.stop_after, one.end = 8, Error("refused", "no")
    start(**nodes_of(one))
    run("collect", str(tmp_path))
    one.add("big", b"abcdefghijkl", 1_800_000_000_000_000_000)
    one.stop_after = None
    one.asked.clear()
    assert 0 == run("collect", str(tmp_path)).code
    assert [("big", 0, 12)] == one.asked
    assert ["big"] == [path.name for path in (tmp_path / "attic1").iterdir()]


@pytest.mark.parametrize("told", [{"mtime_ns": 5}, {"size": 9}])
def test_a_file_that_is_not_as_it_was_listed(
    run: Run, start: Start, tmp_path: Path, told: dict[str, int]
) -> None:
    """It changed in between: nothing of it is kept."""
    one = Folder(x=b"123")
    answers = nodes_of(one)

    def read(command: Any, _: bytes) -> Iterator[Any]:
        for part in one.read(command.files):
            yield Item(part.value | told, part.blob) if isinstance(part, Item) else part

    start(**answers | {"readfiles": read})
    ran = run("collect", str(tmp_path))
    assert 1 == ran.code
    assert "x: it changed while it was read" in ran.err
    assert [] == list((tmp_path / "attic1").iterdir())


def test_collect_keeps_links(run: Run, start: Start, tmp_path: Path) -> None:
    """Those that lead out of the directory are skipped, and named; that is no failure."""
    one = Folder(good=b"1")
    links = {
        "to": "good", "in/up": "../good", "in/here": "./x//y", "in/dots": "../../good",
        "out": "/etc/passwd", "through": "in/../../x", "empty": "", "self": ".", "in/top": "..",
    }  # fmt: skip
    one.entries.append({"path": "in", "kind": "folder", "mode": 0o755})
    one.entries += [
        {"path": path, "kind": "link", "target": target} for path, target in links.items()
    ]
    start(**nodes_of(one))
    target = tmp_path / "all" / "attic1"
    for files, unchanged in ((6, ""), (0, "; 6 unchanged")):
        ran = run("collect", str(tmp_path / "all"))
        size = "1 B" if files else "0 B"
        counted = f"attic1: {files} file{'' if files == 1 else 's'}, {size}{unchanged}\n"
        assert (0, counted) == (ran.code, ran.out)
        assert [
            f"leoronic: attic1: {path} is a link that leads out ({links[path]}): skipped"
            for path in ("in/dots", "out", "through", "empty")
        ] == ran.err.splitlines()
        kept = ("in/here", "in/top", "in/up", "self", "to")
        assert {path: links[path] for path in kept} == _links_in(target)
    (target / "to").unlink()
    (target / "to").write_text("changed")
    (target / "in" / "up").unlink()
    (target / "in" / "up").mkdir()
    ran = run("collect", str(tmp_path / "all"))
    assert 1 == ran.code
    assert "in/up is a folder in" in ran.err
    assert "good" == str((target / "to").readlink())


def _links_in(folder: Path) -> dict[str, str]:
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    return {str(path.relative_to(folder)): os.readlink(path) for path in links}  # noqa: PTH115


def test_collect_tells_what_it_skips(run: Run, start: Start, tmp_path: Path) -> None:
    """Links, devices, hostile names and files that change; the rest is there."""
    one = Folder(good=b"1", changing=b"22")
    one.entries += [
        {"path": "good/link", "kind": "link", "target": "x"},
        {"path": "caf\\xe9", "kind": "other", "problem": "its name is not UTF-8: rename it"},
        {"path": "../up", "kind": "file", "size": 1, "mode": 0o644},
        {"path": "good/under", "kind": "file", "size": 1, "mode": 0o644},
        {"path": PART + "x", "kind": "file", "size": 1, "mode": 0o644},
    ]
    answers = nodes_of(one)
    read = one.read

    def change(files: list[tuple[str, int, int]]) -> Iterator[Any]:
        for part in read(files):
            if isinstance(part, Item) and part.value["path"] == "changing":
                yield Item({"path": "changing", "problem": "it changed while it was read"})
            else:
                yield part

    answers["readfiles"] = lambda c, _: change(c.files)
    start(**answers)
    ran = run("collect", str(tmp_path / "all"))
    assert (1, "attic1: 1 file, 1 B\n") == (ran.code, ran.out)
    told = [line.removeprefix("leoronic: attic1: ") for line in ran.err.splitlines()]
    assert [
        "changing: it changed while it was read",
        "good is no folder: files and links cannot be gone through",
        "caf\\xe9: its name is not UTF-8: rename it",
        "../up: the path must not have .. in it",
        "good is no folder: files and links cannot be gone through",
        f"{PART}x: files of that name are only for this command's use",
    ] == told
    files = [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()]
    assert ["all/attic1/good"] == [file for file in files if file.startswith("all")]


def test_collect_names_nodes_that_are_down(run: Run, start: Start, tmp_path: Path) -> None:
    """Those that left are none, which is told."""
    start(**nodes_of(Folder(a=b"1"), Folder(), Folder(), n2="down", n3="left"))
    ran = run("collect", str(tmp_path))
    assert (1, "attic1: 1 file, 1 B\nattic2: 0 files, 0 B\n") == (ran.code, ran.out)
    assert (
        "leoronic: not asked: attic3 has left\n"
        "leoronic: attic2: it is down: collect again when it is back\n"
    ) == ran.err
    told = json.loads(run("collect", str(tmp_path), "--json").out)["nodes"]
    assert {"files": 0, "bytes": 0, "unchanged": 1, "problems": [], "notes": []} == told["attic1"]
    assert ["attic1", "attic2"] == list(told)


def test_a_node_cannot_name_a_folder_outside(run: Run, start: Start, tmp_path: Path) -> None:
    """One with a name that is no folder's goes by its id."""
    answers = nodes_of(Folder(a=b"1"))
    answers["nodes"]["nodes"][0] |= {"name": ".."}
    start(**answers)
    assert 0 == run("collect", str(tmp_path / "all")).code
    assert ["n1"] == [path.name for path in (tmp_path / "all").iterdir()]


def test_collect_not_into_a_node(run: Run, start: Start, root: Path) -> None:
    """It would collect itself for ever."""
    start(**nodes_of(Folder(a=b"1")))
    ran = run("collect", str(root / "here" / "all"))
    assert (1, "") == (ran.code, ran.out)
    assert "name a folder outside of it" in ran.err
    assert not (root / "here").exists()


def test_many_problems_are_cut(run: Run, start: Start, tmp_path: Path) -> None:
    """Twenty are enough for a person; --json has all."""
    one = Folder()
    one.entries = [{"path": f"l{n}", "kind": "link"} for n in range(30)]
    start(**nodes_of(one))
    ran = run("collect", str(tmp_path))
    assert 21 == ran.err.count("\n")
    assert "leoronic: attic1: and 10 problems more: --json has them\n" in ran.err


# ---- where it is written ----


def test_no_room_is_told_before_anything_is_written(tmp_path: Path) -> None:
    """A file that does not fit is refused, and nothing of it is left."""
    with pytest.raises(DiskFull, match="no room for x"):
        Saving(tmp_path).part("x", "stamp", 1 << 60)
    assert [] == list(tmp_path.iterdir())


def test_a_disk_that_gets_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing half-made is left."""
    import errno

    from leoronic.client import saving

    part = Saving(tmp_path).part("x", "stamp", 10)
    part.write(b"12", 0)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(saving, "write_at", full)
    with pytest.raises(DiskFull):
        part.write(b"34", 2)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["folder", "fifo", "link"])
def test_something_else_is_in_the_way(tmp_path: Path, what: str) -> None:
    """It is left alone, and told."""
    saving = Saving(tmp_path)
    part = saving.part("x", "stamp", 1)
    name = next(tmp_path.iterdir())
    part.discard()
    if what == "folder":
        (tmp_path / "x").mkdir()
    elif what == "fifo":
        os.mkfifo(name)
    else:
        name.symlink_to("/etc/passwd")
    with pytest.raises(BadRequest if what == "folder" else Refused):
        saving.part("x", "stamp", 1)


def test_names_are_of_any_length(tmp_path: Path) -> None:
    """A part has a name of its own, however long that of the file is."""
    name = "n" * 255
    part = Saving(tmp_path).part(name, "stamp", 1)
    part.write(b"1", 0)
    part.finish(0o644)
    assert b"1" == (tmp_path / name).read_bytes()


def test_put_names_those_that_have_left(run: Run, start: Start) -> None:
    """They are no failure."""
    file = {"path": "x", "name": "x", "size": 3, "digest": "s2:1"}
    nodes = {"attic": {"placed": ["x"], "problems": []}}
    told = {"files": [file], "nodes": nodes, "left": ["gamma"]}
    start(put=lambda c, _: iter([told]))
    ran = run("put", "x")
    assert (0, "leoronic: not asked: gamma has left\n") == (ran.code, ran.err)


def test_what_is_not_known_when_it_is_interrupted(run: Run, start: Start, tmp_path: Path) -> None:
    """Whether it was put, or submitted, says who asked last: so it is told what to do."""

    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    tasks = tmp_path / "tasks"
    tasks.write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Client, "next_answer", interrupted)
        start(put=lambda c, _: iter([{}]), submit=lambda c, _: ONE)
        assert "put it again" in run("put", "x").err
        for words in (["-f", str(tasks)], ["--", "true"], ["--file", "x", "--", "true"]):
            assert "or do it again with --id" in run("submit", *words).err
