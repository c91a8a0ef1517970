"""Digests of chunks and of lists: what makes sure that bytes are what their name says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any

from leoronic.core.blob import ChunkList, chunk_bytes_for
from leoronic.errors import Refused

Bytes = bytes | bytearray | memoryview


class Corrupt(Refused):
    """Bytes, or a list, are not what their digest says. It crosses the wire as `refused`."""


@cache
def _blake3() -> Callable[[Bytes], Any] | None:
    """Imported when it is first needed, as most nodes never see a blob; None if it is not there.

    Blobs are then made with sha256, and those that blake3 names cannot be had here.
    """
    try:
        from blake3 import blake3  # noqa: PLC0415
    except ImportError:
        return None
    return blake3


def digests() -> tuple[str, ...]:
    """The algorithms that this process can check, the one to prefer first."""
    return ("s2",) if _blake3() is None else ("b3", "s2")


def digest_bytes(algorithm: str, data: Bytes) -> bytes:
    """The digest of `data`, 32 bytes. Raises `Refused` if `algorithm` is not one of `digests()`."""
    if algorithm == "s2":
        return hashlib.sha256(data).digest()
    if algorithm == "b3" and (blake3 := _blake3()) is not None:
        digest: bytes = blake3(data).digest()
        return digest
    raise Refused(
        f"digests of kind {algorithm} cannot be checked here: install the package blake3, "
        "or make the blob with sha256"
    )


def list_file(chunks: ChunkList) -> bytes:
    """A list as it is hashed, and kept on disk."""
    return chunks.head() + chunks.digests


def name_of(chunks: ChunkList) -> str:
    """The name of the blob that has this list."""
    return f"{chunks.algorithm}:{digest_bytes(chunks.algorithm, list_file(chunks)).hex()}"


def check_list(digest: str, chunks: ChunkList) -> None:
    """Whether this is the list of the blob `digest`. Raises `Corrupt` if it is not."""
    # One content has one list: another size of chunks would give it a second name.
    regular = chunks.is_well_formed() and chunks.chunk_bytes == chunk_bytes_for(chunks.size)
    if not regular or name_of(chunks) != digest:
        raise Corrupt(f"this is not the list of {digest}: ask another node for it")


def read_list(digest: str, content: bytes) -> ChunkList:
    """The list of the blob `digest`, from its file. Raises `Corrupt`."""
    try:
        _, size, chunk_bytes, rest = content.split(b"\0", 3)
        chunks = ChunkList(digest[:2], int(size), int(chunk_bytes), rest)
    except ValueError:
        chunks = None
    if chunks is None or list_file(chunks) != content:
        raise Corrupt(f"the list of {digest} is damaged")
    check_list(digest, chunks)
    return chunks


def is_chunk(chunks: ChunkList, index: int, data: Bytes) -> bool:
    """Whether `data` is chunk `index` of the blob."""
    return (
        0 <= index < chunks.count
        and len(data) == chunks.bytes_of(index)
        and digest_bytes(chunks.algorithm, data) == chunks.digest_of(index)
    )
