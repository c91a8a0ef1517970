"""What parties say to each other: a kind, and a body of plain values.

Bodies are plain tuples, lists and values, which pickle in half the time of classes and hold no
import of the other side. Kinds in `BATCHED` have a list as body: what was said of one kind during
one turn of the loop leaves as one frame, in order.

| kind | body |
|---|---|
| `HELLO` | `Hello` as a tuple: the first thing that each side says |
| `CALLS` | list of (number, seq, target, name, payload, n_returns, flags) |
| `RESULTS` | list of (number, ok, payload) |
| `FETCH` | list of object numbers that the other owns, wanted |
| `OBJECTS` | list of (object number, ok, payload) |
| `FREE` | list of (object number, count): so many borrows fewer |
| `BORROW` | list of (object number, count): so many borrows more |
| `CANCEL` | list of (number, force) |
| `DECLINE` | list of numbers of calls that are given back unstarted |
| `BLOCKED` | bool: whether the code of the sender waits in `get` or `wait` |
| `PRINTED` | list of (stream, text, who) |
| `ITEM` | list of (number, index, ok, payload) of a generator |
| `TAKEN` | list of (number, count): of a generator's items, so many were taken in all |
| `CODE` | list of (digest, data): before the first call that needs it |
| `ACK` | list of (target, seq): results up to that are known to the caller |
| `ASK` | (number, question): answered by `ANSWER`, unless the number is 0 |
| `ANSWER` | (number, ok, answer) |
| `BYE` | str: why the connection ends |
"""

from __future__ import annotations

import sys
from typing import NamedTuple

from leoronic.errors import ProtocolError

PROTOCOL = 1
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

HELLO = 1
CALLS = 2
RESULTS = 3
FETCH = 4
OBJECTS = 5
FREE = 6
BORROW = 7
CANCEL = 8
DECLINE = 9
BLOCKED = 10
PRINTED = 11
ITEM = 12
TAKEN = 13
CODE = 14
ACK = 15
ASK = 16
ANSWER = 17
BYE = 18

BATCHED = frozenset(
    (
        CALLS, RESULTS, FETCH, OBJECTS, FREE, BORROW, CANCEL,
        DECLINE, PRINTED, ITEM, TAKEN, CODE, ACK,
    )
)  # fmt: skip


class Hello(NamedTuple):
    """Who speaks. `node` is the id of its node, `party` its own id, `job` that of its driver."""

    party: str
    node: str
    job: str = ""
    python: str = PYTHON
    protocol: int = PROTOCOL
    info: dict[str, object] = {}  # noqa: RUF012 - never changed


def decode_hello(body: object) -> Hello:
    """The other side's. Raises `ProtocolError`."""
    if not isinstance(body, tuple) or len(body) < len(Hello._fields):
        raise ProtocolError("what calls there is no party")
    hello = Hello(*body[: len(Hello._fields)])
    if not all(isinstance(text, str) for text in hello[:4]):
        raise ProtocolError("what calls there sends a damaged greeting")
    return hello


def why_not(theirs: Hello, ours: Hello) -> str:
    """Why these two cannot talk; empty if they can."""
    if theirs.protocol != ours.protocol:
        return (
            f"{theirs.party} speaks protocol {theirs.protocol} of calls, this process "
            f"{ours.protocol}: install the same version of leoronic on all machines"
        )
    if theirs.python != ours.python:
        return (
            f"{theirs.party} runs Python {theirs.python}, this process {ours.python}: functions "
            "and objects can only be exchanged between equal ones; set LEORONIC_PYTHON there"
        )
    return ""
