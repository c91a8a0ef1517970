"""Words of a command line as bash text and as fields."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leoronic.client import words


def test_one_word_is_bash_text() -> None:
    """A single word is not quoted: it may be a whole script."""
    assert words.bash_command(["a | b; c $D"]) == "a | b; c $D"


ARGUMENT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]))


@given(st.lists(ARGUMENT, min_size=2, max_size=5))
def test_several_words_stay_words(arguments: list[str]) -> None:
    """What is quoted splits into the same words again."""
    import shlex

    assert arguments == shlex.split(words.bash_command(arguments))


def test_bash_sees_the_words_that_were_typed() -> None:
    """Spaces, quotes, dollars, globs and newlines reach the program unchanged."""
    typed = ["printf", "%s|", "two words", "it's", '"', "$HOME", "*", "a\nb", ""]
    done = subprocess.run(
        ["bash", "-c", words.bash_command(typed)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "two words|it's|\"|$HOME|*|a\nb||"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("3f2a", "3f2a"), ("3f2a:failed", {"id": "3f2a", "when": "failed"}), ("a:b", "a:b"),
     ("x:ended", {"id": "x", "when": "ended"})],
)  # fmt: skip
def test_after(typed: str, expected: object) -> None:
    """`ID:WHEN` is split only at a known word."""
    assert expected == words.after(typed)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("b:c:fail", "not 'fail' (and no task has the name 'b:c:fail')"),
     ("y", "tasks[2].after: no task has the id or name 'y'")],
)  # fmt: skip
def test_after_explained(name: str, expected: str) -> None:
    """Only the refusal of a name with a colon is about a WHEN, and only about its own."""
    problem = f"tasks[2].after: no task has the id or name {name!r}"
    assert words.after_explained(problem, ["x:whenever", "b:c:fail", "y"]).endswith(expected)


@pytest.mark.parametrize(
    ("typed", "expected"), [("12", 12), ("0.5", 0.5), ("512M", "512M"), ("x", "x")]
)
def test_quantities(typed: str, expected: object) -> None:
    """A plain number is a number; what has a unit is the node's to judge."""
    assert expected == words.quantity(typed)
