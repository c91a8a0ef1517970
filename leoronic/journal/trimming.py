"""Forgetting: tasks that ended long ago, and the entries that made them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

from leoronic.journal.join import element_range

_OLD_TASKS = """
SELECT ord, id FROM tasks t WHERE state > 0 AND ended_at < :before
AND ord < coalesce(
  (SELECT ord FROM tasks WHERE submitted_at >= :before ORDER BY ord LIMIT 1), 9223372036854775807
) AND NOT EXISTS (
  SELECT 1 FROM dependencies d JOIN tasks c ON c.id = d.task WHERE d.parent = t.id AND c.state = 0
) AND NOT EXISTS (SELECT 1 FROM tasks o WHERE o.id = t.redo_of) ORDER BY ord LIMIT :most
"""
_RUN_SEQS = " UNION ALL ".join(
    f"SELECT {column} FROM {table} WHERE task = :id OR (task > :low AND task < :high)"
    for table, columns in (
        ("attempts", ("start_seq", "end_seq", "lost_seq")),
        ("copies", ("seq",)),
        ("releases", ("seq",)),
    )
    for column in columns
)
_ENTRIES = f"""
FROM entries WHERE seq IN (
  SELECT ord FROM tasks WHERE id = :id UNION ALL SELECT entry FROM tasks WHERE id = :id
  UNION ALL SELECT cancel_seq FROM tasks WHERE id = :id UNION ALL {_RUN_SEQS}
)
"""
# What is told apart by no task goes once every task that is kept came after it; but the last word
# on a tag, and suspicions that explain what is still told, are for newcomers as well.
_LOOSE = """
FROM entries WHERE seq < :bound AND seq NOT IN (SELECT seq FROM tags)
AND seq NOT IN (SELECT seq FROM suspicions)
"""
_TABLES = ("attempts", "copies", "releases", "doubled", "blobs")


def trim(
    connection: sqlite3.Connection, before: float, tasks_max: int, stable: Mapping[str, int]
) -> tuple[int, dict[int, int]]:
    """Forget up to `tasks_max` tasks that ended before `before`, in the open transaction.

    `stable` {node: number} says which entries every node holds: others are not forgotten, nor are
    their tasks. What a live task runs after is kept: how it ended may still matter. So may how its
    redo ended, and the redo of that: no redo goes before what it redid. Returns how many tasks
    went, and {origin: the highest number that was forgotten}.
    """
    execute = connection.execute
    bounds = {
        origin: stable.get(node, 0) for origin, node in execute("SELECT origin, node FROM origins")
    }
    floors: dict[int, int] = {}
    # The very last entry stays: it tells which place comes next.
    last = execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0]
    count = 0
    for _, task in execute(_OLD_TASKS, {"before": before, "most": tasks_max}).fetchall():
        low, high = element_range(task)
        where = {"id": task, "low": low, "high": high, "last": last}
        tops = execute(f"SELECT origin, max(number) {_ENTRIES} GROUP BY origin", where).fetchall()
        if any(number > bounds[origin] for origin, number in tops):
            continue
        execute(f"DELETE {_ENTRIES} AND seq < :last", where)
        _raise(floors, tops)
        for table in _TABLES:
            execute(
                f"DELETE FROM {table} WHERE task = :id OR (task > :low AND task < :high)", where
            )
        execute("DELETE FROM dependencies WHERE parent = ? OR task = ?", (task, task))
        execute("DELETE FROM tasks WHERE id = ?", (task,))
        count += 1
    execute("DELETE FROM suspicions WHERE at < ?", (before,))
    _drop_loose(connection, bounds, floors, last)
    return count, floors


def _drop_loose(
    connection: sqlite3.Connection, bounds: Mapping[int, int], floors: dict[int, int], last: int
) -> None:
    execute = connection.execute
    kept = execute("SELECT min(ord) FROM tasks").fetchone()[0]
    bound = last if kept is None else min(kept, last)
    for [origin] in execute(f"SELECT DISTINCT origin {_LOOSE}", {"bound": bound}).fetchall():
        where = {"bound": bound, "origin": origin, "stable": bounds[origin]}
        some = f"{_LOOSE} AND origin = :origin AND number <= :stable"
        [top] = execute(f"SELECT max(number) {some}", where).fetchone()
        if top is not None:
            execute(f"DELETE {some}", where)
            _raise(floors, [(origin, top)])


def _raise(floors: dict[int, int], tops: Iterable[tuple[int, int]]) -> None:
    for origin, number in tops:
        floors[origin] = max(floors.get(origin, 0), number)
