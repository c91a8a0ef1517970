"""Conditions of a task: text to types. Evaluating them is the scheduler's part.

    queue:is_first                     no task submitted earlier still waits for its turn
    queue:all_with_cmd_done REGEX      every task whose command matches has ended
    worker:tag TAG                     the node carries the tag
    worker:not_tag TAG                 the node does not carry it
    worker:has_file PATH               the node has that file

Several in one text are separated by `;`, where `\\;` stands for the character itself.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

REGEX_LENGTH_MAX = 1000
PATH_LENGTH_MAX = 4096
TAG_LENGTH_MAX = 64

_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
_TAG = re.compile(r"[^\s;,\x00-\x1f\x7f]+")
_UNESCAPED_SEMICOLON = re.compile(r"(?:[^\\;]|\\.|\\$)*", re.S)


class QueueIsFirst(NamedTuple):
    """No task that was submitted earlier still waits for its turn."""

    @property
    def text(self) -> str:
        """The normalised text."""
        return "queue:is_first"


class AllWithCmdDone(NamedTuple):
    """Every task whose command matches `regex` (searched, Python's syntax) has ended."""

    regex: str

    @property
    def text(self) -> str:
        """The normalised text."""
        return f"queue:all_with_cmd_done {self.regex}"


class HasTag(NamedTuple):
    """The node carries `tag`."""

    tag: str

    @property
    def text(self) -> str:
        """The normalised text."""
        return f"worker:tag {self.tag}"


class NotTag(NamedTuple):
    """The node does not carry `tag`."""

    tag: str

    @property
    def text(self) -> str:
        """The normalised text."""
        return f"worker:not_tag {self.tag}"


class HasFile(NamedTuple):
    """The node has the file `path`: absolute, or relative to its root."""

    path: str

    @property
    def text(self) -> str:
        """The normalised text."""
        return f"worker:has_file {self.path}"


Condition = QueueIsFirst | AllWithCmdDone | HasTag | NotTag | HasFile

_EXAMPLES = {
    "queue:is_first": "queue:is_first",
    "queue:all_with_cmd_done": "queue:all_with_cmd_done REGEX",
    "worker:tag": "worker:tag TAG",
    "worker:not_tag": "worker:not_tag TAG",
    "worker:has_file": "worker:has_file PATH",
}


def parse_condition(text: str) -> Condition:
    """The condition in `text`. Raises `ValueError` with what is wrong and what would be right."""
    word, _, argument = text.strip().partition(" ")
    argument = argument.strip()
    if word not in _EXAMPLES:
        near = difflib.get_close_matches(word[:100], _EXAMPLES, n=1, cutoff=0.5)
        known = ", ".join(_EXAMPLES.values())
        hint = f'did you mean "{_EXAMPLES[near[0]]}"?' if near else f"known are {known}"
        raise ValueError(f'"{word[:100]}" is not a condition: {hint}')
    if word == "queue:is_first":
        if argument:
            raise ValueError('"queue:is_first" stands alone: nothing may follow it')
        return QueueIsFirst()
    if not argument:
        raise ValueError(f'"{word}" needs a value: write "{_EXAMPLES[word]}"')
    match word:
        case "queue:all_with_cmd_done":
            return AllWithCmdDone(_checked_regex(argument))
        case "worker:tag":
            return HasTag(checked_tag(argument))
        case "worker:not_tag":
            return NotTag(checked_tag(argument))
        case _:
            return HasFile(_checked_path(argument))


def split_conditions(text: str) -> list[str]:
    r"""Parts of a `;`-separated text, without blank ones; `\;` becomes `;`."""
    parts, position = [], 0
    while position <= len(text):
        found = _UNESCAPED_SEMICOLON.match(text, position)
        assert found is not None  # the pattern also matches nothing
        parts.append(found[0].replace("\\;", ";").strip())
        position = found.end() + 1
    return [part for part in parts if part]


def checked_tag(tag: str) -> str:
    """`tag` itself. Raises `ValueError` if nothing can be tagged so."""
    if len(tag) > TAG_LENGTH_MAX:
        raise ValueError(f"a tag has at most {TAG_LENGTH_MAX} characters")
    if not _TAG.fullmatch(tag):
        raise ValueError(f"a tag is one word, without spaces, commas or semicolons, not {tag!r}")
    return tag


def _checked_regex(regex: str) -> str:
    if len(regex) > REGEX_LENGTH_MAX:
        raise ValueError(f"a regular expression has at most {REGEX_LENGTH_MAX} characters")
    try:
        re.compile(regex)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{regex[:100]!r} is not a regular expression: {error}") from error
    if _may_explode(_parser.parse(regex)):
        raise ValueError(
            f"{regex[:100]!r} repeats a repetition, such as (a+)+: looking for it may take for "
            "ever; write it with one repetition"
        )
    return regex


def _checked_path(path: str) -> str:
    if len(path) > PATH_LENGTH_MAX:
        raise ValueError(f"a path has at most {PATH_LENGTH_MAX} characters")
    if "\0" in path:
        raise ValueError("a NUL byte cannot be in a path")
    return path


def _may_explode(parsed: Any, inside: bool = False) -> bool:
    """Whether an endless repetition stands inside another: time grows exponentially with text.

    A node's queue would stand still as long, and a regex can't be interrupted.
    """
    for kind, argument in parsed:
        repeats = kind in _REPEATS and argument[1] == _constants.MAXREPEAT
        if repeats and inside:
            return True
        if any(_may_explode(part, inside or repeats) for part in _parts(argument)):
            return True
    return False


def _parts(argument: Any) -> Iterator[Any]:
    """The patterns inside an element of a parsed one, however deep they are packed."""
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, tuple | list):
        for part in argument:
            yield from _parts(part)
