"""Host processes: the same reference over a socket, survival and adoption, hostile frames."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from leoronic.core.effects import Attached, Detached
from leoronic.core.tree import ChildSpec, SupervisorSpec
from leoronic.errors import ActorGone, BadRequest, CallTimeout, LeoronicError
from leoronic.runtime import host_child
from leoronic.runtime.actor import Actor
from leoronic.runtime.host_child import HostChild
from leoronic.runtime.launcher import ExecLauncher
from leoronic.runtime.remote_ref import MessageTooLarge, RemoteRef
from leoronic.runtime.supervisor import StartFailed, Tree
from leoronic.wire.frames import JSON_BYTES_MAX
from leoronic.wire.unix import connect_unix, listen_unix
from tests.runtime.actors import until

ROOT = Path(__file__).parent.parent.parent


class Say(msgspec.Struct, tag=True):
    text: str


class Spell(msgspec.Struct, tag=True):
    length: int


class Emit(msgspec.Struct, tag=True):
    text: str


class Refuse(msgspec.Struct, tag=True):
    pass


class Hang(msgspec.Struct, tag=True):
    pass


class Crash(msgspec.Struct, tag=True):
    pass


class Quit(msgspec.Struct, tag=True):
    pass


class Said(msgspec.Struct, tag=True):
    text: str
    pid: int


class Hosted(Actor):
    """What runs in the host process of these tests."""

    takes = Say | Spell | Emit | Refuse | Hang | Crash | Quit
    gives = Said

    def __init__(self, greeting: str = "", broken: bool = False) -> None:
        self.greeting = greeting
        self.broken = broken

    async def started(self) -> None:
        if self.broken:
            raise ValueError("broken on purpose")

    async def handle(self, message: Any) -> Any:
        match message:
            case Say(text):
                return Said(self.greeting + text, os.getpid())
            case Spell(length):
                return Said("x" * length, os.getpid())
            case Emit(text):
                self.context.emit(Said(text, os.getpid()))
            case Refuse():
                raise BadRequest("never")
            case Hang():
                await asyncio.Event().wait()
            case Quit():
                self.context.stop()
            case Crash():
                raise ValueError("crashed on purpose")
        return None


class Owner(Actor):
    """Keeps what the hosted actor emits, for the test to wait for."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Any] = asyncio.Queue()

    async def handle(self, message: Any) -> None:
        self.heard.put_nowait(message)

    async def hears(self, expected: Any) -> None:
        """Return once `expected` came; what came before is forgotten."""
        while await self.heard.get() != expected:
            pass


class World:
    """One hosted actor with its owner, in a tree that can be started several times."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "host.sock"
        self.owner = Owner()
        self.pids: set[int] = set()

    def tree(self, **fields: Any) -> Tree:
        self.owner = Owner()
        fields = {"shutdown_s": 5.0, **fields}
        hosted = ChildSpec(
            name="hosted",
            factory="tests.runtime.test_host:Hosted",
            host="process",
            socket=str(self.socket),
            takes=Hosted.takes,
            gives=Hosted.gives,
            owner="owner",
            **fields,
        )
        owner = ChildSpec(name="owner", factory=lambda: self.owner)
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        return Tree(
            SupervisorSpec(name="root", children=(owner, hosted)),
            launcher=ExecLauncher(sys.executable, env),
        )

    def pid(self, tree: Tree) -> int:
        pid = tree.statistics()[2]["pid"]
        assert isinstance(pid, int)
        self.pids.add(pid)
        return pid


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_call_cast_emit_and_errors(world: World) -> None:
    """A hosted actor answers, refuses, times out and emits as one in this process."""
    tree = world.tree(arguments={"greeting": "hello "}, shutdown_s=0.1)
    await tree.start()
    try:
        pid = world.pid(tree)
        assert pid != os.getpid()
        ref = tree.find("hosted")
        assert await ref.call(Say("world")) == Said("hello world", pid)
        with pytest.raises(BadRequest, match="never"):
            await ref.call(Refuse())
        await ref.cast(Emit("a"))
        ref.cast_nowait(Emit("b"))
        await world.owner.hears(Attached("hosted", fresh=True))
        await world.owner.hears(Said("a", pid))
        await world.owner.hears(Said("b", pid))
        with pytest.raises(CallTimeout):
            await ref.call(Hang(), timeout_s=0.01)
    finally:
        await tree.stop()
    assert not world.socket.exists()


async def test_many_at_once(world: World) -> None:
    """Calls overlap, casts beyond the host's mailbox wait, and nothing is lost or reordered."""
    tree = world.tree(mailbox_max=64)
    await tree.start()
    try:
        ref = tree.find("hosted")
        for number in range(3000):
            await ref.cast(Emit(str(number)))
        pid = world.pid(tree)
        calls = [ref.call(Say(str(number))) for number in range(60)]
        answers = await asyncio.gather(*calls)
        assert answers == [Said(str(number), pid) for number in range(60)]
        await world.owner.hears(Attached("hosted", fresh=True))
        for number in range(3000):
            assert await world.owner.heard.get() == Said(str(number), pid)
    finally:
        await tree.stop()


@pytest.mark.parametrize("how", ["kill", "crash"])
async def test_a_host_that_ends_is_started_again(world: World, how: str) -> None:
    """kill -9 and a bug alike: calls under way fail, the owner is told, the ref works again."""
    tree = world.tree()
    await tree.start()
    try:
        ref, old = tree.find("hosted"), world.pid(tree)
        hanging = asyncio.create_task(ref.call(Hang() if how == "kill" else Crash()))
        await world.owner.hears(Attached("hosted", fresh=True))
        await asyncio.sleep(0)
        if how == "kill":
            os.kill(old, signal.SIGKILL)
        with pytest.raises(ActorGone):
            await hanging
        await world.owner.hears(Detached("hosted"))
        await world.owner.hears(Attached("hosted", fresh=True))
        new = world.pid(tree)
        assert await ref.call(Say("x")) == Said("x", new)
        assert new != old
    finally:
        await tree.stop()


async def test_a_host_that_ends_normally_stays_ended_if_transient(world: World) -> None:
    """An exit with 0 is a normal end."""
    tree = world.tree(restart="transient")
    await tree.start()
    try:
        pid = world.pid(tree)
        await tree.find("hosted").cast(Quit())
        await world.owner.hears(Detached("hosted"))
        child = tree.root._children["hosted"]
        await until(lambda: not child.wanted)
        assert (child.running, child.restarts) == (False, 0)
        assert not Path(f"/proc/{pid}").exists()
    finally:
        await tree.stop()


async def test_a_survivor_is_adopted_by_the_next_tree(world: World) -> None:
    """A surviving host lives on without an owner, and the next tree finds it."""
    first = world.tree(survives=True)
    await first.start()
    pid = world.pid(first)
    await first.stop()
    second = world.tree(survives=True)
    await second.start()
    try:
        await world.owner.hears(Attached("hosted", fresh=False))
        assert await second.find("hosted").call(Say("x")) == Said("x", pid)
    finally:
        await second.stop(survivors=True)
    assert not Path(f"/proc/{pid}").exists() or await ended(pid)


async def ended(pid: int) -> bool:
    """Whether the process is over (a zombie at most)."""
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "Z"


async def test_a_newer_owner_replaces_the_older(world: World) -> None:
    """Of two trees, the later one owns the survivor; the older is told it is gone."""
    older = world.tree(survives=True, restart="temporary")
    await older.start()
    older_owner = world.owner
    newer = world.tree(survives=True)
    await newer.start()
    try:
        await older_owner.hears(Detached("hosted"))
        await newer.find("hosted").call(Say("x"))
    finally:
        await older.stop()
        await newer.stop(survivors=True)


async def test_a_survivor_whose_connection_is_lost_is_reattached(world: World) -> None:
    """A few times a minute that is no failure of it; beyond that it counts as one."""
    tree = world.tree(survives=True)
    await tree.start()
    try:
        pid = world.pid(tree)
        child = tree.root._children["hosted"]
        assert isinstance(child, HostChild)
        await world.owner.hears(Attached("hosted", fresh=True))
        for restarts in [0] * host_child.REATTACHED_MAX + [1]:
            assert child._protocol is not None
            child._protocol.abort()
            await world.owner.hears(Detached("hosted"))
            await world.owner.hears(Attached("hosted", fresh=False))
            assert await tree.find("hosted").call(Say("x")) == Said("x", pid)
            assert restarts == child.restarts
    finally:
        await tree.stop(survivors=True)


async def test_a_host_stopped_while_its_connection_is_lost(world: World) -> None:
    """It is not attached again: the stop ends it."""
    tree = world.tree(survives=True)
    await tree.start()
    pid = world.pid(tree)
    child = tree.root._children["hosted"]
    assert isinstance(child, HostChild)
    assert child._protocol is not None
    child._protocol.abort()
    await until(lambda: not child.running)
    await tree.stop()
    assert not child.running
    tree = world.tree(survives=True)
    await tree.start()
    assert pid == world.pid(tree)
    await tree.stop(survivors=True)


async def test_a_message_too_large_fails_alone(world: World) -> None:
    """Its sender is told that nothing was sent; others go on over the same connection."""
    tree = world.tree()
    await tree.start()
    try:
        ref = tree.find("hosted")
        assert isinstance(ref, RemoteRef)
        large = Say("x" * JSON_BYTES_MAX)
        with pytest.raises(MessageTooLarge, match="Say to hosted was not sent") as told:
            await ref.call(large)
        assert told.value.definite
        assert ref.waiting == 0
        with pytest.raises(MessageTooLarge):
            ref.cast_nowait(large)
        with pytest.raises(MessageTooLarge):
            await ref.cast(large)
        assert await ref.call(Say("x")) == Said("x", world.pid(tree))
    finally:
        await tree.stop()


async def test_an_answer_too_large_fails_that_call(world: World) -> None:
    """The hosted actor goes on."""
    tree = world.tree()
    await tree.start()
    try:
        ref = tree.find("hosted")
        with pytest.raises(LeoronicError):
            await ref.call(Spell(JSON_BYTES_MAX))
        assert await ref.call(Say("x")) == Said("x", world.pid(tree))
        assert tree.root._children["hosted"].restarts == 0
    finally:
        await tree.stop()


async def test_a_leftover_that_may_not_survive_is_replaced(world: World) -> None:
    """A host found at start that does not survive its supervisor is ended first."""
    survivor = world.tree(survives=True)
    await survivor.start()
    old = world.pid(survivor)
    await survivor.stop()
    tree = world.tree(survives=False)
    await tree.start()
    try:
        assert world.pid(tree) != old
    finally:
        await tree.stop()


async def test_a_stale_socket_file_is_removed(world: World) -> None:
    """A socket file that nobody listens on does not keep a host from starting."""
    listen_unix(str(world.socket)).close()
    assert world.socket.exists()
    tree = world.tree()
    await tree.start()
    await tree.stop()


async def test_a_host_that_cannot_start_says_how_it_ended(world: World) -> None:
    """An error in `started` ends the process, and the start fails at once."""
    with pytest.raises(StartFailed, match=r"process [0-9]+ ended with 1"):
        await world.tree(arguments={"broken": True}).start()


async def test_a_host_that_does_not_heed_term_is_killed(world: World) -> None:
    """A host process that hangs is ended by KILL after shutdown_s."""
    tree = world.tree(shutdown_s=0.05)
    await tree.start()
    pid = world.pid(tree)
    os.kill(pid, signal.SIGSTOP)
    await tree.stop()
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(
    "junk",
    [
        b"\xff" * 8,
        b"\x00\x00\x00\x02\x00\x00\x00\x00{}",
        b"\x00\x00\x00\x03\x00\x00\x00\x00nil",
        b'\x00\x00\x00\x27\x00\x00\x00\x00{"call":1,"message":{"type":"Unknown"}}',
    ],
)
async def test_junk_closes_that_connection_only(world: World, junk: bytes) -> None:
    """A connection that sends what it must not is closed; the next one is served."""
    tree = world.tree(survives=True)
    await tree.start()
    pid = world.pid(tree)
    await tree.stop()
    reader, writer = await connected(world.socket)
    writer.write(junk)
    assert await reader.read() == b""
    writer.close()
    tree = world.tree(survives=True)
    await tree.start()
    try:
        assert await tree.find("hosted").call(Say("x")) == Said("x", pid)
    finally:
        await tree.stop(survivors=True)


async def connected(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    connection = connect_unix(str(path))
    assert connection is not None
    return await asyncio.open_unix_connection(sock=connection)


@pytest.mark.parametrize("name", ["short", "x" * 90])
def test_sockets_of_any_path_length(tmp_path: Path, name: str) -> None:
    """A path longer than the kernel's 107 bytes works; the file is for its owner only."""
    folder = tmp_path / name
    folder.mkdir()
    path = str(folder / "s.sock")
    assert connect_unix(path) is None
    with listen_unix(path) as listener:
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        with socket_of(path), listener.accept()[0]:
            pass
        with pytest.raises(OSError, match="in use"):
            listen_unix(path)
    assert connect_unix(path) is None


def socket_of(path: str) -> socket.socket:
    connection = connect_unix(path)
    assert connection is not None
    return connection
