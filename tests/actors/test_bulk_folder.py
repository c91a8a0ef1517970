"""What others may read of a node's working directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from leoronic.actors.bulk_folder import FolderWalk, read_part
from leoronic.errors import BadRequest, NotFound, Refused
from leoronic.wire.bulk import Entry


def paths(entries: list[Entry]) -> list[str]:
    return [entry.path for entry in entries]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A working directory with the node's own state in it."""
    found = tmp_path / "root"
    (found / ".leoronic").mkdir(parents=True)
    (found / ".leoronic" / "cookie").write_text("secret")
    (found / "b").mkdir()
    # Another node has its folder in this one's.
    (found / "b" / ".leoronic").mkdir()
    (found / "b" / ".leoronic" / "cookie").write_text("secret")
    (found / "b" / "deep").mkdir()
    (found / "b" / "deep" / "x").write_text("xx")
    (found / "a.txt").write_text("aaa")
    (found / "c").write_text("c")
    (tmp_path / "outside").write_text("secret")
    return found


ALL = ["a.txt", "b", "b/deep", "b/deep/x", "c"]


@pytest.mark.parametrize("count", [1, 2, 3, 100])
@pytest.mark.parametrize("is_new", [False, True], ids=["same", "new"])
def test_page_after_page(root: Path, count: int, is_new: bool) -> None:
    """All come once, in order, from the same walk or from one that begins in the middle."""
    found: list[str] = []
    walk, more = FolderWalk(root), True
    while more:
        entries, more = walk.page(found[-1] if found else "", count)
        found += paths(entries)
        if is_new:
            walk = FolderWalk(root)
    assert ALL == found


def test_what_goes_meanwhile(root: Path) -> None:
    """A page begins behind a path that is gone."""
    entries, more = FolderWalk(root).page("b/deep/gone", 100)
    assert (["b/deep/x", "c"], False) == (paths(entries), more)
    entries, _ = FolderWalk(root).page("b/aaa/none", 100)
    assert ["b/deep", "b/deep/x", "c"] == paths(entries)
    walk = FolderWalk(root)
    walk.page("", 4)
    (root / "b" / "deep" / "x").unlink()
    (root / "b" / "deep").rmdir()
    assert ["c"] == paths(walk.page("b/deep", 100)[0])


def test_what_is_no_file(root: Path) -> None:
    """Links are told as links; what can't be had says why."""
    (root / "link").symlink_to("/etc/passwd")
    os.mkfifo(root / "pipe")
    (root / "two\nlines").write_text("")
    os.close(os.open(os.fsencode(root) + b"/\xff", os.O_CREAT | os.O_WRONLY))
    entries = FolderWalk(root).page("")[0]
    found = {entry.path: (entry.kind, entry.target, entry.problem) for entry in entries}
    assert ("link", "/etc/passwd", "") == found["link"]
    assert ("other", "", "it is a pipe") == found["pipe"]
    assert ("other", "", "its name has a line break or a zero byte: rename it") == found[
        "'two\\nlines'"
    ]
    assert ("other", "", "its name is not UTF-8: rename it") == found["'\\udcff'"]


def test_parts(root: Path) -> None:
    """From an offset, and nothing at the end."""
    status = (root / "a.txt").stat()
    assert (b"aa", 3, status.st_mtime_ns) == read_part(root, "a.txt", 1, 100)
    assert b"a" == read_part(root, "./a.txt", 0, 1).data
    assert b"" == read_part(root, "a.txt", 3, 100).data
    assert b"xx" == read_part(root, "b/deep/x", 0, 100).data


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("../outside", BadRequest),
        ("b/../../outside", BadRequest),
        ("/etc/passwd", BadRequest),
        (".leoronic/cookie", BadRequest),
        ("b/.leoronic/cookie", BadRequest),
        ("./.leoronic/cookie", BadRequest),
        ("link", Refused),
        ("folder-link/outside", BadRequest),
        ("b", BadRequest),
        ("pipe", BadRequest),
        ("none", NotFound),
        ("a.txt/x", BadRequest),
        ("", BadRequest),
        ("a\0b", BadRequest),
    ],
)
def test_what_is_not_handed_out(root: Path, path: str, error: type[Exception]) -> None:
    """Nothing outside, nothing of the node's own, nothing that would hang."""
    (root / "link").symlink_to(root.parent / "outside")
    (root / "folder-link").symlink_to(root.parent)
    os.mkfifo(root / "pipe")
    with pytest.raises(error):
        read_part(root, path, 0, 100)
