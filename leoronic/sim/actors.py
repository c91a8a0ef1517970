"""Which actors a simulated node runs, and how each begins a life."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leoronic.core import (
    executor,
    file_store,
    membership,
    queue,
    relay,
    replication,
    scheduler,
)
from leoronic.core.executor import ExecutorMachine
from leoronic.core.ghost_notices import (
    TicketKeys,
)
from leoronic.core.member_record import Acquaintance
from leoronic.core.membership import MembershipMachine
from leoronic.core.queue import QueueMachine
from leoronic.core.relay import RelayMachine
from leoronic.core.replication import ReplicationMachine
from leoronic.core.scheduler import SchedulerMachine
from leoronic.core.view import About
from leoronic.sim.file_actor import FileStoreHost
from leoronic.sim.hosts import ExecutorHost, MachineHost
from leoronic.sim.journal import JournalHost
from leoronic.sim.network import address_of

if TYPE_CHECKING:
    from leoronic.sim.node import SimNode

ACTORS = ("journal", "replication", "membership", "queue", "scheduler", "runner")
"""In the order in which they are started; one that crashes takes those after it along."""
GHOSTS_AFTER = "membership"
"""Where there are ghosts, the relay comes after it."""
WITH_FILES = (*ACTORS[:3], "file_store", *ACTORS[3:])
"""The same, where tasks have files."""


def make_actor(node: SimNode, name: str) -> None:
    """Start an actor of `node`."""
    wall, steady = node.time.wall, node.time.steady
    match name:
        case "journal":
            node.actors[name] = JournalHost(node, node.disk, node.observer)
        case "replication":
            machine = ReplicationMachine(node.id)
            _start(node, MachineHost(node, name, machine, steady), replication.Start())
        case "membership":
            acquaintances = [
                Acquaintance(other, "", addresses)
                for other, addresses in sorted(node.remembered.items())
            ]
            timeouts = None if node.retention is None else node.retention.timeouts
            members = MembershipMachine(node.id, first_about(node), acquaintances, timeouts)
            _start(node, MachineHost(node, name, members, steady), membership.Start())
        case "file_store":
            assert node.blobs is not None
            assert node.mix is not None
            storing = FileStoreHost(node, node.blobs, node.mix)
            _start(node, storing, file_store.Start())
        case "relay":
            relaying = RelayMachine(node.id)
            relaying.handle(TicketKeys((b"the cookie",)), steady())
            _start(node, MachineHost(node, name, relaying, steady), relay.Start())
        case "queue":
            _start(node, MachineHost(node, name, QueueMachine(), wall), queue.Start())
        case "scheduler":
            scheduling = SchedulerMachine(node.id, int(wall() * 1_000_000))
            scheduling = node.disk.switches.hasten(scheduling)
            _start(node, MachineHost(node, name, scheduling, steady), scheduler.Start())
        case _:
            executing = ExecutorMachine(node.id, node.name, node.capacity, ("fixed",))
            host = ExecutorHost(
                node, executing, wall, node_id=node.id, ask=node.link.ask, files=node.files
            )
            _start(node, host, executor.Start())


def _start(node: SimNode, host: MachineHost, start: object) -> None:
    node.actors[host.name] = host
    host.take(start)


def first_about(node: SimNode) -> About:
    """What is known of a node when its core starts."""
    return About(node.name, "sim", node.life, addresses=[address_of(node.id)])


def about(node: SimNode) -> About:
    """What a node tells of itself when it connects."""
    host = node.actors.get("membership")
    if isinstance(host, MachineHost) and isinstance(host.machine, MembershipMachine):
        return host.machine.about
    return first_about(node)
