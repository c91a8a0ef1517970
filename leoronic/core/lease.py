"""How old what arrives on a connection may be, by the receiver's own clock.

A node that was not heard for 5 s may be given up, and its tasks started elsewhere. So it must not
start what was assigned to it before that and arrives only now: the network, or either process,
may have held it up. Each heartbeat echoes the time of the newest one heard from the receiver; on
one connection the order is kept, so what follows a heartbeat was sent after it, and its sender
cannot have given up on the receiver earlier than 5 s after the time echoed.
"""

from __future__ import annotations

from leoronic.core.peer import Heartbeat

LIMIT_S = 3.0


class Lease:
    """Of one connection, at its receiving end. All times are milliseconds of the steady clock.

    `opened_ms` is when the handshake ended, which is as good as an echo; without it everything is
    stale until the first echo.
    """

    def __init__(self, limit_s: float = LIMIT_S, *, opened_ms: int | None = None) -> None:
        self._limit_ms = round(limit_s * 1000)
        self._sent_ms = 0
        self._echo_ms = opened_ms

    def note_sent(self, sent_ms: int) -> None:
        """A heartbeat with `sent_ms` leaves on this connection."""
        self._sent_ms = max(self._sent_ms, sent_ms)

    def hear(self, heartbeat: Heartbeat, now_ms: int) -> None:
        """A heartbeat came. An echo of what was never sent here proves nothing."""
        echo_ms = heartbeat.echo_ms
        if 0 < echo_ms <= min(self._sent_ms, now_ms) and echo_ms > (self._echo_ms or 0):
            self._echo_ms = echo_ms

    def is_stale(self, now_ms: int) -> bool:
        """Whether the sender of what arrives now may have given up on this node."""
        return self._echo_ms is None or now_ms - self._echo_ms > self._limit_ms
