"""The checker is checked: break the system on purpose, and the swarm must notice."""

from __future__ import annotations

from typing import Any

import pytest

from leoronic.core.executor import ExecutorMachine
from leoronic.core.graph import Graph
from leoronic.core.queue_messages import Append, Appended
from leoronic.core.records import Record
from leoronic.core.resources import Ledger
from leoronic.core.run import Forget
from leoronic.core.scheduler import SchedulerMachine
from leoronic.journal.journal import Journal
from leoronic.sim.disk import JournalHost
from leoronic.sim.world import Switches, run_seed

SEEDS_MAX = 60


def first_violation(switches: Switches | None = None) -> str:
    """What the first seed that fails says; '' if none of `SEEDS_MAX` does."""
    for seed in range(1, SEEDS_MAX + 1):
        result = run_seed(seed, switches or Switches())
        if result.failure:
            return result.failure
    return ""


def test_a_journal_without_fsync_loses_what_was_acknowledged() -> None:
    """Power loss takes back what was committed and never synced."""
    assert "" != first_violation(Switches(fsync=False))


def test_a_process_before_its_entry_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor believes in `Started` before it is on disk."""
    take = JournalHost.take

    def hasty(self: JournalHost, message: object) -> None:
        take(self, message)
        if isinstance(message, Append) and message.want_specs:
            tasks = [entry.task for entry in message.entries]  # type: ignore[union-attr]
            specs = {task: self.reads.spec(task) for task in tasks}
            self.node.send("runner", Appended(message.token, frozenset(), specs))  # type: ignore[arg-type]

    monkeypatch.setattr(JournalHost, "take", hasty)
    assert "Started is on disk before the process exists" in first_violation()


def test_an_outcome_forgotten_too_early_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner is told to forget an outcome before `Finished` is on disk."""
    end = ExecutorMachine._end

    def hasty(self: ExecutorMachine, exits: list[Any]) -> None:
        end(self, exits)
        self._send("runner_host", Forget([exited.key for exited in exits]))

    monkeypatch.setattr(ExecutorMachine, "_end", hasty)
    # The runner knows nothing of it any more, so it is run again, or taken for lost.
    assert "" != first_violation()


def test_a_loss_that_is_not_recorded_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt is given up silently, and the next one starts unfenced."""

    def silent(self: ExecutorMachine, keys: list[tuple[str, int]], suspicion: str) -> None:
        for key in keys:
            del self._attempts[key]
            self._release(key)

    monkeypatch.setattr(ExecutorMachine, "_lose", silent)
    assert "everything drains" in first_violation()


def test_a_journal_that_does_not_fence_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every `Started` is taken, however late it comes."""
    started = Journal._started

    def lenient(self: Journal, entry: Any) -> bool:
        started(self, entry)
        return True

    monkeypatch.setattr(Journal, "_started", lenient)
    assert "" != first_violation()


def test_a_ledger_that_gives_too_much_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything fits always."""
    monkeypatch.setattr(Ledger, "fits", lambda self, need: True)
    assert "nothing is over-committed" in first_violation()


def test_a_ledger_that_is_not_released_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler does not hear of what ended."""
    monkeypatch.setattr(SchedulerMachine, "_on_freed", lambda self, message: None)
    assert "" != first_violation()


def test_dependencies_that_are_ignored_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for anything."""
    monkeypatch.setattr(Graph, "is_free", lambda self, task: True)
    assert "no task starts before its `after` holds" in first_violation()


def test_a_hold_that_is_ignored_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held is offered all the same."""
    monkeypatch.setattr(Record, "why_held", lambda self: None)
    assert "nothing starts while it is held" in first_violation()


def test_a_withdrawal_that_is_ignored_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler assigns what was taken back."""
    monkeypatch.setattr(SchedulerMachine, "_on_withdrawn", lambda self, message: None)
    assert "only what was offered is assigned" in first_violation()
