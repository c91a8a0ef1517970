"""`kill -9` of every part of a node, alone and together, while it works."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import StartNode
from integration.harness import Node, alive, kill, wait_until
from leoronic.core.commands import Cancel, List, Submit

BACK_S_MAX = 2.0


def lines(path: Path) -> Counter[str]:
    """The lines of a file, and how often each is there."""
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def logged(command: str) -> str:
    """`command`, with a line in ROOT/log before and after it."""
    return f'echo "start $LEORONIC_TASK_ID" >> log; {command}; echo "end $LEORONIC_TASK_ID" >> log'


def running_pids(node: Node, *files: str) -> list[int]:
    """The pids that tasks wrote to these files of ROOT."""
    return [
        int(
            wait_until(
                lambda name=name: (node.root / name).exists() and (node.root / name).read_text(),
                f"a task writes {name}",
                story=node.tail,
            )
        )
        for name in files
    ]


def attempts(task: dict[str, Any]) -> list[str]:
    return [attempt["state"] for attempt in task["attempts"]]


def waiting(node: Node) -> set[str]:
    """The ids of all waiting tasks, page by page."""
    found: set[str] = set()
    before = None
    while True:
        page = node.ask(List(state="waiting", limit=10_000, before=before))
        found |= {task["id"] for task in page["tasks"]}
        if not page["more"]:
            return found
        before = page["tasks"][-1]["order"]


def test_core_killed_while_it_is_busy(start_node: StartNode) -> None:
    """50 tasks run and 10,000 wait: it is back within 2 s; none is lost, and none runs twice."""
    node = start_node("--cpus", "50")
    early = node.submit(*[logged("sleep 4") for _ in range(50)])
    node.wait_counts(running=50)
    late = node.submit(*[{"command": "exit 1", "priority": -1} for _ in range(9_500)])
    next_ = node.submit(*[logged(":") for _ in range(500)])
    runner = node.runner_pid()

    began = time.monotonic()
    kill(node.core_pid())
    node.wait_ready()
    took_s = time.monotonic() - began
    assert took_s <= BACK_S_MAX, f"it took {took_s:.2f} s"

    assert runner == node.runner_pid()
    assert {"running": 50, "waiting": 10_000} == node.counts()
    listed = waiting(node)
    assert {*late, *next_} >= listed >= set(late)
    ended = node.wait(*early, *next_)
    assert [["succeeded"]] * 550 == [attempts(task) for task in ended]
    expected = Counter(f"{what} {task}" for task in early + next_ for what in ("start", "end"))
    assert expected == lines(node.root / "log")
    # Those of low priority have begun to run by now.
    counts = node.counts()
    assert 10_050 == sum(counts.values())
    assert 550 == counts["succeeded"]


def test_core_killed_again_and_again(start_node: StartNode) -> None:
    """Killed at any moment of its work, it loses nothing and repeats nothing."""
    node = start_node("--cpus", "20")
    tasks = node.submit(*[logged("sleep 0.02") for _ in range(600)])
    for pause_s in (0.05, 0.2, 0.1, 0.3):
        time.sleep(pause_s)
        kill(node.core_pid())
        node.wait_ready(BACK_S_MAX)
    node.wait_counts(succeeded=600, within_s=30)
    assert Counter(f"{w} {t}" for t in tasks for w in ("start", "end")) == lines(node.root / "log")
    assert alive(node.keeper_pid())


def test_what_was_acknowledged_is_there(start_node: StartNode) -> None:
    """A submission cut off by a kill is there wholly or not at all; acknowledged, it is there."""
    node = start_node("--cpus", "1")
    node.submit("sleep 60")
    acknowledged: list[str] = []
    for batch in range(5):
        before = acknowledged[:]
        ids = [f"b{batch}-{i}" for i in range(200)]
        if batch % 2:
            # Nobody waits for the answer.
            with node.client() as client:
                blob = b"\n".join(b'{"id": "%s", "command": ":"}' % i.encode() for i in ids)
                client.send(Submit(lines=True), blob)
                time.sleep(0.002 * batch)
                kill(node.core_pid())
            node.wait_ready()
            there = node.counts()["waiting"] - len(before)
            assert there in (0, 200)
            acknowledged += ids if there else []
        else:
            acknowledged += node.submit(*[{"id": i, "command": ":"} for i in ids])
            kill(node.core_pid())
            node.wait_ready()
        assert {"running": 1, "waiting": len(acknowledged)} == node.counts()


def test_runner_killed(start_node: StartNode) -> None:
    """What ran is lost and tried again, or held; none of the old processes is left by then."""
    node = start_node("--cpus", "20")
    done = node.run(logged(":"))["id"]
    again, hold, tree = node.submit(
        {"command": "echo $$ > again.$LEORONIC_ATTEMPT; [ $LEORONIC_ATTEMPT = 2 ] || sleep 60"},
        {"command": "echo $$ > hold; sleep 60", "on_loss": "hold"},
        {
            # A child with a session of its own, that ignores what it can.
            "command": "[ $LEORONIC_ATTEMPT = 1 ] || "
            "{ ! grep -q '^State:[[:space:]]*[A-WY]' /proc/$(cat child)/status; exit; }\n"
            "setsid bash -c 'trap \"\" TERM HUP; echo $BASHPID > child; sleep 60 & wait' & wait",
        },
    )
    waiting = node.submit(*[{"command": ":", "cpus": 20} for _ in range(20)])
    old = running_pids(node, "again.1", "hold", "child")
    killed = node.runner_pid()
    kill(killed)
    assert "succeeded" == node.wait_state(again, "succeeded")["state"]
    assert not any(map(alive, old))
    found = node.wait_state(tree, "succeeded", "failed")
    assert "succeeded" == found["state"], node.output(tree, "stderr")
    assert ["lost", "succeeded"] == attempts(found)
    held = node.wait_state(hold, "held")
    assert ["lost"] == attempts(held)
    assert "attempt 1 was lost" in held["reason"]
    assert killed != node.runner_pid()
    node.wait_counts(succeeded=23, held=1)
    assert [1] == [node.show(done)["attempt"]]
    assert Counter([f"start {done}", f"end {done}"]) == lines(node.root / "log")
    assert len(waiting) == 20


@pytest.mark.parametrize("keeper_first", [True, False])
def test_keeper_killed(start_node: StartNode, keeper_first: bool) -> None:
    """The core lives on and gets a new keeper, which starts the core again when that is killed."""
    node = start_node("--cpus", "4")
    [task] = node.submit(logged("sleep 2"))
    node.wait_state(task, "running")
    core, runner = node.core_pid(), node.runner_pid()
    if not keeper_first:
        # A core that is its keeper's second child changes nothing.
        kill(core)
        node.wait_ready()
        core = node.core_pid()
    old = node.keeper_pid()
    kill(old)
    assert "succeeded" == node.run("echo meanwhile")["state"]
    wait_until(lambda: len(node.pids()) == 3, "a new keeper", story=node.tail)
    assert core == node.core_pid()
    new = node.keeper_pid()
    lock = node.state / "lock"
    wait_until(lambda: lock.read_text().startswith(f"{new}\n"), "the lock names it")
    kill(core)
    node.wait_ready(BACK_S_MAX)
    assert new == node.keeper_pid()
    assert runner == node.runner_pid()
    [ended] = node.wait(task)
    assert ["succeeded"] == attempts(ended)
    assert Counter([f"start {task}", f"end {task}"]) == lines(node.root / "log")
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not node.pids(), "the end of all processes", story=node.tail)


def test_runner_and_core_killed(start_node: StartNode) -> None:
    """Both come back, and what ran is tried again."""
    node = start_node()
    [task] = node.submit("echo $$ > pid.$LEORONIC_ATTEMPT; [ $LEORONIC_ATTEMPT = 2 ] || sleep 60")
    [old] = running_pids(node, "pid.1")
    kill(node.core_pid(), node.runner_pid())
    node.wait_ready()
    [ended] = node.wait(task)
    assert ["lost", "succeeded"] == attempts(ended)
    assert not alive(old)


def test_keeper_and_core_killed(start_node: StartNode) -> None:
    """The runner alone goes on: a new start takes it back, with what ran and what ended since."""
    node = start_node("--cpus", "4")
    long, short = node.submit(logged("sleep 2"), logged("sleep 0.3; echo printed"))
    waiting = node.submit(*[{"command": logged(":"), "cpus": 4} for _ in range(10)])
    for task in (long, short):
        node.wait_state(task, "running")
    runner = node.runner_pid()
    kill(node.keeper_pid(), node.core_pid())
    assert [runner] == node.pids()
    wait_until(lambda: lines(node.root / "log")[f"end {short}"], "the short one ends")
    node.start()
    assert runner == node.runner_pid()
    ended = node.wait(long, short, *waiting)
    assert [["succeeded"]] * 12 == [attempts(task) for task in ended]
    assert b"printed\n" == node.output(short)
    expected = Counter(f"{w} {t}" for t in (long, short, *waiting) for w in ("start", "end"))
    assert expected == lines(node.root / "log")


def test_everything_killed_at_once(start_node: StartNode) -> None:
    """After a power cut: nothing acknowledged is lost, nothing finished is run again."""
    node = start_node("--cpus", "10")
    finished = node.submit(*[logged(":") for _ in range(30)])
    node.wait_counts(succeeded=30)
    printed = node.run("seq 1 100000")["id"]
    running = node.submit(*[
        f"echo $$ > pid.{i}.$LEORONIC_ATTEMPT; [ $LEORONIC_ATTEMPT = 2 ] || sleep 60"
        for i in range(8)
    ])  # fmt: skip
    hold, retried = node.submit(
        {"command": "echo $$ > hold; sleep 60", "on_loss": "hold"},
        {"command": "echo $$ > retried; sleep 60", "id": "held-by-hand"},
    )
    old = running_pids(node, *[f"pid.{i}.1" for i in range(8)], "hold", "retried")
    waiting = node.submit(*[{"command": logged(":"), "cpus": 10} for _ in range(20)])
    node_id = node.status()["node"]["id"]

    node.kill_all()
    node.start()
    assert node_id == node.status()["node"]["id"]
    ended = node.wait(*running)
    assert [["lost", "succeeded"]] * 8 == [attempts(task) for task in ended]
    assert not any(map(alive, old))
    assert ["lost"] == attempts(node.wait_state(hold, "held"))
    node.wait_state(retried, "running")
    node.ask(Cancel([retried]))
    node.wait_counts(succeeded=30 + 1 + 8 + 20, held=1, cancelled=1)
    assert [1] * 50 == [node.show(task)["attempt"] for task in finished + waiting]
    expected = Counter(f"{w} {t}" for t in finished + waiting for w in ("start", "end"))
    assert expected == lines(node.root / "log")
    assert b"".join(b"%d\n" % i for i in range(1, 100_001)) == node.output(printed)


def test_everything_killed_in_the_middle_of_it(start_node: StartNode) -> None:
    """Power cuts at any moment: each task succeeds, and again only what was recorded as lost."""
    node = start_node("--cpus", "10")
    tasks = node.submit(*[logged("sleep 0.01") for _ in range(300)])
    for pause_s in (0.1, 0.25):
        time.sleep(pause_s)
        node.kill_all()
        node.start()
    node.wait_counts(succeeded=300, within_s=30)
    starts = lines(node.root / "log")
    for task in (node.show(task) for task in tasks):
        states = attempts(task)
        assert ["lost"] * (len(states) - 1) + ["succeeded"] == states
        # An attempt that was lost may have had no time to begin.
        assert 1 <= starts[f"start {task['id']}"] <= len(states)
