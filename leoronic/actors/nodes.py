"""Which nodes there are, for people: names and ids to nodes, and who can be asked.

One `Nodes` is shared by the doors of a node, as they only read it; the control actor keeps it up to
date with each `View`. So it outlives a restart of each of them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

from leoronic.core.ring import owner_of
from leoronic.core.view import DOWN, LEFT, GhostMember, Member, View
from leoronic.errors import Ambiguous, NotFound, Unavailable

NAMES_MAX = 10_000


class Nodes:
    """`me` gives this node's id once the journal is open; `name` is its name."""

    def __init__(self, me: Callable[[], str], name: str) -> None:
        self._me = me
        self._name = name
        self._view: View | None = None
        self._seen_at = time.monotonic()
        self._names: dict[str, str] = {}
        self._shown: dict[str, str] | None = None  # worked out when it is asked for

    @property
    def me(self) -> str:
        """This node's id."""
        return self._me()

    @property
    def view(self) -> View:
        """The newest view; of this node alone, before membership has told."""
        return self._view or View(self.me, {})

    @property
    def view_age_s(self) -> float:
        """Seconds since the newest view came."""
        return time.monotonic() - self._seen_at

    def see(self, view: View) -> None:
        """This is how it is now."""
        self._view = view
        self._seen_at = time.monotonic()
        self._shown = None
        for member in view.everyone():
            # The newest last: of nodes that are long forgotten the oldest names go.
            self._names.pop(member.id, None)
            self._names[member.id] = member.about.name
        while len(self._names) > NAMES_MAX:
            del self._names[next(iter(self._names))]

    # ---- names ----

    def names(self) -> Mapping[str, str]:
        """{id: name} of all nodes known by name, past ones too. No two are called the same.

        Where nodes share a name, that alone means the one that is there; if several are, none.
        """
        me = self.me
        if self._shown is None or me not in self._shown:
            self._shown = self._distinct({**self._names, me: self._name})
        return self._shown

    def _distinct(self, known: dict[str, str]) -> dict[str, str]:
        shared = {name for name, count in Counter(known.values()).items() if count > 1}
        if not shared:
            return known
        there = self._there()
        bearers = Counter(known[node] for node in there if node in known)
        return {
            node: f"{name} ({node})"
            if name in shared and (bearers[name] > 1 or node not in there)
            else name
            for node, name in known.items()
        }

    def name(self, node: str) -> str:
        """What people call a node; its id if its name is not known."""
        return self.names().get(node, node)

    def find(self, ref: str) -> str:
        """The id of the node that `ref` names: by name, id, or a unique beginning of an id.

        Empty: this node. A name means a node that is there, if any of that name is. Raises
        `NotFound`, `Ambiguous`.
        """
        if not ref or ref == self.me:
            return self.me
        members = self.everyone()
        if ref in members:
            return ref
        there = self._there()
        named = [node for node in members if self._plain_name(node) == ref]
        found = [node for node in named if node in there] or named
        if not found:
            found = [node for node in members if node.startswith(ref)]
            found += [node for node in members if self.name(node) == ref and node not in found]
        if len(found) > 1:
            raise Ambiguous(
                f"{ref} fits several nodes ({', '.join(found)}): say which by its id, as "
                "`leoronic nodes` shows it"
            )
        if not found:
            known = ", ".join(sorted(self.name(node) for node in there))
            raise NotFound(f"there is no node {ref!r}; there are: {known}")
        return found[0]

    # ---- who is there ----

    def members(self) -> dict[str, Member | None]:
        """All known nodes by id, sorted. This node may be None, before membership has told."""
        found: dict[str, Member | None] = {self.me: None}
        found.update(self.view.members)
        return dict(sorted(found.items()))

    def everyone(self) -> dict[str, Member | GhostMember | None]:
        """As `members`, and then all known ghosts."""
        return {**self.members(), **dict(sorted(self.view.ghosts.items()))}

    def others(self) -> list[str]:
        """Ids of the other nodes that count as there, sorted."""
        return self.view.peers()

    def alive(self) -> list[str]:
        """Ids of all nodes that count as there, sorted; this node among them."""
        return sorted({self.me, *self.view.alive()})

    def why_gone(self, node: str) -> str:
        """Why a node or ghost can't be asked, as a sentence; empty if it counts as there."""
        if node == self.me:
            return ""
        member = self.view.find(node)
        if member is None:
            return f"{self.name(node)} is not known here (any more)"
        if member.alive:
            return ""
        why = f" ({member.reason})" if member.reason else ""
        if member.state == LEFT:
            return f"{self.name(node)} has left{why}: start it again"
        return f"{self.name(node)} is {DOWN}{why}"

    def check_there(self, node: str) -> None:
        """Raise `Unavailable` if the node does not count as there."""
        if why := self.why_gone(node):
            raise Unavailable(why)

    def owner_of(self, origin: str) -> str:
        """The node that places the tasks of `origin`."""
        return owner_of(origin, self.view.owners()) if self._view else self.me

    def _there(self) -> set[str]:
        return {self.me, *self.view.executors()}

    def _plain_name(self, node: str) -> str:
        return self._name if node == self.me else self._names.get(node, node)
