"""The simulator itself: a few seeds, the same again, and what a failure looks like."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from leoronic.core.graph import Graph
from leoronic.sim.__main__ import main
from leoronic.sim.switches import Switches
from leoronic.sim.world import Result, World, run_seed

SMOKE_SEEDS = range(1, 41)
CROWD_NODES = 30
CROWD_CPU_S_MAX = 20.0


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return [run_seed(seed) for seed in SMOKE_SEEDS]


def test_no_seed_of_the_smoke_fails(results: list[Result]) -> None:
    """Forty small worlds of one to nine nodes, all faults, every invariant."""
    assert [] == [f"{r.seed}: {r.failure}" for r in results if r.failure]


def test_the_smoke_meets_every_kind_of_fault(results: list[Result]) -> None:
    """The seeds would prove little if nothing went wrong in them."""
    kinds = {kind for result in results for kind in result.faults}
    assert 25 == len(kinds), kinds


def test_the_smoke_meets_clusters_of_many_sizes(results: list[Result]) -> None:
    """One node alone, the smallest cluster, and large ones; with suspicions, and without."""
    sizes = {result.nodes for result in results}
    assert {1, 2, 3, 7} <= sizes
    assert {True, False} == {bool(result.suspicions) for result in results if result.nodes > 1}


def test_a_seed_is_the_same_each_time(results: list[Result]) -> None:
    """Digest, events and time of a seed depend on the seed alone."""
    again = run_seed(7)
    assert (results[6].digest, results[6].events) == (again.digest, again.events)


def test_a_seed_is_the_same_under_another_hash_seed() -> None:
    """No decision depends on the order in which Python happens to keep a set."""
    digests = [
        subprocess.run(
            [sys.executable, "-m", "leoronic.sim", "--seeds", "12", "--digest", "--jobs", "1"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[:12]
        for hash_seed in ("1", "2")
    ]
    assert digests[0] == digests[1]


def test_a_failure_tells_its_story(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was violated, what happened to the task, and how to see it again; exit code 1."""
    monkeypatch.setattr(Graph, "is_free", lambda self, task: True)
    assert 1 == main(["--seeds", "40", "--jobs", "1"])
    told = capsys.readouterr().out
    assert "no task starts before its `after` holds" in told
    assert "again: python -m leoronic.sim --seed " in told
    assert "Submitted" in told


def test_a_clean_run_ends_with_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    """One line of figures, one of faults; exit code 0."""
    assert 0 == main(["--seeds", "2", "--from", "3"])
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("2 seeds, 0 failed; ")
    assert told[1].startswith("faults: ")


def test_every_process_is_gone_at_the_end() -> None:
    """A world that has drained runs nothing."""
    world = World(3, Switches(nodes=3))
    world.run()
    assert 0 == sum(watch.running for watch in world.cluster.watches.values())


def test_a_story_can_be_told_of_one_node(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what happened there, and the faults."""
    monkeypatch.setattr(Graph, "is_free", lambda self, task: True)
    told: dict[str, str] = {}
    for node in ("node1", "node2"):
        assert 1 == main(["--seeds", "20", "--nodes", "2", "--jobs", "1", "--node", node])
        told[node] = capsys.readouterr().out
    assert " node2." not in told["node1"]
    assert " node1." not in told["node2"]
    assert any(f" {node}." in story for node, story in told.items())


def test_the_number_of_nodes_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the seed says."""
    assert 0 == main(["--seeds", "1", "--from", "5", "--nodes", "12"])
    assert "; 12 nodes, " in capsys.readouterr().out


def test_a_crowd_finds_itself_and_shares_its_work() -> None:
    """Thirty nodes join within a second, and what each says is heard by all the others.

    In a few seconds: what grew with more than the square of the nodes would not end in time.
    """
    began = time.process_time()
    result = run_seed(2, Switches(nodes=CROWD_NODES))
    assert "" == result.failure
    assert CROWD_NODES == result.nodes
    assert CROWD_CPU_S_MAX > time.process_time() - began
