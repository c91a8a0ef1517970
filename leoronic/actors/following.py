"""Long answers: waiting for tasks, and reading output while it is written."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

from leoronic.actors.cluster import Cluster
from leoronic.actors.watchers import Subscription, Watchers
from leoronic.core.commands import Logs, Wait
from leoronic.core.outcome import StreamRef
from leoronic.core.run import OutputPart, ReadOutput
from leoronic.errors import BadRequest, NotFound, Refused, Unavailable
from leoronic.journal.reads import AttemptRow
from leoronic.runtime.ref import ActorRef

CHUNK_BYTES = 256 * 1024
LOOK_AGAIN_S = 30.0
ARRAY_PAUSE_S = 0.1
UNKNOWN_PAUSE_S = 0.05
OFFSET_MAX = 1 << 53
WAIT_IDS_MAX = 1000
# A connection to the runner carries all that is read of running tasks: only so many ask at once.
LIVE_READS_MAX = 8
# Who waits for output gets so much of what comes, and asks for the rest: all may be woken at once.
WAITED_BYTES = 4096
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
        self._live_reads = asyncio.Semaphore(LIVE_READS_MAX)

    async def wait(self, command: Wait) -> AsyncIterator[Item]:
        """Items as tasks change; the last item is the result."""
        if not command.ids:
            raise BadRequest("which tasks? give at least one id")
        if len(command.ids) > WAIT_IDS_MAX:
            raise BadRequest(
                f"{len(command.ids)} ids are too many for one request: at most {WAIT_IDS_MAX}"
            )
        tasks = await self._cluster.resolve_all(command.ids)
        loop = asyncio.get_running_loop()
        deadline = None if command.time_limit is None else loop.time() + command.time_limit
        known: dict[str, dict[str, Any]] = {}
        waiting = dict.fromkeys(tasks)
        changed = tasks
        with self._watchers.subscribe(tasks) as subscription:
            while True:
                for task in await self._cluster.tasks(changed):
                    if _progress(task) != _progress(known.get(task["id"], {})):
                        yield _progress(task), b""
                    known[task["id"]] = task
                    if task["state"] in (*_ENDED, "blocked"):
                        waiting.pop(task["id"], None)
                    else:
                        waiting[task["id"]] = None
                left = None if deadline is None else deadline - loop.time()
                timed_out = left is not None and left <= 0
                if not waiting or timed_out:
                    found = [known[task] for task in tasks]
                    yield {"result": {"tasks": found, "timed_out": bool(waiting)}}, b""
                    return
                changed = await self._changed(subscription, known, left)

    async def _changed(
        self, subscription: Subscription, known: dict[str, dict[str, Any]], left_s: float | None
    ) -> list[str]:
        """Wait for changes, and name the tasks to look at again; all, if some went unseen."""
        wait_s = LOOK_AGAIN_S if left_s is None else min(left_s, LOOK_AGAIN_S)
        changes = await subscription.news(wait_s)
        if subscription.missed or not changes:
            subscription.missed = False
            return list(known)
        tasks = dict.fromkeys(task_of(change.id, known) for change in changes)
        if any("count" in known[task] for task in tasks):
            # An array tells of every element: look at it now and then, not for each.
            await asyncio.sleep(ARRAY_PAUSE_S)
        return list(tasks)

    async def logs(self, command: Logs, large: asyncio.Lock) -> AsyncIterator[Item]:
        """Output from `offset` on; the last item is the result.

        `large` is held from before a chunk is read until it was taken and the next is asked for.
        """
        if command.stream not in ("stdout", "stderr"):
            raise BadRequest(f"{command.stream!r} is no stream: stdout or stderr")
        if not 0 <= command.offset <= OFFSET_MAX:
            raise BadRequest(f"an offset is a number of bytes, 0 or more, not {command.offset}")
        task = await self._cluster.resolve(command.id)
        [described] = await self._cluster.tasks([task])
        if "count" in described:
            last = described["count"] - 1
            raise Refused(f"{task} is an array: ask for an element, {task}.0 to {task}.{last}")
        wanted, last = command.attempt, 0
        offset = command.offset
        with self._watchers.subscribe([task]) as subscription:
            while True:
                # First the state, then the attempts: what ends in between is read next time round.
                [described] = await self._cluster.tasks([task])
                over = described["state"] in (*_ENDED, "blocked")
                row = await self._attempt(task, wanted)
                if row is None and command.attempt:
                    raise NotFound(f"{task} had {described['attempt']} attempts, no more")
                if row is not None:
                    last, wanted = row.attempt, row.attempt + 1
                    yield {"attempt": last}, b""
                    async for part in self._attempt_output(
                        row, command, offset, subscription, large
                    ):
                        yield {"offset": part.offset}, part.data
                    offset = 0
                if not command.follow or command.attempt or (over and row is None):
                    yield {"result": {"task": task, "attempt": last, "at_end": over}}, b""
                    return
                if row is None:
                    await subscription.news(LOOK_AGAIN_S)

    async def _attempt(self, task: str, attempt: int) -> AttemptRow | None:
        """The attempt of that number (0: the last), or None if there is none (yet)."""
        rows: list[AttemptRow] = await self._cluster.ask(lambda reads: reads.attempts(task))
        rows = [row for row in rows if row.attempt]
        if not attempt:
            return rows[-1] if rows else None
        return next((row for row in rows if row.attempt == attempt), None)

    async def _attempt_output(
        self,
        row: AttemptRow,
        command: Logs,
        offset: int,
        news: Subscription,
        large: asyncio.Lock,
    ) -> AsyncIterator[OutputPart]:
        """What one attempt printed, while it prints it if `follow`."""
        patient = False
        while row.ended_at is None:
            async with contextlib.nullcontext() if patient else large:
                part = await self._live_part(row, command, offset, patient=patient)
                if part is not None and part.data:
                    yield part
            if part is None or not part.known:
                # Written down as started, but its process is not there yet; or it has ended.
                row = await self._known_attempt(row)
                if row.ended_at is None:
                    if not command.follow:
                        break
                    await news.news(UNKNOWN_PAUSE_S)
                continue
            offset += len(part.data)
            # Less than there may be: that was all there is by now.
            patient = command.follow and len(part.data) < (WAITED_BYTES if patient else CHUNK_BYTES)
            if part.at_end or (not part.data and not command.follow):
                return
        row = await self._known_attempt(row)
        async for part in self._kept_parts(row, command.stream, offset, large):
            yield part

    async def _known_attempt(self, row: AttemptRow) -> AttemptRow:
        again = await self._attempt(row.task, row.attempt)
        assert again is not None
        return again

    async def _live_part(
        self, row: AttemptRow, command: Logs, offset: int, *, patient: bool
    ) -> OutputPart | None:
        """What a running attempt has printed; None if the runner can't be asked.

        `patient`: wait for it if there is nothing, and get only `WAITED_BYTES` of it.
        """
        limit, wait_s = (WAITED_BYTES, 20.0) if patient else (CHUNK_BYTES, 0.0)
        question = ReadOutput(row.task, row.attempt, command.stream, offset, limit, wait_s=wait_s)
        try:
            # Those who wait are many; what they get is small.
            async with contextlib.nullcontext() if patient else self._live_reads:
                part: OutputPart = await self._runner_host.call(question, timeout_s=wait_s + 10)
        except Unavailable:
            return None
        return part

    async def _kept_parts(
        self, row: AttemptRow, stream: str, offset: int, large: asyncio.Lock
    ) -> AsyncIterator[OutputPart]:
        if row.outcome is None:
            # Lost: what reached the disk by then is still there.
            name = f"{row.task}.{row.attempt}.{stream}"
            ref = _whole_file(self._output_dir, name)
        else:
            ref = getattr(row.outcome, stream)
        while offset < ref.size:
            async with large:
                data = _read(self._output_dir, ref, offset)
                if not data:
                    return
                yield OutputPart(offset, data, at_end=offset + len(data) >= ref.size)
            offset += len(data)


def task_of(changed: str, known: Collection[str]) -> str:
    """The task among `known` that a change is about: itself, or the array of an element."""
    return changed if changed in known else changed.rpartition(".")[0]


def _progress(task: dict[str, Any]) -> dict[str, Any]:
    item = {"id": task.get("id"), "state": task.get("state"), "progress": None}
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
