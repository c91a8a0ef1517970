"""What ghosts ask of the journal of their clairvoyant: whether they may, and what they are told.

A ghost may write of the attempts that it was assigned by way of this node, of those that run on it
as this journal knows, and of those for which it has a ticket; and it may read what their tasks are.
Of its own tags it may write, but not without end. What it asks for without waiting for answers is
bounded.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from leoronic.core.effects import Effect, Log
from leoronic.core.entries import Tagged, Untagged
from leoronic.core.executor_messages import Open
from leoronic.core.ghost_messages import (
    GhostAppend,
    GhostAppended,
    GhostFetchSpecs,
    GhostLoadOpen,
    GhostMessage,
    GhostOpen,
    GhostSpecs,
)
from leoronic.core.ghost_tickets import Tickets
from leoronic.core.ghost_times import off_s, put_right
from leoronic.core.queue_messages import Appended, AppendFailed, SpecsFetched
from leoronic.core.relay_attachments import (
    ENTRIES_UNDER_WAY_MAX,
    QUESTIONS_MAX,
    WAITING_MAX,
    Attachment,
    Attachments,
)
from leoronic.core.relay_journal import Answer, RelayJournal, Written
from leoronic.core.replication_messages import Copied
from leoronic.core.run import AttemptKey

OWN_LOOK = 0
"""No ghost's question has that number: this machine itself asks what runs on it."""


class RelayRequests:
    """See the module. Part of the relay of `node`, whose `attached` ghosts these are.

    `say(connection, message)` and `cut_off(connection, reason)` are the relay's own.
    """

    def __init__(
        self,
        node: str,
        effects: list[Effect],
        attached: Attachments,
        say: Callable[[int, GhostMessage], None],
        cut_off: Callable[[int, str], None],
    ) -> None:
        self.tickets = Tickets()
        self._node = node
        self._effects = effects
        self._attached = attached
        self._say = say
        self._cut_off = cut_off
        self._journal = RelayJournal(effects)

    def begin(self, token: int) -> None:
        """As `RelayJournal.begin`."""
        self._journal.begin(token)

    def look(self, attached: Attachment) -> None:
        """It has come: what runs on it already it may read, and tell how it ended."""
        self._journal.load(attached.connection, attached.ghost, GhostLoadOpen(OWN_LOOK))

    # ---- what they ask ----

    def append(self, attached: Attachment, message: GhostAppend, now: float) -> None:
        """It wants these written."""
        message = self._by_our_clock(attached, message)
        why = self._why_not(attached, message, now)
        if why:
            self._cut_off(attached.connection, why)
        elif attached.looked or not (attached.waiting or self._not_allowed(attached, message)):
            self._write(attached, message)
        elif len(attached.waiting) < WAITING_MAX:
            attached.waiting.append(message)
        else:
            self._cut_off(attached.connection, "it tells too much of what it was not assigned")

    def _by_our_clock(self, attached: Attachment, message: GhostAppend) -> GhostAppend:
        behind_s = off_s(message, attached.heard_time)
        if not behind_s:
            return message
        if not attached.clock_told:
            attached.clock_told = True
            fields = {"ghost": attached.ghost, "behind_s": round(behind_s, 1)}
            self._effects.append(Log("ghost_clock_is_off", "warning", dict(fields)))
        return put_right(message, behind_s, attached.heard_time)

    def _why_not(self, attached: Attachment, message: GhostAppend, now: float) -> str:
        """What is wrong with what it wants written; '' if nothing is."""
        tags = sum(isinstance(entry, Tagged | Untagged) for entry in message.entries)
        if any(entry.node != attached.ghost for entry in message.entries):
            return "it may write only of itself"
        if not message.entries:
            return "it wants nothing written"
        if attached.entries + len(message.entries) > ENTRIES_UNDER_WAY_MAX:
            return "it writes faster than this node can"
        if tags and not self._attached.may_tag(attached.ghost, tags, now):
            return "it changes its tags too often"
        return ""

    def _write(self, attached: Attachment, message: GhostAppend) -> None:
        """But nothing of attempts that were not assigned to it: a ghost may not choose."""
        not_allowed = self._not_allowed(attached, message)
        entries = [
            entry
            for entry in message.entries
            if isinstance(entry, Tagged | Untagged)
            or (entry.task, entry.attempt) not in not_allowed
        ]
        if not_allowed and not attached.warned:
            attached.warned = True
            fields = {"ghost": attached.ghost, "task": min(not_allowed)[0]}
            self._effects.append(Log("ghost_tells_of_what_is_not_its_own", "warning", dict(fields)))
        if entries:
            attached.entries += len(entries)
            self._journal.append(attached.connection, message, entries, not_allowed)
        else:
            answer = GhostAppended(message.number, not_allowed, not_allowed)
            self._say(attached.connection, answer)

    def _not_allowed(self, attached: Attachment, message: GhostAppend) -> frozenset[AttemptKey]:
        """Of these attempts it may not write, as far as is known; of others it may from now on."""
        found: set[AttemptKey] = set()
        for place, entry in enumerate(message.entries):
            if isinstance(entry, Tagged | Untagged):
                continue
            key = (entry.task, entry.attempt)
            if attached.may_write(key):
                continue
            ticket = message.tickets[place] if place < len(message.tickets) else ""
            if self.tickets.is_good(ticket, attached.ghost, *key):
                attached.assign([key])
            else:
                found.add(key)
        return frozenset(found)

    def load(self, attached: Attachment, message: GhostLoadOpen) -> None:
        """It asks what runs on it."""
        if self._may_ask(attached):
            self._journal.load(attached.connection, attached.ghost, message)

    def fetch(self, attached: Attachment, message: GhostFetchSpecs) -> None:
        """It asks what these tasks are."""
        if self._may_ask(attached):
            self._journal.fetch(attached.connection, message)

    def _may_ask(self, attached: Attachment) -> bool:
        attached.questions += 1
        if attached.questions > QUESTIONS_MAX:
            self._cut_off(attached.connection, "it asks without waiting for answers")
        return attached.questions <= QUESTIONS_MAX

    # ---- what is answered ----

    def appended(self, message: Appended, now: float) -> None:
        """The journal has written what is not refused."""
        self._written(self._journal.appended(message, now))

    def append_failed(self, message: AppendFailed) -> None:
        """It has not."""
        self._written(self._journal.append_failed(message))

    def _written(self, written: Written | None) -> None:
        if written is None:
            return
        attached = self._attached.of(written.connection)
        if attached is not None:
            attached.entries -= written.entries
            attached.stands_on(self._node, written.number)
        self._answer(written.answer)

    def copied(self, message: Copied) -> None:
        """Replication has."""
        self._answer(self._journal.copied(message))

    def overdue(self, now: float) -> None:
        """It has had its time."""
        for answer in self._journal.overdue(now):
            self._answer(answer)

    def opened(self, message: Open) -> None:
        """The journal tells what runs on a ghost."""
        self._answer(self._journal.opened(message))

    def fetched(self, message: SpecsFetched) -> None:
        """The journal tells what tasks are."""
        self._answer(self._journal.fetched(message))

    def _answer(self, answer: Answer | None) -> None:
        if answer is None:
            return
        connection, message = answer
        attached = self._attached.of(connection)
        if attached is None:
            return
        if isinstance(message, GhostOpen):
            attached.assign((one.task, one.attempt) for one in message.open.attempts)
            if message.open.life == OWN_LOOK:
                self._has_looked(attached)
                return
            attached.questions -= 1
        elif isinstance(message, GhostSpecs):
            attached.questions -= 1
            may = {task: spec for task, spec in message.specs.items() if attached.may_read(task)}
            message = structs.replace(message, specs=may)
        self._say(connection, message)

    def _has_looked(self, attached: Attachment) -> None:
        attached.looked = True
        waiting, attached.waiting = attached.waiting, []
        for message in waiting:
            self._write(attached, message)
