"""A parameter sweep: which learning rate and momentum find the bottom of a valley quickest?

    python sweep.py [/path/of/a/node]

`Executor` is that of `concurrent.futures`, so a sweep written for a process pool needs one line
changed to run on all machines.
"""

from __future__ import annotations

import sys
from concurrent.futures import as_completed
from itertools import product

import leoronic

RATES = [0.0005, 0.001, 0.002, 0.003]
MOMENTA = [0.0, 0.5, 0.9, 0.95]
STEPS_MAX = 20_000


def steps_needed(rate: float, momentum: float) -> int:
    """Steps of gradient descent down Rosenbrock's valley; `STEPS_MAX` if it never gets there."""
    x, y, vx, vy = -1.2, 1.0, 0.0, 0.0
    for step in range(STEPS_MAX):
        dx = -2 * (1 - x) - 400 * x * (y - x * x)
        dy = 200 * (y - x * x)
        vx = momentum * vx - rate * dx
        vy = momentum * vy - rate * dy
        x, y = x + vx, y + vy
        if abs(x) > 1e6:
            raise ArithmeticError("it left the valley")
        if (x - 1) ** 2 + (y - 1) ** 2 < 1e-6:
            return step
    return STEPS_MAX


def main(root: str | None) -> tuple[float, float]:
    """The best (rate, momentum)."""
    leoronic.init(root, local=root is None)
    found: dict[tuple[float, float], int] = {}
    with leoronic.Executor() as executor:
        runs = {executor.submit(steps_needed, *point): point for point in product(RATES, MOMENTA)}
        for run in as_completed(runs):
            rate, momentum = runs[run]
            if run.exception() is not None:
                print(f"rate {rate:<7} momentum {momentum:<5} failed: {run.exception()}")
                continue
            found[rate, momentum] = run.result()
            print(f"rate {rate:<7} momentum {momentum:<5} {run.result():>6,} steps")
    return min(found, key=lambda point: found[point])


if __name__ == "__main__":
    best = main(sys.argv[1] if len(sys.argv) > 1 else None)
    print(f"best: rate {best[0]}, momentum {best[1]}")
