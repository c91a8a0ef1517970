"""What a node does for its ghosts, and for those of others."""

from __future__ import annotations

import msgspec
import pytest

from leoronic.core import peer
from leoronic.core.entries import Entry, Finished, Lost, Started, Tagged
from leoronic.core.executor_messages import LoadOpen, Open, OpenAttempt, Relaying
from leoronic.core.ghost_messages import (
    ANSWER_S,
    GONE_S,
    Attach,
    Detach,
    Down,
    GhostAppend,
    GhostAppended,
    GhostAppendFailed,
    GhostEntry,
    GhostFetchSpecs,
    GhostLoadOpen,
    GhostMessage,
    GhostOpen,
    GhostPing,
    GhostPong,
    GhostSpecs,
    GhostStop,
    Nodes,
    NotWelcome,
    Up,
    Welcome,
    encode,
)
from leoronic.core.ghost_notices import (
    Came,
    EndRelay,
    GhostIds,
    GhostsHere,
    HangUp,
    Heard,
    HungUp,
    Outward,
    RelayDown,
    RelayUp,
    TicketKeys,
    Transmit,
)
from leoronic.core.outcome import Outcome
from leoronic.core.peer import (
    GHOSTS_MAX,
    Assign,
    AssignItem,
    FromGhost,
    GhostTold,
    Heartbeat,
    Interest,
    Offer,
    ToGhost,
)
from leoronic.core.queue_messages import (
    Append,
    Appended,
    AppendFailed,
    FetchSpecs,
    SpecsFetched,
    StopAttempt,
    StopOnGhost,
)
from leoronic.core.relay import IDLE_S, RelayMachine, Start
from leoronic.core.relay_attachments import QUESTIONS_MAX, TAG_ENTRIES_MAX
from leoronic.core.relay_journal import FETCHED_MAX, SPECS_BYTES_MAX
from leoronic.core.replication_messages import AwaitCopies, Copied
from leoronic.core.resources import Capacity, Need
from leoronic.core.spec import TaskSpec
from leoronic.core.view import LEFT
from leoronic.errors import DiskFull
from tests.core.ghosting import GHOST, Driven, about, view

OFFER = Offer(GHOST, "g", Capacity(1, 1, 1), frozenset(), False, [], number=9)
FINISHED = Finished("t", 1, GHOST, Outcome(1.0, 2.0, exit_code=0), final=True)
HOST = "relay_host"


@pytest.fixture
def relay() -> Driven:
    """Of node a, with a ghost attached by connection 1."""
    relay = Driven(RelayMachine("a"))
    relay.tell(Start(), view(), RelayUp(), Came(1, GHOST))
    relay.tell(Heard(1, attach()), view(g1="a"))
    relay.tell(Outward(GHOST, Assign("a", [AssignItem("t", 1)])), Heard(1, GhostPing(1)))
    look(relay)
    relay.forget()
    return relay


def look(relay: Driven, *tasks: str) -> None:
    """The journal tells the relay itself which attempts have no end on the ghost."""
    [load] = [one for one in relay.sent("journal") if isinstance(one, LoadOpen)]
    found = [OpenAttempt(task, 1, Need(1000, 0, 0), 0, False) for task in tasks]
    relay.tell(Open(found, [], load.life))


def asked(relay: Driven) -> list[Append]:
    """What the journal is to write."""
    return [one for one in relay.sent("journal") if isinstance(one, Append)]


def attach(number: int = 7, **journals: int) -> Attach:
    """It wants this node as its clairvoyant."""
    return Attach(GHOST, about("g"), number, 4000, journals)


def up(message: peer.PeerMessage, node: str = "a") -> Up:
    """An envelope."""
    text, blob = peer.encode(message)
    return Up(node, msgspec.Raw(text), blob)


def told(relay: Driven) -> list[GhostMessage]:
    """What the ghost hears."""
    return relay.transmitted(HOST, 1)


def test_a_ghost_is_taken() -> None:
    """It hears which nodes there are, and membership of the ghost."""
    relay = Driven(RelayMachine("a"))
    relay.tell(Start(), view(), RelayUp(), Came(1, GHOST), Heard(1, attach()))
    [welcome] = told(relay)
    assert isinstance(welcome, Welcome)
    assert ("a", 4000, 100_000) == (welcome.node, welcome.echo_ms, welcome.at_ms)
    assert ["a", "b"] == [one.id for one in welcome.nodes]
    assert GhostsHere((GhostTold(GHOST, about("g"), 7),)) == relay.sent("membership")[-1]
    assert Relaying(True) == relay.sent("runner")[-1]


def test_who_is_not_what_its_certificate_says_is_refused() -> None:
    """So is who takes a node's id, and everybody before it is known who is there."""
    relay = Driven(RelayMachine("a"))
    relay.tell(Start(), RelayUp())
    relay.tell(Came(1, GHOST), Heard(1, attach()), view())
    relay.tell(Came(2, "other"), Heard(2, attach()))
    relay.tell(Came(3, "b"), Heard(3, Attach("b", about("g"), 1, 1)))
    sent = relay.sent(HOST)
    refused = [one.message for one in sent if isinstance(one, Transmit)]
    assert [NotWelcome] * 3 == [type(one) for one in refused]
    assert [1, 2, 3] == [one.connection for one in sent if isinstance(one, HangUp)]


def test_there_is_a_most_of_ghosts() -> None:
    """Who is too many is told so; who is known may come again."""
    crowd = dict.fromkeys((f"x{n}" for n in range(GHOSTS_MAX - 1)), "b")
    for known, expected in (({GHOST: "b"}, Welcome), ({"x": "b"}, NotWelcome)):
        relay = Driven(RelayMachine("a"))
        relay.tell(Start(), view(**crowd, **known), RelayUp(), Came(1, GHOST), Heard(1, attach()))
        assert [expected] == [type(one) for one in told(relay)]


def test_who_says_nothing_is_cut_off() -> None:
    """It came, and does not say what it wants."""
    relay = Driven(RelayMachine("a"))
    relay.tell(view(), RelayUp(), Came(1, GHOST))
    for _ in range(7):
        relay.fire("look")
    assert ["it did not say what it wants"] == relay.hung_up(HOST)


@pytest.mark.parametrize(
    "message",
    [
        up(Heartbeat(GHOST, 1)),
        up(msgspec.structs.replace(OFFER, node="b")),
        Up("a", msgspec.Raw(b'{"type":"Offer"}')),
        GhostAppend(1, [Started("t", 1, "b", 1.0)]),
        GhostPong(1, 1),
        attach(),
    ],
)
def test_what_a_ghost_may_not_say_ends_its_connection(relay: Driven, message: GhostMessage) -> None:
    """Nothing of it gets anywhere."""
    relay.tell(Heard(1, message))
    assert 1 == len(relay.hung_up(HOST))
    assert [] == relay.sent("journal") + relay.sent("scheduler")
    assert [GhostsHere(())] == relay.sent("membership")


def test_what_it_says_to_this_node_stands_on_entries(relay: Driven) -> None:
    """Of this node, and of those that it was attached to before."""
    relay.tell(Came(2, GHOST), Heard(2, attach(8, z=5)))
    relay.tell(Heard(2, GhostAppend(1, [Tagged(GHOST, "x", 1.0)])))
    [append] = asked(relay)
    relay.tell(Appended(append.token, number=44), Heard(2, up(OFFER)))
    [offer] = relay.sent("scheduler")
    assert (0, {"z": 5, "a": 44}) == (offer.number, offer.journals)


def test_what_it_says_to_others_is_handed_on(relay: Driven) -> None:
    """And taken out there."""
    relay.tell(Heard(1, up(OFFER, "b")))
    [wrapped] = relay.sent("relay@b")
    assert isinstance(wrapped, FromGhost)
    other = Driven(RelayMachine("b"))
    other.tell(view("b", g1="a"), peer.decode(*peer.encode(wrapped)))
    assert [GHOST] == [offer.node for offer in other.sent("scheduler")]


def test_no_node_speaks_as_another_nodes_ghost_for_a_node() -> None:
    """A ghost's name is no node's, and it may not say all that nodes say."""
    relay = Driven(RelayMachine("a"))
    relay.tell(view())
    relay.forget()
    text = msgspec.Raw(peer.encode(msgspec.structs.replace(OFFER, node="b"))[0])
    relay.tell(FromGhost("b", ghost="b", message=text))
    relay.tell(
        FromGhost("b", ghost=GHOST, message=msgspec.Raw(peer.encode(Heartbeat(GHOST, 1))[0]))
    )
    assert [] == relay.sent("scheduler") + relay.sent("membership")


def test_what_is_for_a_ghost_goes_where_it_is(relay: Driven) -> None:
    """Here, or to the node that has it; and nowhere if nobody has."""
    interest = Interest("a", True)
    relay.tell(view(g1="a", g2="b"), Outward(GHOST, interest), Outward("g2", interest))
    relay.tell(Outward("g3", interest))
    [down] = told(relay)
    assert isinstance(down, Down)
    assert (interest, 100_000) == (peer.decode(bytes(down.message)), down.at_ms)
    [wrapped] = relay.sent("relay@b")
    assert "g2" == wrapped.ghost
    relay.tell(ToGhost("b", ghost=GHOST, message=wrapped.message, stale=True))
    [down] = told(relay)
    assert isinstance(down, Down)
    assert down.stale


def test_a_start_is_answered_when_it_is_on_disk(relay: Driven) -> None:
    """With the specs."""
    start = Started("t", 1, GHOST, 1.0)
    relay.tell(Heard(1, GhostAppend(3, [start], True)))
    [append] = asked(relay)
    assert Append("relay", append.token, [start], True) == append
    relay.tell(Appended(append.token, specs={"t": TaskSpec("echo")}, number=5))
    assert [GhostAppended(3, specs={"t": TaskSpec("echo")}, entry=5)] == told(relay)


def test_what_was_not_assigned_starts_not(relay: Driven) -> None:
    """So a ghost cannot have the spec of any task that it likes."""
    relay.tell(Heard(1, GhostAppend(3, [Started("u", 1, GHOST, 1.0)], True)))
    key = frozenset([("u", 1)])
    assert [] == asked(relay)
    assert [GhostAppended(3, key, key)] == told(relay)


@pytest.mark.parametrize(
    "entry",
    [
        Started("u", 1, GHOST, 1.0),
        Started("u", 1, GHOST, 1.0, handed=True),
        Started("t", 2, GHOST, 1.0, handed=True),
        msgspec.structs.replace(FINISHED, task="u"),
        msgspec.structs.replace(FINISHED, attempt=2),
        Lost("u", 1, GHOST, 1.0, "why", hold=True),
    ],
)
def test_nothing_is_written_of_what_was_not_assigned(relay: Driven, entry: GhostEntry) -> None:
    """A ghost that knows the id of a task can neither end it, nor hold it, nor claim to run it."""
    relay.tell(Heard(1, GhostAppend(3, [entry])))
    assert isinstance(entry, Started | Finished | Lost)
    key = frozenset([(entry.task, entry.attempt)])
    assert [] == asked(relay)
    assert [GhostAppended(3, key, key)] == told(relay)
    relay.tell(Heard(1, GhostAppend(4, [entry, FINISHED])))
    [append] = asked(relay)
    assert [FINISHED] == append.entries


def tickets_of(relay: Driven, *items: AssignItem) -> list[str]:
    """Those that the ghost gets when it is assigned these, the last of them ahead."""
    relay.forget()
    relay.tell(Outward(GHOST, Assign("a", list(items[:-1]), list(items[-1:]))))
    [down] = told(relay)
    assert isinstance(down, Down)
    return down.tickets


def test_with_its_ticket_an_attempt_is_handed_to_any_node(relay: Driven) -> None:
    """Though that has heard nothing of it; a ticket is for one attempt of one ghost."""
    relay.tell(TicketKeys((b"new", b"old")))
    tickets = tickets_of(relay, AssignItem("u", 1), AssignItem("v", 2))
    runs: list[GhostEntry] = [
        Started("u", 1, GHOST, 1.0, handed=True),
        Started("v", 2, GHOST, 1.0, handed=True),
    ]
    for key, ghost, given, expected in (
        (b"new", GHOST, tickets, 2),
        (b"new", GHOST, tickets[::-1], 0),
        (b"other", GHOST, tickets, 0),
        (b"new", "g2", tickets, 0),
    ):
        other = Driven(RelayMachine("b"))
        other.tell(Start(), TicketKeys((b"newer", key)), view("b"), RelayUp(), Came(1, ghost))
        other.tell(Heard(1, msgspec.structs.replace(attach(), ghost=ghost)))
        look(other)
        own: list[GhostEntry] = [msgspec.structs.replace(run, node=ghost) for run in runs]
        other.tell(Heard(1, GhostAppend(3, own, tickets=given)))
        assert expected == sum(len(append.entries) for append in asked(other))


def test_what_runs_on_it_as_the_journal_knows_needs_no_ticket() -> None:
    """What it tells before that is known waits, in its order."""
    relay = Driven(RelayMachine("a"))
    relay.tell(Start(), view(), RelayUp(), Came(1, GHOST), Heard(1, attach()))
    run = Started("t", 1, GHOST, 1.0, handed=True)
    relay.tell(Heard(1, GhostAppend(3, [run])), Heard(1, GhostAppend(4, [FINISHED])))
    [load] = relay.sent("journal")
    relay.tell(Open([OpenAttempt("t", 1, Need(1000, 0, 0), 0, False)], [], load.life))
    assert [[run], [FINISHED]] == [append.entries for append in asked(relay)]


def test_who_asks_without_end_is_cut_off(relay: Driven) -> None:
    """Tags that come and go, questions, entries: each is work and memory for a node."""
    tags: list[GhostEntry] = [Tagged(GHOST, "x", 1.0)] * (TAG_ENTRIES_MAX // 2)
    for connection, message, times, why in (
        (2, GhostAppend(3, tags), 2, "tags too often"),
        (3, GhostFetchSpecs(["t"]), QUESTIONS_MAX, "asks without waiting"),
        (4, GhostLoadOpen(9), QUESTIONS_MAX, "asks without waiting"),
        (5, GhostAppend(3, [FINISHED] * 9_000), 2, "writes faster"),
    ):
        relay.forget()
        relay.tell(Came(connection, GHOST), Heard(connection, attach()))
        look(relay)
        relay.tell(Outward(GHOST, Assign("a", [AssignItem("t", 1)])))
        relay.forget()
        for _ in range(times):
            relay.tell(Heard(connection, message))
            assert [] == relay.hung_up(HOST)
        relay.tell(Heard(connection, message))
        assert why in relay.hung_up(HOST)[0]


def test_specs_that_do_not_fit_are_told_when_they_are_asked_for(relay: Driven) -> None:
    """A frame has its limits; so has what a node reads at once."""
    large = TaskSpec("echo", stdin="x" * (SPECS_BYTES_MAX // 2))
    tasks = [f"t{n}" for n in range(20)]
    relay.tell(Outward(GHOST, Assign("a", [AssignItem(task, 1) for task in tasks])))
    starts: list[GhostEntry] = [Started(task, 1, GHOST, 1.0) for task in tasks]
    relay.tell(Heard(1, GhostAppend(3, starts, True)))
    [append] = asked(relay)
    relay.forget()
    relay.tell(Appended(append.token, specs=dict.fromkeys(tasks, large), number=5))
    [appended] = told(relay)
    assert isinstance(appended, GhostAppended)
    found, left = {**appended.specs}, appended.left
    answers = 0
    while left:
        relay.tell(Heard(1, GhostFetchSpecs(left)))
        [fetch] = relay.sent("journal")
        assert len(fetch.tasks) <= FETCHED_MAX
        relay.tell(SpecsFetched({task: large for task in fetch.tasks if task != "t19"}))
        [specs] = told(relay)
        assert isinstance(specs, GhostSpecs)
        assert len(encode(specs)[0]) < 2 * SPECS_BYTES_MAX
        assert len(specs.left) < len(left)
        found, left, answers = {**found, **specs.specs}, specs.left, answers + 1
    assert (tasks[:19], True) == (sorted(found, key=lambda t: int(t[1:])), answers > 5)


def test_a_clock_that_is_off_does_no_harm(relay: Driven) -> None:
    """What ended in 1970 would be forgotten at once: it is told by the clock of the node."""
    ours = 1_800_000_000.0
    ended = msgspec.structs.replace(FINISHED, outcome=Outcome(5.0, 7.5, exit_code=0))
    gone = Lost("t", 1, GHOST, 8.0, "why")
    for at, expected in (
        (10.0, (ours - 5.0, ours - 2.5, ours - 2.0)),
        (0.0, (5.0, 7.5, 8.0)),
    ):
        relay.tell(Heard(1, GhostAppend(3, [ended, gone], at=at), ours))
        [append] = asked(relay)
        end, lost = append.entries
        assert isinstance(end, Finished)
        assert isinstance(lost, Lost)
        assert expected == (end.outcome.started_at, end.outcome.finished_at, lost.at)
    ahead = GhostAppend(3, [Tagged(GHOST, "x", 2 * ours)], at=ours + 3600.0)
    relay.tell(Heard(1, ahead, ours))
    [append] = asked(relay)
    assert [Tagged(GHOST, "x", ours)] == append.entries


def test_an_end_is_answered_when_another_node_has_it(relay: Driven) -> None:
    """Or none can; it must not be lost with this one."""
    relay.tell(Heard(1, GhostAppend(3, [FINISHED])))
    [append] = asked(relay)
    relay.tell(Appended(append.token, number=5))
    assert [] == told(relay)
    assert [AwaitCopies(append.token, 5, "relay")] == relay.sent("replication")
    relay.tell(Copied(append.token, ["b"]), Copied(append.token, []))
    assert [GhostAppended(3, entry=5)] == told(relay)


def test_replication_that_has_begun_anew_is_not_waited_for(relay: Driven) -> None:
    """The end is on this disk."""
    relay.tell(Heard(1, GhostAppend(3, [FINISHED])))
    [append] = asked(relay)
    relay.tell(Appended(append.token, number=5))
    for _ in range(4):
        relay.fire("look")
        relay.tell(Heard(1, GhostPing(1)))
    assert GhostAppended(3, entry=5) in told(relay)


def test_a_loss_is_the_ghosts_own_word(relay: Driven) -> None:
    """Though it stands in the journal of another."""
    relay.tell(Heard(1, GhostAppend(3, [Lost("t", 1, GHOST, 1.0, "why", told=False)])))
    [append] = asked(relay)
    entries: list[Entry] = [Lost("t", 1, GHOST, 1.0, "why", told=True)]
    assert entries == append.entries


def test_what_the_journal_answers_goes_to_who_asked(relay: Driven) -> None:
    """Failures, open attempts, specs."""
    relay.tell(Heard(1, GhostAppend(3, [FINISHED])), Heard(1, GhostLoadOpen(99)))
    relay.tell(Heard(1, GhostFetchSpecs(["t"])))
    append, load, fetch = relay.sent("journal")
    assert LoadOpen("relay", load.life, GHOST) == load
    assert FetchSpecs("relay", ["t"]) == fetch
    relay.tell(AppendFailed(append.token, DiskFull("full")))
    relay.tell(Open([], ["x"], load.life, 12), SpecsFetched({}))
    expected = [GhostAppendFailed(3, "full"), GhostOpen(Open([], ["x"], 99)), GhostSpecs()]
    assert expected == told(relay)


def test_an_attempt_is_stopped(relay: Driven) -> None:
    """If the ghost is here; else its next clairvoyant finds that it must not go on."""
    relay.tell(StopOnGhost(GHOST, StopAttempt("t", 1, "cancelled")))
    relay.tell(StopOnGhost("g9", StopAttempt("t", 1, "cancelled")))
    assert [GhostStop("t", 1, "cancelled")] == told(relay)


def test_a_busy_ghost_that_falls_silent_is_gone_in_five_seconds(relay: Driven) -> None:
    """Its pings are answered until then."""
    relay.tell(Heard(1, GhostPing(77, busy=True)))
    assert [GhostPong(77, 100_000)] == told(relay)
    gone: list[str] = []
    while not gone:
        relay.fire("look")
        gone = relay.hung_up(HOST)
    assert ANSWER_S < relay.now - 100.0 < ANSWER_S + 2.0
    assert [GhostsHere(())] == relay.sent("membership")


def test_an_idle_ghost_may_be_silent_unless_it_is_told_something(relay: Driven) -> None:
    """Then it says within a second that it got it."""
    relay.tell(Heard(1, GhostPing(77)))
    while relay.now < 100.0 + GONE_S - 2.0:
        relay.fire("look")
    assert [] == relay.hung_up(HOST)
    relay.tell(Heard(1, GhostPing(78)), Outward(GHOST, Interest("a", True)))
    for _ in range(7):
        relay.fire("look")
    assert 1 == len(relay.hung_up(HOST))


def test_a_relay_that_stood_still_blames_nobody(relay: Driven) -> None:
    """What its ghosts said may be about to come."""
    relay.tell(Heard(1, GhostPing(77, busy=True)))
    relay.now += 60.0
    relay.fire("look")
    assert [] == relay.hung_up(HOST)


@pytest.mark.parametrize(
    "message", [HungUp(1, "it broke"), RelayDown(), Heard(1, Detach("it stops"))]
)
def test_membership_hears_who_is_gone(relay: Driven, message: object) -> None:
    """However that came."""
    relay.tell(message)
    assert GhostsHere(()) == relay.sent("membership")[-1]


def test_the_newer_connection_of_a_ghost_counts(relay: Driven) -> None:
    """The older one is hung up."""
    relay.tell(Came(2, GHOST), Heard(2, attach(8)))
    assert ["it has a newer connection"] == relay.hung_up(HOST)
    assert (8,) == tuple(one.number for one in relay.sent("membership")[-1].ghosts)


def test_a_ghost_that_another_node_has_is_let_go(relay: Driven) -> None:
    """After a while: word of its coming here may be on its way. Membership is told again."""
    relay.tell(view(g1="b"))
    assert 1 == len(relay.sent("membership")[-1].ghosts)
    hung_up: list[str] = []
    for _ in range(8):
        relay.tell(Heard(1, GhostPing(1)))
        relay.fire("look")
        hung_up += relay.hung_up(HOST)
    assert ["another node has it"] == hung_up


def test_ghosts_hear_which_nodes_there_are(relay: Driven) -> None:
    """When that changes; and the connections, which ids are those of ghosts."""
    relay.tell(view(nodes="abc", g1="a"), view(nodes="abc", g1="a"))
    [nodes] = told(relay)
    assert isinstance(nodes, Nodes)
    assert ["a", "b", "c"] == [one.id for one in nodes.nodes]
    assert GhostIds(frozenset([GHOST])) == relay.sent("peers")[-1]


def test_a_node_that_leaves_lets_its_ghosts_go(relay: Driven) -> None:
    """At once, so that they find another."""
    seen = view(g1="a")
    members = {**seen.members, "a": msgspec.structs.replace(seen.members["a"], state=LEFT)}
    relay.tell(msgspec.structs.replace(seen, members=members))
    assert ["the node stops"] == relay.hung_up(HOST)


def test_a_relay_without_ghosts_ends_after_a_minute(relay: Driven) -> None:
    """And the node offers all it has again."""
    relay.tell(Heard(1, Detach("")))
    began = relay.now
    ended: list[object] = []
    while not ended:
        relay.fire("look")
        ended = [one for one in relay.sent(HOST) if isinstance(one, EndRelay)]
    assert IDLE_S <= relay.now - began <= IDLE_S + 2.0
    relay.tell(RelayDown())
    assert Relaying(False) == relay.sent("runner")[-1]
