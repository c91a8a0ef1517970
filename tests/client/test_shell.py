"""The launcher and the shell functions, run by a real bash against a fake node."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_node import NODE, TASK, FakeNode, Item, task

import leoronic.client
from leoronic.core.commands import (
    Cancel,
    Exec,
    List,
    ListFiles,
    Nodes,
    Put,
    Submit,
    TagAdd,
    TagDel,
)
from leoronic.core.validate import parse_tasks

Start = Callable[..., FakeNode]

SHELL = Path(leoronic.client.__file__).parent / "shell"
LIBRARY = SHELL.parents[2]
ONE = {"ids": ["3f2a"], "held_by": ["attic"]}

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def environment(tmp_path: Path, root: Path) -> Path:
    """The bin folder of an environment as pip makes it, scripts installed."""
    folder = tmp_path / "env" / "bin"
    folder.mkdir(parents=True)
    for name in ("leoronic", "leoronic_utilities"):
        shutil.copy(SHELL / name, folder / name)
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={LIBRARY} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (folder.parent / "pyvenv.cfg").touch()
    return folder


def bash(folder: Path, script: str, *, cwd: Path | None = None, options: str = "") -> Done:
    """Run a script with the environment's bin first on the PATH."""
    found = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        ["bash", *options.split(), "-c", script],
        env=found | {"PATH": f"{folder}:/usr/bin:/bin"},
        cwd=cwd or folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def recording(folder: Path) -> None:
    """Make the environment's Python print what it was called with."""
    (folder / "python").write_text('#!/bin/sh\necho "$LEORONIC_ROOT|$@"\n')


# the launcher


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "-m leoronic"),
        ("start", "-m leoronic start"),
        ("ghost 2", "-m leoronic.ghost 2"),
        ("start --root /x", "-m leoronic start --root /x"),
        ("start --help", "-m leoronic start --help"),
        ("--root /x --name a", "-m leoronic --root /x --name a"),
        ("--root /x", "-m leoronic --root /x"),
        ("--help", "-X utf8 -m leoronic.client --help"),
        ("--version", "-X utf8 -m leoronic.client --version"),
        ("list --root /x", "-X utf8 -m leoronic.client list --root /x"),
        ("submit -- 'a  b'", "-X utf8 -m leoronic.client submit -- a  b"),
    ],
)
def test_what_starts_a_node_and_what_asks_one(environment: Path, words: str, expected: str) -> None:
    """No word, an option or `start`: a node. Everything else is the client's."""
    recording(environment)
    done = bash(environment, f"leoronic {words}")
    assert f"-P {expected}" == done.stdout.strip().partition("|")[2]


def test_a_root_before_the_command(environment: Path) -> None:
    """`leoronic --root DIR list` asks the node in DIR instead of starting one."""
    recording(environment)
    done = bash(environment, "leoronic --root /x list --json")
    assert done.stdout == "/x|-P -X utf8 -m leoronic.client list --json\n"


def test_completion_never_starts_a_node(environment: Path) -> None:
    """Completion calls without arguments; that must reach the client."""
    recording(environment)
    done = bash(environment, "_LEORONIC_COMPLETE=bash_complete leoronic")
    assert "leoronic.client" in done.stdout


@pytest.mark.parametrize("call", ["leoronic", "bash leoronic", "{folder}/leoronic", "./leoronic"])
def test_ways_to_call_it(environment: Path, call: str) -> None:
    """By name, by `bash leoronic`, by path: each finds the Python beside it."""
    done = bash(environment, call.format(folder=environment) + " --version")
    assert (0, f"leoronic {leoronic.__version__}\n") == (done.returncode, done.stdout)


def test_bash_finds_it_on_the_path_from_anywhere(environment: Path, tmp_path: Path) -> None:
    """`bash leoronic` works in a folder that does not hold it."""
    done = bash(environment, "bash leoronic --version", cwd=tmp_path)
    assert (0, f"leoronic {leoronic.__version__}\n") == (done.returncode, done.stdout)


def test_through_a_link(environment: Path, tmp_path: Path) -> None:
    """A link on the PATH, as pipx makes it, leads to the environment's Python."""
    links = tmp_path / "links"
    links.mkdir()
    for name in ("leoronic", "leoronic_utilities"):
        (links / name).symlink_to(environment / name)
    done = bash(links, "leoronic --version", cwd=tmp_path)
    assert (0, f"leoronic {leoronic.__version__}\n") == (done.returncode, done.stdout)
    done = bash(links, "source leoronic_utilities && echo $leoronic_python", cwd=tmp_path)
    assert f"{environment}/python\n" == done.stdout


def test_no_python_that_knows_leoronic(environment: Path) -> None:
    """The error says what to do about it."""
    (environment / "python").unlink()
    for name in ("python3", "python"):
        (environment / name).write_text("#!/bin/sh\nexit 1\n")
        (environment / name).chmod(0o755)
    (environment.parent / "pyvenv.cfg").unlink()
    for script in ("leoronic list", "source leoronic_utilities; leoronic_add_task"):
        done = bash(environment, script)
        assert done.returncode == 1
        assert "pip install leoronic" in done.stderr


def test_files_here_are_not_imported(environment: Path, tmp_path: Path) -> None:
    """A folder full of tasks may hold a random.py; it is not ours to import."""
    for name in ("click.py", "json.py", "random.py", "leoronic.py"):
        (tmp_path / name).write_text("raise SystemExit('imported what was lying around')")
    done = bash(environment, "leoronic --version && leoronic list", cwd=tmp_path)
    assert (3, f"leoronic {leoronic.__version__}\n") == (done.returncode, done.stdout)


# the functions


@pytest.mark.parametrize("options", ["", "-eu", "-euo pipefail", "--posix"])
def test_add_task(environment: Path, start: Start, options: str) -> None:
    """The original's call works, also in a strict shell."""
    node = start(submit=ONE)
    script = (
        "source leoronic_utilities\n"
        'id=$(leoronic_add_task 1024 1 1024 false "" "" "echo \\"hello\\" \'world\' \\$HOME")\n'
        "echo got $id"
    )
    done = bash(environment, script, options=options)
    assert (done.stdout, done.stderr) == ("got 3f2a\n", "")
    ((_, blob),) = node.asked
    assert json.loads(blob)["command"] == "echo \"hello\" 'world' $HOME"


def test_the_example_that_task_format_prints_works(environment: Path, start: Start) -> None:
    """The last line of leoronic_task_format can be pasted as it is."""
    node = start(submit=ONE)
    done = bash(
        environment,
        'source leoronic_utilities; eval "$(leoronic_task_format | tail -n 1)"',
    )
    assert (done.returncode, done.stdout) == (0, "3f2a\n")
    ((_, blob),) = node.asked
    assert parse_tasks(blob)[0].command == "echo hello world"


def test_many_tasks(environment: Path, start: Start, tmp_path: Path) -> None:
    """From a string, a file and the standard input; nothing in a line is run."""
    node = start(submit={"ids": ["a", "b"], "held_by": []})
    lines = '1 1 0 true "" "" "echo one"\n# a comment\n1 1 0 true "" "" "touch $(touch run)"\n'
    (tmp_path / "tasks").write_text(lines)
    script = (
        "source leoronic_utilities; cd {0}\n"
        'leoronic_add_tasks_from_str "$(cat tasks)"\n'
        "leoronic_add_tasks_from_file tasks\n"
        "leoronic_add_tasks_from_file - < tasks"
    )
    done = bash(environment, script.format(tmp_path), options="-eu")
    assert (done.stdout, done.stderr) == ("a\nb\n" * 3, "")
    assert [Submit(lines=True)] * 3 == node.commands()
    assert len({blob for _, blob in node.asked}) == 1
    assert not (tmp_path / "run").exists()


def test_the_other_functions(environment: Path, start: Start) -> None:
    """Each asks for what its name says."""
    node = start(
        cancel={"changed": [], "unchanged": []},
        tagadd={},
        tagdel={},
        list={"tasks": [], "more": False},
    )
    script = (
        "source leoronic_utilities\n"
        "leoronic_del_task a; leoronic_cancel_task b\n"
        "leoronic_add_tag gpu; leoronic_del_tag gpu attic\n"
        "leoronic_get_queue"
    )
    done = bash(environment, script, options="-eu")
    assert done.stderr == ""
    assert done.stdout.startswith("id,name,state,")
    assert [Cancel(["a"]), Cancel(["b"]), TagAdd("gpu"), TagDel("gpu", "attic")] == (
        node.commands()[:4]
    )
    assert [command.state for command in node.commands()[4:] if isinstance(command, List)] == [
        "waiting",
        "blocked",
        "held",
        "running",
    ]


def test_run_on(environment: Path, start: Start) -> None:
    """leoronic_run_on and leoronic_run_on_all print what the command prints."""
    node = start(
        exec={"ids": {"attic": "a"}},
        logs=lambda c, _: iter(
            [Item({"offset": 0}, b"up\n"), {"at_end": True}]
            if c.stream == "stdout"
            else [{"at_end": True}]
        ),
        wait={"tasks": [task(state="failed", exit_code=7)], "timed_out": False},
    )
    done = bash(environment, 'source leoronic_utilities; leoronic_run_on attic "uptime | cat"')
    assert (done.returncode, done.stdout) == (7, "up\n")
    bash(environment, 'source leoronic_utilities; leoronic_run_on_all "uptime"')
    asked = [command for command in node.commands() if isinstance(command, Exec)]
    assert [Exec("uptime | cat", node="attic"), Exec("uptime", all=True)] == asked


def test_files(environment: Path, start: Start, tmp_path: Path) -> None:
    """A file to all nodes or those with a tag; all nodes' folders; files that go with tasks."""
    node = start(
        submit=ONE,
        put={"files": [], "nodes": {}},
        nodes={"nodes": [NODE], "unreached": []},
        listfiles={"entries": [], "more": False, "after": ""},
    )
    script = (
        "source leoronic_utilities\n"
        "leoronic_send_file -x; leoronic_send_file -x gpu\n"
        "leoronic_get_all_files all\n"
        "leoronic_add_task 1 1 1 true '' 'a;b' 'cat a b'"
    )
    done = bash(environment, script, cwd=tmp_path, options="-eu")
    assert ("attic: 0 files, 0 B\n3f2a\n", "") == (done.stdout, done.stderr)
    here = str(tmp_path)
    assert [
        Put(["-x"], here),
        Put(["-x"], here, tag="gpu"),
        Nodes(),
        ListFiles("n1"),
        Submit(cwd=here, progress=True),
    ] == node.commands()
    assert (tmp_path / "all" / "attic").is_dir()


@pytest.mark.parametrize(
    ("call", "code", "message"),
    [
        ("leoronic_send_file", 2, "usage: leoronic_send_file FILE [TAG]"),
        ("leoronic_get_all_files", 2, "usage: leoronic_get_all_files DIR"),
        ("leoronic_send_file x", 3, "no node answers"),
        ("leoronic_add_task 1 2 3", 2, "3 fields where 7 or 8 belong"),
        ("leoronic_add_tasks_from_str", 2, "usage: leoronic_add_tasks_from_str STR"),
        ("leoronic_add_tasks_from_file /none", 2, "cannot read /none"),
        ("leoronic_del_task", 2, "usage: leoronic_del_task ID"),
        ("leoronic_run_on attic", 2, "usage: leoronic_run_on NODE COMMAND"),
        ("leoronic_add_tag", 2, "usage"),
        ('leoronic_add_task 1 1 1 true "" "" true', 3, "no node answers"),
        ("leoronic_get_queue", 3, "no node answers"),
    ],
)
def test_errors(environment: Path, start: Start, call: str, code: int, message: str) -> None:
    """Errors are one line on the standard error, with the exit codes of the command line."""
    start().stop()
    done = bash(environment, f"source leoronic_utilities; {call}")
    assert (code, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("leoronic: ")
    assert message in done.stderr


def test_nothing_else_is_defined(environment: Path) -> None:
    """Sourcing adds only names that begin with leoronic_, and changes no option."""
    script = (
        "before=$(compgen -v; compgen -A function; set -o; shopt)\n"
        "source leoronic_utilities\n"
        "after=$(compgen -v; compgen -A function; set -o; shopt)\n"
        'diff <(echo "$before" | sort) <(echo "$after" | sort)'
    )
    added = re.findall(r"^[<>] (.*)$", bash(environment, script).stdout, re.M)
    assert [
        n for n in added if not n.startswith("leoronic_") and n not in ("before", "_", "PIPESTATUS")
    ] == []
    assert "leoronic_add_task" in added


def test_shellcheck_finds_nothing() -> None:
    """Both scripts are clean."""
    shellcheck = shutil.which("shellcheck") or Path(sys.executable).with_name("shellcheck")
    if not Path(shellcheck).exists():
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        [shellcheck, SHELL / "leoronic", SHELL / "leoronic_utilities"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""


def test_a_checkout_works_without_installing(start: Start) -> None:
    """Run from the source tree, the scripts bring the modules of that tree."""
    start(submit=ONE, list={"tasks": [TASK], "more": False})
    folder = f"{SHELL}:{Path(sys.executable).parent}"
    done = bash(
        Path(folder),
        "source leoronic_utilities && leoronic_add_task 1 1 1 true '' '' true && leoronic list",
        cwd=Path("/"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("3f2a\nID")
