"""Nodes that have a peer port, a blob store and connections for files; nothing decides for them."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from leoronic.actors.bulk_client import BulkClient
from leoronic.actors.bulk_server import BulkServer
from leoronic.actors.peer_port import PeerPort
from leoronic.blobs.making import make_from_bytes
from leoronic.blobs.part import Part
from leoronic.blobs.store import BlobStore
from leoronic.core.blob import BlobRef
from leoronic.wire.bulk import PURPOSES
from leoronic.wire.preface import Preface
from tests.actors.peer_node import Peer, peer_in
from tests.runtime.actors import until


class BulkNode:
    """`others` are those that it can call; those in `silent` it cannot, and asks to call."""

    def __init__(self, peer: Peer, folder: Path, port: PeerPort, **settings: Any) -> None:
        self.peer = peer
        self.node = peer.node
        self.root = folder
        self.port = port
        self.store = BlobStore(folder / ".leoronic" / "blobs")
        self.store.open()
        self.others: dict[str, BulkNode] = {}
        self.silent: set[str] = set()
        self.asked: list[str] = []
        self.problems: list[tuple[str, str]] = []
        self.client = BulkClient(
            standing=lambda: port.standing,
            node=lambda: self.node,
            addresses=self._addresses,
            ask_to_call=self._ask,
            **settings,
        )
        self.server = BulkServer(
            self.store,
            folder,
            standing=lambda: port.standing,
            node=lambda: self.node,
            on_offered=self.client.adopt,
            on_problem=lambda who, reason: self.problems.append((who, reason)),
            **settings,
        )
        port.serve(PURPOSES, self.server.take)

    def _addresses(self, node: str) -> list[str]:
        return [] if node in self.silent else [self.others[node].peer.address]

    def _ask(self, node: str) -> None:
        self.asked.append(node)
        other = self.others[node]
        if self.node in other.others:
            other.server.call(self.node, [self.peer.address])

    def keep(self, data: bytes) -> BlobRef:
        """A blob that is here."""
        return make_from_bytes(self.store, "s2", data)

    def begin(self, ref: BlobRef, origin: BulkNode) -> Part:
        """It is to be fetched."""
        return self.store.begin(ref.digest, origin.store.list_of(ref.digest))

    def close(self) -> None:
        self.port.stop(PURPOSES)
        self.server.close()
        self.client.close()


@asynccontextmanager
async def bulk_in(folder: Path, node: str, **settings: Any) -> AsyncIterator[BulkNode]:
    """One such node."""
    port = PeerPort()
    root = folder / node
    root.mkdir()
    async with peer_in(folder, node, port_shared=port) as peer:
        found = BulkNode(peer, root, port, **settings)
        await until(lambda: port.standing is not None)
        try:
            yield found
        finally:
            found.close()


@asynccontextmanager
async def two(folder: Path, **settings: Any) -> AsyncIterator[tuple[BulkNode, BulkNode]]:
    """Two that can call each other."""
    async with bulk_in(folder, "aaa", **settings) as a, bulk_in(folder, "bbb", **settings) as b:
        a.others, b.others = {"bbb": b}, {"aaa": a}
        yield a, b


def read_line(port: int, line: bytes) -> bytes:
    """Say `line` there, and what is answered until the other side waits, or closes."""
    with socket.create_connection(("127.0.0.1", port), 5) as found:
        found.sendall(line)
        return found.makefile("rb").readline()


def line_of(node: BulkNode, purpose: str) -> bytes:
    """The first line of somebody who belongs to the cluster, or says so."""
    assert node.port.standing is not None
    ours: Preface = node.port.standing.preface
    return ours._replace(purpose=purpose).encode()
