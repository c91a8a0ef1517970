"""What a ghost does not load."""

from __future__ import annotations

import subprocess
import sys


def test_a_ghost_is_light() -> None:
    """None of what costs memory is loaded in any of its processes."""
    heavy = (
        "structlog",
        "uvloop",
        "sqlite3",
        "cryptography",
        "zeroconf",
        "psutil",
        "rich",
        "click",
    )
    code = (
        "import sys, leoronic.ghost.processes, leoronic.ghost.life;"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.strip()
