"""Tables of plain text that fit a width. `rich` would take longer to import than they to print."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

from leoronic.client import text

GAP = "  "
SHRUNK_WIDTH_MIN = 8


class Column(NamedTuple):
    """`shrink`: may be cut to fit. `states`: its words have the colours of states.

    `least`: cells below which a `shrink` column is not worth reading. `drop`: where there is no
    room even so, columns are left out in this order, from 1 on; 0: never. `whole`: cut last of all.
    """

    title: str
    right: bool = False
    shrink: bool = False
    states: bool = False
    least: int = SHRUNK_WIDTH_MIN
    drop: int = 0
    whole: bool = False


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
        kept = _kept(shown, widths, width)
        shown = [shown[i] for i in kept]
        cells = [[row[i] for i in kept] for row in cells]
        widths = [widths[i] for i in kept]
        _shrink(shown, widths, width)
    lines = [_line(shown, [c.title for c in shown], widths, lambda c, s: _title(s, colour))]
    lines += [_line(shown, row, widths, lambda c, s: _cell(c, s, colour)) for row in cells]
    return lines if rows else []


def _kept(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """Which columns there is room for, those that may be cut at their least."""
    kept = list(range(len(columns)))
    for least in sorted((i for i in kept if columns[i].drop), key=lambda i: columns[i].drop):
        needed = sum(
            min(widths[i], columns[i].least) if columns[i].shrink else widths[i] for i in kept
        )
        if needed + len(GAP) * (len(kept) - 1) <= width:
            break
        kept.remove(least)
    return kept


def _shrink(columns: Sequence[Column], widths: list[int], width: int) -> None:
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - width
    # First the columns that may be cut, down to something still worth reading; then, on a very
    # narrow terminal, others too, because a broken line is worse.
    every = list(range(len(columns)))
    able_first = [i for i in every if columns[i].shrink]
    for narrowest, which in (
        ([column.least for column in columns], able_first),
        ([SHRUNK_WIDTH_MIN] * len(columns), able_first),
        ([1] * len(columns), [i for i in every if not columns[i].whole]),
        ([1] * len(columns), every),
    ):
        while excess > 0:
            able = [i for i in which if widths[i] > narrowest[i]]
            if not able:
                break
            widest = max(able, key=lambda i: widths[i])
            step = min(excess, max(1, (widths[widest] - narrowest[widest]) // 2))
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
