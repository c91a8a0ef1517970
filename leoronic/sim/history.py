"""What happened in the whole cluster, as only the simulator can know: every entry, when, and why.

No node sees this. It answers whether a second run of a task was allowed: it must follow the end of
the first, or somebody's recorded belief that the first can't be accounted for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from leoronic.core.entries import Entry, Finished, Lost, Numbered, Started, Submitted, Suspected
from leoronic.sim.forgotten import Forgotten
from leoronic.sim.story import Violation

Vector = dict[str, int]


@dataclass
class _Written:
    entry: Entry
    knew: Vector


@dataclass
class _TaskHistory:
    origins: set[str] = field(default_factory=set)
    runs: dict[tuple[str, int, str], str] = field(default_factory=dict)
    lost: set[tuple[str, int, str]] = field(default_factory=set)


class History:
    """Every entry that was ever written, by (origin, number)."""

    def __init__(self) -> None:
        self.tasks: dict[str, _TaskHistory] = {}
        self.suspected: dict[str, set[str]] = {}  # node -> who ever suspected it
        self.given_up: set[tuple[str, str]] = set()  # (who, whom), as membership decided
        self.left: set[str] = set()
        self.ghosts: set[str] = set()
        self.handed = 0  # how often a ghost handed over what runs
        self.destroyed: set[str] = set()
        self.suspicions = 0
        self.forgotten = Forgotten()
        self._written: dict[tuple[str, int], _Written] = {}
        self._writers: dict[tuple[str, int, str], set[str]] = {}

    def writes(self, numbered: Numbered, knew: Vector) -> None:
        """A node wrote an entry of its own, holding `knew` of the others' journals."""
        place = (numbered.origin, numbered.number)
        before = self._written.get(place)
        if before is not None:
            if before.entry == numbered.entry:
                return  # it was committed, not yet told, and committed again after a power cut
            raise Violation(
                "a number is used once",
                f"{place} was {before.entry} and is now {numbered.entry}",
                getattr(numbered.entry, "task", ""),
            )
        self._written[place] = _Written(numbered.entry, dict(knew))
        self._note(numbered.origin, numbered.entry)

    def _note(self, writer: str, entry: Entry) -> None:
        match entry:
            case Submitted(task):
                self._task(task).origins.add(writer)
            case Started(task, attempt, node):
                self.handed += entry.handed
                if not self.started(task, attempt, node) or node not in self.ghosts:
                    self.second_runs_are_explained(entry)
                self._base_runs(task).setdefault((task, attempt, node), "")
                self._writers.setdefault((task, attempt, node), set()).add(writer)
            case Finished(task, attempt, node):
                self._base_runs(task)[task, attempt, node] = "final" if entry.final else "ended"
            case Lost(task, attempt, node):
                told = entry.told and node in self.ghosts
                entitled = node in (writer, *self.left) or (writer, node) in self.given_up or told
                # Nobody may be left who could tell the writer of it.
                entitled = entitled or node in self.destroyed | self.forgotten.anew
                if not entitled:
                    raise Violation(
                        "only what can't be accounted for is lost",
                        f"{writer} gave up {task} attempt {attempt} on {node} unsuspected",
                        task,
                    )
                if writer != node and not told:
                    self.suspected.setdefault(node, set()).add(writer)
                self._task(task).lost.add((task, attempt, node))
                runs = self._base_runs(task)
                runs[task, attempt, node] = runs.get((task, attempt, node)) or "lost"
            case Suspected(node):
                self.suspicions += 1
                self.suspected.setdefault(node, set()).add(writer)
            case _:
                pass

    def _task(self, task: str) -> _TaskHistory:
        base = task.partition(".")[0] if task not in self.tasks else task
        return self.tasks.setdefault(base, _TaskHistory())

    def _base_runs(self, task: str) -> dict[tuple[str, int, str], str]:
        return self._task(task).runs

    @property
    def disagreed(self) -> bool:
        """Whether some node ever went on without another."""
        return bool(self.suspected or self.left)

    def started(self, task: str, attempt: int, node: str) -> bool:
        """Whether anybody wrote down that this run begins."""
        return (task, attempt, node) in self._task(task).runs

    def is_writer_missed(self, task: str, attempt: int, node: str) -> bool:
        """Whether one that wrote down that this run begins is down, or was thought to be."""
        writers = self._writers.get((task, attempt, node), set())
        return bool(writers & (self.suspected.keys() | self.left | self.destroyed))

    def failures(self, id: str, but: tuple[int, str]) -> int:
        """How many runs of this task or element, `but` one, ended and were to be followed."""
        runs = self._base_runs(id).items()
        ended = [run for (task, *run), end in runs if task == id and end == "ended"]
        return sum(tuple(run) != but for run in ended)

    def losses(self, id: str) -> int:
        """How many runs of this task or element were ever given up, by anybody."""
        return sum(task == id for task, _, _ in self._task(id).lost)

    def is_twin(self, task: str) -> bool:
        """Whether the same id was submitted at several nodes that did not know of each other."""
        return len(self._task(task).origins) > 1

    def second_runs_are_explained(self, entry: Started) -> None:
        """Every run of this task so far has ended, or somebody had given up on its node.

        Or on the node that has it run again: it was given up, did not know, and went on. A node
        that stops in order says so itself.
        """
        goers = self.suspected.keys() | self.left
        given_up = {entry.node, *self._task(entry.task).origins} & goers
        if given_up or self.is_twin(entry.task):
            return
        for (task, attempt, node), end in self._base_runs(entry.task).items():
            known = node in self.destroyed or node in self.left or node in self.suspected
            # The entry about that may still be on its way to the disk, which is slow or full maybe.
            known = known or any(whom == node for _, whom in self.given_up)
            if task != entry.task or known:
                continue
            if end in ("", "final"):
                raise Violation(
                    "every second run follows a recorded suspicion",
                    f"{task} attempt {entry.attempt} starts on {entry.node}; "
                    f"attempt {attempt} on {node} is {end or 'open'}, and nobody suspects {node}",
                    task,
                )

    def takes(self, taker: str, numbered: Numbered, holds: Vector, skipped: Vector) -> None:
        """`taker` writes another's entry while it `holds` these: was all that caused it there?

        What was `skipped` has been forgotten.
        """
        written = self._written.get((numbered.origin, numbered.number))
        if written is None or written.entry != numbered.entry:
            raise Violation(
                "entries travel unchanged",
                f"{taker} takes {numbered}, that {numbered.origin} never wrote",
                getattr(numbered.entry, "task", ""),
            )
        for origin, number in written.knew.items():
            held = max(holds.get(origin, 0), skipped.get(origin, 0))
            if held < number and origin != taker:
                raise Violation(
                    "cause comes before effect",
                    f"{taker} takes {numbered} without {origin} {number}",
                    getattr(numbered.entry, "task", ""),
                )
