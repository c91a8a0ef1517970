"""Who stands in for whom."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from leoronic.core.ring import following, in_ring_order, owner_of, some_after

IDS = st.lists(st.text("abcdef", min_size=1, max_size=3), unique=True).map(sorted)


def test_who_is_alive_owns_its_own() -> None:
    """No heir while the origin is there."""
    assert "b" == owner_of("b", ["a", "b", "c"])


def test_the_heir_is_the_next_in_the_ring() -> None:
    """After the last comes the first."""
    assert "c" == owner_of("b", ["a", "c", "d"])
    assert "a" == owner_of("e", ["a", "c", "d"])


def test_with_nobody_alive_the_origin_stays_owner() -> None:
    """Somebody must be named."""
    assert "b" == owner_of("b", [])


def test_following_is_another_if_there_is_one() -> None:
    """Alone, a node follows itself."""
    assert "b" == following("a", ["a", "b"])
    assert "a" == following("a", ["a"])


@given(IDS, st.text("abcdef", min_size=1, max_size=3))
def test_an_heir_is_always_alive(alive: list[str], origin: str) -> None:
    """And the same for all who see the same."""
    owner = owner_of(origin, alive)
    assert owner in alive or not alive


@given(IDS, st.integers(0, 50), st.integers(1, 4))
def test_with_a_growing_skip_everybody_has_a_turn(others: list[str], skip: int, count: int) -> None:
    """Each time as many as wanted, or as there are, none twice."""
    asked = some_after("c", others, skip, count)
    assert min(count, len(others)) == len(asked) == len(set(asked))
    turns = {node for turn in range(len(others)) for node in some_after("c", others, turn, 1)}
    assert set(others) == turns


@given(st.text("abcdef", max_size=3), IDS)
def test_ring_order_names_everybody_once(start: str, ids: list[str]) -> None:
    """Beginning with who follows; whoever is first stays so when others go."""
    order = in_ring_order(start, reversed(ids))
    assert ids == sorted(order)
    assert order[:1] == ([following(start, ids)] if ids else [])
    assert order[1:2] == in_ring_order(start, order[1:])[:1]
