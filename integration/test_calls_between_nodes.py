"""Parties that call each other: on one machine, and from node to node."""

from __future__ import annotations

import concurrent.futures
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import StartNode
from integration.harness import Node, wait_until
from integration.lab import lab
from leoronic.core import commands
from leoronic.errors import BadRequest, NotFound
from leoronic.remote import said
from leoronic.remote.channel import Channel
from leoronic.remote.gone import PartyGone
from leoronic.remote.party import Party
from leoronic.wire.cookie import fingerprint, new_cookie, read_cookies, write_cookies
from leoronic.wire.identity import Identity, make_identities
from leoronic.wire.preface import Preface

ANSWER_S = 15.0

Two = tuple[Node, Node]
MakeParty = Callable[..., Party]


@pytest.fixture
def two(start_node: StartNode, tmp_path: Path) -> Two:
    """Two nodes of one cluster, on loopback, that know each other."""
    cookie = tmp_path / "cookie"
    write_cookies(cookie, [new_cookie()])
    a = start_node("--name", "a", "--cookie", str(cookie))
    b = start_node("--name", "b", "--cookie", str(cookie), "--peer", peer_address(a))
    for node in (a, b):
        wait_until(lambda n=node: n.states() == {"a": "up", "b": "up"}, "both are up")
    return a, b


@pytest.fixture
def party() -> Iterator[MakeParty]:
    """Makes parties that answer each call with its payload; ends them after the test."""
    made: list[Party] = []

    def make(node: Node, name: str) -> Party:
        party = Party(str(node.root), name)
        party.handlers[said.CALLS] = echo
        party.start()
        made.append(party)
        return party

    yield make
    for one in made:
        one.stop()


def echo(channel: Channel, body: Any) -> None:
    for number, payload in body:
        channel.say_item(said.RESULTS, (number, True, payload))


def peer_address(node: Node) -> str:
    address: str = node.status()["node"]["address"]
    return address


def result_of(party: Party, node: str, to: str, payload: object) -> object:
    """What the party `to` answers to one call."""
    found: concurrent.futures.Future[object] = concurrent.futures.Future()
    party.handlers[said.RESULTS] = lambda channel, body: found.set_result(body[0][2])

    async def call() -> None:
        channel = await party.dial(node, to)
        channel.say_item(said.CALLS, (1, payload))

    party.run(call()).result(ANSWER_S)
    return found.result(ANSWER_S)


def gone(party: Party, node: str, to: str) -> PartyGone:
    """Why it cannot be reached."""
    with pytest.raises(PartyGone) as raised:
        party.run(party.dial(node, to)).result(ANSWER_S)
    return raised.value


def got_in(liar: Identity, stranger: socket.socket) -> bool:
    """Whether the other side says anything to it inside TLS."""
    try:
        with liar.calling.wrap_socket(stranger) as tls:
            return bool(tls.recv(1))
    except OSError:
        return False


def test_parties_of_two_nodes_call_each_other_through_tls(two: Two, party: MakeParty) -> None:
    """The peer port hands the connection over, and both ends know who the other is."""
    a, b = two
    here, there = party(a, "d-here"), party(b, "task.1")
    big = os.urandom(3 << 20)
    assert big == result_of(here, there.node, "task.1", big)
    channel = here.channel(there.node, "task.1")
    assert channel is not None
    assert channel.is_remote
    assert ("task.1", there.node) == (channel.peer.party, channel.peer.node)
    # The other direction needs no second connection.
    assert 7 == result_of(there, here.node, "d-here", 7)
    assert [1, 1] == [len(here.channels()), len(there.channels())]


def test_a_party_that_is_not_there_is_told_at_once(two: Two, party: MakeParty) -> None:
    """On this machine and on another one, whether it has ended or never was."""
    a, b = two
    here, there = party(a, "d-here"), party(b, "task.1")
    began = time.monotonic()
    assert gone(here, here.node, "task.9").nobody_listens
    assert gone(here, there.node, "task.9").nobody_listens
    there.stop()
    assert gone(here, there.node, "task.1").nobody_listens
    assert time.monotonic() - began < 5.0


def test_the_end_of_a_party_is_noticed_by_those_connected(two: Two, party: MakeParty) -> None:
    """They learn why, wherever they are."""
    a, b = two
    here, there = party(a, "d-here"), party(b, "task.1")
    lost: list[str] = []
    told = threading.Event()

    def on_lost(channel: Channel, reason: str) -> None:
        lost.append(reason)
        told.set()

    here.on_lost = on_lost
    assert 1 == result_of(here, there.node, "task.1", 1)
    there.stop("it has had enough")
    assert told.wait(ANSWER_S)
    assert ["it has had enough"] == lost


def test_who_has_another_cookie_is_refused(two: Two, party: MakeParty) -> None:
    """Without the cookie nobody gets as far as a frame, whatever its first line says."""
    _, b = two
    there = party(b, "task.1")
    opened: list[Channel] = []
    there.on_channel = opened.append
    [cookie] = read_cookies(b.state / "cookie")
    other = new_cookie()
    [liar] = make_identities([other], "liar")
    host, _, port = peer_address(b).rpartition(":")
    for claimed in (other, cookie):
        line = Preface((fingerprint(claimed),), "1", purpose="call", party="task.1").encode()
        with socket.create_connection((host, int(port)), ANSWER_S) as stranger:
            stranger.sendall(line)
            assert b"for=call" in stranger.recv(512)
            assert not got_in(liar, stranger)
    assert [] == opened


def test_calls_outlive_the_core_of_the_node(two: Two, party: MakeParty) -> None:
    """What goes through the node is the first connection only; and the node is asked again."""
    a, b = two
    here, there = party(a, "d-here"), party(b, "task.1")
    assert 1 == result_of(here, there.node, "task.1", 1)
    os.kill(b.core_pid(), 9)
    assert 2 == result_of(here, there.node, "task.1", 2)
    told = there.run(there.ask(commands.Locate(node=there.node))).result(ANSWER_S)
    assert told["here"]
    third = party(a, "d-third")
    wait_until(lambda: result_of(third, there.node, "task.1", 3) == 3, "a call by the new core")


def test_sockets_of_killed_parties_are_cleared_away(start_node: StartNode) -> None:
    """A start removes what nobody listens at any more, and leaves the others."""
    node = start_node()
    folder = node.state / "calls"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(folder / "t.1.sock"))
    dead.close()
    alive = Party(str(node.root), "t.2")
    alive.start()
    os.kill(node.core_pid(), 9)
    wait_until(lambda: not (folder / "t.1.sock").exists(), "the dead one's is gone")
    assert {"t.2.sock", "t.2.handed"} == {path.name for path in folder.iterdir()}
    alive.stop()
    assert [] == list(folder.iterdir())


def test_locate_tells_where_a_task_runs_and_waits_for_it(two: Two) -> None:
    """State, attempt, node and its addresses; with `wait_s`, once a later attempt runs or none."""
    a, b = two
    place = b.ask(commands.Locate(node="b"))
    assert (True, "b", peer_address(b)) == (place["here"], place["name"], place["addresses"][0])
    [task] = a.submit({"command": "sleep 60", "conditions": ["worker:tag there"]})
    waits = a.ask(commands.Locate(task))
    assert ("", []) == (waits["node"], waits["addresses"])
    b.ask(commands.TagAdd("there"))
    runs = a.ask(commands.Locate(task, wait_s=ANSWER_S))
    assert ("running", 1, "b", False) == tuple(
        runs[key] for key in ("state", "attempt", "name", "here")
    )
    assert place["node"] == runs["node"]
    assert peer_address(b) in runs["addresses"]
    assert b.ask(commands.Locate(task))["here"]
    began = time.monotonic()
    later = a.ask(commands.Locate(task, wait_s=0.3, after_attempt=1))
    assert 0.3 <= time.monotonic() - began < 5.0
    assert 1 == later["attempt"]
    a.ask(commands.Cancel([task]))
    ended = a.ask(commands.Locate(task, wait_s=ANSWER_S, after_attempt=1))
    assert ("cancelled", "", "cancelled") == (ended["state"], ended["node"], ended["reason"])
    for wrong in (
        commands.Locate(),
        commands.Locate("x", node="b"),
        commands.Locate("x", wait_s=-1),
    ):
        with pytest.raises(BadRequest):
            a.ask(wrong)
    with pytest.raises(NotFound):
        a.ask(commands.Locate(node="nobody"))


def test_tasks_are_told_of_the_interpreter_of_their_node(start_node: StartNode) -> None:
    """`LEORONIC_PYTHON` runs Python with leoronic, unless the task's environment says another."""
    node = start_node()
    told = node.run('"$LEORONIC_PYTHON" -c "import leoronic.remote; print(1)"')
    assert b"1\n" == node.output(told["id"])
    told = node.run({"command": 'echo "$LEORONIC_PYTHON"', "env": {"LEORONIC_PYTHON": "other"}})
    assert b"other\n" == node.output(told["id"])


DRIVER = """
import os, sys
import leoronic

leoronic.init(sys.argv[1])
there = {"conditions": ["worker:tag there"]}

@leoronic.remote(**there)
def where(x):
    return x, os.environ["LEORONIC_NODE"]

@leoronic.remote(**there)
class Counter:
    def __init__(self, start):
        self.n = start
    def add(self, large):
        self.n += len(large)
        return self.n, os.environ["LEORONIC_NODE"]

counter = Counter.remote(1)
large = leoronic.put(bytes(3_000_000))
found = leoronic.get([where.remote(1), counter.add.remote(large)], timeout=40)
print(found)
leoronic.shutdown()
"""


def test_a_driver_that_cannot_be_called_calls_its_workers(tmp_path: Path) -> None:
    """Its machine is behind a firewall: the one connection that it makes serves both ways."""
    with lab(tmp_path, "ab") as made:
        made.start()
        made.deafen("a")
        a, b = made.nodes["a"], made.nodes["b"]
        for node in (a, b):
            wait_until(lambda n=node: n.states() == {"a": "up", "b": "up"}, "both are up")
        b.ask(commands.TagAdd("there"))
        script = tmp_path / "driver.py"
        script.write_text(DRIVER)
        done = subprocess.run(
            ["ip", "netns", "exec", made.space("a"), sys.executable, str(script), str(a.root)],
            env=a.environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert b"[(1, 'b'), (3000001, 'b')]\n" == done.stdout, done.stderr.decode()
