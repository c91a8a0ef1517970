"""Sizes, times and durations as people read them."""

from __future__ import annotations

import io

import pytest

from leoronic.client import text

NOON = 1_795_176_000.0


@pytest.mark.parametrize(
    ("size_bytes", "expected"),
    [(None, ""), (0, "0 B"), (12, "12 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (5 << 30, "5 GiB"),
     (150 << 20, "150 MiB")],
)  # fmt: skip
def test_sizes_are_short(size_bytes: int | None, expected: str) -> None:
    """A size has at most one digit after the point."""
    assert expected == text.size(size_bytes)


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [(None, ""), (0.0, "0.00 s"), (0.214, "0.21 s"), (3.44, "3.4 s"), (12.6, "13 s"),
     (60, "1 min"), (125, "2 min 5 s"), (3 * 3600 + 720, "3 h 12 min"), (200_000, "2 d 7 h")],
)  # fmt: skip
def test_durations_have_two_units(duration_s: float | None, expected: str) -> None:
    """A duration shows its two largest units."""
    assert expected == text.duration(duration_s)


@pytest.mark.parametrize(
    ("past_s", "expected"),
    [(0.2, "just now"), (-5, "just now"), (3.2, "3 s ago"), (59, "59 s ago"), (125, "2 min ago"),
     (7300, "2 h ago")],
)  # fmt: skip
def test_relative_times_have_one_unit(past_s: float, expected: str) -> None:
    """How long ago something was is told to its largest unit."""
    assert expected == text.ago("2026-11-20T12:00:00Z", NOON + past_s)


def test_since_takes_durations_and_times() -> None:
    """`2h` means two hours ago; a time means itself."""
    assert text.since("2h", NOON) == NOON - 7200
    assert text.since("2026-11-20T12:00:00Z", 0.0) == NOON
    with pytest.raises(ValueError, match="is not a time"):
        text.since("yesterday", NOON)


def test_nothing_that_moves_a_cursor_is_printed() -> None:
    """Control characters of a command are shown, not sent to the terminal."""
    assert text.one_line("a\nb\x1b[31m\x9b") == "a\\nb\\x1b[31m\\x9b"


def test_only_a_terminal_gets_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe, NO_COLOR and a dumb terminal get none."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert text.wants_colour(Terminal())
    assert not text.wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not text.wants_colour(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not text.wants_colour(Terminal())


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (1, ("task",), "1 task"),
        (0, ("task",), "0 tasks"),
        (1200, ("task",), "1,200 tasks"),
        (2, ("process", "processes"), "2 processes"),
    ],
)
def test_counts(number: int, words: tuple[str, ...], expected: str) -> None:
    """One is one; more are several."""
    assert expected == text.count(number, *words)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([], []),
        ([3], ["3"]),
        ([1, 2], ["1", "2"]),
        ([0, 1, 2, 9, 11, 12, 13, 14], ["0-2", "9", "11-14"]),
    ],
)
def test_ranges(numbers: list[int], expected: list[str]) -> None:
    """Three and more in a row are one range."""
    assert expected == text.ranges(numbers)
