"""Replacing whole words of a bash command: what is only part of a word, or is no word, stays.

Words are found as bash finds them: quotes and backslashes belong to a word, blanks and operators
end it, `$(...)` and backquotes hold commands of their own, comments and here-documents hold no
words. A word with an expansion (`$x`, `*`, `~`) has no fixed text: it is never looked for.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

_BLANKS = " \t"
_ENDS = " \t\n;&|<>()"
_EXPANDS = "*?[~{"
_DEPTH_MAX = 50


def replace_words(text: str, new: Mapping[str, str]) -> str:
    """`text` with each word whose value is a key of `new` replaced by that value, quoted."""
    if not any(word in text for word in new) and not _may_be_quoted(text):
        return text
    return _Rewriter(text, new, 0).rewritten()


def _may_be_quoted(text: str) -> bool:
    """Whether a word may stand there that is spelt otherwise, such as `data" "file`."""
    return any(mark in text for mark in "\"'\\")


class _Rewriter:
    """Goes through `text` once. `depth`: how many commands it is inside of."""

    def __init__(self, text: str, new: Mapping[str, str], depth: int) -> None:
        self._text = text
        self._new = new
        self._depth = depth
        self._at = 0
        self._out: list[str] = []
        self._documents: list[tuple[str, bool]] = []
        """Here-documents that begin at the next line: (last line, whether its tabs are cut)."""

    def rewritten(self) -> str:
        text = self._text
        while self._at < len(text):
            char = text[self._at]
            if char == "\n":
                self._copy(1)
                self._skip_documents()
            elif char in _BLANKS:
                self._copy(1)
            elif char == "#":
                end = text.find("\n", self._at)
                self._copy((len(text) if end < 0 else end) - self._at)
            elif text.startswith("<<<", self._at):
                self._copy(3)
            elif text.startswith("<<", self._at):
                self._begin_document()
            elif text.startswith(("<(", ">("), self._at):
                self._copy(1)  # A process: its commands follow in brackets.
            elif char in _ENDS:
                self._copy(1)
            else:
                self._word()
        return "".join(self._out)

    def _copy(self, length: int) -> None:
        self._out.append(self._text[self._at : self._at + length])
        self._at += length

    # ---- words ----

    def _word(self) -> None:
        """One word: its text as it stands, with commands inside it rewritten, and its value."""
        spelt: list[str] = []
        value: list[str] | None = []
        text = self._text
        while self._at < len(text) and text[self._at] not in _ENDS:
            char = text[self._at]
            if char == "\\":
                part, meant = self._escaped()
            elif char == "'":
                part, meant = self._single()
            elif char == '"':
                part, meant = self._double()
            elif char in "$`":
                part, meant = self._expansion(), None
            else:
                part, meant = char, None if char in _EXPANDS else char
                self._at += 1
            spelt.append(part)
            value = _longer(value, meant)
        found = None if value is None else self._new.get("".join(value))
        self._out.append("".join(spelt) if found is None else shlex.quote(found))

    def _escaped(self) -> tuple[str, str | None]:
        part = self._text[self._at : self._at + 2]
        self._at += len(part)
        # A line that goes on in the next one.
        return part, "" if part == "\\\n" else part[1:]

    def _single(self) -> tuple[str, str | None]:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            end = len(self._text)
        part = self._text[self._at : end + 1]
        self._at += len(part)
        return part, part[1:-1]

    def _double(self) -> tuple[str, str | None]:
        text = self._text
        spelt = ['"']
        value: list[str] | None = []
        self._at += 1
        while self._at < len(text) and text[self._at] != '"':
            char = text[self._at]
            if char == "\\":
                part = text[self._at : self._at + 2]
                self._at += len(part)
                meant: str | None = part[1:] if part[1:] in ("$", "`", '"', "\\") else part
                meant = "" if part == "\\\n" else meant
            elif char in "$`":
                part, meant = self._expansion(), None
            else:
                part, meant = char, char
                self._at += 1
            spelt.append(part)
            value = _longer(value, meant)
        spelt.append(text[self._at : self._at + 1])
        self._at += 1
        return "".join(spelt), None if value is None else "".join(value)

    # ---- what expands ----

    def _expansion(self) -> str:
        """From `$` or a backquote on: copied, but for the words of commands inside."""
        text, start = self._text, self._at
        if text.startswith("$((", start):
            return self._take(_closing(text, start + 1) + 1)
        if text.startswith("$(", start):
            end = _closing(text, start + 1)
            return f"$({self._inner(start + 2, end)}{self._take_only(end, end + 1)}"
        if text[start] == "`":
            end = _backquote(text, start + 1)
            return f"`{self._inner(start + 1, end)}{self._take_only(end, end + 1)}"
        if text.startswith("${", start):
            return self._take(_brace(text, start + 2) + 1)
        if text.startswith("$'", start):
            return self._take(_ansi(text, start + 2) + 1)
        return self._take(start + 1)

    def _inner(self, start: int, end: int) -> str:
        inside = self._text[start:end]
        if self._depth >= _DEPTH_MAX:
            return inside
        return _Rewriter(inside, self._new, self._depth + 1).rewritten()

    def _take(self, end: int) -> str:
        return self._take_only(self._at, end)

    def _take_only(self, start: int, end: int) -> str:
        end = min(end, len(self._text))
        self._at = end
        return self._text[start:end]

    # ---- here-documents ----

    def _begin_document(self) -> None:
        """After `<<` or `<<-` comes the line that will end it."""
        text = self._text
        cut = text.startswith("<<-", self._at)
        self._copy(3 if cut else 2)
        while self._at < len(text) and text[self._at] in _BLANKS:
            self._copy(1)
        start = self._at
        while self._at < len(text) and text[self._at] not in _ENDS:
            if text[self._at] in "'\"":
                quote = text.find(text[self._at], self._at + 1)
                self._at = len(text) if quote < 0 else quote
            self._at += 1
        word = text[start : self._at]
        self._out.append(word)
        self._documents.append(("".join(c for c in word if c not in "'\"\\"), cut))

    def _skip_documents(self) -> None:
        for last, cut in self._documents:
            while self._at < len(self._text):
                end = self._text.find("\n", self._at)
                line = self._text[self._at : len(self._text) if end < 0 else end]
                self._copy(len(line) + (end >= 0))
                if (line.lstrip("\t") if cut else line) == last:
                    break
        self._documents.clear()


def _longer(value: list[str] | None, meant: str | None) -> list[str] | None:
    """The parts of a word's value with one more; None once one of them is not known."""
    if value is None or meant is None:
        return None
    value.append(meant)
    return value


def _closing(text: str, opening: int, level: int = 0) -> int:
    """Where the bracket that opens at `opening` closes; the end of `text` if it does not."""
    depth, at = 0, opening
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif char == "'":
            found = text.find("'", at + 1)
            at = len(text) if found < 0 else found
        elif char == '"':
            at = _quote(text, at + 1, level + 1)
        elif char == "(":
            depth += 1
        elif char == ")":
            depth -= 1
            if not depth:
                return at
        at += 1
    return len(text)


def _quote(text: str, at: int, level: int) -> int:
    """Where a double quote that opened before `at` closes."""
    while at < len(text) and text[at] != '"':
        if text[at] == "\\":
            at += 1
        elif text.startswith("$(", at):
            # So deep in each other they are no command of a person.
            at = len(text) if level > _DEPTH_MAX else _closing(text, at + 1, level)
        at += 1
    return at


def _backquote(text: str, at: int) -> int:
    while at < len(text) and text[at] != "`":
        at += 2 if text[at] == "\\" else 1
    return min(at, len(text))


def _brace(text: str, at: int) -> int:
    depth = 1
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text.startswith("${", at):
            depth += 1
            at += 1
        elif text[at] == "}":
            depth -= 1
            if not depth:
                return at
        at += 1
    return len(text)


def _ansi(text: str, at: int) -> int:
    while at < len(text) and text[at] != "'":
        at += 2 if text[at] == "\\" else 1
    return min(at, len(text))
