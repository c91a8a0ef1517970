"""Which files are outputs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from leoronic.blobs import globbing
from leoronic.blobs.globbing import OWN_FOLDERS, Found, find, stamp_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "work"
    for path in ("a.txt", "b.csv", ".hidden", "sub/c.txt", "sub/deep/d.txt", "sub/.x/e.txt"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


@pytest.mark.parametrize(
    ("glob", "paths"),
    [
        ("a.txt", ["a.txt"]),
        ("./a.txt", ["a.txt"]),
        ("*", ["a.txt", "b.csv"]),
        ("*.txt", ["a.txt"]),
        ("*/*/*.txt", ["sub/deep/d.txt"]),
        ("?.[ct]*", ["a.txt", "b.csv"]),
        ("[!a].*", ["b.csv"]),
        ("sub/*", ["sub/c.txt"]),
        ("*/*.txt", ["sub/c.txt"]),
        ("**/*.txt", ["a.txt", "sub/c.txt", "sub/deep/d.txt"]),
        ("sub/**/d.txt", ["sub/deep/d.txt"]),
        ("sub/**/**/c.txt", ["sub/c.txt"]),
        ("sub/**", ["sub/c.txt", "sub/deep/d.txt"]),
        ("**", ["a.txt", "b.csv", "sub/c.txt", "sub/deep/d.txt"]),
        ("**/deep/*", ["sub/deep/d.txt"]),
        (".*", [".hidden"]),
        ("sub/.x/*", ["sub/.x/e.txt"]),
        ("sub/.*/*", ["sub/.x/e.txt"]),
        ("s*/d**p/*", ["sub/deep/d.txt"]),
    ],
)
def test_what_a_glob_matches(folder: Path, glob: str, paths: list[str]) -> None:
    """Within names, and over folders."""
    assert Found(tuple(paths), ()) == find(folder, (glob,))


def test_a_file_that_two_globs_match_is_one(folder: Path) -> None:
    """All globs are looked for at once."""
    assert Found(("a.txt", "b.csv"), ()) == find(folder, ("*.txt", "a*", "*.csv"))


def test_no_match_is_a_problem(folder: Path) -> None:
    """The others are kept."""
    assert Found(("a.txt",), ("no file matches *.png",)) == find(folder, ("*.png", "a.txt"))


def test_a_folder_is_told_how_to_name_its_files(folder: Path) -> None:
    """It is none itself."""
    assert Found((), ("sub is a folder: sub/** names its files",)) == find(folder, ("sub",))


@pytest.mark.parametrize("glob", ["../a.txt", "/etc/*", "sub/../*", "", "sub/"])
def test_a_glob_stays_inside(folder: Path, glob: str) -> None:
    """What climbs out is a problem, and matches nothing."""
    found = find(folder, (glob, "a.txt"))
    assert ("a.txt",) == found.paths
    assert 1 == len(found.problems)


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    """Neither to a file nor to a folder."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key.txt").write_text("x")
    (folder / "link.txt").symlink_to("../secret/key.txt")
    (folder / "way").symlink_to("../secret")
    found = find(folder, ("link.txt", "way/*", "**/key.txt"))
    assert () == found.paths
    assert (
        "link.txt: it is a symbolic link, and only regular files are kept",
        "no file matches way/*",
        "no file matches **/key.txt",
    ) == found.problems


def test_own_folders_hold_no_outputs(folder: Path) -> None:
    """But only at the top, and only where they are the node's."""
    for name in (".leoronic/x", "inbox/x", "sub/inbox/x"):
        (folder / name).parent.mkdir()
        (folder / name).write_text("")
    assert ("sub/inbox/x",) == find(folder, ("**/x",), skipped=OWN_FOLDERS).paths
    assert ("inbox/x", "sub/inbox/x") == find(folder, ("**/x",)).paths
    assert () == find(folder, (".leoronic/*", "inbox/*"), skipped=OWN_FOLDERS).paths


def test_names_that_cannot_be_told_are_problems(folder: Path) -> None:
    """A line break or bytes that are no text; problems are one line each."""
    (folder / "n\nl").write_text("")
    (folder / os.fsdecode(b"n\xff")).write_text("")
    (folder / "sub" / "deep" / os.fsdecode(b"n\xff")).write_text("")
    found = find(folder, ("n*", "**/n*"))
    assert () == found.paths
    assert (
        r"'n\nl': its name has a line break or a zero byte: rename it",
        r"'n\udcff': its name is not UTF-8: rename it",
        r"'sub/deep/n\udcff': its name is not UTF-8: rename it",
    ) == found.problems


def test_what_is_no_regular_file_is_a_problem(folder: Path) -> None:
    """It is not opened."""
    os.mkfifo(folder / "pipe")
    assert ("pipe: it is a pipe, and only regular files are kept",) == find(
        folder, ("p*",)
    ).problems


def test_so_many_files_at_most(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that come first are kept, and it is said."""
    monkeypatch.setattr(globbing, "FILES_MAX", 2)
    found = find(folder, ("**",))
    assert ("a.txt", "b.csv") == found.paths
    assert ("only the first 2 files that match are kept: pack them into one",) == found.problems


def test_so_many_names_at_most(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task may have left millions."""
    monkeypatch.setattr(globbing, "NAMES_MAX", 4)
    found = find(folder, ("sub/deep/*",))
    assert () == found.paths
    assert "only the first 4 names were looked at: name its folder" == found.problems[0]


def test_so_many_problems_at_most(folder: Path) -> None:
    """The rest is counted."""
    found = find(folder, tuple(f"no{number}" for number in range(25)))
    assert 21 == len(found.problems)
    assert "and 5 more" == found.problems[-1]


def test_a_folder_too_deep_is_not_looked_into(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes an open file."""
    monkeypatch.setattr(globbing, "DEPTH_MAX", 1)
    found = find(folder, ("**",))
    assert ("a.txt", "b.csv", "sub/c.txt") == found.paths
    assert ("sub/deep: not looked into, it is too deep",) == found.problems


def test_a_folder_that_is_gone_is_a_problem(tmp_path: Path) -> None:
    """A task may remove its own."""
    found = find(tmp_path / "gone", ("*",))
    assert () == found.paths
    assert "there is no folder" in found.problems[0]


def test_a_folder_that_cannot_be_gone_into(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its names can be listed, and nothing more: that is a problem told, not an error."""

    def no_kind(_mode: int) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(globbing, "kind_of", no_kind)
    assert Found((), ("a.txt: Permission denied",)) == find(folder, ("a.txt",))


def test_what_is_older_is_not_kept(folder: Path) -> None:
    """Files of other tasks in the same folder; when the times say whole seconds, not those."""
    new = folder / "new.txt"
    new.touch()
    since = new.stat().st_ctime + 100.5
    expected = tuple(
        f"{name} is older than this attempt: not kept" for name in ("a.txt", "new.txt")
    )
    assert Found((), expected) == find(folder, ("*.txt",), since=since)
    os.utime(new, (since - 0.5, int(since)))
    found = find(folder, ("*.txt",), since=since)
    assert Found(("new.txt",), expected[:1]) == found


def test_what_was_brought_is_kept_only_if_it_was_changed(folder: Path) -> None:
    """An input that a glob matches is no output, but one that the task has written to is."""
    brought = {name: stamp_of((folder / name).stat()) for name in ("a.txt", "b.csv")}
    (folder / "a.txt").write_text("changed by the task")
    why = "*.csv matches only files that came with the task, unchanged: not kept"
    assert Found(("a.txt",), (why,)) == find(folder, ("*.txt", "*.csv"), brought=brought)
    assert Found(("a.txt",), ()) == find(folder, ("*",), brought=brought)


def test_what_a_node_keeps_for_itself_is_no_output(tmp_path: Path) -> None:
    """Wherever a node has its folder."""
    (tmp_path / "b" / ".leoronic").mkdir(parents=True)
    (tmp_path / "b" / ".leoronic" / "cookie").write_text("secret")
    (tmp_path / "b" / ".kept").write_text("x")
    found = find(tmp_path, ("b/.leoronic/*", "**/.leoronic/**", "**/.k*"))
    assert ("b/.kept",) == found.paths
