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
import importlib
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

REGEX_LENGTH_MAX = 1000
COMMAND_BYTES_SEARCHED_MAX = 64 * 1024
"""What stands further behind in a command is not looked at."""
COMMAND_LENGTH_SEARCHED_MAX = 1000
"""The same, in characters, where the machine has no RE2."""
PATH_LENGTH_MAX = 4096
TAG_LENGTH_MAX = 64

# RE2's own bounds for one regex: what it may keep in memory, and how many steps its program has.
_RE2_BYTES_MAX = 1024 * 1024
_RE2_STEPS_MAX = 1000
_WAYS_MAX = 1_000_000
_CHOICE_WAYS = 4
_COMPILED_MAX = 64
_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
_UNKNOWN_TO_RE2 = {
    _constants.GROUPREF: "a reference back to a group",
    _constants.GROUPREF_EXISTS: "a reference back to a group",
    _constants.ASSERT: "a look ahead or behind",
    _constants.ASSERT_NOT: "a look ahead or behind",
    _constants.ATOMIC_GROUP: "an atomic group",
    _constants.POSSESSIVE_REPEAT: "a possessive repetition",
}
_NO_LOW_BOUND = re.compile(r"(?<!\\)\{,\d+\}")
_TAG = re.compile(r"[^\s;,\x00-\x1f\x7f]+")
_UNESCAPED_SEMICOLON = re.compile(r"(?:[^\\;]|\\.|\\$)*", re.S)


class QueueIsFirst(NamedTuple):
    """No task that was submitted earlier still waits for its turn."""

    @property
    def text(self) -> str:
        """The normalised text."""
        return "queue:is_first"


class AllWithCmdDone(NamedTuple):
    """Every task whose command matches `regex` (searched, RE2's syntax) has ended."""

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


class Unknown(NamedTuple):
    """What another version took in and this one can't read: it never holds here."""

    text: str


Condition = QueueIsFirst | AllWithCmdDone | HasTag | NotTag | HasFile

_EXAMPLES = {
    "queue:is_first": "queue:is_first",
    "queue:all_with_cmd_done": "queue:all_with_cmd_done REGEX",
    "worker:tag": "worker:tag TAG",
    "worker:not_tag": "worker:not_tag TAG",
    "worker:has_file": "worker:has_file PATH",
}


def checked_condition(text: str) -> Condition:
    """The condition in `text`. Raises `ValueError` with what is wrong and what would be right."""
    condition = parse_condition(text)
    if isinstance(condition, AllWithCmdDone):
        compile_regex(condition.regex)
    return condition


def parse_condition(text: str) -> Condition:
    """As `checked_condition`, but takes any regex: what was accepted once must stay readable."""
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
            return AllWithCmdDone(argument)
        case "worker:tag":
            return HasTag(checked_tag(argument))
        case "worker:not_tag":
            return NotTag(checked_tag(argument))
        case _:
            return HasFile(_checked_path(argument))


def read_condition(text: str) -> Condition | Unknown:
    """As `parse_condition`, for what was accepted elsewhere: a newer version may know more."""
    try:
        return parse_condition(text)
    except ValueError:
        return Unknown(text)


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


def _checked_path(path: str) -> str:
    if len(path) > PATH_LENGTH_MAX:
        raise ValueError(f"a path has at most {PATH_LENGTH_MAX} characters")
    if "\0" in path:
        raise ValueError("a NUL byte cannot be in a path")
    return path


# ---- regular expressions: nothing can stop one, so its time may only grow with the text ----


@lru_cache(maxsize=_COMPILED_MAX)
def compile_regex(regex: str) -> Callable[[str], bool]:
    """Whether a command matches, as a function. Raises `ValueError` if `regex` can't be used.

    RE2 reads a text once, whatever the regex. Where it does not exist, Python's `re` is trusted
    only with regexes that cannot take long, on the beginning of a command. Either takes only what
    both know and mean alike: `\\w`, `\\d` and `\\s` are ASCII, and a line end that ends the command
    does not count.
    """
    shown = repr(regex[:100])
    if len(regex) > REGEX_LENGTH_MAX:
        raise ValueError(f"a regular expression has at most {REGEX_LENGTH_MAX} characters")
    try:
        pattern = re.compile(regex, re.ASCII)
        parsed = _parser.parse(regex, re.ASCII)
        _check_known(parsed)
    except _UnfitError as error:
        raise ValueError(f"{shown} cannot be used: {error}") from error
    except (re.error, RecursionError, OverflowError, ValueError) as error:
        raise ValueError(f"{shown} is not a regular expression: {error}") from error
    if _NO_LOW_BOUND.search(regex):
        raise ValueError(f"{shown} cannot be used: write {{0,n}} where it says {{,n}}")
    try:
        re2 = importlib.import_module("re2")  # at first use: an idle node does without its memory
    except ImportError:
        if _ways(parsed) > _WAYS_MAX:
            raise ValueError(
                f"{shown} repeats too much to be searched for on this machine: use at most two "
                "of * and +, and few of ? and |"
            ) from None
        return lambda command: (
            pattern.search(command[:COMMAND_LENGTH_SEARCHED_MAX].removesuffix("\n")) is not None
        )
    return _compile_re2(re2, regex, shown)


class _UnfitError(ValueError):
    """The regex has something in it that not every machine can search for in bounded time."""


def _compile_re2(re2: Any, regex: str, shown: str) -> Callable[[str], bool]:
    options = re2.Options()
    options.max_mem = _RE2_BYTES_MAX
    options.log_errors = False
    options.never_capture = True
    try:
        pattern = re2.compile(regex, options)
    except re2.error as error:
        why = error.args[0].decode(errors="replace") if error.args else "RE2 refuses it"
        raise ValueError(f"{shown} cannot be used: {why}") from error
    if pattern.programsize > _RE2_STEPS_MAX:
        raise ValueError(f"{shown} cannot be used: it is too large; repeat less in it")

    def matches(command: str) -> bool:
        start = command[:COMMAND_BYTES_SEARCHED_MAX].removesuffix("\n")
        text = start.encode(errors="replace")[:COMMAND_BYTES_SEARCHED_MAX]
        return pattern.search(text) is not None

    return matches


def _check_known(parsed: Any) -> None:
    for kind, argument in parsed:
        if kind in _UNKNOWN_TO_RE2:
            raise _UnfitError(
                f"it holds {_UNKNOWN_TO_RE2[kind]}, which may take for ever to look for"
            )
        if kind is _constants.AT and argument is _constants.AT_END_STRING:
            raise _UnfitError("write $ for the end of the command, not \\Z")
        for part in _parts(argument):
            _check_known(part)


def _ways(parsed: Any, repeated: bool = False) -> int:
    """Roughly how many ways Python may try from one place; far too many for what may explode."""
    ways = 1
    for kind, argument in parsed:
        inner_repeated = repeated
        if kind in _REPEATS:
            low, high, _ = argument
            span = min(int(high), COMMAND_LENGTH_SEARCHED_MAX) - low
            ways *= max(1, span if span > 1 else _CHOICE_WAYS * span)
            inner_repeated = True
        elif kind is _constants.BRANCH:
            ways *= _CHOICE_WAYS * len(argument[1])
        if repeated and (kind in _REPEATS or kind is _constants.BRANCH):
            return _WAYS_MAX + 1
        for part in _parts(argument):
            ways *= _ways(part, inner_repeated)
    return ways


def _parts(argument: Any) -> Iterator[Any]:
    """The patterns inside an element of a parsed one, however deep they are packed."""
    if isinstance(argument, _parser.SubPattern):
        yield argument
    elif isinstance(argument, tuple | list):
        for part in argument:
            yield from _parts(part)
