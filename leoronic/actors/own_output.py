"""What runs of this machine printed: what its runner tells of those that run, and its files."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from leoronic.actors.peer_commands import ReadPart
from leoronic.core.outcome import StreamRef
from leoronic.core.run import OutputPart, ReadOutput
from leoronic.errors import BadRequest, Refused, Unavailable
from leoronic.runtime.ref import ActorRef

CHUNK_BYTES = 256 * 1024
# A connection to the runner carries all that is read of running tasks: only so many ask at once.
LIVE_READS_MAX = 8
WAIT_S_MAX = 20.0
STREAMS = ("stdout", "stderr")


def check_part(question: ReadPart) -> None:
    """Raise `BadRequest` if that cannot be asked."""
    if question.stream not in STREAMS or question.offset < 0 or question.limit < 1:
        raise BadRequest("a part is of stdout or stderr, from offset 0 or more, of 1 byte on")


def read_stream(folder: Path, ref: StreamRef, offset: int, limit: int) -> bytes:
    """Bytes of a kept stream. Raises `Refused` if its file is gone, or not in `folder`."""
    size = max(0, min(limit, ref.size - offset))
    if ref.inline:
        return ref.inline[offset : offset + size]
    if not size:
        return b""
    # It may have come from another node, which is not to choose among all files of this machine.
    if not ref.file or "/" in ref.file or ref.file.startswith("."):
        raise Refused(f"{ref.file!r} is no file of outputs")
    try:
        fd = os.open(folder / ref.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Refused(f"the output is gone: {ref.file} was removed") from None
    except OSError as error:
        raise Refused(f"the output cannot be read: {ref.file}: {error.strerror}") from None
    try:
        return os.pread(fd, size, ref.offset + offset)
    finally:
        os.close(fd)


class RunnerOutput:
    """Reads what attempts print that run here."""

    def __init__(self, runner_host: ActorRef) -> None:
        self._runner_host = runner_host
        self._live_reads = asyncio.Semaphore(LIVE_READS_MAX)

    async def live(
        self, task: str, attempt: int, stream: str, offset: int, limit: int, wait_s: float
    ) -> OutputPart | None:
        """What an attempt that runs here has printed; None if the runner can't be asked.

        With `wait_s`: wait for it if there is nothing.
        """
        question = ReadOutput(task, attempt, stream, offset, limit, wait_s=wait_s)
        try:
            # Those who wait are many; what they get is small.
            async with contextlib.nullcontext() if wait_s else self._live_reads:
                part: OutputPart = await self._runner_host.call(question, timeout_s=wait_s + 10)
        except Unavailable:
            return None
        return part
