"""A process with the connections of one node, for tests that are unkind to its port.

Started with the path of a cookie file; prints the port. It answers each Probe.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from leoronic.actors.peers import PeersActor
from leoronic.core.outbound import Outbound
from leoronic.core.peer import Probe, ProbeAnswer
from leoronic.core.tree import ChildSpec, SupervisorSpec
from leoronic.core.view import About
from leoronic.logs import configure_logs
from leoronic.runtime.actor import Actor
from leoronic.runtime.loop import run
from leoronic.runtime.supervisor import Tree

NODE = "victim"


class Answering(Actor):
    """Stands for membership, and answers probes; takes and forgets all else."""

    async def handle(self, message: Any) -> None:
        """Take one."""
        if isinstance(message, Probe):
            answer = ProbeAnswer(NODE, target=message.target)
            await self.context.find("peers").cast(Outbound(message.node, answer))


async def _main() -> None:
    def peers() -> PeersActor:
        return PeersActor(
            node=lambda: NODE,
            about=lambda: About(name=NODE, version="1", life=1),
            cookies=Path(sys.argv[1]),
            host="127.0.0.1",
            port=0,
            on_copied=lambda reason: None,
            on_rejoin=lambda reason: None,
            on_listening=lambda port: print(port, flush=True),
        )

    takers = ("membership", "replication", "scheduler", "runner", "questions")
    children = [ChildSpec(name=name, factory=Answering) for name in takers]
    # The first crash ends it, so that the test sees it.
    spec = SupervisorSpec(
        name="node", children=(*children, ChildSpec(name="peers", factory=peers)), intensity=0
    )
    tree = Tree(spec)
    await tree.start()
    await tree.wait()


if __name__ == "__main__":
    configure_logs(NODE, "json")
    run(_main)
