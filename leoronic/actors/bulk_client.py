"""Gets chunks of blobs, and files of working directories, from other nodes.

It keeps a few connections, each with a thread (`bulk_asking.py`), opened when there is something
to ask and closed when there was nothing for a while. A node that cannot be called (it is behind a
firewall, or listens nowhere) is asked to call this one, and then asked on that connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from leoronic.actors.bulk_asking import (
    IDLE_S,
    Asking,
    ChunkSink,
    Got,
    Wanted,
    missed,
)
from leoronic.actors.bulk_buffers import Buffers
from leoronic.actors.bulk_greeting import BulkRefused, Opened, call
from leoronic.actors.bulk_stream import STALL_S
from leoronic.actors.standing import Standing
from leoronic.wire.bulk import (
    BUSY,
    CHUNK_BYTES_MAX,
    FILES,
    PART_BYTES_MAX,
    UNREACHABLE,
    GetChunk,
    GetPage,
    GetPart,
    Request,
)

CONNECTIONS_MAX = 8
PER_NODE_MAX = 2
# Requests under way on one connection. A second one is made only for more: with two processors, two
# cost a fifth more of their time than one.
PIPELINE_MAX = 8
WAITING_MAX = 256
TRIES_MAX = 2
# One for each connection that receives, and some that are being written.
BUFFERS_MAX = CONNECTIONS_MAX + 4
WRITERS = 2
# For so long a node that was asked to call is waited for.
CALLED_S_MAX = 10.0
# So often it is looked whether this node can say who it is, after its start.
STANDING_S = 0.1


class BulkClient:
    """Asks other nodes. To be used on the loop only; all answers are futures of that loop.

    A future always gets a result, at the latest when nothing has come for `STALL_S`; what did not
    come is a `Missed`. `addresses(node)` are the places where a node may be called, the best first,
    empty if it cannot be called. `ask_to_call(node)` is to have that node call this one
    (`BulkServer.call` there); what then comes here goes to `adopt`. `standing` and `node` say who
    this node is, for each new connection; `standing` may be None while that is not known.
    """

    def __init__(
        self,
        *,
        standing: Callable[[], Standing | None],
        node: Callable[[], str],
        addresses: Callable[[str], Sequence[str]],
        ask_to_call: Callable[[str], None],
        stall_s: float = STALL_S,
        idle_s: float = IDLE_S,
        called_s_max: float = CALLED_S_MAX,
    ) -> None:
        self._standing = standing
        self._node = node
        self._addresses = addresses
        self._ask_to_call = ask_to_call
        self._stall_s = stall_s
        self._idle_s = idle_s
        self._called_s_max = called_s_max
        self._loop = asyncio.get_running_loop()
        self._buffers = Buffers(BUFFERS_MAX)
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="bulk-writer")
        self._askings: dict[str, list[Asking]] = {}
        self._waiting: dict[str, deque[Wanted]] = {}
        # Nodes that were asked to call, and until when that is waited for.
        self._called: dict[str, asyncio.TimerHandle] = {}
        self._closed = False

    # ---- what can be asked ----

    def pull(self, node: str, into: ChunkSink, index: int) -> asyncio.Future[Got]:
        """Have `node` send a chunk, check it and write it into `into`. None once it is there."""
        size = into.chunks.bytes_of(index)
        assert 0 < size <= CHUNK_BYTES_MAX
        return self._ask(node, GetChunk(0, into.digest, index), size, into)

    def read_part(
        self, node: str, path: str, offset: int, limit: int = PART_BYTES_MAX
    ) -> asyncio.Future[Got]:
        """At most `limit` bytes of a file in the working directory of `node`: a `FileBytes`."""
        return self._ask(node, GetPart(0, path, offset, limit), limit)

    def list_page(self, node: str, after: str = "") -> asyncio.Future[Got]:
        """What is in the working directory of `node`, behind the path `after`: a `Page`."""
        return self._ask(node, GetPage(0, after), 0)

    def adopt(self, opened: Opened) -> None:
        """A connection on which the other end wants to serve, which has not been accepted yet."""
        node = opened.node
        if self._closed or not self._waiting.get(node) or not self._has_room(node):
            self._writers_or_close(opened)
            return

        def accepted() -> Opened:
            opened.accept()
            return opened

        self._begin(node, accepted)
        self._forget_call(node)
        self._pump(node)

    def drop(self, node: str, reason: str) -> None:
        """It is down: what it was asked will not come."""
        self._miss_waiting(node, UNREACHABLE, reason)
        for asking in self._askings.get(node, ()):
            asking.end()

    def close(self) -> None:
        """End all connections; what was asked is missed."""
        self._closed = True
        for node in list(self._waiting):
            self._miss_waiting(node, UNREACHABLE, "this node stops")
        for askings in self._askings.values():
            for asking in askings:
                asking.end()
        self._writers.shutdown(wait=False)

    @property
    def connections(self) -> int:
        """How many there are, or are being opened."""
        return sum(len(askings) for askings in self._askings.values())

    # ---- which connection ----

    def _ask(
        self, node: str, request: Request, bytes_max: int, into: ChunkSink | None = None
    ) -> asyncio.Future[Got]:
        wanted = Wanted(node, request, bytes_max, self._loop.create_future(), into)
        waiting = self._waiting.setdefault(node, deque())
        if self._closed or len(waiting) >= WAITING_MAX:
            _answer(wanted, missed(BUSY, f"{len(waiting)} requests wait for it"))
            return wanted.future
        waiting.append(wanted)
        self._pump(node)
        return wanted.future

    def _pump(self, node: str) -> None:
        """Give what waits for `node` to its connections, and open one if there are too few."""
        waiting = self._waiting.get(node)
        while waiting:
            usable = [one for one in self._askings.get(node, ()) if not one.retiring]
            least = min(usable, key=lambda one: one.under_way, default=None)
            if least is None or least.under_way >= PIPELINE_MAX:
                least = self._open(node)
            if least is None:
                break
            least.ask(waiting.popleft())
        if not waiting:
            self._waiting.pop(node, None)

    def _open(self, node: str) -> Asking | None:
        if node in self._called or not self._has_room(node):
            return None
        standing, addresses = self._standing(), tuple(self._addresses(node))
        if standing is None or not addresses:
            if not self._askings.get(node):
                self._await_call(node)
            return None
        me, stall_s = self._node(), self._stall_s
        return self._begin(node, partial(_call_any, addresses, standing, me, node, stall_s))

    def _has_room(self, node: str) -> bool:
        if len(self._askings.get(node, ())) >= PER_NODE_MAX:
            return False
        if self.connections < CONNECTIONS_MAX:
            return True
        if not self._askings.get(node):
            self._make_room()
        return False

    def _make_room(self) -> None:
        """A node without a connection waits: another gives way, as soon as its work is done."""
        everyone = [one for askings in self._askings.values() for one in askings]
        if any(one.retiring for one in everyone):
            return
        # One of a node that has two, or else the oldest.
        chosen = max(everyone, key=lambda one: len(self._askings[one.node]))
        chosen.retiring = True
        if not chosen.under_way:
            chosen.end()

    def _begin(self, node: str, open: Callable[[], Opened]) -> Asking:
        asking = Asking(
            node,
            open,
            buffers=self._buffers,
            writers=self._writers,
            on_got=self._got,
            on_end=self._ended,
            stall_s=self._stall_s,
            idle_s=self._idle_s,
        )
        self._askings.setdefault(node, []).append(asking)
        asking.start()
        return asking

    # ---- a node that is to call ----

    def _await_call(self, node: str) -> None:
        if node not in self._called:
            self._called[node] = self._loop.call_later(self._called_s_max, self._not_called, node)
            self._ask_to_call(node)
            if self._standing() is None:
                self._loop.call_later(STANDING_S, self._look_again, node)

    def _look_again(self, node: str) -> None:
        """A node that has only just started knows in a moment who it is, and can call itself."""
        if node not in self._called:
            return
        if self._standing() is None:
            self._loop.call_later(STANDING_S, self._look_again, node)
        else:
            self._forget_call(node)
            self._pump(node)

    def _not_called(self, node: str) -> None:
        del self._called[node]
        within = f"within {self._called_s_max:g} s"
        self._miss_waiting(node, UNREACHABLE, f"it cannot be called, and does not call {within}")

    def _forget_call(self, node: str) -> None:
        timer = self._called.pop(node, None)
        if timer is not None:
            timer.cancel()

    def _miss_waiting(self, node: str, code: str, reason: str) -> None:
        self._forget_call(node)
        for wanted in self._waiting.pop(node, ()):
            _answer(wanted, missed(code, reason))

    def _writers_or_close(self, opened: Opened) -> None:
        """Nobody waits for it any more. Saying so may take a while: not on the loop."""
        try:
            self._writers.submit(opened.refuse, "nothing is wanted any more", BUSY)
        except RuntimeError:
            opened.stream.close()

    # ---- from the threads ----

    def _got(self, asking: Asking, wanted: Wanted, got: Got) -> None:
        asking.under_way -= 1
        _answer(wanted, got)
        if asking.retiring and not asking.under_way:
            asking.end()
        if not any(one.under_way for askings in self._askings.values() for one in askings):
            self._buffers.trim()
        self._pump(asking.node)

    def _ended(self, asking: Asking, code: str, reason: str) -> None:
        node = asking.node
        self._askings[node].remove(asking)
        if not self._askings[node]:
            del self._askings[node]
        sent, unsent = asking.left()
        for wanted in sent:
            _answer(wanted, missed(code, reason))
        again = []
        for wanted in unsent:
            wanted.tries += 1
            busy = code == BUSY and not self._askings.get(node)
            if self._closed or busy or wanted.tries > TRIES_MAX:
                _answer(wanted, missed(code, reason))
            else:
                again.append(wanted)
        if again:
            self._waiting.setdefault(node, deque()).extendleft(reversed(again))
            if not asking.is_open and not self._askings.get(node):
                # It could not be called. Perhaps it can call.
                self._await_call(node)
        for waiting in [node, *self._waiting]:
            self._pump(waiting)


def _answer(wanted: Wanted, got: Got) -> None:
    if not wanted.future.done():
        wanted.future.set_result(got)


def _call_any(
    addresses: Sequence[str], standing: Standing, me: str, node: str, stall_s: float
) -> Opened:
    """In a thread: the first that answers. Raises as `call` for the last."""
    for address in addresses[:-1]:
        try:
            return call(address, FILES, standing, me, node, stall_s=stall_s)
        except (BulkRefused, OSError):
            continue
    return call(addresses[-1], FILES, standing, me, node, stall_s=stall_s)
