"""Control groups against made-up trees: the machine at hand has only one of the layouts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from leoronic.runner import cgroup
from leoronic.runner.cgroup import Cgroups, Group, Limits
from leoronic.runner.spawn import CannotStartError


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control files that behave as the kernel's, but for `cgroup.procs` that we write ourselves.

    A group with processes takes no `+memory` (EBUSY); it takes `+cpu` and `+pids`, but then nothing
    may enter the groups below: the tests count that as refused, too.
    """
    write = cgroup._write

    def fake(path: Path, text: str) -> None:
        if path.name == "cgroup.subtree_control":
            offered = (path.parent / "cgroup.controllers").read_text().split()
            busy = (path.parent / "cgroup.procs").exists() and (
                path.parent / "cgroup.procs"
            ).read_text().split()
            if text.removeprefix("+") in offered and not busy:
                words = {*path.read_text().split(), text.removeprefix("+")}
                path.write_text(" ".join(sorted(words)))
            return
        if path.name == "cgroup.procs":
            for other in path.parents[2].rglob("cgroup.procs"):
                left = [pid for pid in other.read_text().split() if pid != text]
                other.write_text("\n".join(left))
            with path.open("a") as file:
                file.write(f"\n{text}")
            return
        write(path, text)

    monkeypatch.setattr(cgroup, "_write", fake)


def make(tmp_path: Path, mounts: str, own: str) -> Cgroups:
    (tmp_path / "mounts").write_text(mounts.replace("TMP", str(tmp_path)))
    (tmp_path / "own").write_text(own)
    return Cgroups("abc", mounts=tmp_path / "mounts", own=tmp_path / "own")


def v2_tree(tmp_path: Path, controllers: str) -> Cgroups:
    folder = tmp_path / "v2" / "session"
    for place in (folder, folder / "LEORONIC-abc"):
        place.mkdir(parents=True)
        (place / "cgroup.controllers").write_text(controllers)
        (place / "cgroup.subtree_control").write_text("")
    return make(
        tmp_path, "cgroup2 TMP/v2 cgroup2 rw 0 0\nproc /proc proc rw 0 0\n", "0::/session\n"
    )


@pytest.mark.usefixtures("kernel")
def test_v2_limits(tmp_path: Path) -> None:
    """In version 2 one folder holds every limit, and ourselves are out of the way in `shared`."""
    groups = v2_tree(tmp_path, "cpuset cpu io memory pids")
    groups.open(tasks_pids_max=4096)
    assert {"memory", "cpu", "pids"} == groups.controllers
    base = tmp_path / "v2" / "session" / "LEORONIC-abc"
    assert str(os.getpid()) == (base / "shared" / "cgroup.procs").read_text()
    assert "4096" == (base / "shared" / "pids.max").read_text()
    group = groups.make("t.1", Limits(memory=512 << 20, cpus=0.5, pids=20))
    assert group is not None
    folder = base / "t.1"
    assert [str(folder / "cgroup.procs")] == group.join_files()
    assert str(512 << 20) == (folder / "memory.max").read_text()
    assert "0" == (folder / "memory.swap.max").read_text()
    assert "50000 100000" == (folder / "cpu.max").read_text()
    assert "20" == (folder / "pids.max").read_text()


def occupied(tmp_path: Path, *pids: int) -> Path:
    """The group of `v2_tree`, with these processes in it."""
    folder = tmp_path / "v2" / "session"
    (folder / "cgroup.type").write_text("domain")
    (folder / "cgroup.procs").write_text("\n".join(map(str, pids)))
    return folder


@pytest.mark.usefixtures("kernel")
def test_v2_moves_the_node_out_of_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeper and core go into a leaf, as a group with processes hands on no controllers."""
    groups = v2_tree(tmp_path, "cpu memory pids")
    folder = occupied(tmp_path, 701, 702)
    monkeypatch.setattr(cgroup.tree, "own_family", lambda: {os.getpid(), 701, 702})
    groups.open(100)
    assert {"memory", "cpu", "pids"} == groups.controllers == groups.offered
    assert "" == (folder / "cgroup.procs").read_text()
    leaf = folder / "LEORONIC-abc" / "node"
    assert ["701", "702"] == (leaf / "cgroup.procs").read_text().split()
    assert {"cpu", "memory", "pids"} == {*(folder / "cgroup.subtree_control").read_text().split()}


@pytest.mark.usefixtures("kernel")
def test_v2_leaves_strangers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where others are in the node's group nothing is handed on, not even what the kernel takes."""
    groups = v2_tree(tmp_path, "cpu memory pids")
    folder = occupied(tmp_path, 701, 999)
    monkeypatch.setattr(cgroup.tree, "own_family", lambda: {os.getpid(), 701})
    groups.open(100)
    assert (set(), {"cpu", "memory", "pids"}) == (groups.controllers, groups.offered)
    assert ["999"] == (folder / "cgroup.procs").read_text().split()
    assert "" == (folder / "cgroup.subtree_control").read_text()
    assert groups.make("t.1", Limits(memory=1 << 30)) is None


@pytest.mark.usefixtures("kernel")
def test_v2_without_memory(tmp_path: Path) -> None:
    """What there is limits, where memory cannot be."""
    groups = v2_tree(tmp_path, "cpu pids")
    groups.open(100)
    assert {"cpu", "pids"} == groups.controllers
    assert groups.make("t.1", Limits(memory=1 << 30)) is None
    assert groups.make("t.2", Limits(pids=3)) is not None


@pytest.mark.parametrize("leaf", ["node", "shared"])
@pytest.mark.usefixtures("kernel")
def test_v2_again_from_below(tmp_path: Path, leaf: str) -> None:
    """A runner that starts in a leaf of its node finds the node's group, and spares the node."""
    groups = v2_tree(tmp_path, "cpu memory pids")
    groups.open(100)
    below = tmp_path / "v2" / "session" / "LEORONIC-abc"
    (below / "node").mkdir()
    process = subprocess.Popen(["sleep", "60"])
    (below / "node" / "cgroup.procs").write_text(str(process.pid))
    again = make(tmp_path, "cgroup2 TMP/v2 cgroup2 rw 0 0\n", f"0::/session/LEORONIC-abc/{leaf}\n")
    again.open(100)
    assert {"memory", "cpu", "pids"} == again.controllers
    assert process.poll() is None
    process.kill()
    process.wait()


@pytest.mark.usefixtures("kernel")
def test_room_in_the_shared_group(tmp_path: Path) -> None:
    """Nothing starts while the shared group is nearly full; a moment later there may be room."""
    groups = v2_tree(tmp_path, "pids")
    shared = tmp_path / "v2" / "session" / "LEORONIC-abc" / "shared"
    shared.mkdir()
    current = shared / "pids.current"
    current.write_text("13")
    groups.open(16)
    groups.check_room()
    current.write_text("14")
    with pytest.raises(CannotStartError, match="14 processes already, of 16") as raised:
        groups.check_room()
    assert raised.value.passing
    groups.close()
    groups.check_room()


@pytest.mark.usefixtures("kernel")
def test_v2_without_controllers(tmp_path: Path) -> None:
    """A version 2 with no controllers limits nothing, but helps to kill."""
    groups = v2_tree(tmp_path, "")
    groups.open(100)
    assert set() == groups.controllers
    assert groups.make("t.1", Limits(memory=1 << 30)) is None
    group = groups.make("t.2", Limits())
    assert group is not None
    assert {"v2"} == set(group.folders)


def test_v1_limits(tmp_path: Path) -> None:
    """In version 1 each controller has its own hierarchy, or shares one."""
    for name in ("memory", "cpu,cpuacct", "pids", "freezer", "cpuset"):
        (tmp_path / name / "job").mkdir(parents=True)
    groups = make(
        tmp_path,
        "cgroup TMP/memory cgroup rw,memory 0 0\n"
        "cgroup TMP/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
        "cgroup TMP/pids cgroup rw,pids 0 0\n"
        "cgroup TMP/freezer cgroup rw,freezer 0 0\n"
        "cgroup TMP/cpuset cgroup rw,cpuset 0 0\n",
        "5:memory:/job\n4:cpu,cpuacct:/job\n3:pids:/job\n2:freezer:/job\n1:cpuset:/job\n",
    )
    groups.open(100)
    assert {"memory", "cpu", "pids"} == groups.controllers
    group = groups.make("t.1", Limits(memory=64 << 20, cpus=2.0))
    assert group is not None
    assert {"memory", "cpu", "freezer"} == set(group.folders)
    memory = tmp_path / "memory" / "job" / "LEORONIC-abc" / "t.1"
    assert str(64 << 20) == (memory / "memory.limit_in_bytes").read_text()
    quota = tmp_path / "cpu,cpuacct" / "job" / "LEORONIC-abc" / "t.1" / "cpu.cfs_quota_us"
    assert "200000" == quota.read_text()
    assert not (tmp_path / "cpuset" / "job" / "LEORONIC-abc").exists()


def test_nothing_writable(tmp_path: Path) -> None:
    """Without groups there are no controllers, and no group."""
    groups = make(tmp_path, "cgroup2 TMP/none cgroup2 rw 0 0\n", "0::/\n")
    groups.open(100)
    assert set() == groups.controllers
    assert groups.make("t.1", Limits(pids=5)) is None


def test_what_the_kernel_tells(tmp_path: Path) -> None:
    """Kills and refusals are read from where each version counts them."""
    v2 = Group({"v2": tmp_path, "memory": tmp_path, "pids": tmp_path})
    assert not v2.memory_killed()
    (tmp_path / "memory.events").write_text("low 0\nmax 9\noom 1\noom_kill 1\n")
    (tmp_path / "pids.events").write_text("max 3\n")
    (tmp_path / "memory.peak").write_text("4096\n")
    assert (True, True, 4096) == (v2.memory_killed(), v2.pids_refused(), v2.peak_memory())
    v1 = Group({"memory": tmp_path})
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    (tmp_path / "memory.max_usage_in_bytes").write_text("8192\n")
    assert (False, False, 8192) == (v1.memory_killed(), v1.pids_refused(), v1.peak_memory())


def test_v2_kill(tmp_path: Path) -> None:
    """Where the kernel can kill a whole group, one write does it."""
    (tmp_path / "cgroup.kill").write_text("")
    Group({"v2": tmp_path}).kill()
    assert "1" == (tmp_path / "cgroup.kill").read_text()
