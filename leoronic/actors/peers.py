"""The actor `peers`: this node's connections to all others.

It listens, calls the addresses it is told of (`Found`), and keeps one connection to each node.
`Outbound` messages leave by it; what comes goes to the actors named in `core/peer.py`. Membership
and replication are told `LinkUp` and `LinkDown`. Who may be connected is decided by the cookie
(`wire/cookie.py`); which of two connections to one node stays is decided by the node with the
smaller id, so that both always agree.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from leoronic import __version__
from leoronic.actors.addresses import is_here
from leoronic.actors.calling import Calling
from leoronic.actors.delivery import Delivery
from leoronic.actors.first_line import LineProtocol, OtherPurpose, remote_address
from leoronic.actors.link import CLOSED, Link, LinkRefused
from leoronic.actors.link_notices import LinkNotices
from leoronic.actors.link_table import LinkTable
from leoronic.actors.listening import listen_when_free
from leoronic.actors.peer_port import PeerPort
from leoronic.actors.peers_messages import (
    CookieChanged,
    Describe,
    Described,
    NotAsked,
    PlaceFacts,
    TellLinks,
    facts_of,
)
from leoronic.actors.standing import HANDSHAKE_S_MAX, Standing, make_standing
from leoronic.core.addresses import Address, parse_address
from leoronic.core.ghost_notices import (
    GhostIds,
    Outward,
)
from leoronic.core.membership_messages import Addresses, Found
from leoronic.core.outbound import Outbound
from leoronic.core.peer import Ask, PeerMessage
from leoronic.core.replication_messages import Misbehaved, Rejoin
from leoronic.core.view import About
from leoronic.errors import BadRequest, LeoronicError, ProtocolError, Unavailable
from leoronic.runtime.actor import NO_REPLY, Actor
from leoronic.runtime.ref import Call
from leoronic.wire.cookie import fingerprint, read_cookies
from leoronic.wire.hello import COPIED, DUPLICATE, OWN, Refused, is_copy_of, refused_copy
from leoronic.wire.preface import PROTOCOL_MAX, PROTOCOL_MIN, Preface

# Connections that have not said who they are; when one more comes, the oldest of them goes.
STRANGERS_MAX = 64
TOLD_MAX = 1024


def steady_ms() -> int:
    """Milliseconds of the clock that membership uses too; it goes on while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class PeersActor(Actor):
    """Listens at `host`, `port` (0: any); `on_listening(port)` is told which it became.

    `node` and `about` are asked for each new connection; `about().life` is greater the later a core
    started. `on_copied(reason)`: another node has this one's identity and was there first, so this
    one must take a new one. `on_rejoin(reason)`: replication wants this node to begin anew.
    `speaks` is the lowest and the highest version of the protocol; `clock_ms` that of membership.
    `port_shared` gets this node's standing, and knows who takes connections for anything else.
    """

    def __init__(
        self,
        *,
        node: Callable[[], str],
        about: Callable[[], About],
        cookies: Path,
        host: str,
        port: int,
        on_copied: Callable[[str], None],
        on_rejoin: Callable[[str], None],
        on_listening: Callable[[int], None] = lambda port: None,
        speaks: tuple[int, int] = (PROTOCOL_MIN, PROTOCOL_MAX),
        version: str = __version__,
        clock_ms: Callable[[], int] = steady_ms,
        port_shared: PeerPort | None = None,
    ) -> None:
        self._node = node
        self._about = about
        self._cookies = cookies
        self._host = host
        self._port = port
        self._on_copied = on_copied
        self._on_rejoin = on_rejoin
        self._on_listening = on_listening
        self._speaks = speaks
        self._version = version
        self._clock_ms = clock_ms
        self._port_shared = port_shared or PeerPort()
        self._standing: Standing | None = None
        self._calling: Calling
        self._delivery: Delivery
        self._notices: LinkNotices
        self._links = LinkTable()
        self._strangers: dict[Link, None] = {}
        self._connecting: set[Link] = set()
        self._told: set[tuple[str, str]] = set()
        self._ghosts: frozenset[str] = frozenset()

    # ---- start and stop ----

    async def started(self) -> None:
        """Listen. Connections begin once the certificate is made, in the background."""
        self._calling = Calling(self.context, self._links.has, self._called_at)
        self._delivery = Delivery(self.context, self._clock_ms, self._learn_about)
        self._notices = LinkNotices(self.context)
        cookies = self._read_cookies()
        listener = await listen_when_free(self._host, self._port)
        self._port = listener.getsockname()[1]
        self._on_listening(self._port)
        self.context.spawn(self._serve(cookies, listener), "listen")

    def _read_cookies(self) -> list[str]:
        try:
            return read_cookies(self._cookies)
        except FileNotFoundError:
            raise BadRequest(
                f"the cookie {self._cookies} is gone: restore it (every node of the cluster has "
                "it), or stop the node and start it with the line that `leoronic join` prints"
            ) from None

    async def _renew(self, cookies: list[str]) -> Standing:
        made = await make_standing(cookies, self._node(), self._version, self._speaks)
        self._standing = self._port_shared.standing = made
        return made

    async def _serve(self, cookies: list[str], listener: Any) -> None:
        server = None
        try:
            await self._renew(cookies)
            loop = asyncio.get_running_loop()
            server = await loop.create_server(lambda: LineProtocol(self._accept), sock=listener)
            self._calling.begin()
            await loop.create_future()
        finally:
            if server is not None:
                server.close()
            listener.close()
            self._close_all()

    def _close_all(self) -> None:
        """This actor ends, or has crashed: the others must not wait for anybody."""
        linked = self._links.clear()
        for link in [*self._connecting, *linked]:
            link.close("the node stops", tell=Refused("the node stops"))
        self._notices.all_down(linked)

    # ---- messages of this node ----

    async def handle(self, message: Any) -> Any:
        """What the other actors want."""
        match message:
            case Outbound(node, sent):
                self._send(node, sent)
            case Found(addresses, source):
                kind, _, about = source.partition(" ")
                self._calling.learn(source, addresses, about if kind != "static" else "")
            case Addresses():
                self._close_moved()
            case GhostIds(ids):
                self._ghosts = ids
            case Misbehaved(node, reason):
                link = self._links.get(node)
                if link is not None:
                    link.close(f"it sent what it must not: {reason}", tell=Refused(reason))
            case Rejoin(reason):
                self._on_rejoin(reason)
            case CookieChanged():
                cookies = self._read_cookies()
                self.context.spawn(self._change_cookies(cookies, self.context.request), "cookie")
                return NO_REPLY
            case TellLinks(to):
                self._notices.again(self._links.all(), to)
            case Describe():
                return self._describe()
            case _:
                return await super().handle(message)
        return None

    def _send(self, node: str, message: PeerMessage) -> None:
        link = self._links.get(node)
        if link is None and node in self._ghosts:
            self._cast("relay", Outward(node, message))
            return
        if link is None:
            if type(message) is Ask and not message.cancel:
                self._not_asked(node)
            return
        self._delivery.sent(link, message)
        try:
            link.send(message)
        except ProtocolError as error:
            self.context.log.error(
                "message_too_large",
                peer=node,
                message=type(message).__name__,
                error=error.message,
            )

    def _not_asked(self, node: str) -> None:
        """Somebody waits for the answer: nothing else would tell of it before the time is over."""
        self._cast("questions", NotAsked(node))

    def _cast(self, to: str, message: object) -> None:
        """Lost if its mailbox is full, as with a connection."""
        ref = self.context.get(to)
        if ref is not None:
            with contextlib.suppress(Unavailable):
                ref.cast_nowait(message)

    async def _change_cookies(self, cookies: list[str], request: Call | None) -> None:
        try:
            standing = await self._renew(cookies)
        except LeoronicError as error:
            self.context.log.error("cookie not changed", reason=error.message)
            if request is not None:
                self.context.fail(request, error)
            return
        self.context.log.info("cookie changed", clusters=list(standing.identities))
        if request is not None:
            self.context.reply(request, None)

    def _describe(self) -> Described:
        now = _now()
        links = [facts_of(link, now) for link in self._links.all()]
        places = [
            PlaceFacts(place.address, place.node, place.reason)
            for place in self._calling.book.places()
            if not place.own
        ]
        clusters = (
            list(self._standing.identities)
            if self._standing is not None
            else [fingerprint(cookie) for cookie in self._read_cookies()]
        )
        return Described(self._port, clusters, links, places, len(self._strangers))

    def _close_moved(self) -> None:
        """The addresses of this machine changed: by one that is gone nothing comes any more."""
        for link in self._links.all():
            if not is_here(link.own_host):
                link.close(f"this machine no longer has the address {link.own_host}", abort=True)

    # ---- connections that begin ----

    async def _called_at(self, text: str, address: Address, lines: LineProtocol) -> None:
        await self._connect(self._new_link(text, lines), address)

    def _accept(self, lines: LineProtocol) -> None:
        if len(self._strangers) >= STRANGERS_MAX:
            next(iter(self._strangers)).close("too many others wait to say who they are")
        link = self._new_link("", lines)
        self._strangers[link] = None
        self.context.spawn(self._connect(link, remote_address(lines.transport)), "called")

    def _new_link(self, address: str, lines: LineProtocol) -> Link:
        link = Link(
            address,
            lines,
            deliver=self._delivery.deliver,
            on_closed=self._closed,
            on_unknown=self._unknown,
        )
        self._connecting.add(link)
        return link

    async def _connect(self, link: Link, remote: Address) -> None:
        """From the first byte to an open connection, or none."""
        try:
            async with asyncio.timeout(HANDSHAKE_S_MAX):
                await self._introduce(link)
                await link.welcome()
        except OtherPurpose as error:
            self._hand_over(link, error.preface)
        except LinkRefused as error:
            self._refuse(link, remote, error)
        except (OSError, ProtocolError) as error:
            # A TimeoutError is an OSError.
            if isinstance(error, TimeoutError):
                told = f"it did not finish its greeting within {HANDSHAKE_S_MAX:g} s"
            else:
                told = link.reason or getattr(error, "message", str(error))
            link.close(told, abort=True)
            self._failed(link, remote, told)
        else:
            await self._opened(link, remote)
        finally:
            # Cancelled, among other ends: nobody else would close it.
            self._connecting.discard(link)
            self._strangers.pop(link, None)
            if self._links.get(link.node) is not link:
                link.close("not needed", abort=True)

    def _hand_over(self, link: Link, theirs: Preface) -> None:
        assert self._standing is not None, "nothing begins before"
        take = self._port_shared.taker(theirs.purpose)
        if take is None:
            link.decline(self._standing.preface)
        else:
            take(link.detach(), theirs)

    async def _introduce(self, link: Link) -> None:
        """Find out who it is, and whether this connection should be. Raises as `Standing.greet`."""
        assert self._standing is not None, "nothing begins before"
        hello, mine, refused = await self._standing.greet(link, self._node(), self._about())
        if refused is not None:
            if is_copy_of(mine, hello):
                self._on_copied(refused_copy(hello).reason)
            raise LinkRefused(refused.reason, refused.code)
        await self._links.settle(link, is_arbiter=mine.node < hello.node)
        self._strangers.pop(link, None)

    def _refuse(self, link: Link, remote: Address, error: LinkRefused) -> None:
        code, now = error.reason_code, _now()
        tell = Refused(error.message, code) if error.by_us else None
        link.close(error.message, tell=tell)
        if code == OWN:
            self._calling.book.is_own(link.address, now)
        elif code == DUPLICATE:
            self._calling.book.met(link.address, link.node, now)
        else:
            if code == COPIED and not error.by_us:
                self._on_copied(error.message)
            self._failed(link, remote, error.message)

    def _failed(self, link: Link, remote: Address, reason: str) -> None:
        """Tell people, once for each place and reason."""
        self._calling.book.ended(link.address, reason, _now())
        key = (link.address or remote.host, reason)
        if key in self._told:
            return
        if len(self._told) >= TOLD_MAX:
            self._told.clear()
        self._told.add(key)
        place = link.address or str(remote)
        self.context.log.warning("not connected", address=place, reason=reason)

    async def _opened(self, link: Link, remote: Address) -> None:
        if link.phase == CLOSED:
            return
        node, now = link.node, _now()
        link.open(now)
        link.at = link.address or _listening_at(link.hello.about, remote)
        self._links.add(link)
        self._delivery.opened(link)
        self._connecting.discard(link)
        if link.address:
            self._calling.book.met(link.address, node, now)
        self._told = {key for key in self._told if key[0] not in (link.address, remote.host)}
        self._calling.learn(f"peer {node}", [link.at, *link.hello.about.addresses], node)
        for name in self._calling.book.answered(node):
            self.context.log.info("peer answers", address=name, peer=node)
        self.context.log.info("connected", peer=node, name=link.hello.about.name, address=link.at)
        await self._notices.up(link)
        if link.phase != CLOSED:
            link.begin()

    def _closed(self, link: Link) -> None:
        """Called once for each link, whatever ended it."""
        self._strangers.pop(link, None)
        self._delivery.closed(link)
        if not self._links.remove(link):
            return
        self.context.log.info("disconnected", peer=link.node, reason=link.reason)
        self._notices.down(link)
        self._calling.book.lost(link.node, _now())
        self._calling.call_due()

    def _learn_about(self, link: Link, about: About) -> None:
        link.hello = msgspec.structs.replace(link.hello, about=about)
        self._calling.learn(f"peer {link.node}", [link.at, *about.addresses], link.node)

    def _unknown(self, kind: str) -> None:
        key = ("", kind)
        if key not in self._told and len(self._told) < TOLD_MAX:
            self._told.add(key)
            self.context.log.info("a newer version's message is ignored", message=kind)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _listening_at(about: About, remote: Address) -> str:
    """Where a node that called us listens: as it says, or the same port where it called from."""
    for text in about.addresses:
        with contextlib.suppress(ValueError):
            if parse_address(text).host == remote.host:
                return text
    for text in about.addresses:
        with contextlib.suppress(ValueError):
            return str(Address(remote.host, parse_address(text).port))
    return str(remote)
