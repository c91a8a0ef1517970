"""Actors as this process calls them: one conversation for each, whatever the number of handles."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from leoronic.core import calls, commands
from leoronic.errors import LeoronicError
from leoronic.remote import said
from leoronic.remote.channel import Channel
from leoronic.remote.conversation import Conversation
from leoronic.remote.errors import PendingCallsLimitExceeded
from leoronic.remote.refs import ObjectRef
from leoronic.remote.remote_call import RemoteCall

if TYPE_CHECKING:
    from leoronic.remote.context import Context

WINDOW = 10_000


class ActorTarget:
    """One actor. Calls go out in the order in which they were made, each with its arguments."""

    def __init__(self, targets: ActorTargets, task: str, label: str, pending_max: int) -> None:
        self.task = task
        self.label = label
        self.is_ours = False  # this process made it, and ends it
        self.is_passed_on = False
        self._targets = targets
        self._context = context = targets.context
        self._pending_max = pending_max
        self._incoming: deque[RemoteCall] = deque()
        self._take_due = False
        self._unready: deque[RemoteCall] = deque()
        self._is_submitted = True
        self._is_released = False
        self._pins: list[ObjectRef] = []
        self.conversation = Conversation(
            context.party, task, self, context.code_sent, context.routes,
            is_lease=False, window=WINDOW,
        )  # fmt: skip

    # ---- from any thread ----

    @property
    def pending(self) -> int:
        """How many calls are not over. Exact on the loop's thread only."""
        return len(self.conversation.machine) + len(self._unready) + len(self._incoming)

    def submit(self, call: RemoteCall) -> None:
        """Have it carried out. Raises `PendingCallsLimitExceeded`."""
        if 0 < self._pending_max <= self.pending:
            raise PendingCallsLimitExceeded(
                f"{self.label}: {self.pending} calls wait already, which is its max_pending_calls"
            )
        self._incoming.append(call)
        if not self._take_due:
            self._take_due = True
            self._context.party.post(self._take)

    # ---- on the loop's thread ----

    def create(
        self,
        made_of: Callable[[], dict[str, Any]],
        arguments: list[ObjectRef],
        pins: list[ObjectRef],
        is_ours: bool,
    ) -> None:
        """Submit the task that `made_of` gives once `arguments` are there. Calls wait for that."""
        self._targets.spawn(self._create(made_of, arguments, pins, is_ours))
        self._is_submitted = False

    async def _create(
        self,
        made_of: Callable[[], dict[str, Any]],
        arguments: list[ObjectRef],
        pins: list[ObjectRef],
        is_ours: bool,
    ) -> None:
        try:
            await self.create_now(made_of, arguments, pins, is_ours=is_ours)
        except Exception as error:  # Also whatever an argument raises.
            self.conversation.end(f"it could not be made: {type(error).__name__}: {error}")
        finally:
            self._is_submitted = True
            self._advance()
            self._end_if_done()

    async def create_now(
        self,
        made_of: Callable[[], dict[str, Any]],
        arguments: list[ObjectRef],
        pins: list[ObjectRef],
        *,
        is_ours: bool,
    ) -> None:
        """The same; raises `LeoronicError`, `ValueError`, or what an argument raises."""
        for ref in arguments:
            await ref
        await self._context.party.ask(commands.Submit(), json.dumps(made_of()).encode())
        self.is_ours = is_ours
        # The values of its arguments are needed again when it is restarted.
        self._pins = pins

    def release(self) -> None:
        """No handle is left here: it ends once its calls are over, if nobody else knows it."""
        self._is_released = True
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._is_released and not self.pending and self.is_ours and not self.is_passed_on:
            self._targets.end_actor(self)

    def _take(self) -> None:
        self._take_due = False
        incoming, waiting = self._incoming, self._unready
        ready: list[Any] = []
        while incoming:
            call = incoming.popleft()
            if waiting or call.tops or not self._is_submitted:
                waiting.append(call)
                if call.tops:
                    self._context.wait_for_arguments(call, self._arguments_there)
            else:
                call.place = self.conversation
                ready.append(call)
        if ready:
            self.conversation.tell(calls.Submitted(ready))
        if waiting:
            self._advance()

    def _arguments_there(self, call: RemoteCall) -> None:
        failure = call.fill_in()
        call.tops = 0
        if failure is not None:
            self._context.finish(call.number, False, failure)
        self._advance()

    def _advance(self) -> None:
        """Send what is ready, up to the first call that is not."""
        waiting = self._unready
        ready: list[Any] = []
        while waiting and self._is_submitted and not waiting[0].tops:
            call = waiting.popleft()
            if call.number in self._context.calls:
                call.place = self.conversation
                ready.append(call)
        if ready:
            self.conversation.tell(calls.Submitted(ready))
        else:
            self._end_if_done()

    # ---- what the conversation tells ----

    def done(self, results: list[calls.Result]) -> None:
        """These calls are over."""
        finish = self._context.finish
        for number, ok, payload in results:
            finish(number, ok, payload)
        if self._is_released:
            self._end_if_done()

    def failed(self, numbers: list[tuple[int, str]], reason: str) -> None:
        """These calls are over without an answer."""
        for number, code in numbers:
            call = self._context.calls.get(number)
            what = call.label if call is not None else self.label
            if code == calls.CANCELLED:
                text = f"{what} was {reason}"
            else:
                text = f"{what}: the actor {self.label} ({self.task}): {reason}"
            self._context.fail(number, code, text)
        self._end_if_done()

    def returned(self, found: list[RemoteCall]) -> None:
        """Not for actors."""
        raise AssertionError(found)


class ActorTargets:
    """All actors that this process knows."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._targets: dict[str, ActorTarget] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def target(self, task: str, label: str, pending_max: int = -1) -> ActorTarget:
        """That of the actor of `task`. From any thread."""
        found = self._targets.get(task)
        if found is None:
            made = ActorTarget(self, task, label, pending_max)
            found = self._targets.setdefault(task, made)
        return found

    def spawn(self, work: Any) -> None:
        """Run it on the loop, on which this is called."""
        made = self.context.party.loop.create_task(work)
        self._tasks.add(made)
        made.add_done_callback(self._tasks.discard)

    def worker_connected(self, channel: Channel, task: str, attempt: int) -> None:
        """A worker has come: an actor of ours?"""
        target = self._targets.get(task)
        if target is not None:
            target.conversation.connected(channel, attempt)

    def end_actor(self, target: ActorTarget) -> None:
        """It is not needed any more."""
        self._targets.pop(target.task, None)
        channel = target.conversation.channel
        if channel is not None:
            channel.say(said.ASK, (0, ("end", "no handle of it is left")))
        else:
            self.spawn(self._cancel([target.task]))

    async def kill(self, task: str, *, no_restart: bool) -> None:
        """End it at once, in the middle of what it does."""
        target = self._targets.get(task)
        channel = target.conversation.channel if target is not None else None
        if no_restart:
            await self._cancel([task])
        elif channel is None:
            channel = await self._reach(task)
        if channel is not None:
            channel.say(said.ASK, (0, ("crash",)))

    async def end(self) -> None:
        """End those that this process has made and that shall not outlive it."""
        ours = [target for target in self._targets.values() if target.is_ours]
        for target in ours:
            channel = target.conversation.channel
            if channel is not None:
                channel.say(said.ASK, (0, ("crash",)))
        if ours:
            await self._cancel([target.task for target in ours])

    async def _reach(self, task: str) -> Channel | None:
        found = await self.context.party.ask(commands.Locate(task))
        if found["state"] != "running":
            return None
        return await self.context.party.dial(found["node"], f"{task}.{found['attempt']}")

    async def _cancel(self, tasks: list[str]) -> None:
        try:
            await self.context.party.ask(commands.Cancel(tasks))
        except LeoronicError:
            return  # It ends by itself, once the connection with this process is gone.
