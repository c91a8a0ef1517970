"""What one connection takes and what ends it: real sockets on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from leoronic.core.outbound import Outbound
from leoronic.core.peer import Entries, LinkDown, Probe
from tests.actors.peer_node import linked, on_uvloop, only_link
from tests.runtime.actors import Gated, until


@on_uvloop
async def test_what_a_newer_version_says_is_ignored(tmp_path: Path) -> None:
    """Unknown messages and fields do no harm."""
    with structlog.testing.capture_logs() as logs:
        async with linked(tmp_path) as (a, b):
            link = only_link(a)
            for _ in range(3):
                link._send(b'{"type":"Sing","node":"aaa"}', b"")
            link._send(b'{"type":"Probe","node":"aaa","target":"x","colour":"red"}', b"")
            assert [Probe("aaa", target="x")] == await b.membership.first(1)
            assert ["aaa"] == await b.links()
    assert 1 == len([log for log in logs if log.get("message") == "Sing"])


@pytest.mark.parametrize(
    ("json", "reason"),
    [
        (b'{"type":"Probe","node":"ccc","target":"x"}', "says that it is from ccc"),
        (b'{"type":"Probe","node":"aaa","target":5}', "Probe: "),
        (b'{"type":"Hello"}', "not a message that belongs here"),
        (b'{"type":"Welcome"}', "Welcome comes twice"),
        (b"nonsense", "not a message"),
        (b'{"type":"\xff"}', "not a message"),
        (b"[" * 5000, "not a message"),
    ],
)
@on_uvloop
async def test_what_must_not_be_sent(tmp_path: Path, json: bytes, reason: str) -> None:
    """The connection ends, both sides know why, and nothing was handed on."""
    with structlog.testing.capture_logs() as logs:
        async with linked(tmp_path) as (a, b):
            only_link(a)._send(json, b"")
            (down,) = await b.membership.until(bool)
            assert isinstance(down, LinkDown)
            assert reason in down.reason
            await a.up("bbb")
    told = [log["reason"] for log in logs if log["event"] == "disconnected"]
    assert any(r.startswith("it closed the connection: ") and reason in r for r in told)


@on_uvloop
async def test_a_frame_that_is_too_large(tmp_path: Path) -> None:
    """Its header is enough to end the connection; a message that large is never sent."""
    with structlog.testing.capture_logs() as logs:
        async with linked(tmp_path) as (a, b):
            await a.tell(Outbound("bbb", Entries("aaa", blob=b"x" * (17 << 20))))
            await until(lambda: any(log["event"] == "message_too_large" for log in logs))
            assert ["bbb"] == await a.links()
            transport = only_link(a)._frames.transport
            assert transport is not None
            transport.write(b"\xff" * 8)
            (down,) = await b.membership.until(bool)
            assert "over the limit" in down.reason


@on_uvloop
async def test_a_peer_that_does_not_keep_up(tmp_path: Path) -> None:
    """What waits for it is bounded: then the connection ends, and another begins."""
    gated = Gated()
    async with linked(tmp_path, replication=gated) as (a, _b):
        for _ in range(10):
            await a.tell(Outbound("bbb", Entries("aaa", blob=b"x" * 8_000_000)))
        for _ in range(4):
            await a.tell(Outbound("bbb", Entries("aaa", blob=b"x" * 8_000_000)))
        (down, *_) = await a.membership.until(bool)
        assert "does not keep up" in down.reason
        gated.gate.set()
