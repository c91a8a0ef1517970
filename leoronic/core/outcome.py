"""How an attempt to run a task ended, and where its output is.

Times are seconds since the epoch (UTC), sizes bytes, durations seconds.
"""

from __future__ import annotations

import msgspec

from leoronic.core.blob import FileRef
from leoronic.core.bounds import Amount, Code, Number, Time

# A stream this short travels inside the outcome: it is durable by the same commit, needs no file,
# and reaches every node with the entry that carries it.
INLINE_BYTES_MAX = 2048


class StreamRef(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one stream of an attempt is: `inline`, or `size` bytes of `file` from `offset`.

    `file` is relative to the node's output folder; empty when the stream is inline or empty.
    `lost` counts bytes that could not be kept (it is 0 unless the disk failed).
    """

    size: Number = 0
    inline: bytes = b""
    file: str = ""
    offset: Number = 0
    lost: Number = 0


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one attempt. Exactly one of `exit_code` and `signal` is set if it ran.

    `reason` says in words what ended it, when that was not the task itself: `cancelled`,
    `time limit 5 s`, `killed: memory 512 MiB`, `cannot start: ...`. `not_started`:
    nothing ran, for want of something that may pass: it is to be tried again. `stragglers` counts
    processes of the task that outlived its shell and were ended. `outputs` are the files that were
    kept; `output_problems` say what could not be, and why.
    """

    started_at: Time
    finished_at: Time
    exit_code: Code | None = None
    signal: Code | None = None
    reason: str = ""
    peak_memory: Number | None = None
    cpu_seconds: Amount | None = None
    stdout: StreamRef = StreamRef()
    stderr: StreamRef = StreamRef()
    stragglers: Number = 0
    not_started: bool = False
    outputs: tuple[FileRef, ...] = ()
    output_problems: tuple[str, ...] = ()

    @property
    def began(self) -> bool:
        """Whether anything ran."""
        return self.exit_code is not None or self.signal is not None

    @property
    def succeeded(self) -> bool:
        """Whether the command itself ended with 0 and nothing cut it short."""
        return self.exit_code == 0 and not self.reason
