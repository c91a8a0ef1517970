"""A ghost finds a clairvoyant, loses it, and goes to the next."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from msgspec import structs

from leoronic.core import peer
from leoronic.core.ghost_link import GhostLink
from leoronic.core.ghost_messages import (
    ANSWER_S,
    Attach,
    Down,
    GhostAbout,
    GhostPing,
    GhostPong,
    GhostStop,
    Nodes,
    NodeTold,
    NotWelcome,
    Up,
    Welcome,
)
from leoronic.core.ghost_notices import (
    Attached,
    Candidates,
    Dial,
    Dialled,
    Heard,
    HungUp,
    LeaveNow,
    NodesThere,
    TicketsCame,
    Transmit,
    Unanswered,
    Working,
)
from leoronic.core.outbound import Outbound
from leoronic.core.peer import Assign, AssignItem, Heartbeat, Interest, Offer
from leoronic.core.queue_messages import StopAttempt
from leoronic.core.resources import Capacity
from leoronic.core.view import AskView, Standing, View
from tests.core.ghosting import GHOST, Driven, about

A, B = "10.0.0.1:1", "10.0.0.2:1"
TOLD = [NodeTold("a", "a", [A]), NodeTold("b", "b", [B])]


@pytest.fixture
def link() -> Driven:
    """It has found two nodes, and calls the first."""
    link = Driven(GhostLink(GHOST, about("g", life=1000)))
    link.tell(Candidates([B, A]))
    return link


def attach(link: Driven, connection: int = 1, node: str = "a") -> None:
    """The node that it calls takes it."""
    link.tell(Dialled(connection, node))
    now_ms = int(link.now * 1000)
    link.tell(Heard(connection, Welcome(node, about(node), now_ms, 5_000_000, TOLD)))


def down(message: peer.PeerMessage, at_ms: int) -> Down:
    """An envelope."""
    text, blob = peer.encode(message)
    return Down(msgspec.Raw(text), at_ms, blob=blob)


def test_it_calls_the_lowest_and_says_who_it_is(link: Driven) -> None:
    """Then the journal and the executor hear of it."""
    assert [Dial(1, A)] == link.sent("wire")
    link.tell(Dialled(1, "a"))
    [said] = link.transmitted("wire")
    assert isinstance(said, Attach)
    assert (GHOST, 1001) == (said.ghost, said.number)
    link.tell(Heard(1, Welcome("a", about("a"), said.sent_ms, 5, TOLD)))
    assert [Attached("a", 0.0)] == link.sent("journal")
    assert ["a", "b", GHOST] == link.sent("runner")[-1].alive()
    assert [NodesThere({"a": (A,), "b": (B,)}), ["a", GHOST]] == [
        seen.alive() if isinstance(seen, View) else seen for seen in link.sent("file_store")
    ]


@pytest.mark.parametrize("message", [HungUp(1, "refused"), Heard(1, NotWelcome("no"))])
def test_who_does_not_take_it_is_left(link: Driven, message: object) -> None:
    """It calls the next; after all of them the first again, a little later."""
    link.forget()
    link.tell(Dialled(1, "a"))
    link.tell(message)
    assert Dial(2, B) in link.sent("wire")
    link.tell(HungUp(2, "refused"))
    assert [] == link.sent("wire")
    link.fire("again")
    assert [Dial(3, A)] == link.sent("wire")


def test_a_call_that_is_not_answered_is_given_up(link: Driven) -> None:
    """And what comes of it later is hung up."""
    link.fire("answer")
    assert Dial(2, B) in link.sent("wire")
    link.tell(Dialled(1, "a"))
    assert ["another one was called meanwhile"] == link.hung_up("wire")


def test_it_goes_to_the_next_when_contact_is_lost(link: Driven) -> None:
    """The journal is told for how long there was nobody; the number of the attachment grows."""
    attach(link)
    link.forget()
    link.tell(HungUp(1, "it broke"))
    assert [Dial(2, B)] == link.sent("wire")
    link.now += 1.5
    link.tell(Dialled(2, "b"))
    [said] = link.transmitted("wire")
    assert isinstance(said, Attach)
    assert 1002 == said.number
    link.tell(Heard(2, Welcome("b", about("b"), said.sent_ms, 5, TOLD)))
    assert [Attached("b", 1.5)] == link.sent("journal")


def test_five_seconds_without_an_answer_is_contact_lost(link: Driven) -> None:
    """Busy, it asks once a second."""
    attach(link)
    link.tell(Working(True))
    [ping] = [one for one in link.transmitted("wire") if isinstance(one, GhostPing)]
    assert ping.busy
    began = link.now
    while not link.hung_up("wire"):
        link.fire("tick")
        assert link.now <= began + ANSWER_S + 0.001
    assert began + ANSWER_S == pytest.approx(link.now)


def test_the_clairvoyant_knows_when_it_has_nothing_to_do(link: Driven) -> None:
    """Else a silence of five seconds would be taken for its end."""
    attach(link)
    link.forget()
    said: list[tuple[float, bool]] = []
    while len(said) < 4:
        link.fire("tick")
        for ping in link.transmitted("wire"):
            assert isinstance(ping, GhostPing)
            said.append((link.now, ping.busy))
            link.tell(Heard(1, GhostPong(ping.sent_ms, 5_000_000 + ping.sent_ms)))
    assert [True, False, False, False] == [busy for _, busy in said]
    gaps = [after - before for (before, _), (after, _) in itertools.pairwise(said)]
    assert [1.0, 30.0, 30.0] == pytest.approx(gaps)


def test_an_idle_ghost_says_little(link: Driven) -> None:
    """In ten minutes about twenty pings, each of them answered."""
    attach(link)
    link.forget()
    pings = 0
    until = link.now + 600
    while link.now < until:
        link.fire("tick")
        for said in link.transmitted("wire"):
            assert isinstance(said, GhostPing)
            pings += 1
            link.tell(Heard(1, GhostPong(said.sent_ms, 5_000_000 + said.sent_ms)))
    assert 19 <= pings <= 23


def test_who_stood_still_itself_does_not_blame_the_other(link: Driven) -> None:
    """The answer may have been there all the time."""
    attach(link)
    link.tell(Working(True))
    link.forget()
    link.now += 40.0
    link.fire("tick")
    assert [] == link.hung_up("wire")


def test_what_is_for_it_goes_to_its_actors(link: Driven) -> None:
    """What a ghost has nothing to do with goes nowhere."""
    attach(link)
    link.forget()
    link.tell(Heard(1, down(Interest("b", True), 5_000_000)))
    link.tell(Heard(1, down(Heartbeat("b", 1), 5_000_000)))
    link.tell(Heard(1, GhostStop("t", 1, "cancelled")))
    assert [Interest("b", True), StopAttempt("t", 1, "cancelled")] == link.sent("runner")
    assert [] == link.sent("membership")


def test_an_assignment_that_was_held_up_is_stale(link: Driven) -> None:
    """By the clairvoyant's clock it was sent four seconds ago."""
    attach(link)
    link.forget()
    link.now += 4.0
    link.tell(Heard(1, down(Assign("b"), 5_004_000)))
    link.tell(Heard(1, down(Assign("b"), 5_000_500)))
    assert [False, True] == [one.stale for one in link.sent("runner")]


def test_the_tickets_of_an_assignment_are_noted_before_it_is_taken(link: Driven) -> None:
    """Those of what is assigned ahead, too."""
    attach(link)
    link.forget()
    assign = Assign("b", [AssignItem("t", 1)], [AssignItem("u", 2)])
    link.tell(Heard(1, structs.replace(down(assign, 5_000_000), tickets=["ab", "cd"])))
    assert [TicketsCame({("t", 1): "ab", ("u", 2): "cd"})] == link.sent("journal")


def test_what_its_machines_say_goes_up(link: Driven) -> None:
    """Lost while there is nobody."""
    offer = Offer(GHOST, "g", Capacity(1, 1, 1), frozenset(), False, [])
    link.forget()
    link.tell(Outbound("b", offer))
    assert [] == link.sent("wire")
    attach(link)
    link.forget()
    link.tell(Outbound("b", offer))
    [said] = link.transmitted("wire")
    assert isinstance(said, Up)
    assert ("b", offer) == (said.node, peer.decode(bytes(said.message)))


def test_who_answers_but_does_not_write_is_left_if_there_is_another(link: Driven) -> None:
    """With nobody else there it has to wait."""
    attach(link)
    link.forget()
    link.tell(Heard(1, Nodes(TOLD[:1])), Candidates([A]))
    link.tell(Unanswered("it wrote nothing"))
    assert [] == link.hung_up("wire")
    link.tell(Heard(1, Nodes(TOLD)))
    link.tell(Unanswered("it wrote nothing"))
    assert ["it wrote nothing"] == link.hung_up("wire")


def test_what_it_tells_of_itself_is_told_again_when_it_changes(link: Driven) -> None:
    """And is in the view that the executor compares with."""
    attach(link)
    link.forget()
    standing = Standing(Capacity(9000, 1, 1), ["x"], True)
    link.tell(standing, standing)
    [told] = link.transmitted("wire")
    assert isinstance(told, GhostAbout)
    assert (["x"], True) == (told.about.tags, told.about.draining)
    link.tell(AskView("runner"))
    seen = link.sent("runner")[-1]
    assert isinstance(seen, View)
    assert told.about == seen.members[GHOST].about


def test_it_says_when_it_leaves(link: Driven) -> None:
    """And calls nobody any more."""
    attach(link)
    link.forget()
    link.tell(LeaveNow("it stops"))
    said = link.sent("wire")
    assert ["Transmit", "HangUp"] == [type(one).__name__ for one in said]
    assert isinstance(said[0], Transmit)
    link.tell(Candidates([A, B]))
    assert [] == link.sent("wire")
