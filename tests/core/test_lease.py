"""When what arrives is too old to act on."""

from __future__ import annotations

from leoronic.core.lease import Lease
from leoronic.core.peer import Heartbeat


def beat(echo_ms: int) -> Heartbeat:
    return Heartbeat("b", sent_ms=1, echo_ms=echo_ms)


def test_the_handshake_is_as_good_as_an_echo() -> None:
    """What comes within the limit after the handshake is fresh, later not."""
    lease = Lease(opened_ms=10_000)
    assert not lease.is_stale(13_000)
    assert lease.is_stale(13_001)


def test_without_handshake_or_echo_everything_is_stale() -> None:
    """Nothing proves that it is fresh."""
    assert Lease().is_stale(1)


def test_an_echo_keeps_it_fresh_for_the_limit() -> None:
    """The age counts from when the echoed heartbeat left here, not from when the echo came."""
    lease = Lease(opened_ms=10_000)
    lease.note_sent(20_000)
    lease.hear(beat(20_000), 22_000)
    assert not lease.is_stale(23_000)
    assert lease.is_stale(23_001)


def test_an_old_echo_takes_nothing_back() -> None:
    """Only the newest echo counts."""
    lease = Lease(opened_ms=10_000)
    lease.note_sent(20_000)
    lease.hear(beat(20_000), 20_500)
    lease.hear(beat(9_000), 20_600)
    assert not lease.is_stale(22_900)


def test_an_echo_of_what_was_never_sent_proves_nothing() -> None:
    """A clock that went back, or a liar, does not make old things fresh."""
    lease = Lease(opened_ms=10_000)
    lease.note_sent(11_000)
    lease.hear(beat(99_000), 14_000)
    assert lease.is_stale(14_000)
    lease.hear(beat(0), 14_000)
    assert lease.is_stale(14_000)
