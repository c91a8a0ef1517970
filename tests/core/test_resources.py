"""The ledger: never over-committed, and exact."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leoronic.core.resources import Capacity, Ledger, Need, milli, shortfalls

GIB = 1 << 30
NODE = Capacity(4000, 8 * GIB, 100 * GIB, (("gpu", 2.0),))
ONE = Need(1000, GIB, 0)


@pytest.mark.parametrize(
    ("cpus", "expected"),
    [(1.0, 1000), (0.5, 500), (0.0, 0), (0.0001, 1), (1.0001, 1001), (0.1, 100)],
)
def test_cpus_are_rounded_up(cpus: float, expected: int) -> None:
    """Nothing is free of charge, and plain fractions are what they look like."""
    assert expected == milli(cpus)


def test_take_and_release() -> None:
    """What is taken is not free; what is released is free again; twice is harmless."""
    ledger = Ledger(NODE)
    ledger.take(("a", 1), Need(2500, GIB, 5, (("gpu", 1.0),)))
    assert {"cpus": 1.5, "memory": 7 * GIB, "storage": 100 * GIB - 5, "gpu": 1.0} == ledger.free()
    assert ledger.release(("a", 1))
    assert not ledger.release(("a", 1))
    assert {"cpus": 4.0, "memory": 8 * GIB, "storage": 100 * GIB, "gpu": 2.0} == ledger.free()


def test_what_is_missing_is_said_in_words() -> None:
    """Too much for now differs from too much for ever."""
    ledger = Ledger(NODE)
    ledger.take(("a", 1), Need(3500, 0, 0))
    assert ["needs 1 cpus, less is free now"] == ledger.missing(ONE)
    assert [
        "needs 5 cpus, the node has 4 in all",
        "needs 9 GiB of memory, the node has 8 GiB in all",
        "needs 1 fpga, the node has 0 in all",
    ] == shortfalls(Need(5000, 9 * GIB, 0, (("fpga", 1.0),)), NODE)


def test_exclusive_tasks_are_alone() -> None:
    """One that wants the node to itself waits until it is empty, and keeps others out."""
    ledger = Ledger(NODE)
    alone = Need(1000, 0, 0, exclusive=True)
    ledger.take(("a", 1), ONE)
    assert not ledger.fits(alone)
    assert ["wants the node to itself, and 1 task runs there"] == ledger.missing(alone)
    ledger.release(("a", 1))
    ledger.take(("b", 1), alone)
    assert not ledger.fits(Need(0, 0, 0))
    assert ["task b has the node to itself"] == ledger.missing(ONE)
    ledger.release(("b", 1))
    assert ledger.fits(ONE)


def test_a_key_holds_one_share() -> None:
    """Taking twice, or what does not fit, is our own mistake and is found at once."""
    ledger = Ledger(NODE)
    ledger.take(("a", 1), ONE)
    with pytest.raises(AssertionError, match="holds its share already"):
        ledger.take(("a", 1), ONE)
    with pytest.raises(AssertionError, match="does not fit"):
        ledger.take(("b", 1), Need(4000, 0, 0))


def test_what_runs_is_restored_even_if_the_node_has_shrunk() -> None:
    """After a restart what runs is in the books, whether it fits or not; nothing joins it."""
    ledger = Ledger(Capacity(1000, 0, 0))
    ledger.restore(("a", 1), Need(4000, GIB, 0))
    assert not ledger.fits(Need(1, 0, 0))
    assert ledger.fits(Need(0, 0, 0)) is False  # memory is over-committed as well
    ledger.release(("a", 1))
    assert ledger.fits(Need(1000, 0, 0))


@pytest.mark.parametrize(
    ("amount", "times", "in_all"), [(0.1, 3, 0.3), (0.7, 3, 2.1), (0.41, 5, 2.05)]
)
def test_fractions_of_a_resource_add_up(amount: float, times: int, in_all: float) -> None:
    """Three tenths are 0.3, in whatever order they come and go."""
    ledger = Ledger(Capacity(0, 0, 0, (("licence", in_all),)))
    part = Need(0, 0, 0, (("licence", amount),))
    for index in range(times):
        ledger.take(("a", index), part)
    assert not ledger.fits(part)
    assert in_all == ledger.used("licence")
    assert 0.0 == ledger.free()["licence"]
    for index in range(times):
        ledger.release(("a", index))
    assert in_all == ledger.free()["licence"]
    ledger.take(("all", 1), Need(0, 0, 0, (("licence", in_all),)))


needs = st.builds(
    Need,
    st.integers(0, 3000),
    st.integers(0, 4).map(lambda n: n * GIB),
    st.just(0),
    st.sampled_from([(), (("gpu", 1.0),), (("gpu", 0.1),), (("gpu", 0.7),)]),
    st.booleans() | st.just(False),
)


@given(st.lists(st.tuples(st.integers(0, 9), needs), max_size=60))
def test_never_over_committed(steps: list[tuple[int, Need]]) -> None:
    """Whatever is taken and released, sums stay within the node, exactly, as a recount says."""
    ledger = Ledger(NODE)
    held: dict[tuple[str, int], Need] = {}
    for number, need in steps:
        key = ("t", number)
        if key in held:
            assert ledger.release(key)
            del held[key]
        elif ledger.fits(need):
            assert [] == ledger.missing(need)
            ledger.take(key, need)
            held[key] = need
        else:
            assert ledger.missing(need)
        assert sum(n.cpus_milli for n in held.values()) == ledger.cpus_milli <= NODE.cpus_milli
        assert sum(n.memory for n in held.values()) == ledger.memory <= NODE.memory
        gpus = sum(Fraction(str(a)) for n in held.values() for _, a in n.resources)
        assert gpus <= 2
        assert float(gpus) == ledger.used("gpu")
        assert sum(n.exclusive for n in held.values()) == 0 or len(held) == 1
    assert held == ledger.held
