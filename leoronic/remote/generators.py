"""What `.remote()` returns for a generator: references to its items, as they are made."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from leoronic.remote.refs import ObjectRef
from leoronic.remote.remote_call import RemoteCall
from leoronic.remote.waiting import get_values


class ObjectRefGenerator:
    """Iterate (or `async for`) over it: each step waits for the next item and gives its reference.

    If the generator raises, the last reference raises that. `tell_taken(count)` and `forget()` are
    called in any thread.
    """

    def __init__(
        self,
        call: RemoteCall,
        tell_taken: Callable[[int], None],
        forget: Callable[[], None],
        blocked: Callable[[bool], None] | None,
    ) -> None:
        self._items = Items(call)
        self._tell_taken = tell_taken
        self._forget = forget
        self._blocked = blocked
        call.stream = self._items

    def __iter__(self) -> ObjectRefGenerator:
        return self

    def __next__(self) -> ObjectRef:
        ref = self._items.next()
        if not ref.done:
            _until_done(ref, self._blocked)
        if not self._take(ref):
            raise StopIteration
        return ref

    def __aiter__(self) -> ObjectRefGenerator:
        return self

    async def __anext__(self) -> ObjectRef:
        ref = self._items.next()
        if not ref.done:
            loop = asyncio.get_running_loop()
            there = asyncio.Event()
            ref.on_done(lambda _: loop.call_soon_threadsafe(there.set))
            await there.wait()
        if not self._take(ref):
            raise StopAsyncIteration
        return ref

    def completed(self) -> ObjectRef:
        """A reference that is there once the generator has ended."""
        return self._items.over

    def _take(self, ref: ObjectRef) -> bool:
        """Whether it is an item, which then counts as taken."""
        if self._items.is_end(ref):
            return False
        self._tell_taken(self._items.take())
        return True

    def __del__(self) -> None:
        if not self._items.over.done:
            self._forget()


class Items:
    """The items of one call, as they arrive: a reference for each place, known before or after."""

    def __init__(self, call: RemoteCall) -> None:
        self._node, self._party, self._base = call.refs[0].key
        self._places: dict[int, ObjectRef] = {}
        self._lock = threading.Lock()
        self._taken = 0
        self._arrived = 0
        self._end: ObjectRef | None = None
        self.over = call.refs[0]

    def next(self) -> ObjectRef:
        """The next one that is not taken yet."""
        return self._place(self._taken)

    def take(self) -> int:
        """It is taken; how many are, with this one."""
        with self._lock:
            self._places.pop(self._taken, None)
            self._taken += 1
            return self._taken

    def is_end(self, ref: ObjectRef) -> bool:
        """Whether this is no item, but stands for the end."""
        return ref is self._end

    def item(self, index: int, ok: bool, payload: Any) -> ObjectRef | None:
        """One has arrived; None if it has already (it was made again)."""
        if index < self._arrived:
            return None
        self._arrived = index + 1
        ref = self._place(index)
        ref.settle(ok, payload)
        return ref

    def ended(self, ok: bool, payload: Any) -> None:
        """There are no more; with `ok` False because of that failure."""
        count = self._arrived
        if not ok:
            self._place(count).settle(False, payload)
            count += 1
        self._end = self._place(count)
        self._end.settle(True, (None,))
        self.over.settle(ok, (None,) if ok else payload)

    def _place(self, index: int) -> ObjectRef:
        with self._lock:
            ref = self._places.get(index)
            if ref is None:
                key = (self._node, self._party, self._base + index + 1)
                ref = self._places[index] = ObjectRef(key)
            return ref


def _until_done(ref: ObjectRef, blocked: Callable[[bool], None] | None) -> None:
    """Wait for it; whether it is a value or a failure is not asked here."""
    waited: ObjectRef = ObjectRef(ref.key)
    ref.on_done(lambda _: waited.settle(True, (None,)))
    get_values(waited, None, blocked)
