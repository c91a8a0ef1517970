"""The checker is checked: break the system on purpose, and the swarm must notice."""

from __future__ import annotations

from typing import Any

import pytest

from leoronic.core import pulling
from leoronic.core.executor import ExecutorMachine
from leoronic.core.graph import Graph
from leoronic.core.holders import Holders
from leoronic.core.pictures import Pictures
from leoronic.core.queue_messages import Append, Appended
from leoronic.core.records import Record
from leoronic.core.resources import Ledger
from leoronic.core.run import Forget
from leoronic.core.scheduler import SchedulerMachine
from leoronic.journal import trimming
from leoronic.sim.journal import JournalHost
from leoronic.sim.switches import INTACT, Switches
from leoronic.sim.world import run_seed

SEEDS_MAX = 60
FEW_SEEDS = 40


def first_violation(switches: Switches = INTACT, seeds_max: int = SEEDS_MAX) -> tuple[int, str]:
    """The first seed that fails and what it says; (0, '') if none of them does."""
    for seed in range(1, seeds_max + 1):
        result = run_seed(seed, switches)
        if result.failure:
            return seed, result.failure
    return 0, ""


# Some of these are noticed by the thirtieth seed or so: on an old machine that takes a while.
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("broken", "intact"),
    [
        (Switches(fsync=False), INTACT),
        (
            Switches(fence=False, nodes=3, faults=("paused",)),
            Switches(nodes=3, faults=("paused",)),
        ),
        (
            Switches(tie_break=False, nodes=6, faults=("halves",), fickle=True),
            Switches(nodes=6, faults=("halves",), fickle=True),
        ),
        (
            Switches(probes=False, nodes=4, faults=("clogged one way",)),
            Switches(nodes=4, faults=("clogged one way",)),
        ),
    ],
    ids=["no fsync", "no fencing", "no tie-break", "no indirect probe"],
)
def test_a_cluster_without_it_fails_and_with_it_does_not(
    broken: Switches, intact: Switches
) -> None:
    """What the design rests on is switched off: a few seeds notice, and those pass with it on."""
    seed, failure = first_violation(broken, FEW_SEEDS)
    assert "" != failure
    assert "" == run_seed(seed, intact).failure


def test_a_process_before_its_entry_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor believes in `Started` before it is on disk."""
    take = JournalHost.take

    def hasty(self: JournalHost, message: object) -> None:
        take(self, message)
        if isinstance(message, Append) and message.want_specs:
            tasks = [entry.task for entry in message.entries]  # type: ignore[union-attr]
            specs = {task: self.reads.spec(task) for task in tasks}
            if all(specs.values()):
                self.node.send("runner", Appended(message.token, frozenset(), specs))  # type: ignore[arg-type]

    monkeypatch.setattr(JournalHost, "take", hasty)
    assert "Started is on disk before the process exists" in first_violation()[1]


def test_an_outcome_forgotten_too_early_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner is told to forget an outcome before `Finished` is on disk."""
    end = ExecutorMachine._end

    def hasty(self: ExecutorMachine, exits: list[Any]) -> None:
        end(self, exits)
        self._send("runner_host", Forget([exited.key for exited in exits]))

    monkeypatch.setattr(ExecutorMachine, "_end", hasty)
    # The runner knows nothing of it any more, so it is run again.
    violation = first_violation(Switches(nodes=1, faults=("core killed",)))[1]
    assert "an attempt runs once" in violation


def test_a_loss_that_is_not_recorded_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt is given up silently: its task runs for ever."""
    monkeypatch.setattr(ExecutorMachine, "_lose", lambda self, keys, suspicion: None)
    assert "" != first_violation(Switches(nodes=1))[1]


def test_a_ledger_that_gives_too_much_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything fits always."""
    monkeypatch.setattr(Ledger, "fits", lambda self, need: True)
    assert "nothing is over-committed" in first_violation()[1]


def test_a_ledger_that_is_not_released_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler does not hear of what ended."""
    monkeypatch.setattr(Pictures, "on_freed", lambda self, message: None)
    assert "" != first_violation(Switches(nodes=1))[1]


def test_dependencies_that_are_ignored_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for anything."""
    monkeypatch.setattr(Graph, "is_free", lambda self, task: True)
    assert "no task starts before its `after` holds" in first_violation()[1]


def test_a_hold_that_is_ignored_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held is offered all the same."""
    monkeypatch.setattr(Record, "why_held", lambda self: None)
    assert "nothing starts while it is held" in first_violation()[1]


def test_a_withdrawal_that_is_ignored_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler assigns what was taken back."""
    monkeypatch.setattr(SchedulerMachine, "_on_withdrawn", lambda self, message: None)
    assert "only what was offered is assigned" in first_violation()[1]


SHORT = Switches(nodes=3, retention=True)


def test_forgetting_what_others_lack_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node forgets by what it holds itself."""
    monkeypatch.setattr(Holders, "stable", lambda self, view: dict(self._replica.have))
    assert "only what all hold is forgotten" in first_violation(SHORT, FEW_SEEDS)[1]


def test_forgetting_what_still_lives_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was submitted long ago is forgotten, over or not."""
    query = trimming._OLD_TASKS.replace("state > 0 AND ended_at", "submitted_at")
    monkeypatch.setattr(trimming, "_OLD_TASKS", query)
    assert "only what ended long ago is forgotten" in first_violation(SHORT, FEW_SEEDS)[1]


def test_who_was_away_and_mixes_old_with_new_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody begins anew: what the others have forgotten lives on."""
    monkeypatch.setattr(pulling, "too_old", lambda page, have, floor: None)
    assert "" != first_violation(SHORT, FEW_SEEDS)[1]


def test_journals_that_grow_for_ever_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is ever forgotten."""
    monkeypatch.setattr(Holders, "stable", lambda self, view: None)
    assert "journals stay bounded" in first_violation(SHORT, 1)[1]
