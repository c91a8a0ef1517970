"""The tree of actors of a ghost, as data.

ghost
├── work (rest for one)
│   ├── journal          what its clairvoyant writes for it
│   ├── link (rest for one)
│   │   └── membership (whom it has as its clairvoyant), wire (the connections), peers
│   └── tasks (rest for one)
│       └── runner (the executor), runner_host (the runner process)
└── doors (one for one)
    └── file_store, questions, looking (for nodes)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from leoronic.actors.file_work import FileWork
from leoronic.actors.runner import ExecutorActor
from leoronic.core.run import FromRunner, ToRunner
from leoronic.core.tree import ChildSpec, SupervisorSpec
from leoronic.ghost.files import GhostFiles
from leoronic.ghost.itself import GhostItself
from leoronic.ghost.journal import JournalStandIn
from leoronic.ghost.link import LinkActor, LinkDoor
from leoronic.ghost.looking import Looking
from leoronic.ghost.questions import GhostQuestions
from leoronic.ghost.wire import WireActor

MAILBOX_MAX = 16384


def ghost_tree(itself: GhostItself, stopping: Callable[[], bool]) -> SupervisorSpec:
    """All actors of a ghost. `stopping`: whether it will end by itself."""
    journal = partial(JournalStandIn, itself.node)
    work = SupervisorSpec(
        name="work",
        strategy="rest_for_one",
        children=(
            ChildSpec(name="journal", factory=journal, mailbox_max=MAILBOX_MAX),
            _link(itself),
            _tasks(itself),
        ),
    )
    machine = itself.config.machine
    questions = partial(GhostQuestions, itself.node, machine.name, machine.output_dir, stopping)
    files = partial(GhostFiles, itself, FileWork())
    looking = partial(
        Looking,
        machine.state_dir / "clairvoyants.json",
        itself.token.cluster,
        named=(*itself.config.given, *machine.peers),
        local_network=machine.discovery and not itself.config.given,
        patient=itself.config.is_number,
    )
    doors = SupervisorSpec(
        name="doors",
        children=(
            ChildSpec(name="file_store", factory=files, mailbox_max=MAILBOX_MAX),
            ChildSpec(name="questions", factory=questions),
            ChildSpec(name="looking", factory=looking),
        ),
    )
    return SupervisorSpec(name="ghost", children=(work, doors))


def _link(itself: GhostItself) -> SupervisorSpec:
    link = partial(LinkActor, itself.node, itself.about, itself.config.wanted)
    return SupervisorSpec(
        name="link",
        strategy="rest_for_one",
        children=(
            ChildSpec(name="membership", factory=link, mailbox_max=MAILBOX_MAX),
            ChildSpec(
                name="wire",
                factory=partial(WireActor, itself.standing),
                mailbox_max=MAILBOX_MAX,
            ),
            ChildSpec(name="peers", factory=LinkDoor, mailbox_max=MAILBOX_MAX),
        ),
    )


def _tasks(itself: GhostItself) -> SupervisorSpec:
    machine = itself.config.machine
    executor = partial(
        ExecutorActor,
        lambda: itself.node,
        machine.name,
        machine.root,
        itself.capacity,
        machine.tags,
        ghost=True,
    )
    return SupervisorSpec(
        name="tasks",
        strategy="rest_for_one",
        children=(
            ChildSpec(name="runner", factory=executor, mailbox_max=MAILBOX_MAX),
            ChildSpec(
                name="runner_host",
                factory="runner",
                host="process",
                socket=str(machine.state_dir / "runner.sock"),
                takes=ToRunner,
                gives=FromRunner,
                owner="runner",
                survives=True,
                shutdown_s=15.0,
            ),
        ),
    )
