from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leoronic.core.conditions import (
    AllWithCmdDone,
    Condition,
    HasFile,
    HasTag,
    NotTag,
    QueueIsFirst,
    checked_tag,
    parse_condition,
    split_conditions,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("queue:is_first", QueueIsFirst()),
        (" queue:all_with_cmd_done  ^make (a|b)$ ", AllWithCmdDone("^make (a|b)$")),
        ("worker:tag gpu", HasTag("gpu")),
        ("worker:not_tag slow", NotTag("slow")),
        ("worker:has_file /data/my file", HasFile("/data/my file")),
    ],
)
def test_each_kind_of_condition(text: str, expected: Condition) -> None:
    """Each condition becomes its type, and its text reads back as the same."""
    found = parse_condition(text)
    assert (type(expected), expected) == (type(found), found)
    assert expected == parse_condition(found.text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("queue:is_frist", 'did you mean "queue:is_first"'),
        ("worker:tags x", 'did you mean "worker:tag TAG"'),
        ("zzz", "known are queue:is_first, "),
        ("", "known are"),
        ("queue:is_first now", "stands alone"),
        ("worker:tag", 'write "worker:tag TAG"'),
        ("worker:tag a b", "one word"),
        ("worker:not_tag " + "x" * 65, "64 characters"),
        ("queue:all_with_cmd_done (", "not a regular expression"),
        ("queue:all_with_cmd_done " + "x" * 1001, "1000 characters"),
        ("worker:has_file " + "x" * 4097, "4096 characters"),
        ("worker:has_file a\0b", "NUL"),
    ],
)
def test_what_is_no_condition(text: str, said: str) -> None:
    """A mistake is told with what would be right."""
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_condition(text)


def test_splitting_at_semicolons() -> None:
    """Conditions are split at semicolons; one after a backslash is kept; blanks are dropped."""
    assert split_conditions(r" a ;; b\;c;\d; ") == ["a", "b;c", r"\d"]


@given(st.lists(st.text("ab;.\\d", min_size=1).map(lambda s: "x" + s + "y")))
def test_splitting_undoes_joining(parts: list[str]) -> None:
    """Texts joined with their semicolons escaped are split into the same texts."""
    # A backslash before a semicolon cannot be written in a joined text; lists can hold it.
    parts = [part.replace("\\;", ";") for part in parts if "\\\\;" not in part]
    joined = ";".join(part.replace(";", "\\;") for part in parts)
    assert parts == split_conditions(joined)


def test_tags_are_words() -> None:
    """A tag is one word."""
    assert checked_tag("gpu:big") == "gpu:big"
    with pytest.raises(ValueError, match="one word"):
        checked_tag("a;b")


@pytest.mark.parametrize("regex", ["(a+)+", "(?:x*y*)*", "((?:ab)+c)*?", "(a|b+)+"])
def test_a_regex_that_could_take_for_ever_is_refused(regex: str) -> None:
    """A repetition inside a repetition could stop the queue: it is refused, with a way out."""
    with pytest.raises(ValueError, match="repeats a repetition"):
        parse_condition(f"queue:all_with_cmd_done {regex}")


@pytest.mark.parametrize(
    "regex", ["make .*", r"step-\d+ (foo|bar)*", "(ab){2,3}c+", "^echo [a-z]+$"]
)
def test_ordinary_regexes_are_fine(regex: str) -> None:
    """Repetitions beside each other, and bounded ones, are allowed."""
    assert AllWithCmdDone(regex) == parse_condition(f"queue:all_with_cmd_done {regex}")
