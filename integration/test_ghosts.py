"""Ghosts: light nodes that hold no queue, run tasks for others, and go to the next node."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from integration.ghosts import Ghost, Impostor, free_place, token_for
from integration.harness import Node, kill, wait_until
from integration.lab import lab
from integration.witness import Witness, check_runs, wait_agreement
from leoronic.core import commands
from leoronic.core.entries import Finished, Lost, Started, Tagged
from leoronic.core.ghost_messages import (
    GhostAppend,
    GhostAppended,
    GhostFetchSpecs,
    GhostPing,
    GhostSpecs,
    Up,
    encode,
)
from leoronic.core.outcome import Outcome
from leoronic.errors import LeoronicError

DONE = Outcome(1.0, 2.0, exit_code=0)


class MakeGhost(Protocol):
    """A ghost of `node`, attached; with these options."""

    def __call__(self, node: Node, *options: str, name: str = "g") -> Ghost: ...


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    # It must be found again by who knew it: so its port stays.
    made = Node(tmp_path / "n", "--name", "n", "--cpus", "2", listen=free_place())
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def make_ghost(tmp_path: Path) -> Iterator[MakeGhost]:
    with ExitStack() as stack:

        def make(node: Node, *options: str, name: str = "g") -> Ghost:
            ghost = Ghost(tmp_path / name, token_for(node), address(node), *options)
            stack.callback(ghost.close)
            ghost.start()
            ghost.wait_attached(node)
            return ghost

        yield make


def address(node: Node) -> str:
    """Where it listens."""
    found: str = node.status()["node"]["address"]
    return found


def on(name: str, command: str, **fields: object) -> dict[str, object]:
    """A task for the ghost that carries that tag."""
    return {"command": command, "conditions": [f"worker:tag {name}"], **fields}


def find(node: Node, name: str) -> dict[str, object]:
    """The node object of that name."""
    return next(one for one in node.ask(commands.Nodes())["nodes"] if one["name"] == name)


# ---- what it does ----


def test_it_runs_tasks(node: Node, make_ghost: MakeGhost) -> None:
    """A task is placed on it by its tag, with its folder, its name and what it prints."""
    ghost = make_ghost(node, "--tag", "light")
    told = node.run(on("light", "echo $LEORONIC_NODE $PWD; echo oh >&2; exit 3"))
    assert ("failed", "g", 3) == (told["state"], told["node"], told["exit_code"])
    assert f"g {ghost.root}\n".encode() == node.output(told["id"])
    assert b"oh\n" == node.output(told["id"], "stderr")


def test_large_output(node: Node, make_ghost: MakeGhost) -> None:
    """What it keeps in packs and in files can be read from the node, and is copied there."""
    ghost = make_ghost(node, "--tag", "light")
    for size in (100_000, 3_000_000):
        told = node.run(on("light", f"yes 0123456789abcde | head -c {size}"))
        assert b"0123456789abcde\n" * (size // 16) == node.output(told["id"])
        copy = node.state / "output" / f"{told['id']}.1.stdout@{find(node, 'g')['id']}"
        wait_until(copy.exists, "a copy")
    ghost.close()
    assert 3_000_000 == len(node.output(told["id"]))


def test_large_specs(node: Node, make_ghost: MakeGhost) -> None:
    """More than a frame may hold, of tasks that all start at once."""
    make_ghost(node, "--cpus", "64")
    large = on("go", "wc -c", stdin="\\" * 1_000_000)
    tasks = [node.submit(large)[0] for _ in range(24)]
    node.ask(commands.TagAdd("go", "g"))
    for task in tasks:
        assert "succeeded" == node.wait(task)[0]["state"]
        assert b"1000000" == node.output(task).strip()


def test_following_it(node: Node, make_ghost: MakeGhost) -> None:
    """`logs -f` shows what a task prints there while it runs."""
    make_ghost(node, "--tag", "light")
    [task] = node.submit(on("light", "for i in 1 2 3; do echo $i; sleep 0.3; done"))
    node.wait_state(task, "running", "succeeded")
    seen = [(part, time.monotonic()) for part in node.parts(task, follow=True) if part]
    assert b"1\n2\n3\n" == b"".join(part for part, _ in seen)
    assert seen[-1][1] - seen[0][1] > 0.3


def test_limits_and_cancelling(node: Node, make_ghost: MakeGhost) -> None:
    """Time and memory limits hold there, and a task that runs there can be cancelled."""
    make_ghost(node, "--tag", "light")
    slow = node.run(on("light", "sleep 60", time_limit=0.3))
    assert ("failed", True) == (slow["state"], "time limit" in slow["reason"])
    big = node.run(on("light", "python3 -c 'print(len(b\"x\" * (200 << 20)))'", memory="64M"))
    assert ("failed", True) == (big["state"], "memory" in big["reason"])
    [task] = node.submit(on("light", "sleep 60"))
    node.wait_state(task, "running")
    node.ask(commands.Cancel([task]))
    assert "cancelled" == node.wait(task)[0]["state"]
    wait_until(lambda: find(node, "g")["running"] == 0, "it has ended")


def test_tags_drain_and_exec(node: Node, make_ghost: MakeGhost) -> None:
    """Any node tags it, drains it and runs commands on it; `why` tells of it."""
    make_ghost(node)
    assert {"node": "g", "tags": ["ghost", "new"]} == node.ask(commands.TagAdd("new", "g"))
    wait_until(lambda: find(node, "g")["tags"] == ["ghost", "new"], "the tag is there")
    assert "g" == node.run(on("new", "true"))["node"]
    assert "draining" == node.ask(commands.Drain("g"))["state"]
    [task] = node.submit(on("new", "true"))
    wait_until(lambda: "draining" in str(node.ask(commands.Why(task))["nodes"].get("g")), "why")
    node.ask(commands.Drain("g", undo=True))
    assert "succeeded" == node.wait(task)[0]["state"]
    [told] = node.ask(commands.Exec("echo $LEORONIC_NODE", node="g"))["ids"].values()
    node.wait(told)
    assert b"g\n" == node.output(told)
    assert {"node": "g", "tags": ["ghost"]} == node.ask(commands.TagDel("new", "g"))


@pytest.mark.patient
def test_the_clairvoyant_says_so(node: Node, make_ghost: MakeGhost) -> None:
    """A node with ghosts has the tag, and offers a cpu less; a minute later that is over."""
    ghost = make_ghost(node)
    shown = find(node, "n")
    assert (["clairvoyant"], 1.0) == (shown["tags"], shown["cpus"])
    assert ("ghost", None, "n") == tuple(
        find(node, "g")[key] for key in ("kind", "address", "clairvoyant")
    )
    assert 4 == len(node.pids())
    ghost.terminate()
    ghost.wait_stopped()
    wait_until(lambda: find(node, "n")["tags"] == [], "no tag", within_s=75.0, poll_s=1.0)
    assert (2.0, 3) == (find(node, "n")["cpus"], len(node.pids()))
    # And it begins again.
    make_ghost(node, name="h")
    assert ["clairvoyant"] == find(node, "n")["tags"]


def test_it_finds_nodes_itself(tmp_path: Path) -> None:
    """In the local network: the lowest address, or the one that is counted out."""
    names = ["a", "b", "g", "h"]
    with lab(tmp_path, names, discovery=True) as machines, ExitStack() as stack:
        machines.start("a", "b")
        a = machines.nodes["a"]
        wait_until(lambda: a.states() == {"a": "up", "b": "up"}, "both are there")
        for name, options, expected in (("g", (), "a"), ("h", ("3",), "b")):
            space = ("ip", "netns", "exec", machines.space(name))
            ghost = Ghost(tmp_path / name, token_for(a), *options, prefix=space, discovery=True)
            stack.callback(ghost.close)
            ghost.start()
            ghost.wait_attached(a)
            assert expected == find(a, name)["clairvoyant"]


# ---- what it may ----


def test_a_token_is_not_a_cookie(node: Node) -> None:
    """With a token nobody becomes a node, nor reads or changes the queue."""

    async def try_all() -> None:
        port = int(address(node).rpartition(":")[2])
        token = token_for(node)
        [task] = node.submit({"command": "echo a secret", "cpus": 1000})
        for purpose in ("", "files", "serve-files"):
            impostor = Impostor(token, port, "impostor00")
            # In TLS 1.3 it may take itself for connected before the node has looked at it.
            with contextlib.suppress(OSError, ssl.SSLError):
                await impostor.connect(purpose)
            assert await impostor.hear() is None, purpose
            impostor.close()
        me = node.status()["node"]["id"]
        for text in (
            GhostFetchSpecs([task]),
            GhostAppend(1, [Started(task, 1, "impostor00", 1.0)], want_specs=True),
            GhostAppend(1, [Started(task, 1, me, 1.0)], want_specs=True),
            GhostAppend(1, [Started(task, 1, "impostor00", 1.0, handed=True)]),
            GhostAppend(1, [Finished(task, 1, "impostor00", DONE, final=True)]),
            GhostAppend(1, [Lost(task, 1, "impostor00", 1.0, "why", hold=True)]),
            GhostAppend(1, [Started(task, 1, "impostor00", 1.0, handed=True)], tickets=["0" * 32]),
            # What it claimed to run it might read on its next connection.
            GhostFetchSpecs([task]),
            Up(me, b'{"type":"Pull","node":"impostor00","have":{},"number":1}'),
            Up(me, b'{"type":"Push","node":"impostor00","first":1,"count":1,"needs":{}}'),
            Up(me, b'{"type":"Ask","node":"impostor00","request":1,"command":{"type":"nodes"}}'),
            Up(me, b'{"type":"Heartbeat","node":"impostor00","sent_ms":1}'),
        ):
            impostor = Impostor(token, port, "impostor00")
            await impostor.connect()
            await impostor.attach()
            if isinstance(text, Up):
                raw = text.message
                impostor.say_frame(
                    b'{"type":"Up","node":"' + me.encode() + b'","message":' + bytes(raw) + b"}"
                )
            else:
                impostor.say(text)
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                heard = await impostor.hear(0.3)
                if heard is None:
                    break
                for said in heard:
                    assert b"secret" not in repr(said).encode(), (text, said)
                    if isinstance(said, GhostSpecs | GhostAppended):
                        assert {} == said.specs
            impostor.close()
        for raw_frame in (b"[]", b"\xff\xff", b'{"type":"Attach"}', b"{" * 5000):
            impostor = Impostor(token, port, "impostor00")
            await impostor.connect()
            impostor.say_frame(raw_frame)
            assert await impostor.hear_until(GhostSpecs) is None
            impostor.close()
        # It must not be taken for a node.
        impostor = Impostor(token, port, me)
        await impostor.connect()
        with pytest.raises(AssertionError):
            await impostor.attach()
        impostor.close()
        shown = node.show(task)
        assert [] == shown["attempts"]
        assert shown["state"] in ("waiting", "blocked")

    asyncio.run(try_all())
    assert {"n"} == {name for name, state in node.states().items() if state == "up"}


def test_a_ghost_that_shouts(node: Node, make_ghost: MakeGhost) -> None:
    """Whoever has a token can keep neither the node nor its other ghosts from their work."""
    make_ghost(node, "--tag", "light")

    async def shout(impostor: Impostor, frame: bytes) -> None:
        """As much as is taken, for a while."""
        until = time.monotonic() + 5.0
        with contextlib.suppress(OSError, TimeoutError):
            while time.monotonic() < until and not impostor.is_closing():
                impostor.say_frame(frame)
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + 6.0):
                    await impostor.flushed()
                await asyncio.sleep(0)

    async def all_of_them() -> None:
        port, token = int(address(node).rpartition(":")[2]), token_for(node)
        me = node.status()["node"]["id"]
        ping = encode(GhostPing(1, busy=True))[0]
        held = b",".join(b'{"task":"%032d","attempt":1}' % n for n in range(9))
        offer = b'{"type":"Up","node":"%s","message":{"type":"Offer","held":[%s]}}'
        tags = [Tagged("impostor02", f"t{n}", 1.0) for n in range(10_000)]
        frames = (ping, offer % (me.encode(), held), encode(GhostAppend(1, [*tags]))[0])
        impostors = [Impostor(token, port, f"impostor0{n}") for n in range(len(frames))]
        for impostor in impostors:
            await impostor.connect()
            await impostor.attach()
        await asyncio.gather(*map(shout, impostors, frames))
        for impostor in impostors:
            impostor.close()

    shouting = threading.Thread(target=lambda: asyncio.run(all_of_them()), daemon=True)
    shouting.start()
    try:
        before = node.core_pid()
        slowest = 0.0
        while shouting.is_alive():
            began = time.monotonic()
            told = node.run(on("light", "true"))
            slowest = max(slowest, time.monotonic() - began)
            assert ("succeeded", 1) == (told["state"], len(told["attempts"]))
    finally:
        shouting.join(30.0)
    assert slowest < 5.0
    assert before == node.core_pid()
    assert "crash" not in node.stderr.read_text()


def test_a_wrong_token(node: Node, tmp_path: Path) -> None:
    """A ghost of another cluster is told what to do."""
    other = Node(tmp_path / "other")
    ghost = Ghost(tmp_path / "stray", "", address(node))
    try:
        other.start()
        ghost.environment["LEORONIC_TOKEN"] = token_for(other)
        ghost.start()
        wait_until(lambda: "belongs to another cluster" in ghost.tail(), "it says so")
    finally:
        ghost.close()
        other.close()


# ---- what it survives ----


def test_its_processes_are_killed(node: Node, make_ghost: MakeGhost) -> None:
    """Its core and its keeper are there again, and tasks never notice; with its runner they end."""
    ghost = make_ghost(node, "--tag", "light")
    [task] = node.submit(on("light", "sleep 3; echo done"))
    node.wait_state(task, "running")
    kill(ghost.core_pid())
    ghost.wait_attached(node)
    kill(ghost.keeper_pid())
    time.sleep(0.5)
    [told] = node.wait(task)
    assert ("succeeded", 1) == (told["state"], len(told["attempts"]))
    assert b"done\n" == node.output(task)
    [task] = node.submit(on("light", "sleep 1; echo done"))
    node.wait_state(task, "running")
    kill(ghost.runner_pid())
    [told] = node.wait(task)
    assert ["lost", "succeeded"] == [attempt["state"] for attempt in told["attempts"]]


def test_the_relay_is_killed(node: Node, make_ghost: MakeGhost) -> None:
    """Its ghosts are connected again in a moment, and nothing runs twice."""
    make_ghost(node, "--tag", "light")
    [task] = node.submit(on("light", "sleep 2; echo done"))
    node.wait_state(task, "running")
    kill(node._listener("relay.sock"))
    [told] = node.wait(task)
    assert ("succeeded", 1) == (told["state"], len(told["attempts"]))


def test_the_core_of_its_node_is_killed(node: Node, make_ghost: MakeGhost) -> None:
    """The same."""
    make_ghost(node, "--tag", "light")
    [task] = node.submit(on("light", "sleep 2; echo done"))
    node.wait_state(task, "running")
    kill(node.core_pid())
    wait_until(node.answers, "the node is back")
    [told] = node.wait(task)
    assert ("succeeded", 1) == (told["state"], len(told["attempts"]))


def test_two_nodes_and_one_is_killed(tmp_path: Path) -> None:
    """Its ghosts go to the other, with what they run: nothing is doubled, nothing is lost."""
    with ExitStack() as stack:
        a, b = pair(tmp_path, stack)
        token = token_for(a)
        ghosts = []
        for number in range(2):
            ghost = Ghost(
                tmp_path / f"g{number}",
                token,
                *("--peer", address(a), "--peer", address(b), "--tag", "light", "--cpus", "2"),
            )
            stack.callback(ghost.close)
            ghost.start()
            ghosts.append(ghost)
        for ghost in ghosts:
            ghost.wait_attached(a)
            ghost.wait_attached(b)
        witness = Witness(tmp_path / "witness")
        tasks = witness.submit(b, *(on("light", witness.command("sleep 0.5")) for _ in range(40)))
        first = {one["clairvoyant"] for one in (find(b, "g0"), find(b, "g1"))}
        assert 1 == len(first)
        wait_until(lambda: b.counts().get("succeeded", 0) >= 4, "some have run")
        (a if first == {"a"} else b).kill_all()
        left = b if first == {"a"} else a
        told = wait_agreement([left], tasks)
        assert {"succeeded"} == {shown["state"] for shown in told.values()}
        assert 0 == check_runs(witness, told)


def test_following_while_its_node_dies(tmp_path: Path) -> None:
    """Output goes on to be shown when the ghost has found another: soon, and all of it."""
    with ExitStack() as stack:
        a, b = pair(tmp_path, stack)
        peers = ("--peer", address(a), "--peer", address(b))
        ghost = Ghost(tmp_path / "g", token_for(a), *peers, "--tag", "light")
        stack.callback(ghost.close)
        ghost.start()
        ghost.wait_attached(a)
        ghost.wait_attached(b)
        first, left = (a, b) if find(b, "g")["clairvoyant"] == "a" else (b, a)
        [task] = left.submit(on("light", "for i in {1..40}; do echo $i; sleep 0.25; done"))
        left.wait_state(task, "running")
        heard: list[bytes] = []
        longest, before = 0.0, time.monotonic()
        for part in left.parts(task, follow=True):
            longest, before = max(longest, time.monotonic() - before), time.monotonic()
            heard.append(part)
            if len(heard) == 4:
                first.kill_all()
        assert [*range(1, 41)] == [*map(int, b"".join(heard).split())]
        assert longest < 6.0
        assert 1 == len(left.show(task)["attempts"])


def pair(folder: Path, stack: ExitStack) -> tuple[Node, Node]:
    """Two nodes that see each other."""
    a = Node(folder / "a", "--name", "a", "--cpus", "1", listen=free_place())
    stack.callback(a.close)
    a.start()
    cookie = a.state / "cookie"
    options = ("--name", "b", "--cpus", "1", "--cookie", str(cookie), "--peer", address(a))
    b = Node(folder / "b", *options, listen=free_place())
    stack.callback(b.close)
    b.start()
    for node in (a, b):
        wait_until(lambda node=node: node.states() == {"a": "up", "b": "up"}, "both are there")
    return a, b


def test_each_node_is_killed_in_turn(tmp_path: Path) -> None:
    """Two nodes and six ghosts on machines of their own: 500 tasks, and always one node is left."""
    names = ["a", "b", *(f"g{number}" for number in range(6))]
    with lab(tmp_path, names) as machines, ExitStack() as stack:
        machines.start("a", "b", options=("--cpus", "1"))
        a, b = machines.nodes["a"], machines.nodes["b"]
        token = token_for(a)
        both = ("--peer", machines.address("a"), "--peer", machines.address("b"))
        for name in names[2:]:
            space = ("ip", "netns", "exec", machines.space(name))
            options = (*both, "--cpus", "2", "--tag", "light")
            ghost = Ghost(tmp_path / name, token, *options, prefix=space)
            stack.callback(ghost.close)
            ghost.start()
            ghost.wait_attached(b)
        witness = Witness(tmp_path / "witness")
        tasks = witness.submit(b, *(on("light", witness.command("sleep 0.4")) for _ in range(500)))
        for victim, other, share in ((a, b, 0.2), (b, a, 0.6)):
            wait_until(
                lambda other=other, share=share: other.counts().get("succeeded", 0) >= share * 500,
                f"{share} of them have run",
                within_s=60.0,
                story=other.counts,
            )
            victim.kill_all()
            time.sleep(3.0)
            victim.start()
            wait_until(
                lambda other=other: other.states()["a"] == other.states()["b"] == "up",
                "it is back",
                within_s=30.0,
                story=other.states,
            )
        told = wait_agreement([a, b], tasks, within_s=90.0)
        assert {"succeeded"} == {shown["state"] for shown in told.values()}
        assert 0 == check_runs(witness, told)


def test_errors_are_told(node: Node, make_ghost: MakeGhost) -> None:
    """Whoever asks of a ghost that is gone hears so."""
    ghost = make_ghost(node)
    ghost.kill_all()
    wait_until(lambda: node.states()["g"] == "down", "it is down", within_s=40.0)
    with pytest.raises(LeoronicError, match="g is down"):
        node.ask(commands.Drain("g"))
