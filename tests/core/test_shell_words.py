"""Whole words are replaced, wherever bash would see one; nothing else changes."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leoronic.core.shell_words import replace_words

NEW = {"data.csv": "/w/data.csv", "a file": "/w/a file", "./run.sh": "/w/run.sh"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wc data.csv", "wc /w/data.csv"),
        ("wc <data.csv>out", "wc </w/data.csv>out"),
        ("wc 'data.csv'", "wc /w/data.csv"),
        ('wc "data.csv"', "wc /w/data.csv"),
        ("wc data'.'csv", "wc /w/data.csv"),
        ("wc da\\ta.csv", "wc /w/data.csv"),
        ("wc 'a file' a\\ file", "wc '/w/a file' '/w/a file'"),
        ("./run.sh; ./run.sh", "/w/run.sh; /w/run.sh"),
        ("(cat data.csv)", "(cat /w/data.csv)"),
        ("x=$(cat data.csv)", "x=$(cat /w/data.csv)"),
        ('x="$(cat data.csv | grep ")")"', 'x="$(cat /w/data.csv | grep ")")"'),
        ("echo `cat data.csv`", "echo `cat /w/data.csv`"),
        ("diff <(sort data.csv) data.csv", "diff <(sort /w/data.csv) /w/data.csv"),
        ("cat data.csv|wc&&cat data.csv", "cat /w/data.csv|wc&&cat /w/data.csv"),
        ("cat <<<data.csv", "cat <<</w/data.csv"),
        ("cat data.csv # of data.csv", "cat /w/data.csv # of data.csv"),
        ("cat <<E\ndata.csv\nE\ncat data.csv", "cat <<E\ndata.csv\nE\ncat /w/data.csv"),
        ("cat <<-'E'\n\tdata.csv\n\tE\nwc data.csv", "cat <<-'E'\n\tdata.csv\n\tE\nwc /w/data.csv"),
    ],
)  # fmt: skip
def test_whole_words(text: str, expected: str) -> None:
    """However it is quoted, wherever it stands."""
    assert expected == replace_words(text, NEW)


@pytest.mark.parametrize(
    "text",
    [
        "wc mydata.csv data.csv.bak ./data.csv x/data.csv",
        "x=data.csv",
        "--in=data.csv",
        "echo 'the data.csv' \"data.csv is it\"",
        "echo $data.csv ${data.csv} $'data.csv'",
        "echo data.csv*",
        "echo ~/data.csv",
        "echo a#data.csv",
        "echo $((data.csv))",
        "echo {data.csv,x}",
        "",
        "echo 'unclosed data.csv",
        "echo $(unclosed 'data.csv",
        "cat <<E\ndata.csv",
    ],
)
def test_parts_of_words_stay(text: str) -> None:
    """What is only a part of a word, or expands, or is no word, is as it was."""
    assert text == replace_words(text, NEW)


@given(st.text(alphabet="ab '\"\\$(){}`<>|&;#\n\t*~=-", max_size=60))
def test_nothing_to_replace_is_the_identity(text: str) -> None:
    """Whatever the text: without one of the words in it, it comes back as it was."""
    assert text == replace_words(text, {"data.csv": "/w/data.csv"})


@pytest.mark.parametrize(("opens", "closes"), [("$(", ")"), ('"$(', ')"'), ("${", "}")])
def test_deep_nesting_ends(opens: str, closes: str) -> None:
    """Thousands of commands inside each other are no reason to fail."""
    text = opens * 5000 + "cat data.csv" + closes * 5000
    assert text == replace_words(text, NEW)


@pytest.mark.parametrize("word", ["data.csv", "a b", "it's", 'q"q', "back\\slash", "$HOME", "*"])
def test_as_bash_reads_it(word: str) -> None:
    """A word that bash reads as the value is replaced, and bash reads the new one as it is."""
    new = "new 'name' $x"
    quoted = subprocess.run(
        ["bash", "-c", 'printf %q "$1"', "-", word], capture_output=True, text=True, check=True
    ).stdout
    rewritten = replace_words(f"printf %s {quoted}", {word: new})
    said = subprocess.run(
        ["bash", "-c", rewritten], capture_output=True, text=True, check=True
    ).stdout
    assert new == said


@pytest.mark.parametrize("quote", ["", '"'])
def test_long_words_cost_no_more_each_letter(quote: str) -> None:
    """A program of 2 MB within quotes is gone through once; else it would take an hour."""
    text = f"run {quote}{'x' * 2_000_000}{quote} "
    assert text + "/w/d.csv" == replace_words(text + "d.csv", {"d.csv": "/w/d.csv"})
