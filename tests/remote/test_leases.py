"""Leases: who gets which call, how many workers there are, and who pays for a crash."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from leoronic.core import commands
from leoronic.errors import BadRequest
from leoronic.remote import said
from leoronic.remote.channel import Channel
from leoronic.remote.code import CodeSent
from leoronic.remote.errors import WorkerCrashedError, failure_of
from leoronic.remote.leases import Pool
from leoronic.remote.pools import Pools
from leoronic.remote.remote_call import RemoteCall
from leoronic.remote.shapes import Shape


class FakeChannel:
    """Remembers what is said."""

    def __init__(self, task: str) -> None:
        self.peer = SimpleNamespace(node="n", party=f"{task}.1")
        self.asked: list[Any] = []
        self.calls: list[int] = []

    def say(self, kind: int, body: Any) -> None:
        assert said.ASK == kind
        self.asked.append(body[1])

    def say_item(self, kind: int, item: Any, *, is_large: bool = False) -> None:
        if kind == said.CALLS:
            self.calls.append(item[0])


class FakeLoop:
    """The real one, with a clock that is set by hand; later is never."""

    def __init__(self) -> None:
        real = asyncio.get_running_loop()
        self.now = 100.0
        self.call_soon, self.create_task = real.call_soon, real.create_task

    def time(self) -> float:
        return self.now

    def call_later(self, delay_s: float, function: Any, *args: Any) -> Any:
        return SimpleNamespace(cancel=lambda: None)

    call_at = call_later


class FakeContext:
    """A driver in a cluster of two cpus, whose node only takes tasks and cancels them."""

    def __init__(self) -> None:
        self.party = cast(Any, self)
        self.loop = FakeLoop()
        self.about = {"job": "j"}
        self.owner = ("n", "d-j")
        self.calls: dict[int, RemoteCall] = {}
        self.routes: dict[Any, Any] = {}
        self.code_sent = CodeSent()
        self.objects = SimpleNamespace(borrows_from=lambda owner: False)
        self.submitted: list[dict[str, Any]] = []
        self.cancelled: list[str] = []
        self.ended: dict[str, str] = {}
        self.refuses = ""
        self.pools = Pools(cast(Any, self))

    def post(self, function: Any, *args: Any) -> None:
        self.loop.call_soon(function, *args)

    async def ask(self, command: Any, blob: bytes = b"") -> Any:
        match command:
            case commands.Submit():
                if self.refuses:
                    raise BadRequest(self.refuses)
                self.submitted += [json.loads(line) for line in blob.splitlines()]
                return {"ids": []}
            case commands.Nodes():
                return {"nodes": [{"state": "up", "kind": "node", "cpus": 2}]}
            case commands.Cancel(tasks):
                self.cancelled += tasks
                return {}
            case commands.Locate(task):
                if task not in self.ended:
                    await asyncio.Event().wait()
                return {"state": "failed", "attempt": 1, "reason": "", "task": task}
            case commands.Show(task):
                return {"state": "failed", "exit_code": 3, "node": "n", "reason": ""}
        raise AssertionError(command)

    async def read_logs(self, task: str, stream: str, bytes_max: int) -> bytes:
        return b"last words\n"

    def finish(self, number: int, ok: bool, payload: Any) -> None:
        self.calls.pop(number).settle(ok, payload)

    def fail(self, number: int, code: str, text: str) -> None:
        self.calls.pop(number).fail(code, text)


class Bench:
    """A pool, its calls by number, and the channels of its workers."""

    def __init__(self) -> None:
        self.context = FakeContext()
        self.pool: Pool = self.context.pools.pool(Shape())
        self.made: dict[int, RemoteCall] = {}

    def call(self, *numbers: int, retries: int = 3) -> None:
        for number in numbers:
            call = RemoteCall(
                number, self.context.owner, "f", ((),), 1, label="f()", retries=retries
            )
            call.is_alone = not retries
            self.made[number] = self.context.calls[number] = call
            self.pool.submit(call)

    async def turn(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def connect(self, index: int) -> FakeChannel:
        """The worker of the `index`-th task comes."""
        await self.turn()
        task = self.context.submitted[index]["id"]
        channel = FakeChannel(task)
        self.context.pools.worker_connected(cast(Channel, channel), task, 1)
        await self.turn()
        return channel

    async def answer(self, channel: FakeChannel, *numbers: int) -> None:
        conversation, attempt = self.context.routes[channel]
        self.context.loop.now += 1e-5
        from leoronic.core.calls import Answered

        conversation.tell(Answered(attempt, [(number, True, (number,)) for number in numbers]))
        await self.turn()

    async def die(self, channel: FakeChannel) -> None:
        """Its process is gone, and its node says so."""
        from leoronic.core.calls import Ended

        conversation, _ = self.context.routes[channel]
        conversation.lost(channel, "gone")
        conversation.tell(Ended("killed by signal 9"))
        await self.turn()


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_a_worker_is_asked_for_when_there_is_a_call(bench: Bench) -> None:
    """It is a task with what the function needs; it gets the call when it comes."""
    bench.call(1)
    channel = await bench.connect(0)
    assert [1] == channel.calls
    task = bench.context.submitted[0]
    assert (1.0, "worker") == (task["cpus"], task["labels"]["leoronic.kind"])
    assert ["n", "d-j"] == json.loads(task["env"]["LEORONIC_WORKER"])["lessor"]


async def test_there_are_no_more_workers_than_the_cluster_has_room_for(bench: Bench) -> None:
    """Two cpus, two workers, however many calls there are."""
    bench.call(*range(100))
    first = await bench.connect(0)
    second = await bench.connect(1)
    assert 2 == len(bench.context.submitted)
    assert [[0], [1]] == [first.calls, second.calls]


async def test_quick_calls_are_sent_ahead_long_ones_are_not(bench: Bench) -> None:
    """How long they take is learnt from the answers."""
    bench.call(*range(100))
    channel = await bench.connect(0)
    lease = bench.pool._leases[0]
    assert [0] == channel.calls
    await bench.answer(channel, 0)
    assert len(channel.calls) > 10
    lease.call_s = 1.0
    sent = list(channel.calls)
    await bench.answer(channel, *sent[1:-1])
    lease.call_s = 1.0
    assert lease.room <= 0


async def test_a_long_call_is_relieved_of_what_waits_behind_it(bench: Bench) -> None:
    """The worker is asked to give back what it has not begun."""
    bench.call(*range(20))
    channel = await bench.connect(0)
    await bench.answer(channel, 0)
    bench.context.loop.now += 10.0
    bench.pool._take_back()
    assert [("decline",)] == channel.asked


async def test_a_crash_costs_only_the_first_call_a_retry(bench: Bench) -> None:
    """All that the worker had are sent again, each alone; the first has one try fewer."""
    bench.call(*range(5))
    channel = await bench.connect(0)
    await bench.answer(channel, 0)
    assert [0, 1, 2, 3, 4] == channel.calls
    await bench.die(channel)
    other = await bench.connect(1)
    assert [1] == other.calls
    assert [2, 3, 3, 3] == [bench.made[n].retries for n in range(1, 5)]
    await bench.answer(other, 1)
    assert [1, 2] == other.calls


async def test_without_retries_a_crash_fails_the_call(bench: Bench) -> None:
    """The error says how the worker ended; those that wait are not touched."""
    bench.call(1, 2, retries=0)
    channel = await bench.connect(0)
    assert [1] == channel.calls
    await bench.die(channel)
    with pytest.raises(WorkerCrashedError, match="signal 9"):
        bench.made[1].refs[0].value()
    assert not bench.made[2].refs[0].done


async def test_workers_that_end_before_they_come(bench: Bench) -> None:
    """Others are asked for, but not for ever: then the calls fail, and say why."""
    bench.call(1)
    for index in range(5):
        await bench.turn()
        task = bench.context.submitted[index]["id"]
        bench.context.ended[task] = ""
        lease = bench.context.pools._leases[task]
        bench.pool._start(bench.pool._watch(lease))
    await bench.turn()
    with pytest.raises(WorkerCrashedError, match=r"exit status 3[\s\S]*last words"):
        bench.made[1].refs[0].value()


async def test_a_refused_task_fails_the_calls(bench: Bench) -> None:
    """With the node's words."""
    bench.context.refuses = "resources: no such thing"
    bench.call(1)
    await bench.turn()
    with pytest.raises(WorkerCrashedError, match="no such thing"):
        bench.made[1].refs[0].value()


async def test_idle_workers_are_given_back(bench: Bench) -> None:
    """Not those at work, nor those that own what is used here; ones that wait are cancelled."""
    bench.call(1, 2)
    channel = await bench.connect(0)
    bench.pool.end_idle(0.0)
    assert [] == channel.asked
    await bench.answer(channel, 1)
    await bench.answer(channel, 2)
    bench.context.objects.borrows_from = lambda owner: True
    bench.pool.end_idle(0.0)
    assert [] == channel.asked
    bench.context.objects.borrows_from = lambda owner: False
    bench.pool.end_idle(0.0)
    await bench.turn()
    assert [("end", "it was idle")] == channel.asked
    assert bench.context.cancelled == [task["id"] for task in bench.context.submitted[1:]]
    assert [] == bench.pool._leases


async def test_a_worker_that_waits_is_stood_in_for_once(bench: Bench) -> None:
    """By one without cpus, while calls wait; it gets none itself meanwhile."""
    bench.call(*range(3))
    channel = await bench.connect(0)
    await bench.connect(1)
    bench.context.pools.worker_blocked(cast(Channel, channel), True)
    assert 1 == bench.context.pools.extras_left
    bench.context.pools._stand_in()
    await bench.turn()
    assert [1.0, 1.0, 0] == [task["cpus"] for task in bench.context.submitted]
    bench.context.pools._stand_in()
    await bench.turn()
    assert 3 == len(bench.context.submitted)
    stand_in = await bench.connect(2)
    assert [2] == stand_in.calls
    bench.call(3)
    await bench.answer(channel, 0)
    assert [0] == channel.calls


async def test_exceptions_are_tried_again_only_if_asked(bench: Bench) -> None:
    """For all, or for some kinds; until the retries are used up."""
    bench.call(1, retries=1)
    failure = failure_of(OSError("once"))
    assert not bench.pool.is_tried_again(1, failure)
    bench.made[1].retry_exceptions = (ValueError,)
    assert not bench.pool.is_tried_again(1, failure)
    bench.made[1].retry_exceptions = (OSError,)
    assert bench.pool.is_tried_again(1, failure)
    assert not bench.pool.is_tried_again(1, failure)


async def test_a_call_whose_argument_failed_is_not_sent(bench: Bench) -> None:
    """It fails the same way."""
    from leoronic.remote.context import Context

    bench.context.wait_for_arguments = (  # type: ignore[attr-defined]
        lambda call, then: Context.wait_for_arguments(cast(Any, bench.context), call, then)
    )
    bench.call(1)
    await bench.turn()
    first = bench.made[1].refs[0]
    payload = (b"", [], [], [(first.key, None)])
    call = RemoteCall(2, bench.context.owner, "f", payload, 1, label="f()", pins=[first])
    bench.context.calls[2] = call
    bench.pool.submit(call)
    await bench.turn()
    assert not call.refs[0].done
    bench.context.finish(1, False, failure_of(ZeroDivisionError("first")))
    await bench.turn()
    with pytest.raises(ZeroDivisionError, match="first"):
        call.refs[0].value()
