"""What a ghost knows of the cluster: the nodes that there are, and the journals it stands on."""

from __future__ import annotations

from leoronic.core.ghost_messages import NodeTold
from leoronic.core.peer import JOURNALS_MAX
from leoronic.core.view import UP, About, Member


def members_of(ghost: str, about: About, nodes: list[NodeTold]) -> dict[str, Member]:
    """The ghost itself, and nodes that it has no connection with: of these it has just names."""
    members = {ghost: Member(ghost, about, UP, ready=False)}
    for node in nodes:
        told = About(node.name, "", 0, addresses=node.addresses)
        members[node.id] = Member(node.id, told, UP, ready=True)
    return members


def stands_on(journals: dict[str, int], node: str, entry: int) -> dict[str, int]:
    """`journals` when entry `entry` of that of `node` was written for it: the newest are kept."""
    others = [(one, number) for one, number in journals.items() if one != node]
    return {**dict(others[-(JOURNALS_MAX - 2) :]), node: entry}
