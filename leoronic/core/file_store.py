"""The file store: which blobs are here, which are fetched, and for whom.

The machine of the actor `file_store`. What it wants of the disk and of the connections it sends to
`blobs` and `bulk` (`file_effects.py`). Its parts: `Fetches` (and `Transfer`) get blobs, `Tracked`
tells others whom to get chunks from, `FileJobs` serves the executor, `Caretaker` sees to the second
copy. Whatever is told by others is checked against what this node knows itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from leoronic.core.caretaker import Caretaker
from leoronic.core.effects import Asked, Effect, Fired, SetTimer
from leoronic.core.fetches import Fetches
from leoronic.core.file_calls import FileCalls
from leoronic.core.file_effects import (
    ChunkCame,
    ChunkMissed,
    FindUnneeded,
    FoundCorrupt,
    HereNow,
    ListBlobs,
    ListRead,
    NeededTold,
    NewNeeds,
    NotAwaited,
    OutputsMade,
    PartBegun,
    PartFailed,
    PartFinished,
    Placed,
    PlaceFailed,
    ReadList,
    RemoveBlobs,
    RoomWanted,
    UnneededTold,
)
from leoronic.core.file_jobs import RUNNER, FileJobs
from leoronic.core.file_messages import (
    BlobsFound,
    FilesOf,
    FilesStarted,
    FindBlobs,
    ForgetFiles,
    KeepOutputs,
    PlaceFiles,
)
from leoronic.core.file_outbox import FileOutbox
from leoronic.core.peer import (
    REASON_MAX,
    AskChunks,
    BlobsHere,
    ChunkPlan,
    KeepBlobs,
    LinkDown,
    LinkUp,
    SeekBlobs,
)
from leoronic.core.tracking import ASKERS_MAX, Tracked
from leoronic.core.view import AskView, View
from leoronic.core.whereabouts import Whereabouts

COLLECT_S = 60.0
TRACKED_MAX = 64
TRACKED_IDLE_S = 120.0
READS_MAX = 256
# Who was told that a blob is here counts on it, while this node may not have heard of a new need.
TOLD_S = 60.0
# Wanted by others, of which some may be ghosts; there must be room for what this node wants.
WANTED_MAX = 4096


class Start:
    """The machine's first message: ask the disk what is here."""


class FileStoreMachine:
    """See the module. `node` is this node's id; `now` is seconds of a steady clock.

    `ghost`: its view has one other member, its clairvoyant, who gets for it what it lacks and keeps
    what its attempts leave; it keeps no second copies for others.
    """

    def __init__(self, node: str, *, ghost: bool = False) -> None:
        self._out = FileOutbox(node)
        self._ghost = ghost
        self._here: dict[str, int] = {}  # digest: size
        self._loaded = False
        self._peers: frozenset[str] = frozenset()
        self._fetches = Fetches(self._out, self._arrived, self._failed, wants=ghost)
        self._jobs = FileJobs(self._out, self._fetches, self._holds, hand_over=ghost)
        self._whereabouts = Whereabouts(self._out, self._holds)
        self._calls = FileCalls(self._out, self._fetches, self._whereabouts, self._here.get)
        self._repairs: set[str] = set()  # found damaged, and fetched for nobody in particular
        self._care = Caretaker(self._out, self._holds)
        self._tracked: dict[str, Tracked] = {}
        self._questions: dict[str, dict[str, AskChunks]] = {}  # until the list is read
        self._wanting: dict[str, dict[str, None]] = {}  # who is told once it is here
        self._early: list[object] = []  # what came before the disk had told
        self._told: dict[str, float] = {}  # of what is here, until when others count on it
        self._collect_at: float | None = None
        self._timer_at: float | None = None
        self._handlers: dict[type, Callable[..., None]] = {
            Start: self._on_start,
            HereNow: self._on_here_now,
            View: self._on_view,
            LinkUp: lambda _: self._fetches.seek_now(),
            LinkDown: lambda message: self._lose(message.node),
            PlaceFiles: self._when_loaded(self._jobs.place),
            KeepOutputs: self._when_loaded(self._jobs.keep),
            ForgetFiles: self._when_loaded(lambda m: self._not_wanted(self._jobs.forget(m))),
            FilesOf: self._when_loaded(lambda m: self._not_wanted(self._jobs.forget_others(m))),
            Asked: self._when_loaded(self._calls.asked),
            NotAwaited: self._on_not_awaited,
            FindBlobs: self._when_loaded(self._on_find_blobs),
            SeekBlobs: self._on_seek_blobs,
            KeepBlobs: self._on_keep_blobs,
            BlobsHere: self._on_blobs_here,
            AskChunks: self._on_ask_chunks,
            ChunkPlan: self._fetches.on_plan,
            ListRead: self._on_list_read,
            ChunkCame: self._fetches.on_host,
            ChunkMissed: self._fetches.on_host,
            PartBegun: self._fetches.on_host,
            PartFinished: self._on_part_finished,
            PartFailed: self._fetches.on_host,
            FoundCorrupt: self._on_found_corrupt,
            Placed: self._jobs.on_placed,
            PlaceFailed: self._on_place_failed,
            OutputsMade: self._on_outputs_made,
            NeededTold: self._care.on_page,
            NewNeeds: self._on_new_needs,
            UnneededTold: self._on_unneeded_told,
            RoomWanted: self._when_loaded(lambda _: self._collect()),
            Fired: self._on_fired,
        }

    def handle(self, message: object, now: float) -> list[Effect]:
        """Take one message."""
        self._out.now = now
        self._handlers[type(message)](message)
        due = self._fetches.due()
        if due is not None and due <= now and self._loaded:
            self._fetches.look()
        self._arm()
        return self._out.take()

    def _arm(self) -> None:
        parts = (
            self._fetches.due(),
            self._jobs.due(),
            self._care.due(),
            self._whereabouts.due(),
            self._collect_at,
        )
        due = min((at for at in parts if at is not None), default=None)
        if due is not None and self._loaded and (self._timer_at is None or due < self._timer_at):
            self._timer_at = due
            self._out.add(SetTimer("look", due))

    def _on_fired(self, _message: Fired) -> None:
        self._timer_at = None
        self._fetches.look()
        self._jobs.look()
        self._care.look()
        self._whereabouts.look()
        if self._collect_at is not None and self._out.now >= self._collect_at:
            self._collect()

    # ---- starting ----

    def _on_start(self, _message: Start) -> None:
        self._out.disk(ListBlobs())
        self._out.send("membership", AskView("file_store"))
        self._out.send(RUNNER, FilesStarted())

    def _when_loaded(self, do: Callable[..., None]) -> Callable[[object], None]:
        """Whoever asks before the disk has told what is here waits for that."""

        def handle(message: object) -> None:
            if self._loaded:
                do(message)
            else:
                self._early.append(message)

        return handle

    def _on_here_now(self, told: HereNow) -> None:
        if told.whole:
            for digest in self._here.keys() - {ref.digest for ref in told.here}:
                self._gone(digest)
        for digest in told.gone:
            self._gone(digest)
        for ref in told.here:
            self._came(ref.digest, ref.size)
        if told.whole and not self._loaded:
            self._loaded = True
            self._collect_at = self._out.now + COLLECT_S
            early, self._early = self._early, []
            for message in early:
                self._handlers[type(message)](message)

    # ---- what is here ----

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way, for anybody."""
        return not (self._wanting or self._questions or self._early) and (
            self._fetches.is_empty
            and self._care.is_idle
            and self._calls.is_idle
            and self._whereabouts.is_idle
        )

    def _holds(self, digest: str) -> bool:
        return digest in self._here

    def _came(self, digest: str, size: int) -> None:
        """It is on this disk, by whatever way."""
        if digest in self._here:
            return
        if digest in self._fetches:
            self._fetches.came(digest, size)  # That calls `_arrived`.
        else:
            self._arrived(digest, size)

    def _gone(self, digest: str) -> None:
        self._here.pop(digest, None)
        self._tracked.pop(digest, None)
        self._told.pop(digest, None)

    def _on_part_finished(self, message: PartFinished) -> None:
        self._came(message.digest, message.size)

    def _on_found_corrupt(self, message: FoundCorrupt) -> None:
        if message.digest in self._here:
            self._gone(message.digest)
            self._out.log("blob_corrupt", "error", digest=message.digest)
            if self._fetches.fetch(message.digest):
                self._repairs.add(message.digest)

    def _on_place_failed(self, message: PlaceFailed) -> None:
        for digest in message.missing:
            self._gone(digest)
        self._jobs.on_place_failed(message)

    def _on_outputs_made(self, message: OutputsMade) -> None:
        for file in message.outputs:
            self._came(file.digest, file.size)
        self._jobs.on_made(message)

    def _arrived(self, digest: str, size: int) -> None:
        self._here[digest] = size
        self._repairs.discard(digest)
        for node in self._wanting.pop(digest, {}):
            self._answer(node, [digest], fetch=False)
        self._jobs.arrived(digest)
        self._calls.arrived(digest)

    def _failed(self, digest: str, reason: str, lost: bool) -> None:
        self._repairs.discard(digest)
        reason = reason[:REASON_MAX] or "it cannot be had"
        self._out.log("not_fetched", "warning", digest=digest, reason=reason)
        for node in self._wanting.pop(digest, {}):
            told = BlobsHere(self._out.me, missing=[digest], reason=reason, lost=lost)
            self._out.tell(node, told)
        self._jobs.failed(digest, reason, lost=lost)
        self._calls.failed(digest, reason)

    def _not_wanted(self, digests: Iterable[str]) -> None:
        """Somebody no longer wants these: what nobody else does either is not fetched further."""
        for digest in digests:
            if not (
                digest in self._wanting
                or digest in self._repairs
                or self._jobs.waits_for(digest)
                or self._calls.waits_for(digest)
            ):
                self._fetches.drop(digest)

    def _on_not_awaited(self, message: NotAwaited) -> None:
        self._early = [
            one
            for one in self._early
            if not (isinstance(one, Asked) and one.request is message.request)
        ]
        self._not_wanted(self._calls.forget(message.request))

    def _on_find_blobs(self, message: FindBlobs) -> None:
        """The queue wants to answer with these: they stay while it does."""

        def found(lost: frozenset[str]) -> None:
            for digest in message.digests:
                if self._holds(digest):
                    self._told[digest] = self._out.now + TOLD_S
            self._out.send("queue", BlobsFound(message.token, lost))

        self._whereabouts.ask(message.digests, found)

    # ---- the others ----

    def _on_view(self, view: View) -> None:
        peers = [node for node in view.peers() if view.members[node].linked]
        self._peers = frozenset(peers)
        self._out.names = {node: member.about.name for node, member in view.members.items()}
        me = view.members.get(view.me)
        ready = me is not None and me.ready and not self._ghost
        self._fetches.see(peers, all_there=ready and len(peers) + 1 == len(view.members))
        self._whereabouts.see(peers)
        self._jobs.see(peers)
        if not self._ghost:
            draining = {node for node in peers if view.members[node].about.draining}
            self._care.see(peers, draining)

    def _lose(self, node: str) -> None:
        self._fetches.lose(node)
        for tracked in self._tracked.values():
            tracked.lose(node)
        for wanting in self._wanting.values():
            wanting.pop(node, None)

    def _on_seek_blobs(self, question: SeekBlobs) -> None:
        self._answer(question.node, question.digests, fetch=question.want)

    def _on_keep_blobs(self, question: KeepBlobs) -> None:
        if not self._ghost:
            self._answer(question.node, question.digests, fetch=True, teller=question.node)

    def _answer(self, node: str, digests: list[str], *, fetch: bool, teller: str = "") -> None:
        """Tell what is here; with `fetch`, get the rest, of which `teller` says that it has it."""
        if not self._loaded:
            return  # It asks again.
        here: list[str] = []
        coming: list[str] = []
        missing: list[str] = []
        for digest in dict.fromkeys(digests):
            if self._holds(digest):
                here.append(digest)
                self._told[digest] = self._out.now + TOLD_S
            elif (fetch and self._is_fetched_for(node, digest, teller)) or (
                not fetch and self._fetches.is_coming(digest)
            ):
                coming.append(digest)
            else:
                missing.append(digest)
        reason = "too many files are being fetched already" if fetch and missing else ""
        told = BlobsHere(self._out.me, here=here, coming=coming, missing=missing, reason=reason)
        self._out.tell(node, told)

    def _is_fetched_for(self, node: str, digest: str, teller: str) -> bool:
        if len(self._wanting) >= WANTED_MAX:
            return False
        wanting = self._wanting.setdefault(digest, {})
        if len(wanting) < ASKERS_MAX:
            wanting[node] = None
        known = self._fetches.fetch(digest, teller)
        if not known:
            del self._wanting[digest]
        return known

    def _on_blobs_here(self, told: BlobsHere) -> None:
        self._fetches.on_here(told)
        self._whereabouts.on_here(told)
        if self._ghost:
            self._jobs.elsewhere(told.here)
        else:
            self._care.on_here(told)

    def _on_new_needs(self, message: NewNeeds) -> None:
        self._calls.needed(message.digests)
        self._care.needed(message.digests)

    # ---- the tracker ----

    def _on_ask_chunks(self, question: AskChunks) -> None:
        self._jobs.asked_for(question.digest)
        tracked = self._tracked.get(question.digest)
        if tracked is not None:
            self._out.tell(question.node, self._plan(tracked, question))
        elif not self._holds(question.digest):
            self._not_known(question)
        else:
            waiting = self._questions.get(question.digest)
            if waiting is None:
                if len(self._questions) >= READS_MAX:
                    return  # It asks again, or somebody else.
                waiting = self._questions[question.digest] = {}
                self._out.disk(ReadList(question.digest))
            if len(waiting) < ASKERS_MAX:
                waiting[question.node] = question

    def _plan(self, tracked: Tracked, question: AskChunks) -> ChunkPlan:
        leaf = question.node not in self._peers and not self._ghost
        return tracked.answer(question, self._out.now, leaf=leaf)

    def _not_known(self, question: AskChunks) -> None:
        told = ChunkPlan(self._out.me, digest=question.digest, known=False)
        self._out.tell(question.node, told)

    def _on_list_read(self, message: ListRead) -> None:
        questions = self._questions.pop(message.digest, {})
        if message.list is None or not self._holds(message.digest):
            for question in questions.values():
                self._not_known(question)
            return
        if len(self._tracked) >= TRACKED_MAX:
            del self._tracked[min(self._tracked, key=lambda d: self._tracked[d].used_at)]
        tracked = Tracked(self._out.me, message.digest, message.list)
        self._tracked[message.digest] = tracked
        for question in questions.values():
            self._out.tell(question.node, self._plan(tracked, question))

    # ---- collection ----

    def _held(self) -> frozenset[str]:
        """What must stay, whoever needs it otherwise."""
        now = self._out.now
        self._told = {digest: until for digest, until in self._told.items() if until > now}
        return frozenset(
            (
                *self._told,
                *self._calls.digests(),
                *self._jobs.digests(),
                *self._fetches.digests(),
                *self._care.digests(),
            )
        )

    def _collect(self) -> None:
        self._collect_at = self._out.now + COLLECT_S
        for digest, tracked in list(self._tracked.items()):
            if self._out.now - tracked.used_at > TRACKED_IDLE_S:
                del self._tracked[digest]
        self._out.disk(FindUnneeded(self._held()))

    def _on_unneeded_told(self, message: UnneededTold) -> None:
        # What was asked for meanwhile stays; the rest counts as gone from now on.
        held = self._held()
        going = tuple(d for d in message.digests if d not in held and d in self._here)
        for digest in going:
            self._gone(digest)
        if going:
            self._out.disk(RemoveBlobs(going))
