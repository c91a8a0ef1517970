"""One method for each command: the surface of `core/commands.py`, answered."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from leoronic.actors.asking import ask
from leoronic.actors.cluster import Cluster
from leoronic.actors.file_answers import FileAnswers
from leoronic.actors.file_calls import Advance
from leoronic.actors.joining import Joining
from leoronic.actors.node_answers import NodeAnswers, NodeInfo
from leoronic.actors.nodes import Nodes
from leoronic.actors.peer_commands import PeerCommand, PlaceFile, TakeCookie
from leoronic.actors.task_files import brings_files, with_files
from leoronic.core import commands
from leoronic.core.addresses import PORT, parse_address
from leoronic.core.arrays import split_element
from leoronic.core.queue_messages import Accepted, ChangedTasks, ChangeTasks, SubmitSpecs
from leoronic.core.scheduler_messages import Explain
from leoronic.core.spec import TaskSpec
from leoronic.core.validate import parse_in_slices
from leoronic.core.view import GhostMember, Member
from leoronic.errors import BadRequest, NotFound, Refused, Unavailable
from leoronic.journal.reads import Reads
from leoronic.journal.rows import TaskRow
from leoronic.runtime.ref import ActorRef

_CALL_S = 60.0
_WHY_S = 5.0
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


class Answers:
    """Short answers: a command in, a plain object out. Errors are `LeoronicError`s.

    Those about nodes are in `of_nodes`, about the cookie in `joining`, about files in `files`.
    """

    def __init__(
        self,
        info: NodeInfo,
        nodes: Nodes,
        cluster: Cluster,
        of_nodes: NodeAnswers,
        joining: Joining,
        files: FileAnswers,
        queue: ActorRef,
        scheduler: ActorRef,
        questions: ActorRef | None,
        store: ActorRef | None = None,
    ) -> None:
        self._store = store
        self._info = info
        self._nodes = nodes
        self._cluster = cluster
        self.of_nodes = of_nodes
        self.joining = joining
        self.files = files
        self._queue = queue
        self._scheduler = scheduler
        self._questions = questions
        self._reading = asyncio.Lock()

    async def here(self, command: PeerCommand) -> Any:
        """The answer to another node: of this one alone, nobody else is asked for it."""
        match command:
            case commands.TagAdd(tag) | commands.TagDel(tag):
                return await self.of_nodes.tag(type(command)(tag))
            case commands.TagList():
                return await self.of_nodes.tag_list(commands.TagList())
            case commands.Drain():
                return await self.of_nodes.drain(commands.Drain(undo=command.undo))
            case commands.Nodes():
                return {"nodes": [await self.of_nodes.node_object()]}
            case commands.Why():
                return await self._why(command.id)
            case TakeCookie():
                return await self.joining.take(command)
            case PlaceFile():
                return await self.files.place(command)
        raise BadRequest(f"{self._info.name} does not answer this: {type(command).__name__}")

    # ---- tasks ----

    async def submit(
        self, command: commands.Submit, blob: bytes, advance: Advance | None = None
    ) -> dict[str, Any]:
        """Add the tasks in `blob`, all or none. `advance` is told of files that are stored."""
        # One at a time, as they came: a small submission must not overtake a big one. One that
        # brings files may take long, and overtakes nobody.
        async with self._reading:
            specs = await _parse(command, blob)
            if not brings_files(specs):
                submitted = asyncio.ensure_future(self._submit(specs, "socket"))
                await asyncio.sleep(0)  # it is with the queue now
                specs = []
        if not specs:
            return await submitted
        folder = self._info.root / command.cwd
        specs = await with_files(self._store, specs, folder, advance)
        return await self._submit(specs, "socket")

    async def _submit(self, specs: list[TaskSpec], source: str) -> dict[str, Any]:
        accepted: Accepted = await self._queue.call(SubmitSpecs(specs, source), timeout_s=_CALL_S)
        nodes = [self._info.id(), *accepted.held_by]
        return {"ids": accepted.ids, "held_by": [self._nodes.name(node) for node in nodes]}

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
        """Why a task is where it is, and what stands in its way on each node.

        Of a task that another node places, that one is asked.
        """
        task = await self._cluster.resolve(command.id)
        live = (await self._cluster.live([task])).get(task)
        owner = live.owner if live is not None else ""
        if live is not None and live.state == "running" and live.node:
            owner = live.node  # it knows whether it has begun
        if owner in ("", self._nodes.me) or self._questions is None:
            return await self._why(task)
        try:
            told: dict[str, Any] = (
                await ask(self._questions, owner, commands.Why(task), _WHY_S)
            ).result
        except (Unavailable, NotFound) as error:
            found = await self._why(task)
            told_by = f"{self._nodes.name(owner)} can't be asked: {error.message}"
            found["reasons"] = [*found["reasons"], told_by]
            return found
        return told

    async def _why(self, task: str) -> dict[str, Any]:
        """As `why`, as far as this node knows; a full id."""
        live = (await self._cluster.live([task])).get(task)
        if live is None:
            [ended] = await self._cluster.tasks([task])
            return {"id": task, "state": ended["state"], "reasons": [_ending(ended)], "nodes": {}}
        nodes: dict[str, list[str]] = {}
        mine = live.owner in ("", self._nodes.me)
        if live.state == "waiting" and not live.reasons and mine:
            told = await self._scheduler.call(Explain(live.class_number), timeout_s=_CALL_S)
            nodes = self._with_missed(told)
        reasons = [*live.reasons, *await self.files.reasons.of(live)]
        return {"id": task, "state": live.state, "reasons": reasons, "nodes": nodes}

    def _with_missed(self, told: dict[str, list[str]]) -> dict[str, list[str]]:
        """What the scheduler says of each node, and why others are no choice."""
        found = dict(told)
        for node, member in self._nodes.everyone().items():
            if member is None or node == self._nodes.me:
                continue
            name = member.about.name
            if not member.alive or (isinstance(member, GhostMember) and not member.linked):
                why = f"{member.state}: {member.reason}" if member.reason else member.state
                found[self._nodes.name(node) if name in found else name] = [why]
            elif not member.linked:
                me = self._nodes.members()[self._nodes.me]
                why = (
                    f"no direct connection between {self._nodes.name(node)} and "
                    f"{self._nodes.name(self._nodes.me)}: open port {_port(me)}/tcp between them"
                )
                shared = f"{name} ({node})"
                found[shared if shared in found else name] = [why]
        return found

    async def splits(self, command: commands.Splits) -> dict[str, Any]:
        """What ran twice."""
        if not 1 <= command.limit <= _LIMIT_MAX:
            raise BadRequest(f"limit is 1 to {_LIMIT_MAX}")
        return {"splits": await self._cluster.splits(command.limit)}

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
        there, skipped = await self.of_nodes.targets(command)
        names = [self._nodes.name(node) for node in there]
        specs = [
            TaskSpec(
                command.command,
                cpus=0.0,
                priority=_EXEC_PRIORITY,
                labels={"exec": name},
                node=node,
            )
            for node, name in zip(there, names, strict=True)
        ]
        submitted = await self._submit(specs, "exec")
        return {"ids": dict(zip(names, submitted["ids"], strict=True)), "skipped": skipped}

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


def _port(member: Member | None) -> int:
    """Where the node listens for others."""
    addresses = member.about.addresses if member is not None else []
    return parse_address(addresses[0]).port if addresses else PORT


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
