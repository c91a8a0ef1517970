"""What the command line did when a test ran it."""

from __future__ import annotations


class Ran:
    """What a command did: exit code, what it printed."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err
