"""Sends a file of tasks to a node: whole if it fits one request, else JSON lines in parts.

Each part is accepted whole or refused whole, and a few are under way at once. When one is refused
nothing more is sent; what was accepted before it stays, and the error says which lines those are.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

from leoronic.client import text
from leoronic.client.bars import Bars
from leoronic.client.connection import Client
from leoronic.client.context import CommandError, here
from leoronic.client.places import moved
from leoronic.core.commands import Submit
from leoronic.core.json_text import looks_like_lines
from leoronic.errors import BadRequest, LeoronicError
from leoronic.wire.frames import BLOB_BYTES_MAX

PART_BYTES_MAX = 4 * 1024 * 1024
PARTS_AT_ONCE_MAX = 4

# What tasks that bring files have in them; others may, too, which does no harm.
_FILES = b'"files"'

Show = Callable[[str], None]


class _Part(NamedTuple):
    request: int
    lines_before: int
    lines: int
    brings_files: bool


def with_files(client: Client, blob: bytes, bars: Bars, *, lines: bool = False) -> dict[str, Any]:
    """Submit tasks that bring files, from the current folder; a bar shows how many are stored."""
    return _stored(client, client.send(Submit(lines, here(), True), blob), bars)


def _stored(client: Client, request: int, bars: Bars) -> dict[str, Any]:
    """The answer to `request`, however long files take that are stored before it."""
    try:
        while not (answer := client.next_answer({request})).last:
            bars.show("storing files", answer.value["stored"], answer.value["size"])
    finally:
        bars.end("storing files")
    result: dict[str, Any] = answer.result()
    return result


def submit(client: Client, source: IO[bytes], show: Show, bars: Bars) -> dict[str, Any]:
    """Submit all tasks in `source`. The result is that of `Submit`, over all parts.

    `show` is given a line of progress now and then, `bars` how many bytes of files are stored.
    Raises what the node answers, with places as they are in the file.
    """
    head = _read(source, BLOB_BYTES_MAX + 1)
    if len(head) <= BLOB_BYTES_MAX:
        lines = looks_like_lines(head)
        if _FILES in head:
            return with_files(client, head, bars, lines=lines)
        answer: dict[str, Any] = client.request(Submit(lines=lines), head)
        return answer
    if not looks_like_lines(head[:PART_BYTES_MAX]):
        raise CommandError(
            f"more than {BLOB_BYTES_MAX >> 20} MiB go in only as JSON lines, one task a line"
        )
    return _Upload(client, show, bars).run(_parts(head, source))


def _read(source: IO[bytes], size: int) -> bytes:
    """Up to `size` bytes; fewer only at the end, even from a pipe."""
    parts, left = [], size
    while left:
        part = source.read(left)
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _parts(head: bytes, source: IO[bytes]) -> Iterator[bytes]:
    """Whole lines, up to PART_BYTES_MAX at once, or one longer line."""
    rest = bytearray(head)
    at_end = False
    while True:
        while not at_end and (len(rest) < PART_BYTES_MAX or b"\n" not in rest):
            more = source.read(PART_BYTES_MAX)
            at_end = not more
            rest += more
            if len(rest) > BLOB_BYTES_MAX * 2:
                raise CommandError(f"a line is longer than {BLOB_BYTES_MAX >> 20} MiB")
        end = rest.rfind(b"\n", 0, PART_BYTES_MAX) + 1 or rest.find(b"\n") + 1 or len(rest)
        if not end:
            return
        part = bytes(rest[:end])
        del rest[:end]
        if part.strip():
            yield part


class _Upload:
    """Parts under way, and what has been accepted of them."""

    def __init__(self, client: Client, show: Show, bars: Bars) -> None:
        self._client = client
        self._show = show
        self._bars = bars
        self._started_at = time.monotonic()
        self._under_way: deque[_Part] = deque()
        self._lines_sent = 0
        self._ids: list[str] = []
        self._held_by: Any = []
        self._accepted: list[tuple[int, int]] = []
        self._refused: tuple[_Part, LeoronicError] | None = None

    def run(self, parts: Iterator[bytes]) -> dict[str, Any]:
        """Send all parts. Raises for the first that is refused."""
        for part in parts:
            lines = part.count(b"\n") + (not part.endswith(b"\n"))
            brings = _FILES in part
            command = Submit(True, here(), True) if brings else Submit(lines=True)
            request = self._client.send(command, part)
            self._under_way.append(_Part(request, self._lines_sent, lines, brings))
            self._lines_sent += lines
            if len(self._under_way) >= PARTS_AT_ONCE_MAX:
                self._take_answer()
            if self._refused:
                break
        while self._under_way:
            self._take_answer()
        if self._refused:
            raise self._explained(*self._refused)
        return {"ids": self._ids, "held_by": self._held_by}

    def _take_answer(self) -> None:
        part = self._under_way.popleft()
        try:
            if part.brings_files:
                answer = _stored(self._client, part.request, self._bars)
            else:
                answer = self._client.answer(part.request)
        except LeoronicError as error:
            if self._refused is None:
                self._refused = (part, error)
            return
        self._ids += answer["ids"]
        self._held_by = answer.get("held_by")
        first, last = part.lines_before + 1, part.lines_before + part.lines
        if self._accepted and self._accepted[-1][1] == first - 1:
            first = self._accepted.pop()[0]
        self._accepted.append((first, last))
        rate = len(self._ids) / max(time.monotonic() - self._started_at, 0.001)
        self._show(f"{text.count(len(self._ids), 'task')} added, {rate:,.0f} a second")

    def _explained(self, part: _Part, error: LeoronicError) -> LeoronicError:
        kept = ", ".join(f"{first} to {last}" for first, last in self._accepted)
        state = f"lines {kept} were accepted, nothing else" if kept else "nothing was accepted"
        if not isinstance(error, BadRequest):
            error.message = f"{error.message} (lines {part.lines_before + 1} and on; {state})"
            return error
        problems = [
            moved(
                problem,
                lambda index: f"line {part.lines_before + index + 1}",
                lambda line: part.lines_before + line,
            )
            for problem in error.problems or [error.message]
        ]
        return BadRequest(f"{len(problems)} mistakes; {state}:", [*problems, f"({state})"])
