"""Calling the addresses where nodes may be, each when it is due."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable

from leoronic.actors.dialling import AddressBook
from leoronic.actors.first_line import LineProtocol
from leoronic.core.addresses import Address, parse_address
from leoronic.runtime.actor import ActorContext

CONNECT_S_MAX = 5.0


class Calling:
    """For the actor of `context`. What became of a call is noted in `book` by who connects.

    `is_linked` tells whether a node is connected; `connect(text, address, lines)` makes a
    connection of the socket that a call has opened. Nobody is called before `begin`.
    """

    def __init__(
        self,
        context: ActorContext,
        is_linked: Callable[[str], bool],
        connect: Callable[[str, Address, LineProtocol], Awaitable[None]],
    ) -> None:
        self.book = AddressBook()
        self._context = context
        self._is_linked = is_linked
        self._connect = connect
        self._begun = False
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """From now on, call."""
        self._begun = True
        self.call_due()

    def learn(self, source: str, addresses: Iterable[str], node: str) -> None:
        """A source names all the addresses it knows, of `node` if that is not empty."""
        good = []
        for text in addresses:
            with contextlib.suppress(ValueError):
                good.append(str(parse_address(text)))
        self.book.told(source, good, self._now(), node)
        self.call_due()

    def call_due(self) -> None:
        """Call whoever is due, and set the timer for the next."""
        if not self._begun:
            return
        for address in self.book.due(self._now(), self._is_linked):
            self._context.spawn(self._call(address), f"call {address}")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self.book.next_at(self._is_linked)
        if at is not None:
            self._timer = self._context.call_after(max(0.0, at - self._now()), self.call_due)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _call(self, text: str) -> None:
        loop = asyncio.get_running_loop()
        address = parse_address(text)
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                _, lines = await loop.create_connection(LineProtocol, address.host, address.port)
        except TimeoutError:
            self._missed(text, f"no answer within {CONNECT_S_MAX:g} s")
        except (OSError, UnicodeError) as error:
            self._missed(text, f"cannot be reached: {getattr(error, 'strerror', None) or error}")
        else:
            await self._connect(text, address, lines)
        self.call_due()

    def _missed(self, address: str, reason: str) -> None:
        log = self._context.log
        if self.book.ended(address, reason, self._now()):
            log.debug("not connected", address=address, reason=reason)
        for name, why in self.book.silent(address, self._now(), self._is_linked):
            log.warning(
                "peer does not answer",
                address=name,
                reason=why,
                hint="is leoronic running there, and does its firewall let "
                f"{name.rpartition(':')[2]}/tcp through? it is called again and again",
            )
