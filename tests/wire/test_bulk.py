"""What is said on a connection that carries files."""

from __future__ import annotations

import pytest

from leoronic.errors import ProtocolError
from leoronic.wire.bulk import (
    FILES,
    SERVE_FILES,
    Begin,
    Bytes,
    Entry,
    GetChunk,
    GetPage,
    GetPart,
    Missed,
    Page,
    decode_answer,
    decode_begin,
    decode_request,
    encode,
    judge_begin,
)
from leoronic.wire.hello import Refused

MINE = Begin("aaa", FILES, 1, 1, 1)


@pytest.mark.parametrize(
    "request_",
    [GetChunk(1, "b3:" + "0" * 64, 7), GetPart(2, "a/b", 5, 10), GetPage(3), GetPage(4, "x")],
)
def test_requests(request_: GetChunk | GetPart | GetPage) -> None:
    """They arrive as they were sent."""
    assert request_ == decode_request(encode(request_))


@pytest.mark.parametrize(
    "answer",
    [
        Bytes(1),
        Bytes(2, 5, -7),
        Page(3, [Entry("x", "file", 5, 0o644, 7)], more=True),
        Missed(4, "busy", "later"),
        Refused("no"),
    ],
)
def test_answers(answer: Bytes | Page | Missed | Refused) -> None:
    """They arrive as they were sent."""
    assert answer == decode_answer(encode(answer))


@pytest.mark.parametrize(
    "json",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b"\xff",
        b'{"type":"GetChunk","request":1,"digest":"b3:xyz","index":0}',
        b'{"type":"GetPart","request":1,"path":"x","offset":0,"limit":5000000}',
        b'{"type":"GetPart","request":1,"path":"x","offset":-1,"limit":5}',
        b'{"type":"GetPage","request":"1"}',
        b'{"type":"Bytes","request":1}',
    ],
)
def test_what_is_no_request(json: bytes) -> None:
    """It is the other side's fault."""
    with pytest.raises(ProtocolError):
        decode_request(json)


def test_a_page_has_a_limit() -> None:
    """Nobody can make us keep more."""
    with pytest.raises(ProtocolError):
        decode_answer(encode(Page(1, [Entry("x", "file")] * 1001)))


@pytest.mark.parametrize(
    ("begin", "reason"),
    [
        (Begin("bbb", FILES, 1, 1, 1), None),
        (Begin("bbb", FILES, 1, 1, 3), None),
        (Begin("ccc", FILES, 1, 1, 1), "you say that you are ccc, your certificate says bbb"),
        (Begin("bbb", SERVE_FILES, 1, 1, 1), "somebody on the way"),
        (Begin("bbb", FILES, 2, 1, 2), "somebody on the way"),
        (Begin("bbb", FILES, 1, 2, 2), "somebody on the way"),
    ],
)
def test_who_begins(begin: Begin, reason: str | None) -> None:
    """The name is that of the certificate, and the rest is what was agreed on."""
    refused = judge_begin(begin, MINE, "bbb")
    assert (reason is None) == (refused is None)
    assert (reason or "") in (refused.reason if refused else "")


def test_the_same_node() -> None:
    """A node that has called itself notices."""
    assert Refused("this is the same node") == judge_begin(MINE, MINE, "aaa")


def test_the_purpose_that_came_with_the_line() -> None:
    """`Begin` arrives as it was sent."""
    assert MINE == decode_begin(encode(MINE))
