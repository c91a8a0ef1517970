"""All that is being fetched: who is asked for it, and what has its turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from leoronic.core.dues import Dues
from leoronic.core.file_effects import (
    ChunkCame,
    ChunkMissed,
    PartBegun,
    PartFailed,
    Progress,
)
from leoronic.core.file_outbox import FileOutbox
from leoronic.core.peer import DIGESTS_MAX, BlobsHere, ChunkPlan, SeekBlobs
from leoronic.core.transfer import Stage, Transfer

BLOBS_AT_ONCE = 4
FETCHES_MAX = 8192


class Fetches:
    """See the module. Of each digest, `arrived(digest, size)` or `failed(digest, reason, lost)` is
    called once; then nothing is known of it here. `lost`: it is nowhere.

    `wants`: those asked are to fetch what they lack (this is a ghost, and they its only source).
    """

    def __init__(
        self,
        out: FileOutbox,
        arrived: Callable[[str, int], None],
        failed: Callable[[str, str, bool], None],
        *,
        wants: bool = False,
    ) -> None:
        self._out = out
        self._arrived = arrived
        self._failed = failed
        self._wants = wants
        self._all: dict[str, Transfer] = {}
        self._waiting: dict[str, None] = {}  # in order
        self._fetching: set[str] = set()
        self._dues = Dues()
        self._peers: list[str] = []
        self._all_there = False

    def __contains__(self, digest: object) -> bool:
        return digest in self._all

    @property
    def is_empty(self) -> bool:
        """Whether nothing is being fetched."""
        return not self._all

    def digests(self) -> Iterable[str]:
        """All that are being fetched."""
        return self._all

    def is_full(self) -> bool:
        """Whether no more can be taken on."""
        return len(self._all) >= FETCHES_MAX

    def fetch(self, digest: str, teller: str = "") -> bool:
        """Fetch it; `teller` says that it has it. False if too much is being fetched already."""
        transfer = self._all.get(digest)
        if transfer is None:
            if self.is_full():
                return False
            transfer = self._all[digest] = Transfer(digest, self._out)
            transfer.see(all_there=self._all_there)
        if teller:
            transfer.hear(teller, here=True)
        self._after(transfer)
        return True

    def drop(self, digest: str) -> None:
        """Nobody wants it any more. Chunks that are under way come to their end."""
        if self._all.pop(digest, None) is not None:
            self._dues.forget(digest)
            self._fetching.discard(digest)
            self._waiting.pop(digest, None)
            self._next()

    def is_coming(self, digest: str) -> bool:
        """Whether somebody is known who has it, so that it will probably be here."""
        transfer = self._all.get(digest)
        return transfer is not None and transfer.stage in (Stage.WAITING, Stage.FETCHING)

    def progress(self, digest: str) -> Progress:
        """How far one is that is being fetched."""
        return self._all[digest].progress()

    def due(self) -> float | None:
        """When `look` is to be called next."""
        return self._dues.first()

    # ---- the others ----

    def see(self, peers: list[str], *, all_there: bool = False) -> None:
        """These can be reached, as membership has it. `all_there`: there are no others."""
        gone = [node for node in self._peers if node not in peers]
        new = set(peers).difference(self._peers)
        if gone or new or all_there != self._all_there:
            self._all_there = all_there
            for transfer in self._all.values():
                transfer.see(all_there=all_there)
        self._peers = peers
        for node in gone:
            self.lose(node)
        if new:
            self.seek_now()

    def seek_now(self) -> None:
        """Somebody can be reached who could not."""
        for transfer in list(self._all.values()):
            transfer.seek_now()
            self._after(transfer)

    def lose(self, node: str) -> None:
        """It is out of reach."""
        for transfer in list(self._all.values()):
            transfer.lose(node)
            self._after(transfer)

    def on_here(self, told: BlobsHere) -> None:
        """Somebody tells what it holds."""
        for digests, here, coming in (
            (told.here, True, False),
            (told.coming, False, True),
            (told.missing, False, False),
        ):
            for digest in digests:
                transfer = self._all.get(digest)
                if transfer is None:
                    continue
                missing = not here and not coming
                reason = told.reason if missing else ""
                # Of others it means little: two that seek the same would wait for each other.
                mine = coming and self._wants
                if missing and told.lost and self._wants:
                    transfer.lost = True
                if coming:
                    transfer.is_somewhere()
                transfer.hear(told.node, here=here, coming=mine, reason=reason)
                if missing and self._wants and told.reason and told.node in self._peers:
                    transfer.fail(told.reason)  # It has done all that can be done.
                self._after(transfer)

    def on_plan(self, plan: ChunkPlan) -> None:
        """A tracker has answered."""
        transfer = self._all.get(plan.digest)
        if transfer is not None:
            transfer.plan(plan, self._peers)
            self._after(transfer)

    # ---- the host ----

    def on_host(self, message: ChunkCame | ChunkMissed | PartBegun | PartFailed) -> None:
        """Disk and connections tell what became of what they were asked for."""
        transfer = self._all.get(message.digest)
        if transfer is None:
            return
        match message:
            case ChunkCame(_, index):
                transfer.came(index)
            case ChunkMissed(_, index, node, reason, corrupt):
                transfer.missed(index, node, reason, corrupt=corrupt)
            case PartBegun(_, have):
                transfer.begun(have)
            case PartFailed():
                transfer.part_failed(message)
        self._after(transfer)

    def came(self, digest: str, size: int) -> None:
        """It is on this disk: fetched, or made here meanwhile."""
        transfer = self._all.get(digest)
        if transfer is not None:
            transfer.finished()
            self._after(transfer, size)

    # ---- turns ----

    def look(self) -> None:
        """Do what is due."""
        to_seek: list[str] = []
        for digest in self._dues.overdue(self._out.now):
            transfer = self._all[digest]
            if transfer.wake():
                to_seek.append(digest)
            self._after(transfer)
        for first in range(0, len(to_seek), DIGESTS_MAX):
            some = to_seek[first : first + DIGESTS_MAX]
            for node in self._peers:
                self._out.tell(node, SeekBlobs(self._out.me, some, self._wants))
            for digest in some:
                self._all[digest].sought(self._peers)
                self._after(self._all[digest])

    def _after(self, transfer: Transfer, size: int = 0) -> None:
        """What follows from the stage that it is in now."""
        digest = transfer.digest
        if transfer.due is None:
            self._dues.forget(digest)
        else:
            self._dues.set(digest, transfer.due)
        if transfer.stage is not Stage.FETCHING:
            self._fetching.discard(digest)
        if transfer.stage is Stage.WAITING:
            self._waiting[digest] = None
        else:
            self._waiting.pop(digest, None)
        if transfer.stage in (Stage.HERE, Stage.FAILED):
            del self._all[digest]
            if transfer.stage is Stage.HERE:
                self._arrived(digest, size)
            else:
                self._failed(digest, transfer.reason, transfer.lost)
        self._next()

    def _next(self) -> None:
        while self._waiting and len(self._fetching) < BLOBS_AT_ONCE:
            transfer = self._all[next(iter(self._waiting))]
            self._fetching.add(transfer.digest)
            transfer.start()
            self._after(transfer)
