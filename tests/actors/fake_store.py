"""A file store in memory: what one node keeps, the others of the same `Content` can fetch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leoronic.actors.bulk_folder import FolderWalk, read_part
from leoronic.actors.file_calls import (
    Fetch,
    FindLost,
    FolderBytes,
    FolderPage,
    FolderPart,
    MakeBlobs,
    PutFile,
    ReadBlob,
)
from leoronic.blobs.making import Made
from leoronic.core.blob import BlobRef, FileRef
from leoronic.errors import LeoronicError, NotFound
from leoronic.runtime.actor import Actor
from leoronic.wire.bulk import Page
from tests.actors.node import Node


class Content:
    """All blobs of a test's nodes, and their folders. `fails` may raise for a message of a node."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.folders: dict[str, Path] = {}
        self.asked: list[tuple[str, Any]] = []
        self.fails: Callable[[str, Any], None] = lambda name, message: None

    def add(self, data: bytes, path: str = "") -> FileRef:
        """Keep `data`; it as an output called `path`."""
        digest = f"s2:{hashlib.sha256(data).hexdigest()}"
        self.blobs[digest] = data
        return FileRef(path, digest=digest, size=len(data))

    def store(self, node: Node) -> Actor:
        """The file store of `node`."""
        return _Store(self, node)


class _Store(Actor):
    def __init__(self, content: Content, node: Node) -> None:
        self._content = content
        self._node = node

    async def started(self) -> None:
        self._content.folders[self._node.id] = self._node.folder

    async def handle(self, message: Any) -> Any:
        content, folder = self._content, self._node.folder
        content.asked.append((self._node.name, message))
        content.fails(self._node.name, message)
        match message:
            case MakeBlobs(where, paths):
                return [self._make(where / path) for path in paths]
            case Fetch(files, advance):
                for file in files:
                    if file.digest in content.blobs and advance is not None:
                        advance(file.size, file.size)
                absent = [file.digest for file in files if file.digest not in content.blobs]
                return dict.fromkeys(absent, "it is nowhere")
            case FindLost(digests):
                return frozenset(digests) - content.blobs.keys()
            case ReadBlob(digest, offset, limit):
                if digest not in content.blobs:
                    raise NotFound(f"{digest} is not here")
                return content.blobs[digest][offset : offset + limit]
            case PutFile(file):
                target = folder / file.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.blobs[file.digest])
                return None
            case FolderPage(node, after):
                return Page(0, *FolderWalk(content.folders[node]).page(after))
            case FolderPart(node, path, offset, limit):
                return FolderBytes(*read_part(content.folders[node], path, offset, limit))
        return await super().handle(message)

    def _make(self, path: Path) -> Made | LeoronicError:
        try:
            data = path.read_bytes()
        except OSError as error:
            return NotFound(f"{path.name}: {error.strerror}")
        file = self._content.add(data)
        return Made(BlobRef(file.digest, file.size), 0o644)
