"""Which ghosts there are, as nodes tell each other, and when one counts as down."""

from __future__ import annotations

import pytest

from leoronic.core.ghost_members import GATHER_S
from leoronic.core.ghost_messages import (
    GHOST_GRACE_S,
)
from leoronic.core.ghost_notices import (
    GhostsHere,
)
from leoronic.core.membership import MembershipMachine, Start
from leoronic.core.peer import GHOSTS_MAX, Ghosts, GhostTold, Heartbeat, LinkDown, LinkUp
from leoronic.core.queue_messages import NodeDown
from leoronic.core.view import DOWN, SUSPECT, UP, AskView, GhostMember, View
from tests.core.ghosting import GHOST, Driven, about

TOLD = GhostTold(GHOST, about("g"), 1)


@pytest.fixture
def members() -> Driven:
    """Of node a, which knows b and c."""
    members = Driven(MembershipMachine("a", about("a")))
    members.tell(Start())
    for node in "bc":
        members.tell(LinkUp(node, about(node), f"{node}:1", 1))
    members.forget()
    return members


def live(members: Driven, for_s: float, silent: str = "") -> None:
    """Time passes; all but those that are silent are heard."""
    until = members.now + for_s
    while members.now < until:
        members.fire("tick")
        for name in [n for n, at in members.timers.items() if n != "tick" and at <= members.now]:
            members.fire(name)
        now_ms = int(members.now * 1000)
        for node in "bc":
            if node not in silent:
                members.tell(Heartbeat(node, now_ms, echo_ms=now_ms, ready=True))


def seen(members: Driven) -> GhostMember | None:
    """The ghost in the newest view."""
    views = [one for one in members.sent("queue") if isinstance(one, View)]
    return views[-1].ghosts.get(GHOST) if views else None


def told(members: Driven, node: str) -> list[Ghosts]:
    """What a node hears of ghosts."""
    return [one for one in members.sent(f"membership@{node}") if isinstance(one, Ghosts)]


def test_a_ghost_is_where_its_node_says(members: Driven) -> None:
    """It runs tasks, and owns none."""
    members.tell(Ghosts("b", [TOLD]))
    view = [one for one in members.sent("scheduler") if isinstance(one, View)][-1]
    assert (UP, "b", True) == (
        view.ghosts[GHOST].state,
        view.ghosts[GHOST].clairvoyant,
        view.ghosts[GHOST].linked,
    )
    assert ["a", "b", "c", GHOST] == view.executors()
    assert GHOST not in [*view.alive(), *view.owners(), *view.peers()]


def test_what_changes_here_is_told_to_all(members: Driven) -> None:
    """At once, and then gathered for a moment."""
    members.tell(GhostsHere((TOLD,)))
    assert [[Ghosts("a", [TOLD])]] * 2 == [told(members, node) for node in "bc"]
    members.tell(GhostsHere(()))
    assert [] == told(members, "b")
    assert members.now + GATHER_S == members.timers["ghosts"]
    members.fire("ghosts")
    assert [Ghosts("a", gone=[GHOST])] == told(members, "b")


def test_who_connects_is_told_all_and_asked(members: Driven) -> None:
    """What it does not name it does not have."""
    members.tell(GhostsHere((TOLD,)), Ghosts("c", [GhostTold("g2", about("g"), 1)]))
    members.forget()
    members.tell(LinkDown("b"), LinkUp("b", about("b"), "b:1", 1))
    assert [Ghosts("a", [TOLD], whole=True, ask=True)] == told(members, "b")
    members.tell(Ghosts("b", whole=True, ask=True))
    assert [Ghosts("a", [TOLD], whole=True)] == told(members, "b")
    members.tell(Ghosts("c", whole=True))
    views = [one for one in members.sent("queue") if isinstance(one, View)]
    assert SUSPECT == views[-1].ghosts["g2"].state


def test_the_later_attachment_counts(members: Driven) -> None:
    """Whatever order the words of two nodes come in."""
    later = GhostTold(GHOST, about("g"), 2)
    members.tell(Ghosts("b", [later]), Ghosts("c", [TOLD]))
    members.tell(Ghosts("c", gone=[GHOST]))
    ghost = seen(members)
    assert ghost is not None
    assert ("b", UP) == (ghost.clairvoyant, ghost.state)


def test_a_ghost_that_nobody_has_counts_as_there_for_a_while(members: Driven) -> None:
    """Then it is down, which is told once, and noted as a suspicion."""
    members.tell(Ghosts("b", [TOLD]), Ghosts("b", gone=[GHOST]))
    ghost = seen(members)
    assert ghost is not None
    assert (SUSPECT, False, True) == (ghost.state, ghost.linked, ghost.alive)
    live(members, GHOST_GRACE_S - 1.0)
    assert [] == [one for one in members.sent("queue") if isinstance(one, NodeDown)]
    live(members, 2.0)
    sent = members.sent("queue")
    assert [GHOST] == [one.node for one in sent if isinstance(one, NodeDown)]
    assert DOWN == [one for one in sent if isinstance(one, View)][-1].ghosts[GHOST].state
    live(members, 30.0)
    assert [] == [one for one in members.sent("queue") if isinstance(one, NodeDown)]


def test_a_ghost_whose_node_died_may_find_another(members: Driven) -> None:
    """It is not given up if it is with one within the grace; nor is it after that."""
    members.tell(Ghosts("b", [TOLD]))
    live(members, 12.0, silent="b")
    ghost = seen(members)
    assert ghost is not None
    assert SUSPECT == ghost.state
    members.tell(Ghosts("c", [GhostTold(GHOST, about("g"), 2)]))
    live(members, 60.0, silent="b")
    downs = [one.node for one in members.sent("queue") if isinstance(one, NodeDown)]
    assert GHOST not in downs


def test_a_ghost_that_comes_back_is_there_again(members: Driven) -> None:
    """Also after it was down."""
    members.tell(Ghosts("b", [TOLD]), Ghosts("b", gone=[GHOST]))
    live(members, 20.0)
    members.tell(Ghosts("c", [GhostTold(GHOST, about("g"), 2)]))
    ghost = seen(members)
    assert ghost is not None
    assert ("c", UP) == (ghost.clairvoyant, ghost.state)


def test_who_stood_still_gives_a_ghost_its_time_anew(members: Driven) -> None:
    """Where it is may have been told meanwhile."""
    members.tell(Ghosts("b", [TOLD]), Ghosts("b", gone=[GHOST]))
    members.forget()
    members.now += 40.0
    members.tell(Ghosts("c", [GhostTold(GHOST, about("g"), 2)]))
    live(members, 5.0)
    downs = [one.node for one in members.sent("queue") if isinstance(one, NodeDown)]
    assert GHOST not in downs


def test_a_node_is_no_ghost(members: Driven) -> None:
    """Whatever anybody says."""
    members.tell(Ghosts("b", [GhostTold("c", about("g"), 1)]))
    assert None is seen(members)


def test_who_comes_and_goes_under_many_names_shuts_nobody_out(members: Driven) -> None:
    """Those that have gone make room; who is there stays, and there is a most."""
    crowd = [GhostTold(f"x{n}", about("x"), 1) for n in range(GHOSTS_MAX)]
    members.tell(Ghosts("b", crowd))
    members.tell(Ghosts("c", [TOLD]))
    members.tell(AskView("queue"))
    assert seen(members) is None
    members.tell(Ghosts("b", gone=["x7"]))
    live(members, GHOST_GRACE_S + 2.0)
    members.tell(Ghosts("c", [TOLD]), AskView("queue"))
    found = seen(members)
    assert found is not None
    assert UP == found.state
