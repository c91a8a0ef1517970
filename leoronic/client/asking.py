"""Every command of the contract as a method, for both clients.

Results are those that `leoronic.core.commands` describes, and `--json` prints. With `AsyncClient`
each of these is to be awaited.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import orjson

from leoronic.core import commands
from leoronic.core.commands import Command
from leoronic.errors import BadRequest

Task = str | Mapping[str, Any]
"""A command, or the fields of a task."""


def tasks_blob(tasks: tuple[Task, ...], fields: Mapping[str, Any]) -> bytes:
    """The JSON of `tasks`, each with `fields` where it has none of its own.

    Raises `BadRequest` for what JSON cannot hold.
    """
    objects = [
        {**fields, **({"command": task} if isinstance(task, str) else task)} for task in tasks
    ]
    try:
        return orjson.dumps(objects)
    except (orjson.JSONEncodeError, TypeError) as error:
        raise BadRequest(f"a task cannot be written as JSON: {error}") from None


class Asking(ABC):
    """What a client asks, one method a command. Ids may be shortened, as everywhere."""

    @abstractmethod
    def request(self, command: Command, blob: bytes = b"") -> Any:
        """Ask and wait for the result."""

    @abstractmethod
    def finish(self, command: Command, blob: bytes = b"") -> Any:
        """Ask, leave out all that comes before the result, and wait for that as long as it takes.

        Raises what the node answered, or `NodeUnreachable`.
        """

    # ---- tasks ----

    def submit(self, *tasks: Task, cwd: str | None = None, **fields: Any) -> Any:
        """Add tasks: {"ids": [...], "held_by": [node names]}. All of them, or none.

        A task is a command, or a mapping with fields of the contract; `fields` are for each that
        does not say otherwise. Paths in `files` count from `cwd` (else from the current folder).
        """
        blob = tasks_blob(tasks, fields)
        if "files" in fields or any("files" in task for task in tasks if isinstance(task, Mapping)):
            folder = os.path.abspath(cwd or ".")  # noqa: PTH100 - as the command line does
            return self.finish(commands.Submit(cwd=folder, progress=True), blob)
        return self.request(commands.Submit(), blob)

    def show(self, task_id: str) -> Any:
        """The task object."""
        return self.request(commands.Show(task_id))

    def why(self, task_id: str) -> Any:
        """Why it is not running: {"id", "state", "reasons", "nodes"}."""
        return self.request(commands.Why(task_id))

    def tasks(
        self,
        *,
        state: str | None = None,
        label: str | None = None,
        since: float | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> Any:
        """The newest tasks (`leoronic list`): {"tasks": [task objects], "more"}."""
        return self.request(commands.List(state, label, since, limit, before))

    def wait(self, *ids: str, time_limit_s: float | None = None) -> Any:
        """Until all have ended or are blocked: {"tasks": [task objects], "timed_out"}."""
        return self.finish(commands.Wait(list(ids), time_limit_s))

    def cancel(self, *ids: str) -> Any:
        """End them, running ones too: {"changed": [ids], "unchanged": [ids]}."""
        return self.request(commands.Cancel(list(ids)))

    def hold(self, *ids: str) -> Any:
        """Keep waiting ones from starting. The result is as that of `cancel`."""
        return self.request(commands.Hold(list(ids)))

    def release(self, *ids: str) -> Any:
        """Let held ones start. The result is as that of `cancel`."""
        return self.request(commands.Release(list(ids)))

    def redo(self, *ids: str, failed: bool = False) -> Any:
        """Run ended ones, or all that failed, again as new tasks: {"ids"}."""
        return self.request(commands.Redo(list(ids), failed))

    def splits(self, limit: int = 100) -> Any:
        """What ran twice because nodes lost sight of each other: {"splits"}."""
        return self.request(commands.Splits(limit))

    # ---- nodes ----

    def status(self) -> Any:
        """The node that is asked, its actors, and how many tasks and nodes there are."""
        return self.request(commands.Status())

    def nodes(self) -> Any:
        """All nodes: {"nodes": [node objects], "unreached"}."""
        return self.request(commands.Nodes())

    def tag_add(self, tag: str, node: str = "") -> Any:
        """Give a node a tag: {"node", "tags"}."""
        return self.request(commands.TagAdd(tag, node))

    def tag_del(self, tag: str, node: str = "") -> Any:
        """Take it away: {"node", "tags"}."""
        return self.request(commands.TagDel(tag, node))

    def tag_list(self, node: str = "") -> Any:
        """{"node", "tags"}."""
        return self.request(commands.TagList(node))

    def drain(self, node: str = "", *, undo: bool = False) -> Any:
        """Start nothing more there: the node object."""
        return self.request(commands.Drain(node, undo))

    def stop(self, *, now: bool = False) -> Any:
        """Drain the node that is asked, then stop it; with `now` its tasks are ended."""
        return self.request(commands.Stop(now))

    def join(self, *, ghost: bool = False) -> Any:
        """How to bring another machine in: {"addresses", "cookie" or "token", "line"}."""
        return self.request(commands.Join(ghost))

    def cookie(self, action: str = "show") -> Any:
        """The secret of the cluster: `show`, `rotate` or `finish`."""
        return self.request(commands.Cookie(action))

    def execute(self, command: str, *, node: str = "", tag: str = "", all: bool = False) -> Any:
        """Run a command on nodes now (`leoronic exec`): {"ids": {node: task id}, "skipped"}."""
        return self.request(commands.Exec(command, node, tag, all))

    # ---- files ----

    def put(self, *files: str, name: str = "", node: str = "", tag: str = "") -> Any:
        """Copy files into nodes' working directories: {"files", "nodes"}. Paths as in `submit`."""
        here = os.path.abspath(".")  # noqa: PTH100
        return self.finish(commands.Put(list(files), here, name, node, tag))

    def left(self, task_id: str) -> Any:
        """The files that a task left: {"task", "attempt", "files", "problems"}."""
        return self.finish(commands.Get(task_id))

    @abstractmethod
    def get(self, task_id: str, folder: str = ".", *, replace: bool = False) -> Any:
        """Bring the files that a task left into `folder`: as `left`, and "there": [their paths].

        Of files that differ from those that are there, the latter stay, unless `replace`.
        """

    @abstractmethod
    def collect(self, folder: str) -> Any:
        """Bring all nodes' working directories to `folder`/NODE: {"nodes": {name: counts}}."""
