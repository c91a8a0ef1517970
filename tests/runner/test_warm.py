"""What is decided about warm shells without running one."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leoronic.core.run import Run
from leoronic.runner.warm import quote, suits

BYTES = st.binary(max_size=60).map(lambda raw: raw.replace(b"\0", b""))


@settings(max_examples=30, deadline=None)
@given(st.lists(BYTES, min_size=1, max_size=20))
def test_quoted_text_is_the_text(texts: list[bytes]) -> None:
    """Any bytes but NUL reach bash as they are, through ASCII."""
    words = [quote(text.decode(errors="surrogateescape")) for text in texts]
    assert all(word.isascii() for word in words)
    script = b"printf '%s\\0' " + b" ".join(words)
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert texts == done.stdout.split(b"\0")[:-1]


@pytest.mark.parametrize(
    "command",
    [
        "echo $$",
        "echo ${$}",
        ". ./x",
        "true; . x",
        "source x",
        "echo $PPID",
        "echo $BASH_SUBSHELL",
        "set -euo pipefail; true",
        "set -o nounset",
        "set -ex",
        "set -m",
        "echo ${x:?missing}",
        "echo $((1 / x))",
        "readonly x",
        "kill %1",
        "echo a\0b",
        "x" * 20_000,
    ],
)
def test_what_would_show(command: str) -> None:
    """A command that could tell a warm shell from a fresh one gets a fresh one."""
    assert not suits(Run("t", 1, command))


@pytest.mark.parametrize(
    "command",
    [
        "echo hi",
        "./run.sh a.b | sort > x",
        "set -e; make",
        "python3 -m x --a=1%",
        "cp a/b ../c; ls .",
    ],
)
def test_what_suits(command: str) -> None:
    """Ordinary commands do not notice."""
    assert suits(Run("t", 1, command, env={"LEORONIC_TASK_ID": "t", "PATH": "/bin"}))


@pytest.mark.parametrize(
    "name", ["IFS", "BASH_ENV", "SHELLOPTS", "LC_ALL", "A-B", "_", "1A", "PS4"]
)
def test_environment_that_a_starting_bash_heeds(name: str) -> None:
    """Variables that mean something to a bash as it starts need one that starts."""
    assert not suits(Run("t", 1, "true", env={name: "x"}))


def test_wishes() -> None:
    """Who asks for a fresh shell, or a folder of its own, gets a fresh shell."""
    assert not suits(Run("t", 1, "true", fresh_shell=True))
    assert not suits(Run("t", 1, "true", workdir="private"))
