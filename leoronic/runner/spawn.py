"""Starting a bash for a task, and reaping it.

Always by vfork (no preexec_fn, no user=): a fork of this process would copy its page tables.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MARKER = "LEORONIC_ATTEMPT_KEY"

# The kernel takes no argument longer than 128 KiB; what is longer comes through a descriptor.
ARGUMENT_BYTES_MAX = 120_000

# The process prepares itself before it becomes the task's shell: nothing of the task runs outside
# its groups. A plain sh costs less than a second bash. $1 is the command, $2 bash, $3 the limit of
# open files, then the groups.
_PREPARE = (
    'c=$1 b=$2 n=$3; shift 3; [ -z "$n" ] || ulimit -Sn "$n";'
    ' for g; do echo $$ >"$g" || exit 126; done; exec "$b" -c "$c" bash'
)


# What may be there a moment later: processes, memory, descriptors, room on the disk.
_PASSING = (
    errno.EAGAIN,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.EDQUOT,
)


class CannotStartError(Exception):
    """The shell could not be started; the message is one line.

    `passing`: for want of something that may be there a moment later.
    """

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


def may_pass(error: Exception) -> bool:
    """Whether what prevented a start may be gone a moment later."""
    if isinstance(error, CannotStartError):
        return error.passing
    return isinstance(error, OSError) and error.errno in _PASSING


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child ended, and what it and those it waited for used. Memory in bytes."""

    exit_code: int | None
    signal: int | None
    peak_memory: int | None
    cpu_seconds: float


def find_bash() -> str:
    """The path of bash. Raises `CannotStartError`."""
    path = shutil.which("bash")
    if path is None:
        raise CannotStartError("no bash on PATH")
    return path


def node_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The node's environment as tasks see it.

    Without the variables that configure Leoronic, and without `_`, in which a shell tells its child
    that child's own path: it would be the node's.
    """
    return {
        name: value
        for name, value in environ.items()
        if name != "_" and not name.startswith("LEORONIC_")
    }


def seal_descriptors() -> None:
    """Mark every descriptor above 2 as not to be inherited.

    What was inherited from a parent would otherwise be open in every task; and closing them one by
    one in each child costs more than once here.
    """
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  numbers, not paths
        if int(name) > 2:
            with contextlib.suppress(OSError):  # the listing's own descriptor is closed by now
                os.set_inheritable(int(name), False)


class Descriptors:
    """How many files this process may have open: raised once attempts need it.

    Three for each attempt are soon more than the usual 1,024. Tasks get the limit that the node was
    started with: programs that use select() break above it.
    """

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._soft, self._hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.raised_from: int | None = None
        """What a task's own limit is to be, where it is no longer ours."""

    def fit(self, each: int, others: int) -> int:
        """How many times `each` fit beside `others`: at least 1."""
        most = self._wanted
        if self._hard != resource.RLIM_INFINITY:
            most = min(most, self._hard)
        return max(1, (most - others) // each)

    def need(self, count: int) -> None:
        """So many will be open."""
        if self.raised_from is not None or self._soft == resource.RLIM_INFINITY:
            return
        most = self._wanted
        if self._hard != resource.RLIM_INFINITY:
            most = min(most, self._hard)
        if count > self._soft and most > self._soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, self._hard))
            self.raised_from = self._soft


def memory_file(content: bytes) -> int:
    """A descriptor from which `content` can be read; it has no name and takes no disk."""
    fd = os.memfd_create("leoronic", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def spawn(
    bash: str,
    command: str,
    *,
    env: Mapping[str, str],
    cwd: Path,
    stdin: int,
    stdout: int,
    stderr: int,
    join: Sequence[str] = (),
    open_files: int | None = None,
) -> int:
    """Start `bash -c command` in a session and process group of its own; its pid.

    `join` lists `cgroup.procs` files that the process enters first; `open_files` is its limit of
    open files, if not ours. Raises `CannotStartError`.
    """
    long_fd = -1
    try:
        text = os.fsencode(command)
        if len(text) > ARGUMENT_BYTES_MAX:
            long_fd = inheritable(memory_file(text))
            # The `exec` shares the command's first line, so that line numbers in messages stay
            # right. The number is above those that scripts use for themselves.
            command = f'eval "exec {long_fd}<&-; $(</dev/fd/{long_fd})"'
        prepared = bool(join) or open_files is not None
        if prepared:
            most = "" if open_files is None else str(open_files)
            argv = ["sh", "-c", _PREPARE, "sh", command, bash, most, *join]
        else:
            argv = ["bash", "-c", command]
        process = subprocess.Popen(
            argv,
            executable="/bin/sh" if prepared else bash,
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            # Everything here is close-on-exec already: see `seal_descriptors`.
            close_fds=False,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise CannotStartError(one_line(error), passing=may_pass(error)) from error
    finally:
        if long_fd >= 0:
            os.close(long_fd)
    # It is reaped by `reap`, with what it used: Popen must neither wait for it nor remember it.
    process.returncode = 0
    return process.pid


def reap(pid: int) -> Exit | None:
    """How this child ended; None while it runs. What it used covers those it waited for."""
    try:
        found, status, usage = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        # Not our child any more, which can only mean that it is gone.
        return Exit(None, signal.SIGKILL, None, 0.0)
    if found == 0:
        return None
    code = os.waitstatus_to_exitcode(status)
    return Exit(
        exit_code=code if code >= 0 else None,
        signal=-code if code < 0 else None,
        peak_memory=_peak_memory(usage.ru_maxrss),
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 6),
    )


def _peak_memory(maxrss_kib: int) -> int | None:
    """What vfork shares, Linux counts as the child's own: a figure below ours says nothing."""
    own_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return maxrss_kib * 1024 if maxrss_kib > own_kib else None


def inheritable(fd: int) -> int:
    """The same file under a high number that a child inherits; `fd` is closed."""
    high = fcntl.fcntl(fd, fcntl.F_DUPFD, 100)
    os.close(fd)
    return high


def one_line(error: Exception) -> str:
    """What went wrong, in one line for a person."""
    if isinstance(error, OSError) and error.strerror:
        what = f": {os.fsdecode(error.filename)}" if error.filename else ""
        return f"{error.strerror}{what}"
    return str(error).replace("\n", " ")
