"""What the commands share: their options, the client, printing, and lasting through a restart."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import orjson
from click.shell_completion import CompletionItem

from leoronic.client import locate, text
from leoronic.client.connection import Client
from leoronic.client.outcomes import ENDED
from leoronic.core import quantity
from leoronic.core.commands import List, Nodes, Show
from leoronic.errors import LeoronicError, NodeUnreachable

RECONNECT_S_MAX = 30.0
RECONNECT_PAUSE_S = 0.1
USAGE, INTERRUPTED = 2, 130
# When somebody has pressed Ctrl-C, a node that hangs must not keep the command.
INTERRUPTED_ANSWER_S = 1.0
NAMED_TASKS_MAX = 5
COMPLETION_IDS_MAX = 200
COMPLETION_S_MAX = 2.0

_COMPLETABLE = re.compile(r"[\w./@%+-]+")

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class CommandError(Exception):
    """Ends the command with `code`; the text, if any, is for a person."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


# options and arguments

root_option = click.option(
    "--root", metavar="DIR", help="The node's folder (else LEORONIC_ROOT, else upward from here)."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the data as JSON.")


def node_options(command: F) -> F:
    """--root and --json."""
    return root_option(json_option(command))


def seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Callback of an option that takes a duration: `90`, `90s`, `5m`, `1h30m`."""
    try:
        return None if value is None else quantity.duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def complete_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    """Ids and names of the node's tasks that begin as typed, with what they are."""
    try:
        with Client(ctx.params.get("root"), timeout_s=COMPLETION_S_MAX) as client:
            found = client.request(List(limit=COMPLETION_IDS_MAX))["tasks"]
    except LeoronicError:
        return []
    items: dict[str, CompletionItem] = {}
    for task in found:
        about = f"{task['state']} {text.one_line(task.get('command') or '')[:40]}"
        for word in (task["id"], task.get("name") or ""):
            # The newest task of a name is what the name means. A shell would split other names.
            if word.startswith(incomplete) and _COMPLETABLE.fullmatch(word):
                items.setdefault(word, CompletionItem(word, help=about))
    return list(items.values())


def complete_nodes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    """Names of the nodes that begin as typed, with their states."""
    return [
        CompletionItem(name, help=f"{node['state']} {node.get('address') or ''}")
        for node in _nodes(ctx)
        if (name := node["name"]).startswith(incomplete) and _COMPLETABLE.fullmatch(name)
    ]


def complete_tags(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    """Tags that nodes have and that begin as typed, with the names of those nodes."""
    holders: dict[str, list[str]] = {}
    for node in _nodes(ctx):
        for tag in node.get("tags") or []:
            holders.setdefault(tag, []).append(text.one_line(node["name"]))
    return [
        CompletionItem(tag, help=", ".join(names)[:60])
        for tag, names in sorted(holders.items())
        if tag.startswith(incomplete) and _COMPLETABLE.fullmatch(tag)
    ]


def _nodes(ctx: click.Context) -> list[dict[str, Any]]:
    try:
        with Client(ctx.params.get("root"), timeout_s=COMPLETION_S_MAX) as client:
            found: list[dict[str, Any]] = client.request(Nodes())["nodes"]
            return found
    except LeoronicError:
        return []


id_argument = click.argument("task_id", metavar="ID", shell_complete=complete_ids)
ids_argument = click.argument(
    "ids", metavar="ID...", nargs=-1, required=True, shell_complete=complete_ids
)


def here() -> str:
    """The current folder: what a person's relative paths count from. Raises `CommandError`."""
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        raise CommandError("the current folder was removed: cd to one that is there") from None


def help_if_alone(ctx: click.Context) -> int | None:
    """For a group: without a command, print its help and return the exit code of wrong usage."""
    if ctx.invoked_subcommand is not None:
        return None
    click.echo(ctx.get_help(), err=True)
    return USAGE


# printing


def say(lines: Iterable[str]) -> None:
    """Lines to the standard output."""
    for line in lines:
        print(line)


def say_json(data: Any) -> None:
    """Data to the standard output: indented for a person at a terminal, else one line."""
    options = orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0
    sys.stdout.write(orjson.dumps(data, option=options).decode() + "\n")


def note(message: str) -> None:
    """One line to the standard error that is no error."""
    sys.stdout.flush()
    print(f"leoronic: {message}", file=sys.stderr)


def colour() -> bool:
    """Whether the standard output takes colours."""
    return text.wants_colour(sys.stdout)


def width() -> int | None:
    """Cells of the terminal; None in a pipe, where nothing is to be cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


class Progress:
    """One line on a terminal's standard error that is written over; nothing elsewhere."""

    INTERVAL_S = 0.1

    def __init__(self, *, enabled: bool = True) -> None:
        self._on = enabled and sys.stderr.isatty()
        self._shown = False
        self._next = 0.0

    def show(self, line: str) -> None:
        """Replace the line, at most ten times a second."""
        now = time.monotonic()
        if self._on and now >= self._next:
            room = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{line[:room]}")
            sys.stderr.flush()
            self._shown, self._next = True, now + self.INTERVAL_S

    def clear(self) -> None:
        """Take the line away, for output or for good."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


class AwaitedTasks:
    """While a command waits for tasks: Ctrl-C says which of them go on, and how to come back.

    `ids` as somebody typed them. An interrupted command ends with 130.
    """

    def __init__(self, root: str | None, ids: Sequence[str]) -> None:
        self._root = root
        self._ids = list(ids)

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not issubclass(kind, KeyboardInterrupt):
            return
        if sys.stderr.isatty():
            sys.stderr.write("\n")  # the terminal shows ^C
        said = self._said()
        if said:
            note(said)
        raise CommandError("", INTERRUPTED)

    def _said(self) -> str:
        where = f"--root {locate.quoted(self._root)} " if self._root else ""
        if len(self._ids) > NAMED_TASKS_MAX:
            return (
                f"what has not ended goes on: `leoronic list {where}--state live`, "
                f"`leoronic wait {where}ID...`, `leoronic cancel {where}ID...`"
            )
        live = self._live()
        them = " ".join(map(locate.quoted, live))
        go = "goes on" if len(live) == 1 else "go on"
        return (
            f"{', '.join(map(text.one_line, live))} {go}: `leoronic wait {where}{them}`, "
            f"`leoronic cancel {where}{them}`"
            if live
            else ""
        )

    def _live(self) -> list[str]:
        """The full ids of those that have not ended; all as they were typed, if no node tells."""
        try:
            with Client(self._root, timeout_s=INTERRUPTED_ANSWER_S) as client:
                found = [client.request(Show(task_id)) for task_id in self._ids]
        except LeoronicError:
            return self._ids
        return [task["id"] for task in found if task["state"] not in ENDED]


# lasting through a restart


def connected(root: str | None, *, patience_s: float = RECONNECT_S_MAX) -> Iterator[Client]:
    """Clients one after the other: take the next when the last one's node went away.

    The first must connect at once; a later one is tried for `patience_s`. Raises
    `NodeUnreachable` when that has passed.
    """
    with Client(root) as client:
        yield client
        found = client.root
    while True:
        with _reconnected(found, time.monotonic() + patience_s) as client:
            yield client
        # A node that answers and goes away at once must not make this a busy loop.
        time.sleep(RECONNECT_PAUSE_S)


def _reconnected(root: str, deadline: float) -> Client:
    while True:
        try:
            return Client(root)
        except NodeUnreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(RECONNECT_PAUSE_S)


def lasting(
    root: str | None, action: Callable[[Client], T], *, patience_s: float = RECONNECT_S_MAX
) -> T:
    """`action`'s result, on new clients while the node goes away under it and comes back."""
    for client in connected(root, patience_s=patience_s):
        try:
            return action(client)
        except NodeUnreachable:
            continue
    raise AssertionError("connected() ends only by raising")
