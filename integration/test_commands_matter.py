"""Commands with everything in them that has ever broken a queue."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integration.conftest import StartNode
from integration.harness import Node, alive, running, wait_until
from leoronic.core.commands import Cancel
from leoronic.errors import BadRequest

MIB = 1 << 20
GIB = 1 << 30


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node for all of these."""
    with running(tmp_path_factory.mktemp("commands"), "--cpus", "8") as node:
        yield node


# What bash can hold in a variable: any text without NUL. A lone surrogate is no text.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=60)
QUOTING = st.text("ab \t\n\r'\"`$\\!*?[]{}()<>|&;#~=%^éß日🙂\x01\x7f\x1b", max_size=40)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(TEXT | QUOTING, min_size=1, max_size=12))
def test_texts_come_back(node: Node, texts: list[str]) -> None:
    """What a quoted text holds is printed byte for byte; so are stdin, env and items."""
    quoted = ["printf %s '" + text.replace("'", "'\\''") + "'" for text in texts]
    echoes = node.submit(*[{"command": command, "cpus": 0.5} for command in quoted])
    [stdin, env, items] = node.submit(
        {"command": "cat", "stdin": "\n".join(texts)},
        {"command": 'printf %s "$MINE"', "env": {"MINE": texts[0]}},
        {"command": 'printf %s "$LEORONIC_ITEM"', "items": texts, "cpus": 0.5},
    )
    ended = node.wait(*echoes, stdin, env, items)
    assert {"succeeded"} == {task["state"] for task in ended}
    expected = [text.encode() for text in texts]
    assert expected == [node.output(task) for task in echoes]
    assert "\n".join(texts).encode() == node.output(stdin)
    assert expected[0] == node.output(env)
    assert expected == [node.output(f"{items}.{index}") for index in range(len(texts))]
    assert quoted == [node.show(task)["command"] for task in echoes]


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("echo 'a'\"b\"c", b"abc\n"),
        ("echo one\necho two\n\necho three", b"one\ntwo\nthree\n"),
        ("cat <<'END'\n$HOME `x`\nEND\n", b"$HOME `x`\n"),
        ("printf '\\377\\376\\0x'", b"\xff\xfe\0x"),
        ("echo \\\n  continued", b"continued\n"),
        ("# only a comment", b""),
        ("echo a; exit 0; echo b", b"a\n"),
        ("exec echo replaced", b"replaced\n"),
        ("f() { echo in $1; }; f x", b"in x\n"),
        ("echo -n; printf ''", b""),
        ("cd /; pwd", b"/\n"),
    ],
)
def test_scripts(node: Node, command: str, printed: bytes) -> None:
    """A script means what it means to bash."""
    ended = node.run(command)
    assert ("succeeded", 0) == (ended["state"], ended["exit_code"])
    assert printed == node.output(ended["id"])


def test_lists(node: Node) -> None:
    """A list is run line by line, and stops at the first failure."""
    good, bad = node.wait(
        *node.submit(
            {"command": ["x=1", "echo $x", "cd /tmp", "pwd"]},
            {"command": ["echo one", "(exit 7)", "echo never"]},
        )
    )
    assert b"1\n/tmp\n" == node.output(good["id"])
    assert ("failed", 7) == (bad["state"], bad["exit_code"])
    assert b"one\n" == node.output(bad["id"])


@pytest.mark.parametrize("task", [{"command": "echo a\0b"}, {"command": "cat", "env": {"A": "\0"}}])
def test_nul_is_refused(node: Node, task: dict[str, object]) -> None:
    """It can be in no command, variable or text; the error says so."""
    with pytest.raises(BadRequest) as caught:
        node.submit(task)
    assert "NUL" in str(caught.value.problems or caught.value)


def test_100_000_characters(node: Node) -> None:
    """A long command is run whole, and so is one longer than the kernel takes as an argument."""
    for length in (100_000, 400_000):
        text = "x" * (length // 2 - 1) + "é" * (length // 2)
        ended = node.run(f"printf %s '{text}' | md5sum; exit 3")
        assert ("failed", 3) == (ended["state"], ended["exit_code"])

        assert hashlib.md5(text.encode()).hexdigest() in node.output(ended["id"]).decode()


def test_a_gibibyte_of_output(node: Node) -> None:
    """All of it is kept, at a good rate, in bounded memory of all processes."""
    before = node.memory()
    high = [0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            high[0] = max(high[0], node.memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        began = time.monotonic()
        ended = node.run("head -c 1G /dev/zero | tr '\\0' x; echo over >&2", within_s=60)
        took_s = time.monotonic() - began
        assert GIB == ended["stdout_bytes"]
        began = time.monotonic()
        size = 0
        for part in node.parts(ended["id"]):
            assert not part.strip(b"x")
            size += len(part)
        read_s = time.monotonic() - began
    finally:
        over.set()
        watcher.join()
    assert GIB == size
    assert took_s < 30, f"{took_s:.1f} s"
    assert read_s < 30, f"{read_s:.1f} s"
    assert high[0] < before + 64 * MIB, f"{(high[0] - before) / MIB:.0f} MiB"
    for path in (node.state / "output").glob(f"{ended['id']}*"):
        path.unlink()


def test_output_after_the_shell_has_gone(node: Node) -> None:
    """What a child prints for a while after its shell has ended is kept."""
    ended = node.run("(sleep 0.4; echo later) & echo first")
    assert "succeeded" == ended["state"]
    assert b"first\nlater\n" == node.output(ended["id"])


def test_stragglers_do_not_last(node: Node) -> None:
    """A child that outlives its shell for too long is ended and counted."""
    began = time.monotonic()
    ended = node.run("setsid sleep 300 & echo $!")
    assert time.monotonic() - began < 15
    assert "succeeded" == ended["state"]
    assert not alive(int(node.output(ended["id"])))


def test_a_child_that_ignores_term(node: Node) -> None:
    """Cancelled, its whole tree is killed after the grace, and reported as cancelled."""
    [task] = node.submit(
        "trap '' TERM INT HUP; setsid bash -c \"trap '' TERM; echo \\$\\$ > stubborn; "
        'while :; do sleep 1; done" & echo $$ > shell; while :; do sleep 1; done'
    )
    pids = [
        int(
            wait_until(
                lambda name=name: (node.root / name).exists() and (node.root / name).read_text(),
                name,
            )
        )
        for name in ("shell", "stubborn")
    ]
    node.ask(Cancel([task]))
    [ended] = node.wait(task, within_s=15)
    assert ("cancelled", "cancelled") == (ended["state"], ended["reason"])
    wait_until(lambda: not any(map(alive, pids)), "all of it is dead", within_s=10)


def test_a_fork_bomb(node: Node) -> None:
    """Under a limit of processes it harms nobody, and cancelled, it is over."""
    core, runner = node.core_pid(), node.runner_pid()
    [task] = node.submit({"command": ":() { : | : & }; :; sleep 60", "pids": 60})
    node.wait_state(task, "running")
    for _ in range(5):
        began = time.monotonic()
        assert "succeeded" == node.run({"command": "echo fine", "cpus": 1})["state"]
        assert time.monotonic() - began < 5
    node.ask(Cancel([task]))
    node.wait(task, within_s=30)
    assert (core, runner) == (node.core_pid(), node.runner_pid())

    def left() -> list[str]:
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and task.encode() in (entry / "environ").read_bytes():
                    found.append(entry.name)
        return [pid for pid in found if alive(int(pid))]

    wait_until(lambda: not left(), "nothing of it is left")


def test_ways_to_end(node: Node) -> None:
    """Exit codes, signals and kills of its own are told as they were."""
    commands = ["exit 255", "kill -9 $$", "kill -TERM $$", "kill 0", "false", "no-such-command-x"]
    ended = node.wait(*node.submit(*commands))
    assert [(255, None), (None, 9), (None, 15), (None, 15), (1, None), (127, None)] == [
        (task["exit_code"], task["signal"]) for task in ended
    ]


def test_many_big_tasks_at_once(start_node: StartNode) -> None:
    """Tasks that together outgrow a frame are sent apart; the node goes on."""
    node = start_node()
    big = "x" * 1_000_000
    task = {"command": "wc -c", "stdin": big, "cpus": 0.05}
    tasks = [id for _ in range(2) for id in node.submit(*[task] * 12)]
    assert ["succeeded"] * 24 == [task["state"] for task in node.wait(*tasks)]
    assert b"1000000\n" == node.output(tasks[-1])
