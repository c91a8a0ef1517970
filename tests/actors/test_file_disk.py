"""What the file store wants of its disk, done on a real one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from leoronic.actors.file_disk import FileDisk, Limits
from leoronic.blobs import collecting
from leoronic.core.blob import BlobRef, ChunkList, FileRef
from leoronic.core.file_effects import (
    BeginPart,
    DropOtherFolders,
    FindUnneeded,
    FinishPart,
    FoundCorrupt,
    HereNow,
    ListBlobs,
    ListRead,
    PartBegun,
    PartFailed,
    PartFinished,
    Place,
    PlaceFailed,
    ReadList,
    RemoveBlobs,
    UnneededTold,
)
from leoronic.errors import LeoronicError

KEY = ("t1", 1)
FOLDER = ".leoronic/work/t1.1"
MIB = 1024 * 1024


def disk_in(root: Path, limits: Limits | None = None) -> FileDisk:
    (root / ".leoronic").mkdir(parents=True)
    return FileDisk(root, limits or Limits(reserve=0))


def keep(disk: FileDisk, name: str, data: bytes) -> FileRef:
    (disk.root / name).write_bytes(data)
    [made] = disk.make(disk.root, [name], "s2", lambda done: None)
    assert not isinstance(made, LeoronicError)
    return FileRef(name, name, made.blob.digest, made.blob.size)


def spoil(disk: FileDisk, file: FileRef) -> None:
    path = disk.store.path(file.digest)
    path.chmod(0o600)
    path.write_bytes(b"?" * file.size)


@pytest.fixture
def disk(tmp_path: Path) -> FileDisk:
    return disk_in(tmp_path)


def test_what_an_earlier_life_left(disk: FileDisk) -> None:
    """It is told whole, with sizes."""
    file = keep(disk, "f", b"four")
    again = FileDisk(disk.root, Limits())
    assert [HereNow((BlobRef(file.digest, 4),), whole=True)] == again.list_blobs(ListBlobs())


def test_a_blob_is_fetched(disk: FileDisk, tmp_path: Path) -> None:
    """From its list, by its chunks, to the blob; one that is cut goes on with what came."""
    other = disk_in(tmp_path / "other")
    file = keep(other, "f", bytes(9 * MIB))
    chunks = other.store.list_of(file.digest)
    begin = BeginPart(file.digest, chunks)
    assert [PartBegun(file.digest, 0)] == disk.begin_part(begin)
    part = disk.store.under_way(file.digest)
    assert part is not None
    part.write_chunk(1, other.store.read_chunk(file.digest, 1))
    disk.end_parts([file.digest])
    assert [PartBegun(file.digest, 0b010)] == disk.begin_part(begin)
    assert isinstance(disk.finish_part(FinishPart(file.digest))[0], PartFailed)
    disk.begin_part(begin)
    part = disk.store.under_way(file.digest)
    assert part is not None
    for index in range(3):
        part.write_chunk(index, other.store.read_chunk(file.digest, index))
    assert [PartFinished(file.digest, 9 * MIB)] == disk.finish_part(FinishPart(file.digest))
    assert [HereNow((BlobRef(file.digest, 9 * MIB),))] == disk.begin_part(begin)


def test_a_wrong_list(disk: FileDisk) -> None:
    """It is not another blob's that is begun."""
    wrong = BeginPart("s2:" + "0" * 64, ChunkList("s2", 1, 4 * MIB, bytes(32)))
    [told] = disk.begin_part(wrong)
    assert isinstance(told, PartFailed)
    assert told.wrong_list


def test_a_placing_that_fails(disk: FileDisk) -> None:
    """What is damaged is named, and nothing is left of the folder."""
    good, bad = keep(disk, "good", b"good"), keep(disk, "bad", b"bad!")
    spoil(disk, bad)
    [told] = disk.place(Place(KEY, FOLDER, (good, bad)))
    assert isinstance(told, PlaceFailed)
    assert (bad.digest,) == told.missing
    assert not (disk.root / FOLDER).exists()


def test_a_list_that_is_damaged(disk: FileDisk) -> None:
    """It is told that the blob is gone, before that there is no list."""
    file = keep(disk, "f", b"here")
    digest = file.digest
    assert isinstance(disk.read_list(ReadList(digest))[0], ListRead)
    again = FileDisk(disk.root, Limits())
    spoil(again, file)
    assert [FoundCorrupt(digest), ListRead(digest, None)] == again.read_list(ReadList(digest))


def test_what_may_go(disk: FileDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what is held, nor what the journal needs, nor what is young."""
    files = [keep(disk, name, name.encode()) for name in ("free", "held", "needed")]
    free, held, needed = (file.digest for file in files)
    disk.limits = Limits(quota=1, reserve=0)
    message = FindUnneeded(frozenset({held}))
    assert [UnneededTold(())] == disk.find_unneeded(message, lambda _: {needed})
    monkeypatch.setattr(collecting, "YOUNG_S", 0.0)
    assert [UnneededTold((free,))] == disk.find_unneeded(message, lambda _: {needed})
    assert disk.store.has(free), "it goes only when the machine says so"


def test_what_goes(disk: FileDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what has come to be needed since, nor what was used: that is told."""
    monkeypatch.setattr(collecting, "YOUNG_S", 0.0)
    files = [keep(disk, name, name.encode()) for name in ("free", "needed", "used")]
    free, needed, used = (file.digest for file in files)
    disk.limits = Limits(quota=1, reserve=0)
    disk.find_unneeded(FindUnneeded(frozenset()), lambda _: set())
    disk.store.use(used)
    told = disk.remove_blobs(RemoveBlobs((free, needed, used)), lambda _: {needed})
    assert [HereNow((BlobRef(needed, 6), BlobRef(used, 4)))] == told
    assert [False, True, True] == [disk.store.has(one) for one in (free, needed, used)]


def test_folders_of_earlier_lives(disk: FileDisk) -> None:
    """All go but those of the attempts that there are."""
    work = disk.root / ".leoronic" / "work"
    assert [] == disk.drop_other_folders(DropOtherFolders((KEY,)))
    for name in ("t1.1", "t1.2", "t2.1"):
        (work / name / "inside").mkdir(parents=True)
    disk.drop_other_folders(DropOtherFolders((KEY,)))
    assert ["t1.1"] == [path.name for path in work.iterdir()]


def test_folders_of_attempts_begun_since(disk: FileDisk) -> None:
    """The runner made them after it was told which attempts there are: they stay."""
    work = disk.root / ".leoronic" / "work"
    for name in ("old.1", "new.1"):
        (work / name).mkdir(parents=True)
    os.utime(work / "old.1", (1000.0, 1000.0))
    disk.drop_other_folders(DropOtherFolders(()), before=(work / "new.1").stat().st_mtime)
    assert ["new.1"] == [path.name for path in work.iterdir()]


def test_a_disk_that_fails(disk: FileDisk) -> None:
    """Each request is answered all the same."""
    (disk.root / ".leoronic" / "blobs").write_text("no folder")
    digest = "s2:" + "0" * 64
    [told] = disk.guarded(disk.finish_part, FinishPart(digest))
    assert isinstance(told, PartFailed)
    assert [HereNow(whole=True)] == disk.guarded(disk.list_blobs, ListBlobs())
