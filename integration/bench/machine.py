"""What the figures were measured on, and how quiet it was."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterable
from pathlib import Path

import psutil


def describe(folder: Path) -> str:
    """One line: processors, memory, kernel, Python, and the file system of `folder`."""
    memory_gib = psutil.virtual_memory().total / 2**30
    return (
        f"{os.cpu_count()} processors, {memory_gib:.0f} GiB of memory, "
        f"Linux {platform.release().split('-')[0]}, CPython {platform.python_version()}, "
        f"{_file_system(folder)}"
    )


def _file_system(folder: Path) -> str:
    mounts = [
        part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)
    ]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown disk"


def load() -> float:
    """Processes that ran or wanted to, averaged over the last minute."""
    return os.getloadavg()[0]


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time of these processes so far, to the nanosecond (/proc's `stat` has ticks)."""
    return sum(int((task / "schedstat").read_text().split()[0]) / 1e9 for task in _threads(pids))


def wakeups(pids: Iterable[int]) -> int:
    """How often these processes went to sleep so far."""
    total = 0
    for task in _threads(pids):
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def _threads(pids: Iterable[int]) -> list[Path]:
    found: list[Path] = []
    for pid in pids:
        with contextlib.suppress(OSError):
            found += Path(f"/proc/{pid}/task").iterdir()
    return found


def family(pid: int) -> list[int]:
    """That process and all below it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [pid, *(child.pid for child in process.children(recursive=True))]
    return []
