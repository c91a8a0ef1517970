"""Paths that stay inside their folder."""

from __future__ import annotations

import pytest

from leoronic.blobs.inside import DEPTH_MAX, parts_of, shown
from leoronic.errors import BadRequest


@pytest.mark.parametrize("path", ["a/b", "./a/b", "a//b", "a/./b"])
def test_a_path_is_its_names(path: str) -> None:
    """However it is written."""
    assert ["a", "b"] == parts_of(path)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/a", "must be relative"),
        ("a/../b", r"must not have \.\."),
        ("..", r"must not have \.\."),
        ("", "must name a file"),
        ("a/", "must name a file"),
        ("a/.", "must name a file"),
        ("a\nb", "line break"),
        ("a\0", "zero byte"),
        ("a\udcff", "not UTF-8"),
        ("a" * 256, "longer than 255 bytes"),
        ("\u00e4" * 128, "longer than 255 bytes"),
        ("a/" * 3000 + "a", "longer than 4096 bytes"),
        ("a/" * DEPTH_MAX + "a", "deeper than"),
    ],
    ids=range(13),
)
def test_what_is_wrong_with_a_path_is_said(path: str, problem: str) -> None:
    """On one line that any terminal can show."""
    with pytest.raises(BadRequest, match=problem) as refused:
        parts_of(path)
    assert refused.value.message.isprintable()


def test_names_are_shown_on_one_line() -> None:
    """Whatever is in them; ordinary ones as they are."""
    assert "a b\u00e4" == shown("a b\u00e4")
    assert r"'a\nb\udcff\x1b'" == shown("a\nb\udcff\x1b")
