from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from leoronic.actors.inbox_files import READ_BYTES_PER_GO, InboxFiles
from leoronic.core.inbox import Looked, Move, Seen, Wanted


@pytest.fixture
def files(tmp_path: Path) -> InboxFiles:
    files = InboxFiles(tmp_path)
    files.prepare()
    return files


def look(files: InboxFiles, name: str) -> Looked:
    [looked] = files.look([Wanted(name, None)]).looked
    return looked


def test_only_what_was_looked_at_is_moved(files: InboxFiles) -> None:
    """A file that was replaced, changed or removed since is not moved."""
    for change in ("replaced", "changed", "gone"):
        path = files.folder / f"{change}.json"
        path.write_text('{"command": "a"}')
        seen = look(files, path.name).seen
        assert seen is not None
        match change:
            case "replaced":
                other = files.folder / "other"
                other.write_text('{"command": "b"}')
                os.utime(other, ns=(seen.mtime_ns, seen.mtime_ns))
                other.rename(path)
            case "changed":
                with path.open("a") as file:
                    file.write("\n")
            case "gone":
                path.unlink()
        [moved] = files.move([Move(path.name, seen, "accepted", "")])
        assert moved.how == ("gone" if change == "gone" else "changed")
    assert list((files.folder / "accepted").iterdir()) == []


def test_one_go_reads_a_bounded_amount(files: InboxFiles) -> None:
    """Once enough was read, the other files are left for the next go."""
    large = b'{"command": "a"}' + b" " * (READ_BYTES_PER_GO // 2)
    names = ["0.json", "1.json", "2.json"]
    for name in names:
        (files.folder / name).write_bytes(large)
    result = files.look([Wanted(name, None) for name in names])
    assert [one.name for one in result.looked] == ["0.json", "1.json"]
    assert result.skipped == ["2.json"]


def test_a_report_that_cannot_be_written_keeps_nothing_back(
    files: InboxFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk a bad file still leaves the inbox."""
    really_open = os.open

    def no_room(path: object, flags: int, *more: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(28, "No space left on device")
        return really_open(str(path), flags, *more)

    (files.folder / "a.json").write_text("{")
    seen = look(files, "a.json").seen
    assert seen is not None
    monkeypatch.setattr(os, "open", no_room)
    [moved] = files.move([Move("a.json", seen, "rejected", "not JSON\n")])
    assert moved.how == "moved"
    assert [path.name for path in (files.folder / "rejected").iterdir()] == ["a.json"]


def test_a_folder_that_was_removed_is_made_again(files: InboxFiles) -> None:
    """Files are moved even if accepted/ was removed meanwhile."""
    (files.folder / "accepted").rmdir()
    (files.folder / "a.json").write_text('{"command": "a"}')
    seen = look(files, "a.json").seen
    assert seen is not None
    assert files.move([Move("a.json", seen, "accepted", "")])[0].how == "moved"
    assert (files.folder / "accepted" / "a.json").exists()


def test_long_names_leave_room_for_the_report(files: InboxFiles) -> None:
    """A name as long as the system allows is cut, so that its report fits beside it."""
    name = "x" * 250 + ".json"
    for number in range(2):
        (files.folder / name).write_text("{")
        seen = look(files, name).seen
        assert seen is not None
        assert files.move([Move(name, seen, "rejected", f"{number}\n")])[0].how == "moved"
    reports = sorted((files.folder / "rejected").glob("*.error.txt"))
    assert sorted(report.read_text() for report in reports) == ["0\n", "1\n"]
    assert all(report.with_name(report.name[:-10]).exists() for report in reports)


def test_a_link_put_in_place_of_a_file(files: InboxFiles, tmp_path_factory: Any) -> None:
    """What turns into a link out of the node's folder after it was seen is not read."""
    outside = tmp_path_factory.mktemp("outside") / "secret.json"
    outside.write_text('{"command": "a"}')
    path = files.folder / "a.json"
    path.write_text('{"command": "b"}')
    really_observe = files._observe

    def observe(name: str) -> Seen | None:
        seen = really_observe(name)
        assert seen is not None
        os.utime(outside, ns=(seen.mtime_ns, seen.mtime_ns))
        path.unlink()
        path.symlink_to(outside)
        return seen

    files._observe = observe  # type: ignore[method-assign]
    looked = look(files, "a.json")
    assert looked.seen is not None
    assert ("outside", None) == (looked.seen.kind, looked.specs)


def test_an_inbox_that_is_a_link(tmp_path: Path) -> None:
    """Its files are read, wherever it is."""
    (tmp_path / "root").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root" / "inbox").symlink_to(tmp_path / "elsewhere")
    files = InboxFiles(tmp_path / "root")
    files.prepare()
    (files.folder / "a.json").write_text('{"command": "a"}')
    assert look(files, "a.json").specs is not None


def test_a_pipe_put_in_place_of_a_file(files: InboxFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """What turns into a pipe after it was seen blocks nobody."""
    (files.folder / "a.json").write_text("{")
    seen = files._observe("a.json")
    (files.folder / "a.json").unlink()
    os.mkfifo(files.folder / "a.json")
    monkeypatch.setattr(files, "_observe", lambda name: seen)
    looked = look(files, "a.json")
    assert looked.seen is not None
    assert looked.seen.kind == "other"
