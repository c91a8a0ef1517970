"""Long answers: waiting for tasks, and reading output while it is written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from leoronic.actors.cluster import Cluster
from leoronic.actors.watchers import Watchers
from leoronic.core.commands import Logs, Wait
from leoronic.core.outcome import StreamRef
from leoronic.core.run import OutputPart, ReadOutput
from leoronic.errors import BadRequest, Refused, Unavailable
from leoronic.journal.reads import AttemptRow
from leoronic.runtime.ref import ActorRef

CHUNK_BYTES = 256 * 1024
LOOK_AGAIN_S = 30.0
_ENDED = ("succeeded", "failed", "cancelled")

Item = tuple[dict[str, Any], bytes]


class Following:
    """Streams for one node. `output_dir` is where finished output lies."""

    def __init__(
        self, cluster: Cluster, watchers: Watchers, runner_host: ActorRef, output_dir: Path
    ) -> None:
        self._cluster = cluster
        self._watchers = watchers
        self._runner_host = runner_host
        self._output_dir = output_dir

    async def wait(self, command: Wait) -> AsyncIterator[Item]:
        """Items as tasks change; the last item is the result."""
        if not command.ids:
            raise BadRequest("which tasks? give at least one id")
        tasks = await self._cluster.resolve_all(command.ids)
        loop = asyncio.get_running_loop()
        deadline = None if command.time_limit is None else loop.time() + command.time_limit
        shown: dict[str, Any] = {}
        with self._watchers.subscribe(tasks) as subscription:
            while True:
                objects = await self._cluster.tasks(tasks)
                for task in objects:
                    progress = (task["state"], task.get("elements"))
                    if shown.get(task["id"]) != progress:
                        shown[task["id"]] = progress
                        yield _progress(task), b""
                if all(task["state"] in (*_ENDED, "blocked") for task in objects):
                    yield {"result": {"tasks": objects, "timed_out": False}}, b""
                    return
                left = None if deadline is None else deadline - loop.time()
                if left is not None and left <= 0:
                    yield {"result": {"tasks": objects, "timed_out": True}}, b""
                    return
                await subscription.news(LOOK_AGAIN_S if left is None else min(left, LOOK_AGAIN_S))

    async def logs(self, command: Logs) -> AsyncIterator[Item]:
        """Output from `offset` on; the last item is the result."""
        if command.stream not in ("stdout", "stderr"):
            raise BadRequest(f"{command.stream!r} is no stream: stdout or stderr")
        task = await self._cluster.resolve(command.id)
        [described] = await self._cluster.tasks([task])
        if "count" in described:
            last = described["count"] - 1
            raise Refused(f"{task} is an array: ask for an element, {task}.0 to {task}.{last}")
        attempt = command.attempt
        offset = command.offset
        with self._watchers.subscribe([task]) as subscription:
            while True:
                row = await self._attempt(task, attempt)
                if row is not None:
                    attempt = row.attempt
                    yield {"attempt": attempt}, b""
                    async for part in self._attempt_output(row, command, offset):
                        yield {"offset": part.offset}, part.data
                    offset = 0
                newer = None if row is None else await self._attempt(task, row.attempt + 1)
                [described] = await self._cluster.tasks([task])
                over = described["state"] in (*_ENDED, "blocked")
                if not command.follow or command.attempt or (over and newer is None):
                    result = {"task": task, "attempt": attempt, "at_end": over}
                    yield {"result": result}, b""
                    return
                if newer is None:
                    await subscription.news(LOOK_AGAIN_S)
                attempt = attempt + 1 if row is not None else 0

    async def _attempt(self, task: str, attempt: int) -> AttemptRow | None:
        """The attempt of that number (0: the last), or None if there is none (yet)."""
        rows: list[AttemptRow] = await self._cluster.ask(lambda reads: reads.attempts(task))
        rows = [row for row in rows if row.attempt]
        if not attempt:
            return rows[-1] if rows else None
        return next((row for row in rows if row.attempt == attempt), None)

    async def _attempt_output(
        self, row: AttemptRow, command: Logs, offset: int
    ) -> AsyncIterator[OutputPart]:
        """What one attempt printed, while it prints it if `follow`."""
        while row.ended_at is None:
            part = await self._live_part(row, command, offset)
            if part is None or not part.known:
                break  # It has ended meanwhile: the journal knows where its output is.
            if part.data:
                yield part
            offset += len(part.data)
            if part.at_end or (not part.data and not command.follow):
                return
        again = await self._attempt(row.task, row.attempt)
        assert again is not None
        async for part in self._kept_parts(again, command.stream, offset):
            yield part

    async def _live_part(self, row: AttemptRow, command: Logs, offset: int) -> OutputPart | None:
        wait_s = 20.0 if command.follow else 0.0
        question = ReadOutput(
            row.task, row.attempt, command.stream, offset, CHUNK_BYTES, wait_s=wait_s
        )
        try:
            part: OutputPart = await self._runner_host.call(question, timeout_s=wait_s + 10)
        except Unavailable:
            return None
        return part

    async def _kept_parts(
        self, row: AttemptRow, stream: str, offset: int
    ) -> AsyncIterator[OutputPart]:
        if row.outcome is None:
            # Lost: what reached the disk by then is still there.
            name = f"{row.task}.{row.attempt}.{stream}"
            ref = _whole_file(self._output_dir, name)
        else:
            ref = getattr(row.outcome, stream)
        while offset < ref.size:
            data = _read(self._output_dir, ref, offset)
            if not data:
                return
            yield OutputPart(offset, data, at_end=offset + len(data) >= ref.size)
            offset += len(data)


def _progress(task: dict[str, Any]) -> dict[str, Any]:
    item = {"id": task["id"], "state": task["state"], "progress": None}
    if "elements" in task:
        done = sum(task["elements"].get(state, 0) for state in _ENDED)
        item["progress"] = {"done": done, "count": task["count"], "elements": task["elements"]}
    return item


def _whole_file(folder: Path, name: str) -> StreamRef:
    try:
        return StreamRef(size=(folder / name).stat().st_size, file=name)
    except FileNotFoundError:
        return StreamRef()


def _read(folder: Path, ref: StreamRef, offset: int) -> bytes:
    """Bytes of a kept stream. Raises `Refused` if its file is gone."""
    size = min(CHUNK_BYTES, ref.size - offset)
    if ref.inline:
        return ref.inline[offset : offset + size]
    try:
        fd = os.open(folder / ref.file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Refused(f"the output is gone: {ref.file} was removed") from None
    try:
        return os.pread(fd, size, ref.offset + offset)
    finally:
        os.close(fd)
