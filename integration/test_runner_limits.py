"""Limits on real processes: kept by the kernel where it has groups, by watching elsewhere."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from integration.runner_harness import Bench, make_config, running
from leoronic.core.run import AttemptKey
from leoronic.runner.cgroup import Cgroups
from leoronic.runner.spawn import CannotStartError

ALLOCATE = "x=$(head -c {size} /dev/zero | tr '\\0' x); echo ${{#x}}; sleep {sleep}"


@pytest.fixture(params=["groups", "watched"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    groups = request.param == "groups"
    async with running(use_cgroups=groups, linger_s=1.0, grace_s=1.0) as bench:
        if groups:
            assert {"memory", "pids", "cpu"} <= bench.actor._cgroups.controllers, "needs cgroups"
        yield bench


# What the kernel alone can do: without groups there is nothing to test.
only_groups = pytest.mark.parametrize("bench", ["groups"], indirect=True)


async def test_memory(bench: Bench) -> None:
    """A task that takes more memory than it asked for is killed, and told so; others are not."""
    outcome = await bench.run(ALLOCATE.format(size=120_000_000, sleep=3), memory=64 << 20)
    assert not outcome.succeeded
    assert "killed: memory 64 MiB" == outcome.reason
    outcome = await bench.run(ALLOCATE.format(size=10_000_000, sleep=0), memory=256 << 20)
    assert (b"10000000\n", "") == (outcome.stdout.inline, outcome.reason)


async def test_tiny_memory_is_enough_for_a_shell(bench: Bench) -> None:
    """Whoever asks for a kilobyte can still run a shell."""
    outcome = await bench.run("echo hi | cat", memory=1024)
    assert (b"hi\n", "", 0) == (outcome.stdout.inline, outcome.reason, outcome.exit_code)


async def test_too_many_processes(bench: Bench) -> None:
    """A task that goes over its processes and fails is told so."""
    outcome = await bench.run("for i in {1..30}; do sleep 2 & done; wait; exit 1", pids=10)
    expected = "pids limit of 10 reached"
    if not bench.config.use_cgroups:
        expected = "killed: more than 10 processes"
    assert expected == outcome.reason


@only_groups  # root has no RLIMIT_NPROC: without groups the bomb would hit this machine
async def test_fork_bomb(bench: Bench) -> None:
    """A fork bomb under a pids limit is contained and ended; the runner goes on meanwhile."""
    key = await bench.start("f() { f | f & }; f; sleep 2; exit 1", pids=20, time_limit=4.0)
    begin = time.monotonic()
    assert b"hi\n" == (await bench.run("echo hi")).stdout.inline
    assert time.monotonic() - begin < 1.5
    outcome = await bench.outcome(key)
    assert outcome.reason in (
        "pids limit of 20 reached",
        "killed: more than 20 processes",
        "time limit 4 s",
    )
    assert not outcome.succeeded
    assert b"hi\n" == (await bench.run("echo hi")).stdout.inline


COPES = """
import os, sys, time
refused = 0
for _ in range(30):
    try:
        child = os.fork()
    except BlockingIOError:
        refused += 1
        continue
    if not child:
        time.sleep(0.3)
        os._exit(0)
assert refused
sys.exit(int(sys.argv[1]))
"""


@only_groups  # watching kills instead
async def test_refused_fork_alone_is_no_failure(bench: Bench) -> None:
    """A task that coped with a refused fork succeeded."""
    # Not bash, which gives up if a child ends while it waits to try again.
    command = f"{sys.executable} -c {shlex.quote(COPES)} "
    assert "" == (await bench.run(command + "0", pids=10)).reason
    outcome = await bench.run(command + "7", pids=10)
    assert ("pids limit of 10 reached", 7) == (outcome.reason, outcome.exit_code)


@only_groups
async def test_cpus(bench: Bench) -> None:
    """A fraction of a core is what a task gets, and no more."""
    outcome = await bench.run("timeout 1 bash -c 'while :; do :; done'", cpus=0.25)
    assert outcome.cpu_seconds is not None
    assert outcome.cpu_seconds < 0.45


async def test_kill_in_group(bench: Bench) -> None:
    """A limited task's tree ends like any other, and its groups go with it."""
    key = await bench.start(
        "trap '' TERM; (setsid sleep 300 &); (trap '' TERM; while :; do sleep 1; done) & "
        "echo go; wait",
        memory=64 << 20,
        pids=50,
    )
    await bench.read(key, wait_s=5)
    await bench.kill(key, grace_s=0.3)
    outcome = await bench.outcome(key)
    assert ("cancelled", 9) == (outcome.reason, outcome.signal)
    bench.actor._remove_old_groups()
    assert [] == bench.actor._old_groups


async def test_limited_task_sees_a_plain_shell(bench: Bench) -> None:
    """How a shell got into its group does not show."""
    command = "echo $0 $# $-; ls /proc/self/fd | wc -l; env | sort | grep -v KEY; umask; foo"
    limited = await bench.run(command, memory=64 << 20)
    plain = await bench.run(command, fresh_shell=True)
    assert bench.content(plain.stdout) == bench.content(limited.stdout)
    assert plain.stderr.inline == limited.stderr.inline
    assert plain.exit_code == limited.exit_code


async def test_shared_group_bounds_all_others() -> None:
    """A fork bomb without a limit of its own fills the shared group, and can be cancelled."""
    async with running(tasks_pids_max=60, warm_shells_max=0, linger_s=1.0) as bench:
        if "pids" not in bench.actor._cgroups.controllers:
            pytest.skip("no writable groups on this machine")
        key = await bench.start("f() { f | f & }; f; sleep 60")
        await asyncio.sleep(0.3)
        group = next(h.base for h in bench.actor._cgroups._joined if "pids" in h.controllers)
        assert int((group / "shared" / "pids.current").read_text()) <= 60
        await bench.kill(key, grace_s=0.0)
        assert "cancelled" == (await bench.outcome(key)).reason
        assert b"hi\n" == (await bench.run("echo hi")).stdout.inline


HOG = "for i in {1..200}; do sleep 300 & done 2>/dev/null; wait"


async def full_group(bench: Bench) -> AttemptKey:
    """One task that has filled the shared group."""
    if "pids" not in bench.actor._cgroups.controllers:
        pytest.skip("no writable groups on this machine")
    key = await bench.start(HOG, fresh_shell=True)

    def is_full() -> bool:
        try:
            bench.actor._cgroups.check_room()
        except CannotStartError:
            return True
        return False

    await bench.until(is_full, 10, "a full group")
    return key


@pytest.mark.parametrize("warm", [0, 2])
async def test_full_group_fails_nobody(warm: int) -> None:
    """What comes while one task fills the shared group is not started; later it runs."""
    async with running(tasks_pids_max=50, warm_shells_max=warm, linger_s=1.0) as bench:
        if warm:
            await asyncio.gather(*(bench.run("true") for _ in range(6)))
        hog = await full_group(bench)
        others = [await bench.start("echo hi | cat", workdir=w) for w in ("shared", "private") * 4]
        for key in others:
            outcome = await bench.outcome(key)
            assert outcome.not_started, outcome
            assert outcome.reason.startswith("cannot start: the tasks have "), outcome
        await bench.kill(hog, grace_s=0.0)
        assert "cancelled" == (await bench.outcome(hog)).reason
        assert b"hi\n" == (await bench.run("echo hi | cat")).stdout.inline


async def test_group_that_is_full_for_a_moment() -> None:
    """Who comes while the shared group is full starts as soon as it is not, within a second."""
    async with running(tasks_pids_max=50, warm_shells_max=0, linger_s=1.0) as bench:
        hog = await full_group(bench)
        others = [await bench.start("echo hi | cat") for _ in range(8)]
        await asyncio.sleep(0.25)
        assert others == [key for key in others if key not in bench.context.outcomes]
        await bench.kill(hog, grace_s=0.0)
        for key in others:
            outcome = await bench.outcome(key)
            assert (b"hi\n", "", False) == (
                outcome.stdout.inline,
                outcome.reason,
                outcome.not_started,
            )


async def test_stop_between_tries() -> None:
    """A runner that is stopped does not wait for those that it could not start yet."""
    async with running(tasks_pids_max=50, warm_shells_max=0, linger_s=1.0, grace_s=0.3) as bench:
        await full_group(bench)
        key = await bench.start("echo hi")
    assert ("the runner was stopped", False) == (
        bench.context.outcomes[key].reason,
        bench.context.outcomes[key].not_started,
    )


async def test_groups_of_a_killed_runner_are_cleared(tmp_path: Path) -> None:
    """What a former runner left in its groups is killed and removed by the next."""
    config = make_config(tmp_path)
    groups = Cgroups(config.state_id)
    groups.open(100)
    if "pids" not in groups.controllers:
        pytest.skip("no writable groups on this machine")
    base = next(h.base for h in groups._hierarchies if "pids" in h.controllers)
    left = base / "t1.1"
    left.mkdir()
    process = await asyncio.create_subprocess_exec("sleep", "300")
    (left / "cgroup.procs").write_text(str(process.pid))
    groups.close()
    async with running(tmp_path):
        assert -9 == await asyncio.wait_for(process.wait(), 5)
        assert not left.exists()
