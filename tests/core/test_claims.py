"""Claims: what is taken stays so until it is certain that it is not."""

from __future__ import annotations

from leoronic.core.claims import POSTPONE_S, POSTPONED_MAX, Claims

A, B = ("a", 1), ("b", 1)


def test_what_left_stays_taken_for_a_while() -> None:
    """And nobody is told, if nobody waits for it."""
    claims = Claims()
    claims.take(A, "n")
    claims.leave(A, "n", 5.0)
    assert 5.0 == claims.due_at()
    assert [] == claims.expire(4.9)
    assert A in claims
    assert [] == claims.expire(5.0)
    assert A not in claims
    assert claims.due_at() is None


def test_what_is_awaited_is_told_once() -> None:
    """When nobody has it any more."""
    claims = Claims()
    claims.take(A, "n")
    claims.await_end(A)
    assert claims.awaiting
    claims.leave(A, "n", 5.0)
    assert ["a"] == claims.expire(5.0)
    assert not claims.awaiting
    assert [] == claims.expire(50.0)


def test_what_is_seen_again_did_not_leave() -> None:
    """On that node or another; what one node says of another's counts for nothing."""
    claims = Claims()
    claims.take(A, "n")
    claims.leave(A, "n", 5.0)
    claims.take(A, "m")
    claims.leave(A, "n", 1.0)
    claims.give_back(A, "n")
    assert [] == claims.expire(9.0)
    assert [A] == claims.of_node("m")


def test_the_sooner_of_two_times_counts() -> None:
    """A promise lasts until the node itself has spoken."""
    claims = Claims()
    claims.take(A, "n")
    claims.leave(A, "n", 10.0)
    claims.leave(A, "n", 3.0)
    claims.leave(A, "n", 20.0)
    claims.expire(3.0)
    assert A not in claims
    claims.take(A, "n")
    assert [] == claims.expire(20.0)
    assert A in claims


def test_a_node_is_forgotten_with_all_it_had() -> None:
    """Only that node; whether it had anything is told."""
    claims = Claims()
    claims.take(A, "n")
    claims.take(B, "m")
    claims.await_end(A)
    assert claims.forget_node("n")
    assert not claims.forget_node("n")
    assert not claims.awaiting
    assert (A in claims, B in claims) == (False, True)


def test_what_left_a_node_that_is_out_of_reach_stays_taken_for_longer() -> None:
    """Its entries may tell that it ran: they come once the connection is back. Not for ever."""
    claims = Claims()
    claims.take(A, "n")
    claims.await_end(A)
    claims.leave(A, "n", 5.0)
    assert [] == claims.expire(5.0, {"n"})
    assert A in claims
    assert ["a"] == claims.expire(5.0 + POSTPONE_S)
    claims.take(A, "n")
    claims.await_end(A)
    claims.leave(A, "n", 10.0)
    found = [claims.expire(10.0 + n * POSTPONE_S, {"n"}) for n in range(POSTPONED_MAX + 1)]
    assert [*([[]] * POSTPONED_MAX), ["a"]] == found
