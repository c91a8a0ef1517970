"""Starting an attempt: its pipes, its folder, its limits, its shell."""

from __future__ import annotations

import contextlib
import os
import shutil

from leoronic.core.run import Run
from leoronic.runner import limits, spawn, tree
from leoronic.runner.cgroup import Cgroups
from leoronic.runner.config import RunnerConfig
from leoronic.runner.live import Live
from leoronic.runner.output import OutputStore
from leoronic.runner.stream import Stream
from leoronic.runner.warm import WarmShell, WarmShells, suits

# Two pipes, their two files and the shell itself.
DESCRIPTORS_EACH = 5
# The loop, the store, sockets, warm shells; more ends and stdin of those that start.
DESCRIPTORS_OTHER = 160


def attempts_that_fit(wanted: int) -> int:
    """So many attempts, or as many as this process may have descriptors for."""
    return min(wanted, _descriptors(wanted).fit(DESCRIPTORS_EACH, DESCRIPTORS_OTHER))


def _descriptors(attempts: int) -> spawn.Descriptors:
    return spawn.Descriptors(DESCRIPTORS_EACH * attempts + DESCRIPTORS_OTHER)


class Starter:
    """Starts shells for one runner. What raises (`OSError`, `ValueError`, `CannotStartError`)
    leaves nothing behind.
    """

    def __init__(
        self, config: RunnerConfig, state_id: str, cgroups: Cgroups, store: OutputStore
    ) -> None:
        self._config = config
        self._state_id = state_id
        self._cgroups = cgroups
        self._store = store
        self.bash = spawn.find_bash()
        self._environment = spawn.node_environment(os.environ)
        self._devnull = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._descriptors = _descriptors(config.attempts_max)

    def close(self) -> None:
        """Release what is open."""
        os.close(self._devnull)

    def start(self, run: Run, warm: WarmShells, now: float, others: int) -> Live:
        """Start it, in a warm shell if it suits and one is free. `now` by the loop's clock.

        `others` is how many run already.
        """
        self._descriptors.need(DESCRIPTORS_EACH * (others + 1) + DESCRIPTORS_OTHER)
        self._cgroups.check_room()
        with contextlib.ExitStack() as on_failure:
            live = self._open(run, on_failure)
            if not self._start_in_warm(live, warm, now):
                self._start_fresh(live, on_failure)
            on_failure.pop_all()
            return live

    def start_again(self, live: Live) -> None:
        """Give it a fresh shell, as its warm shell died before it had begun."""
        with contextlib.ExitStack() as on_failure:
            self._start_fresh(live, on_failure)
            on_failure.pop_all()

    def start_warm(self, number: int) -> WarmShell:
        """A warm shell. Raises `OSError`."""
        marker = f"{self._state_id}/warm/{number}"
        return WarmShell(
            self.bash,
            self._environment,
            self._config.root,
            marker,
            open_files=self._descriptors.raised_from,
        )

    def _open(self, run: Run, on_failure: contextlib.ExitStack) -> Live:
        fds: list[int] = []
        try:
            for _ in range(2):
                fds += os.pipe()
            os.set_blocking(fds[0], False)
            os.set_blocking(fds[2], False)
        except OSError:
            for fd in fds:
                os.close(fd)
            raise
        on_failure.callback(os.close, fds[0])
        on_failure.callback(os.close, fds[2])
        live = Live(
            run,
            tree.marker(self._state_id, run.key),
            Stream(self._store, run.key, "stdout", fds[0]),
            Stream(self._store, run.key, "stderr", fds[2]),
        )
        live.write_ends = [fds[1], fds[3]]
        on_failure.callback(live.close_write_ends)
        if run.stdin:
            live.write_ends.append(spawn.memory_file(run.stdin.encode(errors="surrogateescape")))
        return live

    def _start_fresh(self, live: Live, on_failure: contextlib.ExitStack) -> None:
        run = live.run
        cwd = self._config.root
        if run.workdir == "private":
            folder = self._config.work_dir if run.keep_folder else self._config.scratch_dir
            cwd = live.private_dir = folder / f"{run.task}.{run.attempt}"
            cwd.mkdir(parents=True, exist_ok=run.keep_folder)
            if not run.keep_folder:
                on_failure.callback(shutil.rmtree, cwd, ignore_errors=True)
        self._limit(live, on_failure)
        stdout, stderr, *stdin = live.write_ends
        live.pid = spawn.spawn(
            self.bash,
            run.command,
            env={**self._environment, **run.env, spawn.MARKER: live.marker},
            cwd=cwd,
            stdin=stdin[0] if stdin else self._devnull,
            stdout=stdout,
            stderr=stderr,
            join=live.group.join_files() if live.group else (),
            open_files=self._descriptors.raised_from,
        )
        if live.watched_limits:
            limits.limit_process(live.pid, run)
        live.close_write_ends()

    def _limit(self, live: Live, on_failure: contextlib.ExitStack) -> None:
        wanted = limits.wanted(live.run)
        if not wanted.controllers():
            return
        live.group = self._cgroups.make(f"{live.run.task}.{live.run.attempt}", wanted)
        if live.group is not None:
            on_failure.callback(live.group.remove)
        else:
            live.watched_limits = True

    def _start_in_warm(self, live: Live, warm: WarmShells, now: float) -> bool:
        """Whether a warm shell took it."""
        run = live.run
        if not suits(run) or limits.wanted(run).controllers():
            return False
        shell = warm.take(now)
        if shell is None:
            return False
        stdout, stderr, *stdin = live.write_ends
        try:
            shell.send(run, live.marker, stdin[0] if stdin else -1, stdout, stderr)
        except (OSError, spawn.CannotStartError):
            # It died just now, which its report tells; or this does not fit after all.
            warm.give_back(shell, now)
            return False
        shell.live, live.shell = live, shell
        return True
