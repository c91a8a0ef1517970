"""All that answers for one node, put together: the control socket and other nodes ask the same."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from leoronic.actors.answers import Answers
from leoronic.actors.cluster import Cluster
from leoronic.actors.file_answers import FileAnswers
from leoronic.actors.joining import Joining
from leoronic.actors.node_answers import NodeAnswers, NodeInfo
from leoronic.actors.nodes import Nodes
from leoronic.actors.output_files import LocalOutput
from leoronic.actors.output_sources import OutputSources
from leoronic.runtime.actor import ActorContext
from leoronic.runtime.ref import ActorRef


class Surface(NamedTuple):
    """What answers. `local` reads what is on this node, `sources` wherever it is."""

    answers: Answers
    cluster: Cluster
    local: LocalOutput
    sources: OutputSources


def make_surface(
    context: ActorContext,
    info: NodeInfo,
    nodes: Nodes,
    output_dir: Path,
    questions: ActorRef | None,
) -> Surface:
    """For the actor of `context`. `questions` None: it asks no other nodes."""
    queue = context.find("queue")
    cluster = Cluster(queue, context.find("journal"), nodes.names)
    local = LocalOutput(nodes, cluster, context.find("runner_host"), output_dir)
    peers = context.get("peers")
    of_nodes = NodeAnswers(info, nodes, queue, context.find("runner"), questions, peers)
    answers = Answers(
        info,
        nodes,
        cluster,
        of_nodes,
        Joining(info, nodes, questions, peers),
        FileAnswers(context, info, nodes, cluster, of_nodes, questions),
        queue,
        context.find("scheduler"),
        questions,
        context.get("file_store"),
    )
    return Surface(answers, cluster, local, OutputSources(nodes, cluster, local, questions))
