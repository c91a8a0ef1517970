"""What a node sends to one that lacks entries: pages of its journal, in local order."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from heapq import merge
from typing import NamedTuple

from leoronic.core.replication_messages import Body

_FROM = """
SELECT seq, number, body FROM entries WHERE origin = ? AND number >= ? ORDER BY number
"""
_AT = "SELECT number, seq FROM entries WHERE origin = ? AND number >= ? ORDER BY number LIMIT 1"


class Page(NamedTuple):
    """Entries in local order. `after` is where the next page begins; `last`: there is none.

    `have` and `floor` are the version vector and the numbers up to which some are forgotten.
    """

    bodies: list[Body]
    after: int
    last: bool
    have: dict[str, int]
    floor: dict[str, int]


def read_vectors(connection: sqlite3.Connection) -> tuple[dict[str, int], dict[str, int]]:
    """({node: all up to here is held or forgotten}, {node: up to here some are forgotten})."""
    rows = connection.execute("SELECT node, have, floor FROM origins ORDER BY origin").fetchall()
    have = {node: number for node, number, _ in rows if number}
    return have, {node: floor for node, _, floor in rows if floor}


def read_page(
    connection: sqlite3.Connection, lacking: Mapping[str, int], after: int, bytes_max: int
) -> Page:
    """Entries past `after` that a holder of the vector `lacking` lacks, about `bytes_max` bytes.

    It costs what is read, however long the journal: each origin's entries are in order of both
    number and place, so they are read from the first that is lacking and merged.
    """
    own = not connection.in_transaction
    if own:
        connection.execute("BEGIN")  # one state of the database, whatever is committed meanwhile
    try:
        have, floor = read_vectors(connection)
        ids = dict(connection.execute("SELECT node, origin FROM origins").fetchall())
        readers = [
            _read(connection, node, ids[node], lacking.get(node, 0) + 1, number, after)
            for node, number in have.items()
            if number > lacking.get(node, 0)
        ]
        bodies: list[Body] = []
        size = 0
        for seq, body in merge(*readers):
            if size >= bytes_max:
                return Page(bodies, after, False, have, floor)
            bodies.append(body)
            size += len(body.text)
            after = seq
        return Page(bodies, after, True, have, floor)
    finally:
        if own:
            connection.execute("COMMIT")


def _read(
    connection: sqlite3.Connection, node: str, origin: int, first: int, last: int, after: int
) -> Iterator[tuple[int, Body]]:
    first = _first_past(connection, origin, first, last, after)
    for seq, number, body in connection.execute(_FROM, (origin, first)):
        yield seq, Body(node, number, body)


def _first_past(
    connection: sqlite3.Connection, origin: int, first: int, last: int, after: int
) -> int:
    """The least number from `first` on whose place is past `after`; `last` + 1 if there is none."""
    end = last + 1
    while first < end:
        middle = (first + end) // 2
        found = connection.execute(_AT, (origin, middle)).fetchone()
        if found is None or found[1] > after:
            end = middle
        else:
            first = found[0] + 1
    return first
