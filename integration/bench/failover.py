"""A machine is gone without a word: how long until what it ran starts elsewhere.

Three machines in network namespaces; the link of one is taken down while it runs two long tasks,
and the clock stops when both have begun on another. Everything at its defaults. Each round has
new machines.
"""

from __future__ import annotations

import itertools
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from integration.bench.failover_rivals import GONE, MACHINES, QUICK, SLOW, Cluster
from integration.bench.figure import Figure, Goal, Missing
from integration.bench.ground import Ground, ground, wait_meshed
from integration.bench.install import Unavailable
from integration.bench.session import Samples, Session, Work, ours
from leoronic.core import commands

TASKS = 2
ROUNDS = 3
GOAL_S = 6.0
START_S_MAX = 30.0
# Whoever has a heartbeat has heard it by then.
SETTLE_S = 3.0

_numbers = itertools.count(1)


class Ours(Cluster):
    """Three nodes; those that stay are drained until the tasks run."""

    name = "ours"
    within_s = 60.0

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        ground.lab.start(options=("--cpus", "2"))
        wait_meshed(ground.lab)

    def run(self, count: int) -> None:
        """Drained nodes take nothing; afterwards they are free."""
        nodes = self.ground.lab.nodes
        stay = [nodes[name] for name in MACHINES if name != GONE]
        for node in stay:
            node.ask(commands.Drain())
        told = f'echo "$LEORONIC_NODE $LEORONIC_TASK_ID" >> {self.ground.runs}; sleep 3600'
        stay[0].submit(*[told] * count)
        self.ground.wait_running(count, GONE, START_S_MAX)
        for node in stay:
            node.ask(commands.Drain(undo=True))


def seconds(session: Session, kind: type[Cluster]) -> float:
    """One round: from the loss of the link until all tasks run again."""
    folder = session.folder / f"{kind.__name__.lower()}{next(_numbers)}"
    with ground(folder, MACHINES) as made:
        cluster = kind(made)
        try:
            cluster.run(TASKS)
            made.wait_running(TASKS, GONE, START_S_MAX)
            time.sleep(SETTLE_S)
            return made.pull(GONE, kind.within_s)
        except Unavailable as error:
            raise Unavailable(f"{error}; {made.last_words()}"[:300]) from None
        finally:
            cluster.close()


def measure(session: Session) -> list[Figure]:
    """Ours and Dask in turn; those that take many minutes once, and only if that is asked for."""

    def work(kind: type[Cluster]) -> Callable[[], list[float]]:
        return lambda: [seconds(session, kind)]

    turns: tuple[type[Cluster], ...] = (Ours, *QUICK)
    works: dict[str, Work | Missing] = {kind.name: work(kind) for kind in turns}
    samples = session.take_turns(session.rounds(ROUNDS), works)
    samples |= _all_at_once(session) if session.slow else _by_hand()
    return [
        Figure(
            "a machine's link goes down: its tasks start elsewhere",
            "s",
            ours(samples),
            samples,
            False,
            Goal(GOAL_S),
        )
    ]


def _by_hand() -> Samples:
    return {
        kind.name: Missing(f"takes minutes: only with --slow; {kind.by_hand_s:g} s by hand")
        for kind in SLOW
    }


def _all_at_once(session: Session) -> Samples:
    """They only wait, each for its own timeouts, so they do not disturb each other."""

    def one(kind: type[Cluster]) -> list[float] | Missing:
        session.say(f"  {kind.name}, for up to {kind.within_s:g} s")
        try:
            return [seconds(session, kind)]
        except (Unavailable, OSError, subprocess.SubprocessError) as error:
            return Missing(str(error))

    with ThreadPoolExecutor() as pool:
        found = list(pool.map(one, SLOW))
    return {kind.name: result for kind, result in zip(SLOW, found, strict=True)}
