"""Three real nodes as people use them: whatever is asked, it does not matter which is asked."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.command_line import Running, data, holds_for, leoronic, told
from integration.harness import Node, wait_until
from integration.lab import Lab, lab
from integration.test_cluster import wait_meshed, wait_state
from leoronic.core import commands

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Nodes a, b and c with two cpus each. The last test of this file takes them apart."""
    with lab(tmp_path_factory.mktemp("any"), "abc") as made:
        made.start(options=("--cpus", "2", "--memory", "1GiB"))
        wait_meshed(made)
        yield made


@pytest.fixture
def a(three: Lab) -> Node:
    return three.nodes["a"]


@pytest.fixture
def b(three: Lab) -> Node:
    return three.nodes["b"]


@pytest.fixture
def c(three: Lab) -> Node:
    return three.nodes["c"]


def on(node: str) -> list[str]:
    """Options of a task that runs on that node only."""
    return ["--condition", f"worker:tag only-{node}"]


def submit(node: Node, *words: str) -> str:
    """The id of a task that is submitted by the command line."""
    return told(node, "submit", *words)


@pytest.fixture(scope="module", autouse=True)
def tags(three: Lab) -> None:
    """Each node has a tag of its own, given through another one."""
    for asked, name in ("ab", "bc", "ca"):
        told(three.nodes[asked], "tag", "add", f"only-{name}", "--node", name)
    for name, node in three.nodes.items():
        for other in "abc":
            wait_until(
                lambda node=node, other=other: (
                    f"only-{other}" in node.ask(commands.TagList(other))["tags"]
                ),
                f"{name} knows of {other}'s tag",
            )


# ---- tasks ----


def test_submitted_here_asked_there(a: Node, b: Node, c: Node) -> None:
    """A task is waited for, shown, listed and read on other nodes than the one it came by."""
    task = submit(a, *on("b"), "--name", "hello", "--", "echo hi; echo no >&2; exit 3")
    assert 3 == leoronic(c, "wait", task, code=None).returncode
    for node in (a, b, c):
        shown = wait_until(
            lambda node=node: (found := data(node, "show", task))["state"] == "failed" and found,
            "all nodes know of its end",
        )
        assert ("b", "a", 3) == (shown["node"], shown["origin"], shown["exit_code"])
        assert "hi\n" == leoronic(node, "logs", task).stdout
        assert "no\n" == leoronic(node, "logs", "hello", "--stderr").stdout
        assert task in told(node, "list", "--state", "failed")


def test_held_by_two(a: Node) -> None:
    """An acknowledged task is on two disks, and that is said."""
    answer = data(a, "submit", "--", "true")
    assert 2 == len(answer["held_by"])
    assert ("a", True) == (answer["held_by"][0], answer["held_by"][1] in ("b", "c"))


def test_submit_and_wait(b: Node) -> None:
    """`submit --wait` shows the output and the exit code of a task that runs elsewhere."""
    done = leoronic(b, "submit", "--wait", *on("c"), "--", "echo there; exit 7", code=7)
    assert "there\n" == done.stdout


def test_changed_from_elsewhere(a: Node, b: Node, c: Node) -> None:
    """Hold, release, cancel and redo work on nodes that did not take the task."""
    task = submit(a, *on("nowhere"), "--name", "stays", "--", "true")
    wait_until(lambda: c.show(task), "c knows of it")
    told(b, "hold", task)
    a.wait_state(task, "held")
    c.wait_state(task, "held")
    told(c, "release", task)
    a.wait_state(task, "waiting")
    wait_until(lambda: b.show(task)["state"] == "waiting", "b knows that it was released")
    told(b, "cancel", task)
    for node in (a, b, c):
        node.wait_state(task, "cancelled")
    [again] = data(c, "redo", task)["ids"]
    wait_until(lambda: a.show(again)["redo_of"] == task, "a knows what it repeats")
    told(b, "cancel", again)


def test_running_task_is_cancelled_from_elsewhere(a: Node, b: Node, c: Node) -> None:
    """It ends soon, though the node that is asked neither owns nor runs it."""
    task = submit(a, *on("b"), "--", "sleep 60")
    b.wait_state(task, "running")
    wait_until(lambda: c.show(task)["state"] == "running", "c knows that it runs")
    told(c, "cancel", task)
    a.wait_state(task, "cancelled")
    wait_until(
        lambda: b.ask(commands.Nodes())["nodes"][0]["running"] == 0, "its processes are gone"
    )


def test_output_is_followed(a: Node, b: Node, c: Node, tmp_path: Path) -> None:
    """`logs -f` on one node shows what a task prints on another, while it prints."""
    go = tmp_path / "go"
    command = f"echo one; until [ -e {go} ]; do sleep 0.05; done; echo two"
    task = submit(a, *on("b"), "--", command)
    c_knows = wait_until(lambda: c.show(task), "c knows of it")
    assert c_knows["state"] in ("waiting", "running")
    with Running(c, tmp_path / "out", "logs", "-f", task) as logs:
        wait_until(lambda: logs.printed() == "one\n", "the first line", story=logs.story)
        assert "one\n" == leoronic(a, "logs", task).stdout
        go.touch()
        assert 0 == logs.process.wait(20)
        assert "one\ntwo\n" == logs.printed()


def test_watch(a: Node, b: Node, c: Node, tmp_path: Path) -> None:
    """`watch` tells what happens on other nodes."""
    with Running(c, tmp_path / "out", "watch", "--json") as watch:
        # It prints nothing before something changes.
        def seen() -> set[str]:
            a.run({"command": "true", "cpus": 0})
            return set(watch.printed().split())

        wait_until(seen, "it watches", story=watch.story)
        task = submit(a, *on("b"), "--", "false")

        def states() -> list[str]:
            lines = [
                json.loads(line) for line in watch.printed().splitlines() if line.endswith("}")
            ]
            return [line["state"] for line in lines if line["id"] == task]

        wait_until(lambda: states()[-1:] == ["failed"], "its end", story=watch.story)
        assert "running" in states()
        assert 1 == states().count("failed")


def test_nodes_and_status(a: Node, b: Node, c: Node) -> None:
    """Every node tells of all of them, itself first; so does one frame of `top`."""
    for name, node in zip("abc", (a, b, c), strict=True):
        found = data(node, "nodes")["nodes"]
        assert [name, *sorted({"a", "b", "c"} - {name})] == [one["name"] for one in found]
        assert {"up"} == {one["state"] for one in found}
        assert {2.0} == {one["cpus"] for one in found}
        assert all(one["free"] is not None for one in found)
        assert {"up": 3} == data(node, "status")["nodes"]
        assert all(one["address"].startswith(f"10.77.0.{n}:") for n, one in _by_name(found))
    table = told(b, "nodes")
    assert all(f"only-{name}" in table for name in "abc")
    frame = told(c, "top", "--once")
    assert all(f"10.77.0.{number}:22580" in frame or name in frame for number, name in _NUMBERED)


_NUMBERED = ((1, "a"), (2, "b"), (3, "c"))


def _by_name(found: list[dict[str, str]]) -> Iterator[tuple[int, dict[str, str]]]:
    for number, name in _NUMBERED:
        yield number, next(one for one in found if one["name"] == name)


def test_exec(a: Node, b: Node) -> None:
    """A command runs on one node, on those with a tag, on all; its exit code comes back."""
    done = leoronic(a, "exec", "--node", "b", "--", "echo I am $LEORONIC_NODE; exit 4", code=4)
    assert "I am b\n" == done.stdout
    done = leoronic(b, "exec", "--tag", "only-c", "--", "echo $LEORONIC_NODE")
    assert "c: c\n" == done.stdout
    done = leoronic(
        b, "exec", "--all", "--", "echo $LEORONIC_NODE; [ $LEORONIC_NODE != c ]", code=1
    )
    assert ["a: a", "b: b", "c: c"] == sorted(done.stdout.splitlines())
    assert 1 == leoronic(a, "exec", "--tag", "nobody", "--", "true", code=None).returncode


def test_drain_another(a: Node, b: Node, c: Node) -> None:
    """A node that is drained from elsewhere starts nothing more, until that is undone."""
    told(a, "drain", "b")
    for node in (a, b, c):
        wait_until(lambda node=node: node.states()["b"] == "draining", "all know of it")
    task = submit(c, *on("b"), "--", "true")
    why = wait_until(lambda: data(a, "why", task)["nodes"].get("b"), "a reason of b")
    assert any("drain" in reason for reason in why), why
    assert holds_for(lambda: c.show(task)["state"] == "waiting", 0.5)
    told(c, "drain", "b", "--undo")
    b.wait_state(task, "succeeded")
    for node in (a, b, c):
        wait_until(lambda node=node: node.states()["b"] == "up", "all know that it is over")


def test_why(a: Node, b: Node, c: Node) -> None:
    """Each node says what it lacks for a task, whoever is asked."""
    tagged, huge = (
        submit(a, *options, "--", "true")
        for options in (("--condition", "worker:tag x"), ("--memory", "64GiB"))
    )
    busy = submit(b, *on("b"), "--cpus", "2", "--", "sleep 30")
    a.wait_state(busy, "running")
    waits = submit(b, *on("b"), "--cpus", "2", "--", "true")
    for node in (a, c):
        for task, words in ((tagged, "tag x"), (huge, "needs 64 GiB of memory")):
            wait_until(
                lambda node=node, task=task, words=words: all(
                    any(line.strip().startswith(f"{n}:") and words in line for line in lines)
                    for lines in [told(node, "why", task).splitlines()]
                    for n in "abc"
                ),
                f"a reason of each node with {words}",
                story=lambda node=node, task=task: told(node, "why", task),
            )
        reasons = data(node, "why", waits)["nodes"]
        assert "cpu" in " ".join(reasons["b"]), reasons
        assert "tag" in " ".join(reasons["c"]), reasons
    told(c, "cancel", tagged, huge, busy, waits)


def test_inbox(a: Node, c: Node, b: Node) -> None:
    """A file dropped at one node is run by another."""
    text = json.dumps({"id": "dropped", "command": "true", "conditions": ["worker:tag only-c"]})
    draft = a.inbox / "task.json.part"
    draft.write_text(text)
    draft.rename(a.inbox / "task.json")
    wait_until(lambda: b.show("dropped")["state"] == "succeeded", "it has run")
    assert ("c", "a") == (b.show("dropped")["node"], b.show("dropped")["origin"])


# ---- who goes first ----


def test_queue_conditions(a: Node, b: Node, tmp_path: Path) -> None:
    """`is_first` and `all_with_cmd_done` look at the tasks of all nodes."""
    out = tmp_path / "order"
    slow = [
        {"command": f"sleep 1; echo part >> {out}", "conditions": [f"worker:tag only-{name}"]}
        for name in "ac"
    ]
    parts = a.submit(*slow)
    wait_until(lambda: all(b.show(task) for task in parts), "b knows of them")
    after = submit(
        b, "--condition", f"queue:all_with_cmd_done part >> {out}", "--", f"echo all >> {out}"
    )
    assert any("all_with_cmd_done" in reason for reason in data(a, "why", after)["reasons"])
    b.wait(after, *parts)
    assert ["part", "part", "all"] == out.read_text().split()
    older = submit(a, *on("nowhere"), "--", "true")
    wait_until(lambda: b.show(older), "b knows of it")
    first = submit(b, "--condition", "queue:is_first", "--", "true")
    assert holds_for(lambda: b.show(first)["state"] == "waiting", 0.5)
    told(b, "cancel", older)
    b.wait_state(first, "succeeded")


def test_exclusive(a: Node, b: Node, tmp_path: Path) -> None:
    """An exclusive task has its node to itself, whoever the others' owners are."""
    out = tmp_path / "running"
    command = f"echo + >> {out}; sleep 0.3; echo - >> {out}"
    options = ("--condition", "worker:tag only-c", "--cpus", "0.5")
    before = submit(a, *options, "--count", "4", "--", command)
    alone = submit(b, *options, "--exclusive", "--", f"echo [ >> {out}; sleep 0.5; echo ] >> {out}")
    after = submit(a, *options, "--count", "4", "--", command)
    b.wait(alone, before, after, within_s=30)
    lines = out.read_text().split()
    at = lines.index("[")
    assert "]" == lines[at + 1], lines
    assert lines[:at].count("+") == lines[:at].count("-"), lines


def test_big_task_is_not_starved(a: Node, b: Node) -> None:
    """A task that needs a whole node starts though another node's small ones would fill it."""
    small = {"command": "sleep 0.2", "cpus": 1, "count": 200}
    [many] = a.submit(small)
    wait_until(lambda: b.show(many), "b knows of them")
    [big] = b.submit({"command": "true", "cpus": 2})
    began = time.monotonic()
    b.wait_state(big, "succeeded", within_s=10)
    took_s = time.monotonic() - began
    left = a.show(many)["elements"]
    a.ask(commands.Cancel([many]))
    assert left.get("waiting", 0) > 20, (took_s, left)
    wait_idle(a)


def test_owners_share(a: Node, b: Node, c: Node, tmp_path: Path) -> None:
    """Tasks of two nodes get about the same of the cluster, however early the first came."""
    out = tmp_path / "ran"
    [first] = a.submit({"command": f"echo a >> {out}; sleep 0.2", "count": 300})
    wait_until(lambda: a.show(first)["elements"].get("running") == 6, "all slots are taken")
    [second] = b.submit({"command": f"echo b >> {out}; sleep 0.2", "count": 300})
    wait_until(lambda: "b" in out.read_text(), "the second begins", within_s=10)
    skip = len(out.read_text())
    wait_until(lambda: len(out.read_text()) - skip >= 2 * 100, "a window of 100", within_s=30)
    ran = Counter(out.read_text()[skip : skip + 200].split())
    a.ask(commands.Cancel([first, second]))
    wait_idle(a)
    assert 0.5 <= ran["a"] / ran["b"] <= 2.0, ran


def wait_idle(node: Node) -> None:
    """Wait until nothing runs anywhere."""
    wait_until(
        lambda: [one["running"] for one in node.ask(commands.Nodes())["nodes"]] == [0, 0, 0],
        "nothing runs any more",
        story=lambda: node.ask(commands.Nodes())["nodes"],
    )


# ---- the loss of nodes: from here on the cluster is taken apart ----


def test_splits(three: Lab, a: Node, c: Node) -> None:
    """What ran twice in a split is told everywhere: what it cost, and that the outputs differ."""
    task, same = a.submit(
        *(
            {"command": command, "conditions": ["worker:not_tag only-a", "worker:not_tag only-b"]}
            for command in ("sleep 7; echo $LEORONIC_NODE", "sleep 7; echo same")
        )
    )
    for one in (task, same):
        a.wait_state(one, "running")
    three.split("ab", "c")
    wait_state(three, "a", "c", "down")
    told(a, "tag", "del", "only-a")
    for one in (task, same):
        wait_until(lambda one=one: a.show(one)["node"] in ("a", "b"), "it runs here too")
    wait_until(lambda: c.show(task)["state"] == "succeeded", "the end there", within_s=15)
    a.wait(task, same)
    three.heal()
    wait_meshed(three)
    for node in (a, c):
        found = wait_until(
            lambda node=node: (
                (splits := {one["id"]: one for one in data(node, "splits")["splits"]}).keys()
                >= {task, same}
                and splits
            ),
            "both are told of",
        )
        assert (True, False) == (found[task]["outputs_differ"], found[same]["outputs_differ"])
        assert {"a", "b", "c"} >= {run["node"] for run in found[task]["runs"]} >= {"c"}
        assert 1 == sum(run["won"] for run in found[task]["runs"])
        assert found[task]["seconds_lost"] > 5
        assert "c" in {one["node"] for one in found[task]["suspicions"]}
    assert "the outputs differ" in told(c, "splits")
    told(a, "tag", "add", "only-a")


def test_output_outlives_its_node(a: Node, b: Node, c: Node, tmp_path: Path) -> None:
    """Output of what ended on a node can be read once it is gone for good; what ran runs again."""
    sizes = (20 * KIB, 300 * KIB, 5 * MIB)
    tasks = {
        size: submit(a, *on("c"), "--", f"yes {size} | head -c {size}; echo e{size} >&2")
        for size in sizes
    }
    a.wait(*tasks.values())
    expected = {size: (f"{size}\n".encode() * size)[:size] for size in sizes}
    for size, task in tasks.items():
        assert digest(expected[size]) == digest(a.output(task)), size
    # A copy on another node is made within a few seconds.
    wait_until(
        lambda: all(kept(node, *tasks.values()) for node in (a, b)), "copies are made", within_s=15
    )
    runs = submit(a, *on("c"), "--", "echo on $LEORONIC_NODE; [ $LEORONIC_NODE = b ] || sleep 60")
    with (
        Running(b, tmp_path / "logs", "logs", "-f", runs) as logs,
        Running(a, tmp_path / "wait", "wait", runs) as wait,
    ):
        wait_until(lambda: logs.printed() == "on c\n", "it runs", story=logs.story)
        c.kill_all()
        for node in (a, b):
            wait_until(lambda node=node: node.states()["c"] == "down", "c is down")
        told(a, "tag", "add", "only-c", "--node", "b")
        assert (0, 0) == (logs.process.wait(15), wait.process.wait(15))
        assert "on c\non b\n" == logs.printed()
    for node in (a, b):
        for size, task in tasks.items():
            assert digest(expected[size]) == digest(node.output(task)), size
            assert f"e{size}\n".encode() == node.output(task, "stderr")
    skipped = leoronic(a, "exec", "--all", "--", "echo $LEORONIC_NODE", code=3)
    assert ["a: a", "b: b"] == sorted(skipped.stdout.splitlines())
    assert "c" in skipped.stderr
    refused = leoronic(b, "tag", "add", "more", "--node", "c", code=1)
    assert "c" in refused.stderr


def digest(content: bytes) -> tuple[int, str]:
    return len(content), hashlib.sha256(content).hexdigest()


def kept(node: Node, *tasks: str) -> bool:
    """Whether that node knows of a copy of what each task printed."""
    with sqlite3.connect(f"file:{node.database}?mode=ro", uri=True) as connection:
        found = {task for (task,) in connection.execute("SELECT task FROM copies")}
    return found >= set(tasks)
