"""One connection: what is said leaves together, arrives in order, and its end is told."""

from __future__ import annotations

import asyncio
import gc
import pickle
import socket
from collections.abc import AsyncIterator

import pytest

from leoronic.remote import said
from leoronic.remote.channel import ITEMS_MAX, Channel
from leoronic.remote.frames import encode
from leoronic.remote.said import Hello

WITHIN_S = 10.0


class End:
    """One end of a connection, and what it was told."""

    def __init__(self, hello: Hello) -> None:
        self.frames: list[tuple[int, object]] = []
        self.ends: list[str] = []
        self.news = asyncio.Event()
        self.channel = Channel(
            hello,
            on_said=self._said,
            on_closed=self._closed,
        )

    def _said(self, channel: Channel, kind: int, body: object) -> None:
        if body == "a mistake":
            raise LookupError("of ours")
        self.frames.append((kind, body))
        self.news.set()

    def _closed(self, channel: Channel, reason: str) -> None:
        self.ends.append(reason)
        self.news.set()

    async def until(self, frames: int = 0, ends: int = 0) -> None:
        async with asyncio.timeout(WITHIN_S):
            while len(self.frames) < frames or len(self.ends) < ends:
                self.news.clear()
                await self.news.wait()


async def connect(end: End, sock: socket.socket) -> None:
    sock.setblocking(False)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: end.channel, sock)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    """Two ends that know each other."""
    here, there = End(Hello("d-1", "n")), End(Hello("t.1", "n"))
    for end, sock in zip((here, there), socket.socketpair(), strict=True):
        await connect(end, sock)
    async with asyncio.timeout(WITHIN_S):
        assert Hello("t.1", "n") == await here.channel.opened
        assert Hello("d-1", "n") == await there.channel.opened
    yield here, there
    here.channel.abort("the test is over")
    there.channel.abort("the test is over")
    await asyncio.gather(here.channel.lost(), there.channel.lost())


@pytest.fixture
async def stranger() -> AsyncIterator[tuple[End, asyncio.StreamReader, asyncio.StreamWriter]]:
    """An end, and a bare socket to it."""
    ours, theirs = socket.socketpair()
    end = End(Hello("d-1", "n"))
    await connect(end, ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    yield end, reader, writer
    writer.close()
    end.channel.abort("the test is over")


Ends = tuple[End, End]
Stranger = tuple[End, asyncio.StreamReader, asyncio.StreamWriter]


async def test_items_of_one_kind_leave_in_one_frame(ends: Ends) -> None:
    """Of a turn of the loop, in order, also with what is said between them."""
    here, there = ends
    for number in range(3):
        here.channel.say_item(said.CALLS, (number,))
    here.channel.say(said.CALLS, [(3,), (4,)])
    here.channel.say(said.BLOCKED, True)
    here.channel.say_item(said.CALLS, (5,))
    await there.until(3)
    expected = [
        (said.CALLS, [(number,) for number in range(5)]),
        (said.BLOCKED, True),
        (said.CALLS, [(5,)]),
    ]
    assert expected == there.frames


async def test_a_frame_has_so_many_items(ends: Ends) -> None:
    """The other side begins with the first while the next are on their way."""
    here, there = ends
    here.channel.say(said.RESULTS, [(number, True, None) for number in range(2 * ITEMS_MAX + 1)])
    await there.until(3)
    lengths = [len(body) for _, body in there.frames if isinstance(body, list)]
    assert [ITEMS_MAX, ITEMS_MAX, 1] == lengths


async def test_what_is_large_has_a_frame_of_its_own(ends: Ends) -> None:
    """The other side need not hold several before it begins; order is kept."""
    here, there = ends
    for number, is_large in enumerate((False, False, True, False, True, True)):
        here.channel.say_item(said.CALLS, (number,), is_large=is_large)
    await there.until(5)
    batches = [body for _, body in there.frames]
    assert [[(0,), (1,)], [(2,)], [(3,)], [(4,)], [(5,)]] == batches


async def test_large_buffers_arrive_whole(ends: Ends) -> None:
    """Between small things that keep their place."""
    here, there = ends
    large = bytes(range(256)) * 20_000
    here.channel.say(said.ASK, (1, "before"))
    here.channel.say(said.OBJECTS, [(1, True, pickle.PickleBuffer(large))])
    here.channel.say(said.ASK, (2, "after"))
    await there.until(3)
    [first, (_, objects), last] = there.frames
    assert [(said.ASK, (1, "before")), (said.ASK, (2, "after"))] == [first, last]
    assert isinstance(objects, list)
    assert large == bytes(objects[0][2])


async def test_both_learn_why_it_ends(ends: Ends) -> None:
    """What was said before arrives; what is said afterwards is lost."""
    here, there = ends
    here.channel.say(said.ASK, (1, "last words"))
    here.channel.close("enough")
    here.channel.say(said.ASK, (2, "nothing"))
    await there.until(1, 1)
    await here.until(0, 1)
    assert [(said.ASK, (1, "last words"))] == there.frames
    assert (["enough"], ["enough"]) == (here.ends, there.ends)
    here.channel.close("once more")
    await asyncio.sleep(0)
    assert ["enough"] == here.ends


async def test_a_connection_that_breaks_is_told(ends: Ends) -> None:
    """The other process was killed."""
    here, there = ends
    there.channel.abort("killed")
    await here.until(0, 1)
    assert ["it closed the connection"] == here.ends
    assert here.channel.closed


async def test_who_does_not_read_makes_the_other_wait(ends: Ends) -> None:
    """`drained` waits until it reads on."""
    here, there = ends
    there.channel.pause()
    large = bytes(1 << 20)
    while here.channel.unsent_bytes < 4 << 20:
        here.channel.say(said.ASK, (1, large))
        here.channel.flush()
    drained = asyncio.ensure_future(here.channel.drained())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not drained.done()
    there.channel.resume()
    async with asyncio.timeout(WITHIN_S):
        await drained
    assert here.channel.unsent_bytes < 4 << 20


async def test_nobody_waits_for_room_on_a_connection_that_has_ended(ends: Ends) -> None:
    """Who wanted to say more goes on, and learns by `closed`."""
    here, there = ends
    there.channel.pause()
    while here.channel.unsent_bytes < 4 << 20:
        here.channel.say(said.ASK, (1, bytes(1 << 20)))
        here.channel.flush()
    drained = asyncio.ensure_future(here.channel.drained())
    await asyncio.sleep(0)
    here.channel.abort("enough")
    async with asyncio.timeout(WITHIN_S):
        await drained
    assert here.channel.closed


async def test_a_mistake_in_a_handler_ends_the_connection(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for ever for an answer that will not come."""
    here, _ = ends
    here.channel.say(said.ASK, "a mistake")
    await here.until(0, 1)
    assert "LookupError in t.1, while taking what was said: of ours" == here.ends[0]
    assert "while taking what was said (d-1)" in caplog.text


async def test_what_cannot_be_said_ends_the_connection(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    """A body that does not pickle is a mistake of ours, and both learn of it."""
    here, there = ends
    here.channel.say(said.ASK, lambda: None)
    await here.until(0, 1)
    await there.until(0, 1)
    assert "in d-1, while saying something" in here.ends[0]
    assert here.ends == there.ends
    assert "while saying something (t.1)" in caplog.text


async def test_nothing_is_handed_on_before_a_hello(stranger: Stranger) -> None:
    """Who says anything else first is no party."""
    end, _, writer = stranger
    writer.write(b"".join(encode(said.CALLS, [(1,)])))
    await end.until(0, 1)
    assert ["what calls there is no party"] == end.ends
    assert [] == end.frames
    with pytest.raises(ConnectionResetError, match="no party"):
        await end.channel.opened


async def test_another_python_is_told_so(stranger: Stranger) -> None:
    """Both sides learn which versions do not fit."""
    end, reader, writer = stranger
    writer.write(b"".join(encode(said.HELLO, tuple(Hello("t.1", "n", python="3.99")))))
    await end.until(0, 1)
    assert "t.1 runs Python 3.99" in end.ends[0]
    async with asyncio.timeout(WITHIN_S):
        assert b"t.1 runs Python 3.99" in await reader.read()


async def test_garbage_ends_the_connection(stranger: Stranger) -> None:
    """And nothing else."""
    end, _, writer = stranger
    writer.write(b"GET / HTTP/1.1\r\n" * 100)
    await end.until(0, 1)
    assert 1 == len(end.ends)


async def test_a_channel_that_was_lost_leaves_nothing_behind(stranger: Stranger) -> None:
    """No error that nobody looked at."""
    end, _, writer = stranger
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: problems.append(about))
    writer.close()
    await end.until(0, 1)
    end.channel.opened = asyncio.get_running_loop().create_future()
    gc.collect()
    assert [] == problems
