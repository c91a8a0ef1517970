"""The join of what several nodes wrote: the same, whatever the order in which it came."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    encode,
)
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.queue_messages import Flip, LoadedRun
from leoronic.core.replication_messages import Body
from leoronic.core.runs import ENDED, LOST, NEVER_BEGAN
from leoronic.core.spec import After, TaskSpec
from leoronic.journal.reads import Copy, Uncopied
from tests.journal.history import History, Peer

GOOD = Outcome(1.0, 2.0, exit_code=0)
BAD = Outcome(1.0, 3.0, exit_code=1)
LARGE = Outcome(1.0, 2.0, exit_code=0, stdout=StreamRef(9000, file="f"))


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer("n")
    yield made
    made.close()


class Others:
    """Numbers what other nodes write."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._numbers: dict[str, int] = {}
        self.flips: list[Flip] = []

    def write(self, node: str, *entries: Entry) -> list[Entry]:
        """`node` wrote these, and they come in; returns those that are told."""
        bodies = []
        for entry in entries:
            number = self._numbers[node] = self._numbers.get(node, 0) + 1
            bodies.append(Body(node, number, encode(entry)))
        taken = self._peer.take(*bodies)
        self.flips += taken.flips
        return [numbered.entry for numbered in taken.entries]


@pytest.fixture
def others(peer: Peer) -> Others:
    return Others(peer)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 70))
def test_any_order_that_keeps_cause_before_effect(seed: int, steps: int) -> None:
    """Gives the same tables, the same live tasks and the same counts."""
    random = Random(seed)
    history = History(random, steps)
    found = set()
    live = []
    for _ in range(4):
        peer = Peer()
        bodies = history.interleaved(random)
        while bodies:
            count = random.randrange(1, 6)
            peer.take(*bodies[:count])
            bodies = bodies[count:]
        ended = tuple(sorted(peer.reads.ended().items()))
        splits = tuple(split.task for split in peer.reads.splits(100))
        found.add((peer.reads.digest(), ended, splits, tuple(peer.reads.outputs_to_keep(99))[:0]))
        live.append(peer.live())
        peer.close()
    assert 1 == len(found)
    assert [live[0]] * 4 == live


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 70))
def test_what_is_counted_is_what_there_is(seed: int, steps: int) -> None:
    """The counts of an array, kept entry by entry, are those of its elements."""
    random = Random(seed)
    peer = Peer()
    peer.take(*History(random, steps).interleaved(random))
    row = peer.reads.task("arr")
    if row is not None:
        states = [
            run.final_state for index in range(3) for run in peer.reads.attempts(f"arr.{index}")
        ]
        assert (states.count("succeeded"), states.count("failed")) == (row.succeeded, row.failed)
        if "arr" not in {task.task for task in peer.live()}:
            assert row.ended_at is not None
    peer.close()


# ---- outcomes ----


def test_the_later_attempt_has_the_outcome(peer: Peer, others: Others) -> None:
    """Two sides of a split each ended the task: one outcome, and who changes it is told."""
    peer.write(Submitted("a", TaskSpec("x"), 0.0), Started("a", 2, "n", 1.0))
    peer.write(Finished("a", 2, "n", GOOD, True))
    others.write("m", Started("a", 1, "m", 1.0), Finished("a", 1, "m", BAD, True))
    assert ("succeeded", []) == (peer.state("a"), others.flips)
    others.write("m", Started("a", 3, "m", 1.0), Finished("a", 3, "m", BAD, True))
    assert "failed" == peer.state("a")
    assert [Flip("a", "succeeded", "failed")] == others.flips
    assert [3] == [run.attempt for run in peer.reads.attempts("a") if run.winner]


def test_of_one_attempt_success_has_the_outcome(peer: Peer, others: Others) -> None:
    """Then the node with the greater id."""
    peer.write(Submitted("a", TaskSpec("x"), 0.0), Started("a", 1, "n", 1.0))
    peer.write(Finished("a", 1, "n", BAD, True))
    others.write("z", Started("a", 1, "z", 1.0), Finished("a", 1, "z", BAD, True))
    assert ("failed", []) == (peer.state("a"), others.flips)
    assert ["z"] == [run.node for run in peer.reads.attempts("a") if run.winner]
    others.write("b", Started("a", 1, "b", 1.0), Finished("a", 1, "b", GOOD, True))
    assert [Flip("a", "failed", "succeeded")] == others.flips


def test_a_cancelled_task_is_cancelled_whatever_it_did(peer: Peer, others: Others) -> None:
    """Even if it had ended here before the word came."""
    peer.write(Submitted("a", TaskSpec("x"), 0.0), Started("a", 1, "n", 1.0))
    peer.write(Finished("a", 1, "n", GOOD, True))
    others.write("m", Cancelled("a", 9.0), Cancelled("a", 8.0))
    row = peer.reads.task("a")
    assert row is not None
    assert ("cancelled", 8.0) == (row.state, row.ended_at)
    assert [Flip("a", "succeeded", "cancelled")] == others.flips


def test_an_element_that_ended_elsewhere_counts(peer: Peer, others: Others) -> None:
    """An array cancelled here: what succeeded on the other side did succeed."""
    peer.write(Submitted("a", TaskSpec("x", count=3), 0.0), Cancelled("a", 1.0))
    others.write("m", Started("a.1", 1, "m", 1.0), Finished("a.1", 1, "m", GOOD, True))
    assert {"succeeded": 1, "failed": 0, "cancelled": 2} == peer.reads.ended()
    assert [Flip("a.1", "cancelled", "succeeded")] == others.flips
    assert "cancelled" == peer.state("a")


def test_an_array_flips_with_its_elements(peer: Peer, others: Others) -> None:
    """It is what its elements say, though it had ended."""
    peer.write(Submitted("a", TaskSpec("x", count=1), 0.0), Started("a.0", 1, "n", 1.0))
    peer.write(Finished("a.0", 1, "n", BAD, True))
    others.write("m", Started("a.0", 2, "m", 1.0), Finished("a.0", 2, "m", GOOD, True))
    assert [
        Flip("a.0", "failed", "succeeded"),
        Flip("a", "failed", "succeeded", True),
    ] == others.flips
    assert {"succeeded": 1, "failed": 0, "cancelled": 0} == peer.reads.ended()


def test_when_an_array_ended(peer: Peer, others: Others) -> None:
    """With its last element; of several words that one was cancelled, the earliest counts."""
    peer.write(Submitted("a", TaskSpec("x", count=2), 0.0), Started("a.0", 1, "n", 1.0))
    peer.write(Finished("a.0", 1, "n", GOOD, True))
    others.write("m", Cancelled("a.1", 9.0), Cancelled("a.1", 8.0))
    row = peer.reads.task("a")
    assert row is not None
    assert ("cancelled", 9.0) == (row.state, row.ended_at)
    assert [8.0] == [run.ended_at for run in peer.reads.attempts("a.1")]


# ---- runs ----


def test_a_lost_run_that_ended_has_ended(peer: Peer, others: Others) -> None:
    """Work that was done counts, before or after the word that it was lost."""
    peer.write(Submitted("a", TaskSpec("x"), 0.0))
    others.write("m", Started("a", 1, "m", 1.0))
    peer.write(Lost("a", 1, "m", 5.0, "m is down"))
    assert [LoadedRun(1, "m", LOST, 5.0)] == peer.live()[0].runs
    others.write("m", Finished("a", 1, "m", BAD, False))
    assert [LoadedRun(1, "m", ENDED, 3.0)] == peer.live()[0].runs
    others.write("m", Lost("a", 1, "m", 5.0, "late"))
    [run] = peer.reads.attempts("a")
    assert (ENDED, None, "late", BAD) == (run.phase, run.lost, run.given_up, run.outcome)


def test_that_nothing_ever_ran_counts_more_than_a_suspicion(peer: Peer, others: Others) -> None:
    """Whichever comes first."""
    for task, losses in (("a", (True, False)), ("b", (False, True))):
        peer.write(Submitted(task, TaskSpec("x"), 0.0), Started(task, 1, "n", 1.0))
        for begun in losses:
            others.write("m", Lost(task, 1, "n", 5.0, "why", begun=begun))
    assert [NEVER_BEGAN] * 2 == [task.runs[0].phase for task in peer.live()]


def test_a_loss_forgiven_before_it_is_known(peer: Peer, others: Others) -> None:
    """A release names the attempt up to which losses hold no longer."""
    peer.write(Submitted("a", TaskSpec("x"), 0.0), Submitted("r", TaskSpec("x", count=2), 0.0))
    others.write(
        "m", Released("a", 2, 9.0, 3), Released("a", 1, 8.0, 1), Released("r.1", 1, 1.0, 2)
    )
    others.write("k", Started("r.1", 1, "k", 1.0))
    first, second = peer.live()
    assert (2, 3) == (first.revision, first.released)
    assert {1: 2} == second.released_elements


def test_a_hold_wins_over_a_release_of_the_same_revision(peer: Peer, others: Others) -> None:
    """Two people at two nodes: the task waits."""
    peer.write(Submitted("a", TaskSpec("x"), 0.0), Held("a", 1, 1.0, "old"))
    peer.write(Released("a", 2, 5.0))
    others.write("m", Held("a", 2, 3.0, "look"))
    assert "look" == peer.live()[0].held
    others.write("k", Released("a", 2, 9.0))
    assert "look" == peer.live()[0].held


def test_a_start_is_refused_where_another_is_known(peer: Peer, others: Others) -> None:
    """The fence: of any node, and of a task that ended anywhere."""
    peer.write(Submitted("a", TaskSpec("x"), 0.0), Submitted("b", TaskSpec("x"), 0.0))
    others.write("m", Started("a", 2, "m", 1.0), Started("b", 1, "m", 1.0))
    others.write("m", Finished("b", 1, "m", GOOD, True))
    starts = [Started("a", 2, "n", 1.0), Started("b", 2, "n", 1.0), Started("a", 3, "n", 1.0)]
    written = peer.journal.write(starts)
    assert {("a", 2), ("b", 2)} == written.refused
    assert [starts[2]] == [numbered.entry for numbered in written.entries]


# ---- the same id, taken twice ----


def test_the_earlier_submission_holds(peer: Peer, others: Others) -> None:
    """Its spec, its origin and what it runs after; the place in the order stays."""
    peer.write(Submitted("a", TaskSpec("late", after=(After("p"),)), 5.0))
    twin = Submitted("a", TaskSpec("early", name="e"), 4.0)
    assert [twin] == others.write("m", twin)
    assert [] == others.write("k", Submitted("a", TaskSpec("later"), 4.5))
    row = peer.reads.task("a")
    assert row is not None
    assert ("m", "early", 4.0, 1) == (row.origin, row.spec.command, row.submitted_at, row.order)
    assert ["a"] == [known.id for known in peer.reads.find("e")]
    assert [] == peer.connection.execute("SELECT * FROM dependencies").fetchall()


def test_twins_of_different_shapes_are_cancelled_everywhere() -> None:
    """Whatever came first, and whatever had ended by then."""
    journals = {
        "m": [
            Submitted("a", TaskSpec("one"), 5.0),
            Started("a", 1, "m", 6.0),
            Finished("a", 1, "m", GOOD, True),
        ],
        "o": [
            Submitted("a", TaskSpec("many", count=1), 4.0),
            Started("a.0", 1, "o", 6.0),
            Finished("a.0", 1, "o", BAD, True),
        ],
    }
    digests: set[str] = set()
    for order in sorted(set(permutations("mmmooo"))):
        peer = Peer("n")
        others = Others(peer)
        queue = {node: list(entries) for node, entries in journals.items()}
        for node in order:
            others.write(node, queue[node].pop(0))
        assert ("cancelled", []) == (peer.state("a"), peer.live())
        assert {"succeeded": 0, "failed": 1, "cancelled": 0} == peer.reads.ended()
        digests.add(peer.reads.digest())
        peer.close()
    assert 1 == len(digests)


def test_the_place_of_what_was_submitted_again(peer: Peer) -> None:
    """Told for those that count, also where one batch brings an id twice."""
    written = peer.journal.write(
        [
            Submitted("a", TaskSpec("1"), 5.0),
            Submitted("a", TaskSpec("2"), 6.0),
            Submitted("b", TaskSpec("1"), 6.0),
            Submitted("b", TaskSpec("2"), 5.0),
        ]
    )
    assert ["1", "1", "2"] == [n.entry.spec.command for n in written.entries]  # type: ignore
    assert {"a": 1, "b": 3} == written.orders
    assert 4 == len(written.bodies)


def test_an_ended_task_is_not_revived(peer: Peer, others: Others) -> None:
    """By nobody who submits it again."""
    peer.write(Submitted("a", TaskSpec("x"), 5.0), Cancelled("a", 6.0))
    assert [] == others.write("m", Submitted("a", TaskSpec("x"), 4.0))
    assert ("cancelled", []) == (peer.state("a"), peer.live())


# ---- tags, suspicions, copies ----


def test_the_latest_word_on_a_tag(peer: Peer, others: Others) -> None:
    """Of two at one time, that it is there."""
    others.write("m", Untagged("n", "t", 5.0), Tagged("n", "t", 5.0), Untagged("n", "t", 4.0))
    others.write("k", Tagged("n", "u", 5.0), Untagged("n", "u", 5.0))
    assert ["t", "u"] == peer.reads.tags("n")


def test_output_that_only_its_node_keeps(peer: Peer, others: Others) -> None:
    """Named until a copy of it is."""
    peer.write(Submitted("a", TaskSpec("x"), 5.0), Submitted("b", TaskSpec("x"), 5.0))
    others.write("m", Started("a", 1, "m", 1.0), Finished("a", 1, "m", LARGE, True))
    others.write("m", Started("b", 1, "m", 1.0), Finished("b", 1, "m", LARGE, True))
    assert ["b", "a"] == [output.task for output in peer.reads.outputs_to_keep(9)]
    others.write("k", Kept("b", 1, "m", "stdout", 9000), Kept("b", 1, "m", "stdout", 20))
    assert [Uncopied("a", 1, "m", "stdout", 9000)] == peer.reads.outputs_to_keep(9)
    assert [Copy("stdout", "k", 9000)] == peer.reads.copies("b", 1, "m")


def test_what_ran_twice_and_why(peer: Peer, others: Others) -> None:
    """Each run, the suspicion that explains it, and whether the outputs differ."""
    peer.write(Submitted("a", TaskSpec("x"), 0.0), Submitted("b", TaskSpec("x"), 0.0))
    others.write("m", Started("a", 1, "m", 1.0), Started("b", 1, "m", 1.0))
    peer.write(Suspected("m", 2.0, "silent for 5 s"), Lost("a", 1, "m", 2.0, "m is down"))
    assert [] == peer.reads.splits(9)
    peer.write(Started("a", 2, "n", 3.0), Finished("a", 2, "n", GOOD, True))
    said = Outcome(1.0, 2.0, exit_code=0, stdout=StreamRef(2, b"hi"))
    others.write("m", Finished("a", 1, "m", said, True), Finished("b", 1, "m", said, True))
    [split] = peer.reads.splits(9)
    assert ("a", [1, 2], True) == (
        split.task,
        [r.attempt for r in split.runs],
        split.outputs_differ,
    )
    assert [("m", "n", 2.0, "silent for 5 s")] == split.suspicions


def test_one_attempt_on_two_nodes(peer: Peer, others: Others) -> None:
    """Both sides of a split made the same attempt; equal output is told as such."""
    peer.write(Submitted("a", TaskSpec("x"), 0.0), Started("a", 1, "n", 1.0))
    others.write("m", Started("a", 1, "m", 1.0), Finished("a", 1, "m", GOOD, True))
    assert [None] == [split.outputs_differ for split in peer.reads.splits(9)]
    peer.write(Finished("a", 1, "n", GOOD, True))
    assert [False] == [split.outputs_differ for split in peer.reads.splits(9)]


def test_what_ran_again_after_a_loss_did_not_run_twice(peer: Peer, others: Others) -> None:
    """Nor what ran once, although it was given up, nor what was given up before it began."""
    for task in "abcd":
        peer.write(Submitted(task, TaskSpec("x"), 0.0))
        others.write("m", Started(task, 1, "m", 1.0))
        peer.write(Lost(task, 1, "m", 2.0, "m is down"))
    others.write("m", Lost("a", 1, "m", 9.0, "the power was cut"))
    peer.write(Started("a", 2, "n", 3.0), Finished("a", 2, "n", GOOD, True))
    others.write("m", Finished("b", 1, "m", GOOD, True))
    others.write("m", Lost("c", 1, "m", 9.0, "never", begun=False))
    peer.write(Started("c", 2, "n", 3.0), Finished("c", 2, "n", GOOD, True))
    # Its own node gave it up too: whatever it wrote of an end, it did not run all the while.
    others.write("m", Lost("d", 1, "m", 9.0, "the power was cut"))
    peer.write(Started("d", 2, "n", 3.0), Finished("d", 2, "n", GOOD, True))
    others.write("m", Finished("d", 1, "m", GOOD, True))
    # Of two one after the other, the last ended after all.
    peer.write(Submitted("e", TaskSpec("x"), 0.0), Started("e", 1, "n", 1.0))
    others.write("k", Lost("e", 1, "n", 2.0, "n is down"))
    others.write("m", Started("e", 2, "m", 3.0))
    others.write("k", Lost("e", 2, "m", 4.0, "m is down"))
    others.write("m", Finished("e", 2, "m", GOOD, True))
    assert [] == peer.reads.splits(9)


def test_suspicions_that_explain_nothing_are_left_out(peer: Peer, others: Others) -> None:
    """Those of other nodes, and those long before or after the runs; without any, the last one."""
    peer.write(Suspected("m", 1.0, "before it was submitted"))
    peer.write(Submitted("a", TaskSpec("x"), 50.0), Suspected("m", 60.0, "too early"))
    peer.write(Started("a", 1, "n", 100.0), Suspected("m", 104.0, "it"))
    peer.write(Suspected("z", 104.0, "another"), Suspected("m", 900.0, "late"))
    others.write("m", Suspected("n", 105.0, "its origin"), Started("a", 1, "m", 106.0))
    [split] = peer.reads.splits(9)
    assert ["it", "its origin"] == [one.reason for one in split.suspicions]
    peer.write(Submitted("b", TaskSpec("x"), 50.0), Started("b", 1, "n", 200.0))
    others.write("m", Started("b", 1, "m", 200.0))
    [split, _] = peer.reads.splits(9)
    assert ["too early", "it", "its origin"] == [one.reason for one in split.suspicions]


def test_which_runs_of_this_node_are_to_be_stopped(peer: Peer, others: Others) -> None:
    """Those whose task is final, and those of which a higher run is known; a loss stops none."""
    for task in "abc":
        peer.write(Submitted(task, TaskSpec("x"), 0.0), Started(task, 1, "n", 1.0))
    others.write("m", Lost("a", 1, "n", 2.0, "n is down"), Started("b", 2, "m", 3.0))
    others.write("m", Started("c", 2, "m", 3.0), Finished("c", 2, "m", GOOD, True))
    reasons = {run.task: run.stop_reason for run in peer.reads.open_attempts("n")}
    assert {"a": "", "b": "superseded", "c": "superseded"} == reasons
    peer.write(Lost("a", 1, "n", 4.0, "the runner is gone"))
    assert ["b", "c"] == [run.task for run in peer.reads.open_attempts("n")]
