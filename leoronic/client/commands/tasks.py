"""Looking at tasks and changing them: list, show, why, cancel, hold, release, redo."""

from __future__ import annotations

import time
from typing import Any

import click

from leoronic.client import render, text
from leoronic.client.connection import Client
from leoronic.client.context import (
    colour,
    complete_ids,
    id_argument,
    ids_argument,
    node_options,
    note,
    say,
    say_json,
    width,
)
from leoronic.core.commands import Cancel, Hold, List, Redo, Release, Show, Why

PAGE_TASKS = 1000
LIVE = ("waiting", "blocked", "held", "running")


@click.command("list")
@node_options
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([*render.STATES, "live"]),
    help="Only tasks in this state; may be repeated. `live` is all that have not ended.",
)
@click.option("--label", metavar="KEY[=VALUE]", help="Only tasks with this label.")
@click.option("--since", metavar="T", help='Only tasks added since: "2h" ago, or a time.')
@click.option(
    "--limit", type=click.IntRange(0), default=100, show_default=True, help="0 is all of them."
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, a header first.")
def list_command(
    *,
    root: str | None,
    as_json: bool,
    states: tuple[str, ...],
    label: str | None,
    since: str | None,
    limit: int,
    as_csv: bool,
) -> None:
    """List tasks, newest first.

    \b
    leoronic list
    leoronic list --state failed --since 2h
    leoronic list --label project=maps --json
    leoronic list --state live --limit 0 --csv
    """
    if as_json and as_csv:
        raise click.UsageError(
            "--json and --csv are two forms: give one", click.get_current_context()
        )
    now = time.time()
    try:
        since_s = None if since is None else text.since(since, now)
    except ValueError as error:
        raise click.UsageError(f"--since: {error}") from None
    wanted = dict.fromkeys(s for name in states for s in (LIVE if name == "live" else (name,)))
    with Client(root) as client:
        parts = [
            _pages(client, List(state=state, label=label, since=since_s), limit)
            for state in wanted or [None]
        ]
    found = [task for tasks, _ in parts for task in tasks]
    more = any(more for _, more in parts)
    if len(parts) > 1:
        found.sort(key=lambda task: task.get("order", 0), reverse=True)
        if limit and len(found) > limit:
            found, more = found[:limit], True
    if as_json:
        say_json({"tasks": found, "more": more})
    elif as_csv:
        click.echo(render.tasks_csv(found), nl=False)
    else:
        say(render.tasks(found, now, width=width(), colour=colour()))
        if more:
            note(f"only the newest {len(found)} are shown: --limit 0 for all")


def _pages(client: Client, query: List, limit: int) -> tuple[list[dict[str, Any]], bool]:
    found: list[dict[str, Any]] = []
    before: int | None = None
    while True:
        room = min(PAGE_TASKS, limit - len(found)) if limit else PAGE_TASKS
        answer = client.request(
            List(
                state=query.state,
                label=query.label,
                since=query.since,
                limit=room,
                before=before,
            )
        )
        found += answer["tasks"]
        more = bool(answer["more"])
        if not more or not answer["tasks"] or (limit and len(found) >= limit):
            return found, more
        before = answer["tasks"][-1]["order"]


@click.command("show")
@node_options
@id_argument
def show_command(root: str | None, as_json: bool, task_id: str) -> None:
    """Show everything about a task.

    \b
    leoronic show 3f2a            an id may be shortened
    leoronic show 3f2a.17         element 17 of an array
    """
    with Client(root) as client:
        found = client.request(Show(task_id))
    if as_json:
        say_json(found)
    else:
        say(render.task(found, time.time(), colour=colour()))


@click.command("why")
@node_options
@id_argument
def why_command(root: str | None, as_json: bool, task_id: str) -> None:
    """Say why a task is not running: what it waits for, and what each node lacks for it.

    \b
    leoronic why 3f2a
    """
    with Client(root) as client:
        found = client.request(Why(task_id))
    if as_json:
        say_json(found)
    else:
        say(render.why(found, colour=colour()))


def _change(
    root: str | None, as_json: bool, command: Cancel | Hold | Release, did: str, left: str
) -> None:
    with Client(root) as client:
        answer = client.request(command)
    if as_json:
        say_json(answer)
        return
    say(f"{task_id} {did}" for task_id in answer["changed"])
    for task_id in answer["unchanged"]:
        note(f"{task_id} {left}")
    for task_id in answer.get("running") or []:
        note(f"{task_id} runs already and goes on; if it is tried again, it will be held")


@click.command("cancel")
@node_options
@ids_argument
def cancel_command(root: str | None, as_json: bool, ids: tuple[str, ...]) -> None:
    """Cancel tasks. A running one gets TERM, then KILL, with everything it started.

    \b
    leoronic cancel 3f2a
    leoronic cancel 3f2a.17       one element of an array
    """
    _change(root, as_json, Cancel(list(ids)), "cancelled", "had ended already")


@click.command("hold")
@node_options
@ids_argument
def hold_command(root: str | None, as_json: bool, ids: tuple[str, ...]) -> None:
    """Keep waiting tasks from starting, until `leoronic release`.

    \b
    leoronic hold 3f2a 77b1
    """
    _change(root, as_json, Hold(list(ids)), "held", "was left as it is: only waiting tasks can be")


@click.command("release")
@node_options
@ids_argument
def release_command(root: str | None, as_json: bool, ids: tuple[str, ...]) -> None:
    """Let held tasks start.

    \b
    leoronic release 3f2a
    leoronic release $(leoronic list --state held --json | jq -r '.tasks[].id')
    """
    _change(root, as_json, Release(list(ids)), "released", "was not held")


@click.command("redo")
@node_options
@click.option(
    "--failed",
    is_flag=True,
    help="All failed tasks that were not done again since; not commands of `exec`.",
)
@click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=complete_ids)
def redo_command(root: str | None, as_json: bool, failed: bool, ids: tuple[str, ...]) -> None:
    """Run ended tasks again, as new tasks. Prints the new ids.

    What an old task blocked waits for the new one instead. Of an array, only the elements that did
    not succeed run again; what waited for the array then waits for those. `redo ID.N` repeats one
    element by itself and unblocks nothing.

    \b
    leoronic redo 3f2a
    leoronic redo --failed
    """
    if bool(ids) == failed:
        raise click.UsageError("name tasks, or give --failed", click.get_current_context())
    with Client(root) as client:
        answer = client.request(Redo(list(ids), failed))
    if as_json:
        say_json(answer)
    else:
        say(answer["ids"])
        if not answer["ids"]:
            note("nothing to do again")
