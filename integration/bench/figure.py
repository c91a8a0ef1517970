"""One measured figure: our samples, those of the rivals in the same run, and the goal."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Goal:
    """What is asked of a figure: a bound in its own unit, or times as good as the rival `of`."""

    limit: float
    of: str | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """A rival that could not be measured, and why."""

    reason: str


@dataclass(slots=True)
class Figure:
    """Samples of one thing, in `unit`. `more` says whether more is better."""

    what: str
    unit: str
    ours: list[float]
    rivals: dict[str, list[float] | Missing] = field(default_factory=dict)
    more: bool = False
    goal: Goal | None = None

    def ratio(self, rival: str) -> float | None:
        """How many times better ours is, by medians; None if there is nothing to divide."""
        theirs = self.rivals.get(rival)
        if theirs is None or isinstance(theirs, Missing) or not theirs or not self.ours:
            return None
        mine, other = statistics.median(self.ours), statistics.median(theirs)
        above, below = (mine, other) if self.more else (other, mine)
        return above / below if below > 0 else None

    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal, or where that cannot be told."""
        if self.goal is None or not self.ours:
            return None
        if self.goal.of is not None:
            ratio = self.ratio(self.goal.of)
            return None if ratio is None else ratio >= self.goal.limit
        mine = statistics.median(self.ours)
        return mine >= self.goal.limit if self.more else mine <= self.goal.limit

    def as_json(self) -> dict[str, object]:
        """The same as plain data."""
        return {
            "what": self.what,
            "unit": self.unit,
            "ours": self.ours,
            "rivals": {
                name: {"missing": found.reason} if isinstance(found, Missing) else found
                for name, found in self.rivals.items()
            },
            "more": self.more,
            "goal": None if self.goal is None else {"limit": self.goal.limit, "of": self.goal.of},
            "met": self.met(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Figure:
        """What `as_json` gave. Raises KeyError or TypeError if it is something else."""
        goal = data["goal"]
        return cls(
            data["what"],
            data["unit"],
            data["ours"],
            {
                name: Missing(found["missing"]) if isinstance(found, dict) else found
                for name, found in data["rivals"].items()
            },
            data["more"],
            None if goal is None else Goal(goal["limit"], goal["of"]),
        )


def format_number(value: float) -> str:
    """Three digits that mean something: 1,234; 12.3; 0.123."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    if abs(value) >= 1:
        return f"{value:.2f}"
    return f"{value:.3f}"


def format_samples(samples: list[float]) -> str:
    """The median, and in brackets the least and the most if there are several."""
    if not samples:
        return "-"
    middle = format_number(statistics.median(samples))
    if len(samples) == 1:
        return middle
    return f"{middle} ({format_number(min(samples))} to {format_number(max(samples))})"
