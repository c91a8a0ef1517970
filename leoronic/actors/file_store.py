"""The actor `file_store`: which blobs this node has, and which it gets.

It hosts `FileStoreMachine`, does in threads what that wants of the disk (`file_disk.py`), fetches
and serves chunks (`file_bulk.py`), and answers the doors (`file_doors.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence, Set
from concurrent.futures import CancelledError
from functools import partial
from typing import Any, TypeVar

from leoronic.actors.file_bulk import FileBulk
from leoronic.actors.file_calls import FolderPage, FolderPart
from leoronic.actors.file_disk import FileDisk, failed
from leoronic.actors.file_doors import FileDoors
from leoronic.actors.file_work import FileWork
from leoronic.actors.peer_port import PeerPort
from leoronic.actors.steady import steady_s
from leoronic.core.effects import Asked, Effect, Fail, Reply, Send
from leoronic.core.file_effects import (
    BeginPart,
    DropFolders,
    DropOtherFolders,
    FetchState,
    FindUnneeded,
    FinishPart,
    GlobOutputs,
    ListBlobs,
    NotAwaited,
    Place,
    ReadList,
    RemoveBlobs,
    RoomWanted,
    UnneededTold,
)
from leoronic.core.file_messages import FilesOf
from leoronic.core.file_store import FileStoreMachine, Start
from leoronic.core.peer import CallBack
from leoronic.core.view import View
from leoronic.errors import DiskFull, LeoronicError, Refused, Unavailable
from leoronic.runtime.actor import NO_REPLY
from leoronic.runtime.machine import MachineActor
from leoronic.runtime.ref import Call, LocalCall

T = TypeVar("T")

JOURNAL_S = 30.0
ROOM_S = 30.0
# Keys of what is done in order; a digest is another, and so is an attempt.
_ALL = "all"
_ATTEMPTS = "attempts"


class _Own:
    """A question of this actor to its machine."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class FileStoreActor(MachineActor):
    """`node` gives the node's id once the journal is open. `work` outlives the actor.

    `ghost`: see `FileStoreMachine`; its journal needs no blobs, and it cannot be called.
    """

    def __init__(
        self,
        node: Callable[[], str],
        disk: FileDisk,
        port: PeerPort,
        work: FileWork,
        *,
        ghost: bool = False,
    ) -> None:
        super().__init__(lambda: FileStoreMachine(node(), ghost=ghost), clock=steady_s)
        self._node = node
        self._disk = disk
        self._port = port
        self._work = work
        self._ghost = ghost
        self._algorithm = "s2"
        self._parts: set[str] = set()  # those that were begun
        self._wanted = 0  # bytes that there was no room for
        self._others_before = 0.0  # when the executor told which attempts there are
        self._collected: asyncio.Future[None] | None = None  # somebody waits for room
        self._bulk: FileBulk
        self._doors = FileDoors(self, disk)

    async def started(self) -> None:
        """Ask the disk what is here, and tell the executor that nothing is known of its wishes."""
        await super().started()
        self._work.drop()  # what an earlier life of this actor wanted
        self._bulk = FileBulk(self.context, self._disk, self._port, self._node, self._ask_to_call)
        self.context.spawn(self._close_at_end(), "end")
        await self.feed(Start())

    def call_back(self, node: str, places: tuple[str, ...]) -> None:
        """As `FileBulk.call_back`: a node that this ghost does not see wants something."""
        self._bulk.call_back(node, places)

    async def _close_at_end(self) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._bulk.close()

    async def handle(self, message: Any) -> Any:
        """What the doors want, and what concerns the connections; the rest is the machine's."""
        request = self.context.request
        if request is not None:
            answer = self._doors.answer(message)
            if isinstance(message, FolderPage | FolderPart):
                answer = self._bulk.read_folder(message)
            if answer is not None:
                self._answer_soon(request, answer)
                return NO_REPLY
        elif isinstance(message, CallBack):
            self._bulk.call_back(message.node)
            return NO_REPLY
        elif isinstance(message, FilesOf):
            # It may be long until the disk's turn comes: what begins meanwhile is not told.
            self._others_before = time.time()
        elif isinstance(message, RoomWanted):
            self._wanted = max(self._wanted, message.size)
        elif isinstance(message, UnneededTold) and not message.digests:
            self._has_collected()
        elif isinstance(message, View):
            self._bulk.see(message)
            self._algorithm = _common(message)
        return await super().handle(message)

    def algorithm(self) -> str:
        """That all who may get a blob can check."""
        return self._algorithm

    def perform(self, effects: list[Effect]) -> None:
        """What is for the disk and the connections, and answers to own questions, stays here."""
        others: list[Effect] = []
        for effect in effects:
            match effect:
                case Send("blobs", message):
                    self._on_disk(message)
                case Send("bulk", message):
                    self._bulk.pull(message)  # type: ignore[arg-type]
                case Reply(_Own() as own, result):
                    if not own.answer.done():
                        own.answer.set_result(result)
                case Fail(_Own() as own, error):
                    if not own.answer.done():
                        own.answer.set_exception(error)
                case _:
                    others.append(effect)
        super().perform(others)

    # ---- calls ----

    def _answer_soon(self, request: Call, answer: Awaitable[Any]) -> None:
        working = self.context.spawn(self._answer(request, answer), "answer")
        if isinstance(request, LocalCall):
            # Also if its sender has gone: what nobody waits for is not done.
            request.future.add_done_callback(lambda _: working.cancel())

    async def _answer(self, request: Call, answer: Awaitable[Any]) -> None:
        try:
            result = await answer
        except LeoronicError as error:
            self.context.fail(request, error)
        else:
            self.context.reply(request, result)

    async def ask_machine(self, message: Any) -> Any:
        """Ask the machine. Raises what it answers with."""
        own = _Own()
        await self.feed(Asked(own, message))
        try:
            return await own.answer
        except asyncio.CancelledError:
            self.context.send_now(NotAwaited(own))
            raise

    def _ask_to_call(self, node: str) -> None:
        if not self._ghost:
            self.perform([Send(f"file_store@{node}", CallBack(self._node()))])

    # ---- the disk ----

    def _on_disk(self, message: Any) -> None:
        """Have it done; what comes of it is told to the machine."""
        disk = self._disk
        match message:
            case ListBlobs():
                # What an earlier life of this actor has begun comes to its end first.
                self._do(message, disk.list_blobs, [_ALL], [])
            case BeginPart(digest):
                self._parts.add(digest)
                self._do(message, disk.begin_part, [digest])
            case FinishPart(digest):
                self._parts.discard(digest)
                self._do(message, disk.finish_part, [digest])
            case ReadList(digest):
                self._do(message, disk.read_list, [digest])
            case Place(key):
                self._do(message, disk.place, [key], [_ALL, _ATTEMPTS])
            case GlobOutputs():
                self._keep_outputs(message, last=False)
            case DropFolders(keys):
                self._do(message, disk.drop_folders, keys, [_ALL, _ATTEMPTS])
            case DropOtherFolders():
                work = partial(disk.drop_other_folders, before=self._others_before)
                self._do(message, work, [_ATTEMPTS])
            case FindUnneeded():
                self._find_unneeded(message)
            case RemoveBlobs(digests):
                remove = partial(disk.remove_blobs, needed=self._needed())
                self._do(message, remove, digests, told=self._has_collected)
            case _:
                raise TypeError(f"no disk does {message!r}")

    def _do(
        self,
        message: T,
        work: Callable[[T], Sequence[Any]],
        alone: Sequence[Hashable] = (),
        shared: Sequence[Hashable] = (_ALL,),
        *,
        told: Callable[[], None] | None = None,
    ) -> None:
        """`told` is called once the machine has been told what came of it."""

        def done(answers: Sequence[Any]) -> None:
            self._tell(answers)
            if told is not None:
                told()

        guarded = partial(self._disk.guarded, work, message)
        self._work.do(guarded, done, self.context.crash, alone=alone, shared=shared)

    def _tell(self, answers: Sequence[Any]) -> None:
        for answer in answers:
            self.context.send_now(answer)

    def _keep_outputs(self, message: GlobOutputs, *, last: bool) -> None:
        work = partial(self._disk.glob_outputs, message, self._algorithm, last=last)

        def done(made: Any) -> None:
            if isinstance(made, DiskFull):
                self.context.spawn(self._keep_again(message), "outputs")
            elif isinstance(made, LeoronicError):
                self._tell(failed(message, made.message))
            else:
                self._tell(made)

        shared = [_ALL, _ATTEMPTS]
        self._work.do(
            partial(_caught, work),
            done,
            self.context.crash,
            alone=[message.key],
            shared=shared,
            long=True,
        )

    async def _keep_again(self, message: GlobOutputs) -> None:
        size = await self.in_thread(partial(self._disk.size_of_outputs, message))
        await self.make_room(size)
        self._keep_outputs(message, last=True)

    async def in_thread(
        self, work: Callable[[], Any], *, keys: Sequence[str] = (), long: bool = False
    ) -> Any:
        """Have it done beside everything else, in order with what has one of `keys` in common.

        Raises what `work` raises, if it is a `LeoronicError`.
        """
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answered(result: Any) -> None:
            if not done.done():
                if isinstance(result, LeoronicError):
                    done.set_exception(result)
                else:
                    done.set_result(result)

        self._work.do(
            partial(_caught, work),
            answered,
            self.context.crash,
            alone=keys,
            shared=[_ALL],
            long=long,
        )
        return await done

    # ---- what may go ----

    async def make_room(self, size: int) -> None:
        """Have removed what may go, as there is no room for so many bytes."""
        if self._collected is None:
            self._collected = asyncio.get_running_loop().create_future()
        collected = self._collected
        self.context.send_now(RoomWanted(size))
        await asyncio.wait({collected}, timeout=ROOM_S)
        if self._collected is collected:
            self._collected = None

    def _has_collected(self) -> None:
        if self._collected is not None and not self._collected.done():
            self._collected.set_result(None)

    def _find_unneeded(self, message: FindUnneeded) -> None:
        if self._disk.is_untouched:
            self._tell([UnneededTold(())])
            self._has_collected()
            return
        wanted, self._wanted = self._wanted, 0
        work = partial(self._disk.find_unneeded, needed=self._needed(), wanted=wanted)
        self._do(message, work)
        if self._parts:
            self.context.spawn(self._end_parts(), "end parts")

    async def _end_parts(self) -> None:
        """The machine gives up without a word: files of what it does not fetch are closed."""
        parts = tuple(self._parts)
        fetched = await self.ask_machine(FetchState(parts))
        ended = [digest for digest in parts if digest not in fetched]
        self._parts.difference_update(ended)
        self._do(ended, self._disk.end_parts, ended)

    def _needed(self) -> Callable[[Sequence[str]], Set[str]]:
        """Asks the journal, from a thread; what it does not tell may be needed."""
        if self._ghost:
            return lambda _: frozenset()
        loop = asyncio.get_running_loop()
        answers = True

        def needed(digests: Sequence[str]) -> Set[str]:
            nonlocal answers
            if not answers:
                return set(digests)
            asked = asyncio.run_coroutine_threadsafe(self._ask_journal(digests), loop)
            try:
                return asked.result(2 * JOURNAL_S)
            except (LeoronicError, TimeoutError, CancelledError):
                # It is overloaded, or gone: to ask it page after page would hold a thread for hours
                # and load it more. The next collection asks again.
                answers = False
                return set(digests)

        return needed

    async def _ask_journal(self, digests: Sequence[str]) -> set[str]:
        journal = self.context.get("journal")
        if journal is None:
            raise Unavailable("there is no journal now")
        found: set[str] = await journal.call(lambda reads: reads.needed(digests), JOURNAL_S)
        return found


def _common(view: View) -> str:
    """The algorithm that all can check. Of who was never met in this life it is not known."""
    known = [member for member in view.everyone() if member.alive or member.about.life]
    return "b3" if all("b3" in member.about.digests for member in known) else "s2"


def _caught(work: Callable[[], Any]) -> Any:
    """What comes of it, or what is wrong: no file of a task or a client may end the actor."""
    try:
        return work()
    except LeoronicError as error:
        return error
    except OSError as error:
        return Refused(error.strerror or str(error))
