"""Attempts on their way: for the tests of the runner's bookkeeping."""

from __future__ import annotations

from leoronic.core.attempt_events import (
    Effect,
    Emit,
    ShellExited,
    ShellStarted,
    Stored,
)
from leoronic.core.attempts import Attempts
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.run import Exited, Run

KEY = ("t", 1)

RUN = Run("t", 1, "echo hi")

OUT = StreamRef(3, b"hi\n")


def attempts(**options: float) -> Attempts:
    return Attempts(**options)  # type: ignore[arg-type]


def running(machine: Attempts, run: Run = RUN) -> None:
    """Bring one attempt to `running`, with pid 7, at 100 s."""
    machine.handle(run, 100.0)
    machine.handle(ShellStarted(run.key, 7, 1000.0), 100.0)


def outcome_of(effects: list[Effect]) -> Outcome:
    """The outcome that these effects tell of."""
    (exited,) = [e.message for e in effects if isinstance(e, Emit)]
    assert isinstance(exited, Exited)
    return exited.outcome


def chain(*names: str) -> list[Run]:
    """Each behind the one before it."""
    keys = [None, *((name, 1) for name in names)]
    return [Run(name, 1, "x", behind=keys[i]) for i, name in enumerate(names)]


def end(machine: Attempts, name: str) -> list[Effect]:
    """Let a running attempt end; what follows."""
    machine.handle(ShellStarted((name, 1), 7, 1.0), 0.0)
    ended = ShellExited((name, 1), 2.0, exit_code=0, output_closed=True, tree_empty=True)
    machine.handle(ended, 0.0)
    return machine.handle(Stored((name, 1)), 0.0)
