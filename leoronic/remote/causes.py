"""Exceptions of users' code, as they travel and as they are made again.

Many exceptions pickle but do not unpickle: their `__init__` takes other arguments than `args`
holds. So what does not come back when it is tried is sent in parts (class, args, attributes), and
made again without its `__init__`.
"""

from __future__ import annotations

import builtins
import io
import pickle
from typing import Any

CAUSE_BYTES_MAX = 1024 * 1024
ARG_CHARS_MAX = 16 * 1024

Packed = tuple[str, Any]
"""("whole", pickle), ("parts", pickle of class, args, attributes), ("text", why there is none)."""


def dump_cause(error: BaseException) -> Packed:
    """`error` for the wire, in the best form that will load. Never raises."""
    try:
        data = _dumps(error)
        if len(data) <= CAUSE_BYTES_MAX and type(pickle.loads(data)) is type(error):
            return "whole", data
    except Exception:  # Whatever the user's class raises: the next form is tried.
        pass
    try:
        attributes = {name: value for name, value in vars(error).items() if _travels(value)}
        args = tuple(arg if _travels(arg) else _as_text(arg) for arg in error.args)
        data = _dumps((type(error), args, attributes))
        pickle.loads(data)
        if len(data) <= CAUSE_BYTES_MAX:
            return "parts", data
    except Exception as another:  # Its class itself cannot be sent.
        return "text", f"{type(error).__name__} cannot be sent: {_as_text(another)}"
    return "text", f"{type(error).__name__} is left out: it takes {len(data):,} bytes"


def load_cause(packed: Packed | None) -> tuple[BaseException | None, str]:
    """(exception, "") or (None, why there is none). Never raises."""
    if packed is None:
        return None, ""
    form, data = packed
    if form == "text":
        return None, data
    try:
        loaded = pickle.loads(data)
        if form == "parts":
            kind, args, attributes = loaded
            loaded = _made(kind, args)
            vars(loaded).update(attributes)
    except Exception as error:  # Its class is not here, or refuses.
        return None, f"what it raised cannot be loaded here: {_as_text(error)}"
    if not isinstance(loaded, BaseException):
        return None, "what it raised is no exception here"
    return loaded, ""


_kinds: dict[tuple[type, type], type | None] = {}


def same_kind(ours: type[Any], cause: BaseException) -> Any:
    """An instance of `ours` that is one of the cause's class as well; None if there can be none.

    Only of ordinary exceptions: a remote SystemExit must not end the process that reads it.
    """
    if not isinstance(cause, Exception) or isinstance(cause, ours):
        return None
    theirs = type(cause)
    if (ours, theirs) not in _kinds:
        if len(_kinds) > 1024:
            _kinds.clear()
        try:
            _kinds[ours, theirs] = type(
                f"{ours.__name__}({theirs.__name__})",
                (ours, theirs),
                {
                    "__module__": ours.__module__,
                    "__getattr__": _of_cause,
                    "__doc__": f"A remote {theirs.__name__}.",
                },
            )
        except TypeError:  # Another layout or metaclass, or a class that wants no subclasses.
            _kinds[ours, theirs] = None
    kind = _kinds[ours, theirs]
    if kind is None:
        return None
    try:
        made = _made(kind, cause.args)
        vars(made).update(vars(cause))
    except Exception:  # A class that cannot be made without its own ways.
        return None
    return made


def _of_cause(self: Any, name: str) -> Any:
    """What only the cause has, such as attributes kept in slots."""
    cause = self.__dict__.get("cause")
    if cause is None or name.startswith("__"):
        raise AttributeError(name)
    return getattr(cause, name)


def _made(kind: type, args: tuple[Any, ...]) -> BaseException:
    """An exception of that class with those `args`, without the code of the user's classes."""
    builtin: Any = next(base for base in kind.__mro__ if base.__module__ == builtins.__name__)
    made: BaseException = builtin.__new__(kind, *args)
    try:
        # Fields such as `errno` are set here, if a class above has its own `__init__`.
        builtin.__init__(made, *args)
    except TypeError:
        made.args = args
    return made


def _dumps(value: object) -> bytes:
    import cloudpickle  # noqa: PLC0415 - only where something fails

    with io.BytesIO() as file:
        cloudpickle.Pickler(file, 5).dump(value)
        return file.getvalue()


def _travels(value: object) -> bool:
    try:
        data = _dumps(value)
        pickle.loads(data)
    except Exception:  # Whatever its class raises.
        return False
    return len(data) <= CAUSE_BYTES_MAX // 4


def _as_text(value: object) -> str:
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception:  # The user's `__repr__` raises.
        text = f"<{type(value).__name__}>"
    return text if len(text) <= ARG_CHARS_MAX else f"{text[:ARG_CHARS_MAX]}..."
