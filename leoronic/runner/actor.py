"""The runner as an actor: messages in, outcomes out, and the machine's effects performed.

Everything that decides is in `core/attempts.py`. This file joins it to processes, pipes, timers and
the disk; the loop's callbacks turn what happens there into events.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from leoronic.core import attempt_events as core
from leoronic.core.attempt import KILL_PATIENCE_S
from leoronic.core.attempts import Attempts
from leoronic.core.outcome import StreamRef
from leoronic.core.run import (
    AttemptKey,
    Exited,
    Forget,
    FromRunner,
    Kill,
    ReadOutput,
    Run,
    Runs,
    Spawned,
    StartNow,
    TakeInventory,
    ToRunner,
)
from leoronic.runner import limits, spawn, tree
from leoronic.runner.cgroup import Cgroups, Group
from leoronic.runner.config import RunnerConfig
from leoronic.runner.live import WATCH_S_MAX, Live
from leoronic.runner.output import OutputStore
from leoronic.runner.pipes import Pipes
from leoronic.runner.reading import Readers
from leoronic.runner.removing import remove_tree
from leoronic.runner.reports import Reports
from leoronic.runner.starting import Starter, attempts_that_fit
from leoronic.runner.stream import Stream
from leoronic.runner.telling import Teller
from leoronic.runner.trees import Trees, end_leftovers, reap_one
from leoronic.runner.warm import WarmShell, WarmShells
from leoronic.runtime.actor import Actor

# A pipe holds 64 KiB, so a task that ends sooner than this needs no watching of its pipes: they are
# read once, at its end. That saves a third of our own work per short task.
ATTACH_AFTER_S = 0.004
# Orphans of running tasks that end on their own are reaped this often, so that they do not pile up.
REAP_S = 5.0
LEFTOVERS_S_MAX = 5.0
# Output is removed by its age: that of tasks that run, silent or not, is made young this often.
TOUCH_S = 3600.0


class RunnerActor(Actor):
    """Runs bash tasks. Takes the messages of `ToRunner`, emits `Spawned` and `ExitedMany`."""

    takes = ToRunner
    gives = FromRunner

    def __init__(self, config: RunnerConfig) -> None:
        self._config = config
        self._machine = Attempts(
            attempts_max=attempts_that_fit(config.attempts_max),
            linger_s=config.linger_s,
            grace_s=config.grace_s,
            runner=os.urandom(6).hex(),
        )
        self._live: dict[AttemptKey, Live] = {}
        self._events: deque[core.Event] = deque()
        self._working = False
        self._retries: dict[AttemptKey, asyncio.TimerHandle] = {}
        """Of attempts that were not started yet, for want of something that may pass."""
        self._unattached: list[Live] = []
        self._old_groups: list[Group] = []
        self._reaper: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._touch_at = 0.0

    async def started(self) -> None:
        """End what a former runner left, and be ready."""
        config = self._config
        self._loop = asyncio.get_running_loop()
        self._state_id = config.state_id
        spawn.seal_descriptors()
        tree.become_subreaper()
        self._cgroups = Cgroups(self._state_id)
        if config.use_cgroups:
            self._cgroups.open(config.tasks_pids_max)
            self.context.log.info(
                "cgroups",
                usable=sorted(self._cgroups.controllers),
                offered=sorted(self._cgroups.offered),
            )
        if left := await end_leftovers(self._state_id, LEFTOVERS_S_MAX):
            self.context.log.error("leftovers", pids=left)
        remove_tree(config.scratch_dir)
        self._pipes = Pipes(
            self._loop,
            self._guarded,
            config.file_after_s,
            news=lambda live: self._readers.wake(live.key),
            closed=lambda live: self._feed(core.OutputClosed(live.key)),
        )
        self._reports = Reports(
            self._loop,
            self._guarded,
            config.warm_idle_s,
            began=self._know_pid,
            ended=self._ended,
            died=self._on_warm_death,
        )
        self._teller = Teller(
            self.context.emit,
            self._guarded,
            config.announce_after_s,
            queued=lambda: self._machine.queued,
            running=lambda: len(self._live),
        )
        self._trees = Trees(self._feed, self._on_child_ended, self._guarded)
        self._watcher = limits.Watcher(self._feed, self._trees.members)
        self._store = OutputStore(
            config.output_dir,
            log=self.context.log,
            memory_bytes_max=config.memory_bytes_max,
            pack_bytes_max=config.pack_bytes_max,
            on_room=self._guarded(self._on_room),
        )
        self._store.open()
        self._readers = Readers(self.context, self._live, self._machine.exited, self._store.read)
        self._starter = Starter(config, self._state_id, self._cgroups, self._store)
        self._warm = WarmShells(
            self._starter.start_warm,
            bash=self._starter.bash,
            most=config.warm_shells_max,
            after_starts=config.warm_after_starts,
            idle_s=config.warm_idle_s,
            watch=self._watch_warm,
        )

    async def handle(self, message: Any) -> Any:
        """One message of `ToRunner`."""
        match message:
            case Run() | Runs() | StartNow() | Kill() | Forget():
                self._feed(message)
                return None
            case TakeInventory():
                self._teller.forget_starts()
                return self._machine.inventory()
            case ReadOutput():
                return self._readers.read(message)
        return await super().handle(message)

    async def stopping(self) -> None:
        """End every tree, tell what became of each, and release everything."""
        # Nobody may be there to hear of the outcomes: the files are what is left of the output.
        self._pipes.file_all(self._live.values())
        for task, attempt in self._machine.live():
            self._feed(Kill(task, attempt, "the runner was stopped", self._config.grace_s))
        self._idle.clear()
        if self._live:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(
                    self._idle.wait(), self._config.grace_s + KILL_PATIENCE_S + 1.0
                )
        self._teller.flush()
        for live in self._live.values():
            live.cancel_timers()
        if self._reaper is not None:
            self._reaper.cancel()
        self._pipes.stop()
        self._reports.stop()
        self._watcher.close()
        for shell in list(self._warm.all):
            self._on_warm_death(shell)
        tree.reap_strangers(())
        await self._store.close()
        self._remove_old_groups()
        self._cgroups.close()
        self._trees.close()
        self._starter.close()

    # --- the machine ---

    def _guarded(self, function: Callable[..., None]) -> Callable[..., None]:
        """A callback of the loop: what it raises is this actor's crash, not a line in a log."""

        def guarded(*arguments: Any) -> None:
            try:
                function(*arguments)
            except Exception as error:
                self.context.crash(error)

        return guarded

    def _feed(self, event: core.Event) -> None:
        """Give one event to the machine, and perform all that follows from it."""
        self._events.append(event)
        if self._working:
            return
        self._working = True
        try:
            while self._events:
                now = self._loop.time()
                for effect in self._machine.handle(self._events.popleft(), now):
                    self._perform(effect)
        finally:
            self._working = False

    def _perform(self, effect: core.Effect) -> None:
        match effect:
            case core.Spawn(run):
                self._spawn(run)
            case core.Emit(Spawned() as spawned):
                self._teller.started(spawned)
            case core.Emit(Exited() as exited):
                self._teller.ended(exited)
            case core.Store(key):
                self._keep(self._live[key])
            case core.SetTimer(key, timer, at):
                self._set_timer(key, timer, at)
            case core.CancelTimers(key):
                self._cancel_timers(key)
            case core.Signal(key, name):
                self._trees.signal(self._live[key], name)
            case core.WatchTree(key):
                self._pipes.file_later(self._live[key])
                self._trees.watch(self._live[key])
            case core.CloseOutput(key):
                self._pipes.close(self._live[key])
            case core.Discard(key):
                self._store.forget(key)

    def _set_timer(self, key: AttemptKey, timer: core.TimerKind, at: float) -> None:
        event = core.Fired(key, timer)
        if timer == "retry_start":
            self._retries[key] = self._loop.call_at(at, self._guarded(self._retry), event)
            return
        timers = self._live[key].timers
        if timer in timers:
            timers[timer].cancel()
        timers[timer] = self._loop.call_at(at, self._guarded(self._feed), event)

    def _cancel_timers(self, key: AttemptKey) -> None:
        if key in self._retries:
            self._retries.pop(key).cancel()
        else:
            self._live[key].cancel_timers()

    # --- starting ---

    def _retry(self, event: core.Fired) -> None:
        del self._retries[event.key]
        self._feed(event)

    def _spawn(self, run: Run) -> None:
        # Before it: what the task writes at once is younger than that.
        started_at = time.time()
        try:
            live = self._starter.start(run, self._warm, self._loop.time(), len(self._live))
        except (OSError, ValueError, spawn.CannotStartError) as error:
            self._start_failed(run.key, error)
            return
        if not self._live:
            self._reaper = self._loop.call_later(REAP_S, self._guarded(self._reap_regularly))
        self._live[live.key] = live
        live.started = self._loop.time()
        live.started_at = started_at
        self._attach_soon(live)
        if live.shell is None:
            self._watch_shell(live)
            self._feed(core.ShellStarted(live.key, live.pid, live.started_at))
        if live.watched_limits:
            self._watcher.add(live)

    def _start_failed(self, key: AttemptKey, error: Exception) -> None:
        why, passing = spawn.one_line(error), spawn.may_pass(error)
        self._feed(core.StartFailed(key, why, time.time(), passing))

    def _watch_shell(self, live: Live) -> None:
        """Notice the end of a shell that is our child."""
        live.pidfd = os.pidfd_open(live.pid)
        self._trees.by_pid[live.pid] = live
        self._loop.add_reader(live.pidfd, self._guarded(self._on_exit), live)

    # --- warm shells ---

    def _watch_warm(self, shell: WarmShell) -> None:
        self._trees.by_pid[shell.pid] = shell
        self._reports.listen(shell, self._warm)

    def _know_pid(self, live: Live, pid: int) -> None:
        if not live.pid:
            live.pid = pid
            self._feed(core.ShellStarted(live.key, pid, live.started_at))

    def _on_warm_death(self, shell: WarmShell) -> None:
        """Its task, if it has one, goes on as our child, and is watched like any other."""
        self._reports.leave(shell)
        self._trees.by_pid.pop(shell.pid, None)
        self._warm.lost(shell)
        live = shell.live
        pid = live.pid or shell.current_pid() if live is not None else 0
        shell.release()
        tree.send([shell.pid], signal.SIGKILL)
        self._loop.call_later(WATCH_S_MAX, self._guarded(self._trees.reap))
        if live is None or live.shell_gone:
            return
        shell.live = None
        if not pid:
            self._start_again(live, shell)
            return
        self._know_pid(live, pid)
        try:
            self._watch_shell(live)
        except ProcessLookupError:
            self._ended(live, spawn.Exit(None, signal.SIGKILL, None, 0.0))

    def _start_again(self, live: Live, shell: WarmShell) -> None:
        """The shell died, perhaps while idle, before it said that it had begun with the task."""
        tree.send(tree.in_session(shell.pid), signal.SIGKILL)
        live.shell = None
        try:
            self._starter.start_again(live)
        except (OSError, ValueError, spawn.CannotStartError) as error:
            self._pipes.drop(live)
            live.close_write_ends()
            del self._live[live.key]
            self._start_failed(live.key, error)
            return
        self._watch_shell(live)
        self._feed(core.ShellStarted(live.key, live.pid, live.started_at))

    # --- output ---

    def _attach_soon(self, live: Live) -> None:
        if not self._unattached:
            self._loop.call_later(ATTACH_AFTER_S, self._guarded(self._attach))
        self._unattached.append(live)

    def _attach(self) -> None:
        """Watch the pipes of attempts that did not end at once."""
        attached, self._unattached = self._unattached, []
        for live in attached:
            if self._live.get(live.key) is live:
                self._pipes.attach(live)
                if live.shell is not None and not live.pid:
                    if pid := live.shell.current_pid():
                        self._know_pid(live, pid)
                    else:
                        self._attach_soon(live)

    def _on_room(self, stream: Stream) -> None:
        live = self._live.get(stream.key)
        if live is not None:
            self._pipes.attach(live)
            self._pipes.tell_closed(live)

    # --- the end ---

    def _on_child_ended(self, child: Live | WarmShell) -> None:
        if isinstance(child, Live):
            self._on_exit(child)
        else:
            reap_one(child.pid)
            self._on_warm_death(child)

    def _on_exit(self, live: Live) -> None:
        ended = spawn.reap(live.pid)
        if ended is None:
            return
        del self._trees.by_pid[live.pid]
        self._loop.remove_reader(live.pidfd)
        os.close(live.pidfd)
        self._ended(live, ended)

    def _ended(self, live: Live, ended: spawn.Exit) -> None:
        """The shell has gone: read what it left, see who else is left, and tell the machine."""
        if live.shell_gone:
            return
        live.shell_gone = True
        live.close_write_ends()
        for stream in live.streams:
            self._pipes.pump(live, stream)
        self._trees.reap()
        closed = live.output_ended
        if not closed:
            self._pipes.attach(live)
        live.output_told = closed
        group = live.group
        self._feed(
            core.ShellExited(
                live.key,
                time.time(),
                exit_code=ended.exit_code,
                signal=ended.signal,
                peak_memory=(group.peak_memory() if group else None) or ended.peak_memory,
                cpu_seconds=ended.cpu_seconds,
                output_closed=closed,
                tree_empty=self._trees.seems_alone(live, closed),
                memory_killed=group is not None and group.memory_killed(),
                pids_refused=group is not None and group.pids_refused(),
            )
        )

    def _keep(self, live: Live) -> None:
        """The processes are gone: release what they had, and make the output durable."""
        live.cancel_timers()
        self._pipes.forget(live)
        self._watcher.discard(live)
        if live.shell is not None:
            self._warm.give_back(live.shell, self._loop.time())
        if live.group is not None:
            self._old_groups.append(live.group)
            self._remove_old_groups()
        if live.private_dir is not None and not live.run.keep_folder:
            self.context.spawn(_remove_folder(live.private_dir), "remove_folder")

        def kept(stdout: StreamRef, stderr: StreamRef) -> None:
            del self._live[live.key]
            self._feed(core.Stored(live.key, stdout, stderr))
            self._readers.wake(live.key)
            if not self._live:
                self._rest()

        self._store.keep(live.stdout, live.stderr, self._guarded(kept))

    def _rest(self) -> None:
        """Nothing runs: whatever is still our child belonged to a task, and shed every mark."""
        self._idle.set()
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        self._trees.end_strangers(lambda: not self._live)

    def _remove_old_groups(self) -> None:
        self._old_groups = [group for group in self._old_groups if not group.remove()]

    def _reap_regularly(self) -> None:
        self._trees.reap()
        self._remove_old_groups()
        if self._loop.time() >= self._touch_at:
            self._touch_at = self._loop.time() + TOUCH_S
            for live in self._live.values():
                for stream in live.streams:
                    stream.touch()
        self._reaper = self._loop.call_later(REAP_S, self._guarded(self._reap_regularly))


async def _remove_folder(folder: Path) -> None:
    try:
        await asyncio.to_thread(remove_tree, folder)
    except RuntimeError:
        # No room for one more thread, as tasks fill their group.
        remove_tree(folder)
