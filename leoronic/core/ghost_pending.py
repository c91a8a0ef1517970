"""What a ghost wants written and no node has answered for, in parts that fit into a frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from leoronic.core.entries import Entry, Finished, Lost, Started, encode
from leoronic.core.queue_messages import Append, Appended
from leoronic.core.run import AttemptKey
from leoronic.core.spec import TaskSpec

PART_ENTRIES_MAX = 256
# Less than this, or a single entry: a relay takes no frame that is much larger.
PART_BYTES_MAX = 1 << 20


class Wanted:
    """Who wants it, and what was answered so far; it is one answer once all its parts have theirs.

    `parts`: how many have none.
    """

    def __init__(self, append: Append, parts: int) -> None:
        self.append = append
        self.parts = parts
        self._refused: set[AttemptKey] = set()
        self._unknown: set[AttemptKey] = set()
        self._specs: dict[str, TaskSpec] = {}

    def note(
        self,
        refused: Iterable[AttemptKey],
        unknown: Iterable[AttemptKey],
        specs: dict[str, TaskSpec],
    ) -> None:
        """This was answered."""
        self._refused.update(refused)
        self._unknown.update(unknown)
        self._specs.update(specs)

    def starts(self) -> list[Started]:
        """Those that may be made, as far as was answered."""
        return [
            entry
            for entry in self.append.entries
            if isinstance(entry, Started) and (entry.task, entry.attempt) not in self._refused
        ]

    def answer(self) -> Appended:
        """All of it. What is to start, and of which nobody knows what it is, starts not."""
        nameless: set[AttemptKey] = set()
        if self.append.want_specs:
            nameless = {
                (one.task, one.attempt) for one in self.starts() if one.task not in self._specs
            }
        return Appended(
            self.append.token,
            frozenset(self._refused | nameless),
            self._specs,
            unknown=frozenset(self._unknown | nameless),
        )


class Pending:
    """A part. `wanted`: None if it is the ghost's journal that wants it.

    `hands_over`: it tells of what runs, as it is told to each clairvoyant. `under_way`: it was
    told to the present one, who has not answered.
    """

    def __init__(
        self, entries: Sequence[Entry], wanted: Wanted | None = None, *, hands_over: bool = False
    ) -> None:
        self.entries = list(entries)
        self.wanted = wanted
        self.hands_over = hands_over
        self.under_way = False
        self.unknown_at: float | None = None  # since when its tasks are not known where it is told

    @property
    def want_specs(self) -> bool:
        """Whether the answer is to say what the tasks are."""
        return self.wanted is not None and self.wanted.append.want_specs


class Pendings:
    """By a number that no other had before, in the order in which they are to be told."""

    def __init__(self) -> None:
        self._number = 0
        self._by_number: dict[int, Pending] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._by_number)

    def __iter__(self) -> Iterator[tuple[int, Pending]]:
        """Each with its number."""
        return iter(list(self._by_number.items()))

    @property
    def under_way(self) -> bool:
        """Whether an answer to any of them is to come."""
        return any(one.under_way for one in self._by_number.values())

    def next_number(self) -> int:
        """One for a question of another kind."""
        self._number += 1
        return self._number

    def want(self, append: Append) -> list[int]:
        """Somebody wants these written: the numbers of the parts."""
        assert append.entries, "else nobody would answer"
        some = parts(append.entries)
        wanted = Wanted(append, len(some))
        return [self.add(Pending(part, wanted)) for part in some]

    def add(self, pending: Pending) -> int:
        """Its number."""
        pending.under_way = False
        self._by_number[self.next_number()] = pending
        return self._number

    def take(self, number: int) -> Pending | None:
        """What has that number, if anything: it is answered."""
        return self._by_number.pop(number, None)

    def find(self, number: int) -> Pending | None:
        """The same, and it stays."""
        return self._by_number.get(number)

    def drop(self, wanted: Wanted) -> None:
        """Whoever wants that is told that it failed: no part of it is told any more."""
        self._by_number = {n: one for n, one in self._by_number.items() if one.wanted is not wanted}

    def hand_over(self, entries: list[Entry]) -> None:
        """Before all else these are told, instead of those that were handed over before."""
        others = {n: one for n, one in self._by_number.items() if not one.hands_over}
        self._by_number = {}
        for part in parts(entries):
            self.add(Pending(part, hands_over=True))
        self._by_number.update(others)

    def drop_starts(self) -> list[Wanted]:
        """Nobody is told of these starts any more; who wanted them."""
        dropped = [one for one in self._by_number.values() if one.wanted and one.wanted.starts()]
        kept = {n: one for n, one in self._by_number.items() if one not in dropped}
        self._by_number = kept
        return [one.wanted for one in dropped if one.wanted is not None]

    def orphan(self) -> None:
        """Who wanted them does not wait for answers any more."""
        for pending in self._by_number.values():
            pending.wanted = None

    def starts(self) -> list[AttemptKey]:
        """Which attempts are to start, or run already, as is to be written."""
        return starts(self._entries())

    def ends(self) -> list[AttemptKey]:
        """Which have ended."""
        return [
            (one.task, one.attempt) for one in self._entries() if isinstance(one, Finished | Lost)
        ]

    def _entries(self) -> Iterator[Entry]:
        for pending in self._by_number.values():
            yield from pending.entries


def starts(entries: Iterable[Entry]) -> list[AttemptKey]:
    """Which attempts these say are to start."""
    return [(entry.task, entry.attempt) for entry in entries if isinstance(entry, Started)]


def parts(entries: list[Entry]) -> list[list[Entry]]:
    """In their order; a part has one at least."""
    if len(entries) == 1:
        return [entries]
    found: list[list[Entry]] = []
    room = 0
    for entry in entries:
        size = len(encode(entry))
        if not found or size > room or len(found[-1]) >= PART_ENTRIES_MAX:
            found.append([])
            room = PART_BYTES_MAX
        found[-1].append(entry)
        room -= size
    return found
