"""`python -m leoronic.sim.files [--seeds N | --seed S]`: file stores alone, under faults.

Each seed is a cluster of file stores: the machines, the peer messages through the real codec, and
blobs with real digests on simulated disks. Phase one: blobs are made, needed, fetched, placed, kept
and no longer needed, while processes die, disks burn, connections break, chunks are lost or spoilt.
Phase two: all is healed; what is wanted must come, and of whatever is needed and was not lost for
good there must be two copies. Nothing may be left under way.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from random import Random

from leoronic.core.blob import FileRef
from leoronic.sim.clock import Clock
from leoronic.sim.file_ghost import GhostNode
from leoronic.sim.file_node import FileNode
from leoronic.sim.network import Network
from leoronic.sim.story import Story, Violation

LENGTH_S = 120.0
# What was avoided, given up, or gone for some time is tried again within this time.
HEAL_S_MAX = 400.0
LOOK_S = 1.0
# Blobs that are not needed yet: by then their task is submitted.
SUBMIT_S = 2.0
REPLICATE_S = 1.0


class Files:
    """One seed. `size`: how many nodes there are; 0: as the seed says; so with `ghosts`, None."""

    def __init__(self, seed: int, size: int = 0, ghosts: int | None = None) -> None:
        self.chance = chance = Random(seed)
        self.clock = Clock()
        self.network = Network(self.clock, chance)
        self.story = Story()
        self.flaws = chance.choice((0.0, 0.02, 0.1))
        self.nodes: dict[str, FileNode] = {}
        self.sizes: dict[str, int] = {}
        self.needed: set[str] = set()
        self.faults = 0
        self.placings = 0
        self._length_s = LENGTH_S
        for number in range(size or chance.choice((1, 2, 2, 3, 3, 4, 5, 7))):
            node = FileNode(f"{chance.getrandbits(48):012x}", self)
            self.nodes[node.id] = node
            self.network.join(node)
            self.clock.at(number * chance.random(), node.start)
        self.ghosts: dict[str, GhostNode] = {}
        for _ in range(chance.choice((0, 0, 1, 2)) if ghosts is None else ghosts):
            ghost = GhostNode(f"{chance.getrandbits(48):012x}", self)
            self.ghosts[ghost.id] = ghost
            self.clock.at(2.0 + chance.random(), ghost.start)

    def run(self) -> None:
        """Both phases. Raises `Violation`."""
        chance = self.chance
        works: tuple[tuple[Callable[[], None], int], ...] = (
            (self._submit, chance.randint(2, 15)),
            (self._end_some, chance.randint(0, 8)),
            (self._fetch, chance.randint(0, 5)),
            (self._damage, chance.choice((0, 0, 3))),
            (self._kill, chance.choice((0, 1, 5))),
            (self._burn, chance.choice((0, 0, 1))),
            (self._cut, chance.choice((0, 2, 8))),
            (self._clog, chance.choice((0, 0, 3))),
        )
        for action, times in works:
            for _ in range(times):
                self.clock.at(1.0 + chance.random() * self._length_s, action)
        self.clock.run(self._length_s + SUBMIT_S)
        self._heal()
        until = self.clock.now + HEAL_S_MAX
        while self._left() and self.clock.now < until:
            self.clock.run(self.clock.now + LOOK_S)
            self._give_up_lost()
        if self._left():
            left = self._left()
            raise Violation(
                "after healing all comes to be as it should", "; ".join(left), left[0].split()[0]
            )
        self._check_bytes()

    def _alive(self) -> list[FileNode]:
        return [node for node in self.nodes.values() if node.up]

    def _everybody(self) -> list[FileNode]:
        return [*self.nodes.values(), *self.ghosts.values()]

    def station(self, node: str) -> FileNode:
        """The node or ghost of this id."""
        return self.nodes.get(node) or self.ghosts[node]

    # ---- people ----

    def _submit(self) -> None:
        """Somebody makes blobs of files, and submits a task that brings them and leaves others."""
        if not self._alive():
            return
        chance = self.chance
        node = chance.choice(self._alive())
        task = f"t{self.placings}"
        self.placings += 1
        files = []
        for number in range(chance.randint(1, 3)):
            digest = self._blob_at(node)
            size = self.sizes[digest] = node.disk.lists[digest].size
            files.append(FileRef(f"f{number}", f"f{number}", digest, size))
            self._need(node, digest)
        runs_at = chance.choice(self._everybody())
        self.clock.after(chance.random() * SUBMIT_S, lambda: self._place(runs_at, task, files))

    def _blob_at(self, node: FileNode) -> str:
        """A new blob, or one that is there already."""
        chance = self.chance
        known = [digest for digest in node.disk.blobs if node.disk.is_right(digest)]
        if known and chance.random() < 0.3:
            return chance.choice(known)
        size = chance.choice((0, 1, 16, 17, 100, 700))
        content = chance.randbytes(size)
        digest = node.disk.make(content)
        node.made(digest, size)
        return digest

    def _need(self, node: FileNode, digest: str) -> None:
        """It is referred to; the others hear of it a little later."""
        self.needed.add(digest)
        for other in self.nodes.values():
            delay_s = 0.0 if other is node else self.chance.random() * REPLICATE_S
            self.clock.after(delay_s, partial(self._tell_need, other, digest))

    def _tell_need(self, node: FileNode, digest: str) -> None:
        if digest in self.needed:
            node.need(digest)

    def _place(self, node: FileNode, task: str, files: list[FileRef]) -> None:
        if node.gone or any(file.digest not in self.needed for file in files):
            return
        key = (task, 1)
        node.place(key, tuple(files))

    def _end_some(self) -> None:
        """Tasks that run end; some leave files; some blobs are not needed any longer."""
        for node in [node for node in self._everybody() if node.up]:
            for key in [key for key in node.placed if self.chance.random() < 0.5]:
                if self.chance.random() < 0.5:
                    some = tuple(
                        self.chance.randbytes(self.chance.choice((0, 5, 90)))
                        for _ in range(self.chance.randint(0, 3))
                    )
                    node.keep(key, some)
                    self.clock.after(SUBMIT_S, partial(self._finish, node, key))
                else:
                    node.forget(key)
        wanted = {
            file.digest
            for node in self._everybody()
            for request in node.wants.values()
            for file in request.files
        }
        for digest in sorted(self.needed - wanted):
            if self.chance.random() < 0.2:
                self.needed.discard(digest)
                for node in self.nodes.values():
                    node.needed.discard(digest)

    def _finish(self, node: FileNode, key: tuple[str, int]) -> None:
        """The end of a task is committed, once what it leaves is kept."""
        if node.gone:
            return
        kept = node.kept.get(key)
        if kept is None:
            self.clock.after(SUBMIT_S, lambda: self._finish(node, key))
            return
        for file in kept.outputs:
            self.sizes[file.digest] = file.size
            self._need(node, file.digest)
        node.forget(key)

    def _fetch(self) -> None:
        if self._alive() and self.sizes:
            node = self.chance.choice(self._alive())
            some = self.chance.choices(list(self.sizes), k=self.chance.randint(1, 3))
            node.fetch(self.chance.getrandbits(32), tuple(some))

    # ---- what goes wrong ----

    def _copies(self, digest: str) -> list[FileNode]:
        return [n for n in self.nodes.values() if not n.gone and n.disk.is_right(digest)]

    def _damage(self) -> None:
        """A blob of which there is another copy is damaged on a disk, unnoticed."""
        node = self.chance.choice(list(self.nodes.values()))
        for digest, content in list(node.disk.blobs.items()):
            if content and len(self._copies(digest)) > 1 and self.chance.random() < 0.5:
                self.faults += 1
                node.disk.blobs[digest] = bytes([content[0] ^ 1]) + content[1:]

    def _kill(self) -> None:
        node = self.chance.choice(self._everybody())
        self.faults += 1
        node.kill()
        self.clock.after(self.chance.random() ** 2 * 20.0, node.start)

    def _burn(self) -> None:
        if len(self._alive()) > 1:
            self.faults += 1
            self.chance.choice(self._alive()).burn()

    def _cut(self) -> None:
        if len(self.nodes) > 1:
            self.faults += 1
            self.network.cut(*self.chance.sample(list(self.nodes), 2))

    def _clog(self) -> None:
        if len(self.nodes) > 1:
            self.faults += 1
            one, other = self.chance.sample(list(self.nodes), 2)
            self.network.clog(one, other)
            self.clock.after(self.chance.random() * 30.0, lambda: self.network.unclog(one, other))

    def _heal(self) -> None:
        """From now on nothing goes wrong; disks are read, so that damage is known."""
        self.flaws = 0.0
        self.network.heal()
        for node in self._everybody():
            node.start()
        self.clock.run(self.clock.now + 1.0)
        for node in self._alive():
            for digest in list(node.disk.blobs):
                if not node.disk.is_right(digest):
                    node.find_corrupt(digest)

    def _give_up_lost(self) -> None:
        """People give up what waits for files that were lost for good."""
        for node in [node for node in self._everybody() if node.up]:
            for key, request in list(node.wants.items()):
                if not all(self._copies(file.digest) for file in request.files):
                    node.forget(key)

    # ---- what must hold ----

    def _left(self) -> list[str]:
        """What is not as it should be, in words."""
        found = []
        nodes = self._alive()
        for digest in sorted(self.needed):
            copies = self._copies(digest)
            if copies and len(copies) < min(2, len(nodes)):
                found.append(f"{digest[:9]} is only on {copies[0].id}")
        for node in [node for node in self._everybody() if node.up]:
            found += [f"{task} waits for files on {node.id}" for task, _ in node.wants]
            if node.keeps:
                found.append(f"outputs are not kept on {node.id}")
            if not node.machine.is_idle:
                found.append(f"{node.id} is not idle")
        return found

    def _check_bytes(self) -> None:
        for node in self._alive():
            for digest in node.disk.blobs:
                if not node.disk.is_right(digest):
                    raise Violation("bytes equal their digest", f"{digest} on {node.id}")
            for request in node.placed.values():
                folder = node.disk.folders.get(request.key, {})
                for file in request.files:
                    if len(folder[file.name]) != file.size:
                        raise Violation("a placed file is whole", f"{file} on {node.id}")


def run_files(seed: int) -> Files:
    """Run one seed. Raises `Violation`, or whatever a machine raises."""
    world = Files(seed)
    world.run()
    return world


def main(arguments: list[str]) -> int:
    """Run the seeds; 1 at the first that fails."""
    parser = argparse.ArgumentParser(prog="python -m leoronic.sim.files", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first seed")
    parser.add_argument("--seed", type=int, help="this one alone, with its last events")
    parser.add_argument("--digest", action="store_true", help="print the digest of each trace")
    options = parser.parse_args(arguments)
    first, count = options.first, options.seeds
    if options.seed is not None:
        first, count = options.seed, 1
    events = faults = placings = 0
    for seed in range(first, first + count):
        world = Files(seed)
        try:
            world.run()
        except Violation as violation:
            for line in world.story.about(violation.task):
                print(line)
            print(f"seed {seed}: {violation}")
            return 1
        if options.digest:
            print(f"{seed} {world.story.digest:08x} {world.clock.events}")
        events += world.clock.events
        faults += world.faults
        placings += world.placings
    print(f"{count} seeds hold: {events} events, {faults} faults, {placings} tasks with files")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
