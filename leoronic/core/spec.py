"""A task as the node keeps it: every door hands in text, `validate` makes this of it.

Times are seconds, sizes bytes. What is default is neither stored nor sent.
"""

from __future__ import annotations

import shlex

import msgspec

from leoronic.core.blob import FileRef
from leoronic.core.bounds import (
    Amount,
    Count,
    Cpus,
    Indexes,
    Items,
    OnLoss,
    Pids,
    Priority,
    Retries,
    Seconds,
    Size,
    When,
)


class After(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Wait for the task with this id or name: until it `succeeded`, `failed` or `ended`."""

    id: str
    when: When = "succeeded"


class TaskSpec(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What is to run, where it may run, and what to do when it does not end well.

    `command` is bash text; a list is run line by line. `cpus` may be fractional. `workdir` is
    `shared` or `private`; `on_loss` is `retry` or `hold`. `labels` given as a word has the value
    "". `count` or `items` make it an array. `files` come along, `outputs` (globs) are kept when it
    ends; `cache`: an earlier task that did the same answers for it.

    Set by the node itself: `redo_of`, `node`, `only` (the indexes that an array's elements stand
    for, if not 0, 1, 2...), `cache_key` (what tasks that do the same have in common) and
    `cached_from`.

    Collections are tuples because an empty list in every task makes the garbage
    collector walk them all: ten times the cost of the rest.
    """

    command: str | list[str]
    memory: Size = 0
    cpus: Cpus = 1.0
    storage: Size = 0
    resources: dict[str, Amount] = {}
    concurrent: bool = True
    conditions: tuple[str, ...] = ()
    workdir: str = "shared"
    after: tuple[After, ...] = ()
    name: str = ""
    id: str = ""
    labels: dict[str, str] = {}
    priority: Priority = 0
    env: dict[str, str] = {}
    stdin: str = ""
    time_limit: Seconds | None = None
    retries: Retries = 0
    retry_delay: Seconds = 1.0
    on_loss: OnLoss = "retry"
    count: Count | None = None
    items: Items | None = None
    fresh_shell: bool = False
    pids: Pids | None = None
    files: tuple[FileRef, ...] = ()
    keep_names: bool = False
    outputs: tuple[str, ...] = ()
    cache: bool = False
    redo_of: str = ""
    node: str = ""
    only: Indexes | None = None
    cache_key: str = ""
    cached_from: str = ""


_LINE_END = "\n\n"

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(TaskSpec)


def encode(spec: TaskSpec) -> bytes:
    """Compact JSON of `spec`, defaults left out; equal specs have equal text."""
    return _encoder.encode(spec)


def decode(json: bytes) -> TaskSpec:
    """The spec that `encode` wrote. Raises `msgspec.MsgspecError` on anything else."""
    return _decoder.decode(json)


def command_text(spec: TaskSpec) -> str:
    """The command as its author wrote it, lines joined: for showing and for matching."""
    return spec.command if isinstance(spec.command, str) else "\n".join(spec.command)


def bash_text(spec: TaskSpec) -> str:
    """What bash is given. A list runs in one shell and stops at the first line that fails."""
    if isinstance(spec.command, str):
        return spec.command
    return "\n".join(_line(line) for line in spec.command) + "\n"


def _line(line: str) -> str:
    # Not `eval ... || exit`: left of `||` bash ignores a `set -e` that an earlier line asked for.
    # `case` leaves $? alone, so `exit` passes on the status of the line. Comments, quotes and
    # here-documents in a line end with it, because eval sees it as a text of its own. Without the
    # two newlines, a backslash at the end of the line would swallow what follows the eval.
    return f"eval -- {shlex.quote(line + _LINE_END)}\ncase $? in 0) ;; *) exit ;; esac"


def element_count(spec: TaskSpec) -> int | None:
    """How many elements an array has; None for a task that is none."""
    if spec.only is not None:
        return len(spec.only)
    return spec.count if spec.items is None else len(spec.items)
