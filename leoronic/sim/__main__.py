"""`python -m leoronic.sim [--seeds N | --seed S] [--nodes K]`: run many seeds, or one."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial

from leoronic.sim.switches import Switches
from leoronic.sim.world import Result, run_seed

# Fewer seeds than this are not worth starting processes for.
PARALLEL_SEEDS_MIN = 50
PROGRESS_EVERY_S = 0.2
# A world of many nodes is of millions of objects, and hardly any of them is garbage.
NEW_OBJECTS_MAX = 100_000


def main(arguments: list[str]) -> int:
    """Run the seeds; 1 at the first violation, with its story and how to see it again."""
    parser = argparse.ArgumentParser(prog="python -m leoronic.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first seed")
    parser.add_argument("--seed", type=int, help="this one alone, exactly as before")
    parser.add_argument("--nodes", type=int, default=0, help="this many, not what the seed says")
    parser.add_argument("--task", help="tell the story of this task")
    parser.add_argument("--node", default="", help="tell only what happened on this node (by name)")
    parser.add_argument("--jobs", type=int, help="processes (default: one for each cpu)")
    parser.add_argument("--digest", action="store_true", help="print the digest of each trace")
    parser.add_argument("--all", action="store_true", help="go on after a violation")
    options = parser.parse_args(arguments)
    gc.set_threshold(NEW_OBJECTS_MAX, 20, 20)
    seeds = range(options.first, options.first + options.seeds)
    if options.seed is not None:
        seeds = range(options.seed, options.seed + 1)
    jobs = options.jobs or len(os.sched_getaffinity(0))
    if len(seeds) < PARALLEL_SEEDS_MIN:
        jobs = 1
    return _report(_results(seeds, jobs, options.nodes), len(seeds), options)


def _results(seeds: Iterable[int], jobs: int, nodes: int) -> Iterator[Result]:
    run = partial(run_seed, switches=Switches(nodes=nodes))
    if jobs == 1:
        yield from map(run, seeds)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap_unordered(run, seeds, chunksize=4)


def _report(results: Iterator[Result], count: int, options: argparse.Namespace) -> int:
    began = told = time.monotonic()
    total = Result(0)
    done = failed = 0
    faults: Counter[str] = Counter()
    terminal = sys.stderr.isatty()
    for result in results:
        done += 1
        total.events += result.events
        total.tasks += result.tasks
        total.virtual_s += result.virtual_s
        faults += result.faults
        total.nodes += result.nodes
        total.suspicions += result.suspicions
        if options.digest:
            print(f"{result.seed} {result.digest:08x}")
        if result.failure:
            failed += 1
            _tell_failure(result, options)
            if not options.all:
                break
        now = time.monotonic()
        if terminal and now - told > PROGRESS_EVERY_S:
            told = now
            print(f"\r{done}/{count} seeds", end="", file=sys.stderr, flush=True)
    if terminal:
        print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    seconds = time.monotonic() - began
    kinds = ", ".join(f"{kind} {times}" for kind, times in sorted(faults.items()))
    print(
        f"{done} seeds, {failed} failed; {total.nodes} nodes, {total.tasks} tasks, "
        f"{total.suspicions} suspicions, {total.events} events, "
        f"{total.virtual_s / 3600:.1f} virtual hours; {seconds:.1f} s, "
        f"{done / max(seconds, 1e-9):.0f} seeds/s"
    )
    print(f"faults: {kinds or 'none'}")
    return 1 if failed else 0


def _tell_failure(result: Result, options: argparse.Namespace) -> None:
    print(f"\nseed {result.seed}, {result.nodes} nodes: {result.failure}")
    for line in result.told(options.task, options.node):
        print(f"  {line}")
    size = f" --nodes {options.nodes}" if options.nodes else ""
    print(f"again: python -m leoronic.sim --seed {result.seed}{size}")
    print("       with --task ID and --node NAME for the story of another\n", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
