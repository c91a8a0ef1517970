"""Which blobs are here, and their bytes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from leoronic.blobs import store as store_module
from leoronic.blobs.folder import file_name
from leoronic.blobs.hashing import Corrupt, name_of
from leoronic.blobs.making import make_from_bytes
from leoronic.blobs.store import BlobStore
from leoronic.core.blob import BlobRef, ChunkList
from leoronic.errors import BadRequest, NotFound, Refused


def kept(store: BlobStore, content: bytes, algorithm: str = "b3") -> str:
    return make_from_bytes(store, algorithm, content).digest


def damage(path: Path, at: int) -> None:
    """One bit, as a failing disk does."""
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def test_what_is_kept_is_read_back(store: BlobStore, content: bytes, chunks: ChunkList) -> None:
    """Chunk by chunk, under the name of its list."""
    assert BlobRef(name_of(chunks), len(content)) == make_from_bytes(store, "b3", content)
    assert chunks == store.list_of(name_of(chunks))
    assert content == b"".join(store.read_chunk(name_of(chunks), index) for index in range(3))


@pytest.mark.parametrize("content", [b"", b"x"])
def test_small_ones_have_no_list_file(store: BlobStore, opened, content: bytes) -> None:
    """It follows from their bytes; none at all is a blob, too."""
    digest = kept(store, content)
    assert [file_name(digest)] == os.listdir(store.path(digest).parent)  # noqa: PTH208
    again = opened()
    assert len(content) == again.list_of(digest).size
    assert content == b"".join(again.read_chunk(digest, i) for i in range(len(content)))


def test_blobs_cannot_be_written_to(store: BlobStore) -> None:
    """Their files say so."""
    assert 0o444 == store.path(kept(store, b"x")).stat().st_mode & 0o777


def test_a_new_life_finds_what_is_here(store: BlobStore, opened, content: bytes) -> None:
    """With the sizes."""
    digests = {kept(store, content), kept(store, b"small"), kept(store, b"small", "s2")}
    again = opened()
    assert digests == {held.digest for held in again.held()}
    assert len(content) + 10 == again.bytes_held() == store.bytes_held()


def test_what_is_not_here_is_not_found(store: BlobStore) -> None:
    """Whatever is asked of it."""
    digest = "s2:" + 64 * "0"
    assert not store.has(digest)
    for ask in (store.size, store.list_of, store.use, store.verify):
        with pytest.raises(NotFound):
            ask(digest)
    with pytest.raises(NotFound):
        store.read_chunk(digest, 0)


def test_what_is_no_digest_has_no_path(store: BlobStore) -> None:
    """A name from the network never becomes a path of its own."""
    with pytest.raises(Refused):
        store.path("s2:../../../etc/passwd")


def test_there_is_no_chunk_beyond_the_last(store: BlobStore) -> None:
    """Nor before the first; the blob is none the worse for the question."""
    digest = kept(store, b"x")
    for index in (-1, 1):
        with pytest.raises(BadRequest):
            store.read_chunk(digest, index)
    assert store.has(digest)


@pytest.mark.parametrize("again", [False, True])
def test_a_damaged_chunk_is_never_handed_out(
    store: BlobStore, opened, content: bytes, chunks: ChunkList, pieces: list[bytes], again: bool
) -> None:
    """The blob counts as not here, and only the damaged chunk must be fetched again."""
    digest = kept(store, content)
    damage(store.path(digest), len(pieces[0]) + 5)
    store = opened() if again else store
    assert pieces[0] == store.read_chunk(digest, 0)
    with pytest.raises(Corrupt):
        store.read_chunk(digest, 1)
    assert not store.has(digest)
    assert 0 == store.bytes_held()
    part = store.resume(digest)
    assert part is not None
    assert ((1, 2),) == part.missing()
    part.write_chunk(1, pieces[1])
    part.finish()
    assert pieces[1] == store.read_chunk(digest, 1)


@pytest.mark.parametrize("again", [False, True])
def test_damage_to_a_small_blob_is_found(store: BlobStore, opened, again: bool) -> None:
    """Its name is all there is to check it by."""
    digest = kept(store, b"small")
    damage(store.path(digest), 0)
    store = opened() if again else store
    with pytest.raises(Corrupt):
        store.read_chunk(digest, 0)
    assert not store.has(digest)


def test_a_damaged_list_is_found(store: BlobStore, opened, content: bytes) -> None:
    """Then nothing can be read, though the bytes may be right."""
    digest = kept(store, content)
    damage(Path(f"{store.path(digest)}.list"), 50)
    again = opened()
    with pytest.raises(Corrupt):
        again.list_of(digest)
    assert not again.has(digest)


def test_a_blob_without_its_list_is_set_aside(store: BlobStore, opened, content: bytes) -> None:
    """What a power cut may leave; with the list from another node it needs no fetching."""
    digest = kept(store, content)
    Path(f"{store.path(digest)}.list").unlink()
    again = opened()
    assert not again.has(digest)
    assert again.resume(digest) is None
    assert again.begin(digest, store.list_of(digest)).is_complete()


def test_a_list_without_its_blob_is_removed(store: BlobStore, opened, content: bytes) -> None:
    """What a power cut may leave."""
    digest = kept(store, content)
    store.path(digest).unlink()
    opened()
    assert [] == list(store.path(digest).parent.iterdir())


def test_what_was_being_made_is_removed_at_the_start(store: BlobStore, opened) -> None:
    """Nobody knows what it was to be."""
    store.folder.new().write_bytes(b"half")
    store.folder.parts.parent.joinpath("ab").mkdir()
    half_list = store.folder.parts.parent / "ab" / "s2-ab.list.new"
    half_list.write_bytes(b"half")
    opened()
    assert [] == list(store.folder.parts.iterdir())
    assert not half_list.exists()


def test_a_file_that_somebody_removed_is_not_here(store: BlobStore) -> None:
    """It is seen when it is read."""
    digest = kept(store, b"x")
    store.path(digest).unlink()
    with pytest.raises(NotFound):
        store.read_chunk(digest, 0)
    assert not store.has(digest)


@pytest.mark.parametrize(
    ("number", "error", "here"),
    [(errno.EIO, Corrupt, False), (errno.ENOMEM, Refused, True)],
)
def test_only_a_failing_disk_is_damage(
    store: BlobStore,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    error: type[Refused],
    here: bool,
) -> None:
    """A blob is not given up because the node is short of something."""
    digest = kept(store, b"x")

    def fail(*_: object) -> bytes:
        raise OSError(number, "no")

    monkeypatch.setattr(store_module, "read_at", fail)
    with pytest.raises(error) as raised:
        store.read_chunk(digest, 0)
    assert error is type(raised.value)
    assert here == store.has(digest)


def test_a_list_is_not_given_up_for_want_of_memory(
    store: BlobStore, opened, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """Nor of open files: that passes."""
    digest = kept(store, content)
    again = opened()

    def fail(_: str) -> ChunkList:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(again.folder, "read_list", fail)
        with pytest.raises(Refused, match="Too many open files"):
            again.list_of(digest)
    assert content[:9] == again.read_chunk(digest, 0)[:9]


def test_what_an_old_reader_found_damaged_says_nothing_of_a_new_copy(
    store: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was fetched again while the old one was read."""
    digest = kept(store, b"x")

    def read(*_: object) -> bytes:
        monkeypatch.undo()
        store.remove(digest)
        kept(store, b"x")
        return b"y"

    monkeypatch.setattr(store_module, "read_at", read)
    with pytest.raises(NotFound):
        store.read_chunk(digest, 0)
    assert b"x" == store.read_chunk(digest, 0)


def test_verify_finds_any_change(store: BlobStore, content: bytes) -> None:
    """Also one made behind the node's back after it was checked."""
    digest = kept(store, content)
    store.verify(digest)
    damage(store.path(digest), len(content) - 1)
    with pytest.raises(Corrupt):
        store.verify(digest)
    assert not store.has(digest)


def test_verify_finds_a_shortened_file(store: BlobStore, content: bytes) -> None:
    """Its size alone tells, whatever its times."""
    digest = kept(store, content)
    before = store.path(digest).stat().st_mtime_ns
    store.path(digest).chmod(0o600)
    os.truncate(store.path(digest), 100)
    os.utime(store.path(digest), ns=(before, before))
    with pytest.raises(Corrupt):
        store.verify(digest)


def test_verify_reads_what_did_not_change_once(
    store: BlobStore, opened, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """A thousand tasks with the same file cost one reading."""
    digest = kept(store, content)
    again = opened()
    again.verify(digest)
    monkeypatch.setattr(again, "read_chunk", None)
    again.use(digest)
    again.verify(digest)


def test_the_least_recently_used_comes_first(store: BlobStore, opened, clock) -> None:
    """A new life knows it as well."""
    first, second = kept(store, b"1"), kept(store, b"2")
    clock.now += 2e9
    store.use(first)
    assert [second, first] == [held.digest for held in store.held()]
    again = opened().held()
    assert [second, first] == [held.digest for held in again]
    assert clock.now == again[-1].used_at


def test_a_blob_used_meanwhile_is_not_removed(store: BlobStore, clock) -> None:
    """Who decides to remove it may have been asked before."""
    digest = kept(store, b"x")
    before = clock.now
    clock.now += 1
    store.use(digest)
    assert not store.remove(digest, unused_since=before)
    assert store.has(digest)
    assert store.remove(digest, unused_since=clock.now)
    assert not store.has(digest)
    assert not store.path(digest).exists()


def test_removing_takes_the_list_along(store: BlobStore, content: bytes) -> None:
    """Nothing of it is left, in memory neither."""
    digest = kept(store, content)
    assert store.remove(digest)
    assert [] == list(store.path(digest).parent.iterdir())
    with pytest.raises(NotFound):
        store.list_of(digest)


def test_the_lists_in_memory_are_bounded(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those not asked for lately are read again."""
    monkeypatch.setattr(store_module, "LIST_BYTES_KEPT_MAX", 64)
    digests = [kept(store, bytes([number])) for number in range(5)]
    assert digests[3:] == list(store._lists)
    assert [1] * 5 == [store.list_of(digest).size for digest in digests]


def test_the_room_leaves_the_reserve(opened) -> None:
    """Of a disk that nobody fills so far."""
    assert 0 > opened(reserve_bytes=1 << 60).room_left()
    assert 0 >= opened(reserve_share=1.0).room_left()
    assert 0 < opened().room_left()
