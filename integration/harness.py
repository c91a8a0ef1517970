"""A real node for tests: real processes in a folder of their own, with a deadline for everything.

Every process of a node, and every task it runs, carries a mark in its environment: whatever a test
does, `Node.close` finds them all and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from leoronic.client import Client
from leoronic.core import commands
from leoronic.errors import LeoronicError

REPOSITORY = Path(__file__).resolve().parents[1]
DEADLINE_S = 20.0
ENDED = ("succeeded", "failed", "cancelled")
STATES = (*ENDED, "waiting", "blocked", "held", "running")
MARK = "INTEGRATION_NODE"
# Nodes are compiled once, as where they are installed, whatever this process does with its own.
NOT_PASSED = ("LEORONIC", "PYTHONDONTWRITEBYTECODE")
BYTECODE = Path(tempfile.gettempdir()) / f"leoronic-bytecode-{os.getuid()}"

T = TypeVar("T")


def wait_until(
    look: Callable[[], T],
    what: str,
    *,
    within_s: float = DEADLINE_S,
    poll_s: float = 0.01,
    story: Callable[[], object] | None = None,
) -> T:
    """Look again and again until it is true, and return it.

    What `look` raises of a node's errors counts as not yet. Gives up after `within_s` seconds,
    and then says the last thing it saw.
    """
    deadline = time.monotonic() + within_s
    seen: object = None
    while True:
        try:
            found = look()
            seen = found
            if found:
                return found
        except (LeoronicError, OSError) as error:
            seen = f"{type(error).__name__}: {error}"
        if time.monotonic() > deadline:
            more = f"\n{story()}" if story is not None else ""
            raise AssertionError(f"not within {within_s:g} s: {what}; last seen: {seen!r}{more}")
        time.sleep(poll_s)


def alive(pid: int) -> bool:
    """Whether that process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def kill(*pids: int) -> None:
    """`kill -9` each, as nearly at once as can be, and wait until they are dead."""
    # 0 and -1 would mean the test's own group, and everything.
    assert all(pid > 1 for pid in pids), f"not processes to kill: {pids}"
    held = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            held.append(os.pidfd_open(pid))
    # Stopped first, none can react to the death of another.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pidfd in held:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)
    for pid, pidfd in zip(pids, held, strict=False):
        # A zombie may have threads that still hold its sockets; this tells of the last one's end.
        assert select.select([pidfd], [], [], DEADLINE_S)[0], f"process {pid} does not die"
        os.close(pidfd)


def proportional(pids: Sequence[int]) -> int:
    """Memory of these processes together, in bytes, shared pages counted once (PSS)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


class Node:
    """One node in `root`. `options` are added to its command, `environment` to its own.

    `prefix` goes before the command: `("setpriv", ...)` starts it as somebody else. It looks for
    others by itself only with `discovery`.
    """

    def __init__(
        self,
        root: Path,
        *options: str,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        listen: str = "127.0.0.1:0",
        discovery: bool = False,
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.options = [*options, "--listen", listen, *(() if discovery else ("--no-discovery",))]
        self.state = root / ".leoronic"
        self.database = self.state / "leoronic.db"
        self.inbox = root / "inbox"
        self.stdout = root.with_name(root.name + ".out")
        self.stderr = root.with_name(root.name + ".err")
        self.mark = f"{MARK}={uuid.uuid4().hex}"
        self.prefix = list(prefix)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(NOT_PASSED)},
            "PYTHONPYCACHEPREFIX": str(BYTECODE),
            "PYTHONPATH": str(REPOSITORY),
            MARK: self.mark.partition("=")[2],
            **(environment or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None

    # ---- starting and stopping ----

    def spawn(self, *options: str) -> subprocess.Popen[bytes]:
        """Run the node's command, and wait for nothing."""
        with self.stdout.open("ab") as out, self.stderr.open("ab") as err:
            return subprocess.Popen(
                [
                    *self.prefix,
                    *(sys.executable, "-m", "leoronic", "start", "--root", str(self.root)),
                    *self.options,
                    *options,
                ],
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def start(self, *options: str) -> float:
        """Start it, and wait until it answers; how long that took, in seconds."""
        began = time.monotonic()
        self.process = self.spawn(*options)
        self.wait_ready()
        return time.monotonic() - began

    def wait_ready(self, within_s: float = DEADLINE_S) -> None:
        """Wait until it answers."""
        wait_until(self.answers, "the node answers", within_s=within_s, story=self.tail)

    def answers(self) -> bool:
        """Whether it does. Raises AssertionError if it has ended."""
        code = self.process.poll() if self.process is not None else None
        # A keeper that was killed leaves a node that goes on.
        assert code in (None, -signal.SIGKILL), f"the node ended with {code}: {self.tail()}"
        return bool(self.status()["node"]["id"])

    def terminate(self) -> None:
        """TERM, as `systemctl stop` or ctrl-C would."""
        keeper = self.keeper_pid()
        os.kill(keeper, signal.SIGTERM)

    def wait_stopped(self, within_s: float = DEADLINE_S) -> int:
        """The exit code of the command that started it, once no process of the node is left."""
        assert self.process is not None
        code = self.process.wait(within_s)
        wait_until(lambda: not self.pids(), "the end of all processes", story=self.tail)
        return code

    def stop(self) -> int:
        """Stop it now, in order; its exit code."""
        with contextlib.suppress(LeoronicError):
            self.ask(commands.Stop(now=True))
        return self.wait_stopped()

    def kill_all(self) -> None:
        """`kill -9` of keeper, core and runner at once: as near to a power cut as it gets."""
        kill(*self.pids())
        if self.process is not None:
            self.process.wait()

    def close(self) -> None:
        """End everything that belongs to it, whatever state it is in."""
        for _ in range(20):
            marked = self._marked()
            if not marked:
                break
            # The node first: it would start again what is killed.
            kill(*(self.pids() or marked))
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    # ---- its processes ----

    def pids(self) -> list[int]:
        """All its own processes: keepers, cores, runners. Not its tasks."""
        found = []
        for pid in self._marked():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if b"leoronic" in words and os.fsencode(self.root) in words:
                    found.append(pid)
        return found

    def _marked(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if self.mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
        return [pid for pid in found if alive(pid)]

    def _listener(self, name: str) -> int:
        """The process that listens on the socket of that name; 0 if there is none."""
        # Ends of its connections have the same path, and are in the same process.
        for pid in self.pids():
            with contextlib.suppress(OSError):
                # Its own list: a node may live in a network namespace.
                rows = Path(f"/proc/{pid}/net/unix").read_text(errors="replace").splitlines()[1:]
                sockets = {
                    f"socket:[{row.split()[6]}]"
                    for row in rows
                    if row.rstrip("\n").endswith(f"/{name}")
                }
                for entry in Path(f"/proc/{pid}/fd").iterdir():
                    with contextlib.suppress(FileNotFoundError):
                        if os.readlink(entry) in sockets:  # noqa: PTH115 - no path
                            return pid
        return 0

    def core_pid(self) -> int:
        """Its core."""
        return wait_until(lambda: self._listener("control.sock"), "a core", story=self.tail)

    def runner_pid(self) -> int:
        """Its runner."""
        return wait_until(lambda: self._listener("runner.sock"), "a runner", story=self.tail)

    def keeper_pid(self) -> int:
        """Its keeper: the one that is neither."""

        def keepers() -> list[int]:
            return [p for p in self.pids() if p not in (self.core_pid(), self.runner_pid())]

        return wait_until(lambda: len(keepers()) == 1 and keepers(), "one keeper")[0]

    def memory(self) -> int:
        """Bytes of memory of all its processes together (PSS)."""
        return proportional(self.pids())

    # ---- talking to it ----

    def client(self, timeout_s: float = DEADLINE_S) -> Client:
        """A connection."""
        return Client(str(self.root), timeout_s=timeout_s)

    def ask(self, command: Any, blob: bytes = b"") -> Any:
        """One request on a connection of its own."""
        with self.client() as client:
            return client.request(command, blob)

    def submit(self, *tasks: Any) -> list[str]:
        """Add tasks: commands as texts, or objects. Returns their ids."""
        objects = [{"command": task} if isinstance(task, str) else task for task in tasks]
        found: list[str] = []
        for start in range(0, len(objects), 10_000):
            blob = json.dumps(objects[start : start + 10_000]).encode()
            found += self.ask(commands.Submit(), blob)["ids"]
        return found

    def show(self, task: str) -> dict[str, Any]:
        """The task object."""
        found: dict[str, Any] = self.ask(commands.Show(task))
        return found

    def status(self) -> dict[str, Any]:
        """The status object."""
        found: dict[str, Any] = self.ask(commands.Status())
        return found

    def ask_state(self) -> str:
        """`up` or `draining`: its own."""
        return self.states()[self.status()["node"]["name"]]

    def states(self) -> dict[str, str]:
        """Name -> state of all nodes, as this one sees them."""
        return {node["name"]: node["state"] for node in self.ask(commands.Nodes())["nodes"]}

    def counts(self) -> dict[str, int]:
        """State -> tasks in it, those with any."""
        return {state: count for state, count in self.status()["tasks"].items() if count}

    def wait(self, *tasks: str, within_s: float = DEADLINE_S) -> list[dict[str, Any]]:
        """The task objects, once all have ended (or are blocked)."""
        if not tasks:
            return []
        with self.client() as client:
            stream = client.stream(commands.Wait(list(tasks), within_s))
            for _ in stream:
                pass
        assert not stream.result["timed_out"], [
            (task["id"], task["state"], task["reason"])
            for task in stream.result["tasks"]
            if task["state"] not in ENDED
        ][:20]
        found: list[dict[str, Any]] = stream.result["tasks"]
        return found

    def run(self, task: Any, within_s: float = DEADLINE_S) -> dict[str, Any]:
        """Submit one task and wait for its end."""
        [found] = self.wait(*self.submit(task), within_s=within_s)
        return found

    def wait_state(self, task: str, *states: str, within_s: float = DEADLINE_S) -> dict[str, Any]:
        """The task object, once it is in one of these states."""
        shown: dict[str, Any] = {}

        def look() -> bool:
            shown.update(self.show(task))
            return shown["state"] in states

        wait_until(look, f"{task} is {states}", within_s=within_s, story=lambda: shown)
        return shown

    def wait_counts(self, within_s: float = DEADLINE_S, **expected: int) -> None:
        """Wait until there are exactly so many tasks in each state."""
        last: dict[str, int] = {}

        def look() -> bool:
            last.clear()
            last.update(self.counts())
            return last == expected

        wait_until(
            look, f"tasks by state {expected}", within_s=within_s, story=lambda: (last, self.tail())
        )

    def parts(self, task: str, stream: str = "stdout", **options: Any) -> Iterator[bytes]:
        """What a task printed, part by part."""
        with self.client() as client:
            for _item, blob in client.stream(commands.Logs(task, stream, **options)):
                yield blob

    def output(self, task: str, stream: str = "stdout", **options: Any) -> bytes:
        """What a task printed."""
        return b"".join(self.parts(task, stream, **options))

    # ---- what it said ----

    def tail(self) -> str:
        """The end of what it printed on stderr."""
        return self.stderr.read_text(errors="replace")[-3000:]

    def events(self) -> list[dict[str, Any]]:
        """Its log, from the first start on."""
        return [json.loads(line) for line in self.stderr.read_bytes().splitlines()]


_numbers = itertools.count(1)


@contextlib.contextmanager
def running(folder: Path, *options: str, **settings: Any) -> Iterator[Node]:
    """A node that runs in a fresh folder below `folder`, and is gone afterwards."""
    node = Node(folder / f"node{next(_numbers)}", *options, **settings)
    try:
        node.start()
        yield node
    finally:
        node.close()
