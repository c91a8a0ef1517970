"""The supervision tree as data: which actors a process runs, and how each is restarted.

A tree is checked when it is built, so that a typing error is found at start and not at the first
crash. Nothing here runs anything; `leoronic.runtime.supervisor` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from leoronic.core.supervision import (
    RESTARTS,
    STRATEGIES,
    ChildRule,
    Policy,
    Restart,
    Strategy,
)

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One actor.

    `factory` makes a fresh actor for each start: a callable without arguments, or, for a child in
    a host process, the name under which its launcher knows it (an importable `module:callable`, or
    a key of the keeper's table of hosts).

    `start_s` bounds `started()`, `shutdown_s` the ordered stop (then it is cut off);
    `mailbox_max` counts messages. `owner` names the actor that gets what this one emits.

    A child with `host="process"` also has `socket` (path it listens on), `takes` and `gives` (the
    types of the messages to it, and of its answers and emitted messages) and `arguments` (JSON
    data handed to the host). With `survives`, it outlives its supervisor's process and is found
    again by the next one.
    """

    name: str
    factory: Callable[[], Any] | str
    restart: Restart = "permanent"
    start_s: float = 30.0
    shutdown_s: float = 5.0
    mailbox_max: int = 4096
    owner: str | None = None
    host: Literal["process"] | None = None
    socket: str = ""
    takes: Any = None
    gives: Any = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    survives: bool = False

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check(self.restart in RESTARTS, self.name, f"restart is one of {', '.join(RESTARTS)}")
        _check(self.start_s > 0, self.name, "start_s is positive")
        _check(self.shutdown_s >= 0, self.name, "shutdown_s is not negative")
        _check(self.mailbox_max >= 1, self.name, "mailbox_max is at least 1")
        if self.host is None:
            _check(callable(self.factory), self.name, "a child in this process has a callable")
            _check(not self.survives, self.name, "only a host process can survive")
        else:
            _check(self.host == "process", self.name, "host is None or 'process'")
            _check(isinstance(self.factory, str), self.name, "a host's factory is a name")
            _check(bool(self.socket), self.name, "a host process has a socket")
            _check(self.takes is not None, self.name, "a host process says what it takes")


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorSpec:
    """A supervisor and its children, in start order (they stop in reverse).

    More than `intensity` restarts within `period_s` seconds, and it gives up: it stops all its
    children and fails to its own supervisor, which counts that as one failure of this child.
    """

    name: str
    children: tuple[ChildSpec | SupervisorSpec, ...] = ()
    strategy: Strategy = "one_for_one"
    intensity: int = 5
    period_s: float = 60.0
    restart: Restart = "permanent"

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check(self.strategy in STRATEGIES, self.name, f"strategy: {', '.join(STRATEGIES)}")
        _check(self.restart in RESTARTS, self.name, f"restart is one of {', '.join(RESTARTS)}")
        _check(self.intensity >= 0, self.name, "intensity is not negative")
        _check(self.period_s > 0, self.name, "period_s is positive")
        seen: set[str] = set()
        for spec in self.walk():
            _check(spec.name not in seen, self.name, f"two children are named {spec.name!r}")
            seen.add(spec.name)

    @property
    def policy(self) -> Policy:
        """The part of it that decides on restarts."""
        return Policy(self.strategy, self.intensity, self.period_s)

    def walk(self) -> Iterator[ChildSpec | SupervisorSpec]:
        """This and all below, in start order."""
        yield self
        for child in self.children:
            if isinstance(child, SupervisorSpec):
                yield from child.walk()
            else:
                yield child


def rule_of(spec: ChildSpec | SupervisorSpec, *, wanted: bool = True) -> ChildRule:
    """What the restart decision needs to know of a child."""
    return ChildRule(spec.name, spec.restart, wanted)


def check_owners(root: SupervisorSpec) -> None:
    """Raise ValueError if an owner is named that is not in the tree of `root`."""
    names = {spec.name for spec in root.walk() if isinstance(spec, ChildSpec)}
    for spec in root.walk():
        if isinstance(spec, ChildSpec) and spec.owner is not None:
            _check(spec.owner in names, spec.name, f"its owner {spec.owner!r} is not in the tree")


def _check_name(name: str) -> None:
    _check(NAME.fullmatch(name) is not None, repr(name), "not a name for an actor")


def _check(holds: bool, name: str, rule: str) -> None:
    if not holds:
        raise ValueError(f"{name}: {rule}")
