"""Many real nodes on this machine: one full mesh, one queue, one outcome."""

from __future__ import annotations

from pathlib import Path

from integration.large import drain, large, wait_same

NODES = 32
TASKS = 5000


def test_many_nodes_are_one_cluster(tmp_path: Path) -> None:
    """Told of two others each, they all find one another, and drain what three of them take."""
    with large(tmp_path, NODES) as made:
        made.grow(NODES)
        nodes = list(made.nodes.values())
        drain(nodes, TASKS)
        assert {"succeeded": TASKS} == nodes[1].counts()
        wait_same(nodes)
