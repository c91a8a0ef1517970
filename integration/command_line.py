"""The command line as people use it: `leoronic COMMAND` in a process of its own, at some node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from integration.harness import REPOSITORY, Node

COMMAND = (sys.executable, "-m", "leoronic.client")
SAY_S_MAX = 60.0
GROUPS = ("tag", "cookie")


def environment(node: Node) -> dict[str, str]:
    """Of a shell whose commands ask `node`; `leoronic` is on its path."""
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith("LEORONIC")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "LEORONIC_ROOT": str(node.root),
        "COLUMNS": "200",
    }


def leoronic(
    node: Node, *words: str, code: int | None = 0, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. It must exit with `code`, unless that is None."""
    done = subprocess.run(
        [*COMMAND, *words],
        env=environment(node),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=SAY_S_MAX,
        check=False,
    )
    assert code in (None, done.returncode), (words, done.returncode, done.stdout, done.stderr)
    return done


def told(node: Node, *words: str, stdin: str = "") -> str:
    """What a command that succeeds prints, without the last line end."""
    return leoronic(node, *words, stdin=stdin).stdout.removesuffix("\n")


def data(node: Node, *words: str) -> Any:
    """What it prints with `--json`."""
    first = 2 if words[0] in GROUPS else 1
    return json.loads(leoronic(node, *words[:first], "--json", *words[first:]).stdout)


class Running:
    """A command that goes on, what it prints in a file; ended by `with`."""

    def __init__(self, node: Node, out: Path, *words: str) -> None:
        self.out = out
        self.errors = out.with_name(out.name + ".err")
        with out.open("wb") as stdout, self.errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*COMMAND, *words],
                env=environment(node),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def printed(self) -> str:
        """What it has printed by now."""
        return self.out.read_text(errors="replace")

    def story(self) -> str:
        """All that it said."""
        return f"{self.printed()[-2000:]}\n{self.errors.read_text(errors='replace')[-2000:]}"


def holds_for(look: Callable[[], bool], for_s: float) -> bool:
    """Whether it is true now and each time one looks within `for_s` seconds."""
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        if not look():
            return False
        time.sleep(0.05)
    return look()
