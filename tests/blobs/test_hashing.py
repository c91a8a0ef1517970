"""Digests of chunks and lists."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from leoronic.blobs import hashing
from leoronic.blobs.hashing import Corrupt, check_list, is_chunk, list_file, name_of, read_list
from leoronic.core.blob import CHUNK_BYTES, ChunkList, is_digest
from leoronic.errors import Refused


def test_the_name_is_the_digest_of_head_and_digests() -> None:
    """Anybody can compute it with nothing but sha256."""
    piece = hashlib.sha256(b"hello").digest()
    chunks = ChunkList("s2", 5, CHUNK_BYTES, piece)
    whole = b"leoronic blob\x005\x004194304\x00" + piece
    assert "s2:" + hashlib.sha256(whole).hexdigest() == name_of(chunks)


@pytest.mark.parametrize("algorithm", ["b3", "s2"])
def test_both_algorithms_give_names_of_blobs(algorithm: str) -> None:
    """Each names its own; the name says which."""
    assert is_digest(name_of(ChunkList(algorithm, 0, CHUNK_BYTES, b"")))
    assert algorithm == name_of(ChunkList(algorithm, 0, CHUNK_BYTES, b""))[:2]


def test_without_blake3_its_digests_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be checked is not taken for right, nor for damaged."""
    monkeypatch.setattr(hashing, "_blake3", lambda: None)
    assert ("s2",) == hashing.digests()
    with pytest.raises(Refused, match="install the package blake3") as refused:
        hashing.digest_bytes("b3", b"")
    assert Refused is type(refused.value)


def test_a_list_comes_back_from_its_file(chunks: ChunkList) -> None:
    """What was written is what is read."""
    assert chunks == read_list(name_of(chunks), list_file(chunks))


@pytest.mark.parametrize("at", [0, 14, 20, -1])
def test_a_damaged_list_is_found_out(chunks: ChunkList, at: int) -> None:
    """Wherever one byte is another."""
    content = bytearray(list_file(chunks))
    content[at] ^= 1
    with pytest.raises(Corrupt):
        read_list(name_of(chunks), bytes(content))


@pytest.mark.parametrize(
    "file",
    [b"", b"leoronic blob\0", b"\0x\0y\0z", b"a\0-1\0" + b"5\0"],
    ids=["empty", "cut", "no numbers", "negative"],
)
def test_what_is_no_list_is_corrupt(chunks: ChunkList, file: bytes) -> None:
    """And nothing worse."""
    with pytest.raises(Corrupt):
        read_list(name_of(chunks), file)


def test_a_list_with_chunks_of_another_size_is_not_taken() -> None:
    """One content would have two names."""
    digests = b"".join(hashing.digest_bytes("s2", piece) for piece in (b"a" * 10, b"b" * 10))
    chunks = ChunkList("s2", 20, 10, digests)
    with pytest.raises(Corrupt):
        check_list(name_of(chunks), chunks)


def test_the_list_of_another_blob_is_not_taken(chunks: ChunkList) -> None:
    """However well formed it is."""
    other = msgspec.structs.replace(chunks, digests=bytes(len(chunks.digests)))
    with pytest.raises(Corrupt):
        check_list(name_of(chunks), other)


def test_a_chunk_is_known_by_its_place_and_bytes(chunks: ChunkList, pieces: list[bytes]) -> None:
    """Others, elsewhere or cut, are not it."""
    assert is_chunk(chunks, 1, pieces[1])
    assert not is_chunk(chunks, 0, pieces[1])
    assert not is_chunk(chunks, 1, pieces[1][:-1])
    assert not is_chunk(chunks, 3, b"")
    assert not is_chunk(chunks, -1, pieces[2])
