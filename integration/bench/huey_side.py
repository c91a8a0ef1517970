"""huey's side of the benchmark: tasks, and a driver that is asked over stdin, one JSON a line.

Runs in an environment that has huey and redis, not in ours, as `import huey_side` (tasks carry the
name of their module). HUEY_SOCKET names redis' socket.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import redis  # type: ignore[import-not-found]
from huey import RedisHuey  # type: ignore[import-not-found]

huey = RedisHuey(
    "bench",
    connection_pool=redis.ConnectionPool(
        connection_class=redis.UnixDomainSocketConnection, path=os.environ["HUEY_SOCKET"]
    ),
)


@huey.task()  # type: ignore[untyped-decorator]
def bash(command: str) -> bytes:
    """Run a command, keep its output."""
    return subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, check=True).stdout


class Driver:
    """What can be asked."""

    def tasks(self, count: int) -> list[float]:
        """Seconds until all `count` tasks have their result."""
        huey.storage.flush_all()
        began = time.perf_counter()
        for _ in range(count):
            bash("echo hi")
        while huey.storage.result_store_size() < count:
            time.sleep(0.005)
        return [time.perf_counter() - began]

    def submission(self, count: int) -> list[float]:
        """Seconds to enqueue `count` distinct tasks while the workers are busy."""
        huey.storage.flush_all()
        for _ in range(2):
            bash("sleep 2")
        began = time.perf_counter()
        for number in range(count):
            bash(f"echo task number {number}")
        seconds = time.perf_counter() - began
        huey.storage.flush_queue()
        return [seconds]

    def latency(self, count: int) -> list[float]:
        """Seconds from enqueueing to the result, `count` times."""
        found = []
        for _ in range(count):
            began = time.perf_counter()
            result = bash("echo hi")
            # Its own blocking wait sleeps 100 ms and more between looks.
            while result.get() is None:
                time.sleep(0.0002)
            found.append(time.perf_counter() - began)
            # Idle, as it would be for somebody who types.
            time.sleep(0.01)
        return found

    def enqueue(self, count: int) -> list[float]:
        """Seconds to enqueue one task, `count` times."""
        found = []
        for _ in range(count):
            began = time.perf_counter()
            result = bash("true")
            found.append(time.perf_counter() - began)
            result.get(blocking=True)
        return found


def main() -> None:
    """Answer until stdin ends."""
    driver = Driver()
    bash("true").get(blocking=True, timeout=20)
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(driver, request["do"])(request["count"])), flush=True)
