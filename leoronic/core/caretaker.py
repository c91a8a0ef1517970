"""Two copies of every blob that a task refers to, by level: whoever holds one sees to the second.

What this node holds and the journal needs is looked at when the view changes, when there are new
references, and now and then. A few neighbours in ring order are asked first whether they hold it;
only if none does all the others are. If nobody does, the next in ring order is told to fetch it,
and asked again until it has it; if it cannot, the one after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from leoronic.core.file_effects import LookNeeded, NeededTold
from leoronic.core.file_outbox import FileOutbox
from leoronic.core.peer import DIGESTS_MAX, BlobsHere, KeepBlobs, SeekBlobs
from leoronic.core.ring import in_ring_order

NEIGHBOURS = 4
CHECKS_MAX = DIGESTS_MAX
KEEPS_MAX = 16
FRESH_MAX = 65_536
GATHER_S = 0.5
ANSWER_S = 3.0
KEEP_AGAIN_S = 5.0
# Who said that it will fetch it, or nothing, and then nothing for so long, is not waited for.
KEEP_SILENT_S = 15.0
LOOK_EVERY_S = 600.0
# Nobody would take some.
LOOK_AGAIN_S = 60.0
PAGE_S = 30.0


class _Check:
    """A blob of which others are being asked whether they hold it."""

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self.to_answer: set[str] = set()
        self.coming: list[str] = []  # they fetch it anyway: nobody better to keep it
        self.due = 0.0


class _Keep:
    """A blob that another node is to fetch from here."""

    def __init__(self, candidates: list[str]) -> None:
        self.candidates = candidates
        self.told: set[str] = set()
        self.heard_at = 0.0
        self.due = 0.0


class Caretaker:
    """See the module. `holds` tells whether a blob is on this node's disk."""

    def __init__(self, out: FileOutbox, holds: Callable[[str], bool]) -> None:
        self._out = out
        self._holds = holds
        self._peers: list[str] = []  # in ring order, those that drain last
        self._fresh: dict[str, None] = {}  # to be looked at
        self._checks: dict[str, _Check] = {}
        self._keeps: dict[str, _Keep] = {}
        self._after: str | None = None  # the page that was asked for follows this
        self._page_due = 0.0
        self._again = False
        self._look_at: float | None = None
        self._fresh_at: float | None = None

    def digests(self) -> Iterable[str]:
        """What must stay here until another has it."""
        return self._keeps

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return not (self._fresh or self._checks or self._keeps or self._after is not None)

    # ---- what there is to look at ----

    def see(self, peers: list[str], draining: set[str]) -> None:
        """These can be reached; some of them are about to go."""
        order = in_ring_order(self._out.me, peers)
        order.sort(key=lambda node: node in draining)
        if set(order) != set(self._peers):
            for node in [n for n in self._peers if n not in peers]:
                self._lose(node)
            self.look_soon()
        self._peers = order
        self._conclude()

    def look_soon(self) -> None:
        """Who holds what may have changed."""
        self._look_by(self._out.now + GATHER_S)

    def _look_by(self, at: float) -> None:
        if self._look_at is None or self._look_at > at:
            self._look_at = at

    def needed(self, digests: Iterable[str]) -> None:
        """There are new references to these."""
        for digest in digests:
            if not self._holds(digest):
                continue
            if len(self._fresh) >= FRESH_MAX:
                self.look_soon()
                break
            self._fresh[digest] = None
        if self._fresh and self._fresh_at is None:
            self._fresh_at = self._out.now + GATHER_S

    def _begin_look(self) -> None:
        self._look_at = self._out.now + LOOK_EVERY_S
        if self._after is not None:
            self._again = True
        elif self._peers:
            self._ask_page("")

    def _ask_page(self, after: str) -> None:
        self._after = after
        self._page_due = self._out.now + PAGE_S
        self._out.send("journal", LookNeeded("file_store", after, DIGESTS_MAX))

    def on_page(self, page: NeededTold) -> None:
        """The journal tells what is needed."""
        if page.after != self._after:
            return
        self.needed(page.digests)
        if page.last or not page.digests:
            self._after = None
            if self._again:
                self._again = False
                self.look_soon()
        else:
            # The next once there is room for what is on it.
            self._after, self._page_due = page.digests[-1], self._out.now
        self._fresh_at = self._out.now if self._fresh else None

    # ---- who else holds it ----

    def _check_some(self) -> None:
        asked: dict[str, list[str]] = {}
        while self._fresh and len(self._checks) < CHECKS_MAX and self._peers:
            digest = next(iter(self._fresh))
            del self._fresh[digest]
            if digest in self._checks or digest in self._keeps or not self._holds(digest):
                continue
            check = self._checks[digest] = _Check()
            self._ask(digest, check, self._peers[:NEIGHBOURS], asked)
        if not self._peers:
            self._fresh.clear()
        self._tell(asked)

    def _ask(
        self, digest: str, check: _Check, nodes: list[str], asked: dict[str, list[str]]
    ) -> None:
        check.asked.update(nodes)
        check.to_answer = set(nodes)
        check.due = self._out.now + ANSWER_S
        for node in nodes:
            asked.setdefault(node, []).append(digest)

    def _tell(self, asked: dict[str, list[str]]) -> None:
        for node, digests in asked.items():
            self._out.tell(node, SeekBlobs(self._out.me, digests))

    def on_here(self, told: BlobsHere) -> None:
        """Somebody tells what it holds. It counts if it is a node, and was asked for that."""
        if told.node not in self._peers:
            return
        for digest in told.here:
            check, keep = self._checks.get(digest), self._keeps.get(digest)
            if check is not None and told.node in check.asked:
                del self._checks[digest]
            if keep is not None and told.node in keep.told:
                del self._keeps[digest]
        for digest in told.coming:
            keep = self._keeps.get(digest)
            if keep is not None and keep.candidates[0] == told.node:
                keep.heard_at = self._out.now
        for digest in told.missing:
            check = self._checks.get(digest)
            if check is not None:
                check.to_answer.discard(told.node)
            keep = self._keeps.get(digest)
            if keep is not None and keep.candidates[0] == told.node and told.reason:
                self._next_candidate(digest, keep)
        for digest in told.coming:
            check = self._checks.get(digest)
            if check is not None and told.node in check.to_answer:
                check.to_answer.discard(told.node)
                check.coming.append(told.node)
        self._conclude()

    def _conclude(self) -> None:
        """Go on with checks whose nodes have all answered, or had their time."""
        now = self._out.now
        asked: dict[str, list[str]] = {}
        for digest, check in list(self._checks.items()):
            if check.to_answer and check.due > now:
                continue
            others = [node for node in self._peers if node not in check.asked]
            if others:
                self._ask(digest, check, others, asked)
            elif len(self._keeps) < KEEPS_MAX:
                del self._checks[digest]
                self._keep(digest, check)
        self._tell(asked)

    # ---- the second copy ----

    def _keep(self, digest: str, check: _Check) -> None:
        if self._peers and self._holds(digest):
            order = sorted(self._peers, key=lambda node: node not in check.coming)
            keep = self._keeps[digest] = _Keep(order)
            keep.heard_at = self._out.now
            self._tell_keeper(digest, keep)

    def _tell_keeper(self, digest: str, keep: _Keep) -> None:
        keep.due = self._out.now + KEEP_AGAIN_S
        keep.told.add(keep.candidates[0])
        self._out.tell(keep.candidates[0], KeepBlobs(self._out.me, [digest]))

    def _next_candidate(self, digest: str, keep: _Keep) -> None:
        del keep.candidates[0]
        if keep.candidates:
            keep.heard_at = self._out.now
            self._tell_keeper(digest, keep)
            return
        del self._keeps[digest]
        self._out.log("no_second_copy", "warning", digest=digest)
        self._look_by(self._out.now + LOOK_AGAIN_S)

    def _lose(self, node: str) -> None:
        for check in self._checks.values():
            check.to_answer.discard(node)
        for digest, keep in list(self._keeps.items()):
            if keep.candidates[0] == node:
                self._next_candidate(digest, keep)
            elif node in keep.candidates:
                keep.candidates.remove(node)

    # ---- time ----

    def due(self) -> float | None:
        """When `look` is to be called next."""
        times = [check.due for check in self._checks.values() if check.due > self._out.now]
        times += [keep.due for keep in self._keeps.values()]
        for at in (self._look_at, self._fresh_at):
            if at is not None:
                times.append(at)
        if self._after is not None and not self._fresh:
            times.append(self._page_due)
        return min(times, default=None)

    def look(self) -> None:
        """Do what is due."""
        now = self._out.now
        for digest, keep in list(self._keeps.items()):
            if not self._holds(digest):
                del self._keeps[digest]
            elif now >= keep.heard_at + KEEP_SILENT_S:
                self._next_candidate(digest, keep)
            elif now >= keep.due:
                self._tell_keeper(digest, keep)
        if self._look_at is not None and now >= self._look_at:
            self._begin_look()
        if self._after is not None and not self._fresh and now >= self._page_due:
            self._ask_page(self._after)
        if self._fresh_at is not None and now >= self._fresh_at:
            self._fresh_at = None
            self._check_some()
        self._conclude()
        if self._fresh and self._fresh_at is None:
            # When checks have room again they are asked on at the next answer or turn.
            if len(self._checks) < CHECKS_MAX:
                self._check_some()
            else:
                self._fresh_at = now + GATHER_S
