"""The journal actor on a real file: group commit, order, a full disk, and questions."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from leoronic.actors import journal_arrivals, journal_commit, journal_reading
from leoronic.actors.journal import JournalActor, Trim
from leoronic.core.entries import Cancelled, Entry, Finished, Started, Submitted, Tagged, encode
from leoronic.core.executor_messages import LoadOpen, Open
from leoronic.core.outcome import Outcome
from leoronic.core.queue_messages import (
    Append,
    Appended,
    AppendFailed,
    CommandsMatched,
    Committed,
    FetchSpecs,
    Flip,
    Known,
    Loaded,
    LoadLive,
    LookedUp,
    Lookup,
    MatchCommands,
    SpecsFetched,
)
from leoronic.core.replication_messages import (
    Body,
    LoadVector,
    PageRead,
    ReadPage,
    Take,
    Taken,
    VectorLoaded,
    Written,
)
from leoronic.core.spec import TaskSpec
from leoronic.errors import DiskFull, ProtocolError
from leoronic.journal.journal import Journal
from leoronic.runtime.ref import ActorRef
from tests.actors.recorder import Recorder
from tests.runtime.actors import child, running

GOOD = Outcome(1.0, 2.0, exit_code=0)


def submitted(task: str, command: str = "x") -> Submitted:
    return Submitted(task, TaskSpec(command), 1.0)


def is_appended(message: Any, token: int) -> bool:
    return isinstance(message, Appended) and message.token == token


class Desk:
    """The journal actor, and a queue that also stands for the other senders."""

    def __init__(
        self,
        journal: ActorRef,
        queue: Recorder,
        runner: Recorder,
        replication: Recorder,
        nodes: list[str],
    ) -> None:
        self.journal = journal
        self.queue = queue
        self.runner = runner
        self.replication = replication
        self.nodes = nodes

    def append(
        self, token: int, *entries: Entry, sender: str = "queue", specs: bool = False
    ) -> None:
        self.journal.cast_nowait(Append(sender, token, list(entries), specs))

    async def written(self, *entries: Entry) -> None:
        """Write, and let the queue forget it."""
        self.append(99, *entries)
        await self.queue.until(lambda messages: any(is_appended(m, 99) for m in messages))


@asynccontextmanager
async def desk(path: Path) -> AsyncIterator[Desk]:
    queue, runner, replication, nodes = Recorder(), Recorder(), Recorder(), list[str]()
    actor = JournalActor(path, first_start=not path.exists(), on_node=nodes.append)
    # In a tree the journal starts first; those that it tells of commits come later.
    async with running(
        child("journal", lambda: actor),
        child("queue", lambda: queue),
        child("runner", lambda: runner),
        child("replication", lambda: replication),
    ) as tree:
        yield Desk(tree.find("journal"), queue, runner, replication, nodes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "leoronic.db"


# ---- commits ----


async def test_one_commit_serves_all_that_waited(path: Path, monkeypatch: Any) -> None:
    """Many appends at once: one transaction, told as one, each answered in its turn."""
    commits: list[int] = []
    real = Journal.commit

    def commit(journal: Journal) -> None:
        commits.append(journal.number)
        real(journal)

    monkeypatch.setattr(Journal, "commit", commit)
    async with desk(path) as on:
        for number in range(20):
            on.append(number, submitted(f"t{number}"))
        messages = await on.queue.first(21)
        assert [20] == commits
        assert isinstance(messages[0], Committed)
        assert list(range(1, 21)) == [numbered.number for numbered in messages[0].entries]
        assert [Appended(n, number=n + 1) for n in range(20)] == messages[1:]


async def test_the_queue_hears_first(path: Path) -> None:
    """What somebody else wrote is known to the queue before its writer is answered."""
    async with desk(path) as on:
        await on.written(submitted("a", "echo"))
        on.append(5, Started("a", 1, "n", 1.0), sender="runner", specs=True)
        [answer] = await on.runner.first(1)
        assert Appended(5, frozenset(), {"a": TaskSpec("echo")}, 2) == answer
        [committed] = await on.queue.first(1)
        assert [Started("a", 1, "n", 1.0)] == [n.entry for n in committed.entries]


async def test_refused_starts_are_named(path: Path) -> None:
    """To their writer alone; nothing of them is told to the queue."""
    async with desk(path) as on:
        await on.written(submitted("a"), submitted("b"), Cancelled("a", 1.0))
        starts = [Started("a", 1, "n", 2.0), Started("b", 1, "n", 2.0)]
        on.append(5, *starts, sender="runner", specs=True)
        [answer] = await on.runner.first(1)
        assert {("a", 1)} == answer.refused
        [committed] = await on.queue.first(1)
        assert [starts[1]] == [numbered.entry for numbered in committed.entries]


async def test_a_big_append_is_told_in_slices(path: Path) -> None:
    """In order, and answered once."""
    count = 2 * journal_commit.SLICE_ENTRIES + 1
    async with desk(path) as on:
        on.append(1, *(submitted(f"t{n}") for n in range(count)))
        messages = await on.queue.first(4)
        assert [1000, 1000, 1] == [len(told.entries) for told in messages[:3]]
        assert Appended(1, number=count) == messages[3]


async def test_a_failed_commit_is_told_and_forgotten(path: Path, monkeypatch: Any) -> None:
    """Each that waited is told; the next commit goes on where the last good one ended."""
    real = Journal.commit
    fail = [True]

    def commit(journal: Journal) -> None:
        if fail.pop() if fail else False:
            raise DiskFull("full")
        real(journal)

    async with desk(path) as on:
        monkeypatch.setattr(Journal, "commit", commit)
        on.append(1, submitted("a"))
        on.append(2, Tagged("n", "t", 1.0), sender="runner")
        [failed] = await on.queue.first(1)
        assert isinstance(failed, AppendFailed)
        assert (1, DiskFull) == (failed.token, type(failed.error))
        assert 2 == (await on.runner.first(1))[0].token
        on.append(3, submitted("b"))
        committed, answer = await on.queue.first(2)
        assert [1] == [numbered.number for numbered in committed.entries]
        assert Appended(3, number=1) == answer


# ---- other nodes ----


def body(origin: str, number: int, entry: Entry) -> Body:
    return Body(origin, number, encode(entry))


async def test_what_others_wrote(path: Path) -> None:
    """The queue hears of it as of what was written here; replication hears when it is durable."""
    async with desk(path) as on:
        on.journal.cast_nowait(
            Take(7, [body("m", 1, submitted("a")), body("m", 2, submitted("b"))])
        )
        [answer] = await on.replication.first(1)
        assert Taken(7, {"m": 2}) == answer
        [committed] = await on.queue.first(1)
        assert [("m", 1), ("m", 2)] == [numbered[:2] for numbered in committed.entries]
        assert ({"a": 1, "b": 2}, []) == (committed.orders, committed.flips)


async def test_a_patient_take_shares_the_next_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one was just made, so that another is likely; what is not patient waits for nothing."""
    monkeypatch.setattr(journal_arrivals, "BUSY_S", 60.0)
    monkeypatch.setattr(journal_arrivals, "PATIENCE_S", 60.0)
    async with desk(path) as on:
        await on.written(submitted("a"))
        on.journal.cast_nowait(Take(7, [body("m", 1, submitted("b"))], patient=True))
        for _ in range(50):  # questions: it has had the time to begin
            await on.journal.call(lambda reads: None)
        on.append(1, submitted("c"))
        committed, appended = await on.queue.first(2)
        assert ["b", "c"] == list(committed.orders)
        assert is_appended(appended, 1)
        on.journal.cast_nowait(Take(8, [body("m", 2, submitted("d"))]))
        answers = await on.replication.first(4)
        assert [7, 8] == [answer.token for answer in answers if isinstance(answer, Taken)]


@pytest.mark.parametrize("busy_s", [60.0, 0.0])
async def test_patience_has_an_end(
    path: Path, monkeypatch: pytest.MonkeyPatch, busy_s: float
) -> None:
    """Nothing comes to be written beside it; on an idle node there is none."""
    monkeypatch.setattr(journal_arrivals, "BUSY_S", busy_s)
    monkeypatch.setattr(journal_arrivals, "PATIENCE_S", 0.001 if busy_s else 60.0)
    async with desk(path) as on:
        await on.written(submitted("a"))
        on.journal.cast_nowait(Take(7, [body("m", 1, submitted("b"))], patient=True))
        [_, answer] = await on.replication.first(2)
        assert Taken(7, {"m": 1}) == answer


async def test_what_this_node_writes_is_told_to_replication(path: Path) -> None:
    """As text, with its numbers, before its writer is answered."""
    async with desk(path) as on:
        await on.written(submitted("a"), Cancelled("a", 1.0))
        node = on.nodes[0]
        expected = [body(node, 1, submitted("a")), body(node, 2, Cancelled("a", 1.0))]
        assert [Written(expected)] == on.replication.messages


async def test_flips_are_told(path: Path) -> None:
    """With the entries that made them."""
    async with desk(path) as on:
        await on.written(submitted("a"), Cancelled("a", 1.0), submitted("b"))
        await on.written(Started("b", 1, "n", 1.0), Finished("b", 1, "n", GOOD, True))
        on.journal.cast_nowait(Take(7, [body("m", 1, Cancelled("b", 1.0))]))
        [committed] = await on.queue.first(1)
        assert [Flip("b", "succeeded", "cancelled")] == committed.flips


async def test_a_big_take_is_told_in_slices(path: Path) -> None:
    """And answered once; what follows a fault in it is left out."""
    count = journal_commit.SLICE_ENTRIES + 1
    bodies = [body("m", n, submitted(f"t{n}")) for n in range(1, count + 1)]
    async with desk(path) as on:
        on.journal.cast_nowait(Take(1, bodies))
        on.journal.cast_nowait(Take(2, [*bodies, Body("m", count + 1, b"")]))
        on.journal.cast_nowait(Take(3, [Body("m", count + 1, b"")]))
        failed, first, second = await on.replication.first(3)
        assert Taken(1, {"m": count}) == first
        assert (2, {}) == (second.token, second.have)
        assert "can't be read" in second.refused
        assert (3, ProtocolError) == (failed.token, type(failed.error))
        messages = await on.queue.first(2)
        assert [1000, 1] == [len(told.entries) for told in messages]


async def test_the_queue_is_told_what_is_held(path: Path) -> None:
    """With the last entries of a commit, and also if only numbers of forgotten ones came."""
    async with desk(path) as on:
        on.journal.cast_nowait(Take(1, [body("m", 1, submitted("a"))]))
        [taken] = await on.queue.first(1)
        assert (1, {"m": 1}) == (len(taken.entries), taken.have)
        on.journal.cast_nowait(Take(2, [], {"m": 5}, {"m": 5}))
        assert [Committed([], have={"m": 5})] == await on.queue.first(1)
        bodies = [body("m", 6 + n, submitted(f"b{n}")) for n in range(1001)]
        on.journal.cast_nowait(Take(3, bodies))
        messages = await on.queue.first(2)
        assert [{}, {"m": 1006}] == [told.have for told in messages]


async def test_pages_and_the_vector(path: Path) -> None:
    """What is on disk, for those who lack it."""
    async with desk(path) as on:
        await on.written(submitted("a"))
        node = on.nodes[0]
        on.replication.messages.clear()
        on.journal.cast_nowait(Take(1, [body("m", 3, submitted("b"))], {"m": 2}))
        on.journal.cast_nowait(LoadVector("replication", 5))
        have, floor = {node: 1, "m": 3}, {"m": 2}
        _, loaded = await on.replication.first(2)
        assert VectorLoaded(node, have, floor, 5) == loaded
        on.journal.cast_nowait(ReadPage(9, {node: 1}, 0, 1000))
        expected = PageRead(9, [body("m", 3, submitted("b"))], 2, True, have, floor)
        assert [expected] == await on.replication.first(1)


async def test_a_start_waits_for_its_task(path: Path, monkeypatch: Any) -> None:
    """The task comes with what others wrote; what does not wait for it goes first."""
    monkeypatch.setattr(journal_arrivals, "UNKNOWN_S", 3600.0)
    async with desk(path) as on:
        on.append(1, Started("a", 1, "n", 1.0), sender="runner", specs=True)
        on.append(2, Tagged("n", "t", 1.0), sender="runner")
        assert [Appended(2, number=1)] == await on.runner.first(1)
        on.journal.cast_nowait(Take(1, [body("m", 1, submitted("other"))]))
        on.journal.cast_nowait(Take(2, [body("m", 2, submitted("a"))]))
        [answer] = await on.runner.first(1)
        assert Appended(1, frozenset(), {"a": TaskSpec("x")}, 2) == answer


async def test_a_start_of_what_nobody_has_is_refused(path: Path, monkeypatch: Any) -> None:
    """Once it has waited long enough."""
    monkeypatch.setattr(journal_arrivals, "UNKNOWN_S", 0.0)
    async with desk(path) as on:
        on.append(1, Started("a", 1, "n", 1.0), sender="runner", specs=True)
        none = frozenset({("a", 1)})
        assert [Appended(1, none, unknown=none)] == await on.runner.first(1)


async def test_a_start_that_waits_is_dropped_with_its_sender(path: Path) -> None:
    """A sender that starts anew was told that it was not written."""
    async with desk(path) as on:
        on.append(1, Started("a", 1, "n", 1.0), sender="runner")
        on.append(2, Tagged("n", "t", 1.0), sender="runner")
        await on.runner.first(1)
        on.journal.cast_nowait(LoadOpen("runner", 3))
        await on.runner.first(1)
        on.journal.cast_nowait(Take(2, [body("m", 1, submitted("a"))]))
        await on.replication.until(lambda messages: Taken(2, {"m": 1}) in messages)
        assert [] == on.runner.messages


async def test_a_take_on_a_full_disk(path: Path, monkeypatch: Any) -> None:
    """It is told, and nothing of it is here: the same can be taken later."""
    real = Journal.commit
    fail = [True]

    def commit(journal: Journal) -> None:
        if fail.pop() if fail else False:
            raise DiskFull("full")
        real(journal)

    async with desk(path) as on:
        monkeypatch.setattr(Journal, "commit", commit)
        take = Take(1, [body("m", 1, submitted("a"))])
        on.journal.cast_nowait(take)
        [failed] = await on.replication.first(1)
        assert (1, DiskFull) == (failed.token, type(failed.error))
        on.journal.cast_nowait(take)
        assert [Taken(1, {"m": 1})] == await on.replication.first(1)


async def test_no_room_for_what_others_wrote(path: Path, monkeypatch: Any) -> None:
    """What is left is for the outcomes of what runs here."""
    async with desk(path) as on:
        await on.written(submitted("a"))
        on.replication.messages.clear()
        monkeypatch.setattr(
            os,
            "statvfs",
            lambda where: SimpleNamespace(f_blocks=10**6, f_frsize=4096, f_bavail=1),
        )
        on.journal.cast_nowait(Take(1, [body("m", 1, submitted("b"))]))
        [failed] = await on.replication.first(1)
        assert (1, DiskFull) == (failed.token, type(failed.error))
        assert ["a"] == await on.journal.call(lambda reads: [row.id for row in reads.page()])


# ---- a full disk ----


async def test_submissions_stop_before_the_disk_is_full(path: Path, monkeypatch: Any) -> None:
    """The rest of the room is for the ends of what runs; with room again all is as before."""
    real = os.statvfs
    async with desk(path) as on:
        await on.written(submitted("a"), Started("a", 1, "n", 1.0))
        monkeypatch.setattr(
            os,
            "statvfs",
            lambda where: SimpleNamespace(f_blocks=10**6, f_frsize=4096, f_bavail=1),
        )
        on.append(1, submitted("b"))  # alone: there is nothing to commit
        [failed] = await on.queue.first(1)
        assert isinstance(failed, AppendFailed)
        assert "make room on the disk" in failed.error.message
        on.append(2, submitted("b"))
        on.append(3, Finished("a", 1, "n", GOOD, True), sender="runner")
        assert [Appended(3, number=3)] == await on.runner.first(1)
        messages = await on.queue.first(2)
        assert {AppendFailed, Committed} == {type(message) for message in messages}
        monkeypatch.setattr(os, "statvfs", real)
        await on.written(submitted("b"))


async def test_a_submission_larger_than_the_room_is_refused(path: Path, monkeypatch: Any) -> None:
    """Before it is written; a smaller one still fits."""
    async with desk(path) as on:
        await on.written(submitted("a"))
        free = 16 * 1024 * 1024 + 5_000_000
        monkeypatch.setattr(
            os,
            "statvfs",
            lambda where: SimpleNamespace(f_blocks=10**9, f_frsize=1, f_bavail=free),
        )
        on.append(1, submitted("big", "x" * 3_000_000))
        [failed] = await on.queue.first(1)
        assert isinstance(failed, AppendFailed)
        await on.written(submitted("small"))


# ---- loading ----


async def test_loading_comes_after_what_was_written(path: Path) -> None:
    """Live tasks in order of submission, then the end with the numbers; the life is named."""
    async with desk(path) as on:
        assert [] == (await on.queue.until(lambda messages: True))
        on.append(1, submitted("a"), submitted("b"), Cancelled("a", 2.0), sender="runner")
        on.journal.cast_nowait(LoadLive("queue", 7))
        committed, tasks, end = await on.queue.first(3)
        assert isinstance(committed, Committed)
        assert (["b"], 7, False) == ([t.task for t in tasks.tasks], tasks.life, tasks.last)
        finals = {"succeeded": 0, "failed": 0, "cancelled": 1}
        assert {on.nodes[0]: 3} == committed.have
        assert Loaded([], True, on.nodes[0], 3, finals, 7, {on.nodes[0]: 3}) == end


async def test_a_sender_that_starts_anew_takes_back_what_it_wanted(path: Path) -> None:
    """Its appends that are not under way are dropped: it was told so. Others' are not."""
    async with desk(path) as on:
        on.append(1, Tagged("n", "mine", 1.0), sender="runner")
        on.append(2, submitted("a"))
        on.journal.cast_nowait(LoadOpen("runner", 3))
        assert [Open([], [], 3, number=1)] == await on.runner.first(1)
        _, answer = await on.queue.first(2)
        assert Appended(2, number=1) == answer


async def test_open_attempts_and_tags_of_this_node(path: Path) -> None:
    """What an executor must know when it starts."""
    async with desk(path) as on:
        node = on.nodes[0]
        await on.written(submitted("a"), Started("a", 1, node, 1.0), Tagged(node, "t", 1.0))
        on.journal.cast_nowait(LoadOpen("runner"))
        [answer] = await on.runner.first(1)
        assert (["a"], ["t"]) == ([known.task for known in answer.attempts], answer.tags)


# ---- questions ----


async def test_look_up(path: Path) -> None:
    """Specs come along for ids, if somebody submits with them."""
    async with desk(path) as on:
        await on.written(submitted("abc"))
        on.journal.cast_nowait(Lookup("queue", 4, ["abc", "ab", "zzz"]))
        known = [Known("abc", None)]
        found = {"abc": known, "ab": known, "zzz": []}
        assert [LookedUp(4, found, {"abc": TaskSpec("x")})] == await on.queue.first(1)
        on.journal.cast_nowait(Lookup("queue", 0, ["abc"]))
        assert [LookedUp(0, {"abc": known})] == await on.queue.first(1)
        on.journal.cast_nowait(FetchSpecs("runner", ["abc.3", "zzz"]))
        assert [SpecsFetched({"abc.3": TaskSpec("x")})] == await on.runner.first(1)


async def test_commands_are_searched_in_slices(path: Path, monkeypatch: Any) -> None:
    """All live ones, however many; meanwhile others are served."""
    monkeypatch.setattr(journal_reading, "SLICE_ROWS", 3)
    async with desk(path) as on:
        await on.written(*(submitted(f"t{n}", f"make {n % 2}") for n in range(10)))
        await on.written(Cancelled("t1", 2.0))
        on.journal.cast_nowait(MatchCommands("queue", "make 1"))
        on.journal.cast_nowait(Lookup("queue", 0, []))
        assert [LookedUp(0, {}), CommandsMatched("make 1", ["t3", "t5", "t7", "t9"])] == (
            await on.queue.first(2)
        )


async def test_a_scan_of_long_commands_pauses_and_misses_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the time for one slice is over after each command."""
    monkeypatch.setattr("leoronic.actors.journal_reading.SCAN_SLICE_S", -1.0)
    async with desk(path) as on:
        await on.written(*(submitted(f"t{i}", f"make {i % 2}") for i in range(10)))
        on.journal.cast_nowait(MatchCommands("queue", "make 1"))
        assert [CommandsMatched("make 1", ["t1", "t3", "t5", "t7", "t9"])] == (
            await on.queue.first(1)
        )


async def test_a_question_is_a_function_of_reads(path: Path) -> None:
    """Its result is the answer."""
    async with desk(path) as on:
        await on.written(submitted("a"))
        assert ["a"] == await on.journal.call(lambda reads: [row.id for row in reads.page()])


# ---- forgetting ----


async def test_trim_answers_how_many(path: Path) -> None:
    """Between two commits."""
    async with desk(path) as on:
        await on.written(submitted("a"), Cancelled("a", 1.0), submitted("b"))
        assert 1 == await on.journal.call(Trim(10.0, 100, {on.nodes[0]: 99}))
        assert ["b"] == await on.journal.call(lambda reads: [row.id for row in reads.page()])


@pytest.mark.parametrize("where", ["trim", "commit"])
async def test_no_room_to_forget(path: Path, monkeypatch: Any, where: str) -> None:
    """Who asked is told; the journal goes on."""
    async with desk(path) as on:
        await on.written(submitted("a"), Cancelled("a", 1.0))

        def full(*_arguments: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(Journal, where, full)
            with pytest.raises(DiskFull):
                await on.journal.call(Trim(10.0, 100, {on.nodes[0]: 99}))
        await on.written(submitted("b"))
        assert 1 == await on.journal.call(Trim(10.0, 100, {on.nodes[0]: 99}))


# ---- the file ----


async def test_a_damaged_file_starts_a_new_node(path: Path, monkeypatch: Any) -> None:
    """And it is told, with the name of what was set aside."""
    async with desk(path) as on:
        await on.written(submitted("a"))
        [first] = on.nodes
    path.write_bytes(b"garbage")
    async with desk(path) as on:
        assert [first] != on.nodes
        assert [] == await on.journal.call(lambda reads: reads.page())
    assert 1 == len(list(path.parent.glob("leoronic.db.damaged-*")))


async def test_stopping_finishes_what_is_being_written(path: Path) -> None:
    """What was taken before the stop is on disk after it."""
    async with desk(path) as on:
        on.append(1, *(submitted(f"t{n}") for n in range(3000)))
        await on.journal.call(lambda reads: None)
    async with desk(path) as on:
        assert 3000 == len(await on.journal.call(lambda reads: list(reads.live())))
