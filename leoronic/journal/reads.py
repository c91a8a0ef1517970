"""Questions to the journal, on a connection that only reads what is committed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from leoronic.core.arrays import split_element
from leoronic.core.blob import FileRef
from leoronic.core.entries import Started
from leoronic.core.executor_messages import OpenAttempt
from leoronic.core.needs import need_of
from leoronic.core.queue_messages import Cached, Known, LoadedRun, LoadedTask, LookedUp
from leoronic.core.records import LOSSES_MAX
from leoronic.core.runs import ENDED, LOST, NEVER_BEGAN, STOPPED_AS
from leoronic.core.spec import TaskSpec
from leoronic.journal import files
from leoronic.journal.digest import digest
from leoronic.journal.join import element_range
from leoronic.journal.pages import Page, read_page, read_vectors
from leoronic.journal.rows import (
    ATTEMPT,
    TASK,
    AttemptRow,
    Copy,
    TaskRow,
    Uncopied,
    attempt_row,
    outcomes,
    started_of,
    submitted_of,
    task_row,
)
from leoronic.journal.schema import STATE_CODES, STATE_NAMES, STREAM_BITS
from leoronic.journal.splits import Split, read_splits

__all__ = ["AttemptRow", "Copy", "Reads", "Split", "TaskRow", "Uncopied"]

# Of a run: attempt, node, phase, when it ended or was given up, hold.
_RUN = "a.attempt, a.node, a.phase, coalesce(a.ended_at, a.lost_at, 0.0), a.hold"


class Reads:
    """See the module."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # The array read last, by the place of its entry, which never changes: its elements start
        # one after the other, and an array of a million items is megabytes to decode.
        self._array_at: tuple[int] | None = None
        self._array_spec: TaskSpec | None = None

    # ---- one task ----

    def spec(self, task: str) -> TaskSpec | None:
        """The spec of a task, or of the array an element belongs to."""
        element = split_element(task)
        where = self._connection.execute(
            "SELECT entry FROM tasks WHERE id = ?", (element[0] if element else task,)
        ).fetchone()
        if where is None:
            return None
        if where == self._array_at and self._array_spec is not None:
            return self._array_spec
        row = self._connection.execute("SELECT body FROM entries WHERE seq = ?", where).fetchone()
        if row is None:
            return None
        spec = submitted_of(row[0]).spec
        if element:
            self._array_at, self._array_spec = where, spec
        return spec

    def specs(self, tasks: list[str]) -> dict[str, TaskSpec]:
        """The specs of those of `tasks` (or elements) that are still known, ready to be run."""
        found = ((task, self.spec(task)) for task in tasks)
        connection = self._connection
        return {task: files.resolved(connection, s) for task, s in found if s is not None}

    def task(self, task: str) -> TaskRow | None:
        """One task by its full id."""
        row = self._connection.execute(TASK + "WHERE t.id = ?", (task,)).fetchone()
        return None if row is None else task_row(row)

    def attempts(self, task: str) -> list[AttemptRow]:
        """The runs of a task or an element, by (attempt, node)."""
        rows = self._connection.execute(f"{ATTEMPT} WHERE task = ? ORDER BY attempt, node", (task,))
        return [attempt_row(row) for row in rows]

    def worst_element(self, array: str) -> AttemptRow | None:
        """One of an array's elements that failed."""
        low, high = element_range(array)
        row = self._connection.execute(
            f"{ATTEMPT} WHERE task > ? AND task < ? AND winner = 1 AND state = 2 "
            "ORDER BY task LIMIT 1",
            (low, high),
        ).fetchone()
        return None if row is None else attempt_row(row)

    def failed_elements(self, array: str, limit: int) -> list[int]:
        """Indexes of elements of an array that failed, at most `limit`, in order."""
        rows = self._connection.execute(
            "SELECT task FROM attempts WHERE task > ? AND task < ? AND winner = 1 AND state = 2 "
            "LIMIT ?",
            (*element_range(array), limit),
        )
        return sorted(int(row[0].rpartition(".")[2]) for row in rows)

    def unsuccessful_elements(self, array: str) -> list[int]:
        """Indexes of the elements of an array that did not succeed, in order."""
        rows = self._connection.execute(
            "SELECT task FROM attempts WHERE task > ? AND task < ? AND winner = 1 AND state = 1",
            element_range(array),
        )
        done = {int(row[0].rpartition(".")[2]) for row in rows}
        row = self.task(array)
        count = row.elements if row is not None and row.elements is not None else 0
        return [index for index in range(count) if index not in done]

    # ---- finding ----

    def find(self, ref: str) -> list[Known]:
        """Tasks that `ref` names: by full id, else the newest of that name, else by beginning."""
        found = self._known("id = ?", (ref,))
        if not found:
            found = self._known("name = ? ORDER BY submitted_at DESC, id DESC LIMIT 1", (ref,))
        if not found and ref:
            found = self._known("id >= ? AND id < ? ORDER BY id LIMIT 3", (ref, ref + "\U0010ffff"))
        return found

    def look_up(
        self, token: int, refs: list[str], keys: Sequence[str] = (), left: Sequence[str] = ()
    ) -> LookedUp:
        """The answer to `Lookup`; with a token, the specs of tasks named by their ids as well.

        `keys` are cache keys, `left` are refs of tasks and elements whose outputs are wanted.
        """
        found = {ref: self.find(ref) for ref in refs}
        exact = [ref for ref, known in found.items() if known and known[0].id == ref]
        same = {key: files.same_before(self._connection, key) for key in keys}
        cached = {key: [Cached(*one) for one in found] for key, found in same.items() if found}
        specs = self.specs(exact) if token else {}
        return LookedUp(token, found, specs, cached, dict(self._left(left, found)))

    def _left(
        self, refs: Sequence[str], found: dict[str, list[Known]]
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Full ids of tasks and elements that have ended, each with the paths that it left."""
        for ref in refs:
            known, element = found.get(ref), ""
            if not known and (split := split_element(ref)):
                known, element = found.get(split[0]), f".{split[1]}"
            if known and len(known) == 1 and known[0].state is not None:
                task = known[0].id + element
                yield task, tuple(file.path for file in self.left_by(task))

    def _known(self, where: str, values: tuple[object, ...]) -> list[Known]:
        rows = self._connection.execute(
            f"SELECT id, state, elements FROM tasks WHERE {where}", values
        )
        return [
            Known(task, STATE_NAMES.get(state), self._redone_as(task) if state else "", elements)
            for task, state, elements in rows.fetchall()
        ]

    def _redone_as(self, task: str) -> str:
        row = self._connection.execute(
            "SELECT id FROM tasks WHERE redo_of = ? ORDER BY submitted_at DESC, id DESC LIMIT 1",
            (task,),
        ).fetchone()
        return row[0] if row else ""

    def page(
        self,
        *,
        state: str | None = None,
        label: str | None = None,
        since: float | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[TaskRow]:
        """Tasks, newest first. `state` may be one of the final ones."""
        where, values = ["1"], list[object]()
        if state is not None:
            where.append("t.state = ?")
            values.append(STATE_CODES[state])
        if label is not None:
            where.append("instr(t.labels, ?) > 0")
            values.append(f" {label} " if "=" in label else f" {label}=")
        if since is not None:
            where.append("t.submitted_at >= ?")
            values.append(since)
        if before is not None:
            where.append("t.ord < ?")
            values.append(before)
        rows = self._connection.execute(
            f"{TASK} WHERE {' AND '.join(where)} ORDER BY t.ord DESC LIMIT ?", (*values, limit)
        )
        return [task_row(row) for row in rows]

    def failed_ids(self, limit: int) -> list[str]:
        """Failed tasks that nobody has redone, oldest first; elements for arrays."""
        rows = self._connection.execute(
            "SELECT id FROM tasks t WHERE state = 2 AND NOT EXISTS "
            "(SELECT 1 FROM tasks r WHERE r.redo_of = t.id) ORDER BY ord LIMIT ?",
            (limit,),
        )
        return [row[0] for row in rows]

    def commands(self, after: int, limit: int) -> list[tuple[int, str, TaskSpec]]:
        """(order, id, spec) of live tasks past order `after`."""
        rows = self._connection.execute(
            f"{TASK} WHERE t.state = 0 AND t.ord > ? ORDER BY t.ord LIMIT ?", (after, limit)
        )
        return [(row[0], row[1], submitted_of(row[10]).spec) for row in rows]

    # ---- starting ----

    def live(self) -> Iterator[LoadedTask]:
        """All live tasks in order of arrival, joined from their entries."""
        runs: dict[str, list[LoadedRun]] = {}
        for task, *run in self._connection.execute(
            f"SELECT a.task, {_RUN} FROM attempts a JOIN tasks t ON t.id = a.task "
            "WHERE t.state = 0 ORDER BY a.task, a.attempt, a.node"
        ):
            runs.setdefault(task, []).append(_run(run))
        for order, task, revision, held, released, elements, node, body in self._connection.execute(
            "SELECT t.ord, t.id, t.revision, t.held, t.released, t.elements, o.node, e.body "
            "FROM tasks t JOIN entries e ON e.seq = t.entry "
            "JOIN origins o ON o.origin = t.origin WHERE t.state = 0 ORDER BY t.ord"
        ):
            loaded = LoadedTask(
                task,
                order,
                node,
                submitted_of(body).spec,
                runs.pop(task, []),
                revision,
                held,
                released,
            )
            yield loaded if elements is None else self._array(loaded, elements)

    def _array(self, loaded: LoadedTask, count: int) -> LoadedTask:
        known: set[int] = set()
        ended: dict[str, int] = {}
        runs: dict[int, list[LoadedRun]] = {}
        final: set[int] = set()
        bounds = element_range(loaded.task)
        for element, winner, state, *run in self._connection.execute(
            f"SELECT task, winner, state, {_RUN} FROM attempts a "
            "WHERE task > ? AND task < ? ORDER BY task, attempt, node",
            bounds,
        ):
            index = _index(element)
            if index >= count:
                continue
            known.add(index)
            if winner:
                name = STATE_NAMES[state]
                ended[name] = ended.get(name, 0) + 1
                final.add(index)
            runs.setdefault(index, []).append(_run(run))
        released = self._connection.execute(
            "SELECT task, attempt FROM releases WHERE task > ? AND task < ?", bounds
        )
        return msgspec.structs.replace(
            loaded,
            known_elements=sorted(known),
            ended_elements=ended,
            live_elements={index: runs[index] for index in sorted(known - final)},
            released_elements={
                index: attempt
                for element, attempt in released
                if (index := _index(element)) in known - final
            },
        )

    def ended(self) -> dict[str, int]:
        """How many tasks ended how, elements of ended arrays counted one by one."""
        counts = dict.fromkeys(STATE_CODES, 0)
        for state, count in self._connection.execute(
            "SELECT state, count(*) FROM tasks WHERE state > 0 GROUP BY state"
        ):
            counts[STATE_NAMES[state]] += count
        for state, elements, succeeded, failed in self._connection.execute(
            "SELECT state, elements, succeeded, failed FROM tasks "
            "WHERE elements IS NOT NULL AND state > 0"
        ):
            counts[STATE_NAMES[state]] -= 1
            counts["succeeded"] += succeeded
            counts["failed"] += failed
            counts["cancelled"] += elements - succeeded - failed
        return counts

    def open_attempts(self, node: str) -> list[OpenAttempt]:
        """Runs on `node` that may still go on: begun there, and no end told by `node` itself.

        One that others gave up is among them: that alone does not stop it.
        """
        rows = self._connection.execute(
            "SELECT body FROM attempts JOIN entries ON seq = start_seq WHERE node = ? "
            "AND phase < ? AND gone = 0 AND started_at IS NOT NULL ORDER BY start_seq",
            (node, NEVER_BEGAN),
        ).fetchall()
        return [self._open_attempt(started_of(body)) for [body] in rows]

    def _open_attempt(self, started: Started) -> OpenAttempt:
        task, attempt, node = started.task, started.attempt, started.node
        spec = self.spec(task)
        assert spec is not None, f"attempt of unknown task {task}"
        # The row before the first attempt says that an element was cancelled.
        runs = [row for row in self.attempts(task) if row.attempt > 0]
        earlier = [row for row in runs if (row.attempt, row.node) < (attempt, node)]
        losses = sum(row.phase == LOST for row in earlier)
        failures = sum(row.phase == ENDED and not row.winner for row in earlier)
        state = self._final_state(task)
        superseded = state or any((row.attempt, row.node) > (attempt, node) for row in runs)
        return OpenAttempt(
            task,
            attempt,
            need_of(spec),
            spec.retries - failures if started.retries_left is None else started.retries_left,
            started.hold_if_lost or spec.on_loss == "hold" or losses + 1 >= LOSSES_MAX,
            started.runner,
            "cancelled" if state == "cancelled" else STOPPED_AS if superseded else "",
            bool(spec.files or spec.outputs),
            spec.outputs,
            spec.keep_names or spec.workdir == "private",
        )

    def _final_state(self, task: str) -> str:
        """How a task or an element ended; '' if it lives."""
        element = split_element(task)
        base = self.task(element[0] if element else task)
        assert base is not None, f"attempt of unknown task {task}"
        own = next((a.final_state for a in self.attempts(task) if a.final_state), None)
        return own or base.state or ""

    # ---- files ----

    def needed(self, digests: Iterable[str]) -> set[str]:
        """Those of these blobs that live or remembered tasks refer to."""
        return files.needed(self._connection, digests)

    def needed_page(self, after: str, limit: int) -> list[str]:
        """At most `limit` blobs that are needed, in order of their names, those after `after`."""
        return files.needed_page(self._connection, after, limit)

    def left_by(self, task: str) -> tuple[FileRef, ...]:
        """The files that a task or element left when it ended for good."""
        return files.left_by(self._connection, task)

    # ---- what other nodes are told, and keep ----

    def vectors(self) -> tuple[dict[str, int], dict[str, int]]:
        """The version vector on disk, and {node: highest number of its that was forgotten}."""
        return read_vectors(self._connection)

    def entries(self, have: Mapping[str, int], after: int, bytes_max: int) -> Page:
        """What a holder of `have` lacks, from place `after` on: see `pages.read_page`."""
        return read_page(self._connection, have, after, bytes_max)

    def digest(self) -> str:
        """A hash of all that was joined: equal on nodes that hold the same entries."""
        return digest(self._connection)

    def splits(self, limit: int) -> list[Split]:
        """Tasks that ran twice at a time, or ended after they had been given up; newest first."""
        return read_splits(self._connection, self.attempts, limit)

    def copies(self, task: str, attempt: int, node: str) -> list[Copy]:
        """Who else keeps what a run printed."""
        rows = self._connection.execute(
            "SELECT stream, keeper, size FROM copies WHERE task = ? AND attempt = ? AND node = ? "
            "ORDER BY stream, keeper",
            (task, attempt, node),
        )
        return [Copy(*row) for row in rows]

    def outputs_to_keep(self, limit: int) -> list[Uncopied]:
        """Output too large to travel with its outcome, of which no copy is known; newest first."""
        found: list[Uncopied] = []
        for task, attempt, node, uncopied, text in self._connection.execute(
            "SELECT task, attempt, node, uncopied, outcome FROM attempts WHERE uncopied > 0 "
            "ORDER BY end_seq DESC LIMIT ?",
            (limit,),
        ):
            outcome = outcomes.decode(text)
            found += [
                Uncopied(task, attempt, node, stream, getattr(outcome, stream).size)
                for stream, bit in STREAM_BITS.items()
                if uncopied & bit
            ]
        return found[:limit]

    def tags(self, node: str) -> list[str]:
        """The tags that people gave a node."""
        rows = self._connection.execute(
            "SELECT tag FROM tags WHERE node = ? AND present ORDER BY tag", (node,)
        )
        return [row[0] for row in rows]


def _run(row: list[Any]) -> LoadedRun:
    attempt, node, phase, ended_at, hold = row
    return LoadedRun(attempt, node, phase, ended_at, bool(hold))


def _index(element: str) -> int:
    return int(element.rpartition(".")[2])
