"""Entries as they travel: one JSON line each in a blob, with their places beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import repeat

from leoronic.core.peer import Entries
from leoronic.core.replication_messages import Body

Place = tuple[str, int, int]
"""(origin, first number, count)."""


class Malformed(Exception):
    """A blob and its places do not fit together; the text says how."""


def join(bodies: Sequence[Body]) -> tuple[list[Place], bytes]:
    """Places and blob of `bodies`, in their order."""
    places: list[Place] = []
    origin, first, count = "", 0, 0
    for body in bodies:
        if body.origin == origin and body.number == first + count:
            count += 1
            continue
        if count:
            places.append((origin, first, count))
        origin, first, count = body.origin, body.number, 1
    if count:
        places.append((origin, first, count))
    return places, b"\n".join([body.text for body in bodies])


def split(places: Sequence[Place], blob: bytes) -> list[Body]:
    """The opposite. Raises `Malformed`."""
    lines = blob.split(b"\n") if blob else []
    at = 0
    bodies: list[Body] = []
    for origin, first, count in places:
        if not origin or first < 1 or count < 1:
            raise Malformed(f"no such place: {count} entries of {origin!r} from {first} on")
        if at + count > len(lines):
            break
        bodies.extend(
            map(Body, repeat(origin), range(first, first + count), lines[at : at + count])
        )
        at += count
    if at != len(lines) or len(bodies) != sum(place[2] for place in places):
        raise Malformed(f"{len(lines)} lines for {sum(place[2] for place in places)} entries")
    return bodies


def chunks(bodies: Sequence[Body], bytes_max: int) -> Iterator[list[Body]]:
    """`bodies` in pieces of at most `bytes_max` of text, or of one body."""
    chunk: list[Body] = []
    size = 0
    for body in bodies:
        if chunk and size + len(body.text) > bytes_max:
            yield chunk
            chunk, size = [], 0
        chunk.append(body)
        size += len(body.text)
    if chunk:
        yield chunk


def too_old(page: Entries, have: dict[str, int], floor: dict[str, int]) -> str | None:
    """Why a holder of `have` must not take `page`, the first of its pull; None: it may.

    Its sender forgot entries past ours: what ended meanwhile would live on here for ever. Who holds
    nothing of which the sender has forgotten a part is a newcomer, and has nothing that would. What
    we never got as it was forgotten already is no matter.
    """
    if not any(have.get(origin, 0) for origin in page.floor):
        return None
    for origin, forgotten in sorted(page.floor.items()):
        ours = have.get(origin, 0)
        if ours < forgotten and floor.get(origin, 0) < forgotten:
            return (
                f"this node holds {ours} entries of {origin}; "
                f"{page.node} has forgotten some up to {forgotten}"
            )
    return None


def check_page(page: Entries, have: dict[str, int], claimed: dict[str, int]) -> None:
    """Raise `Malformed` if `page` contradicts itself, what we `have`, or what its sender claimed.

    `have` counts in all pages before it, `claimed` is what the sender had said that it holds.
    """
    held: dict[str, int] = {}
    for origin, first, count in page.places:
        before = held.get(origin, have.get(origin, 0))
        if first > max(before, page.floor.get(origin, 0)) + 1:
            raise Malformed(f"sent entry {first} of {origin} and left out {before + 1}")
        if first + count - 1 > page.have.get(origin, 0):
            raise Malformed(f"sent entries of {origin} beyond what it says that it holds")
        held[origin] = max(before, first + count - 1)
    for origin, forgotten in page.floor.items():
        if forgotten > page.have.get(origin, 0):
            raise Malformed(f"forgot more of {origin} than it held")
    if not page.last:
        if not page.places:
            raise Malformed("sent a page that has nothing, and is not the last")
        return
    for origin, number in page.have.items():
        before = held.get(origin, have.get(origin, 0))
        if number > max(before, page.floor.get(origin, 0)):
            raise Malformed(f"left out entry {before + 1} of {origin}")
    for origin, number in claimed.items():
        if number > page.have.get(origin, 0):
            raise Malformed(f"said that it holds {number} of {origin}, and does not")
