"""Real nodes on machines of their own: one cluster, whatever happens to the network."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from integration.harness import wait_until
from integration.lab import Lab, lab
from integration.witness import Witness, check_runs, wait_agreement
from leoronic.core import commands

pytestmark = pytest.mark.patient

# A machine that is gone without a word: its tasks start elsewhere within this time.
FAILOVER_S = 6.0


class MakeLab(Protocol):
    """Machines with these names, their nodes running."""

    def __call__(self, names: Sequence[str], *options: str) -> Lab: ...


@pytest.fixture
def make_lab(tmp_path: Path) -> Iterator[MakeLab]:
    with ExitStack() as stack:

        def make(names: Sequence[str], *options: str) -> Lab:
            made = stack.enter_context(lab(tmp_path, names))
            made.start(options=options)
            wait_meshed(made)
            return made

        yield make


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    return Witness(tmp_path / "witness")


def wait_meshed(lab: Lab, names: Sequence[str] = (), within_s: float = 20.0) -> None:
    """Wait until each of these nodes sees all of them up."""
    wanted = dict.fromkeys(names or lab.names, "up")
    for name in wanted:
        node = lab.nodes[name]
        wait_until(
            lambda node=node: {**node.states(), **wanted} == node.states(),
            f"{name} sees {list(wanted)}",
            within_s=within_s,
            story=lambda node=node: (node.states(), node.tail()),
        )


def wait_state(lab: Lab, on: str, node: str, state: str, within_s: float = 10.0) -> None:
    """Wait until `on` says that `node` is in `state`."""
    wait_until(
        lambda: lab.nodes[on].states().get(node) == state,
        f"{on} sees {node} {state}",
        within_s=within_s,
        story=lambda: (lab.nodes[on].states(), lab.nodes[on].tail()),
    )


def test_any_node_takes_and_tells(make_lab: MakeLab, witness: Witness) -> None:
    """Tasks submitted anywhere run everywhere, and every node tells the same of them."""
    lab = make_lab("abc", "--cpus", "1")
    for name in "abc":
        witness.submit(lab.nodes[name], *[{"command": witness.command("sleep 0.2")}] * 10)
    assert all(len(held) >= 2 for held in witness.acknowledged.values())
    told = wait_agreement(lab.nodes.values(), witness.acknowledged)
    assert 0 == check_runs(witness, told)
    assert {"a", "b", "c"} == {task["node"] for task in told.values()}


def test_failover(make_lab: MakeLab, witness: Witness) -> None:
    """A machine whose link goes down without a word: its tasks start elsewhere within 6 s."""
    lab = make_lab("abc", "--cpus", "2")
    tasks = witness.submit(
        lab.nodes["a"], *[{"command": witness.command("sleep 3; true"), "cpus": 1}] * 6
    )
    on_c = wait_until(
        lambda: [t for t in tasks if lab.nodes["a"].show(t)["node"] == "c"], "tasks run on c"
    )
    lab.pull("c")
    began = time.monotonic()
    wait_until(
        lambda: any(lab.nodes["a"].show(task)["node"] in ("a", "b") for task in on_c),
        "its tasks run elsewhere",
        within_s=FAILOVER_S + 2,
    )
    took_s = time.monotonic() - began
    assert took_s <= FAILOVER_S, f"{took_s:.2f} s"
    lab.plug("c")
    told = wait_agreement(lab.nodes.values(), tasks)
    check_runs(witness, told)


def test_core_killed(make_lab: MakeLab, witness: Witness) -> None:
    """The core of a node is killed: nothing is run again."""
    lab = make_lab("abc", "--cpus", "2")
    tasks = witness.submit(lab.nodes["a"], *[{"command": witness.command("sleep 2")}] * 6)
    wait_until(lambda: len(witness.runs()) == 6, "all run")
    for name in "bca":
        os.kill(lab.nodes[name].core_pid(), signal.SIGKILL)
    told = wait_agreement(lab.nodes.values(), tasks)
    assert 0 == check_runs(witness, told)
    assert {1} == {task["attempt"] for task in told.values()}


def test_halves(make_lab: MakeLab, witness: Witness) -> None:
    """Both halves of a split go on; healed, they agree on one outcome of everything."""
    lab = make_lab("abcde", "--cpus", "1")
    long = witness.submit(lab.nodes["a"], *[{"command": witness.command("sleep 12")}] * 5)
    wait_until(lambda: len(witness.runs()) == 5, "all run")
    lab.split("ab", "cde")
    for name in "bde":
        witness.submit(lab.nodes[name], *[{"command": witness.command()}] * 5)
    for on, gone in (("a", "c"), ("c", "a")):
        wait_state(lab, on, gone, "down")
    for name in "be":
        witness.submit(lab.nodes[name], *[{"command": witness.command()}] * 5)
    wait_until(lambda: len(set(witness.runs()) - set(long)) == 25, "both halves go on", within_s=30)
    lab.heal()
    wait_meshed(lab)
    told = wait_agreement(lab.nodes.values(), witness.acknowledged, within_s=90)
    twice = check_runs(witness, told)
    assert twice >= 1  # on the other half, what ran on the lost one began again
    splits = [lab.nodes[name].ask(commands.Splits())["splits"] for name in "ae"]
    assert {split["id"] for split in splits[0]} == {split["id"] for split in splits[1]}
    assert set(long) & {split["id"] for split in splits[0]}
    assert all(split["suspicions"] for split in splits[0])


def test_one_way(make_lab: MakeLab, witness: Witness) -> None:
    """A link that works in one direction only: work goes on, and they agree afterwards."""
    lab = make_lab("abc", "--cpus", "1")
    lab.cut([("a", "b")])
    for name in "abc":
        witness.submit(lab.nodes[name], *[{"command": witness.command("sleep 0.5")}] * 6)
    wait_until(lambda: len(witness.runs()) == 18, "all run", within_s=40)
    lab.heal()
    wait_meshed(lab)
    check_runs(witness, wait_agreement(lab.nodes.values(), witness.acknowledged))


def test_non_transitive(make_lab: MakeLab, witness: Witness) -> None:
    """Two nodes that can't reach each other, but both a third: nobody is given up."""
    lab = make_lab("abc", "--cpus", "1")
    lab.cut([("a", "b"), ("b", "a")])
    for name in "abc":
        witness.submit(lab.nodes[name], *[{"command": witness.command("sleep 0.5")}] * 8)
    told = wait_agreement(lab.nodes.values(), witness.acknowledged)
    assert 0 == check_runs(witness, told)
    assert "down" not in {*lab.nodes["a"].states().values(), *lab.nodes["b"].states().values()}


@pytest.mark.parametrize("for_s", [0.1, 3.0, 10.0])
def test_stopped_node(make_lab: MakeLab, witness: Witness, for_s: float) -> None:
    """A node that stands still for a while (SIGSTOP) harms nothing when it goes on."""
    lab = make_lab("abc", "--cpus", "1")
    stopped = lab.nodes["b"]
    for name in "abc":
        witness.submit(lab.nodes[name], *[{"command": witness.command("sleep 0.5")}] * 8)
    pids = stopped.pids()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + for_s
    wait_until(lambda: time.monotonic() >= until, "the pause is over", within_s=for_s + 1)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    told = wait_agreement(lab.nodes.values(), witness.acknowledged)
    twice = check_runs(witness, told)
    assert twice == 0 or for_s > 4


def test_empty_disk(make_lab: MakeLab, witness: Witness) -> None:
    """A machine that comes back with an empty disk gets everything again."""
    lab = make_lab("abc", "--cpus", "1")
    witness.submit(lab.nodes["b"], *[{"command": witness.command("sleep 0.3")}] * 12)
    lost = lab.nodes["b"]
    lost.kill_all()
    for file in lost.state.glob("leoronic.db*"):
        file.unlink()
    (lost.state / "node").unlink()
    lab.start("b")
    told = wait_agreement(lab.nodes.values(), witness.acknowledged, within_s=60)
    check_runs(witness, told)


def test_all_down_and_up(make_lab: MakeLab, witness: Witness) -> None:
    """A power cut of everything: what was acknowledged is done once all are back."""
    lab = make_lab("abc", "--cpus", "1")
    for name in "abc":
        witness.submit(lab.nodes[name], *[{"command": witness.command("sleep 0.3")}] * 10)
    for node in lab.nodes.values():
        node.kill_all()
    lab.start()
    told = wait_agreement(lab.nodes.values(), witness.acknowledged, within_s=60)
    check_runs(witness, told)


def test_owner_unplugged_for_good(make_lab: MakeLab, witness: Witness) -> None:
    """What was submitted at a node that never comes back is done by the others."""
    lab = make_lab("abc", "--cpus", "1")
    tasks = witness.submit(lab.nodes["a"], *[{"command": witness.command("sleep 0.5")}] * 12)
    lab.nodes["a"].kill_all()
    left = [lab.nodes[name] for name in "bc"]
    told = wait_agreement(left, tasks, within_s=40)
    check_runs(witness, told)
