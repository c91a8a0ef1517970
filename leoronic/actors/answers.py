"""One method for each command: the surface of `core/commands.py`, answered."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from leoronic import __version__
from leoronic.actors.cluster import Cluster
from leoronic.actors.load import machine_load
from leoronic.core import commands, executor_messages
from leoronic.core.arrays import split_element
from leoronic.core.conditions import checked_tag
from leoronic.core.executor_messages import SetDraining, SetTag
from leoronic.core.queue_messages import Accepted, ChangedTasks, ChangeTasks, Count, SubmitSpecs
from leoronic.core.scheduler_messages import Explain
from leoronic.core.spec import TaskSpec
from leoronic.core.validate import parse_in_slices
from leoronic.errors import BadRequest, NotFound, Refused
from leoronic.journal.reads import Reads, TaskRow
from leoronic.runtime.ref import ActorRef

_CALL_S = 60.0
_LIMIT_MAX = 10_000
_REDO_MAX = 10_000
_ORDER_MAX = 1 << 63  # what the database can hold
_EXEC_PRIORITY = 1_000_000


async def _parse(command: commands.Submit, blob: bytes) -> list[TaskSpec]:
    """The tasks in `blob`; the node goes on between slices of a big one."""
    slices = parse_in_slices(blob, lines=command.lines or None)
    while True:
        try:
            next(slices)
        except StopIteration as end:
            specs: list[TaskSpec] = end.value
            return specs
        await asyncio.sleep(0)


class NodeInfo(NamedTuple):
    """What a node knows of itself. `statistics` tells of its actors, `stop` ends the node."""

    id: Callable[[], str]
    name: str
    root: Path
    started_at: float
    statistics: Callable[[], list[dict[str, Any]]]
    stop: Callable[[bool], None]
    stopping: Callable[[], bool]
    debug: bool


class Answers:
    """Short answers: a command in, a plain object out. Errors are `LeoronicError`s."""

    def __init__(
        self, info: NodeInfo, cluster: Cluster, queue: ActorRef, scheduler: ActorRef, run: ActorRef
    ) -> None:
        self._info = info
        self._cluster = cluster
        self._queue = queue
        self._scheduler = scheduler
        self._executor = run
        self._reading = asyncio.Lock()

    # ---- tasks ----

    async def submit(self, command: commands.Submit, blob: bytes) -> dict[str, Any]:
        """Add the tasks in `blob`, all or none."""
        # One at a time, as they came: a small submission must not overtake a big one.
        async with self._reading:
            specs = await _parse(command, blob)
            submitted = asyncio.ensure_future(self._submit(specs, "socket"))
            await asyncio.sleep(0)  # it is with the queue now
        return await submitted

    async def _submit(self, specs: list[TaskSpec], source: str) -> dict[str, Any]:
        accepted: Accepted = await self._queue.call(SubmitSpecs(specs, source), timeout_s=_CALL_S)
        return {"ids": accepted.ids, "held_by": [self._info.name]}

    async def show(self, command: commands.Show) -> dict[str, Any]:
        """The task object."""
        [task] = await self._cluster.tasks([await self._cluster.resolve(command.id)])
        return task

    async def list_tasks(self, command: commands.List) -> dict[str, Any]:
        """A page of tasks, newest first; fewer than the limit if they are big."""
        if command.state is not None and command.state not in _STATES:
            raise BadRequest(f"{command.state!r} is no state; states: {', '.join(_STATES)}")
        if not 1 <= command.limit <= _LIMIT_MAX:
            raise BadRequest(f"limit is 1 to {_LIMIT_MAX}; for more, ask page by page")
        if command.before is not None and not 0 <= command.before < _ORDER_MAX:
            raise BadRequest("`before` is the `order` of a task")
        tasks, more = await self._cluster.page(
            state=command.state,
            label=command.label,
            since=command.since,
            before=command.before,
            limit=command.limit,
        )
        return {"tasks": tasks, "more": more}

    async def why(self, command: commands.Why) -> dict[str, Any]:
        """Why a task is where it is, and what stands in its way on each node."""
        task = await self._cluster.resolve(command.id)
        live = (await self._cluster.live([task])).get(task)
        if live is None:
            [ended] = await self._cluster.tasks([task])
            return {"id": task, "state": ended["state"], "reasons": [_ending(ended)], "nodes": {}}
        nodes: dict[str, list[str]] = {}
        if live.state == "waiting" and not live.reasons:
            nodes = await self._scheduler.call(Explain(live.class_number), timeout_s=_CALL_S)
        return {"id": task, "state": live.state, "reasons": live.reasons, "nodes": nodes}

    async def change(self, what: str, refs: list[str]) -> dict[str, Any]:
        """Cancel, hold or release."""
        if not refs:
            raise BadRequest("which tasks? give at least one id")
        tasks = await self._cluster.resolve_all(refs)
        changed: ChangedTasks = await self._queue.call(
            ChangeTasks(what, tasks, "held by hand" if what == "hold" else ""), timeout_s=_CALL_S
        )
        found = {"changed": changed.changed, "unchanged": changed.unchanged}
        return {**found, "running": changed.running} if changed.running else found

    async def redo(self, command: commands.Redo) -> dict[str, Any]:
        """Submit ended tasks again, as new ones."""
        tasks = await self._cluster.resolve_all(command.ids)
        if command.failed:
            failed = await self._cluster.ask(_failed_tasks)
            tasks = list(dict.fromkeys([*tasks, *failed]))
        if not tasks:
            if command.failed:
                return {"ids": [], "held_by": []}
            raise BadRequest("which tasks? give at least one id, or --failed")
        specs = await self._cluster.ask(lambda reads: [_redo_spec(reads, task) for task in tasks])
        return await self._submit(specs, "redo")

    async def exec(self, command: commands.Exec) -> dict[str, Any]:
        """Run a command on nodes now, as a task pinned to each."""
        if not command.command.strip():
            raise BadRequest("which command? give it after `--`")
        node = await self._this_node(command.node)
        if command.tag and command.tag not in node["tags"]:
            raise NotFound(f"no node carries the tag {command.tag!r}; see `leoronic tag list`")
        spec = TaskSpec(
            command.command,
            cpus=0.0,
            priority=_EXEC_PRIORITY,
            labels={"exec": node["name"]},
            node=self._info.id(),
        )
        submitted = await self._submit([spec], "exec")
        return {"ids": {self._info.name: submitted["ids"][0]}}

    # ---- nodes ----

    async def status(self, _command: commands.Status) -> dict[str, Any]:
        """How this node is, in one object."""
        info = self._info
        counts = await self._queue.call(Count(), timeout_s=_CALL_S)
        about = await self._executor.call(executor_messages.Describe(), timeout_s=_CALL_S)
        return {
            "node": {
                "id": info.id(),
                "name": info.name,
                "pid": os.getpid(),
                "uptime_s": round(time.time() - info.started_at, 1),
                "version": __version__,
                "root": str(info.root),
                "inbox": str(info.root / "inbox"),
            },
            "tasks": counts,
            "nodes": {_node_state(about): 1},
            "actors": info.statistics(),
        }

    async def nodes(self, _command: commands.Nodes) -> dict[str, Any]:
        """All nodes."""
        return {"nodes": [await self._node_object()]}

    async def _node_object(self) -> dict[str, Any]:
        about = await self._executor.call(executor_messages.Describe(), timeout_s=_CALL_S)
        return {
            "id": self._info.id(),
            "name": self._info.name,
            "address": None,
            "state": _node_state(about),
            "kind": "node",
            "cpus": about["cpus"],
            "memory": about["memory"],
            "storage": about["storage"],
            "resources": about["resources"],
            "free": about["free"],
            "tags": about["tags"],
            "running": len(about["running"]),
            "version": __version__,
            "seen_s": 0.0,
            **machine_load(),
        }

    async def _this_node(self, node: str) -> dict[str, Any]:
        """The node object, if `node` names this one; else `NotFound`."""
        if node and node not in (self._info.name, self._info.id()):
            raise NotFound(f"there is no node {node!r}; this one is {self._info.name}")
        return await self._node_object()

    async def tag(self, tag: str, node: str, on: bool) -> dict[str, Any]:
        """Add or remove a tag."""
        await self._this_node(node)
        try:
            checked_tag(tag)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        tags = await self._executor.call(SetTag(tag, on), timeout_s=_CALL_S)
        return {"node": self._info.name, "tags": tags}

    async def tag_list(self, command: commands.TagList) -> dict[str, Any]:
        """The tags of a node."""
        found = await self._this_node(command.node)
        return {"node": found["name"], "tags": found["tags"]}

    async def drain(self, command: commands.Drain) -> dict[str, Any]:
        """Start nothing more here, or undo that."""
        await self._this_node(command.node)
        if command.undo and self._info.stopping():
            raise Refused("the node is stopping: start it again when it has")
        await self._executor.call(SetDraining(not command.undo), timeout_s=_CALL_S)
        return await self._node_object()

    async def stop(self, command: commands.Stop) -> dict[str, Any]:
        """Stop this node; the answer comes before the end."""
        # After the answer has left.
        asyncio.get_running_loop().call_later(0.05, self._info.stop, command.now)
        return {}

    def check_debug(self) -> None:
        """Raise `Refused` unless debugging is on."""
        if not self._info.debug:
            raise Refused("debug commands need a node started with LEORONIC_DEBUG=1")


_STATES = ("waiting", "blocked", "held", "running", "succeeded", "failed", "cancelled")


def _node_state(about: dict[str, Any]) -> str:
    return "draining" if about["draining"] else "up"


def _failed_tasks(reads: Reads) -> list[str]:
    """What failed and was not redone; what `exec` ran on a node is not to be repeated."""
    failed = [(task, reads.spec(task)) for task in reads.failed_ids(_REDO_MAX)]
    return [task for task, spec in failed if spec is not None and not spec.node]


def _ending(task: dict[str, Any]) -> str:
    """How a task ended, as a sentence: `exit code 7 (attempt 2 of 2)`."""
    if task.get("failed_elements"):
        some = ", ".join(str(index) for index in task["failed_elements"][:20])
        return f"elements failed: {some}"
    how = task["reason"] or (
        f"signal {task['signal']}" if task["signal"] else f"exit code {task['exit_code']}"
    )
    if task["state"] != "failed":
        return f"it {task['state']}" if task["state"] == "succeeded" else how
    return f"{how} (attempt {task['attempt']} of {len(task['attempts'])})"


def _redo_spec(reads: Reads, task: str) -> TaskSpec:
    """The spec that runs an ended task again; of an array, what did not succeed of it."""
    element = split_element(task)
    row: TaskRow | None = reads.task(element[0] if element else task)
    assert row is not None
    spec = msgspec.structs.replace(row.spec, id="", after=(), redo_of=task)
    if element is not None:
        if not any(attempt.final_state for attempt in reads.attempts(task)):
            raise Refused(f"{task} has not ended: it can be redone when it has")
        # It does not stand for the array, so it does not take over its name.
        only = [_original_index(row.spec, element[1])]
        return msgspec.structs.replace(spec, name="", only=only)
    if row.state is None:
        raise Refused(f"{task} has not ended: wait for it, or `leoronic cancel` it first")
    if row.elements is not None:
        left = reads.unsuccessful_elements(task)
        if left:
            only = [_original_index(row.spec, index) for index in left]
            return msgspec.structs.replace(spec, only=only)
    return spec


def _original_index(spec: TaskSpec, index: int) -> int:
    return index if spec.only is None else spec.only[index]
