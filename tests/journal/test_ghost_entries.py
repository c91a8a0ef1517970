"""What nodes write down for ghosts: a run handed over is known, an end comes not too early."""

from __future__ import annotations

import itertools

from leoronic.core.entries import Cancelled, Entry, Finished, Lost, Numbered, Started, encode
from leoronic.core.outcome import Outcome
from leoronic.core.replication_messages import Body
from tests.journal.test_journal import GOOD, Disk, submitted

HANDED = Started("a", 1, "g", 5.0, "r", handed=True)


def write(disk: Disk, *entries: Entry) -> tuple[list[Entry], set[object], set[object]]:
    """What is written, refused and unknown."""
    written = disk.journal.write(entries)
    disk.journal.commit()
    return [n.entry for n in written.entries], {*written.refused}, {*written.unknown}


def test_a_run_that_is_known_is_not_refused() -> None:
    """Another clairvoyant hands it over again, before it ran or after: nothing is written."""
    disk = Disk()
    disk.write(submitted("a"), Started("a", 1, "g", 2.0, "r"))
    for again in (Started("a", 1, "g", 2.0, "r"), HANDED):
        assert ([], set(), set()) == write(disk, again)


def test_a_run_of_this_very_node_is_not_begun_twice() -> None:
    """Its executor knows what it has begun."""
    disk = Disk()
    disk.write(submitted("a"), Started("a", 1, "n", 2.0, "r"))
    assert ([], {("a", 1)}, set()) == write(disk, Started("a", 1, "n", 2.0, "r"))


def test_what_must_not_go_on_is_not_begun() -> None:
    """It was not begun yet, and meanwhile it ended, was cancelled, or another goes on."""
    ended = Finished("a", 1, "g", GOOD, final=False)
    lost = Lost("a", 1, "g", 3.0, "why", told=True)
    for since in (ended, lost, Cancelled("a", 3.0), Started("a", 2, "n", 3.0)):
        disk = Disk()
        disk.write(submitted("a"), Started("a", 1, "g", 2.0, "r"), since)
        assert ([], {("a", 1)}, set()) == write(disk, Started("a", 1, "g", 2.0, "r"))


def test_what_runs_already_is_written_down() -> None:
    """Though another run of the task began since: the join says which goes on."""
    disk = Disk()
    disk.write(submitted("a"), Started("a", 2, "n", 3.0))
    assert ([HANDED], set(), set()) == write(disk, HANDED)
    [stopped] = disk.reads.open_attempts("g")
    assert ("a", 1, "superseded") == (stopped.task, stopped.attempt, stopped.stop_reason)
    assert ([], set(), {("u", 1)}) == write(disk, Started("u", 1, "g", 1.0, handed=True))


def test_the_end_of_a_task_that_is_not_known_is_not_written() -> None:
    """To others it would come before its task. Of this node's own nothing can be unknown."""
    disk = Disk()
    end = Finished("u", 1, "g", GOOD, final=True)
    assert ([], set(), {("u", 1)}) == write(disk, end)
    assert ([], set(), {("u", 1)}) == write(disk, Lost("u", 1, "g", 1.0, "why", told=True))


def test_an_end_that_is_known_is_not_written_again() -> None:
    """However often a ghost tells it, no disk fills up; what is new of a loss is written."""
    disk = Disk()
    disk.write(submitted("a"), Started("a", 1, "g", 2.0), Started("a", 2, "g", 2.0))
    end = Finished("a", 1, "g", GOOD, final=False)
    suspected = Lost("a", 2, "g", 3.0, "why")
    lost = Lost("a", 2, "g", 4.0, "why", told=True)
    never = Lost("a", 2, "g", 5.0, "why", told=True, begun=False)
    for entry in (suspected, end, lost, never):
        assert ([entry], set(), set()) == write(disk, entry)
    late = Finished("a", 1, "g", Outcome(8.0, 9.0, exit_code=1), final=False)
    for entry in (end, late, lost, never, Lost("a", 1, "g", 9.0, "why", told=True)):
        assert ([], set(), set()) == write(disk, entry)


def test_a_ghosts_own_word_is_no_suspicion() -> None:
    """Whoever wrote it down: nothing of the run may exist any more."""
    disk = Disk()
    disk.write(submitted("a"), Started("a", 1, "g", 2.0), Started("a", 2, "h", 2.0))
    disk.write(Lost("a", 1, "g", 3.0, "why", told=True), Lost("a", 2, "h", 3.0, "why"))
    assert [] == disk.reads.open_attempts("g")
    assert [2] == [one.attempt for one in disk.reads.open_attempts("h")]


def test_starts_that_two_nodes_wrote_join_alike() -> None:
    """In whatever order they come; so do ends that were handed over twice."""
    end = Finished("a", 1, "g", Outcome(3.0, 4.0, exit_code=0), final=True)
    told = [
        Numbered("x", 1, Started("a", 1, "g", 2.0, "r")),
        Numbered("y", 1, Started("a", 1, "g", 5.0, "r", handed=True)),
        Numbered("z", 1, end),
        Numbered("w", 1, end),
    ]
    digests: set[str] = set()
    for order in itertools.permutations(told):
        disk = Disk()
        disk.write(submitted("a"))
        disk.journal.take([Body(n.origin, n.number, encode(n.entry)) for n in order])
        disk.journal.commit()
        digests.add(disk.reads.digest())
    assert 1 == len(digests)
