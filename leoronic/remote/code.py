"""Functions and classes that travel: pickled once, named by digest, sent once a connection."""

from __future__ import annotations

import hashlib
import pickle
import weakref
from collections import OrderedDict
from typing import Any, NamedTuple

from leoronic.remote.serial import NotSerializable

CODE_BYTES_MAX = 256 * 1024 * 1024
HELD_MAX = 4096


class Code(NamedTuple):
    """A function or class: `digest` of its pickle `data`, and what people call it."""

    digest: str
    data: bytes
    name: str


class CodeMissing(LookupError):
    """A call names code that this process was never sent."""


def name_of(target: Any) -> str:
    """What people call a function or class: `module.qualified_name`."""
    module = getattr(target, "__module__", None)
    name = getattr(target, "__qualname__", None) or type(target).__name__
    return f"{module}.{name}" if module and module != "__main__" else str(name)


def describe(target: Any) -> Code:
    """Pickle a function or class. Raises `NotSerializable`, which names it."""
    import cloudpickle  # noqa: PLC0415 - only processes that send code need it

    name = name_of(target)
    try:
        data = cloudpickle.dumps(target, protocol=5)
    except Exception as error:  # Whatever the `__reduce__` of what it uses raises.
        raise NotSerializable(
            f"{name} cannot be pickled; what it uses from outside must be: "
            f"{type(error).__name__}: {error}"
        ) from error
    if len(data) > CODE_BYTES_MAX:
        raise NotSerializable(
            f"{name} takes {len(data):,} bytes with what it uses from outside: pass large values "
            "as arguments, or put() them first"
        )
    return Code(hashlib.sha256(data).hexdigest(), data, name)


class CodeShelf:
    """The code that this process was sent, and what it stands for.

    The oldest of more than `held_max` is forgotten, but only its loaded form: its bytes may be
    needed by a call that is still waiting.
    """

    def __init__(self, held_max: int = HELD_MAX) -> None:
        self._data: dict[str, bytes] = {}
        self._loaded: OrderedDict[str, Any] = OrderedDict()
        self._held_max = held_max

    def add(self, digest: str, data: bytes) -> None:
        """Keep code that arrived; again is harmless."""
        self._data.setdefault(digest, data)

    def load(self, digest: str) -> Any:
        """The function or class. Raises `CodeMissing`, or what its imports raise."""
        found = self._loaded.get(digest)
        if found is not None:
            return found
        data = self._data.get(digest)
        if data is None:
            raise CodeMissing(f"code {digest[:12]} was not sent to this process")
        found = self._loaded[digest] = pickle.loads(data)
        if len(self._loaded) > self._held_max:
            self._loaded.popitem(last=False)
        return found


class CodeSent:
    """Which code each connection has been sent. `K` is forgotten with the connection object."""

    def __init__(self) -> None:
        self._sent: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()

    def needs(self, connection: object, digest: str) -> bool:
        """Whether `connection` was not sent it yet; from now on it counts as sent."""
        sent = self._sent.setdefault(connection, set())
        if digest in sent:
            return False
        sent.add(digest)
        return True
