"""Ray's side of the benchmark: a driver, asked over stdin, one JSON a line.

Runs in an environment that has `ray`, not in ours: ADDRESS RUNS IP. Tasks append a line to the
file RUNS and then last for an hour; the node with the address IP gets them at first.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

HOUR_S = 3600.0
START_S_MAX = 25.0


def main() -> None:
    """Answer until stdin ends."""
    import ray  # type: ignore[import-not-found]
    from ray.util.scheduling_strategies import (  # type: ignore[import-not-found]
        NodeAffinitySchedulingStrategy,
    )

    address, runs, ip = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    # What Ray tells is no answer.
    os.dup2(2, 1)
    ray.init(address=address, log_to_driver=False)

    @ray.remote(num_cpus=1)  # type: ignore[untyped-decorator]
    def work(number: int) -> None:
        with Path(runs).open("a") as file:
            file.write(f"{os.environ['MACHINE']} {number}\n")
        time.sleep(HOUR_S)

    def nodes() -> dict[str, str]:
        return {n["NodeManagerAddress"]: n["NodeID"] for n in ray.nodes() if n["Alive"]}

    deadline = time.monotonic() + START_S_MAX
    while len(nodes()) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    first = NodeAffinitySchedulingStrategy(nodes()[ip], soft=True)
    references: list[Any] = []
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        references += [
            work.options(scheduling_strategy=first).remote(number)
            for number in range(json.loads(line)["count"])
        ]
        print("[]", file=answers)


if __name__ == "__main__":
    main()
