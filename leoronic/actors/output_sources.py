"""From where the output of a run can be read: here, from its node, or from who keeps a copy."""

from __future__ import annotations

from leoronic.actors.asking import ask
from leoronic.actors.cluster import Cluster
from leoronic.actors.nodes import Nodes
from leoronic.actors.output_files import LocalOutput
from leoronic.actors.peer_commands import ReadPart
from leoronic.core.run import OutputPart
from leoronic.errors import Refused, Unavailable
from leoronic.journal.rows import AttemptRow
from leoronic.runtime.ref import ActorRef

ASK_S = 15.0


class OutputSources:
    """`questions` carries what must be asked of other nodes; None if there are no others."""

    def __init__(
        self, nodes: Nodes, cluster: Cluster, local: LocalOutput, questions: ActorRef | None
    ) -> None:
        self._nodes = nodes
        self._cluster = cluster
        self._local = local
        self._questions = questions

    async def live(
        self, row: AttemptRow, stream: str, offset: int, limit: int, wait_s: float
    ) -> OutputPart | None:
        """What a run that runs has printed; None if that can't be known just now.

        Raises `Unavailable` if its node is gone.
        """
        if row.node == self._nodes.me:
            return await self._local.live(row.task, row.attempt, stream, offset, limit, wait_s)
        return await self._ask(row.node, row, stream, offset, limit, wait_s)

    async def kept(self, row: AttemptRow, stream: str, offset: int, limit: int) -> OutputPart:
        """What is kept of a run that has ended, from whoever has it.

        Of one that has not, it is what its node has on disk, if that is this one.

        Raises `Unavailable` that tells where it is if nobody can be asked who has it; `Refused` if
        it is nowhere any more.
        """
        gone: Refused | None = None
        if row.ended_at is None and row.node != self._nodes.me:
            return OutputPart(offset, b"", at_end=True, known=False)
        try:
            part = self._local.kept(row, stream, offset, limit)
            if part is not None:
                return part
        except Refused as error:
            gone = error
        copies = await self._cluster.copies(row, stream)
        where = [node for node in dict.fromkeys((row.node, *copies)) if node != self._nodes.me]
        away: list[str] = []
        for node in where:
            try:
                part = await self._ask(node, row, stream, offset, limit, 0.0)
            except Unavailable as error:
                away.append(self._nodes.why_gone(node) or error.message)
            except Refused as error:
                gone = error
            else:
                if part.known:
                    return part
        if away:
            raise Unavailable(
                f"what {row.task} printed in attempt {row.attempt} is kept by "
                f"{_names(self._nodes, where)}, and {'; '.join(away)}: ask again when it is back"
            )
        raise gone or Refused(f"the output is gone: {_names(self._nodes, where)} has it no more")

    async def _ask(
        self, node: str, row: AttemptRow, stream: str, offset: int, limit: int, wait_s: float
    ) -> OutputPart:
        if self._questions is None:
            raise Unavailable(f"{self._nodes.name(node)} can't be asked")
        ref = getattr(row.outcome, stream) if row.outcome is not None else None
        part = ReadPart(row.task, row.attempt, row.node, stream, offset, limit, wait_s, ref)
        answer = await ask(self._questions, node, part, ASK_S + wait_s)
        told = answer.result
        return OutputPart(told["offset"], answer.blob, told["at_end"], told["known"])


def _names(nodes: Nodes, some: list[str]) -> str:
    return " and ".join(nodes.name(node) for node in some)
