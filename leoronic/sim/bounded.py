"""Once all is over and history has passed, nothing is left of it: journals stay bounded."""

from __future__ import annotations

from leoronic.core.membership import MembershipMachine
from leoronic.core.replication import ReplicationMachine
from leoronic.sim.agreement import all_digests_are_equal
from leoronic.sim.cluster import Cluster
from leoronic.sim.hosts import MachineHost
from leoronic.sim.journal import JournalHost
from leoronic.sim.node import SimNode
from leoronic.sim.retention import Retention
from leoronic.sim.story import Violation

# For what is awaited beside: a round of pages, a few slices.
ROUNDS = 4
SOME_S = 20.0
LOOK_S = 1.0

# The last entry of all stays, as it tells which place comes next, and the last word on each tag.
_ENTRIES = """
SELECT count(*) FROM entries
WHERE seq < (SELECT max(seq) FROM entries) AND seq NOT IN (SELECT seq FROM tags)
"""
_TABLES = ("tasks", "attempts", "releases", "dependencies", "copies", "doubled", "suspicions")


def everything_is_forgotten(cluster: Cluster, retention: Retention) -> None:
    """All that was, and who has been away for ever; the rest is alike on all nodes."""
    until = cluster.clock.now + retention.away_s + ROUNDS * retention.every_s + SOME_S
    while left := [(n.name, *rest) for n in cluster.nodes for rest in _left(n, cluster)]:
        if cluster.clock.now > until:
            raise Violation("journals stay bounded", f"{retention}: {left}")
        cluster.clock.run(cluster.clock.now + LOOK_S)
    all_digests_are_equal(cluster)


def _left(node: SimNode, cluster: Cluster) -> list[tuple[str, int]]:
    """The sizes of what should be empty by then."""
    journal = node.actors["journal"]
    assert isinstance(journal, JournalHost)
    execute = journal.journal.connection.execute
    sizes = {table: execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _TABLES}
    sizes["entries"] = execute(_ENTRIES).fetchone()[0]
    members, replication = _machine(node, "membership"), _machine(node, "replication")
    assert isinstance(members, MembershipMachine)
    assert isinstance(replication, ReplicationMachine)
    others = {other.id for other in cluster.nodes if other is not node}
    sizes["members"] = len(members._members.peers.keys() - others)
    sizes["vectors"] = len(replication._replica.vectors.keys() - others)
    return [(name, size) for name, size in sizes.items() if size]


def _machine(node: SimNode, name: str) -> object:
    host = node.actors[name]
    assert isinstance(host, MachineHost)
    return host.machine
