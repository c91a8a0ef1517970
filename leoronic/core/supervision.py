"""Whether to restart: the supervisor's whole decision as one pure function.

A supervisor tells `decide` which child ended, how and when; the decision names what to stop, what
to start, or that the supervisor gives up and hands the story to its own parent. The rules are
Erlang/OTP's, with the differences that docs/architecture.md lists.

Only the standard library's `typing` is imported: the keeper, which must stay small, decides by the
same function.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, get_args

Strategy = Literal["one_for_one", "rest_for_one", "one_for_all"]
"""Who is restarted with a failed child: nobody, those started after it, or all."""

Restart = Literal["permanent", "transient", "temporary"]
"""When an ended child is started again: always, after an abnormal end only, or never."""

STRATEGIES: tuple[str, ...] = get_args(Strategy)
RESTARTS: tuple[str, ...] = get_args(Restart)


class ChildRule(NamedTuple):
    """What the decision needs to know of a child. `wanted`: it runs, or is to be started."""

    name: str
    restart: Restart
    wanted: bool = True


class Policy(NamedTuple):
    """More than `intensity` restarts within `period_s` seconds make the supervisor give up."""

    strategy: Strategy
    intensity: int
    period_s: float


class Exit(NamedTuple):
    """One child ended, at `at` (seconds on any steady clock)."""

    child: str
    normal: bool
    reason: str
    at: float


class Decision(NamedTuple):
    """What to do, in this order: stop `stop`, forget `forget`, then start `start`.

    `history` replaces the supervisor's. With `escalate`, everything is to be stopped and `history`
    is the story to hand up; the other fields are empty.
    """

    stop: tuple[str, ...]
    start: tuple[str, ...]
    forget: tuple[str, ...]
    history: tuple[Exit, ...]
    escalate: bool = False


def decide(
    policy: Policy, children: Sequence[ChildRule], history: Sequence[Exit], exit: Exit
) -> Decision:
    """What to do about `exit`. `children` in start order, the ended one among them.

    `history` holds the exits that led to restarts, oldest first; those older than the period are
    dropped from the result, so that it never holds more than `intensity` + 1.
    """
    index = _index_of(children, exit.child)
    recent = tuple(past for past in history if exit.at - past.at <= policy.period_s)
    if not _restarts(children[index].restart, exit.normal):
        temporary = children[index].restart == "temporary"
        return Decision((), (), (exit.child,) if temporary else (), recent)

    recent = (*recent, exit)
    if len(recent) > policy.intensity:
        return Decision((), (), (), recent, escalate=True)

    affected = _affected(policy.strategy, children, index)
    # A temporary sibling that falls with the others does not come back: it never restarts.
    return Decision(
        stop=tuple(child.name for child in reversed(affected) if child.name != exit.child),
        start=tuple(child.name for child in affected if child.restart != "temporary"),
        forget=tuple(child.name for child in affected if child.restart == "temporary"),
        history=recent,
    )


def story(history: Collection[Exit], now: float) -> list[str]:
    """The exits as lines for a person, oldest first."""
    return [f"{now - past.at:.1f} s ago {past.child}: {past.reason}" for past in history]


def _index_of(children: Sequence[ChildRule], name: str) -> int:
    for index, child in enumerate(children):
        if child.name == name:
            return index
    raise KeyError(name)


def _restarts(restart: Restart, normal: bool) -> bool:
    return restart == "permanent" or (restart == "transient" and not normal)


def _affected(strategy: Strategy, children: Sequence[ChildRule], index: int) -> Sequence[ChildRule]:
    if strategy == "one_for_one":
        return (children[index],)
    first = index if strategy == "rest_for_one" else 0
    # What ended for good, or was stopped by hand, is not woken by a sibling's failure.
    return [
        child
        for position, child in enumerate(children)
        if position >= first and (child.wanted or position == index)
    ]
