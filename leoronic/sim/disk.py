"""What outlives a simulated core: the database, and a disk that fails."""

from __future__ import annotations

import sqlite3

from leoronic.journal.database import create
from leoronic.journal.journal import Journal
from leoronic.journal.leaving import Carried, read_live_specs
from leoronic.journal.reads import Reads
from leoronic.sim.switches import INTACT, Switches


class Disk:
    """What outlives the core: the database. `commit_s` is the most a commit takes.

    `full`: 0, 1 (kept free for outcomes: submissions are refused) or 2 (nothing can be written).
    Without `fsync` a power loss takes back what was committed since the last accidental sync.
    """

    def __init__(self, node_id: str, switches: Switches = INTACT) -> None:
        self.node_id = node_id
        self.fsync = switches.fsync
        self.switches = switches
        self.full = 0
        self.commit_s = 0.001
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        create(self._connection, node_id)
        self._synced = b""
        if not self.fsync:
            self.sync()

    def open(self) -> tuple[Journal, Reads]:
        """The database, as a core that starts finds it."""
        journal = self.switches.sabotage(Journal(self._connection, self.node_id))
        return journal, Reads(self._connection)

    def leave(self, since: float) -> list[Carried]:
        """What a node that begins anew takes along: see `own_live_specs`."""
        found: list[Carried] = []
        read_live_specs(self._connection, since, found, [])
        return found

    def sync(self) -> None:
        """What was committed is on the platter now."""
        self._synced = self._connection.serialize()

    def lose_power(self) -> None:
        """Only what was synced is still there."""
        if not self.fsync:
            self._connection.deserialize(self._synced)

    def close(self) -> None:
        """The end of this world."""
        self._connection.close()
