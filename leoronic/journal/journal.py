"""Writes entries, and keeps `tasks` and `attempts` as the join of them.

`write` fills the open transaction, `commit` makes it durable. An entry that is already there, or
comes too late, changes nothing. Synchronous: the actor decides on which thread to wait.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from leoronic.core.arrays import split_element
from leoronic.core.entries import (
    Cancelled,
    Ended,
    Entry,
    Finished,
    Held,
    Lost,
    Numbered,
    Released,
    Started,
    Submitted,
    Tagged,
    Untagged,
    encode,
)
from leoronic.core.run import AttemptKey
from leoronic.core.spec import element_count
from leoronic.errors import DiskFull
from leoronic.journal.schema import STATE_CODES

_START = """
INSERT INTO attempts(task, attempt, node, runner, started_at, start_no)
SELECT :task, :attempt, :node, :runner, :at, :number
WHERE (SELECT state FROM tasks WHERE id = :base) = 0
  AND NOT EXISTS (SELECT 1 FROM attempts WHERE task = :task AND (attempt >= :attempt OR final = 1))
"""
_FINISH = """
UPDATE attempts SET ended_at = ?, outcome = ?, final = ?, state = ?, end_no = ?
WHERE task = ? AND attempt = ? AND ended_at IS NULL
"""
_IS_FINAL = """
SELECT (SELECT state FROM tasks WHERE id = ?) > 0
    OR EXISTS (SELECT 1 FROM attempts WHERE task = ? AND final = 1)
"""
_LOSE = """
UPDATE attempts SET ended_at = ?, lost = ?, hold = ?, begun = ?, end_no = ?
WHERE task = ? AND attempt = ? AND ended_at IS NULL
"""
_END_TASK = "UPDATE tasks SET state = ?, ended_at = ? WHERE id = ? AND state = 0"
_NUMBER_END = "UPDATE tasks SET end_no = ? WHERE id = ? AND end_no IS NULL"
_FORGET_ENTRIES = """
DELETE FROM entries WHERE origin = 1 AND number IN (
  SELECT start_no FROM attempts WHERE task = :id OR (task > :low AND task < :high)
  UNION ALL
  SELECT end_no FROM attempts WHERE task = :id OR (task > :low AND task < :high)
  UNION ALL
  SELECT end_no FROM tasks WHERE id = :id
  UNION ALL
  SELECT ord FROM tasks WHERE id = :id
) AND number < :last
"""
_COUNT_ELEMENTS = """
UPDATE tasks SET
  succeeded = (SELECT count(*) FROM attempts WHERE task > :low AND task < :high AND state = 1),
  failed = (SELECT count(*) FROM attempts WHERE task > :low AND task < :high AND state = 2)
WHERE id = :id AND elements IS NOT NULL
"""
_CANCEL_ELEMENT = """
INSERT OR IGNORE INTO attempts(task, attempt, node, ended_at, final, state, end_no)
SELECT ?1, 0, '', ?2, 1, ?3, ?4
WHERE NOT EXISTS (SELECT 1 FROM attempts WHERE task = ?1 AND final = 1)
"""
_ADD_TASK = """
INSERT OR IGNORE INTO tasks(ord, id, origin, submitted_at, name, labels, redo_of, elements)
VALUES (?, ?, 1, ?, ?, ?, ?, ?)
"""

_OLD_TASKS = """
SELECT ord, id FROM tasks t WHERE state > 0 AND ended_at < :before
AND ord < coalesce(
  (SELECT ord FROM tasks WHERE submitted_at >= :before ORDER BY ord LIMIT 1), 9223372036854775807
) AND NOT EXISTS (
  SELECT 1 FROM dependencies d JOIN tasks c ON c.id = d.task WHERE d.parent = t.id AND c.state = 0
) ORDER BY ord LIMIT :most
"""

_outcome_encoder = msgspec.json.Encoder()


class Written(NamedTuple):
    """What a `write` did: entries with their numbers, and attempts that may not start."""

    entries: list[Numbered]
    refused: frozenset[AttemptKey]


class Journal:
    """This node's journal on one connection. `node` is its id."""

    def __init__(self, connection: sqlite3.Connection, node: str) -> None:
        self.connection = connection
        self.node = node
        self.number = self._last_number()
        self._committed = self.number
        self._appliers: dict[type, Callable[..., bool]] = {
            Started: self._started,
            Finished: self._finished,
            Lost: self._lost,
            Cancelled: self._cancelled,
            Held: self._held,
            Released: self._released,
            Ended: self._ended,
            Tagged: self._tagged,
            Untagged: self._tagged,
        }

    def _last_number(self) -> int:
        row = self.connection.execute(
            "SELECT number FROM entries WHERE origin = 1 ORDER BY number DESC LIMIT 1"
        ).fetchone()
        return row[0] if row else 0

    def write(self, entries: Iterable[Entry]) -> Written:
        """Add entries to the open transaction, opening one if there is none."""
        if not self.connection.in_transaction:
            self.connection.execute("BEGIN IMMEDIATE")
        numbered: list[Numbered] = []
        refused: set[AttemptKey] = set()
        new_tasks: list[tuple[object, ...]] = []
        for entry in entries:
            number = self.number + 1
            if isinstance(entry, Submitted):
                new_tasks.append(_task_row(number, entry))
                if entry.spec.after:
                    self._add_dependencies(entry)
            else:
                if new_tasks:
                    self.connection.executemany(_ADD_TASK, new_tasks)
                    new_tasks = []
                if not self._appliers[type(entry)](entry, number):
                    assert isinstance(entry, Started)
                    refused.add((entry.task, entry.attempt))
                    continue
            self.number = number
            numbered.append(Numbered(self.node, number, entry))
        if new_tasks:
            self.connection.executemany(_ADD_TASK, new_tasks)
        self.connection.executemany(
            "INSERT INTO entries VALUES (1, ?, ?)", [(n.number, encode(n.entry)) for n in numbered]
        )
        return Written(numbered, frozenset(refused))

    def _add_dependencies(self, entry: Submitted) -> None:
        self.connection.executemany(
            "INSERT OR IGNORE INTO dependencies VALUES (?, ?)",
            [(after.id, entry.task) for after in entry.spec.after],
        )

    def commit(self) -> None:
        """Make the transaction durable. Raises `DiskFull`; then `rollback` is due."""
        try:
            self.connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise as_disk_full(error) from error
        self._committed = self.number

    def rollback(self) -> None:
        """Forget the open transaction."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        self.number = self._committed

    def trim(self, before: float, tasks_max: int) -> int:
        """In the open transaction, forget tasks that ended before `before`; returns how many.

        What a live task runs after is kept: how it ended may still matter.
        `commit` follows. Their entries go with them; those that are told apart by no task (holds,
        tags) go once every task that is kept was submitted after them.
        """
        execute = self.connection.execute
        if not self.connection.in_transaction:
            execute("BEGIN IMMEDIATE")
        old = execute(
            _OLD_TASKS,
            {"before": before, "most": tasks_max},
        ).fetchall()
        for order, task in old:
            low, high = element_range(task)
            # The very last entry stays: it tells which number comes next.
            execute(_FORGET_ENTRIES, {"id": task, "low": low, "high": high, "last": self.number})
            execute("DELETE FROM dependencies WHERE parent = ?", (task,))
            execute("DELETE FROM attempts WHERE task = ?", (task,))
            execute("DELETE FROM attempts WHERE task > ? AND task < ?", (low, high))
            execute("DELETE FROM tasks WHERE ord = ?", (order,))
        if old:
            kept = execute("SELECT min(ord) FROM tasks").fetchone()[0]
            # The last entry stays: it tells which number comes next.
            bound = self.number if kept is None else min(kept, self.number)
            execute("DELETE FROM entries WHERE origin = 1 AND number < ?", (bound,))
        return len(old)

    # ---- the join; each returns whether the entry is to be kept ----

    def _started(self, entry: Started, number: int) -> bool:
        element = split_element(entry.task)
        cursor = self.connection.execute(
            _START,
            {
                "task": entry.task,
                "attempt": entry.attempt,
                "node": entry.node,
                "runner": entry.runner,
                "number": number,
                "at": entry.at,
                "base": element[0] if element else entry.task,
            },
        )
        return cursor.rowcount == 1

    def _finished(self, entry: Finished, number: int) -> bool:
        outcome = entry.outcome
        final, state = entry.final, 0
        if final:
            state = STATE_CODES["succeeded" if outcome.succeeded else "failed"]
            final = self._becomes(entry.task, state, outcome.finished_at)
        text = _outcome_encoder.encode(outcome)
        self.connection.execute(
            _FINISH,
            (outcome.finished_at, text, final, state * final, number, entry.task, entry.attempt),
        )
        return True

    def _becomes(self, task: str, state: int, at: float) -> bool:
        """Make a task final; false if it was (it, its element or its array was cancelled)."""
        element = split_element(task)
        if element is None:
            return self.connection.execute(_END_TASK, (state, at, task)).rowcount == 1
        found = self.connection.execute(_IS_FINAL, (element[0], task)).fetchone()
        return not found[0]

    def _lost(self, entry: Lost, number: int) -> bool:
        self.connection.execute(
            _LOSE,
            (
                entry.at,
                entry.suspicion,
                entry.hold,
                entry.begun,
                number,
                entry.task,
                entry.attempt,
            ),
        )
        return True

    def _cancelled(self, entry: Cancelled, number: int) -> bool:
        code = STATE_CODES["cancelled"]
        if split_element(entry.task):
            self.connection.execute(_CANCEL_ELEMENT, (entry.task, entry.at, code, number))
        else:
            self._end_task(entry.task, code, entry.at, number)
        return True

    def _end_task(self, task: str, code: int, at: float, number: int) -> None:
        self.connection.execute(_END_TASK, (code, at, task))
        self.connection.execute(_NUMBER_END, (number, task))
        low, high = element_range(task)
        self.connection.execute(_COUNT_ELEMENTS, {"id": task, "low": low, "high": high})

    def _held(self, entry: Held, number: int) -> bool:
        self.connection.execute(
            "UPDATE tasks SET revision = ?, held = ? WHERE id = ? AND revision < ?",
            (entry.revision, entry.reason or "held", entry.task, entry.revision),
        )
        return True

    def _released(self, entry: Released, number: int) -> bool:
        self.connection.execute(
            "UPDATE tasks SET revision = ?, held = NULL WHERE id = ? AND revision < ?",
            (entry.revision, entry.task, entry.revision),
        )
        self.connection.execute(
            "UPDATE attempts SET hold = 0 WHERE task = ? AND attempt <= ?",
            (entry.task, entry.attempt),
        )
        return True

    def _ended(self, entry: Ended, number: int) -> bool:
        self._end_task(entry.task, STATE_CODES[entry.state], entry.at, number)
        return True

    def _tagged(self, entry: Tagged | Untagged, number: int) -> bool:
        self.connection.execute(
            "INSERT INTO tags VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE "
            "SET at = ?3, present = ?4 WHERE at <= ?3",
            (entry.node, entry.tag, entry.at, isinstance(entry, Tagged)),
        )
        return True


def element_range(task: str) -> tuple[str, str]:
    """Bounds between which the ids of an array's elements lie, both exclusive."""
    return f"{task}.", f"{task}/"


def as_disk_full(error: sqlite3.OperationalError) -> Exception:
    """`DiskFull` if that is what SQLite means, else the error itself."""
    text = str(error)
    if "full" in text or "disk I/O" in text:
        return DiskFull("the disk is full: make room where the node keeps its data")
    return error


def _task_row(number: int, entry: Submitted) -> tuple[object, ...]:
    spec = entry.spec
    labels = None
    if spec.labels:
        labels = "".join(f" {key}={value}" for key, value in spec.labels.items()) + " "
    return (
        number,
        entry.task,
        entry.at,
        spec.name or None,
        labels,
        spec.redo_of or None,
        element_count(spec),
    )
