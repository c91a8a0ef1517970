"""Answers as text: golden, and never wider than the terminal."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from fake_node import STATUS, TASK, task

from leoronic.client import render, table

NOW = 1_795_176_010.0

TASKS = [
    task(id="c001", state="running", finished_at=None, command="for i in 1 2; do\n  sleep $i\ndone",
         count=200, elements={"succeeded": 118, "failed": 2, "running": 2, "waiting": 78}),
    task(id="b77", state="failed", exit_code=3, name="nightly", command="./build --all"),
    task(id="a1", state="waiting", started_at=None, finished_at=None, node=""),
]  # fmt: skip


def lines(text: str) -> list[str]:
    return text.strip("\n").split("\n")


def test_tasks_in_a_pipe() -> None:
    """In a pipe nothing is cut, and there is no colour."""
    expected = """
ID    STATE    ADDED      TOOK  NODE   NOTE                    NAME     COMMAND
c001  running  10 s ago  9.0 s  attic  120/200 done, 2 failed           for i in 1 2; do\\n  sleep $i\\ndone
b77   failed   10 s ago  2.5 s  attic  exit code 3             nightly  ./build --all
a1    waiting  10 s ago                                                 echo hello world
"""  # noqa: E501
    assert lines(expected) == render.tasks(TASKS, NOW, width=None, colour=False)


def test_ids_and_states_are_not_cut() -> None:
    """On a narrow terminal other columns are left out before that."""
    long = task(id="3f2a77b1c09d", name="a-name", node="a-node-with-a-name", state="succeeded")
    found = render.tasks([long, *TASKS], NOW, width=60, colour=False)
    assert ["3f2a77b1c09d", "succeeded"] == found[1].split()[:2]
    assert "COMMAND" in found[0]
    assert 60 >= max(map(table.width_of, found))


@pytest.mark.parametrize("width", [30, 60, 72, 80, 100])
def test_tables_fit_the_terminal(width: int) -> None:
    """No line is wider than the terminal."""
    found = render.tasks(TASKS, NOW, width=width, colour=False)
    assert max(map(table.width_of, found)) <= width


def test_colours_do_not_move_columns() -> None:
    """With the colours taken away the table is the same."""
    import re

    plain = render.tasks(TASKS, NOW, width=80, colour=False)
    coloured = render.tasks(TASKS, NOW, width=80, colour=True)
    assert plain != coloured
    assert plain == [re.sub(r"\x1b\[\d*m", "", line) for line in coloured]


def test_wide_characters_take_two_cells() -> None:
    """Columns stay straight beside wide characters."""
    found = table.render(
        [table.Column("A"), table.Column("B")], [("日本", "x"), ("abcd", "y")], width=80
    )
    assert found == ["A     B", "日本  x", "abcd  y"]
    assert table.cut("日本語語語", 6) == "日..."


def test_no_tasks_no_table() -> None:
    """An empty list prints nothing, not even titles."""
    assert render.tasks([], NOW, width=80, colour=False) == []


def test_csv_is_read_back_as_it_was() -> None:
    """Commas, quotes and newlines survive CSV."""
    command = 'echo "a, b"\necho c'
    found = list(csv.DictReader(io.StringIO(render.tasks_csv([task(command=command)]))))
    assert [command] == [row["command"] for row in found]
    assert list(render.CSV_FIELDS) == list(found[0])


def test_show() -> None:
    """A task shows every field that says something, attempts if there were several."""
    attempts = [
        {"attempt": 1, "state": "lost", "node": "barn", "started_at": "2026-11-20T12:00:00Z",
         "finished_at": "2026-11-20T12:00:01Z", "reason": "barn was not seen for 5 s"},
        {"attempt": 2, "state": "succeeded", "node": "attic", "exit_code": 0,
         "started_at": "2026-11-20T12:00:01Z", "finished_at": "2026-11-20T12:00:03.500Z"},
    ]  # fmt: skip
    found = render.task(
        task(
            command="a\nb",
            labels={"p": "maps"},
            priority=0,
            attempts=attempts,
            memory=512 << 20,
            concurrent=False,
            time_limit=300.0,
            after=[{"id": "a", "when": "succeeded"}, {"id": "b", "when": "ended"}],
        ),
        NOW,
        colour=False,
    )
    expected = """
id          3f2a
state       succeeded
command     a
            b
submitted   2026-11-20T12:00:00Z (10 s ago)
started     2026-11-20T12:00:01Z (9 s ago)
finished    2026-11-20T12:00:03.500Z (6 s ago)
took        2.5 s
origin      attic
node        attic
cpu         0.25 s
peak memory 3 MiB
output      12 B on stdout
after       a, b (ended)
concurrent  no
cpus        1
labels      p=maps
memory      512 MiB
time limit  5 min
attempts
"""
    assert lines(expected) == found[:-3]
    assert found[-3].split() == ["N", "STATE", "NODE", "STARTED", "TOOK", "ENDED"]
    assert found[-2].endswith("1.0 s  barn was not seen for 5 s")


def shown(**fields: Any) -> dict[str, str]:
    """The rows of `show`, without the attempts."""
    found = render.task(task(**fields), NOW, colour=False)
    return {line[:12].strip(): line[12:].lstrip() for line in found if line[:12].strip()}


ARRAY: dict[str, Any] = {
    "count": 30, "elements": {"succeeded": 23, "failed": 7}, "state": "failed", "exit_code": 7,
    "failed_elements": [3, 17, 20, 21, 22, 23, 24],
}  # fmt: skip


def test_show_names_the_elements_that_failed() -> None:
    """An array: which elements failed and how to read one; no code or output of who knows which."""
    rows = shown(**ARRAY)
    assert rows["failed"] == "3, 17, 20-24   (leoronic logs 3f2a.3 --stderr)"
    assert rows["elements"] == "30/30 done, 7 failed"
    assert set(rows) == {
        "id", "state", "elements", "failed", "command", "submitted", "started", "finished", "took",
        "origin", "node", "cpus",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("indexes", "failed", "expected"),
    [
        (list(range(0, 60, 2)), 30, ", ".join(map(str, range(0, 40, 2))) + ", ...   "),
        ([1, 2, 3], 2000, "1-3, ...   "),
        ([1, 2], 2, "1, 2   "),
    ],
)
def test_many_failed_elements(indexes: list[int], failed: int, expected: str) -> None:
    """Twenty ranges are enough; what was left out is marked."""
    fields = ARRAY | {"failed_elements": indexes, "elements": {"failed": failed}}
    assert shown(**fields)["failed"].startswith(expected + "(leoronic")


def test_notes_of_tasks_that_have_not_ended() -> None:
    """What keeps a task from running is its note, in `show` and in `list`; an array has it too."""
    blocked = {"state": "blocked", "reason": "needs 99 cpus", "exit_code": None}
    assert shown(**blocked)["note"] == "needs 99 cpus"
    assert "ended" not in shown(**blocked)
    array = blocked | {"count": 3, "elements": {"blocked": 3}}
    assert shown(**array)["note"] == "needs 99 cpus"
    found = render.tasks([task(**array)], NOW, width=None, colour=False)
    assert "0/3 done: needs 99 cpus" in found[1]
    assert shown(state="failed", exit_code=3)["ended"] == "exit code 3"


@pytest.mark.parametrize(("count", "said"), [(1, "1 process, ended"), (2, "2 processes, ended")])
def test_show_tells_of_leftovers(count: int, said: str) -> None:
    """Processes that a command left behind, and what became of them."""
    found = render.task(task(stragglers=count), NOW, colour=False)
    assert f"left running {said}" in found
    assert not [line for line in found if line.startswith("stragglers")]
    assert "left running" not in shown(stragglers=0)


def test_status() -> None:
    """Counts come in a fixed order."""
    expected = """
node        attic (n1)
root        /node
up for      2 min 5 s, core process 4711
version     0.1.0
inbox       /node/inbox
tasks       1200 waiting, 3 running, 40 succeeded, 1 failed
nodes       1 up
"""
    assert lines(expected) == render.status(STATUS, "/node", colour=False)


def test_why() -> None:
    """Reasons of the queue first, then what each node says."""
    answer = {
        "id": "3f2a",
        "state": "waiting",
        "reasons": ["waits for 77b1"],
        "nodes": {"attic": ["has 2 cpus, not 4"], "barn": []},
    }
    expected = """
3f2a is waiting
  waits for 77b1
  attic: has 2 cpus, not 4
  barn: would take it
"""
    assert lines(expected) == render.why(answer, colour=False)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"state": "running", "attempt": 1}, "3f2a  running  on attic"),
        ({"state": "failed", "attempt": 2, "exit_code": 3}, "attempt 2  (exit code 3)"),
        ({"state": "failed", "reason": "time limit 5 s"}, "(time limit 5 s)"),
        ({"state": "failed", "signal": 9}, "(SIGKILL)"),
    ],
)
def test_a_line_of_watch(fields: dict[str, Any], expected: str) -> None:
    """A change names the task, its state, where, and why it did not end well."""
    line = render.change(TASK | {"at": "2026-11-20T12:00:00Z"} | fields, colour=False)
    assert expected in line
