"""What a person reads: short sizes, times and durations, and text that cannot harm a terminal."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Sequence
from typing import IO, Any

from leoronic.core import quantity

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}

COLOURS = {
    "succeeded": "32",
    "failed": "31",
    "cancelled": "33",
    "running": "36",
    "waiting": "",
    "blocked": "35",
    "held": "34",
    "up": "32",
    "suspect": "33",
    "down": "31",
    "draining": "33",
    "left": "2",
    "lost": "33",
    "title": "1",
    "dim": "2",
}


def wants_colour(stream: IO[Any]) -> bool:
    """Whether to colour what goes to `stream`: only a terminal, and never against NO_COLOR."""
    return (
        stream.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "") not in ("", "dumb")
    )


def paint(word: str, name: str, colour: bool) -> str:
    """`word` in the colour of `name` (a state, `title`, `dim`), if `colour` is on."""
    code = COLOURS.get(name, "")
    return f"\x1b[{code}m{word}\x1b[0m" if colour and code else word


def size(size_bytes: float | None) -> str:
    """`512 MiB`, `1.5 GiB`; nothing for None."""
    if size_bytes is None:
        return ""
    amount, unit = float(size_bytes), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    digits = 0 if unit == 0 or amount >= 100 else 1
    return f"{amount:.{digits}f}".removesuffix(".0") + f" {_UNITS[unit]}"


def duration(duration_s: float | None) -> str:
    """The two largest units: `0.21 s`, `12 s`, `2 min 5 s`, `3 h 12 min`, `2 d 3 h`."""
    if duration_s is None:
        return ""
    duration_s = max(duration_s, 0.0)
    if duration_s < 60:
        digits = 2 if duration_s < 1 else 1 if duration_s < 10 else 0
        return f"{duration_s:.{digits}f} s"
    rest = int(duration_s)
    for (large, large_s), (small, small_s) in (
        (("d", 86_400), ("h", 3600)),
        (("h", 3600), ("min", 60)),
        (("min", 60), ("s", 1)),
    ):
        if rest >= large_s:
            many, few = rest // large_s, rest % large_s // small_s
            return f"{many} {large} {few} {small}" if few else f"{many} {large}"
    raise AssertionError("a minute or more has a unit")


def epoch(time: str | None) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None for none."""
    return datetime.datetime.fromisoformat(time).timestamp() if time else None


def ago(time: str | None, now: float) -> str:
    """`3 s ago`, `just now`; nothing for None."""
    then = epoch(time)
    if then is None:
        return ""
    past_s = now - then
    if past_s < 1:
        return "just now"
    # To the largest unit: nobody reads the seconds of something two hours old.
    words = duration(float(int(past_s)) if past_s >= 10 else past_s).split()
    return f"{words[0].split('.')[0]} {words[1]} ago"


def clock(time: str | None) -> str:
    """Local wall clock of an RFC 3339 time, to the second: `12:03:04`."""
    then = epoch(time)
    if then is None:
        return ""
    return datetime.datetime.fromtimestamp(then).strftime("%H:%M:%S")


def since(value: str, now: float) -> float:
    """Seconds since the epoch of `--since`: a duration back from now, or a time.

    Raises `ValueError` that says what would be right.
    """
    try:
        return now - quantity.duration(value)
    except ValueError:
        pass
    try:
        return datetime.datetime.fromisoformat(value).timestamp()
    except ValueError:
        raise ValueError(
            f'{value!r} is not a time: write how long ago ("2h") or a time ("2026-11-20T12:00:00Z")'
        ) from None


def one_line(value: object) -> str:
    """`value` on one line, without characters that a terminal would act upon."""
    return _CONTROL.sub(lambda found: _NAMED.get(found[0], f"\\x{ord(found[0]):02x}"), str(value))


def count(number: int, what: str, several: str = "") -> str:
    """`1 task`, `1,200 tasks`; `several` where an s is not all there is to it."""
    return f"{number:,} {what if number == 1 else several or what + 's'}"


def ranges(numbers: Sequence[int]) -> list[str]:
    """Ascending numbers, three and more in a row as one: `3`, `17`, `20-24`."""
    runs: list[list[int]] = []
    for one in numbers:
        if runs and one == runs[-1][-1] + 1:
            runs[-1].append(one)
        else:
            runs.append([one])
    words: list[str] = []
    for run in runs:
        words += [f"{run[0]}-{run[-1]}"] if len(run) > 2 else map(str, run)
    return words


def number(value: float | None) -> str:
    """Without a needless point: `2`, `0.5`."""
    return "" if value is None else f"{value:.3f}".rstrip("0").rstrip(".")
