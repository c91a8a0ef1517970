"""What comes from other nodes, handed to the actors that it is for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from leoronic.actors.link import Link
from leoronic.core.lease import Lease
from leoronic.core.peer import RECEIVERS, Assign, Heartbeat, PeerMessage, ToGhost
from leoronic.core.view import About
from leoronic.errors import MailboxFull, Unavailable
from leoronic.runtime.actor import ActorContext
from leoronic.runtime.ref import ActorRef

# What tells on arrival whether it was under way for too long.
AGING = (Assign, ToGhost)


class Delivery:
    """For the actor of `context`. `on_about(link, about)`: a node tells something new of itself.

    `clock_ms` is the clock of membership. An assignment whose age cannot be known to be small is
    handed on as stale (`core/lease.py`).
    """

    def __init__(
        self,
        context: ActorContext,
        clock_ms: Callable[[], int],
        on_about: Callable[[Link, About], None],
    ) -> None:
        self._context = context
        self._clock_ms = clock_ms
        self._on_about = on_about
        self._leases: dict[Link, Lease] = {}

    def opened(self, link: Link) -> None:
        """Messages may come by it."""
        self._leases[link] = Lease(opened_ms=self._clock_ms())

    def closed(self, link: Link) -> None:
        """No more of them."""
        self._leases.pop(link, None)

    def sent(self, link: Link, message: PeerMessage) -> None:
        """This leaves by it."""
        if type(message) is Heartbeat:
            self._leases[link].note_sent(message.sent_ms)

    def deliver(self, link: Link, message: PeerMessage) -> asyncio.Task[None] | None:
        """Hand it on; if there is no room for it, a task that ends once there was."""
        kind = type(message)
        if kind is Heartbeat:
            self._heard(link, message)  # type: ignore[arg-type]
        elif kind in AGING and self._leases[link].is_stale(self._clock_ms()):
            message = msgspec.structs.replace(message, stale=True)
        ref = self._context.get(RECEIVERS[kind])
        if ref is None:
            return None
        try:
            ref.cast_nowait(message)
        except MailboxFull:
            return self._context.spawn(self._deliver_late(ref, message), f"from {link.node}")
        except Unavailable:
            pass  # It is between two lives: messages to it are lost, as for any cast.
        return None

    @staticmethod
    async def _deliver_late(ref: ActorRef, message: PeerMessage) -> None:
        if isinstance(message, Assign | ToGhost):
            # How long it will wait is not known: better declined than begun too late.
            message = msgspec.structs.replace(message, stale=True)
        await ref.cast(message)

    def _heard(self, link: Link, heartbeat: Heartbeat) -> None:
        self._leases[link].hear(heartbeat, self._clock_ms())
        about = heartbeat.about
        if about is not None and about.life == link.hello.about.life:
            self._on_about(link, about)
