"""Whether blobs are anywhere: asked of all that can be reached, and nothing is fetched.

A node that has just started may not know yet what it holds: it does not answer, and what it alone
has counts as lost. Whoever asks must be able to live with that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from leoronic.core.file_outbox import FileOutbox
from leoronic.core.peer import DIGESTS_MAX, BlobsHere, SeekBlobs

ANSWER_S = 2.0
QUESTIONS_MAX = 256
PENDING_MAX = 16_384

Found = Callable[[frozenset[str]], None]
"""Told once which of the blobs in question nobody has."""


class _Question:
    def __init__(self, missing: set[str], found: Found, due: float) -> None:
        self.missing = missing
        self.found = found
        self.due = due
        # Who has not answered of which.
        self.waiting: dict[str, set[str]] = {}


class Whereabouts:
    """See the module. `holds` tells whether a blob is on this disk."""

    def __init__(self, out: FileOutbox, holds: Callable[[str], bool]) -> None:
        self._out = out
        self._holds = holds
        self._peers: list[str] = []
        self._questions: list[_Question] = []

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for an answer."""
        return not self._questions

    def see(self, peers: list[str]) -> None:
        """These can be reached."""
        self._peers = peers
        for question in self._questions:
            for node in question.waiting.keys() - set(peers):
                del question.waiting[node]
        self._conclude()

    def ask(self, digests: Iterable[str], found: Found) -> None:
        """Call `found`, now or within `ANSWER_S`."""
        missing = {digest for digest in digests if not self._holds(digest)}
        pending = sum(len(question.missing) for question in self._questions)
        too_many = len(self._questions) >= QUESTIONS_MAX or pending + len(missing) > PENDING_MAX
        if not missing or not self._peers or too_many:
            found(frozenset(missing))
            return
        question = _Question(missing, found, self._out.now + ANSWER_S)
        self._questions.append(question)
        wanted = sorted(missing)
        for node in self._peers:
            question.waiting[node] = set(wanted)
            for first in range(0, len(wanted), DIGESTS_MAX):
                some = wanted[first : first + DIGESTS_MAX]
                self._out.tell(node, SeekBlobs(self._out.me, some))

    def on_here(self, told: BlobsHere) -> None:
        """Somebody tells what it holds."""
        for question in self._questions:
            waiting = question.waiting.get(told.node)
            if waiting is None:
                continue
            question.missing.difference_update(waiting.intersection(told.here))
            waiting.difference_update(told.here, told.coming, told.missing)
            if not waiting:
                del question.waiting[told.node]
        self._conclude()

    def due(self) -> float | None:
        """When `look` is to be called next."""
        return min((question.due for question in self._questions), default=None)

    def look(self) -> None:
        """Do what is due."""
        self._conclude()

    def _conclude(self) -> None:
        over = [
            question
            for question in self._questions
            if not question.missing or not question.waiting or question.due <= self._out.now
        ]
        if over:
            self._questions = [one for one in self._questions if one not in over]
            for question in over:
                question.found(frozenset(question.missing))
