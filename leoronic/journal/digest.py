"""A hash of what the entries say, to see whether two nodes say the same."""

from __future__ import annotations

import hashlib
import sqlite3

# Nothing local: no `seq`, no order of arrival, no number that stands for a node.
_PARTS = (
    """
    SELECT t.id, o.node, t.number, t.submitted_at, t.state, t.ended_at, t.succeeded, t.failed,
           t.cancelled, t.cancelled_at, t.revision, t.held, t.released
    FROM tasks t JOIN origins o ON o.origin = t.origin ORDER BY t.id
    """,
    """
    SELECT task, attempt, node, phase, runner, started_at, ended_at, final, state, winner, lost_at,
           lost, hold, gone, uncopied, outcome FROM attempts ORDER BY task, attempt, node
    """,
    "SELECT task, attempt FROM releases ORDER BY task",
    "SELECT parent, task FROM dependencies ORDER BY parent, task",
    "SELECT task, attempt, node, stream, keeper, size FROM copies ORDER BY 1, 2, 3, 4, 5",
    "SELECT node, writer, at, reason FROM suspicions ORDER BY node, writer, at, reason",
    "SELECT node, tag, at, present FROM tags ORDER BY node, tag",
    "SELECT digest, task, kind FROM blobs ORDER BY digest, task, kind",
)


def digest(connection: sqlite3.Connection) -> str:
    """Hex text. Reads everything that is joined: for tests and for people who doubt."""
    hashed = hashlib.blake2b(digest_size=16)
    for part in _PARTS:
        for row in connection.execute(part):
            hashed.update(repr(row).encode("utf-8", "surrogatepass"))
        hashed.update(b"\n")
    return hashed.hexdigest()
