"""What files have to do with it that a task does not run (yet): for `why`."""

from __future__ import annotations

from leoronic.actors.cluster import Cluster
from leoronic.actors.nodes import Nodes
from leoronic.core.arrays import split_element
from leoronic.core.executor_messages import Describe
from leoronic.core.queue_messages import LiveTask
from leoronic.core.runs import NEVER_BEGAN
from leoronic.journal.rows import AttemptRow, TaskRow
from leoronic.runtime.ref import ActorRef

CALL_S = 60.0


class FileReasons:
    """For the node in `nodes`, whose executor it asks."""

    def __init__(self, nodes: Nodes, cluster: Cluster, executor: ActorRef) -> None:
        self._nodes = nodes
        self._cluster = cluster
        self._executor = executor

    async def of(self, live: LiveTask) -> list[str]:
        """Sentences; none if it is about something else."""
        if live.state == "waiting":
            return await self._of_last_attempt(live)
        if live.state == "running" and live.node == self._nodes.me:
            return await self._of_running(live)
        return []

    async def _of_last_attempt(self, live: LiveTask, before: int | None = None) -> list[str]:
        rows: list[AttemptRow] = await self._cluster.ask(lambda reads: reads.attempts(live.id))
        if before is not None:
            rows = [row for row in rows if row.attempt < before]
        last = max(rows, key=lambda row: row.attempt, default=None)
        if last is None or last.phase != NEVER_BEGAN or not last.lost:
            return []
        return [
            f"attempt {last.attempt} could not start on {self._nodes.name(last.node)}: {last.lost}"
        ]

    async def _of_running(self, live: LiveTask) -> list[str]:
        told = await self._executor.call(Describe(), timeout_s=CALL_S)
        if (live.id, live.attempt) not in {tuple(key) for key in told.get("staging", ())}:
            return []
        element = split_element(live.id)
        task = live.id if element is None else element[0]
        row: TaskRow | None = await self._cluster.ask(lambda reads: reads.task(task))
        size = sum(file.size for file in row.spec.files) if row is not None else 0
        name = self._nodes.name(self._nodes.me)
        # If an attempt before it could not have them, it may be the same again.
        before = await self._of_last_attempt(live, before=live.attempt)
        return [f"its files ({size:,} bytes) are on their way to {name}", *before]
