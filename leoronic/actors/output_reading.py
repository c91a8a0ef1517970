"""Reading what one run printed, from wherever it is, while it prints it if somebody follows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from leoronic.actors.cluster import Cluster
from leoronic.actors.output_sources import OutputSources
from leoronic.actors.own_output import CHUNK_BYTES, WAIT_S_MAX
from leoronic.actors.watchers import Subscription
from leoronic.core.commands import Logs
from leoronic.core.run import OutputPart
from leoronic.errors import LeoronicError, Unavailable
from leoronic.journal.rows import AttemptRow
from leoronic.journal.schema import STATE_CODES

UNKNOWN_PAUSE_S = 0.05
AWAY_PAUSE_S = 2.0
# Who waits for output gets so much of what comes, and asks for the rest: all may be woken at once.
WAITED_BYTES = 4096

Item = tuple[dict[str, Any], bytes]


class OutputReading:
    """Reads the run in `row` for one `Logs`, from `offset` on.

    `large` is held while a chunk is read and until it was taken.
    """

    def __init__(
        self,
        cluster: Cluster,
        sources: OutputSources,
        command: Logs,
        large: asyncio.Lock,
        row: AttemptRow,
        offset: int,
    ) -> None:
        self._cluster = cluster
        self._sources = sources
        self._follow = command.follow
        self._stream = command.stream
        self._large = large
        self._row = row
        self._offset = offset
        self._over = False

    async def items(self, news: Subscription) -> AsyncIterator[Item]:
        """Items {"offset"} with bytes, to the end, or as far as it is by now.

        Who follows gets {"attempt", "missing": why} for what can't be had, as there may be more
        attempts; else that raises.
        """
        async for item in self._while_it_runs(news):
            yield item
        while not self._over:
            async with self._large:
                part = None
                try:
                    part = await self._sources.kept(
                        self._row, self._stream, self._offset, CHUNK_BYTES
                    )
                except LeoronicError as error:
                    yield self._missing(error), b""
                if part is not None and part.data:
                    yield {"offset": part.offset}, part.data
            if part is None or part.at_end or not part.data:
                return
            self._offset += len(part.data)

    async def _while_it_runs(self, news: Subscription) -> AsyncIterator[Item]:
        """What its runner has. A run that was given up may go on all the same, and yet count."""
        patient = False
        while self._row.outcome is None and not self._over:
            async with contextlib.nullcontext() if patient else self._large:
                part, away = await self._live(patient=patient)
                if part is not None and part.data:
                    yield {"offset": part.offset}, part.data
            if part is not None and part.known:
                self._offset += len(part.data)
                # Less than there may be: that was all there is by now.
                most = WAITED_BYTES if patient else CHUNK_BYTES
                patient = self._follow and len(part.data) < most
                self._over = part.at_end or (not part.data and not self._follow)
                continue
            # Written down as started, but its process is not there yet; or it has ended; or its
            # node is gone, and there may be another run.
            patient = False
            await self._look_again()
            if away is None and (self._row.ended_at is not None or not self._follow):
                return
            if self._row.outcome is not None:
                return
            if away is not None and (not self._follow or await self._is_left_behind()):
                self._over = True
                yield self._missing(away), b""
            else:
                await news.news(UNKNOWN_PAUSE_S if away is None else AWAY_PAUSE_S)

    def _missing(self, error: LeoronicError) -> dict[str, Any]:
        if not self._follow:
            raise error
        return {"attempt": self._row.attempt, "missing": error.message}

    async def _live(self, *, patient: bool) -> tuple[OutputPart | None, Unavailable | None]:
        """The next part of what runs, or why its node can't be asked."""
        row = self._row
        limit, wait_s = (WAITED_BYTES, WAIT_S_MAX) if patient else (CHUNK_BYTES, 0.0)
        try:
            part = await self._sources.live(row, self._stream, self._offset, limit, wait_s)
        except Unavailable as error:
            return None, Unavailable(
                f"attempt {row.attempt} of {row.task} runs on {self._cluster.name(row.node)}, and "
                f"what it prints is there alone: {error.message}"
            )
        return part, None

    async def _look_again(self) -> None:
        """The same run as it is on disk now; over, if it was forgotten meanwhile."""
        run = (self._row.attempt, self._row.node)
        rows = await self._runs()
        again = next((row for row in rows if (row.attempt, row.node) == run), None)
        if again is None:
            self._over = True
        else:
            self._row = again

    async def _is_left_behind(self) -> bool:
        """Whether another run of its task came after it, or its task is over without it."""
        run = (self._row.attempt, self._row.node)
        [described] = await self._cluster.tasks([self._row.task])
        over = described["state"] in (*STATE_CODES, "blocked")
        return over or any((row.attempt, row.node) > run for row in await self._runs())

    async def _runs(self) -> list[AttemptRow]:
        task = self._row.task
        rows: list[AttemptRow] = await self._cluster.ask(lambda reads: reads.attempts(task))
        return rows
