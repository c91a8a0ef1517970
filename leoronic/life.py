"""One life of the core: its tree of actors, from start to stop.

Imported in the core's own process: keeper and runner need nothing of all this, and an old machine
has little memory.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from leoronic import __version__
from leoronic.actors.carrying import begin_anew, note_begin_anew
from leoronic.actors.node_answers import NodeInfo
from leoronic.actors.nodes import Nodes
from leoronic.actors.runner import measure_capacity
from leoronic.children import node_tree
from leoronic.config import Config, environment
from leoronic.core.membership_messages import Leave
from leoronic.core.quantity import format_duration, format_size
from leoronic.errors import BadRequest
from leoronic.itself import Itself
from leoronic.logs import tell
from leoronic.runtime.keeper import AGAIN, ESCALATED
from leoronic.runtime.keeper_link import ForkLauncher, KeeperLink
from leoronic.runtime.log import get_logger
from leoronic.runtime.memory import give_back
from leoronic.runtime.supervisor import Escalated, StartFailed, Supervisor, Tree
from leoronic.stopping import Stopping

READY = "ready"
SETTLED_S = 2.0
ANEW_AGAIN_S = 30.0


class Core:
    """The core of one node: its tree of actors, from start to stop."""

    def __init__(self, config: Config, arguments: list[str], lock: int, link: int) -> None:
        self._config = config
        self._lock = lock
        self._started_at = time.time()
        self._itself = Itself(
            config,
            partial(
                measure_capacity,
                config.root,
                config.cpus,
                config.memory,
                config.storage,
                dict(config.resources),
            ),
        )
        self._stopping: Stopping
        self._anew: asyncio.Event
        self._anew_reason = ""
        safe = ["-P"] if sys.flags.safe_path else []
        command = [sys.executable, *safe, "-m", "leoronic", *arguments, "--lock", str(lock)]
        self._link = KeeperLink(link, command, pass_fds=(lock,))
        self._log = get_logger(actor="core")

    async def run(self) -> int:
        """Start everything, serve until stopped; returns the exit code."""
        self._stopping = Stopping(self._log)
        self._anew = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop, False)
        self._link.open()
        told = begin_anew(self._config.state_dir, time.time() - self._config.retention_s)
        if told:
            self._log.warning("this node has begun anew", why=told)
        nodes = Nodes(lambda: self._itself.node, self._config.name)
        spec = node_tree(
            self._itself,
            self._info(),
            nodes,
            self._begin_anew,
            self._supervisor,
        )
        tree = Tree(spec, launcher=ForkLauncher(self._link))
        self._tree = tree
        _clean_sockets(self._config.state_dir)
        try:
            await tree.start()
        except StartFailed as error:
            # What a person can mend says so itself; for the rest it matters where it was.
            cause = error.__cause__
            told = cause.message if isinstance(cause, BadRequest) else error.message
            tell(self._config.log_format, f"cannot start: {told}", [])
            return ESCALATED
        self._announce()
        asyncio.get_running_loop().call_later(SETTLED_S, give_back)
        try:
            await self._serve(tree)
        except Escalated as error:
            hint = "tasks that run go on; a new start takes them back"
            tell(
                self._config.log_format, f"the node gives up: {error.message}; {hint}", error.story
            )
            return ESCALATED
        if self._anew.is_set():
            await tree.stop(survivors=False)
            self._link.close()
            return AGAIN
        # Said while the connections are there, it spares the others from finding out.
        await tree.find("membership").cast(Leave())
        await tree.stop(survivors=True)
        self._link.close()
        self._log.info("stopped")
        return 0

    def stop(self, now: bool) -> None:
        """Drain, then stop; the second time, or with `now`, at once."""
        self._stopping.ask(now)

    def _is_stopping(self) -> bool:
        return self._stopping.asked

    async def _serve(self, tree: Tree) -> None:
        failed = asyncio.ensure_future(tree.wait())
        stopping = asyncio.ensure_future(self._stopping.wait_drained(tree))
        anew = asyncio.ensure_future(self._anew.wait())
        try:
            await asyncio.wait([failed, stopping, anew], return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                await failed
            elif stopping.done():
                await stopping
        finally:
            failed.cancel()
            stopping.cancel()
            anew.cancel()

    def _info(self) -> NodeInfo:
        return NodeInfo(
            id=lambda: self._itself.node,
            name=self._config.name,
            root=self._config.root,
            started_at=self._started_at,
            statistics=lambda: [dict(line) for line in self._tree.statistics()],
            stop=self.stop,
            stopping=self._is_stopping,
            debug=environment().get("LEORONIC_DEBUG") == "1",
        )

    def _supervisor(self, name: str) -> Supervisor:
        return self._tree.supervisor(name)

    def _begin_anew(self, reason: str) -> None:
        """End this life; the next one, in a moment, has a new identity and an empty journal."""
        if self._anew_reason:
            return  # More than one of the others may say so.
        self._anew_reason = reason
        self._log.warning("this node begins anew", reason=reason)
        self._order_anew()

    def _order_anew(self) -> None:
        try:
            note_begin_anew(self._config.state_dir, self._anew_reason)
        except OSError as error:
            # On a full disk, say: nothing is given up before the order to do so is safe.
            self._log.error("cannot begin anew yet", reason=str(error), again_s=ANEW_AGAIN_S)
            loop = asyncio.get_running_loop()
            loop.call_later(ANEW_AGAIN_S, self._order_anew)
            return
        self._anew.set()

    # ---- telling ----

    def _announce(self) -> None:
        """At the first start what people want to know; a core that was restarted only logs."""
        if os.pread(self._lock, 100, 0).decode().endswith(READY + "\n"):
            self._log.info("core restarted", id=self._itself.node)
            return
        os.lseek(self._lock, 0, os.SEEK_END)
        os.write(self._lock, (READY + "\n").encode())
        facts = self._facts()
        # A block for a terminal; without one it would be in the way of `2>&1 | jq`.
        if sys.stdout.isatty():
            self._log.info("ready", id=self._itself.node)
            print("\n".join(f"{key:>8}  {value}" for key, value in facts.items()), flush=True)
        else:
            self._log.info("ready", id=self._itself.node, **facts)

    def _facts(self) -> dict[str, str]:
        config = self._config
        capacity = self._itself.capacity()
        others = f", looks for {', '.join(config.peers)}" if config.peers else ""
        found = "finds others in the local network" if config.discovery else "no discovery"
        return {
            "name": f"{config.name} ({self._itself.node}), leoronic {__version__}",
            "offers": f"{capacity.cpus_milli / 1000:g} cpus, {format_size(capacity.memory)} of "
            f"memory, {format_size(capacity.storage)} of storage",
            "folder": str(config.root),
            "port": f"{self._itself.port} at {_place(config.listen_host)}",
            "peers": f"{found}{others}; `leoronic join` shows how another machine joins",
            "inbox": f"{config.inbox}  (drop *.json here)",
            "history": f"kept for {format_duration(config.retention_s)}",
        }


def _place(host: str) -> str:
    return "all addresses" if host in ("::", "0.0.0.0") else host


def _clean_sockets(state_dir: Path) -> None:
    """Remove the control socket of a core that was killed; the lock says that it is ours."""
    (state_dir / "control.sock").unlink(missing_ok=True)
