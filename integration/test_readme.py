"""The tour of the README, run word by word."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
# What a reader would look for, in order.
EXPECTED = [
    "hello from tour",
    "succeeded",
    "3\n2\n1",
    "has succeeded",
    "42",
    "square of 12: 144",
    "echo dropped",
    "it failed with 1",
    "but that failed",
    "it was ready",
    "attic",
    "I am ",
    "lost",
    "succeeded",
    "down",
    "finished on tour",
]


def tour() -> str:
    """All bash blocks of the tour, as one script."""
    text = README.read_text()
    section = text[text.index("## A tour") : text.index("## Where things are")]
    return "\n".join(re.findall(r"```bash\n(.*?)```", section, re.S))


def test_the_tour_works_word_by_word(tmp_path: Path) -> None:
    """Every command of the README's tour runs, and shows what the text promises."""
    environment = {key: value for key, value in os.environ.items() if "LEORONIC" not in key}
    environment["HOME"] = str(tmp_path)
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", tour()],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    log = tmp_path / "leoronic-tour" / "node.log"
    told = f"{done.stdout}\n--\n{done.stderr}\n--\n{log.read_text() if log.exists() else ''}"
    assert 0 == done.returncode, told
    cookie = (tmp_path / "leoronic-attic" / ".leoronic" / "cookie").read_text().strip()
    for file in tmp_path.glob("leoronic-*/*.log"):
        assert cookie not in file.read_text(), f"the secret is in {file}"
    assert cookie not in done.stdout + done.stderr
    position = 0
    for expected in EXPECTED:
        position = done.stdout.find(expected, position)
        assert position >= 0, f"{expected!r} is missing or out of order in:\n{told}"
