"""Stories of tasks, from end to end on a real node."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from integration.harness import Node, running, wait_until
from leoronic.core.commands import Cancel, Hold, Redo, Release, TagAdd, Why


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node for all of these; each test has its own file names."""
    with running(tmp_path_factory.mktemp("tasks"), "--cpus", "4") as node:
        yield node


def states(tasks: list[dict[str, Any]]) -> list[str]:
    return [task["state"] for task in tasks]


def test_a_graph_that_is_mended(node: Node) -> None:
    """A failure blocks all that follow it, and says why; redone, they run."""
    node.submit(
        {"id": "plan", "command": "echo plan > graph.txt"},
        {"id": "build", "command": "[ -e tools ] && echo build >> graph.txt", "after": ["plan"]},
        {"id": "paint", "command": "echo paint >> graph.txt", "after": ["build"]},
        {"id": "sell", "command": "echo sell >> graph.txt", "after": ["paint", "plan"]},
        {"id": "mourn", "command": "echo sorry", "after": [{"id": "build", "when": "failed"}]},
    )
    ended = node.wait("plan", "build", "paint", "sell", "mourn")
    assert ["succeeded", "failed", "blocked", "blocked", "succeeded"] == states(ended)
    assert "build" in " ".join(node.ask(Why("paint"))["reasons"])
    (node.root / "tools").touch()
    [again] = node.ask(Redo(["build"]))["ids"]
    assert ["succeeded"] * 3 == states(
        [node.wait_state(task, "succeeded") for task in (again, "paint", "sell")]
    )
    assert "plan\nbuild\npaint\nsell\n" == (node.root / "graph.txt").read_text()


def test_an_array(node: Node) -> None:
    """200 elements, each with its index, output and outcome; the failed ones are redone alone."""
    [array] = node.submit(
        {"command": "echo $LEORONIC_INDEX; [ -e fixed ] || [ $((LEORONIC_INDEX % 50)) != 7 ]",
         "count": 200, "cpus": 0.25}
    )  # fmt: skip
    [ended] = node.wait(array)
    assert ("failed", 200) == (ended["state"], ended["count"])
    assert {"succeeded": 196, "failed": 4} == ended["elements"]
    assert [b"%d\n" % i for i in range(0, 200, 10)] == [
        node.output(f"{array}.{i}") for i in range(0, 200, 10)
    ]
    assert "failed" == node.show(f"{array}.57")["state"]
    (node.root / "fixed").touch()
    [again] = node.wait(*node.ask(Redo([array]))["ids"])
    assert {"succeeded": 4} == again["elements"]
    assert [b"7\n", b"57\n", b"107\n", b"157\n"] == [
        node.output(f"{again['id']}.{i}") for i in range(4)
    ]


def test_retries(node: Node) -> None:
    """A task is tried again after its delay, and every attempt is kept."""
    ended = node.run(
        {"command": "echo try $LEORONIC_ATTEMPT; [ $LEORONIC_ATTEMPT = 3 ]",
         "retries": 5, "retry_delay": 0.2}
    )  # fmt: skip
    assert ("succeeded", 3) == (ended["state"], ended["attempt"])
    assert ["failed", "failed", "succeeded"] == [a["state"] for a in ended["attempts"]]
    assert b"try 3\n" == node.output(ended["id"])
    assert b"try 1\n" == node.output(ended["id"], attempt=1)
    gave_up = node.run({"command": "exit 4", "retries": 1, "retry_delay": 0.01})
    assert ("failed", 2, 4) == (gave_up["state"], gave_up["attempt"], gave_up["exit_code"])


def test_a_time_limit(node: Node) -> None:
    """A task that takes too long is ended, with all its children, and told why."""
    began = time.monotonic()
    ended = node.run({"command": "echo begun; sleep 300 & wait", "time_limit": 0.5})
    assert time.monotonic() - began < 8
    assert "failed" == ended["state"]
    assert "time limit" in ended["reason"]
    assert b"begun\n" == node.output(ended["id"])


def test_hold_and_release(node: Node) -> None:
    """A held task waits, with the reason, until it is released; cancelled, it never runs."""
    first, second, blocker = node.submit(
        {"command": "echo released", "after": [{"id": "gate", "when": "ended"}], "name": "first"},
        {"command": "touch never", "after": [{"id": "gate", "when": "ended"}]},
        {"id": "gate", "command": "sleep 0.3"},
    )
    assert [first] == node.ask(Hold([first]))["changed"]
    assert [second] == node.ask(Cancel([second]))["changed"]
    node.wait(blocker)
    assert "held" == node.show(first)["state"]
    node.ask(Release([first]))
    assert ["succeeded", "cancelled"] == states(node.wait(first, second))
    assert not (node.root / "never").exists()


def test_cancel_what_runs(node: Node) -> None:
    """It is ended at once, and stays cancelled even with retries left."""
    [task] = node.submit({"command": "echo begun; sleep 300", "retries": 5})
    node.wait_state(task, "running")
    wait_until(lambda: node.output(task), "it prints")
    node.ask(Cancel([task]))
    [ended] = node.wait(task)
    assert ("cancelled", 1) == (ended["state"], ended["attempt"])
    assert b"begun\n" == node.output(task)
    assert [task] == node.ask(Cancel([task]))["unchanged"]


def test_priorities_and_order(node: Node) -> None:
    """Higher first, then by submission."""
    [gate] = node.submit({"command": "sleep 0.5", "cpus": 4})
    node.wait_state(gate, "running")
    tasks = [
        {"command": f"echo {name} >> order.txt", "cpus": 4, "priority": priority}
        for name, priority in [("c", 0), ("a", 9), ("e", -1), ("b", 9), ("d", 0)]
    ]
    node.wait(*node.submit(*tasks))
    assert list("abcde") == (node.root / "order.txt").read_text().split()


def test_exclusive(node: Node) -> None:
    """A task that is not `concurrent` has the node to itself."""
    beside = [{"command": "echo + >> alone.txt; sleep 0.2; echo - >> alone.txt"}] * 3
    alone = {"command": "echo '[' >> alone.txt; sleep 0.2; echo ']' >> alone.txt"}
    tasks = node.submit(*beside, alone | {"concurrent": False}, *beside)
    node.wait(*tasks)
    text = (node.root / "alone.txt").read_text().replace("\n", "")
    assert "[]" in text
    before, _, after = text.partition("[]")
    assert before.count("+") == before.count("-")
    assert after.count("+") == after.count("-")


def test_surroundings(node: Node) -> None:
    """Environment, standard input and a private folder are as asked for, and the node's are not."""
    command = (
        'echo "$MINE|$LEORONIC_TASK_ID|$LEORONIC_ATTEMPT|$LEORONIC_NODE"; cat; pwd; touch mess'
    )
    name = node.status()["node"]["name"]
    ended = node.run(
        {"id": "around", "command": command, "env": {"MINE": "a b"}, "stdin": "in\n",
         "workdir": "private"}
    )  # fmt: skip
    first, second, folder = node.output(ended["id"]).decode().splitlines()
    assert (f"a b|around|1|{name}", "in") == (first, second)
    assert str(node.root) != folder
    assert not (node.root / "mess").exists()
    shared = node.run('pwd; echo "[$MINE]"; cat; ls -d .leoronic; env')
    lines = node.output(shared["id"]).decode().splitlines()
    assert [str(node.root), "[]", ".leoronic"] == lines[:3]
    assert not [line for line in lines if line.startswith("LEORONIC_DEBUG")]


def test_conditions(node: Node) -> None:
    """A tag, a file and another task's end are waited for."""
    tagged, filed = node.submit(
        {"command": "echo tagged", "conditions": "worker:tag special"},
        {"command": "cat come.txt", "conditions": ["worker:has_file come.txt"]},
    )
    _, later = node.submit(
        "sleep 0.5; echo done > slow.txt # mark-of-slow",
        {"command": "cat slow.txt", "conditions": ["queue:all_with_cmd_done mark-of-slo[w]"]},
    )
    assert {"waiting"} == {node.show(task)["state"] for task in (tagged, filed)}
    assert "special" in str(node.ask(Why(tagged)))
    node.ask(TagAdd("special"))
    (node.root / "come.txt").write_text("came\n")
    assert ["succeeded"] * 2 == states(node.wait(tagged, filed))
    assert b"came\n" == node.output(filed)
    node.wait(later)
    assert b"done\n" == node.output(later)
