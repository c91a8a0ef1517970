"""The file store of a simulated node: the machine, its disk and its connections; and its world.

In a share of the seeds tasks bring files and leave some. People make blobs of files at the node
where they submit, as a door does; what burned with all who held it is given up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from random import Random
from typing import TYPE_CHECKING

import msgspec

from leoronic.core.blob import BlobRef, FileRef
from leoronic.core.effects import Effect, Send
from leoronic.core.file_effects import BULK, DISK, FoundCorrupt, HereNow, Pin, PullChunk
from leoronic.core.file_store import FileStoreMachine
from leoronic.core.run import AttemptKey, Run
from leoronic.core.spec import TaskSpec
from leoronic.sim.file_disk import FileDisk, list_of, name_of
from leoronic.sim.file_host import FileHost
from leoronic.sim.hosts import MachineHost
from leoronic.sim.journal import JournalHost
from leoronic.sim.story import Violation

if TYPE_CHECKING:
    from leoronic.sim.node import SimNode

PIN_S = 600.0
SIZES = (0, 1, 16, 40, 200)
NEEDED_MAX = 100_000


class FileMix:
    """What the files of a seed are like; `contents` of all that people ever had, by digest."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.contents: dict[str, bytes] = {}
        self.flaws = chance.choice((0.0, 0.02, 0.1))
        self._share = chance.uniform(0.2, 1.0)

    def add(self, spec: TaskSpec) -> TaskSpec:
        """Maybe the task brings files, and maybe it leaves some."""
        chance = self.chance
        if chance.random() < self._share:
            files = tuple(self._file(number) for number in range(chance.randint(1, 3)))
            spec = msgspec.structs.replace(spec, files=files)
        if chance.random() < self._share:
            spec = msgspec.structs.replace(spec, outputs=("*",))
        return spec

    def _file(self, number: int) -> FileRef:
        if self.contents and self.chance.random() < 0.4:
            digest = self.chance.choice(list(self.contents))
        else:
            content = self.chance.randbytes(self.chance.choice(SIZES))
            digest = name_of(list_of(content))
            self.contents[digest] = content
        return FileRef(f"in{number}", f"in{number}", digest, len(self.contents[digest]))


class FileStoreHost(MachineHost):
    """One life of the actor `file_store` of `node`, whose disk with blobs is `disk`."""

    def __init__(self, node: SimNode, disk: FileDisk, mix: FileMix) -> None:
        machine = FileStoreMachine(node.id)
        super().__init__(node, "file_store", machine, node.time.steady)
        self.store = machine
        self.disk = disk
        self.chance = mix.chance
        self.served: dict[str, int] = {}
        self._mix = mix
        self._sim = node
        self._files = FileHost(self, lambda: node.clock.now)

    def take(self, message: object) -> None:
        """What is for the disk and the connections stays here."""
        for effect in self.machine.handle(message, self._time()):
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Send(to, message) if to == DISK:
                self._files.do(message)
            case Send(to, PullChunk() as wanted) if to == BULK:
                self._files.pull(wanted)
            case Send(to, message):
                self.node.send(to, message)
            case _:
                self._perform(effect)

    # ---- what disk and connections need ----

    @property
    def flaws(self) -> float:
        """How often something goes wrong."""
        return self._mix.flaws

    @property
    def needed(self) -> Collection[str]:
        """What the journal on this disk refers to."""
        journal = self._sim.actors.get("journal")
        if not isinstance(journal, JournalHost):
            return self.disk.blobs  # Nothing is removed that may be needed.
        return set(journal.reads.needed_page("", NEEDED_MAX))

    def feed(self, message: object) -> None:
        """Tell the machine."""
        if self.alive:
            self.deliver(message)

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Unless this life ends before."""

        def act() -> None:
            if self.alive:
                action()

        self._clock.after(delay_s, lambda: self.node.when_awake(act))

    def source(self, node: str) -> FileStoreHost | None:
        """The file store of that node, if it can be reached."""
        sim = self._sim
        other = sim.network.stations.get(node)
        found = getattr(other, "actors", {}).get("file_store")
        reached = isinstance(found, FileStoreHost) and sim.network.connected(sim.id, node)
        return found if reached else None

    def find_corrupt(self, digest: str) -> None:
        """It was read, and is damaged."""
        self.disk.set_aside(digest)
        self.feed(FoundCorrupt(digest))

    def leaves(self, key: AttemptKey) -> tuple[bytes, ...]:
        """What the attempt has left: the same wherever it is asked."""
        return tuple(f"{key} {number}".encode() for number in range(key[1] % 3))


def bring(node: SimNode, specs: Iterable[TaskSpec], contents: dict[str, bytes]) -> None:
    """As a door does: make blobs of the files of these tasks, and pin them."""
    host = node.actors.get("file_store")
    digests = tuple(dict.fromkeys(f.digest for s in specs for f in s.files if f.digest in contents))
    if isinstance(host, FileStoreHost) and digests:
        for digest in digests:
            host.disk.make(contents[digest])
        host.feed(HereNow(tuple(BlobRef(d, len(contents[d])) for d in digests)))
        node.call("file_store", Pin(digests, PIN_S), lambda *_: None)


def files_are_placed(disk: FileDisk | None, run: Run, spec: TaskSpec) -> None:
    """A task with files never starts before all of these are in its folder, whole."""
    if disk is None or not spec.files:
        return
    folder = disk.folders.get(run.key, {})
    for file in spec.files:
        if file.name not in folder or name_of(list_of(folder[file.name])) != file.digest:
            raise Violation(
                "a task starts once its files are there", f"{run.key} lacks {file}", run.task
            )


def is_lost(nodes: Iterable[SimNode], spec: TaskSpec) -> bool:
    """Whether a file that the task brings burned with all who held it."""
    disks = [node.blobs for node in nodes if node.blobs is not None]
    return bool(disks) and not all(
        any(disk.is_right(file.digest) for disk in disks) for file in spec.files
    )


def files_left(nodes: list[SimNode]) -> list[str]:
    """What is not as it should be, once all rests: in words."""
    found = []
    needed: set[str] = set()
    for node in nodes:
        host = node.actors.get("file_store")
        if isinstance(host, FileStoreHost):
            needed.update(host.needed)
            if not host.store.is_idle:
                found.append(f"the file store of {node.name} is not idle")
            found += [f"{node.name} has files of {key}" for key in host.disk.folders]
    for digest in sorted(needed):
        copies = [n.name for n in nodes if n.blobs is not None and n.blobs.is_right(digest)]
        if copies and len(copies) < min(2, len(nodes)):
            found.append(f"{digest[:9]} is only on {copies[0]}")
    return found
