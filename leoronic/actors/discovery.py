"""The discovery actor: all the ways in which nodes find each other, at once.

    static       named by --peer; names are looked up in DNS again and again
    remembered   met before, kept in ROOT/.leoronic/peers.json
    mdns         announced in the local network

Nodes learnt from other nodes come to the connections through membership. Everything found here is
a hint, told to the actor `peers` as `Found`: that decides whom to connect to, and when.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from leoronic.actors.addresses import (
    own_addresses,
    read_remembered,
    remembering,
    resolve,
    write_remembered,
)
from leoronic.actors.mdns import Announcement, Mdns, Sighting
from leoronic.core.member_record import Acquaintance
from leoronic.core.membership_messages import Addresses, Found, Remember
from leoronic.runtime.actor import Actor

WATCH_S = 2.0
REPEAT_S = 30.0
RETRY_S = 10.0
SEEN_MAX = 512
STRANGERS_MAX = 64
LOOKUPS_AT_ONCE_MAX = 2


class Identity(NamedTuple):
    """Who this node is to others. `fingerprints` names the cookies it accepts, its own first."""

    node: str
    name: str
    fingerprints: tuple[str, ...]
    protocol: tuple[int, int]


class DiscoveryActor(Actor):
    """Takes `Remember`; tells `Found` to `peers`, `Addresses` to `membership` (changes to both).

    `identity` is asked when something is told, as a cookie may change. `static` are HOST:PORT;
    without `local_network` there is no mDNS.
    """

    def __init__(
        self,
        identity: Callable[[], Identity],
        *,
        host: str,
        port: int,
        static: tuple[str, ...],
        local_network: bool,
        path: Path,
        peers: str = "peers",
        membership: str = "membership",
        open_mdns: Callable[..., Mdns] = Mdns,
    ) -> None:
        self._identity = identity
        self._host = host
        self._port = port
        self._static = static
        self._local_network = local_network
        self._path = path
        self._peers = peers
        self._membership = membership
        self._open_mdns = open_mdns
        self._own: list[str] = []
        self._found: dict[str, list[str]] = {}
        self._remembered: dict[str, Acquaintance] = {}
        self._saved: dict[str, Acquaintance] = {}
        self._unsaved = asyncio.Event()
        self._writing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._strangers: set[str] = set()
        self._troubles: dict[str, str] = {}
        self._mdns: Mdns | None = None

    @property
    def statistics(self) -> dict[str, int]:
        """What was found by now, and how many nodes of other clusters were seen."""
        return {
            "found": len(self._found),
            "remembered": len(self._remembered),
            "strangers": len(self._strangers),
        }

    async def started(self) -> None:
        """Begin to look in the background: nothing waits for the network."""
        try:
            self._remembered = await asyncio.to_thread(read_remembered, self._path)
            self._saved = dict(self._remembered)
        except (OSError, ValueError) as error:
            self._trouble("remembered", f"{self._path} cannot be read: {error}")
        self.context.spawn(self._watch_own(), "own")
        self.context.spawn(self._repeat(), "repeat")
        self.context.spawn(self._save(), "save")
        if self._local_network:
            self.context.spawn(self._keep_announced(), "mdns")

    async def handle(self, message: Any) -> Any:
        """Only `Remember`."""
        if not isinstance(message, Remember):
            return await super().handle(message)
        before = self._remembered
        known = remembering(before, message.members, message.names, message.left)
        if known != before:
            self._remembered = known
            self._unsaved.set()
            # Whom others told of is called now, not when all is told again.
            await self._tell_remembered(one for one in known.values() if one != before.get(one.id))
        return None

    async def stopping(self) -> None:
        """Say goodbye to the local network, so that nobody calls for a while."""
        if self._mdns is not None:
            await self._mdns.close()
        await self._write()

    # ---- own addresses ----

    async def _watch_own(self) -> None:
        told = None
        while True:
            self._own = own_addresses(self._host, self._port)
            standing = (self._own, self._identity())
            if standing != told:
                await self._tell_own()
                if told is not None and told[0] != self._own:
                    await self._tell_changed()
                told = standing
                self._changed.set()
            await asyncio.sleep(WATCH_S)

    async def _tell_changed(self) -> None:
        """What went by an address that is gone must begin anew."""
        peers = self.context.get(self._peers)
        if peers is not None:
            await peers.cast(Addresses(self._own))

    async def _tell_own(self) -> None:
        membership = self.context.get(self._membership)
        if membership is not None:
            await membership.cast(Addresses(self._own))

    # ---- telling ----

    async def _repeat(self) -> None:
        await self._tell_remembered(self._remembered.values())
        await self._look_up_all()
        # An actor that was restarted has forgotten what it was told: all is told again.
        while True:
            await asyncio.sleep(REPEAT_S)
            await self._look_up_all()
            for source, addresses in list(self._found.items()):
                await self._tell(source, addresses)
            await self._tell_remembered(self._remembered.values())
            await self._tell_own()

    async def _tell_remembered(self, members: Iterable[Acquaintance]) -> None:
        for one in list(members):
            if one.id != self._identity().node:
                await self._tell(f"remembered {one.id}", one.addresses)

    async def _tell(self, source: str, addresses: list[str]) -> None:
        peers = self.context.get(self._peers)
        if peers is not None and addresses:
            await peers.cast(Found(addresses, source))

    async def _take(self, source: str, addresses: list[str]) -> None:
        if self._found.get(source) != addresses:
            self._found.pop(source, None)
            self._found[source] = addresses
            while len(self._found) > SEEN_MAX:
                del self._found[next(iter(self._found))]
            await self._tell(source, addresses)

    # ---- named by the user ----

    async def _look_up_all(self) -> None:
        # A name server that does not answer must not take all of the loop's threads.
        room = asyncio.Semaphore(LOOKUPS_AT_ONCE_MAX)

        async def look_up(text: str) -> None:
            async with room:
                await self._look_up(text)

        await asyncio.gather(*map(look_up, self._static))

    async def _look_up(self, text: str) -> None:
        source = f"static {text}"
        try:
            addresses = await resolve(text)
        except (OSError, UnicodeError) as error:
            # What the name stood for before may still be right.
            self._trouble(source, f"--peer {text}: {getattr(error, 'strerror', None) or error}")
            return
        self._troubles.pop(source, None)
        await self._take(source, addresses)

    # ---- the local network ----

    async def _keep_announced(self) -> None:
        try:
            while True:
                self._changed.clear()
                try:
                    await self._announce()
                    self._troubles.pop("mdns", None)
                    pause_s = None
                except OSError as error:
                    self._trouble("mdns", f"not announced in the local network: {error}")
                    await self._close_mdns()
                    pause_s = RETRY_S
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), pause_s)
        finally:
            await self._close_mdns()

    async def _announce(self) -> None:
        if self._mdns is None:
            mdns = self._open_mdns(self._sighted, self.context.spawn)
            await mdns.open(self._host)
            self._mdns = mdns
        if not self._own:
            return  # Heard it can be; its own address comes with a change.
        identity = self._identity()
        await self._mdns.announce(Announcement(*identity, tuple(self._own), self._port))

    async def _close_mdns(self) -> None:
        mdns, self._mdns = self._mdns, None
        if mdns is not None:
            await mdns.close()

    def _sighted(self, sighting: Sighting) -> None:
        identity = self._identity()
        if sighting.node == identity.node:
            return
        if not set(sighting.fingerprints) & set(identity.fingerprints):
            self._stranger(sighting)
            return
        source = f"mdns {sighting.node}"
        self.context.spawn(self._take(source, list(sighting.addresses)), "take")

    def _stranger(self, sighting: Sighting) -> None:
        if sighting.node in self._strangers or len(self._strangers) >= STRANGERS_MAX:
            return
        self._strangers.add(sighting.node)
        self.context.log.info(
            "node of another cluster",
            peer=sighting.name or sighting.node,
            address=", ".join(sighting.addresses),
            hint="it has another cookie; to make it one cluster, start it with the line that "
            "`leoronic join` prints here",
        )

    # ---- the file ----

    async def _save(self) -> None:
        while True:
            await self._unsaved.wait()
            await self._write()
            # Nodes come in crowds: one write for many.
            await asyncio.sleep(WATCH_S)

    async def _write(self) -> None:
        async with self._writing:
            self._unsaved.clear()
            content = dict(self._remembered)
            if content == self._saved:
                return
            try:
                await asyncio.to_thread(write_remembered, self._path, content)
            except OSError as error:
                self._trouble("remembered", f"{self._path} cannot be written: {error.strerror}")
                return
            self._saved = content
            self._troubles.pop("remembered", None)

    def _trouble(self, what: str, reason: str) -> None:
        """Log it, once while it lasts."""
        if self._troubles.get(what) != reason:
            self._troubles[what] = reason
            self.context.log.warning("discovery_trouble", reason=reason)
