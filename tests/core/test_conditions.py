from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator

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
    checked_condition,
    checked_tag,
    compile_regex,
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
        checked_condition(text)


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


# ---- regular expressions ----

EXPLODING = ["(a|aa)+$", "(a?){40}a{40}$", "a*a*a*a*b", "(a+)+$", "(?:x*a*)*$", "((?:aa)+a?)*?$"]
ORDINARY = ["make .*", r"step-\d+ foo", "(ab){2,3}c+", "^echo [a-z]+$", "a.*b|c", r"\bmake\b", "x$"]


@pytest.fixture
def without_re2(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that RE2 is not built for."""
    monkeypatch.setitem(sys.modules, "re2", None)
    compile_regex.cache_clear()
    yield
    compile_regex.cache_clear()


@pytest.fixture
def with_re2() -> None:
    pytest.importorskip("re2")
    compile_regex.cache_clear()


@pytest.mark.usefixtures("with_re2")
@pytest.mark.parametrize("regex", EXPLODING)
def test_no_regex_takes_long(regex: str) -> None:
    """Not even one that makes a backtracking search try all ways, on a command made for it."""
    matches = compile_regex(checked_condition(f"queue:all_with_cmd_done {regex}").regex)
    began = time.perf_counter()
    for command in ("a" * 60 + "!", "a" * 100_000 + "!", "a" * 60):
        matches(command)
    assert time.perf_counter() - began < 1


@pytest.mark.usefixtures("without_re2")
@pytest.mark.parametrize(
    "regex", [*EXPLODING, "(a|bb)*", "a?" * 40 + "a" * 40, "a*a*a*b", "(a|aa|aaa)" * 9]
)
def test_without_re2_what_might_take_long_is_refused(regex: str) -> None:
    """A backtracking search can't be interrupted."""
    with pytest.raises(ValueError, match="repeats too much"):
        checked_condition(f"queue:all_with_cmd_done {regex}")


@pytest.mark.usefixtures("without_re2")
def test_without_re2_only_the_beginning_is_searched() -> None:
    """The time of a backtracking search grows faster than the text."""
    matches = compile_regex("b")
    assert [True, False] == [matches("a" * 999 + "b"), matches("a" * 1000 + "b")]


@pytest.mark.usefixtures("with_re2")
def test_the_first_64_kib_are_searched() -> None:
    """In bytes, whatever the characters."""
    matches = compile_regex("b")
    assert [True, False] == [matches("a" * 65_535 + "b"), matches("a" * 65_536 + "b")]
    assert not matches("ä" * 32_768 + "b")


@pytest.mark.parametrize(
    ("regex", "said"),
    [
        (r"(a)\1", "a reference back"),
        ("(?P<x>a)(?P=x)", "a reference back"),
        ("x(?=a)", "a look ahead"),
        ("x(?:b|(?<!a)c)", "a look ahead or behind"),
        ("a++", "a possessive"),
        ("(?>a)", "an atomic"),
        (r"a\Z", "write $"),
        ("a{,3}", "write {0,n}"),
    ],
)
def test_what_re2_does_not_know_is_refused(regex: str, said: str) -> None:
    """With what it is; on every machine alike."""
    with pytest.raises(ValueError, match=re.escape(said)):
        checked_condition(f"queue:all_with_cmd_done {regex}")


@pytest.mark.usefixtures("with_re2")
def test_a_regex_too_large_is_refused() -> None:
    """Its time is bounded too, not only how that grows."""
    with pytest.raises(ValueError, match="too large"):
        checked_condition("queue:all_with_cmd_done .*a.{900}c")


@pytest.mark.parametrize("regex", ORDINARY)
def test_ordinary_regexes_are_fine_without_re2(regex: str, without_re2: None) -> None:
    """A few repetitions beside each other, and choices."""
    assert AllWithCmdDone(regex) == checked_condition(f"queue:all_with_cmd_done {regex}")


pieces = st.sampled_from(
    ["a", "b", ".", "a*", "b+", "(ab)?", "[^a]", "(a|bb)", r"\d", r"\w+", "b{2}", "^", "$", r"\b"]
)


@pytest.mark.usefixtures("with_re2")
@given(st.lists(pieces, max_size=6).map("".join), st.text("ab1 \nä", max_size=12))
def test_matching_is_as_pythons(regex: str, command: str) -> None:
    """The pattern may be anywhere; a line end at the end does not count."""
    expected = re.search(regex, command.removesuffix("\n"), re.ASCII)
    if command.removesuffix("\n").endswith("\n"):
        return  # `$` of Python's also matches before that one
    assert (expected is not None) == compile_regex(regex)(command)


def test_what_was_accepted_once_stays_readable() -> None:
    """A task on disk may carry a regex that is not accepted any more."""
    assert AllWithCmdDone("(?=a)") == parse_condition("queue:all_with_cmd_done (?=a)")
