"""Folders of ended attempts that another attempt gets, and those that it must not get."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from leoronic.actors import file_spares
from leoronic.actors.file_disk import FileDisk
from leoronic.core.attempt_files import private_folder
from leoronic.core.blob import FileRef
from leoronic.core.file_effects import (
    DropFolders,
    FindUnneeded,
    ListBlobs,
    Place,
    Placed,
    UnneededTold,
)
from tests.actors.test_file_disk import MIB, disk_in, keep


@pytest.fixture
def disk(tmp_path: Path) -> FileDisk:
    return disk_in(tmp_path)


def folder(disk: FileDisk, task: str) -> Path:
    return disk.root / private_folder((task, 1))


def place(disk: FileDisk, task: str, *files: FileRef) -> int:
    """Place them for a task; which folder it got."""
    key = (task, 1)
    assert [Placed(key)] == disk.place(Place(key, private_folder(key), files))
    return folder(disk, task).stat().st_ino


def drop(disk: FileDisk, *tasks: str) -> None:
    assert [] == disk.drop_folders(DropFolders(tuple((task, 1) for task in tasks)))


def spares(disk: FileDisk) -> list[str]:
    return sorted(os.listdir(disk.root / ".leoronic/blobs/spare"))  # noqa: PTH208 - names


def test_the_next_with_the_same_files_gets_the_folder(disk: FileDisk) -> None:
    """Whole, and nobody else has it then; one with others, or under other names, does not."""
    one, two = keep(disk, "one", b"1" * 5000), keep(disk, "two", b"2")
    first = place(disk, "a", one, two)
    drop(disk, "a")
    assert not folder(disk, "a").exists()
    assert first != place(disk, "b", one)
    assert first != place(disk, "c", FileRef("x", "x", one.digest, one.size), two)
    assert first == place(disk, "d", two, one)
    assert b"1" * 5000 == (folder(disk, "d") / "one").read_bytes()
    assert first != place(disk, "e", one, two)
    assert [] == spares(disk)


def change(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(b"other")
    path.chmod(0o444)


@pytest.mark.parametrize(
    "touch",
    [
        lambda path: change(path / "one"),
        lambda path: (path / "one").chmod(0o755),
        lambda path: (path / "one").unlink(),
        lambda path: (path / "more").touch(),
        lambda path: (path / "one").rename(path / "other"),
        lambda path: os.link(path / "one", path.parent / "kept"),
        lambda path: ((path / "one").unlink(), (path / "one").symlink_to("/etc/passwd")),
        lambda path: path.chmod(0o500),
    ],
    ids=["written", "mode", "removed", "more", "renamed", "linked", "replaced", "folder"],
)
def test_what_a_task_has_changed_is_for_nobody(
    disk: FileDisk, touch: Callable[[Path], object]
) -> None:
    """Not even if it looks the same: all of its bytes are read."""
    one = keep(disk, "one", b"first")
    place(disk, "a", one)
    touch(folder(disk, "a"))
    drop(disk, "a")
    assert not folder(disk, "a").exists()
    place(disk, "b", one)
    assert b"first" == (folder(disk, "b") / "one").read_bytes()
    assert ["one"] == os.listdir(folder(disk, "b"))  # noqa: PTH208 - names


def test_what_somebody_still_writes_to_is_for_nobody(disk: FileDisk) -> None:
    """A process that outlives its task could change what the next one reads."""
    one = keep(disk, "one", b"first")
    place(disk, "a", one)
    (folder(disk, "a") / "one").chmod(0o644)
    with (folder(disk, "a") / "one").open("r+b") as opened:
        (folder(disk, "a") / "one").chmod(one.mode)
        drop(disk, "a")
        place(disk, "b", one)
        opened.write(b"spoil")
    assert b"first" == (folder(disk, "b") / "one").read_bytes()


def test_they_are_few_and_small(disk: FileDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large files are copied again; the oldest of many folders go, and all at a collection."""
    monkeypatch.setattr(file_spares, "FOLDERS_MAX", 2)
    large = keep(disk, "large", b"x" * (4 * MIB + 1))
    place(disk, "a", large)
    drop(disk, "a")
    one = keep(disk, "one", b"1")
    for task in "bcde":
        place(disk, task, one)
    drop(disk, *"bcde")
    assert 2 == len(spares(disk))
    monkeypatch.setattr(file_spares, "BYTES_MAX", 1)
    place(disk, "f", one)
    drop(disk, "f")
    assert 1 == len(spares(disk))
    assert [UnneededTold(())] == disk.find_unneeded(FindUnneeded(frozenset()), set)
    assert not (disk.root / ".leoronic/blobs/spare").exists()


def test_a_new_life_removes_them(disk: FileDisk, tmp_path: Path) -> None:
    """It knows nothing of them."""
    one = keep(disk, "one", b"1")
    place(disk, "a", one)
    drop(disk, "a")
    assert 1 == len(spares(disk))
    FileDisk(tmp_path, disk.limits).list_blobs(ListBlobs())
    assert not (disk.root / ".leoronic/blobs/spare").exists()
    place(disk, "b", one)
    assert b"1" == (folder(disk, "b") / "one").read_bytes()
