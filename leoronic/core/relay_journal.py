"""What the journal of this node is asked on behalf of ghosts, and who gets the answers.

How a run ended is told as written only once another node holds it as well, if there is one that
can be reached: else it would be lost with this node, and the ghost would have forgotten it.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

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

# Replication answers before that, unless it has begun anew.
COPIES_S = 3.0

Answer = tuple[int, GhostMessage]
"""(connection, what is to be said by it)."""


class _Append(NamedTuple):
    connection: int
    number: int
    ends: bool
    refused: frozenset[AttemptKey]


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
        self._fetching: deque[int] = deque()  # connections, in the order of asking

    def begin(self, token: int) -> None:
        """Tokens are higher than `token`: answers to an earlier life must not be taken for ours."""
        self._token = token

    def _send(self, to: str, message: object) -> None:
        self._effects.append(Send(to, message))

    # ---- asking ----

    def append(self, connection: int, message: GhostAppend, refused: frozenset[AttemptKey]) -> None:
        """Write these. `refused` are starts that the answer is to refuse."""
        entries: list[Entry] = [
            # It is the ghost's own word, though it stands in another's journal.
            structs.replace(entry, told=True) if isinstance(entry, Lost) else entry
            for entry in message.entries
        ]
        self._token += 1
        ends = any(isinstance(entry, Finished | Lost) for entry in entries)
        self._appends[self._token] = _Append(connection, message.number, ends, refused)
        self._send("journal", Append("relay", self._token, entries, message.want_specs))

    def load(self, connection: int, ghost: str, message: GhostLoadOpen) -> None:
        """What has no end on that ghost?"""
        self._token += 1
        self._loading[self._token] = (connection, message.life)
        self._send("journal", LoadOpen("relay", self._token, ghost))

    def fetch(self, connection: int, message: GhostFetchSpecs) -> None:
        """The specs of these tasks."""
        self._fetching.append(connection)
        self._send("journal", FetchSpecs("relay", message.tasks))

    # ---- answers ----

    def appended(self, message: Appended, now: float) -> tuple[Answer | None, int, int]:
        """(what to say at once, if anything; the connection concerned; the number of an entry)."""
        known = self._appends.pop(message.token, None)
        if known is None:
            return None, -1, 0
        told = GhostAppended(
            known.number,
            message.refused | known.refused,
            message.unknown | known.refused,
            message.specs,
            message.number,
        )
        answer = (known.connection, told)
        if not known.ends:
            return answer, known.connection, message.number
        self._copying[message.token] = _Copying(answer, now + COPIES_S)
        self._send("replication", AwaitCopies(message.token, message.number, "relay"))
        return None, known.connection, message.number

    def append_failed(self, message: AppendFailed) -> Answer | None:
        """Nothing of it is on disk."""
        known = self._appends.pop(message.token, None)
        if known is None:
            return None
        reason = message.error.message[:REASON_MAX]
        return known.connection, GhostAppendFailed(known.number, reason)

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
        return self._fetching.popleft(), GhostSpecs(message.specs)
