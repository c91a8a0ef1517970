"""One leased worker: the calls that it has, and what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leoronic.core import calls
from leoronic.remote import said
from leoronic.remote.channel import Channel
from leoronic.remote.conversation import Conversation
from leoronic.remote.remote_call import RemoteCall

if TYPE_CHECKING:
    from leoronic.remote.leases import Pool

# Calls that a worker has before it are to take about so long.
AHEAD_S = 0.005
AHEAD_MAX = 128
# A call that takes so long is not to hold up those behind it.
HELD_UP_S = 0.03
WINDOW = 1_000_000


class Lease:
    """One worker, or the task that shall become one."""

    def __init__(self, pool: Pool, task: str, *, is_extra: bool) -> None:
        self.pool = pool
        self.task = task
        self.is_extra = is_extra
        self.is_connected = False
        self.is_blocked = False
        self.has_alone = False
        self.idle_since = 0.0
        self.call_s = 0.0  # how long a call takes, as far as one knows
        self._busy_since = 0.0
        context = pool.context
        self.conversation = Conversation(
            context.party, task, self, context.code_sent, context.routes,
            is_lease=True, window=WINDOW,
        )  # fmt: skip

    @property
    def busy(self) -> int:
        """How many calls it has."""
        return len(self.conversation.machine)

    @property
    def owner(self) -> tuple[str, str]:
        """Its process, as an owner of objects."""
        channel = self.conversation.channel
        return (channel.peer.node, channel.peer.party) if channel is not None else ("", "")

    @property
    def room(self) -> int:
        """How many more it may have now."""
        if not self.conversation.machine.is_connected or self.is_blocked or self.has_alone:
            return 0
        if not self.call_s:
            return 1 - self.busy
        return min(max(int(AHEAD_S / self.call_s), 1), AHEAD_MAX) - self.busy

    def give(self, found: list[RemoteCall]) -> None:
        """Have it carry these out."""
        now = self.pool.context.party.loop.time()
        if not self.busy:
            self._busy_since = now
        for call in found:
            call.place = self.conversation
        self.conversation.tell(calls.Submitted(list(found)))

    def take_back(self, now: float) -> None:
        """If one of its calls holds up others, ask it for those."""
        channel = self.conversation.channel
        if channel is None or not self.is_held_up(now) or self.busy < 2:
            return
        # From now on it gets one at a time.
        self.call_s = max(self.call_s, now - self._busy_since)
        channel.say(said.ASK, (0, ("decline",)))

    def is_held_up(self, now: float) -> bool:
        """Whether it has been at one call for long."""
        return self.busy > 0 and now - self._busy_since > HELD_UP_S

    def connected(self, channel: Channel, attempt: int) -> None:
        """It runs."""
        self.is_connected = True
        self.idle_since = self.pool.context.party.loop.time()
        self.pool.stillborn = 0
        self.conversation.connected(channel, attempt)
        self.pool.pump_soon()
        self.pool.look_for_idle()

    def lost(self) -> None:
        """Its connection has ended. If it has calls, the conversation finds out what that means."""
        if not self.busy:
            self.pool.drop(self)
            self.pool.pools.cancel_tasks([self.task])

    def end(self, reason: str) -> bool:
        """Let it go. False if it does not run yet, so that its task has to be cancelled."""
        channel = self.conversation.channel
        if channel is not None:
            channel.say(said.ASK, (0, ("end", reason)))
        return channel is not None

    # ---- what the conversation tells ----

    def done(self, results: list[calls.Result]) -> None:
        """These calls are over."""
        context = self.pool.context
        now = context.party.loop.time()
        took_s = (now - self._busy_since) / len(results)
        self.call_s = took_s if not self.call_s else 0.7 * self.call_s + 0.3 * took_s
        self._busy_since = self.idle_since = now
        self.has_alone = False
        for number, ok, payload in results:
            if ok or not self.pool.is_tried_again(number, payload):
                context.finish(number, ok, payload)
        self.pool.pump_soon()

    def failed(self, numbers: list[tuple[int, str]], reason: str) -> None:
        """These calls are over without an answer: mostly, because the worker died."""
        context = self.pool.context
        self.has_alone = False
        again = []
        is_first = True
        for number, code in numbers:
            call = context.calls.get(number)
            if call is None:
                continue
            if code == calls.CANCELLED:
                context.fail(number, code, f"{call.label} was {reason}")
                continue
            if is_first and not call.retries:
                context.fail(number, code, f"{call.label}: {reason}")
            else:
                call.retries -= 1 if is_first and call.retries > 0 else 0
                call.is_alone = True
                again.append(call)
            is_first = False
        if self.conversation.machine.ended:
            self.pool.drop(self)
        self.pool.put_back(again)

    def returned(self, found: list[RemoteCall]) -> None:
        """These have not begun there."""
        self.has_alone = False
        self.pool.put_back(found)
