"""The runner as an actor: messages in, outcomes out, and the machine's effects performed.

Everything that decides is in `core/attempts.py`. This file joins it to processes, pipes, timers and
the disk; the loop's callbacks turn what happens there into events.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from leoronic.core import attempts as core
from leoronic.core.attempts import KILL_PATIENCE_S, Attempts
from leoronic.core.outcome import StreamRef
from leoronic.core.run import (
    AttemptKey,
    Exited,
    ExitedMany,
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
from leoronic.errors import MailboxFull
from leoronic.runner import limits, spawn, tree
from leoronic.runner.cgroup import Cgroups, Group
from leoronic.runner.config import RunnerConfig
from leoronic.runner.live import WATCH_S_MAX, WATCH_S_MIN, Live
from leoronic.runner.output import OutputStore
from leoronic.runner.reading import Readers
from leoronic.runner.stream import Stream
from leoronic.runner.warm import WarmShell, WarmShells, suits
from leoronic.runtime.actor import Actor

# A pipe holds 64 KiB, so a task that ends sooner than this needs no watching of its pipes: they are
# read once, at its end. That saves a third of our own work per short task.
ATTACH_AFTER_S = 0.004
# Orphans of running tasks that end on their own are reaped this often, so that they do not pile up.
REAP_S = 5.0
# A process that is still there so long after its shell is a straggler.
STRAGGLER_S = 0.03
KILL_PASSES_MAX = 20
LEFTOVERS_S_MAX = 5.0
EMIT_RETRY_S = 0.05
# Outcomes in one message: with all their output inline they are about 1.5 MiB.
EXITS_MAX = 256


class RunnerActor(Actor):
    """Runs bash tasks. Takes the messages of `ToRunner`, emits `Spawned` and `ExitedMany`."""

    takes = ToRunner
    gives = FromRunner

    def __init__(self, config: RunnerConfig) -> None:
        self._config = config
        self._machine = Attempts(
            attempts_max=config.attempts_max, linger_s=config.linger_s, grace_s=config.grace_s
        )
        self._live: dict[AttemptKey, Live] = {}
        self._by_pid: dict[int, Live | WarmShell] = {}
        self._events: deque[core.Event] = deque()
        self._working = False
        self._exits: list[Exited] = []
        self._announcements: dict[AttemptKey, Spawned] = {}
        self._unattached: list[Live] = []
        self._strangers: dict[int, str] = {}
        self._old_groups: list[Group] = []
        self._reaper: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()

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
        await self._end_leftovers()
        shutil.rmtree(config.work_dir, ignore_errors=True)
        self._bash = spawn.find_bash()
        self._environment = spawn.node_environment(os.environ)
        self._devnull = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._children = tree.Children()
        self._readers = Readers(self.context)
        self._store = OutputStore(
            config.output_dir,
            log=self.context.log,
            memory_bytes_max=config.memory_bytes_max,
            pack_bytes_max=config.pack_bytes_max,
            on_room=self._guarded(self._on_room),
        )
        self._store.open()
        self._watcher = limits.Watcher(self._feed, self._members)
        self._warm = WarmShells(
            self._start_warm,
            bash=self._bash,
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
                self._announcements.clear()
                return self._machine.inventory()
            case ReadOutput():
                return self._readers.read(message, self._source)
        return await super().handle(message)

    async def stopping(self) -> None:
        """End every tree, tell what became of each, and release everything."""
        for task, attempt in self._machine.live():
            self._feed(Kill(task, attempt, "the runner was stopped", self._config.grace_s))
        self._idle.clear()
        if self._live:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(
                    self._idle.wait(), self._config.grace_s + KILL_PATIENCE_S + 1.0
                )
        self._flush_exits()
        for live in self._live.values():
            live.cancel_timers()
        for timer in (self._reaper, self._idle_timer):
            if timer is not None:
                timer.cancel()
        self._watcher.close()
        for shell in list(self._warm.all):
            self._on_warm_death(shell)
        tree.reap_strangers(())
        await self._store.close()
        self._remove_old_groups()
        self._cgroups.close()
        self._children.close()
        os.close(self._devnull)

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
                self._announce(spawned)
            case core.Emit(Exited() as exited):
                self._emit_exit(exited)
            case core.Store(key):
                self._keep(self._live[key])
            case core.SetTimer(key, timer, at):
                self._set_timer(self._live[key], timer, at)
            case core.CancelTimers(key):
                self._live[key].cancel_timers()
            case core.Signal(key, name):
                self._signal(self._live[key], name)
            case core.WatchTree(key):
                self._watch_tree(self._live[key])
            case core.CloseOutput(key):
                self._close_output(self._live[key])
            case core.Discard():
                pass

    def _set_timer(self, live: Live, timer: core.TimerKind, at: float) -> None:
        if timer in live.timers:
            live.timers[timer].cancel()
        event = core.Fired(live.key, timer)
        live.timers[timer] = self._loop.call_at(at, self._guarded(self._feed), event)

    # --- telling the executor ---

    def _announce(self, spawned: Spawned) -> None:
        """Later, so that a short attempt is told of once, by its outcome."""
        if not self._announcements:
            self._loop.call_later(
                self._config.announce_after_s, self._guarded(self._flush_announcements)
            )
        self._announcements[spawned.task, spawned.attempt] = spawned

    def _flush_announcements(self) -> None:
        announcements, self._announcements = self._announcements, {}
        for spawned in announcements.values():
            # A notice that is lost is made up for by the outcome, or by the next inventory.
            with contextlib.suppress(MailboxFull):
                self.context.emit(spawned)

    def _emit_exit(self, exited: Exited) -> None:
        self._announcements.pop(exited.key, None)
        if not self._exits:
            self._loop.call_soon(self._guarded(self._flush_exits))
        self._exits.append(exited)

    def _flush_exits(self) -> None:
        while self._exits:
            try:
                self.context.emit(ExitedMany(self._exits[:EXITS_MAX]))
            except MailboxFull:
                self._loop.call_later(EMIT_RETRY_S, self._guarded(self._flush_exits))
                return
            del self._exits[:EXITS_MAX]

    # --- starting ---

    def _spawn(self, run: Run) -> None:
        try:
            live = self._start(run)
        except (OSError, ValueError, spawn.CannotStartError) as error:
            why = str(error) if isinstance(error, spawn.CannotStartError) else spawn.one_line(error)
            self._feed(core.StartFailed(run.key, why, time.time()))
            return
        if not self._live:
            self._reaper = self._loop.call_later(REAP_S, self._guarded(self._reap_regularly))
        self._live[live.key] = live
        live.started = self._loop.time()
        live.started_at = time.time()
        self._attach_soon(live)
        if live.shell is None:
            self._watch_shell(live)
            self._feed(core.ShellStarted(live.key, live.pid, live.started_at))
        if live.watched_limits:
            self._watcher.add(live)

    def _watch_shell(self, live: Live) -> None:
        """Notice the end of a shell that is our child."""
        live.pidfd = os.pidfd_open(live.pid)
        self._by_pid[live.pid] = live
        self._loop.add_reader(live.pidfd, self._guarded(self._on_exit), live)

    def _start(self, run: Run) -> Live:
        """Everything that an attempt needs, and its shell. Leaves nothing behind if it raises."""
        with contextlib.ExitStack() as on_failure:
            pipes = []
            for _ in range(2):
                read_fd, write_fd = os.pipe()
                on_failure.callback(os.close, read_fd)
                pipes.append(read_fd)
                os.set_blocking(read_fd, False)
                pipes.append(write_fd)
            out_read, out_write, err_read, err_write = pipes
            live = Live(
                run,
                tree.marker(self._state_id, run.key),
                Stream(self._store, run.key, "stdout", out_read),
                Stream(self._store, run.key, "stderr", err_read),
            )
            live.write_ends = [out_write, err_write]
            on_failure.callback(live.close_write_ends)
            stdin = -1
            if run.stdin:
                stdin = spawn.memory_file(run.stdin.encode(errors="surrogateescape"))
                live.write_ends.append(stdin)
            if not self._start_in_warm(live, stdin):
                self._start_fresh(live, stdin, on_failure)
                live.close_write_ends()
            on_failure.pop_all()
            return live

    def _start_fresh(self, live: Live, stdin: int, on_failure: contextlib.ExitStack) -> None:
        run = live.run
        cwd = self._config.root
        if run.workdir == "private":
            cwd = live.private_dir = self._config.work_dir / f"{run.task}.{run.attempt}"
            cwd.mkdir(parents=True)
            on_failure.callback(shutil.rmtree, cwd, ignore_errors=True)
        self._limit(live, on_failure)
        out_write, err_write = live.write_ends[:2]
        live.pid = spawn.spawn(
            self._bash,
            run.command,
            env={**self._environment, **run.env, spawn.MARKER: live.marker},
            cwd=cwd,
            stdin=stdin if stdin >= 0 else self._devnull,
            stdout=out_write,
            stderr=err_write,
            join=live.group.join_files() if live.group else (),
        )
        if live.watched_limits:
            limits.limit_process(live.pid, run)

    def _limit(self, live: Live, on_failure: contextlib.ExitStack) -> None:
        wanted = limits.wanted(live.run)
        if not wanted.controllers():
            return
        live.group = self._cgroups.make(f"{live.run.task}.{live.run.attempt}", wanted)
        if live.group is not None:
            on_failure.callback(live.group.remove)
        else:
            live.watched_limits = True

    # --- warm shells ---

    def _start_in_warm(self, live: Live, stdin: int) -> bool:
        """Whether a warm shell took it."""
        run = live.run
        if not suits(run) or limits.wanted(run).controllers():
            return False
        shell = self._warm.take(self._loop.time())
        if shell is None:
            return False
        out_write, err_write = live.write_ends[:2]
        try:
            shell.send(run, live.marker, stdin, out_write, err_write)
        except (OSError, spawn.CannotStartError):
            # It died just now, which its report tells; or this does not fit after all.
            self._warm.give_back(shell, self._loop.time())
            return False
        shell.live, live.shell = live, shell
        return True

    def _start_warm(self, number: int) -> WarmShell:
        return WarmShell(
            self._bash, self._environment, self._config.root, f"{self._state_id}/warm/{number}"
        )

    def _watch_warm(self, shell: WarmShell) -> None:
        self._by_pid[shell.pid] = shell
        self._loop.add_reader(shell.report_fd, self._guarded(self._on_report), shell)
        self._close_idle_later()

    def _close_idle_later(self) -> None:
        if self._idle_timer is None and self._warm.all:
            self._idle_timer = self._loop.call_later(
                self._config.warm_idle_s, self._guarded(self._close_idle)
            )

    def _close_idle(self) -> None:
        self._idle_timer = None
        self._warm.close_idle(self._loop.time())
        self._close_idle_later()

    def _on_report(self, shell: WarmShell) -> None:
        try:
            report = shell.read_report()
        except EOFError:
            self._on_warm_death(shell)
            return
        live = shell.live
        if report is None or live is None:
            return
        self._know_pid(live, report.pid)
        if report.ended is not None:
            self._ended(live, report.ended)
        else:
            self._wait_for_stopped(shell, report.pid)

    def _wait_for_stopped(self, shell: WarmShell, pid: int) -> None:
        """A stopped task would keep its warm shell spinning in `wait`: we wait instead."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            shell.go_on()
            return

        def ended() -> None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
            if shell in self._warm.all:
                shell.go_on()

        self._loop.add_reader(pidfd, self._guarded(ended))

    def _know_pid(self, live: Live, pid: int) -> None:
        if not live.pid:
            live.pid = pid
            self._feed(core.ShellStarted(live.key, pid, live.started_at))

    def _on_warm_death(self, shell: WarmShell) -> None:
        """Its task, if it has one, goes on as our child, and is watched like any other."""
        self._loop.remove_reader(shell.report_fd)
        self._by_pid.pop(shell.pid, None)
        self._warm.lost(shell)
        live = shell.live
        pid = live.pid or shell.current_pid() if live is not None else 0
        shell.release()
        tree.send([shell.pid], signal.SIGKILL)
        self._loop.call_later(WATCH_S_MAX, self._guarded(self._reap))
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
        stdin = live.write_ends[2] if len(live.write_ends) > 2 else -1
        try:
            with contextlib.ExitStack() as on_failure:
                self._start_fresh(live, stdin, on_failure)
                on_failure.pop_all()
        except (OSError, ValueError, spawn.CannotStartError) as error:
            for stream in live.streams:
                self._unwatch(stream)
                stream.close()
            live.close_write_ends()
            del self._live[live.key]
            self._feed(core.StartFailed(live.key, spawn.one_line(error), time.time()))
            return
        live.close_write_ends()
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
                self._attach_streams(live)
                if live.shell is not None and not live.pid:
                    if pid := live.shell.current_pid():
                        self._know_pid(live, pid)
                    else:
                        self._attach_soon(live)

    def _attach_streams(self, live: Live) -> None:
        for stream in live.streams:
            if not stream.watched and not stream.at_end and not stream.blocked:
                stream.watched = True
                self._loop.add_reader(stream.fd, self._guarded(self._on_output), live, stream)

    def _on_output(self, live: Live, stream: Stream) -> None:
        if self._loop.time() - live.started > self._config.file_after_s:
            stream.age()
        self._pump(live, stream)
        self._readers.wake(live.key, self._source)
        self._tell_output(live)

    def _pump(self, live: Live, stream: Stream) -> None:
        """Read one turn's worth, and stop watching at the end or while the disk is full."""
        if not stream.at_end:
            stream.read()
        if stream.at_end or stream.blocked:
            self._unwatch(stream)
            if stream.at_end:
                stream.close()

    def _unwatch(self, stream: Stream) -> None:
        if stream.watched:
            stream.watched = False
            self._loop.remove_reader(stream.fd)

    def _on_room(self, stream: Stream) -> None:
        live = self._live.get(stream.key)
        if live is not None:
            self._attach_streams(live)
            self._tell_output(live)

    def _tell_output(self, live: Live) -> None:
        if live.output_ended and not live.output_told:
            live.output_told = True
            self._feed(core.OutputClosed(live.key))

    def _close_output(self, live: Live) -> None:
        for stream in live.streams:
            self._unwatch(stream)
            stream.read_rest()
            stream.close()
        live.output_told = True

    def _source(
        self, key: AttemptKey, stream: str
    ) -> tuple[Callable[[int, int], bytes], int, bool] | None:
        """How to read a stream, how long it is and whether that is all; None if it is not held."""
        live = self._live.get(key)
        if live is not None:
            found = live.stream(stream)
            return found.part, found.size, False
        exited = self._machine.exited(key)
        if exited is None:
            return None
        ref: StreamRef = getattr(exited.outcome, stream)
        return (lambda offset, limit: self._store.read(ref, offset, limit)), ref.size, True

    # --- the end ---

    def _on_exit(self, live: Live) -> None:
        ended = spawn.reap(live.pid)
        if ended is None:
            return
        del self._by_pid[live.pid]
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
            self._pump(live, stream)
        self._reap()
        closed = live.output_ended
        if not closed:
            self._attach_streams(live)
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
                tree_empty=self._seems_alone(live, closed),
                memory_killed=group is not None and group.memory_killed(),
                pids_refused=group is not None and group.pids_refused(),
            )
        )

    def _seems_alone(self, live: Live, output_closed: bool) -> bool:
        """Whether nothing is left of an attempt, by a look that costs microseconds."""
        if tree.group_alive(live.pid) or (live.group is not None and live.group.pids()):
            return False
        shell_marker = live.shell.marker if live.shell else live.marker
        for marker in self._find_strangers().values():
            if marker in (live.marker, shell_marker) or (not marker and not output_closed):
                return False
        return True

    def _find_strangers(self) -> dict[int, str]:
        """Our children that are not shells of attempts: orphans, with their markers."""
        pids = self._children.pids().difference(self._by_pid)
        self._strangers = {
            pid: self._strangers[pid] if pid in self._strangers else tree.read_marker(pid)
            for pid in pids
        }
        return self._strangers

    def _members(self, live: Live) -> set[int]:
        """The living processes of an attempt, by a look at every process of the machine."""
        return tree.find_members(
            group=live.pid,
            value=live.marker,
            in_cgroup=live.group.pids() if live.group else (),
            pipes=live.pipes(),
            strangers=self._find_strangers(),
            warm=live.shell.pid if live.shell else 0,
        )

    def _signal(self, live: Live, name: str) -> None:
        if name == "KILL":
            self._kill(live)
            return
        members = self._members(live)
        tree.send(members, signal.SIGTERM)
        # A stopped process acts on TERM only once it goes on.
        tree.send(members, signal.SIGCONT)

    def _kill(self, live: Live) -> None:
        live.kill_sent = True
        if live.group is not None:
            live.group.kill()
        tree.send_group(live.pid, signal.SIGKILL)
        seen: set[int] = set()
        for _ in range(KILL_PASSES_MAX):
            # What forked between the look and the signal is seen by the next look.
            members = self._members(live)
            if members <= seen:
                return
            tree.send(members, signal.SIGKILL)
            seen |= members

    def _watch_tree(self, live: Live) -> None:
        self._reap()
        if not self._members(live):
            self._feed(core.TreeCounted(live.key, 0))
            return
        # Something is about to end, as often as not: a pipe closes before its writer is gone.
        live.watch = self._loop.call_later(STRAGGLER_S, self._guarded(self._count_tree), live)

    def _count_tree(self, live: Live) -> None:
        live.watch = None
        self._reap()
        count = len(self._members(live))
        self._feed(core.TreeCounted(live.key, count))
        if count and self._live.get(live.key) is live:
            live.watch_s = WATCH_S_MIN
            self._watch_again(live)

    def _watch_again(self, live: Live) -> None:
        live.watch = self._loop.call_later(live.watch_s, self._guarded(self._look_again), live)
        live.watch_s = min(live.watch_s * 2, WATCH_S_MAX)

    def _look_again(self, live: Live) -> None:
        self._reap()
        members = self._members(live)
        if not members:
            live.watch = None
            self._feed(core.TreeEmpty(live.key))
            return
        if live.kill_sent:
            self._kill(live)
        self._watch_again(live)

    def _keep(self, live: Live) -> None:
        """The processes are gone: release what they had, and make the output durable."""
        live.cancel_timers()
        self._watcher.discard(live)
        if live.shell is not None:
            self._warm.give_back(live.shell, self._loop.time())
        if live.group is not None:
            self._old_groups.append(live.group)
            self._remove_old_groups()
        if live.private_dir is not None:
            self.context.spawn(_remove_folder(live.private_dir), "remove_folder")

        def kept(stdout: StreamRef, stderr: StreamRef) -> None:
            del self._live[live.key]
            self._feed(core.Stored(live.key, stdout, stderr))
            self._readers.wake(live.key, self._source)
            if not self._live:
                self._rest()

        self._store.keep(live.stdout, live.stderr, self._guarded(kept))

    def _rest(self) -> None:
        """Nothing runs: whatever is still our child belonged to a task, and shed every mark."""
        self._idle.set()
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        self._end_strangers(WATCH_S_MIN)

    def _end_strangers(self, again_s: float) -> None:
        if self._live:
            return
        self._reap()
        if strangers := self._find_strangers():
            tree.send(tree.with_descendants(strangers), signal.SIGKILL)
            self._loop.call_later(
                again_s, self._guarded(self._end_strangers), min(2 * again_s, REAP_S)
            )

    def _remove_old_groups(self) -> None:
        self._old_groups = [group for group in self._old_groups if not group.remove()]

    def _reap(self) -> None:
        while ended := tree.reap_strangers(self._by_pid):
            for pid in ended:
                found = self._by_pid[pid]
                if isinstance(found, Live):
                    self._on_exit(found)
                else:
                    os.waitpid(pid, os.WNOHANG)
                    self._on_warm_death(found)

    def _reap_regularly(self) -> None:
        self._reap()
        self._remove_old_groups()
        self._reaper = self._loop.call_later(REAP_S, self._guarded(self._reap_regularly))

    async def _end_leftovers(self) -> None:
        """KILL what a former runner of this state folder left; nobody waits for it any more."""
        deadline = self._loop.time() + LEFTOVERS_S_MAX
        while left := tree.marked_with(self._state_id):
            tree.send(left, signal.SIGKILL)
            tree.reap_strangers(())
            if self._loop.time() > deadline:
                self.context.log.error("leftovers", pids=left)
                return
            await asyncio.sleep(0.005)


async def _remove_folder(folder: Any) -> None:
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
