"""Which attempts are taken, and by which node, as one scheduler knows: none is assigned twice.

A node may have ended an attempt, or never got it, before the queue has heard that it began: entries
and offers travel apart. So an attempt that a node no longer has stays taken for a while. If the
queue offers it meanwhile, or waits for it to be given back, it is asked to look again after that.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection

from leoronic.core.run import AttemptKey

# What its node may tell of once it can be reached again is waited for, so often and so long.
POSTPONE_S = 3.0
POSTPONED_MAX = 10


class Claims:
    """See the module. Times are seconds of the caller's clock."""

    def __init__(self) -> None:
        self._node: dict[AttemptKey, str] = {}
        self._until: dict[AttemptKey, float] = {}  # of those that left their node
        self._leaving: list[tuple[float, AttemptKey]] = []  # a heap of the same, with stale ones
        self._postponed: dict[AttemptKey, int] = {}
        self._awaited: dict[AttemptKey, None] = {}  # the queue offers it again if nobody has it

    def __contains__(self, key: AttemptKey) -> bool:
        return key in self._node

    def take(self, key: AttemptKey, node: str) -> None:
        """`node` has it, or is about to."""
        self._node[key] = node
        self._until.pop(key, None)
        self._postponed.pop(key, None)

    def await_end(self, key: AttemptKey) -> None:
        """Tell (by `expire`) when nobody has it any more: the queue must not forget it."""
        self._awaited[key] = None

    def leave(self, key: AttemptKey, node: str, until: float) -> None:
        """`node` no longer has it, or may never get it; it counts as taken until then."""
        if self._node.get(key) == node and self._until.get(key, until + 1.0) > until:
            self._until[key] = until
            heapq.heappush(self._leaving, (until, key))

    def give_back(self, key: AttemptKey, node: str) -> None:
        """`node` says that it has not begun it."""
        if self._node.get(key) == node:
            self._forget(key)

    def _forget(self, key: AttemptKey) -> None:
        del self._node[key]
        self._until.pop(key, None)
        self._postponed.pop(key, None)
        self._awaited.pop(key, None)

    def expire(self, now: float, out_of_reach: Collection[str] = ()) -> list[str]:
        """Let go of what left its node long enough ago; the tasks that the queue must look at.

        Of nodes that are `out_of_reach` the entries are still to come: these get more time.
        """
        awaited: list[str] = []
        while self._leaving and self._leaving[0][0] <= now:
            until, key = heapq.heappop(self._leaving)
            if self._until.get(key) == until:
                postponed = self._postponed.get(key, 0)
                if self._node[key] in out_of_reach and postponed < POSTPONED_MAX:
                    self._postponed[key] = postponed + 1
                    self._until[key] = now + POSTPONE_S
                    heapq.heappush(self._leaving, (now + POSTPONE_S, key))
                    continue
                if key in self._awaited:
                    awaited.append(key[0])
                self._forget(key)
        return awaited

    def due_at(self) -> float | None:
        """When `expire` has something to do next."""
        return self._leaving[0][0] if self._leaving else None

    def of_node(self, node: str) -> list[AttemptKey]:
        """All that `node` has."""
        return [key for key, holder in self._node.items() if holder == node]

    def forget_node(self, node: str) -> bool:
        """Nothing is known of `node` any more; whether it had anything."""
        keys = self.of_node(node)
        for key in keys:
            self._forget(key)
        return bool(keys)

    @property
    def awaiting(self) -> bool:
        """Whether the queue waits for any."""
        return bool(self._awaited)
