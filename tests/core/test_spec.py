from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leoronic.core.spec import After, TaskSpec, bash_text, command_text, decode, encode

texts = st.text(max_size=20)
specs = st.builds(
    TaskSpec,
    command=st.one_of(texts, st.lists(texts)),
    memory=st.integers(0, 2**60),
    cpus=st.floats(0, 1e6),
    resources=st.dictionaries(texts, st.floats(0, 1e6)),
    concurrent=st.booleans(),
    conditions=st.lists(texts).map(tuple),
    after=st.lists(st.builds(After, texts, st.sampled_from(["succeeded", "ended"]))).map(tuple),
    labels=st.dictionaries(texts, texts),
    priority=st.integers(-10, 10),
    env=st.dictionaries(texts, texts),
    time_limit=st.none() | st.floats(0.1, 1e6),
    items=st.none() | st.lists(texts, min_size=1),
)


@given(specs)
def test_a_spec_reads_back(spec: TaskSpec) -> None:
    """What encode writes, decode reads as an equal spec, with the same text."""
    assert spec == decode(encode(spec))
    assert encode(spec) == encode(decode(encode(spec)))


def test_defaults_are_not_written() -> None:
    """A plain task costs its command and nothing else."""
    assert encode(TaskSpec("echo hi")) == b'{"command":"echo hi"}'


def test_the_command_for_people() -> None:
    """A list is shown as its lines."""
    assert command_text(TaskSpec(["a", "b"])) == "a\nb"
    assert command_text(TaskSpec("a;b")) == "a;b"
    assert bash_text(TaskSpec("a;b")) == "a;b"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["cd /", "pwd"], (0, "/\n")),
        (["x=1; f() { echo $x; }", "f"], (0, "1\n")),
        (["echo a", "(exit 7)", "echo b"], (7, "a\n")),
        (["exit 3", "echo b"], (3, "")),
        (["# nothing here", "echo a # and here", ""], (0, "a\n")),
        (["for i in 1 2; do\n  echo $i\ndone", "echo end"], (0, "1\n2\nend\n")),
        (["cat <<E\nit's $((1+1))\nE", "echo 'q'\"q\""], (0, "it's 2\nqq\n")),
        (["if", "echo b"], (2, "")),
        (["-x", "echo b"], (127, "")),
        (["set -e", "false; echo not here", "echo b"], (1, "")),
        (["trap 'echo bye' EXIT", "(exit 4)"], (4, "bye\n")),
        (["false || true", "echo $?"], (0, "0\n")),
        (["sh -c 'kill -9 $$'", "echo b"], (137, "")),
        (["echo a \\", "echo b"], (0, "a\nb\n")),
    ],
)
def test_a_list_runs_line_by_line(lines: list[str], expected: tuple[int, str]) -> None:
    """Lines share one shell, and the first that fails ends it with its own exit code."""
    done = subprocess.run(
        ["bash", "-c", bash_text(TaskSpec(lines))], capture_output=True, text=True, check=False
    )
    assert expected == (done.returncode, done.stdout)
