"""The caller's side of calls to one target: an actor, or a worker that was leased.

The rules are those of `calls.py`. Pure: an event and the time go in, effects come out. All that
happens to the target is told by level: however often, and in whichever order, `Placed`,
`Restarting` and `Disconnected` come, the machine goes on from what it last heard.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from leoronic.core.calls import (
    ACTOR_DIED,
    ACTOR_UNAVAILABLE,
    CANCELLED,
    WORKER_CRASHED,
    Acknowledge,
    Answered,
    Call,
    Cancelled,
    Connected,
    Dial,
    Disconnected,
    Done,
    Ended,
    Failed,
    Find,
    GivenBack,
    Placed,
    Restarting,
    Returned,
    Say,
    Submitted,
    TellCancel,
)
from leoronic.core.effects import CancelTimer, Fired, SetTimer

# How many may be sent and unanswered.
WINDOW_CALLS = 10_000
# How much of large arguments may be: what the target has not begun with is only held there, and
# memory that is used again is far quicker than fresh one.
WINDOW_BYTES = 16 * 1024 * 1024
# So many results may be unacknowledged, for so long: an acknowledgement for each costs a message.
UNACKED_MAX = 64
UNACKED_S = 1.0
# Between two attempts to find or reach the target; doubled each time.
RETRY_S_MIN = 0.02
RETRY_S_MAX = 1.0

Effects = list[Any]


class CallerMachine:
    """Calls of this process to `target`.

    `is_lease`: the target is a worker, not an actor. Then what has not begun there is `Returned`
    instead of kept for another incarnation. `window` may be changed at any time, and counts from
    the next event on.
    """

    def __init__(self, target: str, *, is_lease: bool = False, window: int = WINDOW_CALLS) -> None:
        self.target = target
        self.window = window
        self.attempt = 0  # the incarnation that the numbers belong to
        self.is_connected = False
        self.ended = ""  # why it is gone for good
        self._is_lease = is_lease
        self._is_finding = False
        self._is_closing = False  # it gave calls back: this incarnation takes no more
        self._waiting: deque[Call] = deque()
        self._sent: dict[int, Call] = {}  # by seq, in order
        self._calls: dict[int, Call] = {}  # all of the two above, by number
        self._seq = 0
        self._turns = 0
        self._sent_bytes = 0
        self._acked = 0
        self._unacked = 0
        self._ack_due = False
        self._retry_s = RETRY_S_MIN
        self._handlers: dict[type, Callable[[Any, float], Effects]] = {
            Submitted: self._submitted,
            Answered: self._answered,
            Connected: self._connected,
            Disconnected: self._disconnected,
            Placed: self._placed,
            Restarting: self._restarting,
            Ended: self._on_ended,
            GivenBack: self._given_back,
            Cancelled: self._cancelled,
            Fired: self._fired,
        }

    def __len__(self) -> int:
        """How many calls are under way, sent or not."""
        return len(self._calls)

    @property
    def unsent(self) -> int:
        """How many wait to be sent (cancelled ones may be counted)."""
        return len(self._waiting)

    @property
    def unanswered(self) -> int:
        """How many were sent and are unanswered."""
        return len(self._sent)

    def handle(self, event: object, now: float) -> Effects:
        """One event in, its effects out, to be performed in order."""
        return self._handlers[type(event)](event, now)

    # --- calls ---

    def _submitted(self, event: Submitted, now: float) -> Effects:
        if self.ended:
            return [self._failed(event.calls, self.ended)]
        turn = self._turns
        for call in event.calls:
            turn += 1
            call.turn = turn
            self._calls[call.number] = call
        self._turns = turn
        self._waiting.extend(event.calls)
        if self.is_connected:
            return self._say()
        return self._find()

    def _say(self) -> Effects:
        """Send what the window allows."""
        if not self.is_connected or self._is_closing:
            return []
        room = self.window - len(self._sent)
        if room <= 0 or not self._waiting:
            return []
        waiting, sent, seq = self._waiting, self._sent, self._seq
        calls = []
        while waiting and room > 0:
            if self._sent_bytes >= WINDOW_BYTES:
                break
            call = waiting.popleft()
            if call.is_cancelled:
                continue
            self._sent_bytes += call.size_bytes
            seq += 1
            call.seq = seq
            sent[seq] = call
            calls.append(call)
            room -= 1
        self._seq = seq
        return [Say(calls)] if calls else []

    def _answered(self, event: Answered, now: float) -> Effects:
        if event.attempt != self.attempt:
            return []
        known = []
        for result in event.results:
            call = self._calls.get(result[0])
            if call is None or not call.seq:
                continue
            del self._calls[call.number], self._sent[call.seq]
            self._sent_bytes -= call.size_bytes
            known.append(result)
        effects: Effects = [Done(known)] if known else []
        self._unacked += len(known)
        if event.is_heavy or self._unacked >= UNACKED_MAX:
            effects += self._acknowledge()
        elif self._unacked and not self._ack_due:
            self._ack_due = True
            effects.append(SetTimer("ack", now + UNACKED_S))
        return effects + self._say()

    def _acknowledge(self) -> Effects:
        """Up to the last result before the first that is still missing."""
        acked = next(iter(self._sent)) - 1 if self._sent else self._seq
        self._unacked = 0
        if acked <= self._acked or not self.is_connected:
            return []
        self._acked = acked
        return [Acknowledge(acked)]

    def _given_back(self, event: GivenBack, now: float) -> Effects:
        if event.attempt != self.attempt:
            return []
        calls = []
        for number in event.numbers:
            call = self._calls.get(number)
            if call is None or not call.seq:
                continue
            del self._sent[call.seq]
            self._sent_bytes -= call.size_bytes
            call.seq = 0
            calls.append(call)
        if not calls:
            return []
        calls, effects = self._without_cancelled(calls)
        if self._is_lease:
            for call in calls:
                del self._calls[call.number]
            return [*effects, Returned(calls), *self._say()]
        self._is_closing = True
        self._put_back(calls)
        return effects

    def _without_cancelled(self, calls: list[Call]) -> tuple[list[Call], Effects]:
        """Those that are still wanted. The others are over: they are not sent again."""
        over = [call for call in calls if call.is_cancelled]
        if not over:
            return calls, []
        for call in over:
            self._calls.pop(call.number, None)
        told = Failed([(call.number, CANCELLED) for call in over], "cancelled")
        return [call for call in calls if not call.is_cancelled], [told]

    def _put_back(self, calls: list[Call]) -> None:
        """Let them wait again, each in its turn: they may come in any order, and in parts."""
        if calls:
            self._waiting = deque(sorted([*calls, *self._waiting], key=lambda call: call.turn))

    def _cancelled(self, event: Cancelled, now: float) -> Effects:
        call = self._calls.get(event.number)
        if call is None:
            return []
        call.is_cancelled = True
        if call.seq:
            return [TellCancel(event.number, event.is_forced)]
        # Taken out when its turn comes: a search would cost as much as there are calls.
        del self._calls[event.number]
        return [Failed([(event.number, CANCELLED)], "cancelled before it was sent")]

    # --- where the target is ---

    def _find(self) -> Effects:
        if self._is_finding or self.ended:
            return []
        self._is_finding = True
        return [Find(max(self.attempt - 1, 0))]

    def _placed(self, event: Placed, now: float) -> Effects:
        if self.ended or self.is_connected:
            return []
        if event.attempt < self.attempt:
            return self._find_later(now)
        effects = self._lose_sent(event.attempt, "it was restarted")
        self._is_finding = True
        return [*effects, Dial(event.attempt, event.node, event.party)]

    def _connected(self, event: Connected, now: float) -> Effects:
        if self.ended or event.attempt < self.attempt or self.is_connected:
            return []
        self._is_finding = False
        effects = self._lose_sent(event.attempt, "it was restarted")
        self.is_connected = True
        self._is_closing = False
        self._retry_s = RETRY_S_MIN
        self._acked = 0
        effects += self._acknowledge()
        if self._sent:
            effects.append(Say(list(self._sent.values())))
        return effects + self._say()

    def _disconnected(self, event: Disconnected, now: float) -> Effects:
        self.is_connected = False
        return self._find_later(now)

    def _find_later(self, now: float) -> Effects:
        self._is_finding = False
        if self.ended or not self._calls:
            return []
        # Not at once: what does not answer now mostly does not answer a millisecond later.
        self._is_finding = True
        wait_s, self._retry_s = self._retry_s, min(self._retry_s * 2, RETRY_S_MAX)
        return [SetTimer("find", now + wait_s)]

    def _restarting(self, event: Restarting, now: float) -> Effects:
        self._is_finding = False
        if self.ended or self.is_connected:
            return []
        if event.attempt < self.attempt:
            # Told before: whoever was asked does not know more, or gave up waiting.
            return self._find_later(now)
        effects = self._lose_sent(event.attempt + 1, event.reason)
        return effects + (self._find() if self._calls else [])

    def _on_ended(self, event: Ended, now: float) -> Effects:
        self.ended = event.reason or "it has ended"
        self.is_connected = False
        sent, over = self._without_cancelled(list(self._sent.values()))
        waiting = self._not_cancelled()
        self._sent.clear()
        self._waiting.clear()
        self._calls.clear()
        effects: Effects = [CancelTimer("find"), CancelTimer("ack"), *over]
        if sent:
            effects.append(self._failed(sent, self.ended))
        if waiting:
            effects.append(
                Returned(waiting) if self._is_lease else self._failed(waiting, self.ended)
            )
        return effects

    def _not_cancelled(self) -> list[Call]:
        return [call for call in self._waiting if not call.is_cancelled]

    def _lose_sent(self, attempt: int, reason: str) -> Effects:
        """What follows for what was sent to an earlier incarnation than `attempt`."""
        if attempt <= self.attempt:
            return []
        is_first, self.attempt = self.attempt == 0, attempt
        self._seq = self._acked = self._unacked = 0
        again, lost = [], []
        wanted, effects = self._without_cancelled(list(self._sent.values()))
        for call in wanted:
            call.seq = 0
            if call.retries and not self._is_lease:
                call.retries -= 1 if call.retries > 0 else 0
                again.append(call)
            else:
                del self._calls[call.number]
                lost.append(call)
        self._sent.clear()
        self._sent_bytes = 0
        self._put_back(again)
        if lost:
            code = WORKER_CRASHED if self._is_lease else ACTOR_UNAVAILABLE
            effects.append(Failed([(call.number, code) for call in lost], reason))
        if self._is_lease and self._waiting and not is_first:
            returned = self._not_cancelled()
            self._waiting.clear()
            for call in returned:
                del self._calls[call.number]
            effects.append(Returned(returned))
        return effects

    def _failed(self, calls: list[Call], reason: str) -> Failed:
        code = WORKER_CRASHED if self._is_lease else ACTOR_DIED
        return Failed([(call.number, code) for call in calls], reason)

    def _fired(self, event: Fired, now: float) -> Effects:
        if event.name == "ack":
            self._ack_due = False
            return self._acknowledge()
        self._is_finding = False
        return self._find() if self._calls and not self.is_connected else []
