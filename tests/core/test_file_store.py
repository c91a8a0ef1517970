"""The file store: what it answers others, the executor and the doors."""

from __future__ import annotations

import msgspec
import pytest

from leoronic.core import file_calls
from leoronic.core.blob import BlobRef, FileRef
from leoronic.core.effects import Asked, Fail, Reply, Send
from leoronic.core.fetches import BLOBS_AT_ONCE
from leoronic.core.file_effects import (
    BeginPart,
    ChunkCame,
    DropFolders,
    DropOtherFolders,
    FetchBlobs,
    FetchState,
    FindUnneeded,
    FoundCorrupt,
    GlobOutputs,
    HereNow,
    ListBlobs,
    ListRead,
    NewNeeds,
    NotAwaited,
    OutputsMade,
    PartBegun,
    PartFinished,
    Pin,
    Place,
    Placed,
    PlaceFailed,
    Progress,
    ReadList,
    RemoveBlobs,
    RoomWanted,
    UnneededTold,
    WhoHas,
)
from leoronic.core.file_jobs import HANDOVER_S, HANDOVER_S_MAX, PLACE_TRIES_MAX
from leoronic.core.file_messages import (
    BlobsFound,
    FilesMissing,
    FilesOf,
    FilesPlaced,
    FilesStarted,
    FindBlobs,
    ForgetFiles,
    KeepOutputs,
    OutputsKept,
    PlaceFiles,
)
from leoronic.core.file_store import (
    COLLECT_S,
    TOLD_S,
    TRACKED_MAX,
    WANTED_MAX,
    FileStoreMachine,
    Start,
)
from leoronic.core.peer import (
    AskChunks,
    BlobsHere,
    ChunkPlan,
    KeepBlobs,
    LinkDown,
    LinkUp,
    SeekBlobs,
    decode,
    encode,
)
from leoronic.core.transfer import GIVE_UP_S
from leoronic.core.view import About, AskView
from leoronic.errors import Refused, Unavailable
from tests.core.stores import KEY, ME, A, B, C, Store, blob, file, view

NOWHERE = "no node that can be reached has it"
ONE, ONE_LIST = blob(1, "one")
TWO, TWO_LIST = blob(1, "two")


def place(*digests: str) -> PlaceFiles:
    """A request for an attempt with these files."""
    return PlaceFiles(KEY, "work/task.1", tuple(file(d, f"f{n}") for n, d in enumerate(digests)))


def deliver(store: Store, digest: str = ONE, node: str = A) -> None:
    """`node` has it, and all goes well."""
    found = ONE_LIST if digest == ONE else TWO_LIST
    store.feed(BlobsHere(node, here=[digest]))
    store.wait(0.1)
    store.feed(
        ChunkPlan(
            node,
            blob=found.digests,
            digest=digest,
            chunks=[(0, node)],
            algorithm="s2",
            size=found.size,
            chunk_bytes=found.chunk_bytes,
        )
    )
    store.feed(PartBegun(digest))
    store.feed(ChunkCame(digest, 0))
    store.feed(PartFinished(digest, found.size))


# ---- starting ----


def test_a_store_that_starts_asks_what_there_is() -> None:
    """The disk, membership, and the executor, which knows what it had asked for."""
    machine = FileStoreMachine(ME)
    told = [(e.to, e.message) for e in machine.handle(Start(), 0.0) if isinstance(e, Send)]
    expected = [
        ("blobs", ListBlobs()),
        ("membership", AskView("file_store")),
        ("runner", FilesStarted()),
    ]
    assert expected == told


def test_who_asks_before_the_disk_has_told_waits() -> None:
    """Nothing is fetched that is here, and nobody is told that something is missing."""
    machine = FileStoreMachine(ME)
    machine.handle(Start(), 0.0)
    machine.handle(view(A), 0.0)
    assert [] == machine.handle(place(ONE), 0.0)
    assert [] == machine.handle(SeekBlobs(A, [ONE]), 0.0)
    effects = machine.handle(HereNow((BlobRef(ONE, 1),), whole=True), 0.0)
    assert [Send("blobs", Place(*place(ONE)))] == effects[:1]


# ---- others ----


def test_others_are_told_what_is_here() -> None:
    """What is here, and what is not."""
    store = Store(A, here=(ONE,))
    store.feed(SeekBlobs(A, [ONE, TWO, ONE]))
    assert [BlobsHere(ME, here=[ONE], missing=[TWO])] == store.told(A, BlobsHere)


@pytest.mark.parametrize("question", [SeekBlobs(A, [ONE], want=True), KeepBlobs(A, [ONE])])
def test_what_others_want_here_is_fetched(question: SeekBlobs | KeepBlobs) -> None:
    """They hear when it has come."""
    store = Store(A, B)
    store.feed(question)
    assert [BlobsHere(ME, coming=[ONE])] == store.told(A, BlobsHere)
    deliver(store)
    assert [BlobsHere(ME, here=[ONE])] == store.told(A, BlobsHere)


def test_who_wants_it_here_hears_that_it_cannot_be_had() -> None:
    """With the reason."""
    store = Store(A, B)
    store.feed(SeekBlobs(A, [ONE], want=True))
    store.take(BlobsHere)
    store.wait(GIVE_UP_S + 10)
    assert [BlobsHere(ME, missing=[ONE], reason=NOWHERE)] == store.told(A, BlobsHere)


def test_who_says_that_it_holds_a_blob_is_asked_for_it() -> None:
    """Nobody is asked who has it; it may be a ghost, which is in no view."""
    store = Store(B)
    store.feed(KeepBlobs(A, [ONE]))
    assert [AskChunks(ME, digest=ONE, list_wanted=True)] == store.told(A, AskChunks)


def test_others_cannot_fill_this_node_with_wishes() -> None:
    """There is room left for what it wants itself."""
    store = Store(A)
    for n in range(WANTED_MAX // 256 + 4):
        store.feed(SeekBlobs(A, [f"s2:{n * 256 + i:064x}" for i in range(256)], want=True))
    told = store.told(A, BlobsHere)
    assert WANTED_MAX == sum(len(one.coming) for one in told)
    assert "too many files are being fetched already" == told[-1].reason
    store.said.clear()
    store.feed(place(ONE))
    assert [] == store.take(FilesMissing)


def test_a_blob_is_tracked_once_its_list_is_read() -> None:
    """From then on its askers are answered at once."""
    store = Store(A, B, here=(ONE,))
    store.feed(AskChunks(A, digest=ONE, list_wanted=True))
    store.feed(AskChunks(B, digest=ONE))
    assert [ReadList(ONE)] == store.take(ReadList)
    store.feed(ListRead(ONE, ONE_LIST))
    [plan] = store.told(A, ChunkPlan)
    assert (ONE_LIST.digests, ONE_LIST.size, [(0, ME)]) == (plan.blob, plan.size, plan.chunks)
    assert [[(0, ME)]] == [plan.chunks for plan in store.told(B, ChunkPlan)]
    store.feed(AskChunks(B, digest=ONE))
    assert 1 == len(store.told(B, ChunkPlan))


def test_who_asks_for_chunks_of_what_is_not_here_is_told() -> None:
    """Also if the list turns out to be damaged, or the blob has gone since."""
    store = Store(A, here=(TWO,))
    store.feed(AskChunks(A, digest=ONE))
    store.feed(AskChunks(A, digest=TWO))
    store.feed(ListRead(TWO, None))
    store.feed(HereNow(gone=(TWO,)))
    store.feed(AskChunks(A, digest=TWO))
    assert [False] * 3 == [plan.known for plan in store.told(A, ChunkPlan)]


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"AskChunks","node":"a","digest":"../../etc/passwd"}',
        '{"type":"AskChunks","node":"a","digest":"%s","pulling":[-1]}',
        '{"type":"AskChunks","node":"a","digest":"%s","pulling":[65536]}',
        '{"type":"AskChunks","node":"a","digest":"%s","pulling":[%s]}',
        '{"type":"AskChunks","node":"a","digest":"%s","holders":["%s"]}',
        '{"type":"ChunkPlan","node":"a","digest":"%s","chunks":[[65536,"a"]]}',
        '{"type":"ChunkPlan","node":"a","digest":"%s","chunks":[[-1,"a"]]}',
        '{"type":"ChunkPlan","node":"a","digest":"%s","retry_s":1e9}',
        '{"type":"ChunkPlan","node":"a","digest":"%s","retry_s":-1}',
        '{"type":"ChunkPlan","node":"a","digest":"%s","size":-1}',
        '{"type":"ChunkPlan","node":"a","digest":"%s","chunk_bytes":1e300}',
        '{"type":"SeekBlobs","node":"a","digests":["%s"%s]}',
        '{"type":"BlobsHere","node":"a","here":["b3:00"]}',
        '{"type":"BlobsHere","node":"a","reason":"%s%s"}',
    ],
)
def test_values_that_cannot_be_are_no_message(text: str) -> None:
    """Their sender is cut off."""
    fills = {
        '"pulling":[%s]': (ONE, ",".join(["1"] * 65)),
        '"holders":["%s"]': (ONE, "x" * 65),
        '"digests":["%s"%s]': (ONE, f',"{ONE}"' * 256),
        '"reason":"%s%s"': ("x" * 500, "x"),
    }
    values = next((v for part, v in fills.items() if part in text), (ONE,))
    with pytest.raises(msgspec.ValidationError):
        decode((text % values[: text.count("%s")]).encode())


def test_answers_that_nobody_asked_for_do_no_harm() -> None:
    """Late ones, or lies."""
    store = Store(A, here=(TWO,))
    store.feed(place(ONE))
    for message in (
        BlobsHere(B, here=[ONE, TWO], coming=[ONE], missing=[ONE]),
        ChunkPlan(B, digest=ONE, chunks=[(65_535, "nobody")]),
        ChunkPlan(A, digest=TWO, known=False),
        ChunkCame(ONE, 65_535),
        ListRead(ONE, None),
        KeepBlobs(ME, [TWO]),
        LinkDown(B),
        LinkUp(C, About("c", "0", 1), "", 1),
    ):
        sent, _ = encode(message) if hasattr(message, "__struct_fields__") else (b"", b"")
        assert isinstance(sent, bytes)
        store.feed(message)
    deliver(store)
    assert [Place(*place(ONE))] == store.take(Place)


# ---- placing ----


def test_files_that_are_here_are_placed_at_once() -> None:
    """The executor hears when they are; asked again, it hears it again."""
    store = Store(A, here=(ONE,))
    store.feed(place(ONE))
    assert [Place(*place(ONE))] == store.take(Place)
    store.feed(place(ONE))
    assert [] == store.said
    store.feed(Placed(KEY))
    store.feed(place(ONE))
    assert [FilesPlaced(KEY)] * 2 == store.take(FilesPlaced)
    assert [] == store.take(Place)


def test_files_that_are_missing_are_fetched_first() -> None:
    """Nothing is placed before all are here, and others are asked with one message."""
    store = Store(A, B)
    store.feed(place(ONE, TWO))
    assert [[SeekBlobs(ME, sorted([ONE, TWO]))]] * 2 == [store.told(n, SeekBlobs) for n in (A, B)]
    deliver(store, ONE)
    assert [] == store.take(Place)
    deliver(store, TWO)
    assert [Place(*place(ONE, TWO))] == store.take(Place)


def test_files_that_cannot_be_had_are_told_with_their_name() -> None:
    """So that the task is tried elsewhere, or later."""
    store = Store(A)
    store.feed(place(ONE))
    store.wait(GIVE_UP_S + 10)
    assert [FilesMissing(KEY, f"f0: {NOWHERE}")] == store.take(FilesMissing)


def test_files_that_no_node_has_are_lost() -> None:
    """That is known soon, if all nodes that there are say so; not while one is out of reach."""
    for peers, lost in ((view(A), True), (view(A, away=(B,)), False)):
        store = Store(A)
        store.feed(peers)
        store.feed(place(ONE))
        for _ in range(20):
            if store.told(A, SeekBlobs):
                store.feed(BlobsHere(A, missing=[ONE]))
            store.wait(0.5)
        told = [FilesMissing(KEY, "f0: no node has it", lost=True)]
        assert (told if lost else []) == store.take(FilesMissing)


def test_a_file_that_another_fetches_is_not_lost() -> None:
    """It may reach whom this node does not."""
    store = Store(A)
    store.feed(place(ONE))
    for _ in range(20):
        if store.told(A, SeekBlobs):
            store.feed(BlobsHere(A, coming=[ONE]))
        store.wait(0.5)
    assert [] == store.take(FilesMissing)


def test_a_file_of_which_nothing_is_known_is_missing() -> None:
    """Its task has not left it."""
    store = Store(A)
    store.feed(PlaceFiles(KEY, "work", (FileRef("task:7/out", "out"),)))
    assert [KEY] == [missing.key for missing in store.take(FilesMissing)]


def test_what_turns_out_to_be_damaged_is_fetched_again() -> None:
    """A few times."""
    store = Store(A, here=(ONE,))
    store.feed(place(ONE))
    for _ in range(PLACE_TRIES_MAX - 1):
        assert 1 == len(store.take(Place))
        store.feed(PlaceFailed(KEY, "it is damaged", (ONE,)))
        assert [] == store.take(Place)
        deliver(store)
    store.feed(PlaceFailed(KEY, "it is damaged", (ONE,)))
    assert [FilesMissing(KEY, "it is damaged")] == store.take(FilesMissing)


def test_an_attempt_that_is_forgotten_is_not_placed() -> None:
    """Its folder goes, and nobody hears of it any more."""
    store = Store(A)
    store.feed(place(ONE))
    store.feed(ForgetFiles((KEY,)))
    assert [DropFolders((KEY,))] == store.take(DropFolders)
    deliver(store)
    assert [] == store.take(Place)


def test_attempts_that_the_executor_does_not_have_are_left_over() -> None:
    """From an earlier life: their folders go, and what they held is free."""
    store = Store(A, here=(ONE,))
    store.feed(place(ONE))
    store.feed(FilesOf((("other", 1),)))
    assert [DropOtherFolders((("other", 1),))] == store.take(DropOtherFolders)
    store.feed(Placed(KEY))
    assert [] == store.take(FilesPlaced)


def test_few_blobs_are_fetched_at_once() -> None:
    """The others wait for their turn, and none is forgotten."""
    digests = [blob(1, str(n))[0] for n in range(10)]
    store = Store(A)
    store.feed(place(*digests))
    store.feed(BlobsHere(A, here=digests))
    assert digests[:BLOBS_AT_ONCE] == [one.digest for one in store.told(A, AskChunks)]
    for digest in digests:
        store.feed(PartFinished(digest, 1))
    assert 1 == len(store.take(Place))


# ---- keeping ----


def test_outputs_become_blobs() -> None:
    """The executor hears of them, again if it asks again, until it has forgotten the attempt."""
    store = Store(A)
    request = KeepOutputs(KEY, "/work", ("*.txt",))
    store.feed(request)
    store.feed(request)
    assert [GlobOutputs(*request)] == store.take(GlobOutputs)
    store.feed(OutputsMade(KEY, (file(ONE),), ("x: too big",)))
    store.feed(request)
    assert [OutputsKept(KEY, (file(ONE),), ("x: too big",))] * 2 == store.take(OutputsKept)
    store.feed(SeekBlobs(A, [ONE]))
    assert [[ONE]] == [told.here for told in store.told(A, BlobsHere)]


# ---- ghosts ----


def test_a_ghost_has_what_it_lacks_fetched_by_its_clairvoyant() -> None:
    """And waits for as long as that does."""
    store = Store(A, ghost=True)
    store.feed(place(ONE))
    assert [SeekBlobs(ME, [ONE], want=True)] == store.told(A, SeekBlobs)
    for _ in range(5):
        store.feed(BlobsHere(A, coming=[ONE]))
        store.wait(GIVE_UP_S / 2)
    assert [] == store.take(FilesMissing)
    store.feed(BlobsHere(A, missing=[ONE], reason="no node has it"))
    assert [FilesMissing(KEY, "f0: no node has it")] == store.take(FilesMissing)


def test_what_a_ghost_leaves_is_kept_once_its_clairvoyant_has_it() -> None:
    """It is told again and again; another clairvoyant is told as well."""
    store = Store(A, ghost=True)
    store.feed(KeepOutputs(KEY, "/work", ("*",)))
    store.feed(OutputsMade(KEY, (file(ONE),)))
    store.wait(5)
    assert 2 <= len(store.told(A, KeepBlobs)) <= 4
    store.feed(KeepOutputs(KEY, "/work", ("*",)))
    assert [] == store.take(OutputsKept)
    store.feed(view(B))
    store.wait(0.1)
    assert [KeepBlobs(ME, [ONE])] == store.told(B, KeepBlobs)
    store.feed(BlobsHere(B, here=[ONE]))
    assert [OutputsKept(KEY, (file(ONE),))] == store.take(OutputsKept)
    store.wait(5)
    assert [] == store.take(KeepBlobs)


def test_what_nobody_takes_from_a_ghost_is_told_as_a_problem() -> None:
    """The task ends nevertheless."""
    store = Store(A, ghost=True)
    store.feed(KeepOutputs(KEY, "/work", ("*",)))
    store.feed(OutputsMade(KEY, (file(ONE),)))
    store.wait(HANDOVER_S + 5)
    [kept] = store.take(OutputsKept)
    assert ((), ("f: no other node has taken it",)) == (kept.outputs, kept.problems)


def test_a_ghost_without_a_node_keeps_what_it_has_to_hand_over() -> None:
    """Time counts from when there is somebody again."""
    store = Store(ghost=True)
    store.feed(KeepOutputs(KEY, "/work", ("*",)))
    store.feed(OutputsMade(KEY, (file(ONE),)))
    store.wait(2 * HANDOVER_S)
    store.feed(view(B))
    store.wait(HANDOVER_S - 5)
    assert [] == store.take(OutputsKept)
    store.wait(10)
    assert 1 == len(store.take(OutputsKept))


def test_what_is_fetched_from_a_ghost_may_take_longer() -> None:
    """But not for ever."""
    store = Store(A, ghost=True)
    store.feed(KeepOutputs(KEY, "/work", ("*",)))
    store.feed(OutputsMade(KEY, (file(ONE),)))
    waited = 0.0
    while not store.take(OutputsKept):
        store.feed(AskChunks(A, digest=ONE))
        store.wait(HANDOVER_S / 2)
        waited += HANDOVER_S / 2
    assert HANDOVER_S_MAX <= waited <= HANDOVER_S_MAX + HANDOVER_S


def test_a_ghost_without_outputs_waits_for_nobody() -> None:
    """There is nothing to hand over."""
    store = Store(ghost=True)
    store.feed(KeepOutputs(KEY, "/work", ("*",)))
    store.feed(OutputsMade(KEY, ()))
    assert [OutputsKept(KEY, ())] == store.take(OutputsKept)


# ---- doors ----


def test_a_door_waits_until_blobs_are_here() -> None:
    """And sees how far they are meanwhile."""
    store = Store(A, here=(TWO,))
    store.feed(Asked(1, FetchBlobs((ONE, TWO))))
    store.feed(Asked(2, FetchState((ONE, TWO, blob(3)[0]))))
    assert [Reply(2, {ONE: Progress(0, 0), TWO: Progress(1, 1)})] == [
        effect for effect in store.said if isinstance(effect, Reply)
    ]
    deliver(store)
    assert Reply(1, {}) in store.said


def test_a_door_hears_that_a_blob_cannot_be_had() -> None:
    """By its digest, with the reason, once each of the others has come or cannot be had either."""
    store = Store(A)
    store.feed(Asked(1, FetchBlobs((ONE, TWO, blob(3)[0]))))
    deliver(store, TWO)
    store.wait(GIVE_UP_S + 10)
    told = {ONE: NOWHERE, blob(3)[0]: NOWHERE}
    assert [Reply(1, told)] == [effect for effect in store.said if isinstance(effect, Reply)]


def test_what_nobody_waits_for_is_not_fetched_further() -> None:
    """Unless somebody else does: an attempt, another node, another door."""
    store = Store(A)
    other = blob(3)[0]
    store.feed(Asked(1, FetchBlobs((ONE, TWO, other))))
    store.feed(Asked(2, FetchBlobs((TWO,))))
    store.feed(place(other))
    store.feed(NotAwaited(1))
    store.feed(Asked(3, FetchState((ONE, TWO, other))))
    assert Reply(3, dict.fromkeys((TWO, other), Progress(0, 0))) in store.said
    store.feed(NotAwaited(2))
    store.feed(ForgetFiles((KEY,)))
    store.feed(Asked(4, FetchState((ONE, TWO, other))))
    assert Reply(4, {}) in store.said
    assert store.machine.is_idle


def test_whether_blobs_are_anywhere() -> None:
    """It is known once all have answered, or had their time; nothing is fetched."""
    store = Store(A, B, here=(TWO,))
    other = blob(3)[0]
    store.feed(Asked(1, WhoHas((ONE, TWO, other))))
    store.feed(FindBlobs(7, (ONE, TWO)))
    store.feed(BlobsHere(A, here=[ONE], missing=[other]))
    store.feed(BlobsHere(C, here=[other]))  # it was not asked
    assert [BlobsFound(7, frozenset())] == store.take(BlobsFound, "queue")
    store.feed(RoomWanted(1))
    assert TWO in store.take(FindUnneeded)[-1].held
    store.wait(3)
    assert Reply(1, frozenset({other})) in store.said
    assert [] == store.take(BeginPart)
    store.feed(Asked(2, WhoHas((ONE,))))
    store.feed(view(B))
    store.feed(BlobsHere(B, missing=[ONE]))
    assert Reply(2, frozenset({ONE})) in store.said


# ---- collection ----


def held(store: Store) -> frozenset[str]:
    """What the disk is told to leave at the next collection."""
    store.take(FindUnneeded)
    store.wait(COLLECT_S + 1)
    return store.take(FindUnneeded)[-1].held


def test_what_is_pinned_is_held_for_a_time() -> None:
    """For as long as was asked."""
    store = Store(here=(ONE,))
    store.feed(Asked(1, Pin((ONE,), 100.0)))
    assert [frozenset({ONE}), frozenset()] == [held(store), held(store)]


def test_too_many_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told when there is room again; what was pinned stays, what has a task makes room."""
    monkeypatch.setattr(file_calls, "PINS_MAX", 2)
    store = Store(A)
    store.feed(Asked("a", Pin(("x", "y", "z"), 600)))
    store.feed(Asked("b", Pin(("x", "y"), 600)))
    store.now += 200
    store.feed(Asked("c", Pin(("z",), 600)))
    store.feed(Asked("d", Pin(("y", "x"), 300)))
    refused = {fail.request: fail.error for fail in store.said if isinstance(fail, Fail)}
    assert ["a", "c"] == list(refused)
    assert isinstance(refused["a"], Refused)
    assert isinstance(refused["c"], Unavailable)
    assert refused["c"].message.endswith("nothing was done; try again in 400 s")
    store.feed(NewNeeds(("x",)))
    store.feed(Asked("e", Pin(("z",), 600)))
    assert Reply("e", None) in store.said
    store.feed(RoomWanted(1))
    [found] = store.take(FindUnneeded)
    assert {"y", "z"} == found.held
    store.now += 500
    store.feed(Asked("f", Pin(("v",), 600)))
    assert Reply("f", None) in store.said


def test_what_an_attempt_brings_and_leaves_is_held() -> None:
    """Until it is forgotten."""
    store = Store(here=(ONE,))
    store.feed(place(ONE))
    store.feed(KeepOutputs(KEY, "/work", ("*",)))
    store.feed(OutputsMade(KEY, (file(TWO),)))
    assert {ONE, TWO} == held(store)
    store.feed(ForgetFiles((KEY,)))
    assert frozenset() == held(store)


def test_what_others_were_told_of_is_held_for_a_while() -> None:
    """They count on it, and a new need of it may not have come here yet."""
    store = Store(A, here=(ONE,))
    store.wait(COLLECT_S - 1)
    store.feed(SeekBlobs(A, [ONE]))
    assert {ONE} == held(store)
    store.wait(TOLD_S)
    assert frozenset() == held(store)


def test_what_was_asked_for_since_is_not_removed() -> None:
    """The rest counts as gone from then on."""
    store = Store(A, here=(ONE, TWO))
    store.feed(place(ONE))
    store.feed(UnneededTold((ONE, TWO)))
    assert [RemoveBlobs((TWO,))] == store.take(RemoveBlobs)
    store.feed(SeekBlobs(A, [TWO]))
    assert [[TWO]] == [told.missing for told in store.told(A, BlobsHere)]
    store.feed(HereNow((BlobRef(TWO, 1),)))
    store.feed(SeekBlobs(A, [TWO]))
    assert [[TWO]] == [told.here for told in store.told(A, BlobsHere)]


def test_a_corrupt_blob_is_fetched_again() -> None:
    """It is not here until then."""
    store = Store(A, here=(ONE,))
    store.feed(FoundCorrupt(ONE))
    assert [SeekBlobs(ME, [ONE])] == store.told(A, SeekBlobs)
    store.feed(SeekBlobs(A, [ONE]))
    assert [[ONE]] == [told.missing for told in store.told(A, BlobsHere)]
    store.feed(BlobsHere(A, here=[ONE]))
    store.feed(SeekBlobs(A, [ONE]))
    assert [[ONE]] == [told.coming for told in store.told(A, BlobsHere)]
    deliver(store)
    store.feed(SeekBlobs(A, [ONE]))
    assert [[ONE]] == [told.here for told in store.told(A, BlobsHere)]


def test_who_comes_is_asked_at_once() -> None:
    """Not only when it would be tried again anyway."""
    store = Store()
    store.feed(view(away=(A,)))
    store.feed(place(ONE))
    store.wait(10)
    store.feed(view(A))
    assert [SeekBlobs(ME, [ONE])] == store.told(A, SeekBlobs)


def test_two_that_seek_the_same_do_not_wait_for_each_other() -> None:
    """That another fetches it, too, is no reason to go on."""
    store = Store(A)
    store.feed(place(ONE))
    for _ in range(50):
        if store.told(A, SeekBlobs):
            store.feed(BlobsHere(A, coming=[ONE]))
        store.wait(1)
    assert [FilesMissing(KEY, f"f0: {NOWHERE}")] == store.take(FilesMissing)


def test_what_has_gone_is_not_tracked_any_more() -> None:
    """Nor if it goes while its list is being read."""
    store = Store(A, here=(ONE, TWO))
    for digest, found in ((ONE, ONE_LIST), (TWO, TWO_LIST)):
        store.feed(AskChunks(A, digest=digest))
        if digest == TWO:
            store.feed(HereNow(gone=(ONE, TWO)))
        store.feed(ListRead(digest, found))
    store.feed(AskChunks(A, digest=ONE))
    assert [True, False, False] == [plan.known for plan in store.told(A, ChunkPlan)]


def test_ghosts_are_served_by_this_node_alone() -> None:
    """They are not in the view: nobody is sent to them, and they are sent to nobody."""
    digest, found = blob(3)
    store = Store(A, B, here=(digest,))
    store.feed(AskChunks(C, digest=digest, blob=b"\x07"))
    store.feed(ListRead(digest, found))
    store.feed(AskChunks(A, digest=digest, holders=[B]))
    store.feed(AskChunks(C, digest=digest, holders=[B]))
    [plan] = store.told(A, ChunkPlan)
    assert {ME, B} == {node for _, node in plan.chunks}
    assert [(n, ME) for n in range(3)] == store.told(C, ChunkPlan)[-1].chunks


def test_few_blobs_are_tracked_at_once() -> None:
    """Those that were asked for last."""
    digests = [blob(1, str(n)) for n in range(TRACKED_MAX + 2)]
    store = Store(A, here=tuple(digest for digest, _ in digests))
    for digest, found in digests:
        store.feed(AskChunks(A, digest=digest))
        store.feed(ListRead(digest, found))
        store.now += 1
    store.said.clear()
    for digest, _ in digests:
        store.feed(AskChunks(A, digest=digest))
    assert [digest for digest, _ in digests[:2]] == [one.digest for one in store.take(ReadList)]
