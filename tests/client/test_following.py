"""logs, wait and watch, also when the node dies under them and comes back."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fake_node import Die, FakeNode, Hang, Item, reborn, task
from ran import Ran

from leoronic.client import context
from leoronic.core.commands import Cancel, Logs, Wait
from leoronic.errors import NodeUnreachable

Start = Callable[..., FakeNode]
Run = Callable[..., Ran]

DATA = b"\x00\xffraw \x1b[31m bytes\r\n" * 3


def test_logs_are_raw_bytes(start: Start, capfdbinary: Any, root: Any) -> None:
    """What a task printed is written unchanged."""
    from leoronic.client.cli import main

    start(logs=lambda c, _: iter([Item({"offset": 0}, DATA), {"at_end": True}]))
    assert main(["logs", "3f2a"]) == 0
    assert capfdbinary.readouterr().out == DATA


def test_logs_ask_for_what_the_options_say(run: Run, start: Start) -> None:
    """--stderr, -f and --attempt are passed on."""
    node = start(logs={"at_end": True})
    run("logs", "x")
    run("logs", "-f", "--stderr", "x")
    run("logs", "--attempt", "2", "x")
    assert [Logs("x"), Logs("x", "stderr", True), Logs("x", attempt=2)] == node.commands()


def test_logs_as_json(run: Run, start: Start) -> None:
    """Text as text, other bytes as base64, one JSON object a line."""
    start(
        logs=lambda c, _: iter(
            [Item({"offset": 0}, b"hi\n"), Item({"offset": 3}, b"\xff"), {"at_end": True}]
        )
    )
    found = [json.loads(line) for line in run("logs", "--json", "x").out.splitlines()]
    assert (found) == [
        {"offset": 0, "text": "hi\n"},
        {"offset": 3, "base64": "/w=="},
        {"at_end": True},
    ]


def test_logs_go_on_after_a_restart(run: Run, start: Start) -> None:
    """The node dies in mid-stream; nothing is printed twice and nothing is lost."""
    whole = b"one two three"

    def logs(command: Any, blob: bytes) -> Any:
        if command.offset == 0:
            yield Item({"attempt": 1})
            yield Item({"offset": 0}, whole[:4])
            reborn(node)
            yield Die()
        yield Item({"offset": command.offset}, whole[command.offset :])
        yield {"at_end": True}

    node = start(logs=logs)
    ran = run("logs", "-f", "x")
    assert (0, whole.decode()) == (ran.code, ran.out)
    assert Logs("x", follow=True, attempt=1, offset=4) == node.commands()[-1]


def test_a_new_attempt_starts_from_its_beginning(run: Run, start: Start) -> None:
    """After a retry the offset to go on from is that of the new attempt; none is told twice."""

    def logs(command: Any, blob: bytes) -> Any:
        if command.attempt == 0 and not node.asked[1:]:
            yield Item({"attempt": 1})
            yield Item({"offset": 0}, b"first ")
            yield Item({"attempt": 2})
            yield Item({"offset": 0}, b"sec")
            reborn(node)
            yield Die()
        if command.attempt == 2:
            # As a node that was asked for one attempt: it ends with that, though one more comes.
            yield Item({"attempt": 2})
            yield Item({"offset": command.offset}, b"ond ")
            yield {"attempt": 2, "at_end": False}
        else:
            yield Item({"attempt": 2})
            yield Item({"offset": 0}, b"second ")
            yield Item({"attempt": 3})
            yield Item({"offset": 0}, b"third")
            yield {"attempt": 3, "at_end": True}

    node = start(logs=logs)
    assert run("logs", "-f", "x").out == "first second third"
    assert Logs("x", follow=True, attempt=2, offset=3) == node.commands()[1]


def test_wait_lasts_through_a_restart(run: Run, start: Start) -> None:
    """A script that waits does not notice that the node was killed and came back."""
    lives = iter([True, False])

    def wait(command: Any, blob: bytes) -> Any:
        if next(lives):
            yield Item({"id": "3f2a", "state": "running", "progress": {"done": 1, "count": 2}})
            reborn(node)
            yield Die()
        yield {"tasks": [task()], "timed_out": False}

    node = start(wait=wait)
    ran = run("wait", "3f2a")
    assert (ran.code, ran.out) == (0, "3f2a succeeded\n")


def test_wait_gives_up_when_nobody_comes_back(
    run: Run, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that stays away is exit code 3 after a while."""
    from leoronic.client import context

    monkeypatch.setattr(context.lasting, "__kwdefaults__", {"patience_s": 0.0})
    monkeypatch.setattr(context, "RECONNECT_PAUSE_S", 0.0)
    start(wait=lambda c, _: iter([Die()]))
    assert run("wait", "3f2a").code == 3


@pytest.mark.parametrize(
    ("answer", "code", "out", "err"),
    [
        ({"tasks": [task(), task(id="b", state="failed", exit_code=4)], "timed_out": False},
         4, "3f2a succeeded\nb failed: exit code 4\n", ""),
        ({"tasks": [task(state="running", exit_code=None)], "timed_out": True},
         124, "3f2a running\n", "leoronic: not ended within 5 min; "
         "they go on: wait again, or cancel them\n"),
        ({"tasks": [task(state="blocked", exit_code=None)], "timed_out": False},
         1, "3f2a blocked: needs 77b1, which failed\n", ""),
    ],
)  # fmt: skip
def test_wait(
    *, run: Run, start: Start, answer: dict[str, Any], code: int, out: str, err: str
) -> None:
    """The code of the first that failed, 124 when the time is over, why one is blocked."""
    why = {"id": "3f2a", "state": "blocked", "reasons": ["needs 77b1, which failed"]}
    node = start(wait=answer, why=why)
    ran = run("wait", "3f2a", "b", "--time-limit", "5m")
    assert (code, out, err) == (ran.code, ran.out, ran.err)
    (asked,) = [command for command in node.commands() if isinstance(command, Wait)]
    assert asked.ids == ["3f2a", "b"]
    assert asked.time_limit == pytest.approx(300, abs=5)


def change(state: str) -> Item:
    return Item(
        {"id": "3f2a", "state": state, "attempt": 1, "node": "attic", "name": "",
         "at": "2026-11-20T12:00:00Z"}
    )  # fmt: skip


def test_watch_goes_on_after_a_restart(
    run: Run, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes before and after the node's death are printed, one a line."""
    from leoronic.client.commands import live

    lives = iter(["running", "succeeded"])

    def watch(command: Any, blob: bytes) -> Any:
        state = next(lives)
        yield change(state)
        if state == "running":
            reborn(node)
        yield Die()

    node = start(watch=watch)
    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        if len(notes) == 2:
            raise NodeUnreachable("enough seen")

    monkeypatch.setattr(live, "note", note)
    ran = run("watch", "--json")
    assert [json.loads(line)["state"] for line in ran.out.splitlines()] == ["running", "succeeded"]
    assert "went away" in notes[0]


@pytest.mark.parametrize("options", [["-f"], ["-f", "--stderr"]])
def test_where_an_attempt_begins(run: Run, start: Start, options: list[str]) -> None:
    """The standard error tells of every attempt after the first; the output stays raw."""

    def logs(command: Any, blob: bytes) -> Any:
        for attempt in (1, 2, 3):
            yield Item({"attempt": attempt})
            yield Item({"offset": 0}, b"a\n")
        yield {"attempt": 3, "at_end": True}

    start(logs=logs)
    ran = run("logs", *options, "x")
    assert ran.out == "a\na\na\n"
    assert ran.err == "leoronic: attempt 2 begins\nleoronic: attempt 3 begins\n"


def test_an_attempt_begins_once(run: Run, start: Start) -> None:
    """After a restart of the node no attempt is announced again, and none that came is left out."""

    def logs(command: Any, blob: bytes) -> Any:
        if not node.asked[1:]:
            yield Item({"attempt": 1})
            yield Item({"attempt": 2})
            yield Item({"offset": 0}, b"two ")
            reborn(node)
            yield Die()
        if command.attempt == 2:
            yield Item({"attempt": 2})
            yield {"attempt": 2, "at_end": False}
        yield Item({"attempt": 3})
        yield Item({"offset": 0}, b"three")
        yield {"attempt": 3, "at_end": True}

    node = start(logs=logs)
    ran = run("logs", "-f", "x")
    assert ran.out == "two three"
    assert ran.err == "leoronic: attempt 2 begins\nleoronic: attempt 3 begins\n"


def interrupt(command: Any, blob: bytes) -> Any:
    """Ctrl-C while the command waits for its answer."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    yield Hang()


ONE = {"ids": ["3f2a"], "held_by": []}
WAYS = "`leoronic wait 3f2a`, `leoronic cancel 3f2a`"


@pytest.mark.parametrize(
    "argv",
    [
        ["submit", "--wait", "--", "x"],
        ["submit", "--wait", "--json", "--", "x"],
        ["exec", "--all", "--", "x"],
        ["wait", "3f"],
        ["logs", "-f", "3f"],
    ],
)
def test_an_interrupted_command_tells_that_the_task_goes_on(
    run: Run, start: Start, argv: list[str]
) -> None:
    """Ctrl-C ends the command with 130, not the task; how to come back is on stderr."""
    unended = task(state="running")
    node = start(
        submit=ONE, exec={"ids": {"attic": "3f2a"}}, show=unended, wait=interrupt,
        logs=interrupt if argv[0] == "logs" else lambda c, _: iter([Hang()]),
    )  # fmt: skip
    ran = run(*argv)
    assert (130, "", f"leoronic: 3f2a goes on: {WAYS}\n") == (ran.code, ran.out, ran.err)
    assert not [command for command in node.commands() if isinstance(command, Cancel)]


def test_an_interrupted_wait_for_several(run: Run, start: Start) -> None:
    """Only what has not ended goes on; of many tasks none is named."""

    def show(command: Any, blob: bytes) -> Any:
        yield task(id=command.id, state="succeeded" if command.id == "b" else "running")

    start(wait=interrupt, show=show)
    assert run("wait", "a", "b", "c").err == (
        "leoronic: a, c go on: `leoronic wait a c`, `leoronic cancel a c`\n"
    )
    assert run("wait", "b").err == ""
    assert run("wait", *"abcdef").err == (
        "leoronic: what has not ended goes on: `leoronic list --state live`, "
        "`leoronic wait ID...`, `leoronic cancel ID...`\n"
    )


def test_an_interrupted_wait_for_a_node_that_hangs(
    run: Run, start: Start, root: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was typed is named when the node does not tell; its folder too, if it was given."""
    monkeypatch.setattr(context, "INTERRUPTED_ANSWER_S", 0.05)
    start(wait=interrupt, show=lambda c, _: iter([Hang()]))
    ran = run("wait", "my job", "--root", str(root))
    where = f"--root {root} 'my job'"
    assert ran.code == 130
    assert ran.err == (
        f"leoronic: my job goes on: `leoronic wait {where}`, `leoronic cancel {where}`\n"
    )


def test_a_death_between_two_attempts(run: Run, start: Start) -> None:
    """When nothing of the new attempt has been read yet, it is read from its beginning."""

    def logs(command: Any, blob: bytes) -> Any:
        if not node.asked[1:]:
            yield Item({"attempt": 1})
            yield Item({"offset": 0}, b"first ")
            yield Item({"attempt": 2})
            reborn(node)
            yield Die()
        yield Item({"attempt": 2})
        yield Item({"offset": command.offset}, b"second"[command.offset :])
        yield {"attempt": 2, "at_end": True}

    node = start(logs=logs)
    assert run("logs", "-f", "x").out == "first second"
