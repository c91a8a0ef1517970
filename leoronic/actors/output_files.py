"""What tasks printed, as far as this node has it: from its runner, its own files, and its copies.

output/TASK.ATTEMPT.stdout            what a run here printed (or a part of a pack-N)
output/TASK.ATTEMPT.stdout@NODE       a copy of what a run on NODE printed
output/TASK.ATTEMPT.stdout@NODE.part  the beginning of one; removed at the next start
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from leoronic.actors.cluster import Cluster
from leoronic.actors.nodes import Nodes
from leoronic.actors.own_output import (
    CHUNK_BYTES,
    WAIT_S_MAX,
    RunnerOutput,
    check_part,
    read_stream,
)
from leoronic.actors.peer_commands import ReadPart
from leoronic.core.outcome import StreamRef
from leoronic.core.run import OutputPart
from leoronic.durable import sync_folder
from leoronic.journal.rows import AttemptRow
from leoronic.runtime.ref import ActorRef

PART = ".part"


def copy_name(task: str, attempt: int, node: str, stream: str) -> str:
    """The file of a copy, relative to the output folder."""
    return f"{task}.{attempt}.{stream}@{node}"


def whole_file(folder: Path, name: str) -> StreamRef:
    """All of a file; an empty stream if there is none."""
    try:
        return StreamRef(size=(folder / name).stat().st_size, file=name)
    except FileNotFoundError:
        return StreamRef()


class Copy:
    """A copy that is being made: complete and on disk after `finish`, or not there at all."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / name
        self._part = folder / (name + PART)
        self._fd = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add bytes at its end. Raises `OSError`."""
        view = memoryview(data)
        while view:
            written = os.write(self._fd, view)
            self.size += written
            view = view[written:]

    def finish(self, ended_at: float) -> None:
        """Sync it and give it its name. Its age counts from `ended_at`, the end of the run."""
        os.utime(self._fd, (ended_at, ended_at))
        os.fsync(self._fd)
        self._part.rename(self._path)
        sync_folder(self._path.parent)

    def close(self) -> None:
        """Remove what was not finished."""
        os.close(self._fd)
        with contextlib.suppress(FileNotFoundError):
            self._part.unlink()


def remove_parts(folder: Path) -> None:
    """Remove what an earlier life left half copied."""
    with contextlib.suppress(FileNotFoundError):
        for path in folder.glob(f"*@*{PART}"):
            path.unlink(missing_ok=True)


def room_left(folder: Path, reserve_bytes: int, reserve_share: float) -> int:
    """How many bytes may be written into `folder` until its disk has only the reserve left."""
    disk = os.statvfs(folder)
    reserve = max(reserve_bytes, int(disk.f_blocks * disk.f_frsize * reserve_share))
    return disk.f_bavail * disk.f_frsize - reserve


class LocalOutput:
    """Reads what this node has. `folder` is its output folder."""

    def __init__(self, nodes: Nodes, cluster: Cluster, runner_host: ActorRef, folder: Path) -> None:
        self._nodes = nodes
        self._cluster = cluster
        self._running = RunnerOutput(runner_host)
        self._folder = folder

    async def live(
        self, task: str, attempt: int, stream: str, offset: int, limit: int, wait_s: float
    ) -> OutputPart | None:
        """As `RunnerOutput.live`."""
        return await self._running.live(task, attempt, stream, offset, limit, wait_s)

    def kept(self, row: AttemptRow, stream: str, offset: int, limit: int) -> OutputPart | None:
        """What this node keeps of a run that has ended: inside the outcome, a file, or a copy.

        None if it has nothing of it. Raises `Refused` if it was there and is gone.
        """
        ref = self._ref(row, stream)
        if ref is None:
            return None
        data = read_stream(self._folder, ref, offset, limit)
        return OutputPart(offset, data, at_end=not data or offset + len(data) >= ref.size)

    def _ref(self, row: AttemptRow, stream: str) -> StreamRef | None:
        ref: StreamRef | None = getattr(row.outcome, stream) if row.outcome is not None else None
        if ref is not None and (ref.inline or not ref.size):
            return ref
        if row.node == self._nodes.me:
            # Lost: what reached the disk by then is still there.
            return ref or whole_file(self._folder, f"{row.task}.{row.attempt}.{stream}")
        copy = whole_file(self._folder, copy_name(row.task, row.attempt, row.node, stream))
        return copy if ref is not None and copy.size == ref.size else None

    async def answer(self, question: ReadPart) -> tuple[dict[str, Any], bytes]:
        """The answer to another node."""
        check_part(question)
        limit = min(question.limit, CHUNK_BYTES)
        part: OutputPart | None = None
        row = await self._row(question)
        if row is not None and row.ended_at is None and row.node == self._nodes.me:
            wait_s = min(max(question.wait_s, 0.0), WAIT_S_MAX)
            where = (question.task, question.attempt, question.stream, question.offset)
            part = await self.live(*where, limit, wait_s)
            if part is None or not part.known:
                # It has not begun, or it has ended just now.
                part, row = None, await self._row(question)
        if part is None and row is not None and row.ended_at is not None:
            part = self.kept(row, question.stream, question.offset, limit)
        if part is None:
            part = OutputPart(question.offset, b"", at_end=False, known=False)
        return {"offset": part.offset, "at_end": part.at_end, "known": part.known}, part.data

    async def _row(self, question: ReadPart) -> AttemptRow | None:
        rows: list[AttemptRow] = await self._cluster.ask(
            lambda reads: reads.attempts(question.task)
        )
        run = (question.attempt, question.node)
        return next((row for row in rows if (row.attempt, row.node) == run), None)
