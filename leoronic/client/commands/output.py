"""What tasks print and how they end: logs, wait."""

from __future__ import annotations

import base64
from typing import Any

import click

from leoronic.client import text
from leoronic.client.connection import Client
from leoronic.client.context import (
    AwaitedTasks,
    CommandError,
    colour,
    id_argument,
    ids_argument,
    node_options,
    note,
    say,
    say_json,
    seconds,
)
from leoronic.client.following import Output, print_output, to_stdout, wait_for, why_blocked
from leoronic.client.outcomes import TIME_LIMIT_CODE, first_failure, how_it_ended
from leoronic.core.commands import Logs


@click.command("logs")
@node_options
@click.option("-f", "--follow", is_flag=True, help="Go on until the task has ended.")
@click.option("--stderr", is_flag=True, help="What it printed to its standard error.")
@click.option("--attempt", type=click.IntRange(1), help="Of an earlier attempt.")
@id_argument
def logs_command(
    *,
    root: str | None,
    as_json: bool,
    follow: bool,
    stderr: bool,
    attempt: int | None,
    task_id: str,
) -> None:
    """Print what a task printed, byte for byte.

    \b
    leoronic logs 3f2a
    leoronic logs 3f2a --stderr
    leoronic logs -f 3f2a         live, over retries; stderr tells where an attempt begins
    leoronic logs 3f2a.17         of element 17 of an array
    """
    stream = "stderr" if stderr else "stdout"
    if follow:
        with AwaitedTasks(root, [task_id]):
            _print(root, Logs(task_id, stream, True, attempt or 0), as_json)
    else:
        _print(root, Logs(task_id, stream, False, attempt or 0), as_json)


def _print(root: str | None, command: Logs, as_json: bool) -> None:
    if as_json:
        _logs_json(root, command)
    elif command.attempt:
        with Client(root) as client:
            for _, blob in client.stream(command):
                to_stdout(blob)
    else:
        output = Output(
            command.id,
            command.stream,
            to_stdout,
            follow=command.follow,
            begins=lambda attempt: note(f"attempt {attempt} begins"),
            misses=note,
        )
        print_output(root, output)


def _logs_json(root: str | None, command: Logs) -> None:
    with Client(root) as client:
        stream = client.stream(command)
        for item, blob in stream:
            say_json(item | (_printable(blob) if blob else {}))
        say_json(stream.result)


def _printable(blob: bytes) -> dict[str, str]:
    try:
        return {"text": blob.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(blob).decode()}


@click.command("wait")
@node_options
@click.option("--time-limit", callback=seconds, metavar="T", help="Give up after this long.")
@ids_argument
def wait_command(
    root: str | None, as_json: bool, time_limit: float | None, ids: tuple[str, ...]
) -> int:
    """Wait until tasks have ended. The exit code is that of the first that failed, else 0.

    A task that is blocked counts as ended: as things stand it can never start.

    \b
    leoronic wait 3f2a && echo fine
    leoronic wait 3f2a 77b1 --time-limit 5m      124 when that passes
    """
    with AwaitedTasks(root, ids):
        answer = wait_for(root, ids, time_limit)
    if as_json:
        say_json(answer)
    else:
        say(_ended(root, task) for task in answer["tasks"])
    if answer["timed_out"]:
        limit = text.duration(time_limit)
        raise CommandError(
            "" if as_json else f"not ended within {limit}; they go on: wait again, or cancel them",
            TIME_LIMIT_CODE,
        )
    return first_failure(answer["tasks"])


def _ended(root: str | None, task: dict[str, Any]) -> str:
    state = task["state"]
    reason = why_blocked(root, task) if state == "blocked" else how_it_ended(task, brief=True)
    line = f"{task['id']} {text.paint(state, state, colour())}"
    return f"{line}: {text.one_line(reason)}" if reason else line
