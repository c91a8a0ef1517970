"""Who stands in for whom: a pure function of node ids, so that all who see alike decide alike."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence


def owner_of(origin: str, alive: Sequence[str]) -> str:
    """The node that places the tasks of `origin`: itself if it is alive, else its heir.

    The heir is the first of `alive` (sorted ids) after `origin` in ring order. With nobody alive,
    the origin.
    """
    if not alive or origin in alive:
        return origin
    return following(origin, alive)


def following(node: str, alive: Sequence[str]) -> str:
    """The first of `alive` (sorted ids, not empty) after `node` in ring order.

    That is `node` itself only if nobody else is alive.
    """
    return alive[bisect_right(alive, node) % len(alive)]


def some_after(node: str, others: Sequence[str], skip: int, count: int) -> list[str]:
    """At most `count` of `others` (sorted ids) in ring order after `node`, the first `skip` later.

    With a growing `skip` everybody has a turn.
    """
    if not others:
        return []
    at = bisect_right(others, node) + skip
    return [others[(at + step) % len(others)] for step in range(min(count, len(others)))]


def in_ring_order(start: str, nodes: Iterable[str]) -> list[str]:
    """All of `nodes`, beginning with the first after `start` in ring order."""
    ids = sorted(nodes)
    at = bisect_right(ids, start)
    return ids[at:] + ids[:at]
