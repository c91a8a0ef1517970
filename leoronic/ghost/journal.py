"""The actor `journal` of a ghost: what its executor writes is written by its clairvoyant."""

from __future__ import annotations

import time

from leoronic.actors.steady import steady_s
from leoronic.core.ghost_journal import GhostJournal
from leoronic.runtime.machine import MachineActor


class JournalStandIn(MachineActor):
    """Hosts `GhostJournal`."""

    def __init__(self, ghost: str) -> None:
        since_s = time.time() - steady_s()
        super().__init__(lambda: GhostJournal(ghost), clock=lambda: since_s + steady_s())
