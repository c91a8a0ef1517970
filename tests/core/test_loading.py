"""Loading the live tasks from the journal gives what hearing every entry gave."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from leoronic.core.entries import (
    Cancelled,
    Entry,
    Finished,
    Held,
    Lost,
    Numbered,
    Released,
    Started,
    encode,
)
from leoronic.core.queue_messages import Flip
from leoronic.core.replication_messages import Body
from leoronic.core.spec import After
from leoronic.core.tasks import Tasks
from leoronic.journal.database import create
from leoronic.journal.journal import Journal, TakenEntries, Written
from leoronic.journal.reads import Reads
from tests.core.entering import BAD, GOOD, state, submitted, tasks_of
from tests.core.test_joining import NODES, Both, stories


class History:
    """Entries as the machines of one node would write them, drawn step by step."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.attempts: dict[str, int] = {}
        self.open: dict[str, int] = {}
        self.revisions: dict[str, int] = {}
        self.entries: list[Entry] = [
            submitted("a", retries=9, retry_delay=50.0),
            submitted("b", count=4),
            submitted("c", after=(After("a"),)),
            submitted("d", after=(After("a", "ended"), After("b", "ended"))),
        ]
        for _ in range(draw(st.integers(0, 25))):
            self.step()

    def step(self) -> None:
        task = self.draw(st.sampled_from(["a", "b.0", "b.1", "b.3", "c"]))
        what = self.draw(st.sampled_from(["go", "go", "go", "lose", "cancel", "hold", "release"]))
        base = task.partition(".")[0]
        number = self.attempts.get(task, 0)
        if what == "go" and task not in self.open:
            self.attempts[task] = self.open[task] = number + 1
            self.entries.append(Started(task, number + 1, "n", 1.0))
        elif what == "go":
            outcome = self.draw(st.sampled_from([GOOD, BAD]))
            final = outcome is GOOD or (task != "a")
            self.entries.append(Finished(task, self.open.pop(task), "n", outcome, final))
        elif what == "lose" and task in self.open:
            hold = self.draw(st.booleans())
            self.entries.append(Lost(task, self.open.pop(task), "n", 3.0, "why", hold))
        elif what == "cancel" and self.draw(st.booleans()):
            self.entries.append(Cancelled(self.draw(st.sampled_from([task, base])), 4.0))
        elif what in ("hold", "release"):
            revision = self.revisions[base] = self.revisions.get(base, 0) + 1
            self.entries.append(
                Held(base, revision, 5.0, "r")
                if what == "hold"
                # The queue never forgives the loss of what runs in advance.
                else Released(base, revision, 5.0, self.attempts.get(base, 0) - (base in self.open))
            )


@st.composite
def histories(draw: st.DrawFn) -> list[Entry]:
    return History(draw).entries


class Kept(NamedTuple):
    """What the journal kept, each entry with what it flipped."""

    entry: Entry
    flips: list[Flip]


def written(entries: list[Entry]) -> tuple[list[Kept], Reads, sqlite3.Connection]:
    """The entries that the journal kept, and the tables."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create(connection, "n")
    journal = Journal(connection, "n")
    kept: list[Kept] = []
    for entry in entries:
        done = journal.write([entry])
        kept += [Kept(numbered.entry, done.flips) for numbered in done.entries]
    journal.commit()
    return kept, Reads(connection), connection


def heard(kept: list[Kept], again: Callable[[int], list[int]] = lambda number: []) -> Tasks:
    """All that is kept, and after each the places of what comes `again`, of tasks that live."""
    tasks = tasks_of()
    for number, (entry, flips) in enumerate(kept, 1):
        tasks.apply(Numbered("n", number, entry))
        for flip in flips:
            tasks.flip(flip)
        for old in again(number):
            task = getattr(kept[old].entry, "task", "").partition(".")[0]
            if task in tasks.live:
                tasks.apply(Numbered("n", old + 1, kept[old].entry))
    return tasks


@given(histories())
@settings(max_examples=300, deadline=None)
def test_loading_gives_what_the_entries_gave(entries: list[Entry]) -> None:
    """Every record, and the counts of what ended, are the same after a restart."""
    kept, reads, connection = written(entries)
    live = heard(kept)
    loaded = loaded_from(reads)
    connection.close()
    assert comparable(state(live)) == comparable(state(loaded))


def loaded_from(reads: Reads) -> Tasks:
    """The tasks of node `n` as it starts with these tables."""
    tasks = tasks_of()
    for task in reads.live():
        tasks.load(task)
    for ended, count in reads.ended().items():
        tasks.ended[ended] += count
    tasks.place_all_loaded()
    ask_about_strangers(tasks, reads)
    return tasks


def ask_about_strangers(tasks: Tasks, reads: Reads) -> None:
    """As the queue asks the journal."""
    strangers, tasks.strangers = list(tasks.strangers), {}
    for ref in strangers:
        for known in reads.find(ref):
            if known.state is not None:
                tasks.parent_known(ref, known.state, known.redone_as)


@given(stories())
@settings(max_examples=200, deadline=None)
def test_loading_gives_what_several_nodes_wrote(both: Both) -> None:
    """In whatever order it came: starts that are refused, twins and flips among it."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create(connection, "n")
    journal, reads = Journal(connection, "n"), Reads(connection)
    live = tasks_of()
    numbers = dict.fromkeys(NODES, 0)
    for numbered in both.first:
        node = numbered.origin
        if node == "n":
            done: Written | TakenEntries = journal.write([numbered.entry])
        else:
            numbers[node] += 1
            done = journal.take([Body(node, numbers[node], encode(numbered.entry))])
        journal.commit()
        for told in done.entries:
            live.apply(told, done.orders)
        for flip in done.flips:
            live.flip(flip)
        ask_about_strangers(live, reads)
    loaded = loaded_from(reads)
    connection.close()
    assert comparable(state(live)) == comparable(state(loaded))


def comparable(states: dict[str, object]) -> dict[str, object]:
    """Without what decides nothing: elements that only exist because they could be made."""
    for one in states.values():
        assert isinstance(one, dict)
        if "elements" in one:
            one["elements"] = {i: e for i, e in one["elements"].items() if e["runs"]}
    return states


@given(histories(), st.data())
@settings(max_examples=150, deadline=None)
def test_repetitions_are_harmless(entries: list[Entry], data: st.DataObject) -> None:
    """Any entry may be heard again, any time, as long as its task lives."""
    kept, _, connection = written(entries)
    connection.close()

    def some(number: int) -> list[int]:
        return data.draw(st.lists(st.integers(0, number - 1), max_size=2))

    assert state(heard(kept)) == state(heard(kept, some))


def test_an_array_that_was_cancelled_after_it_ended_is_counted_by_its_elements() -> None:
    """It is cancelled as a whole, and what its elements did stays what they did."""
    kept, reads, connection = written(
        [
            submitted("b", count=2),
            *(Started(f"b.{index}", 1, "n", 1.0) for index in range(2)),
            *(Finished(f"b.{index}", 1, "n", GOOD, True) for index in range(2)),
            Cancelled("b", 3.0),
        ]
    )
    assert {"succeeded": 2, "failed": 0, "cancelled": 0} == reads.ended() == heard(kept).ended
    connection.close()
