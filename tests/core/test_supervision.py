"""The restart decision: strategies, restart kinds, intensity; and a second opinion on all of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leoronic.core.supervision import (
    RESTARTS,
    STRATEGIES,
    ChildRule,
    Decision,
    Exit,
    Policy,
    decide,
    story,
)
from leoronic.core.tree import ChildSpec, SupervisorSpec, check_owners


def rules(*names: str) -> list[ChildRule]:
    return [ChildRule(name, "permanent") for name in names]


def crash(child: str, at: float = 0.0) -> Exit:
    return Exit(child, normal=False, reason="ValueError: x", at=at)


def decide_for(strategy: str, child: str) -> Decision:
    policy = Policy(strategy, 3, 10.0)  # type: ignore[arg-type]
    return decide(policy, rules("a", "b", "c"), (), crash(child))


def test_one_for_one() -> None:
    """Only the failed child is started again."""
    decision = decide_for("one_for_one", "b")
    assert (decision.stop, decision.start) == ((), ("b",))


def test_rest_for_one() -> None:
    """Those started after the failed one are stopped in reverse and started in order."""
    assert decide_for("rest_for_one", "b")[:2] == (("c",), ("b", "c"))
    assert decide_for("rest_for_one", "a")[:2] == (("c", "b"), ("a", "b", "c"))


def test_one_for_all() -> None:
    """All others are stopped in reverse, and all are started in order."""
    assert decide_for("one_for_all", "b")[:2] == (("c", "a"), ("a", "b", "c"))


@pytest.mark.parametrize(
    ("restart", "normal", "started"),
    [
        ("permanent", True, ("a",)),
        ("permanent", False, ("a",)),
        ("transient", True, ()),
        ("transient", False, ("a",)),
        ("temporary", True, ()),
        ("temporary", False, ()),
    ],
)
def test_restart_kinds(restart: str, normal: bool, started: tuple[str, ...]) -> None:
    """Permanent always, transient after an abnormal end, temporary never."""
    child = ChildRule("a", restart)  # type: ignore[arg-type]
    exit = Exit("a", normal, "x", 0.0)
    decision = decide(Policy("one_for_all", 3, 10.0), [child], (), exit)
    assert started == decision.start
    assert (("a",) if restart == "temporary" else ()) == decision.forget


def test_an_exit_without_restart_does_not_count() -> None:
    """A transient child may end normally as often as it likes."""
    policy = Policy("one_for_one", 0, 10.0)
    decision = decide(policy, [ChildRule("a", "transient")], (), Exit("a", True, "", 0.0))
    assert not decision.escalate
    assert decision.history == ()


def test_a_temporary_sibling_falls_and_does_not_come_back() -> None:
    """A temporary child is stopped with the others and then forgotten."""
    children = [ChildRule("a", "permanent"), ChildRule("b", "temporary")]
    decision = decide(Policy("one_for_all", 3, 10.0), children, (), crash("a"))
    assert decision[:3] == (("b",), ("a",), ("b",))


def test_what_had_ended_stays_ended() -> None:
    """A sibling that is not wanted is not woken by a failure."""
    children = [ChildRule("a", "permanent"), ChildRule("b", "transient", wanted=False)]
    decision = decide(Policy("one_for_all", 3, 10.0), children, (), crash("a"))
    assert decision[:2] == ((), ("a",))


def test_intensity_escalates_with_the_story() -> None:
    """One restart more than the intensity within the period is one too many."""
    policy = Policy("one_for_one", 2, 10.0)
    history: tuple[Exit, ...] = ()
    for at in (0.0, 1.0):
        decision = decide(policy, rules("a"), history, crash("a", at))
        assert not decision.escalate
        history = decision.history
    decision = decide(policy, rules("a"), history, crash("a", 10.0))
    assert decision.escalate
    assert decision[:3] == ((), (), ())
    assert story(decision.history, 10.0) == [
        "10.0 s ago a: ValueError: x",
        "9.0 s ago a: ValueError: x",
        "0.0 s ago a: ValueError: x",
    ]


def test_old_failures_are_forgiven() -> None:
    """A failure older than the period no longer counts."""
    policy = Policy("one_for_one", 1, 10.0)
    history = decide(policy, rules("a"), (), crash("a", 0.0)).history
    decision = decide(policy, rules("a"), history, crash("a", 10.5))
    assert not decision.escalate
    assert (crash("a", 10.5),) == decision.history


def naive(
    policy: Policy, children: list[ChildRule], history: list[Exit], exit: Exit
) -> tuple[set[str], list[str], set[str], bool]:
    """The same rules written as a table of questions about each child."""
    [ended] = [child for child in children if child.name == exit.child]
    again = {"permanent": True, "transient": not exit.normal, "temporary": False}[ended.restart]
    if not again:
        return set(), [], {exit.child} if ended.restart == "temporary" else set(), False
    recent = 1
    for past in history:
        if past.at >= exit.at - policy.period_s:
            recent += 1
    if recent > policy.intensity:
        return set(), [], set(), True
    stop: set[str] = set()
    start: list[str] = []
    forget: set[str] = set()
    seen = False
    for child in children:
        seen = seen or child is ended
        falls = child is ended or (
            child.wanted
            and (policy.strategy == "one_for_all" or (policy.strategy == "rest_for_one" and seen))
        )
        if falls and child is not ended:
            stop.add(child.name)
        if falls and child.restart != "temporary":
            start.append(child.name)
        if falls and child.restart == "temporary":
            forget.add(child.name)
    return stop, start, forget, False


@st.composite
def situations(draw: st.DrawFn) -> tuple[Policy, list[ChildRule], list[Exit], Exit]:
    names = [f"c{i}" for i in range(draw(st.integers(1, 6)))]
    children = [
        ChildRule(name, draw(st.sampled_from(RESTARTS)), draw(st.booleans()))  # type: ignore[arg-type]
        for name in names
    ]
    times = sorted(draw(st.lists(st.integers(0, 40), max_size=6)))
    history = [crash(draw(st.sampled_from(names)), float(at)) for at in times]
    at = float(max([0, *times]) + draw(st.integers(0, 20)))
    policy = Policy(
        draw(st.sampled_from(STRATEGIES)),  # type: ignore[arg-type]
        draw(st.integers(0, 4)),
        float(draw(st.integers(1, 20))),
    )
    exit = Exit(draw(st.sampled_from(names)), draw(st.booleans()), "", at)
    return policy, children, history, exit


@given(situations())
def test_agrees_with_a_naive_second_implementation(
    situation: tuple[Policy, list[ChildRule], list[Exit], Exit],
) -> None:
    """For any children, history and exit, both implementations decide the same."""
    policy, children, history, exit = situation
    decision = decide(policy, children, history, exit)
    expected = naive(policy, children, history, exit)
    assert expected == (
        set(decision.stop),
        list(decision.start),
        set(decision.forget),
        decision.escalate,
    )
    order = [child.name for child in children]
    assert sorted(decision.stop, key=order.index, reverse=True) == list(decision.stop)
    assert len(decision.history) <= max(len(history), policy.intensity) + 1


# the tree as data


def child(name: str, **fields: object) -> ChildSpec:
    return ChildSpec(name=name, factory=object, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "a/b"},
        {"name": "a", "restart": "always"},
        {"name": "a", "mailbox_max": 0},
        {"name": "a", "shutdown_s": -1.0},
        {"name": "a", "survives": True},
        {"name": "a", "host": "process"},
        {"name": "a", "host": "thread"},
    ],
)
def test_a_wrong_child_spec_is_refused_when_written(fields: dict[str, str]) -> None:
    """A mistake in a child spec is found at construction."""
    with pytest.raises(ValueError, match=":"):
        child(**fields)


def test_names_are_unique_in_the_whole_tree() -> None:
    """The same name in another branch is refused."""
    branch = SupervisorSpec(name="branch", children=(child("a"),))
    with pytest.raises(ValueError, match="two children are named 'a'"):
        SupervisorSpec(name="root", children=(branch, child("a")))


def test_an_owner_must_exist() -> None:
    """A tree whose owner is misspelt is refused."""
    with pytest.raises(ValueError, match="'nobody' is not in the tree"):
        check_owners(SupervisorSpec(name="root", children=(child("a", owner="nobody"),)))


def test_walk_is_in_start_order() -> None:
    """Walking the tree names parents before children, left to right."""
    branch = SupervisorSpec(name="branch", children=(child("b"),))
    root = SupervisorSpec(name="root", children=(child("a"), branch, child("c")))
    assert [spec.name for spec in root.walk()] == ["root", "a", "branch", "b", "c"]
