"""put, get and collect between real nodes, and what happens when they are cut short."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from integration.command_line import Running, data, environment, leoronic, told
from integration.harness import REPOSITORY, Node, kill, wait_until
from integration.lab import Lab
from integration.test_cluster import wait_meshed, wait_state
from integration.test_files import MakePair, blob, hash_of, make, on, run, wait_held
from leoronic.client.saving import PART

UTILITIES = REPOSITORY / "leoronic" / "client" / "shell" / "leoronic_utilities"
MIB = 1024 * 1024
BIG = 400 * MIB


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two nodes that no test takes apart."""
    with ExitStack() as stack:
        yield make(stack, tmp_path_factory.mktemp("moving"))


@pytest.fixture
def make_pair(tmp_path: Path) -> Iterator[MakePair]:
    with ExitStack() as stack:
        yield lambda *options: make(stack, tmp_path / "pair", *options)


@pytest.fixture
def a(pair: Lab) -> Node:
    return pair.nodes["a"]


@pytest.fixture
def b(pair: Lab) -> Node:
    return pair.nodes["b"]


def random_file(path: Path, size: int) -> Path:
    """A file of so many bytes that nobody has seen before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for begin in range(0, size, 16 * MIB):
            file.write(os.urandom(min(16 * MIB, size - begin)))
    return path


def parts(folder: Path) -> list[Path]:
    """Files that have not come whole."""
    return list(folder.rglob(f"{PART}*"))


def part_bytes(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return sum(path.stat().st_size for path in parts(folder))
    return 0


def shell(node: Node, script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a script that uses the shell functions."""
    return subprocess.run(
        ["bash", "-euc", f"source {UTILITIES}\n{script}"],
        env=environment(node), cwd=cwd, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip


# ---- put ----


def test_put_to_all(a: Node, b: Node, tmp_path: Path) -> None:
    """Each node has it, byte for byte, with its permissions."""
    file = random_file(tmp_path / "model.bin", 50 * MIB)
    file.chmod(0o755)
    assert "model.bin (50 MiB) to a, b" == told(a, "put", str(file))
    for node in (a, b):
        assert hash_of(file) == hash_of(node.root / "model.bin")
        assert 0o755 == (node.root / "model.bin").stat().st_mode & 0o777


def test_put_to_those_with_a_tag(a: Node, b: Node, tmp_path: Path) -> None:
    """Nobody else gets it; the condition `worker:has_file` finds it."""
    file = random_file(tmp_path / "x", 10)
    assert "etc/tagged (10 B) to b" == told(
        a, "put", "--tag", "only-b", "--as", "etc/tagged", str(file)
    )
    assert not (a.root / "etc").exists()
    task = run(a, command="true", conditions=["worker:has_file etc/tagged"])
    assert "b" == task["node"]


def test_put_replaces_and_is_refused(a: Node, b: Node, tmp_path: Path) -> None:
    """A file of that name is replaced, a folder is not; the nodes' own is not touched."""
    (tmp_path / "same").write_text("new")
    (b.root / "same").write_text("old one")
    (b.root / "folder").mkdir()
    assert "same (3 B) to b" == told(a, "put", "--node", "b", str(tmp_path / "same"))
    assert "new" == (b.root / "same").read_text()
    done = leoronic(a, "put", "--node", "b", "--as", "folder", str(tmp_path / "same"), code=1)
    assert "not on b: folder: folder is a folder" in done.stderr
    for name in (".leoronic/cookie", "../up", "/etc/passwd", "inbox/x.json"):
        done = leoronic(a, "put", "--as", name, str(tmp_path / "same"), code=1)
        assert 1 == done.stderr.count("\n")
    (b.root / "link").symlink_to(tmp_path)
    done = leoronic(a, "put", "--node", "b", "--as", "link/x", str(tmp_path / "same"), code=1)
    assert "link is no folder" in done.stderr
    assert not (tmp_path / "x").exists()
    (b.root / "link").unlink()


def test_put_when_a_core_dies(make_pair: MakePair, tmp_path: Path) -> None:
    """`kill -9` of either core meanwhile: it is back in a moment, and the rest of it goes on."""
    pair = make_pair()
    a, b = pair.nodes["a"], pair.nodes["b"]
    file = random_file(tmp_path / "big", BIG)
    with Running(a, tmp_path / "out", "put", str(file)) as putting:
        wait_until(lambda: blob_parts(b) > BIG // 8, "some of it is there", story=putting.story)
        kill(b.core_pid())
        b.wait_ready()
        wait_until(lambda: blob_parts(b) > BIG // 4, "it goes on", story=putting.story)
        kill(a.core_pid())
        assert 0 == putting.process.wait(90), putting.story()
        assert "big (400 MiB) to a, b\n" == putting.printed()
    assert hash_of(file) == hash_of(b.root / "big")


def blob_parts(node: Node) -> int:
    """Bytes of blobs that are on their way to a node."""
    with contextlib.suppress(FileNotFoundError):
        folder = node.state / "blobs" / "parts"
        return sum(path.stat().st_blocks * 512 for path in folder.iterdir())
    return 0


def test_put_when_a_node_is_gone(make_pair: MakePair, tmp_path: Path) -> None:
    """It is named, and the others have it; once it is back, the same again reaches it."""
    pair = make_pair()
    a, b = pair.nodes["a"], pair.nodes["b"]
    file = random_file(tmp_path / "x", MIB)
    b.kill_all()
    wait_state(pair, "a", "b", "down", within_s=20.0)
    done = leoronic(a, "put", str(file), code=1)
    assert "x (1 MiB) to a\n" == done.stdout
    assert "leoronic: not on b: b is down" in done.stderr
    b.start()
    wait_meshed(pair)
    assert "x (1 MiB) to a, b" == told(a, "put", str(file))


# ---- get ----


def test_get_what_a_lost_node_left(make_pair: MakePair, tmp_path: Path) -> None:
    """Also of a task that failed: the other node has taken a copy."""
    pair = make_pair()
    a, b = pair.nodes["a"], pair.nodes["b"]
    task = told(
        a, "submit", "--output", "out/*", "--workdir", "private", "--condition", *on("b"), "--",
        "mkdir out; head -c 9M /dev/urandom > out/x; echo 1 > out/y; sha256sum < out/x; exit 3",
    )  # fmt: skip
    assert 3 == leoronic(a, "wait", task, code=None).returncode
    for file in a.show(task)["outputs"]:
        wait_held(a, file["digest"])
    printed = a.output(task).decode().split()[0]
    b.kill_all()
    wait_state(pair, "a", "b", "down", within_s=20.0)
    target = tmp_path / "got"
    assert f"{target}/out/x\n{target}/out/y" == told(a, "get", task, str(target))
    assert printed == hash_of(target / "out" / "x")
    assert [] == parts(target)
    # Again, nothing has to come.
    (target / "out" / "y").unlink()
    assert 2 == len(data(a, "get", task, str(target))["there"])


def test_get_goes_on_after_ctrl_c(a: Node, b: Node, tmp_path: Path) -> None:
    """What came is not sent again, from another node, either."""
    task = run(
        a, command=f"head -c {BIG} /dev/urandom > big", outputs=["big"], workdir="private",
        conditions=on("b"),
    )  # fmt: skip
    target = tmp_path / "got"
    with Running(a, tmp_path / "out", "get", task["id"], str(target)) as getting:
        wait_until(lambda: part_bytes(target) > BIG // 4, "some came", story=getting.story)
        getting.process.send_signal(signal.SIGINT)
        assert 130 == getting.process.wait(20)
        assert "get it again to go on" in getting.story()
    [part] = parts(target)
    assert BIG // 4 < part.stat().st_size < BIG
    inode = part.stat().st_ino
    assert str(target / "big") == told(a, "get", task["id"], str(target))
    assert inode == (target / "big").stat().st_ino
    assert hash_of(target / "big") == hash_of(blob(a, task["outputs"][0]["digest"]))


def test_what_was_printed_before(a: Node, b: Node, tmp_path: Path) -> None:
    """A task that was answered from an earlier one prints what that printed, however much."""
    (tmp_path / "in").write_text("x")
    task = {"command": "cat in; seq 5000", "files": ["in"], "cache": True}
    first = run(a, tmp_path, **task)
    b.wait(first["id"])  # and b has heard of it
    second = run(b, tmp_path, **task)
    assert first["id"] == second["cached_from"]
    expected = told(a, "logs", first["id"])
    assert expected.endswith("\n5000")
    assert expected == told(b, "logs", second["id"]) == told(a, "logs", "-f", second["id"])


# ---- collect ----


def test_collect_goes_on_after_ctrl_c(a: Node, b: Node, tmp_path: Path) -> None:
    """What is whole stays, what came in part goes on; then nothing is new."""
    random_file(b.root / "data" / "big", BIG)
    for number in range(300):
        (b.root / "data" / f"{number}").write_text(f"{number}")
    target = tmp_path / "all"
    with Running(a, tmp_path / "out", "collect", str(target)) as collecting:
        wait_until(lambda: part_bytes(target) > BIG // 4, "some came", story=collecting.story)
        collecting.process.send_signal(signal.SIGINT)
        assert 130 == collecting.process.wait(20)
        assert "collect again to go on" in collecting.story()
    came = part_bytes(target)
    assert came > BIG // 4
    found = data(a, "collect", str(target))["nodes"]
    assert [] == found["a"]["problems"] + found["b"]["problems"]
    assert BIG - came <= found["b"]["bytes"] < BIG - came + 100 * MIB
    assert hash_of(b.root / "data" / "big") == hash_of(target / "b" / "data" / "big")
    assert "299" == (target / "b" / "data" / "299").read_text()
    assert [] == parts(target)
    for name in ("a", "b"):
        assert not (target / name / ".leoronic").exists()
        assert not (target / name / "inbox").exists()
    again = data(a, "collect", str(target))["nodes"]
    assert {0} == {again[name]["files"] for name in ("a", "b")}
    (b.root / "data" / "big").unlink()


def test_collect_outlives_the_core(a: Node, b: Node, tmp_path: Path) -> None:
    """`kill -9` of the core that is asked: the command goes on when it is back."""
    random_file(b.root / "large", BIG)
    target = tmp_path / "all"
    with Running(a, tmp_path / "out", "collect", str(target)) as collecting:
        wait_until(lambda: part_bytes(target) > BIG // 4, "some came", story=collecting.story)
        kill(a.core_pid())
        assert 0 == collecting.process.wait(60), collecting.story()
    assert hash_of(b.root / "large") == hash_of(target / "b" / "large")
    (b.root / "large").unlink()


def test_collect_when_a_node_goes_away(make_pair: MakePair, tmp_path: Path) -> None:
    """It is named, the rest is there; when it is back, it goes on."""
    pair = make_pair()
    a, b = pair.nodes["a"], pair.nodes["b"]
    # Of the asked node the directory comes first.
    random_file(a.root / "mine", MIB)
    random_file(b.root / "large", BIG)
    target = tmp_path / "all"
    with Running(a, tmp_path / "out", "collect", str(target)) as collecting:
        wait_until(lambda: part_bytes(target) > BIG // 8, "some came", story=collecting.story)
        b.kill_all()
        assert 1 == collecting.process.wait(60), collecting.story()
        assert "leoronic: b: " in collecting.story()
        assert "a: 1 file, 1 MiB" in collecting.printed()
    b.start()
    wait_meshed(pair)
    found = data(a, "collect", str(target))["nodes"]
    assert [] == found["b"]["problems"]
    assert found["b"]["bytes"] < BIG
    assert hash_of(b.root / "large") == hash_of(target / "b" / "large")


def test_collect_what_is_hostile(a: Node, b: Node, tmp_path: Path) -> None:
    """Everything that can be had is; what cannot is told; nothing is written elsewhere."""
    folder = b.root / "hostile"
    folder.mkdir()
    (folder / "new\nline").write_text("1")
    (Path(os.fsdecode(bytes(folder) + b"/caf\xe9"))).write_text("2")
    (folder / "out").symlink_to("/etc")
    (folder / "passwd").symlink_to("/etc/passwd")
    (folder / "inside").symlink_to("sparse")
    os.mkfifo(folder / "pipe")
    (folder / "ünï ✓ 'q\" $x\\").write_text("fine")
    (folder / "sparse").write_bytes(b"")
    (folder / "locked").mkdir()
    (folder / "locked" / "in").write_text("in")
    (folder / "locked").chmod(0o555)
    with (folder / "growing").open("w") as growing:
        grow = subprocess.Popen(
            ["bash", "-c", "while :; do echo x; sleep 0.0002; done"], stdout=growing
        )
        try:
            time.sleep(0.05)
            done = leoronic(a, "collect", str(tmp_path / "all"), code=1)
        finally:
            grow.kill()
            grow.wait()
    target = tmp_path / "all" / "b" / "hostile"
    assert "fine" == (target / "ünï ✓ 'q\" $x\\").read_text()
    assert "in" == (target / "locked" / "in").read_text()
    there = sorted(path.name for path in target.iterdir())
    assert {"inside", "locked", "sparse", "ünï ✓ 'q\" $x\\"} == set(there) - {"growing"}
    assert Path("sparse") == (target / "inside").readlink()
    for what in (
        "new\\nline",
        "caf",
        "out is a link that leads out (/etc): skipped",
        "passwd is a link that leads out (/etc/passwd): skipped",
        "pipe",
    ):
        assert what in done.stderr, (what, done.stderr)
    assert done.stderr.count("\n") in (5, 6), done.stderr
    assert [] == parts(tmp_path / "all")
    subprocess.run(["rm", "-rf", folder], check=True)


def test_links_are_no_failure(a: Node, b: Node, tmp_path: Path) -> None:
    """Of what is fine but for links, `collect` says that all is well."""
    for node in (a, b):
        (node.root / "current").symlink_to("model.bin")
        (node.root / "system").symlink_to("/etc")
    done = leoronic(a, "collect", str(tmp_path / "all"))
    assert 2 == done.stderr.count("system is a link that leads out (/etc): skipped")
    for node in (a, b):
        assert Path("model.bin") == (tmp_path / "all" / node.root.name / "current").readlink()
        (node.root / "current").unlink()
        (node.root / "system").unlink()


def test_secrets_do_not_travel(a: Node, b: Node, tmp_path: Path) -> None:
    """Neither with a task, nor by put, nor with what is collected; also not by a link."""
    (tmp_path / "state").symlink_to(a.state)
    for path in (str(a.state / "cookie"), str(tmp_path / "state" / "cookie")):
        for words in (["submit", "--file", path, "--", "true"], ["put", path]):
            done = leoronic(a, *words, code=1)
            assert "what a node keeps for itself in .leoronic" in done.stderr
    cookie = (a.state / "cookie").read_bytes().strip()
    leoronic(a, "collect", str(tmp_path / "all"))
    found = [path for path in (tmp_path / "all").rglob("*") if path.is_file()]
    assert found
    assert not [path for path in found if cookie in path.read_bytes()]


PLOT = """#!/bin/bash
sum=$(cut -d, -f2 "$1" | paste -sd+ | bc)
printf 'a picture of %s' "$sum" > year.png
"""


def test_the_example_of_the_docs(a: Node, b: Node, tmp_path: Path) -> None:
    """docs/commands.md, "Files that travel", word by word."""
    text = (REPOSITORY / "docs" / "commands.md").read_text().partition("## Files that travel")[2]
    block = text.partition("\n    ")[2].partition("\n\n")[0]
    script = "\n".join(line.removeprefix("    ") for line in ("    " + block).split("\n"))
    assert 5 == script.count("leoronic ")
    (tmp_path / "plot").write_text(PLOT)
    (tmp_path / "plot").chmod(0o755)
    (tmp_path / "data.csv").write_text("jan,20\nfeb,22\n")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={**environment(a), "HOME": str(tmp_path)}, cwd=tmp_path, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert 0 == done.returncode, (done.stdout, done.stderr)
    assert "15 " in done.stdout
    assert "a picture of 42" == (tmp_path / "pictures" / "year.png").read_text()
    for node in (a, b):
        collected = tmp_path / "collected" / node.root.name / "shared" / "data.csv"
        assert (tmp_path / "data.csv").read_text() == collected.read_text()


def test_collect_not_into_itself(a: Node) -> None:
    """A folder in a node's directory is refused, in words."""
    done = leoronic(a, "collect", str(a.root / "all"), code=1)
    assert "name a folder outside of it" in done.stderr


def test_shell_functions(a: Node, b: Node, tmp_path: Path) -> None:
    """The original's functions, with paths from where the person is."""
    (tmp_path / "note.txt").write_text("b\na\n")
    done = shell(
        a,
        "leoronic_send_file note.txt only-b\n"
        "id=$(leoronic_add_task 1 1 0 true 'worker:tag only-b' note.txt 'sort note.txt')\n"
        "leoronic wait $id > /dev/null; leoronic logs $id\n"
        "leoronic_get_all_files all",
        tmp_path,
    )
    assert done.stdout.startswith("note.txt (4 B) to b\na\nb\na: ")
    assert "b\na\n" == (tmp_path / "all" / "b" / "note.txt").read_text()
    assert not (tmp_path / "all" / "a" / "note.txt").exists()


# ---- a full disk ----


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file system of 64 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64m", "tmpfs"]
    if os.getuid() or subprocess.run(["mount", *options, folder], check=False).returncode:
        pytest.skip("this machine does not let root mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_no_room_to_collect(a: Node, b: Node, small: Path) -> None:
    """The file that does not fit is named, others come, and nothing half-made is left."""
    random_file(b.root / "m-large", 80 * MIB)
    random_file(b.root / "z-small", 1000)
    done = leoronic(a, "collect", str(small / "all"), code=1)
    assert f"b: no room for m-large ({80 * MIB} bytes): make room on the disk" in done.stderr
    assert hash_of(b.root / "z-small") == hash_of(small / "all" / "b" / "z-small")
    assert not (small / "all" / "b" / "m-large").exists()
    assert [] == parts(small)
    (b.root / "m-large").unlink()


def test_no_room_on_a_node(small: Path, tmp_path: Path) -> None:
    """It is named, the other has it, and nothing half-made is left on either."""
    file = random_file(tmp_path / "large", 80 * MIB)
    (tmp_path / "pair").mkdir()
    (tmp_path / "pair" / "b").symlink_to(small)
    with ExitStack() as stack:
        pair = make(stack, tmp_path / "pair")
        a, b = pair.nodes["a"], pair.nodes["b"]
        began = time.monotonic()
        done = leoronic(a, "put", str(file), code=1)
        assert "large (80 MiB) to a\n" == done.stdout
        assert time.monotonic() - began < 10.0
        assert "not on b: large: " in done.stderr
        assert "room" in done.stderr
        assert not (b.root / "large").exists()
        wait_until(lambda: blob_parts(b) == 0, "nothing is left of it", story=b.tail)
        assert "succeeded" == a.run({"command": "echo on", "conditions": on("b")})["state"]
