"""Entries of other nodes: pages, gaps, vectors, and what is no entry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leoronic.core.entries import Cancelled, Finished, Started, Submitted, Tagged, encode
from leoronic.core.outcome import Outcome
from leoronic.core.replication_messages import Body
from leoronic.core.spec import TaskSpec
from leoronic.errors import ProtocolError
from leoronic.journal import journal
from leoronic.journal.database import open_database
from leoronic.journal.journal import Journal
from tests.journal.history import History, Peer

GOOD = Outcome(1.0, 2.0, exit_code=0)


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer("n")
    yield made
    made.close()


@pytest.fixture
def other() -> Iterator[Peer]:
    made = Peer("m")
    yield made
    made.close()


def body(origin: str, number: int, task: str = "a") -> Body:
    return Body(origin, number, encode(Submitted(f"{task}{number}", TaskSpec("x"), 0.0)))


def pull(taker: Peer, giver: Peer, bytes_max: int = 300) -> int:
    """Take page after page of what `taker` lacks; returns how many entries came."""
    have, after, last, count = taker.journal.vector(), 0, False, 0
    while not last:
        page = giver.journal.page(have, after, bytes_max)
        after, last = page.after, page.last
        count += len(page.bodies)
        taken = taker.take(*page.bodies, floor=page.floor, have=page.have if last else {})
        assert not taken.refused
    return count


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 2000))
def test_pages_bring_all_that_is_lacking(seed: int, steps: int, bytes_max: int) -> None:
    """Whatever the taker had, it has the same as the giver then."""
    random = Random(seed)
    bodies = History(random, steps).interleaved(random)
    giver, taker = Peer("yy"), Peer("zz")
    giver.take(*bodies)
    taker.take(*bodies[: random.randrange(len(bodies) + 1)])
    lacking = sum(giver.journal.vector().values()) - sum(taker.journal.vector().values())
    assert lacking == pull(taker, giver, bytes_max)
    assert giver.journal.vector() == taker.journal.vector()
    assert giver.reads.digest() == taker.reads.digest()
    assert 0 == pull(taker, giver)
    giver.close()
    taker.close()


def test_what_is_lacking_is_read_and_no_more(peer: Peer, other: Peer) -> None:
    """However long the journal, and wherever in it the gap is."""
    other.write(*(Submitted(f"t{n}", TaskSpec("x"), 0.0) for n in range(2000)))
    other.take(body("k", 1), body("k", 2))
    other.write(*(Submitted(f"u{n}", TaskSpec("x"), 0.0) for n in range(2000)))
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    other.connection.set_progress_handler(step, 1)
    page = other.journal.page({"m": 3998}, 0, 10**6)
    other.connection.set_progress_handler(None, 1)
    assert [("k", 1), ("k", 2), ("m", 3999), ("m", 4000)] == [b[:2] for b in page.bodies]
    assert steps < 2000


def test_taking_again_changes_nothing(peer: Peer) -> None:
    """What is held is skipped, also where it comes with something new."""
    assert {"m": 2} == peer.take(body("m", 1), body("m", 2)).have
    before = peer.reads.digest()
    taken = peer.take(body("m", 1), body("m", 2))
    assert ([], {}, "") == (taken.entries, taken.have, taken.refused)
    assert before == peer.reads.digest()
    assert [3] == [n.number for n in peer.take(body("m", 2), body("m", 3)).entries]


def test_a_gap_ends_it(peer: Peer) -> None:
    """What came before is taken; the vector never says more than what is held."""
    taken = peer.take(body("m", 1), body("m", 3), body("k", 1), have={"m": 9})
    assert ({"m": 1}, "entries 2 to 2 of m are missing") == (taken.have, taken.refused)
    assert {"m": 1} == peer.journal.vector()


def test_a_gap_that_was_forgotten(peer: Peer) -> None:
    """Goes up to the sender's floor; with the last page the whole of its vector is held."""
    taken = peer.take(body("m", 4), body("m", 6), floor={"m": 8}, have={"m": 8})
    assert ({"m": 8}, "") == (taken.have, taken.refused)
    assert {"m": 8} == peer.journal.floor()
    assert [4, 6] == [b.number for b in peer.journal.page({}, 0, 10**6).bodies]
    assert {"m": 9} == peer.take(body("m", 9)).have
    assert {} == peer.take(have={"m": 12}, floor={"m": 11}).have  # it was never sent


def test_trimmed_journals_give_the_same(peer: Peer, other: Peer) -> None:
    """A newcomer takes what is left: live tasks, what ended lately, and all tags."""
    other.write(Tagged("m", "t", 1.0))
    for n in range(20):
        task = f"t{n}"
        other.write(Submitted(task, TaskSpec("x"), 0.0), Started(task, 1, "m", 1.0))
        if n % 3:
            other.write(Finished(task, 1, "m", GOOD, True))
    other.write(Submitted("last", TaskSpec("x"), 0.0))
    assert 13 == other.journal.trim(10.0, 100, other.journal.vector())
    other.journal.commit()
    assert 2 + 2 * 7 == pull(peer, other)
    assert other.journal.vector() == peer.journal.vector()
    assert other.journal.floor() == peer.journal.floor()
    assert other.reads.digest() == peer.reads.digest()
    assert ["t"] == peer.reads.tags("m")


def test_only_what_all_hold_is_forgotten(peer: Peer) -> None:
    """An entry that somebody lacks keeps its task; without any word nothing goes."""
    peer.write(Submitted("a", TaskSpec("x"), 0.0), Started("a", 1, "n", 1.0))
    peer.write(Finished("a", 1, "n", GOOD, True), Submitted("b", TaskSpec("x"), 0.0))
    for stable in (None, {}, {"n": 2}):
        assert 0 == peer.journal.trim(10.0, 10, stable)
        peer.journal.commit()
    assert 4 == len(peer.journal.page({}, 0, 10**6).bodies)
    assert 1 == peer.journal.trim(10.0, 10, {"n": 3})
    peer.journal.commit()
    assert ({"n": 3}, {"n": 4}) == (peer.journal.floor(), peer.journal.vector())


def test_what_belongs_to_no_task_is_kept_for_those_who_lack_it(peer: Peer) -> None:
    """A tag that was taken away and given again goes only when all have heard of it."""
    peer.write(Tagged("n", "t", 1.0), Tagged("n", "t", 2.0), Submitted("a", TaskSpec("x"), 0.0))
    for stable, expected in (({}, [1, 2, 3]), ({"n": 1}, [2, 3])):
        peer.journal.trim(10.0, 10, stable)
        peer.journal.commit()
        assert expected == [body.number for body in peer.journal.page({}, 0, 10**6).bodies]


def test_what_is_no_entry(peer: Peer) -> None:
    """It is named, and nothing of what came with it is taken."""
    peer.take(body("m", 1))
    for text in (b"", b"{}", b'{"kind":"cancelled","task":1,"at":1.0}', b"[]", b'{"kind":7}'):
        with pytest.raises(ProtocolError, match="entry 3 of m can't be read"):
            peer.take(body("m", 2), Body("m", 3, text))
    for bad in (body("", 3), body("m", 0), body("m", 1 << 60), body("m" * 100, 1)):
        with pytest.raises(ProtocolError, match="no place for an entry"):
            peer.take(body("m", 2), bad)
    assert {"m": 1} == peer.journal.vector()


@pytest.mark.parametrize(
    "text",
    [
        b'{"kind":"cancelled","task":"\xff","at":1.0}',
        b'{"kind":"cancelled","task":' + b"[" * 100_000,
        b'{"kind":"cancelled","task":"a","at":1.0,"new":' + b"[" * 100_000,
        b'{"kind":"weighed","by":"\xff"}',
    ],
    ids=["no UTF-8", "deep", "deep where nobody looks", "no UTF-8 in an unknown kind"],
)
def test_text_that_no_reader_takes(peer: Peer, text: bytes) -> None:
    """It is as little an entry as any other nonsense; a kind that is not known may hold it."""
    if b"weighed" in text:
        assert {"m": 1} == peer.take(Body("m", 1, text)).have
        return
    with pytest.raises(ProtocolError, match="can't be read"):
        peer.take(Body("m", 1, text))
    assert {} == peer.journal.vector()


SENSELESS = (
    '"spec":{"command":"x","count":-1}',
    '"spec":{"command":"x","count":10000001}',
    '"spec":{"command":"x","items":[]}',
    '"spec":{"command":"x","only":[-1]}',
    '"spec":{"command":"x","cpus":-1}',
    '"spec":{"command":"x","memory":-1}',
    '"spec":{"command":"x","memory":9223372036854775808}',
    '"spec":{"command":"x","resources":{"gpu":-1}}',
    '"spec":{"command":"x","retries":-1}',
    '"spec":{"command":"x","retry_delay":-1}',
    '"spec":{"command":"x","on_loss":"retry\\n"}',
    '"spec":{"command":"x","on_loss":"perhaps"}',
    '"spec":{"command":"x","after":[{"id":"b","when":"never"}]}',
)


@pytest.mark.parametrize("spec", SENSELESS)
def test_a_task_that_makes_no_sense(peer: Peer, spec: str) -> None:
    """No door would have taken it in: nor does anybody take it over."""
    text = f'{{"kind":"submitted","task":"a","at":0,{spec}}}'.encode()
    with pytest.raises(ProtocolError, match="can't be read"):
        peer.take(Body("m", 1, text))


@pytest.mark.parametrize(
    "fields",
    [
        '"started","task":"a","node":"m","at":0,"attempt":0',
        '"started","task":"a","node":"m","at":0,"attempt":2147483649',
        '"finished","task":"a","node":"m","outcome":{"started_at":0,"finished_at":0},"final":true,'
        '"attempt":-1',
        '"lost","task":"a","node":"m","at":0,"suspicion":"","attempt":0',
        '"held","task":"a","at":0,"revision":-1',
        '"released","task":"a","at":0,"revision":9007199254740993',
        '"released","task":"a","at":0,"revision":1,"attempt":-1',
        '"kept","task":"a","attempt":1,"node":"m","stream":"stdout","size":-1',
    ],
)
def test_a_number_that_nothing_can_have(peer: Peer, fields: str) -> None:
    """Attempts, revisions and sizes have bounds, far from what a table can hold."""
    with pytest.raises(ProtocolError, match="can't be read"):
        peer.take(Body("m", 1, f'{{"kind":{fields}}}'.encode()))


def test_numbers_that_cannot_be_stored(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should one get past the bounds: what was written in the same transaction before stays."""
    peer.journal.write([Submitted("mine", TaskSpec("x"), 0.0)])
    huge = Body("m", 2, b"")
    unbounded = Started("a1", 1 << 63, "m", 0.0)
    read = journal.decode
    monkeypatch.setattr(journal, "decode", lambda text: read(text) if text else unbounded)
    with pytest.raises(ProtocolError, match="can't be stored"):
        peer.journal.take([body("m", 1), huge])
    peer.journal.commit()
    assert ({"n": 1}, ["mine"]) == (peer.journal.vector(), [task.task for task in peer.live()])
    assert {"m": 1} == peer.take(body("m", 1)).have


def test_a_kind_that_is_not_known_yet(peer: Peer, other: Peer) -> None:
    """A newer version wrote it: it is kept and passed on as it is, and joins nothing."""
    strange = Body("k", 2, b'{"kind":"weighed","task":"a1","grams":5}')
    taken = peer.take(body("k", 1), strange, body("k", 3))
    assert ([1, 3], {"k": 3}) == ([n.number for n in taken.entries], taken.have)
    assert 3 == pull(other, peer)
    assert strange in other.journal.page({}, 0, 10**6).bodies


def test_an_entry_about_a_task_that_is_forgotten(peer: Peer) -> None:
    """It is passed on like any other, and makes nothing."""
    late = Body("m", 1, encode(Finished("gone", 1, "m", GOOD, True)))
    peer.take(late, Body("m", 2, encode(Cancelled("gone.3", 1.0))))
    assert [] == peer.reads.attempts("gone") + peer.reads.attempts("gone.3")
    assert late in peer.journal.page({}, 0, 10**6).bodies


def test_a_rollback_forgets_what_was_taken(peer: Peer) -> None:
    """Entries, vector, and the node that was new."""
    peer.journal.take([body("m", 1)])
    assert {"m": 1} == peer.journal.vector()
    peer.journal.rollback()
    assert {} == peer.journal.vector()
    assert {"m": 1} == peer.take(body("m", 1)).have


def test_the_vector_outlives_the_process(tmp_path: Path) -> None:
    """A commit makes it durable, with the floor and this node's own number."""
    opened = open_database(tmp_path / "db", first_start=True)
    journal = Journal(opened.connection, opened.node)
    journal.write([Submitted("a", TaskSpec("x"), 0.0)])
    journal.take([body("m", 5)], {"m": 4})
    journal.commit()
    opened.connection.close()
    again = open_database(tmp_path / "db", first_start=False)
    journal = Journal(again.connection, again.node)
    assert {again.node: 1, "m": 5} == journal.vector()
    assert ({"m": 4}, 1) == (journal.floor(), journal.number)
    again.connection.close()
