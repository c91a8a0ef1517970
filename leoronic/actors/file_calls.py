"""What the doors ask of the file store, as calls. Errors are `LeoronicError`s.

What is made or fetched by these is pinned for `PIN_S`, so that it is there when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from leoronic.blobs.making import Made
from leoronic.core.blob import FileRef
from leoronic.errors import LeoronicError

PIN_S = 600.0

Advance = Callable[[int, int], None]
"""Told now and then, on the loop: (bytes done, bytes in all)."""


class MakeBlobs(NamedTuple):
    """Keep files of this machine as blobs. Answer: a `Made` or the error of each, in order.

    Each is a path from `folder`. All are tried, so that every mistake can be told.
    """

    folder: Path
    paths: tuple[str, ...]
    advance: Advance | None = None


Makings = list[Made | LeoronicError]


class Fetch(NamedTuple):
    """Have the blobs of these here. Answer, once each is here or given up: why those cannot be had,
    by digest. All are sought at once. If its sender no longer waits, nothing more is fetched.
    """

    files: tuple[FileRef, ...]
    advance: Advance | None = None


class FindLost(NamedTuple):
    """Which of these has nobody who can be reached? Answer: a frozenset of digests, soon."""

    digests: tuple[str, ...]


class ReadBlob(NamedTuple):
    """A part of a blob that is here. Answer: bytes, checked; empty at its end.

    Raises `NotFound` if it is not here (any more), or found to be damaged.
    """

    digest: str
    offset: int
    limit: int


class PutFile(NamedTuple):
    """Copy a blob that is here to `file.name` in the node's root, in place of what has that name.

    Answer: None. Raises `BadRequest` for a name that leads elsewhere, `DiskFull`.
    """

    file: FileRef


class FolderPage(NamedTuple):
    """What is in the working directory of `node`, another one, behind the path `after`.

    Answer: a `wire.bulk.Page`. Raises `Unavailable`, `Refused`.
    """

    node: str
    after: str


class FolderPart(NamedTuple):
    """At most `limit` bytes of a file in the working directory of `node`, another one.

    Answer: a `FolderBytes`. Raises `NotFound`, `BadRequest`, `Unavailable`.
    """

    node: str
    path: str
    offset: int
    limit: int


class FolderBytes(NamedTuple):
    """`size` and `mtime_ns` are those that the file had when it was read."""

    data: bytes | bytearray
    size: int
    mtime_ns: int
