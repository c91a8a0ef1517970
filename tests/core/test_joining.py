"""Entries of several origins join to the same tasks in any order that keeps cause before effect.

Three nodes write entries, each knowing what it has heard so far. Then the whole story is told
twice, in two orders, each of which keeps what a writer knew before what it wrote. A plain journal
stands before the tasks: it works out each outcome from all entries at once, and says what flipped.
"""

from __future__ import annotations

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
    Submitted,
)
from leoronic.core.outcome import Outcome
from leoronic.core.queue_messages import Flip
from leoronic.core.spec import After, TaskSpec
from leoronic.core.tasks import Tasks
from tests.core.entering import NOW, state
from tests.core.views import make_view

NODES = ("l", "m", "n")
ELEMENTS = 3
SPECS = {
    "a": TaskSpec("x", retries=9, retry_delay=50.0),
    "b": TaskSpec("x", count=ELEMENTS),
    "c": TaskSpec("x", after=(After("a"),)),
    "d": TaskSpec("x", after=(After("a", "failed"), After("b", "ended"))),
}
RUNNABLE = ("a", "b.0", "b.1", "b.2", "c")


class Told(NamedTuple):
    """An entry, and the places of those that its writer knew."""

    numbered: Numbered
    known: frozenset[int]


class PlainJournal:
    """What the tasks hear, worked out from all entries each time."""

    def __init__(self) -> None:
        self.heard: list[Numbered] = []

    def holder(self, task: str) -> tuple[float, str] | None:
        """(at, origin) of the submission that holds."""
        found = [
            (n.entry.at, n.origin)
            for n in self.heard
            if isinstance(n.entry, Submitted) and n.entry.task == task
        ]
        return min(found, default=None)

    def _own(self, task: str) -> str:
        entries = [n.entry for n in self.heard]
        if any(isinstance(e, Cancelled) and e.task == task for e in entries):
            return "cancelled"
        ends = [e for e in entries if isinstance(e, Finished) and e.task == task and e.final]
        best = max(((e.attempt, e.outcome.succeeded, e.node) for e in ends), default="")
        return ("succeeded" if best[1] else "failed") if best else ""

    def outcome(self, task: str) -> str:
        """How a task or element ended, "" while it lives."""
        own = self._own(task)
        if task != "b":
            return own or ("cancelled" if "." in task and self._own("b") == "cancelled" else "")
        elements = {self._own(f"b.{index}") for index in range(ELEMENTS)}
        if own == "cancelled":
            return own
        if "" in elements:
            return ""
        return next(s for s in ("failed", "cancelled", "succeeded") if s in elements)

    def hear(self, numbered: Numbered) -> tuple[bool, list[Flip]]:
        """Whether the tasks are to hear of it, and what flipped."""
        names = (*SPECS, *(f"b.{index}" for index in range(ELEMENTS)))
        before = {task: self.outcome(task) for task in names}
        entry = numbered.entry
        held_before = self.holder(entry.task)  # type: ignore[union-attr]
        self.heard.append(numbered)
        flips = [
            Flip(task, was, self.outcome(task), array=task == "b")
            for task, was in before.items()
            if was and was != self.outcome(task)
        ]
        if not isinstance(entry, Submitted):
            return True, flips
        changed = self.holder(entry.task) != held_before
        return changed and not before[entry.task], flips


class Node:
    """One node that writes: what it knows, and what of it it can tell."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.known: set[int] = set()


class Story:
    """What three nodes write, drawn step by step."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.told: list[Told] = []
        self.nodes = [Node(name) for name in NODES]
        self.write(self.nodes[0], Submitted("a", SPECS["a"], 1.0))
        self.write(self.nodes[0], Submitted("b", SPECS["b"], 1.0))
        self.hear(self.nodes[1], self.nodes[0])
        self.write(self.nodes[1], Submitted("c", SPECS["c"], 1.0))
        self.write(self.nodes[0], Submitted("d", SPECS["d"], 1.0))
        self.hear(self.nodes[2], self.nodes[1])
        for _ in range(draw(st.integers(0, 14))):
            self.step()

    def write(self, node: Node, entry: Entry) -> None:
        place = len(self.told)
        self.told.append(Told(Numbered(node.name, place + 1, entry), frozenset(node.known)))
        node.known.add(place)

    def hear(self, node: Node, other: Node) -> None:
        node.known |= other.known

    def entries(self, node: Node) -> list[Entry]:
        return [self.told[place].numbered.entry for place in sorted(node.known)]

    def step(self) -> None:
        node, other = self.draw(st.permutations(self.nodes))[:2]
        what = self.draw(st.sampled_from(["hear", "hear", "start", "start", "end", "end", "say"]))
        if what == "hear":
            self.hear(node, other)
            return
        entries = self.entries(node)
        submitted = {e.task for e in entries if isinstance(e, Submitted)}
        tasks = [task for task in RUNNABLE if task.partition(".")[0] in submitted]
        if not tasks:
            return
        task = self.draw(st.sampled_from(tasks))
        starts = [e for e in entries if isinstance(e, Started) and e.task == task]
        if what == "start":
            attempt = max((e.attempt for e in starts), default=0) + 1
            self.write(node, Started(task, attempt, node.name, 1.0))
        elif what == "end" and starts:
            self.write(node, self.end(node, self.draw(st.sampled_from(starts))))
        elif what == "say":
            self.say(node, task)

    def end(self, node: Node, start: Started) -> Entry:
        """Its node tells how it ended, others only that it is lost to them."""
        key = (start.task, start.attempt, start.node)
        if start.node != node.name or self.draw(st.booleans()):
            return Lost(*key, 3.0, "why", self.draw(st.booleans()), self.draw(st.booleans()))
        code = self.draw(st.integers(0, 1))
        final = code == 0 or self.draw(st.booleans())
        return Finished(*key, Outcome(1.0, 80.0, exit_code=code), final)

    def say(self, node: Node, task: str) -> None:
        what = self.draw(st.sampled_from(["cancel", "hold", "release", "submit"]))
        base = task.partition(".")[0]
        revision = 1 + sum(isinstance(e, Held | Released) for e in self.entries(node))
        if what == "cancel":
            self.write(node, Cancelled(self.draw(st.sampled_from([task, base])), 4.0))
        elif what == "hold":
            self.write(node, Held(base, revision, 5.0, f"by {node.name}"))
        elif what == "release":
            starts = [e for e in self.entries(node) if isinstance(e, Started) and e.task == task]
            attempt = self.draw(st.integers(0, max((e.attempt for e in starts), default=0)))
            self.write(node, Released(task, revision, 5.0, attempt))
        else:  # the same id again, on a node that did not know it
            spec = SPECS[base]
            unknown = [place for place in node.known if self._is_about(place, base)]
            if not unknown:
                self.write(node, Submitted(base, spec, 1.0))

    def _is_about(self, place: int, base: str) -> bool:
        task = getattr(self.told[place].numbered.entry, "task", "")
        return bool(task.partition(".")[0] == base)


class Both(NamedTuple):
    """One story in two orders of arrival."""

    first: list[Numbered]
    second: list[Numbered]


@st.composite
def stories(draw: st.DrawFn) -> Both:
    told = Story(draw).told
    return Both(in_some_order(draw, told), in_some_order(draw, told))


def in_some_order(draw: st.DrawFn, told: list[Told]) -> list[Numbered]:
    """Cause before effect; else as drawn."""
    left = dict(enumerate(told))
    order: list[Numbered] = []
    while left:
        able = [place for place, one in left.items() if one.known.isdisjoint(left)]
        place = able[draw(st.integers(0, len(able) - 1))]
        order.append(left.pop(place).numbered)
    return order


def joined(order: list[Numbered], again: bool = False) -> Tasks:
    """The tasks of a node that heard these in this order; each of them twice if `again`."""
    tasks = Tasks()
    tasks.now = NOW
    tasks.see(make_view("n", "l", "m"))
    journal = PlainJournal()
    for number, numbered in enumerate(order, 1):
        told, flips = journal.hear(numbered)
        if told:
            tasks.apply(numbered, {numbered.entry.task: number})  # type: ignore[union-attr]
        for flip in flips:
            tasks.flip(flip)
        if told and again and not isinstance(numbered.entry, Submitted):
            tasks.apply(numbered)
        strangers, tasks.strangers = list(tasks.strangers), {}
        for stranger in strangers:
            tasks.parent_known(stranger, journal.outcome(stranger), "")
    return tasks


def comparable(tasks: Tasks) -> dict[str, object]:
    """Without what depends on the order of arrival by right: `order`, and elements made early."""
    found = state(tasks)
    for task, record in found.items():
        if task != "ended":
            assert isinstance(record, dict)
            del record["order"]
            for element in record.get("elements", {}).values():
                del element["order"]
    return found


@given(stories())
@settings(max_examples=400, deadline=None)
def test_every_order_joins_to_the_same(both: Both) -> None:
    """Live tasks with their runs, holds and places, and the counts of what has ended."""
    assert comparable(joined(both.first)) == comparable(joined(both.second))


@given(stories())
@settings(max_examples=200, deadline=None)
def test_what_is_heard_twice_counts_once(both: Both) -> None:
    """Whatever it is, and whoever wrote it."""
    assert comparable(joined(both.first)) == comparable(joined(both.first, again=True))


@given(stories())
@settings(max_examples=200, deadline=None)
def test_the_counts_are_those_of_the_entries(both: Both) -> None:
    """What has ended, and how, is as worked out from all entries at once."""
    tasks = joined(both.first)
    journal = PlainJournal()
    journal.heard = both.first
    counts = dict.fromkeys(tasks.ended, 0)
    for task in ("a", "c", "d", *(f"b.{index}" for index in range(ELEMENTS))):
        if outcome := journal.outcome(task):
            counts[outcome] += 1
    assert counts == tasks.ended
    assert {task for task in SPECS if not journal.outcome(task)} == set(tasks.live)
