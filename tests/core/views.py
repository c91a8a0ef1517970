"""Views for tests: who is there, in few words."""

from __future__ import annotations

from leoronic.core.resources import Capacity
from leoronic.core.view import About, Member, View

BIG = Capacity(1_000_000, 1 << 40, 1 << 40)


def make_view(
    me: str,
    *members: str,
    capacity: Capacity = BIG,
    capacities: dict[str, Capacity] | None = None,
    catching_up: tuple[str, ...] = (),
) -> View:
    """A view of `me` and `members`, each an id, or `ID STATE REASON`. A node's name is NAME-ID."""
    found: dict[str, Member] = {}
    for text in (me, *members):
        node, _, rest = text.partition(" ")
        state, _, reason = rest.partition(" ")
        about = About(f"name-{node}", "1", 1, capacity=(capacities or {}).get(node, capacity))
        found[node] = Member(node, about, state or "up", node not in catching_up, reason=reason)
    return View(me, found)
