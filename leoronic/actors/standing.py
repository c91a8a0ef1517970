"""What this node says of itself in a new connection, and what the other side answers to that."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from leoronic.actors.link import Link, LinkRefused
from leoronic.core.view import About
from leoronic.wire.hello import Hello, Refused, judge
from leoronic.wire.identity import Identity, make_identities
from leoronic.wire.preface import Agreed, Preface, agree

HANDSHAKE_S_MAX = 5.0


class Standing(NamedTuple):
    """`identities` by fingerprint, that of the current cookie first."""

    preface: Preface
    identities: dict[str, Identity]

    async def greet(
        self, link: Link, node: str, about: About
    ) -> tuple[Hello, Hello, Refused | None]:
        """Their Hello, ours, and what is wrong with theirs, as far as that says.

        Raises `OtherPurpose`, `LinkRefused`, `ProtocolError`, `OSError`.
        """
        ours = self.preface
        theirs = await link.greet(ours)
        agreed = agree(ours, theirs)
        if not isinstance(agreed, Agreed):
            raise LinkRefused(agreed.reason)
        link.version, link.protocol, link.cluster = theirs.version, agreed.protocol, agreed.cluster
        identity = self.identities[agreed.cluster]
        context = identity.calling if link.address else identity.called
        certified = await link.secure(context, HANDSHAKE_S_MAX)
        mine = Hello(node, about, agreed.protocol, ours.protocol_min, ours.protocol_max)
        hello = await link.exchange_hellos(mine)
        return hello, mine, judge(hello, mine, certified)


async def make_standing(
    cookies: list[str], node: str, version: str, speaks: tuple[int, int]
) -> Standing:
    """For all of `cookies`. Raises `IdentityFailed`."""
    made = await asyncio.to_thread(make_identities, cookies, node)
    identities = {identity.fingerprint: identity for identity in made}
    return Standing(Preface(tuple(identities), version, *speaks), identities)
