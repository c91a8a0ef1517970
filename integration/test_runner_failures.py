"""What breaks around a runner: the disk, the runner itself, floods of output."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from integration.runner_harness import running
from leoronic.runner import actor

ROOT = Path(__file__).resolve().parents[1]
GIB = 1 << 30

CHILD = """
import asyncio, sys
from pathlib import Path
from integration.runner_harness import running
async def main():
    async with running(Path(sys.argv[1]), grace_s=0.5, linger_s=0.5) as bench:
        for command in sys.argv[2:]:
            await bench.start(command)
        import signal
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        print("ready", flush=True)
        await stop.wait()
    for key, outcome in sorted(bench.context.outcomes.items()):
        print(key[0], outcome.exit_code, outcome.signal, outcome.reason)
asyncio.run(main())
"""


def start_runner(root: Path, *commands: str) -> subprocess.Popen[bytes]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root), *commands],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    assert b"ready\n" == child.stdout.readline()
    return child


def wait_for_file(path: Path, within_s: float = 10.0) -> str:
    deadline = time.monotonic() + within_s
    while not (path.exists() and path.read_text().strip()):
        assert time.monotonic() < deadline, f"{path} was not written within {within_s} s"
        time.sleep(0.01)
    return path.read_text().strip()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


async def test_a_gibibyte_of_output() -> None:
    """A GiB streams to its file at disk speed, and the runner's memory does not grow with it."""
    async with running(warm_shells_max=0) as bench:
        await bench.run("true")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begin = time.monotonic()
        outcome = await bench.run("head -c 1073741824 /dev/zero", within_s=50)
        seconds = time.monotonic() - begin
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(f"1 GiB of output: {1024 / seconds:.0f} MiB/s, memory grew by {grown / 1024:.1f} MiB")
        assert GIB == outcome.stdout.size
        assert GIB == (bench.config.output_dir / outcome.stdout.file).stat().st_size
        assert grown < 32 * 1024


async def test_flood_leaves_others_alone() -> None:
    """While one task prints without end, another is served promptly."""
    async with running() as bench:
        key = await bench.start("cat /dev/zero")
        await asyncio.sleep(0.2)
        begin = time.monotonic()
        assert b"hi\n" == (await bench.run("echo hi")).stdout.inline
        assert time.monotonic() - begin < 1.0
        await bench.kill(key)
        assert "cancelled" == (await bench.outcome(key)).reason


@pytest.fixture
def small_disk(tmp_path: Path):  # type: ignore[no-untyped-def]
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)], check=False
    ).returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_full_disk_pauses_the_task(small_disk: Path) -> None:
    """With the disk full a task waits; with room again it goes on, and not a byte is missing."""
    async with running(small_disk, use_cgroups=False) as bench:
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * (3 << 20))
        key = await bench.start("seq 400000")
        packed = await bench.start("seq 20000; sleep 1.5")
        log = bench.context.log
        await bench.until(
            lambda: any("disk_full" in line for line in log.lines), 10, "the log line"
        )
        await asyncio.sleep(1.2)
        assert key not in bench.context.outcomes
        assert b"hi\n" == (await bench.run("echo hi")).stdout.inline
        ballast.unlink()
        outcome = await bench.outcome(key)
        expected = b"".join(b"%d\n" % i for i in range(1, 400_001))
        assert expected == bench.content(outcome.stdout)
        outcome = await bench.outcome(packed)
        assert expected[: outcome.stdout.size] == bench.content(outcome.stdout)
        assert 108_894 == outcome.stdout.size
        assert ["disk_full", "disk_has_room"] == [line[1] for line in log.lines]


def test_kill_9_of_the_runner(tmp_path: Path) -> None:
    """What a killed runner left behind is ended by the next one before it is ready."""
    first, second = tmp_path / "first.pid", tmp_path / "second.pid"
    child = start_runner(
        tmp_path,
        f"echo $BASHPID >{first}; sleep 300",
        f"(setsid bash -c 'trap \"\" TERM; echo $$ >{second}; while :; do sleep 1; done' &)",
    )
    pids = [int(wait_for_file(first)), int(wait_for_file(second))]
    child.kill()
    child.wait()
    assert not all(gone(pid) for pid in pids)
    again = start_runner(tmp_path)
    assert [True, True] == [gone(pid) for pid in pids]
    again.send_signal(signal.SIGTERM)
    again.wait(10)


def test_term_of_the_runner(tmp_path: Path) -> None:
    """A runner that is told to stop ends its tasks, the stubborn too, and tells of them."""
    first, second = tmp_path / "first.pid", tmp_path / "second.pid"
    child = start_runner(
        tmp_path,
        f"trap 'exit 7' TERM; echo $BASHPID >{first}; while :; do sleep 0.05; done",
        f"trap '' TERM; echo $BASHPID >{second}; while :; do sleep 0.05; done",
    )
    pids = [int(wait_for_file(first)), int(wait_for_file(second))]
    child.send_signal(signal.SIGTERM)
    output, _ = child.communicate(timeout=15)
    assert [
        "t1 7 None the runner was stopped",
        "t2 None 9 the runner was stopped",
    ] == output.decode().splitlines()
    assert [True, True] == [gone(pid) for pid in pids]


def test_small_output_outlives_a_killed_runner(tmp_path: Path) -> None:
    """What an attempt older than a second printed, however little, is there after a kill -9."""
    child = start_runner(
        tmp_path,
        "while :; do echo small; sleep 0.3; done",
        "echo once; echo why >&2; sleep 300",
    )
    output = tmp_path / ".leoronic" / "output"
    wait_for_file(output / "t1.1.stdout")
    assert "once" == wait_for_file(output / "t2.1.stdout")
    assert "why" == wait_for_file(output / "t2.1.stderr")
    deadline = time.monotonic() + 5.0
    while len((output / "t1.1.stdout").read_text().splitlines()) < 6:
        assert time.monotonic() < deadline, (output / "t1.1.stdout").read_text()
        time.sleep(0.05)
    child.kill()
    child.wait()
    assert {"small"} == set((output / "t1.1.stdout").read_text().splitlines())
    assert "once\n" == (output / "t2.1.stdout").read_text()
    again = start_runner(tmp_path)
    again.send_signal(signal.SIGTERM)
    again.wait(10)
    assert "why\n" == (output / "t2.1.stderr").read_text()


def test_small_output_outlives_a_stopped_runner(tmp_path: Path) -> None:
    """Output of attempts that a stop ended is in files, with what they said when they were told."""
    pid = tmp_path / "young.pid"
    child = start_runner(
        tmp_path,
        "trap 'echo tidy; exit 7' TERM; echo ready; "
        f"echo $BASHPID >{pid}; while :; do sleep 0.05; done",
    )
    wait_for_file(pid)
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=15)
    assert "ready\ntidy\n" == (tmp_path / ".leoronic/output/t1.1.stdout").read_text()


async def test_small_file_goes_with_its_attempt() -> None:
    """An attempt that ended well leaves no file of its few bytes once its outcome is safe."""
    async with running(file_after_s=0.2) as bench:
        key = await bench.start("echo one; sleep 0.6; echo two")
        file = bench.config.output_dir / f"{key[0]}.1.stdout"
        await bench.until(file.exists, 5, "the file")
        assert b"one\n" == (await bench.read(key)).data
        assert b"one\ntwo\n" == (await bench.outcome(key)).stdout.inline
        assert "one\ntwo\n" == file.read_text()
        await bench.forget(key)
        assert [] == list(bench.config.output_dir.iterdir())


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EAGAIN])
async def test_short_want_of_anything(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that the machine refuses for a moment succeeds a moment later."""
    refusals = 2
    pipe = os.pipe

    def refusing() -> tuple[int, int]:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise OSError(number, os.strerror(number))
        return pipe()

    async with running(warm_shells_max=0) as bench:
        monkeypatch.setattr(os, "pipe", refusing)
        outcome = await bench.run("echo hi")
    assert (b"hi\n", "", 0) == (outcome.stdout.inline, outcome.reason, refusals)


async def test_lasting_want_of_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the machine refuses for more than a second is not started, which is no failure."""

    def refusing() -> tuple[int, int]:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    async with running(warm_shells_max=0) as bench:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pipe", refusing)
            outcome = await bench.run("echo hi")
        assert outcome.not_started
        assert "cannot start: Too many open files in system" == outcome.reason
        assert b"hi\n" == (await bench.run("echo hi")).stdout.inline


async def test_as_many_attempts_as_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where fewer descriptors may be open, fewer attempts are held; the rest is told so."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits[0], 175))
    async with running(warm_shells_max=0) as bench:
        keys = [await bench.start("sleep 0.2; echo hi") for _ in range(4)]
        outcomes = [await bench.outcome(key) for key in keys]
    assert [False, False, False, True] == [outcome.not_started for outcome in outcomes]
    assert "cannot start: the runner holds 3 attempts already" == outcomes[3].reason


async def test_silent_output_stays_young(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of a task that runs are never old, though it printed nothing for weeks."""
    monkeypatch.setattr(actor, "REAP_S", 0.05)
    monkeypatch.setattr(actor, "TOUCH_S", 0.05)
    async with running(file_after_s=0.1) as bench:
        key = await bench.start("echo one; sleep 300")
        file = bench.config.output_dir / f"{key[0]}.1.stdout"
        await bench.until(file.exists, 5, "the file")
        os.utime(file, (0.0, 0.0))
        await bench.until(lambda: time.time() - file.stat().st_mtime < 60, 5, "a young file")
        await bench.kill(key)


async def test_output_ages_from_the_end() -> None:
    """What was printed long before the end is kept as long as what was printed last."""
    async with running(file_after_s=0.1) as bench:
        key = await bench.start("head -c 5000 /dev/zero; sleep 1")
        file = bench.config.output_dir / f"{key[0]}.1.stdout"
        await bench.until(lambda: file.exists() and file.stat().st_size == 5000, 5, "the file")
        os.utime(file, (0.0, 0.0))
        assert file.name == (await bench.outcome(key)).stdout.file
        assert time.time() - file.stat().st_mtime < 60


async def test_a_thousand_orphans() -> None:
    """Processes that lose their parents and end are reaped, not kept as zombies."""
    async with running() as bench:
        await bench.run("for i in {1..300}; do (sleep 0.01 &) ; done; sleep 0.3")
        await bench.run("true")
        assert set() == bench.actor._trees.children() - set(bench.actor._trees.by_pid)
