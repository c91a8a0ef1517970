"""Whose task is whose, as one node sees it. By level: it follows from the view alone."""

from __future__ import annotations

from leoronic.core.ring import owner_of
from leoronic.core.unheard import Unheard
from leoronic.core.view import LEFT, GhostMember, View


class Ownership:
    """What the queue takes from the view. Without one, nothing is anybody's."""

    def __init__(self, unheard: Unheard) -> None:
        self.me = ""
        self._unheard = unheard
        self.view: View | None = None
        self._owners: list[str] = []
        self._ghosts_here: frozenset[str] = frozenset()

    def see(self, view: View) -> None:
        """The view is another now."""
        self.view = view
        self.me = view.me
        self._owners = view.owners()
        mine = [g.id for g in view.ghosts.values() if g.clairvoyant == view.me and g.alive]
        self._ghosts_here = frozenset(mine)

    def is_here(self, node: str) -> bool:
        """Whether `node` is this one, or a ghost that is attached to it."""
        return node == self.me or node in self._ghosts_here

    def owner(self, origin: str) -> str:
        """The node that places the tasks of `origin`; "" if nobody can, or it is not known yet."""
        if not self._owners or self._is_awaited(origin):
            return ""
        return owner_of(origin, self._owners)

    def is_mine(self, origin: str) -> bool:
        """Whether this node places the tasks of `origin`."""
        return bool(self._owners) and self.owner(origin) == self.me

    def is_gone(self, node: str) -> bool:
        """Whether this node goes on without `node`."""
        if self.view is None or node == self.me or self._is_awaited(node):
            return False
        member = self.view.find(node)
        return member is None or not member.alive

    def _is_awaited(self, node: str) -> bool:
        """Whether nobody has told this node of `node`, and somebody may."""
        if self.view is None or node == self.me or self.view.find(node) is not None:
            self._unheard.known(node)
            return False
        return self._unheard.is_awaited(node)

    def why_gone(self, node: str) -> str:
        """The same in words."""
        member = None if self.view is None else self.view.find(node)
        if member is None:
            return f"node {node} is not known"
        kind = "ghost" if isinstance(member, GhostMember) else "node"
        if member.state == LEFT:
            return f"{kind} {self.name(node)} has left"
        return f"{kind} {self.name(node)} is down" + (f": {member.reason}" if member.reason else "")

    def name(self, node: str) -> str:
        """What people call `node`."""
        member = None if self.view is None else self.view.find(node)
        return member.about.name if member is not None else node
