"""Dependencies, against a second implementation that recomputes everything from scratch."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leoronic.core.graph import Graph, both, find_cycle, satisfied

WHENS = ("succeeded", "failed", "ended")
STATES = ("succeeded", "failed", "cancelled")


@pytest.mark.parametrize(
    ("state", "when", "expected"),
    [
        ("succeeded", "succeeded", True),
        ("failed", "succeeded", False),
        ("cancelled", "failed", False),
        ("cancelled", "ended", True),
    ],
)
def test_satisfied(state: str, when: str, expected: bool) -> None:
    """`ended` is any end; the others are what they say, and a cancellation is neither."""
    assert expected == satisfied(state, when)


@given(st.sampled_from(WHENS), st.sampled_from(WHENS), st.sampled_from(STATES))
def test_both(when: str, other: str, state: str) -> None:
    """Two wishes for one task are one wish, unless nothing could ever fulfil them."""
    wanted = satisfied(state, when) and satisfied(state, other)
    together = both(when, other)
    assert wanted == (together != "" and satisfied(state, together))


# ---- cycles ----

edges = st.dictionaries(
    st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdefg"), max_size=3), max_size=6
)


def has_cycle(graph: dict[str, list[str]]) -> bool:
    """By brute force: what reaches itself."""
    reach = {(a, b) for a, others in graph.items() for b in others}
    for middle, start, end in itertools.product("abcdefg", repeat=3):
        if (start, middle) in reach and (middle, end) in reach:
            reach.add((start, end))
    return any((node, node) in reach for node in graph)


@given(edges)
@settings(max_examples=300)
def test_a_cycle_is_found_if_and_only_if_there_is_one(graph: dict[str, list[str]]) -> None:
    """And what is returned is a way along the edges back to where it began."""
    cycle = find_cycle(graph)
    assert has_cycle(graph) == (cycle is not None)
    if cycle is not None:
        assert cycle[0] == cycle[-1]
        assert len(cycle) == len(set(cycle)) + 1
        for task, other in itertools.pairwise(cycle):
            assert other in graph[task]


def test_a_long_chain_is_no_matter_of_recursion() -> None:
    """A hundred thousand tasks in a row are no circle, until the last waits for the first."""
    chain = {str(n): [str(n + 1)] for n in range(100_000)}
    assert find_cycle(chain) is None
    chain["100000"] = ["0"]
    cycle = find_cycle(chain)
    assert cycle is not None
    assert 100_002 == len(cycle)


# ---- the graph ----


class Naive:
    """Every question answered by looking at everything."""

    def __init__(self) -> None:
        self.wishes: dict[str, dict[str, str]] = {}
        self.final: dict[str, str] = {}

    def is_free(self, task: str) -> bool:
        return all(
            other in self.final and satisfied(self.final[other], when)
            for other, when in self.wishes[task].items()
        )

    def is_blocked(self, task: str) -> bool:
        for other, when in self.wishes[task].items():
            if other in self.final:
                if not satisfied(self.final[other], when):
                    return True
            elif other in self.wishes and self.is_blocked(other):
                return True
        return False


steps = st.lists(
    st.tuples(
        st.sampled_from(["settle", "settle", "redo", "add"]),
        st.integers(0, 30),
        st.lists(st.tuples(st.integers(0, 30), st.sampled_from(WHENS)), max_size=4),
        st.sampled_from(STATES),
    ),
    max_size=40,
)


@given(steps)
@settings(max_examples=300)
def test_like_the_naive_one(
    steps: list[tuple[str, int, list[tuple[int, str]], str]],
) -> None:
    """Free, blocked and waiting are what a recount says, and who changed is named."""
    graph, naive = Graph(), Naive()
    redone: dict[str, str] = {}
    live: list[str] = []
    number = 0
    for what, pick, wishes, state in steps:
        before = {t: (graph.is_free(t), graph.is_blocked(t)) for t in live}
        changed: list[str] = []
        if what == "add" or not live:
            task = f"t{number}"
            number += 1
            whens: dict[str, str] = {}
            for other, when in wishes:
                if live:
                    target = live[other % len(live)]
                    whens[target] = both(whens[target], when) if target in whens else when
            whens = {other: when for other, when in whens.items() if when}
            naive.wishes[task] = whens
            graph.add(task, [(other, when, None) for other, when in whens.items()])
            live.append(task)
        elif what == "settle":
            task = live.pop(pick % len(live))
            naive.final[task] = state
            del naive.wishes[task]
            changed = graph.settle(task, state)
        else:
            failed = [t for t in naive.final if t not in redone]
            if not failed:
                continue
            old, new = failed[pick % len(failed)], f"t{number}"
            number += 1
            naive.wishes[new] = {}
            graph.add(new, [])
            live.append(new)
            redone[old] = new
            changed = graph.redo(old, new)
            for whens in naive.wishes.values():
                if old in whens and not satisfied(naive.final[old], whens[old]):
                    whens[new] = whens.pop(old)
        for task in live:
            assert naive.is_free(task) == graph.is_free(task), task
            assert naive.is_blocked(task) == graph.is_blocked(task), task
            assert graph.is_blocked(task) == bool(graph.reasons(task))
            if task in before and before[task] != (graph.is_free(task), graph.is_blocked(task)):
                assert task in changed
    for task in live:
        graph.settle(task, "succeeded")
    assert ({}, {}, {}, set()) == (
        graph._waits,
        graph._broken,
        graph._children,
        graph._blocked,
    )
    assert ({}, {}, {}) == (graph._given, graph._moved, graph._movers)


def test_reasons_in_words() -> None:
    """Broken dependencies first, then what is blocked further up; forgotten ones as well."""
    graph = Graph()
    graph.add("b", [("a", "succeeded", None)])
    graph.add("c", [("b", "ended", None), ("old", "succeeded", None)])
    assert {"b": "ended", "old": "succeeded"} == graph.waiting_for("c")
    graph.settle("a", "cancelled")
    graph.settle("old", "forgotten")
    assert ["it runs after a has succeeded, but that was cancelled"] == graph.reasons("b")
    assert [
        "it runs after old has succeeded, but that was forgotten",
        "it runs after b, which is blocked itself",
    ] == graph.reasons("c")


def test_a_dependency_known_to_have_ended() -> None:
    """Given its state, it is met or broken at once."""
    graph = Graph()
    graph.add("b", [("a", "ended", "failed")])
    graph.add("c", [("a", "succeeded", "failed")])
    assert (True, False) == (graph.is_free("b"), graph.is_blocked("b"))
    assert (False, True) == (graph.is_free("c"), graph.is_blocked("c"))


def test_what_waits_for_a_blocked_task_is_blocked_from_the_start() -> None:
    """A task added below a blocked one need not wait for a change to know it."""
    graph = Graph()
    graph.add("b", [("a", "succeeded", "failed")])
    graph.add("c", [("b", "succeeded", None)])
    assert graph.is_blocked("c")
    assert ["b", "c"] == sorted(graph.redo("a", "a2"))
    assert not graph.is_blocked("c")


def test_a_redo_of_what_is_waited_for_twice() -> None:
    """Who waits for the old one to succeed and for the new one to fail stays blocked."""
    graph = Graph()
    graph.add("c", [("a", "succeeded", None), ("a2", "failed", None)])
    graph.settle("a", "failed")
    assert [] == graph.redo("a", "a2")
    assert graph.is_blocked("c")


@pytest.mark.parametrize("ended", ["cancelled", "failed"])
def test_what_is_asked_of_a_redo_that_has_ended_is_not_forgotten(ended: str) -> None:
    """Who runs after both, the one to succeed and its redo to fail, never starts."""
    graph = Graph()
    graph.add("c", [("a", "succeeded", "cancelled"), ("a2", "failed", ended)])
    assert [] == graph.redo("a", "a2")
    graph.redo("a2", "a3")
    graph.settle("a3", "succeeded")
    assert graph.is_blocked("c")


def test_of_two_wishes_for_a_redo_that_has_ended_one_is_left() -> None:
    """It is judged once more, with the stricter; and may be redone itself meanwhile."""
    graph = Graph()
    graph.add("c", [("a", "succeeded", "failed"), ("a2", "ended", "failed")])
    assert ["c"] == graph.redo("a", "a2")
    assert {"a2": "succeeded"} == graph.waiting_for("c")
    graph.settle("a2", "failed")
    assert ["c"] == graph.redo("a2", "a3")
    graph.settle("a3", "succeeded")
    assert graph.is_free("c")


def test_a_move_to_a_redo_is_undone() -> None:
    """All that the task was given is to be judged anew, and so is who waits for it."""
    graph = Graph()
    graph.add("c", [("a", "succeeded", None), ("b", "ended", None)])
    graph.add("d", [("c", "succeeded", None)])
    graph.settle("b", "failed")
    graph.settle("a", "failed")
    graph.redo("a", "a2")
    graph.settle("a2", "failed")
    assert graph.is_blocked("d")
    assert ([], []) == graph.start_over("a", "a2")
    assert (["a", "b"], ["c", "d"]) == graph.start_over("a", "a3")
    assert {"a": "succeeded", "b": "ended"} == graph.waiting_for("c")
    assert not graph.is_blocked("d")
    assert ([], []) == graph.start_over("a", "a3")


def test_an_outcome_that_turns_out_otherwise_is_judged_again() -> None:
    """Met or broken, the dependency is what the new outcome makes it, for all that follows."""
    graph = Graph()
    graph.add("b", [("a", "succeeded", None)])
    graph.add("c", [("b", "succeeded", None)])
    graph.add("d", [("a", "ended", None)])
    assert ["b", "d"] == graph.settle("a", "succeeded")
    assert graph.is_free("b")
    assert ["b", "d", "c"] == graph.flip("a", "failed")
    assert (True, True) == (graph.is_blocked("b"), graph.is_blocked("c"))
    assert ["it runs after a has succeeded, but that failed"] == graph.reasons("b")
    graph.flip("a", "succeeded")
    assert (True, False) == (graph.is_free("b"), graph.is_blocked("c"))
    assert [] == graph.flip("z", "failed")


def test_a_flip_of_what_is_being_asked_about_waits_for_the_answer() -> None:
    """It will be the new outcome."""
    graph = Graph()
    graph.add("b", [("a", "succeeded", None)])
    assert [] == graph.flip("a", "failed")
    assert {"a": "succeeded"} == graph.waiting_for("b")


def test_a_task_that_depends_on_nothing_any_more_frees_others() -> None:
    """What waited for it because it was blocked does so no longer; its own edges are gone."""
    graph = Graph()
    graph.add("b", [("a", "succeeded", "failed")])
    graph.add("c", [("b", "ended", None)])
    assert ["c"] == graph.forget("b")
    assert (True, False) == (graph.is_free("b"), graph.is_blocked("c"))
    assert [] == graph.forget("b")
    assert [] == graph.flip("a", "succeeded")
