"""The scheduler: which task starts next, and where, for all tasks that this node owns.

It knows this node's executor always and, while it has more than that can take (`Interest`), those
of all other nodes; each is the authority on what fits there, and several schedulers may offer it
work. Priority first, then the order of submission (`placement.py`). A task that others keep
overtaking is not starved: after `PATIENCE_S` a node takes nothing that would keep it waiting.

No attempt is assigned twice: what any node has is taken (`claims.py`), and of an origin that is new
nothing is placed before all nodes have told what they have (`barrier.py`). What was assigned over a
connection that broke goes back to the queue once the executor has told that it never arrived.

A process that stood still (a suspended machine) may have been given up, and its tasks placed by
others. So whoever heard nothing for `STILL_S` places nothing before membership, which judges that,
has told the view again.
"""

from __future__ import annotations

from collections.abc import Callable

from leoronic.core.barrier import Barriers
from leoronic.core.conditions import HasFile
from leoronic.core.effects import Asked, Effect, Fired, Reply
from leoronic.core.peer import FilesPresent, Freed, Offer, Outstanding, Reserve
from leoronic.core.pictures import Pictures
from leoronic.core.placement import PATIENCE_S, Placement, Window
from leoronic.core.queue_messages import Begun, Offered, Reached, SchedulerStarted, Withdrawn
from leoronic.core.scheduler_messages import Explain
from leoronic.core.scheduler_outbox import Outbox
from leoronic.core.view import AskView, View

RESERVE_EVERY_S = 2.0
RESERVE_S = 6.0
STILL_S = 1.0


class Start:
    """The machine's first message."""


class SchedulerMachine:
    """See the module; `node` is this node's id. Places nothing before it has a `View`.

    Its memory can be lost: the queue and the executors tell it all again. What it says is numbered
    from `number` on, which must be higher than all that an earlier life used. `now` is seconds of a
    steady clock: if the time of day is set forward, what it waits for is no more certain.
    """

    def __init__(self, node: str, number: int = 0) -> None:
        self._out = Outbox(node, number)
        barriers = Barriers()
        self.placement = Placement(node, barriers.is_clear)
        self.pictures = Pictures(self._out, self.placement, barriers)
        self._heard_at: float | None = None
        self._view_must_be_of = 0.0  # an older one may say what does not hold any more
        self._reserved: dict[str, int] = {}  # nodes that were told so, and for which class
        self._handlers: dict[type, Callable[..., None]] = {
            Start: self._on_start,
            View: self.pictures.see,
            Offered: self._on_offered,
            Withdrawn: self._on_withdrawn,
            Begun: self.pictures.on_begun,
            Reached: lambda message: self.pictures.barriers.reached(message.have),
            Offer: self.pictures.on_offer,
            Freed: self.pictures.on_freed,
            FilesPresent: self.pictures.on_files_present,
            Outstanding: self.pictures.on_outstanding,
            Fired: self._on_fired,
            Asked: self._on_asked,
        }

    def handle(self, message: object, now: float) -> list[Effect]:
        """Take one message."""
        self._out.now = now
        self._notice_pause()
        self._handlers[type(message)](message)
        due_at = self.placement.claims.due_at()
        if due_at is not None and due_at <= now:
            self._out.decline(self.placement.claims.expire(now, self.pictures.out_of_reach))
        self.pictures.pass_barriers()
        self._place()
        self._out.arm("claims", self.placement.claims.due_at())
        return self._out.take()

    # ---- who is there ----

    def _on_start(self, _message: Start) -> None:
        self._out.send("queue", SchedulerStarted())
        self._out.send("membership", AskView("scheduler"))

    def _notice_pause(self) -> None:
        """It may as well be that there was nothing to be told: that looks the same."""
        last, self._heard_at = self._heard_at, self._out.now
        alone = self.pictures.view is None or len(self.pictures.view.members) == 1
        if last is not None and self._out.now - last > STILL_S and not alone:
            self._view_must_be_of = self._out.now
            self._ask_view()

    def _ask_view(self) -> None:
        self._out.send("membership", AskView("scheduler"))
        self._out.arm("view", self._out.now + STILL_S)

    # ---- the queue ----

    def _on_offered(self, message: Offered) -> None:
        number = message.task_class.number
        windows = self.placement.windows
        if number not in windows:
            windows[number] = Window(message.task_class)
        windows[number].add(message.items)
        self.placement.class_changed(number)
        self.pictures.await_barrier(message.task_class.origin)
        if any(isinstance(condition, HasFile) for condition in message.task_class.worker):
            self.pictures.ask_files()

    def _on_withdrawn(self, message: Withdrawn) -> None:
        self.placement.withdraw(message.class_number, message.tasks)

    # ---- placing ----

    def _place(self) -> None:
        if self.pictures.view is None or self.pictures.view.at < self._view_must_be_of:
            return
        placement = self.placement
        assigns = placement.round(
            self._out.next_number(), self._out.now, contested=self.pictures.contested
        )
        self.pictures.contested = False
        for node, assign in assigns:
            self._out.tell(node, assign)
        for node, number in list(self._reserved.items()):
            picture = placement.nodes.get(node)
            if picture is None or picture.reserved is None or picture.reserved.number != number:
                del self._reserved[node]
                self._out.tell(node, Reserve(self._out.me, number))
        if placement.windows:
            self.pictures.take_interest()
            if not self._out.is_armed("patience") and placement.overtaken():
                self._out.arm("patience", self._out.now + PATIENCE_S)

    def _reserve(self) -> None:
        """Keep nodes free for those that were overtaken for too long, and tell these nodes so."""
        overtaken = self.placement.overtaken()
        for _ in self.placement.reserve(self._out.now):
            pass
        for _, node in sorted(self.placement.nodes.items()):
            if node.reserved is not None and self.pictures.peers:
                reserved = node.reserved
                self._reserved[node.node] = reserved.number
                reserve = Reserve(self._out.me, reserved.number, reserved.need, RESERVE_S)
                self._out.tell(node.node, reserve)
        if overtaken:
            since = min(window.overtaken_at or 0.0 for window in overtaken)
            self._out.arm("patience", max(since + PATIENCE_S, self._out.now + RESERVE_EVERY_S))

    def _on_fired(self, message: Fired) -> None:
        self._out.fired(message.name)
        match message.name:
            case "files":
                self.pictures.ask_files()
            case "view":
                if self.pictures.view is not None and self.pictures.view.at < self._view_must_be_of:
                    self._ask_view()
            case "patience":
                self._reserve()
            case "interest":
                self.pictures.lose_interest()
                self.pictures.look_around()
                self.pictures.ask_reached()  # the queue may have begun a new life
            case "place":
                for node, picture in sorted(self.placement.nodes.items()):
                    self.placement.node_changed(node)
                    self._out.arm("place", picture.end_pauses(self._out.now))

    # ---- questions ----

    def _on_asked(self, asked: Asked) -> None:
        assert isinstance(asked.message, Explain)
        window = self.placement.windows.get(asked.message.class_number)
        answer: dict[str, list[str]] = {}
        if window is not None and self.pictures.view is not None:
            for node in self.pictures.alive:
                name = self.pictures.name(node)
                answer[f"{name} ({node})" if name in answer else name] = self._why(node, window)
        self._out.add(Reply(asked.request, answer))

    def _why(self, node: str, window: Window) -> list[str]:
        picture = self.placement.nodes.get(node)
        if picture is None:
            return ["it has not told what is free yet"]
        reasons = picture.why_not(window.task_class)
        if not reasons and not self.pictures.barriers.is_clear(window.task_class.origin):
            waited = [self.pictures.name(other) for other in self.pictures.barriers.waited_for()]
            reasons = [f"first it must be known what runs on {', '.join(waited) or 'all nodes'}"]
        return reasons or ["it can start here; others are before it"]
