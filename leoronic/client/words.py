"""Words of a command line as bash text, and as fields of a task."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

WHENS = ("succeeded", "failed", "ended")


def bash_command(words: Sequence[str]) -> str:
    """One word is bash text as it is; several are quoted, so that bash sees the same words."""
    return words[0] if len(words) == 1 else shlex.join(words)


def quantity(value: str) -> int | float | str:
    """A plain number as such; anything else as it is, for the node to judge."""
    try:
        return int(value)
    except ValueError:
        pass
    try:
        return float(value)
    except ValueError:
        return value


def pairs(values: Iterable[str], what: str) -> dict[str, str]:
    """`KEY=VALUE` words as a dict. Raises `ValueError` for one without `=`."""
    found = {}
    for value in values:
        key, equals, rest = value.partition("=")
        if not equals or not key:
            raise ValueError(f"{value!r} is not {what}")
        found[key] = rest
    return found


def label(value: str) -> tuple[str, str]:
    """`KEY=VALUE`, or `KEY` alone, which has the value ""."""
    key, _, rest = value.partition("=")
    return key, rest


def after_explained(problem: str, values: Iterable[str]) -> str:
    """A node's refusal of `after`, made plainer where `ID:WHEN` with an unknown WHEN was meant.

    Names may hold a colon, so only the node can tell that there is no such name.
    """
    for value in values:
        _, colon, when = value.rpartition(":")
        if colon and f"no task has the id or name {value!r}" in problem:
            known = f"{', '.join(WHENS[:-1])} or {WHENS[-1]}"
            return f"after: WHEN is {known}, not {when!r} (and no task has the name {value!r})"
    return problem


def after(value: str) -> str | dict[str, Any]:
    """`ID`, or `ID:failed` and `ID:ended` for a task that need not have succeeded."""
    name, colon, when = value.rpartition(":")
    return {"id": name, "when": when} if colon and when in WHENS else value
