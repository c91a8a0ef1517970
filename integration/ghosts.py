"""A real ghost for tests, and somebody who has a ghost's token and means ill."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from integration.harness import DEADLINE_S, Node, alive, wait_until
from leoronic.core import commands
from leoronic.core.ghost_messages import (
    TO_GHOST,
    Attach,
    GhostMessage,
    Welcome,
    decode_to_ghost,
    encode,
)
from leoronic.core.resources import Capacity
from leoronic.core.view import About
from leoronic.wire.frames import FrameDecoder, encode_frame
from leoronic.wire.ghost_identity import decode_authority, ghost_context, make_ghost_certificates
from leoronic.wire.preface import Preface
from leoronic.wire.token import GHOST, Token, decode_token


def token_for(node: Node) -> str:
    """What `leoronic join --ghost` on that node says."""
    found: str = node.ask(commands.Join(ghost=True))["token"]
    return found


class Ghost(Node):
    """As `Node`; it is asked nothing itself. `token` lets it in."""

    def __init__(
        self,
        root: Path,
        token: str,
        *options: str,
        prefix: Sequence[str] = (),
        name: str = "",
        discovery: bool = False,
    ) -> None:
        super().__init__(root, environment={"LEORONIC_TOKEN": token}, prefix=prefix)
        self.name = name or root.name
        alone = () if discovery else ("--no-discovery",)
        self.options = [*options, "--name", self.name, *alone]

    def spawn(self, *options: str) -> subprocess.Popen[bytes]:
        """Run the ghost's command, and wait for nothing."""
        with self.stdout.open("ab") as out, self.stderr.open("ab") as err:
            return subprocess.Popen(
                [
                    *self.prefix,
                    *(sys.executable, "-m", "leoronic.ghost", "--root", str(self.root)),
                    *self.options,
                    *options,
                ],
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def answers(self) -> bool:
        """Whether it has said that it is ready."""
        return any(event["event"] == "ready" for event in self.events())

    def wait_attached(self, node: Node, within_s: float = DEADLINE_S) -> None:
        """Wait until `node` sees it up."""
        wait_until(
            lambda: node.states().get(self.name) == "up",
            f"{self.name} is up",
            within_s=within_s,
            story=lambda: (self.tail(), node.tail()),
        )

    def pids(self) -> list[int]:
        """Its processes."""
        return [pid for pid in self._marked() if b"leoronic.ghost" in command_of(pid)]

    def pids_by_parent(self) -> list[int]:
        """The same, found faster: those that its command started, itself included."""
        assert self.process is not None
        keeper = self.process.pid
        path = Path(f"/proc/{keeper}/task/{keeper}/children")
        return [keeper, *map(int, path.read_text().split())]

    def core_pid(self) -> int:
        """Its core: the one that is neither keeper nor runner."""
        keeper = self.keeper_pid()
        runner = self.runner_pid()

        def look() -> int:
            return next((pid for pid in self.pids() if pid not in (keeper, runner)), 0)

        return wait_until(look, "a core", story=self.tail)

    def keeper_pid(self) -> int:
        """Its keeper: the one that its command started, or that took that one's place."""
        assert self.process is not None
        if alive(self.process.pid) and not self.prefix:
            return self.process.pid
        fresh = [pid for pid in self.pids() if b"--adopt" in command_of(pid)]
        others = [pid for pid in self.pids() if parent_of(pid) in self.pids()]
        found = [pid for pid in fresh or self.pids() if pid not in others or pid in fresh]
        return found[0]


def command_of(pid: int) -> list[bytes]:
    """The words of the command of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def parent_of(pid: int) -> int:
    """Its parent; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


class Impostor:
    """Somebody who has the token and says what it likes."""

    def __init__(self, token: str, port: int, ghost: str) -> None:
        self.token: Token = decode_token(token)
        self.ghost = ghost
        self._port = port
        self._certificates = make_ghost_certificates(self.token, ghost)
        self._decoder = FrameDecoder()
        self._reader = asyncio.StreamReader()
        self._writer: asyncio.StreamWriter

    async def connect(self, purpose: str = GHOST) -> None:
        """As far as TLS. Raises `OSError` if it is not let in."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(Preface((self.token.cluster,), "1", purpose=purpose).encode())
        theirs = await self._reader.readline()
        assert theirs
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if purpose == GHOST:
            line = (await self._reader.readline()).rstrip()
            context = ghost_context(self._certificates, decode_authority(line, self.token))
        else:
            # It does not check whom it speaks with: it is the node that must.
            context = ghost_context(self._certificates, self._certificates.authority)
            context.verify_mode = ssl.CERT_NONE
        await self._writer.start_tls(context)

    def say(self, message: GhostMessage) -> None:
        """One message."""
        self._writer.write(encode_frame(*encode(message)))

    def say_frame(self, json_text: bytes) -> None:
        """One frame, whatever stands in it."""
        self._writer.write(encode_frame(json_text))

    def is_closing(self) -> bool:
        """Whether it was cut off."""
        return self._writer.is_closing()

    async def flushed(self) -> None:
        """Wait until the other side has taken most of what was said. Raises `OSError`."""
        await self._writer.drain()

    async def hear(self, within_s: float = 3.0) -> list[TO_GHOST] | None:
        """What came; None if it was cut off."""
        try:
            async with asyncio.timeout(within_s):
                data = await self._reader.read(1 << 20)
        except TimeoutError:
            return []
        except (OSError, ssl.SSLError):
            return None
        if not data:
            return None
        return [decode_to_ghost(frame.json, frame.blob) for frame in self._decoder.feed(data)]

    async def hear_until(self, kind: type, within_s: float = 5.0) -> Any:
        """The first message of that kind; None if it was cut off."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            heard = await self.hear()
            if heard is None:
                return None
            for message in heard:
                if isinstance(message, kind):
                    return message
        return None

    async def attach(self) -> Welcome:
        """Be taken as a ghost."""
        about = About(self.ghost, "1", 1, capacity=Capacity(1000, 1 << 30, 1 << 30))
        self.say(Attach(self.ghost, about, 1, 1))
        welcome: Welcome = await self.hear_until(Welcome)
        assert welcome is not None
        return welcome

    def close(self) -> None:
        """Go."""
        with contextlib.suppress(RuntimeError):
            self._writer.close()


def ip_bytes(pid: int) -> int:
    """Bytes of IP packets, headers included, in and out of the network namespace of a process."""
    rows = Path(f"/proc/{pid}/net/netstat").read_text().splitlines()
    names, values = [row.split()[1:] for row in rows if row.startswith("IpExt:")]
    found = dict(zip(names, map(int, values), strict=True))
    return found["InOctets"] + found["OutOctets"]


def free_place() -> str:
    """A port of this machine that nobody uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"
