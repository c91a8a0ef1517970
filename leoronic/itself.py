"""What a node is, through all lives of its core: its id, its place, and what it tells of itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from importlib.util import find_spec

from leoronic import __version__
from leoronic.actors.addresses import own_addresses
from leoronic.actors.discovery import Identity
from leoronic.config import Config
from leoronic.core.resources import Capacity
from leoronic.core.view import About
from leoronic.errors import BadRequest
from leoronic.lives import next_life, note
from leoronic.wire.cookie import fingerprint, read_cookies
from leoronic.wire.preface import PROTOCOL_MAX, PROTOCOL_MIN


class Itself:
    """`node` is known once the journal is open, `port` once it is listened at."""

    def __init__(self, config: Config, capacity: Callable[[], Capacity]) -> None:
        self.config = config
        self.node = ""
        self.port = config.listen_port
        self.capacity = capacity
        self.life = next_life(config.state_dir / "life")
        self._clusters: tuple[str, ...] = ()

    def set_node(self, node: str) -> None:
        """The journal is open, and says who we are."""
        self.node = node
        note(self.config.state_dir / "node", node)
        note(self.config.state_dir / "name", self.config.name)

    def set_port(self, port: int) -> None:
        """Other nodes can connect at this port."""
        self.port = port

    def about(self) -> About:
        """What others are told before membership knows more."""
        config = self.config
        return About(
            config.name,
            __version__,
            self.life,
            capacity=self.capacity(),
            addresses=own_addresses(config.listen_host, self.port),
            tags=sorted(config.tags),
            digests=["s2"] if find_spec("blake3") is None else ["b3", "s2"],
        )

    def announcement(self) -> Identity:
        """What is announced in the local network. A cookie that can't be read changes nothing."""
        with contextlib.suppress(BadRequest, OSError):
            cookies = read_cookies(self.config.cookie_path)
            self._clusters = tuple(fingerprint(cookie) for cookie in cookies)
        return Identity(self.node, self.config.name, self._clusters, (PROTOCOL_MIN, PROTOCOL_MAX))
