"""A Monte Carlo estimate of pi, which gets better for as long as you let it run.

    python pi.py                      a node of its own, on this machine
    python pi.py /path/of/a/node      on the cluster of that node

Each task throws darts at a square and counts those inside the circle. The answers are taken as they
come, whichever machine they come from, so the estimate is there from the first one on.
"""

from __future__ import annotations

import random
import sys

import leoronic

TASKS = 40
DARTS = 200_000


@leoronic.remote
def inside(seed: int, darts: int) -> int:
    """How many of `darts` fall into the quarter of a circle."""
    chance = random.Random(seed)
    return sum(chance.random() ** 2 + chance.random() ** 2 <= 1.0 for _ in range(darts))


def main(root: str | None) -> float:
    """The estimate."""
    leoronic.init(root, local=root is None)
    waiting = [inside.remote(seed, DARTS) for seed in range(TASKS)]
    hits = tasks = 0
    while waiting:
        ready, waiting = leoronic.wait(waiting)
        hits += sum(leoronic.get(ready))
        tasks += len(ready)
        if tasks % 10 == 0:
            print(f"after {tasks * DARTS:>9,} darts: {4 * hits / (tasks * DARTS):.4f}")
    return 4 * hits / (tasks * DARTS)


if __name__ == "__main__":
    estimate = main(sys.argv[1] if len(sys.argv) > 1 else None)
    print(f"pi is about {estimate:.3f}")
