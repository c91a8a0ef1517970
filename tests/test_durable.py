"""Files that are replaced whole."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from leoronic.durable import replace_file, sync_folder


def test_a_file_is_replaced(tmp_path: Path) -> None:
    """It holds the new content, for its owner alone, and nothing is left beside it."""
    path = tmp_path / "a"
    path.write_text("old and longer")
    path.chmod(0o644)
    replace_file(path, b"new")
    assert (b"new", 0o600) == (path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
    assert [path] == list(tmp_path.iterdir())


def test_it_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the content is synced, then it gets its name, then that is synced."""
    path = tmp_path / "a"
    path.write_text("old")
    steps: list[tuple[str, str]] = []

    def fsync(fd: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"
        steps.append((kind, path.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    replace_file(path, b"new")
    assert [("file", "old"), ("folder", "new")] == steps


def test_a_disk_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was left half written is no hindrance the next time."""
    path = tmp_path / "a"
    path.write_text("old")

    def fail(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space"):
            replace_file(path, b"new")
    assert "old" == path.read_text()
    replace_file(path, b"new")
    assert "new" == path.read_text()


def test_what_others_put_in_its_place_is_not_written_to(tmp_path: Path) -> None:
    """A link beside it, to a file elsewhere, say."""
    path, elsewhere = tmp_path / "a", tmp_path / "elsewhere"
    elsewhere.write_text("theirs")
    (tmp_path / "a.new").symlink_to(elsewhere)
    replace_file(path, b"new")
    assert ("theirs", "new") == (elsewhere.read_text(), path.read_text())


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    """Only a folder has names to sync."""
    (tmp_path / "a").touch()
    with pytest.raises(NotADirectoryError):
        sync_folder(tmp_path / "a")
