"""What becomes of remote calls when workers, nodes and drivers are killed; nothing hangs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import REPOSITORY, Node, alive, kill, wait_until

import leoronic
from leoronic.core import commands

WITHIN_S = 90.0
pytestmark = pytest.mark.timeout(150)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "a", "--cpus", "2")
    made.start()
    leoronic.init(str(made.root))
    try:
        yield made
    finally:
        leoronic.shutdown()
        made.close()


def get(refs: Any) -> Any:
    return leoronic.get(refs, timeout=WITHIN_S)


@leoronic.remote(max_retries=-1)
def slow_square(x: int) -> int:
    time.sleep(0.01)
    return x * x


@leoronic.remote(max_restarts=-1, max_task_retries=-1)
class Echo:
    def say(self, x: int) -> int:
        time.sleep(0.002)
        return x

    def pid(self) -> int:
        return os.getpid()


def workers(node: Node) -> list[int]:
    """Processes of workers and actors."""
    found = []
    for pid in node._marked():
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"leoronic.remote.worker" in words:
            found.append(pid)
    return found


def test_a_thousand_calls_and_twenty_actors_while_workers_are_killed(node: Node) -> None:
    """Everything that may be tried again is, and comes out right."""
    chance = random.Random(1)
    actors = [Echo.remote() for _ in range(20)]
    get([actor.pid.remote() for actor in actors])
    squares = [slow_square.remote(x) for x in range(1000)]
    said = [actor.say.remote(n) for actor in actors for n in range(50)]
    killed = 0
    until = time.monotonic() + 20
    while time.monotonic() < until and not all(ref.done for ref in squares + said):
        found = workers(node)
        if found:
            kill(chance.choice(found))
            killed += 1
        time.sleep(0.3)
    assert [x * x for x in range(1000)] == get(squares)
    assert [n for _ in actors for n in range(50)] == get(said)
    assert killed > 5


def test_the_core_of_the_node_is_killed_at_work(node: Node) -> None:
    """Calls go on: they do not pass through it; new workers are had from the next core."""
    echo = Echo.remote()
    get(echo.pid.remote())
    squares = [slow_square.remote(x) for x in range(300)]
    said = [echo.say.remote(n) for n in range(300)]
    kill(node.core_pid())
    assert [x * x for x in range(300)] == get(squares)
    assert list(range(300)) == get(said)
    other = Echo.remote()
    assert 7 == get(other.say.remote(7))


def test_the_runner_of_the_node_is_killed_at_work(node: Node) -> None:
    """Its workers go with it; calls are made again by others, actors are restarted."""
    echo = Echo.remote()
    get(echo.pid.remote())
    squares = [slow_square.remote(x) for x in range(300)]
    said = [echo.say.remote(n) for n in range(300)]
    kill(node.runner_pid())
    assert [x * x for x in range(300)] == get(squares)
    assert list(range(300)) == get(said)


def test_shutdown_in_the_middle_fails_what_is_under_way(node: Node) -> None:
    """Whoever waits in another thread gets an error; no worker is left."""
    refs = [slow_square.remote(x) for x in range(100_000)]
    echo = Echo.remote()
    get(echo.pid.remote())
    future = refs[-1].future()
    leoronic.shutdown()
    with pytest.raises(leoronic.TaskCancelledError):
        future.result(5)
    wait_until(lambda: not workers(node), "the end of all workers")


DRIVER = """
import os, sys, time
import leoronic
leoronic.init(sys.argv[1], namespace="shared")

@leoronic.remote
def nap():
    time.sleep(60)

@leoronic.remote
class Stays:
    def pid(self):
        return os.getpid()

refs = [nap.remote() for _ in range(2)]
plain, kept = Stays.remote(), Stays.options(name="kept", lifetime="detached").remote()
print(*leoronic.get([plain.pid.remote(), kept.pid.remote()]), flush=True)
time.sleep(60)
"""


def test_a_driver_that_is_killed_leaves_only_what_is_detached(node: Node) -> None:
    """Workers and actors end by themselves; a detached actor is found by its name."""
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(node.root)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        assert driver.stdout is not None
        plain, kept = (int(word) for word in driver.stdout.readline().split())
    finally:
        driver.kill()
        driver.wait()
    wait_until(lambda: not alive(plain), "the end of its actor", within_s=40)
    wait_until(lambda: workers(node) == [kept], "the end of its workers", within_s=40)
    found = leoronic.get_actor("kept", namespace="shared")
    assert kept == get(found.pid.remote())
    leoronic.kill(found)
    wait_until(lambda: not alive(kept), "the end of the detached one")


def test_a_program_with_a_node_of_its_own_leaves_nothing(tmp_path: Path) -> None:
    """Neither at its end, nor when it is killed."""
    program = (
        "import leoronic, os, sys, time\n"
        "print(leoronic.init(local=True, num_cpus=1)['root'], flush=True)\n"
        "f = leoronic.remote(lambda: os.getpid())\n"
        "print(leoronic.get(f.remote()), flush=True)\n"
        "time.sleep(float(sys.argv[1]))\n"
    )
    for seconds in ("0", "60"):
        began = subprocess.Popen(
            [sys.executable, "-c", program, seconds],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            cwd=tmp_path,
        )
        assert began.stdout is not None
        root, worker = began.stdout.readline().decode().strip(), int(began.stdout.readline())
        if seconds == "60":
            began.send_signal(signal.SIGKILL)
        began.wait(30)
        wait_until(lambda pid=worker: not alive(pid), "the end of its worker", within_s=40)
        wait_until(lambda path=root: not _processes_in(path), "the end of its node", within_s=40)
        assert seconds == "60" or not Path(root).exists()


def _processes_in(root: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if root.encode() in words and alive(int(entry.name)):
                found.append(entry.name)
    return found


# ---- two nodes ----


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    first = Node(tmp_path / "a", "--cpus", "1", "--name", "a")
    first.start()
    joined = first.ask(commands.Join())
    (tmp_path / "cookie").write_text(joined["cookie"])
    second = Node(
        tmp_path / "b", "--cpus", "1", "--name", "b", "--resource", "far=100",
        "--peer", joined["addresses"][0], "--cookie", str(tmp_path / "cookie"),
    )  # fmt: skip
    second.start()
    wait_until(lambda: len(first.ask(commands.Nodes())["nodes"]) == 2, "they know each other")
    leoronic.init(str(first.root))
    try:
        yield first, second
    finally:
        leoronic.shutdown()
        first.close()
        second.close()


@leoronic.remote
def where() -> str:
    return os.environ["LEORONIC_NODE"]


@leoronic.remote(max_restarts=-1, max_task_retries=-1)
class Mobile:
    def where(self) -> str:
        return os.environ["LEORONIC_NODE"]

    def get(self, refs: list[Any]) -> Any:
        return leoronic.get(refs[0])


def test_calls_and_objects_between_two_nodes(two: tuple[Node, Node]) -> None:
    """Functions, actors and references work as on one."""
    import numpy as np

    far = {"far": 1}
    assert "b" == get(where.options(resources=far).remote())
    actor = Mobile.options(resources=far).remote()
    assert "b" == get(actor.where.remote())
    array = np.arange(500_000)
    ref = leoronic.put(array)
    assert (array == get(actor.get.remote([ref]))).all()
    assert array.nbytes == get(
        leoronic.remote(lambda a: a.nbytes).options(resources=far).remote(ref)
    )


def test_an_actor_survives_its_node(two: tuple[Node, Node]) -> None:
    """It is restarted on the other, and its calls are made again."""
    actor = Mobile.remote()
    far = Mobile.options(conditions=["worker:tag far"], num_cpus=0).remote()
    two[1].ask(commands.TagAdd("far"))
    assert "b" == get(far.where.remote())
    assert get(actor.where.remote()) in "ab"
    two[0].ask(commands.TagAdd("far"))
    kill(*two[1].pids(), *workers(two[1]))
    assert "a" == get(far.where.remote())
    assert "a" == get(actor.where.remote())
