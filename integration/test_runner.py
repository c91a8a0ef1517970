"""The runner on real processes: what tasks do that runners get wrong, fresh shells and warm."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from integration.runner_harness import Bench, running


@pytest.fixture(params=["fresh", "warm"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    warm = 2 if request.param == "warm" else 0
    async with running(
        warm_shells_max=warm, warm_after_starts=0, linger_s=1.0, grace_s=1.0
    ) as bench:
        yield bench


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


async def test_output_and_exit_code(bench: Bench) -> None:
    """Both streams and the exit code come back; a short stream is inline."""
    outcome = await bench.run("echo out; echo err >&2; exit 3")
    assert (b"out\n", b"err\n") == (outcome.stdout.inline, outcome.stderr.inline)
    assert (3, None, "") == (outcome.exit_code, outcome.signal, outcome.reason)
    assert 0 < outcome.started_at <= outcome.finished_at <= time.time()
    assert 0 == outcome.stragglers
    assert not outcome.succeeded


async def test_death_by_signal(bench: Bench) -> None:
    """A shell that dies by a signal has that signal, and no exit code."""
    outcome = await bench.run("kill -TERM $BASHPID")
    assert (None, 15) == (outcome.exit_code, outcome.signal)
    outcome = await bench.run("exit 143")
    assert (143, None) == (outcome.exit_code, outcome.signal)


@pytest.mark.parametrize(
    "command",
    [
        """printf '%s' "a 'b' \\"c\\" \\\\ \\$d" """,
        "printf 'line one\nline two\n'",
        "printf '%s' 'tab\there'\n# a comment at the end",
        "cat <<'END'\n$not `expanded` \\ \nEND\n",
        "printf '%s' 'ünïcödé \U0001f600'",
        "printf '\\377\\376\\000\\001x'",
        "printf '%s' 'bell\x07 escape\x1b\x7f'",
    ],
)
async def test_command_text_is_not_touched(bench: Bench, command: str) -> None:
    """Quotes, newlines and odd bytes mean to the task what they mean to `bash -c`."""
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", command, stdout=asyncio.subprocess.PIPE
    )
    expected, _ = await process.communicate()
    outcome = await bench.run(command)
    assert expected == bench.content(outcome.stdout)
    assert 0 == outcome.exit_code


async def test_non_utf8_command(bench: Bench) -> None:
    """Bytes that are no UTF-8 reach bash as they came (as surrogate escapes)."""
    outcome = await bench.run(os.fsdecode(b"printf '%s' '\xff\xfe'"))
    assert b"\xff\xfe" == outcome.stdout.inline


async def test_long_command(bench: Bench) -> None:
    """A command beyond what an argument may hold runs like any other."""
    text = "x" * 300_000
    outcome = await bench.run(f"a={text}; echo ${{#a}} $# $0; exit 4")
    assert (b"300000 0 bash\n", 4) == (outcome.stdout.inline, outcome.exit_code)
    outcome = await bench.run("ls -l /proc/self/fd | wc -l\n" + "# " + text)
    expected = await bench.run("ls -l /proc/self/fd | wc -l")
    assert expected.stdout.inline == outcome.stdout.inline


async def test_stdin(bench: Bench) -> None:
    """`stdin` is what the task reads; without it there is nothing to read."""
    text = "line\n" * 100_000
    outcome = await bench.run("cat | wc -c; read -r x || echo end", stdin=text)
    assert b"500000\nend\n" == outcome.stdout.inline
    outcome = await bench.run("cat; echo $?")
    assert b"0\n" == outcome.stdout.inline


async def test_environment(bench: Bench) -> None:
    """`env` is added, and the marker; nothing else of Leoronic's is seen."""
    os.environ["LEORONIC_SECRET"] = "x"
    outcome = await bench.run(
        "env | grep LEORONIC_ | cut -d= -f1 | sort; echo $LEORONIC_TASK_ID",
        env={"LEORONIC_TASK_ID": "it's $x"},
    )
    assert b"LEORONIC_ATTEMPT_KEY\nLEORONIC_TASK_ID\nit's $x\n" == outcome.stdout.inline


async def test_descriptors_and_group(bench: Bench) -> None:
    """A task has descriptors 0, 1 and 2 only, and a process group of its own."""
    outcome = await bench.run(
        "echo /proc/$BASHPID/fd/*; cut -d' ' -f5 /proc/$BASHPID/stat; echo $BASHPID"
    )
    fds, group, pid = outcome.stdout.inline.split(b"\n")[:3]
    numbers = {int(path.rsplit(b"/", 1)[1]) for path in fds.split()}
    # 3 is the folder that bash reads to list them.
    assert {0, 1, 2} == numbers - {3}
    assert group == pid


async def test_kill_0(bench: Bench) -> None:
    """`kill 0` ends the task's own group, and nobody else's."""
    other = await bench.start("sleep 1; echo still here")
    outcome = await bench.run("sleep 60 & kill -KILL 0")
    assert (None, 9) == (outcome.exit_code, outcome.signal)
    assert b"still here\n" == (await bench.outcome(other)).stdout.inline


async def test_output_after_the_shell_has_gone(bench: Bench) -> None:
    """A background child that prints after the shell's exit is heard, and its output in order."""
    outcome = await bench.run("(sleep 0.3; echo late) & echo early")
    assert b"early\nlate\n" == outcome.stdout.inline
    assert (0, "", 0) == (outcome.exit_code, outcome.reason, outcome.stragglers)


async def test_straggler_is_ended(bench: Bench) -> None:
    """A background child that holds the output open is ended after the linger time, and counted."""
    begin = time.monotonic()
    outcome = await bench.run("sleep 300 & echo $!")
    assert 0.9 < time.monotonic() - begin < 3
    assert (0, 1, "") == (outcome.exit_code, outcome.stragglers, outcome.reason)
    assert not alive(int(outcome.stdout.inline))


async def test_silent_straggler_is_ended_at_once(bench: Bench) -> None:
    """A background child that holds nothing open is not waited for."""
    begin = time.monotonic()
    outcome = await bench.run("sleep 300 >/dev/null 2>&1 & echo $!")
    assert time.monotonic() - begin < 0.9
    assert (0, 1) == (outcome.exit_code, outcome.stragglers)
    assert not alive(int(outcome.stdout.inline))


@pytest.mark.parametrize(
    "daemon",
    [
        "setsid bash -c 'echo $$ >{pid}; exec sleep 300' >/dev/null 2>&1 &",
        "(setsid bash -c 'trap \"\" TERM HUP; echo $$ >{pid}; while :; do sleep 1; done' &) &",
        "env -i setsid bash -c 'echo $$ >{pid}; exec sleep 300' &",
        "set -m; (trap '' TERM; echo $BASHPID >{pid}; while :; do sleep 1; done) &",
    ],
)
async def test_daemon_is_ended(bench: Bench, daemon: str) -> None:
    """What left the session, the group or the environment is found all the same."""
    file = bench.root / "daemon.pid"
    outcome = await bench.run(
        f"{daemon.format(pid=file)} while ! [ -s {file} ]; do sleep 0.01; done; echo started"
    )
    assert b"started\n" == outcome.stdout.inline
    assert outcome.stragglers >= 1
    assert not alive(int(file.read_text()))


async def test_daemon_that_shed_every_mark(bench: Bench) -> None:
    """A process with no mark at all is ended once nothing runs that it could belong to."""
    file = bench.root / "daemon.pid"
    await bench.run(
        f"(env -i setsid bash -c 'echo $$ >{file}; exec sleep 300' >/dev/null 2>&1 &);"
        f"while ! [ -s {file} ]; do sleep 0.01; done"
    )
    pid = int(file.read_text())
    await bench.until(lambda: not alive(pid), 3, "the end of the daemon")


async def test_cancel(bench: Bench) -> None:
    """A cancelled task gets TERM, and may tidy up."""
    key = await bench.start(
        "trap 'echo tidy; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    )
    await bench.read(key, wait_s=5)
    await bench.kill(key)
    outcome = await bench.outcome(key)
    assert b"ready\ntidy\n" == outcome.stdout.inline
    assert (9, "cancelled") == (outcome.exit_code, outcome.reason)


async def test_child_that_ignores_term(bench: Bench) -> None:
    """A tree that ignores TERM is killed after the grace, all of it."""
    key = await bench.start(
        "trap '' TERM; (trap '' TERM; echo $BASHPID; while :; do sleep 1; done) & wait"
    )
    part = await bench.read(key, wait_s=5)
    begin = time.monotonic()
    await bench.kill(key, grace_s=0.5)
    outcome = await bench.outcome(key)
    assert 0.4 < time.monotonic() - begin < 2.5
    assert (None, 9, "cancelled") == (outcome.exit_code, outcome.signal, outcome.reason)
    assert not alive(int(part.data))


async def test_time_limit(bench: Bench) -> None:
    """A task over its time ends, and the limit is named."""
    begin = time.monotonic()
    outcome = await bench.run("sleep 60", time_limit=0.5)
    assert time.monotonic() - begin < 1.5
    assert ("time limit 0.5 s", None) == (outcome.reason, outcome.exit_code)


async def test_stopped_task_is_killed(bench: Bench) -> None:
    """A task that stopped itself can be cancelled, and acts on TERM."""
    key = await bench.start("trap 'exit 5' TERM; echo x; kill -STOP $BASHPID; sleep 60")
    await bench.read(key, wait_s=5)
    await bench.kill(key, grace_s=3)
    outcome = await bench.outcome(key)
    assert (5, "cancelled") == (outcome.exit_code, outcome.reason)


async def test_kill_at_once(bench: Bench) -> None:
    """A kill that comes with the start is honoured."""
    key = await bench.start("sleep 60")
    await bench.kill(key)
    assert "cancelled" == (await bench.outcome(key)).reason


async def test_missing_folder(bench: Bench) -> None:
    """A task that cannot be started says why."""
    outcome = await bench.run("true", env={"A=B": "x"})
    assert outcome.reason.startswith("cannot start: "), outcome
    outcome = await bench.run("true", env={"A": "x" * 3_000_000})
    assert outcome.reason.startswith("cannot start: "), outcome
    outcome = await bench.run("echo 'a\0b'")
    assert outcome.reason.startswith("cannot start: "), outcome
    bench.root.rename(bench.root.with_name(bench.root.name + "-away"))
    outcome = await bench.run("true", fresh_shell=True)
    assert not outcome.not_started
    bench.root.with_name(bench.root.name + "-away").rename(bench.root)
    assert f"cannot start: No such file or directory: {bench.root}" == outcome.reason


async def test_middling_output_is_packed(bench: Bench) -> None:
    """A stream of some kilobytes goes into a pack, its neighbour stays inline."""
    outcome = await bench.run("seq 5000; echo err >&2")
    expected = b"".join(b"%d\n" % i for i in range(1, 5001))
    assert expected == bench.content(outcome.stdout)
    assert outcome.stdout.file.startswith("pack-")
    assert b"err\n" == outcome.stderr.inline


async def test_large_output_has_its_own_file(bench: Bench) -> None:
    """A stream of more than a pack takes goes to a file as it comes, whole and in order."""
    key = await bench.start("seq 300000; seq 300000 >&2")
    outcome = await bench.outcome(key)
    expected = b"".join(b"%d\n" % i for i in range(1, 300_001))
    assert f"{key[0]}.1.stdout" == outcome.stdout.file
    assert expected == bench.content(outcome.stdout)
    assert expected == bench.content(outcome.stderr)
    part = await bench.read(key, offset=1_000_000, limit=100)
    assert expected[1_000_000:1_000_100] == part.data


async def test_live_reading(bench: Bench) -> None:
    """Output can be read while the task runs, waiting for more, up to the end."""
    key = await bench.start("echo one; sleep 0.3; echo two; sleep 0.3; seq 100000")
    got, at_end = b"", False
    while not at_end:
        part = await bench.read(key, offset=len(got), wait_s=10, limit=50_000)
        assert part.known
        assert part.data or part.at_end
        got, at_end = got + part.data, part.at_end
    expected = b"one\ntwo\n" + b"".join(b"%d\n" % i for i in range(1, 100_001))
    assert expected == got
    await bench.outcome(key)
    await bench.forget(key)
    assert not (await bench.read(key)).known


async def test_old_attempt_streams_to_a_file(tmp_path: Path) -> None:
    """Output of an attempt that is not young any more is in its file while it runs."""
    async with running(tmp_path, file_after_s=0.2) as bench:
        key = await bench.start("sleep 0.4; seq 2000; sleep 1")
        file = bench.config.output_dir / f"{key[0]}.1.stdout"
        await bench.until(lambda: file.exists() and file.stat().st_size == 8893, 5, "the file")
        assert 8893 == (await bench.outcome(key)).stdout.size


async def test_private_folder(bench: Bench) -> None:
    """`workdir: private` is a folder for this attempt, gone afterwards."""
    outcome = await bench.run("pwd; ls -A; touch x", workdir="private")
    folder = Path(outcome.stdout.inline.decode().strip())
    assert bench.config.scratch_dir.resolve() == folder.parent.resolve()
    await bench.until(lambda: not folder.exists(), 3, "the folder's end")
    assert f"{bench.root}\n".encode() == (await bench.run("pwd")).stdout.inline


async def test_usage(bench: Bench) -> None:
    """What a task used is told: processor seconds, and (fresh) peak memory if more than ours."""
    # More than this process holds itself, whatever tests ran in it before.
    hold = f"{sys.executable} -c 'b\"x\" * 400_000_000'"
    script = f"{hold}; for ((i=0;i<100000;i++)); do :; done"
    outcome = await bench.run(script)
    assert outcome.cpu_seconds is not None
    assert 0.1 < outcome.cpu_seconds < 10
    if not bench.config.warm_shells_max:
        assert outcome.peak_memory is not None
        assert 400_000_000 < outcome.peak_memory < 1_000_000_000


async def test_many_at_once(bench: Bench) -> None:
    """Exits of one turn go out together, and none is lost."""
    keys = [await bench.start(f"echo {i}") for i in range(100)]
    for i, key in enumerate(keys):
        assert f"{i}\n".encode() == (await bench.outcome(key)).stdout.inline
    assert 100 == sum(bench.context.batches)
