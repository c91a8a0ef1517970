"""Which addresses to call, and when: every place where a node may be, with a growing pause each.

Pure: times are seconds of any steady clock, handed in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

WAIT_S_MIN = 0.1
WAIT_S_MAX = 30.0
# Where a node was met before, one is likely again: after a split all should be quick to heal.
MET_WAIT_S_MAX = 5.0
# It is this node itself; but addresses are given to other machines some day.
OWN_WAIT_S = 300.0
ADDRESSES_MAX = 2048
# Whom a person named, and who has not answered for so long, is worth a word.
SILENT_S = 10.0
NAMED = "static "
DIALS_MAX = 8


@dataclass(slots=True)
class Place:
    """One address (HOST:PORT). `node` is there as far as is known; `met`: it was seen there.

    `reason`: why nobody was met the last time. `sources`: who told of it. It is called at `at`;
    `dialling` while that is under way. `own`: it is this node's.
    `missed_at`: since when nobody is met.
    """

    address: str
    node: str = ""
    met: bool = False
    reason: str = ""
    at: float = 0.0
    wait_s: float = 0.0
    own: bool = False
    dialling: bool = False
    missed_at: float | None = None
    sources: set[str] = field(default_factory=set)


class AddressBook:
    """All places known. Calls at most `dials_max` at once, none where a connected node is."""

    def __init__(self, *, dials_max: int = DIALS_MAX, addresses_max: int = ADDRESSES_MAX) -> None:
        self._dials_max = dials_max
        self._addresses_max = addresses_max
        self._places: dict[str, Place] = {}
        self._told: dict[str, frozenset[str]] = {}
        self._dialling = 0
        # By source: what was said of its silence since it answered the last time.
        self._said: defaultdict[str, set[str]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._places)

    def places(self) -> list[Place]:
        """All of them, by address."""
        return [self._places[address] for address in sorted(self._places)]

    def told(self, source: str, addresses: Iterable[str], now: float, node: str = "") -> None:
        """`source` knows of these addresses (of `node`, if it says so), and of no others any more.

        What is news is called at once; what it told before keeps its pause.
        """
        wanted = frozenset(addresses)
        before = self._told.get(source, frozenset())
        for address in sorted(wanted - before):
            place = self._place(address)
            place.sources.add(source)
            if node and not place.met:
                place.node = node
            if not place.own:
                place.at, place.wait_s = now, 0.0
        for address in sorted(before - wanted):
            gone = self._places.get(address)
            if gone is not None:
                gone.sources.discard(source)
                self._drop_unwanted(gone)
        self._told.pop(source, None)
        if wanted:
            self._told[source] = wanted

    def due(self, now: float, connected: Callable[[str], bool]) -> list[str]:
        """Addresses to call now, those that have waited longest first; each is `dialling` then."""
        room = self._dials_max - self._dialling
        waiting = [place for place in self._waiting(connected) if place.at <= now]
        chosen = sorted(waiting, key=lambda place: (place.at, place.address))[: max(0, room)]
        for place in chosen:
            place.dialling = True
        self._dialling += len(chosen)
        return [place.address for place in chosen]

    def next_at(self, connected: Callable[[str], bool]) -> float | None:
        """When `due` should be asked again, unless something happens before."""
        if self._dialling >= self._dials_max:
            return None
        return min((place.at for place in self._waiting(connected)), default=None)

    def _waiting(self, connected: Callable[[str], bool]) -> Iterable[Place]:
        return (
            place
            for place in self._places.values()
            if not place.dialling and not (place.node and connected(place.node))
        )

    def ended(self, address: str, reason: str, now: float) -> bool:
        """A call is over: nobody was met (`reason`). Whether that reason is new there."""
        place = self._over(address)
        if place is None:
            return False
        most_s = MET_WAIT_S_MAX if place.met else WAIT_S_MAX
        place.wait_s = min(most_s, max(WAIT_S_MIN, 2 * place.wait_s))
        place.at = now + place.wait_s
        is_news = place.reason != reason
        if place.missed_at is None:
            place.missed_at = now
        place.reason, place.own = reason, False
        self._drop_unwanted(place)
        return is_news

    def met(self, address: str, node: str, now: float) -> None:
        """A call is over: `node` is there. Not called while it is connected, soon when it isn't."""
        place = self._over(address)
        if place is not None:
            place.node, place.met, place.reason, place.own = node, True, "", False
            place.missed_at = None
            place.wait_s, place.at = WAIT_S_MIN, now + WAIT_S_MIN

    def is_own(self, address: str, now: float) -> None:
        """A call is over: this node called itself."""
        place = self._over(address)
        if place is not None:
            place.own, place.node, place.met, place.reason = True, "", False, ""
            place.missed_at = None
            place.at = now + OWN_WAIT_S

    def silent(
        self, address: str, now: float, connected: Callable[[str], bool]
    ) -> list[tuple[str, str]]:
        """Whom people named (`static NAME`) with this address, and who answers at none of theirs.

        As (name, why), once they have been silent for `SILENT_S`; each reason once, until they
        have answered.
        """
        place = self._places.get(address)
        found = []
        for source in sorted(place.sources) if place is not None else []:
            places = self._places_of(source)
            if not source.startswith(NAMED) or any(
                one.missed_at is None or now - one.missed_at < SILENT_S or connected(one.node)
                for one in places
            ):
                continue
            why = "; ".join(dict.fromkeys(one.reason for one in places))
            if why not in self._said[source]:
                self._said[source].add(why)
                found.append((source.removeprefix(NAMED), why))
        return found

    def answered(self, node: str) -> list[str]:
        """`node` is connected: those told by `silent` whom it stands for; each once."""
        found = [
            source
            for source in sorted(self._said)
            if any(place.node == node for place in self._places_of(source))
        ]
        for source in found:
            del self._said[source]
        return [source.removeprefix(NAMED) for source in found]

    def _places_of(self, source: str) -> list[Place]:
        addresses = sorted(self._told.get(source, ()))
        return [self._places[address] for address in addresses if address in self._places]

    def lost(self, node: str, now: float) -> None:
        """The connection to `node` is gone: call where it was soon."""
        for place in self._places.values():
            if place.node == node:
                place.wait_s, place.at = WAIT_S_MIN, now + WAIT_S_MIN

    def _over(self, address: str) -> Place | None:
        place = self._places.get(address)
        if place is not None and place.dialling:
            place.dialling = False
            self._dialling -= 1
        return place

    def _place(self, address: str) -> Place:
        place = self._places.get(address)
        if place is None:
            if len(self._places) >= self._addresses_max:
                self._make_room()
            place = self._places[address] = Place(address)
        return place

    def _make_room(self) -> None:
        """Forget where nobody was met, and of these the one that was tried most."""
        spare = [place for place in self._places.values() if not place.dialling]
        if spare:
            worst = max(spare, key=lambda place: (not place.met, place.wait_s, place.address))
            del self._places[worst.address]

    def _drop_unwanted(self, place: Place) -> None:
        # Where a node was met stays: it may be the only way back to it.
        if not place.sources and not place.met and not place.dialling:
            self._places.pop(place.address, None)
