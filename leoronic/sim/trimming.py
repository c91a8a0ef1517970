"""What drives the forgetting on a simulated node, as `actors/history.py` does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leoronic.core.replication import ReplicationMachine
from leoronic.core.replication_messages import AskStable
from leoronic.errors import LeoronicError
from leoronic.sim.hosts import MachineHost
from leoronic.sim.journal import Trim
from leoronic.sim.retention import Retention

if TYPE_CHECKING:
    from leoronic.sim.node import SimNode

# Small, so that small worlds need several.
SLICE_TASKS = 3
PAUSE_S = 0.05


class Trimmer:
    """One life of it. It goes on while other actors are restarted."""

    def __init__(self, node: SimNode, retention: Retention) -> None:
        self._node = node
        self._life = node.life
        self._retention = retention

    def begin(self) -> None:
        """Look soon, and then every `every_s`."""
        self._later(self._node.chance.random() * self._retention.every_s)

    def _later(self, delay_s: float) -> None:
        self._node.clock.after(delay_s, lambda: self._node.when_awake(self._look))

    def _look(self) -> None:
        node = self._node
        if node.life != self._life:
            return
        self._later(self._retention.every_s)
        before = node.time.wall() - self._retention.keep_s

        def told(stable: object, error: LeoronicError | None) -> None:
            if isinstance(stable, dict):
                self._trim(Trim(before, SLICE_TASKS, stable, _members(node)))

        node.call("replication", AskStable(), told)

    def _trim(self, trim: Trim) -> None:
        def told(count: object, error: LeoronicError | None) -> None:
            if count:
                self._node.clock.after(PAUSE_S, lambda: self._node.when_awake(again))

        def again() -> None:
            if self._node.life == self._life:
                self._trim(trim)

        self._node.call("journal", trim, told)


def believed(node: SimNode) -> dict[str, int]:
    """The version vector of a node, as its replication has been told."""
    return _replication(node).have


def _replication(node: SimNode) -> ReplicationMachine:
    host = node.actors["replication"]
    assert isinstance(host, MachineHost)
    assert isinstance(host.machine, ReplicationMachine)
    return host.machine


def _members(node: SimNode) -> list[str]:
    """Who was counted in."""
    view = _replication(node)._view
    return [] if view is None else list(view.members)
