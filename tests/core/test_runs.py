"""How runs join: the same, whatever order their entries come in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from leoronic.core.runs import ENDED, LOST, NEVER_BEGAN, OPEN, RunKey, Runs, RunState

_news = st.tuples(
    st.tuples(st.integers(1, 3), st.sampled_from("ab")),
    st.builds(
        RunState, st.integers(0, 3), st.sampled_from([0.0, 5.0]), st.booleans(), st.booleans()
    ),
)


def joined(*news: tuple[RunKey, RunState]) -> Runs:
    runs = Runs()
    for key, state in news:
        runs.join(key, state)
    return runs


def seen(runs: Runs) -> object:
    return (runs.phases(), runs.lost_hold, runs.due(1.0), [*runs.may_exist_on("a")])


@given(st.lists(_news, max_size=8), st.randoms())
def test_order_and_repetition_make_no_difference(
    news: list[tuple[RunKey, RunState]], random: object
) -> None:
    """Any order, any entry twice: the same runs; and what is no news says so."""
    again = [*news, *news[:3]]
    random.shuffle(again)  # type: ignore[attr-defined]
    runs = joined(*again)
    assert seen(joined(*news)) == seen(runs)
    assert [False] * len(news) == [runs.join(*one) for one in news]


def test_a_phase_only_grows() -> None:
    """An end counts although the run was given up; a loss never undoes an end."""
    runs = Runs()
    for phase in (OPEN, LOST, NEVER_BEGAN, ENDED):
        assert runs.join((1, "a"), RunState(phase))
        assert not runs.join((1, "a"), RunState(max(phase - 1, OPEN)))
    assert {(1, "a"): ENDED} == runs.phases()


def test_what_is_counted() -> None:
    """Failures ended, losses began: what never began is neither."""
    runs = joined(
        ((1, "a"), RunState(ENDED, 10.0)),
        ((1, "b"), RunState(ENDED, 20.0)),
        ((2, "a"), RunState(LOST, hold=True)),
        ((3, "a"), RunState(NEVER_BEGAN, 25.0)),
        ((4, "b"), RunState(OPEN)),
    )
    assert (4, 2, 1, 2) == (runs.attempt, runs.failures, runs.losses, runs.lost_hold)
    assert (4, "b") == runs.shown()
    assert (27.0, 50.0) == (runs.due(1.0), runs.due(30.0))


def test_the_run_to_tell_of() -> None:
    """The highest that is under way, be there higher ones that are not; else the highest."""
    runs = joined(
        ((1, "a"), RunState(OPEN)), ((1, "b"), RunState(OPEN)), ((2, "a"), RunState(LOST))
    )
    assert (1, "b") == runs.shown()
    assert (["a", "b"], [1], [1]) == (runs.open_nodes(), runs.open_on("a"), runs.open_on("b"))
    assert (2, "a") == joined(((2, "a"), RunState(LOST)), ((1, "b"), RunState(ENDED))).shown()
    assert (0, "") == Runs().shown()


def test_what_can_be_forgiven() -> None:
    """Every loss so far, but not in advance that of what runs."""
    assert 0 == Runs().forgivable()
    assert 2 == joined(((2, "a"), RunState(LOST))).forgivable()
    assert 1 == joined(((3, "a"), RunState(LOST)), ((2, "b"), RunState(OPEN))).forgivable()


def test_the_highest_run_goes_on() -> None:
    """The others are to be ended wherever they may still be; one that never began stops nobody."""
    both = joined(((1, "a"), RunState(OPEN)), ((1, "b"), RunState(OPEN)))
    assert ([1], []) == (both.superseded_on("a"), both.superseded_on("b"))
    given_up = joined(((1, "a"), RunState(LOST)))
    assert [] == given_up.superseded_on("a")
    given_up.join((2, "b"), RunState(NEVER_BEGAN))
    assert [] == given_up.superseded_on("a")
    given_up.join((2, "b"), RunState(ENDED))
    assert [1] == given_up.superseded_on("a")
    given_up.join((1, "a"), RunState(LOST, gone=True))
    assert [] == given_up.superseded_on("a")
