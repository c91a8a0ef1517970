"""What the keeper of output is told."""

from __future__ import annotations

from typing import NamedTuple


class OutputEnded(NamedTuple):
    """A hint: a run of another node ended, and its output is large."""
