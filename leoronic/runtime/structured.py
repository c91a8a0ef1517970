"""structlog, imported without rich.

structlog imports rich wherever it is installed, which costs a node's process 5 MiB and 0.1 s for
colours it never prints. How lines are rendered is configured once, by the node.
"""

from __future__ import annotations

import sys

_hides_rich = "rich" not in sys.modules
if _hides_rich:
    sys.modules["rich"] = None  # type: ignore[assignment]

import structlog as structlog  # noqa: E402, PLC0414 - for those who configure it

if _hides_rich:
    # Others in this process may still want it.
    del sys.modules["rich"]
