"""Lanes: short tasks that stand behind running ones, so that no slot waits for a round trip.

A lane begins with an attempt that holds a share of the node; those behind it, of the same class,
hold nothing and take the share over, one after the other. How many may stand behind depends on how
long tasks of that class took: about `LOOKAHEAD_S` worth of work, and none if they are not short.
A task behind a slow one moves to a lane that is free (`advance` of a lane that is empty takes the
next of the longest lane), so nobody is stuck while there is room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from leoronic.core.run import AttemptKey

LOOKAHEAD_S = 0.03
BEHIND_MAX = 16
CLASSES_MAX = 1024
# The weight of the newest duration in the running mean.
_NEW = 0.2


C = TypeVar("C", bound=Hashable)


class Lanes(Generic[C]):
    """Which attempts run, by class, and which stand behind them. `C` is what names a class."""

    def __init__(self) -> None:
        self._lanes: dict[AttemptKey, deque[AttemptKey]] = {}  # head -> those behind it
        self._class_of: dict[AttemptKey, C] = {}  # of heads
        self._heads: dict[C, dict[AttemptKey, None]] = {}
        self._head_of: dict[AttemptKey, AttemptKey] = {}  # of those behind
        self._mean_s: dict[C, float] = {}
        self._moved: list[AttemptKey] = []

    def open(self, key: AttemptKey, class_name: C) -> None:
        """`key` holds a share of the node and runs."""
        self._lanes[key] = deque()
        self._class_of[key] = class_name
        self._heads.setdefault(class_name, {})[key] = None

    def join(self, key: AttemptKey, class_name: C) -> bool:
        """Let `key` stand in the shortest lane of its class; false if there is none."""
        heads = self._heads.get(class_name)
        if not heads:
            return False
        head = min(heads, key=lambda h: len(self._lanes[h]))
        if len(self._lanes[head]) >= BEHIND_MAX:
            return False
        self._lanes[head].append(key)
        self._head_of[key] = head
        return True

    def is_queued(self, key: AttemptKey) -> bool:
        """Whether `key` still stands behind another."""
        return key in self._head_of

    def before(self, key: AttemptKey) -> AttemptKey | None:
        """Whom `key` takes over from; None if nobody."""
        head = self._head_of.get(key)
        if head is None:
            return None
        lane = self._lanes[head]
        place = lane.index(key)
        return lane[place - 1] if place else head

    def leave(self, key: AttemptKey) -> None:
        """`key` no longer stands in a lane."""
        self._lanes[self._head_of.pop(key)].remove(key)

    def advance(self, key: AttemptKey) -> AttemptKey | None:
        """The head `key` has ended: who takes its share over, or None.

        If its own lane is empty, the first of the longest lane of its class changes over; it is
        among `moved` then, since the runner must be told.
        """
        lane = self._lanes.pop(key, None)
        if lane is None:
            return None
        class_name = self._class_of.pop(key)
        heads = self._heads[class_name]
        del heads[key]
        successor: AttemptKey | None = None
        if lane:
            successor = lane.popleft()
        elif heads:
            longest = max(heads, key=lambda h: len(self._lanes[h]))
            if self._lanes[longest]:
                # The last one: nobody stands behind it, so the rest of that lane is undisturbed.
                successor = self._lanes[longest].pop()
                self._moved.append(successor)
        if successor is not None:
            del self._head_of[successor]
            self._lanes[successor] = lane
            self._class_of[successor] = class_name
            heads[successor] = None
            for behind in lane:
                self._head_of[behind] = successor
        elif not heads:
            del self._heads[class_name]
        return successor

    def take_moved(self) -> list[AttemptKey]:
        """Those that changed lanes since this was last asked: they start now, behind nobody."""
        moved, self._moved = self._moved, []
        return moved

    def note_duration(self, class_name: C, duration_s: float) -> None:
        """A task of the class took so long."""
        known = self._mean_s.get(class_name)
        if known is None:
            if len(self._mean_s) >= CLASSES_MAX:
                self._mean_s.clear()
            self._mean_s[class_name] = duration_s
        else:
            self._mean_s[class_name] = known + _NEW * (duration_s - known)

    def wants(self) -> dict[C, int]:
        """How many more may stand in the lanes of each class; only where it is worth a message."""
        wants: dict[C, int] = {}
        for class_name, heads in self._heads.items():
            mean_s = self._mean_s.get(class_name)
            if mean_s is None:
                continue
            depth = min(int(LOOKAHEAD_S / max(mean_s, 0.0005)), BEHIND_MAX)
            room = sum(max(depth - len(self._lanes[head]), 0) for head in heads)
            if room * 2 >= depth * len(heads) and room:
                wants[class_name] = room
        return wants
