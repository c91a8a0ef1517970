"""How many tasks a second the runner itself does: `echo hi`, a few at a time, no node around it.

python integration/bench/runner_rate.py [--tasks 2000] [--at-once 2] [--profile]
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from integration.runner_harness import Bench, running
from leoronic.core.run import ExitedMany, Forget, Run


async def drive(bench: Bench, tasks: int, at_once: int, fresh: bool, command: str) -> float:
    """Seconds for all tasks, `at_once` of them running at any time."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left, started = tasks, 0
    ended: list[tuple[str, int]] = []
    bad = 0

    async def more(count: int) -> None:
        nonlocal started
        for _ in range(min(count, tasks - started)):
            started += 1
            name = f"{'fresh' if fresh else 'warm'}{tasks}x{at_once}-{started}"
            await bench.actor.handle(Run(name, 1, command, fresh_shell=fresh))
        if ended:
            await bench.actor.handle(Forget(ended.copy()))
            ended.clear()

    def emit(message: object) -> None:
        nonlocal left, bad
        if isinstance(message, ExitedMany):
            left -= len(message.exits)
            for exited in message.exits:
                ended.append(exited.key)
                bad += not exited.outcome.succeeded
            if left == 0:
                done.set_result(None)
            else:
                loop.create_task(more(len(message.exits)))  # noqa: RUF006

    bench.context.listener = emit
    begin = time.perf_counter()
    await more(at_once)
    await asyncio.wait_for(done, 120)
    if bad:
        raise SystemExit(f"{bad} tasks failed")
    return time.perf_counter() - begin


async def main(options: argparse.Namespace) -> None:
    async with running() as bench:
        for name in options.only or ("fresh", "warm"):
            await drive(bench, 50, options.at_once, name == "fresh", options.command)
            profile = cProfile.Profile() if options.profile else None
            own = resource.getrusage(resource.RUSAGE_SELF)
            if profile:
                profile.enable()
            seconds = await drive(
                bench, options.tasks, options.at_once, name == "fresh", options.command
            )
            if profile:
                profile.disable()
                pstats.Stats(profile).sort_stats("tottime").print_stats(25)
            now = resource.getrusage(resource.RUSAGE_SELF)
            cpu = now.ru_utime + now.ru_stime - own.ru_utime - own.ru_stime
            print(
                f"{name:6} {options.tasks / seconds:8.0f} tasks/s"
                f"   runner's own cpu {cpu / options.tasks * 1e3:.3f} ms a task"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--command", default="echo hi")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--only", action="append", choices=("fresh", "warm"))
    arguments = parser.parse_args()
    try:
        import uvloop

        uvloop.run(main(arguments))
    except ImportError:
        asyncio.run(main(arguments))
