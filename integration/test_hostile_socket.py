"""Clients of the control socket that do what they must not: only they suffer."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integration.harness import Node, running, wait_until
from leoronic.core.commands import Cancel, List, Logs, Show, Status
from leoronic.errors import LeoronicError

ANSWER_S_MAX = 1.0
MIB = 1 << 20
HEADER = struct.Struct("!II")
COMMANDS = [
    *("show", "list", "why", "logs", "wait", "cancel", "hold", "release", "redo", "status"),
    *("nodes", "tagadd", "tagdel", "taglist", "submit", "watch", "debug", "nonsense"),
]
FIELDS = ["id", "ids", "state", "limit", "since", "label", "stream", "offset", "tag", "node"]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node for all of these: what a client did wrong must not show in the next test."""
    with running(tmp_path_factory.mktemp("hostile")) as node:
        yield node
        assert not [event for event in node.events() if event["event"] == "child_crashed"]


def frame(json: bytes, blob: bytes = b"") -> bytes:
    return HEADER.pack(len(json), len(blob)) + json + blob


@contextlib.contextmanager
def connected(node: Node) -> Iterator[socket.socket]:
    """A raw connection."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(10)
        raw.connect(str(node.state / "control.sock"))
        yield raw


def read_to_end(raw: socket.socket) -> bytes:
    """All that comes until the node closes the connection."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while part := raw.recv(65536):
            data += part
    return data


def send(raw: socket.socket, data: bytes) -> None:
    """Send all of it, or as much as the node takes before it closes."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        raw.sendall(data)


class Bystander(threading.Thread):
    """Another client, which must get its answers all the time."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node
        self._over = threading.Event()
        self.slowest_s = 0.0
        self.answers = 0
        self.error: LeoronicError | None = None

    def run(self) -> None:
        """Ask again and again."""
        try:
            with self._node.client() as client:
                over = False
                while not over:
                    over = self._over.wait(0.01)
                    began = time.monotonic()
                    client.request(Status())
                    self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                    self.answers += 1
        except LeoronicError as error:
            self.error = error

    def __enter__(self) -> Bystander:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        assert self.error is None
        assert self.answers > 0
        assert self.slowest_s < ANSWER_S_MAX, f"an answer took {self.slowest_s:.2f} s"


@pytest.fixture
def bystander(node: Node) -> Iterator[Bystander]:
    with Bystander(node) as found:
        yield found


@pytest.mark.parametrize(
    "header", [(2**32 - 1, 0), (0, 2**32 - 1), (2**32 - 1, 2**32 - 1), (2**31, 10)]
)
def test_a_frame_said_to_be_4_gib(
    node: Node, bystander: Bystander, header: tuple[int, int]
) -> None:
    """The connection is closed at once, before any of it is stored."""
    before = node.memory()
    with connected(node) as raw:
        raw.sendall(HEADER.pack(*header))
        assert b"" == read_to_end(raw)
    assert node.memory() < before + 8 * MIB


def test_random_bytes(node: Node, bystander: Bystander) -> None:
    """Such a connection is closed, or waits for the rest of its frame; it costs little."""
    before = node.memory()
    for size in (1, 7, 8, 9, 100, 10_000, 1_000_000):
        with connected(node) as raw:
            send(raw, os.urandom(size))
            raw.shutdown(socket.SHUT_WR)
            read_to_end(raw)
    assert node.memory() < before + 8 * MIB


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.tuples(st.binary(max_size=100), st.binary(max_size=50)).map(lambda f: frame(*f)),
            st.recursive(
                st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=20),
                lambda inner: (
                    st.lists(inner, max_size=4)
                    | st.dictionaries(st.text(max_size=10), inner, max_size=4)
                ),
            ).map(lambda value: frame(orjson.dumps(value))),
            st.builds(
                lambda number, kind, key, value: frame(
                    orjson.dumps({"request": number, "command": {"type": kind, key: value}})
                ),
                st.integers(-(2**63), 2**63 - 1),
                st.sampled_from(
                    [
                        "show",
                        "list",
                        "why",
                        "logs",
                        "wait",
                        "cancel",
                        "hold",
                        "release",
                        "redo",
                        "status",
                        "nodes",
                        "tagadd",
                        "tagdel",
                        "taglist",
                        "submit",
                        "watch",
                        "debug",
                        "nonsense",
                    ]
                ),
                st.sampled_from(
                    [
                        "id",
                        "ids",
                        "state",
                        "limit",
                        "since",
                        "label",
                        "stream",
                        "offset",
                        "tag",
                        "node",
                    ]
                ),
                st.none()
                | st.integers(-(2**63), 2**63 - 1)
                | st.text(max_size=30)
                | st.lists(st.text(max_size=5), max_size=3)
                | st.floats(allow_nan=False, allow_infinity=False),
            ),
        ),
        max_size=5,
    )
)
def test_generated_frames(node: Node, parts: list[bytes]) -> None:
    """Whatever comes, every answer is a frame, and the node goes on."""
    with connected(node) as raw:
        send(raw, b"".join(parts))
        with contextlib.suppress(OSError):
            raw.shutdown(socket.SHUT_WR)
        data = read_to_end(raw)
    while data:
        size, blob = HEADER.unpack_from(data)
        assert "request" in orjson.loads(data[8 : 8 + size])
        data = data[8 + size + blob :]
    assert node.answers()


def test_a_client_that_never_reads(node: Node, bystander: Bystander) -> None:
    """Asking for a lot of output and not reading it costs bounded memory, and nobody's time."""
    task = node.run("head -c 100000000 /dev/zero")["id"]
    before = node.memory()
    logs = frame(orjson.dumps({"request": 1, "command": {"type": "logs", "id": task}}))
    status = frame(b'{"request": 1, "command": {"type": "status"}}')
    high: list[int] = []
    for _ in range(2):
        with contextlib.ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(connected(node)).sendall(logs)
            # And so many answers that nobody reads.
            raw = stack.enter_context(connected(node))
            raw.settimeout(2)
            with contextlib.suppress(OSError):
                for _ in range(1000):
                    raw.sendall(status * 10)
            high.append(node.memory())
    assert max(high) < before + 64 * MIB
    assert high[1] < high[0] + 16 * MIB
    # It is not lost for who does read.
    assert 100_000_000 == sum(map(len, node.parts(task)))


def test_500_clients_at_once(node: Node, bystander: Bystander) -> None:
    """All are connected, all are answered."""
    before = node.memory()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(node.client()) for _ in range(500)]
        for _ in range(3):
            numbers = [client.send(Status()) for client in clients]
            for client, number in zip(clients, numbers, strict=True):
                assert client.answer(number)["node"]["name"]
        assert node.memory() < before + 100 * MIB
    assert "succeeded" == node.run("echo after")["state"]


def test_half_sent_frames(node: Node, bystander: Bystander) -> None:
    """Slow clients, a byte now and then, are in nobody's way, and are answered in the end."""
    request = frame(b'{"request": 7, "command": {"type": "status"}}')
    with contextlib.ExitStack() as stack:
        raws = [stack.enter_context(connected(node)) for _ in range(100)]
        for byte in request[:-1]:
            for raw in raws:
                raw.sendall(bytes([byte]))
        for raw in raws[:50]:
            raw.sendall(request[-1:])
            size, _ = HEADER.unpack(raw.recv(8, socket.MSG_WAITALL))
            assert 7 == orjson.loads(raw.recv(size, socket.MSG_WAITALL))["request"]
    assert node.answers()


def test_clients_that_vanish(node: Node, bystander: Bystander) -> None:
    """Gone in the middle of long answers, they leave nothing behind."""
    [task] = node.submit("for i in {1..200}; do echo $i; sleep 0.01; done")
    node.wait_state(task, "running")
    for _ in range(100):
        with node.client() as client:
            client.send(Logs(task, follow=True))
            client.send(List())
            client.send(Show(task))
    assert "succeeded" == node.wait(task)[0]["state"]
    assert b"".join(b"%d\n" % i for i in range(1, 201)) == node.output(task)
    assert Path(f"/proc/{node.core_pid()}/fd").exists()
    wait_until(
        lambda: len(list(Path(f"/proc/{node.core_pid()}/fd").iterdir())) < 60,
        "their descriptors are closed",
    )


def test_followers_that_never_read(node: Node, bystander: Bystander) -> None:
    """Following live output and all changes, without reading, holds up neither task nor node."""
    before = node.memory()
    [task] = node.submit("sleep 0.3; head -c 100000000 /dev/zero; sleep 0.3; echo over >&2")
    with contextlib.ExitStack() as stack:
        follow = {"type": "logs", "id": task, "follow": True}
        for command in (follow, follow, {"type": "watch"}, {"type": "watch"}):
            raw = stack.enter_context(connected(node))
            raw.sendall(frame(orjson.dumps({"request": 1, "command": command})))
        assert "succeeded" == node.wait(task)[0]["state"]
        [array] = node.submit({"command": ":", "count": 1000, "cpus": 0.1})
        node.wait(array)
        assert node.memory() < before + 64 * MIB
    assert 100_000_000 == node.show(task)["stdout_bytes"]
    assert b"over\n" == node.output(task, "stderr")


def test_a_flood_of_logs(node: Node, bystander: Bystander) -> None:
    """So many readers of a running task cost the runner neither its connection nor its life."""
    [task] = node.submit("head -c 20000000 /dev/zero; sleep 60")
    runner = node.runner_pid()
    wait_until(lambda: sum(map(len, node.parts(task))) == 20_000_000, "it has printed")
    before = node.memory()
    command = {"type": "logs", "id": task}
    flood = b"".join(
        frame(orjson.dumps({"request": number, "command": command})) for number in range(64)
    )
    for _ in range(2):
        with contextlib.ExitStack() as stack:
            for _ in range(8):
                send(stack.enter_context(connected(node)), flood)
            time.sleep(1.0)
            assert node.memory() < before + 256 * MIB
    assert 20_000_000 == sum(map(len, node.parts(task)))
    assert "running" == node.show(task)["state"]
    assert runner == node.runner_pid()
    told = {"child_crashed", "reattached", "owner_disconnected"}
    assert not [event for event in node.events() if event["event"] in told]
    node.ask(Cancel([task]))
    node.wait(task)


def test_pages_of_big_tasks(node: Node, bystander: Bystander) -> None:
    """A list of them comes in as many pages as it takes; each can be shown."""
    [gate] = node.submit("sleep 60")
    tasks = [
        task
        for number in range(20)
        for task in node.submit({"command": f": {number} " + "x" * 900_000, "after": [gate]})
    ]
    found: list[str] = []
    before, more = None, True
    while more:
        page = node.ask(List(before=before))
        found += [task["id"] for task in page["tasks"]]
        before, more = page["tasks"][-1]["order"], page["more"]
    assert tasks == [task for task in reversed(found) if task in set(tasks)]
    assert 900_000 < len(node.show(tasks[0])["command"])
    node.ask(Cancel([*tasks, gate]))
    node.wait(gate)
