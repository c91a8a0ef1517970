"""HyperQueue's side of the benchmark: runs in an environment that has it, not in ours.

A line of JSON on stdin asks, one on stdout answers: {"do": "one_job", "count": 2000}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMAND = ["bash", "-c", "echo hi"]


class Cluster:
    """A server and a worker with two cpus, in `folder`."""

    def __init__(self, folder: Path) -> None:
        from hyperqueue import Job, LocalCluster  # type: ignore[import-not-found]
        from hyperqueue.cluster import WorkerConfig  # type: ignore[import-not-found]

        self._new_job: Callable[..., Any] = Job
        self._folder = folder
        self._jobs = 0
        self._cluster = LocalCluster(str(folder / "server"), WorkerConfig(cores=2))
        self._client = self._cluster.client()

    def _job(self, count: int, command: list[str] | None = None) -> Any:
        self._jobs += 1
        folder = self._folder / f"job{self._jobs}"
        folder.mkdir()
        job = self._new_job(folder)
        for number in range(count):
            job.program(command or ["bash", "-c", f"echo task number {number}"])
        return job

    def _run(self, jobs: list[Any]) -> list[float]:
        """Seconds from the first submission until each task's output is there.

        Its own wait looks once a second only, which is too coarse here.
        """
        outputs = [
            job.default_workdir / f"{task.task_id}.stdout" for job in jobs for task in job.tasks
        ]
        began = time.perf_counter()
        submitted = [self._client.submit(job) for job in jobs]
        for output in outputs:
            while not (output.exists() and output.stat().st_size):
                time.sleep(0.0002 if len(outputs) == 1 else 0.005)
        seconds = time.perf_counter() - began
        if len(outputs) > 1:
            assert self._client.wait_for_jobs(submitted)
        return [seconds]

    def one_job(self, count: int) -> list[float]:
        """Seconds for all: one job of `count` tasks."""
        return self._run([self._job(count, COMMAND)])

    def many_jobs(self, count: int) -> list[float]:
        """Seconds for all: `count` jobs of one task, each submitted for itself."""
        return self._run([self._job(1, COMMAND) for _ in range(count)])

    def submission(self, count: int) -> list[float]:
        """Seconds to submit one job of `count` distinct tasks, to a worker that is busy."""
        # The cluster is thrown away afterwards: nobody waits for these to end.
        self._client.submit(self._busy(60))
        job = self._job(count)
        began = time.perf_counter()
        self._client.submit(job)
        return [time.perf_counter() - began]

    def _busy(self, seconds: float) -> Any:
        job = self._new_job(self._folder)
        for _ in range(2):
            job.program(["sleep", str(seconds)], stdout="/dev/null", stderr="/dev/null")
        return job

    def latency(self, count: int) -> list[float]:
        """Seconds from submission to the end of a single task, `count` times."""
        found = []
        for _ in range(count):
            found += self.many_jobs(1)
            # Idle, as it would be for somebody who types.
            time.sleep(0.01)
        return found

    def enqueue(self, count: int) -> list[float]:
        """Seconds to submit a single task, `count` times."""
        found = []
        for _ in range(count):
            job = self._job(1, ["true"])
            began = time.perf_counter()
            self._client.submit(job)
            found.append(time.perf_counter() - began)
            # It runs, and must not be in the way of the next.
            time.sleep(0.01)
        return found


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    # It prints what it is, then draws progress bars.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    cluster = Cluster(Path(sys.argv[1]))
    os.dup2(nowhere, 2)
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(cluster, request["do"])(request["count"])), file=answers)
    # Its own stop may wait for tasks that nobody waits for.
    os._exit(0)


if __name__ == "__main__":
    main()
