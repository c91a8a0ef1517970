"""How busy this machine is, by psutil, which is only loaded once somebody asks."""

from __future__ import annotations

from typing import Any


def machine_load() -> dict[str, Any]:
    """`cpu_percent` (all cores, since the last call), `memory_percent`, `memory_available` bytes.

    Also `load` (the mean of the last minute). Source: psutil.
    """
    import psutil  # noqa: PLC0415 - 18 ms and 2 MiB that an idle node does not need

    memory = psutil.virtual_memory()
    return {
        "cpu_percent": psutil.cpu_percent(),
        "memory_percent": memory.percent,
        "memory_available": memory.available,
        "load": round(psutil.getloadavg()[0], 2),
    }
