"""What one node asks of another: only what makes sense is a question."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from leoronic.actors.peer_commands import PeerCommand

PART = {"type": "readpart", "task": "t", "attempt": 1, "node": "a", "stream": "stdout"}


@pytest.mark.parametrize(
    "change",
    [{"offset": 1 << 64}, {"offset": -1}, {"attempt": 0}, {"limit": -1}, {"wait_s": 1e300}],
)
def test_numbers_out_of_bounds_are_refused(change: dict[str, Any]) -> None:
    """The answer repeats the offset: it could not be written."""
    sound = {**PART, "offset": 0, "limit": 1}
    assert msgspec.convert(sound, PeerCommand)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**sound, **change}, PeerCommand)
