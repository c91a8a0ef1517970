"""Dask's side of the benchmark: a client, asked over stdin, one JSON a line.

Runs in an environment that has `distributed`, not in ours: SCHEDULER RUNS MACHINE. Tasks append
a line to the file RUNS and then last for an hour; MACHINE is the worker that gets them at first.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

HOUR_S = 3600.0


def work(runs: str, number: int) -> None:
    """Say where this runs, and stay."""
    with Path(runs).open("a") as file:
        file.write(f"{os.environ['MACHINE']} {number}\n")
    time.sleep(HOUR_S)


def main() -> None:
    """Answer until stdin ends."""
    from distributed import Client  # type: ignore[import-not-found]

    scheduler, runs, machine = sys.argv[1:]
    client = Client(scheduler, timeout=20)
    client.wait_for_workers(2, timeout=20)
    futures: list[Any] = []
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        futures += [
            client.submit(
                work, runs, number, workers=[machine], allow_other_workers=True, pure=False
            )
            for number in range(json.loads(line)["count"])
        ]
        print("[]", flush=True)


if __name__ == "__main__":
    main()
