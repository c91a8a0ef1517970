"""The runner's bookkeeping, event by event."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leoronic.core.attempt_events import (
    CancelTimers,
    CloseOutput,
    Discard,
    Effect,
    Emit,
    Event,
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
from leoronic.core.attempts import (
    KILL_PATIENCE_S,
    RETRY_START_S,
    Attempts,
    BookkeepingError,
    Phase,
    size_text,
)
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.run import Exited, Forget, Kill, Run, Runs, Spawned, StartNow

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


def test_repeated_run_changes_nothing() -> None:
    """A `Run` of an attempt that is known is ignored, whatever its phase."""
    machine = attempts()
    assert 2 == len(machine.handle(Runs([RUN, Run("u", 1, "x")]), 0.0))
    assert [] == machine.handle(RUN, 0.0)
    machine.handle(StartFailed(KEY, "no", 1.0), 0.0)
    assert [] == machine.handle(RUN, 0.0)


def test_attempts_are_told_apart() -> None:
    """The second attempt of a task is another one."""
    machine = attempts()
    running(machine)
    assert [Spawn(Run("t", 2, "x"))] == machine.handle(Run("t", 2, "x"), 0.0)


def test_unknown_attempts_are_ignored() -> None:
    """A kill, a forget or a timer of an attempt that is not held does nothing."""
    machine = attempts()
    assert [] == machine.handle(Kill("t", 1, "cancelled"), 0.0)
    assert [] == machine.handle(Forget([KEY]), 0.0)
    assert [] == machine.handle(Fired(KEY, "limit"), 0.0)


def test_forget_keeps_what_runs() -> None:
    """Only outcomes can be forgotten."""
    machine = attempts()
    running(machine)
    assert [] == machine.handle(Forget([KEY]), 0.0)
    assert Phase.RUNNING == machine.phase(KEY)


def test_too_many_attempts() -> None:
    """Beyond the bound a `Run` ends at once as not started, and is not held."""
    machine = attempts(attempts_max=1)
    running(machine)
    outcome = outcome_of(machine.handle(Run("u", 1, "x"), 0.0))
    assert outcome.not_started
    assert "cannot start: the runner holds 1 attempts already" == outcome.reason
    assert 1 == len(machine)


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


def test_lane() -> None:
    """An attempt behind another starts when that one has ended, without being asked."""
    machine = attempts()
    first, second, third = chain("a", "b", "c")
    assert [Spawn(first)] == machine.handle(Runs([first, second, third]), 0.0)
    assert Phase.QUEUED == machine.phase(("b", 1))
    assert Spawn(second) == end(machine, "a")[-1]
    assert Spawn(third) == end(machine, "b")[-1]
    assert 1 == len(end(machine, "c"))


def test_lane_of_one_that_ended() -> None:
    """Behind an attempt that has ended, or is not held, there is nothing to wait for."""
    machine = attempts()
    first, second = chain("a", "b")
    machine.handle(first, 0.0)
    end(machine, "a")
    assert [Spawn(second)] == machine.handle(second, 0.0)
    stranger = Run("d", 1, "x", behind=("nobody", 1))
    assert [Spawn(stranger)] == machine.handle(stranger, 0.0)


def test_lane_moves_on_when_a_start_fails() -> None:
    """A shell that cannot be started does not hold up those behind it."""
    machine = attempts()
    first, second = chain("a", "b")
    machine.handle(Runs([first, second]), 0.0)
    assert Spawn(second) == machine.handle(StartFailed(("a", 1), "no", 1.0), 0.0)[-1]


def test_start_now() -> None:
    """One that stands behind another can be told to wait no longer; it starts once."""
    machine = attempts()
    machine.handle(Runs(chain("a", "b")), 0.0)
    assert [Spawn(chain("a", "b")[1])] == machine.handle(StartNow("b", 1), 0.0)
    assert [] == machine.handle(StartNow("b", 1), 0.0)
    assert [] == machine.handle(StartNow("nobody", 1), 0.0)
    assert 1 == len(end(machine, "a"))


def test_kill_in_a_lane() -> None:
    """One that is killed while it waits ends at once, and those behind it close the gap."""
    machine = attempts()
    machine.handle(Runs(chain("a", "b", "c")), 0.0)
    assert "cancelled" == outcome_of(machine.handle(Kill("b", 1, "cancelled"), 0.0)).reason
    assert Phase.QUEUED == machine.phase(("c", 1))
    (spawned,) = [effect for effect in end(machine, "a") if isinstance(effect, Spawn)]
    assert ("c", 1) == spawned.run.key


def test_a_whole_lane_is_killed_from_its_middle() -> None:
    """Those that were killed before are not moved on with those that still wait."""
    machine = attempts()
    machine.handle(Runs(chain("a", "b", "c", "d")), 0.0)
    for name in "cdb":
        assert "cancelled" == outcome_of(machine.handle(Kill(name, 1, "cancelled"), 0.0)).reason
    assert 1 == len(end(machine, "a"))


def test_inventory() -> None:
    """The inventory lists what starts, what runs and what ended, each once."""
    machine = attempts()
    machine.handle(Run("a", 1, "x"), 0.0)
    running(machine)
    machine.handle(Run("c", 1, "x"), 0.0)
    machine.handle(StartFailed(("c", 1), "no", 3.0), 0.0)
    inventory = machine.inventory()
    assert [Spawned("a", 1, 0, 0.0), Spawned("t", 1, 7, 1000.0)] == inventory.running
    assert [("c", 1)] == [exited.key for exited in inventory.exited]
    assert [("a", 1), KEY] == machine.live()


def test_unlisted_event_tells_the_story() -> None:
    """An event that cannot be is an error that holds the attempt's own story."""
    machine = attempts()
    running(machine)
    with pytest.raises(BookkeepingError, match=r"starting: ShellStarted\n.*running: Stored"):
        machine.handle(Stored(KEY), 100.0)
    with pytest.raises(BookkeepingError, match="while unknown"):
        machine.handle(ShellExited(("u", 1), 1.0, exit_code=0), 100.0)


@pytest.mark.parametrize(
    ("size", "text"),
    [(1, "1 B"), (16 << 20, "16 MiB"), (1536 << 20, "1.5 GiB"), (5 << 40, "5 TiB")],
)
def test_size_text(size: int, text: str) -> None:
    """Sizes are told in the unit that a person would use."""
    assert text == size_text(size)


class World:
    """Simulated processes: performs effects and offers what could happen next."""

    def __init__(self, machine: Attempts) -> None:
        self.machine = machine
        self.now = 0.0
        self.timers: dict[str, float] = {}
        self.shell = self.tree = self.open = self.watching = self.storing = False
        self.outcomes: list[Outcome] = []

    def feed(self, event: Event) -> None:
        for effect in self.machine.handle(event, self.now):
            self.perform(effect)

    def perform(self, effect: Effect) -> None:
        match effect:
            case SetTimer(_, timer, at):
                self.timers[timer] = at
            case CancelTimers():
                self.timers.clear()
            case Signal(_, "KILL"):
                self.tree = False
            case WatchTree():
                self.watching = self.tree
                self.feed(TreeCounted(KEY, int(self.tree)))
            case CloseOutput():
                self.open = False
            case Store():
                # What was held is released: nobody watches the tree any longer.
                self.storing, self.watching = True, False
            case Emit(Exited(outcome=outcome)):
                self.outcomes.append(outcome)

    def possible(self) -> list[Event]:
        phase = self.machine.phase(KEY)
        events: list[Event] = [Kill("t", 1, "cancelled", 1.0), Kill("t", 1, "now", 0.0), RUN]
        if phase == Phase.STARTING:
            events += [ShellStarted(KEY, 7, 0.0), StartFailed(KEY, "no", 0.0)]
            events.append(StartFailed(KEY, "no processes", 0.0, passing=True))
        if self.shell:
            ended = ShellExited(
                KEY, 1.0, exit_code=0, output_closed=not self.open, tree_empty=not self.tree
            )
            events += [ended, Exceeded(KEY, "memory")]
        elif self.open and phase in (Phase.DRAINING, Phase.SWEEPING):
            events.append(OutputClosed(KEY))
        if self.watching and not self.tree:
            events.append(TreeEmpty(KEY))
        if self.storing:
            events.append(Stored(KEY))
        events += [Fired(KEY, timer) for timer in sorted(self.timers)]  # type: ignore[arg-type]
        return events

    def happen(self, event: Event) -> None:
        match event:
            case ShellStarted():
                self.shell = self.tree = self.open = True
            case ShellExited():
                self.shell = False
            case OutputClosed():
                self.open = False
            case TreeEmpty():
                self.watching = False
            case Stored():
                self.storing = False
            case Fired(_, timer):
                self.now = max(self.now, self.timers.pop(timer))
        self.feed(event)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_any_order_ends_once(data: st.DataObject) -> None:
    """Whatever happens in whatever order, an attempt ends once, and no event is unlisted."""
    world = World(attempts(linger_s=1.0, grace_s=1.0))
    world.feed(Run("t", 1, "x", time_limit=5.0))
    for _ in range(data.draw(st.integers(0, 12))):
        event = data.draw(st.sampled_from(world.possible()))
        if data.draw(st.booleans()):
            world.tree = False
        world.happen(event)
    for _ in range(40):
        pushing = [e for e in world.possible() if not isinstance(e, Run | Kill)]
        if not pushing:
            break
        world.happen(pushing[0])
    assert Phase.EXITED == world.machine.phase(KEY)
    assert 1 == len(world.outcomes)
