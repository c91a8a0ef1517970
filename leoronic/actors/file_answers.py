"""Answers about files: into the nodes, out of tasks, and out of the nodes' directories."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from leoronic.actors.cluster import Cluster
from leoronic.actors.file_reasons import FileReasons
from leoronic.actors.folder_reading import FolderReading
from leoronic.actors.getting import Getting
from leoronic.actors.node_answers import NodeAnswers, NodeInfo
from leoronic.actors.nodes import Nodes
from leoronic.actors.output_reading import Item
from leoronic.actors.peer_commands import PlaceFile
from leoronic.actors.placings import Placings
from leoronic.actors.putting import Putting
from leoronic.core import commands
from leoronic.errors import Refused
from leoronic.runtime.actor import ActorContext
from leoronic.runtime.ref import ActorRef


class FileAnswers:
    """For the actor of `context`, the control socket or `questions`.

    `questions` None: no other node is asked. `reasons` are for `why`.
    """

    def __init__(
        self,
        context: ActorContext,
        info: NodeInfo,
        nodes: Nodes,
        cluster: Cluster,
        of_nodes: NodeAnswers,
        questions: ActorRef | None,
    ) -> None:
        store = context.get("file_store")
        self.reasons = FileReasons(nodes, cluster, context.find("runner"))
        self._info = info
        self._placings = Placings(context, store)
        self._getting = Getting(cluster, store)
        self._reading = FolderReading(nodes, info.root, store)
        self._putting = None if store is None else Putting(nodes, of_nodes, store, questions)

    async def place(self, command: PlaceFile) -> dict[str, Any]:
        """For another node: what it puts here."""
        return await self._placings.place(command)

    async def list_files(self, command: commands.ListFiles) -> dict[str, Any]:
        """A page of a node's working directory."""
        return await self._reading.list_files(command)

    def stream(self, command: commands.Command) -> AsyncIterator[Item] | None:
        """The answer to a command that is answered by a stream; None for any other."""
        match command:
            case commands.Put():
                if self._putting is None:
                    raise Refused("this node keeps no files")
                return self._putting.put(command, self._info.root / command.cwd)
            case commands.Get():
                return self._getting.get(command)
            case commands.ReadFiles():
                return self._reading.read_files(command)
            case _:
                return None
