"""Content by its digest: what a blob is called, and how each part of it can be checked alone.

A blob is cut into chunks of equal size (the last may be shorter). Its *list* has the digest of each
chunk; its name is the digest of the list. So every chunk that arrives from anybody, in any order,
is checked at once, and a transfer that was cut goes on where it stopped.

    b3:<64 hex digits>   blake3      s2:<64 hex digits>   sha256
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from leoronic.core.bounds import Number

CHUNK_BYTES = 4 * 1024 * 1024
DIGEST_BYTES = 32
ALGORITHMS = ("b3", "s2")

_DIGEST = r"(b3|s2):[0-9a-f]{64}"

Digest = Annotated[str, msgspec.Meta(pattern=rf"\A{_DIGEST}\Z")]
"""The name of a blob."""

_is_digest = re.compile(_DIGEST)


def is_digest(text: str) -> bool:
    """Whether `text` is the name of a blob."""
    return _is_digest.fullmatch(text) is not None


class BlobRef(msgspec.Struct, frozen=True, order=True):
    """A blob and its size in bytes."""

    digest: Digest
    size: Number


class FileRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file that a task brings or leaves.

    `path`: as its author named it (in `files`), or relative to the task's folder (of an output).
    `name`: what it is called in the task's folder. `mode`: its permission bits. Of
    `task:ID/path` in `files`, `task` and `output` say whose output it is, and `digest` is empty
    until that is known.
    """

    path: str
    name: str = ""
    digest: str = ""
    size: Number = 0
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o7777)] = 0o644
    task: str = ""
    output: str = ""


class ChunkList(msgspec.Struct, frozen=True):
    """The list of a blob: `digests` are those of its chunks, 32 bytes each, one after the other."""

    algorithm: str
    size: int
    chunk_bytes: int
    digests: bytes

    @property
    def count(self) -> int:
        """How many chunks it has."""
        return len(self.digests) // DIGEST_BYTES

    def digest_of(self, index: int) -> bytes:
        """That of chunk `index`, from 0."""
        return self.digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]

    def bytes_of(self, index: int) -> int:
        """The size of chunk `index`, from 0."""
        return min(self.chunk_bytes, self.size - index * self.chunk_bytes)

    def head(self) -> bytes:
        """What is hashed, before `digests`, to get the blob's name."""
        return b"leoronic blob\0%d\0%d\0" % (self.size, self.chunk_bytes)

    def is_well_formed(self) -> bool:
        """Whether sizes and counts belong together. Its name must be checked apart."""
        if self.algorithm not in ALGORITHMS or self.size < 0 or self.chunk_bytes < 1:
            return False
        count = -(-self.size // self.chunk_bytes)
        return len(self.digests) == count * DIGEST_BYTES


def chunk_bytes_for(size: int) -> int:
    """The size of chunks of a blob of `size` bytes, so that its list has 2 MiB at most."""
    chunk_bytes = CHUNK_BYTES
    while size > chunk_bytes * 65_536:
        chunk_bytes *= 2
    return chunk_bytes
