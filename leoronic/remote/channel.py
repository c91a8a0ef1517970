"""One connection to another party, on the loop thread.

What is said during one turn of the loop leaves as one write; items of one kind as one frame. Each
side first says `Hello`; from then on what comes is handed to `on_said`, in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from leoronic.errors import ProtocolError
from leoronic.remote import said
from leoronic.remote.frames import FrameReader, encode
from leoronic.remote.said import Hello

# So many items of a kind leave in one frame: the other side begins with them while the next are
# being pickled.
ITEMS_MAX = 256
# What leaves at once is joined if it is small: one call of the kernel, and one buffer.
JOIN_BYTES_MAX = 64 * 1024
WRITE_HIGH_BYTES = 1024 * 1024
HELLO_S_MAX = 10.0

OnSaid = Callable[["Channel", int, object], None]
OnClosed = Callable[["Channel", str], None]


class Channel(asyncio.BufferedProtocol):
    """`peer` is known once `opened` is done; `on_closed(channel, reason)` is called once.

    `ours` is what this side says first. `on_opened(channel)` is called when both have said it;
    nothing is handed on before. `is_remote`: it goes through the network. All of it is for the
    loop's thread.
    """

    def __init__(
        self,
        ours: Hello,
        *,
        on_said: OnSaid,
        on_closed: OnClosed,
        on_opened: Callable[[Channel], None] = lambda channel: None,
    ) -> None:
        self.ours = ours
        self.peer: Hello
        self.on_said = on_said
        self.on_closed = on_closed
        self.reason = ""
        self.certified = ""
        self.was_open = False
        self._on_opened = on_opened
        self._loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[Hello] = self._loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._pending: list[tuple[int, object]] = []
        # The items that are said last, while more of that kind may join them.
        self._batch: list[object] | None = None
        self._batch_kind = 0
        self._flush_due = False
        self._closed = False
        self._can_send = asyncio.Event()
        self._can_send.set()
        self._too_late: asyncio.TimerHandle | None = None
        self._lost = asyncio.Event()

    @property
    def closed(self) -> bool:
        """Whether nothing more is sent."""
        return self._closed

    @property
    def is_remote(self) -> bool:
        """Whether it goes to another node, by TLS."""
        return bool(self.certified)

    # ---- saying ----

    def say(self, kind: int, body: object) -> None:
        """Say it with all else of this turn of the loop; lost if this is closed. Never waits.

        The body of a kind in `said.BATCHED` is a list; it is not to be changed any more.
        """
        if kind in said.BATCHED:
            for item in cast("list[object]", body):
                self.say_item(kind, item)
            return
        if not self._closed:
            self._pending.append((kind, body))
            self._batch = None
            self._plan_flush()

    def say_item(self, kind: int, item: object, *, is_large: bool = False) -> None:
        """As `say(kind, [item])`, for the kinds of `said.BATCHED`.

        One that is large gets a frame of its own: the other side need not have memory for several
        before it can begin with the first.
        """
        if self._closed:
            return
        items = self._batch
        if items is not None and self._batch_kind == kind and not is_large:
            items.append(item)
            if len(items) == ITEMS_MAX:
                self._batch = None
            return
        items = [item]
        self._pending.append((kind, items))
        self._batch_kind, self._batch = kind, None if is_large else items
        self._plan_flush()

    def _plan_flush(self) -> None:
        if not self._flush_due and self._transport is not None:
            self._flush_due = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what was said; called by itself at the end of the turn."""
        self._flush_due = False
        transport, pending = self._transport, self._pending
        if transport is None or not pending:
            return
        self._pending, self._batch = [], None
        small: list[bytes | memoryview] = []
        size = 0
        for kind, body in pending:
            try:
                parts = encode(kind, body)
            except Exception as error:
                # A mistake of ours: who waits for what it would have said must not wait for ever.
                self._fail("while saying something", error)
                return
            for part in parts:
                if len(part) >= JOIN_BYTES_MAX:
                    if small:
                        transport.write(b"".join(small))
                        small, size = [], 0
                    transport.write(part)
                    continue
                small.append(part)
                size += len(part)
                if size >= JOIN_BYTES_MAX:
                    transport.write(b"".join(small))
                    small, size = [], 0
        if small:
            transport.write(small[0] if len(small) == 1 else b"".join(small))

    async def drained(self) -> None:
        """Wait until the other side has taken enough that more may be said, or this is closed."""
        self.flush()
        await self._can_send.wait()

    @property
    def unsent_bytes(self) -> int:
        """What was written and has not left this process yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def pause(self) -> None:
        """Read no more for now: the other side's `drained` waits, some time later."""
        if self._transport is not None and not self._closed:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._closed:
            self._transport.resume_reading()

    def close(self, reason: str) -> None:
        """Say why, send what was said, then close. `on_closed` gets `reason`, soon."""
        if self._closed:
            return
        self.say(said.BYE, reason)
        self.flush()
        self._end(reason)
        if self._transport is not None:
            self._transport.close()

    async def lost(self) -> None:
        """Wait until the connection is gone: after `close`, until the last has left."""
        await self._lost.wait()

    def abort(self, reason: str) -> None:
        """Close at once, whether it is being closed or not; what waits to be sent is dropped."""
        if not self._closed:
            self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    @property
    def descriptor(self) -> int:
        """Of its socket; -1 if there is none."""
        found = self._transport.get_extra_info("socket") if self._transport is not None else None
        return found.fileno() if found is not None else -1

    def _end(self, reason: str) -> None:
        self._closed = True
        self.reason = self.reason or reason
        self._pending, self._batch = [], None
        self._can_send.set()
        if self._transport is None:
            self._lost.set()
        if self._too_late is not None:
            self._too_late.cancel()
        if not self.opened.done():
            self.opened.set_exception(ConnectionResetError(self.reason))
            self.opened.exception()  # Nobody need be waiting for it.
        self._loop.call_soon(self.on_closed, self, self.reason)

    # ---- asyncio's side ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there: say who we are."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        certificate = transport.get_extra_info("peercert")
        if certificate is not None:
            from leoronic.wire.identity import certified_node  # noqa: PLC0415 - loads ssl

            self.certified = certified_node(certificate)
        self._pending.insert(0, (said.HELLO, tuple(self.ours)))
        self.flush()
        self._too_late = self._loop.call_later(
            HELLO_S_MAX, self.abort, f"it did not say who it is within {HELLO_S_MAX:g} s"
        )

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where asyncio puts what comes."""
        return self._reader.room()

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came: hand on what they complete."""
        try:
            found = self._reader.filled(nbytes)
            for kind, body in found:
                if self._closed:
                    return
                self._take(kind, body)
        except ProtocolError as error:
            self.close(error.message)
        except Exception as error:
            # A mistake of ours in what was made of it. Whoever waits must not wait for ever.
            self._fail("while taking what was said", error)

    def pause_writing(self) -> None:
        """The other side is slow: `drained` waits from now on."""
        self._can_send.clear()

    def resume_writing(self) -> None:
        """It caught up."""
        self._can_send.set()

    def eof_received(self) -> bool:
        """It says nothing more, so it is gone."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed, by whoever."""
        self._lost.set()
        if not self._closed:
            self._end(str(exc or "") or "it closed the connection")

    # ---- what comes ----

    def _take(self, kind: int, body: object) -> None:
        if kind == said.BYE:
            self.reason = str(body)
            self.abort(self.reason)
        elif self.was_open:
            self.on_said(self, kind, body)
        elif kind == said.HELLO:
            self._take_hello(body)
        else:
            raise ProtocolError("what calls there is no party")

    def _take_hello(self, body: object) -> None:
        hello = said.decode_hello(body)
        if self.certified and hello.node != self.certified:
            raise ProtocolError(f"its certificate is that of {self.certified}, not {hello.node}")
        why = said.why_not(hello, self.ours)
        if why:
            raise ProtocolError(why)
        self.peer = hello
        self.was_open = True
        if self._too_late is not None:
            self._too_late.cancel()
        self.opened.set_result(hello)
        self._on_opened(self)

    def _fail(self, when: str, error: Exception) -> None:
        who = self.peer.party if self.was_open else "a stranger"
        self._loop.call_exception_handler({"message": f"{when} ({who})", "exception": error})
        self.close(f"{type(error).__name__} in {self.ours.party}, {when}: {error}")
