"""The live tasks as the join of their entries: what is promised for the journal of one node.

The entries of one node come in the order of their numbers. Promised: any of them may come again,
at once or much later, while its task lives, and changes nothing; what comes too late (an old
attempt, an old revision, anything about a task that is final) changes nothing; and loading from the
tables gives the same as having heard every entry.
"""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leoronic.core.arrays import ArrayRecord
from leoronic.core.effects import Send
from leoronic.core.entries import (
    Cancelled,
    Ended,
    Entry,
    Finished,
    Held,
    Lost,
    Numbered,
    Released,
    Started,
    Submitted,
    Tagged,
)
from leoronic.core.outcome import Outcome
from leoronic.core.queue_messages import Item, Offered, StopAttempt, Withdrawn
from leoronic.core.records import LOSSES_MAX, Record, Status, _Rare
from leoronic.core.spec import After, TaskSpec
from leoronic.core.tasks import Tasks
from leoronic.journal.database import create
from leoronic.journal.journal import Journal
from leoronic.journal.reads import Reads

NOW = 100.0
GOOD = Outcome(1.0, 2.0, exit_code=0)
BAD = Outcome(1.0, 2.0, exit_code=1)


def submitted(task: str = "a", **fields: object) -> Submitted:
    fields.setdefault("command", "x")
    return Submitted(task, TaskSpec(**fields), 0.0)  # type: ignore[arg-type]


def tasks_of(*entries: Entry) -> Tasks:
    tasks = Tasks()
    tasks.at(NOW)
    for number, entry in enumerate(entries, 1):
        tasks.apply(Numbered("n", number, entry))
    return tasks


def seen(record: Record) -> dict[str, object]:
    """All that a record holds, but for its class's number."""
    rare = [name for name, value in vars(Record).items() if isinstance(value, _Rare)]
    apart = ("_rare", "_status", "parent", "task_class")
    names = [name for name in Record.__slots__ if name not in apart] + rare
    found = {name: getattr(record, name) for name in [*names, "status"]}
    found["class"] = record.task_class.need
    if isinstance(record, ArrayRecord):
        found["ended"] = dict(record.ended)
        found["open"] = [record.is_open(index) for index in range(record.count)]
        found["elements"] = {i: seen(e) for i, e in sorted(record.elements.items())}
    return found


def state(tasks: Tasks) -> dict[str, object]:
    return {"ended": dict(tasks.ended), **{task: seen(r) for task, r in tasks.live.items()}}


# ---- single entries ----


def test_what_comes_too_late_changes_nothing() -> None:
    """Old attempts, old revisions, and anything about a task that is final."""
    tasks = tasks_of(
        submitted(retries=5),
        Started("a", 1, "n", 1.0),
        Lost("a", 1, 2.0, "why"),
        Started("a", 2, "n", 3.0),
        Held("a", 1, 1.0, "hold"),
        Released("a", 2, 1.0),
    )
    before = state(tasks)
    for late in (
        Started("a", 1, "m", 9.0),
        Finished("a", 1, GOOD, True),
        Lost("a", 1, 9.0, "again", True),
        Held("a", 2, 9.0),
        Held("a", 1, 9.0),
    ):
        tasks.apply(Numbered("n", 99, late))
        assert before == state(tasks)
    tasks.apply(Numbered("n", 100, Finished("a", 2, GOOD, True)))
    after = state(tasks)
    for later in (Cancelled("a", 9.0), Held("a", 9, 9.0), Finished("a", 3, BAD, True)):
        tasks.apply(Numbered("n", 101, later))
        assert after == state(tasks)


def test_a_start_of_what_has_ended_is_stopped() -> None:
    """Somebody began it without knowing: it is told to end."""
    tasks = tasks_of(submitted(), Cancelled("a", 1.0))
    tasks.effects.clear()
    tasks.apply(Numbered("n", 3, Started("a", 1, "n", 2.0)))
    assert [Send("runner", StopAttempt("a", 1, "the task had ended already"))] == tasks.effects


def test_an_end_without_a_start() -> None:
    """The end tells that there was an attempt; its start, coming later, is old news."""
    tasks = tasks_of(submitted(retries=1), Finished("a", 1, BAD, False))
    assert (1, 1, 1) == (tasks.live["a"].attempt, tasks.live["a"].closed, tasks.live["a"].failures)
    before = state(tasks)
    tasks.apply(Numbered("n", 9, Started("a", 1, "n", 1.0)))
    assert before == state(tasks)


def test_entries_about_nodes_are_for_others() -> None:
    """Tags do not concern tasks."""
    assert {} == tasks_of(Tagged("n", "t", 1.0)).live


def test_what_the_scheduler_is_told() -> None:
    """Offered once, with the number of the next attempt; withdrawn when it may not start."""
    tasks = tasks_of(submitted(retries=2), submitted("b", on_loss="hold"))
    tasks.feed()
    a, b = tasks.live["a"], tasks.live["b"]
    assert [
        Send("scheduler", Offered(a.task_class, [Item("a", 1, 2, 1)])),
        Send("scheduler", Offered(b.task_class, [Item("b", 1, 0, 2, hold_if_lost=True)])),
    ] == tasks.effects
    tasks.effects.clear()
    tasks.feed()
    assert [] == tasks.effects
    tasks.apply(Numbered("n", 3, Held("a", 1, 1.0)))
    assert [Send("scheduler", Withdrawn(a.task_class.number, ["a"]))] == tasks.effects


def test_the_last_loss_before_the_hold_is_said_with_the_item() -> None:
    """The executor must know, because it writes the loss."""
    entries: list[Entry] = [submitted()]
    for attempt in range(1, LOSSES_MAX):
        tasks = tasks_of(*entries)
        tasks.feed()
        [offered] = [e.message for e in tasks.effects if isinstance(e, Send)]
        assert isinstance(offered, Offered)
        assert [(attempt, False)] == [(i.attempt, i.hold_if_lost) for i in offered.items]
        entries += [Started("a", attempt, "n", 1.0), Lost("a", attempt, 2.0, "why")]
    tasks = tasks_of(*entries)
    tasks.effects.clear()
    tasks.feed()
    [offered] = [e.message for e in tasks.effects if isinstance(e, Send)]
    assert isinstance(offered, Offered)
    assert offered.items[0].hold_if_lost


def test_the_window_of_a_class_is_refilled_by_halves() -> None:
    """The scheduler sees at most 128 of a class, and is told in batches."""
    tasks = tasks_of(*(submitted(f"t{n}") for n in range(300)))

    def offered() -> int:
        tasks.effects.clear()
        tasks.feed()
        told = [e.message for e in tasks.effects if isinstance(e, Send)]
        return sum(len(message.items) for message in told if isinstance(message, Offered))

    def start(first: int, last: int) -> None:
        for number in range(first, last):
            tasks.apply(Numbered("n", 1000, Started(f"t{number}", 1, "n", 1.0)))

    assert 128 == offered()
    start(0, 63)
    assert 0 == offered()
    start(63, 64)
    assert 64 == offered()


def test_only_the_elements_of_an_array_are_first_together() -> None:
    """What comes after the array waits until all of it is handed out."""
    conditions = ("queue:is_first",)
    tasks = tasks_of(
        submitted("a", count=3, conditions=conditions),
        submitted("b", conditions=conditions),
        submitted("c", conditions=conditions),
    )
    tasks.feed()
    [offered] = [e.message for e in tasks.effects if isinstance(e, Send) and e.to == "scheduler"]
    assert isinstance(offered, Offered)
    assert ["a.0", "a.1", "a.2"] == [item.task for item in offered.items]


def test_strangers_are_asked_about() -> None:
    """Tasks that others wait for and that are not live: the journal knows how they ended."""
    tasks = tasks_of(submitted(after=(After("z"),)))
    assert ["z"] == list(tasks.strangers)
    assert Status.DEPENDING == tasks.live["a"].status
    tasks.parent_known("z", "failed", "z2")
    assert ["z", "z2"] == list(tasks.strangers)
    assert Status.DEPENDING == tasks.live["a"].status
    tasks.parent_known("z2", "succeeded", "")
    assert [Status.READY] == [tasks.live["a"].status]


def test_ids_of_elements_that_are_none() -> None:
    """A task whose own id looks like an element's is itself; other ids are nobody's."""
    tasks = tasks_of(submitted("a"), submitted("b", count=2))
    assert tasks.array_of("a.0") is None
    assert tasks.find("a.0") is None
    assert tasks.find("b.0") is None
    assert (tasks.live["b"], 1) == tasks.array_of("b.1")


# ---- the promises ----


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
            self.entries.append(Finished(task, self.open.pop(task), outcome, final))
        elif what == "lose" and task in self.open:
            hold = self.draw(st.booleans())
            self.entries.append(Lost(task, self.open.pop(task), 3.0, "why", hold))
        elif what == "cancel" and self.draw(st.booleans()):
            self.entries.append(Cancelled(task, 4.0))
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


def written(entries: list[Entry]) -> tuple[list[Entry], Reads, sqlite3.Connection]:
    """The entries that the journal kept, arrays' ends among them, and the tables."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create(connection, "n")
    journal = Journal(connection, "n")
    kept: list[Entry] = []
    live = Tasks()
    live.at(NOW)
    waiting = list(entries)
    while waiting:
        for numbered in journal.write([waiting.pop(0)]).entries:
            kept.append(numbered.entry)
            live.apply(numbered)
        derived, live.appends = live.appends, []
        waiting[:0] = derived
    journal.commit()
    return kept, Reads(connection), connection


@given(histories())
@settings(max_examples=150, deadline=None)
def test_loading_gives_what_the_entries_gave(entries: list[Entry]) -> None:
    """Every record, and the counts of what ended, are the same after a restart."""
    kept, reads, connection = written(entries)
    live = tasks_of(*kept)
    for stranger in list(live.strangers):  # `d` waits for what was live then
        live.strangers.pop(stranger)
    loaded = Tasks()
    loaded.at(NOW)
    for task in reads.live():
        loaded.load(task)
    for ended, count in reads.ended().items():
        loaded.ended[ended] += count
    loaded.place_all_loaded()
    for ref in list(loaded.strangers):
        [known] = reads.find(ref)
        if known.state is not None:
            loaded.parent_known(ref, known.state, known.redone_as)
    connection.close()
    assert comparable(state(live)) == comparable(state(loaded))


def comparable(states: dict[str, object]) -> dict[str, object]:
    """Without what the tables do not keep and what decides nothing.

    That is: where a task that waits ran last, when a retry that is due was due, and up to which
    attempt losses were forgiven (a loss that was released is no loss that holds).
    """
    for one in states.values():
        assert isinstance(one, dict)
        for record in [one, *one.get("elements", {}).values()]:
            if "status" not in record:
                continue
            if record["status"] is not Status.RUNNING:
                record["node"] = ""
            if record["lost_hold"] <= record["released"]:
                record["lost_hold"] = 0
            record["released"] = 0
            if record["not_before"] <= NOW:
                record["not_before"] = 0.0
        if "elements" in one:  # one that only exists because it could be made is as good as none
            one["elements"] = {i: e for i, e in one["elements"].items() if e["attempt"]}
    return states


@given(histories(), st.data())
@settings(max_examples=150, deadline=None)
def test_repetitions_are_harmless(entries: list[Entry], data: st.DataObject) -> None:
    """Any entry may be heard again, any time, as long as its task lives."""
    kept, _, connection = written(entries)
    connection.close()
    once = tasks_of(*kept)
    again = Tasks()
    again.at(NOW)
    for number, entry in enumerate(kept, 1):
        again.apply(Numbered("n", number, entry))
        for _ in range(data.draw(st.integers(0, 2))):
            old = data.draw(st.integers(0, number - 1))
            task = getattr(kept[old], "task", "").partition(".")[0]
            if task in again.live:
                again.apply(Numbered("n", old + 1, kept[old]))
    assert state(once) == state(again)


def test_an_array_ends_once_however_often_it_is_heard() -> None:
    """Its last element's end asks for one `Ended`, which may be heard twice."""
    tasks = tasks_of(submitted(count=1), Finished("a.0", 1, GOOD, True))
    tasks.apply(Numbered("n", 2, Finished("a.0", 1, GOOD, True)))
    assert [Ended("a", "succeeded", NOW)] == tasks.appends
    for _ in range(2):
        tasks.apply(Numbered("n", 3, Ended("a", "succeeded", NOW)))
    assert {"succeeded": 1, "failed": 0, "cancelled": 0} == tasks.ended
    assert {} == tasks.live


@pytest.mark.parametrize("first", ["hold", "release"])
def test_the_highest_revision_wins(first: str) -> None:
    """In whatever order a hold and a release come."""
    entries: list[Entry] = [Held("a", 1, 1.0, "r"), Released("a", 2, 2.0)]
    if first == "release":
        entries.reverse()
    tasks = tasks_of(submitted(), *entries)
    assert (2, None) == (tasks.live["a"].revision, tasks.live["a"].held)
