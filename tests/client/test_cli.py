"""The command line: what it asks of the node, what it prints, and its exit codes."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_node import NODE, STATUS, Die, Error, FakeNode, Hang, task
from ran import Ran

from leoronic.client import locate
from leoronic.client.cli import COMMANDS, main
from leoronic.core.commands import (
    Cancel,
    Drain,
    Hold,
    List,
    Redo,
    Release,
    Show,
    Stop,
    TagAdd,
    TagDel,
    TagList,
    Why,
)

Start = Callable[..., FakeNode]
Run = Callable[..., Ran]

CHANGED = {"changed": ["3f2a"], "unchanged": ["77b1"]}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("start", "ghost")])
def test_every_command_has_help(run: Run, name: str) -> None:
    """--help works for every command that the list of commands names."""
    ran = run(name, "--help")
    assert ran.code == 0
    assert f"leoronic {name}" in ran.out


def test_help_lists_every_command_and_the_exit_codes(run: Run) -> None:
    """`leoronic --help` lists all commands, `start` too."""
    ran = run("--help")
    assert ran.code == 0
    assert not [name for name in COMMANDS if f"\n  {name} " not in ran.out]
    assert "3 no node can be reached" in ran.out


@pytest.mark.parametrize("words", [[], ["submit"], ["tag"], ["tag", "add"]])
def test_help_is_what_the_option_prints(run: Run, words: list[str]) -> None:
    """`leoronic help COMMAND` is `leoronic COMMAND --help`."""
    asked, expected = run("help", *words), run(*words, "--help")
    assert (0, expected.out, "") == (asked.code, asked.out, asked.err)
    assert asked.out.startswith(" ".join(["Usage: leoronic", *words]))


def test_help_for_nothing(run: Run) -> None:
    """A mistyped command is told of as ever."""
    ran = run("help", "lits")
    assert (2, "leoronic: no such command 'lits': did you mean `leoronic list`?\n") == (
        ran.code,
        ran.err,
    )


@pytest.mark.parametrize("words", [[], ["tag"]])
def test_a_group_alone_prints_its_help(run: Run, words: list[str]) -> None:
    """Without a command a group's help comes as it is, line by line, as wrong usage."""
    ran = run(*words)
    assert (2, "") == (ran.code, ran.out)
    assert run(*words, "--help").out == ran.err


def test_a_mistyped_command(run: Run) -> None:
    """The nearest command is suggested, in one line, with exit code 2."""
    ran = run("lits")
    assert ran.code == 2
    assert ran.err == "leoronic: no such command 'lits': did you mean `leoronic list`?\n"


def test_a_mistyped_option(run: Run) -> None:
    """The command's help is named."""
    ran = run("list", "--limt", "3")
    assert ran.code == 2
    assert ran.err.startswith("leoronic: no such option")
    assert ran.err.count("\n") == 1


def test_folders_in_hints_are_quoted(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hint can be pasted into a shell, whatever the folder is called."""
    folder = tmp_path / "it's a $folder"
    monkeypatch.setenv("LEORONIC_ROOT", str(folder))
    assert f"`leoronic --root {shlex.quote(str(folder))}`" in run("list").err
    (folder / ".leoronic").mkdir(parents=True)
    assert f"`leoronic --root {shlex.quote(str(folder))}`" in run("list").err


@pytest.mark.parametrize("path", ["/srv/a-b_c.d", "/", "a b", "it's", "$x", "", "/ä", "`id`", "~"])
def test_quoting_is_the_shells(path: str) -> None:
    """As `shlex` does it, which would be too slow to import."""
    assert shlex.quote(path) == locate.quoted(path)


def test_no_node(run: Run, start: Start) -> None:
    """Nobody answers: exit code 3 and how to start one."""
    start().stop()
    ran = run("list")
    assert ran.code == 3
    assert ran.err.startswith("leoronic: no node answers in ")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("code", "expected"),
    [("not_found", 1), ("ambiguous", 1), ("disk_full", 1), ("mailbox_full", 3), ("timeout", 3)],
)
def test_refusals(run: Run, start: Start, code: str, expected: int) -> None:
    """A refusal is exit code 1, nobody to answer 3; both one line."""
    start(show=lambda c, _: iter([Error(code, "here is why")]))
    ran = run("show", "x")
    assert (expected, "leoronic: here is why\n") == (ran.code, ran.err)


@pytest.mark.parametrize(
    ("argv", "answers", "asked", "out"),
    [
        (["show", "3f"], {"show": task()}, Show("3f"), "hello world"),
        (["why", "3f"], {"why": {"id": "3f2a", "state": "held", "reasons": ["by you"]}},
         Why("3f"), "3f2a is held\n  by you\n"),
        (["cancel", "3f", "77"], {"cancel": CHANGED}, Cancel(["3f", "77"]), "3f2a cancelled\n"),
        (["hold", "3f"], {"hold": CHANGED}, Hold(["3f"]), "3f2a held\n"),
        (["release", "3f"], {"release": CHANGED}, Release(["3f"]), "3f2a released\n"),
        (["redo", "3f"], {"redo": {"ids": ["n1"]}}, Redo(["3f"]), "n1\n"),
        (["redo", "--failed"], {"redo": {"ids": ["n1"]}}, Redo(failed=True), "n1\n"),
        (["tag", "add", "gpu"], {"tagadd": {"node": "attic", "tags": ["gpu"]}},
         TagAdd("gpu"), ""),
        (["tag", "del", "gpu", "--node", "b"], {"tagdel": {"node": "b", "tags": []}},
         TagDel("gpu", "b"), ""),
        (["tag", "list"], {"taglist": {"node": "attic", "tags": ["a", "b"]}},
         TagList(), "a\nb\n"),
        (["drain", "attic", "--undo"], {"drain": NODE}, Drain("attic", True), "attic"),
        (["list", "--state", "failed", "--label", "p=1", "--limit", "5"],
         {"list": {"tasks": [task()], "more": False}},
         List(state="failed", label="p=1", limit=5), "3f2a"),
    ],
)  # fmt: skip
def test_commands(
    *, run: Run, start: Start, argv: list[str], answers: dict[str, Any], asked: Any, out: str
) -> None:
    """Each command asks for what its words say and prints the answer; --json prints the data."""
    node = start(**answers)
    ran = run(*argv)
    assert ran.code == 0, ran.err
    assert [asked] == node.commands()
    assert out in ran.out
    split = 2 if argv[0] == "tag" else 1
    ran = run(*argv[:split], "--json", *argv[split:])
    assert ran.code == 0
    assert next(iter(answers.values())) == json.loads(ran.out)


def test_what_was_left_alone_is_said(run: Run, start: Start) -> None:
    """A task that had ended already is named on the standard error; that is no failure."""
    start(cancel=CHANGED)
    ran = run("cancel", "3f2a", "77b1")
    assert (ran.code, ran.err) == (0, "leoronic: 77b1 had ended already\n")


def test_a_held_task_may_run_already(run: Run, start: Start) -> None:
    """What runs goes on; that the hold counts for its next attempt is said."""
    start(hold={"changed": ["3f2a"], "unchanged": [], "running": ["77b1"]})
    ran = run("hold", "3f2a", "77b1")
    assert (0, "3f2a held\n") == (ran.code, ran.out)
    assert ran.err == (
        "leoronic: 77b1 runs already and goes on; if it is tried again, it will be held\n"
    )


def test_why_of_a_failed_task(run: Run, start: Start) -> None:
    """The node's reasons are sentences, printed as they are."""
    reasons = ["exit code 7 (attempt 2 of 2)"]
    start(why={"id": "3f2a", "state": "failed", "reasons": reasons, "nodes": {}})
    assert run("why", "3f").out == "3f2a is failed\n  exit code 7 (attempt 2 of 2)\n"


def test_help_of_redo(run: Run) -> None:
    """What redo means for an array and its elements, and what --failed leaves out."""
    said = " ".join(run("redo", "--help").out.split())
    assert "only the elements that did not succeed run again" in said
    assert "`redo ID.N` repeats one element by itself and unblocks nothing." in said
    assert "not commands of `exec`" in said


def test_list_reads_page_after_page(run: Run, start: Start) -> None:
    """--limit 0 asks on from the last task's order until there is no more."""

    def pages(command: Any, blob: bytes) -> Any:
        last = command.before if command.before is not None else 2500
        first = max(0, last - command.limit)
        found = [task(id=f"t{n}", order=n) for n in reversed(range(first, last))]
        yield {"tasks": found, "more": first > 0}

    node = start(list=pages)
    ran = run("list", "--limit", "0", "--json")
    found = json.loads(ran.out)
    assert [f"t{n}" for n in reversed(range(2500))] == [t["id"] for t in found["tasks"]]
    assert not found["more"]
    assert [command.before for command in node.commands()] == [None, 1500, 500]


def test_several_states_are_one_list(run: Run, start: Start) -> None:
    """Tasks of several states come in one order, newest first, within the limit."""
    orders = {"waiting": [9, 4], "blocked": [], "held": [6], "running": [8]}

    def by_state(command: Any, blob: bytes) -> Any:
        found = [task(id=f"t{n}", order=n, state=command.state) for n in orders[command.state]]
        yield {"tasks": found, "more": False}

    start(list=by_state)
    ran = run("list", "--state", "live", "--limit", "3", "--json")
    found = json.loads(ran.out)
    assert ([t["id"] for t in found["tasks"]], found["more"]) == (["t9", "t8", "t6"], True)


def test_a_cut_list_says_so(run: Run, start: Start) -> None:
    """When there are more tasks than shown, the standard error tells how to see all."""
    start(list={"tasks": [task()], "more": True})
    assert "--limit 0" in run("list", "--limit", "1").err


def test_list_as_csv(run: Run, start: Start) -> None:
    """--csv prints a header and a line for each task."""
    start(list={"tasks": [task()], "more": False})
    ran = run("list", "--csv")
    assert ran.out.startswith("id,name,state,command,")
    assert ran.out.count("\n") == 2


def test_status_and_nodes(run: Run, start: Start) -> None:
    """status and nodes print what the node answers."""
    start(status=STATUS, nodes={"nodes": [NODE]})
    assert "1200 waiting" in run("status").out
    assert json.loads(run("status", "--json").out) == STATUS
    assert "attic" in run("nodes").out
    assert json.loads(run("nodes", "--json").out) == {"nodes": [NODE]}


def test_stop_returns_when_the_node_is_gone(run: Run, start: Start) -> None:
    """stop waits until the connection is closed, and then for the end of the node's process."""
    with subprocess.Popen(["sleep", "1000"]) as process:

        def stop(command: Any, blob: bytes) -> Any:
            yield {}
            process.kill()
            yield Die()

        status = {"node": STATUS["node"] | {"pid": process.pid}}
        node = start(status=status, stop=stop)
        assert run("stop", "--now").code == 0
    assert node.commands()[-1] == Stop(True)


@pytest.mark.parametrize(
    ("running", "argv", "said"),
    [
        (2, [], "leoronic: waiting for 2 running tasks (`leoronic stop --now` ends them)\n"),
        (1, [], "leoronic: waiting for 1 running task (`leoronic stop --now` ends it)\n"),
        (2, ["--now"], ""),
        (0, [], ""),
    ],
)
def test_stop_says_what_it_waits_for(
    run: Run, start: Start, running: int, argv: list[str], said: str
) -> None:
    """For what runs on this node. Also in a pipe: a long stop must not look as if it hung."""
    with subprocess.Popen(["sleep", "1000"]) as process:

        def stop(command: Any, blob: bytes) -> Any:
            yield {}
            process.kill()
            yield Die()

        of_node = STATUS["node"] | {"pid": process.pid, "running": running}
        status = {"node": of_node, "tasks": {"running": 9}}
        start(status=status, stop=stop)
        ran = run("stop", *argv)
    assert (0, said) == (ran.code, ran.err)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["list", "--json", "--csv"], "--json and --csv"),
        (["redo"], "name tasks, or give --failed"),
        (["redo", "--failed", "x"], "name tasks, or give --failed"),
        (["cancel"], "missing argument"),
        (["list", "--since", "yesterday"], "is not a time"),
        (["wait", "x", "--time-limit", "soon"], "is not a duration"),
        (["exec", "--all", "--tag", "x", "--", "id"], "say where"),
        (["exec", "--all"], "missing argument"),
        (["submit"], "no command"),
        (["submit", "--env", "A", "--", "x"], "is not NAME=VALUE"),
        (["submit", "-f", "x", "--priority", "0"], "stands alone"),
        (["submit", "-f", "/no/such/file"], "cannot read /no/such/file"),
        (["submit", "--", "a\udcffb"], "not UTF-8"),
        (["completion", "csh"], "csh"),
    ],
)
def test_wrong_usage(run: Run, start: Start, argv: list[str], message: str) -> None:
    """Wrong usage is exit code 2 and one line, and nothing is asked of the node."""
    node = start()
    ran = run(*argv)
    assert ran.code == 2
    assert message in ran.err
    assert ran.err.startswith("leoronic: ")
    assert ran.err.count("\n") == 1
    assert node.asked == []


def test_ids_complete_from_the_node(
    start: Start, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Completing an id asks the node; without one there are just no ids."""
    node = start(list={"tasks": [task(id="3f2a"), task(id="77b1")], "more": False})
    monkeypatch.setenv("_LEORONIC_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "leoronic show 3")
    monkeypatch.setenv("COMP_CWORD", "2")
    # click ends the process itself after completing.
    with pytest.raises(SystemExit):
        main([])
    assert capfd.readouterr().out == "plain,3f2a\n"
    node.stop()
    with pytest.raises(SystemExit):
        main([])
    assert capfd.readouterr().out.strip() == ""


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("job", ["job-1", "jobs/2"]),
        ("3", ["3f2a", "3x"]),
        ("", ["3f2a", "job-1", "77b1", "3x", "ab", "jobs/2"]),
        ("z", []),
    ],
)
def test_names_complete_too(
    start: Start, monkeypatch: pytest.MonkeyPatch, capfd: Any, typed: str, expected: list[str]
) -> None:
    """Names and ids that begin as typed, each once; no name that a shell would split."""
    tasks = [
        task(id="3f2a", name="job-1"),
        task(id="77b1", name="3x"),
        task(id="ab", name="job-1"),
        task(id="77b1", name="job two"),
        task(id="77b1", name="jobs/2"),
    ]
    start(list={"tasks": tasks, "more": False})
    monkeypatch.setenv("_LEORONIC_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"leoronic logs {typed}")
    monkeypatch.setenv("COMP_CWORD", "2")
    with pytest.raises(SystemExit):
        main([])
    assert [f"plain,{word}" for word in expected] == capfd.readouterr().out.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(run: Run, shell: str) -> None:
    """The script for each shell asks `leoronic` with the variable that it answers to."""
    assert "_LEORONIC_COMPLETE" in run("completion", shell).out


def test_a_node_that_hangs_is_not_a_node_that_refuses(
    start: Start, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer in time is exit code 3."""
    from leoronic.client import connection

    monkeypatch.setattr(connection.Client.__init__, "__kwdefaults__", {"timeout_s": 0.05})
    start(status=lambda c, _: iter([Hang()]))
    ran = run("status")
    assert ran.code == 3
    assert "no answer within" in ran.err


def test_start_is_the_nodes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`start` with all its options, --help too, is handed to the node in its own process."""

    class ReplacedError(Exception):
        pass

    def execv(path: str, argv: list[str]) -> None:
        raise ReplacedError(argv[1:])

    monkeypatch.setattr("os.execv", execv)
    for options in ([], ["--help"], ["--root", "/x", "--tag", "a"]):
        with pytest.raises(ReplacedError) as caught:
            run("start", *options)
        assert caught.value.args[0] == ["-P", "-m", "leoronic", "start", *options]
