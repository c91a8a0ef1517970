"""What each field of a task may hold: one function per field, from plain data to the kept value.

Each raises `ValueError` that says what is wrong and what would be right; `FieldMistakesError`
where several places inside one field are wrong.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from leoronic.core import quantity
from leoronic.core.blob import FileRef
from leoronic.core.bounds import (
    COUNT_MAX,
    CPUS_MAX,
    ITEMS_MAX,
    PIDS_MAX,
    PRIORITY_MAX,
    RESOURCE_MAX,
    RETRIES_MAX,
)
from leoronic.core.conditions import checked_condition, split_conditions
from leoronic.core.json_text import kind
from leoronic.core.spec import After

COMMAND_BYTES_MAX = 1024 * 1024
STDIN_BYTES_MAX = 1024 * 1024
# Linux refuses to start a program with a longer string in its environment (MAX_ARG_STRLEN).
ENV_ENTRY_BYTES_MAX = 131_071
ENV_ENTRIES_MAX = 1000
ENV_BYTES_MAX = 1024 * 1024
NAME_LENGTH_MAX = 200
ID_LENGTH_MAX = 64
LABELS_MAX = 64
LABEL_VALUE_LENGTH_MAX = 200
AFTER_MAX = 10_000
CONDITIONS_MAX = 64
RESOURCES_MAX = 64
FILES_MAX = 1000
OUTPUTS_MAX = 100
PATH_BYTES_MAX = 4096
# Nobody reads more, and each costs time to find.
MISTAKES_MAX = 500

NODE_FIELDS = frozenset({"redo_of", "node", "only", "cache_key", "cached_from"})
"""Set by the node itself: refused from outside."""

_ID = re.compile(r"[A-Za-z0-9_-]+")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./@-]*")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class FieldMistakesError(ValueError):
    """Several places inside one field: (path from the field such as `[2]` or `.PATH`, text)."""

    def __init__(self, places: list[tuple[str, str]]) -> None:
        super().__init__(places[0][1])
        self.places = places


def near_miss(word: object, known: Iterable[str]) -> str:
    """`: did you mean "X"?`, or nothing."""
    near = difflib.get_close_matches(str(word)[:100], list(known), n=1, cutoff=0.6)
    return f': did you mean "{near[0]}"?' if near else ""


def _is_plain(value: object, length_max: int) -> bool:
    """Whether it is one short line of ASCII: nearly every text is, and needs no closer look."""
    return (
        type(value) is str
        and 0 < len(value) <= length_max
        and value.isascii()
        and value.isprintable()
        and not value.isspace()
    )


def _text(value: object, bytes_max: int | None = None, where: str = "a text") -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a text, not {kind(value)}")
    if "\0" in value:
        raise ValueError(f"a NUL byte cannot be in {where}")
    size = len(value)
    if not value.isascii():
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raise ValueError("half of a surrogate pair is not a character") from error
    if bytes_max is not None and size > bytes_max:
        raise ValueError(f"must be at most {quantity.format_size(bytes_max)}")
    return value


def _command(value: object) -> str | list[str]:
    where = "a bash command"
    if isinstance(value, str):
        if not _text(value, COMMAND_BYTES_MAX, where).strip():
            raise ValueError("must not be empty")
        return value
    if not isinstance(value, list):
        raise ValueError(f"must be a text or a list of lines, not {kind(value)}")
    lines = _each(value, lambda line: _text(line, COMMAND_BYTES_MAX, where))
    if not any(line.strip() for line in lines):
        raise ValueError("must not be empty")
    _text("\n".join(lines), COMMAND_BYTES_MAX, where)
    return lines


def _each(values: list[Any], check: Callable[[Any], Any]) -> list[Any]:
    checked, wrong = [], []
    for i, value in enumerate(values):
        try:
            checked.append(check(value))
        except ValueError as error:
            wrong.append((f"[{i}]", str(error)))
            if len(wrong) == MISTAKES_MAX:
                break
    if wrong:
        raise FieldMistakesError(wrong)
    return checked


def _each_value(values: dict[Any, Any], check: Callable[[Any, Any], Any]) -> dict[str, Any]:
    checked, wrong = {}, []
    for name, value in values.items():
        try:
            checked[name] = check(name, value)
        except ValueError as error:
            wrong.append((f".{str(name)[:100]}", str(error)))
            if len(wrong) == MISTAKES_MAX:
                break
    if wrong:
        raise FieldMistakesError(wrong)
    return checked


def _whole(low: int, high: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {kind(value)}")
        if not low <= value <= high:
            raise ValueError(f"must be from {low} to {high}")
        return value

    return check


def _whole_or_none(low: int, high: int) -> Callable[[object], int | None]:
    check = _whole(low, high)
    return lambda value: None if value is None else check(value)


def _amount(high: float) -> Callable[[object], float]:
    def check(value: object) -> float:
        number: float | None = None
        if isinstance(value, str):
            try:
                number = float(value) if len(value) <= 64 else None
            except ValueError:
                number = None
        elif isinstance(value, int | float) and not isinstance(value, bool):
            # A huge integer has no float at all.
            number = math.inf if value > high else float(max(value, -1))
        if number is None or math.isnan(number):
            raise ValueError(f"must be a number, not {kind(value)}")
        if not 0 <= number <= high:
            raise ValueError(f"must be from 0 to {high:g}")
        return number

    return check


_resource_amount = _amount(RESOURCE_MAX)


def _resource(name: object, value: object) -> float:
    if not isinstance(name, str) or len(name) > ID_LENGTH_MAX or not _WORD.fullmatch(name):
        raise ValueError("a resource's name is one word of letters, digits and _ . / @ -")
    if name in ("cpus", "memory", "storage"):
        raise ValueError(f"{name} is a field of the task itself")
    return _resource_amount(value)


def _resources(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ValueError(f'must be an object such as {{"gpu": 1}}, not {kind(value)}')
    _at_most(value, RESOURCES_MAX)
    # Asking for none of something is not asking: then it also runs where there is none.
    return {name: n for name, n in _each_value(value, _resource).items() if n}


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise ValueError(f"must be true or false, not {kind(value)}")


def _one_of(*words: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        choice = " or ".join(f'"{word}"' for word in words)
        raise ValueError(f"must be {choice}{near_miss(value, words)}")

    return check


def _conditions(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = split_conditions(_text(value, COMMAND_BYTES_MAX, "a condition"))
    if not isinstance(value, list):
        raise ValueError(f"must be a list, or a text separated by ;, not {kind(value)}")
    _at_most(value, CONDITIONS_MAX)
    texts = _each(value, lambda text: checked_condition(_text(text, None, "a condition")).text)
    return tuple(dict.fromkeys(texts))


_when = _one_of("succeeded", "failed", "ended")


def _after_one(value: object) -> After:
    when = "succeeded"
    if isinstance(value, dict):
        for key in value:
            if key not in ("id", "when"):
                hint = near_miss(key, ("id", "when"))
                raise ValueError(f"has an unknown field {str(key)[:100]!r}{hint}")
        try:
            when = _when(value.get("when", when))
        except ValueError as error:
            raise ValueError(f"when: {error}") from error
        value = value.get("id")
    if not isinstance(value, str):
        raise ValueError(
            'must be an id or a name, or {"id": ..., "when": "succeeded", "failed" or "ended"}'
        )
    return After(id=_line_of_text(value, NAME_LENGTH_MAX), when=when)


def _after(value: object) -> tuple[After, ...]:
    values = [value] if isinstance(value, str | dict) else value
    if not isinstance(values, list):
        raise ValueError(f"must be a list of ids or names, not {kind(value)}")
    _at_most(values, AFTER_MAX)
    found = _each(values, _after_one)
    return tuple({(one.id, one.when): one for one in found}.values())


def _line_of_text(value: object, length_max: int) -> str:
    if _is_plain(value, length_max):
        return value  # type: ignore[return-value]
    text = _text(value, None, "a name")
    if not text.strip():
        raise ValueError("must not be blank")
    if len(text) > length_max:
        raise ValueError(f"must be at most {length_max} characters")
    if _CONTROL.search(text):
        raise ValueError("must be one line, without control characters")
    return text


def _name(value: object) -> str:
    return "" if value == "" else _line_of_text(value, NAME_LENGTH_MAX)


def _id(value: object) -> str:
    if value == "":
        return ""
    text = _text(value, None, "an id")
    if len(text) > ID_LENGTH_MAX:
        raise ValueError(f"must be at most {ID_LENGTH_MAX} characters")
    if not _ID.fullmatch(text):
        raise ValueError("may hold letters, digits, _ and - only")
    return text


def _label(name: object, value: object) -> str:
    if not isinstance(name, str) or len(name) > ID_LENGTH_MAX or not _WORD.fullmatch(name):
        raise ValueError(
            f"a label's name is one word of letters, digits and _ . / @ -, "
            f"at most {ID_LENGTH_MAX} characters"
        )
    return "" if value == "" else _line_of_text(value, LABEL_VALUE_LENGTH_MAX)


def _label_pair(value: object) -> tuple[str, str]:
    name, _, text = _text(value, None, "a label").partition("=")
    return name, _label(name, text)


def _labels(value: object) -> dict[str, str]:
    if isinstance(value, dict):
        _at_most(value, LABELS_MAX)
        return _each_value(value, _label)
    if isinstance(value, list):
        _at_most(value, LABELS_MAX)
        return dict(_each(value, _label_pair))
    raise ValueError(f'must be a list such as ["a", "k=v"], or an object, not {kind(value)}')


def _env_entry(name: object, value: object) -> str:
    if not isinstance(name, str) or not _ENV_NAME.fullmatch(name):
        raise ValueError(
            "the name of a variable starts with a letter or _, followed by letters, digits and _"
        )
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f'must be a text, such as "{str(value)[:20]}"')
    return _text(value, ENV_ENTRY_BYTES_MAX - len(name) - 1, "an environment variable")


def _env(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f'must be an object such as {{"NAME": "value"}}, not {kind(value)}')
    _at_most(value, ENV_ENTRIES_MAX)
    env = _each_value(value, _env_entry)
    if sum(len(name) + len(text.encode()) + 2 for name, text in env.items()) > ENV_BYTES_MAX:
        raise ValueError(f"must be at most {quantity.format_size(ENV_BYTES_MAX)} in all")
    return env


def _items(value: object) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise ValueError(f"must be a list of texts, not {kind(value)}")
    if not value:
        raise ValueError("must hold at least one text")
    _at_most(value, ITEMS_MAX)
    bytes_max = ENV_ENTRY_BYTES_MAX - len("LEORONIC_ITEM=")
    if set(map(type, value)) == {str} and max(map(len, value)) <= bytes_max:
        joined = "".join(value)
        if joined.isascii() and "\0" not in joined:
            return value  # a million of them, looked at as one
    return _each(value, lambda item: _text(item, bytes_max, "an item"))


def _only(value: object) -> list[int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of indexes")
    _at_most(value, COUNT_MAX)
    return _each(value, _whole(0, COUNT_MAX - 1))


def _paths(value: object, what: str, entries_max: int) -> list[str]:
    if isinstance(value, str):
        value = split_conditions(_text(value, COMMAND_BYTES_MAX, "a path"))
    if not isinstance(value, list):
        raise ValueError(f"must be a list of {what}, or a text separated by ;, not {kind(value)}")
    _at_most(value, entries_max)
    return _each(value, lambda path: _path(path, what))


def _path(value: object, what: str) -> str:
    text = _text(value, PATH_BYTES_MAX, "a path")
    if not text.strip():
        raise ValueError(f"must not be empty: {what} are named by their paths")
    if _CONTROL.search(text):
        raise ValueError("a path with a newline or another control character is not taken: rename")
    return text


def _files(value: object) -> tuple[FileRef, ...]:
    found = _each(_paths(value, "files", FILES_MAX), _file)
    return tuple({file.path: file for file in found}.values())


def _file(path: str) -> FileRef:
    if not path.startswith("task:"):
        return FileRef(path)
    task, _, output = path.removeprefix("task:").partition("/")
    if not task.strip() or not output:
        raise ValueError('an output of another task is written "task:ID/PATH"')
    if any(letter in output for letter in "*?["):
        raise ValueError(f"{path}: no globs here: name each file that the other task leaves")
    return FileRef(path, task=_line_of_text(task, NAME_LENGTH_MAX), output=_inside(output))


def _outputs(value: object) -> tuple[str, ...]:
    globs = _each(_paths(value, "outputs", OUTPUTS_MAX), _inside)
    return tuple(dict.fromkeys(globs))


def _inside(path: str) -> str:
    """A path that stays below the task's folder."""
    parts = path.split("/")
    if path.startswith("/") or ".." in parts:
        raise ValueError(f"{path} leads out of the task's folder: outputs are named from there")
    if path.startswith("~"):
        raise ValueError("~ is not expanded here: outputs are named from the task's folder")
    plain = "/".join(part for part in parts if part not in ("", "."))
    if not plain:
        raise ValueError(f"{path} names no file")
    return plain


def _time_limit(value: object) -> float | None:
    if value is None:
        return None
    seconds = quantity.duration(value)
    if not seconds:
        raise ValueError("must be more than 0 s; leave it out for no limit")
    return seconds


def _at_most(values: list[Any] | dict[Any, Any], entries_max: int) -> None:
    if len(values) > entries_max:
        raise ValueError(f"must hold at most {entries_max} entries, not {len(values)}")


CHECKS: dict[str, Callable[[object], Any]] = {
    "command": _command,
    "memory": quantity.size,
    "cpus": _amount(CPUS_MAX),
    "storage": quantity.size,
    "resources": _resources,
    "concurrent": _flag,
    "conditions": _conditions,
    "workdir": _one_of("shared", "private"),
    "after": _after,
    "name": _name,
    "id": _id,
    "labels": _labels,
    "priority": _whole(-PRIORITY_MAX, PRIORITY_MAX),
    "env": _env,
    "stdin": lambda value: _text(value, STDIN_BYTES_MAX, "stdin"),
    "time_limit": _time_limit,
    "retries": _whole(0, RETRIES_MAX),
    "retry_delay": quantity.duration,
    "on_loss": _one_of("retry", "hold"),
    "count": _whole_or_none(1, COUNT_MAX),
    "items": _items,
    "fresh_shell": _flag,
    "pids": _whole_or_none(1, PIDS_MAX),
    "redo_of": lambda value: _text(value, None, "an id"),
    "node": lambda value: _text(value, None, "a name"),
    "only": _only,
    "files": _files,
    "keep_names": _flag,
    "outputs": _outputs,
    "cache": _flag,
    "cache_key": lambda value: _text(value, None, "a key"),
    "cached_from": lambda value: _text(value, None, "an id"),
}
"""Field -> its function. All of `TaskSpec`, nothing else."""
