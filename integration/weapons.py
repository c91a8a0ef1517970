"""What a hostile peer says: messages of all types, of real ids, sound or damaged."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from integration.damage import Damage, to_text
from integration.hostile_peer import Hostile
from leoronic.core import entries, peer
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.resources import Capacity, Need
from leoronic.core.spec import After, TaskSpec
from leoronic.core.view import About

GHOST = "ghost"
"""The id of a node that never was: only hostile peers tell of its entries."""
DIGESTS = tuple(f"b3:{digit * 64}" for digit in "0123")
"""Names of blobs that nobody has."""
GHOSTS = ("phantom1", "phantom2")
"""Ghosts that never were."""
TAG = "gpu"
"""What they say that they carry."""


class Weapons:
    """`nodes` and `tasks` are real ids; `chance` decides all."""

    def __init__(self, chance: random.Random, nodes: Sequence[str], tasks: Sequence[str]) -> None:
        self._chance = chance
        self._nodes = list(nodes)
        self._tasks = [*tasks, *(f"hostile-{n}" for n in range(8)), "hostile-array.1"]
        self._damage = Damage(chance, [*self._nodes, *self._tasks])
        self._makers: dict[type, Callable[[Hostile], peer.PeerMessage]] = {
            peer.Heartbeat: self._heartbeat,
            peer.Probe: lambda me: peer.Probe(me.node, self._node()),
            peer.ProbeAnswer: self._probe_answer,
            peer.Introduce: self._introduce,
            peer.Push: self._push,
            peer.Pull: lambda me: peer.Pull(me.node, self._vector(me), self._number()),
            peer.Entries: self._entries,
            peer.Have: lambda me: peer.Have(me.node, self._vector(me), self._number()),
            peer.Assign: self._assign,
            peer.Offer: self._offer,
            peer.Freed: self._freed,
            peer.FilesPresent: lambda me: peer.FilesPresent(me.node, frozenset(("/etc/passwd",))),
            peer.Outstanding: self._outstanding,
            peer.Interest: self._interest,
            peer.Reserve: lambda me: peer.Reserve(me.node, 1, self._need(), 3.0),
            peer.CheckFiles: lambda me: peer.CheckFiles(me.node, ["/etc/passwd", "a"]),
            peer.Ask: self._ask,
            peer.Answered: self._answered,
            peer.SeekBlobs: lambda me: peer.SeekBlobs(me.node, [self._digest()], bool(self._bit())),
            peer.KeepBlobs: lambda me: peer.KeepBlobs(me.node, [self._digest(), self._digest()]),
            peer.BlobsHere: self._blobs_here,
            peer.AskChunks: self._ask_chunks,
            peer.ChunkPlan: self._chunk_plan,
            peer.CallBack: lambda me: peer.CallBack(me.node),
            peer.Ghosts: self._ghosts,
            peer.ToGhost: self._to_ghost,
            peer.FromGhost: self._from_ghost,
        }
        assert self._makers.keys() == peer.RECEIVERS.keys()

    def frame(self, me: Hostile) -> tuple[bytes, bytes]:
        """(JSON, blob): a message of any type, or what is left of it."""
        kind = self._chance.choice([*self._makers, peer.Push, peer.Offer])
        if me.pulls and self._chance.random() < 0.8:
            kind = peer.Entries
        return self._damaged(self._makers[kind](me))

    def _damaged(self, message: peer.PeerMessage) -> tuple[bytes, bytes]:
        chance = self._chance
        shape = json.loads(peer.encode(message)[0])
        blob = message.blob if isinstance(message, peer.WithBlob) else b""
        for _ in range(chance.choice((0, 0, 0, 1, 1, 2))):
            self._damage.change(shape, gently=chance.random() < 0.85)
        text = to_text(shape)
        if chance.random() < 0.04:
            text = self._damage.flip(text)
        if blob and chance.random() < 0.1:
            blob = self._damage.flip(blob) if self._bit() else blob[: len(blob) // 2]
        return text, blob

    # ---- parts ----

    def _bit(self) -> int:
        return self._chance.randrange(2)

    def _number(self) -> int:
        return self._chance.randrange(1 << 50)

    def _node(self) -> str:
        return self._chance.choice(self._nodes)

    def _key(self) -> tuple[str, int]:
        return (self._chance.choice(self._tasks), self._chance.choice((1, 1, 1, 2, 3)))

    def _need(self) -> Need:
        cpus = self._chance.choice((0, 1, 1000))
        return Need(cpus, 1 << 20, 0, ((TAG, 1.0),)[: self._bit()], self._chance.random() < 0.1)

    def _held(self) -> peer.Held:
        return peer.Held(*self._key(), self._need(), self._node())

    def _items(self, count: int) -> list[peer.AssignItem]:
        return [peer.AssignItem(*self._key(), class_number=1) for _ in range(count)]

    def _about(self, me: Hostile) -> About:
        life, revision = self._chance.choice((1, 1, 2)), self._number()
        return msgspec.structs.replace(me.about, life=life, revision=revision, tags=[TAG])

    def _vector(self, me: Hostile) -> dict[str, int]:
        found = dict(me.have) if self._bit() else {}
        if self._bit():
            node = self._chance.choice((*self._nodes, GHOST))
            found[node] = self._chance.choice((1, 5, 1_000_000))
        return found

    # ---- messages ----

    def _heartbeat(self, me: Hostile) -> peer.PeerMessage:
        about = self._about(me) if self._bit() else None
        have = self._vector(me) if self._bit() else {}
        at = self._number()
        return peer.Heartbeat(me.node, at, at, bool(self._bit()), False, have, about)

    def _probe_answer(self, me: Hostile) -> peer.PeerMessage:
        return peer.ProbeAnswer(me.node, self._node(), self._chance.random(), True)

    def _introduce(self, me: Hostile) -> peer.PeerMessage:
        ids = [self._chance.choice((self._node(), f"stranger-{n}")) for n in range(3)]
        members = [peer.Introduced(one, self._about(me), self._bit() * 9.0) for one in ids]
        return peer.Introduce(me.node, members)

    def _push(self, me: Hostile) -> peer.PeerMessage:
        first, count = me.have.get(me.node, 0) + 1, self._chance.choice((1, 1, 4))
        blob = b"\n".join(self._entry(me) for _ in range(count))
        needs = {} if self._chance.random() < 0.8 else self._vector(me)
        me.have[me.node] = first + count - 1
        return peer.Push(me.node, blob, first, count, needs)

    def _entries(self, me: Hostile) -> peer.PeerMessage:
        asked = me.pulls.pop() if me.pulls else peer.Pull(me.node)
        have = {**asked.have, **me.have}
        origin = self._chance.choice((me.node, GHOST, GHOST))
        first = asked.have.get(origin, 0) + 1
        blob = b"\n".join(self._entry(me) for _ in range(2))
        have[origin] = first + 1
        last = self._chance.random() < 0.7
        places = [(origin, first, 2)]
        return peer.Entries(me.node, blob, places, {}, last, have, asked.number)

    def _assign(self, me: Hostile) -> peer.PeerMessage:
        classes = [peer.AssignClass(1, self._need(), bool(self._bit()))]
        number = self._number()
        return peer.Assign(me.node, self._items(3), self._items(2), classes, number=number)

    def _offer(self, me: Hostile) -> peer.PeerMessage:
        capacity = Capacity(self._bit() * 4000, 1 << 30, 1 << 30, ((TAG, 1.0),))
        held, queued = [self._held(), self._held()][: self._bit() * 2], [self._key()]
        tags, seen = frozenset((TAG,)), self._chance.choice((0, 1 << 53))
        draining = self._chance.random() < 0.2
        name = me.about.name
        return peer.Offer(
            me.node, name, capacity, tags, draining, held, True, queued, seen, self._number()
        )

    def _freed(self, me: Hostile) -> peer.PeerMessage:
        attempts = [(self._key(), None), (self._key(), self._key())]
        taken, declined = [self._held()], [self._key()]
        wants = dict.fromkeys(range(10), 3)
        retry_s = self._chance.random()
        return peer.Freed(me.node, attempts, taken, wants, declined, retry_s, self._number())

    def _outstanding(self, me: Hostile) -> peer.PeerMessage:
        return peer.Outstanding(me.node, [(*self._key(), self._node()) for _ in range(3)])

    def _interest(self, me: Hostile) -> peer.PeerMessage:
        return peer.Interest(me.node, bool(self._bit()), self._need(), self._number())

    def _ask(self, me: Hostile) -> peer.PeerMessage:
        task, attempt = self._key()
        part = {"task": task, "attempt": attempt, "node": self._node(), "stream": "stdout"}
        shape: dict[str, Any] = self._chance.choice(
            (
                {"type": "taglist"},
                {"type": "nodes"},
                {"type": "why", "id": task},
                {"type": "readpart", **part, "offset": 0, "limit": 100, "wait_s": 0.5},
            )
        )
        self._damage.change(shape, gently=True)
        command = msgspec.Raw(json.dumps(shape).encode())  # what nests deeply comes in later
        return peer.Ask(me.node, b"", self._chance.randrange(9), command, not self._bit())

    def _answered(self, me: Hostile) -> peer.PeerMessage:
        return peer.Answered(
            me.node, b"x", self._chance.randrange(9), msgspec.Raw(b'{"result": {}}')
        )

    # ---- files ----

    def _digest(self) -> str:
        return self._chance.choice(DIGESTS)

    def _blobs_here(self, me: Hostile) -> peer.PeerMessage:
        here, coming, missing = ([self._digest()][: self._bit()] for _ in range(3))
        return peer.BlobsHere(me.node, here, coming, missing, "so")

    def _ask_chunks(self, me: Hostile) -> peer.PeerMessage:
        others = [self._node()]
        return peer.AskChunks(
            node=me.node,
            blob=b"\x01",
            digest=self._digest(),
            pulling=[self._bit()],
            holders=others,
            avoid=others[: self._bit()],
            list_wanted=bool(self._bit()),
        )

    def _chunk_plan(self, me: Hostile) -> peer.PeerMessage:
        return peer.ChunkPlan(
            node=me.node,
            blob=b"x" * 64,
            digest=self._digest(),
            known=bool(self._bit()),
            chunks=[(self._bit(), self._node())],
            retry_s=self._chance.random(),
            algorithm="b3",
            size=self._number(),
            chunk_bytes=1 << 20,
        )

    # ---- ghosts ----

    def _ghosts(self, me: Hostile) -> peer.PeerMessage:
        ids = [self._chance.choice((self._node(), *GHOSTS)) for _ in range(3)]
        told = [peer.GhostTold(one, self._about(me), self._number()) for one in ids]
        return peer.Ghosts(me.node, told, [self._node()][: self._bit()], not self._bit(), True)

    def _to_ghost(self, me: Hostile) -> peer.PeerMessage:
        said, blob = peer.encode(self._chance.choice((self._assign, self._interest))(me))
        ghost = self._chance.choice((self._node(), *GHOSTS))
        return peer.ToGhost(me.node, blob, ghost=ghost, message=msgspec.Raw(said))

    def _from_ghost(self, me: Hostile) -> peer.PeerMessage:
        kinds = (self._offer, self._freed, self._blobs_here, self._push, self._ask_chunks)
        ghost = self._chance.choice((self._node(), *GHOSTS))
        said = msgspec.structs.replace(self._chance.choice(kinds)(me), node=ghost)
        text, blob = peer.encode(said)
        return peer.FromGhost(me.node, blob, ghost=ghost, message=msgspec.Raw(text))

    # ---- entries ----

    def _entry(self, me: Hostile) -> bytes:
        """The text of one; damaged now and then."""
        shape = json.loads(entries.encode(self._sound_entry(me)))
        for _ in range(self._chance.choice((0, 0, 0, 1))):
            self._damage.change(shape, gently=self._chance.random() < 0.9)
        if self._chance.random() < 0.05:
            shape["kind"] = "of a later version"
        return to_text(shape)

    def _sound_entry(self, me: Hostile) -> entries.Entry:
        chance, at = self._chance, 1.7e9 + self._chance.randrange(10**8)
        (task, attempt), node = self._key(), chance.choice((me.node, me.node, self._node()))
        stream = StreamRef(5, b"", "file", 0)
        outcome = Outcome(at, at + 1, self._bit(), stdout=stream, stderr=StreamRef(3, b"abc"))
        after = (After(self._key()[0]),) if self._bit() else ()
        conditions = chance.choice(((), ("queue:nonsense",), (f"worker:tag {TAG}",)))
        count = chance.choice((None, None, 3, 1_000_000))
        spec = TaskSpec("true", after=after, conditions=conditions, name=task, count=count)
        kinds: tuple[entries.Entry, ...] = (
            entries.Submitted(task, spec, at),
            entries.Submitted(task, spec, at),
            entries.Started(task, attempt, node, at, "life"),
            entries.Finished(task, attempt, node, outcome, bool(self._bit())),
            entries.Lost(task, attempt, node, at, "for no reason", bool(self._bit())),
            entries.Cancelled(task, at),
            entries.Held(task, chance.randrange(5), at, "so"),
            entries.Released(task, chance.randrange(5), at, attempt),
            entries.Tagged(me.node, TAG, at),
            entries.Untagged(me.node, TAG, at),
            entries.Suspected(node, at, "so"),
            entries.Kept(task, attempt, node, "stdout", 5),
        )
        return chance.choice(kinds)
