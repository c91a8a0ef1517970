"""The runner's bookkeeping: which attempts it holds, and who stands behind whom."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leoronic.core.attempt import Phase
from leoronic.core.attempt_events import (
    CancelTimers,
    CloseOutput,
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
from leoronic.core.attempts import Attempts, BookkeepingError
from leoronic.core.outcome import Outcome
from leoronic.core.run import Exited, Forget, Kill, Run, Runs, Spawned, StartNow
from tests.core.attempting import KEY, RUN, attempts, chain, end, outcome_of, running


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


def test_behind_one_that_was_killed_in_its_lane() -> None:
    """Whoever comes to stand behind it stands behind those that it waited for.

    So it is when the executor has not heard yet that it was killed.
    """
    machine = attempts()
    machine.handle(Runs(chain("a", "b", "c")), 0.0)
    machine.handle(Kill("b", 1, "superseded"), 0.0)
    machine.handle(Kill("c", 1, "superseded"), 0.0)
    last = Run("d", 1, "x", behind=("c", 1))
    assert [] == machine.handle(last, 0.0)
    machine.handle(Kill("c", 1, "superseded"), 0.0)
    assert Phase.QUEUED == machine.phase(("d", 1))
    (spawned,) = [effect for effect in end(machine, "a") if isinstance(effect, Spawn)]
    assert ("d", 1) == spawned.run.key


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
