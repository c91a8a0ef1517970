"""The clients' methods on a real node: the same answers, whichever client asks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Node, running

from leoronic.client import AsyncClient, Client


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running(tmp_path_factory.mktemp("methods"), "--cpus", "2", "--name", "one") as node:
        yield node


def test_a_task_from_end_to_end(node: Node, tmp_path: Path) -> None:
    """Submitted, waited for, read, its files brought here, done again."""
    (tmp_path / "words.txt").write_text("b\na\n")
    with Client(str(node.root)) as client:
        [task] = client.submit(
            "sort words.txt | tee sorted.txt", files=["words.txt"], cwd=str(tmp_path),
            outputs=["sorted.txt"], workdir="private",
        )["ids"]  # fmt: skip
        [ended] = client.wait(task, time_limit_s=20)["tasks"]
        assert ("succeeded", task) == (ended["state"], ended["id"])
        assert b"a\nb\n" == b"".join(client.output(task))
        assert ["sorted.txt"] == [file["path"] for file in client.left(task)["files"]]
        found = client.get(task, str(tmp_path / "out"))
        assert [str(tmp_path / "out" / "sorted.txt")] == found["there"]
        assert "a\nb\n" == (tmp_path / "out" / "sorted.txt").read_text()
        [again] = client.redo(task)["ids"]
        assert "succeeded" == client.wait(again, time_limit_s=20)["tasks"][0]["state"]
        assert {task, again} <= {shown["id"] for shown in client.tasks()["tasks"]}


def test_files_to_nodes_and_back(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`put` and `collect`."""
    monkeypatch.chdir(tmp_path)
    Path("model.bin").write_bytes(b"model")
    with Client(str(node.root)) as client:
        assert ["model.bin"] == client.put("model.bin")["nodes"]["one"]["placed"]
        found = client.collect(str(tmp_path / "all"))
    assert [] == found["nodes"]["one"]["problems"]
    assert b"model" == (tmp_path / "all" / "one" / "model.bin").read_bytes()


def test_the_same_in_an_event_loop(node: Node, tmp_path: Path) -> None:
    """Many at once on one connection."""

    async def main() -> None:
        async with await AsyncClient.connect(str(node.root)) as client:
            answers = await asyncio.gather(
                *(client.submit(f"echo {n}", cpus=0.1) for n in range(9))
            )
            ids = [answer["ids"][0] for answer in answers]
            ended = (await client.wait(*ids, time_limit_s=20))["tasks"]
            assert {"succeeded"} == {task["state"] for task in ended}
            parts = [part async for part in client.output(ids[7])]
            assert b"7\n" == b"".join(parts)
            [run] = (await client.execute("echo here", all=True))["ids"].values()
            await client.wait(run, time_limit_s=20)
            assert ["fast"] == (await client.tag_add("fast"))["tags"]
            assert "one" == (await client.status())["node"]["name"]
            collected = await client.collect(str(tmp_path / "all"))
            assert ["one"] == list(collected["nodes"])

    asyncio.run(main())
