"""By a ticket any node knows what a ghost was told to make."""

from __future__ import annotations

import itertools

from leoronic.core.ghost_tickets import TICKET_BYTES, Tickets


def test_each_attempt_of_each_ghost_has_its_own() -> None:
    """And each key makes others."""
    cases = list(itertools.product((b"k", b"l"), ("g", "h"), ("t", "t.1"), (1, 11)))
    made = {Tickets([key]).make(ghost, task, n) for key, ghost, task, n in cases}
    assert len(cases) == len(made)
    assert {2 * TICKET_BYTES} == {len(ticket) for ticket in made}


def test_older_keys_count_but_make_none() -> None:
    """So the cookie can be changed while ghosts run something."""
    old, new, both = Tickets([b"old"]), Tickets([b"new"]), Tickets([b"new", b"old"])
    ticket = old.make("g", "t", 1)
    assert both.is_good(ticket, "g", "t", 1)
    assert not new.is_good(ticket, "g", "t", 1)
    assert new.make("g", "t", 1) == both.make("g", "t", 1)


def test_without_a_key_there_are_none() -> None:
    """Neither good ones nor empty ones that would be."""
    assert "" == Tickets().make("g", "t", 1)
    assert not Tickets().is_good("", "g", "t", 1)
    assert not Tickets([b"k"]).is_good("", "g", "t", 1)
    assert not Tickets([b"k"]).is_good("\N{SNOWMAN}", "g", "t", 1)
