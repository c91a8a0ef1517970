"""What a node's executor and its runner process say to each other.

The runner holds the running attempts and outlives the executor: every message names the attempt
by (task, attempt), may be repeated, and is answered by level, not by count.
"""

from __future__ import annotations

import msgspec

from leoronic.core.outcome import Outcome

AttemptKey = tuple[str, int]
"""(task id, attempt number from 1)."""


class Run(msgspec.Struct, frozen=True, omit_defaults=True, tag=True):
    """Start this attempt. Repeating it for an attempt that is known changes nothing.

    `env` is added to the runner's own; `memory` and `storage` in bytes (0: no limit asked for);
    `cpus` may be fractional; `pids` is the most processes at once; `time_limit` in seconds.
    `workdir` is `shared` (the node's root) or `private` (a folder for this attempt).

    `keep_folder`: its private folder may be there already, with files in it, and stays at the end.

    `behind` names an attempt of equal needs that this one takes over from: it starts when that one
    has ended, or at once if the runner does not hold it.
    """

    task: str
    attempt: int
    command: str
    env: dict[str, str] = {}
    stdin: str = ""
    workdir: str = "shared"
    cpus: float = 1.0
    memory: int = 0
    storage: int = 0
    pids: int | None = None
    time_limit: float | None = None
    fresh_shell: bool = False
    keep_folder: bool = False
    behind: AttemptKey | None = None

    @property
    def key(self) -> AttemptKey:
        """(task, attempt)."""
        return (self.task, self.attempt)


class Runs(msgspec.Struct, frozen=True, tag=True):
    """Several `Run`s in one frame: whatever was ready while the last frame was under way."""

    runs: list[Run]


class StartNow(msgspec.Struct, frozen=True, tag=True):
    """An attempt that stands behind another need not wait for it any longer."""

    task: str
    attempt: int


class Kill(msgspec.Struct, frozen=True, tag=True):
    """End this attempt's whole process tree: TERM, then KILL after `grace_s`.

    `reason` becomes the outcome's reason. An attempt the runner does not know is ignored.
    """

    task: str
    attempt: int
    reason: str
    grace_s: float = 5.0


class Forget(msgspec.Struct, frozen=True, tag=True):
    """These outcomes are durable in the journal: the runner need not keep them any longer."""

    attempts: list[AttemptKey]


class TakeInventory(msgspec.Struct, frozen=True, tag=True):
    """Asked by an executor that has just started. Answered by `Inventory`."""


class ReadOutput(msgspec.Struct, frozen=True, tag=True):
    """Read one stream of an attempt the runner still holds. Answered by `OutputPart`.

    `stream` is `stdout` or `stderr`. With `wait_s` > 0 the answer waits up to that long for bytes
    beyond `offset`, or for the end of the stream.
    """

    task: str
    attempt: int
    stream: str
    offset: int
    limit: int = 262_144
    wait_s: float = 0.0


class Spawned(msgspec.Struct, frozen=True, tag=True):
    """The attempt's shell exists."""

    task: str
    attempt: int
    pid: int
    started_at: float


class Exited(msgspec.Struct, frozen=True, tag=True):
    """The attempt ended. Sent again after a reconnection until it is forgotten."""

    task: str
    attempt: int
    outcome: Outcome

    @property
    def key(self) -> AttemptKey:
        """(task, attempt)."""
        return (self.task, self.attempt)


class ExitedMany(msgspec.Struct, frozen=True, tag=True):
    """Several `Exited` in one frame."""

    exits: list[Exited]


class Inventory(msgspec.Struct, frozen=True, tag=True):
    """All that the runner holds: attempts that run, and outcomes nobody has made durable yet.

    `runner` names this life of the runner: an attempt that was meant for it and is not here never
    reached it, while one that an earlier life had is lost.
    """

    running: list[Spawned]
    exited: list[Exited]
    runner: str = ""


class OutputPart(msgspec.Struct, frozen=True, tag=True):
    """Bytes of a stream from `offset` on; `known` is false if the runner no longer holds it."""

    offset: int
    data: bytes
    at_end: bool
    known: bool = True


ToRunner = Run | Runs | StartNow | Kill | Forget | TakeInventory | ReadOutput
FromRunner = Spawned | Exited | ExitedMany | Inventory | OutputPart
