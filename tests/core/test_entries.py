"""Entries as text: what is written is read back, and nothing else is."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leoronic.core.entries import (
    Cancelled,
    Entry,
    Finished,
    Held,
    Kept,
    Lost,
    Released,
    Started,
    Submitted,
    Suspected,
    Tagged,
    Untagged,
    decode,
    encode,
)
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.spec import After, TaskSpec

OUT = StreamRef(3, b"\x00\xff\n")
LONG = StreamRef(1 << 40, file="out.1", offset=5, lost=1)
ALL: list[Entry] = [
    Submitted("a", TaskSpec("x", after=(After("b", "ended"),), items=["", "é"]), 1.5, "inbox"),
    Started("a", 1, "n", 1.0, "life"),
    Finished(
        "a", 1, "n", Outcome(1.0, 2.0, exit_code=3, stdout=OUT, stderr=LONG, stragglers=2), False
    ),
    Lost("a", 1, "n", 1.0, "why", True),
    Cancelled("a", 1.0),
    Held("a", 1, 1.0, "reason"),
    Released("a", 2, 1.0, 4),
    Tagged("n", "t", 1.0),
    Untagged("n", "t", 1.0),
    Suspected("n", 1.0, "silent for 5 s"),
    Kept("a", 1, "n", "stdout", 5000),
]


def test_all_kinds_are_here() -> None:
    """A kind of entry that is added is tested below as well."""
    assert set(Entry.__args__) == {type(entry) for entry in ALL}


@pytest.mark.parametrize("entry", ALL, ids=lambda entry: type(entry).__name__)
def test_written_and_read_back(entry: Entry) -> None:
    """The same entry, told apart by its kind."""
    text = encode(entry)
    assert entry == decode(text)
    assert type(entry).__name__.lower() == msgspec.json.decode(text)["kind"]


def test_what_is_default_is_not_written() -> None:
    """A plain task costs few bytes."""
    assert b'{"kind":"submitted","task":"a","spec":{"command":"x"},"at":1.0}' == encode(
        Submitted("a", TaskSpec("x"), 1.0)
    )


@pytest.mark.parametrize(
    "text", [b"", b"{}", b'{"kind":"nothing"}', b'{"kind":"cancelled","task":1,"at":1.0}', b"\xff"]
)
def test_anything_else_is_an_error(text: bytes) -> None:
    """Nothing is guessed."""
    with pytest.raises(msgspec.MsgspecError):
        decode(text)


@given(st.text(), st.binary(max_size=50), st.floats(0, 1e10))
def test_any_text_and_bytes_survive(text: str, data: bytes, at: float) -> None:
    """Commands and output are whatever people and programs make of them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # half a surrogate pair can't come in through any door
    outcome = Outcome(at, at, stdout=StreamRef(len(data), data), reason=text)
    for entry in (Submitted("a", TaskSpec(text), at, text), Finished("a", 1, "n", outcome, True)):
        assert entry == decode(encode(entry))
