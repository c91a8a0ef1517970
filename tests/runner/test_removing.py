"""Folders of tasks are removed, whatever rights the tasks gave them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from leoronic.runner.removing import remove_tree

NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A path in a folder of a user who is not root, as whom the test goes on."""
    monkeypatch.chdir(tmp_path)
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(tmp_path, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield Path("task.1")
    finally:
        if is_root:
            os.seteuid(0)


@pytest.mark.parametrize("mode", [0o555, 0o300, 0o000])
def test_folders_that_were_closed(folder: Path, mode: int) -> None:
    """Nothing of them is left, at any depth; what a link leads to stays."""
    other = Path("other")
    other.mkdir()
    (other / "file").touch()
    deepest = folder / "a" / "b"
    deepest.mkdir(parents=True)
    (deepest / "file").touch()
    (deepest / "link").symlink_to(other.absolute())
    for one in (deepest, folder / "a", folder):
        one.chmod(mode)
    remove_tree(folder)
    assert ["other"] == os.listdir()  # noqa: PTH208 - names
    assert (other / "file").exists()


def test_what_is_not_there(folder: Path) -> None:
    """Nothing is to be done."""
    remove_tree(folder)
    assert not folder.exists()
