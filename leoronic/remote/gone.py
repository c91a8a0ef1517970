"""What is raised when a party cannot be reached."""

from __future__ import annotations

from leoronic.errors import Unavailable


class PartyGone(Unavailable):
    """Nobody could be reached there.

    With `nobody_listens`, there is nobody of that id right now: it has ended, or has only just been
    started. Else the network, or its node, may be at fault.
    """

    code = "party_gone"

    def __init__(self, message: str, *, nobody_listens: bool = False) -> None:
        super().__init__(message)
        self.nobody_listens = nobody_listens
