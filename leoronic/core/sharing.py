"""Who may start something on this executor now, where several schedulers want to.

Whoever is interested has a task that waits for room here. Of these, one that holds less than its
share (an equal part for each) is let in before those that hold their share or more; among equals,
before who was let in later. So that nothing idles for long, room is kept for nobody longer than
`KEEP_S` at a time. A *reservation* keeps room for one big task: whatever would delay it waits.
"""

from __future__ import annotations

from leoronic.core.resources import Capacity, Ledger, Need
from leoronic.core.run import AttemptKey

KEEP_S = 1.0
AGAIN_S = 5.0
INTEREST_S = 15.0
RESERVE_S_MAX = 30.0


class _Owner:
    __slots__ = ("interested_until", "kept_since", "let_in_at", "need", "used")

    def __init__(self) -> None:
        self.interested_until = float("-inf")
        self.need: Need | None = None  # of a task that waits for room here
        self.let_in_at = float("-inf")
        self.kept_since: float | None = None  # since when room is kept for it
        self.used: list[int] = [0, 0]  # cpus (thousandths) and memory of what it runs here


class _Reservation:
    def __init__(self, owner: str, class_number: int, need: Need, until: float) -> None:
        self.owner = owner
        self.class_number = class_number
        self.need = need
        self.until = until
        self.beside: dict[AttemptKey, Need] = {}  # what was started here since


class Sharing:
    """See the module. Owners are node ids; times seconds of the caller's clock."""

    def __init__(self) -> None:
        self._owners: dict[str, _Owner] = {}
        self._of: dict[AttemptKey, tuple[str, Need]] = {}
        self._reservation: _Reservation | None = None

    # ---- what owners say ----

    def interest(self, owner: str, need: Need | None, now: float) -> None:
        """It wants to be told what gets free; `need` is what waits for room here, if anything."""
        known = self._owners.setdefault(owner, _Owner())
        known.interested_until = now + INTEREST_S
        known.need = need

    def no_interest(self, owner: str) -> None:
        """It has nothing to place any more."""
        known = self._owners.get(owner)
        if known is not None:
            known.interested_until = float("-inf")
            known.need = None
            self._tidy(owner, known)

    def interested(self, now: float) -> list[str]:
        """Owners that want to be told, sorted."""
        return sorted(o for o, known in self._owners.items() if known.interested_until > now)

    def keep_only(self, alive: list[str]) -> None:
        """All other owners are gone, and with them what they asked for."""
        for owner in [owner for owner in self._owners if owner not in alive]:
            self.no_interest(owner)
        if self._reservation is not None and self._reservation.owner not in alive:
            self._reservation = None

    def reserve(
        self, owner: str, class_number: int, need: Need | None, until: float, now: float
    ) -> None:
        """Keep room for a task of the owner's class; `need` None: no longer. First come."""
        until = min(until, now + RESERVE_S_MAX)
        held = self._reservation
        mine = held is not None and (held.owner, held.class_number) == (owner, class_number)
        if need is None:
            if mine:
                self._reservation = None
        elif held is not None and mine:
            held.need, held.until = need, until
        elif held is None or held.until <= now:
            self._reservation = _Reservation(owner, class_number, need, until)

    # ---- what runs ----

    def starts(
        self, key: AttemptKey, owner: str, class_number: int, need: Need, now: float
    ) -> None:
        """An attempt of `owner` takes a share of the node."""
        known = self._owners.setdefault(owner, _Owner())
        known.let_in_at = now
        known.kept_since = None
        self._count(key, owner, need)
        reservation = self._reservation
        if reservation is not None:
            if (reservation.owner, reservation.class_number) == (owner, class_number):
                self._reservation = None
            else:
                reservation.beside[key] = need

    def holds(self, key: AttemptKey, owner: str, need: Need) -> None:
        """An attempt of `owner` has a share since before."""
        self._owners.setdefault(owner, _Owner())
        self._count(key, owner, need)

    def _count(self, key: AttemptKey, owner: str, need: Need) -> None:
        self._of[key] = (owner, need)
        used = self._owners[owner].used
        used[0] += need.cpus_milli
        used[1] += need.memory

    def ends(self, key: AttemptKey, successor: AttemptKey | None = None) -> None:
        """It has its share no longer; `successor`, of the same owner, takes it over."""
        found = self._of.pop(key, None)
        if found is None:
            return
        owner, need = found
        known = self._owners[owner]
        beside = None if self._reservation is None else self._reservation.beside
        was_beside = beside is not None and beside.pop(key, None) is not None
        if successor is not None:
            self._of[successor] = found
            if beside is not None and was_beside:
                beside[successor] = need
            return
        known.used[0] -= need.cpus_milli
        known.used[1] -= need.memory
        self._tidy(owner, known)

    def _tidy(self, owner: str, known: _Owner) -> None:
        if (
            known.used == [0, 0]
            and known.interested_until == float("-inf")
            and not any(of == owner for of, _ in self._of.values())
        ):
            del self._owners[owner]

    # ---- who is next ----

    def may_start(
        self, owner: str, class_number: int, need: Need, ledger: Ledger, now: float
    ) -> bool:
        """Whether a task that fits the ledger may start, as far as others are concerned."""
        if not self.leaves_room(owner, class_number, need, ledger.capacity, now):
            return False
        for other in self._before(owner, need, ledger.capacity, now):
            if not _fit_both(ledger, need, other.need):
                if other.kept_since is None or now >= other.kept_since + AGAIN_S:
                    other.kept_since = now
                return False
        return True

    def may_queue_up(self, owner: str, ledger: Ledger, now: float) -> bool:
        """Whether tasks of `owner` may stand behind its running ones, and so keep their share."""
        reservation = self._reservation
        if reservation is not None and reservation.until > now:
            return False
        known = self._owners.get(owner)
        return known is None or not self._before(owner, None, ledger.capacity, now)

    def leaves_room(
        self, owner: str, class_number: int, need: Need, capacity: Capacity, now: float
    ) -> bool:
        """Whether a task of the class would not delay the one that room is kept for."""
        reservation = self._reservation
        if reservation is None or reservation.until <= now:
            return True
        if (reservation.owner, reservation.class_number) == (owner, class_number):
            return True
        if reservation.need.exclusive or need.exclusive:
            return False
        both = Ledger(capacity)
        both.restore(("", 0), reservation.need)
        for key, beside in reservation.beside.items():
            both.restore(key, beside)
        return both.fits(need)

    def _before(
        self, owner: str, need: Need | None, capacity: Capacity, now: float
    ) -> list[_Owner]:
        """Those that wait for room and are to be let in before `owner` starts more."""
        waiting = [
            (other, known)
            for other, known in self._owners.items()
            if other != owner
            and known.need is not None
            and known.interested_until > now
            and not _had_its_chance(known, now)
        ]
        if not waiting:
            return []
        active = {other for other, known in self._owners.items() if known.used != [0, 0]}
        share = 1.0 / len(active | {owner} | {other for other, _ in waiting})
        mine = self._owners.setdefault(owner, _Owner())
        part = _part(mine.used, capacity)
        more = 0.0 if need is None else _part([need.cpus_milli, need.memory], capacity)
        if part + more <= share and part < share:
            return []
        rank = (part, mine.let_in_at)
        return [
            known
            for _, known in waiting
            if (theirs := _part(known.used, capacity)) < share and (theirs, known.let_in_at) < rank
        ]


def _had_its_chance(known: _Owner, now: float) -> bool:
    """Room was kept for it and it did not come: it is passed over for a while."""
    return known.kept_since is not None and KEEP_S <= now - known.kept_since < AGAIN_S


def _part(used: list[int], capacity: Capacity) -> float:
    """How much of the node that is: of cpus or memory, whichever is more."""
    cpus = used[0] / capacity.cpus_milli if capacity.cpus_milli else 0.0
    memory = used[1] / capacity.memory if capacity.memory else 0.0
    return max(cpus, memory)


def _fit_both(ledger: Ledger, need: Need, other: Need | None) -> bool:
    """Whether `other` still fits beside `need`."""
    if other is None:
        return True
    if need.exclusive or other.exclusive:
        return False
    free = Ledger(ledger.capacity)
    for key, held in ledger.held.items():
        free.restore(key, held)
    free.restore(("", 0), need)
    return free.fits(other)
