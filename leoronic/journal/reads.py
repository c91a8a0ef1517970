"""Questions to the journal, on a connection that only reads what is committed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from leoronic.core.arrays import split_element
from leoronic.core.entries import Submitted, decode
from leoronic.core.executor_messages import OpenAttempt
from leoronic.core.outcome import Outcome
from leoronic.core.queue_messages import Known, LoadedElement, LoadedTask, LookedUp
from leoronic.core.records import LOSSES_MAX
from leoronic.core.resources import Need, milli
from leoronic.core.spec import TaskSpec
from leoronic.journal.journal import element_range
from leoronic.journal.schema import STATE_CODES, STATE_NAMES

_outcomes: msgspec.json.Decoder[Outcome] = msgspec.json.Decoder(Outcome)

# How an attempt that has no outcome counts: 0 not at all, 1 as a loss, 2 as never begun.
_LOSS = "CASE WHEN lost IS NULL THEN 0 WHEN begun THEN 1 ELSE 2 END"

_TASK = """
SELECT t.ord, t.id, t.state, t.submitted_at, t.ended_at, t.held, t.elements, t.succeeded,
       t.failed, o.node, e.body, t.redo_of
FROM tasks t JOIN entries e ON e.origin = t.origin AND e.number = t.ord
             JOIN origins o ON o.origin = t.origin
"""


class TaskRow(NamedTuple):
    """A task as it is on disk; `state` is None while it lives."""

    order: int
    id: str
    state: str | None
    submitted_at: float
    ended_at: float | None
    held: str | None
    elements: int | None
    succeeded: int | None
    failed: int | None
    origin: str
    spec: TaskSpec
    source: str
    redo_of: str


class AttemptRow(NamedTuple):
    """An attempt as it is on disk. `final_state` is set if it gave the task its state."""

    task: str
    attempt: int
    node: str
    started_at: float | None
    ended_at: float | None
    final_state: str | None
    lost: str | None
    outcome: Outcome | None
    begun: bool = True


class Reads:
    """See the module."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        # The array read last, by the place of its entry, which never changes: its elements start
        # one after the other, and an array of a million items is megabytes to decode.
        self._array_at: tuple[int, int] | None = None
        self._array_spec: TaskSpec | None = None

    # ---- one task ----

    def spec(self, task: str) -> TaskSpec | None:
        """The spec of a task, or of the array an element belongs to."""
        element = split_element(task)
        where = self._connection.execute(
            "SELECT origin, ord FROM tasks WHERE id = ?", (element[0] if element else task,)
        ).fetchone()
        if where is None:
            return None
        if where == self._array_at and self._array_spec is not None:
            return self._array_spec
        row = self._connection.execute(
            "SELECT body FROM entries WHERE origin = ? AND number = ?", where
        ).fetchone()
        if row is None:
            return None
        spec = _submitted(row[0]).spec
        if element:
            self._array_at, self._array_spec = where, spec
        return spec

    def specs(self, tasks: list[str]) -> dict[str, TaskSpec]:
        """The specs of those of `tasks` (or elements) that are still known."""
        found = ((task, self.spec(task)) for task in tasks)
        return {task: spec for task, spec in found if spec is not None}

    def task(self, task: str) -> TaskRow | None:
        """One task by its full id."""
        row = self._connection.execute(_TASK + "WHERE t.id = ?", (task,)).fetchone()
        return None if row is None else _task_row(row)

    def attempts(self, task: str) -> list[AttemptRow]:
        """The attempts of a task or an element, oldest first."""
        rows = self._connection.execute(
            "SELECT task, attempt, node, started_at, ended_at, final, state, lost, outcome, begun "
            "FROM attempts WHERE task = ? ORDER BY attempt",
            (task,),
        )
        return [_attempt_row(row) for row in rows]

    def worst_element(self, array: str) -> AttemptRow | None:
        """One of an array's elements that failed."""
        low, high = element_range(array)
        row = self._connection.execute(
            "SELECT task, attempt, node, started_at, ended_at, final, state, lost, outcome, begun "
            "FROM attempts WHERE task > ? AND task < ? AND state = 2 ORDER BY task LIMIT 1",
            (low, high),
        ).fetchone()
        return None if row is None else _attempt_row(row)

    def failed_elements(self, array: str, limit: int) -> list[int]:
        """Indexes of elements of an array that failed, at most `limit`, in order."""
        rows = self._connection.execute(
            "SELECT task FROM attempts WHERE task > ? AND task < ? AND state = 2 LIMIT ?",
            (*element_range(array), limit),
        )
        return sorted(int(row[0].rpartition(".")[2]) for row in rows)

    def unsuccessful_elements(self, array: str) -> list[int]:
        """Indexes of the elements of an array that did not succeed, in order."""
        rows = self._connection.execute(
            "SELECT task FROM attempts WHERE task > ? AND task < ? AND final = 1 AND state = 1",
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
            found = self._known("name = ? ORDER BY ord DESC LIMIT 1", (ref,))
        if not found and ref:
            found = self._known("id >= ? AND id < ? ORDER BY id LIMIT 3", (ref, ref + "\U0010ffff"))
        return found

    def look_up(self, token: int, refs: list[str]) -> LookedUp:
        """The answer to `Lookup`; with a token, the specs of tasks named by their ids as well."""
        found = {ref: self.find(ref) for ref in refs}
        exact = [ref for ref, known in found.items() if known and known[0].id == ref]
        return LookedUp(token, found, self.specs(exact) if token else {})

    def _known(self, where: str, values: tuple[object, ...]) -> list[Known]:
        rows = self._connection.execute(f"SELECT id, state FROM tasks WHERE {where}", values)
        return [
            Known(task, STATE_NAMES.get(state), self._redone_as(task) if state else "")
            for task, state in rows.fetchall()
        ]

    def _redone_as(self, task: str) -> str:
        row = self._connection.execute(
            "SELECT id FROM tasks WHERE redo_of = ? ORDER BY ord DESC LIMIT 1", (task,)
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
            f"{_TASK} WHERE {' AND '.join(where)} ORDER BY t.ord DESC LIMIT ?", (*values, limit)
        )
        return [_task_row(row) for row in rows]

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
            f"{_TASK} WHERE t.state = 0 AND t.ord > ? ORDER BY t.ord LIMIT ?", (after, limit)
        )
        return [(row[0], row[1], _submitted(row[10]).spec) for row in rows]

    # ---- starting ----

    def live(self) -> Iterator[LoadedTask]:
        """All live tasks in order of submission, joined from their entries."""
        attempts: dict[str, list[tuple[Any, ...]]] = {}
        for row in self._connection.execute(
            f"SELECT a.task, a.attempt, a.node, a.ended_at, {_LOSS}, a.hold FROM tasks t "
            "JOIN attempts a ON a.task = t.id WHERE t.state = 0 ORDER BY a.task, a.attempt"
        ):
            attempts.setdefault(row[0], []).append(row[1:])
        for ord_, task, revision, held, elements, body in self._connection.execute(
            "SELECT t.ord, t.id, t.revision, t.held, t.elements, e.body FROM tasks t "
            "JOIN entries e ON e.origin = t.origin AND e.number = t.ord "
            "WHERE t.state = 0 ORDER BY t.ord"
        ):
            spec = _submitted(body).spec
            if elements is not None:
                yield self._array(ord_, task, revision, held, spec)
                continue
            one = _join(attempts.pop(task, []))
            yield LoadedTask(
                task,
                ord_,
                spec,
                revision=revision,
                held=held,
                **msgspec.structs.asdict(one),
            )

    def _array(
        self, order: int, task: str, revision: int, held: str | None, spec: TaskSpec
    ) -> LoadedTask:
        known: list[int] = []
        ended: dict[str, int] = {}
        open_: dict[int, list[tuple[Any, ...]]] = {}
        final: set[int] = set()
        for (
            element,
            attempt,
            node,
            ended_at,
            lost,
            hold,
            is_final,
            state,
        ) in self._connection.execute(
            f"SELECT task, attempt, node, ended_at, {_LOSS}, hold, final, state FROM attempts "
            "WHERE task > ? AND task < ? ORDER BY task, attempt",
            element_range(task),
        ):
            parts = split_element(element)
            assert parts is not None
            index = parts[1]
            known.append(index)
            if is_final:
                name = STATE_NAMES[state]
                ended[name] = ended.get(name, 0) + (index not in final)
                final.add(index)
            else:
                open_.setdefault(index, []).append((attempt, node, ended_at, lost, hold))
        live = {index: _join(rows) for index, rows in open_.items() if index not in final}
        return LoadedTask(
            task,
            order,
            spec,
            revision=revision,
            held=held,
            known_elements=known,
            ended_elements=ended,
            live_elements=live,
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
        """Attempts that started on `node` and have no end."""
        rows = self._connection.execute(
            "SELECT task, attempt, runner FROM attempts WHERE node = ? AND ended_at IS NULL",
            (node,),
        ).fetchall()
        return [self._open_attempt(*row) for row in rows]

    def _open_attempt(self, task: str, attempt: int, runner: str) -> OpenAttempt:
        spec = self.spec(task)
        assert spec is not None, f"attempt of unknown task {task}"
        # The row before the first attempt says that an element was cancelled.
        earlier = [row for row in self.attempts(task) if 0 < row.attempt < attempt]
        earlier = [row for row in earlier if row.begun]
        losses = sum(row.lost is not None for row in earlier)
        need = Need(
            milli(spec.cpus),
            spec.memory,
            spec.storage,
            tuple(sorted(spec.resources.items())),
            not spec.concurrent,
        )
        return OpenAttempt(
            task,
            attempt,
            need,
            spec.retries - (len(earlier) - losses),
            spec.on_loss == "hold" or losses + 1 >= LOSSES_MAX,
            runner,
            "cancelled" if self._is_final(task) else "",
        )

    def _is_final(self, task: str) -> bool:
        element = split_element(task)
        base = self.task(element[0] if element else task)
        assert base is not None, f"attempt of unknown task {task}"
        return base.state is not None or any(a.final_state for a in self.attempts(task))

    def tags(self, node: str) -> list[str]:
        """The tags that people gave a node."""
        rows = self._connection.execute(
            "SELECT tag FROM tags WHERE node = ? AND present ORDER BY tag", (node,)
        )
        return [row[0] for row in rows]


def _join(rows: list[tuple[Any, ...]]) -> LoadedElement:
    """Join attempts, oldest first: (attempt, node, ended_at, loss, hold)."""
    if not rows:
        return LoadedElement()
    attempt, node, ended_at, _lost, _hold = rows[-1]
    losses = sum(row[3] == 1 for row in rows)
    failures = sum(row[2] is not None and row[3] == 0 for row in rows)
    return msgspec.convert(
        {
            "attempt": attempt,
            "failures": failures,
            "losses": losses,
            "lost_hold": max((row[0] for row in rows if row[4]), default=0),
            "running_on": node if ended_at is None else "",
            "ended_at": ended_at or 0.0,
        },
        LoadedElement,
    )


def _submitted(body: bytes) -> Submitted:
    entry = decode(body)
    assert isinstance(entry, Submitted)
    return entry


def _task_row(row: tuple[Any, ...]) -> TaskRow:
    entry = _submitted(row[10])
    return TaskRow(
        order=row[0],
        id=row[1],
        state=STATE_NAMES.get(row[2]),
        submitted_at=row[3],
        ended_at=row[4],
        held=row[5],
        elements=row[6],
        succeeded=row[7],
        failed=row[8],
        origin=row[9],
        spec=entry.spec,
        source=entry.source,
        redo_of=row[11] or "",
    )


def _attempt_row(row: tuple[Any, ...]) -> AttemptRow:
    return AttemptRow(
        task=row[0],
        attempt=row[1],
        node=row[2],
        started_at=row[3],
        ended_at=row[4],
        final_state=STATE_NAMES[row[6]] if row[5] else None,
        lost=row[7],
        outcome=None if row[8] is None else _outcomes.decode(row[8]),
        begun=bool(row[9]),
    )
