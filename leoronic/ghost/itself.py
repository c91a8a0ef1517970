"""What a ghost is, through all lives of its core: its id, its token, what it tells of itself."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

from leoronic import __version__
from leoronic.actors.runner import measure_capacity
from leoronic.core.executor import GHOST
from leoronic.core.view import About
from leoronic.ghost.config import GhostConfig
from leoronic.ghost.standing import GhostStanding, ghost_id
from leoronic.lives import next_life, note
from leoronic.wire.token import read_token


class GhostItself:
    """To be made at the start of a core. Raises `BadRequest`, `OSError`."""

    def __init__(self, config: GhostConfig) -> None:
        machine = config.machine
        state_dir = machine.state_dir
        self.config = config
        self.token = read_token(config.token_path)
        self.node = ghost_id(state_dir / "node")
        note(state_dir / "node", self.node)
        note(state_dir / "name", machine.name)
        self.life = next_life(state_dir / "life")
        self.standing = GhostStanding(self.token, self.node, state_dir / "certificate")
        self.capacity = partial(
            measure_capacity,
            machine.root,
            machine.cpus,
            machine.memory,
            machine.storage,
            dict(machine.resources),
        )

    def about(self) -> About:
        """What others are told before the executor knows more."""
        machine = self.config.machine
        return About(
            machine.name,
            __version__,
            self.life,
            capacity=self.capacity(),
            tags=sorted({*machine.tags, GHOST}),
            digests=["s2"] if find_spec("blake3") is None else ["b3", "s2"],
        )
