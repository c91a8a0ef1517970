"""Answers about nodes: each known from the view, those that are there asked how they are."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from leoronic import __version__
from leoronic.actors.asking import ask
from leoronic.actors.load import machine_load
from leoronic.actors.nodes import Nodes
from leoronic.actors.peer_commands import PeerCommand
from leoronic.actors.peers_messages import Describe, Described, PlaceFacts
from leoronic.core import commands, executor_messages
from leoronic.core.addresses import best_first
from leoronic.core.conditions import checked_tag
from leoronic.core.executor_messages import SetDraining, SetTag
from leoronic.core.queue_messages import Count
from leoronic.core.view import LEFT, UP, About, GhostMember, Member
from leoronic.errors import BadRequest, LeoronicError, NotFound, Refused, Unavailable
from leoronic.runtime.ref import ActorRef

_CALL_S = 60.0
LIVE_S = 1.0
_LIVE = ("running", "free", "tags", "cpu_percent", "memory_percent", "memory_available", "load")
PLACES_S = 1.0
# How a call ends where nobody answers; of several addresses, another reason tells more.
_SILENT = ("no answer", "cannot be reached")


class NodeInfo(NamedTuple):
    """What a node knows of itself. `statistics` tells of its actors, `stop` ends the node."""

    id: Callable[[], str]
    name: str
    root: Path
    started_at: float
    statistics: Callable[[], list[dict[str, Any]]]
    stop: Callable[[bool], None]
    stopping: Callable[[], bool]
    debug: bool

    @property
    def cookie_path(self) -> Path:
        """Where the node keeps its cookie."""
        return self.root / ".leoronic" / "cookie"


class NodeAnswers:
    """One method for each command about nodes.

    `questions` and `peers` are None where there are no others.
    """

    def __init__(
        self,
        info: NodeInfo,
        nodes: Nodes,
        queue: ActorRef,
        executor: ActorRef,
        questions: ActorRef | None,
        peers: ActorRef | None,
    ) -> None:
        self._info = info
        self._nodes = nodes
        self._queue = queue
        self._executor = executor
        self._questions = questions
        self._peers = peers

    # ---- all of them ----

    async def status(self, _command: commands.Status) -> dict[str, Any]:
        """How this node is, in one object."""
        info = self._info
        counts = await self._queue.call(Count(), timeout_s=_CALL_S)
        about = await self._describe()
        states = Counter(
            _state(member, about if node == self._nodes.me else None)
            for node, member in self._nodes.everyone().items()
        )
        return {
            "node": {
                "id": info.id(),
                "name": info.name,
                "pid": os.getpid(),
                "uptime_s": round(time.time() - info.started_at, 1),
                "version": __version__,
                "root": str(info.root),
                "inbox": str(info.root / "inbox"),
                "address": _address(self._nodes.members()[self._nodes.me]),
                "running": len(about["running"]),
            },
            "tasks": counts,
            "nodes": dict(sorted(states.items())),
            "actors": info.statistics(),
        }

    async def nodes(self, _command: commands.Nodes) -> dict[str, Any]:
        """All nodes: this one first, then by name; those that don't answer soon lack numbers."""
        others = [node for node in self._nodes.everyone() if node != self._nodes.me]
        places, *found = await asyncio.gather(
            self._missed_places(), self.node_object(), *map(self._live_object, others)
        )
        for node in found[1:]:
            self._explain(node, places)
        others_found = sorted(found[1:], key=lambda node: (node["name"], node["id"]))
        return {"nodes": [found[0], *others_found], "unreached": self._unreached(places)}

    async def _missed_places(self) -> list[PlaceFacts]:
        """Where no node was met the last time, with the reason; none if that isn't told soon."""
        if self._peers is None:
            return []
        try:
            described: Described = await self._peers.call(Describe(), timeout_s=PLACES_S)
        except LeoronicError:
            return []
        return [place for place in described.places if place.reason]

    def _explain(self, node: dict[str, Any], places: list[PlaceFacts]) -> None:
        """To a node that is missed here: what its address said when it was called."""
        member = self._nodes.view.members.get(node["id"])
        if member is None or (member.alive and member.linked):
            return
        # That a node which left does not answer is no news; that another answers there is.
        told = sorted(
            (
                place
                for place in places
                if _is_of(place, member)
                and not (member.state == LEFT and place.reason.startswith(_SILENT))
            ),
            key=lambda place: (place.reason.startswith(_SILENT), place.address),
        )
        if told:
            why = f"{told[0].address}: {told[0].reason}"
            node["reason"] = f"{node['reason']}; {why}" if node["reason"] else why

    def _unreached(self, places: list[PlaceFacts]) -> list[dict[str, str]]:
        """Addresses of which nobody knows which node is there."""
        known = self._nodes.view.members.values()
        return [
            {"address": place.address, "reason": place.reason}
            for place in places
            if not place.node and not any(_is_of(place, member) for member in known)
        ]

    async def node_object(self) -> dict[str, Any]:
        """This node."""
        about = await self._describe()
        member = self._nodes.members()[self._nodes.me]
        return {
            "id": self._info.id(),
            "name": self._nodes.name(self._nodes.me),
            "address": _address(member),
            "state": _state(member, about),
            "kind": "node",
            "cpus": about["cpus"],
            "memory": about["memory"],
            "storage": about["storage"],
            "resources": about["resources"],
            "free": about["free"],
            "tags": about["tags"],
            "running": len(about["running"]),
            "version": __version__,
            "seen_s": 0.0,
            "reason": "",
            "owner_of": self._wards(self._nodes.me),
            "ready": member.ready if member else True,
            **machine_load(),
        }

    async def _live_object(self, node: str) -> dict[str, Any]:
        found = self._known_object(node)
        if not self._nodes.why_gone(node):
            try:
                told = await self._ask(node, commands.Nodes(), LIVE_S)
            except LeoronicError:
                return found
            [live] = told["nodes"]
            found.update({key: live[key] for key in _LIVE if key in live}, seen_s=0.0)
            # Whether it drains, it knows first; whether it is suspected, this node alone.
            if found["state"] in (UP, "draining"):
                found["state"] = live["state"]
        return found

    def _known_object(self, node: str) -> dict[str, Any]:
        """Another node, or a ghost, as the view has it."""
        member = self._nodes.everyone()[node]
        assert member is not None
        if isinstance(member, GhostMember):
            return self._known_ghost(member)
        about = member.about
        # The view of a node that is there does not change while it is heard of.
        since_s = 0.0 if member.state == UP else self._nodes.view_age_s
        # Known from others alone, there was no sign of life to count from.
        never_heard = not member.alive and not member.address
        return {
            "id": node,
            "name": self._nodes.name(node),
            "address": _address(member),
            "state": _state(member, None),
            "kind": "node",
            **_told(about),
            "seen_s": None if never_heard else round(member.heard_s + since_s, 1),
            "reason": member.reason,
            "owner_of": self._wards(node),
            "ready": member.ready,
        }

    def _known_ghost(self, ghost: GhostMember) -> dict[str, Any]:
        """A ghost: it listens nowhere, owns nothing, and is heard of by its clairvoyant alone."""
        lost = ghost.state != UP
        return {
            "id": ghost.id,
            "name": self._nodes.name(ghost.id),
            "address": None,
            "state": _state(ghost, None),
            "kind": "ghost",
            **_told(ghost.about),
            "seen_s": round(ghost.lost_s + self._nodes.view_age_s, 1) if lost else 0.0,
            "reason": ghost.reason,
            "clairvoyant": self._nodes.name(ghost.clairvoyant),
            "owner_of": [],
            "ready": True,
        }

    def _wards(self, node: str) -> list[str]:
        """Names of the nodes that it stands in for."""
        others = (origin for origin in self._nodes.members() if origin != node)
        return sorted(
            self._nodes.name(origin) for origin in others if self._nodes.owner_of(origin) == node
        )

    # ---- one of them ----

    async def tag(self, command: commands.TagAdd | commands.TagDel) -> dict[str, Any]:
        """Add or remove a tag."""
        try:
            checked_tag(command.tag)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        node = self._there(command.node)
        if node != self._nodes.me:
            told = await self._ask(node, type(command)(command.tag))
            return {"node": self._nodes.name(node), "tags": told["tags"]}
        on = isinstance(command, commands.TagAdd)
        tags = await self._executor.call(SetTag(command.tag, on), timeout_s=_CALL_S)
        return {"node": self._nodes.name(node), "tags": tags}

    async def tag_list(self, command: commands.TagList) -> dict[str, Any]:
        """The tags of a node; of one that can't be asked, those it had."""
        node = self._nodes.find(command.node)
        if node == self._nodes.me:
            tags = (await self._describe())["tags"]
        else:
            try:
                tags = (await self._ask(node, commands.TagList()))["tags"]
            except Unavailable:
                tags = self._known_tags(node)
        return {"node": self._nodes.name(node), "tags": tags}

    async def drain(self, command: commands.Drain) -> dict[str, Any]:
        """Start nothing more on a node, or undo that."""
        node = self._there(command.node)
        if node != self._nodes.me:
            told: dict[str, Any] = await self._ask(node, commands.Drain(undo=command.undo))
            return {**told, "name": self._nodes.name(node)}
        if command.undo and self._info.stopping():
            raise Refused("the node is stopping: start it again when it has")
        await self._executor.call(SetDraining(not command.undo), timeout_s=_CALL_S)
        return await self.node_object()

    async def targets(self, command: commands.Exec) -> tuple[list[str], dict[str, str]]:
        """Ids of the nodes that `exec` is about, and {name: why not} of those out of reach.

        Raises `NotFound` or `Refused` if there is nobody to run it.
        """
        if command.all or command.tag:
            found = [node for node in self._nodes.everyone() if not self._has_left(node)]
            if command.tag:
                found = [node for node in found if command.tag in await self._tags(node)]
                if not found:
                    raise NotFound(
                        f"no node carries the tag {command.tag!r}; see `leoronic tag list`"
                    )
        else:
            found = [self._there(command.node)]
        whys = {node: self._why_unreached(node) for node in found}
        skipped = {self._nodes.name(node): why for node, why in whys.items() if why}
        there = [node for node, why in whys.items() if not why]
        if not there:
            raise Refused(f"nobody is there for it: {'; '.join(skipped.values())}")
        return there, skipped

    def left(self) -> list[str]:
        """Names of the nodes that were stopped in order, sorted: all nodes are the others."""
        return sorted(map(self._nodes.name, filter(self._has_left, self._nodes.everyone())))

    def _why_unreached(self, node: str) -> str:
        """Why nothing can be started there from here now; empty if it can."""
        why = self._nodes.why_gone(node)
        member = self._nodes.everyone()[node]
        if not why and member is not None and member.state == UP and not member.linked:
            why = f"{self._nodes.name(node)}: {member.reason}: ask on another node"
        return why

    def _has_left(self, node: str) -> bool:
        member = self._nodes.everyone()[node]
        return member is not None and member.state == LEFT

    async def _tags(self, node: str) -> list[str]:
        if node != self._nodes.me:
            return self._known_tags(node)
        tags: list[str] = (await self._describe())["tags"]
        return tags

    def _known_tags(self, node: str) -> list[str]:
        """Those that another one had when it told last, sorted."""
        member = self._nodes.view.find(node)
        return sorted(member.about.tags) if member is not None else []

    def _there(self, ref: str) -> str:
        """The id of the node that `ref` names. Raises `Refused` if it is down."""
        node = self._nodes.find(ref)
        if why := self._nodes.why_gone(node):
            raise Refused(why)
        return node

    async def _describe(self) -> dict[str, Any]:
        found: dict[str, Any] = await self._executor.call(
            executor_messages.Describe(), timeout_s=_CALL_S
        )
        return found

    async def _ask(self, node: str, command: PeerCommand, timeout_s: float = _CALL_S) -> Any:
        if self._questions is None:
            raise Unavailable(f"{self._nodes.name(node)} can't be asked")
        return (await ask(self._questions, node, command, timeout_s)).result


def _is_of(place: PlaceFacts, member: Member) -> bool:
    if place.node:
        return place.node == member.id
    return place.address == member.address or place.address in member.about.addresses


def _told(about: About) -> dict[str, Any]:
    """What a node or ghost told of itself, as the node object has it."""
    return {
        "cpus": about.capacity.cpus_milli / 1000,
        "memory": about.capacity.memory,
        "storage": about.capacity.storage,
        "resources": dict(about.capacity.resources),
        "free": None,
        "tags": sorted(about.tags),
        "running": None,
        "version": about.version,
    }


def _state(member: Member | GhostMember | None, about: dict[str, Any] | None) -> str:
    """The state that people see. `about`: what the executor tells, of this node."""
    draining = about["draining"] if about is not None else member and member.about.draining
    state = UP if about is not None or member is None else member.state
    return "draining" if draining and state == UP else state


def _address(member: Member | None) -> str | None:
    """Where the node listens. Of a connection that it made, its own end says only on which host."""
    if member is None:
        return None
    listens = best_first(member.about.addresses)
    host = member.address.rpartition(":")[0]
    seen = [address for address in listens if address.rpartition(":")[0] == host]
    return next(iter([*seen, *listens]), None) or member.address or None
