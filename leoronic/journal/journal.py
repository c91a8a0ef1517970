"""Writes entries, this node's own and those of others, and joins them (`join.py`).

`write` and `take` fill the open transaction, `commit` makes it durable, the version vector with
it. Synchronous: the actor decides on which thread to wait.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from leoronic.core.bounds import NUMBER_MAX
from leoronic.core.entries import (
    Entry,
    Finished,
    Lost,
    Numbered,
    Started,
    Submitted,
    decode,
    encode,
)
from leoronic.core.queue_messages import Flip
from leoronic.core.replication_messages import Body
from leoronic.core.run import AttemptKey
from leoronic.errors import DiskFull, ProtocolError
from leoronic.journal.join import Join, Placed
from leoronic.journal.pages import Page, read_page, read_vectors
from leoronic.journal.trimming import trim

NODE_ID_LENGTH_MAX = 64

_ADD_ENTRY = "INSERT INTO entries VALUES (?, ?, ?, ?)"

_Row = tuple[int, int, int, bytes]


class Written(NamedTuple):
    """What a `write` did.

    `entries` with their numbers: a `Submitted` is among them only if it made its task, or changed
    whose it is. `orders` has the place of each of these tasks. `refused` are starts that come too
    late, `unknown` starts (and ends on ghosts) of tasks that are not known here. `flips`: see
    `Flip`.
    """

    entries: list[Numbered]
    refused: frozenset[AttemptKey]
    unknown: frozenset[AttemptKey]
    orders: dict[str, int]
    flips: list[Flip]
    node: str
    rows: list[_Row]

    @property
    def bodies(self) -> list[Body]:
        """All that was written, as it travels."""
        return [Body(self.node, number, text) for _, _, number, text in self.rows]


class TakenEntries(NamedTuple):
    """What a `take` did: as in `Written`; `have` is what changed in the version vector.

    `refused` says why not all was taken.
    """

    entries: list[Numbered]
    orders: dict[str, int]
    flips: list[Flip]
    have: dict[str, int]
    refused: str


class _Kind(msgspec.Struct):
    kind: str


_kinds = msgspec.json.Decoder(_Kind)
# What decoding raises: for a wrong shape, for text that is not UTF-8, for what is nested too deep.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_known_kinds = frozenset(kind.__struct_config__.tag for kind in Entry.__args__)


class Journal:
    """The journal of node `node` on one connection, with all that it has of other nodes."""

    def __init__(self, connection: sqlite3.Connection, node: str) -> None:
        self.connection = connection
        self.node = node
        self._join = Join(connection)
        self._load()

    def _load(self) -> None:
        execute = self.connection.execute
        self._ids: dict[str, int] = dict(execute("SELECT node, origin FROM origins").fetchall())
        self._have, self._floor = read_vectors(self.connection)
        self._changed: set[str] = set()
        self._seq: int = execute("SELECT coalesce(max(seq), 0) FROM entries").fetchone()[0]
        self._join.take_flips()

    @property
    def number(self) -> int:
        """The number of this node's own last entry; 0 if there is none."""
        return self._have.get(self.node, 0)

    def vector(self) -> dict[str, int]:
        """The version vector, with what the open transaction adds."""
        return dict(self._have)

    def floor(self) -> dict[str, int]:
        """{node: highest number of its entries that was forgotten}."""
        return dict(self._floor)

    def page(self, have: Mapping[str, int], after: int, bytes_max: int) -> Page:
        """What a holder of `have` lacks: see `pages.read_page`."""
        return read_page(self.connection, have, after, bytes_max)

    def knows(self, task: str) -> bool:
        """Whether a task, or the array of an element, is known here."""
        return self._join.knows(task)

    # ---- writing ----

    def write(self, entries: Iterable[Entry]) -> Written:
        """Add this node's own entries to the open transaction, opening one if there is none."""
        self._begin()
        node, seq, number = self.node, self._seq, self.number
        origin = self._ids[node]
        batch = _Batch(self._join)
        refused: set[AttemptKey] = set()
        unknown: set[AttemptKey] = set()
        add_row, add_numbered = batch.rows.append, batch.numbered.append
        for entry in entries:
            if isinstance(entry, Submitted):
                batch.new.append((seq + 1, origin, node, number + 1, entry))
            else:
                batch.submit()
                if isinstance(entry, Finished | Lost) and entry.node != node:
                    if not self._join.knows(entry.task):
                        # Written down now, it would get to others before what it is about.
                        unknown.add((entry.task, entry.attempt))
                        continue
                    if self._join.has_ended(entry):
                        continue
                if not isinstance(entry, Started):
                    self._join.apply(entry, seq + 1, node)
                elif entry.node != node and self._join.goes_on(entry):
                    continue  # it is known, and not refused
                elif not self._join.start(entry, seq + 1):
                    known = self._join.knows(entry.task)
                    (refused if known else unknown).add((entry.task, entry.attempt))
                    continue
            seq += 1
            number += 1
            add_row((seq, origin, number, encode(entry)))
            add_numbered(Numbered(node, number, entry))
        self._finish(batch, seq, {node: number})
        return Written(
            batch.told(),
            frozenset(refused),
            frozenset(unknown),
            batch.orders,
            self._join.take_flips(),
            node,
            batch.rows,
        )

    def take(
        self,
        bodies: Sequence[Body],
        floor: Mapping[str, int] | None = None,
        have: Mapping[str, int] | None = None,
    ) -> TakenEntries:
        """Add entries of other nodes to the open transaction, opening one if there is none.

        Those that are here are skipped. What follows a gap is taken only if the gap is at most
        `floor[origin]`; else it ends there, and `refused` says so. If all was taken, everything of
        `have` is held. A kind of entry that this version does not know is kept and passed on, and
        joins nothing. Raises `ProtocolError` for what is no entry; then nothing was taken.
        """
        entries = [_decode(body) for body in bodies]
        self._begin()
        saved = (
            dict(self._have),
            dict(self._floor),
            dict(self._ids),
            set(self._changed),
            self._seq,
        )
        self.connection.execute("SAVEPOINT take")
        try:
            taken = self._take(bodies, entries, floor or {}, have or {})
        except (OverflowError, ValueError) as error:  # numbers or text that SQLite can't hold
            self.connection.execute("ROLLBACK TO take")
            self._have, self._floor, self._ids, self._changed, self._seq = saved
            self._join.take_flips()
            raise ProtocolError(f"an entry of another node can't be stored: {error}") from error
        finally:
            if self.connection.in_transaction:  # a full disk may have ended it
                self.connection.execute("RELEASE take")
        return taken

    def _take(
        self,
        bodies: Sequence[Body],
        entries: Sequence[Entry | None],
        floor: Mapping[str, int],
        have: Mapping[str, int],
    ) -> TakenEntries:
        batch = _Batch(self._join)
        seq, refused = self._seq, ""
        vector = dict(self._have)
        for (node, number, text), entry in zip(bodies, entries, strict=True):
            held = vector.get(node, 0)
            if number <= held:
                continue
            if number > held + 1:
                if number - 1 > floor.get(node, 0):
                    refused = f"entries {held + 1} to {number - 1} of {node} are missing"
                    break
                self._raise_floor(node, number - 1)
            origin = self._origin(node)
            vector[node] = number
            seq += 1
            batch.rows.append((seq, origin, number, text))
            if isinstance(entry, Submitted):
                batch.new.append((seq, origin, node, number, entry))
            elif entry is not None:
                batch.submit()
                self._join.apply(entry, seq, node)
            if entry is not None:
                batch.numbered.append(Numbered(node, number, entry))
        if not refused:
            for node, number in have.items():
                if number > vector.get(node, 0) and number <= floor.get(node, 0):
                    self._origin(node)
                    self._raise_floor(node, number)
                    vector[node] = number
        changed = {n: number for n, number in vector.items() if number != self._have.get(n)}
        self._finish(batch, seq, changed)
        flips = self._join.take_flips()
        return TakenEntries(batch.told(), batch.orders, flips, changed, refused)

    def _origin(self, node: str) -> int:
        """The number that stands for `node` in the tables."""
        found = self._ids.get(node)
        if found is None:
            cursor = self.connection.execute("INSERT INTO origins(node) VALUES (?)", (node,))
            assert cursor.lastrowid is not None
            found = self._ids[node] = cursor.lastrowid
        return found

    def _raise_floor(self, node: str, number: int) -> None:
        if number > self._floor.get(node, 0):
            self._floor[node] = number
            self._changed.add(node)

    def _finish(self, batch: _Batch, seq: int, have: Mapping[str, int]) -> None:
        batch.submit()
        self.connection.executemany(_ADD_ENTRY, batch.rows)
        self._seq = seq
        self._have.update(have)
        self._changed.update(have)

    # ---- transactions ----

    def _begin(self) -> None:
        if not self.connection.in_transaction:
            self.connection.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make the transaction durable. Raises `DiskFull`; then `rollback` is due."""
        try:
            self.connection.executemany(
                "UPDATE origins SET have = ?, floor = ? WHERE node = ?",
                [
                    (self._have.get(node, 0), self._floor.get(node, 0), node)
                    for node in sorted(self._changed)
                ],
            )
            self.connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise as_disk_full(error) from error
        self._changed.clear()

    def rollback(self) -> None:
        """Forget the open transaction."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        self._load()

    def trim(self, before: float, tasks_max: int, stable: Mapping[str, int] | None) -> int:
        """In the open transaction, forget tasks that ended before `before`; returns how many.

        `stable` is the version vector that all nodes hold: see `trimming.trim`. With None nothing
        may be forgotten. `commit` follows.
        """
        self._begin()
        if stable is None:
            return 0
        count, floors = trim(self.connection, before, tasks_max, stable)
        nodes = {origin: node for node, origin in self._ids.items()}
        for origin, number in floors.items():
            self._raise_floor(nodes[origin], number)
        return count


class _Batch:
    """What one `write` or `take` adds: submissions are merged together, as they are mostly new."""

    def __init__(self, join: Join) -> None:
        self._join = join
        self._idle: set[tuple[str, int]] = set()
        self.new: list[Placed] = []
        self.rows: list[_Row] = []
        self.numbered: list[Numbered] = []
        self.orders: dict[str, int] = {}

    def submit(self) -> None:
        """Merge the submissions that were put off."""
        if not self.new:
            return
        twins = self._join.submit(self.new)
        if not twins:
            self.orders.update([(entry.task, seq) for seq, _, _, _, entry in self.new])
        for seq, _, node, number, entry in self.new if twins else ():
            order = twins.get(seq, seq)
            if order is None:
                self._idle.add((node, number))
            else:
                self.orders[entry.task] = order
        self.new = []

    def told(self) -> list[Numbered]:
        """The entries, without submissions that changed nothing that lives."""
        if not self._idle:
            return self.numbered
        return [one for one in self.numbered if (one.origin, one.number) not in self._idle]


def as_disk_full(error: sqlite3.OperationalError) -> Exception:
    """`DiskFull` if that is what SQLite means, else the error itself."""
    text = str(error)
    if "full" in text or "disk I/O" in text:
        return DiskFull("the disk is full: make room where the node keeps its data")
    return error


def _decode(body: Body) -> Entry | None:
    """The entry; None if it is of a kind that this version does not know."""
    if not 0 < len(body.origin) <= NODE_ID_LENGTH_MAX or not 0 < body.number <= NUMBER_MAX:
        raise ProtocolError(f"no place for an entry: {body.origin[:80]!r} {body.number}")
    try:
        return decode(body.text)
    except _UNREADABLE as error:
        try:
            if _kinds.decode(body.text).kind not in _known_kinds:
                return None
        except _UNREADABLE:
            pass  # the first error says more
        raise ProtocolError(
            f"entry {body.number} of {body.origin} can't be read: {error}"
        ) from error
