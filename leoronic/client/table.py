"""Tables of plain text that fit a width. `rich` would take longer to import than they to print."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

from leoronic.client import text

GAP = "  "
SHRUNK_WIDTH_MIN = 8


class Column(NamedTuple):
    """`shrink`: may be cut to fit. `states`: its words have the colours of states."""

    title: str
    right: bool = False
    shrink: bool = False
    states: bool = False


def width_of(value: str) -> int:
    """Cells that `value` takes on a terminal."""
    if value.isascii():
        return len(value)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in value
    )


def cut(value: str, width: int) -> str:
    """`value`, its end replaced by `...` where it is wider than `width` cells."""
    if width_of(value) <= width:
        return value
    if width <= 3:
        return value[:width] if value.isascii() else "." * width
    kept, used = [], 0
    for character in value:
        used += width_of(character)
        if used > width - 3:
            break
        kept.append(character)
    return "".join(kept) + "..."


def render(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    colour: bool = False,
) -> list[str]:
    """Lines of a table, titles first. None as `width`: as wide as it needs.

    A column that is empty in every row is left out.
    """
    used = [i for i in range(len(columns)) if any(row[i] for row in rows)] if rows else []
    shown = [columns[i] for i in used]
    cells = [[text.one_line(row[i]) for i in used] for row in rows]
    widths = [
        max(len(column.title), *(width_of(row[i]) for row in cells))
        for i, column in enumerate(shown)
    ]
    if width is not None:
        _shrink(shown, widths, width)
    lines = [_line(shown, [c.title for c in shown], widths, lambda c, s: _title(s, colour))]
    lines += [_line(shown, row, widths, lambda c, s: _cell(c, s, colour)) for row in cells]
    return lines if rows else []


def _shrink(columns: Sequence[Column], widths: list[int], width: int) -> None:
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - width
    # First the columns that may be cut, down to something still worth reading; then, on a very
    # narrow terminal, any, because a broken line is worse.
    for narrowest, which in (
        (SHRUNK_WIDTH_MIN, [i for i, c in enumerate(columns) if c.shrink]),
        (1, list(range(len(columns)))),
    ):
        while excess > 0:
            able = [i for i in which if widths[i] > narrowest]
            if not able:
                break
            widest = max(able, key=lambda i: widths[i])
            step = min(excess, max(1, (widths[widest] - narrowest) // 2))
            widths[widest] -= step
            excess -= step


def _line(
    columns: Sequence[Column],
    cells: Sequence[str],
    widths: Sequence[int],
    painted: Callable[[Column, str], str],
) -> str:
    parts = []
    for i, (column, cell) in enumerate(zip(columns, cells, strict=True)):
        kept = cut(cell, widths[i])
        space = " " * (widths[i] - width_of(kept))
        shown = painted(column, kept) if kept else ""
        parts.append(space + shown if column.right else shown + space)
    return GAP.join(parts).rstrip()


def _title(word: str, colour: bool) -> str:
    return text.paint(word, "title", colour)


def _cell(column: Column, word: str, colour: bool) -> str:
    return text.paint(word, word, colour) if column.states else word
