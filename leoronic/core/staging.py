"""Files on their way to attempts that are to start, and from attempts that have ended.

Both are done by the file store of this node and asked for by level: when it begins anew, all that
is under way is asked for again. Files are placed while an attempt stands in a lane; it is sent to
the runner after the one that it stands behind, of which the runner would know nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from leoronic.core.attempt_files import private_folder
from leoronic.core.blob import FileRef
from leoronic.core.effects import Send
from leoronic.core.file_messages import KeepOutputs, OutputsKept, PlaceFiles
from leoronic.core.run import AttemptKey, Exited, Run

STORE = "file_store"
# The clock that stamps files goes in steps, and lags behind the one that the runner reads.
STAMP_LAG_S = 0.1


class Staging:
    """See the module. `root` is the node's folder."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._placing: dict[AttemptKey, tuple[Run, PlaceFiles]] = {}
        self._placed: dict[AttemptKey, Run] = {}  # to be sent
        self._keeping: dict[AttemptKey, tuple[Exited, KeepOutputs]] = {}

    def __contains__(self, key: object) -> bool:
        """Whether the attempt waits for its files, or for others that do."""
        return key in self._placing or key in self._placed

    def waiting(self) -> list[AttemptKey]:
        """The attempts that wait for their files."""
        return list(self._placing)

    def place(self, run: Run, files: tuple[FileRef, ...]) -> Send:
        """Have the files of `run` placed: it is to be sent after that."""
        request = PlaceFiles(run.key, private_folder(run.key), files)
        self._placing[run.key] = (run, request)
        return Send(STORE, request)

    def take_placing(self, key: AttemptKey) -> Run | None:
        """The run that waits for its files, or for others; it does no longer. None: it does not."""
        waiting = self._placing.pop(key, None)
        return self._placed.pop(key, None) if waiting is None else waiting[0]

    def placed(self, key: AttemptKey) -> bool:
        """The files of an attempt are there; whether it waited for them."""
        waiting = self._placing.pop(key, None)
        if waiting is not None:
            self._placed[key] = waiting[0]
        return waiting is not None

    def take_ready(self, before: Callable[[AttemptKey], AttemptKey | None]) -> list[Run]:
        """Those whose files are there, in the order in which they are to be sent; but none that
        stands behind one that is not sent yet, as `before` tells.
        """
        ready: list[Run] = []
        found = bool(self._placed)
        while found:
            found = False
            for key in list(self._placed):
                if before(key) not in self:
                    ready.append(self._placed.pop(key))
                    found = True
        return ready

    def keep(self, exited: Exited, globs: tuple[str, ...], *, private: bool) -> Send:
        """Have kept what an ended attempt leaves: its end is told after that.

        In the folder that all share, what was there before it began is not its own.
        """
        if private:
            request = KeepOutputs(exited.key, f"{self._root}/{private_folder(exited.key)}", globs)
        else:
            since = max(0.0, exited.outcome.started_at - STAMP_LAG_S)
            request = KeepOutputs(exited.key, self._root, globs, since)
        self._keeping[exited.key] = (exited, request)
        return Send(STORE, request)

    def take_kept(self, message: OutputsKept) -> Exited | None:
        """The end of the attempt, with what was kept; None: nobody waits for that."""
        waiting = self._keeping.pop(message.key, None)
        if waiting is None:
            return None
        exited, _ = waiting
        outcome = structs.replace(
            exited.outcome, outputs=message.outputs, output_problems=message.problems
        )
        return structs.replace(exited, outcome=outcome)

    def again(self) -> list[Send]:
        """The file store has begun anew: what it is to do."""
        waiting = [request for _, request in self._placing.values()]
        return [
            *(Send(STORE, request) for request in waiting),
            *(Send(STORE, request) for _, request in self._keeping.values()),
        ]
