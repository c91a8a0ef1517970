"""What tasks say of files: which blobs they refer to, what they left, who did the same before.

A blob is needed by the tasks that bring it for as long as they live, and by those that left it for
as long as they are remembered.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

import msgspec

from leoronic.core.arrays import split_element
from leoronic.core.blob import FileRef
from leoronic.core.outcome import Outcome
from leoronic.core.spec import TaskSpec

BROUGHT, LEFT = 0, 1
_NEEDED = "(b.kind = 1 OR (SELECT state FROM tasks WHERE id = b.task) = 0)"
_ASKED_TOGETHER = 500
_SAME_MAX = 8


def note_brought(connection: sqlite3.Connection, task: str, files: Sequence[FileRef]) -> None:
    """A task brings these files."""
    _note(connection, task, BROUGHT, files)


def note_left(connection: sqlite3.Connection, task: str, files: Sequence[FileRef]) -> None:
    """A task or element has left these files."""
    _note(connection, task, LEFT, files)


def _note(connection: sqlite3.Connection, task: str, kind: int, files: Sequence[FileRef]) -> None:
    element = split_element(task)
    base = element[0] if element else task
    connection.executemany(
        # One that is forgotten here needs nothing.
        "INSERT OR IGNORE INTO blobs SELECT ?1, ?2, ?3 "
        "WHERE EXISTS (SELECT 1 FROM tasks WHERE id = ?4)",
        [(file.digest, task, kind, base) for file in files if file.digest],
    )


def forget_brought(connection: sqlite3.Connection, task: str) -> None:
    """Another submission takes the place of this one."""
    connection.execute("DELETE FROM blobs WHERE task = ? AND kind = ?", (task, BROUGHT))


def needed(connection: sqlite3.Connection, digests: Iterable[str]) -> set[str]:
    """Those of `digests` that a live task brings or a remembered one left."""
    found: set[str] = set()
    wanted = list(digests)
    for start in range(0, len(wanted), _ASKED_TOGETHER):
        some = wanted[start : start + _ASKED_TOGETHER]
        marks = ",".join("?" * len(some))
        rows = connection.execute(
            f"SELECT DISTINCT digest FROM blobs b WHERE digest IN ({marks}) AND {_NEEDED}", some
        )
        found.update(row[0] for row in rows)
    return found


def needed_page(connection: sqlite3.Connection, after: str, limit: int) -> list[str]:
    """At most `limit` blobs that are needed, in order of their names, those after `after`."""
    rows = connection.execute(
        f"SELECT DISTINCT digest FROM blobs b WHERE digest > ? AND {_NEEDED} "
        "ORDER BY digest LIMIT ?",
        (after, limit),
    )
    return [row[0] for row in rows]


def left_by(connection: sqlite3.Connection, task: str) -> tuple[FileRef, ...]:
    """The files that a task or element left when it ended for good."""
    row = connection.execute(
        "SELECT outcome FROM attempts WHERE task = ? AND winner AND outcome IS NOT NULL", (task,)
    ).fetchone()
    return () if row is None else msgspec.json.decode(row[0], type=Outcome).outputs


def resolved(connection: sqlite3.Connection, spec: TaskSpec) -> TaskSpec:
    """`spec`, with the blobs of those files that are outputs of other tasks.

    What a task did not leave keeps its empty digest.
    """
    if not any(file.task and not file.digest for file in spec.files):
        return spec
    left = {task: left_by(connection, task) for task in {f.task for f in spec.files if f.task}}
    files = tuple(_found(file, left.get(file.task, ())) for file in spec.files)
    return msgspec.structs.replace(spec, files=files)


def _found(file: FileRef, left: Sequence[FileRef]) -> FileRef:
    one = next((one for one in left if one.path == file.output), None)
    if one is None:
        return file
    return msgspec.structs.replace(file, digest=one.digest, size=one.size, mode=one.mode)


def same_before(connection: sqlite3.Connection, key: str) -> list[tuple[str, Outcome]]:
    """Tasks with that cache key that succeeded, and their outcomes: the latest few, as what one of
    them left may be lost.
    """
    rows = connection.execute(
        "SELECT t.id, a.outcome FROM tasks t JOIN attempts a ON a.task = t.id AND a.winner "
        "WHERE t.cache_key = ? AND t.state = 1 AND a.outcome IS NOT NULL "
        "ORDER BY t.ended_at DESC, t.id LIMIT ?",
        (key, _SAME_MAX),
    )
    return [(row[0], msgspec.json.decode(row[1], type=Outcome)) for row in rows]
