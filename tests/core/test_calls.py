"""Calls between parties: order, at most once, and an end for each, whatever breaks."""

from __future__ import annotations

from typing import Any

import pytest

from leoronic.core.callee import CalleeMachine
from leoronic.core.caller import WINDOW_BYTES, CallerMachine
from leoronic.core.calls import (
    Acknowledge,
    Acknowledged,
    Answer,
    Answered,
    Arrived,
    Call,
    Cancelled,
    Connected,
    Decline,
    Dial,
    Disconnected,
    Done,
    Ended,
    Failed,
    Find,
    Finished,
    Forgotten,
    GivenBack,
    Left,
    Placed,
    Refuse,
    Restarting,
    Returned,
    Say,
    Start,
    Submitted,
    TellCancel,
    Unstarted,
)
from leoronic.core.effects import Fired, SetTimer
from tests.core.calling import CallingWorld


def submitted(machine: CallerMachine, *numbers: int, retries: int = 0) -> list[Any]:
    return machine.handle(Submitted([Call(n, f"body {n}", retries) for n in numbers]), 0.0)


def connected(machine: CallerMachine, attempt: int = 1) -> list[Any]:
    machine.handle(Placed(attempt, "n1", f"t.{attempt}"), 0.0)
    return machine.handle(Connected(attempt), 0.0)


def sent(effects: list[Any]) -> list[tuple[int, int]]:
    """(number, seq) of all calls that are sent."""
    return [(c.number, c.seq) for e in effects if isinstance(e, Say) for c in e.calls]


class TestCaller:
    def test_it_finds_and_dials_before_it_sends(self) -> None:
        """Calls wait for a connection, and leave in the order in which they were made."""
        machine = CallerMachine("t")
        assert [Find(0)] == submitted(machine, 1, 2)
        assert [] == submitted(machine, 3)
        assert [Dial(1, "n1", "t.1")] == machine.handle(Placed(1, "n1", "t.1"), 0.0)
        assert [(1, 1), (2, 2), (3, 3)] == sent(machine.handle(Connected(1), 0.0))
        assert [(4, 4)] == sent(submitted(machine, 4))

    def test_the_window_bounds_what_is_sent(self) -> None:
        """Not more are sent than may be unanswered; an answer makes room."""
        machine = CallerMachine("t", window=2)
        submitted(machine, 1, 2, 3)
        assert [(1, 1), (2, 2)] == sent(connected(machine))
        effects = machine.handle(Answered(1, [(1, True, "x")]), 0.0)
        assert Done([(1, True, "x")]) == effects[0]
        assert [(3, 3)] == sent(effects)

    def test_large_arguments_wait_at_the_caller(self) -> None:
        """So much is sent and unanswered at most, and one that is larger than that goes alone."""
        machine = CallerMachine("t")
        half = WINDOW_BYTES // 2
        sizes = (half, half, half, 10 * WINDOW_BYTES, half)
        calls = [Call(n, None, size_bytes=size) for n, size in enumerate(sizes, 1)]
        machine.handle(Submitted(calls), 0.0)
        assert [1, 2] == [number for number, _ in sent(connected(machine))]
        effects = machine.handle(Answered(1, [(1, True, None)]), 0.0)
        assert [3] == [number for number, _ in sent(effects)]
        effects = machine.handle(GivenBack(1, [2]), 0.0)
        machine.handle(Disconnected("bye"), 0.0)
        machine.handle(Restarting(1, "it ended"), 0.0)
        assert [2, 4] == [number for number, _ in sent(connected(machine, 2))]
        assert [] == sent(machine.handle(Answered(2, [(2, True, None)]), 0.0))
        assert [5] == [n for n, _ in sent(machine.handle(Answered(2, [(4, True, None)]), 0.0))]

    def test_the_same_incarnation_gets_the_unanswered_again(self) -> None:
        """After a broken connection the same calls are repeated under the same numbers."""
        machine = CallerMachine("t")
        submitted(machine, 1, 2, 3)
        connected(machine)
        machine.handle(Answered(1, [(1, True, None)]), 0.0)
        (timer,) = machine.handle(Disconnected("cut"), 1.0)
        assert "find" == timer.name
        assert [Find(0)] == machine.handle(Fired("find"), timer.at)
        effects = connected(machine)
        assert Acknowledge(1) == effects[0]
        assert [(2, 2), (3, 3)] == sent(effects)

    def test_another_incarnation_fails_what_was_sent(self) -> None:
        """What may have been carried out is not repeated, unless its retries allow; order stays."""
        machine = CallerMachine("t")
        submitted(machine, 1)
        submitted(machine, 2, retries=1)
        connected(machine)
        machine.handle(Disconnected("reset"), 0.0)
        submitted(machine, 3)
        (failed,) = machine.handle(Restarting(1, "killed"), 0.0)[:1]
        assert Failed([(1, "actor_unavailable")], "killed") == failed
        assert [(2, 1), (3, 2)] == sent(connected(machine, 2))

    def test_retries_run_out(self) -> None:
        """A call with one retry begins twice at most; with -1, always again."""
        machine = CallerMachine("t")
        submitted(machine, 1, retries=1)
        submitted(machine, 2, retries=-1)
        connected(machine)
        for attempt in (2, 3):
            machine.handle(Disconnected("reset"), 0.0)
            effects = machine.handle(Placed(attempt, "n", "p"), 0.0)
            machine.handle(Connected(attempt), 0.0)
        assert [Failed([(1, "actor_unavailable")], "it was restarted")] == effects[:1]
        assert 1 == machine.unanswered

    def test_the_end_fails_all(self) -> None:
        """Nobody waits for an actor that is gone for good, now or later."""
        machine = CallerMachine("t", window=1)
        submitted(machine, 1, 2)
        connected(machine)
        effects = machine.handle(Ended("exit status 3"), 0.0)
        failed = [e for e in effects if isinstance(e, Failed)]
        assert [1, 2] == [n for e in failed for n, code in e.calls if code == "actor_died"]
        assert [Failed([(3, "actor_died")], "exit status 3")] == submitted(machine, 3)
        assert 0 == len(machine)

    def test_a_lease_returns_what_has_not_begun(self) -> None:
        """What was not sent, or given back, may go to another worker; what was sent has crashed."""
        machine = CallerMachine("t", is_lease=True, window=2)
        submitted(machine, 1, 2, 3)
        connected(machine)
        effects = machine.handle(GivenBack(1, [2]), 0.0)
        assert [2] == [c.number for e in effects if isinstance(e, Returned) for c in e.calls]
        effects = machine.handle(Ended("signal 9"), 0.0)
        assert Failed([(1, "worker_crashed"), (3, "worker_crashed")], "signal 9") in effects
        machine = CallerMachine("t", is_lease=True)
        submitted(machine, 4)
        effects = machine.handle(Ended("never began"), 0.0)
        assert [4] == [c.number for e in effects if isinstance(e, Returned) for c in e.calls]

    def test_what_an_ending_actor_gave_back_waits_for_its_next_life(self) -> None:
        """A call given back was not begun: it is sent again without a retry, and in order."""
        machine = CallerMachine("t")
        submitted(machine, 1, 2, 3)
        connected(machine)
        assert [] == sent(machine.handle(GivenBack(1, [2, 3]), 0.0))
        assert [] == sent(submitted(machine, 4))
        machine.handle(Disconnected("bye"), 0.0)
        machine.handle(Restarting(1, "it ended itself"), 0.0)
        assert [(2, 1), (3, 2), (4, 3)] == sent(connected(machine, 2))

    def test_late_words_of_an_old_incarnation_count_no_more(self) -> None:
        """A result that comes after its call has failed is not a second end of it."""
        machine = CallerMachine("t")
        submitted(machine, 1)
        connected(machine)
        machine.handle(Restarting(1, "killed"), 0.0)
        machine.handle(Disconnected("reset"), 0.0)
        machine.handle(Placed(2, "n", "p"), 0.0)
        assert [] == machine.handle(Answered(1, [(1, True, None)]), 0.0)
        assert [] == machine.handle(GivenBack(1, [1]), 0.0)
        machine.handle(Connected(2), 0.0)
        assert [(2, 1)] == sent(submitted(machine, 2, retries=1))
        machine.handle(Restarting(2, "killed"), 0.0)
        machine.handle(Disconnected("reset"), 0.0)
        assert [(2, 1)] == sent(connected(machine, 3))
        # Also where the call is under way again.
        assert [] == machine.handle(Answered(2, [(2, True, "late")]), 0.0)
        assert [] == machine.handle(GivenBack(2, [2]), 0.0)
        assert 1 == machine.unanswered

    def test_cancelling(self) -> None:
        """What was not sent is over at once; for what was sent the target is asked."""
        machine = CallerMachine("t", window=1)
        submitted(machine, 1, 2, 3)
        connected(machine)
        (failed,) = machine.handle(Cancelled(2), 0.0)
        assert [(2, "task_cancelled")] == failed.calls
        assert [TellCancel(1, False)] == machine.handle(Cancelled(1), 0.0)
        assert [(3, 2)] == sent(machine.handle(Answered(1, [(1, False, "cancelled")]), 0.0))
        assert [] == machine.handle(Cancelled(9), 0.0)

    @pytest.mark.parametrize("is_lease", [True, False])
    @pytest.mark.parametrize(
        "event",
        [GivenBack(1, [1, 2]), Placed(2, "n2", "t.2"), Restarting(1, "it died"), Ended("it died")],
    )
    def test_what_was_cancelled_is_not_sent_again(self, event: Any, is_lease: bool) -> None:
        """Whatever became of it where it was: it is over, and holds up no other."""
        machine = CallerMachine("t", is_lease=is_lease)
        submitted(machine, 1, 2, retries=-1)
        connected(machine)
        machine.handle(Cancelled(1), 0.0)
        if not isinstance(event, GivenBack):
            machine.handle(Disconnected("it died"), 0.0)
        effects = machine.handle(event, 0.0)
        failed = [pair for e in effects if isinstance(e, Failed) for pair in e.calls]
        assert [(1, "task_cancelled")] == [pair for pair in failed if pair[0] == 1]
        assert len(machine) <= 1

    def test_results_are_acknowledged_together(self) -> None:
        """Many together, or the few after a while; one that is heavy at once."""
        machine = CallerMachine("t")
        submitted(machine, *range(1, 101))
        connected(machine)
        effects = machine.handle(Answered(1, [(2, True, None)]), 0.0)
        assert SetTimer("ack", 1.0) in effects
        # The first is missing: nothing up to it can be acknowledged.
        assert [] == machine.handle(Fired("ack"), 1.0)
        effects = machine.handle(Answered(1, [(1, True, None)], True), 1.0)
        assert Acknowledge(2) in effects
        effects = machine.handle(Answered(1, [(n, True, None) for n in range(3, 101)]), 2.0)
        assert Acknowledge(100) in effects


def arrived(machine: CalleeMachine, *calls: tuple[int, int]) -> list[Any]:
    return machine.handle(Arrived("c", list(calls)), 0.0)


def begun(effects: list[Any]) -> list[int]:
    return [call[0] for e in effects if isinstance(e, Start) for call in e.calls]


class TestCallee:
    def test_order(self) -> None:
        """A call that comes too early waits for those before it."""
        machine = CalleeMachine()
        assert [11] == begun(arrived(machine, (11, 1), (13, 3)))
        assert [12, 13] == begun(arrived(machine, (12, 2)))

    def test_callers_do_not_wait_for_each_other(self) -> None:
        """Each caller has numbers of its own."""
        machine = CalleeMachine()
        arrived(machine, (12, 2))
        assert [5] == begun(machine.handle(Arrived("d", [(5, 1)]), 0.0))

    def test_a_repeat_is_not_begun_again(self) -> None:
        """It is ignored while the call runs, and answered from memory afterwards."""
        machine = CalleeMachine()
        arrived(machine, (11, 1))
        assert [] == arrived(machine, (11, 1))
        result = (11, True, "x")
        assert [Answer("c", [result])] == machine.handle(Finished("c", [(1, result)]), 0.0)
        assert [Answer("c", [result])] == arrived(machine, (11, 1))
        machine.handle(Acknowledged("c", 1), 0.0)
        assert 0 == machine.remembered
        assert [] == arrived(machine, (11, 1))

    def test_what_was_given_back_stays_given_back(self) -> None:
        """The same answer, if the first was lost."""
        machine = CalleeMachine()
        arrived(machine, (11, 1))
        assert [Decline("c", [11])] == machine.handle(Unstarted("c", [(1, 11)]), 0.0)
        assert [Decline("c", [11])] == arrived(machine, (11, 1))

    def test_a_caller_that_comes_back_goes_on(self) -> None:
        """What it is owed is kept while it is away; one that is owed nothing need not be known."""
        machine = CalleeMachine()
        arrived(machine, (11, 1))
        machine.handle(Left("c"), 0.0)
        machine.handle(Finished("c", [(1, (11, True, "x"))]), 1.0)
        assert [Answer("c", [(11, True, "x")])] == arrived(machine, (11, 1))
        machine.handle(Acknowledged("c", 1), 2.0)
        machine.handle(Left("c"), 2.0)
        machine.handle(Acknowledged("c", 1), 3.0)
        assert [12] == begun(arrived(machine, (12, 2)))

    def test_a_caller_that_stays_away_is_given_up(self) -> None:
        """Its results do not stay for ever; should it come back, it is told instead of repeated."""
        machine = CalleeMachine(keep_s=10.0)
        arrived(machine, (11, 1))
        machine.handle(Finished("c", [(1, (11, True, "x"))]), 0.0)
        assert [SetTimer("forget", 10.0)] == machine.handle(Left("c"), 0.0)
        assert [SetTimer("forget", 10.0)] == machine.handle(Fired("forget"), 9.0)
        assert [Forgotten("c")] == machine.handle(Fired("forget"), 10.0)
        assert 0 == machine.remembered
        (refuse,) = arrived(machine, (11, 1))
        assert Refuse("c", [11], refuse.reason) == refuse


def checked(world: CallingWorld) -> None:
    """What holds for all runs."""
    for life in world.lives:
        for caller in world.machines:
            started = [number for who, number in life.started if who == caller]
            assert started == sorted(set(started)), "in order, and none twice in one life"
    for (caller, number), retries in world.submitted.items():
        starts = sum((caller, number) in life.started for life in world.lives)
        assert starts <= retries + 1 or retries < 0
        ends = world.results[caller, number]
        assert 1 == len(ends), f"call {number} ended {ends}"
        if ends[0] == f"done {number}":
            assert starts >= 1
        elif ends[0] == "returned":
            assert 0 == starts, "what is returned has not begun"


@pytest.mark.parametrize("seed", range(150))
@pytest.mark.parametrize("kind", ["actor", "lease"])
def test_whatever_breaks(seed: int, kind: str) -> None:
    """By chance: in order, at most once in a life, at most `retries + 1` times, and one end."""
    world = CallingWorld(seed, is_lease=kind == "lease")
    chance = world.random
    for _ in range(400):
        if chance.random() < 0.1:
            retries = 0 if kind == "lease" else chance.choice((0, 0, 1, -1))
            world.submit(chance.choice(sorted(world.machines)), chance.randint(1, 4), retries)
        world.step()
    world.heal(end=kind == "lease" or seed % 5 == 0)
    checked(world)
