"""Whom a ghost calls: its choice, and the next when that one is gone."""

from __future__ import annotations

import pytest

from leoronic.core.ghost_choice import GhostChoice, in_order
from leoronic.core.ghost_messages import NodeTold

FOUND = ["10.0.0.10:22580", "10.0.0.9:22580", "10.0.0.9:22579", "192.168.0.1:22580"]


def chosen(wanted: str) -> GhostChoice:
    """After it was told what was found."""
    choice = GhostChoice(wanted)
    choice.find(FOUND)
    return choice


def test_addresses_are_in_numeric_order() -> None:
    """Not in that of their text; names come last, and what is no address is left out."""
    found = in_order(["b:1", "10.0.0.10:1", "10.0.0.9:1", "no address", "[::1]:1"])
    assert ["10.0.0.9:1", "10.0.0.10:1", "[::1]:1", "b:1"] == found


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("", "10.0.0.9:22579"),
        ("0", "10.0.0.9:22579"),
        ("2", "10.0.0.10:22580"),
        ("7", "192.168.0.1:22580"),  # 7 mod 4
        ("10.0.0.77:99", "10.0.0.77:99"),
        ("10.0.0.10", "10.0.0.10:22580"),
    ],
)
def test_the_choice(wanted: str, expected: str) -> None:
    """The lowest, the one at a number modulo how many there are, or the one that is given."""
    assert expected == chosen(wanted).first()


def test_after_the_last_comes_the_first() -> None:
    """And each is called once, until a new round begins."""
    choice = chosen("2")
    called = [choice.next() for _ in range(6)]
    expected = ["10.0.0.10:22580", "192.168.0.1:22580", "10.0.0.9:22579", "10.0.0.9:22580"]
    assert [*expected, "", ""] == called
    choice.begin_round()
    assert "10.0.0.10:22580" == choice.next()


def test_who_is_lost_is_not_called_at_once() -> None:
    """Unless there is nobody else."""
    choice = chosen("")
    first = choice.next()
    choice.begin_round(but=first)
    assert first not in [choice.next() for _ in range(4)]
    alone = GhostChoice("")
    alone.find(["10.0.0.1:1"])
    alone.next()
    alone.begin_round(but="10.0.0.1:1")
    assert "10.0.0.1:1" == alone.next()


def test_what_a_clairvoyant_tells_is_added() -> None:
    """Of a node with several addresses, that by which it was found."""
    choice = GhostChoice("10.0.0.5")
    choice.next()
    choice.met("10.0.0.5:22580", "a")
    choice.tell(
        [
            NodeTold("a", "a", ["172.16.0.5:22580", "10.0.0.5:22580"]),
            NodeTold("b", "b", ["127.0.0.1:22580", "10.0.0.4:22580"]),
        ]
    )
    assert ["10.0.0.4:22580", "10.0.0.5:22580"] == choice.candidates()
    assert choice.others("a")
    choice.tell([NodeTold("a", "a", ["10.0.0.5:22580"])])
    assert not choice.others("a")
