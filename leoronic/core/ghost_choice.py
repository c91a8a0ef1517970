"""Which node a ghost calls: its choice, and whom it calls when that one is gone.

Of the addresses found, in numeric order: the lowest; or with a number x, the one at x modulo how
many there are; or an address that was given. After that always the next, and after the last the
first. What the clairvoyant tells of other nodes is added to what was found.
"""

from __future__ import annotations

from collections.abc import Iterable

from leoronic.core.addresses import best_first, ip_of, parse_address
from leoronic.core.ghost_messages import NodeTold

ADDRESSES_MAX = 4096


def numeric(address: str) -> tuple[int, int, str, int]:
    """By which addresses are put in order: IPv4, then IPv6, then names."""
    host, port = parse_address(address)
    ip = ip_of(host)
    if ip is None:
        return (9, 0, host, port)
    return (ip.version, int(ip), "", port)


def in_order(addresses: Iterable[str]) -> list[str]:
    """Each once, in numeric order; what cannot be read is left out."""
    readable: dict[str, tuple[int, int, str, int]] = {}
    for address in addresses:
        try:
            readable[address] = numeric(address)
        except ValueError:
            continue
    return sorted(readable, key=readable.__getitem__)


class GhostChoice:
    """See the module. `wanted`: '' (the lowest), a number as text, or an address."""

    def __init__(self, wanted: str = "") -> None:
        self._number: int | None = None
        self._given: str | None = None
        if wanted.isascii() and wanted.isdigit():
            self._number = int(wanted)
        elif wanted:
            self._given = str(parse_address(wanted))
        self._found: list[str] = [] if self._given is None else [self._given]
        self._told: list[NodeTold] = []
        self._node_at: dict[str, str] = {}  # by address: which node was met there
        self._last = ""
        self._tried: dict[str, None] = {}

    # ---- who there is ----

    def find(self, addresses: Iterable[str]) -> None:
        """These were found: all that are known."""
        given = [] if self._given is None else [self._given]
        self._found = in_order([*addresses, *given])[:ADDRESSES_MAX]

    def tell(self, nodes: list[NodeTold]) -> None:
        """The nodes that a clairvoyant says there are."""
        self._told = nodes

    def met(self, address: str, node: str) -> None:
        """That node answers there."""
        if len(self._node_at) >= ADDRESSES_MAX:
            self._node_at.clear()
        self._node_at[address] = node

    def others(self, node: str) -> bool:
        """Whether there is anybody but `node` to call."""
        return any(self._node_of(address) != node for address in self.candidates())

    def candidates(self) -> list[str]:
        """Where to call, in numeric order: one address for each node, as far as that is known."""
        one_each = {node.id: self._address_of(node) for node in self._told}
        told = {node.id: {*node.addresses} for node in self._told}
        covered = {a for node, all_of in told.items() for a in all_of if one_each[node]}
        strangers = [a for a in self._found if a not in covered]
        known = [address for address in one_each.values() if address]
        met = {self._node_at.get(address) for address in known}
        strangers = [a for a in strangers if self._node_at.get(a, a) not in met]
        return in_order([*known, *strangers])

    def _address_of(self, node: NodeTold) -> str:
        """Where that node is best called: where it was found, else where it says."""
        found = [a for a in self._found if a in node.addresses or self._node_at.get(a) == node.id]
        return next(iter([*found, *best_first(node.addresses)]), "")

    def _node_of(self, address: str) -> str:
        for node in self._told:
            if address in node.addresses:
                return node.id
        return self._node_at.get(address, address)

    # ---- whom to call ----

    def first(self) -> str:
        """The one that was chosen; '' if there is none."""
        if self._given is not None:
            chosen = self._given
        else:
            candidates = self.candidates()
            if not candidates:
                return ""
            chosen = candidates[(self._number or 0) % len(candidates)]
        return self._call(chosen)

    def next(self) -> str:
        """The next after the one called last; '' if all were called since `begin_round`."""
        candidates = self.candidates()
        if not self._last:
            return self.first()
        later = [a for a in candidates if _after(a, self._last)]
        earlier = [a for a in candidates if a not in later]
        untried = (address for address in [*later, *earlier] if address not in self._tried)
        return self._call(next(untried, ""))

    def begin_round(self, *, but: str = "") -> None:
        """All may be called (again), `but` that one last."""
        self._tried = {but: None} if but and self.others(self._node_of(but)) else {}

    def _call(self, address: str) -> str:
        if address:
            self._last = address
            self._tried[address] = None
        return address


def _after(one: str, other: str) -> bool:
    try:
        return numeric(one) > numeric(other)
    except ValueError:
        return False
