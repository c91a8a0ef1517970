"""Which addresses are called, and when."""

from __future__ import annotations

from leoronic.actors.dialling import MET_WAIT_S_MAX, OWN_WAIT_S, WAIT_S_MAX, AddressBook


def nobody(node: str) -> bool:
    return False


def pauses(book: AddressBook, address: str, count: int) -> list[float]:
    """The pauses after so many calls that met nobody."""
    now, found = 0.0, []
    for _ in range(count):
        assert [address] == book.due(now, nobody)
        book.ended(address, "refused", now)
        at = book.next_at(nobody)
        assert at is not None
        found.append(round(at - now, 3))
        now = at
    return found


def test_pauses_grow_to_a_bound() -> None:
    """Each is twice the one before; the same news again changes nothing, other news begins anew."""
    book = AddressBook()
    book.told("s", ["a:1"], 0.0)
    assert [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, WAIT_S_MAX] == pauses(book, "a:1", 10)
    book.told("s", ["a:1"], 1.0)
    assert [] == book.due(1.0, nobody)
    book.told("t", ["a:1"], 2.0)
    assert ["a:1"] == book.due(2.0, nobody)


def test_where_a_node_was_met() -> None:
    """Not called while it is connected; soon once it is not; never given up for long."""
    book = AddressBook()
    book.told("s", ["a:1"], 0.0)
    assert ["a:1"] == book.due(0.0, nobody)
    book.met("a:1", "node", 0.0)
    assert [] == book.due(1000.0, "node".__eq__)
    assert None is book.next_at("node".__eq__)
    book.lost("node", 1000.0)
    assert 1000.1 == book.next_at(nobody)
    now = 1000.1
    for _ in range(9):
        assert ["a:1"] == book.due(now, nobody)
        book.ended("a:1", "refused", now)
        now += MET_WAIT_S_MAX
    book.told("s", [], now)
    assert ["a:1"] == book.due(now, nobody)


def test_addresses_of_a_node_that_is_connected() -> None:
    """They are not called, though nobody was met there yet."""
    book = AddressBook()
    book.told("peer node", ["a:1", "b:1"], 0.0, "node")
    assert [] == book.due(0.0, "node".__eq__)
    assert ["a:1", "b:1"] == book.due(0.0, nobody)


def test_not_all_at_once() -> None:
    """At most so many calls are under way; those that waited longest come first."""
    book = AddressBook(dials_max=2)
    book.told("s", ["c:1"], 0.0)
    book.told("t", ["a:1", "b:1"], 1.0)
    assert ["c:1", "a:1"] == book.due(1.0, nobody)
    assert None is book.next_at(nobody)
    assert [] == book.due(2.0, nobody)
    book.ended("c:1", "refused", 2.0)
    assert ["b:1"] == book.due(2.0, nobody)


def test_ones_own_address() -> None:
    """It is left alone for long, whoever tells of it."""
    book = AddressBook()
    book.told("s", ["a:1"], 0.0)
    book.due(0.0, nobody)
    book.is_own("a:1", 0.0)
    book.told("t", ["a:1"], 1.0)
    assert [] == book.due(OWN_WAIT_S - 1, nobody)
    assert ["a:1"] == book.due(OWN_WAIT_S, nobody)


def test_what_nobody_tells_of_any_more_is_forgotten() -> None:
    """Unless a node was met there, or others tell of it still."""
    book = AddressBook()
    book.told("s", ["a:1", "b:1"], 0.0)
    book.told("t", ["b:1"], 0.0)
    book.told("s", [], 1.0)
    assert ["b:1"] == [place.address for place in book.places()]
    book.due(1.0, nobody)
    book.told("t", [], 1.0)
    assert 1 == len(book)
    book.ended("b:1", "refused", 2.0)
    assert 0 == len(book)


def test_addresses_are_bounded() -> None:
    """Where nobody was met is forgotten first."""
    book = AddressBook(addresses_max=3)
    book.told("s", ["a:1"], 0.0)
    book.due(0.0, nobody)
    book.met("a:1", "node", 0.0)
    for number in range(10):
        book.told(f"s{number}", [f"x{number}:1"], 1.0)
    assert 3 == len(book)
    assert "a:1" in [place.address for place in book.places()]


def test_whom_people_named_and_who_is_silent() -> None:
    """Told once for each reason, if none of its addresses answers; told when it does, once."""
    book = AddressBook()
    book.told("static attic:1", ["a:1", "b:1"], 0.0)
    book.told("peer x", ["c:1"], 0.0)

    def miss(now: float, reason: str = "refused", *, at: tuple[str, ...] = ("a:1", "b:1")) -> None:
        book.due(now, nobody)
        for address in at:
            book.ended(address, reason, now)

    def told(now: float) -> list[tuple[str, str]]:
        return [one for a in ("a:1", "b:1", "c:1") for one in book.silent(a, now, nobody)]

    miss(0.0, at=("a:1", "c:1"))
    assert [] == told(11.0)
    miss(5.0, at=("b:1",))
    assert [] == told(14.0)
    assert [] == book.silent("a:1", 15.0, lambda _: True)
    assert [("attic:1", "refused")] == told(15.0)
    miss(20.0, "no answer")
    assert [("attic:1", "no answer")] == told(20.0)
    miss(30.0, "refused")
    assert [] == told(30.0)
    assert [] == book.answered("node")
    book.due(100.0, nobody)
    book.met("b:1", "node", 100.0)
    assert ["attic:1"] == book.answered("node")
    assert [] == book.answered("node")


def test_a_reason_is_news_once() -> None:
    """People are told when it changes."""
    book = AddressBook()
    book.told("s", ["a:1"], 0.0)
    assert [True, False, True] == [
        book.ended("a:1", reason, 0.0) for reason in ("refused", "refused", "no answer")
    ]
    assert not book.ended("unknown:1", "x", 0.0)
