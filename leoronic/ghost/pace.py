"""How fast a ghost may speak: its clairvoyant serves others, too, and has its own work.

A bucket: it holds `burst_bytes`, fills by `bytes_a_second`, and may be overdrawn by one frame; who
overdraws waits until it is full enough. Each frame counts as `FRAME_BYTES_MIN` at least.
"""

from __future__ import annotations

BYTES_A_SECOND = 4 << 20
BURST_BYTES = 16 << 20
FRAME_BYTES_MIN = 4096


class Pace:
    """See the module. Times are seconds of any steady clock."""

    def __init__(
        self, now: float, bytes_a_second: int = BYTES_A_SECOND, burst_bytes: int = BURST_BYTES
    ) -> None:
        self._bytes_a_second = bytes_a_second
        self._burst_s = burst_bytes / bytes_a_second
        self._full_at = now

    def take(self, size: int, now: float) -> float:
        """A frame of `size` bytes came: for how many seconds nothing more may come."""
        took_s = max(size, FRAME_BYTES_MIN) / self._bytes_a_second
        self._full_at = max(self._full_at, now) + took_s
        return max(0.0, self._full_at - now - self._burst_s)
