"""Two copies of what is needed: whoever holds one sees to the second."""

from __future__ import annotations

import pytest

from leoronic.core import caretaker
from leoronic.core.caretaker import (
    ANSWER_S,
    CHECKS_MAX,
    GATHER_S,
    KEEP_AGAIN_S,
    KEEP_SILENT_S,
    KEEPS_MAX,
    LOOK_AGAIN_S,
    LOOK_EVERY_S,
    NEIGHBOURS,
)
from leoronic.core.file_effects import FindUnneeded, LookNeeded, NeededTold, NewNeeds
from leoronic.core.peer import BlobsHere, KeepBlobs, SeekBlobs
from tests.core.stores import ME, A, B, C, Store, blob, view

ONE = blob(1, "one")[0]
TWO = blob(1, "two")[0]
MANY = [f"s2:{number:064x}" for number in range(600)]
CROWD = [f"{number:012x}" for number in range(100, 110)]


def needed(store: Store, *digests: str) -> None:
    """There are new references to these, and time enough to look at them."""
    store.feed(NewNeeds(digests or (ONE,)))
    store.wait(GATHER_S + 0.1)
    for look in store.take(LookNeeded):
        store.feed(NeededTold(look.after, (), True))


def test_a_blob_that_another_has_is_left_alone() -> None:
    """There are two copies."""
    store = Store(A, B, here=(ONE,))
    needed(store)
    assert [[SeekBlobs(ME, [ONE])]] * 2 == [store.told(node, SeekBlobs) for node in (A, B)]
    store.feed(BlobsHere(B, here=[ONE]))
    store.wait(60)
    assert [] == store.take(KeepBlobs)
    assert store.machine.is_idle


def test_a_blob_that_nobody_else_has_goes_to_the_next_in_ring_order() -> None:
    """Which is told until it has it."""
    store = Store(C, A, B, here=(ONE,))
    needed(store)
    for node in (A, B, C):
        store.feed(BlobsHere(node, missing=[ONE]))
    assert [[ONE]] == [told.digests for told in store.told(A, KeepBlobs)]
    store.feed(BlobsHere(A, coming=[ONE]))
    store.wait(KEEP_AGAIN_S + 0.1)
    assert [[ONE]] == [told.digests for told in store.told(A, KeepBlobs)]
    store.feed(BlobsHere(A, here=[ONE]))
    store.wait(60)
    assert [] == store.take(KeepBlobs)
    assert store.machine.is_idle


@pytest.mark.parametrize("how", ["refuses", "is silent", "is gone"])
def test_who_cannot_keep_it_is_followed_by_the_next(how: str) -> None:
    """In ring order."""
    store = Store(A, B, here=(ONE,))
    needed(store)
    for node in (A, B):
        store.feed(BlobsHere(node, missing=[ONE]))
    store.take(KeepBlobs)
    if how == "refuses":
        store.feed(BlobsHere(A, missing=[ONE], reason="no room"))
    elif how == "is gone":
        store.feed(view(B))
    else:
        store.wait(KEEP_SILENT_S + 0.1)
    assert [[ONE]] == [told.digests for told in store.told(B, KeepBlobs)]


def test_if_nobody_can_it_is_tried_again_later() -> None:
    """There may be room by then."""
    store = Store(A, here=(ONE,))
    needed(store)
    store.feed(BlobsHere(A, missing=[ONE]))
    store.feed(BlobsHere(A, missing=[ONE], reason="no room"))
    store.take(LookNeeded)
    store.wait(LOOK_AGAIN_S + 1)
    assert [""] == [look.after for look in store.take(LookNeeded)]


def test_who_does_not_answer_counts_as_without_it() -> None:
    """A copy too many does no harm."""
    store = Store(A, B, here=(ONE,))
    needed(store)
    store.feed(BlobsHere(B, missing=[ONE]))
    assert [] == store.take(KeepBlobs)
    store.wait(ANSWER_S)
    assert [[ONE]] == [told.digests for told in store.told(A, KeepBlobs)]


def test_who_fetches_it_anyway_is_asked_to_keep_it() -> None:
    """There is no need for a third copy."""
    store = Store(A, B, here=(ONE,))
    needed(store)
    store.feed(BlobsHere(A, missing=[ONE]))
    store.feed(BlobsHere(B, coming=[ONE]))
    assert ([[ONE]], []) == (
        [told.digests for told in store.told(B, KeepBlobs)],
        store.told(A, KeepBlobs),
    )


def test_who_is_about_to_go_is_asked_last() -> None:
    """Its copy would not last."""
    store = Store(A, B, here=(ONE,))
    store.feed(view(A, B, draining=(A,)))
    needed(store)
    for node in (A, B):
        store.feed(BlobsHere(node, missing=[ONE]))
    assert 1 == len(store.told(B, KeepBlobs))


def test_in_a_crowd_neighbours_are_asked_first() -> None:
    """The others only if none of these has it."""
    store = Store(*CROWD, here=(ONE, TWO))
    needed(store, ONE, TWO)
    first = [node for node in CROWD if store.told(node, SeekBlobs)]
    assert NEIGHBOURS == len(first)
    store.feed(BlobsHere(first[0], here=[ONE], missing=[TWO]))
    for node in first[1:]:
        store.feed(BlobsHere(node, missing=[TWO]))
    rest = {node: store.told(node, SeekBlobs) for node in CROWD if node not in first}
    assert [[TWO]] * 6 == [told.digests for [told] in rest.values()]


def test_what_is_not_here_is_no_care_of_ours() -> None:
    """Nor what nobody needs."""
    store = Store(A, here=(TWO,))
    needed(store, ONE)
    assert [] == store.take(SeekBlobs)


def test_all_that_is_needed_is_looked_at_when_others_come_or_go() -> None:
    """Page by page, and now and then; not while nothing changes."""
    store = Store(A, here=(ONE,))
    store.wait(GATHER_S + 0.1)
    assert [LookNeeded("file_store", "", 256)] == store.take(LookNeeded)
    page = tuple(MANY[:256])
    store.feed(NeededTold("", page, False))
    store.wait(0.1)
    assert [MANY[255]] == [look.after for look in store.take(LookNeeded)]
    store.feed(NeededTold(MANY[255], (ONE,), True))
    store.wait(0.1)
    store.feed(BlobsHere(A, here=[ONE]))
    store.feed(view(A))
    store.wait(10)
    assert [] == store.take(LookNeeded)
    store.feed(view(A, B))
    store.wait(1)
    assert [""] == [look.after for look in store.take(LookNeeded)]
    store.feed(NeededTold("", (), True))
    store.wait(LOOK_EVERY_S)
    assert [""] == [look.after for look in store.take(LookNeeded)]


def test_a_page_that_does_not_come_is_asked_for_again() -> None:
    """The journal may have started anew."""
    store = Store(A, here=(ONE,))
    store.wait(40)
    assert ["", ""] == [look.after for look in store.take(LookNeeded)]


def test_much_that_is_needed_is_seen_to_in_parts() -> None:
    """Few are asked about at once, and fewer fetched; none is forgotten."""
    store = Store(A, here=tuple(MANY))
    needed(store, *MANY)
    kept: set[str] = set()
    for _ in range(400):
        asked = [digest for told in store.told(A, SeekBlobs) for digest in told.digests]
        assert len(asked) <= CHECKS_MAX
        if asked:
            store.feed(BlobsHere(A, missing=asked))
        keeps = {digest for told in store.told(A, KeepBlobs) for digest in told.digests}
        assert len(keeps) <= KEEPS_MAX
        kept |= keeps
        for digest in sorted(keeps):
            store.feed(BlobsHere(A, here=[digest]))
        store.wait(0.2)
    assert set(MANY) == kept
    assert store.machine.is_idle


def test_what_is_being_kept_elsewhere_stays_until_then() -> None:
    """It would be fetched from here."""
    store = Store(A, here=(ONE,))
    store.wait(58)
    needed(store)
    store.feed(BlobsHere(A, missing=[ONE]))
    store.feed(BlobsHere(A, coming=[ONE]))
    store.wait(3)
    assert [frozenset({ONE})] == [find.held for find in store.take(FindUnneeded)]


def test_a_ghost_cares_for_nobody() -> None:
    """Its clairvoyant does."""
    store = Store(A, here=(ONE,), ghost=True)
    needed(store)
    store.wait(60)
    assert ([], []) == (store.take(SeekBlobs), store.take(LookNeeded))


def test_a_page_that_comes_twice_is_taken_once() -> None:
    """The next one is asked for once, too."""
    store = Store(A, here=(ONE,))
    store.wait(GATHER_S + 0.1)
    for _ in range(2):
        store.feed(NeededTold("", (ONE, TWO), False))
        store.wait(0.1)
    assert ["", TWO] == [look.after for look in store.take(LookNeeded)]
    store.feed(NeededTold("", (ONE,), True))
    store.wait(0.1)
    assert not store.machine.is_idle


def test_what_changes_during_a_look_is_followed_by_another() -> None:
    """Who came meanwhile was not asked about the first pages."""
    store = Store(A, here=(ONE,))
    store.wait(GATHER_S + 0.1)
    store.feed(view(A, B))
    store.wait(GATHER_S + 0.1)
    assert [""] == [look.after for look in store.take(LookNeeded)]
    store.feed(NeededTold("", (), True))
    store.wait(GATHER_S + 0.1)
    assert [""] == [look.after for look in store.take(LookNeeded)]


def test_too_many_new_references_are_looked_up_in_the_journal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Instead of being kept in memory."""
    monkeypatch.setattr(caretaker, "FRESH_MAX", 10)
    store = Store(A, here=tuple(MANY))
    needed(store)
    needed(store, *MANY)
    asked = [digest for told in store.told(A, SeekBlobs) for digest in told.digests]
    assert MANY[:10] == asked


def test_nobody_who_was_not_asked_is_believed() -> None:
    """Neither a stranger, nor a node that was asked for another blob, ends the care for one."""
    store = Store(*CROWD, here=(ONE, TWO))
    needed(store, ONE)
    asked = {node for node in CROWD if store.told(node, SeekBlobs)}
    store.feed(BlobsHere("f" * 12, here=[ONE]))
    for node in CROWD:
        if node not in asked:
            store.feed(BlobsHere(node, here=[ONE]))
            break
    store.wait(2 * ANSWER_S + 0.2)
    assert 1 == len(store.take(KeepBlobs))
    store.feed(BlobsHere("f" * 12, here=[ONE]))
    assert not store.machine.is_idle
