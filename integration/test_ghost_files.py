"""Files of tasks that run on ghosts: by way of the clairvoyant, and nothing else by that way."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.ghosts import Ghost, free_place, token_for
from integration.harness import Node, wait_until
from leoronic import __version__
from leoronic.actors.bulk_greeting import BulkRefused, Opened, call
from leoronic.actors.standing import Standing
from leoronic.core import commands
from leoronic.wire.bulk import (
    ANSWER_BYTES_MAX,
    FILES,
    SERVE_FILES,
    Bytes,
    GetChunk,
    GetPage,
    GetPart,
    Request,
    decode_answer,
    encode,
)
from leoronic.wire.ghost_identity import decode_authority, ghost_context, make_ghost_certificates
from leoronic.wire.hello import Refused
from leoronic.wire.preface import Preface
from leoronic.wire.token import decode_token


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "n", "--name", "n", "--cpus", "2", listen=free_place())
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def ghost(tmp_path: Path, node: Node) -> Iterator[Ghost]:
    made = Ghost(tmp_path / "g", token_for(node), address(node), "--tag", "light")
    try:
        made.start()
        made.wait_attached(node)
        yield made
    finally:
        made.close()


def address(node: Node) -> str:
    """Where it listens."""
    found: str = node.status()["node"]["address"]
    return found


def submit(node: Node, cwd: Path, **task: Any) -> str:
    """The id of a task for the ghost, whose files are named from `cwd`."""
    blob = json.dumps({**task, "conditions": ["worker:tag light"]}).encode()
    [found] = node.ask(commands.Submit(cwd=str(cwd)), blob)["ids"]
    return str(found)


def blob(root: Path, digest: str) -> Path:
    """The file of a blob, there or not."""
    return root / ".leoronic" / "blobs" / digest[3:5] / digest.replace(":", "-")


def test_a_task_brings_files_and_leaves_outputs(node: Node, ghost: Ghost, tmp_path: Path) -> None:
    """What it brings goes to the ghost, what it leaves to the node, of several chunks each."""
    words = tmp_path / "words"
    words.write_bytes(b"0123456789abcde\n" * 600_000)
    held = submit(
        node,
        tmp_path,
        command="cat words words > twice; sha256sum < words",
        files=["words"],
        outputs=["twice"],
        workdir="private",
    )
    whole = words.read_bytes()
    words.unlink()
    [task] = node.wait(held, within_s=60.0)
    assert ("succeeded", "g") == (task["state"], task["node"]), (task, ghost.tail(), node.tail())
    assert hashlib.sha256(whole).hexdigest() == node.output(held).decode().split()[0]
    [output] = task["outputs"]
    assert blob(node.root, output["digest"]).exists(), "it is kept before the task has ended"
    ghost.close()
    got = tmp_path / "got"
    get = [sys.executable, "-m", "leoronic.client", "get", held, str(got), "--root", str(node.root)]
    subprocess.run(get, check=True, timeout=60.0, capture_output=True)
    assert 2 * whole == (got / "twice").read_bytes()


def test_a_graph_through_a_ghost(node: Node, ghost: Ghost, tmp_path: Path) -> None:
    """What a task left there is among the files of the next one, on the node."""
    first = submit(node, tmp_path, command="seq 3 > three", outputs=["three"], workdir="private")
    text = json.dumps(
        {
            "command": "cat three",
            "files": [f"task:{first}/three"],
            "keep_names": True,
            "conditions": ["worker:not_tag light"],
        }
    ).encode()
    [second] = node.ask(commands.Submit(cwd=str(tmp_path)), text)["ids"]
    [task] = node.wait(second, within_s=60.0)
    assert ("succeeded", "n") == (task["state"], task["node"])
    assert b"1\n2\n3\n" == node.output(second)
    wait_until(lambda: not list((ghost.root / ".leoronic/work").iterdir()), "no folder is left")


def test_files_for_it_and_from_it(node: Node, ghost: Ghost, tmp_path: Path) -> None:
    """`put` and `collect` are for ghosts as for nodes."""
    (tmp_path / "words").write_text("some words")
    here = ("--root", str(node.root))
    leoronic = (sys.executable, "-m", "leoronic.client")
    put = (*leoronic, "put", "words", "--all", *here)
    subprocess.run(put, check=True, timeout=60.0, capture_output=True, cwd=tmp_path)
    assert "some words" == (ghost.root / "words").read_text()
    (ghost.root / "result").write_text("a result")
    collect = (*leoronic, "collect", str(tmp_path / "all"), *here)
    subprocess.run(collect, check=True, timeout=60.0, capture_output=True)
    found = {path.name: path.read_text() for path in (tmp_path / "all" / "g").iterdir()}
    assert {"words": "some words", "result": "a result"} == found


# ---- what its token is good for ----


def test_a_ghost_asks_for_chunks_only(node: Node, ghost: Ghost, tmp_path: Path) -> None:
    """With its token, in its name: blobs whose digest it knows, and nothing of the folder."""
    (node.root / "secret").write_text("a secret")
    (tmp_path / "words").write_text("words")
    held = submit(node, tmp_path, command="cat words", files=["words"])
    [task] = node.wait(held)
    me = find_ghost(node)
    [file] = task["files"]
    answer = said_to(node, me, GetChunk(1, file["digest"], 0))
    assert isinstance(answer, Bytes)
    for request in (GetPart(1, "secret", 0, 100), GetPage(1)):
        refused = said_to(node, me, request)
        assert isinstance(refused, Refused)
        assert f"a ghost may not say {type(request).__name__}" == refused.reason


def test_a_ghost_that_is_not_attached(node: Node, ghost: Ghost) -> None:
    """A token alone is not enough, nor can it be used to serve in the name of somebody else."""
    for purpose in (FILES, SERVE_FILES):
        with pytest.raises(BulkRefused, match="no ghost of that id"):
            opened(node, "impostor00", purpose)


def find_ghost(node: Node) -> str:
    """Its id."""
    nodes = node.ask(commands.Nodes())["nodes"]
    return next(str(one["id"]) for one in nodes if one["name"] == "g")


def opened(node: Node, me: str, purpose: str) -> Opened:
    """A connection of whoever has the token."""
    token = decode_token(token_for(node))
    made = make_ghost_certificates(token, me)
    preface = Preface((token.cluster,), __version__)
    standing = Standing(
        preface, {}, as_ghost=lambda line: ghost_context(made, decode_authority(line, token))
    )
    return call(address(node), purpose, standing, me, node.status()["node"]["id"])


def said_to(node: Node, me: str, request: Request) -> object:
    """The answer to a request of whoever has the token."""
    stream = opened(node, me, FILES).stream
    try:
        stream.send(encode(request))
        json_text, size = stream.receive(ANSWER_BYTES_MAX, 1 << 20)
        stream.receive_into(memoryview(bytearray(size)))
        return decode_answer(json_text)
    finally:
        stream.close()
