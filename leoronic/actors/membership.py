"""The actor around `MembershipMachine`: who is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from leoronic.actors.peers_messages import TellLinks
from leoronic.actors.steady import steady_s
from leoronic.core import membership
from leoronic.core.effects import Send
from leoronic.core.member_record import Acquaintance
from leoronic.core.timeouts import Timeouts, lan
from leoronic.core.view import About
from leoronic.runtime.machine import MachineActor


class MembershipActor(MachineActor):
    """Hosts `MembershipMachine`; the connections tell it again whom they reach when it restarts.

    `node`, `about` and `known` are asked at each start, when the journal is open: this node's id,
    what it tells of itself, and whom it met in earlier lives. To stop in order, cast `Leave` to it
    while the connections are still there.
    """

    def __init__(
        self,
        node: Callable[[], str],
        about: Callable[[], About],
        known: Callable[[], Iterable[Acquaintance]],
        timeouts: Timeouts | None = None,
    ) -> None:
        def make() -> membership.MembershipMachine:
            return membership.MembershipMachine(node(), about(), known(), timeouts or lan())

        super().__init__(make, clock=steady_s)

    async def started(self) -> None:
        """Tell the first view."""
        await super().started()
        await self.feed(membership.Start())
        # After a restart: the connections are still there.
        self.perform([Send("peers", TellLinks("membership"))])
