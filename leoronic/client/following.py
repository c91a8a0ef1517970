"""Following tasks to their end: their output as it comes, and what became of them.

All of it lasts through a restart of the node: output goes on where it was.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from leoronic.client.connection import Client
from leoronic.client.context import Progress, lasting
from leoronic.client.outcomes import ENDED
from leoronic.core.commands import Logs, Wait, Why

# A node looks at all that is waited for whenever one of them changes: wait for a few at a time.
WAIT_IDS_MAX = 500

Sink = Callable[[bytes], None]


def to_stdout(data: bytes) -> None:
    """Bytes to the standard output, unchanged and at once."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def to_stderr(data: bytes) -> None:
    """Bytes to the standard error, unchanged and at once."""
    sys.stderr.buffer.write(data)
    sys.stderr.buffer.flush()


class Output:
    """One stream of a task's output: how far it was read, so that it can go on from there.

    `begins` is called with the number of an attempt that begins after an earlier one was read,
    `misses` with why what an attempt printed can't be had now.
    """

    def __init__(
        self,
        task_id: str,
        stream: str,
        sink: Sink,
        *,
        follow: bool = True,
        begins: Callable[[int], None] = lambda attempt: None,
        misses: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._begins = begins
        self._misses = misses
        self._missed = ""
        self._latest = 0
        self._task_id = task_id
        self._stream = stream
        self._sink = sink
        self._follow = follow
        self._attempt = 0
        self._offset = 0
        self._read_to_end = -1

    def command(self) -> Logs:
        """Asks for what has not been read yet."""
        return Logs(self._task_id, self._stream, self._follow, self._attempt, self._offset)

    def take(self, item: Mapping[str, Any], blob: bytes) -> None:
        """One item of the answer: bytes, or the news that another attempt has begun."""
        attempt = item.get("attempt", self._attempt)
        if attempt != self._attempt:
            if self._attempt:
                self._offset = 0
            self._attempt = attempt
        if attempt > self._latest:
            if self._latest:
                self._begins(attempt)
            self._latest = attempt
        missing = item.get("missing", "")
        if missing and missing != self._missed:
            self._missed = missing
            self._misses(missing)
        if blob:
            if attempt > self._read_to_end:
                self._sink(blob)
            self._offset = item.get("offset", self._offset) + len(blob)

    def ends_with(self, result: Mapping[str, Any]) -> bool:
        """Whether the result of `Logs` is the end of it; if not, `command` asks for the rest.

        After a restart one attempt was asked for, to go on in its middle; there may be more.
        """
        if not self._follow or result.get("at_end", True):
            return True
        self._read_to_end, self._attempt, self._offset = self._attempt, 0, 0
        return False


def print_output(root: str | None, output: Output) -> Any:
    """All of one stream, to its sink. Returns the result of `Logs`."""

    def go_on(client: Client) -> Any:
        while True:
            stream = client.stream(output.command())
            for item, blob in stream:
                output.take(item, blob)
            if output.ends_with(stream.result):
                return stream.result

    return lasting(root, go_on)


def run_to_end(root: str | None, task_id: str, out: Sink, err: Sink) -> dict[str, Any]:
    """Hand on a task's output as it comes. Returns the task once it has ended or is blocked."""
    outputs = [Output(task_id, "stdout", out), Output(task_id, "stderr", err)]
    progress = Progress()

    def go_on(client: Client) -> dict[str, Any]:
        reading = {client.send(output.command()): output for output in outputs}
        waiting = client.send(Wait([task_id]))
        task: dict[str, Any] | None = None
        while task is None or (reading and task["state"] in ENDED):
            answer = client.next_answer({waiting, *reading})
            value = answer.result()
            if answer.request == waiting:
                if answer.last:
                    task = value["tasks"][0]
                else:
                    progress.show(f"{task_id} {value['state']}")
            elif answer.last:
                output = reading.pop(answer.request)
                if not output.ends_with(value):
                    reading[client.send(output.command())] = output
            else:
                progress.clear()
                reading[answer.request].take(value, answer.blob)
        return task

    try:
        return lasting(root, go_on)
    finally:
        progress.clear()


def wait_for(
    root: str | None, ids: Sequence[str], time_limit_s: float | None = None
) -> dict[str, Any]:
    """The result of `Wait`, with progress on a terminal meanwhile."""
    deadline = None if time_limit_s is None else time.monotonic() + time_limit_s
    shown = _Waiting(len(ids))
    tasks: list[dict[str, Any]] = []
    timed_out = False
    try:
        for start in range(0, len(ids), WAIT_IDS_MAX):
            some = list(ids[start : start + WAIT_IDS_MAX])
            answer = lasting(root, partial(_wait, ids=some, deadline=deadline, shown=shown))
            tasks += answer["tasks"]
            timed_out = timed_out or answer["timed_out"]
    finally:
        shown.clear()
    return {"tasks": tasks, "timed_out": timed_out}


def _wait(
    client: Client, ids: list[str], deadline: float | None, shown: _Waiting
) -> dict[str, Any]:
    left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
    stream = client.stream(Wait(ids, left))
    for item, _ in stream:
        shown.take(item)
    result: dict[str, Any] = stream.result
    return result


class _Waiting(Progress):
    """Progress of `Wait`: elements of one array, or how many of several tasks have ended."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self._total = total
        self._over: set[str] = set()

    def take(self, item: Mapping[str, Any]) -> None:
        """One item of the answer."""
        if item["state"] in (*ENDED, "blocked"):
            self._over.add(item["id"])
        progress = item.get("progress")
        if self._total > 1:
            self.show(f"{len(self._over)}/{self._total} done")
        elif progress:
            self.show(f"{item['id']} {item['state']}: {progress['done']}/{progress['count']} done")
        else:
            self.show(f"{item['id']} {item['state']}")


def why_blocked(root: str | None, task: Mapping[str, Any]) -> str:
    """The reason that keeps a blocked task from ever starting, in words."""
    if task.get("reason"):
        return str(task["reason"])
    with Client(root) as client:
        reasons = client.request(Why(task["id"])).get("reasons") or ["it can never start"]
    return "; ".join(reasons)
