"""What others ask of the connections, and what they answer."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from leoronic.actors.link import Link


class CookieChanged(msgspec.Struct, frozen=True):
    """The cookie file was changed: use it for new connections. Those that are open stay.

    As a call it is answered (None) once that is so, or fails with `BadRequest`.
    """


class TellLinks(msgspec.Struct, frozen=True):
    """From an actor that was restarted: tell `to` (its name) `LinkUp` of each open connection."""

    to: str


class NotAsked(msgspec.Struct, frozen=True):
    """To `questions`: there is no connection to `node`, so that what it was asked went nowhere."""

    node: str


class Describe(msgspec.Struct, frozen=True):
    """Asked (a call). Answer: `Described`."""


class LinkFacts(NamedTuple):
    """An open connection, for people. `called`: it was this node that called. `since_s`: age."""

    node: str
    name: str
    address: str
    version: str
    protocol: int
    cluster: str
    called: bool
    since_s: float
    sent_bytes: int
    received_bytes: int
    unsent_bytes: int


def facts_of(link: Link, now: float) -> LinkFacts:
    """What there is to tell of an open connection; `now` in seconds of the loop's clock."""
    return LinkFacts(
        node=link.node,
        name=link.hello.about.name,
        address=link.at,
        version=link.version,
        protocol=link.protocol,
        cluster=link.cluster,
        called=bool(link.address),
        since_s=now - link.since,
        sent_bytes=link.sent_bytes,
        received_bytes=link.received_bytes,
        unsent_bytes=link.unsent_bytes,
    )


class PlaceFacts(NamedTuple):
    """Somewhere where a node may be. `reason`: why none was met there the last time."""

    address: str
    node: str
    reason: str


class Described(NamedTuple):
    """`port` is that listened on; `clusters` the fingerprints accepted, the current one first.

    `strangers`: connections that have not said yet who they are.
    """

    port: int
    clusters: list[str]
    links: list[LinkFacts]
    places: list[PlaceFacts]
    strangers: int
