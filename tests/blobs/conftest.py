"""A store in an empty folder, its clock, and content of several chunks."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from leoronic.blobs.hashing import digest_bytes
from leoronic.blobs.store import BlobStore
from leoronic.core.blob import CHUNK_BYTES, ChunkList


class Clock:
    """Seconds since the epoch, as the test sets them."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Opener:
    """Opens the store anew, as the next life of the node does."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self._clock = clock

    def __call__(self, **room: float) -> BlobStore:
        store = BlobStore(self.folder, now=self._clock, **room)
        store.open()
        return store


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Opener:
    return Opener(tmp_path / "blobs", clock)


@pytest.fixture
def store(opened: Opener) -> BlobStore:
    return opened()


@pytest.fixture(scope="session")
def content() -> bytes:
    """Of three chunks, the last one short."""
    return random.Random(1).randbytes(2 * CHUNK_BYTES + 1000)


@pytest.fixture(scope="session")
def pieces(content: bytes) -> list[bytes]:
    return [content[at : at + CHUNK_BYTES] for at in range(0, len(content), CHUNK_BYTES)]


@pytest.fixture(scope="session")
def chunks(content: bytes, pieces: list[bytes]) -> ChunkList:
    digests = b"".join(digest_bytes("b3", piece) for piece in pieces)
    return ChunkList("b3", len(content), CHUNK_BYTES, digests)
