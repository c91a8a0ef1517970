"""The actor `journal` of a ghost: what its executor writes is written by its clairvoyant."""

from __future__ import annotations

from leoronic.core.ghost_journal import GhostJournal
from leoronic.runtime.machine import MachineActor


class JournalStandIn(MachineActor):
    """Hosts `GhostJournal`."""

    def __init__(self, ghost: str) -> None:
        super().__init__(lambda: GhostJournal(ghost))
