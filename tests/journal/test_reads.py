"""What can be read of the journal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from leoronic.core.blob import FileRef
from leoronic.core.entries import (
    Cancelled,
    Entry,
    Finished,
    Lost,
    Released,
    Started,
    Submitted,
    decode,
)
from leoronic.core.executor_messages import OpenAttempt
from leoronic.core.outcome import Outcome
from leoronic.core.queue_messages import Known, LoadedRun
from leoronic.core.records import LOSSES_MAX
from leoronic.core.resources import Need
from leoronic.core.runs import ENDED, LOST, OPEN
from leoronic.core.spec import After, TaskSpec
from leoronic.journal import rows as rows_module
from tests.journal.test_journal import BAD, GOOD, Disk, submitted


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    made.connection.close()


def ids(disk: Disk, **query: object) -> list[str]:
    return [row.id for row in disk.reads.page(**query)]  # type: ignore[arg-type]


def test_a_task_as_it_was_submitted(disk: Disk) -> None:
    """Its spec, who took it and where it came from."""
    spec = TaskSpec("x", name="n", after=(After("z"),), env={"A": "é"})
    disk.write(Submitted("a", spec, 7.5, "inbox"))
    row = disk.reads.task("a")
    assert row is not None
    assert (spec, 7.5, "inbox", "n", None) == (
        row.spec,
        row.submitted_at,
        row.source,
        row.origin,
        row.state,
    )
    assert spec == disk.reads.spec("a") == disk.reads.spec("a.3")
    assert disk.reads.task("b") is None
    assert disk.reads.spec("b") is None


def test_find_by_id_then_name_then_beginning(disk: Disk) -> None:
    """An id wins over a name, a name over a beginning; the newest of a name."""
    disk.write(submitted("abc"), submitted("abd"), submitted("x1", name="abc"))
    disk.write(submitted("x2", name="same"), submitted("x3", name="same"))
    assert [Known("abc", None)] == disk.reads.find("abc")
    assert [Known("x3", None)] == disk.reads.find("same")
    assert ["abc", "abd"] == [known.id for known in disk.reads.find("ab")]
    assert [] == disk.reads.find("abc9")
    assert [] == disk.reads.find("")
    assert [] == disk.reads.find("%")


def test_find_tells_of_the_end_and_of_redos(disk: Disk) -> None:
    """The newest redo of what has ended."""
    disk.write(submitted("a"), Cancelled("a", 1.0))
    disk.write(submitted("r1", redo_of="a"), submitted("r2", redo_of="a"))
    assert [Known("a", "cancelled", "r2")] == disk.reads.find("a")


def test_pages(disk: Disk) -> None:
    """Newest first, by state, label, time and page."""
    disk.write(*(submitted(f"t{n}", at=float(n), labels={"k": str(n % 2)}) for n in range(6)))
    disk.write(Cancelled("t1", 9.0), Cancelled("t4", 9.0))
    assert ["t5", "t4", "t3", "t2", "t1", "t0"] == ids(disk)
    assert ["t4", "t1"] == ids(disk, state="cancelled")
    assert ["t5", "t3", "t1"] == ids(disk, label="k=1")
    assert 6 == len(ids(disk, label="k"))
    assert [] == ids(disk, label="k=") == ids(disk, label="=1") == ids(disk, label="1")
    assert ["t5", "t4"] == ids(disk, since=4.0)
    order = disk.reads.task("t4").order  # type: ignore[union-attr]
    assert ["t3", "t2"] == ids(disk, before=order, limit=2)


def test_failed_tasks_that_nobody_has_redone(disk: Disk) -> None:
    """Oldest first; cancelled ones were meant to end."""
    for task in ("a", "b", "c"):
        disk.write(submitted(task), Started(task, 1, "n", 1.0), Finished(task, 1, "n", BAD, True))
    disk.write(submitted("d"), Cancelled("d", 1.0), submitted("b2", redo_of="b"))
    assert ["a", "c"] == disk.reads.failed_ids(10)
    assert ["a"] == disk.reads.failed_ids(1)


def test_elements_that_did_not_succeed(disk: Disk) -> None:
    """In order: those that failed, were cancelled, or never ran."""
    disk.write(submitted("a", count=12))
    for index, outcome in ((2, GOOD), (10, GOOD), (3, BAD)):
        task = f"a.{index}"
        disk.write(Started(task, 1, "n", 1.0), Finished(task, 1, "n", outcome, True))
    assert [0, 1, 3, 4, 5, 6, 7, 8, 9, 11] == disk.reads.unsuccessful_elements("a")
    assert [3] == disk.reads.failed_elements("a", 5)


def test_commands_of_live_tasks(disk: Disk) -> None:
    """In order of submission, slice by slice."""
    disk.write(submitted("a"), submitted("b"), submitted("c"), Cancelled("b", 1.0))
    assert [(1, "a"), (3, "c")] == [(n, task) for n, task, _ in disk.reads.commands(0, 10)]
    assert [(3, "c")] == [(n, task) for n, task, _ in disk.reads.commands(1, 10)]
    assert 1 == len(disk.reads.commands(0, 1))


def test_open_attempts(disk: Disk) -> None:
    """What started on a node and has no end, with what the executor must know of it."""
    disk.write(submitted("a", cpus=0.5, memory=3, retries=2, on_loss="hold"), submitted("other"))
    disk.write(Started("a", 1, "n", 1.0), Finished("a", 1, "n", BAD, False))
    disk.write(Started("a", 2, "n", 1.0), Lost("a", 2, "n", 2.0, "why"))
    disk.write(Started("a", 3, "n", 1.0, "life"), Started("other", 1, "m", 1.0))
    assert [OpenAttempt("a", 3, Need(500, 3, 0), 1, True, "life")] == disk.reads.open_attempts("n")
    disk.write(Cancelled("a", 3.0))
    assert ["cancelled"] == [known.stop_reason for known in disk.reads.open_attempts("n")]


def test_open_attempts_of_elements(disk: Disk) -> None:
    """One that was cancelled, alone or with its array, is to be ended."""
    disk.write(submitted("a", count=3, retries=1))
    disk.write(*(Started(f"a.{n}", 1, "n", 1.0) for n in range(3)), Cancelled("a.1", 2.0))
    reasons = {known.task: known.stop_reason for known in disk.reads.open_attempts("n")}
    assert {"a.0": "", "a.1": "cancelled", "a.2": ""} == reasons
    assert [1, 1, 1] == [known.retries_left for known in disk.reads.open_attempts("n")]
    disk.write(Cancelled("a", 3.0))
    assert {"cancelled"} == {known.stop_reason for known in disk.reads.open_attempts("n")}


def test_the_last_loss_is_to_be_held(disk: Disk) -> None:
    """As the queue would say it."""
    disk.write(submitted("a"))
    for attempt in range(1, LOSSES_MAX + 1):
        disk.write(Started("a", attempt, "n", 1.0))
        [known] = disk.reads.open_attempts("n")
        assert (attempt == LOSSES_MAX) == known.hold_if_lost
        disk.write(Lost("a", attempt, "n", 2.0, "why"))


def test_live_tasks_joined(disk: Disk) -> None:
    """Attempts counted as failures and losses; where it runs; what an array's elements do."""
    disk.write(submitted("a", retries=5), submitted("gone"), Cancelled("gone", 1.0))
    disk.write(Started("a", 1, "n", 1.0), Finished("a", 1, "n", BAD, False))
    disk.write(Started("a", 2, "n", 1.0), Lost("a", 2, "n", 5.0, "why", True))
    first, second = LoadedRun(1, "n", ENDED, 3.0), LoadedRun(2, "n", LOST, 5.0, hold=True)
    [loaded] = disk.reads.live()
    assert ("a", "n", [first, second]) == (loaded.task, loaded.origin, loaded.runs)
    disk.write(Started("a", 3, "n", 6.0), submitted("arr", count=9))
    disk.write(Started("arr.0", 1, "n", 1.0), Finished("arr.0", 1, "n", GOOD, True))
    disk.write(Started("arr.5", 1, "n", 1.0), Cancelled("arr.7", 1.0), Released("arr.5", 1, 1.0, 4))
    loaded, array = disk.reads.live()
    assert [first, second, LoadedRun(3, "n", OPEN)] == loaded.runs
    assert [0, 5, 7] == array.known_elements
    assert {"succeeded": 1, "cancelled": 1} == array.ended_elements
    assert {5: [LoadedRun(1, "n", OPEN)]} == array.live_elements
    assert {5: 4} == array.released_elements


def test_outcomes_are_read_back_whole(disk: Disk) -> None:
    """Output of any bytes, and everything that was measured."""
    outcome = Outcome(1.0, 2.0, signal=9, reason="killed: memory 1 MiB", peak_memory=5)
    disk.write(submitted("a"), Started("a", 1, "n", 1.0), Finished("a", 1, "n", outcome, True))
    [attempt] = disk.reads.attempts("a")
    assert (outcome, "failed", "n", 1.0, 2.0) == (
        attempt.outcome,
        attempt.final_state,
        attempt.node,
        attempt.started_at,
        attempt.ended_at,
    )


def test_an_array_is_decoded_once_for_its_elements(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its elements start one after the other; a million items are not read for each of them."""
    disk.write(submitted("a", items=["x", "y"]), submitted("b", items=["z"]))
    decoded: list[bytes] = []

    def count(body: bytes) -> Entry:
        decoded.append(body)
        return decode(body)

    monkeypatch.setattr(rows_module, "decode", count)
    assert ["x", "y"] == [disk.reads.spec(f"a.{i}").items[i] for i in (0, 1)]  # type: ignore
    assert 1 == len(decoded)
    assert ["z"] == disk.reads.spec("b.0").items  # type: ignore[union-attr]
    assert ["x", "y"] == disk.reads.spec("a.0").items  # type: ignore[union-attr]
    assert {"a.1", "b"} == set(disk.reads.specs(["a.1", "gone", "b"]))


def test_what_was_left_is_told_of_what_has_ended(disk: Disk) -> None:
    """By full id, of tasks and elements; arrays say how many elements they have."""
    left = Outcome(1.0, 2.0, exit_code=0, outputs=(FileRef("out", digest="b3:x"),))
    disk.write(submitted("one"), submitted("array", count=1), submitted("lives"))
    disk.write(
        Started("one", 1, "n", 1.0), Finished("one", 1, "n", left, final=True),
        Started("array.0", 1, "n", 1.0), Finished("array.0", 1, "n", left, final=True),
    )  # fmt: skip
    refs = ["on", "arr.0", "arr", "lives", "none"]
    told = disk.reads.look_up(1, refs, left=["on", "arr.0", "lives", "none"])
    assert {"one": ("out",), "array.0": ("out",)} == told.left
    assert [Known("array", "succeeded", elements=1)] == told.found["arr"]
