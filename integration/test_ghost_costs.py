"""What a ghost costs: memory, the time of a start, and what it says while nothing happens."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pytest

from integration.ghosts import Ghost, free_place, ip_bytes, token_for
from integration.harness import Node
from integration.lab import Lab

# Of all its processes, its runner among them: what it takes, and a little. The goal is 25 MiB:
# docs/performance.md says what is in the way.
MEMORY_MAX = 36 * 1024 * 1024
READY_S_MAX = 1.0
STARTS = 5
IDLE_BYTES_A_SECOND_MAX = 20.0


def test_it_is_light(tmp_path: Path) -> None:
    """Little memory, and soon ready."""
    node = Node(tmp_path / "n", listen=free_place())
    try:
        node.start()
        ghost = Ghost(tmp_path / "g", token_for(node), node.status()["node"]["address"])
        try:
            took_s = []
            for _ in range(STARTS):
                ghost.stderr.write_bytes(b"")
                took_s.append(ghost.start())
                ghost.terminate()
                ghost.wait_stopped()
            # By now its modules are compiled, as where it is installed: compiling takes memory.
            ghost.stderr.write_bytes(b"")
            ghost.start()
            ghost.wait_attached(node)
            time.sleep(4.0)
            memory = ghost.memory()
        finally:
            ghost.close()
    finally:
        node.close()
    print(f"{memory / 2**20:.1f} MiB; ready in {statistics.median(took_s):.3f} s")
    assert memory <= MEMORY_MAX, f"{memory / 2**20:.1f} MiB"
    assert statistics.median(took_s) <= READY_S_MAX, took_s


class Alone(Lab):
    """Machines whose nodes are told of nobody: nobody calls a ghost."""

    def _peers(self, name: str) -> tuple[str, ...]:
        return ()


@pytest.mark.patient
def test_it_is_silent(tmp_path: Path) -> None:
    """An idle ghost says that it is there, and nothing else."""
    machines = Alone(tmp_path, ["a", "g"])
    try:
        machines.open()
        machines.start("a")
        node = machines.nodes["a"]
        space = ("ip", "netns", "exec", machines.space("g"))
        # What is free on this disk, which others write to, would be told when it changes.
        options = (machines.address("a"), "--storage", "1GiB")
        ghost = Ghost(tmp_path / "g", token_for(node), *options, prefix=space)
        try:
            ghost.start()
            ghost.wait_attached(node)
            # By then it has compared with its clairvoyant what it runs.
            time.sleep(40.0)
            pid = ghost.pids()[0]
            before, began = ip_bytes(pid), time.monotonic()
            time.sleep(62.0)
            rate = (ip_bytes(pid) - before) / (time.monotonic() - began)
            assert "up" == node.states()["g"]
        finally:
            ghost.close()
    finally:
        machines.close()
    print(f"{rate:.1f} bytes a second")
    assert rate <= IDLE_BYTES_A_SECOND_MAX
