"""The tracker of a blob: who has which chunk, and who should get the next one from whom.

A chunk that nobody else has is handed out once by those that have the blob whole; who asks later is
sent to whom it went, once that node has it. So the origin sends a blob about once, however many
fetch it at the same time. Who cannot be served otherwise, or only by those that did not deliver, is
served by the tracker itself. All is told by level in each question, so nothing here must survive.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from leoronic.core.blob import ChunkList
from leoronic.core.peer import AskChunks, ChunkPlan
from leoronic.core.transfer import AT_ONCE

# A chunk that was handed out and did not arrive for so long is handed out again.
HANDED_S = 20.0
RETRY_S = 0.1
# Of who does not ask any more nothing is known.
ASKER_S = 60.0
# For so few chunks nobody waits until another has them.
SMALL_CHUNKS = 2
ASKERS_MAX = 256


class _Handed(NamedTuple):
    source: str
    at: float


class _Asker:
    def __init__(self) -> None:
        self.have = 0
        self.heard_at = 0.0
        self.asked = 0
        self.handed: dict[int, _Handed] = {}


class Tracked:
    """A blob that this node, `me`, has whole, and those that fetch it."""

    def __init__(self, me: str, digest: str, found: ChunkList) -> None:
        self.digest = digest
        self.list = found
        self.used_at = 0.0
        self._me = me
        self._askers: dict[str, _Asker] = {}

    def lose(self, node: str) -> None:
        """It is out of reach: what it was handed may go to others."""
        self._askers.pop(node, None)

    def answer(self, question: AskChunks, now: float, *, leaf: bool = False) -> ChunkPlan:
        """What the asker shall fetch next, and from whom. A `leaf` (a ghost) can reach nobody but
        this node, and nobody else can reach it.
        """
        self.used_at = now
        chunks: list[tuple[int, str]] = []
        if leaf:
            chunks = [
                (index, self._me)
                for index in _some_bits(self._missing(question), 0, AT_ONCE - len(question.pulling))
            ]
        elif (asker := self._note(question, now)) is not None:
            chunks = self._hand_out(question, asker, now)
        told = ChunkPlan(
            self._me, digest=self.digest, chunks=chunks, retry_s=0.0 if chunks else RETRY_S
        )
        if not question.list_wanted:
            return told
        return ChunkPlan(
            self._me,
            blob=self.list.digests,
            digest=told.digest,
            chunks=told.chunks,
            retry_s=told.retry_s,
            algorithm=self.list.algorithm,
            size=self.list.size,
            chunk_bytes=self.list.chunk_bytes,
        )

    def _note(self, question: AskChunks, now: float) -> _Asker | None:
        """Take in what the asker tells of itself. None: too many ask."""
        for node in [n for n, a in self._askers.items() if now - a.heard_at > ASKER_S]:
            del self._askers[node]
        asker = self._askers.get(question.node)
        if asker is None:
            if len(self._askers) >= ASKERS_MAX:
                return None
            asker = self._askers[question.node] = _Asker()
        asker.heard_at = now
        asker.have = self._bits(question.blob)
        asker.asked += 1
        pulling = set(question.pulling)
        asker.handed = {
            index: handed
            for index, handed in asker.handed.items()
            if index in pulling and now - handed.at < HANDED_S
        }
        return asker

    def _bits(self, bitmap: bytes) -> int:
        """Of a bitmap of any length, as much as there are chunks."""
        return int.from_bytes(bitmap[: (self.list.count + 7) // 8], "little")

    def _missing(self, question: AskChunks) -> int:
        """A bit for each chunk that the asker neither has nor is about to get."""
        missing = ((1 << self.list.count) - 1) & ~self._bits(question.blob)
        for index in question.pulling:
            missing &= ~(1 << index)
        return missing

    def _hand_out(self, question: AskChunks, asker: _Asker, now: float) -> list[tuple[int, str]]:
        room = AT_ONCE - len(question.pulling)
        lacks = self._missing(question)
        avoid = {question.node, *question.avoid}
        whole = [node for node in dict.fromkeys((self._me, *question.holders)) if node not in avoid]
        partial = {
            node: other.have
            for node, other in self._askers.items()
            if node not in avoid and node not in whole and other.have
        }
        elsewhere = under_way = 0
        for have in partial.values():
            elsewhere |= have
        loads = dict.fromkeys((*whole, *partial), 0)
        for node, other in self._askers.items():
            fresh = {i: h for i, h in other.handed.items() if now - h.at < HANDED_S}
            for index, handed in fresh.items():
                under_way |= 0 if node == question.node else 1 << index
                if handed.source in loads:
                    loads[handed.source] += 1
        if self.list.count <= SMALL_CHUNKS:
            under_way = 0
        chunks: list[tuple[int, str]] = []

        def hand(index: int, source: str) -> None:
            loads[source] += 1
            asker.handed[index] = _Handed(source, now)
            chunks.append((index, source))

        # First what nobody else has: then it can be had from two.
        first_hand = lacks & ~elsewhere & ~under_way if whole else 0
        for index in _some_bits(first_hand, 0, room):
            hand(index, min(whole, key=loads.__getitem__))
        # From there on each begins elsewhere, so that not all wait for the same.
        start = asker.asked * AT_ONCE % max(1, self.list.count)
        for index in _some_bits(lacks & elsewhere, start, room - len(chunks)):
            others = [node for node, have in partial.items() if have >> index & 1]
            others += [node for node in whole if node != self._me]
            hand(index, min(others, key=loads.__getitem__))
        return chunks


def _some_bits(bits: int, start: int, count: int) -> Iterator[int]:
    """The numbers of at most `count` set bits, from `start` on and round."""
    later = bits >> start << start
    while bits and count > 0:
        lowest = later & -later or bits & -bits
        yield lowest.bit_length() - 1
        bits &= ~lowest
        later &= ~lowest
        count -= 1
