"""The connections that are open, one for each node, and which of two stays.

The node with the smaller id is the arbiter of a pair: it alone refuses a second connection, the
other takes what the arbiter welcomes. So both always keep the same one.
"""

from __future__ import annotations

from leoronic.actors.link import Link, LinkRefused
from leoronic.wire.hello import BUSY, DUPLICATE, refused_copy

# A connection that does not answer for so long gives way to a new one of the same node.
SILENT_S_MAX = 1.0
LINKS_MAX = 1024


class LinkTable:
    """Open connections by node. `settle` is asked before one is welcomed, `add` once it is open."""

    def __init__(self) -> None:
        self._open: dict[str, Link] = {}
        self._welcomed: dict[str, Link] = {}

    def get(self, node: str) -> Link | None:
        """The connection to `node`."""
        return self._open.get(node)

    def has(self, node: str) -> bool:
        """Whether `node` is connected."""
        return node in self._open

    def all(self) -> list[Link]:
        """All of them, by node."""
        return [self._open[node] for node in sorted(self._open)]

    async def settle(self, link: Link, *, is_arbiter: bool) -> None:
        """Let `link` be the connection to its node. Raises `LinkRefused` if another one is."""
        node, life = link.node, link.hello.about.life
        old = self._open.get(node)
        if old is not None and (is_arbiter or old.hello.about.life != life):
            # Asked, as clocks tell nothing: a core that was killed and started again has another
            # life too, and its old connection may look open until something is sent.
            if not await old.answers(SILENT_S_MAX):
                old.close("it was silent, and calls again", abort=True)
            elif old.hello.about.life == life:
                raise LinkRefused("connected already", DUPLICATE)
            elif old.hello.about.life < life:
                refused = refused_copy(old.hello)
                raise LinkRefused(refused.reason, refused.code)
            else:
                old.close("it is a copy of another node", tell=refused_copy(link.hello))
        other = self._welcomed.get(node)
        if is_arbiter and other is not None and other is not link:
            raise LinkRefused("connected already", DUPLICATE)
        if node not in self._open and len(self._open) >= LINKS_MAX:
            raise LinkRefused(f"this node has {LINKS_MAX} connections, which is its limit", BUSY)
        self._welcomed[node] = link

    def add(self, link: Link) -> None:
        """It is open; one to the same node that it replaces is closed."""
        old = self._open.get(link.node)
        if old is not None:
            old.close("a newer connection took its place")
        self._welcomed.pop(link.node, None)
        self._open[link.node] = link

    def remove(self, link: Link) -> bool:
        """It is closed. Whether it was the one to its node."""
        if self._welcomed.get(link.node) is link:
            del self._welcomed[link.node]
        if self._open.get(link.node) is not link:
            return False
        del self._open[link.node]
        return True

    def clear(self) -> list[Link]:
        """Forget all; returns them."""
        links = self.all()
        self._open.clear()
        self._welcomed.clear()
        return links
