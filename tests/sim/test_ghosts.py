"""Ghosts in the simulator: a few seeds, the same again, and what is broken is noticed."""

from __future__ import annotations

import pytest

from leoronic.core.ghost_choice import GhostChoice
from leoronic.core.ghost_journal import GhostJournal
from leoronic.core.ghost_notices import (
    Attached,
)
from leoronic.core.ghost_pending import Pendings
from leoronic.core.relay import RelayMachine
from leoronic.sim.faults import Faults
from leoronic.sim.story import Violation
from leoronic.sim.switches import Switches
from leoronic.sim.world import Result, World, run_seed

GHOSTS = Switches(ghosts=True)
SEEDS = range(1, 13)


def failures(seeds: range = range(1, 61)) -> str:
    """What the first seed that fails says; '' if none of them does."""
    for seed in seeds:
        failure = run_seed(seed, GHOSTS).failure
        if failure:
            return failure
    return ""


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return [run_seed(seed, GHOSTS) for seed in SEEDS]


def test_no_seed_fails(results: list[Result]) -> None:
    """Small worlds with one to three ghosts, all faults, every invariant."""
    assert [] == [f"{r.seed}: {r.failure}" for r in results if r.failure]


def test_a_seed_is_the_same_every_time(results: list[Result]) -> None:
    """Its events, and what was written."""
    again = run_seed(3, GHOSTS)
    assert (results[2].events, results[2].digest) == (again.events, again.digest)


def clairvoyants_die(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Nothing else goes wrong: what was violated, and how often ghosts handed something over."""

    def begin(faults: Faults) -> None:
        faults.peaceful = False

    monkeypatch.setattr(Faults, "begin", begin)
    switches = Switches(nodes=3, ghosts=True, ghost_faults=("clairvoyant killed",))
    found: list[tuple[str, int]] = []
    for seed in range(1, 13):
        world = World(seed, switches)
        try:
            world.run()
        except Violation as violation:
            found.append((str(violation), 0))
        else:
            found.append(("", world.cluster.history.handed))
        world.cluster.close()
    return found


def test_no_ghost_is_given_up_when_its_clairvoyant_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it runs goes on, and runs nowhere else."""
    found = clairvoyants_die(monkeypatch)
    assert [""] * 12 == [failure for failure, _ in found]
    assert 0 < sum(handed for _, handed in found)


def test_a_ghost_that_goes_to_nobody_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Having lost its clairvoyant it is given up with all that it runs."""
    following = GhostChoice.next

    def only_once(self: GhostChoice) -> str:
        return "" if self._last else following(self)

    monkeypatch.setattr(GhostChoice, "next", only_once)
    told = " ".join(failure for failure, _ in clairvoyants_die(monkeypatch))
    assert "" != told.strip()


def test_an_end_that_is_not_handed_over_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next clairvoyant never hears of what was not answered: it runs for ever."""
    attached = GhostJournal._on_attached

    def forgetful(self: GhostJournal, message: Attached) -> None:
        self._pending = Pendings()
        attached(self, message)

    monkeypatch.setattr(GhostJournal, "_on_attached", forgetful)
    assert "" != failures()


def test_an_end_that_is_forgotten_too_early_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the journal does not know of a ghost is taken for lost, though it runs."""
    monkeypatch.setattr(Pendings, "starts", lambda self: [])
    monkeypatch.setattr(Pendings, "ends", lambda self: [])
    compared = GhostJournal._compared

    def blind(self: GhostJournal, attempts: list[object]) -> None:
        running, self._runs.running = self._runs.running, {}
        compared(self, attempts)  # type: ignore[arg-type]
        self._runs.running = running

    monkeypatch.setattr(GhostJournal, "_compared", blind)
    assert "" != failures()


def test_a_relay_that_hands_nothing_down_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to end goes on."""
    monkeypatch.setattr(RelayMachine, "_on_stop", lambda self, message: None)
    monkeypatch.setattr(GhostJournal, "_compared", lambda self, attempts: None)
    assert "" != failures()
