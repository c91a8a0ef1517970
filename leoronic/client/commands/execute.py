"""exec: a command on nodes now, beside whatever runs there."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from leoronic.client import text
from leoronic.client.connection import Client
from leoronic.client.context import (
    AwaitedTasks,
    complete_nodes,
    complete_tags,
    node_options,
    note,
    say_json,
)
from leoronic.client.following import Sink, run_to_end, to_stderr, to_stdout
from leoronic.client.outcomes import exit_code, first_failure
from leoronic.client.words import bash_command
from leoronic.core.commands import Exec

UNREACHABLE = 3
FOLLOWED_MAX = 64
LINE_BYTES_MAX = 65_536


@click.command("exec", context_settings={"allow_interspersed_args": False})
@node_options
@click.option(
    "--node", default="", metavar="NODE", help="On this node.", shell_complete=complete_nodes
)
@click.option(
    "--tag",
    default="",
    metavar="TAG",
    help="On all nodes with this tag.",
    shell_complete=complete_tags,
)
@click.option("--all", "everywhere", is_flag=True, help="On all nodes.")
@click.argument("command", metavar="COMMAND...", nargs=-1, required=True)
def exec_command(
    *,
    root: str | None,
    as_json: bool,
    node: str,
    tag: str,
    everywhere: bool,
    command: tuple[str, ...],
) -> int:
    """Run a command on nodes now, without waiting for room. Prints its output.

    With --tag and --all each line has the node's name in front, and a last line on the standard
    error names the nodes where it failed. The exit code is that of the first that failed; 3 if a
    node that should have run it is down; else 0. There is no time limit.
    Ctrl-C ends the watching, not the command.

    \b
    leoronic exec --node attic -- uptime
    leoronic exec --tag scanner -- lsusb
    leoronic exec --all -- 'df -h . | tail -1'
    """
    if [bool(node), bool(tag), everywhere].count(True) != 1:
        raise click.UsageError(
            "say where: one of --node, --tag and --all", click.get_current_context()
        )
    with Client(root) as client:
        answer = client.request(Exec(bash_command(command), node, tag, everywhere))
    found: dict[str, str] = answer["ids"]
    skipped: dict[str, str] = answer.get("skipped") or {}
    failed: list[str] = []
    with AwaitedTasks(root, list(found.values())):
        if as_json:
            code = _all_as_json(root, found, skipped)
        elif node:
            code = first_failure(
                [run_to_end(root, task_id, to_stdout, to_stderr) for task_id in found.values()]
            )
        else:
            tasks = _together(found, partial(_run_prefixed, root))
            code = first_failure(tasks)
            failed = _failed(found, tasks)
    for name, why in skipped.items():
        note(f"not on {text.one_line(name)}: {text.one_line(why)}")
    if failed:
        note(f"failed on {', '.join(failed)}")
    return code or (UNREACHABLE if skipped else 0)


def _failed(found: dict[str, str], tasks: list[dict[str, Any]]) -> list[str]:
    """`attic (exit code 2)` for each node where it failed; `tasks` in the order of `found`."""
    return [
        f"{text.one_line(name)} (exit code {exit_code(task)})"
        for name, task in zip(found, tasks, strict=True)
        if exit_code(task)
    ]


def _together(
    found: dict[str, str], run: Callable[[str, str], dict[str, Any]]
) -> list[dict[str, Any]]:
    """What `run(node, task)` returns for each, in order, all at once: one that hangs delays none.

    Raises what the first of them raised.
    """
    tasks: dict[str, dict[str, Any]] = {}
    errors: dict[str, Exception] = {}
    room = threading.Semaphore(FOLLOWED_MAX)

    def follow(name: str) -> None:
        with room:
            try:
                tasks[name] = run(name, found[name])
            except Exception as error:
                errors[name] = error

    # Daemons: Ctrl-C ends the command, whatever they are waiting for.
    threads = [threading.Thread(target=follow, args=(name,), daemon=True) for name in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in found:
        if name in errors:
            raise errors[name]
    return [tasks[name] for name in found]


def _run_prefixed(root: str | None, name: str, task_id: str) -> dict[str, Any]:
    prefix = f"{text.one_line(name)}: ".encode()
    out, err = _Prefixed(prefix, to_stdout), _Prefixed(prefix, to_stderr)
    task = run_to_end(root, task_id, out, err)
    out.end()
    err.end()
    return task


class _Prefixed:
    """A sink that puts a prefix in front of every line, and hands on whole lines only.

    Lines of several nodes come in between each other, their parts must not.
    """

    def __init__(self, prefix: bytes, sink: Sink) -> None:
        self._prefix = prefix
        self._sink = sink
        self._held = b""

    def __call__(self, data: bytes) -> None:
        *lines, self._held = (self._held + data).split(b"\n")
        if len(self._held) > LINE_BYTES_MAX:
            lines.append(self._held)
            self._held = b""
        if lines:
            self._sink(b"".join(self._prefix + line + b"\n" for line in lines))

    def end(self) -> None:
        """Nothing more comes: hand on a last line that has no end."""
        if self._held:
            self(b"\n")


def _all_as_json(root: str | None, found: dict[str, str], skipped: dict[str, str]) -> int:
    answer: dict[str, Any] = {}

    def run(name: str, task_id: str) -> dict[str, Any]:
        out, err = bytearray(), bytearray()
        task = run_to_end(root, task_id, out.extend, err.extend)
        answer[name] = {
            "id": task_id,
            "exit_code": exit_code(task),
            "stdout": out.decode(errors="replace"),
            "stderr": err.decode(errors="replace"),
        }
        return task

    tasks = _together(found, run)
    say_json(
        {name: answer[name] for name in found}
        | {name: {"skipped": why} for name, why in skipped.items()}
    )
    return first_failure(tasks)
