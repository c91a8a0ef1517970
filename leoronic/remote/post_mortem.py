"""How a worker came to its end, as one text for whoever waits for its answers."""

from __future__ import annotations

import asyncio
from typing import Any

from leoronic.core import commands
from leoronic.errors import LeoronicError
from leoronic.remote.party import Party

LINES_MAX = 5
LINE_CHARS_MAX = 300
PRINTED_BYTES_MAX = 64 * 1024
LOGS_S_MAX = 2.0


async def how_it_ended(party: Party, task: str) -> str:
    """Exit status, signal, memory and last lines of the worker of `task`. Never raises."""
    try:
        shown = await party.ask(commands.Show(task))
    except LeoronicError as error:
        return f"its worker {task} is gone: {error.message}"
    text = f"its worker {task} {_how(shown)}"
    if shown.get("node"):
        text += f" on {shown['node']}"
    if shown.get("peak_memory"):
        text += f", having used {shown['peak_memory'] / 1024**2:.0f} MiB"
    lines = await _last_lines(party, task, "stderr") or await _last_lines(party, task, "stdout")
    if lines:
        text += "; its last lines:\n  " + "\n  ".join(lines)
    return text


def _how(shown: dict[str, Any]) -> str:
    signal, code, reason = shown.get("signal"), shown.get("exit_code"), shown.get("reason")
    if shown["state"] == "cancelled":
        return "was cancelled"
    if signal:
        how = f"was killed by signal {signal}"
    elif code is not None and code > 128:
        how = f"was killed by signal {code - 128}"
    elif code is not None:
        how = f"ended with exit status {code}"
    else:
        how = f"has {shown['state']}"
    return f"{how} ({reason})" if reason and reason not in how else how


async def _last_lines(party: Party, task: str, stream: str) -> list[str]:
    try:
        async with asyncio.timeout(LOGS_S_MAX):
            data = await party.read_logs(task, stream, PRINTED_BYTES_MAX)
    except (LeoronicError, TimeoutError):
        return []
    lines = data.decode(errors="replace").splitlines()[-LINES_MAX:]
    return [line[:LINE_CHARS_MAX] for line in lines]
