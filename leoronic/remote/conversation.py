"""The calls of this process to one target, an actor or a leased worker: what `CallerMachine` wants.

All of it runs on the loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from leoronic.core import calls, effects
from leoronic.core.caller import CallerMachine
from leoronic.remote import said, serial
from leoronic.remote.channel import Channel
from leoronic.remote.code import CodeSent
from leoronic.remote.finding import Finding
from leoronic.remote.party import Party, PartyGone
from leoronic.remote.remote_call import RemoteCall

# So large a call travels in a frame of its own.
LARGE_BYTES_MIN = 64 * 1024


class Told(Protocol):
    """Whom a conversation tells what became of calls."""

    def done(self, results: list[calls.Result]) -> None:
        """These are over."""

    def failed(self, numbers: list[tuple[int, str]], reason: str) -> None:
        """These are over without an answer: (number, code of the error)."""

    def returned(self, found: list[RemoteCall]) -> None:
        """These have not begun."""


class Conversation:
    """With the worker of task `target`. `told` hears the results."""

    def __init__(
        self,
        party: Party,
        target: str,
        told: Told,
        code_sent: CodeSent,
        routes: dict[Channel, tuple[Conversation, int]],
        *,
        is_lease: bool,
        window: int,
    ) -> None:
        self.target = target
        self.channel: Channel | None = None
        self.machine = CallerMachine(target, is_lease=is_lease, window=window)
        self._party = party
        self._told = told
        self._code_sent = code_sent
        self._routes = routes
        self._rarer: dict[type, Callable[[Any], object]] = {
            calls.Acknowledge: self._acknowledge,
            calls.Failed: lambda effect: told.failed(effect.calls, effect.reason),
            calls.Returned: lambda effect: told.returned(effect.calls),
            calls.TellCancel: self._tell_cancel,
            calls.Find: lambda effect: self._spawn(self._find(effect.after_attempt)),
            calls.Dial: lambda effect: self._spawn(self._dial(*effect)),
            effects.CancelTimer: self._cancel_timer,
        }
        self._finding = Finding(party, target)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- what happens ----

    def tell(self, event: object) -> None:
        """Have the machine hear `event`, and do what it wants."""
        for effect in self.machine.handle(event, self._party.loop.time()):
            self._do(effect)

    def connected(self, channel: Channel, attempt: int) -> None:
        """There is a connection with its incarnation `attempt`."""
        if attempt < self.machine.attempt or self.machine.is_connected:
            return
        self.channel = channel
        self._routes[channel] = (self, attempt)
        self.tell(calls.Connected(attempt))

    def lost(self, channel: Channel, reason: str) -> None:
        """That connection has ended."""
        if self._routes.pop(channel, None) is not None and self.channel is channel:
            self.channel = None
            self.tell(calls.Disconnected(reason))

    def end(self, reason: str) -> None:
        """Nothing more will come of it: what is under way fails."""
        for task in self._tasks:
            task.cancel()
        self.tell(calls.Ended(reason))
        if self.channel is not None:
            self._routes.pop(self.channel, None)
            self.channel = None

    # ---- what the machine wants ----

    def _do(self, effect: Any) -> None:
        kind = type(effect)
        if kind is calls.Say:
            self._say(effect.calls)
        elif kind is calls.Done:
            self._told.done(effect.results)
        elif kind is effects.SetTimer:
            self._set_timer(effect.name, effect.at)
        else:
            self._rarer[kind](effect)

    def _acknowledge(self, effect: calls.Acknowledge) -> None:
        if self.channel is not None:
            self.channel.say_item(said.ACK, (self.target, effect.seq))

    def _tell_cancel(self, effect: calls.TellCancel) -> None:
        if self.channel is not None:
            self.channel.say_item(said.CANCEL, (effect.number, effect.is_forced))

    def _cancel_timer(self, effect: effects.CancelTimer) -> None:
        timer = self._timers.pop(effect.name, None)
        if timer is not None:
            timer.cancel()

    def _say(self, found: list[RemoteCall]) -> None:
        channel = self.channel
        if channel is None:
            return
        target = self.target
        for call in found:
            code = call.code
            if code is not None and self._code_sent.needs(channel, code.digest):
                channel.say_item(said.CODE, (code.digest, code.data))
            payload = call.payload
            item = (
                call.number, call.seq, target, call.name, payload, call.n_returns, call.flags,
            )  # fmt: skip
            is_large = len(payload) > 1 and serial.size_of(payload) > LARGE_BYTES_MIN
            channel.say_item(said.CALLS, item, is_large=is_large)

    def _set_timer(self, name: str, at: float) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
        self._timers[name] = self._party.loop.call_at(at, self._fire, name)

    def _fire(self, name: str) -> None:
        self._timers.pop(name, None)
        self.tell(effects.Fired(name))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._party.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _find(self, after_attempt: int) -> None:
        machine = self.machine
        at_once = machine.unanswered > 0
        self.tell(await self._finding.find(after_attempt, machine.attempt, at_once=at_once))

    async def _dial(self, attempt: int, node: str, party: str) -> None:
        try:
            channel = await self._party.dial(node, party)
        except PartyGone as error:
            self.tell(calls.Disconnected(error.message))
            return
        self.connected(channel, attempt)
