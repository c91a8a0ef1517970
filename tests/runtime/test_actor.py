"""Actors in this process: calls, casts, errors, deferred answers, what ends with an incarnation."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from leoronic.errors import ActorGone, BadRequest, CallTimeout, MailboxFull
from leoronic.runtime.actor import NO_REPLY, Actor
from leoronic.runtime.ref import LocalRef
from tests.runtime.actors import Echo, Gated, child, running, until


async def test_call_and_cast() -> None:
    """A call is answered by what handle returns; a cast is handled in order before it."""
    echo = Echo()
    async with running(child("echo", lambda: echo)) as tree:
        ref = tree.find("echo")
        await ref.cast(1)
        ref.cast_nowait(2)
        assert await ref.call(3) == 3
        assert echo.seen == [1, 2, 3]


async def test_an_error_on_purpose_answers_the_call() -> None:
    """A LeoronicError reaches the caller, and the actor lives on."""
    async with running(child("echo", Echo)) as tree:
        ref = tree.find("echo")
        with pytest.raises(BadRequest, match="no"):
            await ref.call(BadRequest("no"))
        assert await ref.call("still here") == "still here"
        assert tree.statistics()[1]["restarts"] == 0


async def test_a_bug_ends_the_incarnation_and_the_ref_reaches_the_next() -> None:
    """The caller hears ActorGone, as do those who wait in the mailbox; the ref stays valid."""
    gated = Gated()
    actors = iter([gated, Echo()])
    async with running(child("echo", lambda: next(actors))) as tree:
        ref = tree.find("echo")
        calls = [asyncio.create_task(ref.call(message)) for message in (ValueError("x"), 2)]
        await asyncio.sleep(0)
        await ref.cast(3)
        gated.gate.set()
        for call in calls:
            with pytest.raises(ActorGone, match="echo ended"):
                await call
        await until(lambda: tree.statistics()[1]["state"] == "running")
        assert await ref.call(4) == 4
        assert len(gated.seen) == 1
        assert tree.statistics()[1]["restarts"] == 1


async def test_timeout() -> None:
    """A call that is not answered in time fails, and is then not handled at all."""
    gated = Gated()
    async with running(child("gated", lambda: gated)) as tree:
        ref = tree.find("gated")
        await ref.cast("holds it up")
        with pytest.raises(CallTimeout, match=r"gated did not answer within 0.01 s"):
            await ref.call("late", timeout_s=0.01)
        gated.gate.set()
        await ref.call("next")
        assert gated.seen == ["holds it up", "next"]


async def test_backpressure() -> None:
    """A full mailbox makes cast wait, cast_nowait fail, and call fail with a definite error."""
    gated = Gated()
    async with running(child("gated", lambda: gated, mailbox_max=1)) as tree:
        ref = tree.find("gated")
        assert isinstance(ref, LocalRef)
        await ref.cast(1)
        await until(lambda: ref.cell is not None and not ref.cell.mailbox.full)
        await ref.cast(2)
        with pytest.raises(MailboxFull):
            ref.cast_nowait(3)
        with pytest.raises(MailboxFull) as refused:
            await ref.call(4, timeout_s=0.01)
        assert refused.value.definite
        waiting = asyncio.create_task(ref.cast(5))
        await asyncio.sleep(0)
        assert not waiting.done()
        gated.gate.set()
        await waiting
        assert await ref.call(6) == 6
        assert gated.seen == [1, 2, 5, 6]
        assert tree.statistics()[1]["mailbox_high"] == 1


async def test_nobody_there() -> None:
    """Before its start and after its stop, calls to an actor fail and casts are counted lost."""
    async with running(child("echo", Echo)) as tree:
        ref = tree.find("echo")
    await ref.cast(1)
    ref.cast_nowait(2)
    with pytest.raises(ActorGone):
        await ref.call(3)
    assert tree.statistics()[1]["lost"] == 2


async def test_a_call_to_oneself_is_refused() -> None:
    """An actor that calls itself would wait for ever: it crashes at once instead."""

    class Narcissus(Actor):
        async def handle(self, message: Any) -> Any:
            return await self.context.ref.call(message)

    async with running(child("narcissus", Narcissus)) as tree:
        with pytest.raises(ActorGone):
            await tree.find("narcissus").call(1)


class Later(Actor):
    """Answers each call only when the next message comes."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def handle(self, message: Any) -> Any:
        for request in self.asked:
            self.context.reply(request, f"after {message}")
        self.asked = [self.context.request]
        if isinstance(message, Exception):
            raise message
        return NO_REPLY


async def test_deferred_answers() -> None:
    """A call may be answered long after handle has returned, and fails if its actor dies first."""
    async with running(child("later", Later)) as tree:
        ref = tree.find("later")
        first = asyncio.create_task(ref.call("a"))
        await asyncio.sleep(0)
        second = asyncio.create_task(ref.call("b"))
        assert await first == "after b"
        third = asyncio.create_task(ref.call(ValueError("x")))
        assert await second == "after x"
        with pytest.raises(ActorGone):
            await third
        fourth = asyncio.create_task(ref.call("waits"))
        await until(lambda: tree.statistics()[1]["handled"] == 4)
    with pytest.raises(ActorGone):
        await fourth


async def test_background_work_belongs_to_the_actor() -> None:
    """Spawned work that fails crashes its actor; it is cancelled when the actor ends."""
    ended: list[str] = []

    class Busy(Actor):
        async def started(self) -> None:
            self.fuse = asyncio.Event()
            self.context.spawn(self.fail(), "fails")
            self.context.spawn(self.linger(), "lingers")

        async def fail(self) -> None:
            await self.fuse.wait()
            raise ValueError("background")

        async def linger(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("lingers")

        async def handle(self, message: Any) -> Any:
            self.fuse.set()

    async with running(child("busy", Busy)) as tree:
        await tree.find("busy").cast("light it")
        await until(lambda: tree.statistics()[1]["restarts"] == 1)
        await until(lambda: ended == ["lingers"])
    await until(lambda: ended == ["lingers", "lingers"])


async def test_timers_end_with_the_actor() -> None:
    """send_after delivers even into a full mailbox, and nothing once the actor has ended."""
    seen: list[Any] = []
    told = asyncio.Event()

    class Timed(Actor):
        async def started(self) -> None:
            self.context.send_after(0.0, "tick")
            self.context.send_after(3600.0, "never")

        async def handle(self, message: Any) -> Any:
            seen.append(message)
            told.set()

    async with running(child("timed", Timed, mailbox_max=1)):
        await told.wait()
    assert seen == ["tick"]


@pytest.mark.parametrize("loop_of", ["asyncio", "uvloop"])
def test_many_timers_that_are_due_at_once(loop_of: str) -> None:
    """A timer without a delay is one like any other, however many there are, on every loop."""
    called: list[int] = []

    class Hasty(Actor):
        async def started(self) -> None:
            for number in range(200):
                self.context.call_after(0.0, partial(called.append, number))

        async def handle(self, message: Any) -> Any:
            return None

    async def story() -> None:
        async with running(child("hasty", Hasty)) as tree:
            await until(lambda: len(called) == 200)
            assert 0 == tree.statistics()[1]["restarts"]

    with asyncio.Runner(loop_factory=pytest.importorskip(loop_of).new_event_loop) as runner:
        runner.run(story())
    assert list(range(200)) == sorted(called)


async def test_stop_handles_what_is_there_first() -> None:
    """An ordered stop comes after the messages sent before it; then `stopping` runs."""
    diary: list[str] = []
    echo = Echo("echo", diary)
    async with running(child("echo", lambda: echo)) as tree:
        for number in range(300):
            await tree.find("echo").cast(number)
    assert echo.seen == list(range(300))
    assert diary == ["+echo", "-echo"]


async def test_a_stop_is_cut_off_after_its_time() -> None:
    """An actor that does not end within shutdown_s is cancelled."""
    gated = Gated()
    async with running(child("gated", lambda: gated, shutdown_s=0.01)) as tree:
        await tree.find("gated").cast("never done")
    assert gated.diary == ["+echo"]


async def test_an_actor_may_end_normally() -> None:
    """context.stop() ends a transient actor for good."""

    class Once(Actor):
        async def handle(self, message: Any) -> Any:
            self.context.stop()
            return "done"

    async with running(child("once", Once, restart="transient")) as tree:
        assert await tree.find("once").call("go") == "done"
        await until(lambda: tree.statistics()[1]["state"] == "stopped")
        assert tree.statistics()[1]["restarts"] == 0


async def test_emit_reaches_the_owner() -> None:
    """What an actor emits is cast to the owner its spec names; without one it is dropped."""

    class Talker(Actor):
        async def handle(self, message: Any) -> Any:
            self.context.emit(message)

    owner = Echo()
    async with running(
        child("talker", Talker, owner="owner"),
        child("alone", Talker),
        child("owner", lambda: owner),
    ) as tree:
        await tree.find("talker").call("hello")
        await tree.find("alone").call("anybody?")
        await tree.find("owner").call("last")
    assert owner.seen == ["hello", "last"]


async def test_a_busy_actor_lets_others_run() -> None:
    """An actor whose mailbox never empties yields to others now and then."""

    class Perpetual(Actor):
        async def handle(self, message: Any) -> Any:
            self.context.ref.cast_nowait(message)

    async with running(child("perpetual", Perpetual, shutdown_s=0.0), child("echo", Echo)) as tree:
        await tree.find("perpetual").cast("again")
        assert await tree.find("echo").call(1) == 1
        # A test that hangs here is interrupted inside the actor, which counts as its crash.
        assert tree.statistics()[1]["state"] == "running"
