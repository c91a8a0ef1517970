"""The tree of actors of a node, as data: who restarts with whom."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from leoronic.actors.addresses import met_before
from leoronic.actors.call_door import CallDoor
from leoronic.actors.carrying import CarryingActor
from leoronic.actors.control import ControlActor
from leoronic.actors.discovery import DiscoveryActor
from leoronic.actors.file_disk import FileDisk, Limits
from leoronic.actors.file_store import FileStoreActor
from leoronic.actors.file_work import FileWork
from leoronic.actors.history import HistoryActor
from leoronic.actors.inbox import Inbox
from leoronic.actors.journal import JournalActor
from leoronic.actors.keeper import OutputKeeper
from leoronic.actors.machines import QueueActor, SchedulerActor
from leoronic.actors.membership import MembershipActor
from leoronic.actors.node_answers import NodeInfo
from leoronic.actors.nodes import Nodes
from leoronic.actors.peer_port import PeerPort
from leoronic.actors.peers import PeersActor
from leoronic.actors.questions import QuestionsActor
from leoronic.actors.replication import ReplicationActor
from leoronic.actors.runner import ExecutorActor
from leoronic.core.run import FromRunner, ToRunner
from leoronic.core.tree import ChildSpec, SupervisorSpec
from leoronic.ghost.door import GhostDoor
from leoronic.ghost.relay import RelayActor
from leoronic.itself import Itself
from leoronic.runtime.supervisor import Supervisor

MAILBOX_MAX = 16384

BeginAnew = Callable[[str], None]
FindSupervisor = Callable[[str], Supervisor]


def node_tree(
    itself: Itself,
    info: NodeInfo,
    nodes: Nodes,
    begin_anew: BeginAnew,
    supervisor: FindSupervisor,
) -> SupervisorSpec:
    """All actors of a node. `begin_anew(reason)`: it must take a new identity and start again.

    `supervisor(name)` is the one of that name in the tree that is made of this.
    """
    # What comes later rebuilds its memory from what comes before.
    work = SupervisorSpec(
        name="work",
        strategy="rest_for_one",
        children=(
            _journal(itself),
            _cluster(itself, begin_anew, supervisor),
            _tasks(itself),
        ),
    )
    return SupervisorSpec(name="node", children=(work, _doors(itself, info, nodes)))


def _journal(itself: Itself) -> ChildSpec:
    config = itself.config
    factory = partial(
        JournalActor,
        config.state_dir / "leoronic.db",
        first_start=not (config.state_dir / "node").exists(),
        on_node=itself.set_node,
    )
    return ChildSpec(name="journal", factory=factory, mailbox_max=MAILBOX_MAX)


def _cluster(itself: Itself, begin_anew: BeginAnew, supervisor: FindSupervisor) -> SupervisorSpec:
    """What has to do with other nodes; each of these finds its way back alone."""
    config = itself.config
    port = PeerPort()
    peers = partial(
        PeersActor,
        node=lambda: itself.node,
        about=itself.about,
        cookies=config.cookie_path,
        host=config.listen_host,
        port=config.listen_port,
        on_copied=begin_anew,
        on_rejoin=begin_anew,
        on_listening=itself.set_port,
        port_shared=port,
    )
    membership = partial(
        MembershipActor, lambda: itself.node, itself.about, partial(met_before, config.peers_path)
    )

    disk_limits = Limits(config.files_quota, config.files_reserve)
    work = FileWork()

    def file_store() -> FileStoreActor:
        return FileStoreActor(lambda: itself.node, FileDisk(config.root, disk_limits), port, work)

    def discovery() -> DiscoveryActor:
        return DiscoveryActor(
            itself.announcement,
            host=config.listen_host,
            port=itself.port,
            static=config.peers,
            local_network=config.discovery,
            path=config.peers_path,
        )

    return SupervisorSpec(
        name="cluster",
        children=(
            ChildSpec(name="peers", factory=peers, mailbox_max=MAILBOX_MAX),
            ChildSpec(name="membership", factory=membership, mailbox_max=MAILBOX_MAX),
            ChildSpec(
                name="replication",
                factory=partial(ReplicationActor, lambda: itself.node),
                mailbox_max=MAILBOX_MAX,
            ),
            ChildSpec(name="file_store", factory=file_store, mailbox_max=MAILBOX_MAX),
            ChildSpec(name="discovery", factory=discovery),
            ChildSpec(name="call_door", factory=partial(CallDoor, port, config.state_dir)),
            _ghosts(itself, port, supervisor),
        ),
    )


def _ghosts(itself: Itself, port: PeerPort, supervisor: FindSupervisor) -> SupervisorSpec:
    """What serves ghosts; the process that has their connections is there while there are any."""
    state_dir = itself.config.state_dir
    door = partial(GhostDoor, port, state_dir, lambda: supervisor("ghosts"), lambda: itself.node)
    return SupervisorSpec(
        name="ghosts",
        children=(
            ChildSpec(
                name="relay",
                factory=partial(RelayActor, lambda: itself.node, itself.config.cookie_path),
                mailbox_max=MAILBOX_MAX,
            ),
            ChildSpec(name="relay_host", factory=door, mailbox_max=MAILBOX_MAX),
        ),
    )


def _tasks(itself: Itself) -> SupervisorSpec:
    config = itself.config
    executor = partial(
        ExecutorActor, lambda: itself.node, config.name, config.root, itself.capacity, config.tags
    )
    return SupervisorSpec(
        name="tasks",
        strategy="rest_for_one",
        children=(
            ChildSpec(name="queue", factory=QueueActor, mailbox_max=MAILBOX_MAX),
            ChildSpec(
                name="scheduler",
                factory=partial(SchedulerActor, lambda: itself.node),
                mailbox_max=MAILBOX_MAX,
            ),
            ChildSpec(name="runner", factory=executor, mailbox_max=MAILBOX_MAX),
            ChildSpec(
                name="runner_host",
                factory="runner",
                host="process",
                socket=str(config.state_dir / "runner.sock"),
                takes=ToRunner,
                gives=FromRunner,
                owner="runner",
                survives=True,
                shutdown_s=15.0,
            ),
        ),
    )


def _doors(itself: Itself, info: NodeInfo, nodes: Nodes) -> SupervisorSpec:
    config = itself.config
    output = config.output_dir
    control = partial(ControlActor, config.state_dir / "control.sock", output, info, nodes)
    return SupervisorSpec(
        name="doors",
        children=(
            ChildSpec(
                name="questions",
                factory=partial(QuestionsActor, output, info, nodes),
                mailbox_max=MAILBOX_MAX,
            ),
            ChildSpec(name="keeper", factory=partial(OutputKeeper, output, nodes)),
            ChildSpec(name="control", factory=control, mailbox_max=MAILBOX_MAX),
            ChildSpec(name="inbox", factory=partial(Inbox, config.root)),
            ChildSpec(name="history", factory=partial(HistoryActor, output, config.retention_s)),
            ChildSpec(
                name="carrying",
                factory=partial(CarryingActor, config.state_dir, nodes, config.retention_s),
            ),
        ),
    )
