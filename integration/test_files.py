"""Files that go with tasks, between real nodes."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from integration.harness import Node, kill, wait_until
from integration.lab import Lab, lab
from integration.test_cluster import wait_meshed, wait_state
from leoronic.client.getting import Getting
from leoronic.core import commands
from leoronic.errors import BadRequest

MIB = 1024 * 1024


class MakePair(Protocol):
    """Two nodes, a and b; each has a tag `only-NAME`."""

    def __call__(self, *options: str) -> Lab: ...


def make(stack: ExitStack, folder: Path, *options: str) -> Lab:
    made = stack.enter_context(lab(folder, "ab"))
    for name in "ab":
        made.node(name, "--tag", f"only-{name}", "--cpus", "2", *options)
    made.start()
    wait_meshed(made)
    return made


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two nodes that no test takes apart."""
    with ExitStack() as stack:
        yield make(stack, tmp_path_factory.mktemp("files"))


@pytest.fixture
def make_pair(tmp_path: Path) -> Iterator[MakePair]:
    with ExitStack() as stack:
        yield lambda *options: make(stack, tmp_path, *options)


@pytest.fixture
def a(pair: Lab) -> Node:
    return pair.nodes["a"]


@pytest.fixture
def b(pair: Lab) -> Node:
    return pair.nodes["b"]


def on(name: str) -> list[str]:
    """The conditions of a task that runs on that node only."""
    return [f"worker:tag only-{name}"]


def submit(node: Node, cwd: Path | str = "", **task: Any) -> str:
    """The id of a task whose files are named from `cwd`."""
    blob = json.dumps(task).encode()
    [found] = node.ask(commands.Submit(cwd=str(cwd)), blob)["ids"]
    return str(found)


def run(node: Node, cwd: Path | str = "", **task: Any) -> dict[str, Any]:
    """A task that has ended well."""
    [found] = node.wait(submit(node, cwd, **task), within_s=60.0)
    assert "succeeded" == found["state"], (found, node.output(found["id"], "stderr"))
    return found


def blob(node: Node, digest: str) -> Path:
    """The file of a blob on a node, there or not."""
    return node.state / "blobs" / digest[3:5] / digest.replace(":", "-")


def wait_held(node: Node, digest: str) -> Path:
    """The file of a blob, once it is there."""
    file = blob(node, digest)
    wait_until(file.exists, f"{node.root.name} holds {digest}", story=node.tail)
    return file


def test_a_file_travels_with_its_task(a: Node, b: Node, tmp_path: Path) -> None:
    """It is read on the other node, though its owner has removed it meanwhile."""
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "words.txt"
    file.write_text("hello there\n")
    held = submit(
        a, tmp_path, command="cat ./data/words.txt; pwd", files=["data/words.txt"],
        conditions=on("b"),
    )  # fmt: skip
    file.unlink()
    [task] = a.wait(held)
    assert ("succeeded", "b") == (task["state"], task["node"])
    assert f"hello there\n{b.root}\n" == a.output(held).decode()
    assert [("data/words.txt", 12)] == [(f["path"], f["size"]) for f in task["files"]]
    wait_until(lambda: not list((b.state / "work").iterdir()), "no folder is left")


def test_files_keep_their_names_and_modes(a: Node, tmp_path: Path) -> None:
    """With keep_names the task runs in a folder that has them as they were named."""
    (tmp_path / "tools").mkdir()
    tool = tmp_path / "tools" / "say.sh"
    tool.write_text("#!/bin/bash\necho said $1\n")
    tool.chmod(0o755)
    task = run(
        a, tmp_path, command="./tools/say.sh it; ls", files=["tools/say.sh"], keep_names=True,
        conditions=on("b"),
    )  # fmt: skip
    assert b"said it\ntools\n" == a.output(task["id"])


def test_files_of_one_name(a: Node, tmp_path: Path) -> None:
    """Two files of one name come both, each under its word in the command."""
    for folder, text in (("x", "one"), ("y", "two")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "f.txt").write_text(text)
    task = run(
        a, tmp_path, command="cat x/f.txt y/f.txt", files=["x/f.txt", "y/f.txt"],
        conditions=on("b"),
    )  # fmt: skip
    assert b"onetwo" == a.output(task["id"])


def test_outputs_are_kept_by_both(a: Node, b: Node) -> None:
    """What a task leaves is in its outcome, and soon on both nodes, byte for byte."""
    task = run(
        a, command="mkdir r; seq 100 > r/seq.txt; head -c 9000000 /dev/zero > r/zero; echo > other",
        outputs=["r/*", "absent*"], workdir="private", conditions=on("b"),
    )  # fmt: skip
    assert ["r/seq.txt", "r/zero"] == [file["path"] for file in task["outputs"]]
    assert [292, 9_000_000] == [file["size"] for file in task["outputs"]]
    assert ["no file matches absent*"] == task["output_problems"]
    for file in task["outputs"]:
        copies = {hash_of(wait_held(node, file["digest"])) for node in (a, b)}
        assert 1 == len(copies)
    wait_until(lambda: not list((b.state / "work").iterdir()), "no folder is left")


def test_a_task_takes_what_another_left(a: Node, b: Node) -> None:
    """`task:ID/path` names an output, waits for it, and brings it to another node."""
    first = submit(
        a, command="sleep 0.3; seq 5 > five; seq 6 > six", outputs=["five", "six"],
        workdir="private", conditions=on("a"),
    )  # fmt: skip
    second = submit(
        b, command=f"paste -sd+ task:{first}/five | bc > sum", files=[f"task:{first}/five"],
        outputs=["sum"], workdir="private", conditions=on("b"),
    )  # fmt: skip
    third = submit(
        a, command="cat sum", files=[f"task:{second}/sum"], keep_names=True, conditions=on("a")
    )
    tasks = a.wait(first, second, third)
    assert ["succeeded"] * 3 == [task["state"] for task in tasks], tasks
    assert b"15\n" == b.output(third)


def test_an_output_that_is_not_there(a: Node) -> None:
    """A task that names what another did not leave ends, and says what is missing."""
    first = submit(a, command="sleep 1", outputs=["x"], workdir="private", conditions=on("a"))
    second = submit(a, command="cat x", files=[f"task:{first}/x"], conditions=on("b"))
    [task] = a.wait(second, within_s=60.0)
    assert task["state"] in ("failed", "blocked")
    assert f"task:{first}/x" in task["reason"] or first in task["reason"]


def test_cached(a: Node, b: Node, tmp_path: Path) -> None:
    """The same again is answered at once from what was done before, and says so."""
    (tmp_path / "in").write_text("some")
    task = {
        "command": f"echo ran >> {tmp_path}/runs; cat in > out; echo done", "files": ["in"],
        "outputs": ["out"], "workdir": "private", "cache": True,
    }  # fmt: skip
    first = run(a, tmp_path, **task)
    began = time.monotonic()
    second = run(a, tmp_path, **task)
    assert time.monotonic() - began < 2.0
    assert first["id"] == second["cached_from"]
    assert first["outputs"] == second["outputs"]
    assert b"done\n" == a.output(second["id"])
    assert "ran\n" == (tmp_path / "runs").read_text()
    (tmp_path / "in").write_text("other")
    assert run(a, tmp_path, **task)["cached_from"] is None


def test_a_node_dies_with_files_under_way(make_pair: MakePair, tmp_path: Path) -> None:
    """Tasks that bring files and leave some end well without it; each has its own, byte for byte.

    What only the node that died has by then comes once that is back.
    """
    pair = make_pair()
    a, b = pair.nodes["a"], pair.nodes["b"]
    sizes = [0, 1, 5000, 300_000, 5 * MIB]
    brought = [os.urandom(size) for size in sizes]
    for number, content in enumerate(brought):
        (tmp_path / f"in{number}").write_bytes(content)
    ids = [
        submit(
            a, tmp_path, command=f"sleep 0.1; cat in{number % 5} > out; echo {number} >> out",
            files=[f"in{number % 5}"], outputs=["out"], workdir="private",
        )
        for number in range(60)
    ]  # fmt: skip

    def ended_on_b() -> list[str]:
        tasks = a.ask(commands.List(state="succeeded"))["tasks"]
        return [task["id"] for task in tasks if task["node"] == "b"]

    wait_until(lambda: len(ended_on_b()) >= 3, "b has run some", within_s=60.0, story=a.tail)
    b.kill_all()
    tasks = a.wait(*ids, within_s=90.0)
    assert {"succeeded"} == {task["state"] for task in tasks}, tasks
    b.start()
    b.wait_ready()
    wait_meshed(pair)
    with a.client(60.0) as client:
        for number, task in enumerate(ids):
            folder = tmp_path / "got" / str(number)
            getting = Getting(task, folder)
            getting.go_on(client)
            assert [] == getting.problems
            expected = brought[number % 5] + f"{number}\n".encode()
            assert expected == (folder / "out").read_bytes()


def test_what_is_lost_on_all_disks(make_pair: MakePair, tmp_path: Path) -> None:
    """It is told soon: `get` says so, a cached answer is none, a task that brings it fails."""
    pair = make_pair()
    a, b = pair.nodes["a"], pair.nodes["b"]
    task = {
        "command": "seq 5 | tee out1 out2 out3", "outputs": ["out*"], "workdir": "private",
        "cache": True,
    }  # fmt: skip
    first = run(a, **task)
    assert first["id"] == run(a, **task)["cached_from"]
    [digest] = {file["digest"] for file in first["outputs"]}
    for file in [wait_held(node, digest) for node in (a, b)]:
        file.unlink()
    for node in (a, b):
        kill(node.core_pid())
        node.wait_ready()
    wait_meshed(pair)
    wait_until(lambda: set(a.states().values()) == {"up"}, "all are up", story=a.tail)
    began = time.monotonic()
    getting = Getting(first["id"], tmp_path / "got")
    with a.client(60.0) as client:
        getting.go_on(client)
    assert [f"out{number}: no node has it" for number in (1, 2, 3)] == getting.problems
    assert time.monotonic() - began < 20.0
    name = f"task:{first['id']}/out1"
    [brings] = a.wait(submit(a, command=f"cat {name}", files=[name]), within_s=60.0)
    assert ("failed", f"cannot start: {name}: no node has it: it is lost") == (
        brings["state"],
        brings["reason"],
    )
    third = run(a, **task)
    assert third["cached_from"] is None
    assert third["id"] == run(a, **task)["cached_from"]


def test_what_others_left_is_no_output(a: Node) -> None:
    """In the shared folder what is older than the attempt is told of, and not kept."""
    (a.root / "stale.out").write_text("of another task")
    time.sleep(0.3)  # the clock of files lags
    ended = run(a, command="echo x > fresh.out", outputs=["*.out"], conditions=on("a"))
    assert ["fresh.out"] == [file["path"] for file in ended["outputs"]]
    assert ["stale.out is older than this attempt: not kept"] == ended["output_problems"]


def test_the_output_of_an_element(a: Node, tmp_path: Path) -> None:
    """It goes to another task, which waits for the array."""
    array = submit(
        a, tmp_path, command="echo $LEORONIC_INDEX > out", count=3, outputs=["out"],
        workdir="private",
    )  # fmt: skip
    name = f"task:{array}.2/out"
    ended = run(a, command=f"cat {name}", files=[name])
    assert b"2\n" == a.output(ended["id"])
    with pytest.raises(BadRequest, match="is an array: name an element"):
        submit(a, tmp_path, command="true", files=[f"task:{array}/out"])
    with pytest.raises(BadRequest, match="has ended and left no gone, but out"):
        submit(a, tmp_path, command="true", files=[f"task:{array}.1/gone"])


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("missing", "there is no file"),
        ("folder", "is a folder"),
        ("link", "is a symbolic link"),
        ("/dev/null", "is a device"),
    ],
)
def test_what_is_refused(a: Node, tmp_path: Path, kind: str, told: str) -> None:
    """What is no file is refused with its place, and no task is added."""
    (tmp_path / "good").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("good")
    tasks = [{"command": "true"}, {"command": "true", "files": ["good", kind]}]
    before = a.status()["tasks"]
    with pytest.raises(BadRequest) as raised:
        a.ask(commands.Submit(cwd=str(tmp_path)), json.dumps(tasks).encode())
    assert raised.value.message.startswith("tasks[1].files[1]: ")
    assert told in raised.value.message
    assert before == a.status()["tasks"]


def test_from_the_inbox(a: Node) -> None:
    """Files of tasks in the inbox are named from the node's folder."""
    (a.root / "from-inbox.txt").write_text("dropped")
    task = {
        "command": "cat from-inbox.txt > got", "files": ["from-inbox.txt"], "name": "dropped",
        "outputs": ["got"], "workdir": "private", "conditions": on("b"),
    }  # fmt: skip
    (a.inbox / "task.json").write_text(json.dumps(task))
    wait_until(lambda: a.ask(commands.List())["tasks"][0]["name"] == "dropped", "it is taken")
    [ended] = a.wait("dropped")
    assert [("got", 7)] == [(file["path"], file["size"]) for file in ended["outputs"]]


def test_one_file_for_many_tasks(a: Node, b: Node, tmp_path: Path) -> None:
    """It travels once to each node, however many tasks bring it."""
    content = os.urandom(MIB)
    (tmp_path / "big").write_bytes(content)
    tasks = [{"command": "sha256sum < big", "files": ["big"]}] * 200
    sent = {node: bulk_received(node) for node in (a, b)}
    ids = a.ask(commands.Submit(cwd=str(tmp_path)), json.dumps(tasks).encode())["ids"]
    ended = a.wait(*ids, within_s=60.0)
    assert {"succeeded"} == {task["state"] for task in ended}
    assert {"a", "b"} == {task["node"] for task in ended}
    expected = f"{hashlib.sha256(content).hexdigest()}  -\n".encode()
    assert {expected} == {a.output(task) for task in ids[::20]}
    grown = {node.root.name: bulk_received(node) - sent[node] for node in (a, b)}
    assert grown["b"] < 2 * MIB + 200 * 8192, grown


def test_the_node_that_ran_it_is_gone(make_pair: MakePair) -> None:
    """What it left is still there: the other took a copy."""
    pair = make_pair()
    a, b = pair.nodes["a"], pair.nodes["b"]
    task = run(
        a, command="head -c 5000000 /dev/urandom > out; sha256sum < out", outputs=["out"],
        workdir="private", conditions=on("b"),
    )  # fmt: skip
    [file] = task["outputs"]
    wait_held(a, file["digest"])
    printed = a.output(task["id"])
    b.kill_all()
    wait_state(pair, "a", "b", "down", within_s=20.0)
    again = run(a, command="sha256sum < out", files=[f"task:{task['id']}/out"], keep_names=True)
    assert printed == a.output(again["id"])


def test_a_fetch_outlives_the_core(make_pair: MakePair, tmp_path: Path) -> None:
    """`kill -9` of the core that fetches a big file: it goes on with what is there."""
    pair = make_pair()
    a, b = pair.nodes["a"], pair.nodes["b"]
    size = 320 * MIB
    with (tmp_path / "big").open("wb") as big:
        for _ in range(size // (16 * MIB)):
            big.write(os.urandom(16 * MIB))
    held = submit(a, tmp_path, command="sha256sum < big", files=["big"], conditions=on("b"))
    before = bulk_received(b)
    wait_until(lambda: bulk_received(b) > before + size // 4, "a part has come", story=b.tail)
    kill(b.core_pid())
    [task] = a.wait(held, within_s=90.0)
    assert "succeeded" == task["state"], task
    with (tmp_path / "big").open("rb") as big:
        expected = hashlib.file_digest(big, "sha256").hexdigest()
    assert f"{expected}  -\n".encode() == a.output(held)
    # What was on its way comes twice, and nothing else.
    assert bulk_received(b) - before < 1.25 * size
    assert not list((b.state / "blobs" / "parts").iterdir())


def test_a_node_that_cannot_be_called(make_pair: MakePair, tmp_path: Path) -> None:
    """It is behind a firewall, and serves its files all the same: it calls those who want some."""
    pair = make_pair()
    pair.deafen("a")
    (tmp_path / "f").write_bytes(b"through" * 1_000_000)
    a = pair.nodes["a"]
    task = run(a, tmp_path, command="sha256sum < f", files=["f"], conditions=on("b"))
    assert f"{hash_of(tmp_path / 'f')}  -\n".encode() == a.output(task["id"])


def test_damage_is_found_and_mended(make_pair: MakePair, tmp_path: Path) -> None:
    """A blob that the disk has spoilt is not given to a task: it is fetched again."""
    pair = make_pair()
    a, b = pair.nodes["a"], pair.nodes["b"]
    (tmp_path / "good").write_bytes(b"good" * 2_000_000)
    task = {"command": "sha256sum < good", "files": ["good"], "conditions": on("b")}
    first = run(a, tmp_path, **task)
    [file] = first["files"]
    spoilt = wait_held(b, file["digest"])
    spoilt.chmod(0o644)
    with spoilt.open("r+b") as opened:
        opened.seek(5_000_000)
        opened.write(b"bad!")
    second = run(a, tmp_path, **task)
    assert a.output(first["id"]) == a.output(second["id"])
    assert hash_of(wait_held(a, file["digest"])) == hash_of(wait_held(b, file["digest"]))


def hash_of(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def bulk_received(node: Node) -> int:
    """Bytes that have come to the machine of a node."""
    rows = Path(f"/proc/{node.keeper_pid()}/net/dev").read_text().splitlines()
    [row] = [row for row in rows if row.strip().startswith("eth0:")]
    return int(row.partition(":")[2].split()[0])
