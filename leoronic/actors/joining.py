"""How machines come in: the line to paste there, and the secret that lets them.

The cookie changes without stopping anything: first every node accepts the new one beside the old
one, then each uses it; the old one is accepted until somebody says `finish`, so that nodes that
were away can come back, and are told of the new one then.
"""

from __future__ import annotations

import asyncio
from typing import Any

from leoronic.actors.asking import ask
from leoronic.actors.node_answers import NodeInfo
from leoronic.actors.nodes import NAMES_MAX, Nodes
from leoronic.actors.peer_commands import TakeCookie
from leoronic.actors.peers_messages import CookieChanged
from leoronic.core import commands
from leoronic.core.addresses import best_first, ghost_line, join_line
from leoronic.errors import BadRequest, LeoronicError, Refused
from leoronic.runtime.ref import ActorRef
from leoronic.wire.cookie import COOKIES_MAX, fingerprint, new_cookie, read_cookies, write_cookies
from leoronic.wire.ghost_identity import token_of

# A slow machine needs a second to make its certificate.
CHANGE_S = 60.0
ASK_S = 60.0
TELL_S = 10.0
TELL_AGAIN_S = 5.0
TELL_TIMES = 10


class Joining:
    """`questions` and `peers` are None where there are no others.

    Who held which cookie when it was last asked is remembered, so that it can be told of nodes that
    are away.
    """

    def __init__(
        self,
        info: NodeInfo,
        nodes: Nodes,
        questions: ActorRef | None,
        peers: ActorRef | None,
    ) -> None:
        self._info = info
        self._nodes = nodes
        self._questions = questions
        self._peers = peers
        self._there: set[str] = set()
        self._held: dict[str, str] = {}

    async def join(self, command: commands.Join) -> dict[str, Any]:
        """How to bring another machine in."""
        member = self._nodes.view.members.get(self._nodes.me)
        addresses = best_first(member.about.addresses) if member else []
        if not addresses:
            raise Refused("this node has no address at which another machine could reach it")
        cookie = self._read()[0]
        if command.ghost:
            token = (await asyncio.to_thread(token_of, cookie)).encode()
            line = ghost_line(token, addresses)
            return {"addresses": addresses, "token": token, "line": line}
        return {
            "addresses": addresses,
            "cookie": cookie,
            "line": join_line(cookie, addresses),
        }

    async def cookie(self, command: commands.Cookie) -> dict[str, Any]:
        """Show the cookie, change it everywhere, or end the change."""
        match command.action:
            case "show":
                return await self._shown()
            case "rotate":
                return await self._rotate()
            case "finish":
                return await self._finish()
        raise BadRequest(f"{command.action!r} is no action: show, rotate or finish")

    async def take(self, command: TakeCookie) -> dict[str, Any]:
        """One step, told by another node or for this one. Harmless if it is repeated."""
        # Nobody else comes between reading and writing: this does not wait for anything.
        cookies = self._read()
        wanted = _after_step(cookies, command)
        if wanted != cookies:
            self._write(wanted)
            if self._peers is not None:
                await self._peers.call(CookieChanged(), timeout_s=CHANGE_S)
        return {
            "fingerprint": fingerprint(wanted[0]),
            "old": fingerprint(wanted[1]) if len(wanted) > 1 else "",
        }

    async def tell_newcomers(self) -> None:
        """Whoever is there now and was not before: it may lack the newest cookie."""
        there = set(self._nodes.others())
        new, self._there = sorted(there - self._there), there
        if not new or not self._info.cookie_path.exists():
            return
        await asyncio.gather(*map(self._tell, new))

    def _is_mine(self, node: str) -> bool:
        """Whether it is first for this node to tell `node`: it is the least of those there.

        If not all hold the same as the newest, that is how they come to.
        """
        return self._nodes.me == min(one for one in self._nodes.alive() if one != node)

    async def _tell(self, node: str) -> None:
        for _ in range(TELL_TIMES):
            cookies = self._read()
            if node not in self._there or len(cookies) == 1:
                return
            # Who is to tell may not reach it: the others look whether that has been done.
            if self._is_mine(node) or await self._has_old(node, cookies):
                answer = await self._ask(node, TakeCookie("use", cookies[0]), TELL_S)
                if answer is not None:
                    return
            await asyncio.sleep(TELL_AGAIN_S)

    async def _has_old(self, node: str, cookies: list[str]) -> bool:
        """Whether it still uses one that came before ours."""
        answer = await self._ask(node, TakeCookie("show"), TELL_S)
        return any(_has(answer, fingerprint(cookie)) for cookie in cookies[1:])

    # ---- actions ----

    async def _shown(self) -> dict[str, Any]:
        cookies = self._read()
        mine = fingerprint(cookies[0])
        told = await self._ask_all(TakeCookie("show"))
        known = [node for node in self._nodes.members() if node != self._nodes.me]
        away = [node for node in known if self._nodes.why_gone(node)]
        return {
            "cookie": cookies[0],
            "fingerprint": mine,
            "old": fingerprint(cookies[1]) if len(cookies) > 1 else "",
            "nodes": {
                self._nodes.name(self._nodes.me): True,
                **{
                    self._nodes.name(node): self._held.get(node) == mine
                    if node in away
                    else _has(told.get(node), mine)
                    for node in known
                },
            },
            "not_there": [self._nodes.name(node) for node in away],
        }

    async def _rotate(self) -> dict[str, Any]:
        if len(self._read()) > 1:
            raise Refused(
                "the cookie is being changed already: `leoronic cookie` shows who lacks the new "
                "one, and `leoronic cookie finish` ends it"
            )
        cookie = new_cookie()
        for step in ("accept", "use"):
            await self.take(TakeCookie(step, cookie))
            await self._ask_all(TakeCookie(step, cookie))
        return await self._shown()

    async def _finish(self) -> dict[str, Any]:
        cookie = self._read()[0]
        mine = fingerprint(cookie)
        told = await self._ask_all(TakeCookie("use", cookie))
        lacking = [node for node, answer in told.items() if not _has(answer, mine)]
        if lacking:
            names = ", ".join(self._nodes.name(node) for node in lacking)
            raise Refused(f"{names} did not take the new cookie yet: try again soon")
        await self._ask_all(TakeCookie("finish", cookie))
        await self.take(TakeCookie("finish", cookie))
        return await self._shown()

    async def _ask_all(self, command: TakeCookie) -> dict[str, dict[str, Any] | None]:
        """What those that are there answer; None if they don't."""
        others = self._nodes.others()
        answers = await asyncio.gather(*(self._ask(node, command) for node in others))
        return dict(zip(others, answers, strict=True))

    async def _ask(
        self, node: str, command: TakeCookie, timeout_s: float = ASK_S
    ) -> dict[str, Any] | None:
        if self._questions is None:
            return None
        try:
            found: dict[str, Any] = (await ask(self._questions, node, command, timeout_s)).result
        except LeoronicError:
            return None
        # Remembered for when it is away.
        self._held.pop(node, None)
        self._held[node] = found.get("fingerprint", "")
        if len(self._held) > NAMES_MAX:
            del self._held[next(iter(self._held))]
        return found

    # ---- the file ----

    def _read(self) -> list[str]:
        try:
            return read_cookies(self._info.cookie_path)
        except FileNotFoundError:
            path = self._info.cookie_path
            raise Refused(f"{path} is gone: start the node again, it makes one") from None

    def _write(self, cookies: list[str]) -> None:
        try:
            write_cookies(self._info.cookie_path, cookies)
        except OSError as error:
            path = self._info.cookie_path
            raise Refused(f"{path} can't be written: {error.strerror}") from error


def _after_step(cookies: list[str], command: TakeCookie) -> list[str]:
    """The cookies of the file after a step, the current one first."""
    others = [cookie for cookie in cookies if cookie != command.cookie]
    match command.step:
        case "show":
            return cookies
        case "accept":
            found = cookies if command.cookie in cookies else [*cookies, command.cookie]
        case "use":
            found = [command.cookie, *others]
        case "finish":
            found = [command.cookie]
        case _:
            raise BadRequest(f"{command.step!r} is no step: show, accept, use or finish")
    if len(found) > COOKIES_MAX:
        raise Refused(
            f"{len(cookies)} cookies are accepted already: `leoronic cookie finish` first"
        )
    return found


def _has(answer: dict[str, Any] | None, mine: str) -> bool:
    return answer is not None and answer.get("fingerprint") == mine
