"""Moves the place a mistake is said to be in, when what was sent was only part of a file."""

from __future__ import annotations

import re
from collections.abc import Callable

_INDEX = re.compile(r"^tasks\[(\d+)\]\.?:? ?")
_LINE = re.compile(r"^line (\d+)")


def moved(problem: str, index: Callable[[int], str], line: Callable[[int], int]) -> str:
    """`problem` with its place renamed.

    `tasks[N]` (from 0) becomes `index(N)`, `line N` (from 1) becomes `line {line(N)}`.
    """
    match = _INDEX.match(problem)
    if match:
        return f"{index(int(match[1]))}: {problem[match.end() :]}"
    match = _LINE.match(problem)
    if match:
        return f"line {line(int(match[1]))}{problem[match.end() :]}"
    return problem
