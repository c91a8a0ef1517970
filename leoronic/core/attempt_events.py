"""What happens to attempts on a machine, and what a runner is to do about it.

Events come from the process that owns the operating system's side, effects go to it. `at` is
seconds since the epoch; `SetTimer.at` is monotonic seconds.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from leoronic.core.outcome import StreamRef
from leoronic.core.run import AttemptKey, Exited, Forget, Kill, Run, Runs, Spawned, StartNow


class ShellStarted(msgspec.Struct, frozen=True):
    """The attempt's shell exists."""

    key: AttemptKey
    pid: int
    at: float


class StartFailed(msgspec.Struct, frozen=True):
    """The attempt's shell could not be started; `why` is one line.

    `passing`: for want of something that may be there a moment later.
    """

    key: AttemptKey
    why: str
    at: float
    passing: bool = False


class ShellExited(msgspec.Struct, frozen=True):
    """The shell ended. Exactly one of `exit_code` and `signal` is set.

    `output_closed` and `tree_empty` tell what is known at that moment. `memory_killed`: the kernel
    killed one of its processes for memory; `pids_refused`: it refused one a fork.
    """

    key: AttemptKey
    at: float
    exit_code: int | None = None
    signal: int | None = None
    peak_memory: int | None = None
    cpu_seconds: float | None = None
    output_closed: bool = False
    tree_empty: bool = False
    memory_killed: bool = False
    pids_refused: bool = False


class OutputClosed(msgspec.Struct, frozen=True):
    """Both streams were read to their end."""

    key: AttemptKey


class TreeCounted(msgspec.Struct, frozen=True):
    """The first answer to `WatchTree`: so many processes of the attempt were alive."""

    key: AttemptKey
    count: int


class TreeEmpty(msgspec.Struct, frozen=True):
    """The last answer to `WatchTree`: no process of the attempt is left."""

    key: AttemptKey


class Exceeded(msgspec.Struct, frozen=True):
    """The attempt was seen to exceed a limit that the kernel does not enforce: `memory 512 MiB`."""

    key: AttemptKey
    what: str


class Stored(msgspec.Struct, frozen=True):
    """The attempt's output is durable, at these places."""

    key: AttemptKey
    stdout: StreamRef = StreamRef()
    stderr: StreamRef = StreamRef()


TimerKind = Literal["limit", "kill", "linger", "give_up", "retry_start"]


class Fired(msgspec.Struct, frozen=True):
    """A timer that was set by `SetTimer` is due."""

    key: AttemptKey
    timer: TimerKind


Event = (
    Run
    | Runs
    | StartNow
    | Kill
    | Forget
    | ShellStarted
    | StartFailed
    | ShellExited
    | OutputClosed
    | TreeCounted
    | TreeEmpty
    | Exceeded
    | Stored
    | Fired
)


class Spawn(msgspec.Struct, frozen=True):
    """Start the shell. Answered by `ShellStarted` and later `ShellExited`, or by `StartFailed`."""

    run: Run


class Signal(msgspec.Struct, frozen=True):
    """Send TERM or KILL to every process of the attempt."""

    key: AttemptKey
    signal: Literal["TERM", "KILL"]


class WatchTree(msgspec.Struct, frozen=True):
    """Find what is left of the attempt. Answered by `TreeCounted`; if not 0, later `TreeEmpty`."""

    key: AttemptKey


class CloseOutput(msgspec.Struct, frozen=True):
    """Stop reading the attempt's output, though somebody may still hold it open."""

    key: AttemptKey


class Store(msgspec.Struct, frozen=True):
    """Release what the attempt held and make its output durable. Answered by `Stored`.

    Its tree is not watched any longer.
    """

    key: AttemptKey


class Discard(msgspec.Struct, frozen=True):
    """Nobody will ask for this attempt again."""

    key: AttemptKey


class Emit(msgspec.Struct, frozen=True):
    """Tell the executor."""

    message: Spawned | Exited


class SetTimer(msgspec.Struct, frozen=True):
    """Send `Fired(key, timer)` at `at` (monotonic); replaces one of the same kind."""

    key: AttemptKey
    timer: TimerKind
    at: float


class CancelTimers(msgspec.Struct, frozen=True):
    """No timer of this attempt is wanted any more."""

    key: AttemptKey


Effect = Spawn | Signal | WatchTree | CloseOutput | Store | Discard | Emit | SetTimer | CancelTimers
