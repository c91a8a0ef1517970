"""A blob under way."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from mmap import mmap
from pathlib import Path

import msgspec
import pytest

from leoronic.blobs import part as part_module
from leoronic.blobs import store as store_module
from leoronic.blobs.hashing import Bytes, Corrupt, digest_bytes, name_of
from leoronic.blobs.making import make_from_bytes
from leoronic.blobs.store import BlobStore
from leoronic.core.blob import CHUNK_BYTES, ChunkList
from leoronic.errors import DiskFull, NotFound, Refused

Pieces = list[bytes]


def test_chunks_in_any_order_make_the_blob(
    store: BlobStore, opened, chunks: ChunkList, pieces: Pieces, content: bytes
) -> None:
    """And what is missing is known all the while."""
    part = store.begin(name_of(chunks), chunks)
    assert ((0, 3),) == part.missing()
    assert part.write_chunk(2, pieces[2])
    assert (((0, 2),), ((2, 3),)) == (part.missing(), part.here())
    assert 1000 == part.bytes_here()
    assert part.write_chunk(0, pieces[0])
    assert (((1, 2),), ((0, 1), (2, 3))) == (part.missing(), part.here())
    assert not store.has(name_of(chunks))
    assert part.write_chunk(1, pieces[1])
    assert len(content) == part.bytes_here()
    part.finish()
    assert store.has(name_of(chunks))
    assert content == store.path(name_of(chunks)).read_bytes()
    assert [] == list(store.folder.parts.iterdir())
    opened().verify(name_of(chunks))


def test_the_empty_blob_is_whole_from_the_start(store: BlobStore) -> None:
    """There is nothing to come."""
    chunks = ChunkList("s2", 0, CHUNK_BYTES, b"")
    part = store.begin(name_of(chunks), chunks)
    assert (True, 0, ()) == (part.is_complete(), part.bytes_here(), part.missing())
    part.finish()
    assert 0 == store.size(name_of(chunks))


def test_wrong_bytes_are_not_kept(store: BlobStore, chunks: ChunkList, pieces: Pieces) -> None:
    """Neither those of another chunk nor damaged ones."""
    part = store.begin(name_of(chunks), chunks)
    for data in (pieces[0], pieces[1][:-1], bytes(CHUNK_BYTES), b""):
        with pytest.raises(Corrupt):
            part.write_chunk(1, data)
    for index in (-1, 3):
        with pytest.raises(Corrupt):
            part.write_chunk(index, pieces[1])
    assert ((0, 3),) == part.missing()


def test_a_chunk_that_comes_twice_counts_once(
    store: BlobStore, chunks: ChunkList, pieces: Pieces
) -> None:
    """Nodes may both send it."""
    part = store.begin(name_of(chunks), chunks)
    assert part.write_chunk(1, pieces[1])
    assert not part.write_chunk(1, pieces[1])
    assert CHUNK_BYTES == part.bytes_here()


def test_begin_checks_the_list(store: BlobStore, chunks: ChunkList) -> None:
    """Whoever sent another must not choose what is kept under this name."""
    other = msgspec.structs.replace(chunks, size=chunks.size - 1)
    with pytest.raises(Corrupt):
        store.begin(name_of(chunks), other)
    assert [] == list(store.folder.parts.iterdir())


def test_what_is_here_is_not_begun(store: BlobStore, content: bytes, chunks: ChunkList) -> None:
    """It would be fetched for nothing."""
    make_from_bytes(store, "b3", content)
    with pytest.raises(Refused, match="is here already"):
        store.begin(name_of(chunks), chunks)


def test_beginning_twice_gives_the_same(store: BlobStore, chunks: ChunkList) -> None:
    """One file is written to by one part."""
    part = store.begin(name_of(chunks), chunks)
    assert part is store.begin(name_of(chunks), chunks) is store.resume(name_of(chunks))
    assert part is store.under_way(name_of(chunks))
    part.close()
    assert store.under_way(name_of(chunks)) is None


def test_a_new_life_goes_on(store: BlobStore, opened, chunks: ChunkList, pieces: Pieces) -> None:
    """Without a word to the old one, which was killed."""
    store.begin(name_of(chunks), chunks).write_chunk(1, pieces[1])
    again = opened()
    assert [name_of(chunks)] == [left.digest for left in again.parts_left()]
    part = again.resume(name_of(chunks))
    assert part is not None
    assert ((0, 1), (2, 3)) == part.missing()
    assert pieces[1] == part.read_chunk(1)
    assert [] == again.parts_left()


def test_a_new_life_believes_only_the_bytes(
    store: BlobStore, opened, chunks: ChunkList, pieces: Pieces
) -> None:
    """After a power cut some of what was written may be something else."""
    part = store.begin(name_of(chunks), chunks)
    for index, piece in enumerate(pieces):
        part.write_chunk(index, piece)
    with store.folder.part(name_of(chunks)).open("r+b") as file:
        file.seek(CHUNK_BYTES + 7)
        file.write(b"\0\0\0\0")
        file.truncate(2 * CHUNK_BYTES + 10)
    part = opened().resume(name_of(chunks))
    assert part is not None
    assert ((1, 3),) == part.missing()


def test_a_part_whose_list_is_damaged_waits_for_a_good_one(
    store: BlobStore, opened, chunks: ChunkList, pieces: Pieces
) -> None:
    """It is not taken for the blob's."""
    store.begin(name_of(chunks), chunks).write_chunk(1, pieces[1])
    (store.folder.parts / (store.folder.part(name_of(chunks)).name + ".list")).write_bytes(b"?")
    again = opened()
    assert again.resume(name_of(chunks)) is None
    assert ((1, 2),) == again.begin(name_of(chunks), chunks).here()


def test_what_came_may_be_handed_on(store: BlobStore, chunks: ChunkList, pieces: Pieces) -> None:
    """Before the rest is here; what did not come is not found."""
    part = store.begin(name_of(chunks), chunks)
    part.write_chunk(0, pieces[0])
    assert pieces[0] == part.read_chunk(0)
    for index in (1, 3, -1):
        with pytest.raises(NotFound):
            part.read_chunk(index)


def test_what_is_damaged_before_the_end_is_missing_again(
    store: BlobStore, chunks: ChunkList, pieces: Pieces
) -> None:
    """And never handed on."""
    part = store.begin(name_of(chunks), chunks)
    part.write_chunk(0, pieces[0])
    with store.folder.part(name_of(chunks)).open("r+b") as file:
        file.write(b"????")
    with pytest.raises(Corrupt):
        part.read_chunk(0)
    assert ((0, 3),) == part.missing()
    assert part.write_chunk(0, pieces[0])
    assert pieces[0] == part.read_chunk(0)


def test_what_is_not_whole_is_not_finished(
    store: BlobStore, chunks: ChunkList, pieces: Pieces
) -> None:
    """It stays under way."""
    part = store.begin(name_of(chunks), chunks)
    part.write_chunk(0, pieces[0])
    with pytest.raises(Refused, match="2 chunks are missing"):
        part.finish()
    assert part.write_chunk(1, pieces[1])


def test_nothing_is_written_after_the_end(
    store: BlobStore, chunks: ChunkList, pieces: Pieces
) -> None:
    """A late chunk is not an error, and finishing twice neither."""
    part = store.begin(name_of(chunks), chunks)
    for index, piece in enumerate(pieces):
        part.write_chunk(index, piece)
    part.finish()
    part.finish()
    part.close()
    part.drop()
    assert not part.write_chunk(0, pieces[0])
    assert store.has(name_of(chunks))
    with pytest.raises(NotFound):
        part.read_chunk(0)


def test_closing_waits_for_who_writes(
    store: BlobStore, chunks: ChunkList, pieces: Pieces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else bytes went into whatever file has that number next."""
    part = store.begin(name_of(chunks), chunks)
    writes, may_write = threading.Event(), threading.Event()
    real = part_module.write_at

    def slow(fd: int, data: bytes, offset: int) -> None:
        writes.set()
        assert may_write.wait(20)
        real(fd, data, offset)

    monkeypatch.setattr(part_module, "write_at", slow)
    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(part.write_chunk, 0, pieces[0])
        assert writes.wait(20)
        closing = pool.submit(part.close)
        with part._changed:
            assert part._changed.wait_for(lambda: part._ended or part._users == 0, 20)
        os.fstat(part._fd)
        assert not closing.done()
        may_write.set()
        assert writing.result(20)
        closing.result(20)
    assert -1 == part._fd


def test_a_large_blob_goes_past_the_page_cache(
    store: BlobStore,
    opened,
    chunks: ChunkList,
    pieces: Pieces,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What begins and ends with blocks does; its short last chunk, and bytes anywhere, do not."""
    monkeypatch.setattr(part_module, "PAST_CACHE_BYTES_MIN", chunks.size)
    part = store.begin(name_of(chunks), chunks)
    if part._past_cache_fd < 0:
        pytest.skip("the file system here has only its cache")
    written: list[int] = []
    real = part_module.write_at

    def note(fd: int, data: Bytes, offset: int) -> None:
        written.append(offset)
        real(fd, data, offset)

    monkeypatch.setattr(part_module, "write_at", note)
    for index, piece in enumerate(pieces):
        # At a page, as chunks from the network are.
        with mmap(-1, CHUNK_BYTES) as buffer:
            buffer[: len(piece)] = piece
            with memoryview(buffer) as whole, whole[: len(piece)] as view:
                assert part.write_chunk(index, view)
    assert [2 * CHUNK_BYTES] == written
    descriptor = part._past_cache_fd
    part.finish()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    opened().verify(name_of(chunks))


def test_bytes_that_do_not_begin_at_a_block_go_through_it(
    store: BlobStore, chunks: ChunkList, pieces: Pieces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk refuses them otherwise."""
    monkeypatch.setattr(part_module, "PAST_CACHE_BYTES_MIN", chunks.size)
    part = store.begin(name_of(chunks), chunks)
    for index, piece in enumerate(pieces):
        with memoryview(bytearray(b"?" + piece)) as whole, whole[1:] as view:
            assert part.write_chunk(index, view)
    part.finish()
    store.verify(name_of(chunks))


def test_a_file_system_without_such_a_way_is_no_problem(
    store: BlobStore, chunks: ChunkList, pieces: Pieces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so at once."""
    monkeypatch.setattr(part_module, "PAST_CACHE_BYTES_MIN", chunks.size)
    real = os.open

    def refuse(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    part = store.begin(name_of(chunks), chunks)
    for index, piece in enumerate(pieces):
        assert part.write_chunk(index, piece)
    part.finish()
    store.verify(name_of(chunks))


def test_dropping_leaves_nothing(store: BlobStore, chunks: ChunkList, pieces: Pieces) -> None:
    """Closing keeps what came."""
    part = store.begin(name_of(chunks), chunks)
    part.write_chunk(0, pieces[0])
    part.close()
    part = store.begin(name_of(chunks), chunks)
    assert ((0, 1),) == part.here()
    part.drop()
    assert [] == list(store.folder.parts.iterdir())
    assert store.under_way(name_of(chunks)) is None


def test_what_is_fetched_is_not_replaced_by_what_was_damaged(
    store: BlobStore, chunks: ChunkList, pieces: Pieces, content: bytes
) -> None:
    """Though it was made here meanwhile, and has gone bad since."""
    part = store.begin(name_of(chunks), chunks)
    for index, piece in enumerate(pieces):
        part.write_chunk(index, piece)
    make_from_bytes(store, "b3", content)
    store.path(name_of(chunks)).chmod(0o600)
    os.truncate(store.path(name_of(chunks)), 5)
    with pytest.raises(Corrupt):
        store.verify(name_of(chunks))
    part.finish()
    assert content == store.path(name_of(chunks)).read_bytes()


def test_only_parts_that_rest_are_removed(store: BlobStore, chunks: ChunkList) -> None:
    """One under way is somebody's."""
    part = store.begin(name_of(chunks), chunks)
    store.remove_part(name_of(chunks))
    assert store.folder.part(name_of(chunks)).exists()
    part.close()
    store.remove_part(name_of(chunks))
    assert [] == list(store.folder.parts.iterdir())


def test_many_threads_may_write(store: BlobStore, content: bytes, clock) -> None:
    """All chunks count, each once."""
    piece = content[:CHUNK_BYTES]
    chunks = ChunkList("b3", 8 * CHUNK_BYTES, CHUNK_BYTES, digest_bytes("b3", piece) * 8)
    part = store.begin(name_of(chunks), chunks)
    with ThreadPoolExecutor(4) as pool:
        new = list(pool.map(lambda index: part.write_chunk(index % 8, piece), range(24)))
    assert 8 == sum(new)
    part.finish()
    store.verify(name_of(chunks))


def test_no_room_is_told_before_anything_comes(opened, chunks: ChunkList) -> None:
    """The reserve counts as taken; nothing is left of the attempt."""
    store = opened(reserve_bytes=1 << 60)
    with pytest.raises(DiskFull, match="make room on the disk"):
        store.begin(name_of(chunks), chunks)
    assert [] == list(store.folder.parts.iterdir())
    assert store.under_way(name_of(chunks)) is None


@pytest.mark.parametrize("call", ["posix_fallocate", "ftruncate"])
def test_a_full_disk_is_told_by_its_name(
    store: BlobStore, chunks: ChunkList, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Whichever call finds out."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(DiskFull):
        store.begin(name_of(chunks), chunks)
    assert [] == list(store.folder.parts.iterdir())


def test_a_disk_that_cannot_reserve_is_no_obstacle(
    store: BlobStore, chunks: ChunkList, pieces: Pieces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every file system can."""

    def cannot(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    part = store.begin(name_of(chunks), chunks)
    for index, piece in enumerate(pieces):
        part.write_chunk(index, piece)
    part.finish()
    store.verify(name_of(chunks))


def test_a_chunk_that_found_no_room_is_missing(
    store: BlobStore, chunks: ChunkList, pieces: Pieces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come again when there is."""
    part = store.begin(name_of(chunks), chunks)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(part_module, "write_at", full)
        with pytest.raises(DiskFull):
            part.write_chunk(0, pieces[0])
    assert ((0, 3),) == part.missing()
    assert part.write_chunk(0, pieces[0])


def test_after_a_failed_sync_nothing_is_trusted(
    store: BlobStore, chunks: ChunkList, pieces: Pieces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system forgets which pages it could not write."""
    part = store.begin(name_of(chunks), chunks)
    for index, piece in enumerate(pieces):
        part.write_chunk(index, piece)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Refused, match="Input/output error"):
        part.finish()
    assert not store.has(name_of(chunks))
    assert [] == list(store.folder.parts.iterdir())


def test_all_is_on_the_disk_before_it_has_its_name(
    store: BlobStore, chunks: ChunkList, pieces: Pieces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut leaves the blob whole, or a part."""
    part = store.begin(name_of(chunks), chunks)
    for index, piece in enumerate(pieces):
        part.write_chunk(index, piece)
    target = store.path(name_of(chunks))
    steps: list[str] = []
    real = os.fsync

    def sync(fd: int) -> None:
        name = str(Path(f"/proc/self/fd/{fd}").readlink())
        steps.append(f"{name.removeprefix(str(store.folder.path))} {target.exists()}")
        real(fd)

    monkeypatch.setattr(os, "fsync", sync)
    part.finish()
    inside = f"/{target.parent.name}"
    assert [
        " False",
        f"/parts/{target.name} False",
        "/parts/new-0 False",
        f"{inside} False",
        f"{inside} True",
    ] == steps


def test_only_so_many_are_under_way(
    store: BlobStore, chunks: ChunkList, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each holds a file open."""
    monkeypatch.setattr(store_module, "PARTS_MAX", 1)
    other = ChunkList("b3", 1, CHUNK_BYTES, digest_bytes("b3", b"x"))
    store.begin(name_of(other), other)
    with pytest.raises(Refused, match="wait until one is here"):
        store.begin(name_of(chunks), chunks)
    assert store.begin(name_of(other), other)
