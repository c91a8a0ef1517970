"""What the journal of this node is asked on behalf of ghosts, and who gets the answers.

How a run ended is told as written only once another node holds it as well, if there is one that
can be reached: else it would be lost with this node, and the ghost would have forgotten it. What
tasks are is told in pieces that fit into a frame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from msgspec import structs

from leoronic.core.effects import Effect, Send
from leoronic.core.entries import Entry, Finished, Lost
from leoronic.core.executor_messages import LoadOpen, Open
from leoronic.core.ghost_messages import (
    REASON_MAX,
    GhostAppend,
    GhostAppended,
    GhostAppendFailed,
    GhostFetchSpecs,
    GhostLoadOpen,
    GhostMessage,
    GhostOpen,
    GhostSpecs,
)
from leoronic.core.queue_messages import (
    Append,
    Appended,
    AppendFailed,
    FetchSpecs,
    SpecsFetched,
)
from leoronic.core.replication_messages import AwaitCopies, Copied
from leoronic.core.run import AttemptKey
from leoronic.core.spec import TaskSpec

# Replication answers before that, unless it has begun anew.
COPIES_S = 3.0
# So much of specs is told at once, or a single one: a frame has 32 MiB at most, and what is told
# passes as JSON within JSON to the process that has the connections.
SPECS_BYTES_MAX = 2 << 20
SPECS_MAX = 256
# And so many are read at once: each may have 3 MiB.
FETCHED_MAX = 16

Answer = tuple[int, GhostMessage]
"""(connection, what is to be said by it)."""


class _Append(NamedTuple):
    connection: int
    number: int
    entries: int
    ends: bool
    refused: frozenset[AttemptKey]


class Written(NamedTuple):
    """The journal's answer to `entries` entries of `connection`; `number` is that of the last.

    `answer`: what is to be said at once, if anything.
    """

    connection: int
    entries: int
    number: int
    answer: Answer | None


class _Copying(NamedTuple):
    answer: Answer
    until: float


class RelayJournal:
    """See the module. Its effects go to `effects`; what it is told returns answers for ghosts."""

    def __init__(self, effects: list[Effect]) -> None:
        self._effects = effects
        self._token = 0
        self._appends: dict[int, _Append] = {}
        self._copying: dict[int, _Copying] = {}
        self._loading: dict[int, tuple[int, int]] = {}  # (connection, the ghost's life)
        # Connections, in the order of asking, and what else they asked for.
        self._fetching: deque[tuple[int, list[str]]] = deque()

    def begin(self, token: int) -> None:
        """Tokens are higher than `token`: answers to an earlier life must not be taken for ours."""
        self._token = token

    def _send(self, to: str, message: object) -> None:
        self._effects.append(Send(to, message))

    # ---- asking ----

    def append(
        self,
        connection: int,
        message: GhostAppend,
        entries: Iterable[Entry],
        refused: frozenset[AttemptKey],
    ) -> None:
        """Write these of its `entries`. `refused` are attempts that the answer is to refuse."""
        written: list[Entry] = [
            # It is the ghost's own word, though it stands in another's journal.
            structs.replace(entry, told=True) if isinstance(entry, Lost) else entry
            for entry in entries
        ]
        self._token += 1
        ends = any(isinstance(entry, Finished | Lost) for entry in written)
        asked = _Append(connection, message.number, len(written), ends, refused)
        self._appends[self._token] = asked
        self._send("journal", Append("relay", self._token, written, message.want_specs))

    def load(self, connection: int, ghost: str, message: GhostLoadOpen) -> None:
        """What has no end on that ghost?"""
        self._token += 1
        self._loading[self._token] = (connection, message.life)
        self._send("journal", LoadOpen("relay", self._token, ghost))

    def fetch(self, connection: int, message: GhostFetchSpecs) -> None:
        """The specs of these tasks."""
        self._fetching.append((connection, message.tasks[FETCHED_MAX:]))
        self._send("journal", FetchSpecs("relay", message.tasks[:FETCHED_MAX]))

    # ---- answers ----

    def appended(self, message: Appended, now: float) -> Written | None:
        """It is on disk, or refused. None: of an earlier life."""
        known = self._appends.pop(message.token, None)
        if known is None:
            return None
        fits, left = _fitting(message.specs)
        told = GhostAppended(
            known.number,
            message.refused | known.refused,
            message.unknown | known.refused,
            fits,
            message.number,
            left,
        )
        answer = (known.connection, told)
        if known.ends:
            self._copying[message.token] = _Copying(answer, now + COPIES_S)
            self._send("replication", AwaitCopies(message.token, message.number, "relay"))
        at_once = None if known.ends else answer
        return Written(known.connection, known.entries, message.number, at_once)

    def append_failed(self, message: AppendFailed) -> Written | None:
        """Nothing of it is on disk."""
        known = self._appends.pop(message.token, None)
        if known is None:
            return None
        reason = message.error.message[:REASON_MAX]
        answer = (known.connection, GhostAppendFailed(known.number, reason))
        return Written(known.connection, known.entries, 0, answer)

    def copied(self, message: Copied) -> Answer | None:
        """Another node holds it, or nobody can."""
        known = self._copying.pop(message.token, None)
        return None if known is None else known.answer

    def overdue(self, now: float) -> list[Answer]:
        """Nobody said whether these are held elsewhere: they are here."""
        due = [token for token, one in self._copying.items() if one.until <= now]
        return [self._copying.pop(token).answer for token in due]

    def opened(self, message: Open) -> Answer | None:
        """What has no end."""
        known = self._loading.pop(message.life, None)
        if known is None:
            return None
        connection, life = known
        # Numbers of this node's own entries mean nothing to a ghost: see `Offer.journals`.
        return connection, GhostOpen(structs.replace(message, life=life, number=0))

    def fetched(self, message: SpecsFetched) -> Answer | None:
        """The specs that were asked for first."""
        if not self._fetching:
            return None
        connection, left = self._fetching.popleft()
        fits, more = _fitting(message.specs)
        return connection, GhostSpecs(fits, [*more, *left])


def _fitting(specs: dict[str, TaskSpec]) -> tuple[dict[str, TaskSpec], list[str]]:
    """Those of `specs` that fit into one answer, one at least, and the others' tasks."""
    fits: dict[str, TaskSpec] = {}
    room = SPECS_BYTES_MAX
    for task, spec in specs.items():
        room -= len(msgspec.json.encode(spec)) if len(specs) > 1 else 0
        if fits and (room < 0 or len(fits) >= SPECS_MAX):
            break
        fits[task] = spec
    return fits, [task for task in specs if task not in fits]
