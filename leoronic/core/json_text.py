"""JSON as people and scripts write it: finding its shape, and saying exactly what is wrong.

msgspec decodes; it lets the last of doubled keys win silently, so these are looked for here. The
search is nearly free: each key of the text ends in a quote and a colon, so where no more of these
are counted than keys were decoded, none was doubled. Only where a string holds such a pair too,
the standard library's slower decoder looks at every key.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import msgspec

DOUBLED_TOLD_MAX = 500

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
_SPACED_COLON = re.compile(rb'"[ \t\r\n]+:')
_decoder = msgspec.json.Decoder()
_DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class NotJsonError(ValueError):
    """The text cannot be read as JSON at all, or not as what it has to be."""


class BadLine(list[str]):
    """Stands in `decode_lines` for a line that cannot be read; holds what is wrong with it."""


class _Doubled(dict[str, Any]):
    """An object of the text in which `key` stands more than once."""

    key: str


def kind(value: object) -> str:
    """What a person calls a value of this type in JSON."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "an array"
        case dict():
            return "an object"
        case _:
            return f"a {type(value).__name__}"


def without_bom(data: bytes) -> bytes:
    """`data` without the byte order mark that some editors put first."""
    return data[len(_BOM) :] if data.startswith(_BOM) else data


def looks_like_lines(data: bytes) -> bool:
    """Whether `data` is JSON lines rather than one value, judged by its first two filled lines."""
    filled = _filled_lines(data)
    first = next(filled, (0, b""))[1]
    second = next(filled, (0, b""))[1]
    if not first.startswith(b"{") or not second:
        return False
    # Inside one value nothing but these can stand between a line and another that opens an object.
    if second.startswith(b"{") and not first.endswith((b",", b":", b"[")):
        return True
    try:
        _decoder.decode(first)
    except _DECODE_ERRORS:
        return False
    return True


def decode(data: bytes, doubled: Callable[[str], None]) -> Any:
    """The one value in `data`. Raises `NotJsonError`; each doubled key is told to `doubled`."""
    try:
        value = _decoder.decode(data)
    except _DECODE_ERRORS as error:
        raise NotJsonError(_explained(data, error)) from error
    if _may_hold_doubled(data, value):
        _tell_doubled(data, doubled)
    return value


def decode_lines(data: bytes) -> list[Any]:
    """One value for each filled line; a `BadLine` for one that cannot be read."""
    try:
        values: list[Any] = _decoder.decode_lines(data)
        # The decoder takes values that go over several lines, too.
        whole = len(values) == sum(1 for line in data.split(b"\n") if line.strip(_BLANK))
    except _DECODE_ERRORS:
        whole = False
    if whole and not _may_hold_doubled(data, values):
        return values
    return [_decode_line(line) for _, line in _filled_lines(data)]


def line_slices(data: bytes, size: int) -> Iterator[bytes]:
    """`data` in parts of about `size` bytes, each of whole lines."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", start + size) + 1 or len(data)
        yield data[start:end]
        start = end


def line_numbers(data: bytes) -> Iterator[int]:
    """The numbers, from 1, of the filled lines."""
    return (number for number, _ in _filled_lines(data))


def _filled_lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    start, number = 0, 0
    while start < len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        number += 1
        line = data[start:end].strip(_BLANK)
        if line:
            yield number, line
        start = end + 1


def _decode_line(line: bytes) -> Any:
    problems = BadLine()
    try:
        value = decode(line, problems.append)
    except NotJsonError as error:
        problems.append(str(error))
    return problems or value


def _may_hold_doubled(data: bytes, value: Any) -> bool:
    seen = data.count(b'":') + len(_SPACED_COLON.findall(data))
    if type(value) is dict:
        value = [value]
    if type(value) is not list or not seen:
        return False
    # Most tasks are flat: the deep count is for those that are not.
    return seen != sum([len(one) for one in value if type(one) is dict]) and seen != _keys(value)


def _keys(value: Any) -> int:
    if type(value) is dict:
        inner: Any = value.values()
        count = len(value)
    elif type(value) is list:
        inner, count = value, 0
    else:
        return 0
    return count + sum([_keys(one) for one in inner if type(one) is dict or type(one) is list])


def _tell_doubled(data: bytes, doubled: Callable[[str], None]) -> None:
    found: list[_Doubled] = []

    def pairs_to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        plain = dict(pairs)
        if len(plain) == len(pairs):
            return plain
        names = [name for name, _ in pairs]
        marked = _Doubled(plain)
        marked.key = next(name for name, count in Counter(names).items() if count > 1)
        found.append(marked)
        return marked

    try:
        # Numbers are not looked at again, and long ones cost.
        value = json.loads(data, object_pairs_hook=pairs_to_object, parse_int=len, parse_float=len)
    except (ValueError, RecursionError) as error:
        raise NotJsonError(_explained(data, error)) from error
    if found:
        for path, key in islice(_places_of_doubled(value, ""), DOUBLED_TOLD_MAX):
            doubled(f'{path}: "{key[:100]}" is there more than once'.removeprefix(": "))


def _places_of_doubled(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, _Doubled):
        yield path.removeprefix("."), value.key
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _places_of_doubled(inner, f"{path}.{name[:100]}")
    elif isinstance(value, list):
        top = path or "tasks"
        for i, inner in enumerate(value):
            yield from _places_of_doubled(inner, f"{top}[{i}]")


def _explained(data: bytes, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "not JSON that can be read: nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not JSON: a text in it is not UTF-8"
    text = str(error)
    if "out of range" in text:
        return "not JSON that can be read: a number in it is too large"
    try:
        json.loads(data)
    except json.JSONDecodeError as exact:
        line = f"line {exact.lineno}, " if b"\n" in data else ""
        return f"not JSON: {exact.msg.lower()} ({line}column {exact.colno})"
    except (ValueError, RecursionError):
        pass
    # The standard library takes some texts that are not JSON: NaN, and halves of surrogate pairs.
    return "not JSON: it holds NaN, Infinity, or half of a surrogate pair"
