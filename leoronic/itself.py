"""What a node is, through all lives of its core: its id, its place, and what it tells of itself."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from leoronic import __version__
from leoronic.actors.addresses import own_addresses
from leoronic.actors.discovery import Identity
from leoronic.config import Config
from leoronic.core.resources import Capacity
from leoronic.core.view import About
from leoronic.durable import replace_file
from leoronic.errors import BadRequest
from leoronic.wire.cookie import fingerprint, read_cookies
from leoronic.wire.preface import PROTOCOL_MAX, PROTOCOL_MIN


class Itself:
    """`node` is known once the journal is open, `port` once it is listened at."""

    def __init__(self, config: Config, capacity: Callable[[], Capacity]) -> None:
        self.config = config
        self.node = ""
        self.port = config.listen_port
        self.capacity = capacity
        self.life = _next_life(config.state_dir / "life")
        self._clusters: tuple[str, ...] = ()

    def set_node(self, node: str) -> None:
        """The journal is open, and says who we are."""
        self.node = node
        _note(self.config.state_dir / "node", node)
        _note(self.config.state_dir / "name", self.config.name)

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


def _next_life(path: Path) -> int:
    """A number for this life of the core: greater than all before, even if the clock went back."""
    try:
        last = int(path.read_text())
    except (OSError, ValueError):
        last = 0
    life = max(time.time_ns() // 1_000_000, last + 1)
    # On a full disk a node starts all the same: only a clock that goes back now would harm.
    with contextlib.suppress(OSError):
        replace_file(path, f"{life}\n".encode())
    return life


def _note(path: Path, line: str) -> None:
    """Have the file hold this line; one that does is left alone, as the disk may be full."""
    try:
        if path.read_text() == line + "\n":
            return
    except (OSError, ValueError):
        pass
    replace_file(path, f"{line}\n".encode())
