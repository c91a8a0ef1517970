"""Remote functions: `f.remote(...)`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from leoronic.remote import options as known
from leoronic.remote import serial
from leoronic.remote.code import Code, describe, name_of
from leoronic.remote.context import Context, current
from leoronic.remote.generators import ObjectRefGenerator
from leoronic.remote.leases import Pool
from leoronic.remote.refs import ObjectRef
from leoronic.remote.remote_call import STREAM, RemoteCall, inline
from leoronic.remote.streams import generator_of

MAX_RETRIES = 3
CPUS = 1.0


class RemoteFunction:
    """A function that is carried out elsewhere. Its code is sent as it is at the first call."""

    def __init__(
        self, function: Callable[..., Any], options: dict[str, Any], code: list[Code] | None = None
    ) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._given = options
        found = known.checked(options, known.FUNCTION, name_of(function))
        self._label = f"{found.get('name') or name_of(function).rpartition('<locals>.')[2]}()"
        self._shape = known.shape_of(found, CPUS)
        self._retries = known.retries_of(found, "max_retries", MAX_RETRIES)
        self._retry_exceptions = known.retried_exceptions(found)
        returns = found.get("num_returns")
        if returns is None:
            is_stream = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(
                function
            )
            returns = "streaming" if is_stream else 1
        self._n_returns = known.n_returns(returns)
        self._flags: dict[str, Any] = {"label": self._label}
        if found.get("backpressure"):
            self._flags["backpressure"] = int(found["backpressure"])
        # Shared with those that `options` makes of it: pickled once.
        self._code = code if code is not None else []
        self._pool: tuple[Context, Pool] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Not as an ordinary function: that would be a mistake, mostly."""
        raise TypeError(
            f"remote functions cannot be called directly: use {self._function.__name__}.remote(...)"
        )

    def options(self, **options: Any) -> RemoteFunction:
        """The same function with other options. Raises `ValueError`."""
        return RemoteFunction(self._function, {**self._given, **options}, self._code)

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Have it called elsewhere: an `ObjectRef` of what it will return.

        With `num_returns` a list of them (None for 0), or an `ObjectRefGenerator`. Raises
        `NotSerializable` for arguments or a function that cannot be pickled.
        """
        context = current()
        pool = self._pool
        if pool is None or pool[0] is not context:
            pool = self._pool = (context, context.pools.pool(self._shape))
        if not self._code:
            self._code.append(describe(self._function))
        code = self._code[0]
        found: list[ObjectRef] = []
        payload = serial.dump_call(args, kwargs, found, inline, self._label)
        call = RemoteCall(
            next(context.numbers), context.owner, code.digest, payload, self._n_returns,
            label=self._label, pins=found or None, retries=self._retries, flags=self._flags,
            code=code,
        )  # fmt: skip
        call.retry_exceptions = self._retry_exceptions
        call.is_alone = not self._retries
        returned = returned_by(context, call)
        context.calls[call.number] = call
        pool[1].submit(call)
        return returned

    def __reduce__(self) -> Any:
        return RemoteFunction, (self._function, self._given)

    def __repr__(self) -> str:
        return f"RemoteFunction({name_of(self._function)})"


def returned_by(context: Context, call: RemoteCall) -> Any:
    """What `.remote()` returns for a call."""
    if call.n_returns == 1:
        return call.refs[0]
    if call.n_returns == STREAM:
        return generator_of(context, call)
    return list(call.refs) if call.n_returns else None


__all__ = ["ObjectRefGenerator", "RemoteFunction", "returned_by"]
