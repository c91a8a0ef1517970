"""One remote call on its way, as the process that made it knows it."""

from __future__ import annotations

from typing import Any

from leoronic.core.calls import Call
from leoronic.remote import serial
from leoronic.remote.code import Code
from leoronic.remote.errors import failure
from leoronic.remote.refs import INDEX_BITS, ObjectRef, lending, to_send
from leoronic.remote.serial import Payload, RefKey

STREAM = -1
"""`n_returns` of a generator."""
# A larger argument that is a reference is fetched by who needs it, from its owner.
INLINE_BYTES_MAX = 100 * 1024


class RemoteCall(Call):
    """`refs` get what it returns. `pins` are held until it is over; the first `tops` of them are
    its own arguments, whose values must be there before it is sent.

    `code` is that of a function, `name` its digest, or a method's name. `is_alone`: no other call
    shall be under way in the same worker. `flags` as in `CALLS`.
    """

    __slots__ = (
        "code", "flags", "is_alone", "label", "n_returns", "name", "payload", "pins", "place",
        "refs", "retry_exceptions", "stream", "tops",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        owner: tuple[str, str],
        name: str,
        payload: Payload,
        n_returns: int,
        *,
        label: str,
        pins: list[ObjectRef] | None = None,
        retries: int = 0,
        flags: dict[str, Any] | None = None,
        code: Code | None = None,
    ) -> None:
        self.number = number
        self.retries = retries
        self.seq = 0
        self.size_bytes = serial.size_of(payload) if len(payload) > 1 else 0
        self.is_cancelled = False
        self.body = None
        self.name = name
        self.payload = payload
        self.n_returns = n_returns
        self.label = label
        self.pins = pins
        self.tops = len(payload[3]) if len(payload) == 4 else 0
        self.flags = flags
        self.code = code
        self.is_alone = False
        self.retry_exceptions: Any = False
        self.place: Any = None
        self.stream: Any = None
        base = number << INDEX_BITS
        node, party = owner
        if n_returns == 1:
            self.refs: tuple[ObjectRef, ...] = (ObjectRef((node, party, base)),)
        else:
            count = n_returns if n_returns > 0 else 1
            self.refs = tuple(ObjectRef((node, party, base + index)) for index in range(count))

    def key_of(self, index: int) -> RefKey:
        """The key of its `index`-th item or result."""
        node, party, base = self.refs[0].key
        return (node, party, base + index)

    def own_refs(self) -> list[ObjectRef]:
        """The references that are themselves arguments."""
        return self.pins[: self.tops] if self.pins is not None else []

    def fill_in(self) -> Any:
        """Put the values of its arguments in, which are all done. A failure if one has failed."""
        tops = self.payload[3]
        for index, ref in enumerate(self.own_refs()):
            if not ref.ok:
                return ref.payload
            if tops[index][1] is None:
                tops[index] = (tops[index][0], inline(ref))
        return None

    def settle(self, ok: bool, payload: Any) -> None:
        """It is over. With several results `payload` is a list, unless it is a failure."""
        self.pins = None
        if self.stream is not None:
            self.stream.ended(ok, payload)
        elif not ok or self.n_returns == 1:
            for ref in self.refs:
                ref.settle(ok, payload)
        elif self.n_returns > 1:
            for ref, one in zip(self.refs, payload, strict=True):
                ref.settle(ok, one)
        else:
            self.refs[0].settle(True, (None,))

    def fail(self, code: str, text: str) -> None:
        """It is over without an answer. `code` is that of an error."""
        self.settle(False, failure(code, text))


def inline(ref: ObjectRef) -> Payload | None:
    """The value of `ref`, if it is here and small enough to travel with a call.

    Else whoever gets the call asks the owner for it.
    """
    if ref.done and ref.ok and serial.size_of(ref.payload) <= INLINE_BYTES_MAX:
        return to_send(ref.payload)
    lending(ref)
    return None
