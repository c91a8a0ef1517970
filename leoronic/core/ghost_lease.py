"""How old what a ghost hears from its clairvoyant may be, by the ghost's own clock.

A ghost that does nothing says seldom that it is there, so the time of the last echo tells little
(compare `lease.py`). But the echo bears the clairvoyant's own time as well: whatever that says was
sent a second after it, was sent no earlier than a second after what it echoes.
"""

from __future__ import annotations

LIMIT_MS = 3000


class GhostLease:
    """Of one connection, at the ghost's end. `echo_ms` is its own clock, `at_ms` the other's."""

    def __init__(self) -> None:
        self._echo_ms = 0
        self._at_ms: int | None = None

    def hear(self, echo_ms: int, at_ms: int, now_ms: int) -> None:
        """The clairvoyant answered at `at_ms` what was sent at `echo_ms`."""
        if 0 < echo_ms <= now_ms and echo_ms >= self._echo_ms:
            self._echo_ms, self._at_ms = echo_ms, at_ms

    def is_stale(self, at_ms: int, now_ms: int) -> bool:
        """Whether what was sent at `at_ms`, and is heard now, may be older than 3 s."""
        if self._at_ms is None or at_ms < self._at_ms:
            return True
        return now_ms - self._echo_ms - (at_ms - self._at_ms) > LIMIT_MS
