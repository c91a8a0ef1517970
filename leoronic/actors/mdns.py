"""Nodes of the local network, by mDNS (Bonjour): being found there, and finding others.

`zeroconf` is imported when it is needed: it costs 3 MiB. What it says is a hint at an address
and no more: who is there, and who may join, is decided on the connection. A node that was killed
stays in everybody's caches for up to 19 minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import re
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NamedTuple

from leoronic.core.addresses import Address, ip_of, is_wildcard, parse_address

if TYPE_CHECKING:
    from zeroconf import ServiceInfo
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

SERVICE = "_leoronic._tcp.local."
RESOLVE_MS = 3000
CLOSE_S = 2.0
RESOLVING_MAX = 64
ADDRESSES_MAX = 16
FINGERPRINTS_MAX = 4

_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")


class Announcement(NamedTuple):
    """What a node tells. `fingerprints` name the cookies it accepts, its own first.

    `addresses` are HOST:PORT, `protocol` the lowest and highest version that it speaks.
    """

    node: str
    name: str
    fingerprints: tuple[str, ...]
    protocol: tuple[int, int]
    addresses: tuple[str, ...]
    port: int


class Sighting(NamedTuple):
    """A node that told of itself, as it did: nothing of it has been checked."""

    node: str
    name: str
    fingerprints: tuple[str, ...]
    addresses: tuple[str, ...]


class Mdns:
    """One node's announcement, and its ear. `on_sighting` is called for every node that tells.

    `spawn` runs a coroutine beside what else the owner does, until the owner ends.
    """

    def __init__(
        self,
        on_sighting: Callable[[Sighting], None],
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
    ) -> None:
        self._on_sighting = on_sighting
        self._spawn = spawn
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._info: ServiceInfo | None = None
        self._resolving: set[str] = set()

    async def open(self, host: str) -> None:
        """Begin to listen, for a node that listens at `host`. Raises `OSError` if it can't now."""
        # In a thread: the import takes longer than anything should hold up the loop.
        library = await asyncio.to_thread(importlib.import_module, "zeroconf.asyncio")
        zeroconf = await asyncio.to_thread(importlib.import_module, "zeroconf")
        # With a traceback it warns of each interface that has no network, and of what others send.
        logging.getLogger("zeroconf").setLevel(logging.ERROR)
        every = is_wildcard(host) or ip_of(host) is None
        ip_version = zeroconf.IPVersion.V4Only if host == "0.0.0.0" else zeroconf.IPVersion.All
        try:
            if every:
                self._zeroconf = library.AsyncZeroconf(ip_version=ip_version)
            else:
                self._zeroconf = library.AsyncZeroconf(interfaces=[host])
        except RuntimeError as error:
            # So it says that no interface has an address.
            raise OSError(str(error)) from error
        self._browser = library.AsyncServiceBrowser(
            self._zeroconf.zeroconf, SERVICE, handlers=[self._heard]
        )

    async def announce(self, announcement: Announcement) -> None:
        """Tell this from now on. Takes a second the first time. Raises `OSError`."""
        assert self._zeroconf is not None, "announced before it was opened"
        zeroconf = importlib.import_module("zeroconf")
        info = _info(announcement)
        try:
            await self._zeroconf.async_update_interfaces()
            # Each gives another awaitable: only with that has it been sent.
            if self._info is not None and self._info.name != info.name:
                gone, self._info = self._info, None
                await (await self._zeroconf.async_unregister_service(gone))
            if self._info is None:
                await (await self._zeroconf.async_register_service(info))
            else:
                await (await self._zeroconf.async_update_service(info))
        except (zeroconf.Error, RuntimeError, TimeoutError) as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
        self._info = info

    async def close(self) -> None:
        """Say goodbye, and let go of the sockets; bounded in time."""
        if self._zeroconf is None:
            return
        closing, self._zeroconf = self._zeroconf, None
        with contextlib.suppress(TimeoutError, OSError, RuntimeError):
            async with asyncio.timeout(CLOSE_S):
                if self._browser is not None:
                    await self._browser.async_cancel()
                if self._info is not None:
                    await (await closing.async_unregister_service(self._info))
        with contextlib.suppress(TimeoutError, OSError, RuntimeError):
            async with asyncio.timeout(CLOSE_S):
                await closing.async_close()

    def _heard(self, *, name: str, state_change: Any, **_: Any) -> None:
        # Somebody who announces thousands of nodes must not make us ask for thousands.
        if state_change.name == "Removed" or len(self._resolving) >= RESOLVING_MAX:
            return
        if name not in self._resolving:
            self._resolving.add(name)
            self._spawn(self._resolve(name), "resolve")

    async def _resolve(self, name: str) -> None:
        try:
            zeroconf = self._zeroconf
            info = (
                await zeroconf.async_get_service_info(SERVICE, name, RESOLVE_MS)
                if zeroconf is not None
                else None
            )
        except (OSError, RuntimeError):
            return  # It is being closed, or its interface is gone.
        finally:
            self._resolving.discard(name)
        sighting = _sighting(info) if info is not None else None
        if sighting is not None:
            self._on_sighting(sighting)


def _info(told: Announcement) -> ServiceInfo:
    zeroconf = importlib.import_module("zeroconf")
    hosts = [parse_address(address).host for address in told.addresses]
    made: ServiceInfo = zeroconf.ServiceInfo(
        SERVICE,
        f"{told.node}.{SERVICE}",
        port=told.port,
        addresses=[ip.packed for ip in map(ip_of, hosts) if ip is not None],
        server=f"leoronic-{told.node}.local.",
        properties={
            "id": told.node,
            "name": told.name,
            "cluster": ",".join(told.fingerprints),
            "protocol": f"{told.protocol[0]}-{told.protocol[1]}",
        },
    )
    return made


def _sighting(info: ServiceInfo) -> Sighting | None:
    told = {
        key.decode(errors="replace"): (value or b"").decode(errors="replace")
        for key, value in info.properties.items()
        if isinstance(key, bytes)
    }
    if info.port is None or not 0 < info.port < 65536 or not _ID.fullmatch(told.get("id", "")):
        return None
    hosts = sorted(info.parsed_scoped_addresses(), key=lambda host: ":" in host)
    return Sighting(
        told["id"],
        told.get("name", "")[:63],
        tuple(filter(None, told.get("cluster", "").split(",")))[:FINGERPRINTS_MAX],
        tuple(str(Address(host, info.port)) for host in hosts[:ADDRESSES_MAX]),
    )
