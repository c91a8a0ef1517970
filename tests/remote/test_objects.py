"""Objects between processes: borrowed, fetched, given back; owners and borrowers that die."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import pytest

from leoronic.remote import objects as module
from leoronic.remote import serial
from leoronic.remote.errors import ObjectFreedError, OwnerDiedError
from leoronic.remote.objects import Objects
from leoronic.remote.party import Party
from leoronic.remote.refs import ObjectRef

WITHIN_S = 10.0
MakeParty = Callable[[str], Party]
NUMBER = 1 << 32


class Process:
    """One that takes part; several of them in this one."""

    def __init__(self, party: Party) -> None:
        self.party = party
        self.objects = Objects(party)
        self.objects.begin()
        party.on_channel = self.objects.channel_opened
        party.on_lost = lambda channel, reason: self.objects.channel_lost(channel)
        party.start()

    def own(self, number: int, value: Any = None) -> ObjectRef:
        """A reference to an object of its own, lent; done if there is a value."""
        made = ObjectRef((self.party.node, self.party.id, number))
        if value is not None:
            made.settle(True, serial.dump(value))
        self.objects.lend(made)
        return made

    def settled(self) -> None:
        """Wait until all that was posted is done."""
        done = threading.Event()
        self.party.post(done.set)
        assert done.wait(WITHIN_S)


def value(ref: ObjectRef) -> Any:
    done = threading.Event()
    ref.on_done(lambda _: done.set())
    assert done.wait(WITHIN_S)
    return ref.value()


@pytest.fixture
def owner(make_party: MakeParty) -> Process:
    return Process(make_party("d-1"))


@pytest.fixture
def borrower(make_party: MakeParty) -> Process:
    return Process(make_party("w.1"))


def test_a_borrower_gets_the_value(owner: Process, borrower: Process) -> None:
    """One that is there, and one that comes later."""
    here, later = owner.own(NUMBER, [1, 2]), owner.own(2 * NUMBER)
    assert [1, 2] == value(borrower.objects.revive(here.key))
    borrowed = borrower.objects.revive(later.key)
    borrowed.want()
    owner.party.post(later.settle, True, (7,))
    assert 7 == value(borrowed)


def test_there_is_one_reference_for_an_object_in_a_process(
    owner: Process, borrower: Process
) -> None:
    """Also at the owner, to whom its own comes back."""
    own = owner.own(NUMBER, 1)
    assert own is owner.objects.revive(own.key)
    assert borrower.objects.revive(own.key) is borrower.objects.revive(own.key)


def test_what_is_borrowed_is_held_until_it_is_given_back(owner: Process, borrower: Process) -> None:
    """The owner's own reference may be gone meanwhile."""
    own = owner.own(NUMBER, "kept")
    key = own.key
    borrowed = borrower.objects.revive(key)
    again = borrower.objects.revive(key)
    value(again)
    del own
    gc.collect()
    assert "kept" == value(owner.objects.revive(key))
    del borrowed, again

    freed = threading.Event()
    while not freed.wait(0.01):
        owner.settled()
        if not owner.objects.revive(key).ok:
            freed.set()
    with pytest.raises(ObjectFreedError):
        value(owner.objects.revive(key))


def test_what_nobody_holds_any_more_is_told_as_such(owner: Process, borrower: Process) -> None:
    """A borrower that comes too late gets an error, not silence."""
    key = owner.own(NUMBER, 1).key
    gc.collect()
    with pytest.raises(ObjectFreedError):
        value(borrower.objects.revive(key))


def test_references_inside_of_a_value_are_borrowed_with_it(
    owner: Process, borrower: Process
) -> None:
    """They are held as long as what they are in."""
    inner = owner.own(NUMBER, "inner")
    outer = ObjectRef((owner.party.node, owner.party.id, 2 * NUMBER))
    found: list[Any] = []
    owner.objects.begin()
    outer.settle(True, serial.dump([inner], found))
    outer.held = found
    owner.objects.lend(outer)
    borrowed = borrower.objects.revive(outer.key)
    done = threading.Event()
    borrowed.on_done(lambda _: done.set())
    assert done.wait(WITHIN_S)
    assert borrowed.held is not None
    assert "inner" == value(borrowed.held[0])


def test_the_owner_has_died(owner: Process, borrower: Process) -> None:
    """Whoever waits for a value of it is told, and who asks later, too."""
    waited, other = owner.own(NUMBER), owner.own(2 * NUMBER)
    borrowed = borrower.objects.revive(waited.key)
    later = borrower.objects.revive(other.key)
    borrowed.want()
    borrower.settled()
    owner.party.stop()
    with pytest.raises(OwnerDiedError):
        value(borrowed)
    with pytest.raises(OwnerDiedError):
        value(later)


def test_a_dead_borrower_is_forgotten(
    owner: Process, borrower: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had borrowed is freed after a while."""
    monkeypatch.setattr(module, "AWAY_S", 0.0)
    own = owner.own(NUMBER, "kept")
    key = own.key
    borrowed = borrower.objects.revive(key)
    value(borrowed)
    del own
    borrower.party.stop()
    freed = threading.Event()
    while not freed.wait(0.01):
        owner.settled()
        if not owner.objects.revive(key).ok:
            freed.set()


def test_fetch_gives_all_at_once(owner: Process, borrower: Process) -> None:
    """In the order asked for, even if nothing else holds the references meanwhile."""
    keys = [owner.own(n * NUMBER, n) for n in range(1, 4)]
    found: list[Any] = []
    done = threading.Event()

    def then(values: list[tuple[bool, Any]]) -> None:
        found.extend(serial.load(payload) for _, payload in values)
        done.set()

    borrower.party.post(borrower.objects.fetch, [ref.key for ref in reversed(keys)], then)
    borrower.settled()
    gc.collect()
    assert done.wait(WITHIN_S)
    assert [3, 2, 1] == found
