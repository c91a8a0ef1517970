"""One end of a transfer, in a process of its own: `transfer_side.py serve|fetch ...`.

`serve` has a blob store, `fetch` gets a blob from it as `file_store` would. `tls-serve` and
`tls-fetch` are a bare stream over TLS, on the loop that nodes use: nothing is hashed or written.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from leoronic.actors.bulk_asking import Got
from leoronic.actors.bulk_client import BulkClient
from leoronic.actors.bulk_server import BulkServer
from leoronic.actors.first_line import LineProtocol, second_socket
from leoronic.actors.standing import Standing, make_standing
from leoronic.blobs.part import Part
from leoronic.blobs.store import BlobStore
from leoronic.runtime.loop import new_event_loop
from leoronic.wire.preface import PROTOCOL_MAX, PROTOCOL_MIN, decode_preface

COOKIE = "0123456789abcdefghjkmnpqrstvwxyz"
SERVER, CLIENT = "aaa", "bbb"
# As many as a transfer has under way at once.
UNDER_WAY = 8


def say(what: object) -> None:
    """One line to whoever started this."""
    print(json.dumps(what), flush=True)


async def standing_of(node: str) -> Standing:
    """Who this end is."""
    return await make_standing([COOKIE], node, "0", (PROTOCOL_MIN, PROTOCOL_MAX))


async def serve(folder: str) -> None:
    """Serve the blobs in `folder`; says the port. Until its input ends."""
    standing = await standing_of(SERVER)
    store = BlobStore(Path(folder))
    store.open()
    server = BulkServer(
        store,
        Path(folder),
        standing=lambda: standing,
        node=lambda: SERVER,
        on_offered=lambda opened: opened.stream.close(),
        on_problem=lambda who, reason: print(who, reason, file=sys.stderr),
    )
    taking: set[asyncio.Task[None]] = set()

    async def take(lines: LineProtocol) -> None:
        line = await lines.line
        found = second_socket(lines.transport)
        lines.transport.close()
        server.take(found, decode_preface(line))

    def accept(lines: LineProtocol) -> None:
        task = asyncio.get_running_loop().create_task(take(lines))
        taking.add(task)
        task.add_done_callback(taking.discard)

    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: LineProtocol(accept), "127.0.0.1", 0)
    say(listener.sockets[0].getsockname()[1])
    await asyncio.to_thread(sys.stdin.read)
    server.close()


async def fetch(folder: str, digest: str, source: str, port: str) -> None:
    """Get the blob `digest`, whose list `source` has too: says the seconds until it is on disk."""
    standing = await standing_of(CLIENT)
    there = BlobStore(Path(source))
    there.open()
    store = BlobStore(Path(folder))
    store.open()
    client = BulkClient(
        standing=lambda: standing,
        node=lambda: CLIENT,
        addresses=lambda node: [f"127.0.0.1:{port}"],
        ask_to_call=lambda node: None,
    )
    chunks = there.list_of(digest)
    began = time.perf_counter()
    part = store.begin(digest, chunks)
    await _pull_all(client, part)
    await asyncio.to_thread(part.finish)
    say(time.perf_counter() - began)
    client.close()


async def _pull_all(client: BulkClient, part: Part) -> None:
    pending: set[asyncio.Future[Got]] = set()
    for index in range(part.chunks.count):
        if len(pending) >= UNDER_WAY:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            assert all(one.result() is None for one in done), done
        pending.add(client.pull(SERVER, part, index))
    done, _ = await asyncio.wait(pending)
    assert all(one.result() is None for one in done), done


async def tls_serve(mib: str) -> None:
    """Send that many MiB to whoever connects; says the port."""
    identity = next(iter((await standing_of(SERVER)).identities.values()))
    data = bytes(1 << 20)

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(int(mib)):
            writer.write(data)
            await writer.drain()
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(send, "127.0.0.1", 0, ssl=identity.called)
    say(listener.sockets[0].getsockname()[1])
    await asyncio.to_thread(sys.stdin.read)


class _Sink(asyncio.BufferedProtocol):
    """Counts what comes."""

    def __init__(self, size: int, done: asyncio.Future[None]) -> None:
        self._left = size
        self._done = done
        self._buffer = memoryview(bytearray(1 << 20))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where what comes next goes."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """It has come."""
        self._left -= nbytes
        if self._left <= 0 and not self._done.done():
            self._done.set_result(None)


async def tls_fetch(mib: str, port: str) -> None:
    """Receive that many MiB; says the seconds."""
    identity = next(iter((await standing_of(CLIENT)).identities.values()))
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    began = time.perf_counter()
    transport, _ = await loop.create_connection(
        lambda: _Sink(int(mib) << 20, done), "127.0.0.1", int(port), ssl=identity.calling,
        server_hostname="",
    )  # fmt: skip
    await done
    say(time.perf_counter() - began)
    transport.close()


WORKS: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
    "serve": serve,
    "fetch": fetch,
    "tls-serve": tls_serve,
    "tls-fetch": tls_fetch,
}

if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(WORKS[sys.argv[1]](*sys.argv[2:]))
