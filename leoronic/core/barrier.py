"""What a scheduler must hear before it places tasks of an origin that it has just begun to own.

Another scheduler, or an earlier life of this one, may have assigned them already. So every node is
asked what it has; nothing is placed before all have answered (or are gone), and for `SETTLE_S`
after that, since what ended a moment ago is in entries that are still under way. A node that counts
as there and does not answer (it can't be reached from here) is waited for `WAIT_S_MAX` at most.
"""

from __future__ import annotations

from collections.abc import Iterable

SETTLE_S = 0.25
WAIT_S_MAX = 10.0


class _Barrier:
    def __init__(self, number: int, pending: Iterable[str], give_up_at: float) -> None:
        self.number = number
        self.pending = dict.fromkeys(pending)
        self.clear_at = give_up_at
        self.complete = False


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

    def heard(self, node: str, seen: int, now: float, *, alone: bool) -> None:
        """An offer of `node` answers all up to number `seen`."""
        for barrier in self._barriers.values():
            if seen >= barrier.number:
                barrier.pending.pop(node, None)
                _complete(barrier, now, alone)

    def joined(self, node: str) -> None:
        """`node` is there now: it must be heard as well."""
        for barrier in self._barriers.values():
            if not barrier.complete:
                barrier.pending[node] = None

    def gone(self, node: str, now: float, *, alone: bool) -> None:
        """`node` is not there any more."""
        for barrier in self._barriers.values():
            barrier.pending.pop(node, None)
            _complete(barrier, now, alone)

    def forget(self, origin: str) -> None:
        """Somebody else owns it now."""
        self._clear.pop(origin, None)
        self._barriers.pop(origin, None)

    def origins(self) -> list[str]:
        """All that were asked for."""
        return [*self._clear, *self._barriers]

    def pending(self) -> list[str]:
        """Nodes that are waited for, sorted."""
        return sorted({node for b in self._barriers.values() for node in b.pending})

    def pass_due(self, now: float) -> list[str]:
        """Origins whose tasks may be placed from now on."""
        passed = [origin for origin, b in self._barriers.items() if b.clear_at <= now]
        for origin in passed:
            del self._barriers[origin]
            self._clear[origin] = None
        return passed

    def due_at(self) -> float | None:
        """When `pass_due` has something to do next."""
        return min((b.clear_at for b in self._barriers.values()), default=None)


def _complete(barrier: _Barrier, now: float, alone: bool) -> None:
    if not barrier.pending and not barrier.complete:
        barrier.complete = True
        barrier.clear_at = min(barrier.clear_at, now if alone else now + SETTLE_S)
