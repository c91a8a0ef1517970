"""A copy of a blob where a task finds it."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from leoronic.blobs import disk, placing
from leoronic.blobs.hashing import Corrupt
from leoronic.blobs.making import make_from_bytes
from leoronic.blobs.placing import place
from leoronic.blobs.store import BlobStore
from leoronic.errors import BadRequest, DiskFull, NotFound, Refused


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def kept(store: BlobStore, content: bytes = b"hello") -> str:
    return make_from_bytes(store, "b3", content).digest


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def cannot(*_: object, **__: object) -> int:
    raise OSError(errno.EXDEV, "Invalid cross-device link")


@pytest.mark.parametrize("without", [0, 1, 2])
def test_the_copy_is_whole(
    store: BlobStore, root: Path, content: bytes, monkeypatch: pytest.MonkeyPatch, without: int
) -> None:
    """In whatever way this disk can copy."""
    if without > 0:
        monkeypatch.setattr(fcntl, "ioctl", cannot)
    if without > 1:
        monkeypatch.setattr(os, "copy_file_range", cannot)
    place(store, kept(store, content), root, "a", 0o644)
    assert content == (root / "a").read_bytes()
    assert ["a"] == files(root)


def test_a_file_system_that_copies_nothing_is_copied_from(
    store: BlobStore, root: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some say 0 where there are bytes."""
    monkeypatch.setattr(fcntl, "ioctl", cannot)
    monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)
    place(store, kept(store, content), root, "a", 0o644)
    assert content == (root / "a").read_bytes()


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_a_task_may_write_to_its_copy(store: BlobStore, root: Path, content: bytes) -> None:
    """The blob is not changed by it."""
    digest = kept(store, content)
    place(store, digest, root, "a", 0o600)
    with (root / "a").open("ab") as file:
        file.write(b"more")
    store.verify(digest)
    assert content == store.path(digest).read_bytes()


@pytest.mark.parametrize(("mode", "expected"), [(0o750, 0o750), (0o400, 0o400), (0o6755, 0o755)])
def test_the_mode_is_as_given(store: BlobStore, root: Path, mode: int, expected: int) -> None:
    """Whatever the umask; but it lends no one's rights."""
    old = os.umask(0o077)
    try:
        place(store, kept(store), root, "a", mode)
    finally:
        os.umask(old)
    assert expected == (root / "a").stat().st_mode & 0o7777


def test_folders_are_made(store: BlobStore, root: Path) -> None:
    """As many as the path has; those that are there stay."""
    (root / "a").mkdir()
    place(store, kept(store), root, "a/b/c/file", 0o644)
    assert b"hello" == (root / "a/b/c/file").read_bytes()


@pytest.mark.parametrize("path", ["../a", "/a", "x/../../a", "", "a/", "a\nb"])
def test_nothing_is_placed_outside(store: BlobStore, root: Path, path: str) -> None:
    """A path that climbs, or means another place, is refused."""
    with pytest.raises(BadRequest):
        place(store, kept(store), root, path, 0o644)
    assert [] == files(root.parent / "root")
    assert {"blobs", "root"} == {entry.name for entry in root.parent.iterdir()}


def test_no_link_is_gone_through(store: BlobStore, root: Path, tmp_path: Path) -> None:
    """A task may have put one there."""
    (tmp_path / "elsewhere").mkdir()
    (root / "way").symlink_to(tmp_path / "elsewhere")
    for path in ("way/a", "way/deep/a"):
        with pytest.raises(BadRequest, match="links cannot be gone through"):
            place(store, kept(store), root, path, 0o644)
    assert [] == files(tmp_path / "elsewhere")


def test_a_link_at_the_end_is_replaced(store: BlobStore, root: Path) -> None:
    """Not what it leads to."""
    (root / "other").write_bytes(b"other")
    (root / "a").symlink_to("other")
    place(store, kept(store), root, "a", 0o644)
    assert b"other" == (root / "other").read_bytes()
    assert not (root / "a").is_symlink()
    assert b"hello" == (root / "a").read_bytes()


def test_placing_again_is_harmless(store: BlobStore, root: Path) -> None:
    """It is asked for by level."""
    for _ in range(2):
        place(store, kept(store), root, "a", 0o444, durable=True)
    assert b"hello" == (root / "a").read_bytes()
    assert ["a"] == files(root)


def test_a_folder_is_not_replaced(store: BlobStore, root: Path) -> None:
    """Nor a file taken for a folder."""
    (root / "a").mkdir()
    (root / "b").write_bytes(b"")
    with pytest.raises(BadRequest, match="a is a folder"):
        place(store, kept(store), root, "a", 0o644)
    with pytest.raises(BadRequest, match="b is no folder"):
        place(store, kept(store), root, "b/c", 0o644)
    assert ["a", "b"] == files(root)


def test_nothing_half_made_is_left(
    store: BlobStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor folders that were made for it; but those of others stay."""
    (root / "mine").mkdir()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(placing, "copy", full)
    with pytest.raises(DiskFull, match=r"a/b/c \(5 bytes\)"):
        place(store, kept(store), root, "a/b/c", 0o644)
    with pytest.raises(DiskFull):
        place(store, kept(store), root, "mine/c", 0o644)
    assert ["mine"] == files(root)


def test_a_short_copy_is_no_copy(
    store: BlobStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was there before stays."""
    (root / "a").write_bytes(b"old")

    def short(_: int, target: int, size: int) -> int:
        os.ftruncate(target, size)
        return 4

    monkeypatch.setattr(placing, "copy", short)
    with pytest.raises(Refused, match="4 of its 5 bytes"):
        place(store, kept(store), root, "a", 0o644)
    assert b"old" == (root / "a").read_bytes()
    assert ["a"] == files(root)


def test_a_full_disk_is_not_copied_to_in_another_way(
    store: BlobStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told at once."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", full)
    monkeypatch.setattr(fcntl, "ioctl", cannot)
    monkeypatch.setattr(disk, "write_at", None)
    with pytest.raises(DiskFull):
        place(store, kept(store), root, "a", 0o644)


def test_damage_is_found_before_a_task_sees_it(store: BlobStore, root: Path) -> None:
    """Copying alone would not notice."""
    digest = kept(store)
    store.path(digest).chmod(0o600)
    store.path(digest).write_bytes(b"jello")
    with pytest.raises(Corrupt):
        place(store, digest, root, "a", 0o644)
    with pytest.raises(NotFound):
        place(store, digest, root, "a", 0o644)
    assert [] == files(root)


def test_what_is_placed_counts_as_used(store: BlobStore, root: Path, clock) -> None:
    """The next task may want the same."""
    digest = kept(store)
    clock.now += 5000
    place(store, digest, root, "a", 0o644)
    assert [clock.now] == [held.used_at for held in store.held()]
