"""What the files of an attempt are called, and what its command says then."""

from __future__ import annotations

import pytest

from leoronic.core.attempt_files import kept_name, named, placed_words, unique_names
from leoronic.core.blob import FileRef
from leoronic.core.make_run import make_run
from leoronic.core.needs import need_of, rounded_up
from leoronic.core.resources import Need
from leoronic.core.spec import TaskSpec

ROOT = "/srv/node"
FOLDER = f"{ROOT}/.leoronic/work/t.2"


def brought(*paths: str, keep_names: bool = False) -> tuple[FileRef, ...]:
    return named([FileRef(path, digest=path) for path in paths], keep_names=keep_names)


def test_names_are_unique() -> None:
    """The last part of a path; a number where it is taken, before the ending."""
    paths = ["a/data.csv", "b/data.csv", "data.2.csv", "x", "y/x", ".rc", "c/.rc"]
    expected = ["data.csv", "data.2.csv", "data.2.2.csv", "x", "x.2", ".rc", ".rc.2"]
    assert expected == unique_names(paths)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a/./b.csv", "a/b.csv"), ("/abs/c", "c"), ("../up/d", "d"), ("./e", "e")],
)
def test_kept_names(path: str, expected: str) -> None:
    """Below the submitter's folder a path stays as it is, from elsewhere its last part counts."""
    assert expected == kept_name(path)


@pytest.mark.parametrize("paths", [("a/x", "/b/x", "x"), ("a", "a/b"), ("a/b", "./a")])
def test_names_that_clash(paths: tuple[str, ...]) -> None:
    """Two files cannot have one name, nor can a file be a folder too."""
    with pytest.raises(ValueError, match="cannot both keep their names"):
        brought(*paths, keep_names=True)


def test_a_file_given_twice_is_one() -> None:
    """However it is spelled; a clash names both as they were given."""
    files = [FileRef(path, digest="x") for path in ("a.csv", "./a.csv", "/here/a.csv", "b.csv")]
    found = named(files, keep_names=True)
    assert [("a.csv", "a.csv"), ("b.csv", "b.csv")] == [(file.path, file.name) for file in found]
    with pytest.raises(ValueError, match=r"^/d/a and \.\./a cannot both"):
        brought("/d/a", "../a", keep_names=True)


def test_the_command_finds_them() -> None:
    """Every way to write the path is replaced; the task runs in the node's folder."""
    spec = TaskSpec(
        "wc data/in.csv ./data/in.csv data/./in.csv in.csv", files=brought("data/in.csv")
    )
    run = make_run("t", 2, spec, "n", ROOT)
    place = f"{FOLDER}/in.csv"
    assert f"wc {place} {place} data/./in.csv in.csv" == run.command
    assert ("shared", True) == (run.workdir, run.keep_folder)


def test_a_list_of_lines() -> None:
    """Each line is a text of its own."""
    spec = TaskSpec(["echo it's", "wc a"], files=brought("a"))
    plain = make_run("t", 2, TaskSpec(["echo it's", f"wc {FOLDER}/a"]), "n", ROOT)
    assert plain.command == make_run("t", 2, spec, "n", ROOT).command


def test_kept_names_leave_the_command_alone() -> None:
    """It is run in its private folder, where the files have these names."""
    spec = TaskSpec("wc a", files=brought("a", keep_names=True), keep_names=True)
    run = make_run("t", 2, spec, "n", ROOT)
    assert ("wc a", "private", True) == (run.command, run.workdir, run.keep_folder)


def test_an_output_of_another_task() -> None:
    """The word in the command is the one in `files`."""
    file = FileRef("task:one/out/d.txt", digest="x", task="one", output="out/d.txt")
    [found] = named([file], keep_names=False)
    assert {"task:one/out/d.txt": f"{FOLDER}/d.txt"} == placed_words([found], FOLDER)
    [found] = named([file], keep_names=True)
    assert "out/d.txt" == found.name


def test_files_need_room() -> None:
    """Storage is on top of the files; sizes are rounded, so that classes of tasks are few."""
    files = (FileRef("a", size=5_000_000), FileRef("b", size=1))
    assert Need(1000, 0, 10 + 5 * 1024**2) == need_of(TaskSpec("x", storage=10, files=files))
    sizes = {rounded_up(1000 + 12345 * i) for i in range(100_000)}
    assert len(sizes) < 80
    assert all(
        size <= rounded_up(size) <= size * 9 // 8 + 1024**2 for size in (0, 1, 10**9, 10**15)
    )
