"""The process that carries out remote calls: a leased worker, or an actor.

It is the command of an ordinary task, so it is placed, watched, limited and restarted as such.
Connections are on a thread of their own; the user's code has the main thread.
"""

from __future__ import annotations

import atexit
import faulthandler
import inspect
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, cast

from leoronic.errors import LeoronicError
from leoronic.remote import said, serial
from leoronic.remote.assignment import (
    Assignment,
    Place,
    close_stdin,
    enter,
    read_assignment,
    read_creation,
)
from leoronic.remote.channel import Channel
from leoronic.remote.code import CodeShelf
from leoronic.remote.errors import error_of, failure
from leoronic.remote.executing import Actor, Functions
from leoronic.remote.jobs import Job, Outcome, current
from leoronic.remote.lessor import Lessor
from leoronic.remote.memory import keep_memory
from leoronic.remote.parent import die_with_parent
from leoronic.remote.party import Party
from leoronic.remote.printing import Relay, redirect
from leoronic.remote.running import END_S, EventLoop, MainThread, Threads
from leoronic.remote.serving import Serving
from leoronic.remote.states import ASK_S_MAX, Saver, saves
from leoronic.remote.streaming import Stream

ASYNC_CONCURRENCY = 1000
# For so long an actor that could not be made tells everybody why.
LINGER_S = 2.0
EXIT_S_MAX = 5.0
# Threads that hand over small pieces of work must not wait 5 ms for each other.
SWITCH_S = 0.001


class Worker:
    """One process, from its assignment to its exit status."""

    def __init__(self, assignment: Assignment, place: Place) -> None:
        self._assignment = assignment
        self._is_actor = assignment.kind == "actor"
        self._name = assignment.actor.name or assignment.actor.class_name or place.task
        self._task = place.task
        self._attempt = place.attempt
        self._where = f"{assignment.kind} {place.task} on {place.node_name}, pid {os.getpid()}"
        self._node_name = place.node_name
        self._started = time.monotonic()
        self._party = Party(place.root, place.party, job=assignment.job)
        self._party.info = {
            "kind": assignment.kind,
            "task": place.task,
            "attempt": place.attempt,
            "pid": os.getpid(),
        }
        self._shelf = CodeShelf()
        # Late, so that what only defines workers need not load it.
        from leoronic.remote.context import Context  # noqa: PLC0415

        self._context = Context.attach(
            self._party,
            {
                "job": assignment.job,
                "namespace": assignment.namespace,
                "driver": assignment.driver,
                "kind": assignment.kind,
                "task": place.task,
                "attempt": place.attempt,
                "paths": assignment.paths,
                "env_vars": assignment.env_vars,
                "working_dir": assignment.working_dir,
                "actor_name": assignment.actor.name,
            },
        )
        self._serving = Serving(
            self._party,
            place.task,
            self._shelf,
            fetch=self._context.fetch,
            keeps_order=self._is_actor,
        )
        self._lessor = Lessor(
            self._party,
            assignment.lessor,
            orphan_s=assignment.orphan_s,
            is_needed=not assignment.detached,
            on_gone=self._gone,
        )
        self._relay = Relay(self._who, self._wake_printer)
        self._saver: Saver | None = None
        self._ending = False
        self._wire()

    def _wire(self) -> None:
        party, serving = self._party, self._serving
        serving.on_force = lambda reason: self._leave(1)
        asked = party.handlers.get(said.ASK)
        party.handlers[said.ASK] = lambda channel, body: self._on_ask(channel, body, asked)
        lost = party.on_lost

        def on_lost(channel: Channel, reason: str) -> None:
            lost(channel, reason)
            serving.lost(channel)

        party.on_lost = on_lost
        if not self._is_actor:
            self._context.on_blocked = self._on_blocked

    # ---- the main thread ----

    def run(self) -> int:
        """Serve until the end; the exit status. Raises `LeoronicError`, `OSError` at the start."""
        self._flush = redirect(self._relay)
        create = self._prepare()
        close_stdin()
        self._party.start()
        self._lessor_done = self._party.run(self._lessor.stay())
        try:
            status = self._serving.place.run(create)
        except BaseException as error:
            status = self._not_made(error)
        deadline = time.monotonic() + END_S
        while self._serving.running and time.monotonic() < deadline:
            time.sleep(0.01)
        if self._saver is not None:
            self._saver.end(is_final=status == 0)
        return status

    def _prepare(self) -> Callable[[], Any]:
        """Set up where calls run; what is returned makes the actor."""
        serving = self._serving
        stream = Stream(serving.send_item)
        if not self._is_actor:
            functions = Functions(self._where, self._shelf)
            serving.place = MainThread(functions, stream, serving.finish)
            return lambda: None
        shape = self._assignment.actor
        creation = read_creation(shape)
        actor = Actor(self._where, self._name, self._end)
        self._shelf.add(creation.code.digest, creation.code.data)
        try:
            kind = self._shelf.load(creation.code.digest)
        except BaseException as error:
            # Told to all who call, like an error of its constructor.
            serving.place = MainThread(actor, stream, serving.finish)
            return _raising(error)
        if saves(kind):
            self._saver = self._make_saver()
        is_async = any(_is_async(getattr(kind, name, None)) for name in dir(kind))
        if is_async:
            count = shape.max_concurrency or ASYNC_CONCURRENCY
            serving.place = EventLoop(actor, stream, self._finish, count, shape.groups)
        elif (shape.max_concurrency or 1) > 1 or shape.groups:
            count = shape.max_concurrency or 1
            serving.place = Threads(actor, stream, self._finish, count, shape.groups)
        else:
            serving.place = MainThread(actor, stream, self._finish)

        def create() -> None:
            args, kwargs = serial.load_call(creation.payload, self._tops(creation.payload))
            instance = kind(*args, **kwargs)
            if self._saver is not None:
                self._saver.begin(instance)
            actor.instance = instance

        return create

    def _make_saver(self) -> Saver:
        def later(wait_s: float, function: Callable[[], None]) -> None:
            call = self._serving.place.call
            self._party.post(self._party.loop.call_later, wait_s, call, function)

        return Saver(
            self._party.root,
            self._task,
            self._attempt,
            ask=lambda question: self._party.run(self._ask_lessor(question)).result(ASK_S_MAX),
            tell=lambda question: self._party.post(self._tell_lessor, question),
            later=later,
        )

    def _finish(self, job: Job, outcome: Outcome) -> None:
        """A call is over, in the thread in which it ran."""
        if self._saver is not None:
            self._saver.called()
        self._serving.finish(job, outcome)

    def _tops(self, payload: serial.Payload) -> list[Any]:
        """The values of the constructor's arguments that are references. Raises their errors."""
        tops = serial.tops_of(payload)
        values: list[Any] = [(True, inline) for _, inline in tops]
        missing = [index for index, (_, inline) in enumerate(tops) if inline is None]
        if missing:
            fetched = threading.Event()

            def then(found: list[tuple[bool, Any]]) -> None:
                for index, value in zip(missing, found, strict=True):
                    values[index] = value
                fetched.set()

            self._party.post(self._context.fetch, [tops[index][0] for index in missing], then)
            fetched.wait()
        made = []
        for ok, value in values:
            if not ok:
                raise error_of(value)
            made.append(serial.load(value))
        return made

    def _not_made(self, error: BaseException) -> int:
        """The actor's constructor raised: everybody is told, for a while; the exit status."""
        if isinstance(error, SystemExit) and not error.code:
            return 0
        text = "".join(traceback.format_exception(error))
        sys.stderr.write(text)
        sys.stderr.flush()
        why = failure("actor_died", f"{self._name} could not be made, in {self._where}:\n{text}")
        self._party.post(self._serving.fail_all, why)
        time.sleep(LINGER_S)
        return 1

    def leave(self, status: int) -> None:
        """End the process, in order, but whatever threads of the user's code still do."""
        self._end_at_last(status)
        atexit._run_exitfuncs()
        self._flush()
        self._party.stop("it has ended")
        os._exit(status)

    # ---- from any thread ----

    def _end(self, status: int) -> None:
        """End when what runs is over."""
        self._party.post(self._end_here, status)

    def _leave(self, status: int) -> None:
        """End now: what the user's code does is not waited for."""

        def leave() -> None:
            self._flush()
            self._party.stop("it has ended")
            os._exit(status)

        self._end_at_last(status)
        threading.Thread(target=leave, daemon=True).start()

    @staticmethod
    def _end_at_last(status: int) -> None:
        """What the user's code holds or does at the end must not keep this process for ever."""
        timer = threading.Timer(EXIT_S_MAX, os._exit, (status,))
        timer.daemon = True
        timer.start()

    def _who(self) -> str:
        running = current()
        name = running.label if running is not None and not self._is_actor else self._name
        return f"{name} pid={os.getpid()} node={self._node_name}"

    def _wake_printer(self) -> None:
        self._party.post(self._print)

    def _on_blocked(self, is_blocked: bool) -> None:
        """The user's code waits for other calls in the thread that runs it, or goes on."""
        self._party.post(self._say_blocked, is_blocked)

    # ---- the loop's thread ----

    def _end_here(self, status: int) -> None:
        if not self._ending:
            self._ending = True
            self._serving.decline_all()
            self._serving.place.stop(status)

    def _gone(self, reason: str) -> None:
        sys.stderr.write(f"leoronic: this worker ends: {reason}\n")
        # Nobody waits for what runs.
        self._leave(0)

    async def _ask_lessor(self, question: Any) -> Any:
        channel = await self._party.dial(*self._assignment.lessor)
        return await self._context.ask_party(channel, question)

    def _tell_lessor(self, question: Any) -> None:
        channel = self._party.channel(*self._assignment.lessor)
        if channel is not None:
            channel.say(said.ASK, (0, question))

    def _say_blocked(self, is_blocked: bool) -> None:
        if is_blocked:
            self._serving.decline_all()
        elif not self._ending:
            self._serving.accept()
        channel = self._party.channel(*self._assignment.lessor)
        if channel is not None:
            channel.say(said.BLOCKED, is_blocked)

    def _print(self) -> None:
        lines = self._relay.take()
        channel = self._party.channel(*self._assignment.driver)
        if channel is not None and lines:
            channel.say(said.PRINTED, lines)

    def _on_ask(
        self,
        channel: Channel,
        body: object,
        otherwise: Callable[[Channel, object], None] | None,
    ) -> None:
        number, question = cast("tuple[int, Any]", body)
        match question:
            case ("end", *_):
                channel.say(said.ANSWER, (number, True, None))
                self._end_here(0)
            case ("decline",):
                self._serving.decline_waiting()
            case ("crash",):
                os.kill(os.getpid(), signal.SIGKILL)
            case ("about",):
                channel.say(said.ANSWER, (number, True, self._about()))
            case _ if otherwise is not None:
                otherwise(channel, body)
            case _:
                why = failure("actor_error", f"a worker is not asked {question!r}")
                channel.say(said.ANSWER, (number, False, why))

    def _about(self) -> dict[str, object]:
        return {
            "pid": os.getpid(),
            "running": self._serving.running,
            "waiting": self._serving.waiting,
            "executed": self._serving.executed,
            "age_s": time.monotonic() - self._started,
        }


def _is_async(member: object) -> bool:
    return inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member)


def _raising(error: BaseException) -> Callable[[], Any]:
    def create() -> None:
        raise error

    return create


def main() -> int:
    """Be the worker that the environment describes; the exit status if it cannot begin."""
    sys.setswitchinterval(SWITCH_S)
    # What a crash in native code leaves is a traceback, among the last lines of the task.
    faulthandler.enable()
    keep_memory()
    die_with_parent()
    try:
        assignment, place = read_assignment(dict(os.environ))
        worker = Worker(assignment, place)
        enter(assignment)
        status = worker.run()
    except (LeoronicError, OSError) as error:
        sys.stderr.write(f"leoronic: {error}\n")
        return 1
    worker.leave(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
