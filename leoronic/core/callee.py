"""The callee's side of calls: each caller's begin in its order, and none twice.

The rules are those of `calls.py`. Pure: an event and the time go in, effects come out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from leoronic.core.calls import (
    Acknowledged,
    Answer,
    Arrival,
    Arrived,
    Decline,
    Finished,
    Forgotten,
    Left,
    Refuse,
    Result,
    Start,
    Unstarted,
)
from leoronic.core.effects import Fired, SetTimer

# A caller that has been away for so long, with results that it never acknowledged, is given up.
KEEP_S = 600.0
# How many that were given up are known as such.
GIVEN_UP_MAX = 10_000
# How many calls may wait for one before them that is missing.
EARLY_MAX = 100_000
FORGOTTEN = "the caller was away for too long: what it had sent before is not remembered"

Effects = list[Any]


class _Caller:
    """What is known of one caller. `answers` holds results by seq; None: it was given back."""

    __slots__ = ("answers", "early", "left_at", "next_seq", "running")

    def __init__(self) -> None:
        self.next_seq = 1
        self.early: dict[int, Arrival] = {}
        self.running: set[int] = set()
        self.answers: dict[int, Result | int] = {}  # an int: the number of one given back
        self.left_at: float | None = None


class CalleeMachine:
    """Calls that others make to this process."""

    def __init__(self, *, keep_s: float = KEEP_S) -> None:
        self._callers: dict[str, _Caller] = {}
        self._given_up: OrderedDict[str, None] = OrderedDict()
        self._keep_s = keep_s
        self._handlers: dict[type, Callable[[Any, float], Effects]] = {
            Arrived: self._arrived,
            Finished: self._finished,
            Acknowledged: self._acknowledged,
            Unstarted: self._unstarted,
            Left: self._left,
            Fired: self._fired,
        }

    @property
    def remembered(self) -> int:
        """How many results are kept because they are unacknowledged."""
        return sum(len(caller.answers) for caller in self._callers.values())

    def handle(self, event: object, now: float) -> Effects:
        """One event in, its effects out, to be performed in order."""
        return self._handlers[type(event)](event, now)

    def _arrived(self, event: Arrived, now: float) -> Effects:
        name = event.caller
        if name in self._given_up:
            return [Refuse(name, [call[0] for call in event.calls], FORGOTTEN)]
        caller = self._callers.get(name)
        if caller is None:
            caller = self._callers[name] = _Caller()
        caller.left_at = None
        starts: list[Arrival] = []
        repeated: Effects = []
        next_seq, running = caller.next_seq, caller.running
        for call in event.calls:
            seq = call[1]
            if seq == next_seq:
                next_seq += 1
                running.add(seq)
                starts.append(call)
            elif seq < next_seq:
                repeated += self._repeat(name, caller, seq)
            elif len(caller.early) < EARLY_MAX:
                caller.early[seq] = call
        caller.next_seq = next_seq
        if caller.early:
            starts += self._in_turn(caller)
        return [*([Start(name, starts)] if starts else []), *repeated]

    @staticmethod
    def _in_turn(caller: _Caller) -> list[Arrival]:
        """What waited for those before it, and need not any more."""
        starts = []
        while (call := caller.early.pop(caller.next_seq, None)) is not None:
            caller.running.add(caller.next_seq)
            caller.next_seq += 1
            starts.append(call)
        return starts

    @staticmethod
    def _repeat(name: str, caller: _Caller, seq: int) -> Effects:
        """It arrived before: answered again if there is an answer, which was lost perhaps."""
        answer = caller.answers.get(seq)
        if answer is None:
            return []
        return [Decline(name, [answer]) if isinstance(answer, int) else Answer(name, [answer])]

    def _finished(self, event: Finished, now: float) -> Effects:
        caller = self._callers.get(event.caller)
        if caller is None:
            return []
        results = []
        for seq, result in event.results:
            caller.running.discard(seq)
            caller.answers[seq] = result
            results.append(result)
        return [Answer(event.caller, results)]

    def _unstarted(self, event: Unstarted, now: float) -> Effects:
        caller = self._callers.get(event.caller)
        if caller is None:
            return []
        for seq, number in event.calls:
            caller.running.discard(seq)
            caller.answers[seq] = number
        return [Decline(event.caller, [number for _, number in event.calls])]

    def _acknowledged(self, event: Acknowledged, now: float) -> Effects:
        if event.caller in self._given_up:
            return []
        caller = self._callers.setdefault(event.caller, _Caller())
        caller.left_at = None
        answers = caller.answers
        # In order of the ends; those at the front are mostly the acknowledged ones.
        for seq in [seq for seq in answers if seq <= event.seq]:
            del answers[seq]
        if event.seq < caller.next_seq:
            return []
        # It was here before, owed nothing, and was forgotten for that.
        caller.next_seq = event.seq + 1
        starts = self._in_turn(caller)
        return [Start(event.caller, starts)] if starts else []

    def _left(self, event: Left, now: float) -> Effects:
        caller = self._callers.get(event.caller)
        if caller is None:
            return []
        caller.early.clear()
        if not caller.running and not caller.answers:
            del self._callers[event.caller]
            return []
        caller.left_at = now
        return [SetTimer("forget", now + self._keep_s)]

    def _fired(self, event: Fired, now: float) -> Effects:
        waits_s = []
        effects: Effects = []
        for name, caller in list(self._callers.items()):
            if caller.left_at is None:
                continue
            if now < caller.left_at + self._keep_s:
                waits_s.append(caller.left_at + self._keep_s)
                continue
            del self._callers[name]
            self._given_up[name] = None
            effects.append(Forgotten(name))
            if len(self._given_up) > GIVEN_UP_MAX:
                self._given_up.popitem(last=False)
        return effects + ([SetTimer("forget", min(waits_s))] if waits_s else [])
