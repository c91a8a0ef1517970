"""Frames between parties: what goes in comes out, however it is cut."""

from __future__ import annotations

import pickle
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leoronic.errors import ProtocolError
from leoronic.remote.frames import (
    BUFFER_BYTES_MIN,
    BUFFERS_MAX,
    FRAME_BYTES_MAX,
    HEADER,
    READ_BYTES,
    FrameReader,
    encode,
)


def data_of(kind: int, body: object) -> bytes:
    return b"".join(encode(kind, body))


def fed(data: bytes, size: int) -> list[tuple[int, object]]:
    """What a reader makes of `data` in pieces of `size`."""
    reader = FrameReader()
    return [said for at in range(0, len(data), size) for said in reader.feed(data[at : at + size])]


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 255), PLAIN), max_size=5), st.integers(1, 60))
def test_what_was_said_arrives_in_order_however_it_is_cut(
    frames: list[tuple[int, object]], size: int
) -> None:
    """A stream has no borders: frames are found again in pieces of any size."""
    data = b"".join(data_of(*frame) for frame in frames)
    assert frames == fed(data, size)


@pytest.mark.parametrize("length", [0, 1, BUFFER_BYTES_MIN, READ_BYTES, 3 * READ_BYTES + 7])
@pytest.mark.parametrize("size", [1000, READ_BYTES - 1, 10 * READ_BYTES])
def test_buffers_travel_beside_the_pickle(length: int, size: int) -> None:
    """Large ones are neither joined nor copied on their way out, and can be written to."""
    buffer = bytearray(random.Random(length).randbytes(length))
    body = ("before", pickle.PickleBuffer(buffer), "after", pickle.PickleBuffer(b"small"))
    parts = encode(7, body)
    is_apart = [isinstance(part, memoryview) and part.obj is buffer for part in parts]
    assert (length >= BUFFER_BYTES_MIN) == any(is_apart)
    [first, (kind, arrived), last] = fed(data_of(1, 1) + b"".join(parts) + data_of(2, [2]), size)
    assert ((1, 1), 7, (2, [2])) == (first, kind, last)
    assert isinstance(arrived, tuple)
    assert ["before", "after", b"small"] == [arrived[0], arrived[2], arrived[3]]
    assert buffer == arrived[1]
    if length >= BUFFER_BYTES_MIN:
        assert not memoryview(arrived[1]).readonly


def test_more_buffers_than_a_frame_counts_go_into_the_pickle() -> None:
    """None is lost."""
    many = [pickle.PickleBuffer(bytes([at % 256]) * BUFFER_BYTES_MIN) for at in range(300)]
    [(_, arrived)] = fed(data_of(1, many), READ_BYTES)
    assert isinstance(arrived, list)
    assert BUFFERS_MAX == sum(isinstance(one, memoryview) for one in arrived)
    assert [bytes(one) for one in many] == [bytes(one) for one in arrived]


def test_a_small_frame_is_one_piece() -> None:
    """It costs one write."""
    assert 1 == len(encode(2, [(1, 2, 3)] * 100))


def test_memory_is_got_only_for_what_can_be() -> None:
    """A damaged length ends the connection; it does not cost that much memory."""
    with pytest.raises(ProtocolError, match="over the limit"):
        FrameReader().feed(HEADER.pack(FRAME_BYTES_MAX, 1, 0))
    with pytest.raises(ProtocolError, match="over the limit"):
        FrameReader().feed(HEADER.pack(1, 1, 1) + struct.pack("<Q", 2**63))
    with pytest.raises(ProtocolError, match="no memory"):
        # More than any machine has, and less than the limit.
        FrameReader().feed(HEADER.pack(10, 1, 1) + struct.pack("<Q", FRAME_BYTES_MAX - 1000))


@pytest.mark.parametrize(
    "body", [b"", b"not a pickle", pickle.dumps(1, 5)[:-1], b"cno.such\nmodule\n."]
)
def test_what_is_no_pickle_is_refused(body: bytes) -> None:
    """As a mistake of the other side, whatever it is that pickle raises."""
    with pytest.raises(ProtocolError, match="not what a party says"):
        FrameReader().feed(HEADER.pack(len(body), 1, 0) + body)


def test_an_empty_body_before_a_large_buffer_is_refused_too() -> None:
    """It is read to its end, and is no pickle."""
    length = 3 * READ_BYTES
    reader = FrameReader()
    assert [] == reader.feed(HEADER.pack(0, 1, 1) + struct.pack("<Q", length))
    assert 0 < len(reader.room())
    with pytest.raises(ProtocolError, match="not what a party says"):
        reader.feed(bytes(length))
