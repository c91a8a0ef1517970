"""Coming into a cluster, being kept out of it, and changing its secret while it works."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from integration import next_version
from integration.command_line import data, environment, holds_for, leoronic, told
from integration.harness import Node, wait_until
from integration.lab import Lab
from integration.test_cluster import wait_meshed
from integration.witness import Witness, check_runs, wait_agreement

# What is wrong with a stranger is logged, but not each time one of the two calls the other.
LINES_MAX = 4


class Loose(Lab):
    """Nodes that are told of nobody, but for what a test gives them."""

    def _peers(self, name: str) -> tuple[str, ...]:
        return ()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as found:
        yield found


def loose(stack: ExitStack, folder: Path, names: str) -> Lab:
    made = Loose(folder, names)
    stack.callback(made.close)
    made.open()
    return made


def keep_cookie(node: Node) -> None:
    """From now on it is started with the cookie that it has kept."""
    at = node.options.index("--cookie")
    del node.options[at : at + 2]


def warnings(node: Node, event: str = "not connected") -> list[str]:
    """What it said about who is not let in."""
    return [
        line.get("reason") or line.get("hint") for line in node.events() if line["event"] == event
    ]


def test_the_line_is_pasted(stack: ExitStack, tmp_path: Path) -> None:
    """What `leoronic join` prints, pasted in an empty folder elsewhere, is all that it takes."""
    made = loose(stack, tmp_path, "ab")
    made.start("a", options=("--cpus", "1"))
    a = made.nodes["a"]
    line = told(a, "join")
    assert line.startswith("LEORONIC_COOKIE=")
    assert f"--peer {made.address('a')}" in line
    folder = tmp_path / "b"
    b = Node(folder, prefix=("ip", "netns", "exec", made.space("b")))
    made.nodes["b"] = b
    shell = {**environment(b), **{k: v for k, v in b.environment.items() if k not in ("PATH",)}}
    del shell["LEORONIC_ROOT"]
    with b.stdout.open("wb") as out, b.stderr.open("wb") as err:
        b.process = subprocess.Popen(
            [*b.prefix, "bash", "-c", f"exec 3<&0; {line} --name b --cpus 1"],
            cwd=folder,
            env=shell,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    wait_until(b.answers, "b answers", story=b.tail)
    wait_meshed(made)
    secret = told(a, "cookie", "show", "--secret")
    kept = folder / ".leoronic" / "cookie"
    assert (secret, 0o600) == (kept.read_text().strip(), kept.stat().st_mode & 0o777)
    assert secret not in b.stderr.read_text()
    # Those of a task must not see it in their environment.
    assert b"" == b.output(b.run("echo $LEORONIC_COOKIE")["id"]).strip()
    cookies = data(b, "cookie", "show")
    assert {"a": True, "b": True} == cookies["nodes"]


def test_rotation(stack: ExitStack, tmp_path: Path) -> None:
    """The cookie changes while tasks run and one node is away; after the end the old is refused."""
    made = loose(stack, tmp_path, "abcd")
    for name in "bc":
        made.node(name, "--peer", made.address("a"), "--cpus", "1")
    made.start("a", "b", "c", options=("--cpus", "1"))
    wait_meshed(made, "abc")
    a, b, c = (made.nodes[name] for name in "abc")
    for node in (a, b, c):
        keep_cookie(node)
    witness = Witness(tmp_path / "witness")
    witness.submit(a, *[{"command": witness.command("sleep 0.3")}] * 30)
    old = told(a, "cookie", "show", "--secret")
    assert 0 == c.stop()
    rotated = told(b, "cookie", "rotate")
    new = told(a, "cookie", "show", "--secret")
    assert old != new
    assert "not there to ask: c" in rotated
    refused = leoronic(a, "cookie", "rotate", code=1).stderr
    assert "finish" in refused
    assert [new, old] == (b.state / "cookie").read_text().split()
    c.start()
    wait_until(
        lambda: (c.state / "cookie").read_text().split() == [new, old],
        "c has the new one",
        story=c.tail,
    )
    wait_until(lambda: all(data(a, "cookie", "show")["nodes"].values()), "all have it")
    told(c, "cookie", "finish")
    for node in (a, b, c):
        wait_until(
            lambda node=node: (node.state / "cookie").read_text().split() == [new],
            "only the new one is accepted",
        )
    # Nothing was disconnected but by the stop of c.
    for node in (a, b):
        gone = Counter(e["peer"] for e in node.events() if e["event"] == "disconnected")
        assert gone.keys() <= {c.status()["node"]["id"]}, gone
    check_runs(witness, wait_agreement((a, b, c), witness.acknowledged))
    late = made.node("d", "--peer", made.address("a"), "--peer", made.address("c"))
    made.start("d")
    wait_until(lambda: len(warnings(late)) == 2, "both refuse it", within_s=10, story=late.tail)
    assert all("it belongs to another cluster" in one for one in warnings(late))
    assert {"d": "up"} == late.states()
    assert "d" not in a.states()


def test_strangers(stack: ExitStack, tmp_path: Path) -> None:
    """Another cookie, another protocol: both sides say what to do about it, and don't go on so."""
    made = loose(stack, tmp_path, "abc")
    other = tmp_path / "other"
    other.write_text("another-cookie-that-nobody-else-has\n")
    other.chmod(0o600)
    made.start("a")
    b = made.node("b", "--peer", made.address("a"), "--cookie", str(other))
    c = made.node("c", "--peer", made.address("a"))
    c.environment.update(next_version.environment(tmp_path / "next", 2, 3))
    made.start("b", "c")
    a = made.nodes["a"]
    for one, word, both in ((b, "leoronic join", True), (c, "update leoronic", True)):
        for node in (one, a):
            wait_until(
                lambda node=node, word=word: any(word in told for told in warnings(node)),
                f"{node.root.name} says what to do",
                story=node.tail,
            )
        assert both
    assert "update leoronic on this node" in " ".join(warnings(a))
    assert "update leoronic on that node" in " ".join(warnings(c))
    # They are called again and again meanwhile.
    assert holds_for(lambda: all(len(warnings(node)) <= LINES_MAX for node in (a, b, c)), 6.0), [
        warnings(node) for node in (a, b, c)
    ]
    for name, node in (("a", a), ("b", b), ("c", c)):
        assert {name: "up"} == node.states()
    secret = (a.state / "cookie").read_text().strip()
    for node in (a, b, c):
        assert secret not in node.stderr.read_text()


def test_copied_folder(stack: ExitStack, tmp_path: Path) -> None:
    """Of two nodes with one identity, the later takes another; what only it had is not lost."""
    made = loose(stack, tmp_path, "abc")
    a, b, c, witness, identity = copied(made, tmp_path)
    done = witness.submit(a, *[{"command": witness.command()}] * 3)
    a.wait(*done)
    waits = witness.submit(a, *[{"command": witness.command(), "conditions": LATE}] * 4)
    assert 0 == a.stop()
    shutil.copytree(a.root, c.root, symlinks=True)
    # The copy is alone for a while, and takes tasks that nobody else knows.
    made.split("ab", "c")
    a.start()
    wait_meshed(made, "ab")
    c.start()
    assert identity == c.status()["node"]["id"] == a.status()["node"]["id"]
    alone = witness.submit(
        c,
        {"command": witness.command(), "conditions": LATE, "name": "x"},
        {"command": witness.command(), "after": ["x"]},
    )
    made.heal()
    wait_until(
        lambda: c.status()["node"]["id"] != identity,
        "c has another identity",
        within_s=30,
        story=c.tail,
    )
    wait_meshed(made)
    assert identity == a.status()["node"]["id"]
    [said] = [e["why"] for e in c.events() if e["event"] == "this node has begun anew"]
    assert "copied" in said
    assert "tasks are carried over" in said
    assert list(c.state.glob("leoronic.db.*"))
    told(b, "tag", "add", "late")
    wanted = [*done, *waits, *alone]
    ended = wait_agreement((a, b, c), wanted, within_s=40)
    assert {"succeeded"} == {ended[task]["state"] for task in wanted}
    assert 0 == check_runs(witness, ended)
    assert 1 == max(witness.runs().values())
    wait_until(lambda: not (c.state / "carried.json").exists(), "all is carried")


LATE = ["worker:tag late"]


def copied(made: Lab, folder: Path) -> tuple[Node, Node, Node, Witness, str]:
    """Nodes a and b, which run, c, which does not, a witness, and the identity of a."""
    a = made.node("a", "--cpus", "1", "--peer", made.address("b"))
    b = made.node("b", "--cpus", "1", "--peer", made.address("a"))
    c = made.node("c", "--cpus", "1", "--peer", made.address("b"))
    c.root.rmdir()
    made.start("a", "b")
    wait_meshed(made, "ab")
    return a, b, c, Witness(folder / "witness"), a.status()["node"]["id"]


def test_copied_folder_starts_at_once(stack: ExitStack, tmp_path: Path) -> None:
    """Both start together, with tasks that can run: nothing runs twice for that."""
    made = loose(stack, tmp_path, "abc")
    a, b, c, witness, identity = copied(made, tmp_path)
    told(b, "drain")
    running = witness.submit(a, {"command": witness.command("sleep 1")})
    waits = witness.submit(a, *[{"command": witness.command("sleep 0.1")}] * 10)
    a.wait_state(running[0], "running")
    assert 0 == a.stop()
    shutil.copytree(a.root, c.root, symlinks=True)
    made.start("a", "c")
    wait_until(
        lambda: len({node.status()["node"]["id"] for node in (a, b, c)}) == 3,
        "all have identities of their own",
        within_s=30,
        story=lambda: (a.tail(), c.tail()),
    )
    wait_meshed(made, "ac")
    told(b, "drain", "--undo")
    ended = wait_agreement((a, b, c), [*running, *waits], within_s=40)
    assert {"succeeded"} == {task["state"] for task in ended.values()}
    twice = check_runs(witness, ended)
    assert twice <= 1, witness.runs()
    assert identity in {node.status()["node"]["id"] for node in (a, c)}
