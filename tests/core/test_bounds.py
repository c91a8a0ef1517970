"""What other nodes send is within bounds, or it is no message: nothing behind has to check it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from leoronic.core import entries, peer
from leoronic.core.outcome import Outcome
from leoronic.core.resources import Capacity, Need
from leoronic.core.view import About

NEED = Need(1000, 1, 1, (("gpu", 1.0),))
ABOUT = About("name", "1", 1, 1, ["127.0.0.1:1"], Capacity(1000, 1, 1), ["tag"])
HUGE = 10**400
MESSAGES: dict[str, tuple[peer.PeerMessage, dict[str, list[Any]]]] = {
    "heartbeat": (
        peer.Heartbeat("b", 5, 4, about=ABOUT),
        {
            "sent_ms": [-1, HUGE],
            "echo_ms": [HUGE],
            "about.life": [HUGE],
            "about.revision": [-1, HUGE],
            "about.name": ["\x1b[2J", "x" * 64],
            "about.version": ["x" * 101],
            "about.addresses": [["a:1"] * 101, ["x" * 301]],
            "about.tags": [["t"] * 10_001, ["x" * 65]],
            "about.capacity.cpus_milli": [-1, HUGE],
            "about.capacity.memory": [-1, HUGE],
            "about.capacity.storage": [-1, HUGE],
        },
    ),
    "answer to a probe": (peer.ProbeAnswer("b", "c", 1.0), {"heard_s": [-1.0, 1e300]}),
    "introduction": (
        peer.Introduce("b", [peer.Introduced("c", ABOUT, 1.0)]),
        {"members.0.id": ["", "x" * 65], "members.0.down_s": [-1.0, 1e300]},
    ),
    "assignment": (
        peer.Assign(
            "b", [peer.AssignItem("t", 1, 0, 1)], [], [peer.AssignClass(1, NEED)], number=1
        ),
        {
            "number": [-1, HUGE],
            "items.0.class_number": [HUGE],
            "classes.0.number": [HUGE],
            "classes.0.need.cpus_milli": [-1000, HUGE],
            "classes.0.need.memory": [-1, HUGE],
            "classes.0.need.storage": [-1, HUGE],
            "classes.0.need.resources": [[["gpu", 1e308]], [["gpu", -1.0]], [["a", 1.0]] * 1001],
        },
    ),
    "reservation": (peer.Reserve("b", 1, NEED, 1.0), {"class_number": [-1], "for_s": [1e300]}),
    "interest": (peer.Interest("b", True, NEED, 1), {"number": [HUGE]}),
    "offer": (
        peer.Offer(
            "b", "name", Capacity(1, 1, 1), frozenset(["t"]), False, [], False, [("t", 1)], 1, 1
        ),
        {
            "name": ["\n"],
            "seen": [HUGE],
            "number": [-1],
            "queued": [[["t", 1]] * 10_001],
        },
    ),
    "what was freed": (
        peer.Freed("b", wants={1: 1}, retry_s=1.0, seen=1),
        {"retry_s": [1e300], "seen": [HUGE], "wants": [{"1": HUGE}, {"-1": 1}]},
    ),
    "what is outstanding": (
        peer.Outstanding("b", [("t", 1, "c")]),
        {"attempts": [[["t", 1, "c"]] * 10_001]},
    ),
    "question": (peer.Ask("b", request=1), {"request": [HUGE]}),
}
CASES = [
    pytest.param(message, place, value, id=f"{name}: {place} {str(value)[:20]!r}")
    for name, (message, damage) in MESSAGES.items()
    for place, values in damage.items()
    for value in values
]


def damaged(text: bytes, place: str, value: Any) -> bytes:
    """The JSON, with `value` at `place`."""
    shape = whole = json.loads(text)
    *path, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    for key in path:
        shape = shape[key]
    assert last in shape, f"no {last} in {shape}"
    shape[last] = value
    return json.dumps(whole).encode()


@pytest.mark.parametrize(("message", "place", "value"), CASES)
def test_what_makes_no_sense_is_no_message(
    message: peer.PeerMessage, place: str, value: Any
) -> None:
    """As sent it is one; with one value out of bounds it is not."""
    text, blob = peer.encode(message)
    assert message == peer.decode(text, blob)
    with pytest.raises(msgspec.DecodeError):
        peer.decode(damaged(text, place, value))


ENDED = Outcome(1.0, 2.0, 0, 9, peak_memory=1, cpu_seconds=1.0, stragglers=1)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("outcome.started_at", -1.0),
        ("outcome.finished_at", 1e300),
        ("outcome.finished_at", 253_402_300_800.0),
        ("outcome.exit_code", 1 << 31),
        ("outcome.signal", HUGE),
        ("outcome.peak_memory", -1),
        ("outcome.cpu_seconds", 1e300),
        ("outcome.stragglers", HUGE),
    ],
)
def test_what_makes_no_sense_is_no_entry(place: str, value: Any) -> None:
    """A date that nobody can write would end every listing of the tasks, on all nodes."""
    text = entries.encode(entries.Finished("t", 1, "b", ENDED, True))
    with pytest.raises(msgspec.ValidationError):
        entries.decode(damaged(text, place, value))


@pytest.mark.parametrize("at", [-1.0, 253_402_300_800.0, 1e300])
def test_an_entry_has_a_date(at: float) -> None:
    """Between 1970 and 9999."""
    text = entries.encode(entries.Cancelled("t", 1.0))
    with pytest.raises(msgspec.ValidationError):
        entries.decode(damaged(text, "at", at))
