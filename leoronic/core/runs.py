"""How the runs of one task join. A run is (attempt, node): one attempt on one node.

The phase of a run only grows, whatever order its entries come in:

    OPEN < LOST < NEVER_BEGAN < SUPERSEDED < ENDED

So an end counts even for a run that was given up, and the node's own word that nothing ever ran
counts more than another's suspicion. Of several runs the one of the highest (attempt, node) goes
on, the others are stopped; of several final outcomes the one of the highest
(attempt, succeeded, node) is the task's. `Cancelled` wins over any outcome.
"""

from __future__ import annotations

from typing import NamedTuple

OPEN, LOST, NEVER_BEGAN, SUPERSEDED, ENDED = range(5)

STOPPED_AS = "superseded"
"""Why a run is stopped when a higher one goes on: the reason in its outcome."""

STOPPED_WITH_NODE = "it was stopped with the node"
"""The same of a run that is ended because its node stops: it is lost, and so comes again."""

RunKey = tuple[int, str]
"""(attempt from 1, node id)."""

# A machine that lacked something to start a task (processes, files) gets this long to recover.
NOT_STARTED_DELAY_S = 2.0


def end_phase(final: bool, reason: str) -> int:
    """The phase of a run that ended; one that was stopped since another goes on did not fail."""
    return SUPERSEDED if reason == STOPPED_AS and not final else ENDED


class RunState(NamedTuple):
    """What is known of a run. `ended_at`: when it got to this phase, seconds since the epoch.

    `hold`: lost, it keeps its task from being tried again. `gone`: its own node says so, it is no
    suspicion.
    """

    phase: int
    ended_at: float = 0.0
    hold: bool = False
    gone: bool = False


class Runs:
    """The runs of one live task, and what follows from all of them together."""

    __slots__ = ("_states",)

    def __init__(self) -> None:
        self._states: dict[RunKey, RunState] = {}

    def join(self, key: RunKey, state: RunState) -> bool:
        """Take in what an entry tells of a run; whether that is news."""
        known = self._states.get(key)
        if known is not None:
            if state.phase < known.phase:
                return False
            if state.phase == known.phase:
                # Two may have given it up, each with a word of its own.
                state = RunState(
                    state.phase,
                    max(state.ended_at, known.ended_at),
                    state.hold or known.hold,
                    state.gone or known.gone,
                )
            if state == known:
                return False
        self._states[key] = state
        return True

    def phases(self) -> dict[RunKey, int]:
        """The phase of each run."""
        return {key: state.phase for key, state in self._states.items()}

    @property
    def attempt(self) -> int:
        """The highest attempt that is known."""
        return max((key[0] for key in self._states), default=0)

    @property
    def failures(self) -> int:
        """How many ended, and yet the task lives."""
        return sum(state.phase == ENDED for state in self._states.values())

    @property
    def losses(self) -> int:
        """How many were lost, having begun."""
        return sum(state.phase == LOST for state in self._states.values())

    @property
    def lost_hold(self) -> int:
        """The highest attempt whose loss holds the task; 0 if none does."""
        return max(
            (key[0] for key, state in self._states.items() if state.phase == LOST and state.hold),
            default=0,
        )

    def is_open(self) -> bool:
        """Whether one is under way."""
        return any(state.phase == OPEN for state in self._states.values())

    def open_on(self, node: str) -> list[int]:
        """The attempts that are under way on `node`, ascending."""
        return sorted(
            key[0] for key, state in self._states.items() if key[1] == node and state.phase == OPEN
        )

    def open_nodes(self) -> list[str]:
        """The nodes where one is under way, sorted."""
        return sorted({key[1] for key, state in self._states.items() if state.phase == OPEN})

    def nodes(self) -> list[str]:
        """The nodes where there was one, sorted."""
        return sorted({node for _, node in self._states})

    def shown(self) -> RunKey:
        """The run to tell of: the highest under way, else the highest, else (0, "")."""
        keys = [key for key, state in self._states.items() if state.phase == OPEN]
        return max(keys or self._states, default=(0, ""))

    def forgivable(self) -> int:
        """The attempt up to which losses can be forgiven: not those that are under way."""
        under_way = [key[0] for key, state in self._states.items() if state.phase == OPEN]
        return min(under_way) - 1 if under_way else self.attempt

    def may_exist_on(self, node: str) -> list[int]:
        """Attempts of which a process may be left on `node`: whoever gave one up may be wrong."""
        return sorted(
            key[0]
            for key, state in self._states.items()
            if key[1] == node and state.phase in (OPEN, LOST) and not state.gone
        )

    def superseded_on(self, node: str) -> list[int]:
        """Attempts of which a process may be left on `node`, although a higher run began."""
        began = [key for key, state in self._states.items() if state.phase != NEVER_BEGAN]
        highest = max(began, default=(0, ""))
        return [attempt for attempt in self.may_exist_on(node) if (attempt, node) < highest]

    def due(self, retry_delay_s: float) -> float:
        """When the task may be tried again, in seconds since the epoch."""
        delays = {ENDED: retry_delay_s, NEVER_BEGAN: NOT_STARTED_DELAY_S}
        return max(
            (
                state.ended_at + delays[state.phase]
                for state in self._states.values()
                if state.phase in delays
            ),
            default=0.0,
        )


NO_RUNS = Runs()
"""Of a task that never started; never to be changed."""
