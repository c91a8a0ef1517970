"""Supervisors: start in order, watch, restart by the pure decision, stop in reverse.

A supervisor is itself a child, so trees nest. It does one thing at a time: exits, and requests to
start or stop children, wait in line for its one task. What to do about an exit is decided in
`leoronic.core.supervision`; here it is only done.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from leoronic.core.supervision import Exit, decide, story
from leoronic.core.tree import ChildSpec, SupervisorSpec, check_owners, rule_of
from leoronic.errors import Conflict, LeoronicError, NotFound
from leoronic.runtime.child import Child, LocalChild, OnExit, Statistics
from leoronic.runtime.log import get_logger
from leoronic.runtime.ref import ActorRef, Directory

if TYPE_CHECKING:
    from leoronic.runtime.launcher import Launcher

Clock = Callable[[], float]


class StartFailed(LeoronicError):
    """A child could not be started; those started before it were stopped again."""

    code = "start_failed"
    definite = True


class Escalated(LeoronicError):
    """Children failed more often than allowed. `story` has a line for each recent failure."""

    code = "escalated"

    def __init__(self, message: str, story: list[str]) -> None:
        super().__init__(message)
        self.story = story


class Supervisor(Child):
    """Runs the children of one `SupervisorSpec`."""

    spec: SupervisorSpec

    def __init__(
        self,
        spec: SupervisorSpec,
        directory: Directory,
        on_exit: OnExit,
        *,
        launcher: Launcher | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        super().__init__(spec, on_exit)
        self._directory = directory
        self._launcher = launcher
        self._clock = clock
        self._log = get_logger(supervisor=spec.name)
        self._history: tuple[Exit, ...] = ()
        self._task: asyncio.Task[None] | None = None
        self._line: deque[Callable[[], Awaitable[None]]] = deque()
        self._waiting = asyncio.Event()
        # In start order. Made at once, so that every reference exists before any actor runs.
        self._children: dict[str, Child] = {}
        self._make_children()

    # as a child of its own supervisor

    @property
    def running(self) -> bool:
        """Whether it watches over its children."""
        return self._task is not None

    async def start(self) -> None:
        """Start all children, left to right. If one cannot, stop the others: `StartFailed`."""
        assert self._task is None, f"{self.name} runs already"
        self._history = ()
        self._line.clear()
        self._make_children()
        for child in list(self._children.values()):
            child.wanted = True
            try:
                await child.start()
            except BaseException as error:
                child.wanted = False
                await self._stop_all(survivors=False)
                if isinstance(error, StartFailed):
                    raise  # A supervisor, which has said what it was.
                if isinstance(error, Exception):
                    if _traced(error) is not None:
                        # What is raised tells the rest to whoever starts it.
                        self._log.error(
                            "start_failed", child=child.name, reason=_told(error), exc_info=error
                        )
                    raise StartFailed(f"{child.name} did not start: {_told(error)}") from error
                raise
        self._task = asyncio.create_task(self._watch(), name=f"{self.name} (supervisor)")
        self._task.add_done_callback(self._ended)

    async def stop(self, *, survivors: bool) -> None:
        """Stop all children in reverse order, each within its own `shutdown_s`."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._stop_all(survivors=survivors)

    def forget(self) -> None:
        """Free the names of all children."""
        for child in self._children.values():
            child.forget()

    def statistics(self) -> list[Statistics]:
        """A line for itself, then its children's."""
        lines = super().statistics()
        lines[0]["kind"] = "supervisor"
        for child in self._children.values():
            lines.extend(child.statistics())
        return lines

    def supervisor(self, name: str) -> Supervisor | None:
        """This one, or the one of that name below it."""
        if self.name == name:
            return self
        below = [child for child in self._children.values() if isinstance(child, Supervisor)]
        return next(filter(None, (child.supervisor(name) for child in below)), None)

    # dynamic children

    async def start_child(self, spec: ChildSpec | SupervisorSpec) -> ActorRef | None:
        """Add a child, last in order; returns once it is initialised, with its reference.

        Raises `Conflict` if its name is taken, `StartFailed`. Such a child is lost when its
        supervisor is restarted.
        """
        ref: ActorRef | None = await self._in_line(lambda: self._start_child(spec))
        return ref

    async def stop_child(self, name: str) -> None:
        """Stop a child in order and forget it. Raises `NotFound`."""
        await self._in_line(lambda: self._stop_child(name))

    async def _start_child(self, spec: ChildSpec | SupervisorSpec) -> ActorRef | None:
        for name in [spec.name] if isinstance(spec, ChildSpec) else [s.name for s in spec.walk()]:
            if self._directory.get(name) is not None or name in self._children:
                raise Conflict(f"there is an actor named {name} already")
        child = self._make(spec)
        child.wanted = True
        try:
            await child.start()
        except BaseException as error:
            child.forget()
            if isinstance(error, Exception):
                raise StartFailed(f"{child.name} did not start: {_told(error)}") from error
            raise
        self._children[child.name] = child
        return self._directory.get(child.name)

    async def _stop_child(self, name: str) -> None:
        child = self._children.get(name)
        if child is None:
            raise NotFound(f"{self.name} has no child named {name}")
        child.wanted = False
        await child.stop(survivors=True)
        self._forget(name)

    async def _in_line(self, work: Callable[[], Awaitable[Any]]) -> Any:
        if self._task is None:
            raise StartFailed(f"{self.name} is not running")
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def step() -> None:
            try:
                result = await work()
            except Exception as error:
                # It belongs to whoever asked, not to this supervisor.
                if not done.done():
                    done.set_exception(error)
            except BaseException:
                done.cancel()
                raise
            else:
                if not done.done():
                    done.set_result(result)

        self._enqueue(step)
        watcher = self._task
        await asyncio.wait([done, watcher], return_when=asyncio.FIRST_COMPLETED)
        if not done.done():
            raise StartFailed(f"{self.name} has stopped")
        return done.result()

    # watching

    def _make_children(self) -> None:
        # Temporary ones may have ended, and been forgotten, in an earlier life.
        self._children = {
            spec.name: self._children.get(spec.name) or self._make(spec)
            for spec in self.spec.children
        }

    def _make(self, spec: ChildSpec | SupervisorSpec) -> Child:
        if isinstance(spec, SupervisorSpec):
            return Supervisor(
                spec, self._directory, self._exited, launcher=self._launcher, clock=self._clock
            )
        if spec.host is None:
            return LocalChild(spec, self._directory, self._exited)
        # Only here: a process without host processes need not load sockets and launchers.
        from leoronic.runtime.host_child import HostChild  # noqa: PLC0415

        if self._launcher is None:
            raise ValueError(f"{spec.name}: nothing can launch its host process")
        return HostChild(spec, self._directory, self._exited, self._launcher)

    def _exited(self, child: Child, error: BaseException | None) -> None:
        at = self._clock()
        self._enqueue(lambda: self._on_exit_of(child, error, at))

    def _enqueue(self, step: Callable[[], Awaitable[None]]) -> None:
        self._line.append(step)
        self._waiting.set()

    async def _watch(self) -> None:
        try:
            while True:
                while self._line:
                    await self._line.popleft()()
                self._waiting.clear()
                await self._waiting.wait()
        except Exception:
            # Giving up takes all children along, before the parent hears of it.
            await self._stop_all(survivors=False)
            raise

    async def _on_exit_of(self, child: Child, error: BaseException | None, at: float) -> None:
        if self._children.get(child.name) is not child or child.running or not child.wanted:
            return  # It was stopped, forgotten or started anew since.
        if error is None:
            self._log.info("child_ended", child=child.name)
        else:
            self._log.error(
                "child_crashed", child=child.name, reason=_told(error), exc_info=_traced(error)
            )
        child.wanted = False
        failed: Exit | None = Exit(child.name, error is None, _told(error), at)
        while failed is not None:
            failed = await self._act_on(failed)

    async def _act_on(self, exit: Exit) -> Exit | None:
        """Do what the decision says. If a child does not start, that is the next exit."""
        rules = [rule_of(child.spec, wanted=child.wanted) for child in self._children.values()]
        decision = decide(self.spec.policy, rules, self._history, exit)
        self._history = decision.history
        if decision.escalate:
            lines = story(decision.history, exit.at)
            raise Escalated(
                f"{self.name}: {len(decision.history)} failures within {self.spec.period_s:g} s",
                lines,
            )
        for name in decision.stop:
            await self._children[name].stop(survivors=False)
        for name in decision.forget:
            self._forget(name)
        for name in decision.start:
            # Before any of them starts: if one fails, those after it are still to be started.
            self._children[name].wanted = True
        for name in decision.start:
            child = self._children[name]
            child.restarts += 1
            try:
                await child.start()
            except Exception as error:
                self._log.error(
                    "restart_failed", child=name, reason=_told(error), exc_info=_traced(error)
                )
                return Exit(name, False, f"did not start: {_told(error)}", self._clock())
            self._log.info("child_restarted", child=name, restarts=child.restarts)
        return None

    def _forget(self, name: str) -> None:
        self._children.pop(name).forget()

    async def _stop_all(self, *, survivors: bool) -> None:
        static = {spec.name for spec in self.spec.children}
        for child in reversed(list(self._children.values())):
            child.wanted = False
            await child.stop(survivors=survivors)
            if child.name not in static:
                self._forget(child.name)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The watching task is over: ordered (`stop`), or it escalates or failed."""
        if self._task is not task:
            return
        self._task = None
        self._on_exit(self, None if task.cancelled() else task.exception())


class Tree:
    """A whole supervision tree in this process: what a node, a host or a test starts.

    `launcher` starts host processes, if the tree has any; `clock` is steady, in seconds.
    """

    def __init__(
        self,
        spec: SupervisorSpec,
        *,
        launcher: Launcher | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        check_owners(spec)
        self._failure: asyncio.Future[None] | None = None
        self.directory = Directory()
        self.root = Supervisor(spec, self.directory, self._exited, launcher=launcher, clock=clock)

    async def start(self) -> None:
        """Start everything, in order. Raises `StartFailed`, with everything stopped again."""
        self._failure = asyncio.get_running_loop().create_future()
        self.root.wanted = True
        await self.root.start()

    async def wait(self) -> None:
        """Return once stopped. Raises `Escalated`, all children being stopped by then."""
        assert self._failure is not None, "not started"
        await asyncio.shield(self._failure)

    async def stop(self, *, survivors: bool = False) -> None:
        """Stop in reverse order. With `survivors`, host processes that could survive end too."""
        await self.root.stop(survivors=survivors)
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(None)

    def find(self, name: str) -> ActorRef:
        """The reference of an actor. Raises `NotFound`."""
        return self.directory.find(name)

    def supervisor(self, name: str) -> Supervisor:
        """The supervisor of that name: for dynamic children. Raises `NotFound`."""
        found = self.root.supervisor(name)
        if found is None:
            raise NotFound(f"there is no supervisor named {name}")
        return found

    def statistics(self) -> list[Statistics]:
        """One line for each supervisor and actor, in start order; see `LocalChild.statistics`."""
        return self.root.statistics()

    def _exited(self, root: Child, error: BaseException | None) -> None:
        assert self._failure is not None
        if not self._failure.done():
            self._failure.set_exception(error or RuntimeError("the root supervisor just ended"))


def _told(error: BaseException | None) -> str:
    """The error as one line for a person; for an escalation, with what led to it."""
    if error is None:
        return "ended normally"
    if isinstance(error, Escalated):
        return f"{error.message} ({'; '.join(error.story)})"
    if isinstance(error, LeoronicError):
        return f"{type(error).__name__}: {error.message}"
    return f"{type(error).__name__}: {error}"


def _traced(error: BaseException) -> BaseException | None:
    """The error if its traceback tells more than its message: if it is a bug."""
    return None if isinstance(error, LeoronicError) else error
