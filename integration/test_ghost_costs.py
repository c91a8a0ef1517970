"""What a ghost costs: memory, the time of a start, and what it says while nothing happens."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from integration.ghosts import Ghost, free_place, ip_bytes, token_for
from integration.harness import Node
from integration.lab import lab

# Of all its processes, its runner among them.
MEMORY_MAX = 38 * 1024 * 1024
READY_S_MAX = 1.0
IDLE_BYTES_A_SECOND_MAX = 20.0


def test_it_is_light(tmp_path: Path) -> None:
    """Little memory, and soon ready."""
    node = Node(tmp_path / "n", listen=free_place())
    try:
        node.start()
        ghost = Ghost(tmp_path / "g", token_for(node), node.status()["node"]["address"])
        try:
            ghost.start()
            ghost.wait_attached(node)
            time.sleep(4.0)
            memory = ghost.memory()
            took_s = []
            for _ in range(5):
                ghost.terminate()
                ghost.wait_stopped()
                ghost.stderr.write_bytes(b"")
                took_s.append(ghost.start())
        finally:
            ghost.close()
    finally:
        node.close()
    print(f"{memory / 2**20:.1f} MiB; ready in {statistics.median(took_s):.3f} s")
    assert memory <= MEMORY_MAX, f"{memory / 2**20:.1f} MiB"
    assert statistics.median(took_s) <= READY_S_MAX, took_s


def test_it_is_silent(tmp_path: Path) -> None:
    """An idle ghost says that it is there, and nothing else."""
    with lab(tmp_path, ["a", "g"]) as machines:
        machines.start("a")
        node = machines.nodes["a"]
        space: Sequence[str] = ("ip", "netns", "exec", machines.space("g"))
        ghost = Ghost(tmp_path / "g", token_for(node), machines.address("a"), prefix=space)
        try:
            ghost.start()
            ghost.wait_attached(node)
            time.sleep(5.0)
            pid = ghost.pids()[0]
            before, began = ip_bytes(pid), time.monotonic()
            time.sleep(63.0)
            rate = (ip_bytes(pid) - before) / (time.monotonic() - began)
            print(f"{rate:.1f} bytes a second")
            assert rate <= IDLE_BYTES_A_SECOND_MAX
            assert "up" == node.states()["g"]
        finally:
            ghost.close()
