"""Which processes belong to an attempt, and signals to all of them.

A task's processes are found by what they cannot easily shed: its cgroup, its process group and
session, the marker in the environment that they were started with, being a descendant of one of
those, and holding the attempt's output open. This process is a sub-reaper, so that whatever loses
its parent becomes its child and stays within sight.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from leoronic.core.run import AttemptKey
from leoronic.runner.spawn import MARKER

_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37


def become_subreaper() -> None:
    """Orphans among our descendants become our children. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


@dataclass(frozen=True, slots=True)
class Process:
    """One line of /proc/PID/stat."""

    pid: int
    parent: int
    group: int
    session: int


class Children:
    """The direct children of this process, read cheaply and often."""

    def __init__(self) -> None:
        pid = os.getpid()
        try:
            self._fd = os.open(f"/proc/self/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            # A kernel without CONFIG_PROC_CHILDREN: look at every process instead.
            self._fd = -1

    def pids(self) -> set[int]:
        """Their pids, zombies included where the kernel lists children."""
        if self._fd >= 0:
            text = b""
            while part := os.pread(self._fd, 65536, len(text)):
                text += part
            return set(map(int, text.split()))
        return {p.pid for p in processes().values() if p.parent == os.getpid()}

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def processes() -> dict[int, Process]:
    """Every process of the machine that is not a zombie."""
    found = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  a thousand Path objects cost milliseconds
        if name.isdigit() and (process := read_process(int(name))) is not None:
            found[process.pid] = process
    return found


def read_process(pid: int) -> Process | None:
    """One process; None if it is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name stands in parentheses and may itself contain some.
    state, parent, group, session = text[text.rindex(b")") + 2 :].split(maxsplit=4)[:4]
    if state in (b"Z", b"X"):
        return None
    return Process(pid, int(parent), int(group), int(session))


def own_family() -> set[int]:
    """The processes of this node: this one, and its parent and siblings of the same program.

    They are forks of one keeper. A parent that runs another program (a shell, a test's driver, the
    system's first process) is a stranger, and so are its children.
    """
    own = os.getpid()
    parent = os.getppid()
    program = _program(own)
    if parent <= 1 or _program(parent) != program:
        return {own}
    siblings = {p.pid for p in processes().values() if p.parent == parent}
    return {parent, own, *(pid for pid in siblings if _program(pid) == program)}


def _program(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")  # noqa: PTH115
    except OSError:
        return ""


def marker(state_id: str, key: AttemptKey) -> str:
    """The marker's value for one attempt."""
    return f"{state_id}/{key[0]}/{key[1]}"


def read_marker(pid: int) -> str:
    """The marker that this process was started with; empty if it has none or is gone."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    wanted = f"{MARKER}=".encode()
    for line in environ.split(b"\0"):
        if line.startswith(wanted):
            return os.fsdecode(line[len(wanted) :])
    return ""


def marked_with(state_id: str) -> list[int]:
    """Every process but this one whose marker begins with this state id."""
    prefix = f"{state_id}/"
    own = os.getpid()
    return [p for p in processes() if p != own and read_marker(p).startswith(prefix)]


def find_members(
    *,
    group: int,
    value: str,
    in_cgroup: Iterable[int],
    pipes: Collection[str],
    strangers: Collection[int],
    warm: int = 0,
) -> set[int]:
    """The living processes of one attempt.

    `group` is its process group and session, `value` its marker, `pipes` the names of its output
    pipes (`pipe:[123]`). `strangers` are this process's children that are no shell of an attempt.
    `warm` is the warm shell that runs it: all else in its session belongs to the attempt.
    """
    table = processes()
    own = os.getpid()
    members = {pid for pid in in_cgroup if pid in table}
    if group:
        members.update(p.pid for p in table.values() if group in (p.group, p.session))
    if warm:
        members.update(p.pid for p in table.values() if p.session == warm and p.pid != warm)
    children = _children_of(table)
    for pid in _descendants(children, [s for s in strangers if s in table]):
        if pid not in members and (read_marker(pid) == value or _holds(pid, pipes)):
            members.add(pid)
    members.update(_descendants(children, members))
    members.discard(own)
    return members


def _children_of(table: Mapping[int, Process]) -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process.pid)
    return children


def _descendants(children: Mapping[int, list[int]], roots: Iterable[int]) -> set[int]:
    """The roots and everything below them."""
    found: set[int] = set()
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo.extend(children.get(pid, ()))
    return found


def _holds(pid: int, pipes: Collection[str]) -> bool:
    """Whether this process has one of these pipes open."""
    if not pipes:
        return False
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return False
    for name in names:
        with contextlib.suppress(OSError):
            if os.readlink(f"{folder}/{name}") in pipes:  # noqa: PTH115
                return True
    return False


def with_descendants(pids: Iterable[int]) -> set[int]:
    """These processes and all below them, as far as they live."""
    table = processes()
    return _descendants(_children_of(table), [pid for pid in pids if pid in table])


def in_session(session: int) -> list[int]:
    """Every process of this session."""
    return [p.pid for p in processes().values() if p.session == session]


def group_alive(group: int) -> bool:
    """Whether this process group has members. Zombies that were not reaped count."""
    assert group > 1
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal each; one that is gone, or is another user's (sudo), is passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def send_group(group: int, number: signal.Signals) -> None:
    """Signal a whole group at once, which not even a fork bomb can outrun."""
    # 0 would be our own group.
    assert group > 1
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def reap_strangers(known: Collection[int]) -> list[int]:
    """Reap orphans that ended. Returns the known children that ended too, which it leaves alone."""
    ended: list[int] = []
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return ended
        if found is None:
            return ended
        if found.si_pid in known:
            # It hides the others behind it: the caller reaps it, and comes again.
            ended.append(found.si_pid)
            return ended
        os.waitpid(found.si_pid, os.WNOHANG)
