"""Journal entries: the only way anything about a task changes.

Each node numbers its own entries 1, 2, 3... and nobody else writes to that journal, so entries
never conflict, and {origin: last contiguous number} (a *version vector*) says exactly what a node
holds. A node takes the entries of others in an order that keeps cause before effect: whatever an
entry's writer knew when it wrote is there before it. Entries that were written without knowing of
each other come in any order, and the join must be the same: see `records.py` and `journal/`.
Times are seconds since the epoch, by the clock of the writer.

A *run* is one attempt on one node: two sides of a split may both make attempt 2 of a task.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from leoronic.core.bounds import Attempt, AttemptOrNone, Number, Retries, Revision, Time
from leoronic.core.outcome import Outcome
from leoronic.core.spec import TaskSpec


class _Entry(msgspec.Struct, frozen=True, omit_defaults=True, tag=str.lower, tag_field="kind"):
    pass


class Submitted(_Entry, frozen=True):
    """A task was accepted. `spec.after` names ids only: names were resolved on the way in."""

    task: str
    spec: TaskSpec
    at: Time
    source: str = ""


class Started(_Entry, frozen=True):
    """Attempt `attempt` (from 1) is about to run on `node`. Durable before any process exists.

    `runner` is the life of the runner that it is meant for (`run.Inventory`). Of a later attempt
    it says what its owner did, who knew how the earlier ones ended: that may not be here yet.
    `handed`: it runs already; a ghost hands it over to another node, which may not know of it.
    """

    task: str
    attempt: Attempt
    node: str
    at: Time
    runner: str = ""
    retries_left: Retries | None = None
    hold_if_lost: bool = False
    handed: bool = False


class Finished(_Entry, frozen=True):
    """The run (attempt, node) ended. `final`: the executor knew of no further attempt to follow.

    It counts even if the run had been given up as lost: work that was done is not thrown away.
    """

    task: str
    attempt: Attempt
    node: str
    outcome: Outcome
    final: bool


class Lost(_Entry, frozen=True):
    """The run (attempt, node) can't be accounted for. `suspicion` says why.

    Written by that node itself, or by the task's owner if that node is down. It is tried again,
    unless `hold`: then the task waits for somebody to release it. If not `begun`, nothing of it
    ever ran: it counts for nothing. `told`: another writes it down, but that node itself says so.
    """

    task: str
    attempt: Attempt
    node: str
    at: Time
    suspicion: str
    hold: bool = False
    begun: bool = True
    told: bool = False


class Cancelled(_Entry, frozen=True):
    """Somebody cancelled the task. Final, even while its last attempt is still being ended."""

    task: str
    at: Time


class Held(_Entry, frozen=True):
    """The task must not start. `revision` counts the holds and releases of a task."""

    task: str
    revision: Revision
    at: Time
    reason: str = ""


class Released(_Entry, frozen=True):
    """The task may start again, losses up to that of `attempt` notwithstanding."""

    task: str
    revision: Revision
    at: Time
    attempt: AttemptOrNone = 0


class Tagged(_Entry, frozen=True):
    """`node` carries `tag` from now on; `at` orders it against `Untagged`."""

    node: str
    tag: str
    at: Time


class Untagged(_Entry, frozen=True):
    """`node` no longer carries `tag`."""

    node: str
    tag: str
    at: Time


class Suspected(_Entry, frozen=True):
    """The writer believes that `node` is down, and from now on goes on without it."""

    node: str
    at: Time
    reason: str


class Kept(_Entry, frozen=True):
    """The writer keeps a copy of what the run (attempt, node) printed on `stream`: `size` bytes."""

    task: str
    attempt: Attempt
    node: str
    stream: str
    size: Number


Entry = (
    Submitted
    | Started
    | Finished
    | Lost
    | Cancelled
    | Held
    | Released
    | Tagged
    | Untagged
    | Suspected
    | Kept
)


class Numbered(NamedTuple):
    """An entry with its place: number `number` (from 1) of the journal of node `origin`."""

    origin: str
    number: int
    entry: Entry


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """Compact JSON text of an entry, as stored and as shipped to other nodes."""
    return _encoder.encode(entry)


def decode(text: bytes) -> Entry:
    """The entry in `text`.

    Raises `msgspec.MsgspecError`, `UnicodeDecodeError` (text that is not UTF-8), `RecursionError`.
    """
    return _decoder.decode(text)
