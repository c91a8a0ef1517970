"""Actors that raise inside a real node: once, and again and again."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter

import pytest

from integration.conftest import StartNode
from integration.harness import Node, wait_until
from leoronic.core.commands import Debug, Submit
from leoronic.errors import LeoronicError, NodeUnreachable, Refused, Unavailable

pytestmark = pytest.mark.patient

DEBUGGING = {"LEORONIC_DEBUG": "1"}
TASKS = ("queue", "scheduler", "runner")
CLUSTER = ("peers", "membership", "replication", "file_store", "discovery", "call_door")
GHOSTS = ("relay", "relay_host")
DOORS = ("questions", "keeper", "control", "inbox", "history", "carrying")
# All actors of the core, each with what its supervisor restarts with it: actors, and whole
# supervisors, whose actors are then new and have never been restarted.
RESTARTED = {
    "journal": ("journal", "cluster", "tasks"),
    **{name: TASKS[index:] for index, name in enumerate(TASKS)},
    **{name: (name,) for name in (*CLUSTER, *GHOSTS, *DOORS)},
}
SUPERVISORS = {"node", "work", "cluster", "ghosts", "tasks", "doors"}


def restarts(node: Node) -> dict[str, int]:
    """How often each actor and supervisor was started again."""
    return {line["name"]: line["restarts"] for line in node.status()["actors"]}


def crash(node: Node, actor: str, message: str = "on purpose") -> None:
    try:
        node.ask(Debug(actor, message))
    except NodeUnreachable:
        # The control actor cannot answer any more.
        assert actor == "control"


def test_the_table_above_is_complete(start_node: StartNode) -> None:
    """Every actor that a node reports is crashed by a test."""
    node = start_node()
    assert {*RESTARTED, *SUPERVISORS, "runner_host"} == set(restarts(node))


@pytest.mark.parametrize("actor", RESTARTED)
def test_an_actor_that_raises(start_node: StartNode, actor: str) -> None:
    """It is restarted by its strategy; what ran and what waited goes on, and new work is taken."""
    node = start_node("--cpus", "2", environment=DEBUGGING)
    before = restarts(node)
    running, waiting = node.submit(
        "echo once >> log; sleep 1", {"command": "echo waited", "after": []} | {"cpus": 2}
    )
    node.wait_state(running, "running")
    core, runner = node.core_pid(), node.runner_pid()
    crash(node, actor)

    def restarted() -> dict[str, int]:
        now = restarts(node)
        return {name: now[name] - before[name] for name in now if now[name] != before[name]}

    wait_until(lambda: set(RESTARTED[actor]) <= set(restarted()), "a restart", story=node.tail)
    assert dict.fromkeys(RESTARTED[actor], 1) == {
        name: count for name, count in restarted().items() if name != "runner_host"
    }
    hidden = node.inbox / ".later"
    hidden.write_text('{"id": "dropped", "command": "echo dropped"}')
    hidden.rename(node.inbox / "later.json")
    assert "succeeded" == node.run("echo new")["state"]
    ended = node.wait(running, waiting)
    assert [["succeeded"]] * 2 == [[a["state"] for a in task["attempts"]] for task in ended]
    assert "once\n" == (node.root / "log").read_text()
    assert b"waited\n" == node.output(waiting)
    wait_until(lambda: node.show("dropped"), "the inbox works", story=node.tail)
    assert (core, runner) == (node.core_pid(), node.runner_pid())
    crashes = [event for event in node.events() if event["event"] == "child_crashed"]
    assert [(actor, "RuntimeError: on purpose")] == [(e["child"], e["reason"]) for e in crashes]


@pytest.mark.parametrize("actor", RESTARTED)
def test_an_actor_that_keeps_raising(start_node: StartNode, actor: str) -> None:
    """Beyond the intensity the node ends with 1 and tells the story; the next start goes on."""
    node = start_node("--cpus", "1", environment=DEBUGGING)
    slow, waiting = node.submit("sleep 3", "echo waited")
    node.wait_state(slow, "running")
    runner = node.runner_pid()
    process = node.process
    assert process is not None

    def over() -> bool:
        with contextlib.suppress(LeoronicError):
            node.ask(Debug(actor, "again"))
        return process.poll() is not None

    wait_until(over, "the node gives up", story=node.tail)
    assert 1 == process.returncode
    last = node.events()[-1]
    assert last["event"].startswith("the node gives up")
    assert f"{actor}: RuntimeError: again" in str(last["story"])
    assert [runner] == node.pids()
    node.start()
    assert runner == node.runner_pid()
    [ended, _] = node.wait(slow, waiting)
    assert ["succeeded"] == [attempt["state"] for attempt in ended["attempts"]]


def test_debugging_is_off(start_node: StartNode) -> None:
    """Without LEORONIC_DEBUG nobody can crash an actor."""
    node = start_node()
    with pytest.raises(Refused, match="LEORONIC_DEBUG=1"):
        node.ask(Debug("queue"))
    assert {0} == set(restarts(node).values())


@pytest.mark.parametrize("actor", ["journal", *CLUSTER, *GHOSTS, *TASKS])
def test_an_actor_that_raises_at_work(start_node: StartNode, actor: str) -> None:
    """Crashed in the middle of submissions, starts and ends, it loses and repeats nothing."""
    node = start_node("--cpus", "8", environment=DEBUGGING)
    expected: list[str] = []
    for batch in range(25):
        # With ids of its own, a submission that was cut off can be repeated.
        ids = [f"{batch}-{i}" for i in range(40)]
        tasks = [{"id": i, "command": "echo $LEORONIC_TASK_ID >> log", "cpus": 0.5} for i in ids]
        blob = json.dumps(tasks).encode()
        with node.client() as client:
            asked = [client.send(Submit(), blob)]
            if batch % 5 == 4:
                # While the tasks are on their way, from here to there.
                time.sleep(0.002 * batch)
                asked.append(client.send(Debug(actor)))
                asked.append(client.send(Submit(), blob.replace(b'"id": "', b'"id": "b')))
                expected += [f"b{i}" for i in ids]
            for number in asked:
                with contextlib.suppress(Unavailable):
                    client.answer(number)
        more = json.loads(blob.replace(b'"id": "', b'"id": "b')) if batch % 5 == 4 else []
        wait_until(lambda all_=tasks + more: node.submit(*all_), "a submission", story=node.tail)
        expected += ids
    node.wait_counts(succeeded=len(expected))
    done = Counter((node.root / "log").read_text().splitlines())
    assert set(expected) == set(done)
    again = {i for i in done if done[i] > 1}
    # What is run again is recorded as lost before.
    assert again <= {i for i in expected if len(node.show(i)["attempts"]) > 1}
    if actor != "runner":
        assert not again
