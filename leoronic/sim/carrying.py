"""A simulated node that began anew carries over what it alone had accepted.

As `life.py` and `actors/carrying.py` do it: `SimNode.carried` is the file that they keep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from leoronic.core.membership import MembershipMachine
from leoronic.core.queue_messages import Accepted, SubmitSpecs
from leoronic.core.spec import TaskSpec
from leoronic.errors import LeoronicError, Unavailable
from leoronic.sim.hosts import MachineHost

if TYPE_CHECKING:
    from leoronic.sim.node import SimNode

LOOK_S = 1.0
SOURCE = "carried"

Told = Callable[[list[str], str, Accepted], None]
"""Told the ids of what was taken in, the node that asked, and the answer."""


class Carrier:
    """One life of it: submits what is carried, once the node has caught up."""

    def __init__(self, node: SimNode, told: Told | None) -> None:
        self._node = node
        self._life = node.life
        self._told = told

    def begin(self) -> None:
        """If there is anything."""
        if self._node.carried:
            self._later(self._look)

    def _later(self, action: Callable[[], None]) -> None:
        def if_alive() -> None:
            if self._node.life == self._life:
                action()

        self._node.clock.after(LOOK_S, lambda: self._node.when_awake(if_alive))

    def _look(self) -> None:
        if self._is_ready():
            self._submit([one.spec for one in self._node.carried.values()])
        else:
            self._later(self._look)

    def _drop_the_old(self) -> None:
        node = self._node
        assert node.retention is not None
        since = node.time.wall() - node.retention.keep_s
        node.carried = {task: one for task, one in node.carried.items() if one.at >= since}

    def _is_ready(self) -> bool:
        host = self._node.actors.get("membership")
        if not isinstance(host, MachineHost):
            return False
        assert isinstance(host.machine, MembershipMachine)
        return host.machine.ready

    def _submit(self, specs: list[TaskSpec]) -> None:
        """All together; if that is refused, one by one: one may depend on a forgotten task."""
        self._drop_the_old()
        specs = [spec for spec in specs if spec.id in self._node.carried]
        if not specs:
            return

        def told(result: object, error: LeoronicError | None) -> None:
            if isinstance(error, Unavailable):
                self._later(lambda: self._submit(specs))
            elif error is not None and len(specs) > 1:
                for spec in specs:
                    self._submit([spec])
            else:
                for spec in specs:
                    self._node.carried.pop(spec.id, None)
                if isinstance(result, Accepted) and self._told is not None:
                    self._told([spec.id for spec in specs], self._node.id, result)

        self._node.call("queue", SubmitSpecs(specs, SOURCE), told)
