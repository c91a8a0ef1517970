"""The naive reading: the same whatever order concurrent entries come in."""

from __future__ import annotations

from itertools import permutations

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
)
from leoronic.core.outcome import Outcome
from leoronic.core.spec import After, TaskSpec
from leoronic.sim.facts import Facts

GOOD = Outcome(1.0, 2.0, exit_code=0)
BAD = Outcome(1.0, 2.0, exit_code=1)


def read(*entries: Entry, spec: TaskSpec | None = None) -> Facts:
    facts = Facts()
    facts.happens(Numbered("n", 1, Submitted("t", spec or TaskSpec("x"), 1.0)))
    for number, entry in enumerate(entries, 2):
        facts.happens(Numbered("n", number, entry))
    return facts


def test_the_highest_final_run_decides() -> None:
    """Two sides of a split both ended the task: all nodes name the same outcome."""
    ends: list[list[Entry]] = [
        [Started("t", 1, "a", 1.0), Finished("t", 1, "a", GOOD, True)],
        [Started("t", 2, "b", 1.0), Finished("t", 2, "b", BAD, True)],
        [Started("t", 2, "c", 1.0), Finished("t", 2, "c", GOOD, True)],
    ]
    finals = {
        read(*[e for run in order for e in run]).tasks["t"].final for order in permutations(ends)
    }
    assert {"succeeded"} == finals


def test_a_cancel_wins_whenever_it_comes() -> None:
    """Before the end or after it."""
    run: list[Entry] = [Started("t", 1, "a", 1.0), Finished("t", 1, "a", GOOD, True)]
    assert "cancelled" == read(*run, Cancelled("t", 1.0)).tasks["t"].final
    assert "cancelled" == read(Cancelled("t", 1.0), *run).tasks["t"].final


def test_a_loss_never_undoes_an_end() -> None:
    """Somebody gave up what had ended."""
    run: list[Entry] = [Started("t", 1, "a", 1.0), Finished("t", 1, "a", BAD, False)]
    facts = read(*run, Lost("t", 1, "a", 2.0, "silent", hold=True))
    assert "ended" == facts.part("t").runs[1, "a"].end
    assert not facts.is_held("t")


def test_an_array_ends_with_its_last_element() -> None:
    """And failed if one of them did."""
    facts = read(
        Started("t.0", 1, "a", 1.0),
        Started("t.1", 1, "b", 1.0),
        Finished("t.1", 1, "b", BAD, True),
        spec=TaskSpec("x", count=2),
    )
    assert "" == facts.tasks["t"].final
    facts.happens(Numbered("n", 9, Finished("t.0", 1, "a", GOOD, True)))
    assert "failed" == facts.tasks["t"].final


def test_of_a_hold_and_a_release_of_one_revision_the_hold_counts() -> None:
    """In either order."""
    held, released = Held("t", 1, 1.0), Released("t", 1, 1.0)
    assert read(held, released).is_held("t")
    assert read(released, held).is_held("t")


def test_what_was_forgotten_had_ended() -> None:
    """To a node that never heard of it, this is all that is known: not how it ended."""
    facts = Facts({"gone": {"m"}})
    for number, when in enumerate(("ended", "succeeded"), 1):
        spec = TaskSpec("x", after=(After("gone", when),))
        facts.happens(Numbered("n", number, Submitted(when, spec, 1.0)))
    assert "" == facts.broken_dependency(facts.tasks["ended"])
    assert "" != facts.broken_dependency(facts.tasks["succeeded"])
    facts.happens(Numbered("n", 3, Submitted("again", TaskSpec("x", redo_of="gone"), 1.0)))
    facts.happens(Numbered("n", 4, Started("again", 1, "n", 1.0)))
    facts.happens(Numbered("n", 5, Finished("again", 1, "n", GOOD, True)))
    assert "" == facts.broken_dependency(facts.tasks["succeeded"])
