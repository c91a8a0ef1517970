"""Bash processes kept warm: each forks a subshell per task, which costs a third of a new bash.

A warm shell runs one task at a time and is told of it over a pipe, as one line of bash text that
sets up the subshell (streams, environment, options) and holds the command. To the task it is
`bash -c COMMAND` in a process group of its own; docs/runner.md lists what differs. Commands that
could see the difference (`$$`, sourced files, ...) get a fresh shell.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from leoronic.core.run import Run
from leoronic.runner import spawn
from leoronic.runner.spawn import MARKER, Exit

if TYPE_CHECKING:
    from leoronic.runner.live import Live

# All on one line, so that the line numbers that a command sees begin with 1. `set -m` puts each
# subshell into its own process group. `read -N` takes a whole request in one read: it counts
# characters, which are bytes, as requests are ASCII. `: bash` leaves what `$_` is in a new shell.
# `wait` returns also when the subshell is stopped (as 128 + SIGSTOP to SIGTTOU): then the runner
# watches it, and says when it is worth waiting again (`wait -f` would spin). On its stderr `wait`
# says in words how the subshell ended, which tells an exit code above 128 ("Exit 143") from a death
# by signal.
_SCRIPT = (
    "set -m; while IFS= read -rN 8 -u {control} L && IFS= read -rN $L -u {control} R; do"
    ' (eval "$R"; : bash; eval "$BASH_EXECUTION_STRING") & P=$!; echo $P >&{pids};'
    " wait $P; S=$?;"
    " while ((S > 146 && S < 151)) && kill -0 $P; do"
    ' echo "P $P"; read -rN 1 -u {control} R; wait $P; S=$?; done;'
    ' times; echo "S $S $P"; done'
)

# What makes the subshell look new. The runner's descriptors are opened by path: that costs less
# than handing them over, and the pipe's end is its own.
_SETUP = (
    "set +m; exec <{stdin} >/proc/{runner}/fd/{stdout} 2>/proc/{runner}/fd/{stderr}"
    " {control}<&- {pids}>&-; unset -v L P R S; SECONDS=0 BASH_SUBSHELL=0; "
)

REQUEST_BYTES_MAX = 60_000
"""Below what a pipe holds, so that writing a request never blocks."""

# Words by which a command could tell a warm shell from a new one, or do it harm: the shell's own
# pid and counters; files that are read as commands, which may hold any of these; expansions whose
# failure ends a subshell, but only the line in `bash -c`; options that show the nesting; job
# numbers. Too many rather than too few: it costs a millisecond.
_REVEALING = re.compile(
    r"\$\$|\$\{\$|\$!|PPID|BASH_|SHLVL|LINENO|SECONDS|PIPESTATUS|COPROC|\0"
    r"|\b(?:caller|disown|times|source|readonly|nounset|xtrace|suspend|coproc)\b"
    r"|(?:^|[\s;&|(){}!`])\.\s|\bset\s(?:\s*-\w+)*\s*[-+]\w*[umx]|\$\{[^}]*\?|\(\([^)]*[/%]"
    r"|\b(?:kill|fg|bg|wait|jobs)\b[^;&|\n]*%|\b(?:declare|typeset|local)\s+-\w*r"
)
# Variables that mean something to a bash when it starts.
_SPECIAL_NAMES = re.compile(
    r"BASH.*|LC_.*|LD_.*|HIST.*|LANG|LANGUAGE|ENV|POSIXLY_CORRECT|SHELLOPTS|SHLVL|IFS|PS[0-4]|PWD"
    r"|OLDPWD|PPID|UID|EUID|OPT.*|RANDOM|SRANDOM|SECONDS|LINENO|GROUPS|DIRSTACK|FUNCNAME|TMOUT"
    r"|GLOBIGNORE|EXECIGNORE|FIGNORE|IGNOREEOF|TIMEFORMAT|EPOCH.*|PIPESTATUS|HOSTTYPE|HOSTNAME"
    r"|MACHTYPE|OSTYPE|CDPATH|COMP.*|[LPRS]|_"
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_PLAIN = re.compile(rb"[\\'\x01-\x08\x0b-\x1f\x7f-\xff]")

REPORT_BYTES = 65_536
# Numbers of the pipes that nobody asked for yet, before they are read away.
PIDS_UNREAD_MAX = 4096


def suits(run: Run) -> bool:
    """Whether this attempt would not notice that its shell is warm."""
    return (
        not run.fresh_shell
        and run.workdir == "shared"
        and len(run.command) < REQUEST_BYTES_MAX // 4
        and _REVEALING.search(run.command) is None
        and all(
            _NAME.fullmatch(name) and not _SPECIAL_NAMES.fullmatch(name) and "\0" not in value
            for name, value in run.env.items()
        )
    )


def quote(text: str) -> bytes:
    """`text` as one ASCII word of bash."""
    raw = os.fsencode(text)
    return b"$'" + _NOT_PLAIN.sub(lambda found: b"\\%03o" % found[0][0], raw) + b"'"


@dataclass(frozen=True, slots=True)
class Report:
    """Of the task with this process: how it ended, or None if it is stopped."""

    pid: int
    ended: Exit | None


class WarmShell:
    """One warm bash. Idle, or running the task of `live`."""

    __slots__ = (
        "_control",
        "_cpu_seconds",
        "_pids",
        "_pids_read",
        "_report",
        "_sent",
        "_setup",
        "_words",
        "idle_since",
        "live",
        "marker",
        "pid",
        "report_fd",
    )

    def __init__(
        self,
        bash: str,
        env: Mapping[str, str],
        cwd: Path,
        marker: str,
        *,
        open_files: int | None = None,
    ) -> None:
        """Start it. Raises `OSError`."""
        limit = "" if open_files is None else f"ulimit -Sn {open_files}; "
        self.marker = marker
        self.live: Live | None = None
        self.idle_since = 0.0
        self._report = b""
        self._sent = self._pids_read = 0
        self._cpu_seconds = 0.0
        opened: list[int] = []
        try:
            control, self._control = _pipe(opened)
            self.report_fd, report = _pipe(opened)
            self._pids, pids = _pipe(opened)
            os.set_blocking(self.report_fd, False)
            os.set_blocking(self._pids, False)
            self._words = os.memfd_create("leoronic", os.MFD_CLOEXEC)
            opened.append(self._words)
            # Appended to by the shell, read and emptied by us.
            fcntl.fcntl(self._words, fcntl.F_SETFL, os.O_RDWR | os.O_APPEND)
            # High numbers: the shell itself uses those from 10 on.
            for fd in (control, pids):
                opened.remove(fd)
            control, pids = spawn.inheritable(control), spawn.inheritable(pids)
            opened += [control, pids]
            process = subprocess.Popen(
                ["bash", "-c", limit + _SCRIPT.format(control=control, pids=pids)],
                executable=bash,
                env={**env, MARKER: marker},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=report,
                stderr=self._words,
                start_new_session=True,
                close_fds=False,
            )
        except OSError:
            _close(opened)
            raise
        _close([control, report, pids])
        process.returncode = 0
        self.pid = process.pid
        self._setup = _SETUP.replace("{control}", str(control)).replace("{pids}", str(pids))

    def send(self, run: Run, marker: str, stdin: int, stdout: int, stderr: int) -> None:
        """Start a task. The descriptors are this process's and stay open until it has ended."""
        runner = os.getpid()
        setup = self._setup.format(
            runner=runner,
            stdin=f"/proc/{runner}/fd/{stdin}" if stdin >= 0 else "/dev/null",
            stdout=stdout,
            stderr=stderr,
        )
        parts = [setup.encode(), b"export ", MARKER.encode(), b"=", quote(marker)]
        for name, value in run.env.items():
            parts += [b" ", name.encode(), b"=", quote(value)]
        parts += [b"; BASH_EXECUTION_STRING=", quote(run.command)]
        request = b"".join(parts)
        if len(request) > REQUEST_BYTES_MAX:
            raise spawn.CannotStartError("the request is too long for a warm shell")
        os.write(self._control, b"%8d%s" % (len(request), request))
        self._sent += 1
        if self._sent - self._pids_read > PIDS_UNREAD_MAX:
            self.current_pid()

    def current_pid(self) -> int:
        """The pid of the task's subshell; 0 if it does not exist yet."""
        try:
            lines = os.read(self._pids, REPORT_BYTES).split()
        except BlockingIOError:
            return 0
        self._pids_read += len(lines)
        return int(lines[-1]) if lines and self._pids_read == self._sent else 0

    def read_report(self) -> Report | None:
        """What it says of its task, if all of it is there. Raises `EOFError`: the shell died."""
        try:
            data = os.read(self.report_fd, REPORT_BYTES)
        except BlockingIOError:
            return None
        if not data:
            raise EOFError
        self._report += data
        lines = self._report.split(b"\n")
        if lines.pop() or lines[-1][:2] not in (b"S ", b"P "):
            return None
        self._report = b""
        kind, *numbers = lines[-1].split()
        if kind == b"P":
            return Report(int(numbers[0]), None)
        status, pid = map(int, numbers)
        total = sum(map(_seconds, lines[-2].decode().split()))
        used, self._cpu_seconds = total - self._cpu_seconds, total
        return Report(pid, _exit(status, self._how_it_ended(status), round(used, 3)))

    def _how_it_ended(self, status: int) -> str:
        """What `wait` said last; empty where the status says it all."""
        words = b""
        size = os.fstat(self._words).st_size
        if status > 128:
            words = os.pread(self._words, REPORT_BYTES, max(0, size - REPORT_BYTES))
        if words or size > REPORT_BYTES:
            os.ftruncate(self._words, 0)
        return words.decode(errors="replace")

    def go_on(self) -> None:
        """The task that was stopped has ended."""
        # That the shell itself is gone is told by its report.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._control, b"x")

    def close(self) -> None:
        """Tell it to end: nothing more comes. Its death is seen on `report_fd`."""
        if self._control >= 0:
            os.close(self._control)
            self._control = -1

    def release(self) -> None:
        """It is gone: close what is left."""
        self.close()
        _close([self.report_fd, self._pids, self._words])


class WarmShells:
    """The warm shells of one runner: none until tasks come quickly, `most` at once at the most.

    `start` makes one, by its number; `watch` is told of each.
    """

    def __init__(
        self,
        start: Callable[[int], WarmShell],
        *,
        bash: str,
        most: int,
        after_starts: int,
        idle_s: float,
        watch: Callable[[WarmShell], None],
    ) -> None:
        self._start = start
        self._bash = bash
        self._most = most
        self._idle_s = idle_s
        self._watch = watch
        self._starts: deque[float] = deque([-1e9] * after_starts, maxlen=max(1, after_starts))
        self._after_starts = after_starts
        self._number = 0
        self._checked = False
        self._idle: list[WarmShell] = []
        self.all: set[WarmShell] = set()

    def take(self, now: float) -> WarmShell | None:
        """A warm shell for a task that suits; None if the task is to get a fresh one."""
        often = self._after_starts == 0 or now - self._starts[0] < 1.0
        self._starts.append(now)
        if self._idle:
            return self._idle.pop()
        if not often or len(self.all) >= self._most or not self._can():
            return None
        try:
            shell = self._start(self._number)
        except OSError:
            return None
        self._number += 1
        self.all.add(shell)
        self._watch(shell)
        return shell

    def give_back(self, shell: WarmShell, now: float) -> None:
        """Its task is over, with all that belonged to it."""
        shell.live = None
        if shell in self.all:
            shell.idle_since = now
            self._idle.append(shell)

    def lost(self, shell: WarmShell) -> None:
        """It is gone."""
        self.all.discard(shell)
        if shell in self._idle:
            self._idle.remove(shell)

    def close_idle(self, now: float) -> None:
        """End those that nobody needed for long."""
        for shell in [s for s in self._idle if now - s.idle_since >= self._idle_s]:
            self._idle.remove(shell)
            shell.close()

    def _can(self) -> bool:
        """Whether this bash is one that was tried: older ones may tell of jobs differently."""
        if not self._checked:
            self._checked = True
            done = subprocess.run(
                [self._bash, "-c", "echo $BASH_VERSINFO"],
                capture_output=True,
                check=False,
                close_fds=False,
                stdin=subprocess.DEVNULL,
            )
            if not done.stdout.strip().isdigit() or int(done.stdout) < 5:
                self._most = 0
        return self._most > 0


def _exit(status: int, words: str, cpu_seconds: float) -> Exit:
    """`words` ends in a line such as `[1]+  Exit 143   (eval ...)` or `[1]+  Terminated  (...)`."""
    by_signal = 128 < status <= 128 + signal.NSIG
    if by_signal:
        lines = words.strip().splitlines()
        # The number alone is looked for: the words are translated.
        by_signal = not (lines and re.search(rf"\b{status}\b", lines[-1].split(" (")[0]))
    return Exit(
        exit_code=None if by_signal else status,
        signal=status - 128 if by_signal else None,
        peak_memory=None,
        cpu_seconds=cpu_seconds,
    )


def _seconds(text: str) -> float:
    """`0m0.014s`, with a comma in some languages."""
    minutes, seconds = text.rstrip("s").replace(",", ".").split("m")
    return int(minutes) * 60 + float(seconds)


def _pipe(opened: list[int]) -> tuple[int, int]:
    ends = os.pipe()
    opened += ends
    return ends


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
