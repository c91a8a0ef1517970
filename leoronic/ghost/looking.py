"""The actor `looking` of a ghost: where nodes may be, told to its link as `Candidates`.

named         by --peer, or as the ADDR of the start
remembered    those that a clairvoyant told of, from .leoronic/clairvoyants.json
mdns          announced in the local network, asked for by a process that then ends: what
              listens costs more memory than a ghost has
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from leoronic.core.addresses import ip_of, parse_address
from leoronic.core.ghost_notices import (
    Candidates,
)
from leoronic.durable import replace_file
from leoronic.runtime.actor import Actor

LISTEN_S = 1.0
CHILD_S_MAX = 15.0
# Somebody who found nobody looks again, and so does whoever lost all that it knew.
AGAIN_S_MIN = 2.0
AGAIN_S_MAX = 60.0
REMEMBERED_MAX = 256
ADDRESSES_MAX = 1024
FILE_BYTES_MAX = 64 * 1024


class NodesAt(NamedTuple):
    """From the link: its clairvoyant says that nodes listen there (HOST:PORT)."""

    addresses: tuple[str, ...]


class LostAll(NamedTuple):
    """From the link: there is no clairvoyant (True), or there is one again."""

    lost: bool


class Looking(Actor):
    """`named` are HOST:PORT. `patient`: what is found must be complete before it is told.

    Without `local_network` there is no mDNS. `cluster`: only nodes with that cookie count.
    """

    def __init__(
        self,
        path: Path,
        cluster: str,
        *,
        named: tuple[str, ...],
        local_network: bool,
        patient: bool,
        link: str = "membership",
    ) -> None:
        self._path = path
        self._cluster = cluster
        self._named = named
        self._local_network = local_network
        self._patient = patient
        self._link_name = link
        self._seen: tuple[str, ...] = ()
        self._remembered: tuple[str, ...] = ()
        self._told: list[str] = []
        self._lost = asyncio.Event()
        self._trouble = ""

    async def started(self) -> None:
        """Begin to look."""
        self._link = self.context.find(self._link_name)
        self._remembered = read_places(self._path)
        self._lost.set()
        self.context.spawn(self._look(), "look")

    async def handle(self, message: Any) -> Any:
        """What the link tells."""
        match message:
            case NodesAt(addresses):
                if addresses and addresses != self._remembered:
                    self._remembered = addresses[:REMEMBERED_MAX]
                    # On a full disk it is looked for again at the next start.
                    with contextlib.suppress(OSError):
                        write_places(self._path, self._remembered)
            case LostAll(lost):
                (self._lost.set if lost else self._lost.clear)()
            case _:
                return await super().handle(message)
        return None

    async def _look(self) -> None:
        pause_s = AGAIN_S_MIN
        if not (self._patient and self._local_network):
            await self._tell()
        while self._local_network:
            await self._lost.wait()
            self._seen = await self._ask_network()
            await self._tell()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, AGAIN_S_MAX) if self._lost.is_set() else AGAIN_S_MIN

    async def _tell(self) -> None:
        found = list(dict.fromkeys([*self._named, *self._seen, *self._remembered]))[:ADDRESSES_MAX]
        if found and found != self._told:
            self._told = found
            await self._link.cast(Candidates(found))

    async def _ask_network(self) -> tuple[str, ...]:
        """Addresses of the nodes of this cluster in the local network."""
        try:
            lines = await _run(("leoronic.ghost.mdns", f"{LISTEN_S:g}"))
        except OSError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                self.context.log.warning("discovery_trouble", reason=self._trouble)
            return self._seen
        found: dict[str, str] = {}
        for line in lines.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                sighting = json.loads(line)
                if self._cluster in sighting["fingerprints"]:
                    found[sighting["node"]] = best_of(sighting["addresses"])
        return tuple(sorted(filter(None, found.values())))


def best_of(addresses: Iterable[str]) -> str:
    """The lowest IPv4 address among HOST:PORTs, else the lowest of others; '' if none is one."""
    ranked = []
    for text in addresses:
        with contextlib.suppress(ValueError):
            place = parse_address(text)
            ip = ip_of(place.host)
            if ip is not None:
                ranked.append((ip.is_loopback, ip.is_link_local, ip.version, int(ip), str(place)))
    return min(ranked)[-1] if ranked else ""


async def _run(command: tuple[str, ...]) -> str:
    """What `python -m` of it prints. Raises `OSError`."""

    def work() -> str:
        done = subprocess.run(
            [sys.executable, "-P", "-m", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=CHILD_S_MAX,
            check=False,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        if done.returncode:
            raise OSError((done.stderr.strip().splitlines() or ["it failed"])[-1])
        return done.stdout

    try:
        return await asyncio.to_thread(work)
    except subprocess.SubprocessError as error:
        raise OSError(str(error)) from error


def read_places(path: Path) -> tuple[str, ...]:
    """Addresses that are remembered; none if they cannot be read."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(FILE_BYTES_MAX))
        return tuple(str(parse_address(text)) for text in found)[:REMEMBERED_MAX]
    except (OSError, ValueError, TypeError, AttributeError):
        return ()


def write_places(path: Path, addresses: tuple[str, ...]) -> None:
    """Remember them. Raises `OSError`."""
    replace_file(path, json.dumps(addresses).encode())
