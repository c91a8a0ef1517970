"""docs/protocol.md keeps up with what nodes say to each other and write down."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from leoronic.core import peer
from leoronic.core.entries import Entry
from leoronic.core.view import About
from leoronic.wire import bulk
from leoronic.wire.hello import Hello, Refused, Said

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
ROWS: dict[str, list[str]] = {
    name: cells.split(" | ") for name, cells in re.findall(r"^\| `(\w+)` \| (.*) \|$", TEXT, re.M)
}
"""The cells after the first of each table row that begins with a name."""
OF_FILES = tuple(one for one in get_args(bulk.Said) if one is not Refused)
OF_NODES = (About, peer.Introduced, peer.Held, peer.AssignClass, peer.AssignItem, peer.GhostTold)
PARTS = (*OF_NODES, Hello, *OF_FILES)


def named(cell: str) -> list[str]:
    """The names between backticks."""
    return re.findall(r"`(\w+)`", cell)


def fields(struct: type) -> list[str]:
    """Names of its fields, in order, but for the sender's, which all messages have."""
    names = [field.name for field in msgspec.structs.fields(struct)]
    return [name for name in names if not (name == "node" and issubclass(struct, peer.PeerMessage))]


@pytest.mark.parametrize("message", get_args(peer.MESSAGES), ids=lambda one: one.__name__)
def test_every_message_is_in_the_table(message: type) -> None:
    """With who gets it, and all of its fields in order."""
    receiver, told, *_ = ROWS[message.__name__]
    assert (peer.RECEIVERS[message], fields(message)) == (receiver, named(told))


@pytest.mark.parametrize("part", PARTS, ids=lambda one: one.__name__)
def test_what_stands_in_messages_is_in_a_table(part: type) -> None:
    """With all of its fields in order."""
    assert fields(part) == named(ROWS[part.__name__][0])


@pytest.mark.parametrize("entry", get_args(Entry), ids=lambda one: one.__name__)
def test_every_kind_of_entry_is_in_the_table(entry: type) -> None:
    """By the name that it has in the journal, with all of its fields in order."""
    kind = entry.__struct_config__.tag  # type: ignore[attr-defined]
    assert fields(entry) == named(ROWS[kind][0])


def test_all_that_is_said_beside_messages_is_named() -> None:
    """The greeting inside TLS, and what may come among messages."""
    section = TEXT.partition("### The greeting")[2].partition("\n### ")[0]
    assert {one.__name__ for one in get_args(Said)} <= set(named(section))


@pytest.mark.parametrize("attempt", [0, -1, 2**31 + 1, 2**70])
def test_an_attempt_that_cannot_be(attempt: int) -> None:
    """Nobody is asked to make it."""
    text = f'{{"type":"Assign","node":"m","items":[{{"task":"a","attempt":{attempt}}}]}}'
    with pytest.raises(msgspec.ValidationError):
        peer.decode(text.encode())


def test_each_message_has_one_receiver() -> None:
    """No other message arrives."""
    assert set(get_args(peer.MESSAGES)) == set(peer.RECEIVERS)


def test_the_tables_name_nothing_else() -> None:
    """A message or entry that is gone is gone from the page as well."""
    known = {one.__name__ for one in (*get_args(peer.MESSAGES), *PARTS, *get_args(Said))}
    assert {name for name in ROWS if name[0].isupper()} <= known
    section = TEXT.partition("### Entries")[2].partition("\n### ")[0]
    kinds = set(re.findall(r"^\| `(\w+)` \|", section, re.M))
    assert {one.__struct_config__.tag for one in get_args(Entry)} == kinds
