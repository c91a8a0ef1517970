"""Damage to messages: what a hostile or broken peer might put in any place of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

INTEGERS = (
    *(-1, 0, 1, 2, 7, 1 << 31, (1 << 31) + 1, 1 << 53, (1 << 53) + 1, 1 << 63, 1 << 64, -(1 << 63)),
    *(10**400, -(10**400)),
)
NUMBERS = (*INTEGERS, 0.5, -0.5, 1e15, 1e300, -1e300, 1.7e308)
NESTED = "a place for what nests deeply"
TEXTS = (
    *("", " ", "x" * 5000, "\x00", "\x1b[2J\x1b]0;owned\x07", "\u202e\u2028", "\ud800"),
    *("../../etc/passwd", "a'; DROP TABLE tasks; --", "%s%n", "\n", "1.2.3", ".", "*", NESTED),
    *("waiting", "retry", "stdout", "127.0.0.1:1", "[::1]:99999", "submitted", "Push"),
)
# Without these a message is refused before anybody looks at the rest.
NAMES = ("type", "kind", "node")


class Damage:
    """`chance` decides all; `texts` are ids that mean something to the victim."""

    def __init__(self, chance: random.Random, texts: Sequence[str]) -> None:
        self._chance = chance
        self._texts = (*TEXTS, *texts)

    def change(self, shape: Any, *, gently: bool) -> None:
        """Change one place in what JSON made; `gently`: to a value of the type that was there."""
        places = [*_places(shape)]
        if not places:
            return
        chance = self._chance
        holder, key = chance.choice(places)
        if key in NAMES and chance.random() < 0.9:
            return
        if gently:
            holder[key] = self._alike(holder[key])
        elif chance.random() < 0.25:
            del holder[key]
        elif chance.random() < 0.2 and isinstance(holder, dict):
            holder["unheard of"] = [None]
        else:
            holder[key] = chance.choice(
                (None, True, *NUMBERS, *TEXTS, [], {}, [[]], {"a": {"b": []}})
            )

    def _alike(self, old: Any) -> Any:
        chance = self._chance
        match old:
            case bool():
                return not old
            case int():
                return chance.choice((*INTEGERS, old + 1, old - 1, old + 1000))
            case float():
                return chance.choice(NUMBERS)
            case str():
                return chance.choice(self._texts)
            case list():
                return chance.choice(([], old * 2, old[::-1], old * 300))
            case dict() if old:
                return {**old, chance.choice(self._texts): old[chance.choice([*old])]}
            case _:
                return None

    def flip(self, data: bytes) -> bytes:
        """Some bits are others."""
        flipped = bytearray(data)
        for _ in range(self._chance.choice((1, 1, 2, 8))):
            flipped[self._chance.randrange(len(flipped))] ^= 1 << self._chance.randrange(8)
        return bytes(flipped)


def to_text(shape: Any) -> bytes:
    """JSON, with what nests deeply in its places."""
    text = json.dumps(shape, separators=(",", ":"))
    return text.replace(f'"{NESTED}"', "[" * 3000 + "]" * 3000).encode()


def _places(shape: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of all there is in it."""
    keys = list(shape) if isinstance(shape, dict) else range(len(shape))
    for key in keys:
        yield shape, key
        if isinstance(shape[key], dict | list):
            yield from _places(shape[key])
