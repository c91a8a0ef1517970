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
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from leoronic import __version__
from leoronic.actors.addresses import is_here
from leoronic.actors.dialling import AddressBook
from leoronic.actors.first_line import LineProtocol, remote_address
from leoronic.actors.link import CLOSED, Link, LinkRefused
from leoronic.actors.link_table import LinkTable
from leoronic.actors.listening import listen_when_free
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
from leoronic.core.lease import Lease
from leoronic.core.membership_messages import Addresses, Found
from leoronic.core.outbound import Outbound
from leoronic.core.peer import RECEIVERS, Ask, Assign, Heartbeat, LinkDown, LinkUp, PeerMessage
from leoronic.core.replication_messages import Misbehaved, Rejoin
from leoronic.core.view import About
from leoronic.errors import BadRequest, LeoronicError, MailboxFull, ProtocolError, Unavailable
from leoronic.runtime.actor import NO_REPLY, Actor
from leoronic.runtime.ref import ActorRef, Call
from leoronic.wire.cookie import fingerprint, read_cookies
from leoronic.wire.hello import (
    COPIED,
    DUPLICATE,
    OWN,
    Refused,
    is_copy_of,
    refused_copy,
)
from leoronic.wire.preface import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
)

CONNECT_S_MAX = 5.0
# Connections that have not said who they are; when one more comes, the oldest of them goes.
STRANGERS_MAX = 64
NODES_TOLD = ("membership", "replication", "questions")
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
        self._standing: Standing
        self._book = AddressBook()
        self._links = LinkTable()
        self._leases: dict[Link, Lease] = {}
        self._strangers: dict[Link, None] = {}
        self._connecting: set[Link] = set()
        self._notices: deque[LinkUp | LinkDown] = deque()
        self._telling = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._told: set[tuple[str, str]] = set()

    # ---- start and stop ----

    async def started(self) -> None:
        """Listen. Connections begin once the certificate is made, in the background."""
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

    async def _renew(self, cookies: list[str]) -> None:
        self._standing = await make_standing(cookies, self._node(), self._version, self._speaks)

    async def _serve(self, cookies: list[str], listener: Any) -> None:
        server = None
        try:
            await self._renew(cookies)
            loop = asyncio.get_running_loop()
            server = await loop.create_server(lambda: LineProtocol(self._accept), sock=listener)
            self._dial_due()
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
        for link in linked:
            for name in NODES_TOLD:
                ref = self.context.get(name)
                if ref is not None:
                    with contextlib.suppress(Unavailable):
                        ref.cast_nowait(LinkDown(link.node, "the connections begin anew"))

    # ---- messages of this node ----

    async def handle(self, message: Any) -> Any:
        """What the other actors want."""
        match message:
            case Outbound(node, sent):
                self._send(node, sent)
            case Found(addresses, source):
                kind, _, about = source.partition(" ")
                self._learn(source, addresses, about if kind != "static" else "")
            case Addresses():
                self._close_moved()
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
                self._tell_links(to)
            case Describe():
                return self._describe()
            case _:
                return await super().handle(message)
        return None

    def _send(self, node: str, message: PeerMessage) -> None:
        link = self._links.get(node)
        if link is None:
            if type(message) is Ask and not message.cancel:
                self._not_asked(node)
            return
        if type(message) is Heartbeat:
            self._leases[link].note_sent(message.sent_ms)
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
        questions = self.context.get("questions")
        if questions is not None:
            with contextlib.suppress(Unavailable):
                questions.cast_nowait(NotAsked(node))

    async def _change_cookies(self, cookies: list[str], request: Call | None) -> None:
        try:
            await self._renew(cookies)
        except LeoronicError as error:
            self.context.log.error("cookie not changed", reason=error.message)
            if request is not None:
                self.context.fail(request, error)
            return
        self.context.log.info("cookie changed", clusters=list(self._standing.identities))
        if request is not None:
            self.context.reply(request, None)

    def _tell_links(self, to: str) -> None:
        ref = self.context.get(to)
        for link in self._links.all():
            if ref is not None:
                self.context.spawn(ref.cast(self._link_up(link)), f"links to {to}")

    def _describe(self) -> Described:
        now = asyncio.get_running_loop().time()
        links = [facts_of(link, now) for link in self._links.all()]
        places = [
            PlaceFacts(place.address, place.node, place.reason)
            for place in self._book.places()
            if not place.own
        ]
        standing = getattr(self, "_standing", None)
        clusters = (
            list(standing.identities)
            if standing is not None
            else [fingerprint(cookie) for cookie in self._read_cookies()]
        )
        return Described(self._port, clusters, links, places, len(self._strangers))

    def _close_moved(self) -> None:
        """The addresses of this machine changed: by one that is gone nothing comes any more."""
        for link in self._links.all():
            if not is_here(link.own_host):
                link.close(f"this machine no longer has the address {link.own_host}", abort=True)

    # ---- calling ----

    def _learn(self, source: str, addresses: list[str], node: str) -> None:
        good = []
        for text in addresses:
            with contextlib.suppress(ValueError):
                good.append(str(parse_address(text)))
        self._book.told(source, good, self._now(), node)
        self._dial_due()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _dial_due(self) -> None:
        if not hasattr(self, "_standing"):
            return
        for address in self._book.due(self._now(), self._links.has):
            self.context.spawn(self._dial(address), f"call {address}")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at = self._book.next_at(self._links.has)
        if at is not None:
            self._timer = self.context.call_after(max(0.0, at - self._now()), self._dial_due)

    async def _dial(self, text: str) -> None:
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
            await self._connect(self._new_link(text, lines), address)
        self._dial_due()

    def _missed(self, address: str, reason: str) -> None:
        if self._book.ended(address, reason, self._now()):
            self.context.log.debug("not connected", address=address, reason=reason)
        for name, why in self._book.silent(address, self._now(), self._links.has):
            self.context.log.warning(
                "peer does not answer",
                address=name,
                reason=why,
                hint="is leoronic running there, and does its firewall let "
                f"{name.rpartition(':')[2]}/tcp through? it is called again and again",
            )

    # ---- being called ----

    def _accept(self, lines: LineProtocol) -> None:
        if len(self._strangers) >= STRANGERS_MAX:
            next(iter(self._strangers)).close("too many others wait to say who they are")
        link = self._new_link("", lines)
        self._strangers[link] = None
        self.context.spawn(self._connect(link, remote_address(lines.transport)), "called")

    # ---- both ----

    def _new_link(self, address: str, lines: LineProtocol) -> Link:
        link = Link(
            address, lines, deliver=self._deliver, on_closed=self._closed, on_unknown=self._unknown
        )
        self._connecting.add(link)
        return link

    async def _connect(self, link: Link, remote: Address) -> None:
        """From the first byte to an open connection, or none."""
        try:
            async with asyncio.timeout(HANDSHAKE_S_MAX):
                await self._introduce(link)
                await link.welcome()
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

    async def _introduce(self, link: Link) -> None:
        """Find out who it is, and whether this connection should be. Raises as `Standing.greet`."""
        hello, mine, refused = await self._standing.greet(link, self._node(), self._about())
        if refused is not None:
            if is_copy_of(mine, hello):
                self._on_copied(refused_copy(hello).reason)
            raise LinkRefused(refused.reason, refused.code)
        await self._links.settle(link, is_arbiter=mine.node < hello.node)
        self._strangers.pop(link, None)

    def _refuse(self, link: Link, remote: Address, error: LinkRefused) -> None:
        code, now = error.reason_code, self._now()
        tell = Refused(error.message, code) if error.by_us else None
        link.close(error.message, tell=tell)
        if code == OWN:
            self._book.is_own(link.address, now)
        elif code == DUPLICATE:
            self._book.met(link.address, link.node, now)
        else:
            if code == COPIED and not error.by_us:
                self._on_copied(error.message)
            self._failed(link, remote, error.message)

    def _failed(self, link: Link, remote: Address, reason: str) -> None:
        """Tell people, once for each place and reason."""
        self._book.ended(link.address, reason, self._now())
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
        node, now = link.node, self._now()
        link.open(now)
        link.at = link.address or _listening_at(link.hello.about, remote)
        self._links.add(link)
        self._leases[link] = Lease(opened_ms=self._clock_ms())
        self._connecting.discard(link)
        if link.address:
            self._book.met(link.address, node, now)
        self._told = {key for key in self._told if key[0] not in (link.address, remote.host)}
        self._learn(f"peer {node}", [link.at, *link.hello.about.addresses], node)
        for name in self._book.answered(node):
            self.context.log.info("peer answers", address=name, peer=node)
        self.context.log.info("connected", peer=node, name=link.hello.about.name, address=link.at)
        self._notices.append(self._link_up(link))
        await self._tell()
        if link.phase != CLOSED:
            link.begin()

    def _link_up(self, link: Link) -> LinkUp:
        return LinkUp(link.node, link.hello.about, link.at, link.protocol)

    def _closed(self, link: Link) -> None:
        """Called once for each link, whatever ended it."""
        self._strangers.pop(link, None)
        self._leases.pop(link, None)
        if not self._links.remove(link):
            return
        self.context.log.info("disconnected", peer=link.node, reason=link.reason)
        self._notices.append(LinkDown(link.node, link.reason))
        self.context.spawn(self._tell(), "link down")
        self._book.lost(link.node, self._now())
        self._dial_due()

    async def _tell(self) -> None:
        """Tell those of `NODES_TOLD` all that is noted, in order, however full they are."""
        async with self._telling:
            while self._notices:
                notice = self._notices.popleft()
                for name in NODES_TOLD:
                    ref = self.context.get(name)
                    if ref is not None:
                        await ref.cast(notice)

    # ---- what comes ----

    def _deliver(self, link: Link, message: PeerMessage) -> asyncio.Task[None] | None:
        kind = type(message)
        if kind is Heartbeat:
            self._heard(link, message)  # type: ignore[arg-type]
        elif kind is Assign and self._leases[link].is_stale(self._clock_ms()):
            message = msgspec.structs.replace(message, stale=True)
        ref = self.context.get(RECEIVERS[kind])
        if ref is None:
            return None
        try:
            ref.cast_nowait(message)
        except MailboxFull:
            return self.context.spawn(self._deliver_late(ref, message), f"from {link.node}")
        except Unavailable:
            pass  # It is between two lives: messages to it are lost, as for any cast.
        return None

    @staticmethod
    async def _deliver_late(ref: ActorRef, message: PeerMessage) -> None:
        if isinstance(message, Assign):
            # How long it will wait is not known: better declined than begun too late.
            message = msgspec.structs.replace(message, stale=True)
        await ref.cast(message)

    def _heard(self, link: Link, heartbeat: Heartbeat) -> None:
        self._leases[link].hear(heartbeat, self._clock_ms())
        about = heartbeat.about
        if about is not None and about.life == link.hello.about.life:
            link.hello = msgspec.structs.replace(link.hello, about=about)
            self._learn(f"peer {link.node}", [link.at, *about.addresses], link.node)

    def _unknown(self, kind: str) -> None:
        key = ("", kind)
        if key not in self._told and len(self._told) < TOLD_MAX:
            self._told.add(key)
            self.context.log.info("a newer version's message is ignored", message=kind)


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
