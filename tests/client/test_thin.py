"""The thin client: the same frames and tasks as the full one, and what it says when it fails."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from fake_node import Die, Error, FakeNode, Hang
from hypothesis import given
from hypothesis import strategies as st

from leoronic.client import thin
from leoronic.core.commands import Cancel, Submit, TagAdd, TagDel
from leoronic.core.validate import parse_tasks

Start = Callable[..., FakeNode]

HELLO = ["1024", "1", "1024", "false", "", "", "echo hello world"]
ONE = {"ids": ["3f2a"], "held_by": ["attic"]}


def test_add(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """The original's call becomes a task that the validator takes, and its id is printed."""
    node = start(submit=ONE)
    assert thin.main(["add", *HELLO]) == 0
    assert capsys.readouterr().out == "3f2a\n"
    ((command, blob),) = node.asked
    assert Submit() == command
    (spec,) = parse_tasks(blob)
    assert (
        spec.command, spec.memory, spec.cpus, spec.storage, spec.concurrent,
    ) == ("echo hello world", 1024, 1.0, 1024, False)  # fmt: skip


def test_all_fields(start: Start) -> None:
    """Units, fractions, conditions and an id of one's own arrive as they were written."""
    node = start(submit=ONE)
    conditions = r"worker:tag gpu;queue:all_with_cmd_done a\;b"
    thin.main(["add", "512M", "0.5", "", "TRUE", conditions, "", "true", "mine"])
    ((_, blob),) = node.asked
    assert {
        "command": "true", "memory": "512M", "cpus": 0.5, "storage": 0, "concurrent": True,
        "conditions": conditions, "id": "mine",
    } == json.loads(blob)  # fmt: skip
    (spec,) = parse_tasks(blob)
    assert [c.replace("\\;", ";") for c in spec.conditions] == [
        "worker:tag gpu",
        "queue:all_with_cmd_done a;b",
    ]


@given(st.text(st.characters(blacklist_categories=["Cs"])))
def test_any_text_is_a_json_string(value: str) -> None:
    """The hand-made escaping is read back by a real decoder."""
    assert value == json.loads(thin.text(value))


@given(st.from_regex(r"[0-9]{0,20}(\.[0-9]{0,9})?|[0-9.kKMGiB -]{0,9}", fullmatch=True))
def test_any_quantity_is_json(value: str) -> None:
    """Whatever is given as a size is JSON; a plain number keeps its value."""
    found = json.loads(thin.quantity(value), parse_int=Fraction, parse_float=Fraction)
    if isinstance(found, Fraction) and value.strip():
        assert Fraction(value.strip()) == found


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        (HELLO[:6], 2, "6 fields where 7 or 8 belong"),
        ([*HELLO, "id", "more"], 2, "9 fields"),
        ([*HELLO[:3], "maybe", *HELLO[4:]], 2, "CONCURRENT is true or false"),
        ([*HELLO[:6], "  "], 2, "COMMAND is empty"),
        ([*HELLO[:6], "a\udcff"], 2, "UTF-8"),
    ],
)
def test_wrong_fields(
    start: Start, capsys: pytest.CaptureFixture[str], fields: list[str], code: int, message: str
) -> None:
    """A call that cannot work is refused without asking the node, in one line."""
    node = start()
    assert code == thin.main(["add", *fields])
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("leoronic: ")
    assert said.count("\n") == 1
    assert node.asked == []


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (Error("bad_request", "m: odd", ["memory: is odd"]), 1, "leoronic: memory: is odd\n"),
        (Error("conflict", "that id is taken"), 1, "leoronic: that id is taken\n"),
        (Error("mailbox_full", "busy: try again"), 3, "leoronic: busy: try again\n"),
        (Die(), 3, "went away before it answered"),
    ],
)
def test_refusals(
    start: Start, capsys: pytest.CaptureFixture[str], answer: Any, code: int, message: str
) -> None:
    """What the node says is told; it is 1 refused, 3 nobody to do it."""
    start(submit=lambda c, _: iter([answer]))
    assert code == thin.main(["add", *HELLO])
    assert message in capsys.readouterr().err


def test_no_node(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody answers: exit code 3 and how to start one."""
    start().stop()
    assert thin.main(["add", *HELLO]) == 3
    assert "start it with" in capsys.readouterr().err


def test_a_node_that_hangs(
    start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not wait for ever."""
    monkeypatch.setattr(thin, "ANSWER_TIMEOUT_S", 0.05)
    start(submit=lambda c, _: iter([Hang()]))
    assert thin.main(["add", *HELLO]) == 3
    assert "no answer" in capsys.readouterr().err


def test_an_answer_in_another_shape(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """The fast path for the id is only a path: fields in another order are understood too."""
    start(submit={"held_by": ["attic"], "ids": ["3f2a"]})
    assert thin.main(["add", *HELLO]) == 0
    assert capsys.readouterr().out == "3f2a\n"


# many

LINES = """
# greetings
1024 1 1024 false "" "" "echo hello world"

  512M 0.5 0 true 'worker:tag gpu' "" 'echo "it'\\''s" $HOME # not a comment' mine
"""


def test_tasks_by_line(start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line is read with a shell's quoting, nothing is run; all go in one request."""
    node = start(submit={"ids": ["a", "mine"], "held_by": []})
    file = tmp_path / "tasks"
    file.write_text(LINES)
    assert thin.main(["add-many", str(file)]) == 0
    assert capsys.readouterr().out == "a\nmine\n"
    ((command, blob),) = node.asked
    assert Submit(lines=True) == command
    found = parse_tasks(blob, lines=True)
    assert [s.command for s in found] == ["echo hello world", 'echo "it\'s" $HOME # not a comment']
    assert [spec.id for spec in found] == ["", "mine"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (LINES + "1 1 1 true '' '' 'open", "line 6: No closing quotation"),
        (LINES + "1 1 1\n", "line 6: 3 fields where 7 or 8 belong"),
        (LINES + "1 1 1 maybe '' a.txt 'cat a.txt'", "line 6: CONCURRENT is true or false"),
        ("# nothing\n\n", "no tasks there"),
    ],
)
def test_a_wrong_line_is_named(
    start: Start,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    lines: str,
    message: str,
) -> None:
    """The line is named, and no task of the file is added."""
    node = start()
    file = tmp_path / "tasks"
    file.write_text(lines)
    assert thin.main(["add-many", str(file)]) in (1, 2)
    assert message in capsys.readouterr().err
    assert node.asked == []


@pytest.mark.parametrize("place", ["line 2: ", "tasks[1]."])
def test_the_nodes_places_become_lines(
    start: Start, capsys: pytest.CaptureFixture[str], tmp_path: Path, place: str
) -> None:
    """What the node finds wrong is told by the line of the file, comments counted."""
    start(submit=lambda c, _: iter([Error("bad_request", "odd", [f"{place}memory: is odd"])]))
    file = tmp_path / "tasks"
    file.write_text(LINES)
    assert thin.main(["add-many", str(file)]) == 1
    assert capsys.readouterr().err == "leoronic: line 5: memory: is odd\n"


def test_a_file_that_cannot_be_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing file and one that is not UTF-8 are wrong usage."""
    assert thin.main(["add-many", str(tmp_path / "none")]) == 2
    assert "cannot read" in capsys.readouterr().err
    (tmp_path / "latin").write_bytes(b"1 1 1 true '' '' 'echo \xe9'\n")
    assert thin.main(["add-many", str(tmp_path / "latin")]) == 2
    assert "is not UTF-8 (byte 23)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        (["cancel", "3f2a"], Cancel(["3f2a"])),
        (["tagadd", "gpu"], TagAdd("gpu")),
        (["tagdel", 'a"b', "attic"], TagDel('a"b', "attic")),
    ],
)
def test_the_other_commands(
    start: Start, capsys: pytest.CaptureFixture[str], argv: list[str], asked: Any
) -> None:
    """They ask for the same as the full client, and print nothing."""
    answers = {"cancel": {"changed": [], "unchanged": []}, "tagadd": {}, "tagdel": {}}
    node = start(**answers)
    assert thin.main(argv) == 0
    assert capsys.readouterr().out == ""
    assert [asked] == node.commands()


@pytest.mark.parametrize("argv", [["cancel"], ["tagadd"], ["tagadd", ""], ["frobnicate"]])
def test_wrong_usage(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong usage is exit code 2."""
    errors = io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    assert thin.main(argv) == 2
    assert errors.getvalue().startswith("leoronic: ")


def test_it_imports_next_to_nothing() -> None:
    """Adding a task needs neither json, socket nor typing: each costs milliseconds."""
    import subprocess

    code = (
        "import sys; sys.path.append(sys.argv[1]); import leoronic.client.thin; "
        "print([n for n in ('json', 'socket', 'typing', 're', 'msgspec') if n in sys.modules])"
    )
    library = str(Path(thin.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, library],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
