"""Control groups, version 1 and 2, for limits and for killing all at once.

    <the node's own group>/LEORONIC-<state id>/shared/         the runner and tasks without limits
                                              node/           keeper and core, where they must move
                                              TASK.ATTEMPT/   one attempt with limits of its own

The base group belongs to one node's state folder alone, so that whatever a new runner finds in it
was left behind by the one before. Nothing here is required: on a machine whose groups are not
writable, `Cgroups` simply offers no controller.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from leoronic.runner import spawn, tree

# `tasks` would be the name of a control file in version 1.
SHARED = "shared"
NODE = "node"
# Of the shared group's processes this part is kept for tasks that run: none starts in it.
RESERVE_PART = 8
CPU_PERIOD_US = 100_000
# The kernel's least quota.
CPU_QUOTA_US_MIN = 1_000
KILL_ROUNDS_MAX = 50
VACATE_ROUNDS_MAX = 3
REMOVE_S_MAX = 0.5
TIDY_AFTER_S = 60.0

_LIMITING = ("memory", "cpu", "pids")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a group may use: bytes, cores, processes. None: not limited."""

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None

    def controllers(self) -> set[str]:
        """The controllers that these need."""
        wanted = {"memory": self.memory, "cpu": self.cpus, "pids": self.pids}
        return {name for name, value in wanted.items() if value is not None}


@dataclass(slots=True)
class Hierarchy:
    """One mounted hierarchy: `base` is our group in it, `controllers` what it can limit."""

    base: Path
    version: int
    controllers: set[str]


@dataclass(slots=True)
class Group:
    """One attempt's group: its folder in each hierarchy that it needs."""

    folders: dict[str, Path] = field(default_factory=dict)
    """By controller; the v2 folder is also under `v2`, the v1 freezer under `freezer`."""

    def join_files(self) -> list[str]:
        """The files into which a process writes its pid to be inside."""
        return sorted({str(folder / "cgroup.procs") for folder in self.folders.values()})

    def pids(self) -> set[int]:
        """Every process inside, zombies not."""
        found: set[int] = set()
        for folder in set(self.folders.values()):
            found.update(_pids(folder))
        return found

    def kill(self) -> None:
        """KILL everything inside, faster than it can fork."""
        v2 = self.folders.get("v2")
        if v2 is not None and (v2 / "cgroup.kill").exists():
            _write(v2 / "cgroup.kill", "1")
            return
        frozen = self.folders.get("freezer")
        if frozen is not None:
            _write(frozen / "freezer.state", "FROZEN")
        for _ in range(KILL_ROUNDS_MAX):
            pids = self.pids()
            if not pids:
                break
            tree.send(pids, signal.SIGKILL)
            if frozen is not None:
                break
        if frozen is not None:
            _write(frozen / "freezer.state", "THAWED")

    def memory_killed(self) -> bool:
        """Whether the kernel killed a process of this group for its memory."""
        folder = self.folders.get("memory")
        if folder is None:
            return False
        name = "memory.events" if folder is self.folders.get("v2") else "memory.oom_control"
        return _counter(folder / name, "oom_kill") > 0

    def pids_refused(self) -> bool:
        """Whether the kernel refused a process of this group a fork."""
        folder = self.folders.get("pids")
        return folder is not None and _counter(folder / "pids.events", "max") > 0

    def peak_memory(self) -> int | None:
        """The most memory that it held at once, in bytes."""
        folder = self.folders.get("memory")
        if folder is None:
            return None
        name = "memory.peak" if folder is self.folders.get("v2") else "memory.max_usage_in_bytes"
        with contextlib.suppress(OSError, ValueError):
            return int((folder / name).read_text())
        return None

    def remove(self) -> bool:
        """Remove the folders. False if some process is still inside."""
        done = True
        for folder in set(self.folders.values()):
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                done = False
        return done


class Cgroups:
    """What this machine allows. `open` finds out, and clears what a former runner left."""

    def __init__(
        self,
        state_id: str,
        *,
        mounts: Path = Path("/proc/self/mounts"),
        own: Path = Path("/proc/self/cgroup"),
    ) -> None:
        self._name = f"LEORONIC-{state_id}"
        self._mounts = mounts
        self._own = own
        self._hierarchies: list[Hierarchy] = []
        self._joined: list[Hierarchy] = []
        self._count_fd = -1
        self._count_max = 0
        self.offered: set[str] = set()
        """Which of memory, cpu and pids this machine has in groups, usable or not."""

    @property
    def controllers(self) -> set[str]:
        """Which of memory, cpu and pids can be limited here."""
        return {c for h in self._hierarchies for c in h.controllers if c in _LIMITING}

    def open(self, tasks_pids_max: int) -> None:
        """Make the base groups and enter the shared one, of at most `tasks_pids_max` processes."""
        for version, controllers, own in self._found():
            self.offered |= controllers & set(_LIMITING)
            base = own / self._name
            try:
                base.mkdir(exist_ok=True)
            except OSError:
                continue
            hierarchy = Hierarchy(base, version, controllers)
            _clear(base)
            _tidy(base)
            self._enter_shared(hierarchy, tasks_pids_max)
            if version == 2:
                hierarchy.controllers = _delegate(base, controllers)
            self._hierarchies.append(hierarchy)
        if "pids" in self.controllers:
            self._limit_shared(tasks_pids_max)

    def _enter_shared(self, hierarchy: Hierarchy, tasks_pids_max: int) -> None:
        """Ourselves and so all that we start. Needed for pids, and in v2 to hand on controllers."""
        if hierarchy.version == 1 and "pids" not in hierarchy.controllers:
            return
        shared = hierarchy.base / SHARED
        try:
            shared.mkdir(exist_ok=True)
            (shared / "cgroup.procs").write_text(str(os.getpid()))
            self._joined.append(hierarchy)
        except OSError:
            with contextlib.suppress(OSError):
                shared.rmdir()

    def _limit_shared(self, pids_max: int) -> None:
        for hierarchy in self._joined:
            if "pids" in hierarchy.controllers:
                shared = hierarchy.base / SHARED
                _write(shared / "pids.max", str(pids_max))
                with contextlib.suppress(OSError):
                    self._count_fd = os.open(shared / "pids.current", os.O_RDONLY | os.O_CLOEXEC)
                    self._count_max = pids_max

    def check_room(self) -> None:
        """Raises `CannotStartError`, a passing one, while the shared group is full, or nearly.

        A task that starts in a full group could not fork, and would fail for what others do.
        """
        if self._count_fd < 0:
            return
        count = int(os.pread(self._count_fd, 32, 0))
        if count >= self._count_max - self._count_max // RESERVE_PART:
            raise spawn.CannotStartError(
                f"the tasks have {count} processes already, of {self._count_max} at most",
                passing=True,
            )

    def make(self, name: str, limits: Limits) -> Group | None:
        """A group with those limits; None if the machine cannot enforce all of them.

        Where a hierarchy only helps to kill (v2 without controllers, the v1 freezer), it is used.
        """
        if not limits.controllers() <= self.controllers:
            return None
        group = Group()
        try:
            for hierarchy in self._hierarchies:
                wanted = hierarchy.controllers & limits.controllers()
                if not wanted and hierarchy.version == 1 and "freezer" not in hierarchy.controllers:
                    continue
                self._make_in(hierarchy, hierarchy.base / name, wanted, limits, group)
        except OSError:
            group.remove()
            return None
        return group

    def _make_in(
        self, hierarchy: Hierarchy, folder: Path, wanted: set[str], limits: Limits, group: Group
    ) -> None:
        # With its parent, which another node may have taken for one that nobody uses any more.
        folder.mkdir(parents=True, exist_ok=True)
        if hierarchy.version == 2:
            group.folders["v2"] = folder
        elif "freezer" in hierarchy.controllers:
            group.folders["freezer"] = folder
        for controller in wanted:
            group.folders[controller] = folder
        limit = _limit_v2 if hierarchy.version == 2 else _limit_v1
        limit(folder, {c: getattr(limits, "cpus" if c == "cpu" else c) for c in wanted})

    def close(self) -> None:
        """Leave and remove the base groups; what is not empty stays for the next runner."""
        if self._count_fd >= 0:
            os.close(self._count_fd)
            self._count_fd = -1
        for hierarchy in self._joined:
            leaf = hierarchy.base / NODE
            place = leaf if leaf.exists() else hierarchy.base.parent
            with contextlib.suppress(OSError):
                (place / "cgroup.procs").write_text(str(os.getpid()))
        for hierarchy in self._hierarchies:
            for folder in (hierarchy.base / SHARED, hierarchy.base / NODE, hierarchy.base):
                with contextlib.suppress(OSError):
                    folder.rmdir()
        self._hierarchies, self._joined = [], []

    def _found(self) -> Iterable[tuple[int, set[str], Path]]:
        """(version, controllers, the node's own folder) of each mounted hierarchy."""
        paths: dict[str, str] = {}
        for line in self._own.read_text().splitlines():
            _, listed, path = line.split(":", 2)
            for name in listed.split(","):
                paths[name] = path
        for line in self._mounts.read_text().splitlines():
            _, mount, kind, options = line.split()[:4]
            if kind == "cgroup2" and "" in paths:
                folder = self._home(Path(mount) / paths[""].lstrip("/"))
                yield 2, _words(folder / "cgroup.controllers"), folder
            elif kind == "cgroup":
                useful = {o for o in options.split(",") if o in paths} & {*_LIMITING, "freezer"}
                if useful:
                    folder = self._home(Path(mount) / paths[min(useful)].lstrip("/"))
                    yield 1, useful, folder

    def _home(self, own: Path) -> Path:
        """The node's own group, also if this process is below it, as an earlier runner moved it."""
        below = own.name in (SHARED, NODE) and own.parent.name == self._name
        return own.parent.parent if below else own


def _delegate(base: Path, offered: set[str]) -> set[str]:
    """Hand the limiting controllers down to the groups below `base`; which could be.

    A group hands on controllers only while no process is in it. Worse, where one is, the kernel
    takes `+cpu` and then lets no process enter the groups below. So the node's own processes move
    out of the way first, and nothing is tried while strangers are there.
    """
    wanted = offered & set(_LIMITING)
    for folder in (base.parent, base):
        missing = wanted - _words(folder / "cgroup.subtree_control")
        if missing and not _vacate(folder, base / NODE):
            break
        for controller in sorted(missing):
            _write(folder / "cgroup.subtree_control", f"+{controller}")
    return _words(base / "cgroup.subtree_control") & set(_LIMITING)


def _vacate(folder: Path, leaf: Path) -> bool:
    """Move this node's processes from `folder` into `leaf`; whether nobody is left there."""
    if not (folder / "cgroup.type").exists():
        return True  # The root of all groups, which may have both.
    for _ in range(VACATE_ROUNDS_MAX):
        pids = _pids(folder)
        if not pids:
            return True
        # What forked meanwhile is seen by the next look.
        for pid in pids & tree.own_family():
            with contextlib.suppress(OSError):
                leaf.mkdir(exist_ok=True)
            _write(leaf / "cgroup.procs", str(pid))
    return not _pids(folder)


def _limit_v1(folder: Path, values: dict[str, float]) -> None:
    if "memory" in values:
        size = str(int(values["memory"]))
        (folder / "memory.limit_in_bytes").write_text(size)
        # Swap would only make the end slower. Absent where the kernel does not count it.
        _write(folder / "memory.memsw.limit_in_bytes", size)
    if "cpu" in values:
        (folder / "cpu.cfs_period_us").write_text(str(CPU_PERIOD_US))
        (folder / "cpu.cfs_quota_us").write_text(str(_quota_us(values["cpu"])))
    if "pids" in values:
        (folder / "pids.max").write_text(str(int(values["pids"])))


def _limit_v2(folder: Path, values: dict[str, float]) -> None:
    if "memory" in values:
        (folder / "memory.max").write_text(str(int(values["memory"])))
        _write(folder / "memory.swap.max", "0")
    if "cpu" in values:
        (folder / "cpu.max").write_text(f"{_quota_us(values['cpu'])} {CPU_PERIOD_US}")
    if "pids" in values:
        (folder / "pids.max").write_text(str(int(values["pids"])))


def _quota_us(cpus: float) -> int:
    return max(CPU_QUOTA_US_MIN, int(cpus * CPU_PERIOD_US))


def _clear(base: Path) -> None:
    """Kill and remove all that a former runner left below `base`."""
    deadline = time.monotonic() + REMOVE_S_MAX
    for folder in [p for p in base.iterdir() if p.is_dir() and p.name != NODE]:
        while True:
            pids = _pids(folder)
            tree.send(pids - {os.getpid()}, signal.SIGKILL)
            if os.getpid() in pids:
                break
            try:
                folder.rmdir()
                break
            except OSError:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.005)


def _tidy(own: Path) -> None:
    """Remove what nodes of other folders left, if it is old and empty: they may never come back."""
    for base in own.parent.glob("LEORONIC-*"):
        with contextlib.suppress(OSError):
            if base != own and time.time() - base.stat().st_mtime > TIDY_AFTER_S:
                for folder in [p for p in base.iterdir() if p.is_dir()]:
                    folder.rmdir()
                base.rmdir()


def _pids(folder: Path) -> set[int]:
    try:
        return {int(line) for line in (folder / "cgroup.procs").read_text().split()}
    except OSError:
        return set()


def _counter(path: Path, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) == 2 and words[0] == name:
                return int(words[1])
    return 0


def _words(path: Path) -> set[str]:
    try:
        return set(path.read_text().split())
    except OSError:
        return set()


def _write(path: Path, text: str) -> None:
    """Write where the kernel allows it; what it refuses is not needed."""
    with contextlib.suppress(OSError):
        path.write_text(text)
