"""The queue: every live task of the cluster, as one machine.

In: requests (`queue_messages`), entries that the journal has made durable (this node's and those of
others), who is there (`View`), timers. Out: entries to append, tasks that may start (to the
scheduler, of those that this node owns), attempts to stop (to the executor), answers. The queue
believes only what is on disk: a request becomes an entry, and the entry, once committed, changes
the records (`tasks.py`); so what was never written never happened.
"""

from __future__ import annotations

from collections.abc import Callable

from leoronic.core.descriptions import Descriptions
from leoronic.core.effects import Asked, Effect, Fired, Reply, SetTimer
from leoronic.core.entries import Entry, Suspected
from leoronic.core.file_messages import BlobsFound
from leoronic.core.queue_messages import (
    Appended,
    AppendFailed,
    AskBegun,
    AskReached,
    Begun,
    ChangeTasks,
    CommandsMatched,
    Committed,
    Count,
    Declined,
    Describe,
    FindLive,
    Loaded,
    LoadLive,
    LookedUp,
    Lookup,
    NodeDown,
    QueueStarted,
    Reached,
    SchedulerStarted,
    SubmitSpecs,
    TasksChanged,
    Watching,
)
from leoronic.core.queue_outbox import Outbox
from leoronic.core.replication_messages import Copied
from leoronic.core.requests import Requests
from leoronic.core.tasks import Tasks
from leoronic.core.view import AskView, View

RETRY_APPEND_S = 1.0


class Start:
    """The machine's first message: load the live tasks, and ask who is there."""


class QueueMachine:
    """See the module. One instance is one life of the queue actor; its state is on disk."""

    def __init__(self) -> None:
        self.tasks = Tasks()
        self._out = Outbox()
        self.requests = Requests(self.tasks, self._out)
        self._descriptions = Descriptions(self.tasks)
        self._loaded = False
        self._life = 0
        self._derived: dict[int, list[Entry]] = {}  # appends that follow from what was applied
        self._have: dict[str, int] = {}  # the last entry of each origin that was applied
        self._needed: dict[str, int] = {}  # which the scheduler waits for
        self._suspected: dict[str, Entry] = {}  # by node: those for which there was no room
        self._handlers: dict[type, Callable[..., None]] = {
            Start: self._on_start,
            Loaded: self._on_loaded,
            Committed: self._on_committed,
            Appended: self._on_appended,
            AppendFailed: self._on_append_failed,
            LookedUp: self._on_looked_up,
            BlobsFound: self._on_blobs_found,
            CommandsMatched: self._on_commands_matched,
            SchedulerStarted: self._on_scheduler_started,
            Watching: self._on_watching,
            Declined: self._on_declined,
            AskBegun: self._on_ask_begun,
            AskReached: lambda message: self._needed.update(message.needs),
            View: self._on_view,
            NodeDown: self._on_node_down,
            Copied: self.requests.on_copied,
            Asked: self._on_asked,
            Fired: self._on_fired,
        }

    def handle(self, message: object, now: float) -> list[Effect]:
        """Take one message; `now` in seconds since the epoch."""
        self._out.now = now
        self.tasks.now = now
        self._handlers[type(message)](message)
        self._collect()
        return self._out.take()

    def _collect(self) -> None:
        """Turn what the tasks want into effects, in the order that matters."""
        tasks = self.tasks
        if self._loaded:
            tasks.windows.feed()
            if tasks.strangers:
                refs, tasks.strangers = list(tasks.strangers), {}
                self._out.send("journal", Lookup("queue", 0, refs))
            if tasks.appends:
                entries, tasks.appends = tasks.appends, []
                self._derived[self._out.append(entries)] = entries
        self._out.add(*tasks.effects)
        tasks.effects.clear()
        if tasks.changes:
            self._out.send("control", TasksChanged(tasks.changes))
            tasks.changes = []
        if self._needed:
            self._tell_reached()

    # ---- starting ----

    def _on_start(self, _message: Start) -> None:
        # Answers to an earlier life of this actor must not be taken for ours.
        self._life = self._out.token = int(self._out.now * 1_000_000)
        self._out.send("journal", LoadLive("queue", self._life))
        self._out.send("membership", AskView("queue"))

    def _on_loaded(self, message: Loaded) -> None:
        if message.life not in (0, self._life):
            return
        for loaded in message.tasks:
            self.tasks.load(loaded)
        if not message.last:
            return
        # Numbers of refused submissions are spent as well, and an earlier life may have spent more
        # than it wrote: so each life gives ids of its own.
        seed = f"{message.node}/{int(self._out.now * 1_000_000)}"
        self.requests.give_ids(seed, message.number + 1)
        self.tasks.ownership.me = message.node
        for state, count in message.finals.items():
            self.tasks.ended[state] += count
        self.tasks.place_all_loaded()
        self._have = dict(message.have)
        self._loaded = True
        self._out.send("control", QueueStarted())
        self._unpark()

    def _unpark(self) -> None:
        for asked in self.requests.unpark():
            self._on_asked(asked)

    # ---- the journal ----

    def _on_committed(self, message: Committed) -> None:
        if not self._loaded:
            return  # a commit was under way when this life began: what it wrote is loaded
        for numbered in message.entries:
            self.tasks.apply(numbered, message.orders)
        for flip in message.flips:
            self.tasks.flip(flip)
        self._have.update(message.have)

    def _on_appended(self, message: Appended) -> None:
        self._derived.pop(message.token, None)
        self.requests.written(message.token, message.number)
        self._unpark()

    def _on_append_failed(self, message: AppendFailed) -> None:
        derived = self._derived.pop(message.token, None)
        if derived is not None:
            # Nobody asks for these again: they wait for room on the disk. Of what is lost by then,
            # some may have come back.
            self.tasks.open_runs.not_written(derived)
            self._suspected.update((e.node, e) for e in derived if isinstance(e, Suspected))
            self._out.add(SetTimer("append", self._out.now + RETRY_APPEND_S))
        self.requests.not_written(message.token, message.error)
        self._unpark()

    def _on_looked_up(self, message: LookedUp) -> None:
        if message.token:
            if self.requests.looked_up(message):
                self._unpark()  # refused, or known already: whoever waited for its ids may go on
            return
        for ref, found in message.found.items():
            known = next((k for k in found if k.id == ref), None)
            if known is None:
                self.tasks.parent_known(ref, "forgotten", "")
            elif known.state is not None:
                self.tasks.parent_known(ref, known.state, known.redone_as)

    def _on_blobs_found(self, message: BlobsFound) -> None:
        if self.requests.blobs_found(message):
            self._unpark()

    def _on_commands_matched(self, message: CommandsMatched) -> None:
        self.tasks.commands_matched(message.regex, message.ids)

    def _on_scheduler_started(self, _message: SchedulerStarted) -> None:
        self.tasks.windows.offer_again()

    def _on_ask_begun(self, message: AskBegun) -> None:
        if not any(self.tasks.is_awaited(*key) for key in message.attempts):
            self._out.send("scheduler", Begun(message.attempts))

    def _tell_reached(self) -> None:
        """Once the scheduler has been told all that follows from these entries."""
        have = self._have
        reached = {o: have[o] for o, number in self._needed.items() if have.get(o, 0) >= number}
        if reached:
            self._needed = {o: n for o, n in self._needed.items() if o not in reached}
            self._out.send("scheduler", Reached(reached))

    def _on_declined(self, message: Declined) -> None:
        self.tasks.declined(message.tasks)

    def _on_view(self, message: View) -> None:
        self.tasks.see(message)

    def _on_node_down(self, message: NodeDown) -> None:
        self.tasks.appends.append(Suspected(message.node, self._out.now, message.reason))

    def _on_watching(self, message: Watching) -> None:
        self.tasks.watched = message.on

    def _on_fired(self, message: Fired) -> None:
        if message.name == "append":
            suspected, self._suspected = self._suspected, {}
            self.tasks.appends += suspected.values()
            self.tasks.give_up_lost()
        elif message.name == "copies":
            self.requests.stop_waiting()
        elif message.name == "find":
            self.requests.stop_finding()
            self._unpark()
        elif message.name == "unheard of":
            self.tasks.unheard_of_for_longer()
        else:
            self.tasks.standing.wake_delayed()

    # ---- requests ----

    def _on_asked(self, asked: Asked) -> None:
        if not self._loaded:
            self.requests.park(asked)
            return
        match asked.message:
            case SubmitSpecs():
                self.requests.submit(asked)
            case ChangeTasks():
                self.requests.change(asked)
            case Describe(ids):
                self._answer(asked, self._descriptions.describe(ids, self._out.now))
            case FindLive():
                self._answer(asked, self._descriptions.find_live(asked.message))
            case Count():
                self._answer(asked, self._descriptions.count())
            case _:
                raise AssertionError(f"the queue is asked {asked.message!r}")

    def _answer(self, asked: Asked, result: object) -> None:
        self._out.add(Reply(asked.request, result))
