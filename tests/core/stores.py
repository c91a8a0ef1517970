"""A file store's machine alone, and what it says; digests that are real, and lists of them."""

from __future__ import annotations

from typing import Any, TypeVar

from leoronic.core.blob import BlobRef, ChunkList, FileRef
from leoronic.core.effects import Effect, Fired, Send
from leoronic.core.file_effects import HereNow
from leoronic.core.file_store import FileStoreMachine, Start
from leoronic.core.view import DOWN, UP, About, Member, View
from leoronic.sim.file_disk import CHUNK_BYTES, list_of, name_of

T = TypeVar("T")

ME = "5" * 12
A, B, C = "a" * 12, "b" * 12, "c" * 12
KEY = ("task", 1)


def blob(chunks: int, salt: str = "") -> tuple[str, ChunkList]:
    """The name and the list of a blob of that many chunks."""
    content = b"".join(f"{salt}{n}".encode().ljust(CHUNK_BYTES) for n in range(chunks))
    found = list_of(content)
    return name_of(found), found


def bits(*indexes: int) -> bytes:
    """A bitmap, as it travels."""
    value = sum(1 << index for index in indexes)
    return value.to_bytes((value.bit_length() + 7) // 8, "little")


def file(digest: str, name: str = "f") -> FileRef:
    """A file with this content."""
    return FileRef(name, name, digest, 1)


def view(
    *peers: str, draining: tuple[str, ...] = (), away: tuple[str, ...] = (), me: str = ME
) -> View:
    """All of these are there, but for those `away`."""
    members = {
        node: Member(node, About(f"name-{node[0]}", "0", 1, draining=node in draining), UP, True)
        for node in (me, *peers)
    }
    for node in away:
        members[node] = Member(node, About(f"name-{node[0]}", "0", 1), DOWN, True, linked=False)
    return View(me, members)


class Store:
    """A machine that has started; `said` is what it sent since that was last looked at."""

    def __init__(self, *peers: str, here: tuple[str, ...] = (), ghost: bool = False) -> None:
        self.machine = FileStoreMachine(ME, ghost=ghost)
        self.now = 1000.0
        self.said: list[Effect] = []
        self.feed(Start())
        self.feed(HereNow(tuple(BlobRef(digest, 1) for digest in here), whole=True))
        self.feed(view(*peers))
        self.said.clear()

    def feed(self, message: object) -> None:
        """It takes a message."""
        self.said += self.machine.handle(message, self.now)

    def wait(self, seconds: float) -> None:
        """Its timer fires whenever it may, for so long."""
        for _ in range(int(seconds * 20)):
            self.now += 0.05
            self.feed(Fired("look"))

    def take(self, kind: type[T], to: str = "") -> list[T]:
        """What of this kind it said (to this actor), which is then forgotten."""
        found: list[Any] = [
            effect
            for effect in self.said
            if isinstance(effect, Send)
            and isinstance(effect.message, kind)
            and to in ("", effect.to)
        ]
        self.said = [effect for effect in self.said if effect not in found]
        return [effect.message for effect in found]

    def told(self, node: str, kind: type[T]) -> list[T]:
        """What of this kind it told the file store of a node."""
        return self.take(kind, f"file_store@{node}")
