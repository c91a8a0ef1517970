"""What an executor tells the schedulers: its own always, others while they are interested.

Collected while a message is handled, and told once at its end: to each at most one `Freed` and one
`Offer`, in this order, so that the offer is the last word. That one of a lane took over from
another changes nothing that a scheduler could use; it is told with the next thing that does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from leoronic.core.effects import Send
from leoronic.core.peer import Freed, Held, Offer
from leoronic.core.run import AttemptKey

HANDED_ON_MAX = 64


class Audience:
    """`node` is this node's id. `seen` is, by owner, the highest number of what came from it.

    `ghost`: there is no scheduler of its own.
    """

    def __init__(self, node: str, *, ghost: bool = False) -> None:
        self.seen: dict[str, int] = {}
        self.fresh = True  # nothing was offered yet
        self._node = node
        self._own = [] if ghost else [node]
        self._freed: list[tuple[AttemptKey, AttemptKey | None]] = []
        self._taken: dict[AttemptKey, Held] = {}
        self._at_once: set[AttemptKey] = set()  # of these, what its owner believes to wait
        self._declined: dict[str, list[AttemptKey]] = {}
        self._retry_s: dict[str, float] = {}
        self._offers: dict[str, None] = {}
        self._offer_all = False
        self._asked_for: dict[str, dict[int, int]] = {}  # what was wanted and may be on its way

    def freed(self, key: AttemptKey, successor: AttemptKey | None) -> None:
        """`key` occupies nothing any more; its share passed to `successor`, if that is one."""
        self._freed.append((key, successor))

    def taken(self, held: Held, *, at_once: bool = False) -> None:
        """Somebody's attempt occupies the node from now on; `at_once`: it was to wait in a lane."""
        self._taken[held.task, held.attempt] = held
        if at_once:
            self._at_once.add((held.task, held.attempt))

    def declined(self, owner: str, key: AttemptKey, retry_s: float) -> None:
        """`owner` gets this attempt back; `retry_s`: when to try its class again."""
        if owner:
            self._declined.setdefault(owner, []).append(key)
            self._retry_s[owner] = max(self._retry_s.get(owner, 0.0), retry_s)

    def offer(self, owner: str = "") -> None:
        """Tell all that there is to `owner`; to everybody if it is not given."""
        if owner:
            self._offers[owner] = None
        else:
            self._offer_all = True

    def assigned(self, owner: str) -> None:
        """`owner` has sent something: what it was asked for, if it has so much."""
        self._asked_for.pop(owner, None)

    def keep_only(self, alive: list[str]) -> None:
        """Nobody else is there any more."""
        self._asked_for.clear()
        self.seen = {owner: number for owner, number in self.seen.items() if owner in alive}

    def flush(
        self,
        interested: Iterable[str],
        wants: Callable[[], dict[str, dict[int, int]]],
        offer: Callable[[], Offer] | None,
    ) -> list[Send]:
        """What is to be said now; `offer` None: nothing can be offered yet."""
        if not (self._freed or self._taken or self._declined or self._offers or self._offer_all):
            return []
        told = list(dict.fromkeys([*self._own, *interested]))
        # A first attempt that starts opens a lane, too.
        wanted = wants() if self._freed or self._taken else {}
        if not self._is_news(wanted):
            return []
        self._asked_for |= wanted
        sends: list[Send] = []
        for owner in [*told, *(o for o in self._declined if o not in told)]:
            declined = self._declined.get(owner, [])
            if owner in told:
                taken = [
                    held
                    for key, held in self._taken.items()
                    if held.owner != owner or key in self._at_once
                ]
                freed = self._freed
            else:
                taken, freed = [], []
            more = wanted.get(owner, {}) if owner in told else {}
            if freed or taken or declined or more:
                message = Freed(
                    self._node,
                    freed,
                    taken,
                    more,
                    declined,
                    self._retry_s.get(owner, 0.0),
                    self.seen.get(owner, 0) if more else 0,
                )
                sends.append(self._to(owner, message))
        if offer is not None:
            sends += self._flush_offers(told, offer)
        self._freed, self._taken, self._declined, self._retry_s = [], {}, {}, {}
        self._at_once.clear()
        return sends

    def _is_news(self, wanted: dict[str, dict[int, int]]) -> bool:
        """Whether anybody could do something now that he could not before."""
        if self._taken or self._declined or self._offers or self._offer_all:
            return True
        if len(self._freed) >= HANDED_ON_MAX or any(after is None for _, after in self._freed):
            return True
        return any(
            room > 2 * self._asked_for.get(owner, {}).get(number, 0)
            for owner, rooms in wanted.items()
            for number, room in rooms.items()
        )

    def _flush_offers(self, told: list[str], offer: Callable[[], Offer]) -> list[Send]:
        owners = dict.fromkeys(told) if self._offer_all else {}
        owners.update(self._offers)
        if not owners:
            return []
        made = offer()
        sends = []
        for owner in owners:
            # Not `structs.replace`: an offer may be long, and only this differs.
            one = Offer(
                made.node,
                made.name,
                made.capacity,
                made.tags,
                made.draining,
                made.held,
                self.fresh,
                made.queued,
                self.seen.get(owner, 0),
                made.number,
            )
            sends.append(self._to(owner, one))
        self._offers, self._offer_all, self.fresh = {}, False, False
        return sends

    def _to(self, owner: str, message: Freed | Offer) -> Send:
        return Send("scheduler" if owner == self._node else f"scheduler@{owner}", message)
