"""After healing all nodes hold the same."""

from __future__ import annotations

from leoronic.sim.cluster import Cluster
from leoronic.sim.journal import JournalHost
from leoronic.sim.node import SimNode
from leoronic.sim.story import Violation


def all_agree(cluster: Cluster) -> bool:
    """Whether the version vectors of all nodes are equal."""
    first, *others = (cluster.watch(node).have for node in cluster.nodes)
    return all(other == first for other in others)


def check_agreement(cluster: Cluster) -> None:
    """Vectors, the naive reading, and the tables of all nodes are equal.

    Not the tables, once something was forgotten: that is later on one node than on another.
    """
    first, *others = cluster.nodes
    watch = cluster.watch(first)
    forgotten = cluster.history.forgotten.by
    for other in others:
        theirs = cluster.watch(other)
        if watch.have != theirs.have:
            raise Violation(
                "all nodes hold the same entries",
                f"{first.name} {watch.have}, {other.name} {theirs.have}",
            )
        for task, facts in watch.facts.tasks.items():
            known = theirs.facts.tasks.get(task)
            if known is None and task in forgotten:
                continue  # it came later
            final = "" if known is None else known.final
            if final != facts.final:
                raise Violation(
                    "all nodes join alike",
                    f"{task}: {first.name} {facts.final!r}, {other.name} {final!r}",
                    task,
                )
    if cluster.retention is None:
        all_digests_are_equal(cluster)


def all_digests_are_equal(cluster: Cluster) -> None:
    """The tables of all nodes are equal: of those that have forgotten the same."""
    digests = {node.name: _digest(node) for node in cluster.nodes}
    if len(set(digests.values())) > 1:
        raise Violation("all digests are equal", f"{digests}")


def _digest(node: SimNode) -> object:
    journal = node.actors["journal"]
    assert isinstance(journal, JournalHost)
    return journal.reads.digest()
