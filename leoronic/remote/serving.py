"""The calls that others make to this process: from their connections to where they run, and back.

All of it happens on the loop's thread, but for `finish` and `send_item`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from leoronic.core.callee import CalleeMachine
from leoronic.core.calls import (
    Acknowledged,
    Answer,
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
from leoronic.remote import said, serial
from leoronic.remote.channel import Channel
from leoronic.remote.code import CodeShelf
from leoronic.remote.errors import Failure, failure
from leoronic.remote.executing import cancelled
from leoronic.remote.jobs import Job, Outcome, failed
from leoronic.remote.party import Party
from leoronic.remote.running import Place

LARGE_BYTES_MIN = 64 * 1024

Fetch = Callable[[list[serial.RefKey], Callable[[list[tuple[bool, Any]]], None]], None]

Item = tuple[int, int, bool, serial.Payload]
"""Of a generator: (number of the call, index, True, payload)."""


class Serving:
    """Calls of all callers to `target`, the task of this process.

    `place` runs them and is set before the party starts; `fetch` gets the values of references.
    `keeps_order`: calls of one caller begin in order even where some wait for their arguments.
    """

    def __init__(
        self, party: Party, target: str, shelf: CodeShelf, *, fetch: Fetch, keeps_order: bool
    ) -> None:
        self.place: Place
        self.executed = 0
        self.on_force: Callable[[str], None] = lambda reason: None
        self._party = party
        self._target = target
        self._shelf = shelf
        self._fetch = fetch
        self._keeps_order = keeps_order
        self._machine = CalleeMachine()
        self._channels: dict[str, Channel] = {}
        self._jobs: dict[str, dict[int, Job]] = {}  # by caller and number
        self._behind: dict[str, deque[Job]] = {}
        # Ends of calls, and items of generators, which must not be overtaken by their end.
        self._told: deque[tuple[Job, Outcome | None, Item | None]] = deque()
        self._pins: dict[str, dict[int, Sequence[Any]]] = {}
        # Generators whose end is not acknowledged: by caller and number.
        self._streams: dict[str, dict[int, Job]] = {}
        self._gone: Failure | None = None
        self._declines = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            Start: self._start,
            Answer: self._answer,
            Decline: self._decline,
            Refuse: self._refuse,
            Forgotten: self._forget,
            SetTimer: self._set_timer,
        }
        party.handlers[said.CALLS] = self._on_calls
        party.handlers[said.CODE] = self._on_code
        party.handlers[said.ACK] = self._on_ack
        party.handlers[said.CANCEL] = self._on_cancel
        party.handlers[said.TAKEN] = self._on_taken

    @property
    def waiting(self) -> int:
        """How many calls are here and have not begun."""
        return sum(not job.is_claimed for job in self._all())

    @property
    def running(self) -> int:
        """How many calls have begun and are not over."""
        return sum(job.is_claimed for job in self._all())

    def _all(self) -> list[Job]:
        """From any thread."""
        return [job for jobs in list(self._jobs.values()) for job in list(jobs.values())]

    def _job(self, caller: str, number: int) -> Job | None:
        return self._jobs.get(caller, {}).get(number)

    # ---- what callers say ----

    def _on_calls(self, channel: Channel, body: object) -> None:
        caller = channel.peer.party
        self._channels[caller] = channel
        calls = cast("list[tuple[Any, ...]]", body)
        if caller in self._streams:
            for call in calls:
                self._repeat_items(channel, caller, call[0])
        self._handle(Arrived(caller, calls))

    def _repeat_items(self, channel: Channel, caller: str, number: int) -> None:
        """The call is made again, as a connection broke: what was on its way may be lost."""
        job = self._streams[caller].get(number)
        if job is not None and job.items is not None:
            for index, payload in job.items.items():
                channel.say_item(
                    said.ITEM, (number, index, True, payload), is_large=_is_large(payload)
                )

    def _on_code(self, channel: Channel, body: object) -> None:
        for digest, data in cast("list[tuple[str, Any]]", body):
            self._shelf.add(digest, data)

    def _on_ack(self, channel: Channel, body: object) -> None:
        caller = channel.peer.party
        self._channels[caller] = channel
        for target, seq in cast("list[tuple[str, int]]", body):
            if target != self._target:
                continue
            pins = self._pins.get(caller)
            if pins:
                for pinned in [pinned for pinned in pins if pinned <= seq]:
                    del pins[pinned]
            self._drop_streams(caller, seq)
            self._handle(Acknowledged(caller, seq))

    def _drop_streams(self, caller: str, seq: int) -> None:
        streams = self._streams.get(caller)
        if streams is None:
            return
        for number in [number for number, job in streams.items() if job.seq <= seq]:
            del streams[number]
        if not streams:
            del self._streams[caller]

    def _on_cancel(self, channel: Channel, body: object) -> None:
        for number, is_forced in cast("list[tuple[int, bool]]", body):
            job = self._job(channel.peer.party, number)
            if job is not None:
                self._cancel(job, is_forced)

    def _cancel(self, job: Job, is_forced: bool) -> None:
        job.is_cancelled = True
        if job.claim():
            self._end([(job, cancelled(job))])
            self._put_ready(job.caller)
            return
        if job.on_taken is not None:
            job.on_taken()
        if is_forced:
            self.decline_waiting()
            self._end([(job, cancelled(job))])
            self.on_force(f"{job.label} was cancelled by force")
        elif job.cancel is not None:
            job.cancel()

    def _on_taken(self, channel: Channel, body: object) -> None:
        streams = self._streams.get(channel.peer.party, {})
        for number, count in cast("list[tuple[int, int]]", body):
            job = streams.get(number)
            if job is not None:
                for index in range(job.taken, count):
                    if job.items is not None:
                        job.items.pop(index, None)
                job.taken = max(job.taken, count)
                if job.on_taken is not None:
                    job.on_taken()

    def lost(self, channel: Channel) -> None:
        """A connection has ended. Another one with the same party may be there."""
        caller = channel.peer.party
        if self._channels.get(caller) is not channel:
            return
        del self._channels[caller]
        if not self._jobs.get(caller):
            self._jobs.pop(caller, None)
        self._handle(Left(caller))

    # ---- what the machine says ----

    def _handle(self, event: object) -> None:
        for effect in self._machine.handle(event, time.monotonic()):
            self._handlers[type(effect)](effect)

    def _set_timer(self, effect: SetTimer) -> None:
        wait_s = max(effect.at - time.monotonic(), 0.0)
        self._party.loop.call_later(wait_s, self._handle, Fired(effect.name))

    def _start(self, effect: Start) -> None:
        caller = effect.caller
        jobs = self._jobs.setdefault(caller, {})
        for number, seq, target, name, payload, n_returns, flags in effect.calls:
            job = jobs[number] = Job(caller, number, seq, name, payload, n_returns, flags)
            if self._gone is not None or target != self._target:
                job.claim()
                why = self._gone or failure("actor_died", f"{target} is not here")
                self.finish(job, failed(why))
            elif self._declines:
                self._give_back([job])
            elif len(payload) == 4 and payload[3]:
                self._resolve(job)
            else:
                self._put_in_turn(job)

    def _answer(self, effect: Answer) -> None:
        channel = self._channels.get(effect.caller)
        if channel is not None:
            # Mostly they are small, and leave together.
            for result in effect.results:
                channel.say_item(said.RESULTS, result, is_large=_is_large(result[2]))

    def _decline(self, effect: Decline) -> None:
        channel = self._channels.get(effect.caller)
        if channel is not None:
            channel.say(said.DECLINE, effect.numbers)

    def _refuse(self, effect: Refuse) -> None:
        channel = self._channels.get(effect.caller)
        if channel is not None:
            why = failure("actor_unavailable", effect.reason)
            channel.say(said.RESULTS, [(number, False, why) for number in effect.numbers])

    def _forget(self, effect: Forgotten) -> None:
        self._pins.pop(effect.caller, None)
        self._streams.pop(effect.caller, None)
        self._jobs.pop(effect.caller, None)
        self._behind.pop(effect.caller, None)

    # ---- arguments that are references ----

    def _resolve(self, job: Job) -> None:
        tops = serial.tops_of(job.payload)
        values: list[Any] = [(True, payload) for _, payload in tops]
        missing = [index for index, (_, payload) in enumerate(tops) if payload is None]
        job.tops = values
        if not missing:
            self._put_in_turn(job)
            return
        job.is_ready = False
        if self._keeps_order:
            self._behind.setdefault(job.caller, deque()).append(job)

        def fetched(found: list[tuple[bool, Any]]) -> None:
            for index, value in zip(missing, found, strict=True):
                values[index] = value
            job.is_ready = True
            if self._keeps_order:
                self._put_ready(job.caller)
            else:
                self.place.put(job)

        self._fetch([tops[index][0] for index in missing], fetched)

    def _put_in_turn(self, job: Job) -> None:
        behind = self._behind.get(job.caller)
        if behind:
            behind.append(job)
        else:
            self.place.put(job)

    def _put_ready(self, caller: str) -> None:
        behind = self._behind.get(caller)
        while behind and (behind[0].is_ready or behind[0].is_claimed):
            job = behind.popleft()
            if not job.is_claimed:
                self.place.put(job)
        if not behind:
            self._behind.pop(caller, None)

    # ---- the end of calls ----

    def finish(self, job: Job, outcome: Outcome) -> None:
        """A call is over. From any thread."""
        self._told.append((job, outcome, None))
        self._party.post(self._take_told)

    def _take_told(self) -> None:
        over = []
        for _ in range(len(self._told)):
            job, outcome, item = self._told.popleft()
            if outcome is not None:
                over.append((job, outcome))
            elif item is not None:
                self._say_item(job, item)
        if over:
            self._end(over)

    def _end(self, over: Iterable[tuple[Job, Outcome]]) -> None:
        by_caller: dict[str, list[tuple[int, Result]]] = {}
        for job, (ok, payload, found) in over:
            caller, number = job.caller, job.number
            if self._jobs.get(caller, {}).pop(number, None) is None:
                continue
            self.executed += 1
            if found:
                self._pins.setdefault(caller, {})[job.seq] = found
            result = (job.seq, (number, ok, payload))
            if caller in by_caller:
                by_caller[caller].append(result)
            else:
                by_caller[caller] = [result]
        for caller, results in by_caller.items():
            self._handle(Finished(caller, results))

    def send_item(self, job: Job, index: int, payload: serial.Payload) -> None:
        """Send an item of a generator. From any thread."""
        self._told.append((job, None, (job.number, index, True, payload)))
        self._party.post(self._take_told)

    def _say_item(self, job: Job, item: Item) -> None:
        if job.items is None:
            job.items = {}
            self._streams.setdefault(job.caller, {})[job.number] = job
        job.items[item[1]] = item[3]
        channel = self._channels.get(job.caller)
        if channel is not None:
            channel.say_item(said.ITEM, item, is_large=_is_large(item[3]))

    def decline_waiting(self) -> None:
        """Give back all that has not begun."""
        self._give_back([job for job in self._all() if not job.is_claimed])

    def decline_all(self) -> None:
        """As `decline_waiting`, and what arrives from now on."""
        self._declines = True
        self.decline_waiting()

    def accept(self) -> None:
        """Undo `decline_all`."""
        self._declines = False

    def _give_back(self, jobs: list[Job]) -> None:
        by_caller: dict[str, list[tuple[int, int]]] = {}
        for job in jobs:
            if job.claim():
                self._jobs.get(job.caller, {}).pop(job.number, None)
                by_caller.setdefault(job.caller, []).append((job.seq, job.number))
        for caller, calls in by_caller.items():
            self._put_ready(caller)
            self._handle(Unstarted(caller, calls))

    def fail_all(self, why: Failure) -> None:
        """Fail all that waits, and what arrives from now on."""
        self._gone = why
        waiting = [job for job in self._all() if job.claim()]
        self._end([(job, failed(why)) for job in waiting])


def _is_large(payload: Any) -> bool:
    """Whether it travels apart from others. Of a call with many results, each may be."""
    if type(payload) is list:
        return any(map(_is_large, payload))
    return (
        type(payload) is tuple and len(payload) == 3 and serial.size_of(payload) > LARGE_BYTES_MIN
    )
