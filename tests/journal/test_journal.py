"""The journal on a database in memory: numbers, transactions, and the join of the entries."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from leoronic.core.entries import (
    Cancelled,
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
    decode,
)
from leoronic.core.outcome import Outcome
from leoronic.core.queue_messages import LoadedRun
from leoronic.core.runs import LOST
from leoronic.core.spec import After, TaskSpec
from leoronic.errors import DiskFull
from leoronic.journal.database import create
from leoronic.journal.join import element_range
from leoronic.journal.journal import Journal, as_disk_full
from leoronic.journal.reads import Reads

GOOD = Outcome(1.0, 2.0, exit_code=0)
BAD = Outcome(1.0, 3.0, exit_code=1)


def submitted(task: str, at: float = 0.0, **fields: object) -> Submitted:
    return Submitted(task, TaskSpec("x", **fields), at)  # type: ignore[arg-type]


class Disk:
    """A journal, and what can be read of it."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        create(self.connection, "n")
        self.journal = Journal(self.connection, "n")
        self.reads = Reads(self.connection)

    def write(self, *entries: Entry) -> list[Numbered]:
        written = self.journal.write(entries)
        self.journal.commit()
        return written.entries

    def stored(self) -> list[tuple[int, Entry]]:
        rows = self.connection.execute("SELECT number, body FROM entries ORDER BY number")
        return [(number, decode(body)) for number, body in rows]

    def states(self, task: str) -> list[str | None]:
        return [attempt.final_state for attempt in self.reads.attempts(task)]


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    made.connection.close()


# ---- numbers and transactions ----


def test_entries_are_numbered_from_one(disk: Disk) -> None:
    """In the order they were written, over all transactions, and after opening anew."""
    entries: list[Entry] = [submitted("a"), submitted("b"), Cancelled("a", 1.0)]
    assert [Numbered("n", 1, entries[0])] == disk.write(entries[0])
    assert [Numbered("n", 2, entries[1]), Numbered("n", 3, entries[2])] == disk.write(*entries[1:])
    assert list(enumerate(entries, 1)) == disk.stored()
    assert 3 == Journal(disk.connection, "n").number


def test_a_start_that_comes_too_late_is_refused(disk: Disk) -> None:
    """It gets no number, and the rest of its batch is written."""
    disk.write(submitted("a"), submitted("b"), submitted("c", count=2))
    disk.write(Cancelled("a", 1.0), Started("b", 2, "n", 1.0), Cancelled("c.0", 1.0))
    written = disk.journal.write(
        [
            Started("a", 1, "n", 2.0),  # the task is final
            Started("b", 2, "n", 2.0),  # that attempt is known
            Started("b", 1, "n", 2.0),  # and this one is older
            Started("c.0", 1, "n", 2.0),  # the element is final
            Started("zzz", 1, "n", 2.0),  # nobody submitted that
            Started("c.1", 1, "n", 2.0),
        ]
    )
    disk.journal.commit()
    assert {("a", 1), ("b", 2), ("b", 1), ("c.0", 1)} == written.refused
    assert {("zzz", 1)} == written.unknown
    assert [Numbered("n", 7, Started("c.1", 1, "n", 2.0))] == written.entries


def test_a_start_in_the_same_transaction_as_its_task(disk: Disk) -> None:
    """What was written before it counts, committed or not."""
    assert 2 == len(disk.write(submitted("a"), Started("a", 1, "n", 1.0)))


def test_a_rollback_forgets_entries_and_their_numbers(disk: Disk) -> None:
    """The next entry gets the number of the first that was forgotten."""
    disk.write(submitted("a"))
    disk.journal.write([submitted("b"), Started("a", 1, "n", 1.0)])
    assert 3 == disk.journal.number
    disk.journal.rollback()
    assert 1 == disk.journal.number
    assert disk.reads.task("b") is None
    assert [] == disk.reads.attempts("a")
    assert [2] == [numbered.number for numbered in disk.write(submitted("c"))]
    disk.journal.rollback()  # nothing is open: nothing happens
    assert 2 == disk.journal.number


def test_several_writes_share_a_commit(disk: Disk) -> None:
    """Until then nothing of it is durable."""
    disk.journal.write([submitted("a")])
    disk.journal.write([submitted("b")])
    assert disk.connection.in_transaction
    disk.journal.commit()
    assert ["a", "b"] == [row.id for row in reversed(disk.reads.page())]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("database or disk is full", DiskFull),
        ("disk I/O error", DiskFull),
        ("database is locked", sqlite3.OperationalError),
    ],
)
def test_errors_that_mean_a_full_disk(text: str, expected: type[Exception]) -> None:
    """They are told as such; others stay what they are."""
    assert isinstance(as_disk_full(sqlite3.OperationalError(text)), expected)


def test_a_commit_on_a_full_disk(disk: Disk) -> None:
    """The error is `DiskFull`; after a rollback the journal goes on as before."""
    disk.write(submitted("a"))
    [pages] = disk.connection.execute("PRAGMA page_count").fetchone()
    disk.connection.execute(f"PRAGMA max_page_count = {pages}")

    def fill() -> None:
        disk.journal.write([submitted(f"t{n}", env={"A": "x" * 2000}) for n in range(50)])
        disk.journal.commit()

    with pytest.raises((DiskFull, sqlite3.OperationalError)) as caught:
        fill()
    if isinstance(caught.value, sqlite3.OperationalError):
        assert isinstance(as_disk_full(caught.value), DiskFull)
    disk.journal.rollback()
    assert 1 == disk.journal.number
    disk.connection.execute("PRAGMA max_page_count = 100000")
    fill()
    assert 51 == disk.journal.number


# ---- the join ----


def test_the_end_of_a_task(disk: Disk) -> None:
    """The outcome of its final attempt is the task's; what comes later changes nothing."""
    disk.write(submitted("a"), Started("a", 1, "n", 1.0), Finished("a", 1, "n", BAD, False))
    assert disk.reads.task("a").state is None  # type: ignore[union-attr]
    disk.write(Started("a", 2, "n", 4.0), Finished("a", 2, "n", GOOD, True))
    disk.write(Finished("a", 2, "n", BAD, True), Lost("a", 2, "n", 9.0, "why"))
    row = disk.reads.task("a")
    assert row is not None
    assert ("succeeded", 2.0) == (row.state, row.ended_at)
    first, second = disk.reads.attempts("a")
    assert (BAD, None, None) == (first.outcome, first.final_state, first.lost)
    assert (GOOD, "succeeded", None) == (second.outcome, second.final_state, second.lost)


def test_a_cancelled_task_stays_cancelled(disk: Disk) -> None:
    """The end of what ran is kept, and gives the task no other state."""
    disk.write(submitted("a"), Started("a", 1, "n", 1.0), Cancelled("a", 1.5))
    disk.write(Finished("a", 1, "n", BAD, True))
    assert "cancelled" == disk.reads.task("a").state  # type: ignore[union-attr]
    [attempt] = disk.reads.attempts("a")
    assert (BAD, None) == (attempt.outcome, attempt.final_state)


def test_an_element_has_one_final_state(disk: Disk) -> None:
    """Cancelled and then ended, or ended and then cancelled: it is cancelled."""
    disk.write(submitted("a", count=3))
    disk.write(
        Started("a.0", 1, "n", 1.0), Cancelled("a.0", 1.5), Finished("a.0", 1, "n", BAD, True)
    )
    disk.write(
        Started("a.1", 1, "n", 1.0), Finished("a.1", 1, "n", GOOD, True), Cancelled("a.1", 2.5)
    )
    disk.write(Cancelled("a.2", 1.0))
    disk.write(Cancelled("a.2", 2.0))
    assert ["cancelled", None] == disk.states("a.0")
    assert ["cancelled", None] == disk.states("a.1")
    assert "cancelled" == disk.reads.task("a").state  # type: ignore[union-attr]
    assert ["cancelled"] == disk.states("a.2")
    assert {"succeeded": 0, "failed": 0, "cancelled": 3} == disk.reads.ended()


def test_an_array_counts_its_elements_when_it_ends(disk: Disk) -> None:
    """What has no end of its own is cancelled with it, and so is what was ended for it."""
    disk.write(submitted("a", count=10))
    disk.write(Started("a.0", 1, "n", 1.0), Finished("a.0", 1, "n", GOOD, True))
    disk.write(Started("a.1", 1, "n", 1.0), Finished("a.1", 1, "n", BAD, True))
    killed = Outcome(1.0, 3.0, signal=15, reason="cancelled")
    disk.write(Started("a.2", 1, "n", 1.0), Cancelled("a", 2.0))
    disk.write(Finished("a.2", 1, "n", killed, True))
    row = disk.reads.task("a")
    assert row is not None
    assert ("cancelled", 10, 1, 1) == (row.state, row.elements, row.succeeded, row.failed)
    assert {"succeeded": 1, "failed": 1, "cancelled": 8} == disk.reads.ended()
    assert "a.1" == disk.reads.worst_element("a").task  # type: ignore[union-attr]


def test_holds_and_releases(disk: Disk) -> None:
    """The highest revision counts; a release forgives losses up to its attempt."""
    disk.write(submitted("a"), Held("a", 2, 1.0, "why"), Held("a", 1, 1.0, "old"))
    [loaded] = disk.reads.live()
    assert (2, "why") == (loaded.revision, loaded.held)
    disk.write(Started("a", 1, "n", 1.0), Lost("a", 1, "n", 2.0, "gone", True))
    assert [LoadedRun(1, "n", LOST, 2.0, hold=True)] == next(disk.reads.live()).runs
    disk.write(Released("a", 3, 3.0, 1))
    [loaded] = disk.reads.live()
    assert (3, None, 1) == (loaded.revision, loaded.held, loaded.released)


def test_tags(disk: Disk) -> None:
    """The latest word on a tag counts, whatever the order of entries."""
    disk.write(Tagged("n", "b", 1.0), Tagged("n", "a", 1.0), Tagged("m", "c", 1.0))
    assert ["a", "b"] == disk.reads.tags("n")
    disk.write(Untagged("n", "a", 3.0), Tagged("n", "a", 2.0))
    assert ["b"] == disk.reads.tags("n")


def test_the_range_of_an_arrays_elements() -> None:
    """Ids between the bounds are its elements, and nobody else's."""
    low, high = element_range("k3")
    assert all(low < f"k3.{n}" < high for n in (0, 7, 10**9))
    assert not any(low < other < high for other in ("k3", "k30", "k30.1", "k3-1", "k2.1", "k3/1"))


# ---- forgetting ----


def test_trim_forgets_what_is_old(disk: Disk) -> None:
    """Tasks, attempts, elements and entries; what lives, and what ended later, stays."""
    disk.write(submitted("a"), Started("a", 1, "n", 1.0), Finished("a", 1, "n", GOOD, True))
    disk.write(submitted("arr", count=1), Started("arr.0", 1, "n", 1.0))
    disk.write(Finished("arr.0", 1, "n", GOOD, True))
    disk.write(submitted("live"), submitted("b"), Cancelled("b", 50.0))
    assert 2 == disk.journal.trim(10.0, 100, disk.journal.vector())
    disk.journal.commit()
    assert ["b", "live"] == [row.id for row in disk.reads.page()]
    assert [] == disk.reads.attempts("a") + disk.reads.attempts("arr.0")
    assert ["live", "b", "b"] == [entry.task for _, entry in disk.stored()]  # type: ignore[union-attr]
    assert {"succeeded": 0, "failed": 0, "cancelled": 1} == disk.reads.ended()


def test_trim_in_slices(disk: Disk) -> None:
    """So many at a time, oldest first, until there is nothing more."""
    for number in range(5):
        disk.write(submitted(f"t{number}"), Cancelled(f"t{number}", 1.0))
    counts: list[int] = []
    while not counts or counts[-1]:
        counts.append(disk.journal.trim(10.0, 2, disk.journal.vector()))
        disk.journal.commit()
    assert [2, 2, 1, 0] == counts


def test_numbers_go_on_after_everything_was_forgotten(disk: Disk) -> None:
    """The last entry stays: a number is never used twice."""
    disk.write(submitted("a"), Cancelled("a", 1.0))
    disk.journal.trim(10.0, 10, disk.journal.vector())
    disk.journal.commit()
    assert [] == disk.reads.page()
    assert 2 == Journal(disk.connection, "n").number
    assert [3] == [numbered.number for numbered in disk.write(submitted("b"))]


def test_what_a_live_task_runs_after_is_not_forgotten(disk: Disk) -> None:
    """A task past retention stays while something that runs after it lives."""
    disk.write(submitted("a"), Started("a", 1, "n", 1.0), Finished("a", 1, "n", GOOD, True))
    disk.write(submitted("b", after=(After("a"),)))
    assert 0 == disk.journal.trim(1e12, 10, disk.journal.vector())
    disk.journal.commit()
    disk.write(Cancelled("b", 1.0))
    assert 2 == disk.journal.trim(1e12, 10, disk.journal.vector())
    disk.journal.commit()
    assert [] == disk.reads.find("a")


def test_entries_go_with_their_tasks(disk: Disk) -> None:
    """One old task that lives keeps nothing of the others."""
    disk.write(submitted("old"))
    for number in range(20):
        task = f"t{number}"
        disk.write(submitted(task), Started(task, 1, "n", 1.0), Finished(task, 1, "n", GOOD, True))
    disk.write(submitted("c", count=2), Started("c.0", 1, "n", 1.0))
    disk.write(Finished("c.0", 1, "n", GOOD, True), Cancelled("c", 1.0))
    assert 21 == disk.journal.trim(1e12, 100, disk.journal.vector())
    disk.journal.commit()
    assert [1, 65] == [number for number, _ in disk.stored()]
