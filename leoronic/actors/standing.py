"""What this node says of itself in a new connection, and what the other side answers to that."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from leoronic.actors.link import Link, LinkRefused
from leoronic.core.view import About
from leoronic.wire.hello import Hello, Refused, judge
from leoronic.wire.identity import Identity, make_identities
from leoronic.wire.preface import Agreed, Preface, agree

if TYPE_CHECKING:
    from leoronic.wire.ghost_identity import RelayIdentity

HANDSHAKE_S_MAX = 5.0


class Standing(NamedTuple):
    """`identities` by fingerprint, that of the current cookie first.

    `ghosts` gives those for calls by ghosts; the first call takes 0.2 s: not for the loop. Raises
    `IdentityFailed`. `as_ghost`, of a ghost: the context for a node whose second line is given.
    """

    preface: Preface
    identities: dict[str, Identity]
    ghosts: Callable[[], Mapping[str, RelayIdentity]] = dict
    as_ghost: Callable[[bytes], ssl.SSLContext] | None = None

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
    return Standing(
        Preface(tuple(identities), version, *speaks), identities, _ghosts(cookies, node)
    )


def _ghosts(cookies: Sequence[str], node: str) -> Callable[[], Mapping[str, RelayIdentity]]:
    """Made when the first ghost calls for files: most nodes have none."""

    @cache
    def make() -> Mapping[str, RelayIdentity]:
        from leoronic.wire.ghost_identity import make_relay_identities  # noqa: PLC0415 - see above

        return {identity.fingerprint: identity for identity in make_relay_identities(cookies, node)}

    return make
