"""What a scheduler must hear before it places tasks of an origin that it has just begun to own.

Another scheduler, or an earlier life of this one, may have assigned them already. So every node is
asked what it has; nothing is placed before all have answered (or are gone), and the queue goes by
the entries that each answer stands on: what ended a moment ago is in these, and not in the answer.
Nor is anything placed for `SETTLE_S` after the last answer, since what another scheduler assigned
a moment ago may still be under way. A node that counts as there and does not answer, or whose
entries do not come (it can't be reached from here), is waited for `WAIT_S_MAX` at most.
"""

from __future__ import annotations

from collections.abc import Iterable

SETTLE_S = 0.25
WAIT_S_MAX = 10.0


class _Barrier:
    def __init__(self, number: int, pending: Iterable[str], give_up_at: float) -> None:
        self.number = number
        self.pending = dict.fromkeys(pending)
        self.behind: dict[str, int] = {}  # by origin, the number of an entry that is awaited
        self.give_up_at = give_up_at
        self.settled_at: float | None = None  # known once all were heard

    def clear_at(self) -> float:
        """When it opens, if nothing comes before that."""
        if self.behind or self.settled_at is None:
            return self.give_up_at
        return min(self.settled_at, self.give_up_at)


class Barriers:
    """By origin. `alone`: there is nobody but this node, whose word needs no time to settle."""

    def __init__(self) -> None:
        self._barriers: dict[str, _Barrier] = {}
        self._clear: dict[str, None] = {}

    def knows(self, origin: str) -> bool:
        """Whether it was asked for already."""
        return origin in self._clear or origin in self._barriers

    def is_clear(self, origin: str) -> bool:
        """Whether tasks of `origin` may be placed."""
        return origin in self._clear

    def begin(self, origin: str, number: int, nodes: Iterable[str], now: float) -> None:
        """Wait for offers of `nodes` that answer `number`."""
        self._clear.pop(origin, None)
        self._barriers[origin] = _Barrier(number, nodes, now + WAIT_S_MAX)

    def heard(
        self, node: str, seen: int, entries: dict[str, int], now: float, *, alone: bool
    ) -> bool:
        """An offer of `node` answers all up to number `seen`, and stands on `entries`, by origin.

        Whether there is something new to be asked for: see `behind`.
        """
        news = False
        for barrier in self._barriers.values():
            if seen >= barrier.number and node in barrier.pending:
                del barrier.pending[node]
                for origin, number in entries.items():
                    if number > barrier.behind.get(origin, 0):
                        barrier.behind[origin] = number
                        news = True
                _complete(barrier, now, alone)
        return news

    def reached(self, have: dict[str, int]) -> None:
        """The queue goes by all entries up to these numbers, by origin."""
        for barrier in self._barriers.values():
            barrier.behind = {
                node: number
                for node, number in barrier.behind.items()
                if have.get(node, 0) < number
            }

    def joined(self, node: str) -> None:
        """`node` is there now: it must be heard as well."""
        for barrier in self._barriers.values():
            if barrier.settled_at is None:
                barrier.pending[node] = None

    def gone(self, node: str, now: float, *, alone: bool) -> None:
        """`node` is not there any more."""
        for barrier in self._barriers.values():
            barrier.pending.pop(node, None)
            barrier.behind.pop(node, None)
            _complete(barrier, now, alone)

    def forget(self, origin: str) -> None:
        """Somebody else owns it now."""
        self._clear.pop(origin, None)
        self._barriers.pop(origin, None)

    def origins(self) -> list[str]:
        """All that were asked for."""
        return [*self._clear, *self._barriers]

    def pending(self) -> list[str]:
        """Nodes that have not answered, sorted."""
        return sorted({node for b in self._barriers.values() for node in b.pending})

    def behind(self) -> dict[str, int]:
        """By origin: up to which of its entries the queue must have come."""
        found: dict[str, int] = {}
        for barrier in self._barriers.values():
            for node, number in barrier.behind.items():
                found[node] = max(number, found.get(node, 0))
        return found

    def waited_for(self) -> list[str]:
        """Nodes whose answer or entries have not come, sorted."""
        return sorted({*self.pending(), *self.behind()})

    def pass_due(self, now: float) -> list[str]:
        """Origins whose tasks may be placed from now on."""
        passed = [origin for origin, b in self._barriers.items() if b.clear_at() <= now]
        for origin in passed:
            del self._barriers[origin]
            self._clear[origin] = None
        return passed

    def due_at(self) -> float | None:
        """When `pass_due` has something to do next."""
        return min((b.clear_at() for b in self._barriers.values()), default=None)


def _complete(barrier: _Barrier, now: float, alone: bool) -> None:
    if not barrier.pending and barrier.settled_at is None:
        barrier.settled_at = now if alone else now + SETTLE_S
