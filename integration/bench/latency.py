"""One task on an idle node: how long until it has ended, and how long adding one takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from integration.bench import rate
from integration.bench.figure import Figure, Goal, Missing
from integration.bench.install import Unavailable
from integration.bench.rivals import Huey, HyperQueue, Spooler
from integration.bench.session import Samples, Session, Work, ours
from integration.harness import Node
from leoronic.client import Client
from leoronic.core import commands

SAMPLES = 40
ROUNDS = 5
IDLE_S = 0.01
TASK = b'{"command":"echo hi"}'

# Times each call; the shell's own clock costs nothing.
_ADDING = """
set -eu
for ((i = 0; i < {count}; i++)); do
  before=$EPOCHREALTIME
  {command} >/dev/null
  after=$EPOCHREALTIME
  echo $((${{after/[.,]/}} - ${{before/[.,]/}}))
  # It runs, and must not be in the way of the next.
  sleep 0.01
done
"""


def submit_to_end(client: Client) -> float:
    """Seconds from the submission of a task until the client knows that it has ended."""
    began = time.perf_counter()
    ids = client.request(commands.Submit(), TASK)["ids"]
    for _ in (stream := client.stream(commands.Wait(ids))):
        pass
    seconds = time.perf_counter() - began
    assert "succeeded" == stream.result["tasks"][0]["state"]
    return seconds


def bash_alone() -> float:
    """Seconds of the same bash by itself, started from here."""
    began = time.perf_counter()
    subprocess.run(["bash", "-c", "echo hi"], stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - began


def measure(session: Session) -> list[Figure]:
    """Both, beside the rivals that have something to compare."""
    samples = session.scaled(SAMPLES, 10)
    with session.node() as node:
        rate.run_tasks(node, 50)
        return [*_latency(session, node, samples), _adding(session, node, samples)]


def _latency(session: Session, node: Node, samples: int) -> list[Figure]:
    beyond: list[float] = []
    with node.client() as client:

        def mine() -> list[float]:
            found = []
            for _ in range(samples):
                alone = bash_alone()
                # Idle, as it would be for somebody who types.
                time.sleep(IDLE_S)
                found.append(submit_to_end(client) * 1e3)
                beyond.append(found[-1] - alone * 1e3)
            return found

        works: dict[str, Work | Missing] = {
            "ours": mine,
            "`bash -c` by itself": lambda: [bash_alone() * 1e3 for _ in range(samples)],
        }
        for kind in (Huey, HyperQueue, Spooler):
            works[kind.name] = session.measured(kind, "latency", samples, lambda s: s * 1e3)
        found = session.take_turns(session.rounds(ROUNDS), works)
    return [
        Figure("submit to finished", "ms", ours(found), found),
        Figure("the same, beyond `bash -c` by itself", "ms", beyond, {}, False, Goal(3)),
    ]


def _adding(session: Session, node: Node, samples: int) -> Figure:
    utilities = shutil.which("leoronic_utilities", path=str(Path(sys.executable).parent))
    found_at = utilities or str(_REPOSITORY / "leoronic/client/shell/leoronic_utilities")
    add = 'leoronic_add_task 0 1 0 true "" "" true'
    works: dict[str, Work | Missing] = {
        "ours": lambda: _time_in_bash(
            f'source "{found_at}"', add, samples, {"LEORONIC_ROOT": str(node.root)}
        ),
        HyperQueue.name: session.measured(HyperQueue, "enqueue", samples, lambda s: s * 1e3),
    }
    spooler = session.rival(Spooler)
    if isinstance(spooler, Spooler):
        program, environment = spooler.program, spooler.environment
        works["tsp true"] = lambda: _time_in_bash("", f"'{program}' true", samples, environment)
    else:
        works["tsp true"] = spooler if isinstance(spooler, Missing) else Missing("")
    samples_found = session.take_turns(session.rounds(ROUNDS), works)
    samples_named: Samples = {
        ("HyperQueue, from an open client" if name == HyperQueue.name else name): found
        for name, found in samples_found.items()
    }
    return Figure(
        "`leoronic_add_task` from a shell", "ms", ours(samples_named), samples_named, False,
        Goal(30),
    )  # fmt: skip


def _time_in_bash(
    before: str, command: str, count: int, environment: dict[str, str]
) -> list[float]:
    script = f"{before}\n{_ADDING.format(count=count, command=command)}"
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise Unavailable(done.stderr.strip()[-200:])
    return [int(line) / 1e3 for line in done.stdout.split()]


_REPOSITORY = Path(__file__).resolve().parents[2]
