"""A blob from a file, or from bytes."""

from __future__ import annotations

import errno
import os
import socket
import tracemalloc
from pathlib import Path

import pytest

from leoronic.blobs import making
from leoronic.blobs.hashing import name_of
from leoronic.blobs.making import Made, make_from_bytes, make_from_file
from leoronic.blobs.store import BlobStore
from leoronic.core.blob import CHUNK_BYTES, BlobRef, ChunkList
from leoronic.errors import BadRequest, DiskFull, NotFound, Refused


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Where the files are."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def nothing_left(store: BlobStore) -> bool:
    return not store.held() and not list(store.folder.parts.iterdir())


def test_a_file_and_its_bytes_are_the_same_blob(
    store: BlobStore, work: Path, content: bytes, chunks: ChunkList
) -> None:
    """The name is that of the content; the mode comes along, but not whose rights it lends."""
    (work / "a").write_bytes(content)
    (work / "a").chmod(0o4751)
    done: list[int] = []
    made = make_from_file(store, "b3", work, "a", inside=True, progress=done.append)
    assert (BlobRef(name_of(chunks), len(content)), 0o751) == made
    assert [CHUNK_BYTES, 2 * CHUNK_BYTES, len(content)] == done
    assert made.blob == make_from_bytes(store, "b3", content)
    assert content == store.path(made.blob.digest).read_bytes()
    assert [] == list(store.folder.parts.iterdir())


@pytest.mark.parametrize("content", [b"", b"x", b"y" * CHUNK_BYTES])
@pytest.mark.parametrize("algorithm", ["b3", "s2"])
def test_a_file_of_one_chunk(store: BlobStore, work: Path, content: bytes, algorithm: str) -> None:
    """Or of none: the same in a new life."""
    (work / "a").write_bytes(content)
    done: list[int] = []
    made = make_from_file(store, algorithm, work, "a", inside=True, progress=done.append)
    assert [len(content)] == done
    assert make_from_bytes(store, algorithm, content) == made.blob
    store.verify(made.blob.digest)


def test_memory_does_not_grow_with_the_file(store: BlobStore, work: Path) -> None:
    """Of sixteen chunks no more than a few are in memory at once."""
    with (work / "a").open("wb") as file:
        file.truncate(16 * CHUNK_BYTES)
    tracemalloc.start()
    try:
        make_from_file(store, "b3", work, "a", inside=True)
        assert 4 * CHUNK_BYTES > tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_outside_a_path_may_be_anywhere(store: BlobStore, work: Path) -> None:
    """Of a submitter, who may read what it names."""
    (work / "deep").mkdir()
    (work / "a").write_bytes(b"x")
    (work / "way").symlink_to("deep")
    for path in (str(work / "a"), "../a", "../way/../a", "../deep/../a"):
        assert 1 == make_from_file(store, "b3", work / "deep", path, inside=False).blob.size


@pytest.mark.parametrize("path", ["../a", "/etc/hostname", "deep/../../a", "", ".", "deep/", "a\0"])
def test_inside_a_path_must_stay_there(store: BlobStore, work: Path, path: str) -> None:
    """Of the inbox, which is anybody's."""
    (work / "deep").mkdir()
    (work / "a").write_bytes(b"x")
    with pytest.raises(BadRequest):
        make_from_file(store, "b3", work / "deep", path, inside=True)
    assert nothing_left(store)


@pytest.mark.parametrize(
    "path", ["a\nb", "a\0", os.fsdecode(b"a\xff")], ids=["line", "zero", "bytes"]
)
def test_names_that_no_message_can_carry_are_refused(
    store: BlobStore, work: Path, path: str
) -> None:
    """Though there may be such a file."""
    if "\0" not in path:
        (work / path).write_bytes(b"x")
    for inside in (True, False):
        with pytest.raises(BadRequest, match="rename it") as refused:
            make_from_file(store, "b3", work, path, inside=inside)
        assert refused.value.message.isprintable()


def test_inside_no_link_is_followed(store: BlobStore, work: Path, tmp_path: Path) -> None:
    """Not to a folder on the way either."""
    (tmp_path / "secret").write_bytes(b"x")
    (work / "up").symlink_to("..")
    with pytest.raises(BadRequest, match="links cannot be gone through"):
        make_from_file(store, "b3", work, "up/secret", inside=True)


@pytest.mark.parametrize("inside", [False, True])
def test_a_link_put_there_in_this_moment_is_not_followed(
    store: BlobStore, work: Path, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    """Between looking at the file and opening it."""
    (work / "a").write_bytes(b"x")
    (work / "secret").write_bytes(b"y")
    real = os.stat

    def swap(*where: object, **how: object) -> os.stat_result:
        monkeypatch.undo()
        found = real(*where, **how)
        (work / "a").unlink()
        (work / "a").symlink_to("secret")
        return found

    monkeypatch.setattr(os, "stat", swap)
    with pytest.raises(Refused, match="a cannot be read: "):
        make_from_file(store, "b3", work, "a", inside=inside)
    assert nothing_left(store)


@pytest.mark.parametrize("inside", [False, True])
def test_only_regular_files_are_kept(store: BlobStore, work: Path, inside: bool) -> None:
    """Each other kind is told by its name; a pipe is not waited for."""
    (work / "folder").mkdir()
    (work / "link").symlink_to("file")
    (work / "file").write_bytes(b"x")
    os.mkfifo(work / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(work / "socket"))
        kinds = {"folder": "a folder", "link": "a symbolic link", "pipe": "a pipe"}
        for path, kind in {**kinds, "socket": "a socket"}.items():
            with pytest.raises(BadRequest, match=f"{path} is {kind}: "):
                make_from_file(store, "b3", work, path, inside=inside)
    with pytest.raises(BadRequest, match="null is a device: "):
        make_from_file(store, "b3", Path("/dev"), "null", inside=inside)
    assert nothing_left(store)


@pytest.mark.parametrize("inside", [False, True])
def test_a_missing_file_is_not_found(store: BlobStore, work: Path, inside: bool) -> None:
    """Nor one in a folder that is missing."""
    for path in ("a", "no/a"):
        with pytest.raises(NotFound, match="there is no "):
            make_from_file(store, "b3", work, path, inside=inside)


@pytest.mark.parametrize("size", [10, 2 * CHUNK_BYTES])
@pytest.mark.parametrize("change", ["append", "write", "truncate", "same size"])
def test_a_file_that_changes_meanwhile_is_refused(
    store: BlobStore, work: Path, monkeypatch: pytest.MonkeyPatch, size: int, change: str
) -> None:
    """What was read of it may never have been in it at one time."""
    path = work / "a"
    path.write_bytes(b"a" * size)
    os.utime(path, ns=(0, 0))
    real = making.read_at

    def read(fd: int, amount: int, offset: int) -> bytes:
        if change == "truncate":
            os.truncate(path, 5)
        else:
            with path.open({"append": "ab", "write": "wb", "same size": "r+b"}[change]) as file:
                file.write(b"b")
        return real(fd, amount, offset)

    monkeypatch.setattr(making, "read_at", read)
    with pytest.raises(Refused, match="a changed while it was read: try again"):
        make_from_file(store, "b3", work, "a", inside=True)
    assert nothing_left(store)


def test_what_progress_raises_ends_it(store: BlobStore, work: Path, content: bytes) -> None:
    """So it may be cancelled; nothing half-made is left."""
    (work / "a").write_bytes(content)

    def cancel(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_from_file(store, "b3", work, "a", inside=True, progress=cancel)
    assert nothing_left(store)


def test_no_room_is_told(opened, work: Path, content: bytes) -> None:
    """Before anything is written."""
    (work / "a").write_bytes(content)
    (work / "small").write_bytes(b"x")
    store = opened(reserve_bytes=1 << 60)
    for path in ("a", "small"):
        with pytest.raises(DiskFull, match="make room on the disk of"):
            make_from_file(store, "b3", work, path, inside=True)
    assert nothing_left(store)


def test_a_disk_that_fills_leaves_nothing(
    store: BlobStore, work: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though half of it was written."""
    (work / "a").write_bytes(content)
    real = making.write_at

    def fill(fd: int, data: bytes, offset: int) -> None:
        if offset:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(fd, data, offset)

    monkeypatch.setattr(making, "write_at", fill)
    with pytest.raises(DiskFull):
        make_from_file(store, "b3", work, "a", inside=True)
    assert nothing_left(store)


@pytest.mark.parametrize("turn", range(5))
def test_two_that_make_the_same_blob_at_once(
    store: BlobStore, work: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    """Whenever the other comes in between, both have it."""
    (work / "a").write_bytes(content)
    real, turns = os.fsync, iter(range(100))
    made: list[Made] = []

    def fsync(fd: int) -> None:
        if next(turns) == turn:
            made.append(make_from_file(store, "b3", work, "a", inside=True))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    made.append(make_from_file(store, "b3", work, "a", inside=True))
    assert 2 == len(made)
    assert made[0] == made[1]
    store.verify(made[0].blob.digest)
    assert [] == list(store.folder.parts.iterdir())


def test_a_damaged_copy_is_replaced(store: BlobStore, work: Path, content: bytes) -> None:
    """The good bytes are at hand."""
    (work / "a").write_bytes(content)
    digest = make_from_file(store, "b3", work, "a", inside=True).blob.digest
    store.path(digest).chmod(0o600)
    os.truncate(store.path(digest), 7)
    assert digest == make_from_file(store, "b3", work, "a", inside=True).blob.digest
    store.verify(digest)
    assert content == store.path(digest).read_bytes()


def test_what_is_here_counts_as_used(store: BlobStore, clock) -> None:
    """So it is not removed before the task that needs it is known."""
    make_from_bytes(store, "b3", b"x")
    clock.now += 5000
    make_from_bytes(store, "b3", b"x")
    assert [clock.now] == [held.used_at for held in store.held()]


@pytest.mark.parametrize(
    "path",
    [".leoronic/cookie", "sub/../.leoronic/cookie", "link/cookie", "other/.leoronic/blobs/ab/x"],
)
def test_what_a_node_keeps_for_itself_is_refused(
    store: BlobStore, work: Path, tmp_path: Path, path: str
) -> None:
    """Its secrets above all, by whatever path, of whichever node on this machine."""
    state = work / ".leoronic"
    for folder in (state, work / "sub", work / "other" / ".leoronic" / "blobs" / "ab"):
        folder.mkdir(parents=True)
    (state / "cookie").write_text("secret")
    (work / "other" / ".leoronic" / "blobs" / "ab" / "x").write_text("secret")
    (work / "link").symlink_to(state)
    for one in (path, str(work / path)):
        with pytest.raises(BadRequest, match="what a node keeps for itself in"):
            make_from_file(store, "b3", work, one, inside=False)
    assert nothing_left(store)


def test_what_a_task_makes_in_its_own_folder_may_go_on(store: BlobStore, work: Path) -> None:
    """Though that folder is below the node's."""
    for name in ("work", "scratch"):
        folder = work / ".leoronic" / name / "t.1"
        folder.mkdir(parents=True)
        (folder / "out").write_text("x")
        assert 1 == make_from_file(store, "b3", folder, "out", inside=False).blob.size
