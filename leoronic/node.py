"""The composition root: which actors a node runs, as data, and how its processes begin and end.

keeper   this program; watches over the core and forks host processes (runtime/keeper.py)
core     the supervised actors below, on one event loop
runner   a host process: the running tasks; outlives the core
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from leoronic import __version__
from leoronic.actors.carrying import begin_anew, note_begin_anew
from leoronic.actors.node_answers import NodeInfo
from leoronic.actors.nodes import Nodes
from leoronic.actors.runner import measure_capacity
from leoronic.children import node_tree
from leoronic.config import Config, environment, forget_cookie, given_cookie, read_config
from leoronic.core.executor_messages import Abandon, SetDraining, WaitIdle
from leoronic.core.membership_messages import Leave
from leoronic.core.quantity import format_duration, format_size
from leoronic.errors import BadRequest, Unavailable
from leoronic.itself import Itself
from leoronic.logs import configure_logs, logs_are_text
from leoronic.runner.actor import RunnerActor
from leoronic.runner.config import RunnerConfig
from leoronic.runtime.host import run_host
from leoronic.runtime.keeper import ESCALATED, Adopt, keep, print_on_stderr
from leoronic.runtime.keeper_link import ForkLauncher, KeeperLink
from leoronic.runtime.log import get_logger
from leoronic.runtime.loop import run
from leoronic.runtime.memory import give_back, one_arena
from leoronic.runtime.supervisor import Escalated, StartFailed, Tree
from leoronic.wire.cookie import keep_cookie

READY = "ready"
SWITCH_S = 0.0005
ASK_AGAIN_S = 0.05
SETTLED_S = 2.0
# Any code but those of `runtime/keeper.py`: it starts the core again.
ANEW = 75


def main(arguments: Sequence[str]) -> int:
    """`leoronic [start] ...`: run a node until it is stopped; returns the exit code."""
    arguments = list(arguments)
    adopt, lock = _adoption(arguments)
    try:
        config = read_config(arguments, environment())
        if lock is None:
            lock = _lock(config)
            # Only now: a node that is adopted has it, and its file or stdin may be gone.
            keep_cookie(config.cookie_path, given_cookie(config))
    except BadRequest as error:
        print(f"leoronic: {error.message}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"leoronic: {error.strerror}: {error.filename}", file=sys.stderr)
        return 1
    forget_cookie()
    configure_logs(config.name, config.log_format)
    return keep(
        partial(_core_main, config, arguments, lock),
        {"runner": partial(_runner_main, config)},
        core_fds=(lock,),
        adopt=adopt,
        tell=partial(_tell, config),
    )


def _tell(config: Config, line: str, story: list[str]) -> None:
    """Tell people what they must know, as the rest of stderr is told."""
    if logs_are_text(config.log_format):
        print_on_stderr(line, story)
    else:
        get_logger().critical(line, **({"story": story} if story else {}))


def _adoption(arguments: list[str]) -> tuple[Adopt | None, int | None]:
    """What a replaced keeper is told (see `KeeperLink`), taken out of `arguments`."""
    told: dict[str, int] = {}
    for option in ("--adopt", "--link", "--lock"):
        if option in arguments:
            at = arguments.index(option)
            told[option] = int(arguments[at + 1])
            del arguments[at : at + 2]
    if "--adopt" not in told:
        return None, None
    return Adopt(told["--adopt"], told["--link"]), told["--lock"]


def _lock(config: Config) -> int:
    """Make the folders and take the node's lock; raises `BadRequest` if another node has it."""
    config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = config.state_dir / "lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(lock, 20).decode(errors="replace").split("\n")[0]
        raise BadRequest(
            f"a node runs in {config.root} already (process {pid}); "
            "start this one elsewhere with --root DIR"
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def _runner_main(config: Config, host: dict[str, Any]) -> int:
    """A forked host process: the runner."""
    os.chdir("/")
    one_arena()
    settings = RunnerConfig(config.root, config.state_dir, config.output_dir)
    return run_host(partial(RunnerActor, settings), host)


def _core_main(config: Config, arguments: list[str], lock: int, link: int) -> int:
    """A forked process: the core."""
    # The journal's thread needs the interpreter for moments only: let it have them soon.
    sys.setswitchinterval(SWITCH_S)
    # A million queued tasks are a million objects that live long: look at them seldom.
    gc.set_threshold(100_000, 20, 100)
    one_arena()
    return run(Core(config, arguments, lock, link).run)


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
        self._stop_asked: asyncio.Event
        self._stop_now: asyncio.Event
        self._anew: asyncio.Event
        safe = ["-P"] if sys.flags.safe_path else []
        command = [sys.executable, *safe, "-m", "leoronic", *arguments, "--lock", str(lock)]
        self._link = KeeperLink(link, command, pass_fds=(lock,))
        self._log = get_logger(actor="core")

    async def run(self) -> int:
        """Start everything, serve until stopped; returns the exit code."""
        self._stop_asked, self._stop_now = asyncio.Event(), asyncio.Event()
        self._anew = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop, False)
        self._link.open()
        told = begin_anew(self._config.state_dir, time.time() - self._config.retention_s)
        if told:
            self._log.error("this node has begun anew", why=told)
        nodes = Nodes(lambda: self._itself.node, self._config.name)
        spec = node_tree(self._itself, self._info(), nodes, self._begin_anew)
        tree = Tree(spec, launcher=ForkLauncher(self._link))
        self._tree = tree
        _clean_sockets(self._config.state_dir)
        try:
            await tree.start()
        except StartFailed as error:
            # What a person can mend says so itself; for the rest it matters where it was.
            cause = error.__cause__
            told = cause.message if isinstance(cause, BadRequest) else error.message
            _tell(self._config, f"cannot start: {told}", [])
            return ESCALATED
        self._announce()
        asyncio.get_running_loop().call_later(SETTLED_S, give_back)
        try:
            await self._serve(tree)
        except Escalated as error:
            hint = "tasks that run go on; a new start takes them back"
            _tell(self._config, f"the node gives up: {error.message}; {hint}", error.story)
            return ESCALATED
        if self._anew.is_set():
            await tree.stop(survivors=False)
            self._link.close()
            return ANEW
        # Said while the connections are there, it spares the others from finding out.
        await tree.find("membership").cast(Leave())
        await tree.stop(survivors=True)
        self._link.close()
        self._log.info("stopped")
        return 0

    def stop(self, now: bool) -> None:
        """Drain, then stop; the second time, or with `now`, at once."""
        if now or self._stop_asked.is_set():
            self._stop_now.set()
        self._stop_asked.set()

    def _is_stopping(self) -> bool:
        return self._stop_asked.is_set()

    async def _serve(self, tree: Tree) -> None:
        failed = asyncio.ensure_future(tree.wait())
        stopping = asyncio.ensure_future(self._drained(tree))
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

    async def _drained(self, tree: Tree) -> None:
        """Wait until a stop was asked for and nothing runs any more (or it is to be now)."""
        await self._stop_asked.wait()
        executor = tree.find("runner")
        now = asyncio.ensure_future(self._stop_now.wait())
        idle = asyncio.ensure_future(self._idle(tree))
        self._log.info("draining", hint="a second TERM (ctrl-C) stops at once")
        await asyncio.wait([now, idle], return_when=asyncio.FIRST_COMPLETED)
        now.cancel()
        idle.cancel()
        # From here on the runner is being ended: what it reports are not outcomes.
        await executor.cast(Abandon())

    async def _idle(self, tree: Tree) -> None:
        executor = tree.find("runner")
        while True:
            try:
                await executor.call(SetDraining(True), timeout_s=10.0)
                await executor.call(WaitIdle(), timeout_s=3600.0)
            except Unavailable:
                # It is being restarted (let that happen), or there is still something running.
                await asyncio.sleep(ASK_AGAIN_S)
                continue
            return

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

    def _begin_anew(self, reason: str) -> None:
        """End this life; the next one, in a moment, has a new identity and an empty journal."""
        self._log.error("this node begins anew", reason=reason)
        note_begin_anew(self._config.state_dir, reason)
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
