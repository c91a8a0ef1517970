"""submit: tasks from options and files, waiting for them, and exec."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_node import Die, Error, FakeNode, Hang, Item, task
from ran import Ran

from leoronic.client import upload
from leoronic.client.commands import submit
from leoronic.core.commands import Exec, Logs, Submit, Wait, Why

Start = Callable[..., FakeNode]
Run = Callable[..., Ran]

ONE = {"ids": ["3f2a"], "held_by": ["attic"]}


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--", "a | b"], {"command": "a | b"}),
        (["echo", "-n", "a b"], {"command": "echo -n 'a b'"}),
        (["--memory", "512M", "--cpus", "0.5", "--storage", "10", "--", "x"],
         {"command": "x", "memory": "512M", "cpus": 0.5, "storage": 10}),
        (["--priority", "0", "--count", "0", "--retries", "2", "--retry-delay", "5s", "--", "x"],
         {"command": "x", "priority": 0, "count": 0, "retries": 2, "retry_delay": "5s"}),
        (["--exclusive", "--fresh-shell", "--pids", "9", "--workdir", "private", "--", "x"],
         {"command": "x", "concurrent": False, "fresh_shell": True, "pids": 9,
          "workdir": "private"}),
        (["--after", "a", "--after", "b:ended", "--condition", "worker:tag t", "--", "x"],
         {"command": "x", "after": ["a", {"id": "b", "when": "ended"}],
          "conditions": ["worker:tag t"]}),
        (["--label", "p=maps", "--label", "q", "--env", "A=b=c", "--resource", "gpu=1", "--", "x"],
         {"command": "x", "labels": {"p": "maps", "q": ""}, "env": {"A": "b=c"},
          "resources": {"gpu": 1}}),
        (["--item", "a b", "--item", "c", "--stdin", "", "--", "x"],
         {"command": "x", "items": ["a b", "c"], "stdin": ""}),
        (["--name", "n", "--id", "i", "--time-limit", "5m", "--on-loss", "hold", "--", "x"],
         {"command": "x", "name": "n", "id": "i", "time_limit": "5m", "on_loss": "hold"}),
    ],
)  # fmt: skip
def test_options_become_fields(
    run: Run, start: Start, argv: list[str], expected: dict[str, Any]
) -> None:
    """Each option is the field of its name; what was not given is not sent."""
    node = start(submit=ONE)
    ran = run("submit", *argv)
    assert (ran.code, ran.out) == (0, "3f2a\n")
    assert (Submit(), expected) == (node.asked[0][0], json.loads(node.asked[0][1]))


def test_the_fields_are_the_validators() -> None:
    """What the options make of a task is what the node's validator accepts."""
    from leoronic.core.validate import parse_tasks

    fields = {
        "command": "x", "memory": "512M", "cpus": 0.5, "resources": {"gpu": 1}, "pids": 9,
        "after": ["a", {"id": "b", "when": "ended"}], "labels": {"p": "maps", "q": ""},
        "time_limit": "5m", "retry_delay": "5s", "fresh_shell": True, "items": ["a b"],
    }  # fmt: skip
    (spec,) = parse_tasks(json.dumps(fields).encode())
    assert (spec.memory, spec.time_limit, spec.retry_delay) == (512 << 20, 300.0, 5.0)


def test_json(run: Run, start: Start) -> None:
    """One task: its id and who holds it."""
    start(submit=ONE)
    assert json.loads(run("submit", "--json", "--", "x").out) == {
        "id": "3f2a",
        "held_by": ["attic"],
    }


def test_items_from_a_file(run: Run, start: Start, tmp_path: Path) -> None:
    """--items takes one element a line, --stdin-file a whole file."""
    node = start(submit=ONE)
    (tmp_path / "items").write_text("a b\nc\n")
    (tmp_path / "stdin").write_text("1\n2\n")
    run("submit", "--items", f"{tmp_path}/items", "--stdin-file", f"{tmp_path}/stdin", "--", "x")
    (blob,) = [blob for command, blob in node.asked if isinstance(command, Submit)]
    assert json.loads(blob) == {"command": "x", "items": ["a b", "c"], "stdin": "1\n2\n"}


def test_what_no_node_can_run_is_told_at_once(run: Run, start: Start) -> None:
    """A single task that is blocked: its id, then why, and exit code 0; --json only adds it."""
    blocked = {"id": "3f2a", "state": "blocked", "reasons": ["needs 99 cpus, the node has 2"]}
    node = start(submit=ONE, why=blocked)
    ran = run("submit", "--cpus", "99", "--", "x")
    said = "leoronic: 3f2a is blocked: needs 99 cpus, the node has 2\n"
    assert (0, "3f2a\n", said) == (ran.code, ran.out, ran.err)
    assert [Submit(), Why("3f2a")] == node.commands()
    assert run("submit", "--cpus", "99", "--json", "--", "x").err == ""
    assert [Submit(), Why("3f2a"), Submit()] == node.commands()


@pytest.mark.parametrize("part", [Error("timeout", "too busy"), Die(), Hang()])
def test_a_task_is_added_even_if_nobody_says_why(
    run: Run, start: Start, monkeypatch: pytest.MonkeyPatch, part: Any
) -> None:
    """The id was printed: that the question after it failed is no failure."""
    monkeypatch.setattr(submit, "WHY_S_MAX", 0.05)
    start(submit=ONE, why=lambda c, _: iter([part]))
    ran = run("submit", "--", "x")
    assert (0, "3f2a\n", "") == (ran.code, ran.out, ran.err)


def test_an_unknown_when(run: Run, start: Start) -> None:
    """`--after ID:WHEN` that is no name either: the words that there are, and the other meaning."""
    problem = "after: no task has the id or name 'x:whenever'"
    node = start(submit=lambda c, _: iter([Error("bad_request", problem, [problem])]))
    ran = run("submit", "--after", "x:whenever", "--", "true")
    assert ran.code == 1
    assert ran.err == (
        "leoronic: after: WHEN is succeeded, failed or ended, not 'whenever' "
        "(and no task has the name 'x:whenever')\n"
    )
    problem = "after: no task has the id or name 'x'"
    node.answers["submit"] = lambda c, _: iter([Error("bad_request", problem, [problem])])
    assert run("submit", "--after", "x", "--", "true").err == f"leoronic: {problem}\n"


def test_a_name_may_hold_a_colon(run: Run, start: Start) -> None:
    """What the node knows as a name is one, whatever follows its colon."""
    node = start(submit=ONE)
    assert run("submit", "--after", "stage:fail", "--", "true").code == 0
    assert json.loads(node.asked[0][1])["after"] == ["stage:fail"]


def test_help_says_what_surprises(run: Run) -> None:
    """Where tasks run, what becomes of leftovers, and what a loss costs."""
    said = " ".join(run("submit", "--help").out.split())
    assert "Runs in the node's folder (ROOT), not in yours; write paths from there." in said
    assert "What a command leaves running is ended when it ends." in said
    assert "[retry] Losses do not count against --retries." in said


# files


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ('{"command": "a"}\n{"command": "b"}\n', True),
        ('{"command": "a"}', False),
        ('[{"command": "a"}]', False),
        ('{"defaults": {},\n "tasks": []}', False),
    ],
)
def test_a_file_goes_as_it_is(
    run: Run, start: Start, tmp_path: Path, content: str, lines: bool
) -> None:
    """A file that fits is one request, byte for byte."""
    node = start(submit={"ids": ["a", "b"], "held_by": []})
    file = tmp_path / "tasks"
    file.write_text(content)
    ran = run("submit", "-f", str(file))
    assert (ran.code, ran.out) == (0, "a\nb\n")
    assert [(Submit(lines=lines), content.encode())] == node.asked


def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "BLOB_BYTES_MAX", 100)
    monkeypatch.setattr(upload, "PART_BYTES_MAX", 40)


def numbered(count: int) -> str:
    return "".join(f'{{"command": "{n}"}}\n' for n in range(count))


def ids_of_lines(command: Any, blob: bytes) -> Any:
    yield {"ids": [json.loads(line)["command"] for line in blob.splitlines()], "held_by": ["attic"]}


def test_a_large_file_goes_in_parts(
    run: Run, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON lines over the limit go in parts of whole lines; the ids keep their order."""
    small_parts(monkeypatch)
    node = start(submit=ids_of_lines)
    file = tmp_path / "tasks"
    file.write_text(numbered(50))
    ran = run("submit", "-f", str(file))
    assert (0, "".join(f"{n}\n" for n in range(50))) == (ran.code, ran.out)
    blobs = [blob for _, blob in node.asked]
    assert numbered(50).encode() == b"".join(blobs)
    assert len(blobs) > 10
    assert all(len(blob) <= 40 and blob.endswith(b"\n") for blob in blobs)


def test_a_mistake_in_a_part_has_its_line_in_the_file(
    run: Run, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line is that of the file, what was accepted is named, and nothing more is sent."""
    small_parts(monkeypatch)

    def refuse_seven(command: Any, blob: bytes) -> Any:
        lines = blob.splitlines()
        if b'{"command": "7"}' in lines:
            place = lines.index(b'{"command": "7"}') + 1
            yield Error("bad_request", "one mistake", [f"line {place}: memory: is odd"])
        else:
            yield from ids_of_lines(command, blob)

    node = start(submit=refuse_seven)
    file = tmp_path / "tasks"
    file.write_text(numbered(100))
    ran = run("submit", "-f", str(file))
    assert ran.code == 1
    assert "line 8: memory: is odd" in ran.err
    assert "lines 1 to 6" in ran.err
    sent = b"".join(blob for _, blob in node.asked)
    assert b'"50"' not in sent


def test_a_large_document_is_refused(
    run: Run, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is over the limit and not JSON lines cannot be split."""
    small_parts(monkeypatch)
    node = start()
    file = tmp_path / "tasks"
    file.write_text("[" + ",\n".join(numbered(20).splitlines()) + "]")
    ran = run("submit", "-f", str(file))
    assert ran.code == 1
    assert "JSON lines" in ran.err
    assert node.asked == []


def test_problems_are_told_one_a_line(run: Run, start: Start, tmp_path: Path) -> None:
    """Several mistakes: what is wrong, then each place."""
    start(
        submit=lambda c, _: iter(
            [Error("bad_request", "2 mistakes: ...", ["tasks[0].a: b", "tasks[3].c: d"])]
        )
    )
    file = tmp_path / "tasks"
    file.write_text("[]")
    ran = run("submit", "-f", str(file))
    assert ran.code == 1
    assert ran.err == "leoronic: 2 mistakes:\n  tasks[0].a: b\n  tasks[3].c: d\n"


# waiting


def ends(ended: dict[str, Any], out: bytes = b"", err: bytes = b"") -> dict[str, Any]:
    """Answers of a node whose task ends like this."""

    def logs(command: Any, blob: bytes) -> Any:
        data = out if command.stream == "stdout" else err
        for offset in range(0, len(data), 4):
            yield Item({"offset": offset}, data[offset : offset + 4])
        yield {"task": command.id, "attempt": 1, "at_end": True}

    def wait(command: Any, blob: bytes) -> Any:
        yield Item({"id": ended["id"], "state": "running", "progress": None})
        yield {"tasks": [ended], "timed_out": False}

    return {"submit": ONE, "logs": logs, "wait": wait, "show": ended}


def test_wait_is_like_running_it(run: Run, start: Start) -> None:
    """Output to output, errors to errors, the exit code is the task's."""
    start(**ends(task(state="failed", exit_code=3), b"some output\n", b"and a problem\n"))
    ran = run("submit", "--wait", "--", "x")
    assert (ran.code, ran.out) == (3, "some output\n")
    assert ran.err == "and a problem\nleoronic: 3f2a failed: exit code 3\n"


@pytest.mark.parametrize(
    ("fields", "code", "said"),
    [
        ({}, 0, ""),
        ({"state": "failed", "exit_code": None, "signal": 9}, 137, "3f2a failed: SIGKILL"),
        ({"state": "failed", "exit_code": None, "reason": "time limit 5 s"}, 124, "time limit 5 s"),
        ({"state": "blocked", "exit_code": None, "reason": "77b1 failed"}, 1, "blocked: 77b1"),
    ],
)
def test_wait_has_the_exit_code_of_the_task(
    run: Run, start: Start, fields: dict[str, Any], code: int, said: str
) -> None:
    """128+N for a signal, 124 for its time limit, 1 and the reason if it is blocked."""
    start(**ends(task(**fields)))
    ran = run("submit", "--wait", "--", "x")
    assert code == ran.code
    assert said in ran.err


def test_wait_for_several(run: Run, start: Start) -> None:
    """Ids are printed and the first failure gives the exit code."""
    answers = ends(task())
    answers["submit"] = {"ids": ["a", "b"], "held_by": []}
    answers["wait"] = {
        "tasks": [task(id="a"), task(id="b", state="failed", exit_code=7)],
        "timed_out": False,
    }
    node = start(**answers)
    ran = run("submit", "--wait", "--json", "--", "x")
    assert ran.code == 7
    assert json.loads(ran.out)["ids"] == ["a", "b"]
    assert node.commands()[-1] == Wait(["a", "b"])


def test_wait_for_an_array(run: Run, start: Start) -> None:
    """An array has no output of its own: its id is printed, and the code of what failed."""
    array = task(count=3, elements={"succeeded": 2, "failed": 1}, state="failed", exit_code=7)
    node = start(**ends(array))
    ran = run("submit", "--wait", "--count", "3", "--", "x")
    assert (ran.code, ran.out) == (7, "3f2a\n")
    assert not [command for command in node.commands() if isinstance(command, Logs)]


# exec


def test_exec_is_like_running_it(run: Run, start: Start) -> None:
    """On one node the output is unchanged, and the exit code is the command's."""
    answers = ends(task(state="failed", exit_code=5), b"up 3 days\n", b"oh\n")
    node = start(exec={"ids": {"attic": "3f2a"}}, **answers)
    ran = run("exec", "--node", "attic", "--", "uptime", "-p")
    assert (ran.code, ran.out, ran.err) == (5, "up 3 days\n", "oh\n")
    assert Exec("uptime -p", node="attic") == node.commands()[0]


def test_exec_on_several_nodes_names_them(run: Run, start: Start) -> None:
    """Each line has its node in front, whatever pieces it came in."""
    answers = ends(task(), b"line one\nline two\nno end")
    start(exec={"ids": {"attic": "a", "barn": "b"}}, **answers)
    ran = run("exec", "--all", "--", "x")
    expected = [f"{name}: {line}" for name in ("attic", "barn") for line in
                ("line one", "line two", "no end")]  # fmt: skip
    printed = ran.out.splitlines()
    assert sorted(expected) == sorted(printed)
    # Those of one node in their order, whatever came in between.
    assert expected[:3] == [line for line in printed if line.startswith("attic")]
    found = json.loads(run("exec", "--all", "--json", "--", "x").out)
    assert found["barn"]["stdout"] == "line one\nline two\nno end"
