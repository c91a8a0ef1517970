"""One life of a ghost's core: its tree of actors, from start to stop; see `leoronic/life.py`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from leoronic import __version__
from leoronic.core.ghost_notices import (
    AskLink,
    LeaveNow,
)
from leoronic.core.quantity import format_size
from leoronic.errors import LeoronicError
from leoronic.ghost.children import ghost_tree
from leoronic.ghost.config import GhostConfig
from leoronic.ghost.itself import GhostItself
from leoronic.runtime.keeper import ESCALATED, Tell
from leoronic.runtime.keeper_link import ForkLauncher, KeeperLink
from leoronic.runtime.log import get_logger
from leoronic.runtime.memory import give_back
from leoronic.runtime.supervisor import Escalated, StartFailed, Tree
from leoronic.stopping import Stopping

READY = "ready"
SETTLED_S = 2.0
# So that `Detach` leaves before the connection is closed.
LEFT_S = 0.1
SEARCH_S = 2.0
REASONS_MAX = 64


class GhostCore:
    """The core of one ghost. `link` is its end of the connection with its keeper."""

    def __init__(
        self, config: GhostConfig, arguments: list[str], lock: int, link: int, tell: Tell
    ) -> None:
        self._config = config
        self._lock = lock
        self._tell = tell
        self._itself = GhostItself(config)
        self._stopping: Stopping
        safe = ["-P"] if sys.flags.safe_path else []
        module = "leoronic.ghost"
        command = [sys.executable, *safe, "-m", module, *arguments, "--lock", str(lock)]
        self._link = KeeperLink(link, command, pass_fds=(lock,))
        self._log = get_logger(actor="core")

    async def run(self) -> int:
        """Start everything, serve until stopped; returns the exit code."""
        self._stopping = Stopping(self._log)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stopping.ask, False)
        self._link.open()
        spec = ghost_tree(self._itself, lambda: self._stopping.asked)
        tree = Tree(spec, launcher=ForkLauncher(self._link))
        try:
            await tree.start()
        except StartFailed as error:
            self._tell(f"cannot start: {error.message}", [])
            return ESCALATED
        self._announce()
        loop.call_later(SETTLED_S, give_back)
        search = asyncio.ensure_future(self._tell_search(tree))
        try:
            await self._serve(tree)
        except Escalated as error:
            hint = "tasks that run go on; a new start takes them back"
            self._tell(f"the ghost gives up: {error.message}; {hint}", error.story)
            return ESCALATED
        finally:
            search.cancel()
        await tree.find("membership").cast(LeaveNow("it stops"))
        await asyncio.sleep(LEFT_S)
        await tree.stop(survivors=True)
        self._link.close()
        self._log.info("stopped")
        return 0

    async def _serve(self, tree: Tree) -> None:
        failed = asyncio.ensure_future(tree.wait())
        stopping = asyncio.ensure_future(self._stopping.wait_drained(tree))
        try:
            await asyncio.wait([failed, stopping], return_when=asyncio.FIRST_COMPLETED)
            await (failed if failed.done() else stopping)
        finally:
            failed.cancel()
            stopping.cancel()

    # ---- telling ----

    async def _tell_search(self, tree: Tree) -> None:
        """While no node has taken it: why not, each reason once."""
        said: set[str] = set()
        while len(said) < REASONS_MAX:
            await asyncio.sleep(SEARCH_S)
            try:
                told = await tree.find("membership").call(AskLink())
            except LeoronicError:
                continue
            reason = told["reason"]
            if not told["clairvoyant"] and reason not in said:
                said.add(reason)
                places = told["candidates"]
                self._log.warning("no clairvoyant yet", reason=reason, candidates=places)

    def _announce(self) -> None:
        """At the first start what people want to know; a core that was restarted only logs."""
        if os.pread(self._lock, 100, 0).decode().endswith(READY + "\n"):
            self._log.info("core restarted", id=self._itself.node)
            return
        os.lseek(self._lock, 0, os.SEEK_END)
        os.write(self._lock, (READY + "\n").encode())
        facts = self._facts()
        if sys.stdout.isatty():
            self._log.info("ready", id=self._itself.node)
            print("\n".join(f"{key:>8}  {value}" for key, value in facts.items()), flush=True)
        else:
            self._log.info("ready", id=self._itself.node, **facts)

    def _facts(self) -> dict[str, str]:
        machine = self._config.machine
        capacity = self._itself.capacity()
        asked = {"": "the node of the lowest address"}.get(self._config.wanted)
        number = f"number {self._config.wanted} of the nodes"
        return {
            "name": f"{machine.name} ({self._itself.node}), a ghost, leoronic {__version__}",
            "offers": f"{capacity.cpus_milli / 1000:g} cpus, {format_size(capacity.memory)} of "
            f"memory, {format_size(capacity.storage)} of storage",
            "folder": str(machine.root),
            "asks": asked or (number if self._config.is_number else self._config.wanted),
        }
