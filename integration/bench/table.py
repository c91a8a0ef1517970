"""The figures as Markdown tables, and their places in a document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from integration.bench.figure import Figure, Missing, format_number, format_samples

COLUMNS = ("what", "ours", "beside it", "ratio", "goal", "met?")
BEGIN = "<!-- bench: begin, written by `python -m integration.bench --write` -->"
END = "<!-- bench: end -->"
SIZES_BEGIN = "<!-- sizes: begin, written by `python -m integration.bench --write` -->"
SIZES_END = "<!-- sizes: end -->"
_PART = re.compile(r"<!-- part (\w+) -->\n(.*?)\n<!-- end of \1 -->", re.DOTALL)


def rows(figure: Figure) -> list[tuple[str, ...]]:
    """One row for the figure and its first rival, one for each other rival."""
    found: list[tuple[str, ...]] = []
    first = (f"{figure.what}, {figure.unit}", format_samples(figure.ours))
    last = (_goal(figure), {True: "yes", False: "NO", None: ""}[figure.met()])
    for name, theirs in figure.rivals.items() or {"": Missing("")}.items():
        if isinstance(theirs, Missing):
            beside = f"{name}: not available: {theirs.reason}" if name else ""
        else:
            beside = f"{name}: {format_samples(theirs)}"
        ratio = figure.ratio(name)
        middle = (beside, "" if ratio is None else f"{format_number(ratio)} x")
        found.append((*first, *middle, *last))
        first = last = ("", "")
    return found


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    if figure.goal.of is not None:
        return f"{figure.goal.limit:g} x {figure.goal.of}"
    return f"{'at least' if figure.more else 'at most'} {figure.goal.limit:,g}"


def markdown(figures: Iterable[Figure]) -> str:
    """The table of all figures."""
    return aligned(COLUMNS, (row for figure in figures for row in rows(figure)))


def aligned(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose columns are aligned, so that it also reads well in a terminal."""
    lines = [tuple(columns), *map(tuple, rows)]
    lines = [tuple(cell.replace("|", "\\|") for cell in line) for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )


def replaced(document: str, text: str, begin_mark: str = BEGIN, end_mark: str = END) -> str:
    """The document with `text` between two marks. Raises ValueError if they are not there."""
    old = begin_mark + between(document, begin_mark, end_mark) + end_mark
    return document.replace(old, f"{begin_mark}\n{text}\n{end_mark}", 1)


def between(document: str, begin_mark: str = BEGIN, end_mark: str = END) -> str:
    """What is between two marks. Raises ValueError if they are not there."""
    _, begin, rest = document.partition(begin_mark)
    found, end, _ = rest.partition(end_mark)
    if not begin or not end:
        raise ValueError(f"the document needs the lines {begin_mark!r} and {end_mark!r}")
    return found


def with_parts(document: str, parts: Mapping[str, str], order: Sequence[str]) -> str:
    """The document with these parts, by name, and those that it has besides, in this order.

    Parts that are not in `order` any more are dropped. Raises ValueError as `between`.
    """
    there = dict(_PART.findall(between(document))) | dict(parts)
    texts = [
        f"<!-- part {name} -->\n{there[name]}\n<!-- end of {name} -->"
        for name in order
        if name in there
    ]
    return replaced(document, "\n\n".join(texts))


def write_parts(path: Path, parts: Mapping[str, str], order: Sequence[str]) -> None:
    """Put these parts into the document at `path`; its others stay as they are."""
    path.write_text(with_parts(path.read_text(), parts, order))


def write(path: Path, text: str, begin_mark: str, end_mark: str) -> None:
    """Put `text` between the marks of the document at `path`."""
    path.write_text(replaced(path.read_text(), text, begin_mark, end_mark))
