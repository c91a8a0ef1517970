"""The actor `relay` of a node: what it does for its ghosts, decided by `core/relay.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from leoronic.actors.steady import steady_s
from leoronic.core import relay
from leoronic.core.effects import Send
from leoronic.core.ghost_notices import (
    Came,
    Heard,
    HungUp,
    RelayDown,
    RelayUp,
    TicketKeys,
)
from leoronic.core.view import AskView
from leoronic.errors import BadRequest
from leoronic.ghost.door import TellConnections
from leoronic.ghost.ghost_line import TOLD_EVERY
from leoronic.ghost.relay_frames import Taken
from leoronic.runtime.machine import MachineActor
from leoronic.wire.cookie import read_cookies, ticket_key

# More than there can be: those that were cut off from here are forgotten some day.
CONNECTIONS_MAX = 4096


class RelayActor(MachineActor):
    """Hosts `RelayMachine`. `node` gives the node's id once the journal is open.

    `cookies` is the cookie file: it is read for each ghost that comes, as it may have changed.
    """

    def __init__(self, node: Callable[[], str], cookies: Path) -> None:
        super().__init__(lambda: relay.RelayMachine(node()), clock=steady_s)
        self._cookies = cookies
        self._taken: dict[int, int] = {}

    async def started(self) -> None:
        """Ask who is there. After a restart the connections of ghosts are there still."""
        await super().started()
        await self.feed(relay.Start())
        self.perform([Send("membership", AskView("relay")), Send("relay_host", TellConnections())])

    async def feed(self, message: Any) -> None:
        """As `MachineActor.feed`."""
        if isinstance(message, Came | RelayUp):
            await super().feed(self._keys())
        await super().feed(message)
        match message:
            case Heard(connection):
                self._note_taken(connection)
            case HungUp(connection):
                self._taken.pop(connection, None)
            case RelayUp() | RelayDown():
                self._taken.clear()

    def _note_taken(self, connection: int) -> None:
        """Tell the relay process now and then how much of what it passed is dealt with."""
        self._taken[connection] = self._taken.get(connection, 0) + 1
        if self._taken[connection] >= TOLD_EVERY:
            self.perform([Send("relay_host", Taken(connection, self._taken.pop(connection)))])
        elif len(self._taken) > CONNECTIONS_MAX:
            del self._taken[next(iter(self._taken))]

    def _keys(self) -> TicketKeys:
        try:
            return TicketKeys(tuple(ticket_key(cookie) for cookie in read_cookies(self._cookies)))
        except (BadRequest, OSError) as error:
            # The relay process says that ghosts cannot connect; those that are here do their work.
            self.context.log.warning("no tickets for ghosts", reason=str(error))
            return TicketKeys(())
