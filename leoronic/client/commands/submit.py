"""submit: one task or an array from options, or a file of tasks."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import orjson

from leoronic.client import upload, words
from leoronic.client.bars import Bars
from leoronic.client.connection import Client
from leoronic.client.context import (
    AwaitedTasks,
    Progress,
    complete_ids,
    node_options,
    note,
    say,
    say_json,
)
from leoronic.client.following import run_to_end, to_stderr, to_stdout, wait_for, why_blocked
from leoronic.client.outcomes import first_failure, how_it_ended
from leoronic.core.commands import Show, Submit, Why
from leoronic.errors import BadRequest, LeoronicError

QUANTITIES = ("memory", "cpus", "storage", "time_limit", "retry_delay")
WHY_S_MAX = 2.0
_OUTPUT_HELP = (
    "Keep the files that it leaves there: *, ? and [..] within a name, **/ any folders, DIR/** all "
    "below DIR; names with a dot first only if the GLOB has it. In the shared folder only what "
    "changed since it began: better with --workdir private."
)


@click.command("submit", context_settings={"allow_interspersed_args": False})
@node_options
@click.option(
    "-f", "tasks_file", metavar="FILE", help="Tasks from a file; - is stdin.", type=click.Path()
)
@click.option("--wait", is_flag=True, help="Wait for the end; shows one task's output.")
@click.option("--name", help="A name, also for others' --after.")
@click.option("--id", "id", metavar="ID", help="An id of your own: submitting twice is harmless.")
@click.option("--memory", metavar="SIZE", help="Memory that must be free: 512M, 2GiB.")
@click.option("--cpus", metavar="N", help="Processors that must be free; 0.5 is allowed. [1]")
@click.option("--storage", metavar="SIZE", help="Disk space that must be free.")
@click.option("--resource", "resources", multiple=True, metavar="NAME=N", help="As gpu=1.")
@click.option("--exclusive", is_flag=True, help="Have the node to itself.")
@click.option("--condition", "conditions", multiple=True, metavar="TEXT", help="All must hold.")
@click.option(
    "--after",
    multiple=True,
    metavar="ID[:WHEN]",
    shell_complete=complete_ids,
    help="Start once it has succeeded (or: :failed, :ended). An id or a name.",
)
@click.option("--label", "labels", multiple=True, metavar="KEY[=VALUE]", help="For `list --label`.")
@click.option("--priority", type=int, metavar="N", help="Higher goes first. [0]")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="Added to its environment.")
@click.option("--stdin", metavar="TEXT", help="Its standard input.")
@click.option("--stdin-file", metavar="FILE", help="Its standard input, from a file; - is stdin.")
@click.option("--time-limit", metavar="T", help="End it after this long: 90s, 5m.")
@click.option("--retries", type=int, metavar="N", help="Try again when it fails. [0]")
@click.option("--retry-delay", metavar="T", help="Wait before that. [1s]")
@click.option(
    "--on-loss",
    type=click.Choice(["retry", "hold"]),
    help="When the node that runs it is lost: run it again, or hold it. [retry] "
    "Losses do not count against --retries.",
)
@click.option("--workdir", type=click.Choice(["shared", "private"]), help="A folder of its own.")
@click.option(
    "--file",
    "files",
    multiple=True,
    metavar="PATH",
    type=click.Path(),
    help="A file that goes with it, from here. Each whole word of the command that is this path is "
    "replaced; for names that the command builds, use --keep-names. "
    "Or task:ID/PATH, which another task leaves.",
)
@click.option("--keep-names", is_flag=True, help="Run it in a folder with its files as named.")
@click.option("--output", "outputs", multiple=True, metavar="GLOB", help=_OUTPUT_HELP)
@click.option("--cache", is_flag=True, help="Answer from an equal task that succeeded, if any.")
@click.option("--count", type=int, metavar="N", help="An array of N: LEORONIC_INDEX is 0 to N-1.")
@click.option("--item", "items", multiple=True, metavar="TEXT", help="An array of LEORONIC_ITEM.")
@click.option("--items", "items_file", metavar="FILE", help="As --item, one a line; - is stdin.")
@click.option("--pids", type=int, metavar="N", help="At most so many processes at once.")
@click.option("--fresh-shell", is_flag=True, help="A bash of its own, not a warm one.")
@click.argument("command", metavar="[-- COMMAND...]", nargs=-1)
def submit_command(
    *,
    root: str | None,
    as_json: bool,
    tasks_file: str | None,
    wait: bool,
    command: tuple[str, ...],
    **options: Any,
) -> int:
    """Add a task, an array of tasks, or a file of tasks. Prints the ids, once all are on disk.

    Runs in the node's folder (ROOT), not in yours; write paths from there. What a command leaves
    running is ended when it ends.

    --wait prints the output of a single task. Of an array, and of several tasks, it prints only the
    ids: `leoronic logs ID.INDEX` shows the output of an element.

    One word after -- is bash text as it stands. Several words run as the command you typed: each
    stays one word, with its spaces, quotes and dollars.

    \b
    leoronic submit -- echo hello
    leoronic submit -- 'for i in 1 2 3; do echo $i; done | sort -r'
    leoronic submit -- grep -c 'two words' my\\ file.txt
    leoronic submit --memory 512M --cpus 0.5 --time-limit 5m -- ./work
    leoronic submit --count 200 -- 'echo element $LEORONIC_INDEX'
    leoronic submit --name last --after 3f2a --after 77b1:ended -- ./collect
    leoronic submit --wait -- make -C project         its output and exit code

    Files that it needs go with it, those that it leaves are kept: `leoronic get ID`.

    \b
    leoronic submit --file plot --file a.csv --workdir private --output '*.png' -- ./plot a.csv
    leoronic submit --file task:3f2a/out/a.png -- 'identify task:3f2a/out/a.png'

    A file holds one task as JSON, an array, JSON lines, or {"defaults": {...}, "tasks": [...]}.
    It is accepted whole or refused whole. JSON lines over 16 MiB go in parts, each of them whole.

    \b
    leoronic submit -f tasks.jsonl
    generate | leoronic submit -f -
    """
    if tasks_file is not None:
        if command or any(map(_is_given, options.values())):
            raise click.UsageError(
                "-f FILE stands alone: options of its tasks go in the file, in each task "
                'or under "defaults". To send a file along with a task: --file'
            )
        with _uncertain():
            answer = _submit_file(root, tasks_file)
    else:
        task = _task(command, options)
        try:
            blob = orjson.dumps(task)
        except orjson.JSONEncodeError:
            raise click.UsageError(
                "the task is not UTF-8: write its command to a script, and run that"
            ) from None
        with Client(root) as client:
            with _uncertain():
                answer = _submit(client, blob, options["after"], brings="files" in task)
            if not wait and not as_json:
                say(answer["ids"])
                sys.stdout.flush()
                _tell_if_blocked(client, answer["ids"][0])
                return 0
    ids = answer["ids"]
    if wait:
        with AwaitedTasks(root, ids):
            return _wait(root, ids, answer.get("held_by"), as_json)
    if as_json:
        single = {"id": ids[0], "held_by": answer.get("held_by")}
        say_json(single if len(ids) == 1 and tasks_file is None else answer)
    else:
        say(ids)
    return 0


@contextlib.contextmanager
def _uncertain() -> Iterator[None]:
    """Ctrl-C before the ids are there: say what is known."""
    try:
        yield
    except KeyboardInterrupt:
        note(
            "no id was printed, so most likely nothing was submitted: see `leoronic list`, "
            "or do it again with --id (in a file: `id`), which submits it once at most"
        )
        raise


def _submit(client: Client, blob: bytes, after: tuple[str, ...], *, brings: bool) -> dict[str, Any]:
    try:
        if brings:
            with Bars() as bars:
                return upload.with_files(client, blob, bars)
        answer: dict[str, Any] = client.request(Submit(), blob)
    except BadRequest as error:
        error.problems = [words.after_explained(problem, after) for problem in error.problems]
        raise
    return answer


def _tell_if_blocked(client: Client, task_id: str) -> None:
    """To the standard error, if no node could ever run the task. The task is added all the same."""
    try:
        number = client.send(Why(task_id))
        answer = client.next_answer({number}, time.monotonic() + WHY_S_MAX)
        found = answer.result() if answer else {}
    except LeoronicError:
        return
    if found.get("state") == "blocked":
        note(f"{task_id} is blocked: {'; '.join(found['reasons'])}")


def _is_given(value: Any) -> bool:
    # Not `in (None, False, ())`: 0 equals False, and `--priority 0` is given.
    return value is not None and value is not False and value != ()


def _task(command: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """The task that the options describe: only the fields that were given."""
    if not command or not any(word.strip() for word in command):
        raise click.UsageError(
            "no command: write it after --, as in `leoronic submit -- echo hello`, "
            "or name a file with -f"
        )
    task: dict[str, Any] = {"command": words.bash_command(command)}
    task |= {
        name: words.quantity(value) if name in QUANTITIES else value
        for name, value in options.items()
        if _is_given(value) and name not in _TRANSLATED
    }
    try:
        if options["resources"]:
            task["resources"] = {
                name: words.quantity(count)
                for name, count in words.pairs(options["resources"], "NAME=N").items()
            }
        if options["env"]:
            task["env"] = words.pairs(options["env"], "NAME=VALUE")
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if options["exclusive"]:
        task["concurrent"] = False
    if options["labels"]:
        task["labels"] = dict(map(words.label, options["labels"]))
    if options["conditions"]:
        task["conditions"] = list(options["conditions"])
    if options["files"]:
        task["files"] = list(options["files"])
    if options["outputs"]:
        task["outputs"] = list(options["outputs"])
    if options["after"]:
        task["after"] = list(map(words.after, options["after"]))
    return task | _streams(options)


_TRANSLATED = {
    "resources", "env", "exclusive", "labels", "conditions", "after", "items", "items_file",
    "stdin", "stdin_file", "files", "outputs",
}  # fmt: skip


def _streams(options: dict[str, Any]) -> dict[str, Any]:
    """`stdin` and `items`, which may come from files."""
    found: dict[str, Any] = {}
    for field, given, file in (
        ("stdin", options["stdin"], options["stdin_file"]),
        ("items", options["items"] or None, options["items_file"]),
    ):
        if given is not None and file is not None:
            raise click.UsageError(f"{field} is given twice")
        if given is not None:
            found[field] = list(given) if field == "items" else given
        elif file is not None:
            content = _read_text(file)
            found[field] = content.splitlines() if field == "items" else content
    return found


def _read_text(file: str) -> str:
    try:
        return sys.stdin.buffer.read().decode() if file == "-" else Path(file).read_bytes().decode()
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} is not UTF-8 (byte {error.start})") from None


def _submit_file(root: str | None, file: str) -> dict[str, Any]:
    progress = Progress()
    try:
        with click.open_file(file, "rb") as source, Client(root) as client, Bars() as bars:
            return upload.submit(client, source, progress.show, bars)
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror}") from None
    finally:
        progress.clear()


def _wait(root: str | None, ids: list[str], held_by: Any, as_json: bool) -> int:
    with Client(root) as client:
        # The output of an array is that of its elements; there may be a million.
        single = len(ids) == 1 and "count" not in client.request(Show(ids[0]))
    if as_json or not single:
        tasks = wait_for(root, ids)["tasks"]
        if as_json:
            named = {"id": ids[0]} if len(ids) == 1 else {"ids": ids}
            say_json(named | {"held_by": held_by, "tasks": tasks})
        else:
            say(ids)
    else:
        tasks = [run_to_end(root, ids[0], to_stdout, to_stderr)]
    if not as_json:
        for task in tasks:
            _explain(root, task)
    return first_failure(tasks)


def _explain(root: str | None, task: dict[str, Any]) -> None:
    """To the standard error, what the task's own output cannot say."""
    if task["state"] == "blocked":
        note(f"{task['id']} is blocked: {why_blocked(root, task)}")
    elif task["state"] != "succeeded":
        note(f"{task['id']} {task['state']}: {how_it_ended(task) or 'see `leoronic show`'}")
