"""Values as they travel between parties: a *payload* is a plain tuple.

    (value,)                     a plain value, as it is
    (data, buffers, refs)        pickled; `buffers` beside it, `refs` that it contains
    (args,)                      of a call: plain positional arguments
    (data, buffers, refs, tops)  of a call: (args, kwargs) pickled, without its own references

Plain are None, bool, int, float, and short str and bytes: they cannot change between the call and
the moment at which its frame is written, so many travel in one pickle. All else is pickled by
itself and at once, so that what cannot be pickled spoils one call only, and what its owner changes
later is not seen elsewhere. Buffers that can be written to are copied for the same reason.
"""

from __future__ import annotations

import io
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PLAIN_BYTES_MAX = 1024
# In a frame, what is as large as this is neither joined nor copied.
BUFFER_BYTES_MIN = 16 * 1024
# How many parts of a value are looked at before it counts as one that may hold anything.
LOOKED_AT_MAX = 128
PROTOCOL = 5

Payload = tuple[Any, ...]
RefKey = tuple[str, str, int]
"""Who owns an object, and its number there: (node id, party id, number)."""

_PLAIN = frozenset((type(None), bool, int, float))
_TEXT = frozenset((str, bytes))
_CONTAINERS = frozenset((list, tuple, set, frozenset))


class NotSerializable(TypeError):
    """A value that cannot be pickled; the message says which and why."""


class _Noted(threading.local):
    """The references met by the pickling that goes on in this thread."""

    refs: list[Any] | None = None
    keys: list[RefKey]


_noted = _Noted()
_ref_types: list[type] = []


class Top:
    """Stands for the n-th reference among a call's own arguments."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple[type[Top], tuple[int]]:
        return Top, (self.index,)


def register_ref(kind: type) -> None:
    """`kind` is a class of references: as an argument, its value is passed instead."""
    _ref_types.append(kind)


def note_ref(ref: object, key: RefKey) -> None:
    """Called by a reference's `__reduce__`. Raises outside of `dump`: nobody would count it."""
    if _noted.refs is None:
        raise NotSerializable(
            "a reference to an object can only travel in arguments and results of remote calls"
        )
    _noted.refs.append(ref)
    _noted.keys.append(key)


@contextmanager
def _noting(found: list[Any]) -> Iterator[list[RefKey]]:
    before = _noted.refs, getattr(_noted, "keys", [])
    _noted.refs, _noted.keys = found, []
    try:
        yield _noted.keys
    finally:
        _noted.refs, _noted.keys = before


def is_plain(value: object) -> bool:
    """Whether a value travels as it is."""
    kind = type(value)
    return kind in _PLAIN or (kind in _TEXT and len(value) <= PLAIN_BYTES_MAX)  # type: ignore[arg-type]


def dump(value: object, found: list[Any] | None = None, what: str = "the value") -> Payload:
    """The payload of `value`; the references in it are appended to `found`.

    Raises `NotSerializable`, which calls the value `what`.
    """
    kind = type(value)
    if kind in _PLAIN or (kind in _TEXT and len(value) <= PLAIN_BYTES_MAX):  # type: ignore[arg-type]
        return (value,)
    return _pickled(value, [] if found is None else found, what)


def load(payload: Payload) -> Any:
    """The value of a payload of `dump`. Raises whatever the code of its classes raises."""
    if len(payload) == 1:
        return payload[0]
    return pickle.loads(payload[0], buffers=payload[1])


def dump_call(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    found: list[Any] | None = None,
    inline: Callable[[Any], Payload | None] | None = None,
    what: str = "the call",
) -> Payload:
    """The payload of a call's arguments; all references in it are appended to `found`.

    A reference that is itself an argument stands in `tops` as (key, payload or None): `inline`
    may give the payload of its value at once. Raises `NotSerializable`, which names the argument.
    """
    if not kwargs:
        for value in args:
            kind = type(value)
            if kind not in _PLAIN and (kind not in _TEXT or len(value) > PLAIN_BYTES_MAX):
                break
        else:
            return (args,)
    found = [] if found is None else found
    tops: list[tuple[RefKey, Payload | None]] = []
    if _ref_types:
        args = tuple(_top(value, found, tops, inline) for value in args)
        kwargs = {name: _top(value, found, tops, inline) for name, value in kwargs.items()}
    try:
        return (*_pickled((args, kwargs), found, what), tops)
    except NotSerializable:
        _blame(args, kwargs, what)
        raise


def load_call(payload: Payload, tops: list[Any] | None = None) -> tuple[tuple[Any, ...], Any]:
    """(args, kwargs) of a payload of `dump_call`, with `tops` in place of its own references."""
    if len(payload) == 1:
        return payload[0], {}
    args, kwargs = pickle.loads(payload[0], buffers=payload[1])
    if payload[3]:
        assert tops is not None
        args = tuple(tops[arg.index] if type(arg) is Top else arg for arg in args)
        for name, arg in kwargs.items():
            if type(arg) is Top:
                kwargs[name] = tops[arg.index]
    return args, kwargs


def tops_of(payload: Payload) -> list[tuple[RefKey, Payload | None]]:
    """The references that are themselves arguments of this call."""
    return payload[3] if len(payload) == 4 else []


def refs_of(payload: Payload) -> list[RefKey]:
    """The references inside a payload, apart from a call's own arguments."""
    return payload[2] if len(payload) >= 3 else []


def size_of(payload: Payload) -> int:
    """About how many bytes a payload takes."""
    if len(payload) == 1:
        return sys.getsizeof(payload[0])
    return _length(payload[0]) + sum(_length(buffer) for buffer in payload[1])


def _length(buffer: Any) -> int:
    return len(buffer) if isinstance(buffer, bytes) else memoryview(buffer).nbytes


def _top(
    value: Any,
    found: list[Any],
    tops: list[tuple[RefKey, Payload | None]],
    inline: Callable[[Any], Payload | None] | None,
) -> Any:
    if type(value) not in _ref_types:
        return value
    found.append(value)
    tops.append((value.key, inline(value) if inline else None))
    return Top(len(tops) - 1)


def _pickled(value: object, found: list[Any], what: str) -> Payload:
    buffers: list[pickle.PickleBuffer] = []

    def keep_apart(buffer: pickle.PickleBuffer) -> bool:
        """False: it travels beside the pickle."""
        with buffer.raw() as raw:
            if raw.nbytes < BUFFER_BYTES_MIN:
                return True
            # What nobody can change needs no copy.
            kept = buffer if raw.readonly else pickle.PickleBuffer(bytes(raw))
        buffers.append(kept)
        return False

    with _noting(found) as keys:
        try:
            if _is_simple(value):
                data = pickle.dumps(value, PROTOCOL, buffer_callback=keep_apart)
            else:
                data = _cloudpickled(value, keep_apart)
        except NotSerializable:
            raise
        except Exception as error:  # Whatever the user's `__reduce__` raises.
            raise NotSerializable(
                f"{what} cannot be pickled: {type(error).__name__}: {error}"
            ) from error
    return pickle.PickleBuffer(data) if len(data) >= BUFFER_BYTES_MIN else data, buffers, keys


def _cloudpickled(value: object, keep_apart: Callable[[pickle.PickleBuffer], bool]) -> bytes:
    import cloudpickle  # noqa: PLC0415 - 20 ms that simple values do not pay

    with io.BytesIO() as file:
        cloudpickle.Pickler(file, PROTOCOL, buffer_callback=keep_apart).dump(value)
        return file.getvalue()


def _is_simple(value: object) -> bool:
    """Whether it is of built-in types only, so that the plain pickle is right and far faster.

    Of anything else the plain pickle might name a class of `__main__`, which is another elsewhere.
    """
    todo = [value]
    seen = 0
    while todo:
        part = todo.pop()
        kind: Any = type(part)
        if kind in _PLAIN or kind in _TEXT or kind is Top:
            pass
        elif kind in _CONTAINERS or kind is dict:
            if len(part) > LOOKED_AT_MAX:  # type: ignore[arg-type]
                return False
            todo.extend(part)  # type: ignore[arg-type]
            if kind is dict:
                todo.extend(part.values())  # type: ignore[attr-defined]
        elif not _is_array(kind, part):
            return False
        seen += 1
        if seen + len(todo) > LOOKED_AT_MAX:
            return False
    return True


def _is_array(kind: type, part: Any) -> bool:
    """A numpy array of numbers, which holds no objects of other classes."""
    return (
        kind.__module__ == "numpy" and kind.__name__ == "ndarray" and part.dtype.kind in "biufcSU"
    )


def _blame(args: tuple[Any, ...], kwargs: dict[str, Any], what: str) -> None:
    """Name the argument that cannot be pickled, if it is one of them alone."""
    named = [(str(index + 1), value) for index, value in enumerate(args)]
    for name, value in [*named, *kwargs.items()]:
        try:
            _pickled(value, [], what)
        except NotSerializable as error:
            kind = type(value).__name__
            reason = error.__cause__ or error
            raise NotSerializable(
                f"argument {name} of {what} (a {kind}) cannot be pickled: "
                f"{type(reason).__name__}: {reason}"
            ) from reason
