"""`make cluster N=3`: starts, shows all of them, and ctrl-C leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from integration.harness import REPOSITORY, alive, wait_until
from leoronic.client import Client
from leoronic.core.commands import Nodes

START_S_MAX = 40.0
STOP_S_MAX = 30.0


def processes(folder: Path) -> list[int]:
    """Those that have this folder among their words."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(folder) in words and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


def test_make_cluster(tmp_path: Path) -> None:
    """Three nodes see each other, as `leoronic top` shows; after ctrl-C no process is left."""
    folder = tmp_path / "cluster"
    out = tmp_path / "out"
    # Loopback of a network namespace of its own: its ports are nobody else's.
    inside = 'ip link set lo up && exec "$@"'
    with out.open("wb") as printed:
        program = subprocess.Popen(
            [
                *("unshare", "--net", "bash", "-c", inside, "bash"),
                *(sys.executable, str(REPOSITORY / "integration" / "play_cluster.py")),
                *("3", "--folder", str(folder)),
            ],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
        )
    try:
        wait_until(
            lambda: "Ctrl-C stops them all" in out.read_text(),
            "it explains",
            within_s=START_S_MAX,
            story=out.read_text,
        )
        assert [1, 1, 1] == [out.read_text().count(f"\n{name}  ") for name in "abc"]
        for name in "abc":
            with Client(str(folder / name)) as client:
                found = client.request(Nodes())["nodes"]
            assert {"a": "up", "b": "up", "c": "up"} == {n["name"]: n["state"] for n in found}
        top = subprocess.run(
            [sys.executable, "-m", "leoronic.client", "top", "--once", "--root", str(folder / "b")],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        shown = [line.split()[:2] for line in top.stdout.splitlines()]
        assert all([name, "up"] in shown for name in "abc"), top.stdout
        program.send_signal(signal.SIGINT)
        assert 0 == program.wait(STOP_S_MAX)
        wait_until(lambda: not processes(folder), "no process is left", within_s=5)
    finally:
        program.kill()
        program.wait()
        for pid in processes(folder):
            os.kill(pid, signal.SIGKILL)
