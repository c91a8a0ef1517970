"""The examples run as they are, each on a node of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from harness import REPOSITORY, Node, running

EXAMPLES = Path(__file__).parent / "examples"
WITHIN_S = 60


def run(name: str, *arguments: str, folder: Path) -> str:
    """What it prints."""
    environment = {key: value for key, value in os.environ.items() if "LEORONIC" not in key}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr), f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    with running(tmp_path_factory.mktemp("examples"), "--cpus", "2") as node:
        yield node  # type: ignore[misc]


pytestmark = pytest.mark.timeout(90)


def test_pi(tmp_path: Path) -> None:
    """With a node that it starts itself; the last line is near enough."""
    lines = run("pi.py", folder=tmp_path).splitlines()
    assert 5 == len(lines)
    assert abs(float(lines[-1].split()[-1]) - 3.14159) < 0.01


def test_sweep(node: Node, tmp_path: Path) -> None:
    """Every point is there once, failures too, and the best is the best."""
    lines = run("sweep.py", str(node.root), folder=tmp_path).splitlines()
    assert 17 == len(lines)
    steps = {
        (found[1], found[2]): int(found[3].replace(",", ""))
        for line in lines
        if (found := re.match(r"rate (\S+) +momentum (\S+) +([\d,]+) steps", line))
    }
    rate, momentum = min(steps, key=lambda point: steps[point])
    assert f"best: rate {rate}, momentum {momentum}" == lines[-1]


def test_check_pages(node: Node, tmp_path: Path) -> None:
    """Six pages can be reached, two of them are not there."""
    lines = run("check_pages.py", str(node.root), folder=tmp_path).splitlines()
    assert "6 pages, 2 broken" == lines[0]
    assert ["/broken", "/gone"] == [re.sub(r".*:\d+", "", line) for line in lines[1:]]
    assert all(line.startswith("  404 ") for line in lines[1:])


def test_word_count(node: Node, tmp_path: Path) -> None:
    """As one process counts."""
    text = (REPOSITORY / "README.md").read_text()
    expected = Counter(re.findall(r"\w+", text.lower()))
    found = run("word_count.py", str(node.root), str(REPOSITORY / "README.md"), folder=tmp_path)
    first, *rest = found.splitlines()
    assert f"{expected.total()} words" == first
    best = sorted(expected.items(), key=lambda pair: (-pair[1], pair[0]))[:5]
    assert [f"{count:>6} {word}" for word, count in best] == rest


@pytest.mark.parametrize("page", ["README.md", "docs/remote.md"])
def test_what_the_pages_show(page: str, tmp_path: Path) -> None:
    """The Python of a page runs as it stands there, as one script."""
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(), re.S)
    assert blocks
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks))
    printed = run(str(script), folder=tmp_path)
    if page == "README.md":
        assert ["[0, 1, 4, 9]", "332833500"] == printed.splitlines()[:2]
