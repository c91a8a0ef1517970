"""A very small node for test_keeper.py: a keeper, a core that takes commands, a surviving host.

`python keeper_node.py FOLDER [--adopt PID --link FD]`. Keeper, core and host write their pids to
FOLDER/keeper, FOLDER/core and FOLDER/hosted. A file FOLDER/do.N holds a command for the core:
`pid` (answered in FOLDER/done.N by the host's pid) or `escalate`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec

from leoronic.core.tree import ChildSpec, SupervisorSpec
from leoronic.errors import ActorGone
from leoronic.runtime.actor import Actor
from leoronic.runtime.host import run_host
from leoronic.runtime.keeper import ESCALATED, Adopt, keep
from leoronic.runtime.keeper_link import ForkLauncher, KeeperLink
from leoronic.runtime.loop import run
from leoronic.runtime.supervisor import Tree


class Pid(msgspec.Struct, tag=True):
    """Asks for the process id of the host."""


class Hosted(Actor):
    """The actor in the host process."""

    takes = Pid
    gives = int

    async def handle(self, message: Any) -> int:
        """Its process id."""
        return os.getpid()


def host(host: dict[str, Any]) -> int:
    """What the keeper runs in a host it forked."""
    return run_host(Hosted, host)


def tree(folder: Path, link: KeeperLink) -> Tree:
    """One hosted actor."""
    hosted = ChildSpec(
        name="hosted",
        factory="host",
        host="process",
        socket=str(folder / "host.sock"),
        takes=Hosted.takes,
        gives=Hosted.gives,
        survives=True,
    )
    spec = SupervisorSpec(name="root", children=(hosted,))
    return Tree(spec, launcher=ForkLauncher(link))


def write(path: Path, text: object) -> None:
    """Whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(str(text))
    new.rename(path)


async def core(folder: Path, fd: int) -> int:
    """Run the tree until TERM or `escalate`."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    link = KeeperLink(fd, [sys.executable, __file__, str(folder)])
    link.open()
    actors = tree(folder, link)
    await actors.start()
    write(folder / "hosted", await actors.find("hosted").call(Pid()))
    write(folder / "core", os.getpid())
    code = 0
    while not stop.is_set():
        try:
            async with asyncio.timeout(0.02):
                await stop.wait()
        except TimeoutError:
            for command in folder.glob("do.?"):
                if command.read_text() == "escalate":
                    code = ESCALATED
                    stop.set()
                else:
                    try:
                        pid = await actors.find("hosted").call(Pid())
                    except ActorGone:
                        continue  # It is being restarted: asked again soon.
                    write(folder / f"done{command.suffix}", pid)
                command.unlink()
    await actors.stop(survivors=True)
    link.close()
    return code


def main() -> int:
    """The keeper."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--adopt", type=int)
    parser.add_argument("--link", type=int)
    options = parser.parse_args()
    write(options.folder / "keeper", os.getpid())
    return keep(
        lambda fd: run(lambda: core(options.folder, fd)),
        {"host": host},
        adopt=Adopt(options.adopt, options.link) if options.adopt else None,
        intensity=2,
    )


if __name__ == "__main__":
    sys.exit(main())
