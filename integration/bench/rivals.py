"""The rivals: how each does the same work, two tasks at a time, in a folder of its own.

A rival is started once and kept through all rounds. What it cannot do it does not measure.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

from integration.bench import install, machine
from integration.bench.install import Unavailable
from integration.bench.side import Side, ended

HERE = Path(__file__).resolve().parent
TASK_TIMEOUT_S = 120
COMMAND = "echo hi"


class Rival:
    """Something else that runs bash tasks."""

    name: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        """Get it and start it. Raises `Unavailable`."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def measure(self, what: str, count: int) -> list[float]:
        """Seconds of each sample; `what` names a method of the same name, or of its side."""
        found: list[float] = getattr(self, what)(count)
        return found

    def pids(self) -> list[int]:
        """Its processes while it is idle."""
        return []

    def close(self) -> None:
        """End what it started."""


def _timed(command: list[str], stdin: bytes, folder: Path, environment: dict[str, str]) -> float:
    """Seconds that a command takes; its output goes to a file."""
    with (folder / "output").open("wb") as output:
        began = time.perf_counter()
        subprocess.run(
            command,
            input=stdin,
            stdout=output,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={**os.environ, **environment},
            timeout=TASK_TIMEOUT_S,
            check=True,
        )
        return time.perf_counter() - began


class Limit(Rival):
    """A C loop of posix_spawn: the limit with a new bash for each task."""

    name = "C posix_spawn loop"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._program = install.compiled(HERE / "spawn_limit.c", folder)

    def tasks(self, count: int) -> list[float]:
        """All of `count` tasks."""
        return [_timed([self._program, str(count), COMMAND], b"", self.folder, {})]


class Xargs(Rival):
    """xargs: no queue, no records; outputs run together in one file."""

    name = "xargs -P2"

    def tasks(self, count: int) -> list[float]:
        """All of `count` tasks."""
        command = ["xargs", "-d", "\n", "-n", "1", "-P", "2", "bash", "-c"]
        return [_timed(command, f"{COMMAND}\n".encode() * count, self.folder, {})]


class Parallel(Rival):
    """GNU parallel: a line in a log for each task; outputs one after the other in one file."""

    name = "GNU parallel"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._program = install.program("parallel", "parallel")

    def tasks(self, count: int) -> list[float]:
        """All of `count` tasks."""
        environment = {"SHELL": "/bin/bash", "PARALLEL_HOME": str(self.folder)}
        command = [self._program, "-j", "2", "--joblog", "log"]
        return [_timed(command, f"{COMMAND}\n".encode() * count, self.folder, environment)]


class Spooler(Rival):
    """task-spooler: a queue in memory; a file of output for each task."""

    name = "task-spooler"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.program = install.program("tsp", "task-spooler")
        (folder / "outputs").mkdir()
        self.environment = {
            "TS_SOCKET": str(folder / "socket"),
            "TMPDIR": str(folder / "outputs"),
            "TS_SLOTS": "2",
            "TS_MAXFINISHED": "100000",
        }
        self._run("-S", "2")

    def _run(self, *arguments: str) -> str:
        return subprocess.run(
            [self.program, *arguments],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TASK_TIMEOUT_S,
            check=True,
        ).stdout

    def _enqueue(self, count: int) -> None:
        loop = f"for ((i = 0; i < {count}; i++)); do '{self.program}' bash -c '{COMMAND}'; done"
        _timed(["bash", "-c", loop], b"", self.folder, self.environment)

    def _wait_idle(self) -> None:
        deadline = time.monotonic() + TASK_TIMEOUT_S
        while any(word in self._run("-l") for word in (" queued ", " running ")):
            if time.monotonic() > deadline:
                raise Unavailable("its queue does not drain")
            time.sleep(0.02)

    def tasks(self, count: int) -> list[float]:
        """All of `count` tasks."""
        self._run("-C")
        began = time.perf_counter()
        self._enqueue(count)
        self._run("-w")
        self._wait_idle()
        return [time.perf_counter() - began]

    def latency(self, count: int) -> list[float]:
        """One task at a time, from `tsp -f` to its end."""
        found = []
        for _ in range(count):
            began = time.perf_counter()
            self._run("-f", "bash", "-c", COMMAND)
            found.append(time.perf_counter() - began)
            time.sleep(0.01)
        return found

    def pids(self) -> list[int]:
        """Its server."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and entry.name != str(os.getpid()):
                try:
                    words = (entry / "environ").read_bytes().split(b"\0")
                    program = (entry / "comm").read_text().strip()
                except OSError:
                    continue
                if program == "tsp" and f"TS_SOCKET={self.folder / 'socket'}".encode() in words:
                    found.append(int(entry.name))
        return found

    def close(self) -> None:
        """End its server."""
        self._run("-K")


class HyperQueue(Rival):
    """HyperQueue's local cluster: a file of output for each task; queue in memory."""

    name = "HyperQueue, one job"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._side = Side([install.python(), str(HERE / "hyperqueue_side.py"), str(folder)], folder)

    def measure(self, what: str, count: int) -> list[float]:
        """As its side measures."""
        return self._side.ask("one_job" if what == "tasks" else what, count)

    def pids(self) -> list[int]:
        """Server and worker; they are in the process of the Python that asks them."""
        return machine.family(self._side.process.pid)

    def close(self) -> None:
        """End the cluster."""
        self._side.close()


class HyperQueueSingle(HyperQueue):
    """The same, a job for each task: as with us, each has its own record."""

    name = "HyperQueue, a job each"

    def measure(self, what: str, count: int) -> list[float]:
        """As its side measures."""
        return self._side.ask("many_jobs" if what == "tasks" else what, count)


class Huey(Rival):
    """huey with two worker processes, on a redis of its own: everything in memory."""

    name = "huey on redis"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        server = install.program("redis-server", "redis-server")
        python = install.python()
        socket = folder / "redis.sock"
        environment = {"HUEY_SOCKET": str(socket), "PYTHONPATH": str(HERE)}
        self._processes = [
            self._spawn(
                [server, "--port", "0", "--unixsocket", str(socket), "--save", "",
                 "--appendonly", "no"], {},
            )
        ]  # fmt: skip
        try:
            deadline = time.monotonic() + 10
            while not socket.exists():
                if time.monotonic() > deadline or self._processes[0].poll() is not None:
                    raise Unavailable("redis-server does not start here")
                time.sleep(0.01)
            consumer = [python, "-m", "huey.bin.huey_consumer", "huey_side.huey"]
            self._processes.append(
                self._spawn([*consumer, "-w", "2", "-k", "process", "-q"], environment)
            )
            self._side = Side(
                [python, "-c", "import huey_side; huey_side.main()"], folder, environment
            )
        except Unavailable:
            self._end()
            raise

    def _spawn(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def measure(self, what: str, count: int) -> list[float]:
        """As its side measures."""
        return self._side.ask(what, count)

    def pids(self) -> list[int]:
        """redis and the workers."""
        return [pid for process in self._processes for pid in machine.family(process.pid)]

    def _end(self) -> None:
        for process in self._processes:
            ended(process)

    def close(self) -> None:
        """End redis, workers and driver."""
        self._side.close()
        self._end()


ALL: tuple[type[Rival], ...] = (
    Xargs, Limit, Huey, Spooler, HyperQueue, HyperQueueSingle, Parallel,
)  # fmt: skip


def warn(rival: str, reason: str) -> None:
    """Say at once that one is missing; the table says it again."""
    print(f"{rival}: not available: {reason}", file=sys.stderr)
