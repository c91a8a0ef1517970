"""References to objects: what `.remote()` and `put` return before there is a value, and after.

A reference is at the same time where the value arrives in this process. Who holds the reference
holds the value: an object that was never given to anybody needs no table and no counting, it goes
when Python drops its last reference. Counting between processes is in `objects.py`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import pickle
import threading
from collections.abc import Callable, Generator
from typing import Any

from leoronic.remote import serial
from leoronic.remote.errors import error_of
from leoronic.remote.serial import Payload, RefKey

# Of an object's number the upper bits are the call that makes it, the rest which of its results.
INDEX_BITS = 32

# Guards the moment at which a reference gets its value against those who begin to wait for it.
settling = threading.Lock()

Callback = Callable[["ObjectRef"], object]


class ObjectRef:
    """A value that is there, or will be. Awaitable; `get` returns its value; `key` names it.

    For this package: `done` tells whether `ok` and `payload` are set: the value as it travels, or
    with `ok` False a failure (`errors.py`). `held` are the references that are inside the value.
    """

    __slots__ = ("__weakref__", "callbacks", "done", "held", "key", "ok", "payload")

    def __init__(self, key: RefKey) -> None:
        self.key = key
        self.done = False
        self.ok = False
        self.payload: Any = None
        self.held: list[ObjectRef] | None = None
        self.callbacks: list[Callback] | None = None

    def hex(self) -> str:
        """Its name as text, unique in the cluster."""
        node, party, number = self.key
        return f"{node}-{party}-{number:x}"

    def binary(self) -> bytes:
        """The same as bytes."""
        return self.hex().encode()

    def future(self) -> concurrent.futures.Future[Any]:
        """A `concurrent.futures.Future` of the value."""
        made: concurrent.futures.Future[Any] = concurrent.futures.Future()
        made.set_running_or_notify_cancel()

        def settled(ref: ObjectRef) -> None:
            try:
                value = ref.value()
            except BaseException as error:
                made.set_exception(error)
            else:
                made.set_result(value)

        self.on_done(settled)
        return made

    def __await__(self) -> Generator[Any, None, Any]:
        if not self.done:
            loop = asyncio.get_running_loop()
            waiting = loop.create_future()

            def wake(_: ObjectRef) -> None:
                try:
                    loop.call_soon_threadsafe(_set, waiting)
                except RuntimeError:
                    return  # That loop is closed: nobody waits any more.

            self.on_done(wake)
            yield from waiting
        return self.value()

    def __repr__(self) -> str:
        return f"ObjectRef({self.hex()})"

    def __reduce__(self) -> Any:
        serial.note_ref(self, self.key)
        lending(self)
        return rebuild, self.key

    # ---- for this package ----

    def value(self) -> Any:
        """The value, made anew; raises what the call raised. Only if `done`."""
        if self.ok:
            return serial.load(self.payload)
        raise error_of(self.payload)

    def settle(self, ok: bool, payload: Any) -> None:
        """The value is there, or will never be. Once; what comes later is ignored."""
        with settling:
            if self.done:
                return
            self.ok, self.payload = ok, payload
            self.done = True
            callbacks, self.callbacks = self.callbacks, None
        if callbacks is not None:
            for callback in callbacks:
                callback(self)

    def on_done(self, callback: Callback) -> None:
        """Call it once there is a value: at once, or later on the thread on which that arrives."""
        self.want()
        with settling:
            if not self.done:
                if self.callbacks is None:
                    self.callbacks = []
                self.callbacks.append(callback)
                return
        callback(self)

    def ignore(self, callback: Callback) -> None:
        """Take a callback away, if it is still there."""
        with settling:
            if self.callbacks is not None and callback in self.callbacks:
                self.callbacks.remove(callback)

    def want(self) -> None:
        """Somebody waits for it. What this process makes itself comes anyway."""


def _set(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


class _Hooks:
    """What the process' context does for references: set by it, as it imports this module."""

    lend: Callable[[ObjectRef], None]
    revive: Callable[[RefKey], ObjectRef]


hooks = _Hooks()


def lending(ref: ObjectRef) -> None:
    """`ref` is being pickled: its owner must know it by its number from now on."""
    hooks.lend(ref)


def rebuild(node: str, party: str, number: int) -> ObjectRef:
    """The reference of that key in this process."""
    return hooks.revive((node, party, number))


def received(payload: Payload) -> Payload:
    """What arrived, so that those who load it cannot change it for each other."""
    if len(payload) == 1 or not payload[1]:
        return payload
    buffers = [memoryview(buffer).toreadonly() for buffer in payload[1]]
    return (payload[0], buffers, *payload[2:])


def to_send(payload: Payload) -> Payload:
    """What arrived, so that it can be sent on."""
    if len(payload) == 1:
        return payload
    data = payload[0]
    if not isinstance(data, bytes | pickle.PickleBuffer):
        data = pickle.PickleBuffer(data)
    return (data, [pickle.PickleBuffer(buffer) for buffer in payload[1]], *payload[2:])


serial.register_ref(ObjectRef)
