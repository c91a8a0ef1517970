"""One attempt of the runner, event by event."""

from __future__ import annotations

import pytest

from leoronic.core.attempt import KILL_PATIENCE_S, RETRY_START_S, Phase
from leoronic.core.attempt_events import (
    CancelTimers,
    CloseOutput,
    Discard,
    Emit,
    Exceeded,
    Fired,
    OutputClosed,
    SetTimer,
    ShellExited,
    ShellStarted,
    Signal,
    Spawn,
    StartFailed,
    Store,
    Stored,
    TreeCounted,
    TreeEmpty,
    WatchTree,
)
from leoronic.core.outcome import Outcome
from leoronic.core.run import Exited, Forget, Kill, Run, Runs, Spawned
from tests.core.attempting import KEY, OUT, RUN, attempts, chain, outcome_of, running


def test_short_task() -> None:
    """Spawn, store, tell, forget: a short task needs no timer and no look at its tree."""
    machine = attempts()
    assert [Spawn(RUN)] == machine.handle(RUN, 0.0)
    assert [Emit(Spawned("t", 1, 7, 1000.0))] == machine.handle(ShellStarted(KEY, 7, 1000.0), 0.0)
    ended = ShellExited(
        KEY, 1001.0, exit_code=0, cpu_seconds=0.1, output_closed=True, tree_empty=True
    )
    assert [Store(KEY)] == machine.handle(ended, 0.1)
    outcome = Outcome(1000.0, 1001.0, exit_code=0, cpu_seconds=0.1, stdout=OUT)
    assert [Emit(Exited("t", 1, outcome))] == machine.handle(Stored(KEY, OUT), 0.1)
    assert Exited("t", 1, outcome) == machine.exited(KEY)
    assert [Discard(KEY)] == machine.handle(Forget([KEY]), 0.2)
    assert 0 == len(machine)


def test_start_failed() -> None:
    """A shell that cannot be started has an outcome with no exit code."""
    machine = attempts()
    machine.handle(RUN, 0.0)
    outcome = outcome_of(machine.handle(StartFailed(KEY, "No memory", 5.0), 0.0))
    assert Outcome(5.0, 5.0, reason="cannot start: No memory") == outcome


def test_passing_want_is_waited_out() -> None:
    """A start that failed for want of something that may pass is tried again, for a second."""
    machine = attempts()
    now, effects = 100.0, machine.handle(RUN, 100.0)
    for wait_s in RETRY_START_S:
        assert [Spawn(RUN)] == effects
        effects = machine.handle(StartFailed(KEY, "no processes", 5.0, passing=True), now)
        assert [SetTimer(KEY, "retry_start", now + wait_s)] == effects
        assert [Spawned("t", 1, 0, 0.0)] == machine.inventory().running
        now += wait_s
        effects = machine.handle(Fired(KEY, "retry_start"), now)
    assert pytest.approx(101.0) == now
    effects = machine.handle(StartFailed(KEY, "no processes", 6.0, passing=True), now)
    outcome = Outcome(6.0, 6.0, reason="cannot start: no processes", not_started=True)
    assert outcome == outcome_of(effects)


def test_start_after_a_retry() -> None:
    """Once it can be started after all, it is an attempt like any other."""
    machine = attempts()
    machine.handle(RUN, 0.0)
    machine.handle(StartFailed(KEY, "no processes", 5.0, passing=True), 0.0)
    machine.handle(Fired(KEY, "retry_start"), 0.1)
    assert [Emit(Spawned("t", 1, 7, 6.0))] == machine.handle(ShellStarted(KEY, 7, 6.0), 0.1)


def test_final_failure_after_a_retry() -> None:
    """What cannot pass is final, also if it shows only at the second try."""
    machine = attempts()
    machine.handle(RUN, 0.0)
    machine.handle(StartFailed(KEY, "no processes", 5.0, passing=True), 0.0)
    machine.handle(Fired(KEY, "retry_start"), 0.1)
    outcome = outcome_of(machine.handle(StartFailed(KEY, "no folder", 6.0), 0.1))
    assert ("cannot start: no folder", False) == (outcome.reason, outcome.not_started)


def test_cancel_between_tries() -> None:
    """One that waits to be tried again is cancelled at once, and not tried again."""
    machine = attempts()
    machine.handle(Runs(chain("a", "b")), 0.0)
    machine.handle(StartFailed(("a", 1), "no processes", 5.0, passing=True), 0.0)
    effects = machine.handle(Kill("a", 1, "cancelled"), 0.0)
    assert (CancelTimers(("a", 1)), "cancelled") == (effects[0], outcome_of(effects).reason)
    assert not outcome_of(effects).not_started
    assert Spawn(chain("a", "b")[1]) == effects[-1]
    assert [] == machine.handle(Fired(("a", 1), "retry_start"), 0.1)


def test_cancel_while_starting_in_vain() -> None:
    """A cancelled attempt that cannot be started is cancelled, and not tried again."""
    machine = attempts()
    machine.handle(RUN, 0.0)
    machine.handle(Kill("t", 1, "cancelled"), 0.0)
    outcome = outcome_of(machine.handle(StartFailed(KEY, "no", 5.0, passing=True), 0.0))
    assert ("cancelled", False) == (outcome.reason, outcome.not_started)


def test_cancel() -> None:
    """Cancelling is TERM, then KILL after the grace, and the reason is the canceller's."""
    machine = attempts()
    running(machine)
    assert [Signal(KEY, "TERM"), SetTimer(KEY, "kill", 102.0)] == machine.handle(
        Kill("t", 1, "cancelled", grace_s=2.0), 100.0
    )
    assert [Signal(KEY, "KILL"), SetTimer(KEY, "give_up", 102.0 + KILL_PATIENCE_S)] == (
        machine.handle(Fired(KEY, "kill"), 102.0)
    )
    ended = ShellExited(KEY, 1002.0, signal=9, output_closed=True, tree_empty=True)
    assert [CancelTimers(KEY), Store(KEY)] == machine.handle(ended, 102.0)
    outcome = outcome_of(machine.handle(Stored(KEY), 102.0))
    assert ("cancelled", 9, None) == (outcome.reason, outcome.signal, outcome.exit_code)


def test_cancel_without_grace() -> None:
    """With no grace it is KILL at once."""
    machine = attempts()
    running(machine)
    assert Signal(KEY, "KILL") == machine.handle(Kill("t", 1, "x", grace_s=0.0), 100.0)[0]


def test_cancel_while_starting() -> None:
    """A kill that comes before the shell exists is done once it does, with the first reason."""
    machine = attempts()
    machine.handle(RUN, 0.0)
    assert [] == machine.handle(Kill("t", 1, "cancelled", 1.0), 0.0)
    assert [] == machine.handle(Kill("t", 1, "again", 1.0), 0.0)
    effects = machine.handle(ShellStarted(KEY, 7, 1000.0), 1.0)
    assert [Signal(KEY, "TERM"), SetTimer(KEY, "kill", 2.0)] == effects[1:]
    machine.handle(ShellExited(KEY, 1.0, signal=15, output_closed=True, tree_empty=True), 1.5)
    assert "cancelled" == outcome_of(machine.handle(Stored(KEY), 1.5)).reason


def test_second_kill_may_only_hurry() -> None:
    """A second kill shortens the grace, never lengthens it."""
    machine = attempts()
    running(machine)
    machine.handle(Kill("t", 1, "cancelled", 5.0), 100.0)
    assert [] == machine.handle(Kill("t", 1, "x", 9.0), 100.0)
    assert [SetTimer(KEY, "kill", 102.0)] == machine.handle(Kill("t", 1, "x", 1.0), 101.0)
    assert Signal(KEY, "KILL") == machine.handle(Kill("t", 1, "x", 0.0), 101.0)[0]
    assert [] == machine.handle(Kill("t", 1, "x", 0.0), 101.0)


def test_time_limit() -> None:
    """A time limit starts with the shell, ends with TERM and the grace, and is named."""
    machine = attempts(grace_s=5.0)
    machine.handle(Run("t", 1, "x", time_limit=90.0), 0.0)
    assert SetTimer(KEY, "limit", 100.0) == machine.handle(ShellStarted(KEY, 7, 1.0), 10.0)[-1]
    assert [Signal(KEY, "TERM"), SetTimer(KEY, "kill", 105.0)] == machine.handle(
        Fired(KEY, "limit"), 100.0
    )
    machine.handle(ShellExited(KEY, 1.0, signal=15, output_closed=True, tree_empty=True), 101.0)
    assert "time limit 90 s" == outcome_of(machine.handle(Stored(KEY), 101.0)).reason


def test_late_time_limit() -> None:
    """A limit that fires after the shell has gone changes nothing."""
    machine = attempts()
    running(machine, Run("t", 1, "x", time_limit=1.0))
    machine.handle(ShellExited(KEY, 1.0, exit_code=0), 101.0)
    assert [] == machine.handle(Fired(KEY, "limit"), 101.0)
    assert Phase.DRAINING == machine.phase(KEY)


@pytest.mark.parametrize(
    ("run", "ended", "reason"),
    [
        (Run("t", 1, "x", memory=512 << 20), {"memory_killed": True}, "killed: memory 512 MiB"),
        (Run("t", 1, "x", memory=1), {"memory_killed": True}, "killed: memory 16 MiB"),
        (Run("t", 1, "x", pids=20), {"pids_refused": True}, "pids limit of 20 reached"),
        (Run("t", 1, "x"), {}, ""),
    ],
)
def test_limits_are_named(run: Run, ended: dict[str, bool], reason: str) -> None:
    """What the kernel did to a task is its reason, unless the command coped and succeeded."""
    for exit_code, expected in ((1, reason), (0, "")):
        machine = attempts()
        running(machine, run)
        machine.handle(
            ShellExited(
                KEY, 1.0, exit_code=exit_code, output_closed=True, tree_empty=True, **ended
            ),
            101.0,
        )
        assert expected == outcome_of(machine.handle(Stored(KEY), 101.0)).reason


def test_exceeded_is_killed_at_once() -> None:
    """What the watcher saw is ended without grace."""
    machine = attempts()
    running(machine)
    assert Signal(KEY, "KILL") == machine.handle(Exceeded(KEY, "memory 1 GiB"), 100.0)[0]
    machine.handle(ShellExited(KEY, 1.0, signal=9, output_closed=True, tree_empty=True), 101.0)
    assert "killed: memory 1 GiB" == outcome_of(machine.handle(Stored(KEY), 101.0)).reason


def test_late_output() -> None:
    """Output that closes within the linger time is waited for; then the tree is looked at."""
    machine = attempts(linger_s=5.0)
    running(machine)
    assert [SetTimer(KEY, "linger", 106.0)] == machine.handle(
        ShellExited(KEY, 1.0, exit_code=0), 101.0
    )
    assert [WatchTree(KEY)] == machine.handle(OutputClosed(KEY), 103.0)
    assert [CancelTimers(KEY), Store(KEY)] == machine.handle(TreeCounted(KEY, 0), 103.0)
    assert 0 == outcome_of(machine.handle(Stored(KEY), 103.0)).stragglers


def test_stragglers() -> None:
    """What holds the output beyond the linger time is counted and ended: TERM, KILL, give up."""
    machine = attempts(linger_s=5.0, grace_s=2.0)
    running(machine)
    machine.handle(ShellExited(KEY, 1.0, exit_code=0), 101.0)
    assert [WatchTree(KEY)] == machine.handle(Fired(KEY, "linger"), 106.0)
    assert [Signal(KEY, "TERM"), SetTimer(KEY, "kill", 108.0)] == machine.handle(
        TreeCounted(KEY, 2), 106.0
    )
    assert Signal(KEY, "KILL") == machine.handle(Fired(KEY, "kill"), 108.0)[0]
    assert [CloseOutput(KEY), CancelTimers(KEY), Store(KEY)] == machine.handle(
        TreeEmpty(KEY), 108.1
    )
    outcome = outcome_of(machine.handle(Stored(KEY), 108.1))
    assert (2, 0, "") == (outcome.stragglers, outcome.exit_code, outcome.reason)


def test_give_up() -> None:
    """A tree that survives KILL (a process stuck in the kernel) does not hold up the outcome."""
    machine = attempts()
    running(machine)
    machine.handle(ShellExited(KEY, 1.0, exit_code=0), 101.0)
    machine.handle(Fired(KEY, "linger"), 106.0)
    machine.handle(TreeCounted(KEY, 1), 106.0)
    machine.handle(Fired(KEY, "kill"), 111.0)
    assert [CloseOutput(KEY), CancelTimers(KEY), Store(KEY)] == machine.handle(
        Fired(KEY, "give_up"), 114.0
    )
    assert [] == machine.handle(TreeEmpty(KEY), 115.0)


def test_stuck_shell_is_killed_again() -> None:
    """The shell itself is never given up: without its end there is no outcome."""
    machine = attempts()
    running(machine)
    machine.handle(Kill("t", 1, "x", 0.0), 100.0)
    assert Signal(KEY, "KILL") == machine.handle(Fired(KEY, "give_up"), 103.0)[0]


def test_killed_tree_keeps_its_grace() -> None:
    """When the shell ends on TERM, its children have the rest of the grace, and no second TERM."""
    machine = attempts()
    running(machine)
    machine.handle(Kill("t", 1, "cancelled", 5.0), 100.0)
    assert [WatchTree(KEY)] == machine.handle(ShellExited(KEY, 1.0, signal=15), 101.0)
    assert [] == machine.handle(TreeCounted(KEY, 1), 101.0)
    assert Signal(KEY, "KILL") == machine.handle(Fired(KEY, "kill"), 105.0)[0]
    assert [] == machine.handle(OutputClosed(KEY), 105.0)
    assert [CancelTimers(KEY), Store(KEY)] == machine.handle(TreeEmpty(KEY), 105.0)
    assert 1 == outcome_of(machine.handle(Stored(KEY), 105.0)).stragglers


def test_killed_tree_and_an_unknown_writer() -> None:
    """A killed attempt whose output somebody unknown holds waits no longer than its grace."""
    machine = attempts()
    running(machine)
    machine.handle(Kill("t", 1, "cancelled", 1.0), 100.0)
    machine.handle(ShellExited(KEY, 1.0, signal=15, tree_empty=True), 100.1)
    assert [SetTimer(KEY, "give_up", 101.0)] == machine.handle(TreeCounted(KEY, 0), 100.1)
    assert [CloseOutput(KEY), CancelTimers(KEY), Store(KEY)] == machine.handle(
        Fired(KEY, "give_up"), 101.0
    )


def test_cancel_while_draining() -> None:
    """A cancel after the shell's own end only hurries: the exit code has decided."""
    machine = attempts()
    running(machine)
    machine.handle(ShellExited(KEY, 1.0, exit_code=0), 101.0)
    assert [WatchTree(KEY)] == machine.handle(Kill("t", 1, "cancelled"), 102.0)
    machine.handle(TreeCounted(KEY, 0), 102.0)
    outcome = outcome_of(machine.handle(Stored(KEY), 102.0))
    assert (0, "") == (outcome.exit_code, outcome.reason)
