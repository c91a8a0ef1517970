"""What is asked of the scheduler. What it and the executors say to each other is in `peer.py`."""

from __future__ import annotations

import msgspec


class Explain(msgspec.Struct, frozen=True):
    """Why doesn't a task of this class start? Answer: {node name: [reasons]}."""

    class_number: int
