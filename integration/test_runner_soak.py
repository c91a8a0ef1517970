"""Everything at once, by chance: the seed decides, and every attempt ends exactly once."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from typing import Any

import pytest

from integration.runner_harness import Bench, running

COMMANDS = [
    "echo hi",
    "sleep 0.05",
    "seq 3000",
    "seq 100000",
    "(sleep 0.02; echo late) & echo early",
    "sleep 30",
    "trap '' TERM; sleep 0.3; sleep 30",
    "exit 7",
    "kill -9 $BASHPID",
    "kill -STOP $BASHPID; sleep 5",
    "setsid sleep 20 & echo x",
    "cat",
    "(setsid sh -c 'trap \"\" TERM; sleep 20' >/dev/null 2>&1 &)",
    "head -c 500000 /dev/urandom | od -c | tail -c 100000",
]
TASKS = 250


def wishes(chance: random.Random, command: str) -> dict[str, Any]:
    """What a task asks for."""
    fields: dict[str, Any] = {}
    if chance.random() < 0.1:
        fields["fresh_shell"] = True
    if chance.random() < 0.05:
        fields["memory"] = 64 << 20
    if chance.random() < 0.05:
        fields["pids"] = 10
    if chance.random() < 0.05:
        fields["workdir"] = "private"
    if chance.random() < 0.1:
        fields["stdin"] = "x" * 1000
    if chance.random() < 0.05 or "30" in command or "STOP" in command:
        fields["time_limit"] = chance.choice([0.01, 0.1, 0.5])
    return fields


async def disturb(bench: Bench, chance: random.Random, keys: list[tuple[str, int]]) -> None:
    """Cancel, read, and now and then kill a warm shell."""
    if chance.random() < 0.1:
        await bench.kill(chance.choice(keys[-10:]), grace_s=chance.choice([0.0, 0.1]))
    if chance.random() < 0.1:
        await bench.read(chance.choice(keys))
    warm = sorted(bench.actor._warm.all, key=lambda shell: shell.pid)
    if warm and chance.random() < 0.02:
        os.kill(chance.choice(warm).pid, signal.SIGKILL)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_soak(seed: int) -> None:
    """A storm of tasks, cancels and dying shells ends with one outcome each and nothing left."""
    chance = random.Random(seed)
    async with running(linger_s=0.3, grace_s=0.2, warm_after_starts=0) as bench:
        keys = []
        for _ in range(TASKS):
            command = chance.choice(COMMANDS)
            keys.append(await bench.start(command, **wishes(chance, command)))
            await disturb(bench, chance, keys)
            await bench.until(lambda: len(bench.actor._live) <= 12, 20, "a free place")
        outcomes = bench.context.outcomes
        await bench.until(lambda: len(outcomes) == TASKS, 30, "the last outcome")
        assert {True: TASKS} == Counter(
            (o.exit_code is None) != (o.signal is None) for o in outcomes.values()
        )
        warm = {shell.pid for shell in bench.actor._warm.all}
        await bench.until(
            lambda: bench.actor._trees.children() <= warm, 5, "the end of the last process"
        )
