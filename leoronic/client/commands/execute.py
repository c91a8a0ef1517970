"""exec: a command on nodes now, beside whatever runs there."""

from __future__ import annotations

from typing import Any

import click

from leoronic.client import text
from leoronic.client.connection import Client
from leoronic.client.context import AwaitedTasks, node_options, say_json
from leoronic.client.following import Sink, run_to_end, to_stderr, to_stdout
from leoronic.client.outcomes import exit_code, first_failure
from leoronic.client.words import bash_command
from leoronic.core.commands import Exec


@click.command("exec", context_settings={"allow_interspersed_args": False})
@node_options
@click.option("--node", default="", metavar="NODE", help="On this node.")
@click.option("--tag", default="", metavar="TAG", help="On all nodes with this tag.")
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

    With several nodes each line has the node's name in front. The exit code is that of the first
    that failed, else 0. There is no time limit. Ctrl-C ends the watching, not the command.

    \b
    leoronic exec --node attic -- uptime
    leoronic exec --all -- 'df -h . | tail -1'
    """
    if [bool(node), bool(tag), everywhere].count(True) != 1:
        raise click.UsageError(
            "say where: one of --node, --tag and --all", click.get_current_context()
        )
    with Client(root) as client:
        found = client.request(Exec(bash_command(command), node, tag, everywhere))["ids"]
    with AwaitedTasks(root, list(found.values())):
        if as_json:
            return _all_as_json(root, found)
        return first_failure(
            [
                run_to_end(root, task_id, *_sinks(name if len(found) > 1 else None))
                for name, task_id in found.items()
            ]
        )


def _sinks(name: str | None) -> tuple[Sink, Sink]:
    if name is None:
        return to_stdout, to_stderr
    prefix = f"{text.one_line(name)}: ".encode()
    return _Prefixed(prefix, to_stdout), _Prefixed(prefix, to_stderr)


class _Prefixed:
    """A sink that puts a prefix in front of every line."""

    def __init__(self, prefix: bytes, sink: Sink) -> None:
        self._prefix = prefix
        self._sink = sink
        self._at_start = True

    def __call__(self, data: bytes) -> None:
        lines = data.splitlines(keepends=True)
        starts = [self._at_start, *(line.endswith(b"\n") for line in lines)]
        self._at_start = starts.pop()
        self._sink(
            b"".join(
                self._prefix + line if start else line
                for start, line in zip(starts, lines, strict=True)
            )
        )


def _all_as_json(root: str | None, found: dict[str, str]) -> int:
    answer: dict[str, Any] = {}
    tasks = []
    for name, task_id in found.items():
        out, err = bytearray(), bytearray()
        task = run_to_end(root, task_id, out.extend, err.extend)
        tasks.append(task)
        answer[name] = {
            "id": task_id,
            "exit_code": exit_code(task),
            "stdout": out.decode(errors="replace"),
            "stderr": err.decode(errors="replace"),
        }
    say_json(answer)
    return first_failure(tasks)
