"""States of actors that save them: the last one outlives the process, and mostly the machine.

A class says so by `__leoronic_save__(self)`, which returns the state. A restarted actor gets it,
after its constructor, by `__leoronic_restore__(self, state)`. It is saved `__leoronic_save_s__`
seconds (default 1; 0: each time, before the answer) after a call. It is kept in a file of the node,
and by the process that made the actor: so it survives the machine, unless the actor is detached and
its maker has ended. What was done since it was saved last is lost.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from leoronic.client.locate import STATE_FOLDER
from leoronic.errors import LeoronicError
from leoronic.remote import said, serial
from leoronic.remote.channel import Channel
from leoronic.remote.errors import failure
from leoronic.remote.party import Party

SAVE_S = 1.0
FOLDER = "states"
# A larger one is in the file only.
SENT_BYTES_MAX = 64 * 1024 * 1024
KEPT_MAX = 1000
ASK_S_MAX = 10.0


Saved = tuple[int, int, bytes]
"""(attempt, number, the pickled payload): by the first two, later ones are greater."""


def saves(kind: type) -> bool:
    """Whether instances of the class save their state."""
    return hasattr(kind, "__leoronic_save__")


class Keeper:
    """Keeps the states of actors that this process has made. It answers `keep` and `kept`."""

    def __init__(self, party: Party) -> None:
        self._saved: OrderedDict[str, Saved] = OrderedDict()
        self._otherwise = party.handlers.get(said.ASK)
        party.handlers[said.ASK] = self._on_ask

    def _on_ask(self, channel: Channel, body: object) -> None:
        number, question = cast("tuple[int, Any]", body)
        match question:
            case ("keep", str(task), (int(attempt), int(version), data)):
                self._keep(task, (attempt, version, bytes(data)))
            case ("kept", str(task)):
                channel.say(said.ANSWER, (number, True, self._saved.get(task)))
            case _ if self._otherwise is not None:
                self._otherwise(channel, body)
            case _:
                why = failure("actor_error", f"nobody here answers {question!r}")
                channel.say(said.ANSWER, (number, False, why))

    def _keep(self, task: str, saved: Saved) -> None:
        known = self._saved.get(task)
        if known is None or known[:2] < saved[:2]:
            self._saved[task] = saved
            self._saved.move_to_end(task)
        if len(self._saved) > KEPT_MAX:
            self._saved.popitem(last=False)


Ask = Callable[[Any], Any]
"""Sends a question to the process that made this actor, and gives its answer, or raises."""


class Saver:
    """Saves and restores the state of the actor of this process.

    `tell(question)` sends without an answer; `later(seconds, function)` calls it where calls run.
    """

    def __init__(
        self,
        root: str,
        task: str,
        attempt: int,
        *,
        ask: Ask,
        tell: Callable[[Any], None],
        later: Callable[[float, Callable[[], None]], None],
    ) -> None:
        self._folder = Path(root) / STATE_FOLDER / FOLDER
        self._path = self._folder / task
        self._task = task
        self._attempt = attempt
        self._ask = ask
        self._tell = tell
        self._later = later
        self._instance: Any = None
        self._wait_s = SAVE_S
        self._number = 0
        self._is_due = False
        self._complained = False
        self._lock = threading.Lock()

    def begin(self, instance: Any) -> None:
        """The actor was made: restore what was saved, if it is not its first life. Raises all."""
        self._wait_s = float(getattr(instance, "__leoronic_save_s__", SAVE_S))
        saved = self._newest() if self._attempt > 1 else None
        if saved is not None and hasattr(instance, "__leoronic_restore__"):
            instance.__leoronic_restore__(serial.load(pickle.loads(saved[2])))
        self._instance = instance

    def called(self) -> None:
        """A call has ended; its answer was not sent yet. Where calls run."""
        if self._instance is None:
            return
        if not self._wait_s:
            self.save()
        elif not self._is_due:
            self._is_due = True
            self._later(self._wait_s, self.save)

    def save(self) -> None:
        """Save it now. What the user's code raises is printed, once."""
        if self._instance is None:
            return
        with self._lock:
            self._is_due = False
            try:
                payload = serial.dump(self._instance.__leoronic_save__(), what="the saved state")
                self._number += 1
                saved = (self._attempt, self._number, pickle.dumps(payload, 5))
                self._write(saved)
            except Exception:  # The user's code, or a full disk: the actor itself goes on.
                if not self._complained:
                    self._complained = True
                    sys.stderr.write(f"the state was not saved:\n{traceback.format_exc()}")
                return
        if len(saved[2]) <= SENT_BYTES_MAX:
            data = pickle.PickleBuffer(saved[2])
            self._tell(("keep", self._task, (*saved[:2], data)))

    def end(self, *, is_final: bool) -> None:
        """The process ends; `is_final`: it is not started again, so nobody needs the state."""
        if is_final:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
        else:
            self.save()

    def _write(self, saved: Saved) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        new = self._path.with_name(f"{self._task}.{os.getpid()}.new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            pickle.dump(saved, file, 5)
        new.replace(self._path)

    def _newest(self) -> Saved | None:
        found: list[Saved] = []
        with contextlib.suppress(OSError, pickle.UnpicklingError, EOFError):
            found.append(pickle.loads(self._path.read_bytes()))
        # Without its maker there is what the file holds.
        with contextlib.suppress(LeoronicError, TimeoutError):
            answer = self._ask(("kept", self._task))
            if answer is not None:
                found.append(cast("Saved", tuple(answer)))
        return max(found, key=lambda saved: saved[:2], default=None)
