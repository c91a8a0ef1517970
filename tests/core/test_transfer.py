"""One blob being fetched: what is asked of whom, and what follows when it goes wrong."""

from __future__ import annotations

from leoronic.core.effects import Send
from leoronic.core.file_effects import BeginPart, FinishPart, PartFailed, Progress, PullChunk
from leoronic.core.file_outbox import FileOutbox
from leoronic.core.peer import AskChunks, ChunkPlan
from leoronic.core.transfer import (
    AVOID_S,
    BACKOFF_S_MAX,
    BEGIN_TRIES_MAX,
    GIVE_UP_S,
    LOST_ROUNDS,
    PLAN_AGAIN_S_MAX,
    PLAN_S,
    PULL_S,
    Stage,
    Transfer,
)
from tests.core.stores import ME, A, B, C, bits, blob

DIGEST, LIST = blob(20)
PEERS = (A, B, C)


class Fetch:
    """A transfer, and what it says."""

    def __init__(self, digest: str = DIGEST) -> None:
        self.out = FileOutbox(ME)
        self.transfer = Transfer(digest, self.out)

    def take(self) -> list[Send]:
        """All that it said but log lines."""
        return [effect for effect in self.out.take() if isinstance(effect, Send)]

    def messages(self, kind: type) -> list[object]:
        """What of this kind it said; the rest is forgotten."""
        return [
            e.message for e in self.take() if isinstance(e, Send) and isinstance(e.message, kind)
        ]

    def asked(self) -> list[str]:
        """Whom it asked for chunks."""
        return [e.to[-12:] for e in self.take() if "@" in e.to]

    def ready(self, *holders: str) -> None:
        """These have it; it is its turn."""
        for node in holders:
            self.transfer.hear(node, here=True)
        self.transfer.start()

    def plan(self, *chunks: tuple[int, str], node: str = A, with_list: bool = False) -> None:
        """The tracker answers."""
        more = (LIST.algorithm, LIST.size, LIST.chunk_bytes) if with_list else ("", 0, 0)
        self.transfer.plan(
            ChunkPlan(
                node,
                blob=LIST.digests if with_list else b"",
                digest=DIGEST,
                chunks=list(chunks),
                algorithm=more[0],
                size=more[1],
                chunk_bytes=more[2],
            ),
            PEERS,
        )

    def fetching(self, have: int = 0, *chunks: tuple[int, str]) -> None:
        """A is the tracker, the part is begun, and these are under way."""
        self.ready(A, B)
        self.plan(*(chunks or ((0, A), (1, B))), with_list=True)
        self.transfer.begun(have)

    def wake(self, after_s: float) -> bool:
        """So much later it is due."""
        self.out.now += after_s
        return self.transfer.wake()


def test_the_first_in_ring_order_from_the_digest_is_the_tracker() -> None:
    """All who fetch it ask the same one."""
    for holders in ((A, B, C), (C, B, A)):
        fetch = Fetch("s2:" + "b" * 11 + "a" + "0" * 52)
        fetch.ready(*holders)
        assert [B] == fetch.asked()


def test_a_blob_is_fetched() -> None:
    """List, part, chunks, end."""
    fetch = Fetch()
    fetch.ready(A)
    assert [AskChunks(ME, digest=DIGEST, list_wanted=True)] == fetch.messages(AskChunks)
    fetch.plan((0, A), (1, B), with_list=True)
    assert [Send("blobs", BeginPart(DIGEST, LIST))] == fetch.take()
    fetch.transfer.begun(0)
    pulls = [PullChunk(DIGEST, 0, A), PullChunk(DIGEST, 1, B)]
    assert [Send("bulk", pull) for pull in pulls] == fetch.take()[:2]
    for index in range(20):
        fetch.transfer.came(index)
    assert [FinishPart(DIGEST)] == fetch.messages(FinishPart)
    fetch.transfer.finished()
    assert Stage.HERE is fetch.transfer.stage


def test_who_has_all_tells_the_tracker() -> None:
    """So that others are sent to it at once."""
    fetch = Fetch()
    fetch.fetching((1 << 20) - 2)
    fetch.take()
    fetch.transfer.came(0)
    [told] = fetch.messages(AskChunks)
    assert bits(*range(20)) == told.blob  # type: ignore[attr-defined]


def test_an_empty_blob_needs_no_chunk() -> None:
    """Its list is all there is."""
    digest, found = blob(0)
    fetch = Fetch(digest)
    fetch.ready(A)
    fetch.transfer.plan(ChunkPlan(A, digest=digest, algorithm="s2", chunk_bytes=16), PEERS)
    assert [BeginPart(digest, found)] == fetch.messages(BeginPart)
    fetch.transfer.begun(0)
    assert [FinishPart(digest)] == fetch.messages(FinishPart)


def test_what_an_earlier_try_left_is_not_fetched_again() -> None:
    """A transfer that was cut goes on where it stopped."""
    fetch = Fetch()
    fetch.fetching(0b1)
    assert [PullChunk(DIGEST, 1, B)] == fetch.messages(PullChunk)
    assert Progress(16, 320) == fetch.transfer.progress()


def test_a_holder_that_does_not_deliver_is_avoided() -> None:
    """The tracker is told, and says another."""
    fetch = Fetch()
    fetch.fetching()
    fetch.plan()
    fetch.take()
    fetch.transfer.missed(1, B, "no room", corrupt=False)
    [question] = fetch.messages(AskChunks)
    assert [B] == question.avoid  # type: ignore[attr-defined]
    assert [0] == question.pulling  # type: ignore[attr-defined]


def test_a_tracker_that_does_not_deliver_is_replaced() -> None:
    """By the next that has the blob whole."""
    fetch = Fetch()
    fetch.fetching()
    fetch.take()
    fetch.transfer.missed(0, A, "it came damaged", corrupt=True)
    assert [B] == fetch.asked()


def test_a_tracker_that_does_not_answer_is_replaced() -> None:
    """After a while."""
    fetch = Fetch()
    fetch.ready(A, B)
    fetch.take()
    assert PLAN_S == fetch.transfer.due
    fetch.wake(PLAN_S)
    assert [B] == fetch.asked()


def test_a_tracker_that_is_gone_is_replaced() -> None:
    """At once; what was under way from it is asked of others."""
    fetch = Fetch()
    fetch.fetching()
    fetch.take()
    fetch.transfer.lose(A)
    [question] = fetch.messages(AskChunks)
    assert [1] == question.pulling  # type: ignore[attr-defined]


def test_a_tracker_without_the_blob_is_replaced() -> None:
    """It may have been removed there since."""
    fetch = Fetch()
    fetch.ready(A, B)
    fetch.take()
    fetch.transfer.plan(ChunkPlan(A, digest=DIGEST, known=False), PEERS)
    assert [B] == fetch.asked()


def test_lists_that_make_no_sense_are_not_taken() -> None:
    """Nor those with another name, which the disk finds out."""
    bad = [("b3", 320, 16), ("s2", 321, 16), ("s2", 320, 0), ("s2", 1 << 53, 1)]
    for algorithm, size, chunk_bytes in bad:
        fetch = Fetch()
        fetch.ready(A, B)
        fetch.take()
        told = ChunkPlan(
            A,
            blob=LIST.digests,
            digest=DIGEST,
            algorithm=algorithm,
            size=size,
            chunk_bytes=chunk_bytes,
        )
        fetch.transfer.plan(told, PEERS)
        assert [B] == fetch.asked()
    fetch = Fetch()
    fetch.ready(A, B)
    fetch.plan(with_list=True)
    fetch.take()
    fetch.transfer.part_failed(PartFailed(DIGEST, "another's", wrong_list=True))
    assert [B] == fetch.asked()
    assert fetch.transfer.list is None


def test_chunks_that_there_are_not_are_not_fetched() -> None:
    """Nor more at once than is fetched at once, whatever the tracker says."""
    fetch = Fetch()
    fetch.ready(A)
    fetch.plan((20, A), (65_535, A), *((n, A) for n in range(20)), with_list=True)
    fetch.transfer.begun(0)
    assert [PullChunk(DIGEST, n, A) for n in range(8)] == fetch.messages(PullChunk)
    fetch.transfer.came(65_535)
    fetch.transfer.missed(65_535, A, "", corrupt=False)
    assert Progress(0, 320) == fetch.transfer.progress()


def test_chunks_are_not_fetched_from_who_cannot_be_reached() -> None:
    """The tracker is told, so that it names another."""
    fetch = Fetch()
    fetch.ready(A)
    fetch.plan((0, "nobody"), (1, ME), (2, B), with_list=True)
    fetch.transfer.begun(0)
    effects = fetch.take()
    assert [PullChunk(DIGEST, 2, B)] == [e.message for e in effects if e.to == "bulk"]
    questions = [e.message for e in effects if isinstance(e.message, AskChunks)]
    assert ["555555555555", "nobody"] == questions[-1].avoid


def test_when_nobody_delivers_it_is_sought_again_and_given_up() -> None:
    """With the last reason."""
    fetch = Fetch()
    fetch.ready(A)
    fetch.plan((0, A), with_list=True)
    fetch.transfer.begun(0)
    fetch.transfer.missed(0, A, "it came damaged", corrupt=False)
    assert Stage.SEEKING is fetch.transfer.stage
    assert fetch.wake(1.0)
    fetch.transfer.sought([A])
    fetch.transfer.hear(A, here=True)
    assert Stage.SEEKING is fetch.transfer.stage
    fetch.wake(AVOID_S)
    assert Stage.WAITING is fetch.transfer.stage
    fetch.transfer.start()
    fetch.transfer.plan(ChunkPlan(A, digest=DIGEST, known=False), PEERS)
    fetch.wake(GIVE_UP_S)
    assert Stage.FAILED is fetch.transfer.stage
    assert f"{A} does not deliver it: it came damaged" == fetch.transfer.reason


def test_who_has_it_is_asked_ever_more_seldom() -> None:
    """Until it is given up."""
    fetch = Fetch()
    waits = []
    while fetch.transfer.wake():
        fetch.transfer.sought([A])
        fetch.transfer.hear(A, here=False)
        assert fetch.transfer.due is not None
        waits.append(fetch.transfer.due - fetch.out.now)
        fetch.out.now = fetch.transfer.due
    assert [1.0, 2.0, 4.0, BACKOFF_S_MAX] == waits[:4]
    assert GIVE_UP_S <= fetch.out.now < GIVE_UP_S + BACKOFF_S_MAX
    assert "no node that can be reached has it" == fetch.transfer.reason
    assert not fetch.transfer.lost


def test_what_all_nodes_say_that_they_do_not_have_is_lost() -> None:
    """Some times in turn, each of them, while all are there."""
    fetch = Fetch()
    fetch.transfer.see(all_there=True)
    rounds = 0
    while fetch.transfer.wake():
        rounds += 1
        fetch.transfer.sought([A, B])
        fetch.transfer.hear(A, here=False)
        if rounds != 2:  # Then one does not answer.
            fetch.transfer.hear(B, here=False)
        assert fetch.transfer.due is not None
        fetch.out.now = fetch.transfer.due
    assert (True, "no node has it") == (fetch.transfer.lost, fetch.transfer.reason)
    assert 2 + LOST_ROUNDS == rounds


def test_the_wait_for_its_turn_is_no_failure() -> None:
    """Only what happens afterwards counts."""
    fetch = Fetch()
    fetch.transfer.hear(A, here=True)
    fetch.out.now += 10 * GIVE_UP_S
    fetch.transfer.start()
    fetch.transfer.plan(ChunkPlan(A, digest=DIGEST, known=False), PEERS)
    assert fetch.wake(1.0)
    assert Stage.SEEKING is fetch.transfer.stage


def test_a_chunk_that_does_not_come_for_very_long_is_asked_of_another() -> None:
    """Even if the connections have forgotten it."""
    fetch = Fetch()
    fetch.fetching(0, (1, B))
    fetch.plan()
    fetch.take()
    fetch.wake(PULL_S)
    questions = fetch.messages(AskChunks)
    assert [B] == questions[-1].avoid  # type: ignore[attr-defined]


def test_what_is_damaged_at_the_end_is_fetched_again() -> None:
    """But not for ever."""
    fetch = Fetch()
    fetch.fetching((1 << 20) - 1)
    for _ in range(BEGIN_TRIES_MAX - 1):
        assert [FinishPart(DIGEST)] == fetch.messages(FinishPart)
        fetch.transfer.part_failed(PartFailed(DIGEST, "damaged"))
        fetch.transfer.begun((1 << 20) - 1)
    fetch.transfer.part_failed(PartFailed(DIGEST, "damaged"))
    assert (Stage.FAILED, "damaged") == (fetch.transfer.stage, fetch.transfer.reason)


def test_without_room_it_is_given_up_at_once() -> None:
    """Others can do nothing about that."""
    fetch = Fetch()
    fetch.ready(A, B)
    fetch.plan(with_list=True)
    fetch.transfer.part_failed(PartFailed(DIGEST, "no room"))
    assert (Stage.FAILED, "no room") == (fetch.transfer.stage, fetch.transfer.reason)


def test_while_others_have_it_under_way_the_tracker_is_asked_ever_more_seldom() -> None:
    """Until it names somebody; it is given up if it never does."""
    fetch = Fetch()
    fetch.ready(A)
    fetch.plan(with_list=True)
    fetch.transfer.begun(0)
    waits = []
    while fetch.transfer.stage is Stage.FETCHING:
        assert fetch.transfer.due is not None
        waits.append(fetch.transfer.due - fetch.out.now)
        fetch.wake(waits[-1])
        fetch.plan()
    assert waits[0] < waits[1] < waits[4] <= PLAN_AGAIN_S_MAX == waits[-1]
    assert GIVE_UP_S <= fetch.out.now <= GIVE_UP_S + PLAN_AGAIN_S_MAX
    assert Stage.FAILED is fetch.transfer.stage
