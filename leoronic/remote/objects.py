"""Objects between processes: each has one owner, and others borrow it.

The owner is who called `put`, or who made the call whose result it is. A reference that reaches
another process borrows: that process tells the owner (`BORROW`), asks it for the value when
somebody wants it (`FETCH`, answered by `OBJECTS` once it is there), and gives it back (`FREE`).
The owner holds what is borrowed. Who passes a reference on holds it until the receiver has
answered, and a borrower for `PASSED_ON_S` longer, as the receiver's word may take another way.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from leoronic.remote import refs, said, serial
from leoronic.remote.channel import Channel
from leoronic.remote.errors import Failure, failure
from leoronic.remote.party import Party, PartyGone
from leoronic.remote.refs import ObjectRef, received, to_send
from leoronic.remote.serial import RefKey

PASSED_ON_S = 5.0
# What was dropped is told to its owners together.
DROPPED_S = 0.05
# A borrower without a connection for so long is taken for dead.
AWAY_S = 30.0
# An owner on another machine is called again for so long, unless its node says that it is gone.
OWNER_BACK_S = 15.0
AGAIN_S = 0.25

PartyKey = tuple[str, str]
"""(node id, party id)."""
Fetched = list[tuple[bool, Any]]
"""For each object: (True, payload) or (False, failure)."""


class BorrowedRef(ObjectRef):
    """A reference to an object of another process. There is one for each object in a process."""

    __slots__ = ("_objects", "passed_on", "wanted")

    def __init__(self, key: RefKey, objects: Objects) -> None:
        super().__init__(key)
        self._objects = objects
        self.wanted = False
        self.passed_on = False

    def want(self) -> None:
        """Ask the owner for the value, the first time."""
        if not self.wanted:
            self.wanted = True
            self._objects.ask_for(self)

    def __del__(self) -> None:
        self._objects.drop(self.key, self.passed_on)


serial.register_ref(BorrowedRef)


class Objects:
    """What this process owns and others borrow, and what it borrows."""

    def __init__(self, party: Party) -> None:
        self._party = party
        # Owned ones that were pickled, as long as somebody here or elsewhere holds them.
        self._known: weakref.WeakValueDictionary[int, ObjectRef] = weakref.WeakValueDictionary()
        self._lent: dict[int, list[Any]] = {}
        self._borrowers: dict[PartyKey, dict[int, int]] = {}
        self._borrowed: weakref.WeakValueDictionary[RefKey, BorrowedRef] = (
            weakref.WeakValueDictionary()
        )
        self._borrowing = threading.Lock()
        self._dropped: deque[tuple[RefKey, bool]] = deque()
        self._drop_due = False
        # Held while an answer is due: who waits for one may be held by nothing else.
        self._asked: dict[PartyKey, dict[int, BorrowedRef]] = {}
        self._unsaid: dict[PartyKey, list[tuple[int, tuple[int, int]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Take part, in this process: references find each other by this, and others ask it."""
        refs.hooks.lend = self.lend
        refs.hooks.revive = self.revive
        handlers = self._party.handlers
        handlers[said.FETCH] = self._on_fetch
        handlers[said.OBJECTS] = self._on_objects
        handlers[said.BORROW] = self._on_borrow
        handlers[said.FREE] = self._on_free

    # ---- from any thread ----

    def lend(self, ref: ObjectRef) -> None:
        """`ref` is about to be sent to another process."""
        if isinstance(ref, BorrowedRef):
            ref.passed_on = True
        else:
            self._known[ref.key[2]] = ref

    def revive(self, key: RefKey) -> ObjectRef:
        """The reference of that key in this process, a new one if need be."""
        if key[:2] == (self._party.node, self._party.id):
            known = self._known.get(key[2])
            return known if known is not None else _lost(key)
        with self._borrowing:
            found = self._borrowed.get(key)
            if found is None:
                found = self._borrowed[key] = BorrowedRef(key, self)
                if self._party.is_here:
                    # Before the answer that it came with is acknowledged, on the same way.
                    self._say(key[:2], said.BORROW, (key[2], 1))
                else:
                    self._post(self._say, key[:2], said.BORROW, (key[2], 1))
        return found

    def ask_for(self, ref: BorrowedRef) -> None:
        """Have the owner send the value of `ref`."""
        self._post(self._ask_for, ref)

    def drop(self, key: RefKey, passed_on: bool) -> None:
        """Nobody here holds the borrowed `key` any more. Called in the middle of anything."""
        self._dropped.append((key, passed_on))
        if not self._drop_due:
            self._drop_due = True
            self._post(self._plan_dropping)

    # ---- on the loop's thread ----

    def fetch(self, keys: list[RefKey], then: Callable[[Fetched], object]) -> None:
        """`then` gets the values of all `keys`, once the last of them is there."""
        wanted = [self.revive(key) for key in keys]
        left = len(wanted)

        def settled(_: ObjectRef) -> None:
            nonlocal left
            left -= 1
            if not left:
                self._post(then, [(ref.ok, ref.payload) for ref in wanted])

        for ref in wanted:
            ref.on_done(settled)

    def hold(self, ref: ObjectRef, payload: Any) -> None:
        """The value of `ref` has arrived: borrow what is inside it."""
        keys = serial.refs_of(payload)
        if keys:
            ref.held = [self.revive((node, party, number)) for node, party, number in keys]

    def borrows_from(self, owner: PartyKey) -> bool:
        """Whether this process borrows anything of that one."""
        with self._borrowing:
            return any(key[:2] == owner for key in list(self._borrowed))

    def channel_opened(self, channel: Channel) -> None:
        """Somebody is connected: say what waited for that."""
        key = (channel.peer.node, channel.peer.party)
        for kind, item in self._unsaid.pop(key, ()):
            channel.say_item(kind, item)

    def channel_lost(self, channel: Channel) -> None:
        """A connection has ended: ask again for what it was to bring; forget a dead borrower."""
        key = (channel.peer.node, channel.peer.party)
        if self._party.channel(*key) is not None:
            return
        for number in self._asked.get(key, {}):
            self._say(key, said.FETCH, number)
        if key in self._borrowers:
            self._party.loop.call_later(AWAY_S, self._forget_borrower, key)

    def end(self) -> None:
        """This process takes part no more: what is awaited will not come."""
        for owner in list(self._asked):
            self._owner_gone(owner, PartyGone("shutdown() was called"))

    def _post(self, function: Callable[..., object], *args: Any) -> None:
        try:
            self._party.post(function, *args)
        except RuntimeError:
            return  # The process ends: nobody is there to tell.

    # ---- as owner ----

    def _on_fetch(self, channel: Channel, body: object) -> None:
        for number in cast("list[int]", body):
            known = self._known.get(number)
            if known is None:
                key = (self._party.node, self._party.id, number)
                channel.say_item(said.OBJECTS, (number, False, _lost(key).payload))
                continue
            known.on_done(lambda ref: self._post(_say_object, channel, ref))

    def _on_borrow(self, channel: Channel, body: object) -> None:
        borrower = self._borrowers.setdefault((channel.peer.node, channel.peer.party), {})
        for number, count in cast("list[tuple[int, int]]", body):
            known = self._known.get(number)
            if known is not None:
                borrower[number] = borrower.get(number, 0) + count
                self._lent.setdefault(number, [known, 0])[1] += count

    def _on_free(self, channel: Channel, body: object) -> None:
        borrower = self._borrowers.get((channel.peer.node, channel.peer.party), {})
        for number, count in cast("list[tuple[int, int]]", body):
            given = min(count, borrower.get(number, 0))
            if given:
                self._returned(borrower, number, given)

    def _returned(self, borrower: dict[int, int], number: int, count: int) -> None:
        borrower[number] -= count
        if not borrower[number]:
            del borrower[number]
        self._lent[number][1] -= count
        if not self._lent[number][1]:
            del self._lent[number]

    def _forget_borrower(self, key: PartyKey) -> None:
        if self._party.channel(*key) is None:
            borrower = self._borrowers.pop(key, {})
            for number, count in list(borrower.items()):
                self._returned(borrower, number, count)

    # ---- as borrower ----

    def _ask_for(self, ref: BorrowedRef) -> None:
        node, party, number = ref.key
        self._asked.setdefault((node, party), {})[number] = ref
        self._say((node, party), said.FETCH, number)

    def _on_objects(self, channel: Channel, body: object) -> None:
        owner = (channel.peer.node, channel.peer.party)
        asked = self._asked.get(owner, {})
        for number, ok, payload in cast("list[tuple[int, bool, Any]]", body):
            ref = asked.pop(number, None)
            if ref is not None:
                if ok:
                    self.hold(ref, payload)
                ref.settle(ok, received(payload) if ok else payload)

    def _plan_dropping(self) -> None:
        self._party.loop.call_later(DROPPED_S, self._tell_dropped)

    def _tell_dropped(self) -> None:
        self._drop_due = False
        for _ in range(len(self._dropped)):
            key, passed_on = self._dropped.popleft()
            if passed_on:
                self._party.loop.call_later(PASSED_ON_S, self._give_back, key)
            else:
                self._give_back(key)

    def _give_back(self, key: RefKey) -> None:
        # Without a connection the owner has forgotten this borrower, or soon will.
        channel = self._party.channel(*key[:2])
        if channel is not None:
            channel.say_item(said.FREE, (key[2], 1))

    def _say(self, owner: PartyKey, kind: int, item: Any) -> None:
        channel = self._party.channel(*owner)
        if channel is not None:
            channel.say_item(kind, item)
            return
        unsaid = self._unsaid.get(owner)
        if unsaid is not None:
            unsaid.append((kind, item))
            return
        self._unsaid[owner] = [(kind, item)]
        task = self._party.loop.create_task(self._reach(owner))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reach(self, owner: PartyKey) -> None:
        until = self._party.loop.time() + OWNER_BACK_S
        while True:
            try:
                await self._party.dial(*owner)
            except PartyGone as error:
                if error.nobody_listens or self._party.loop.time() > until:
                    self._owner_gone(owner, error)
                    return
                await asyncio.sleep(AGAIN_S)
            else:
                return

    def _owner_gone(self, owner: PartyKey, error: PartyGone) -> None:
        self._unsaid.pop(owner, None)
        for ref in self._asked.pop(owner, {}).values():
            text = f"{ref!r}: the process that owned it ended: {error}"
            ref.settle(False, failure("owner_died", text))


def _lost(key: RefKey) -> ObjectRef:
    ref = ObjectRef(key)
    lost: Failure = failure("object_freed", f"{ref!r}: its owner holds it no more")
    ref.settle(False, lost)
    return ref


def _say_object(channel: Channel, ref: ObjectRef) -> None:
    payload = to_send(ref.payload) if ref.ok else ref.payload
    channel.say_item(
        said.OBJECTS, (ref.key[2], ref.ok, payload), is_large=ref.ok and len(payload) > 1
    )
