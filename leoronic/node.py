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
from leoronic.actors.answers import NodeInfo
from leoronic.actors.control import ControlActor
from leoronic.actors.history import HistoryActor
from leoronic.actors.inbox import Inbox
from leoronic.actors.journal import JournalActor
from leoronic.actors.machines import QueueActor, SchedulerActor
from leoronic.actors.runner import ExecutorActor, measure_capacity
from leoronic.config import Config, environment, read_config
from leoronic.core.executor_messages import Abandon, SetDraining, WaitIdle
from leoronic.core.quantity import format_duration, format_size
from leoronic.core.run import FromRunner, ToRunner
from leoronic.core.tree import ChildSpec, SupervisorSpec
from leoronic.errors import BadRequest, Unavailable
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

READY = "ready"
SWITCH_S = 0.0005
ASK_AGAIN_S = 0.05
SETTLED_S = 2.0


def main(arguments: Sequence[str]) -> int:
    """`leoronic [start] ...`: run a node until it is stopped; returns the exit code."""
    arguments = list(arguments)
    adopt, lock = _adoption(arguments)
    try:
        config = read_config(arguments, environment())
        if lock is None:
            lock = _lock(config)
    except BadRequest as error:
        print(f"leoronic: {error.message}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"leoronic: {error.strerror}: {error.filename}", file=sys.stderr)
        return 1
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
        self._node = ""
        self._first_start = not (config.state_dir / "node").exists()
        self._stop_asked: asyncio.Event
        self._stop_now: asyncio.Event
        safe = ["-P"] if sys.flags.safe_path else []
        command = [sys.executable, *safe, "-m", "leoronic", *arguments, "--lock", str(lock)]
        self._link = KeeperLink(link, command, pass_fds=(lock,))
        self._log = get_logger(actor="core")

    async def run(self) -> int:
        """Start everything, serve until stopped; returns the exit code."""
        self._stop_asked, self._stop_now = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.stop, False)
        self._link.open()
        tree = Tree(self._tree_spec(), launcher=ForkLauncher(self._link))
        self._tree = tree
        _clean_sockets(self._config.state_dir)
        try:
            await tree.start()
        except StartFailed as error:
            _tell(self._config, f"cannot start: {error.message}", [])
            return ESCALATED
        self._announce()
        asyncio.get_running_loop().call_later(SETTLED_S, give_back)
        try:
            await self._serve(tree)
        except Escalated as error:
            hint = "tasks that run go on; a new start takes them back"
            _tell(self._config, f"the node gives up: {error.message}; {hint}", error.story)
            return ESCALATED
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
        try:
            await asyncio.wait([failed, stopping], return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                await failed
            else:
                await stopping
        finally:
            failed.cancel()
            stopping.cancel()

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

    # ---- the tree ----

    def _tree_spec(self) -> SupervisorSpec:
        config = self._config
        capacity = partial(
            measure_capacity,
            config.root,
            config.cpus,
            config.memory,
            config.storage,
            dict(config.resources),
        )
        journal = partial(
            JournalActor,
            config.state_dir / "leoronic.db",
            first_start=self._first_start,
            on_node=self._set_node,
        )
        executor = partial(
            ExecutorActor, lambda: self._node, config.name, config.root, capacity, config.tags
        )
        runner_host = ChildSpec(
            name="runner_host",
            factory="runner",
            host="process",
            socket=str(config.state_dir / "runner.sock"),
            takes=ToRunner,
            gives=FromRunner,
            owner="runner",
            survives=True,
            shutdown_s=15.0,
        )
        control = partial(
            ControlActor, config.state_dir / "control.sock", config.output_dir, self._info()
        )
        # rest_for_one: each of these rebuilds its memory from the ones before it.
        work = SupervisorSpec(
            name="work",
            strategy="rest_for_one",
            children=(
                ChildSpec(name="journal", factory=journal, mailbox_max=16384),
                ChildSpec(name="queue", factory=QueueActor, mailbox_max=16384),
                ChildSpec(name="scheduler", factory=SchedulerActor, mailbox_max=16384),
                ChildSpec(name="runner", factory=executor, mailbox_max=16384),
                runner_host,
            ),
        )
        doors = SupervisorSpec(
            name="doors",
            children=(
                ChildSpec(name="control", factory=control, mailbox_max=16384),
                ChildSpec(name="inbox", factory=partial(Inbox, config.root)),
                ChildSpec(
                    name="history",
                    factory=partial(HistoryActor, config.output_dir, config.retention_s),
                ),
            ),
        )
        return SupervisorSpec(name="node", children=(work, doors))

    def _info(self) -> NodeInfo:
        return NodeInfo(
            id=lambda: self._node,
            name=self._config.name,
            root=self._config.root,
            started_at=self._started_at,
            statistics=lambda: [dict(line) for line in self._tree.statistics()],
            stop=self.stop,
            stopping=self._is_stopping,
            debug=environment().get("LEORONIC_DEBUG") == "1",
        )

    def _set_node(self, node: str) -> None:
        self._node = node
        (self._config.state_dir / "node").write_text(node + "\n")
        (self._config.state_dir / "name").write_text(self._config.name + "\n")

    # ---- telling ----

    def _announce(self) -> None:
        """At the first start what people want to know; a core that was restarted only logs."""
        if os.pread(self._lock, 100, 0).decode().endswith(READY + "\n"):
            self._log.info("core restarted", id=self._node)
            return
        os.lseek(self._lock, 0, os.SEEK_END)
        os.write(self._lock, (READY + "\n").encode())
        facts = self._facts()
        # A block for a terminal; without one it would be in the way of `2>&1 | jq`.
        if sys.stdout.isatty():
            self._log.info("ready", id=self._node)
            print("\n".join(f"{key:>8}  {value}" for key, value in facts.items()), flush=True)
        else:
            self._log.info("ready", id=self._node, **facts)

    def _facts(self) -> dict[str, str]:
        config = self._config
        capacity = measure_capacity(
            config.root, config.cpus, config.memory, config.storage, dict(config.resources)
        )
        return {
            "name": f"{config.name} ({self._node}), leoronic {__version__}",
            "offers": f"{capacity.cpus_milli / 1000:g} cpus, {format_size(capacity.memory)} of "
            f"memory, {format_size(capacity.storage)} of storage",
            "folder": str(config.root),
            "inbox": f"{config.inbox}  (drop *.json here)",
            "history": f"kept for {format_duration(config.retention_s)}",
        }


def _clean_sockets(state_dir: Path) -> None:
    """Remove the control socket of a core that was killed; the lock says that it is ours."""
    (state_dir / "control.sock").unlink(missing_ok=True)
