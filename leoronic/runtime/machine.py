"""An actor around a pure machine: hands it messages, performs the effects it returns.

Machines send to each other without waiting, so two of them could each wait for room in the other's
mailbox, for ever. Therefore a machine never waits while it sends:

- A `Send` to a full mailbox goes to this actor's *outbox*, a queue for each receiver (order is
  kept), which is drained beside `handle`. So a machine goes on taking messages while a receiver is
  slow, and a cycle of machines keeps moving.
- The outbox is bounded. While it holds more than `outbox_max` messages the machine takes no new
  ones, and so pushes back on its own senders.
- If even that lasts `stall_s` seconds without one message leaving, which only a cycle of full
  outboxes or a receiver that hangs can cause, the actor crashes and says who did not keep up. Its
  supervisor restarts it; state comes back from the journal, and messages are repeated by level.
  So nothing waits for ever, and memory stays bounded.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from leoronic.core.effects import (
    Asked,
    CancelTimer,
    Effect,
    Fail,
    Fired,
    Log,
    Machine,
    Reply,
    Send,
    SetTimer,
)
from leoronic.core.outbound import Outbound
from leoronic.errors import MailboxFull, ProtocolError, Unavailable
from leoronic.runtime.actor import NO_REPLY, Actor
from leoronic.runtime.ref import ActorRef, Call

OUTBOX_MAX = 4096
STALL_S = 10.0
# The event loop's clock and the machine's differ and round differently: what is early waits again.
AGAIN_S_MIN = 0.001


class MachineActor(Actor):
    """Hosts the machine that `make` returns, made anew in each `started`.

    `clock` gives the machine's `now` in seconds and is what `SetTimer.at` refers to; by default
    the time of day. A `Send` to "ACTOR@NODE" goes to the actor `peers`. A call becomes
    `Asked(request, message)`; it is answered by `Reply` or `Fail` with that `request`, however
    much later.
    """

    def __init__(
        self,
        make: Callable[[], Machine],
        *,
        clock: Callable[[], float] = time.time,
        outbox_max: int = OUTBOX_MAX,
        stall_s: float = STALL_S,
    ) -> None:
        self._make = make
        self._clock = clock
        self._outbox_max = outbox_max
        self._stall_s = stall_s
        self._outbox: dict[str, deque[Any]] = {}
        self._outbox_length = 0
        self._left = asyncio.Event()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._unknown: set[str] = set()
        self.machine: Machine

    async def started(self) -> None:
        """Make the machine. Override to feed it what it must know first (see `feed`)."""
        self.machine = self._make()

    async def handle(self, message: Any) -> Any:
        """Let the machine handle it, and do what it says."""
        request = self.context.request
        if request is not None:
            message = Asked(request, message)
        await self.feed(message)
        return NO_REPLY

    async def feed(self, message: Any) -> None:
        """Give the machine a message and perform its effects."""
        self.perform(self.machine.handle(message, self._clock()))
        if self._outbox_length > self._outbox_max:
            await self._outbox_has_room()

    async def stopping(self) -> None:
        """Nothing: override to add to it."""

    def perform(self, effects: list[Effect]) -> None:
        """Do what the machine said, in its order. Never waits."""
        for effect in effects:
            kind = type(effect)
            if kind is Send:
                self._send(effect.to, effect.message)  # type: ignore[union-attr]
                continue
            match effect:
                case Reply(request, result):
                    assert isinstance(request, Call)
                    self.context.reply(request, result)
                case Fail(request, error):
                    assert isinstance(request, Call)
                    self.context.fail(request, error)
                case SetTimer(name, at):
                    self._set_timer(name, at)
                case CancelTimer(name):
                    self._cancel_timer(name)
                case Log(event, level, fields):
                    getattr(self.context.log, level)(event, **fields)
                case _:
                    raise TypeError(f"not an effect: {effect!r}")

    # sending

    def _send(self, to: str, message: Any) -> None:
        if "@" in to:
            message = Outbound(to.partition("@")[2], message)
            to = "peers"
        ref = self.context.get(to)
        if ref is None:
            # It may have just ended (a user's actor); once is enough to notice a wrong name.
            if to not in self._unknown and len(self._unknown) < 1024:
                self._unknown.add(to)
                self.context.log.warning("no_such_actor", to=to, message=type(message).__name__)
            return
        waiting = self._outbox.get(to)
        if waiting is None:
            try:
                ref.cast_nowait(message)
            except MailboxFull:
                waiting = self._outbox[to] = deque()
                self.context.spawn(self._drain(ref, waiting), f"outbox to {to}")
            except Unavailable:
                return  # It is between two lives: messages to it are lost, as for any cast.
            except ProtocolError as error:
                self._too_large(to, message, error)
                return
            else:
                return
        waiting.append(message)
        self._outbox_length += 1

    async def _drain(self, ref: ActorRef, waiting: deque[Any]) -> None:
        # `waiting` is not empty when this first runs: `_send` appends in the same turn.
        while waiting:
            try:
                await ref.cast(waiting[0])
            except ProtocolError as error:
                self._too_large(ref.name, waiting[0], error)
            waiting.popleft()
            self._outbox_length -= 1
            self._left.set()
        del self._outbox[ref.name]

    def _too_large(self, to: str, message: Any, error: ProtocolError) -> None:
        """It can never be sent: lost, as to an actor that is gone."""
        self.context.log.error(
            "message_too_large", to=to, message=type(message).__name__, error=error.message
        )

    async def _outbox_has_room(self) -> None:
        while self._outbox_length > self._outbox_max:
            self._left.clear()
            try:
                async with asyncio.timeout(self._stall_s):
                    await self._left.wait()
            except TimeoutError:
                slow = ", ".join(f"{to} ({len(left)})" for to, left in self._outbox.items())
                raise RuntimeError(
                    f"nothing left the outbox for {self._stall_s:g} s; waiting for: {slow}"
                ) from None

    # timers

    def _set_timer(self, name: str, at: float, delay_s_min: float = 0.0) -> None:
        self._cancel_timer(name)
        delay_s = max(delay_s_min, at - self._clock())
        self._timers[name] = self.context.call_after(delay_s, partial(self._due, name, at))

    def _cancel_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _due(self, name: str, at: float) -> None:
        del self._timers[name]
        if self._clock() < at:
            # A machine may rely on it that its time has come; the clock may have been set back.
            self._set_timer(name, at, AGAIN_S_MIN)
        else:
            self.context.send_now(Fired(name))
