"""What the doors ask of the other actors: tasks by any name, one or many, live or ended."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from functools import partial
from typing import Any

from leoronic.actors.views import split_object, task_object
from leoronic.core.arrays import split_element
from leoronic.core.queue_messages import Describe, FindLive, Known, LiveTask
from leoronic.errors import Ambiguous, NotFound
from leoronic.journal.reads import Reads
from leoronic.journal.rows import AttemptRow, TaskRow
from leoronic.journal.splits import Split
from leoronic.runtime.ref import ActorRef
from leoronic.wire.codec import to_json

_CALL_S = 30.0
_SLICE = 500
# Commands may be long: a page is read in slices of so many tasks.
_PAGE_SLICE = 32
FAILED_ELEMENTS_MAX = 1000
PAGE_BYTES_MAX = 4 * 1024 * 1024

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

    def name(self, node: str) -> str:
        """What people call a node; its id if its name is not known."""
        return self.names().get(node, node)

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
        names = self.names()
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
                    names,
                    failed,
                )
                for task, (row, attempts, failed) in zip(part, rows, strict=True)
            ]
        return shown

    async def copies(self, row: AttemptRow, stream: str) -> list[str]:
        """Ids of the nodes that keep a copy of what a run printed on `stream`."""
        found = await self.ask(lambda reads: reads.copies(row.task, row.attempt, row.node))
        return [copy.keeper for copy in found if copy.stream == stream]

    async def splits(self, limit: int) -> list[dict[str, Any]]:
        """What ran twice, newest first."""
        found: list[tuple[Split, str]] = await self.ask(partial(_read_splits, limit))
        return [split_object(split, name, self.names()) for split, name in found]

    async def page(
        self,
        *,
        state: str | None,
        label: str | None,
        since: float | None,
        before: int | None,
        limit: int,
        bytes_max: int = PAGE_BYTES_MAX,
    ) -> tuple[list[dict[str, Any]], bool]:
        """Task objects, newest first, and whether there are more.

        At most `limit`, and no more than `bytes_max` bytes of JSON, but one if there is any.
        """
        found: list[dict[str, Any]] = []
        size = 0
        slices = self._slices(state, label, since, before, limit + 1)
        async with contextlib.aclosing(slices):
            async for tasks in slices:
                for task in tasks:
                    size += len(to_json(task))
                    if len(found) == limit or (found and size > bytes_max):
                        return found, True
                    found.append(task)
        return found, False

    async def _slices(
        self,
        state: str | None,
        label: str | None,
        since: float | None,
        before: int | None,
        enough: int,
    ) -> AsyncGenerator[list[dict[str, Any]], None]:
        """Task objects, newest first, until there are no more, or `enough` were read."""
        live = state in ("waiting", "blocked", "held", "running")
        if live and label is None and since is None:
            assert state is not None
            ids = await self._queue.call(FindLive(state, enough, before), timeout_s=_CALL_S)
            for start in range(0, len(ids), _PAGE_SLICE):
                yield await self.tasks(ids[start : start + _PAGE_SLICE])
            return
        # Live states are the queue's knowledge, labels the disk's: look through pages.
        on_disk = None if live else state
        while True:
            rows = await self.ask(partial(_page_rows, on_disk, label, since, before))
            tasks = await self.tasks([task for task, _ in rows])
            yield [task for task in tasks if task["state"] == state] if live else tasks
            if len(rows) < _PAGE_SLICE:
                return
            before = rows[-1][1]


def _page_rows(
    state: str | None, label: str | None, since: float | None, before: int | None, reads: Reads
) -> list[tuple[str, int]]:
    """Ids and orders of a slice of tasks."""
    rows = reads.page(state=state, label=label, since=since, before=before, limit=_PAGE_SLICE)
    return [(row.id, row.order) for row in rows]


def _read_splits(limit: int, reads: Reads) -> list[tuple[Split, str]]:
    """Splits, with the names of their tasks."""
    splits = reads.splits(limit)
    specs = reads.specs([split.task for split in splits])
    return [(s, specs[s.task].name if s.task in specs else "") for s in splits]


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
