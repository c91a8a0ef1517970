"""Sizes and durations as people write them, and back.

    size      bytes: 12, "512M", "1.5G", "2GiB", "100 kb"
    duration  seconds: 90, "90s", "5m", "2h", "1d", "1h30m", "250ms"

Every size prefix is a power of 1024, with or without `B` or `iB`. Whoever asks for `512MB` of
memory has a machine whose memory comes in powers of two, and too little would get the task killed.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache

SIZE_MAX = 1 << 60
DURATION_S_MAX = 10 * 365 * 86_400.0
_TEXT_LENGTH_MAX = 64

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+) *(?:([kmgtpe])(?:i?b)?|b)?", re.I)
_SIZE_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_SIZE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_DURATION_PART = re.compile(
    r" *([0-9]+(?:\.[0-9]*)?|\.[0-9]+) *(ms|s|sec|m|min|h|d|w)(?![a-z])", re.I
)
_DURATION_UNITS_S = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "sec": Fraction(1),
    "m": Fraction(60),
    "min": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86_400),
    "w": Fraction(7 * 86_400),
}


def size(value: object) -> int:
    """Bytes, rounded up. Raises `ValueError` with what is wrong and what would be right."""
    if type(value) is int:
        return _size_in_range(value)
    if isinstance(value, str):
        size_bytes = _size_of_text(value)
        if size_bytes is not None:
            return _size_in_range(size_bytes)
    elif isinstance(value, float) and math.isfinite(value):
        return _size_in_range(math.ceil(value))
    raise ValueError(f'{_shown(value)} is not a size: write bytes, or a text like "512M" or "2GiB"')


def duration(value: object) -> float:
    """Seconds. Raises `ValueError` with what is wrong and what would be right."""
    if type(value) is int:
        return _duration_in_range(value)
    if isinstance(value, str):
        total = _duration_of_text(value)
        if total is not None:
            return _duration_in_range(total)
    elif isinstance(value, float) and math.isfinite(value):
        return _duration_in_range(value)
    raise ValueError(
        f'{_shown(value)} is not a duration: write seconds, or a text like "90s", "5m" or "1h30m"'
    )


def format_size(size_bytes: int) -> str:
    """`512 MiB`, `1.25 GiB`: at most two digits after the point, exact if that is enough."""
    amount, unit = Fraction(size_bytes), 0
    while amount >= 1024 and unit < len(_SIZE_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{_trimmed(float(amount), 2)} {_SIZE_UNITS[unit]}"


def format_duration(duration_s: float) -> str:
    """`250 ms`, `1.5 s`, `1 h 30 min`: exact for whole seconds and whole milliseconds."""
    total_ms = round(duration_s * 1000)
    if total_ms < 1000:
        return f"{total_ms} ms" if total_ms else "0 s"
    seconds, ms = divmod(total_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if n]
    if seconds or ms:
        parts.append(f"{_trimmed(seconds + ms / 1000, 3)} s")
    return " ".join(parts)


def _size_in_range(size_bytes: int) -> int:
    if size_bytes < 0:
        raise ValueError("a size cannot be negative")
    if size_bytes > SIZE_MAX:
        raise ValueError("a size cannot be over 1 EiB")
    return size_bytes


def _duration_in_range(duration_s: float | Fraction) -> float:
    if duration_s < 0:
        raise ValueError("a duration cannot be negative")
    if duration_s > DURATION_S_MAX:
        raise ValueError("a duration cannot be over 10 years")
    return float(duration_s)


# Thousands of tasks are written with the same few sizes and durations.
@lru_cache(maxsize=256)
def _size_of_text(text: str) -> int | None:
    found = _SIZE.fullmatch(text.strip()) if len(text) <= _TEXT_LENGTH_MAX else None
    if not found:
        return None
    power = _SIZE_POWERS[found[2].lower()] if found[2] else 0
    return math.ceil(Fraction(found[1]) * Fraction(1024) ** power)


@lru_cache(maxsize=256)
def _duration_of_text(text: str) -> Fraction | None:
    if len(text) > _TEXT_LENGTH_MAX:
        return None
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return Fraction(text)
    total, position = Fraction(0), 0
    while position < len(text):
        found = _DURATION_PART.match(text, position)
        if not found:
            return None
        total += Fraction(found[1]) * _DURATION_UNITS_S[found[2].lower()]
        position = found.end()
    return total if position else None


def _trimmed(number: float, digits_max: int) -> str:
    return f"{number:.{digits_max}f}".rstrip("0").rstrip(".")


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return "that number"
    text = repr(value)
    return text if len(text) <= _TEXT_LENGTH_MAX else text[:_TEXT_LENGTH_MAX] + "..."
