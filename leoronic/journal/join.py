"""The join: what the entries, taken together, say of tasks and runs.

Each entry changes the tables by a merge that does not depend on the order of concurrent entries
(`core/runs.py` gives the rules); the `Submitted` of a task comes before all others about it. What
names a task that is unknown here was written about one that is forgotten, and changes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from leoronic.core.arrays import split_element
from leoronic.core.entries import (
    Cancelled,
    Entry,
    Finished,
    Held,
    Kept,
    Lost,
    Released,
    Started,
    Submitted,
    Suspected,
    Tagged,
    Untagged,
)
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.queue_messages import Flip
from leoronic.core.runs import ENDED, LOST, NEVER_BEGAN, end_phase
from leoronic.core.spec import element_count
from leoronic.journal import files
from leoronic.journal import statements as sql
from leoronic.journal.schema import LIVE, STATE_CODES, STATE_NAMES, STREAM_BITS

_CANCELLED = STATE_CODES["cancelled"]

_outcome_encoder = msgspec.json.Encoder()


Placed = tuple[int, int, str, int, Submitted]
"""A `Submitted` and its place: (seq here, origin, node, number in the node's journal, entry).

A plain tuple, because a submission of many tasks makes one for each.
"""


class Join:
    """Applies entries to the tables, in the open transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._flips: list[Flip] = []
        self._appliers: dict[type, Callable[..., None]] = {
            Started: self._started,
            Finished: self._finished,
            Lost: self._lost,
            Cancelled: self._cancelled,
            Held: self._held,
            Released: self._released,
            Tagged: self._tagged,
            Untagged: self._tagged,
            Suspected: self._suspected,
            Kept: self._kept,
        }

    def apply(self, entry: Entry, seq: int, writer: str) -> None:
        """Merge any entry but a `Submitted`. `writer` is the node whose journal it is from."""
        self._appliers[type(entry)](entry, seq, writer)

    def take_flips(self) -> list[Flip]:
        """The outcomes that were final and became others since this was asked last."""
        flips, self._flips = self._flips, []
        return flips

    # ---- submissions ----

    def submit(self, batch: Sequence[Placed]) -> dict[int, int | None]:
        """Merge submissions of tasks that, mostly, are new.

        Returns, for each other, {its seq: the task's order, or None if nothing that lives changed}.
        """
        rows = [_task_row(placed) for placed in batch]
        made = self._connection.executemany(sql.ADD_TASK, rows).rowcount
        twins: dict[int, int | None] = {}
        for position, (seq, _origin, _node, _number, entry) in enumerate(batch):
            if made < len(rows) and not self._made(entry.task, seq):
                twins[seq] = self._twin(batch[position], rows[position])
            elif entry.spec.after or entry.spec.files:
                self._add_dependencies(entry)
        return twins

    def _made(self, task: str, seq: int) -> bool:
        [order] = self._connection.execute("SELECT ord FROM tasks WHERE id = ?", (task,)).fetchone()
        return bool(order == seq)

    def _twin(self, placed: Placed, row: tuple[object, ...]) -> int | None:
        """The id is taken: the lesser (at, origin, number) holds. The order if that tells anything.

        A single task and an array, or arrays of different sizes, can't be joined: what ended of
        one means nothing to the other. So whoever holds, it is cancelled; wherever both come.
        """
        seq, _origin, node, number, entry = placed
        twin = self._connection.execute(sql.TWIN, (entry.task,)).fetchone()
        order, state, elements, *holding = twin
        holds = (entry.at, node, number) < tuple(holding)
        if holds:
            self._replace(entry, row)
        if elements != element_count(entry.spec):
            at = max(entry.at, holding[0])
            self._cancel(entry.task, at, seq, state, array=elements is not None)
        elif not holds:
            return None
        return None if state else int(order)

    def _replace(self, entry: Submitted, row: tuple[object, ...]) -> None:
        self._connection.execute(sql.REPLACE_TASK, row)
        self._connection.execute("DELETE FROM dependencies WHERE task = ?", (entry.task,))
        files.forget_brought(self._connection, entry.task)
        self._add_dependencies(entry)
        if element_count(entry.spec) is not None:
            low, high = element_range(entry.task)
            self._connection.execute(
                sql.COUNT_ELEMENTS,
                {"id": entry.task, "low": low, "high": high, "skip": len(low) + 1},
            )
            self._settle_array(entry.task)

    def _add_dependencies(self, entry: Submitted) -> None:
        self._connection.executemany(
            "INSERT OR IGNORE INTO dependencies VALUES (?, ?)",
            [(after.id, entry.task) for after in entry.spec.after],
        )
        files.note_brought(self._connection, entry.task, entry.spec.files)

    # ---- starts ----

    def start(self, entry: Started, seq: int) -> bool:
        """Merge a start that is to be made here; false if it comes too late (the fence).

        What runs already is no question any more: of several runs the highest goes on.
        """
        if entry.handed and self.knows(entry.task):
            self._started(entry, seq, entry.node)
            return True
        return self._connection.execute(sql.START, _start_row(entry, seq)).rowcount == 1

    def goes_on(self, entry: Started) -> bool:
        """Whether that very run began already, as is known here.

        A ghost hands over to another node what it runs, or was about to.
        """
        found = self._connection.execute(sql.GOES_ON, _start_row(entry, 0)).fetchone()
        return found is not None

    def has_ended(self, entry: Finished | Lost) -> bool:
        """Whether a ghost tells how its run ended, and that is known here already.

        It does so if it heard no answer, or if it wants to fill the disks of all nodes.
        """
        if isinstance(entry, Lost) and not entry.told:
            return False
        key = (entry.task, entry.attempt, entry.node)
        found = self._connection.execute(sql.HAS_ENDED, key).fetchone()
        if found is None:
            return False
        ended, gone, phase = found
        if isinstance(entry, Finished) or ended:
            return bool(ended)
        return bool(gone) and phase >= (LOST if entry.begun else NEVER_BEGAN)

    def knows(self, task: str) -> bool:
        """Whether a task, or the array of an element, is known here."""
        found = self._connection.execute("SELECT 1 FROM tasks WHERE id = ?", (_base(task),))
        return found.fetchone() is not None

    def _started(self, entry: Started, seq: int, _writer: str) -> None:
        self._connection.execute(sql.STARTED_ELSEWHERE, _start_row(entry, seq))
        self._connection.execute(sql.DOUBLED, (entry.task, entry.attempt, entry.node))

    # ---- ends ----

    def _finished(self, entry: Finished, seq: int, _writer: str) -> None:
        outcome = entry.outcome
        code = STATE_CODES["succeeded" if outcome.succeeded else "failed"]
        text = _outcome_encoder.encode(outcome)
        element = split_element(entry.task)
        plain = (entry.task, entry.attempt, entry.node, ENDED, outcome.finished_at, text, code, seq)
        execute = self._connection.execute
        if entry.final and element is None and execute(sql.FINISH_PLAIN, plain).rowcount == 1:
            execute(sql.END_TASK, (code, outcome.finished_at, entry.task))
        else:
            self._finished_otherwise(entry, seq, element, code, text)
        if not (_fits(outcome.stdout) and _fits(outcome.stderr)):
            self._note_large(entry, outcome)
        if outcome.outputs:
            files.note_left(self._connection, entry.task, outcome.outputs)

    def _finished_otherwise(
        self,
        entry: Finished,
        seq: int,
        element: tuple[str, int] | None,
        code: int,
        text: bytes,
    ) -> None:
        base = element[0] if element else entry.task
        found = self._connection.execute(
            "SELECT state, cancelled_at FROM tasks WHERE id = ?", (base,)
        ).fetchone()
        if found is None:
            return
        state, cancelled_at = found
        outcome, final = entry.outcome, entry.final
        if element and outcome.reason == "cancelled":
            # It was ended because it was cancelled, or its array was, and that is what counts.
            final = final and cancelled_at is None and not self._is_cancelled(entry.task)
        was = self._winner_state(entry.task) if element and final else state
        wins = final and was == LIVE
        row = self._connection.execute(
            sql.FINISH,
            {
                "task": entry.task,
                "attempt": entry.attempt,
                "node": entry.node,
                "phase": end_phase(entry.final, outcome.reason),
                "at": outcome.finished_at,
                "outcome": text,
                "final": final,
                "state": code,
                "winner": wins,
                "seq": seq,
            },
        ).fetchone()
        if final and element:
            self._note_end(base, outcome.finished_at)
        if row is None:
            return  # told before
        if row[0] is not None:
            self._connection.execute("INSERT OR IGNORE INTO doubled VALUES (?)", (entry.task,))
        if not final:
            return
        if not wins:
            self._settle(entry.task, was)
        elif element:
            self._count(base, entry.task, element[1], LIVE, code)
        else:
            self._connection.execute(sql.END_TASK, (code, outcome.finished_at, base))

    def _is_cancelled(self, element: str) -> bool:
        found = self._connection.execute(
            "SELECT 1 FROM attempts WHERE task = ? AND attempt = 0", (element,)
        )
        return found.fetchone() is not None

    def _note_large(self, entry: Finished, outcome: Outcome) -> None:
        large = 0 if _fits(outcome.stdout) else STREAM_BITS["stdout"]
        large |= 0 if _fits(outcome.stderr) else STREAM_BITS["stderr"]
        self._connection.execute(
            sql.UNCOPIED, (entry.task, entry.attempt, entry.node, large, outcome.finished_at)
        )

    def _lost(self, entry: Lost, seq: int, writer: str) -> None:
        row = self._connection.execute(
            sql.LOSE,
            {
                "task": entry.task,
                "attempt": entry.attempt,
                "node": entry.node,
                "phase": LOST if entry.begun else NEVER_BEGAN,
                "at": entry.at,
                "why": entry.suspicion,
                "hold": entry.hold,
                "gone": entry.told or writer == entry.node,
                "seq": seq,
                "base": _base(entry.task),
            },
        ).fetchone()
        if row is not None and row[0]:
            self._connection.execute("INSERT OR IGNORE INTO doubled VALUES (?)", (entry.task,))

    def _cancelled(self, entry: Cancelled, seq: int, _writer: str) -> None:
        base = _base(entry.task)
        found = self._connection.execute(
            "SELECT state, elements IS NOT NULL FROM tasks WHERE id = ?", (base,)
        ).fetchone()
        if found is None:
            return
        if base != entry.task:
            was = self._winner_state(entry.task)
            self._connection.execute(
                sql.CANCEL_ELEMENT, (entry.task, ENDED, entry.at, _CANCELLED, seq)
            )
            self._note_end(base, entry.at)
            self._settle(entry.task, was)
            return
        self._cancel(base, entry.at, seq, found[0], array=bool(found[1]))

    def _cancel(self, task: str, at: float, seq: int, was: int, *, array: bool) -> None:
        self._connection.execute(sql.CANCEL_TASK, (task, _CANCELLED, at, seq))
        if was != LIVE:
            self._connection.execute("UPDATE attempts SET winner = 0 WHERE task = ?", (task,))
        self._flip(task, was, _CANCELLED, array=array)

    # ---- what a task ends as, when it is not plain ----

    def _winner_state(self, task: str) -> int:
        """The state that a task or element has by its runs; 0 if none of them is final."""
        found = self._connection.execute(
            "SELECT state FROM attempts WHERE task = ? AND winner", (task,)
        ).fetchone()
        return LIVE if found is None else int(found[0])

    def _settle(self, task: str, was: int) -> None:
        """Find what a task or element, which was `was`, ends as: several may decide it."""
        element = split_element(task)
        if element is None:
            [cancelled_at] = self._connection.execute(
                "SELECT cancelled_at FROM tasks WHERE id = ?", (task,)
            ).fetchone()
            if cancelled_at is not None:
                return
        # The row of attempt 0 says that the element was cancelled, which wins over all.
        # Success is 1 and failure 2: of two ends of one attempt the lesser state ranks higher.
        attempt, node, state, ended_at = self._connection.execute(
            "SELECT attempt, node, state, ended_at FROM attempts WHERE task = ? AND final "
            "ORDER BY attempt = 0 DESC, attempt DESC, state, node DESC LIMIT 1",
            (task,),
        ).fetchone()
        self._connection.execute(
            "UPDATE attempts SET winner = (attempt = ?2 AND node = ?3) WHERE task = ?1",
            (task, attempt, node),
        )
        if element:
            self._count(element[0], task, element[1], was, state)
        else:
            self._connection.execute(
                "UPDATE tasks SET state = ?, ended_at = ? WHERE id = ?", (state, ended_at, task)
            )
            self._flip(task, was, state)

    def _count(self, array: str, element: str, index: int, was: int, state: int) -> None:
        """An element's own state was `was` (0: none) and is `state`: count it in its array."""
        count, array_state, cancelled_at = self._connection.execute(
            "SELECT elements, state, cancelled_at FROM tasks WHERE id = ?", (array,)
        ).fetchone()
        if was == state or count is None or index >= count:
            return
        steps = [(state == code) - (was == code) for code in sorted(STATE_NAMES)]
        [done] = self._connection.execute(
            "UPDATE tasks SET succeeded = succeeded + ?2, failed = failed + ?3, "
            "cancelled = cancelled + ?4 WHERE id = ?1 RETURNING succeeded + failed + cancelled",
            (array, *steps),
        ).fetchone()
        self._flip(element, was or (_CANCELLED if cancelled_at is not None else LIVE), state)
        if done == count or array_state != LIVE:
            self._settle_array(array)

    def _note_end(self, array: str, at: float) -> None:
        self._connection.execute(
            "UPDATE tasks SET last_at = max(coalesce(last_at, ?2), ?2), "
            "ended_at = CASE WHEN state > 0 AND cancelled_at IS NULL "
            "THEN max(coalesce(last_at, ?2), ?2) ELSE ended_at END WHERE id = ?1",
            (array, at),
        )

    def _settle_array(self, array: str) -> None:
        """An array ends when all its elements have; it failed if one did."""
        count, succeeded, failed, cancelled, was, cancelled_at = self._connection.execute(
            "SELECT elements, succeeded, failed, cancelled, state, cancelled_at "
            "FROM tasks WHERE id = ?",
            (array,),
        ).fetchone()
        if cancelled_at is not None or succeeded + failed + cancelled < count:
            return
        name = "failed" if failed else "cancelled" if cancelled else "succeeded"
        self._connection.execute(
            "UPDATE tasks SET state = ?, ended_at = last_at WHERE id = ?",
            (STATE_CODES[name], array),
        )
        self._flip(array, was, STATE_CODES[name], array=True)

    def _flip(self, task: str, was: int, state: int, *, array: bool = False) -> None:
        if was not in (LIVE, state):
            self._flips.append(Flip(task, STATE_NAMES[was], STATE_NAMES[state], array))

    # ---- the rest ----

    def _held(self, entry: Held, _seq: int, _writer: str) -> None:
        why = entry.reason or "held"
        self._connection.execute(sql.HOLD, (entry.task, entry.revision, why, 1, why))

    def _released(self, entry: Released, seq: int, _writer: str) -> None:
        execute = self._connection.execute
        if split_element(entry.task):
            if self.knows(entry.task):
                execute(
                    "INSERT INTO releases VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE "
                    "SET attempt = max(attempt, ?2)",
                    (entry.task, entry.attempt, seq),
                )
            return
        execute(sql.HOLD, (entry.task, entry.revision, None, 0, ""))
        execute(
            "UPDATE tasks SET released = max(released, ?) WHERE id = ?",
            (entry.attempt, entry.task),
        )

    def _tagged(self, entry: Tagged | Untagged, seq: int, _writer: str) -> None:
        present = isinstance(entry, Tagged)
        self._connection.execute(sql.TAG, (entry.node, entry.tag, entry.at, present, seq))

    def _suspected(self, entry: Suspected, seq: int, writer: str) -> None:
        self._connection.execute(
            "INSERT OR IGNORE INTO suspicions VALUES (?, ?, ?, ?, ?)",
            (entry.node, writer, entry.at, entry.reason, seq),
        )

    def _kept(self, entry: Kept, seq: int, writer: str) -> None:
        row: dict[str, Any] = {
            "task": entry.task,
            "attempt": entry.attempt,
            "node": entry.node,
            "stream": entry.stream,
            "keeper": writer,
            "size": entry.size,
            "seq": seq,
            "base": _base(entry.task),
        }
        self._connection.execute(sql.KEEP, row)
        self._connection.execute(
            "UPDATE attempts SET uncopied = uncopied & ~? "
            "WHERE task = ? AND attempt = ? AND node = ?",
            (STREAM_BITS.get(entry.stream, 0), entry.task, entry.attempt, entry.node),
        )


def element_range(task: str) -> tuple[str, str]:
    """Bounds between which the ids of an array's elements lie, both exclusive."""
    return f"{task}.", f"{task}/"


def _base(task: str) -> str:
    element = split_element(task)
    return element[0] if element else task


def _fits(stream: StreamRef) -> bool:
    """Whether all that is kept of it travels with the outcome."""
    return not stream.size or bool(stream.inline)


def _start_row(entry: Started, seq: int) -> dict[str, object]:
    return {
        "task": entry.task,
        "attempt": entry.attempt,
        "node": entry.node,
        "runner": entry.runner,
        "at": entry.at,
        "seq": seq,
        "base": _base(entry.task),
        "handed": entry.handed,
    }


def _task_row(placed: Placed) -> tuple[object, ...]:
    seq, origin, _, number, entry = placed
    spec = entry.spec
    labels = None
    if spec.labels:
        labels = "".join(f" {key}={value}" for key, value in spec.labels.items()) + " "
    return (
        seq,
        entry.task,
        origin,
        number,
        entry.at,
        spec.name or None,
        labels,
        spec.redo_of or None,
        element_count(spec),
        spec.cache_key or None,
    )
