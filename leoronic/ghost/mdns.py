"""`python -m leoronic.ghost.mdns SECONDS`: who is announced in the local network, a JSON line each.

In a process of its own that then ends: zeroconf takes 3 MiB and more.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from typing import Any

from leoronic.actors.mdns import Mdns, Sighting


async def _listen(seconds: float) -> list[Sighting]:
    seen: dict[str, Sighting] = {}
    tasks: set[asyncio.Task[None]] = set()

    def spawn(work: Coroutine[Any, Any, None], _name: str) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    mdns = Mdns(lambda sighting: seen.update({sighting.node: sighting}), spawn)
    await mdns.open("::")
    await asyncio.sleep(seconds)
    await mdns.close()
    return list(seen.values())


def main(arguments: list[str]) -> int:
    """Listen for so many seconds; the exit code."""
    try:
        found = asyncio.run(_listen(float(arguments[0])))
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    for sighting in found:
        print(json.dumps(sighting._asdict()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
