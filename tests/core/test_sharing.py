"""Sharing: who may start something where several owners want to, and that nothing is left over."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from leoronic.core.resources import Capacity, Ledger, Need
from leoronic.core.sharing import AGAIN_S, INTEREST_S, KEEP_S, Sharing

NODE = Capacity(4000, 100, 0)
ONE = Need(1000, 0, 0)


class Node:
    """A ledger with its sharing."""

    def __init__(self) -> None:
        self.ledger = Ledger(NODE)
        self.sharing = Sharing()
        self.number = 0

    def start(self, owner: str, count: int = 1, need: Need = ONE, now: float = 0.0) -> None:
        for _ in range(count):
            self.number += 1
            key = (f"t{self.number}", 1)
            self.ledger.take(key, need)
            self.sharing.starts(key, owner, 1, need, now)

    def may(self, owner: str, need: Need = ONE, now: float = 0.0) -> bool:
        return self.sharing.may_start(owner, 1, need, self.ledger, now)


def test_alone_everything_may_start() -> None:
    """Also beside others that run here and wait for nothing."""
    node = Node()
    node.start("a", 2)
    node.sharing.interest("b", None, 0.0)
    assert node.may("a")
    assert node.sharing.may_queue_up("a", node.ledger, 0.0)


def test_who_holds_its_share_waits_for_who_holds_less() -> None:
    """Unless there is room for both."""
    node = Node()
    node.start("a", 2)
    node.sharing.interest("b", ONE, 0.0)
    assert node.may("a")
    node.start("a")
    assert not node.may("a")
    assert not node.sharing.may_queue_up("a", node.ledger, 0.0)
    assert node.may("b")
    assert node.may("c")  # it holds less than a third


def test_room_is_kept_for_a_time() -> None:
    """Then not for a while; and then again, if it still waits."""
    node = Node()
    node.start("a", 3)
    node.sharing.interest("b", ONE, 0.0)
    times = (0.0, KEEP_S - 0.1, KEEP_S, AGAIN_S - 0.1, AGAIN_S, AGAIN_S + KEEP_S)
    expected = [False, False, True, True, False, True]
    assert expected == [node.may("a", now=now) for now in times]


def test_interest_ends() -> None:
    """It was not repeated, it was taken back, or its owner is gone."""
    node = Node()
    node.start("a", 3)
    node.sharing.interest("b", ONE, 0.0)
    assert (["b"], []) == (node.sharing.interested(0.0), node.sharing.interested(INTEREST_S))
    assert node.may("a", now=INTEREST_S)
    node.sharing.interest("b", ONE, 0.0)
    node.sharing.no_interest("b")
    assert node.may("a")
    node.sharing.interest("b", ONE, 0.0)
    node.sharing.keep_only(["a"])
    assert ([], True) == (node.sharing.interested(0.0), node.may("a"))


def test_one_reservation_at_a_time() -> None:
    """Who comes first; it can be prolonged, and is bounded by whatever was asked for."""
    node = Node()
    big = Need(4000, 0, 0)
    node.sharing.reserve("b", 1, big, 5.0, 0.0)
    node.sharing.reserve("c", 2, ONE, 1e9, 0.0)
    assert [False, True] == [node.may("a", now=now) for now in (4.0, 5.0)]
    node.sharing.reserve("c", 2, big, 1e9, 6.0)
    assert not node.may("a", now=20.0)
    assert node.may("a", now=60.0)


def test_beside_a_reservation_runs_what_leaves_room() -> None:
    """All that was started since counts, successors in lanes as well."""
    node = Node()
    node.sharing.reserve("b", 1, Need(2000, 0, 0), 5.0, 0.0)
    node.start("a")
    assert node.may("a")
    node.start("a")
    node.sharing.ends(("t1", 1), ("s", 1))
    assert not node.may("a")
    node.sharing.ends(("s", 1))
    assert node.may("a")
    alone = Need(0, 0, 0, exclusive=True)
    assert not node.may("a", alone)
    assert not node.sharing.may_queue_up("a", node.ledger, 0.0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 1500), st.booleans())))
@settings(max_examples=100)
def test_in_the_end_nothing_is_left(steps: list[tuple[str, int, bool]]) -> None:
    """Shares passed on, or not, are given back once; of whom nothing is known, nothing is kept."""
    sharing = Sharing()
    running = []
    for number, (owner, cpus, passes_on) in enumerate(steps):
        key = (f"t{number}", 1)
        sharing.starts(key, owner, 1, Need(cpus, 0, 0), 0.0)
        if passes_on:
            sharing.ends(key, (f"s{number}", 1))
            key = (f"s{number}", 1)
        running.append(key)
    for key in running:
        sharing.ends(key)
        sharing.ends(key)
    assert {} == sharing._owners
    assert {} == sharing._of
