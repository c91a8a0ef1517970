"""Messages to JSON and back: orjson for the bytes, msgspec for the types.

A codec knows a closed set of `msgspec.Struct` classes, told apart by their tag. What comes in is
validated field by field before anybody sees it; unknown fields are ignored, so that a newer
version may add some; unknown tags and wrong types raise `ProtocolError`.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast

import msgspec
import orjson

from leoronic.errors import ProtocolError

M = TypeVar("M")


def to_json(message: object) -> bytes:
    """JSON text of a Struct or of plain data (bytes become base64)."""
    # bytes(memoryview()) would copy once more: callers that keep the result do it themselves.
    return orjson.dumps(msgspec.to_builtins(message))


class Codec(Generic[M]):
    """Encodes and decodes one closed union of tagged Structs."""

    def __init__(self, union: Any) -> None:
        self._union = union

    def encode(self, message: M) -> bytes:
        """JSON text of `message`."""
        return to_json(message)

    def decode(self, json: bytes) -> M:
        """The message in `json`, validated. Raises `ProtocolError`."""
        try:
            return cast(M, msgspec.convert(orjson.loads(json), self._union))
        except (orjson.JSONDecodeError, msgspec.ValidationError, RecursionError) as error:
            raise ProtocolError(f"not a message that belongs here: {error}") from error
