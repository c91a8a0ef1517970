"""Machines in actors: effects, deferred replies, timers, and sends that never deadlock."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

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
from leoronic.errors import ActorGone, MailboxFull, ProtocolError, Refused
from leoronic.runtime.machine import MachineActor
from leoronic.runtime.ref import LocalRef
from leoronic.runtime.supervisor import Tree
from tests.runtime.actors import Echo, Gated, child, running, until

Handle = Callable[[Any, float], list[Effect]]


class Scripted:
    """A machine that is one function."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle


def machine(handle: Handle, **fields: Any) -> Callable[[], MachineActor]:
    def make() -> Machine:
        return Scripted(handle)

    return lambda: MachineActor(make, **fields)


def line(tree: Tree, name: str) -> dict[str, Any]:
    return next(line for line in tree.statistics() if line["name"] == name)


async def test_reply_and_fail_come_when_the_machine_says() -> None:
    """A call arrives as Asked; each is answered by its own request, in any order, later."""
    asked: list[Asked] = []

    def handle(message: Any, now: float) -> list[Effect]:
        match message:
            case Asked(_, "answer all"):
                replies: list[Effect] = [Reply(one.request, one.message) for one in asked[1:]]
                return [*replies, Fail(asked[0].request, Refused("no")), Reply(message.request, 0)]
            case Asked():
                asked.append(message)
        return []

    async with running(child("m", machine(handle))) as tree:
        ref = tree.find("m")
        calls = [asyncio.create_task(ref.call(number)) for number in range(3)]
        await until(lambda: len(asked) == 3)
        assert await ref.call("answer all") == 0
        with pytest.raises(Refused, match="no"):
            await calls[0]
        assert [await calls[1], await calls[2]] == [1, 2]


async def test_a_crash_fails_what_was_asked() -> None:
    """Calls that a machine has not answered fail when it crashes; the next machine is fresh."""

    def handle(message: Any, now: float) -> list[Effect]:
        if message == "bug":
            raise ValueError("x")
        return []

    async with running(child("m", machine(handle))) as tree:
        call = asyncio.create_task(tree.find("m").call("waits"))
        await until(lambda: line(tree, "m")["handled"] == 1)
        await tree.find("m").cast("bug")
        with pytest.raises(ActorGone):
            await call


async def test_send_and_log() -> None:
    """Send casts by name; a name that nobody has is told and harms nothing."""
    echo = Echo()

    def handle(message: Any, now: float) -> list[Effect]:
        return [
            Log("seen", "info", {"what": message}),
            Send("nobody", message),
            Send("echo", message),
        ]

    async with running(child("echo", lambda: echo), child("m", machine(handle))) as tree:
        await tree.find("m").cast("hello")
        await until(lambda: echo.seen == ["hello"])


async def test_timers() -> None:
    """A timer fires once, at its time or later; setting it again replaces it."""
    fired: list[tuple[str, float]] = []
    now = 1000.0

    def handle(message: Any, at: float) -> list[Effect]:
        match message:
            case Fired(name):
                fired.append((name, at))
                return []
            case _:
                return [
                    SetTimer("a", now),
                    SetTimer("b", now),
                    SetTimer("c", now),
                    CancelTimer("c"),
                    CancelTimer("never set"),
                    SetTimer("a", now - 5),
                ]

    async with running(child("m", machine(handle, clock=lambda: now), mailbox_max=1)) as tree:
        await tree.find("m").cast("go")
        await until(lambda: len(fired) >= 2)
        for _ in range(5):
            await asyncio.sleep(0)
        assert line(tree, "m")["restarts"] == 0
    assert sorted(fired) == [("a", 1000.0), ("b", 1000.0)]


async def test_a_timer_never_fires_early() -> None:
    """Not before the machine's own clock says so: it may round otherwise, or have been set back."""
    times = deque([10.0, 10.0, 9.98, 9.99, 9.99, 9.9999, 9.9999, 10.0])
    fired: list[float] = []

    def handle(message: Any, at: float) -> list[Effect]:
        if isinstance(message, Fired):
            fired.append(at)
            return []
        return [SetTimer("a", 10.0)]

    def clock() -> float:
        return times.popleft() if len(times) > 1 else times[0]

    async with running(child("m", machine(handle, clock=clock))) as tree:
        await tree.find("m").cast("go")
        await until(lambda: bool(fired))
    assert fired == [10.0]


async def test_sends_to_a_slow_actor_keep_their_order() -> None:
    """What does not fit the receiver's mailbox waits in the outbox, while the machine goes on."""
    gated = Gated()

    def handle(message: Any, now: float) -> list[Effect]:
        if isinstance(message, Asked):
            return [Reply(message.request, "still here")]
        return [Send("gated", message)]

    async with running(
        child("gated", lambda: gated, mailbox_max=2), child("m", machine(handle))
    ) as tree:
        for number in range(50):
            await tree.find("m").cast(number)
        assert await tree.find("m").call("?") == "still here"
        gated.gate.set()
        await until(lambda: gated.seen == list(range(50)))


async def test_a_cycle_of_machines_with_full_mailboxes_keeps_moving() -> None:
    """Two machines that send to each other beyond their mailboxes do not wait for each other."""
    handled = 0

    def volley(to: str) -> Handle:
        def handle(message: Any, now: float) -> list[Effect]:
            nonlocal handled
            handled += 1
            return [Send(to, message - 1)] if message else []

        return handle

    async with running(
        child("a", machine(volley("b")), mailbox_max=1),
        child("b", machine(volley("a")), mailbox_max=1),
    ) as tree:
        for _ in range(50):
            await tree.find("a").cast(20)
        await until(lambda: handled == 50 * 21)


async def test_a_full_outbox_pushes_back() -> None:
    """Over its bound, a machine takes no new messages until some have left."""
    gated = Gated()

    def handle(message: Any, now: float) -> list[Effect]:
        return [Send("gated", message)]

    async with running(
        child("gated", lambda: gated, mailbox_max=1),
        child("m", machine(handle, outbox_max=3), mailbox_max=2),
    ) as tree:
        casts = asyncio.create_task(cast_all(tree, range(20)))
        await until(lambda: line(tree, "m")["mailbox"] == 2)
        for _ in range(20):
            await asyncio.sleep(0)
        assert line(tree, "m")["handled"] < 10
        gated.gate.set()
        await casts
        await until(lambda: gated.seen == list(range(20)))


async def cast_all(tree: Tree, messages: range) -> None:
    for message in messages:
        await tree.find("m").cast(message)


async def test_a_stalled_outbox_ends_in_a_crash_that_names_the_receiver() -> None:
    """A receiver that hangs for stall_s crashes the sender rather than stop it for ever."""

    def handle(message: Any, now: float) -> list[Effect]:
        return [Send("gated", message)]

    async with running(
        child("gated", Gated, mailbox_max=1, shutdown_s=0.0),
        child("m", machine(handle, outbox_max=1, stall_s=0.01)),
        intensity=1,
    ) as tree:
        for number in range(10):
            await tree.find("m").cast(number)
        await until(lambda: line(tree, "m")["restarts"] == 1)


async def test_a_bug_in_a_machine_is_not_swallowed() -> None:
    """An effect that is none crashes the actor."""

    def handle(message: Any, now: float) -> list[Effect]:
        return ["not an effect"]  # type: ignore[list-item]

    async with running(child("m", machine(handle))) as tree:
        await tree.find("m").cast("go")
        await until(lambda: line(tree, "m")["restarts"] == 1)


@pytest.mark.parametrize("slow", [False, True])
async def test_what_is_too_large_to_be_sent_is_lost(
    slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once or from the outbox: the machine goes on, and what comes after it arrives."""
    cast, cast_nowait = LocalRef.cast, LocalRef.cast_nowait

    async def limited(ref: LocalRef, message: Any) -> None:
        check(message)
        await cast(ref, message)

    def limited_nowait(ref: LocalRef, message: Any) -> None:
        if slow and ref.name == "echo":
            raise MailboxFull("busy")
        check(message)
        cast_nowait(ref, message)

    def check(message: Any) -> None:
        if message == "large":
            raise ProtocolError("over the limit")

    def handle(message: Any, now: float) -> list[Effect]:
        return [Send("echo", word) for word in ("small", "large", "last")]

    echo = Echo()
    async with running(child("echo", lambda: echo), child("machine", machine(handle))) as tree:
        monkeypatch.setattr(LocalRef, "cast", limited)
        monkeypatch.setattr(LocalRef, "cast_nowait", limited_nowait)
        await tree.find("machine").cast("go")
        await until(lambda: len(echo.seen) == 2)
        assert ["small", "last"] == echo.seen
        assert line(tree, "machine")["restarts"] == 0
