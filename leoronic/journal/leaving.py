"""What is taken along from a journal that is left behind: this node's own tasks that still live.

A node that must begin anew (its folder was copied, or it was away for longer than the others
remember) gets the cluster's queue from them. What it alone accepted must not be lost with its old
journal, so that is submitted again, under the same ids: known ones are recognised.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import msgspec

from leoronic.core.entries import Submitted, decode
from leoronic.core.spec import TaskSpec
from leoronic.journal.database import connect_reader

TASKS_MAX = 1_000_000


class Carried(msgspec.Struct, frozen=True):
    """A task, with its id, that was accepted at `at` (seconds since the epoch).

    It is submitted again only while nobody can have forgotten how it ended: else it would run
    twice if it had got around.
    """

    spec: TaskSpec
    at: float


def own_live_specs(path: Path, since: float) -> tuple[list[Carried], list[str]]:
    """The live tasks that this node accepted after `since`, in order.

    And the ids of those that must not start by themselves again: held ones, and of those with
    `on_loss: hold` what began. What can't be read of a damaged database is left out.
    """
    found: list[Carried] = []
    left: list[str] = []
    with contextlib.suppress(sqlite3.DatabaseError):
        connection = connect_reader(path)
        try:
            read_live_specs(connection, since, found, left)
        finally:
            connection.close()
    return found, left


def read_live_specs(
    connection: sqlite3.Connection, since: float, found: list[Carried], left: list[str]
) -> None:
    """As `own_live_specs`, adding to `found` and `left` whatever can be read."""
    rows = connection.execute(
        "SELECT e.body, t.held IS NOT NULL, EXISTS (SELECT 1 FROM attempts a "
        "WHERE a.task = t.id OR (a.task > t.id || '.' AND a.task < t.id || '/')) "
        "FROM tasks t JOIN entries e ON e.seq = t.entry "
        "WHERE t.state = 0 AND t.origin = 1 AND t.submitted_at >= ? ORDER BY t.ord LIMIT ?",
        (since, TASKS_MAX),
    )
    for body, held, began in rows:
        entry = decode(body)
        assert isinstance(entry, Submitted)
        if held or (began and entry.spec.on_loss == "hold"):
            left.append(entry.task)
        else:
            spec = msgspec.structs.replace(entry.spec, id=entry.task)
            found.append(Carried(spec, entry.at))
