"""`put`: a file becomes a blob of this node, and each chosen node fetches and places it."""

from __future__ import annotations

import asyncio
import posixpath
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

from leoronic.actors.asking import ask
from leoronic.actors.file_calls import Advance, MakeBlobs, Makings, PutFile
from leoronic.actors.node_answers import NodeAnswers
from leoronic.actors.nodes import Nodes
from leoronic.actors.output_reading import Item
from leoronic.actors.peer_commands import PlaceFile
from leoronic.actors.placings import PUT_S_MAX, checked_name
from leoronic.actors.progress import with_progress
from leoronic.blobs.making import Made
from leoronic.core.blob import FileRef
from leoronic.core.commands import Exec, Put
from leoronic.errors import BadRequest, LeoronicError, Unavailable
from leoronic.runtime.ref import ActorRef

FILES_MAX = 1000
MAKE_S_MAX = 24 * 3600.0
ASK_WAIT_S = 0.5
ASK_S = 15.0
# A node whose core is restarted is back sooner.
AWAY_S_MAX = 15.0
AWAY_PAUSE_S = 0.5
TELL_EVERY_S = 0.2


class _Target:
    """A node that gets the files."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.bytes = 0
        self.placed: list[str] = []
        self.problems: list[str] = []


class Putting:
    """For the doors of the node in `nodes`. `questions` None: there are no others."""

    def __init__(
        self, nodes: Nodes, of_nodes: NodeAnswers, store: ActorRef, questions: ActorRef | None
    ) -> None:
        self._nodes = nodes
        self._of_nodes = of_nodes
        self._store = store
        self._questions = questions

    async def put(self, command: Put, folder: Path) -> AsyncIterator[Item]:
        """The stream of `commands.Put`; paths count from `folder`."""
        names = _names(command)
        everywhere = not command.node and not command.tag
        chosen = Exec("put", command.node, command.tag, everywhere)
        there, skipped = await self._of_nodes.targets(chosen)
        files: list[FileRef] = []
        async for item, blob in with_progress(
            partial(self._make, command, names, folder), "stored"
        ):
            if "result" in item:
                files = item["result"]
            else:
                yield item, blob
        targets = [_Target(node) for node in there]
        async for told in self._place_all(targets, files):
            yield told
        found = {
            self._nodes.name(one.node): {"placed": one.placed, "problems": one.problems}
            for one in targets
        }
        missed = {name: {"placed": [], "problems": [why]} for name, why in skipped.items()}
        shown = [
            {"path": path, "name": file.name, "size": file.size, "digest": file.digest}
            for path, file in zip(command.files, files, strict=True)
        ]
        me = self._nodes.name(self._nodes.me)
        # The one asked first, then by name, as `nodes` has them.
        nodes = dict(sorted({**found, **missed}.items(), key=lambda one: (one[0] != me, one[0])))
        left = self._of_nodes.left() if everywhere else []
        yield {"result": {"files": shown, "nodes": nodes, "left": left}}, b""

    async def _make(
        self, command: Put, names: list[str], folder: Path, advance: Advance
    ) -> list[FileRef]:
        paths = tuple(command.files)
        making = MakeBlobs(folder, paths, advance)
        made: Makings = await self._store.call(making, timeout_s=MAKE_S_MAX)
        problems = [one.message for one in made if isinstance(one, LeoronicError)]
        for one in made:
            # A full disk, or a store that was restarted: the fault of no file.
            if isinstance(one, LeoronicError) and (len(made) == 1 or not one.definite):
                raise one
        if problems:
            raise BadRequest(f"nothing was put: {problems[0]}", problems)
        return [
            # Elsewhere, where it came from means nothing.
            FileRef(name, name, one.blob.digest, one.blob.size, one.mode)
            for name, one in zip(names, made, strict=True)
            if isinstance(one, Made)
        ]

    # ---- to the nodes ----

    async def _place_all(self, targets: list[_Target], files: list[FileRef]) -> AsyncIterator[Item]:
        """Items of progress until all have ended."""
        size = sum(file.size for file in files)
        told = dict.fromkeys((one.node for one in targets), -1)
        working = {asyncio.ensure_future(self._place(one, files)) for one in targets}
        left = set(working)
        try:
            while left:
                done, left = await asyncio.wait(left, timeout=TELL_EVERY_S)
                for task in done:
                    task.result()
                for one in targets:
                    if told[one.node] != one.bytes:
                        told[one.node] = one.bytes
                        name = self._nodes.name(one.node)
                        yield {"node": name, "done": one.bytes, "size": size}, b""
        finally:
            for task in working:
                task.cancel()

    async def _place(self, target: _Target, files: list[FileRef]) -> None:
        """One after the other; what one node says of one file ends nothing else."""
        before = 0
        for file in files:
            try:
                if target.node == self._nodes.me:
                    await self._store.call(PutFile(file), timeout_s=PUT_S_MAX)
                else:
                    await self._place_there(target, file, before)
            except LeoronicError as error:
                of_file = error.message.startswith(f"{file.name}: ")
                target.problems.append(
                    error.message if of_file else f"{file.name}: {error.message}"
                )
                if isinstance(error, Unavailable):
                    return
            else:
                target.placed.append(file.name)
            before += file.size
            target.bytes = before

    async def _place_there(self, target: _Target, file: FileRef, before: int) -> None:
        """Raises what that node says, or that it is gone."""
        loop = asyncio.get_running_loop()
        heard_at = loop.time()
        while True:
            try:
                told = await self._ask(target.node, file)
            except Unavailable:
                if self._nodes.why_gone(target.node) or loop.time() - heard_at > AWAY_S_MAX:
                    raise
                await asyncio.sleep(AWAY_PAUSE_S)
                continue
            heard_at = loop.time()
            if told["done"]:
                return
            target.bytes = before + min(told["bytes"], file.size)

    async def _ask(self, node: str, file: FileRef) -> Any:
        if self._questions is None:
            raise Unavailable(f"{self._nodes.name(node)} can't be asked")
        command = PlaceFile(file, ASK_WAIT_S)
        return (await ask(self._questions, node, command, ASK_S)).result


def _names(command: Put) -> list[str]:
    """What the files are to be called. Raises `BadRequest`."""
    if not 1 <= len(command.files) <= FILES_MAX:
        raise BadRequest(f"which files? 1 to {FILES_MAX} at once")
    if command.name:
        if len(command.files) > 1:
            raise BadRequest("a name of its own is for one file: put them one by one")
        return [checked_name(command.name)]
    names = [_own_name(path) for path in command.files]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise BadRequest(f"several files are called {twice[0]}: put them one by one, with --as")
    return names


def _own_name(path: str) -> str:
    """The name that a file has already. Raises `BadRequest`."""
    name = posixpath.basename(posixpath.normpath(path)) if path.strip() else ""
    if name in ("", ".", ".."):
        raise BadRequest(f"{path!r} names no file: nothing was put")
    return checked_name(name)
