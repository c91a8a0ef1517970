"""Leased workers of one shape, and the calls of functions that they carry out.

A worker is leased by submitting a task; it calls back when it runs. It gets as many calls ahead as
it does in a few milliseconds, so that it need not wait for the next one, and a long one holds up no
other. A worker that dies takes the call that it ran with it; those that were queued behind it are
sent again, each alone, so that what kills workers is found out, and pays.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from leoronic.core import calls, commands
from leoronic.errors import LeoronicError
from leoronic.remote.errors import error_of
from leoronic.remote.lease import HELD_UP_S, Lease
from leoronic.remote.party import PartyGone
from leoronic.remote.post_mortem import how_it_ended
from leoronic.remote.remote_call import RemoteCall

if TYPE_CHECKING:
    from leoronic.remote.pools import Pools
    from leoronic.remote.shapes import Shape

# What the leases we have will have done so soon is no reason for more of them.
BACKLOG_S_MIN = 0.1
IDLE_S = 2.0
CLUSTER_FRESH_S = 5.0
LOCATE_S = 10.0
WAITING = ("waiting", "blocked", "held")
# A worker calls back so soon after its start, mostly.
CALLS_S_MAX = 1.0
# So many workers that ended before they could be called: the next would do so, too.
STILLBORN_MAX = 5


class Pool:
    """The leases of one shape, and the calls that wait for one."""

    def __init__(self, pools: Pools, shape: Shape) -> None:
        self.pools = pools
        self.context = pools.context
        self.shape = shape
        self.stillborn = 0
        self._incoming: deque[RemoteCall] = deque()
        self._take_due = False
        self._queue: deque[RemoteCall] = deque()
        self._leases: list[Lease] = []
        self._pump_due = False
        self._idle_due = False
        self._look_due = False
        self._asking = False
        self._leases_max = 1
        self._leases_max_until = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- from any thread ----

    def submit(self, call: RemoteCall) -> None:
        """Have it carried out."""
        self._incoming.append(call)
        if not self._take_due:
            self._take_due = True
            self.context.party.post(self._take)

    # ---- on the loop's thread ----

    def _take(self) -> None:
        self._take_due = False
        incoming = self._incoming
        while incoming:
            call = incoming.popleft()
            if call.tops:
                self.context.wait_for_arguments(call, self._ready)
            else:
                self._queue.append(call)
        self.pump()

    def _ready(self, call: RemoteCall) -> None:
        """Its arguments are there."""
        failure = call.fill_in()
        if failure is not None:
            self.context.finish(call.number, False, failure)
            return
        self._queue.append(call)
        self.pump_soon()

    def put_back(self, found: list[RemoteCall]) -> None:
        """These are to be carried out by another worker, before all others."""
        for call in reversed(found):
            call.place = None
            self._queue.appendleft(call)
        self.pump_soon()

    def is_tried_again(self, number: int, failure: Any) -> bool:
        """Whether a call that has failed is made once more, as its options say."""
        call = self.context.calls.get(number)
        if call is None or call.is_cancelled or not call.retries or not call.retry_exceptions:
            return False
        if failure[0] != "task_error":
            return False
        wanted = call.retry_exceptions
        if wanted is not True and not isinstance(error_of(failure), wanted):
            return False
        call.retries -= 1 if call.retries > 0 else 0
        self.put_back([call])
        return True

    def pump_soon(self) -> None:
        """Look once in this turn whether calls can go out."""
        if not self._pump_due:
            self._pump_due = True
            self.context.party.loop.call_soon(self.pump)

    def pump(self) -> None:
        """Give calls to workers that have room, evenly; ask for more workers if that is too few."""
        self._pump_due = False
        queue = self._queue
        ready = [lease for lease in self._leases if lease.room > 0] if queue else []
        ready.sort(key=lambda lease: lease.busy)
        while queue and ready:
            share = -(-len(queue) // len(ready))
            lease = ready.pop(0)
            found = self._next(lease, min(share, lease.room))
            if found:
                lease.give(found)
        self._look_for_held_up()
        if queue:
            self._ask_for_more()
            self.pools.calls_wait()

    def _look_for_held_up(self) -> None:
        if self._look_due:
            return
        now = self.context.party.loop.time()
        at_work = (one for one in self._leases if not one.is_held_up(now))
        if any(one.busy > 1 or (one.busy and self._queue) for one in at_work):
            self._look_due = True
            self.context.party.loop.call_later(HELD_UP_S, self._take_back)

    def _take_back(self) -> None:
        self._look_due = False
        now = self.context.party.loop.time()
        for lease in self._leases:
            lease.take_back(now)
        self.pump()

    def _next(self, lease: Lease, count: int) -> list[RemoteCall]:
        """The next calls for it, at most `count`."""
        queue = self._queue
        found: list[RemoteCall] = []
        while queue and len(found) < count:
            call = queue[0]
            if call.number not in self.context.calls:
                queue.popleft()  # Cancelled meanwhile.
                continue
            if call.is_alone:
                if not found and not lease.busy:
                    found.append(queue.popleft())
                    lease.has_alone = True
                break
            found.append(queue.popleft())
        return found

    # ---- more leases, and fewer ----

    def _ask_for_more(self) -> None:
        """Double the leases if there is work for that."""
        held = [lease for lease in self._leases if not lease.is_extra]
        if self._asking or any(not lease.is_connected for lease in held):
            return
        now = self.context.party.loop.time()
        at_work = [one for one in held if not one.is_blocked and not one.is_held_up(now)]
        rate = sum(1 / lease.call_s for lease in at_work if lease.call_s)
        if rate and len(self._queue) / rate < BACKLOG_S_MIN:
            return
        if held and len(held) >= self._leases_max:
            if now > self._leases_max_until:
                self._spawn(self._measure())
            return
        count = min(len(self._queue), max(len(held), 1), max(self._leases_max - len(held), 1))
        self._spawn(self._request(count, is_extra=False))

    def stand_in(self) -> None:
        """A process waits, and calls wait: one more worker, in its stead."""
        if self._asking or not self._queue:
            return
        if not any(lease.room > 0 for lease in self._leases):
            self._spawn(self._request(1, is_extra=True))

    async def _request(self, count: int, *, is_extra: bool) -> None:
        try:
            made = await self.pools.request(self, count, is_extra=is_extra)
        except LeoronicError as error:
            self._asking = False
            self._fail_all(f"no worker can be had: {error.message}")
            return
        self._asking = False
        self._leases += made
        for lease in made:
            self._start(self._watch(lease))
        if not self._leases_max_until:
            await self._measure()
        self.pump_soon()

    async def _measure(self) -> None:
        """How many workers of this shape the cluster has room for."""
        try:
            nodes = (await self.context.party.ask(commands.Nodes()))["nodes"]
        except LeoronicError:
            nodes = []
        finally:
            self._asking = False
        up = [node for node in nodes if node["state"] == "up" and node["kind"] == "node"]
        cpus = max(self.shape.cpus, 0.1)
        self._leases_max = max(sum(int(node["cpus"] / cpus) for node in up), 1)
        self._leases_max_until = self.context.party.loop.time() + CLUSTER_FRESH_S
        self.pump_soon()

    async def _watch(self, lease: Lease) -> None:
        """Wait until it has called, or its task has ended without that."""
        attempt, warned = 0, False
        while not lease.is_connected and lease in self._leases:
            try:
                found = await self.context.party.ask(
                    commands.Locate(lease.task, wait_s=LOCATE_S, after_attempt=attempt)
                )
            except LeoronicError as error:
                self._stillborn(lease, error.message)
                return
            attempt = found["attempt"]
            if found["state"] in ("succeeded", "failed", "cancelled") and not lease.is_connected:
                self._stillborn(lease, await how_it_ended(self.context.party, lease.task))
                return
            if found["state"] == "running":
                await asyncio.sleep(CALLS_S_MAX)
                await self._dial(lease, found["node"], attempt)
            elif found["state"] in WAITING and found["reason"] and not warned:
                warned = True
                sys.stderr.write(f"leoronic: calls wait for a worker: {found['reason']}\n")

    async def _dial(self, lease: Lease, node: str, attempt: int) -> None:
        """A worker that does not call may be one that cannot: call it."""
        if not lease.is_connected and lease in self._leases:
            with contextlib.suppress(PartyGone):
                await self.context.party.dial(node, f"{lease.task}.{attempt}")

    def _stillborn(self, lease: Lease, reason: str) -> None:
        if lease not in self._leases:
            return
        self.drop(lease)
        self.stillborn += 1
        if self.stillborn >= STILLBORN_MAX:
            self.stillborn = 0
            self._fail_all(f"workers end before they can be called: {reason}")
        self.pump_soon()

    def drop(self, lease: Lease) -> None:
        """It is over."""
        if lease in self._leases:
            self._leases.remove(lease)
        self.pools.gone(lease)

    def look_for_idle(self) -> None:
        """Look soon, and again while there are leases, whether some have nothing to do."""
        if not self._idle_due and self._leases:
            self._idle_due = True
            self.context.party.loop.call_later(IDLE_S / 2, self._look_for_idle)

    def _look_for_idle(self) -> None:
        self._idle_due = False
        self.end_idle(IDLE_S)
        self.look_for_idle()

    def end_idle(self, idle_s: float) -> None:
        """Give back what has had nothing to do for `idle_s` seconds."""
        if self._queue or self._incoming:
            return
        before = self.context.party.loop.time() - idle_s
        unstarted = []
        for lease in list(self._leases):
            if lease.busy or (lease.is_connected and lease.idle_since > before):
                continue
            # What it owns, and is used here, would go with it.
            if lease.is_connected and self.context.objects.borrows_from(lease.owner):
                continue
            self.drop(lease)
            if not lease.end("it was idle"):
                unstarted.append(lease.task)
        if unstarted:
            self.pools.cancel_tasks(unstarted)

    def _fail_all(self, reason: str) -> None:
        queue, self._queue = self._queue, deque()
        for call in queue:
            self.context.fail(call.number, calls.WORKER_CRASHED, f"{call.label}: {reason}")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._asking = True
        self._start(work)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.context.party.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
