"""Long answers: waiting for tasks, and reading output while it is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from functools import partial
from typing import Any

from leoronic.actors.cluster import Cluster
from leoronic.actors.output_reading import Item, OutputReading
from leoronic.actors.output_sources import OutputSources
from leoronic.actors.own_output import STREAMS
from leoronic.actors.views import real_runs, winner
from leoronic.actors.watchers import Subscription, Watchers
from leoronic.core.commands import Logs, Wait
from leoronic.core.outcome import Outcome
from leoronic.errors import BadRequest, NotFound, Refused
from leoronic.journal.reads import Reads
from leoronic.journal.rows import AttemptRow, TaskRow

LOOK_AGAIN_S = 30.0
ARRAY_PAUSE_S = 0.1
OFFSET_MAX = 1 << 53
WAIT_IDS_MAX = 1000
CACHED_DEPTH_MAX = 100
_ENDED = ("succeeded", "failed", "cancelled")


class Following:
    """Streams for the clients of one node; `sources` finds output wherever it is."""

    def __init__(self, cluster: Cluster, watchers: Watchers, sources: OutputSources) -> None:
        self._cluster = cluster
        self._watchers = watchers
        self._sources = sources

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
        if command.stream not in STREAMS:
            raise BadRequest(f"{command.stream!r} is no stream: stdout or stderr")
        if not 0 <= command.offset <= OFFSET_MAX:
            raise BadRequest(f"an offset is a number of bytes, 0 or more, not {command.offset}")
        task = await self._cluster.resolve(command.id)
        [described] = await self._cluster.tasks([task])
        if "count" in described:
            last = described["count"] - 1
            raise Refused(f"{task} is an array: ask for an element, {task}.0 to {task}.{last}")
        if not command.attempt:
            task = await self._printed_by(task, command.stream)
        shown: tuple[int, str] | None = None
        with self._watchers.subscribe([task]) as subscription:
            while True:
                # First the state, then the runs: what ends in between is read next time round.
                [described] = await self._cluster.tasks([task])
                over = described["state"] in (*_ENDED, "blocked")
                row = await self._next_run(task, command.attempt, shown)
                if row is None and command.attempt and shown is None:
                    raise NotFound(f"{task} had {described['attempt']} attempts, no more")
                if row is not None:
                    offset = command.offset if shown is None else 0
                    shown = (row.attempt, row.node)
                    yield {"attempt": row.attempt, "node": self._cluster.name(row.node)}, b""
                    reading = OutputReading(
                        self._cluster, self._sources, command, large, row, offset
                    )
                    async for item in reading.items(subscription):
                        yield item
                if not command.follow or command.attempt or (over and row is None):
                    last = shown[0] if shown else 0
                    yield {"result": {"task": task, "attempt": last, "at_end": over}}, b""
                    return
                if row is None:
                    await subscription.news(LOOK_AGAIN_S)

    async def _printed_by(self, task: str, stream: str) -> str:
        """The task itself; of one that was answered from an equal one, who printed its output.

        What is kept in a file was not copied, so the task's own is empty.
        """
        for _ in range(CACHED_DEPTH_MAX):
            row, runs = await self._cluster.ask(partial(_read, task))
            source = row.spec.cached_from if row is not None else ""
            if not source or any(run.outcome and _size(run.outcome, stream) for run in runs):
                return task
            known = await self._cluster.ask(partial(_read, source))
            if known[0] is None:
                return task
            task = source
        return task

    async def _next_run(
        self, task: str, attempt: int, shown: tuple[int, str] | None
    ) -> AttemptRow | None:
        """The run to show after `shown`, or None if there is none (yet).

        Of several runs of one attempt, the one that won, else the last. At first it is that of
        `attempt`, or (0) the last there is.
        """
        runs = real_runs(await self._cluster.ask(lambda reads: reads.attempts(task)))
        if shown is None:
            if attempt:
                runs = [run for run in runs if run.attempt == attempt]
            won = winner(runs)
            return won or (runs[-1] if runs else None)
        later = [run for run in runs if run.attempt > shown[0]]
        if later:
            same = [run for run in later if run.attempt == later[0].attempt]
            return winner(same) or same[-1]
        # The other side of a split made the same attempt, and that one goes on.
        rival = next((run for run in runs if run.attempt == shown[0] and run.node > shown[1]), None)
        return rival if rival is not None and not attempt else None


def _read(task: str, reads: Reads) -> tuple[TaskRow | None, list[AttemptRow]]:
    return reads.task(task), reads.attempts(task)


def _size(outcome: Outcome, stream: str) -> int:
    return (outcome.stdout if stream == "stdout" else outcome.stderr).size


def task_of(changed: str, known: Collection[str]) -> str:
    """The task among `known` that a change is about: itself, or the array of an element."""
    return changed if changed in known else changed.rpartition(".")[0]


def _progress(task: dict[str, Any]) -> dict[str, Any]:
    item = {"id": task.get("id"), "state": task.get("state"), "progress": None}
    if "elements" in task:
        done = sum(task["elements"].get(state, 0) for state in _ENDED)
        item["progress"] = {"done": done, "count": task["count"], "elements": task["elements"]}
    return item
