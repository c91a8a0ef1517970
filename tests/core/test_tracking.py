"""The tracker of a blob: each chunk goes out once from the origin, then from who has it."""

from __future__ import annotations

import pytest

from leoronic.core.peer import AskChunks, ChunkPlan
from leoronic.core.tracking import ASKER_S, ASKERS_MAX, HANDED_S, Tracked
from leoronic.core.transfer import AT_ONCE
from tests.core.stores import ME, A, B, C, bits, blob

DIGEST, LIST = blob(20)


@pytest.fixture
def tracked() -> Tracked:
    return Tracked(ME, DIGEST, LIST)


def ask(node: str, have: tuple[int, ...] = (), **more: object) -> AskChunks:
    """A question for chunks."""
    return AskChunks(node, blob=bits(*have), digest=DIGEST, **more)  # type: ignore[arg-type]


def handed(plan: ChunkPlan) -> dict[int, str]:
    """Of each chunk, whom it is to come from."""
    return dict(plan.chunks)


def test_each_chunk_is_handed_out_once(tracked: Tracked) -> None:
    """Whoever asks next gets others."""
    first = handed(tracked.answer(ask(A), 0.0))
    second = handed(tracked.answer(ask(B), 0.0))
    third = handed(tracked.answer(ask(C), 0.0))
    assert [8, 8, 4] == [len(first), len(second), len(third)]
    assert {*range(20)} == {*first, *second, *third}
    assert {ME} == {*first.values(), *second.values(), *third.values()}


def test_who_asks_later_is_sent_to_who_has_it(tracked: Tracked) -> None:
    """The origin sends it no second time."""
    tracked.answer(ask(A), 0.0)
    tracked.answer(ask(B, pulling=list(range(8, 16))), 0.0)
    tracked.answer(ask(A, (*range(8),)), 0.1)
    plan = handed(tracked.answer(ask(C, pulling=[16, 17, 18, 19]), 0.2))
    assert 4 == len(plan)
    assert set(plan) <= set(range(8))
    assert {A} == set(plan.values())


def test_who_lacks_what_is_under_way_to_others_waits(tracked: Tracked) -> None:
    """For a moment, that is told."""
    tracked.answer(ask(A, (*range(8, 20),)), 0.0)
    plan = tracked.answer(ask(B, (*range(8, 20),)), 0.0)
    assert [] == plan.chunks
    assert plan.retry_s > 0


def test_what_did_not_arrive_for_long_is_handed_out_again(tracked: Tracked) -> None:
    """Its asker may be slow, or dead."""
    tracked.answer(ask(A, (*range(8, 20),)), 0.0)
    plan = tracked.answer(ask(B, (*range(8, 20),)), HANDED_S)
    assert dict.fromkeys(range(8), ME) == handed(plan)


@pytest.mark.parametrize("lost", [True, False])
def test_what_an_asker_does_not_fetch_any_more_is_free(tracked: Tracked, lost: bool) -> None:
    """Because it is gone, or says so."""
    tracked.answer(ask(A, (*range(8, 20),)), 0.0)
    if lost:
        tracked.lose(A)
    else:
        tracked.answer(ask(A, (*range(8, 20),), pulling=[0, 1, 2, 3, 4, 5, 6, 7]), 0.1)
        tracked.answer(ask(A, (*range(8, 20),), pulling=[90]), 0.2)
    plan = handed(tracked.answer(ask(B, (*range(8, 20),)), 0.3))
    assert lost == (dict.fromkeys(range(8), ME) == plan)


def test_who_cannot_get_it_from_others_gets_it_from_the_origin(tracked: Tracked) -> None:
    """Those that did not deliver are named in `avoid`."""
    tracked.answer(ask(A, (*range(20),)), 0.0)
    assert {A} == set(handed(tracked.answer(ask(B), 0.0)).values())
    assert {ME} == set(handed(tracked.answer(ask(B, avoid=[A]), 0.0)).values())


def test_those_that_have_it_whole_share_the_work(tracked: Tracked) -> None:
    """Each sends as much as the other."""
    plan = handed(tracked.answer(ask(A, holders=[B]), 0.0))
    assert [4, 4] == [list(plan.values()).count(node) for node in (ME, B)]


def test_nobody_is_sent_to_itself(tracked: Tracked) -> None:
    """Even if it claims to have all."""
    plan = tracked.answer(ask(A, holders=[A], pulling=[0]), 0.0)
    assert {ME} == {node for _, node in plan.chunks}


def test_a_ghost_is_served_by_the_tracker_alone(tracked: Tracked) -> None:
    """It reaches nobody else, and nobody else reaches it."""
    tracked.answer(ask(A, (*range(20),)), 0.0)
    assert {ME} == set(handed(tracked.answer(ask(B, (1, 2)), 0.0, leaf=True)).values())
    assert B not in handed(tracked.answer(ask(C, avoid=[A]), 0.0)).values()


def test_a_small_blob_is_handed_to_all_at_once() -> None:
    """To wait for another copy would take longer than to send it."""
    digest, found = blob(1)
    tracked = Tracked(ME, digest, found)
    for node in (A, B, C):
        assert [(0, ME)] == tracked.answer(AskChunks(node, digest=digest), 0.0).chunks


def test_an_empty_blob_has_no_chunks() -> None:
    """But it has a list."""
    digest, found = blob(0)
    plan = Tracked(ME, digest, found).answer(AskChunks(A, digest=digest, list_wanted=True), 0.0)
    assert ([], 0, 16, b"") == (plan.chunks, plan.size, plan.chunk_bytes, plan.blob)


@pytest.mark.parametrize(
    "question",
    [
        AskChunks(A, digest=DIGEST, blob=b"\xff" * 9000),
        AskChunks(A, digest=DIGEST, pulling=[65_535] * 64),
        AskChunks(A, digest=DIGEST, pulling=[65_535] * 64, blob=b"\0" * 9000),
        AskChunks(A, digest=DIGEST, holders=["nobody"] * 64, avoid=[ME]),
    ],
)
def test_questions_that_make_no_sense_do_no_harm(tracked: Tracked, question: AskChunks) -> None:
    """The answer names only chunks that there are, and the next asker is served."""
    plan = tracked.answer(question, 0.0)
    assert all(index < 20 for index, _ in plan.chunks)
    assert len(plan.chunks) <= AT_ONCE
    assert len(tracked.answer(ask(B, avoid=[A]), 0.0).chunks) >= 4


def test_who_does_not_ask_any_more_is_forgotten(tracked: Tracked) -> None:
    """It may not have the blob any longer."""
    tracked.answer(ask(A, (*range(20),)), 0.0)
    plan = tracked.answer(ask(B), ASKER_S + 1)
    assert {ME} == set(handed(plan).values())


def test_what_is_kept_of_askers_is_bounded() -> None:
    """However many ask, and however much they claim to have."""
    tracked = Tracked(ME, DIGEST, LIST)
    tracked.answer(AskChunks(A, digest=DIGEST, blob=b"\xff" * 1_000_000), 0.0)
    assert tracked._askers[A].have < 1 << 24
    plans = [tracked.answer(ask(f"{n:012x}", holders=[B]), 0.0) for n in range(ASKERS_MAX + 1)]
    assert ASKERS_MAX == len(tracked._askers)
    assert [] == plans[-1].chunks
