"""Who a ghost is on connections for files. It has no port: it calls its clairvoyant, always."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leoronic.actors.peer_port import PeerPort
from leoronic.ghost.standing import GhostStanding
from leoronic.wire.ghost_identity import decode_authority, ghost_context

if TYPE_CHECKING:
    from leoronic.actors.standing import Standing


class GhostPort(PeerPort):
    """See the module. Nothing calls here: nobody takes what was promised to `serve`."""

    def __init__(self, ghost: GhostStanding) -> None:
        super().__init__()
        self._ghost = ghost

    def who_i_am(self) -> Standing | None:
        """None until its certificate is made."""
        # What it takes is imported with the first connection: an idle ghost is to stay small.
        from leoronic.actors.standing import Standing  # noqa: PLC0415

        made, token = self._ghost.made, self._ghost.token
        if made is None:
            return None
        return Standing(
            self._ghost.preface,
            {},
            as_ghost=lambda line: ghost_context(made, decode_authority(line, token)),
        )
