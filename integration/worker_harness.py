"""A real worker process, and a party that calls it: no node is needed for these two."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from leoronic.core.caller import CallerMachine
from leoronic.core.calls import (
    Acknowledge,
    Answered,
    Call,
    Connected,
    Disconnected,
    Done,
    Find,
    GivenBack,
    Returned,
    Say,
    Submitted,
)
from leoronic.remote import said, serial
from leoronic.remote.assignment import ActorShape, Assignment, write_creation
from leoronic.remote.code import CodeSent, describe
from leoronic.remote.errors import error_of
from leoronic.remote.party import Party
from leoronic.remote.states import Keeper

NODE = "n0"
DEADLINE_S = 15.0


class Boss:
    """A party with one worker, and all that the worker says to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / ".leoronic").mkdir(mode=0o700, exist_ok=True)
        (root / ".leoronic" / "node").write_text(NODE)
        self.results: dict[int, tuple[bool, Any]] = {}
        self.items: dict[int, list[Any]] = {}
        self.printed: list[tuple[str, str, str]] = []
        self.blocked: list[bool] = []
        self.answers: dict[int, Any] = {}
        self.returned: list[int] = []
        self.lost: list[str] = []
        self.channel: Any = None
        self.process: subprocess.Popen[bytes]
        self.attempt = 0
        self._numbers = 0
        self._sent = CodeSent()
        self.machine = CallerMachine("task-1", is_lease=True)
        party = self.party = Party(str(root), "d-boss", job="job")
        party.handlers[said.RESULTS] = self._on_results
        party.handlers[said.ITEM] = self._on_items
        party.handlers[said.PRINTED] = lambda channel, body: self.printed.extend(body)
        party.handlers[said.BLOCKED] = lambda channel, body: self.blocked.append(body)
        party.handlers[said.DECLINE] = lambda channel, body: self.tell(
            GivenBack(self.attempt, body)
        )
        party.handlers[said.ANSWER] = lambda channel, body: self.answers.update({body[0]: body[1:]})
        self.keeper = Keeper(party)
        party.on_channel = self._on_channel
        party.on_lost = self._on_lost
        party.start()

    def start(
        self,
        kind: str = "worker",
        cls: Any = None,
        args: Any = (),
        *,
        attempt: int = 1,
        **shape: Any,
    ) -> None:
        """Start the worker process; `cls(*args)` is the actor."""
        assignment = Assignment(
            kind,
            "job",
            (NODE, "d-boss"),
            (NODE, "d-boss"),
            orphan_s=2.0,
            actor=ActorShape(class_name=getattr(cls, "__name__", ""), **shape),
        )
        stdin = ""
        if cls is not None:
            stdin = write_creation(describe(cls), serial.dump_call(args, {}))
        env = {
            **os.environ,
            "LEORONIC_WORKER": msgspec.json.encode(assignment).decode(),
            "LEORONIC_ROOT": str(self.root),
            "LEORONIC_TASK_ID": "task-1",
            "LEORONIC_ATTEMPT": str(attempt),
            "LEORONIC_NODE": "here",
            "PYTHONPATH": f"{Path(__file__).parents[1]}",
        }
        self.output = (self.root / "output").open("w+b")
        command = os.environ.get("WORKER_COMMAND", "-m leoronic.remote.worker").split()
        self.process = subprocess.Popen(
            [sys.executable, *command],
            env=env,
            stdin=subprocess.PIPE,
            stdout=self.output,
            stderr=subprocess.STDOUT,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(stdin.encode())
        self.process.stdin.close()

    # ---- what is said ----

    def _on_channel(self, channel: Any) -> None:
        self.channel = channel
        self.attempt = channel.peer.info["attempt"]
        self.tell(Connected(self.attempt))

    def _on_lost(self, channel: Any, reason: str) -> None:
        self.lost.append(reason)
        self.tell(Disconnected(reason))

    def _on_results(self, channel: Any, body: Any) -> None:
        self.tell(Answered(self.attempt, body))

    def _on_items(self, channel: Any, body: Any) -> None:
        for number, index, ok, payload in body:
            assert ok
            items = self.items.setdefault(number, [])
            if index < len(items):
                continue
            assert len(items) == index
            items.append(serial.load(payload))

    def tell(self, event: Any) -> None:
        """Let the machine know, and do as it says. On the loop."""
        for effect in self.machine.handle(event, time.monotonic()):
            match effect:
                case Say(calls):
                    for call in calls:
                        self._say(call)
                case Acknowledge(seq):
                    self.channel.say(said.ACK, [("task-1", seq)])
                case Done(results):
                    self.results.update({number: (ok, body) for number, ok, body in results})
                case Returned(calls):
                    self.returned += [call.number for call in calls]
                case Find():
                    pass

    def _say(self, call: Call) -> None:
        code, name, payload, n_returns, flags = call.body  # type: ignore[misc]
        if code is not None and self._sent.needs(self.channel, code.digest):
            self.channel.say(said.CODE, [(code.digest, code.data)])
        item = (call.number, call.seq, "task-1", name, payload, n_returns, flags)
        self.channel.say(said.CALLS, [item])

    # ---- what tests do ----

    def call(self, what: Any, *args: Any, n_returns: int = 1, **flags: Any) -> int:
        """Call a function, or a method by its name; the number of the call."""
        self._numbers += 1
        code = None if isinstance(what, str) else describe(what)
        name = what if code is None else code.digest
        label = what if code is None else code.name
        payload = serial.dump_call(args, {})
        body = (code, name, payload, n_returns, {"label": label, **flags})
        self.party.post(self.tell, Submitted([Call(self._numbers, body)]))
        return self._numbers

    def get(self, number: int) -> Any:
        """The result of a call; raises what it raised."""
        wait_for(lambda: number in self.results, f"call {number}", self.story)
        ok, payload = self.results[number]
        if not ok:
            raise error_of(payload)
        return (
            [serial.load(each) for each in payload]
            if type(payload) is list
            else (serial.load(payload))
        )

    def say(self, kind: int, body: Any) -> None:
        """Say something to the worker."""
        self.party.post(lambda: self.channel.say(kind, body))

    def cancel(self, number: int, *, force: bool = False) -> None:
        """Ask for the end of a call."""
        self.say(said.CANCEL, [(number, force)])

    def exit_status(self) -> int:
        """Of the worker, once it has ended."""
        wait_for(lambda: self.process.poll() is not None, "the worker's end", self.story)
        return self.process.returncode

    def written(self) -> bytes:
        """What the worker wrote."""
        return (self.root / "output").read_bytes()

    def story(self) -> str:
        """What is known, for a wait that was in vain."""
        return f"results {self.results}, lost {self.lost}, output:\n{self.written().decode()}"

    def kill(self) -> None:
        """Kill the worker, and wait until that is noticed."""
        self.process.kill()
        self.process.wait()
        losses = len(self.lost)
        wait_for(lambda: len(self.lost) > losses or self.channel.closed, "the loss", self.story)

    def stop(self) -> None:
        """End both."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.output.close()
        self.party.stop()


def wait_for(what: Callable[[], bool], name: str, story: Callable[[], str]) -> None:
    """Wait until it is true; raises with the last state seen."""
    deadline = time.monotonic() + DEADLINE_S
    while not what():
        if time.monotonic() > deadline:
            raise AssertionError(f"{name} did not come within {DEADLINE_S:g} s; {story()}")
        time.sleep(0.005)


@contextmanager
def boss() -> Iterator[Boss]:
    """A party whose worker is still to be started."""
    with tempfile.TemporaryDirectory(prefix="leoronic-worker-") as folder:
        made = Boss(Path(folder))
        try:
            yield made
        finally:
            made.stop()


__all__ = ["Boss", "asyncio", "boss", "wait_for"]
