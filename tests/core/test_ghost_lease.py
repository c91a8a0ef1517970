"""How old what a ghost hears may be."""

from __future__ import annotations

from leoronic.core.ghost_lease import LIMIT_MS, GhostLease


def test_nothing_is_known_before_the_first_echo() -> None:
    """So all is stale."""
    assert GhostLease().is_stale(5, 5)


def test_an_old_echo_is_no_harm() -> None:
    """By it the other's clock is known: half an hour later, what is sent then is fresh."""
    lease = GhostLease()
    lease.hear(1000, 500_000, 1010)
    assert not lease.is_stale(500_000 + 1_800_000, 1010 + 1_800_000)


def test_what_was_held_up_is_stale() -> None:
    """Sent soon after the echo, and heard more than 3 s later."""
    lease = GhostLease()
    lease.hear(1000, 500_000, 1010)
    assert not lease.is_stale(500_010, 1010 + LIMIT_MS)
    assert lease.is_stale(500_010, 1011 + LIMIT_MS)


def test_a_slow_echo_tells_less() -> None:
    """It took 4 s: what follows may be as old."""
    lease = GhostLease()
    lease.hear(1000, 500_000, 5000)
    assert lease.is_stale(500_001, 5001)


def test_an_echo_of_what_was_never_sent_tells_nothing() -> None:
    """Of a time to come, or of none."""
    lease = GhostLease()
    lease.hear(9000, 500_000, 1000)
    lease.hear(0, 500_000, 1000)
    assert lease.is_stale(500_000, 1000)
