"""A node's control socket with canned answers, speaking the real frames."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson

from leoronic.core.commands import Command, Request
from leoronic.wire.frames import FrameDecoder, encode_frame

TASK: dict[str, Any] = {
    "id": "3f2a",
    "order": 7,
    "name": "",
    "state": "succeeded",
    "command": "echo hello world",
    "submitted_at": "2026-11-20T12:00:00Z",
    "started_at": "2026-11-20T12:00:01Z",
    "finished_at": "2026-11-20T12:00:03.500Z",
    "origin": "attic",
    "node": "attic",
    "attempt": 1,
    "attempts": [],
    "exit_code": 0,
    "reason": "",
    "peak_memory": 3_145_728,
    "cpu_seconds": 0.25,
    "stdout_bytes": 12,
    "stderr_bytes": 0,
    "signal": None,
    "concurrent": True,
    "workdir": "shared",
    "on_loss": "retry",
    "retry_delay": 1.0,
    "retries": 0,
    "cpus": 1.0,
    "labels": {},
    "after": [],
}
NODE: dict[str, Any] = {
    "id": "n1",
    "name": "attic",
    "address": "127.0.0.1:22580",
    "state": "up",
    "kind": "node",
    "cpus": 2.0,
    "memory": 4 << 30,
    "storage": 20 << 30,
    "free": {"cpus": 0.5, "memory": 3 << 30, "storage": 10 << 30},
    "tags": ["fast", "gpu"],
    "running": 3,
    "version": "0.1.0",
    "seen_s": 0.0,
}
STATUS: dict[str, Any] = {
    "node": {
        "id": "n1",
        "name": "attic",
        "pid": 4711,
        "uptime_s": 125.0,
        "version": "0.1.0",
        "root": "/node",
        "inbox": "/node/inbox",
    },
    "tasks": {"running": 3, "waiting": 1200, "succeeded": 40, "failed": 1},
    "nodes": {"up": 1},
    "actors": [],
}


def task(**fields: Any) -> dict[str, Any]:
    """A task object, some fields replaced."""
    return TASK | fields


class Item:
    """One item of a streamed answer."""

    def __init__(self, value: Any, blob: bytes = b"") -> None:
        self.value = value
        self.blob = blob


class Error:
    """A refusal that ends the answer."""

    def __init__(self, code: str, message: str, problems: list[str] | None = None) -> None:
        self.fields = {"code": code, "message": message, "definite": True}
        if problems is not None:
            self.fields["problems"] = problems


class Die:
    """The node is killed at this point: all connections and the socket are gone."""


class Hang:
    """Nothing more comes; the connection stays open."""


Answers = Callable[[Any, bytes], Iterator[Any]]


class FakeNode:
    """Answers each command type by `answers[type]`: a value, or a function (command, blob).

    A function yields `Item`s and then a result, an `Error`, `Die` or `Hang`. What was asked is
    kept in `asked`, decoded and validated by the real types.
    """

    def __init__(self, root: Path, **answers: Any) -> None:
        self.root = root
        self.answers = answers
        self.asked: list[tuple[Command, bytes]] = []
        self.path = root / ".leoronic" / "control.sock"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._connections: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self.start()

    def start(self) -> None:
        """Listen, for the first time or again."""
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        # As the node: a path that is too long is reached through its folder.
        with socket_folder(self.path.parent) as folder:
            listener.bind(f"{folder}/control.sock")
        listener.listen(64)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def stop(self) -> None:
        """As `kill -9`: every connection is cut, the socket's file stays."""
        with self._lock:
            if self._listener is not None:
                # close() alone does not wake a thread in accept().
                self._listener.shutdown(socket.SHUT_RDWR)
                self._listener.close()
                self._listener = None
            for connection in self._connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
            self._connections.clear()

    def commands(self) -> list[Command]:
        """What was asked, without blobs."""
        return [command for command, _ in self.asked]

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        decoder = FrameDecoder()
        with connection:
            while True:
                try:
                    data = connection.recv(1 << 20)
                    frames = decoder.feed(data)
                    if not data:
                        return
                    for frame in frames:
                        request = msgspec.json.decode(frame.json, type=Request)
                        self.asked.append((request.command, frame.blob))
                        self._answer(connection, request, frame.blob)
                except OSError:
                    return

    def _answer(self, connection: socket.socket, request: Request, blob: bytes) -> None:
        canned = self.answers[type(request.command).__name__.lower()]
        found = canned(request.command, blob) if callable(canned) else iter([canned])
        for part in found:
            message: dict[str, Any] = {"request": request.request}
            match part:
                case Die():
                    self.stop()
                    return
                case Hang():
                    return
                case Item():
                    message["item"] = part.value
                case Error():
                    message["error"] = part.fields
                case _:
                    message["result"] = part
            extra = part.blob if isinstance(part, Item) else b""
            connection.sendall(encode_frame(orjson.dumps(message), extra))


def reborn(node: FakeNode) -> None:
    """Let the node listen again as soon as it has died."""

    def again() -> None:
        while node._listener is not None:
            died.wait(0.005)
        node.start()

    died = threading.Event()
    threading.Thread(target=again, daemon=True).start()


class socket_folder:  # noqa: N801 (used as a function)
    """A short path to a folder, while it lasts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> str:
        import os

        self._descriptor = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
        return f"/proc/self/fd/{self._descriptor}"

    def __exit__(self, *_: object) -> None:
        import os

        os.close(self._descriptor)
