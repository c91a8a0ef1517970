"""What the doors ask of the other actors: tasks by any name, one or many, live or ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from leoronic.actors.views import task_object
from leoronic.core.arrays import split_element
from leoronic.core.queue_messages import Describe, FindLive, Known, LiveTask
from leoronic.errors import Ambiguous, NotFound
from leoronic.journal.reads import AttemptRow, Reads, TaskRow
from leoronic.runtime.ref import ActorRef

_CALL_S = 30.0
_SLICE = 500
FAILED_ELEMENTS_MAX = 1000

_Found = tuple[TaskRow, list[AttemptRow], list[int]]
"""A task, its attempts, and of an array the elements that failed."""


class Cluster:
    """Questions to the queue and the journal, joined into objects for people."""

    def __init__(
        self, queue: ActorRef, journal: ActorRef, names: Callable[[], Mapping[str, str]]
    ) -> None:
        self.names = names
        self._queue = queue
        self._journal = journal

    async def ask(self, question: Callable[[Reads], Any]) -> Any:
        """Ask the disk."""
        return await self._journal.call(question, timeout_s=_CALL_S)

    async def resolve(self, ref: str) -> str:
        """The full id that `ref` (an id, a name, a beginning; maybe with .INDEX) stands for.

        Raises `NotFound`, `Ambiguous`.
        """
        found: list[Known] = await self.ask(lambda reads: reads.find(ref))
        if len(found) == 1:
            return found[0].id
        if len(found) > 1:
            some = ", ".join(known.id for known in found)
            raise Ambiguous(f"{ref} fits several tasks ({some}, ...): type more of the id")
        element = split_element(ref)
        if element is not None:
            array = await self.resolve(element[0])
            row: TaskRow = await self.ask(lambda reads: reads.task(array))
            if row.elements is None:
                raise NotFound(f"{array} is not an array: it has no element {element[1]}")
            if element[1] >= row.elements:
                raise NotFound(f"array {array} has elements 0 to {row.elements - 1}")
            return f"{array}.{element[1]}"
        raise NotFound(f"there is no task {ref!r}; `leoronic list` shows those there are")

    async def resolve_all(self, refs: Iterable[str]) -> list[str]:
        """Full ids, each once, in order."""
        return list(dict.fromkeys([await self.resolve(ref) for ref in refs]))

    async def live(self, tasks: list[str]) -> dict[str, LiveTask]:
        """Those of `tasks` (full ids) that are live."""
        found: dict[str, LiveTask] = await self._queue.call(Describe(tasks), timeout_s=_CALL_S)
        return found

    async def tasks(self, tasks: list[str]) -> list[dict[str, Any]]:
        """Task objects, in order; full ids."""
        shown: list[dict[str, Any]] = []
        for start in range(0, len(tasks), _SLICE):
            part = tasks[start : start + _SLICE]
            # First the queue, then the disk: what ended in between is then seen as ended.
            live = await self.live(part)
            rows = await self.ask(partial(_read_all, part))
            shown += [
                task_object(
                    task,
                    row,
                    attempts,
                    None if row.state else live.get(task),
                    self.names(),
                    failed,
                )
                for task, (row, attempts, failed) in zip(part, rows, strict=True)
            ]
        return shown

    async def page(
        self,
        *,
        state: str | None,
        label: str | None,
        since: float | None,
        before: int | None,
        limit: int,
    ) -> list[dict[str, Any]]:
        """Task objects, newest first."""
        if state in ("waiting", "blocked", "held", "running"):
            if label is not None or since is not None:
                return await self._filtered(state, label, since, before, limit)
            query = FindLive(state, limit, before)
            return await self.tasks(await self._queue.call(query, timeout_s=_CALL_S))
        rows: list[TaskRow] = await self.ask(
            lambda reads: reads.page(
                state=state, label=label, since=since, before=before, limit=limit
            )
        )
        return await self.tasks([row.id for row in rows])

    async def _filtered(
        self, state: str, label: str | None, since: float | None, before: int | None, limit: int
    ) -> list[dict[str, Any]]:
        """Live states are the queue's knowledge, labels the disk's: look through pages."""
        found: list[dict[str, Any]] = []
        while len(found) < limit:
            page = await self.page(
                state=None, label=label, since=since, before=before, limit=_SLICE
            )
            found += [task for task in page if task["state"] == state]
            if len(page) < _SLICE:
                break
            before = page[-1]["order"]
        return found[:limit]


def _read_all(tasks: list[str], reads: Reads) -> list[_Found]:
    return [_read(reads, task) for task in tasks]


def _read(reads: Reads, task: str) -> _Found:
    element = split_element(task)
    row = reads.task(task) or (reads.task(element[0]) if element else None)
    if row is None:
        raise NotFound(f"there is no task {task}")
    if row.elements is None or task != row.id:
        return row, reads.attempts(task), []
    # An array is told by one of its elements that failed.
    worst = reads.worst_element(task)
    if worst is None:
        return row, [], []
    return row, [worst], reads.failed_elements(task, FAILED_ELEMENTS_MAX)
