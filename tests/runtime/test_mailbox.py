"""The mailbox: bounded, in order, with backpressure and statistics."""

from __future__ import annotations

import asyncio

import pytest

from leoronic.errors import ActorGone, MailboxFull
from leoronic.runtime.mailbox import Mailbox


async def test_order_and_statistics() -> None:
    """Messages come out in order; length, high water and taken are counted."""
    mailbox = Mailbox("a", 10)
    for number in range(3):
        mailbox.put_nowait(number)
    assert [mailbox.take(), mailbox.take()] == [0, 1]
    assert (len(mailbox), mailbox.high_water, mailbox.taken) == (1, 3, 2)


async def test_full() -> None:
    """Beyond its bound a mailbox refuses, and says whose it is."""
    mailbox = Mailbox("slowpoke", 1)
    mailbox.put_nowait(1)
    with pytest.raises(MailboxFull, match="slowpoke is not keeping up"):
        mailbox.put_nowait(2)
    assert mailbox.full
    mailbox.put_always(3)
    assert len(mailbox) == 2


async def test_put_waits_for_room() -> None:
    """A sender waits while the mailbox is full; senders get their turn in order."""
    mailbox = Mailbox("a", 1)
    mailbox.put_nowait(0)
    senders = [asyncio.create_task(mailbox.put(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    assert len(mailbox) == 1
    taken = []
    while len(taken) < 3:
        await mailbox.wait()
        taken.append(mailbox.take())
        assert len(mailbox) <= 1
        await asyncio.sleep(0)
    assert taken == [0, 1, 2]
    await asyncio.gather(*senders)


async def test_a_sender_that_gives_up_loses_no_turn() -> None:
    """If a waiting sender is cancelled as its turn comes, the next one gets it."""
    mailbox = Mailbox("a", 1)
    mailbox.put_nowait(0)
    first, second = (asyncio.create_task(mailbox.put(number)) for number in (1, 2))
    await asyncio.sleep(0)
    mailbox.take()
    first.cancel()
    await second
    assert mailbox.take() == 2


async def test_close() -> None:
    """Closing returns what is left, and sends all senders away."""
    mailbox = Mailbox("a", 1)
    mailbox.put_nowait(0)
    waiting = [asyncio.create_task(mailbox.put(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    assert mailbox.close() == [0]
    for sender in waiting:
        with pytest.raises(ActorGone):
            await sender
    with pytest.raises(ActorGone):
        mailbox.put_nowait(3)
