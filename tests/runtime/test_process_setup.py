"""What a process of a node loads, and the loop it runs on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from leoronic.runtime.loop import run

ROOT = Path(__file__).parent.parent.parent


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_logging_does_not_load_rich() -> None:
    """structlog comes without rich, which others may import all the same afterwards."""
    code = "import sys, leoronic.runtime.structured; print('rich' in sys.modules); import rich"
    assert python(code) == "False"


def test_nobody_watching_it_does_without_structlog() -> None:
    """Not before a person reads the lines are they rendered by it."""
    code = (
        "import sys; from leoronic.logs import configure_logs;"
        "configure_logs('a', 'json'); print('structlog' in sys.modules);"
        "configure_logs('a', 'text'); print('structlog' in sys.modules)"
    )
    assert python(code) == "False\nTrue"


def test_the_keeper_is_light() -> None:
    """The keeper itself needs neither an event loop nor any dependency."""
    code = (
        "import sys, leoronic.runtime.keeper;"
        "print([m for m in ('asyncio', 'structlog', 'msgspec', 'orjson') if m in sys.modules])"
    )
    assert python(code) == "[]"


def test_run_returns_the_result() -> None:
    """`run` runs a coroutine to its end, on a loop that is closed afterwards."""

    async def main() -> tuple[int, asyncio.AbstractEventLoop]:
        await asyncio.sleep(0)
        return 7, asyncio.get_running_loop()

    result, loop = run(main)
    assert result == 7
    assert loop.is_closed()
