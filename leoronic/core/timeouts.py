"""How long a node may be silent: a preset for machines on one network."""

from __future__ import annotations

from typing import NamedTuple


class Timeouts(NamedTuple):
    """All in seconds. `lan()` is the default.

    The lease (`lease.py`) must end well before `down_s`: nothing may start on a node that could be
    given up.
    A node is `suspect` after `suspect_s` of silence and `down` after `down_s`; `probes` others are
    asked at a time. A pause of this node's own of more than `pause_s` gives everybody a fresh time.
    """

    heartbeat_s: float
    suspect_s: float
    down_s: float
    pause_s: float
    probes: int = 3
    forget_after_s: float = 7 * 86_400.0


def lan() -> Timeouts:
    """Machines on one network."""
    return Timeouts(heartbeat_s=1.0, suspect_s=2.5, down_s=5.0, pause_s=2.0)
