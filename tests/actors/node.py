"""A node without a runner: the real journal, queue, scheduler and control socket in one folder.

Nothing runs: tests write down starts and ends themselves, as the executor would. Nodes joined by
`Pipes` can ask each other; what one writes, tests copy to the others (`Node.copy_to`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from leoronic.actors.control import ControlActor
from leoronic.actors.journal import JournalActor
from leoronic.actors.keeper import OutputKeeper
from leoronic.actors.machines import QueueActor, SchedulerActor
from leoronic.actors.node_answers import NodeInfo
from leoronic.actors.nodes import Nodes
from leoronic.actors.output_files import LocalOutput
from leoronic.actors.questions import QuestionsActor
from leoronic.core import executor_messages
from leoronic.core.entries import Entry, Finished, Started
from leoronic.core.executor_messages import SetDraining, SetTag
from leoronic.core.outcome import Outcome
from leoronic.core.queue_messages import Append, Appended
from leoronic.core.replication_messages import (
    AwaitCopies,
    Body,
    Copied,
    Take,
    TakeFailed,
    Taken,
    Written,
)
from leoronic.core.run import OutputPart, ReadOutput
from leoronic.core.view import Member
from leoronic.errors import Unavailable, from_code
from leoronic.runtime.actor import Actor
from leoronic.runtime.supervisor import Tree
from tests.actors.peered import Pipes, member, view
from tests.actors.recorder import Recorder
from tests.runtime.actors import child, running, until

HEADER = struct.Struct("!II")
Frame = tuple[dict[str, Any], bytes]


class Client:
    """One connection to the control socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._number = 0

    def send(self, command: dict[str, Any], blob: bytes = b"") -> int:
        """Send a request; its number."""
        self._number += 1
        self.send_json({"request": self._number, "command": command}, blob)
        return self._number

    def send_json(self, message: object, blob: bytes = b"") -> None:
        text = json.dumps(message).encode()
        self.writer.write(HEADER.pack(len(text), len(blob)) + text + blob)

    async def receive(self) -> Frame:
        """The next frame. Raises `IncompleteReadError` when the connection was closed."""
        json_length, blob_length = HEADER.unpack(await self.reader.readexactly(HEADER.size))
        text = await self.reader.readexactly(json_length)
        return json.loads(text), await self.reader.readexactly(blob_length)

    async def ask(self, type_: str, blob: bytes = b"", **fields: Any) -> Any:
        """The result of one command; raises what it was refused with."""
        number = self.send({"type": type_, **fields}, blob)
        return (await self.result(number))[-1]

    async def result(self, number: int) -> list[Any]:
        """All items (with their blobs) of an answer, then its result."""
        found: list[Any] = []
        while True:
            frame, blob = await self.receive()
            assert number == frame["request"]
            if "error" in frame:
                error = from_code(frame["error"]["code"], frame["error"]["message"])
                raise error
            if "result" in frame:
                return [*found, frame["result"]]
            found.append((frame["item"], blob))

    async def closed(self) -> None:
        """Wait until the other side has closed this connection; nothing came before that."""
        with contextlib.suppress(ConnectionResetError):
            assert b"" == await self.reader.read()


class Node:
    """See the module."""

    def __init__(self, folder: Path, name: str = "one") -> None:
        self.folder = folder
        self.name = name
        self.nodes = Nodes(lambda: self.id, name)
        self.output = folder / "output"
        self.output.mkdir()
        self.socket = folder / "control.sock"
        self.id = ""
        self.tree: Tree
        self.control: ControlActor
        self.asked: list[Any] = []
        self.live_output: dict[str, bytes | None] = {}  # task -> what it printed; None: not known
        self.stopped: list[bool] = []
        self.told = Recorder(self._executor)
        self.host = Recorder(self._runner)
        self.replication = Recorder(self._replicate)
        self.tags = ["fast"]
        self.draining = False
        self.staging: list[tuple[str, int]] = []
        self.copied: list[Body] = []
        self.holders: list[str] = []
        self._token = 0

    def set_id(self, node: str) -> None:
        self.id = node

    def _executor(self, message: Any) -> Any:
        self.asked.append(message)
        match message:
            case executor_messages.Describe():
                return {
                    "tags": self.tags,
                    "draining": self.draining,
                    "running": [],
                    "cpus": 2.0,
                    "memory": 1,
                    "storage": 1,
                    "resources": {},
                    "free": {},
                    "connected": True,
                    "staging": self.staging,
                }
            case SetTag(tag, on):
                return [tag] if on else []
            case SetDraining(on):
                self.draining = on
        return None

    def _replicate(self, message: Any) -> Any:
        """Keeps what is written, and says that the `holders` have it."""
        match message:
            case Written(bodies):
                self.copied += bodies
            case AwaitCopies(token):
                self.tree.find("queue").cast_nowait(Copied(token, self.holders))

    async def copy_to(self, *others: Node) -> None:
        """What was written here so far is on the disks of others, and known to their queues."""
        for other in others:
            await other.take(self.copied)

    async def take(self, bodies: list[Body]) -> None:
        """As replication would."""
        self._token += 1
        await self.tree.find("journal").cast(Take(self._token, list(bodies)))
        await self.replication.until(
            lambda messages: any(
                isinstance(m, (Taken, TakeFailed)) and m.token == self._token for m in messages
            )
        )

    @property
    def member(self) -> Member:
        """This node, as others know it."""
        return member(self.id, self.name, tags=self.tags)

    async def see(self, *members: Member) -> None:
        """Membership tells who is there."""
        seen = view(self.id, *members)
        for name in ("control", "queue", "scheduler"):
            await self.tree.find(name).cast(seen)
        await until(lambda: self.nodes.view is seen)

    def _runner(self, message: Any) -> Any:
        assert isinstance(message, ReadOutput)
        data = self.live_output.get(message.task)
        if data is None:
            return Unavailable("gone") if message.task in self.live_output else _unknown(message)
        part = data[message.offset : message.offset + message.limit]
        return OutputPart(message.offset, part, at_end=message.offset + len(part) >= len(data))

    async def write(self, *entries: Entry) -> None:
        """As the executor would: durable, and known to the queue, when this returns."""
        self._token += 1
        await self.tree.find("journal").cast(Append("runner", self._token, list(entries)))
        await self.told.until(
            lambda messages: any(
                isinstance(m, Appended) and m.token == self._token for m in messages
            )
        )

    @property
    def local(self) -> LocalOutput:
        """What reads the output that is here, for the control socket."""
        return self.control._following._sources._local

    @property
    def watched(self) -> bool:
        """Whether anybody watches or waits."""
        return bool(self.control._watchers._subscriptions)

    @property
    def requests(self) -> tuple[int, int]:
        """How many requests are under way, and how many wait."""
        clients = self.control._clients
        return sum(len(c.tasks) for c in clients), sum(len(c.waiting) for c in clients)

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self.control._clients)

    async def run(
        self, task: str, outcome: Outcome, *, attempt: int = 1, final: bool = True
    ) -> None:
        """One attempt of a task, from start to end."""
        await self.write(
            Started(task, attempt, self.id, 5.0), Finished(task, attempt, self.id, outcome, final)
        )

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_unix_connection(str(self.socket), limit=1 << 26)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()


def _unknown(message: ReadOutput) -> OutputPart:
    return OutputPart(message.offset, b"", at_end=False, known=False)


@asynccontextmanager
async def node_in(
    folder: Path,
    *,
    debug: bool = False,
    name: str = "one",
    pipes: Pipes | None = None,
    store: Callable[[Node], Actor] | None = None,
) -> AsyncIterator[Node]:
    """A started node, stopped at the end. `store` makes its file store."""
    node = Node(folder, name)
    info = NodeInfo(
        id=lambda: node.id,
        name=name,
        root=folder,
        started_at=0.0,
        statistics=list,
        stop=node.stopped.append,
        stopping=lambda: bool(node.stopped),
        debug=debug,
    )
    journal = partial(JournalActor, folder / "leoronic.db", first_start=True, on_node=node.set_id)

    def control() -> ControlActor:
        node.control = ControlActor(node.socket, node.output, info, node.nodes)
        return node.control

    joined = (
        child("peers", (pipes or Pipes()).peers),
        child("questions", lambda: QuestionsActor(node.output, info, node.nodes)),
        child("keeper", lambda: OutputKeeper(node.output, node.nodes)),
    )

    async with running(
        child("membership", Recorder),
        child("journal", journal),
        child("queue", QueueActor),
        child("replication", lambda: node.replication),
        child("scheduler", partial(SchedulerActor, lambda: node.id)),
        child("runner", lambda: node.told),
        child("runner_host", lambda: node.host),
        *([child("file_store", partial(store, node))] if store is not None else ()),
        *(joined if pipes is not None else ()),
        child("control", control),
    ) as tree:
        node.tree = tree
        if pipes is not None:
            pipes.trees[node.id] = tree
        await node.see(node.member)
        yield node


@asynccontextmanager
async def joined_nodes(
    folder: Path, *names: str, store: Callable[[Node], Actor] | None = None
) -> AsyncIterator[tuple[Pipes, list[Node]]]:
    """Started nodes of these names that see each other, each in a folder of its name."""
    pipes = Pipes()
    async with contextlib.AsyncExitStack() as stack:
        nodes = []
        for name in names:
            (folder / name).mkdir(exist_ok=True)
            made = node_in(folder / name, name=name, pipes=pipes, store=store)
            nodes.append(await stack.enter_async_context(made))
        for node in nodes:
            await node.see(*(one.member for one in nodes))
        yield pipes, nodes
