"""Tasks by any name, live or ended, joined from queue and journal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from leoronic.actors import cluster as cluster_module
from leoronic.actors.cluster import Cluster
from leoronic.core.entries import Finished, Started
from leoronic.core.outcome import Outcome
from leoronic.core.queue_messages import ChangeTasks, SubmitSpecs
from leoronic.core.spec import TaskSpec
from leoronic.errors import NotFound
from tests.actors.node import Node, node_in

GOOD = Outcome(5.0, 6.0, exit_code=0)
BAD = Outcome(5.0, 6.0, exit_code=1)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with node_in(tmp_path) as made:
        yield made


@pytest.fixture
def cluster(node: Node) -> Cluster:
    find = node.tree.find
    return Cluster(find("queue"), find("journal"), lambda: {node.id: "one"})


async def add(node: Node, *specs: TaskSpec) -> None:
    await node.tree.find("queue").call(SubmitSpecs(list(specs)))


async def states(cluster: Cluster, *tasks: str) -> list[str]:
    return [task["state"] for task in await cluster.tasks(list(tasks))]


async def test_resolve_all_keeps_order_and_drops_repetitions(node: Node, cluster: Cluster) -> None:
    """Names, beginnings and ids of one task are one task."""
    await add(node, TaskSpec("x", id="abc", name="n"), TaskSpec("x", id="xyz", count=3))
    assert ["xyz.2", "abc"] == await cluster.resolve_all(["xy.2", "n", "ab", "abc", "xyz.2"])


async def test_live_and_ended_in_one_answer(node: Node, cluster: Cluster) -> None:
    """In the order asked for."""
    await add(node, *(TaskSpec("x", id=task) for task in "abc"))
    await node.run("a", GOOD)
    await node.write(Started("b", 1, node.id, 5.0))
    assert ["waiting", "succeeded", "running"] == await states(cluster, "c", "a", "b")
    [running] = await cluster.tasks(["b"])
    assert ("one", 1, None) == (running["node"], running["attempt"], running["finished_at"])


async def test_elements(node: Node, cluster: Cluster) -> None:
    """One that runs, one that ended, one whose turn has not come, of a live array and an ended."""
    await add(node, TaskSpec("x", id="a", items=["p", "q", "r"]))
    await node.write(Started("a.0", 1, node.id, 5.0), Started("a.1", 1, node.id, 5.0))
    await node.write(Finished("a.1", 1, node.id, BAD, True))
    assert ["running", "failed", "waiting"] == await states(cluster, "a.0", "a.1", "a.2")
    [element] = await cluster.tasks(["a.1"])
    assert (1, "q", 1) == (element["index"], element["item"], element["exit_code"])
    await node.tree.find("queue").call(ChangeTasks("cancel", ["a"]))
    assert ["failed", "cancelled", "cancelled"] == await states(cluster, "a.1", "a.2", "a")


async def test_an_array_is_told_by_an_element_that_failed(node: Node, cluster: Cluster) -> None:
    """Its exit code and reason are of the first that failed; elements are counted."""
    await add(node, TaskSpec("x", id="a", count=2))
    await node.run("a.0", GOOD)
    await node.run("a.1", BAD)
    while (await states(cluster, "a")) == ["running"]:
        pass  # that all have ended is an entry of its own, which follows
    [array] = await cluster.tasks(["a"])
    assert ("failed", 1, {"succeeded": 1, "failed": 1}) == (
        array["state"],
        array["exit_code"],
        array["elements"],
    )


async def test_pages_of_live_states_with_labels(node: Node, cluster: Cluster) -> None:
    """The queue knows states, the disk labels: both count."""
    await add(node, *(TaskSpec("x", id=f"t{n}", labels={"k": str(n % 2)}) for n in range(6)))
    await node.run("t1", GOOD)
    found, more = await cluster.page(state="waiting", label="k=1", since=None, before=None, limit=1)
    assert (["t5"], True) == ([task["id"] for task in found], more)
    found, more = await cluster.page(state="waiting", label="k=1", since=0.0, before=None, limit=2)
    assert (["t5", "t3"], False) == ([task["id"] for task in found], more)


@pytest.mark.parametrize("state", [None, "waiting"])
async def test_pages_are_bounded_by_bytes(
    node: Node, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    """Fewer than asked for, at least one, and the rest is on the next pages."""
    monkeypatch.setattr(cluster_module, "_PAGE_SLICE", 2)
    await add(node, *(TaskSpec("x" * 10_000, id=f"t{n}") for n in range(5)))
    seen: list[list[str]] = []
    before, more = None, True
    for bytes_max in (25_000, 1, 1_000_000):
        assert more
        found, more = await cluster.page(
            state=state, label=None, since=None, before=before, limit=9, bytes_max=bytes_max
        )
        before = found[-1]["order"]
        seen.append([task["id"] for task in found])
    assert ([["t4", "t3"], ["t2"], ["t1", "t0"]], False) == (seen, more)


async def test_a_page_reads_no_more_than_it_tells(
    node: Node, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A high limit does not bring everything into memory before the first bytes are counted."""
    monkeypatch.setattr(cluster_module, "_PAGE_SLICE", 2)
    await add(node, *(TaskSpec("x" * 1000, id=f"t{n}") for n in range(40)))
    asked: list[str] = []
    tasks = cluster.tasks

    async def noted(some: list[str]) -> list[dict[str, Any]]:
        asked.extend(some)
        return await tasks(some)

    monkeypatch.setattr(cluster, "tasks", noted)
    await cluster.page(
        state=None, label=None, since=None, before=None, limit=10_000, bytes_max=2000
    )
    assert len(asked) <= 4


async def test_a_task_that_is_forgotten_meanwhile(cluster: Cluster) -> None:
    """It is not found."""
    with pytest.raises(NotFound, match="there is no task zzz"):
        await cluster.tasks(["zzz"])
