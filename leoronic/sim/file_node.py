"""A simulated node with nothing but a file store, and an executor and people that use it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Protocol

from leoronic.core.blob import BlobRef, FileRef
from leoronic.core.effects import Asked, Effect, Fail, Fired, Log, Reply, Send, SetTimer
from leoronic.core.file_effects import (
    FetchBlobs,
    FoundCorrupt,
    HereNow,
    LookNeeded,
    NeededTold,
    NewNeeds,
    Pin,
    PullChunk,
    RemoveBlobs,
)
from leoronic.core.file_messages import (
    FilesMissing,
    FilesOf,
    FilesPlaced,
    FilesStarted,
    ForgetFiles,
    KeepOutputs,
    OutputsKept,
    PlaceFiles,
)
from leoronic.core.file_store import FileStoreMachine, Start
from leoronic.core.peer import LinkDown, LinkUp, PeerMessage
from leoronic.core.run import AttemptKey
from leoronic.core.view import DOWN, SUSPECT, UP, About, AskView, Member, View
from leoronic.sim.clock import Clock
from leoronic.sim.file_disk import FileDisk
from leoronic.sim.file_host import FileHost
from leoronic.sim.network import Network
from leoronic.sim.story import Story, Violation

GONE_S = 5.0
READ_S = 0.02
AGAIN_S_MAX = 5.0
PIN_S = 600.0


class FileWorld(Protocol):
    """What a node knows of the world around it."""

    clock: Clock
    chance: Random
    network: Network
    story: Story
    nodes: dict[str, FileNode]
    flaws: float
    """How often a chunk is spoilt or lost on its way, and a disk write fails: from 0 to 1."""

    def station(self, node: str) -> FileNode:
        """The node or ghost of this id."""
        ...


class FileNode:
    """See the module. `disk`, `needed` and `wants` survive its process; `gone`: it never returns.

    `wants`: the placings that its executor wants, and has not got. `served` counts chunks sent.
    """

    asleep = False
    ghost = False

    def __init__(self, name: str, world: FileWorld) -> None:
        self.id = name
        self.world = world
        self.disk = FileDisk()
        self.up = False
        self.gone = False
        self.needed: set[str] = set()
        self.wants: dict[AttemptKey, PlaceFiles] = {}
        self.placed: dict[AttemptKey, PlaceFiles] = {}
        self.keeps: dict[AttemptKey, KeepOutputs] = {}
        self.content: dict[AttemptKey, tuple[bytes, ...]] = {}
        self.kept: dict[AttemptKey, OutputsKept] = {}
        self.answers: dict[int, object] = {}
        self.served: dict[str, int] = {}
        self.refused = 0
        self.machine: FileStoreMachine
        self._host: FileHost
        self._life = 0
        self._asked: set[AttemptKey] = set()  # this life of the machine was asked, and goes on
        self._timers: dict[str, int] = {}
        self._timer_number = 0
        self._states: dict[str, tuple[str, bool]] = {}
        self._abouts: dict[str, About] = {}

    # ---- the station ----

    @property
    def listening(self) -> bool:
        """Whether it answers."""
        return self.up

    def about(self) -> About:
        """What it tells of itself."""
        return About(self.id, "0", self._life)

    def when_awake(self, action: Callable[[], None]) -> None:
        """It never sleeps."""
        action()

    def steady(self) -> float:
        """Its clock."""
        return 1000.0 + self.world.clock.now

    def receive(self, message: object) -> None:
        """A message from another node, or a notice about a connection."""
        if not self.up:
            return
        if isinstance(message, LinkUp):
            self._abouts[message.node] = message.about
            self._see(message.node, UP, linked=True)
        elif isinstance(message, LinkDown):
            self._see(message.node, SUSPECT, linked=False)
            self.later(GONE_S, lambda: self._count_as_gone(message.node))
        self.feed(message)

    def _count_as_gone(self, node: str) -> None:
        if self._states[node][0] == SUSPECT:
            self._see(node, DOWN, linked=False)

    def _see(self, node: str, state: str, *, linked: bool) -> None:
        self._states[node] = (state, linked)
        self._tell_view()

    def _tell_view(self) -> None:
        members = {self.id: Member(self.id, self.about(), UP, True)}
        for node, (state, linked) in self._states.items():
            members[node] = Member(node, self._abouts[node], state, True, linked=linked)
        self.feed(View(self.id, members, self.steady()))

    def say(self, node: str, message: PeerMessage) -> None:
        """Lost if there is no connection."""
        other = self.world.station(node)
        if other.ghost:
            other.hear(self, message)
        else:
            self.world.network.send(self.id, node, message)

    def hear(self, _node: FileNode, _message: PeerMessage) -> None:
        """Only ghosts are spoken to in this way."""
        raise AssertionError(f"{self.id} is not a ghost")

    def reaches(self, node: str) -> bool:
        """Whether bulk connections to that node work."""
        other = self.world.station(node)
        return (
            other.reaches(self.id) if other.ghost else self.world.network.connected(self.id, node)
        )

    # ---- its process ----

    def start(self) -> None:
        """Its process begins."""
        if self.up or self.gone:
            return
        self._life += 1
        self.up = True
        self._states = {}
        self._timers = {}
        self._asked = set()
        self._host = FileHost(self, lambda: self.world.clock.now)
        self.machine = FileStoreMachine(self.id, ghost=self.ghost)
        self.feed(Start())

    def kill(self) -> None:
        """Its process ends in the middle of everything; the disk stays."""
        if self.up:
            self.up = False
            self.world.network.process_ended(self.id)

    def burn(self) -> None:
        """It is gone for ever, and its disk with it."""
        self.kill()
        self.gone = True
        self.world.network.remove(self.id)

    def feed(self, message: object) -> None:
        """The machine takes a message, and what it wants is done."""
        if self.up:
            self.world.story.tell(self.world.clock.now, self.id, message)
            for effect in self.machine.handle(message, self.steady()):
                self._perform(effect)

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        """Unless the process ends before."""
        life = self._life

        def act() -> None:
            if self.up and self._life == life:
                action()

        self.world.clock.after(delay_s, act)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Send(to, message) if "@" in to:
                assert isinstance(message, PeerMessage)
                self.say(to.partition("@")[2], message)
            case Send("blobs", message):
                if isinstance(message, RemoveBlobs):
                    self._check_removed(message)
                self._host.do(message)
            case Send("bulk", PullChunk() as wanted):
                self._host.pull(wanted)
            case Send("runner", message):
                self.later(0.001, lambda: self._executor(message))
            case Send("journal", LookNeeded(_, after, limit)):
                self.later(self._some(READ_S), lambda: self._tell_needed(after, limit))
            case Send("membership", AskView()):
                self.later(0.001, self._tell_view)
            case SetTimer(name, at):
                self._timer_number = number = self._timer_number + 1
                self._timers[name] = number
                self.later(max(0.0, at - self.steady()), lambda: self._fire(name, number))
            case Reply(request, result):
                assert isinstance(request, int)
                self.answers[request] = result
            case Fail(request, error):
                assert isinstance(request, int)
                self.answers[request] = error
            case Log():
                self.world.story.tell(self.world.clock.now, self.id, effect)
            case other:
                raise AssertionError(f"nobody performs {other!r}")

    def _fire(self, name: str, number: int) -> None:
        if self._timers.get(name) == number:
            del self._timers[name]
            self.feed(Fired(name))

    def _some(self, at_most_s: float) -> float:
        return self.world.chance.random() * at_most_s

    # ---- the journal ----

    def need(self, digest: str) -> None:
        """An entry that refers to it is committed here."""
        self.needed.add(digest)
        self.feed(NewNeeds((digest,)))

    def _tell_needed(self, after: str, limit: int) -> None:
        found = sorted(digest for digest in self.needed if digest > after)
        self.feed(NeededTold(after, tuple(found[:limit]), len(found) <= limit))

    # ---- disk and connections ----

    @property
    def chance(self) -> Random:
        """Of the whole world."""
        return self.world.chance

    @property
    def flaws(self) -> float:
        """How often something goes wrong."""
        return self.world.flaws

    def source(self, node: str) -> FileNode | None:
        """That node, if its bulk connections work."""
        other = self.world.station(node)
        return other if other.up and self.reaches(node) else None

    def leaves(self, key: AttemptKey) -> tuple[bytes, ...]:
        """What is in the files that the attempt has left."""
        return self.content[key]

    def find_corrupt(self, digest: str) -> None:
        """It is read, and found to be damaged."""
        self.disk.set_aside(digest)
        self.feed(FoundCorrupt(digest))

    def _check_removed(self, message: RemoveBlobs) -> None:
        for key in self._asked:
            request = self.wants.get(key) or self.placed.get(key)
            if request and any(file.digest in message.digests for file in request.files):
                raise Violation("what is asked for is not removed", f"{message}", key[0])

    # ---- the executor, and people ----

    def place(self, key: AttemptKey, files: tuple[FileRef, ...]) -> None:
        """An attempt needs these before it starts."""
        self.wants[key] = PlaceFiles(key, f"work/{key[0]}.{key[1]}", files)
        self._ask(key)

    def _ask(self, key: AttemptKey) -> None:
        if key in self.wants:
            self._asked.add(key)
            self.feed(self.wants[key])

    def keep(self, key: AttemptKey, content: tuple[bytes, ...]) -> None:
        """An attempt has ended, and left files with this content."""
        self.content[key] = content
        self.keeps[key] = KeepOutputs(key, "/work", ("*",))
        self.feed(self.keeps[key])

    def forget(self, key: AttemptKey) -> None:
        """The attempt is over."""
        self._asked.discard(key)
        self.wants.pop(key, None)
        self.placed.pop(key, None)
        self.keeps.pop(key, None)
        self.kept.pop(key, None)
        self.feed(ForgetFiles((key,)))

    def made(self, digest: str, size: int) -> None:
        """A door has made a blob; until a task refers to it, it is pinned."""
        self.feed(HereNow((BlobRef(digest, size),)))
        self.feed(Asked(self.world.chance.getrandbits(32), Pin((digest,), PIN_S)))

    def fetch(self, request: int, digests: tuple[str, ...]) -> None:
        """Somebody at a door wants these here."""
        self.feed(Asked(request, FetchBlobs(digests)))

    def _executor(self, message: object) -> None:
        match message:
            case FilesStarted():
                for key in list(self.wants):
                    self._ask(key)
                for request in list(self.keeps.values()):
                    self.feed(request)
                self.feed(FilesOf((*self.wants, *self.placed, *self.keeps, *self.kept)))
            case FilesPlaced(key):
                self._check_placed(key)
            case FilesMissing(key):
                self._asked.discard(key)
                self.refused += 1
                self.later(self._some(AGAIN_S_MAX), lambda: self._ask(key))
            case OutputsKept(key):
                self._check_kept(message)
            case other:
                raise AssertionError(f"no executor takes {other!r}")

    def _check_placed(self, key: AttemptKey) -> None:
        request = self.wants.pop(key, None)
        if request is None:
            return
        self.placed[key] = request
        folder = self.disk.folders.get(key, {})
        if {file.name for file in request.files} != set(folder):
            raise Violation("a task starts once its files are there", f"{key}: {folder}", key[0])

    def _check_kept(self, message: OutputsKept) -> None:
        if self.keeps.pop(message.key, None) is None:
            return
        self.kept[message.key] = message
        for file in message.outputs:
            if file.digest not in self.disk.blobs:
                raise Violation("what is kept is on the disk", f"{message}", message.key[0])
