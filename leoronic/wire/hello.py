"""What two nodes say inside TLS before they are connected, and beside their messages: sans-IO.

Both send `Hello`, and each answers the other's with `Welcome` or `Refused`. Once both have said
welcome they are connected, and frames with messages of `core/peer.py` follow; `Ping`, `Pong` and
`Refused` (which closes) may come among them.
"""

from __future__ import annotations

import re

import msgspec

from leoronic.core.view import About
from leoronic.wire.codec import Codec
from leoronic.wire.preface import common_protocol

OTHER, OWN, COPIED, DUPLICATE, BUSY = "other", "own", "copied", "duplicate", "busy"
REASON_LENGTH_MAX = 500

_NODE = re.compile(r"[a-z0-9]{1,32}")


class _Said(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="type"):
    pass


class Hello(_Said, frozen=True):
    """Who I am. `protocol` is what was agreed on, of (`lowest`, `highest`) that I speak."""

    node: str
    about: About
    protocol: int
    lowest: int
    highest: int


class Welcome(_Said, frozen=True):
    """Your Hello is accepted."""


class Refused(_Said, frozen=True):
    """This connection ends. `reason` is for a person of yours; `code` is one of those above."""

    reason: str
    code: str = OTHER


class Ping(_Said, frozen=True):
    """Are you still there? Answer: `Pong` with that number."""

    number: int


class Pong(_Said, frozen=True):
    """Yes."""

    number: int


Said = Hello | Welcome | Refused | Ping | Pong
codec: Codec[Said] = Codec(Said)
SAID = frozenset(("Hello", "Welcome", "Refused", "Ping", "Pong"))


def judge(hello: Hello, mine: Hello, certified: str) -> Refused | None:
    """What is wrong with the other side's `hello`, given `mine` and the id in its certificate.

    With code `COPIED` it is the other that must take a new identity, with `OWN` it is this node
    itself that was called, or that must take one: see `is_copy_of`.
    """
    if not _NODE.fullmatch(hello.node) or hello.node != certified:
        return Refused(f"you say that you are {hello.node}, your certificate says {certified}")
    both = common_protocol((mine.lowest, mine.highest), (hello.lowest, hello.highest))
    if hello.protocol != mine.protocol or both != mine.protocol:
        return Refused("somebody on the way has changed which protocol was agreed on")
    if hello.node != mine.node:
        return None
    if hello.about.life > mine.about.life:
        return refused_copy(mine)
    return Refused("this is the same node", OWN)


def refused_copy(first: Hello) -> Refused:
    """What the later started of two nodes with one identity is told; `first` is the other's."""
    return Refused(
        f"a node with this one's identity ({first.node}) runs already, as {first.about.name}: the "
        "folder of one was copied from the other",
        COPIED,
    )


def is_copy_of(mine: Hello, hello: Hello) -> bool:
    """Whether this node is a copy of the one that sent `hello`, and started later."""
    return hello.node == mine.node and hello.about.life < mine.about.life


def shortened(reason: str) -> str:
    """`reason` as it may be sent."""
    return reason[:REASON_LENGTH_MAX]
