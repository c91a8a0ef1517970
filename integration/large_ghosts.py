"""`python -m integration.large_ghosts [GHOSTS] [TASKS]`: one node, many ghosts, on this machine.

Tells how long it took until all were there, what they take, and how long the tasks took.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path

from integration.ghosts import Ghost, token_for
from integration.harness import Node, proportional, wait_until
from leoronic.core import commands

GROUP = 6
START_S_MAX = 900.0
DRAIN_S_MAX = 600.0


def up(node: Node) -> int:
    """How many ghosts are up."""
    nodes = node.ask(commands.Status())["nodes"]
    return int(nodes.get("up", 0)) - 1


def main(count: int, tasks: int) -> None:
    """Start them, run the tasks, tell, and end them."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        node = Node(Path(folder) / "n", "--name", "n", "--cpus", "1")
        stack.callback(node.close)
        node.start()
        token = token_for(node)
        address = node.status()["node"]["address"]
        began = time.monotonic()
        ghosts = []
        for number in range(count):
            name = f"g{number:03}"
            ghost = Ghost(
                Path(folder) / name, token, address, "--cpus", "1", "--tag", "ghostly", name=name
            )
            ghost.process = ghost.spawn()
            stack.callback(ghost.process.wait)
            stack.callback(ghost.process.terminate)
            ghosts.append(ghost)
            if number % GROUP == GROUP - 1:
                wait_until(
                    lambda number=number: up(node) >= number - 2 * GROUP,
                    "the earlier ones are there",
                    within_s=60.0,
                    poll_s=0.1,
                    story=node.tail,
                )
        wait_until(lambda: up(node) == count, "all are there", within_s=START_S_MAX, poll_s=0.2)
        print(f"{count} ghosts attached after {time.monotonic() - began:.1f} s", flush=True)
        time.sleep(10.0)
        pids = [pid for ghost in ghosts for pid in ghost.pids_by_parent()]
        each = proportional(pids) / count
        print(
            f"{each / 2**20:.1f} MiB a ghost (PSS, {len(pids)} processes), "
            f"the node {node.memory() / 2**20:.1f} MiB (PSS, {len(node.pids())} processes)",
            flush=True,
        )
        began = time.monotonic()
        node.submit(
            *(
                {"command": "echo $LEORONIC_NODE", "conditions": ["worker:tag ghostly"]}
                for _ in range(tasks)
            )
        )
        node.wait_counts(within_s=DRAIN_S_MAX, succeeded=tasks)
        took_s = time.monotonic() - began
        print(f"{tasks} tasks in {took_s:.1f} s ({tasks / took_s:.0f} a second)", flush=True)
        ran = {task["node"] for task in node.ask(commands.List(limit=min(tasks, 10_000)))["tasks"]}
        print(f"on {len(ran)} ghosts; {up(node)} are there", flush=True)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(given[0] if given else 255, given[1] if len(given) > 1 else 2000)
