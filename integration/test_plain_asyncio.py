"""A machine without uvloop (32-bit ones have no wheel) runs on asyncio's own loop."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_a_node_without_uvloop(tmp_path: Path) -> None:
    """Everything works where uvloop cannot be imported, only slower."""
    (tmp_path / "blocked" / "uvloop").mkdir(parents=True)
    (tmp_path / "blocked" / "uvloop" / "__init__.py").write_text("raise ImportError('none here')")
    script = """
    mkdir node && cd node
    python -m leoronic --root . > log 2>&1 &
    until leoronic status > /dev/null 2>&1; do sleep 0.1; done
    if grep uvloop /proc/$!/maps; then exit 9; fi
    leoronic submit --count 20 --wait -- 'echo $LEORONIC_INDEX'
    leoronic submit --wait -- 'echo it runs'
    leoronic stop
    wait
    """
    environment = {key: value for key, value in os.environ.items() if "LEORONIC" not in key}
    environment["PYTHONPATH"] = str(tmp_path / "blocked")
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = done.stdout + done.stderr + (tmp_path / "node" / "log").read_text()
    assert 0 == done.returncode, told
    assert "it runs\n" in done.stdout, told
