"""What this process has of the cluster: one `Context` in a driver, and one in each worker."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TextIO, TypeVar, cast

from leoronic.core.calls import Answered, Cancelled, GivenBack
from leoronic.errors import LeoronicError
from leoronic.remote import said, serial
from leoronic.remote.channel import Channel
from leoronic.remote.code import CodeSent
from leoronic.remote.conversation import Conversation
from leoronic.remote.objects import Fetched, Objects
from leoronic.remote.party import Party
from leoronic.remote.pools import Pools
from leoronic.remote.refs import INDEX_BITS, ObjectRef, received
from leoronic.remote.remote_call import RemoteCall
from leoronic.remote.serial import Payload, RefKey
from leoronic.remote.states import Keeper
from leoronic.remote.targets import ActorTargets

HEAVY_BYTES_MIN = 64 * 1024
T = TypeVar("T")


class Context:
    """`about` of the process: `job`, `namespace`, `driver` (its address), `kind` (driver, worker
    or actor), `task`, `paths`, `env_vars`, `working_dir`; all but the first may be missing.

    `on_blocked(flag)` is called by a thread of the user's that begins or ends to wait; what is in
    `at_end` on the loop, when the process takes part no more.
    """

    def __init__(self, party: Party, about: dict[str, Any]) -> None:
        self.party = party
        self.about = about
        self.on_blocked: Callable[[bool], None] | None = None
        self.calls: dict[int, RemoteCall] = {}
        self.code_sent = CodeSent()
        self.routes: dict[Channel, tuple[Conversation, int]] = {}
        self.numbers = itertools.count(1)
        self.objects = Objects(party)
        self.pools = Pools(self)
        self.actors = ActorTargets(self)
        self.at_end: list[Callable[[], object]] = []
        self._questions: dict[int, asyncio.Future[Any]] = {}
        self._asked = itertools.count(1)

        handlers = party.handlers
        handlers[said.RESULTS] = self._on_results
        handlers[said.DECLINE] = self._on_declined
        handlers[said.ITEM] = self._on_items
        handlers[said.PRINTED] = self._on_printed
        handlers[said.BLOCKED] = self._on_blocked
        handlers[said.ANSWER] = self._on_answer
        party.on_channel = self._on_channel
        party.on_lost = self._on_lost

    @staticmethod
    def attach(party: Party, about: dict[str, Any]) -> Context:
        """The context of this process from now on. Before `party.start`."""
        context = Context(party, about)
        context.objects.begin()
        Keeper(party)
        _current.context = context
        return context

    @property
    def owner(self) -> tuple[str, str]:
        """This process as an owner of objects: (node id, party id)."""
        return (self.party.node, self.party.id)

    def detach(self) -> None:
        """This process has none any more."""
        if _current.context is self:
            _current.context = None

    # ---- from any thread of the user's ----

    @property
    def blocked(self) -> Callable[[bool], None] | None:
        """What is to be told that a thread waits; None if nobody wants to know."""
        return None if self.about.get("kind", "driver") == "driver" else self._blocked

    def _blocked(self, flag: bool) -> None:
        if self.on_blocked is not None:
            self.on_blocked(flag)
        self.party.post(self.pools.self_blocked, flag)

    @contextlib.contextmanager
    def blocking(self) -> Iterator[None]:
        """Around a wait for values in a thread of the user's, other than `get` and `wait`."""
        blocked = self.blocked
        if blocked is None:
            yield
            return
        blocked(True)
        try:
            yield
        finally:
            blocked(False)

    def new_ref(self) -> ObjectRef:
        """An object of this process whose value comes later, by `settle`."""
        node, party = self.owner
        return ObjectRef((node, party, next(self.numbers) << INDEX_BITS))

    def put(self, value: Any) -> ObjectRef:
        """An object of this process with that value."""
        found: list[ObjectRef] = []
        payload = serial.dump(value, found, "what is put")
        ref = self.new_ref()
        ref.held = found or None
        ref.settle(True, payload)
        return ref

    def cancel(self, ref: ObjectRef, is_forced: bool) -> None:
        """Ask that the call of `ref` be cancelled; nothing if it is over, or another's."""
        if ref.key[:2] == self.owner:
            self.party.post(self._cancel, ref.key[2] >> INDEX_BITS, is_forced)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run it on the loop, and wait for what it returns."""
        assert not self.party.is_here
        return self.party.run(work).result()

    # ---- on the loop's thread ----

    def fetch(self, keys: list[RefKey], then: Callable[[Fetched], object]) -> None:
        """`then` gets (ok, payload or failure) of each, once all are there."""
        self.objects.fetch(keys, then)

    def finish(self, number: int, ok: bool, payload: Any) -> None:
        """A call is over: its references get what came."""
        call = self.calls.pop(number, None)
        if call is None:
            return
        if ok and call.n_returns == 1 and len(payload) > 1:
            self.objects.hold(call.refs[0], payload)
            payload = received(payload)
        elif ok and call.n_returns > 1:
            for ref, one in zip(call.refs, payload, strict=True):
                self.objects.hold(ref, one)
            payload = [received(one) for one in payload]
        call.settle(ok, payload)

    def fail(self, number: int, code: str, text: str) -> None:
        """A call is over without an answer."""
        call = self.calls.pop(number, None)
        if call is not None:
            call.fail(code, text)

    def wait_for_arguments(self, call: RemoteCall, then: Callable[[RemoteCall], None]) -> None:
        """`then(call)`, on the loop, once its arguments are there; it fails if one has failed."""
        missing = [ref for ref in dict.fromkeys(call.own_refs()) if not ref.done]
        left = len(missing)

        def settled(_: ObjectRef) -> None:
            nonlocal left
            left -= 1
            if not left:
                self.party.post(then, call)

        for ref in missing:
            ref.on_done(settled)
        if not missing:
            then(call)

    async def ask_party(self, channel: Channel, question: Any) -> Any:
        """The answer of another party. Raises `LeoronicError` if it says no, or goes."""
        number = next(self._asked)
        answer = self._questions[number] = self.party.loop.create_future()
        channel.say(said.ASK, (number, question))
        try:
            ok, value = await answer
        finally:
            del self._questions[number]
        if not ok:
            raise LeoronicError(str(value))
        return value

    async def end(self) -> None:
        """Give back all that it holds of the cluster; what is under way fails."""
        await self.pools.end()
        await self.actors.end()
        for function in self.at_end:
            function()
        self.fail_all("shutdown() was called before it was done")
        self.objects.end()

    def fail_all(self, why: str) -> None:
        """Whoever waits for a call waits no more. On the loop, or once that has ended."""
        for number in list(self.calls):
            self.fail(number, "task_cancelled", why)

    def _cancel(self, number: int, is_forced: bool) -> None:
        call = self.calls.get(number)
        if call is None:
            return
        call.is_cancelled = True
        if isinstance(call.place, Conversation):
            call.place.tell(Cancelled(number, is_forced))
        else:
            self.fail(number, "task_cancelled", f"{call.label} was cancelled before it began")

    # ---- what others say ----

    def _on_results(self, channel: Channel, body: object) -> None:
        results = cast("list[tuple[int, bool, Any]]", body)
        route = self.routes.get(channel)
        if route is not None:
            conversation, attempt = route
            conversation.tell(Answered(attempt, results, any(map(_is_heavy, results))))

    def _on_declined(self, channel: Channel, body: object) -> None:
        route = self.routes.get(channel)
        if route is not None:
            conversation, attempt = route
            conversation.tell(GivenBack(attempt, cast("list[int]", body)))

    def _on_items(self, channel: Channel, body: object) -> None:
        for number, index, ok, payload in cast("list[tuple[int, int, bool, Payload]]", body):
            call = self.calls.get(number)
            if call is not None and call.stream is not None:
                ref = call.stream.item(index, ok, received(payload) if ok else payload)
                if ref is not None and ok:
                    self.objects.hold(ref, payload)

    def _on_printed(self, channel: Channel, body: object) -> None:
        if not self.about.get("log_to_driver", True):
            return
        for stream, text, who in cast("list[tuple[str, str, str]]", body):
            lines = "".join(f"({who}) {line}\n" for line in text.splitlines())
            _print(lines, sys.stderr if stream == "stderr" else sys.stdout)

    def _on_blocked(self, channel: Channel, body: object) -> None:
        self.pools.worker_blocked(channel, bool(body))

    def _on_answer(self, channel: Channel, body: object) -> None:
        number, ok, value = cast("tuple[int, bool, Any]", body)
        question = self._questions.get(number)
        if question is not None and not question.done():
            question.set_result((ok, value))

    def _on_channel(self, channel: Channel) -> None:
        self.objects.channel_opened(channel)
        task, attempt = channel.peer.info.get("task"), channel.peer.info.get("attempt")
        if isinstance(task, str) and isinstance(attempt, int):
            self.pools.worker_connected(channel, task, attempt)
            self.actors.worker_connected(channel, task, attempt)

    def _on_lost(self, channel: Channel, reason: str) -> None:
        route = self.routes.get(channel)
        if route is not None:
            route[0].lost(channel, reason)
            self.pools.worker_lost(route[0])
        self.objects.channel_lost(channel)


def _print(text: str, file: TextIO | None) -> None:
    """What cannot be printed here is lost: no call may suffer for it."""
    if file is None:
        return
    encoding = getattr(file, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError, ValueError):  # Its reader has gone, or it is closed.
        print(text.encode(encoding, "backslashreplace").decode(encoding), end="", file=file)
        file.flush()


def _is_heavy(result: tuple[int, bool, Any]) -> bool:
    """Whether whoever made it should not have to remember it for long."""
    payload = result[2]
    if not result[1]:
        return False
    if type(payload) is list:
        return any(_is_heavy((0, True, one)) for one in payload)
    if payload is None or len(payload) == 1:
        return False
    return bool(payload[2]) or serial.size_of(payload) >= HEAVY_BYTES_MIN


class _Current:
    """The context of this process, if it has one."""

    context: Context | None = None


_current = _Current()


attach = Context.attach


def current() -> Context:
    """The context of this process; a driver without one takes part by `init()` first."""
    found = _current.context
    if found is not None:
        return found
    from leoronic.remote.beginning import init  # noqa: PLC0415 - it imports this module

    init(ignore_reinit_error=True)
    assert _current.context is not None
    return _current.context


def current_or_none() -> Context | None:
    """The context of this process, if it has one."""
    return _current.context
