"""A runner alone in this process: no node, no socket; what it emits is collected."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.run import (
    AttemptKey,
    ExitedMany,
    Forget,
    Kill,
    OutputPart,
    ReadOutput,
    Run,
    Spawned,
)
from leoronic.runner.actor import RunnerActor
from leoronic.runner.config import RunnerConfig


class Request:
    """A call that is being handled: what the runtime's `Call` is."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class FakeLog:
    """Remembers lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Any:
        return lambda event, **fields: self.lines.append((level, event, fields))


class FakeContext:
    """The part of `ActorContext` that the runner uses."""

    def __init__(self) -> None:
        self.name = "runner"
        self.log = FakeLog()
        self.request: Request | None = None
        self.crashed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.outcomes: dict[AttemptKey, Outcome] = {}
        self.spawned: dict[AttemptKey, Spawned] = {}
        self.batches: list[int] = []
        self.changed = asyncio.Event()
        self.listener: Callable[[Any], None] | None = None
        """Gets what is emitted instead, if set."""
        self._tasks: set[asyncio.Task[None]] = set()

    def emit(self, message: Any) -> None:
        if self.listener is not None:
            self.listener(message)
            return
        match message:
            case Spawned():
                self.spawned[message.task, message.attempt] = message
            case ExitedMany(exits):
                self.batches.append(len(exits))
                for exited in exits:
                    assert exited.key not in self.outcomes, f"{exited.key} ended twice"
                    self.outcomes[exited.key] = exited.outcome
        self.changed.set()

    def reply(self, request: Request, result: Any) -> None:
        request.answer.set_result(result)

    def crash(self, error: BaseException) -> None:
        if not self.crashed.done():
            self.crashed.set_exception(error)
        self.changed.set()

    def spawn(self, work: Any, name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class Bench:
    """A started runner and what it said."""

    def __init__(self, actor: RunnerActor, context: FakeContext, config: RunnerConfig) -> None:
        self.actor = actor
        self.context = context
        self.config = config
        self.root = config.root
        self.count = 0

    async def start(self, command: str, **fields: Any) -> AttemptKey:
        """Give it one task."""
        self.count += 1
        run = Run(task=f"t{self.count}", attempt=1, command=command, **fields)
        await self.actor.handle(run)
        return run.key

    async def outcome(self, key: AttemptKey, within_s: float = 20.0) -> Outcome:
        """Wait for its end."""
        await self.until(lambda: key in self.context.outcomes, within_s, f"the end of {key}")
        return self.context.outcomes[key]

    async def until(self, condition: Any, within_s: float, what: str) -> None:
        """Wait until the condition holds, looking whenever the runner says something."""
        deadline = asyncio.get_running_loop().time() + within_s
        while not condition():
            if self.context.crashed.done():
                self.context.crashed.result()
            left = deadline - asyncio.get_running_loop().time()
            assert left > 0, f"{what} did not come within {within_s} s: {self.state()}"
            self.context.changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.context.changed.wait(), min(left, 0.02))

    def state(self) -> str:
        """For a failed wait."""
        machine = self.actor._machine
        return "; ".join(line for key in machine.live() for line in machine.story(key))

    async def run(self, command: str, within_s: float = 20.0, **fields: Any) -> Outcome:
        """Start and wait."""
        return await self.outcome(await self.start(command, **fields), within_s)

    async def kill(self, key: AttemptKey, reason: str = "cancelled", grace_s: float = 5.0) -> None:
        await self.actor.handle(Kill(key[0], key[1], reason, grace_s))

    async def forget(self, key: AttemptKey) -> None:
        await self.actor.handle(Forget([key]))

    async def read(
        self, key: AttemptKey, stream: str = "stdout", offset: int = 0, **fields: Any
    ) -> OutputPart:
        """Ask for output, waiting for an answer that comes later."""
        self.context.request = request = Request()
        part = await self.actor.handle(ReadOutput(key[0], key[1], stream, offset, **fields))
        self.context.request = None
        if isinstance(part, OutputPart):
            return part
        return await asyncio.wait_for(request.answer, 30.0)

    def content(self, ref: StreamRef) -> bytes:
        """All bytes of a kept stream."""
        if not ref.file:
            return ref.inline
        with (self.config.output_dir / ref.file).open("rb") as file:
            file.seek(ref.offset)
            return file.read(ref.size)


def make_config(root: Path, **changes: Any) -> RunnerConfig:
    """Settings for a runner below `root`."""
    state = root / ".leoronic"
    state.mkdir(exist_ok=True)
    config = RunnerConfig(root=root, state_dir=state, output_dir=state / "output")
    return replace(config, **changes)


@asynccontextmanager
async def running(root: Path | None = None, **changes: Any) -> AsyncIterator[Bench]:
    """A runner in a temporary folder, stopped in the end."""
    with tempfile.TemporaryDirectory(prefix="leoronic-") as folder:
        config = make_config(root or Path(folder), **changes)
        actor, context = RunnerActor(config), FakeContext()
        actor.context = context  # type: ignore[assignment]
        await actor.started()
        bench = Bench(actor, context, config)
        try:
            yield bench
        finally:
            await actor.stopping()
        if context.crashed.done():
            context.crashed.result()
