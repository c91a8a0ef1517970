"""One blob being fetched: who has it, which of its chunks come from where, what went wrong.

    SEEKING   nobody is known who has it: others are asked, again and again, ever more seldom
    WAITING   somebody has it; others are being fetched first
    FETCHING  its tracker says which chunk to get from whom; chunks are under way

The *tracker* is the first that has the blob whole, in ring order from the digest, so all who fetch
it at once ask the same one (`tracking.py`). Who does not deliver is avoided for a while, and when
nobody is left it is sought again. Each chunk is checked as it arrives, so what came stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum

from leoronic.core.blob import ChunkList
from leoronic.core.file_effects import BeginPart, FinishPart, PartFailed, Progress
from leoronic.core.file_outbox import FileOutbox
from leoronic.core.peer import CHUNKS_MAX, SOURCES_MAX, AskChunks, ChunkPlan
from leoronic.core.ring import in_ring_order

SEEK_S = 1.0
# Somebody has it: how long the others may take to say so, too.
GATHER_S = 0.05
BACKOFF_S = 0.5
BACKOFF_S_MAX = 8.0
PLAN_S = 5.0
PLAN_AGAIN_S_MIN = 0.05
PLAN_AGAIN_S_MAX = 2.0
# The connections give up earlier than that, unless something is wrong with them.
PULL_S = 900.0
AVOID_S = 5.0
AVOID_LIAR_S = 10.0
GIVE_UP_S = 30.0
# So many times in turn all nodes that there are said that they do not have it: it is lost.
LOST_ROUNDS = 3
BEGIN_TRIES_MAX = 3
AT_ONCE = 8
# So few chunks are under way that more are asked for.
FEW = 4


class Stage(Enum):
    """See the module. The last two are ends."""

    SEEKING = 0
    WAITING = 1
    FETCHING = 2
    HERE = 3
    FAILED = 4


class Transfer:
    """See the module. `due`: when `wake` is to be called; None: not before something happens.

    `tellers` have said that they hold the blob, of their own accord: also a ghost, which is in no
    view. `stage` and `due` are read after each call. `lost`: it failed since no node has it.
    """

    def __init__(self, digest: str, out: FileOutbox) -> None:
        self.digest = digest
        self.stage = Stage.SEEKING
        self.due: float | None = out.now
        self.reason = ""
        self.list: ChunkList | None = None
        self.have = 0
        self._all_there = False
        self.lost = False
        self._rounds = 0  # in which all that were asked did not have it
        self._somewhere = False  # in this round somebody is fetching it
        self._out = out
        self._progress_at = out.now
        self._ready_at = 0.0
        self._asked: set[str] = set()  # who was asked and has not answered
        self._seeks = 0
        self._holders: set[str] = set()
        self._avoid: dict[str, float] = {}  # until when
        self._tracker = ""
        self._plan_due: float | None = None  # the tracker was asked
        self._ask_at = 0.0
        self._in_vain = 0  # plans without a chunk, in turn
        self._begun = False
        self._finishing = False
        self._begin_tries = 0
        self._pulling: dict[int, tuple[str, float]] = {}
        self._planned: list[tuple[int, str]] = []

    # ---- seeking ----

    def sought(self, nodes: Iterable[str]) -> None:
        """These were just asked whether they have it."""
        self._somewhere = False
        if self._asked:
            self._rounds = 0  # somebody did not answer
        self._asked = set(nodes)
        self._seeks += 1
        if not self._asked:
            self._rounds += 1
        self.due = self._out.now + (SEEK_S if self._asked else self._backoff_s())

    def see(self, *, all_there: bool) -> None:
        """Others can be asked than before; `all_there`: these are all nodes that are known."""
        self._all_there, self._rounds = all_there, 0

    def is_somewhere(self) -> None:
        """Somebody who was asked knows who has it."""
        self._somewhere, self._rounds = True, 0

    def hear(self, node: str, *, here: bool, coming: bool = False, reason: str = "") -> None:
        """`node` tells whether it has it. `coming`: it fetches it for us, and will tell how that
        ends.
        """
        was_asked = node in self._asked
        self._asked.discard(node)
        if reason:
            self.reason = reason
        if here or coming:
            self._rounds = 0
        elif was_asked and not self._asked and not self._holders - {node}:
            self._rounds += not self._somewhere
        if here:
            self._holders.add(node)
        elif not coming:
            self._holders.discard(node)
        if self.stage is not Stage.SEEKING:
            return
        now = self._out.now
        if coming:
            self._progress_at = now
        if self._usable():
            if not self._asked:
                self._ready()
            elif self.due is None or self.due > now + GATHER_S:
                self.due = now + GATHER_S
        elif not self._asked:
            self.due = now if self._is_lost() else now + self._backoff_s()

    def seek_now(self) -> None:
        """Somebody is there who was not: ask again at once."""
        if self.stage is Stage.SEEKING and not self._asked:
            self.due = self._out.now

    def fail(self, reason: str) -> None:
        """Give up."""
        self.stage, self.reason, self.due = Stage.FAILED, reason, None

    def _is_lost(self) -> bool:
        return self._all_there and self._rounds >= LOST_ROUNDS and not self._pulling

    def _backoff_s(self) -> float:
        return float(min(BACKOFF_S * 2 ** min(self._seeks, 10), BACKOFF_S_MAX))

    def _ready(self) -> None:
        self.stage, self.due, self._ready_at = Stage.WAITING, None, self._out.now

    def _usable(self) -> list[str]:
        """Those that have it and are not avoided, the tracker first."""
        now = self._out.now
        found = [node for node in self._holders if self._avoid.get(node, 0.0) <= now]
        return in_ring_order(self.digest[3:], found)

    def _seek_again(self) -> None:
        self.stage = Stage.SEEKING
        self._tracker, self._plan_due, self._asked = "", None, set()
        self.due = self._out.now + self._backoff_s()

    # ---- fetching ----

    def start(self) -> None:
        """It is its turn."""
        self.stage = Stage.FETCHING
        self._progress_at += self._out.now - self._ready_at  # Waiting is no failure.
        self._next_tracker()

    def _next_tracker(self) -> None:
        usable = self._usable()
        if not usable:
            self._seek_again()
            return
        self._tracker, self._plan_due, self._ask_at = usable[0], None, self._out.now
        self._go_on()

    def _ask(self) -> None:
        """Tell the tracker what is here, and under way."""
        now = self._out.now
        others = [node for node in self._usable() if node != self._tracker]
        self._avoid = {node: until for node, until in self._avoid.items() if until > now}
        question = AskChunks(
            self._out.me,
            blob=self.have.to_bytes((self.have.bit_length() + 7) // 8, "little"),
            digest=self.digest,
            pulling=list(self._pulling),
            holders=others[:SOURCES_MAX],
            avoid=sorted(self._avoid)[:SOURCES_MAX],
            list_wanted=self.list is None,
        )
        self._out.tell(self._tracker, question)

    def plan(self, plan: ChunkPlan, peers: Collection[str]) -> None:
        """The tracker has answered; `peers` can be reached from here."""
        if self.stage is not Stage.FETCHING or plan.node != self._tracker:
            return
        if self._plan_due is None:
            return
        self._plan_due, self._seeks = None, 0
        if not plan.known:
            self._holders.discard(plan.node)
            self._next_tracker()
            return
        if self.list is None:
            self._take_list(plan)
            if self.list is None:
                return
        wanted = []
        for index, node in plan.chunks:
            if node != plan.node and node not in peers:
                self._avoid[node] = self._out.now + AVOID_S  # So that it names another.
            elif self._lacks(index):
                wanted.append((index, node))
        room = AT_ONCE - len(self._pulling)
        self._planned = wanted[: max(0, room)]
        self._in_vain = 0 if self._planned else self._in_vain + 1
        if not self._planned:
            # Others have under way what is lacking.
            later_s = max(plan.retry_s, PLAN_AGAIN_S_MIN) * 1.5 ** min(self._in_vain, 20)
            self._ask_at = self._out.now + min(later_s, max(plan.retry_s, PLAN_AGAIN_S_MAX))
        self._go_on()

    def _take_list(self, plan: ChunkPlan) -> None:
        found = ChunkList(plan.algorithm, plan.size, plan.chunk_bytes, plan.blob)
        if (
            found.algorithm != self.digest[:2]
            or not found.is_well_formed()
            or found.count > CHUNKS_MAX
        ):
            self._mistrust(plan.node, "its list makes no sense", AVOID_LIAR_S)
            self._next_tracker()
            return
        self.list = found
        self._begin(found)

    def _begin(self, found: ChunkList) -> None:
        self._begun = self._finishing = False
        self._begin_tries += 1
        self._out.disk(BeginPart(self.digest, found))

    def _lacks(self, index: int) -> bool:
        assert self.list is not None
        return index < self.list.count and not self.have >> index & 1 and index not in self._pulling

    def begun(self, have: int) -> None:
        """The part is there, with the chunks of an earlier try: bit i for chunk i."""
        if self.list is None or self._begun:
            return
        self._begun, self.have = True, have & self._all()
        self._progress_at = self._out.now
        self._go_on()

    def _all(self) -> int:
        assert self.list is not None
        return (1 << self.list.count) - 1

    def came(self, index: int) -> None:
        """A chunk is on the disk, and right."""
        if self.list is None or index >= self.list.count:
            return
        self._pulling.pop(index, None)
        self.have |= 1 << index
        self._progress_at = self._out.now
        self._go_on()

    def missed(self, index: int, node: str, reason: str, *, corrupt: bool) -> None:
        """`node` did not deliver a chunk: others shall."""
        if self._pulling.get(index, ("",))[0] != node:
            return
        del self._pulling[index]
        self._mistrust(node, reason, AVOID_LIAR_S if corrupt else AVOID_S)
        if self.stage is Stage.FETCHING and node == self._tracker:
            self._next_tracker()
            return
        self._ask_at = self._out.now
        self._go_on()

    def _mistrust(self, node: str, reason: str, for_s: float) -> None:
        self.reason = f"{self._out.name_of(node)} does not deliver it: {reason}"
        self._avoid[node] = max(self._avoid.get(node, 0.0), self._out.now + for_s)
        self._out.log("not_delivered", "warning", digest=self.digest, peer=node, reason=reason)

    def lose(self, node: str) -> None:
        """`node` is out of reach."""
        self._holders.discard(node)
        self._asked.discard(node)
        self._planned = [one for one in self._planned if one[1] != node]
        for index in [i for i, (source, _) in self._pulling.items() if source == node]:
            del self._pulling[index]
            self._ask_at = self._out.now
        if self.stage is Stage.WAITING and not self._usable():
            self._seek_again()
        elif self.stage is Stage.FETCHING and node == self._tracker:
            self._next_tracker()
        elif self.stage is Stage.FETCHING:
            self._go_on()

    def part_failed(self, failed: PartFailed) -> None:
        """The disk could not begin or finish it."""
        if self.list is None:
            return
        if failed.wrong_list:
            self.list, self._planned = None, []
            self._mistrust(self._tracker, "its list is another blob's", AVOID_LIAR_S)
            if self.stage is Stage.FETCHING:
                self._next_tracker()
        elif self._finishing and self._begin_tries < BEGIN_TRIES_MAX:
            self._begin(self.list)  # What is damaged is fetched again.
        else:
            self.fail(failed.reason)

    def finished(self) -> None:
        """It is a blob on this disk now."""
        self.stage, self.due = Stage.HERE, None

    def _go_on(self) -> None:
        """Whatever state it is in: ask for chunks, ask the tracker, or finish."""
        now = self._out.now
        if self._begun and self.list is not None and not self._finishing:
            if self.have == self._all():
                self._finishing = True
                self._out.disk(FinishPart(self.digest))
                if self._tracker:
                    self._ask()  # So that others are sent here; the answer is not waited for.
            else:
                planned, self._planned = self._planned, []
                for index, node in planned:
                    if self._lacks(index):
                        self._pulling[index] = (node, now)
                        self._out.pull(self.digest, index, node)
        if self.stage is Stage.FETCHING:
            if self._should_ask() and now >= self._ask_at:
                self._ask()
                self._plan_due = now + PLAN_S
            self._set_due()

    def _should_ask(self) -> bool:
        if self._plan_due is not None or self._finishing:
            return False
        if self.list is None:
            return True
        return (
            self._begun
            and len(self._pulling) <= FEW
            and self.have.bit_count() + len(self._pulling) < self.list.count
        )

    def _set_due(self) -> None:
        times = [at + PULL_S for _, at in self._pulling.values()]
        if self._plan_due is not None:
            times.append(self._plan_due)
        elif self._should_ask():
            times.append(self._ask_at)
        self.due = min(times, default=None)

    # ---- time ----

    def wake(self) -> bool:
        """It is due. Whether others are to be asked now who has it (see `sought`)."""
        now = self._out.now
        if self.stage is Stage.SEEKING:
            if self._usable():
                self._ready()
                return False
            if self._is_lost():
                self.lost = True
                self.fail("no node has it")
                return False
            if now >= self._progress_at + GIVE_UP_S and not self._pulling:
                self.fail(self.reason or "no node that can be reached has it")
                return False
            return True
        if self.stage is Stage.FETCHING:
            for index, (node, at) in list(self._pulling.items()):
                if now >= at + PULL_S:
                    self.missed(index, node, f"no answer for {PULL_S:g} s", corrupt=False)
            if self._plan_due is not None and now >= self._plan_due:
                self._mistrust(self._tracker, f"no answer for {PLAN_S:g} s", AVOID_S)
                self._next_tracker()
            elif self._is_stuck():
                self.fail(self.reason or f"no chunk came for {GIVE_UP_S:g} s")
            else:
                self._go_on()
        return False

    def _is_stuck(self) -> bool:
        late = self._out.now >= self._progress_at + GIVE_UP_S
        return late and not self._pulling and self._begun and not self._finishing

    def progress(self) -> Progress:
        """How far it is; chunks count as full ones until it is finished."""
        if self.list is None:
            return Progress(0, 0)
        done = self.have.bit_count() * self.list.chunk_bytes
        return Progress(min(done, self.list.size), self.list.size)
