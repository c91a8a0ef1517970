"""One real node: it starts, runs a task, and stops."""

from __future__ import annotations
