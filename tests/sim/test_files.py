"""File stores under faults: a few seeds, what a broken store looks like, and who sends how much."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from leoronic.core.caretaker import Caretaker
from leoronic.core.executor import ExecutorMachine
from leoronic.core.file_jobs import FileJobs
from leoronic.core.file_store import FileStoreMachine
from leoronic.core.holding import Attempt
from leoronic.core.make_run import make_run
from leoronic.core.run import AttemptKey
from leoronic.core.spec import TaskSpec
from leoronic.core.transfer import Transfer
from leoronic.sim.file_disk import CHUNK_BYTES, FileDisk
from leoronic.sim.files import Files, main
from leoronic.sim.story import Violation
from leoronic.sim.switches import Switches
from leoronic.sim.world import run_seed

SMOKE_SEEDS = range(1, 61)


def fails(seed: int) -> bool:
    """Whether the seed notices that something is wrong."""
    world = Files(seed)
    try:
        world.run()
    except (Violation, AssertionError, KeyError):
        return True
    return False


def test_no_seed_of_the_smoke_fails() -> None:
    """Sixty clusters of one to seven stores, ghosts among them, and all faults."""
    faults = placed = 0
    for seed in SMOKE_SEEDS:
        world = Files(seed)
        world.run()
        faults += world.faults
        placed += world.placings
    assert faults > 300
    assert placed > 300


def test_a_seed_is_the_same_under_another_hash_seed() -> None:
    """No decision depends on the order in which Python happens to keep a set."""
    told = [
        subprocess.run(
            [sys.executable, "-m", "leoronic.sim.files", "--seeds", "8", "--digest"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert 9 == len(told[0].splitlines())


def test_a_failure_is_told_with_its_seed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And with what happened before."""
    monkeypatch.setattr(Caretaker, "_keep", lambda *args: None)
    assert 1 == main(["--seeds", "20"])
    assert "is only on" in capsys.readouterr().out


def _nothing(*_args: object, **_options: object) -> None:
    return None


BUGS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "no second copies": lambda patch: patch.setattr(Caretaker, "_keep", _nothing),
    "what came is not believed to be here": lambda patch: patch.setattr(
        FileJobs, "arrived", _nothing
    ),
    "placed before all is here": lambda patch: patch.setattr(
        FileStoreMachine, "_on_place_failed", lambda self, m: self._jobs.on_placed(m)
    ),
    "what is held may be removed": lambda patch: patch.setattr(
        FileStoreMachine, "_held", lambda self: frozenset()
    ),
    "who dies is waited for": lambda patch: patch.setattr(Transfer, "missed", _nothing),
    "corrupt chunks are taken": lambda patch: patch.setattr(
        FileDisk, "is_chunk", lambda *args: True
    ),
    "a corrupt blob counts as here": lambda patch: patch.setattr(
        FileStoreMachine, "_on_found_corrupt", _nothing
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_broken_store_is_noticed(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one of the seeds that pass otherwise."""
    BUGS[bug](monkeypatch)
    assert any(fails(seed) for seed in SMOKE_SEEDS)


# ---- who sends how much ----


def crowd(nodes: int, chunks: int) -> tuple[Files, str]:
    """That many nodes without faults; the first has a blob."""
    world = Files(1, nodes, ghosts=0)
    world.flaws = 0.0
    world.clock.run(20.0)
    origin = next(iter(world.nodes.values()))
    digest = origin.disk.make(os.urandom(chunks * CHUNK_BYTES))
    origin.made(digest, chunks * CHUNK_BYTES)
    return world, digest


def fetch(world: Files, digest: str) -> None:
    """All others fetch it at once."""
    for node in list(world.nodes.values())[1:]:
        node.fetch(1, (digest,))
    world.clock.run(world.clock.now + 30.0)
    assert all(node.disk.is_right(digest) for node in world.nodes.values())


def test_the_origin_sends_a_blob_about_once_to_six() -> None:
    """256 MiB are 64 chunks; each node passes on what it has."""
    world, digest = crowd(7, 64)
    fetch(world, digest)
    origin, *others = world.nodes.values()
    assert origin.served[digest] <= 64 * 1.2
    assert sum(node.served[digest] for node in world.nodes.values()) == 6 * 64
    assert max(node.served[digest] for node in others) <= 3 * 64


def test_a_node_sends_and_fetches_nothing_twice() -> None:
    """A thousand tasks with the same file: it travels once."""
    world, digest = crowd(2, 4)
    fetch(world, digest)
    fetch(world, digest)
    assert 4 == next(iter(world.nodes.values())).served[digest]


def test_two_that_have_it_share_the_work() -> None:
    """A blob is fetched from all that have it."""
    world, digest = crowd(3, 64)
    one, two, _ = world.nodes.values()
    two.fetch(1, (digest,))
    world.clock.run(world.clock.now + 30.0)
    one.served.clear()
    fetch(world, digest)
    assert one.served[digest] + two.served[digest] == 64
    assert abs(one.served[digest] - two.served[digest]) <= 8


# ---- whole nodes ----


def test_tasks_with_files_survive_all_faults() -> None:
    """Clusters of whole nodes, whose tasks bring files and leave some."""
    results = [run_seed(seed, Switches(files=True)) for seed in range(1, 16)]
    assert [] == [f"{r.seed}: {r.failure}" for r in results if r.failure]


def test_a_task_that_starts_without_its_files_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor must wait for them."""

    def prepare(self: ExecutorMachine, key: AttemptKey, attempt: Attempt, spec: TaskSpec) -> None:
        attempt.has_folder, attempt.outputs = True, ()
        self._unsent.append(make_run(*key, spec, self._name, self._root))

    monkeypatch.setattr(ExecutorMachine, "_prepare", prepare)
    failures = [run_seed(seed, Switches(files=True)).failure for seed in range(1, 6)]
    assert any("a task starts once its files are there" in failure for failure in failures)


def test_files_of_whole_nodes_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """If nobody sees to the second copy, that is noticed."""
    monkeypatch.setattr(Caretaker, "_keep", _nothing)
    failures = [run_seed(seed, Switches(files=True)).failure for seed in range(1, 21)]
    assert any("two copies of each" in failure for failure in failures)
