"""Stories of entries that travel: pushed, pulled, late, through others, from liars."""

from __future__ import annotations

import time
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leoronic.core import replication
from leoronic.core.bodies import Malformed, join, split
from leoronic.core.effects import Asked, Fired, Send
from leoronic.core.peer import Entries, Have, LinkUp, Pull, Push
from leoronic.core.pushing import BUSY_S, MANY_ENTRIES, MANY_TOGETHER_S, TOGETHER_S
from leoronic.core.recent import Recent
from leoronic.core.replica import VECTOR_S
from leoronic.core.replica_peer import ORIGINS_MAX, PARKED_BYTES_MAX, Parked, ReplicaPeer
from leoronic.core.replication_messages import (
    AskStable,
    AwaitCopies,
    Body,
    CatchUp,
    Misbehaved,
    PageRead,
    PeerVector,
    ReadPage,
    Rejoin,
    Take,
    Taken,
    Vector,
    VectorLoaded,
    Written,
)
from leoronic.core.taking import ACKNOWLEDGE_S, TAKE_S
from leoronic.core.view import About, AskView
from tests.core.mesh import DISK_S, FakeJournal, Mesh


@pytest.fixture
def mesh() -> Mesh:
    """Three nodes in sync."""
    mesh = Mesh("abc")
    mesh.run(3.3)
    return mesh


def await_copies(mesh: Mesh, node: str, token: int) -> None:
    """Ask for the copies of the newest entry."""
    journal = mesh.nodes[node].journal
    mesh.nodes[node].cast("replication", AwaitCopies(token, journal.have[node]))


# ---- travelling ----


def test_new_entries_are_pushed_to_all_at_once(mesh: Mesh) -> None:
    """No heartbeat is needed for it."""
    mesh.nodes["a"].write(5)
    mesh.run(0.01)
    assert {"a": 5} == mesh.nodes["b"].journal.have == mesh.nodes["c"].journal.have


def test_what_nobody_waits_for_is_pushed_together(mesh: Mesh) -> None:
    """The first at once, what follows soon after in company; whoever waits for copies ends that."""
    mesh.keep_messages = True
    node = mesh.nodes["a"]

    def counts() -> list[int]:
        return [m.count for _, to, m in mesh.messages if to == "b" and isinstance(m, Push)]

    for _ in range(4):
        node.write()
        mesh.run(0.001)
    mesh.run(DISK_S + TOGETHER_S)
    assert [1, 3] == counts()
    node.write()
    mesh.run(DISK_S + TOGETHER_S / 2)
    assert [1, 3] == counts()
    await_copies(mesh, "a", 7)
    mesh.run(0.0)
    assert [1, 3, 1] == counts()
    mesh.run(0.1)
    assert {"a": 5} == mesh.nodes["b"].journal.have == mesh.nodes["c"].journal.have


def test_where_much_is_written_it_is_gathered_for_longer(mesh: Mesh) -> None:
    """No single task makes so many entries at once, so nobody is kept waiting for a single one."""
    mesh.keep_messages = True
    node = mesh.nodes["a"]

    def counts() -> list[int]:
        return [m.count for _, to, m in mesh.messages if to == "b" and isinstance(m, Push)]

    node.write(MANY_ENTRIES)
    mesh.run(DISK_S + BUSY_S)
    assert [MANY_ENTRIES] == counts()
    node.write()
    mesh.run(DISK_S + TOGETHER_S)
    node.write()
    mesh.run(MANY_TOGETHER_S - TOGETHER_S - 0.0001)
    assert [MANY_ENTRIES] == counts()
    mesh.run(0.0002)
    assert [MANY_ENTRIES, 2] == counts()
    node.write()
    mesh.run(DISK_S + TOGETHER_S)
    assert [MANY_ENTRIES, 2, 1] == counts()


def test_what_is_gathered_is_pushed_before_a_page_tells_of_it(mesh: Mesh) -> None:
    """So that what others build on it is not told to anybody before it."""
    mesh.keep_messages = True
    node = mesh.nodes["a"]
    node.write()
    mesh.run(0.003)
    node.write()
    mesh.run(DISK_S + TOGETHER_S / 4)
    node.cast("replication", Pull("c", {}, 1))
    mesh.run(0.1)
    sent = [m for one, _, m in mesh.messages if one == "a" and isinstance(m, Push | Entries)]
    [page] = [m for m in sent if isinstance(m, Entries)]
    assert {"a": 2} == page.have
    assert 2 == max(m.first for m in sent[: sent.index(page)] if isinstance(m, Push))


def test_membership_is_told_what_is_held_now_and_then(mesh: Mesh) -> None:
    """Not of each commit: only heartbeats tell of it."""
    machine = mesh.nodes["a"].machines["replication"]
    now = mesh.now + mesh.nodes["a"].clock_offset
    told: list[object] = []
    for number in range(1, 6):
        effects = machine.handle(Written([Body("a", number, b"{}")]), now + number / 1000)
        told += [e.message for e in effects if isinstance(e, Send) and e.to == "membership"]
    assert [] == told
    effects = machine.handle(Fired("vector"), now + VECTOR_S)
    assert [Send("membership", Vector({"a": 5}))] == effects
    assert [] == machine.handle(Fired("vector"), now + 2 * VECTOR_S)


def test_who_comes_back_is_asked_at_once(mesh: Mesh) -> None:
    """What it holds and we do not will not come by itself; from then on it may."""
    mesh.cut("a", "bc")
    for node in mesh.nodes.values():
        for _ in range(3):  # more than is kept to be pushed
            node.write(1000, padding=500)
    mesh.run(30)
    mesh.heal()
    mesh.run(0.8)
    assert mesh.same()
    mesh.keep_messages = True
    mesh.nodes["a"].cast("replication", PeerVector("b", {"b": 3001}))
    mesh.run(0.5)
    assert not [m for _, _, m in mesh.messages if isinstance(m, Pull)]


def test_a_node_that_was_cut_off_gets_what_it_missed(mesh: Mesh) -> None:
    """From both sides of a split, in both directions, soon after healing."""
    mesh.cut("a", "bc")
    for node in mesh.nodes.values():
        node.write(2000, padding=300)
    mesh.run(30)
    assert {"a": 2000} == mesh.nodes["a"].journal.have
    mesh.heal()
    mesh.run(4)
    assert mesh.same()
    assert {"a": 2000, "b": 2000, "c": 2000} == mesh.nodes["a"].journal.have
    mesh.check_order()


def test_after_healing_new_entries_are_pushed_again(mesh: Mesh) -> None:
    """Who had to pull gets pushes from where the pages ended."""
    mesh.cut("a", "b")
    mesh.nodes["a"].write(6000, padding=300)
    mesh.run(10)
    mesh.heal()
    mesh.run(4)
    mesh.cut("a", "c")
    mesh.nodes["a"].write()
    mesh.run(0.01)
    assert 6001 == mesh.nodes["b"].journal.have["a"]


def test_entries_spread_through_a_third_node(mesh: Mesh) -> None:
    """Two that do not reach each other hold the same within some heartbeats."""
    mesh.cut("a", "c")
    mesh.nodes["a"].write(10)
    mesh.nodes["c"].write(10)
    mesh.run(4)
    assert mesh.same()
    mesh.check_order()


def test_entries_of_a_dead_origin_are_passed_on(mesh: Mesh) -> None:
    """A newcomer gets them from who has them."""
    mesh.nodes["a"].write(7)
    mesh.run(1)
    mesh.kill("a")
    mesh.start("d")
    mesh.run(1)
    assert {"a": 7} == mesh.nodes["d"].journal.have


def test_a_newcomer_gets_all_by_pages(mesh: Mesh) -> None:
    """Page by page, the next once the one before is on disk; ready when it has all."""
    mesh.nodes["a"].write(5000, padding=500)
    mesh.run(2)
    mesh.keep_messages = True
    newcomer = mesh.start("d")
    mesh.run(1)
    assert {"a": 5000} == newcomer.journal.have
    giver = next(m.node for _, _, m in mesh.messages if isinstance(m, Entries))
    kinds = [m for one, other, m in mesh.messages if {one, other} == {giver, "d"}]
    pages = [m for m in kinds if isinstance(m, Entries) and m.node == giver]
    assert len(pages) > 8
    assert max(len(page.blob) for page in pages) < 300_000
    flow = [type(m) for m in kinds if m in pages or (isinstance(m, Have) and m.pull)]
    assert all(one is not other for one, other in pairwise(flow))
    assert [False] * (len(pages) - 1) + [True] == [page.last for page in pages]


def test_a_newcomer_gets_what_is_left_of_trimmed_journals(mesh: Mesh) -> None:
    """Gaps up to the floor are no fault; it then holds all, and the floor too."""
    mesh.nodes["a"].write(100)
    mesh.run(1)
    mesh.kill("a", told=True)
    for node in mesh.nodes.values():
        node.journal.forget("a", set(range(2, 80)) | {100})
    newcomer = mesh.start("d")
    mesh.run(2)
    assert {"a": 100} == newcomer.journal.have
    assert {"a": 100} == newcomer.journal.floor
    assert [] == newcomer.cut_off


def test_a_newcomer_may_go_on_with_another_peer(mesh: Mesh) -> None:
    """That others forgot something past what it holds by then is no reason to begin anew."""
    mesh.nodes["a"].write(5000, padding=500)
    mesh.run(2)
    mesh.kill("a", told=True)
    for node in mesh.nodes.values():
        node.journal.forget("a", set(range(4000, 4500)))
    newcomer = mesh.start("d")
    while newcomer.journal.have.get("a", 0) == 0:
        mesh.run(0.001)
    assert newcomer.journal.have["a"] < 4000
    mesh.run(0.003)
    mesh.kill("b", told=True)
    mesh.run(2)
    assert [] == newcomer.rejoin
    assert {"a": 5000} == newcomer.journal.have


def test_who_was_away_for_too_long_must_begin_anew(mesh: Mesh) -> None:
    """What others forgot past its end would live on in it: it says so and takes nothing."""
    mesh.nodes["a"].write(10)
    mesh.run(1)
    old = mesh.kill("c")
    mesh.nodes["a"].write(40)
    mesh.run(10)
    mesh.kill("a", told=True)
    mesh.nodes["b"].journal.forget("a", set(range(5, 30)))
    back = mesh.start("c", old.journal, known=["a", "b"])
    mesh.run(10)
    assert ["this node holds 10 entries of a; b has forgotten some up to 29"] == [
        rejoin.reason for rejoin in back.rejoin
    ]
    assert 10 == back.journal.have["a"]
    assert back.ready_at is None
    mesh.kill("c", told=True)
    mesh.start("c2")
    mesh.run(3)
    assert 50 == mesh.nodes["c2"].journal.have["a"]


def test_who_lost_entries_of_its_own_must_begin_anew(mesh: Mesh) -> None:
    """Its numbers would be given twice."""
    mesh.nodes["a"].write(10)
    mesh.run(1)
    mesh.kill("a", told=True)
    back = mesh.start("a", FakeJournal("a"), known=["b", "c"])
    mesh.run(3)
    assert 1 == len(back.rejoin)
    assert [] == back.cut_off


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(2, 5))
def test_cause_stays_before_effect(chance: Random, count: int) -> None:
    """Whatever is cut, slow, restarted or full meanwhile; in the end all hold the same."""
    mesh = Mesh("abcde"[:count], delay_s=chance.choice([0.0005, 0.05, 0.3]))
    mesh.run(chance.uniform(0, 2))
    for _ in range(chance.randint(5, 30)):
        nodes = sorted(mesh.nodes)
        node = mesh.nodes[chance.choice(nodes)]
        match chance.randrange(7):
            case 0 | 1 | 2:
                node.write(chance.randint(1, 20), chance.choice([0, 0, 20_000]))
            case 3:
                mesh.cut(node.id, chance.choice(nodes), one_way=chance.random() < 0.3)
            case 4:
                mesh.heal()
            case 5:
                mesh.kill(node.id, told=chance.random() < 0.5)
                others = [other for other in nodes if other != node.id]
                mesh.start(node.id, node.journal, known=others)
            case 6:
                node.journal.full = not node.journal.full
        mesh.run(chance.choice([0.0, 0.003, 0.1, 1.0, 7.0]))
        mesh.check_order()
    for node in mesh.nodes.values():
        node.journal.full = False
    mesh.heal()
    mesh.run(25)
    mesh.check_order()
    assert mesh.same()
    assert [] == [cut for node in mesh.nodes.values() for cut in node.cut_off]
    assert [] == [rejoin for node in mesh.nodes.values() for rejoin in node.rejoin]
    assert all(node.ready_at is not None for node in mesh.nodes.values())


def test_a_full_disk_is_tried_again(mesh: Mesh) -> None:
    """Nothing that builds on what was refused is taken; once there is room, all is."""
    mesh.nodes["c"].journal.full = True
    mesh.nodes["a"].write(5)
    mesh.run(3)
    assert {} == mesh.nodes["c"].journal.have
    mesh.nodes["c"].journal.full = False
    mesh.run(3)
    assert {"a": 5} == mesh.nodes["c"].journal.have


def test_a_pull_without_answer_is_asked_of_another(mesh: Mesh) -> None:
    """After 3 s."""
    mesh.nodes["a"].write(100)
    mesh.run(1)
    mesh.never = {("a", "d"), ("d", "a")}
    newcomer = mesh.start("d")
    mesh.run(0.0005)
    mesh.nodes["b"].paused_until = mesh.now + 60
    mesh.run(2.9)
    assert {} == newcomer.journal.have
    mesh.run(0.5)
    assert {"a": 100} == newcomer.journal.have


def test_a_healed_split_of_100_000_records_takes_little_work() -> None:
    """Of processor time in these machines; the disk is another matter."""
    mesh = Mesh("ab")
    mesh.run(2)
    mesh.cut("a", "b")
    mesh.run(10)
    mesh.nodes["a"].write(100_000, padding=250)
    mesh.run(1)
    mesh.heal()
    began = time.process_time()
    mesh.run(5)
    took_s = time.process_time() - began
    assert 100_000 == mesh.nodes["b"].journal.have["a"]
    assert took_s < 5


# ---- copies ----


def test_copies_are_told_once_another_disk_has_it(mesh: Mesh) -> None:
    """By name, within the time of a push."""
    mesh.nodes["a"].write(3)
    await_copies(mesh, "a", 7)
    mesh.run(0.05)
    (copied,) = mesh.nodes["a"].copied
    assert 7 == copied.token
    assert copied.nodes
    await_copies(mesh, "a", 8)
    mesh.run(0.001)
    assert ["b", "c"] == mesh.nodes["a"].copied[1].nodes


def test_what_nobody_waits_for_is_acknowledged_together() -> None:
    """A submission is at once, and with it all that came before."""
    machine = replication.ReplicationMachine("a")
    machine.handle(replication.Start(), 1.0)
    machine.handle(VectorLoaded("a", {}, {}), 1.0)
    machine.handle(LinkUp("b", About("b", "1", 1), "b:1", 1), 1.0)

    def acknowledged(message: object, now: float) -> list[dict[str, int]]:
        """What the peer is told, once what may be taken is on disk."""
        told: list[dict[str, int]] = []
        waiting = [message]
        while waiting:
            for effect in machine.handle(waiting.pop(), now):
                match effect:
                    case Send("journal", Take(token, bodies)):
                        waiting.append(Taken(token, {"b": bodies[-1].number}))
                    case Send("replication@b", Have(_, have)):
                        told.append(have)
        return told

    assert [] == acknowledged(Push("b", b'{"kind":"started"}', 1, 1), 2.0)
    assert [] == acknowledged(Push("b", b'{"kind":"started"}', 2, 1), 2.01)
    assert [{"b": 2}] == acknowledged(Fired("acknowledge"), 2.0 + ACKNOWLEDGE_S)
    assert [] == acknowledged(Push("b", b'{"kind":"started"}', 3, 1), 3.0)
    assert [{"b": 4}] == acknowledged(Push("b", b'{"kind":"submitted"}', 4, 1), 3.01)
    assert [] == acknowledged(Fired("acknowledge"), 3.0 + ACKNOWLEDGE_S)


def test_alone_nobody_waits_for_copies() -> None:
    """There is nobody to hold it."""
    mesh = Mesh("a")
    mesh.run(1)
    mesh.nodes["a"].write()
    await_copies(mesh, "a", 1)
    mesh.run(0.005)
    assert [[]] == [copied.nodes for copied in mesh.nodes["a"].copied]


def test_a_peer_that_pulls_may_hold_it_soon(mesh: Mesh) -> None:
    """It is waited for, although nothing is pushed to it."""
    mesh = Mesh("ab")
    mesh.run(3.3)
    node = mesh.nodes["a"]
    node.machines["replication"]._replica.peers["b"].stop_pushing()
    node.write()
    mesh.run(0.01)
    await_copies(mesh, "a", 7)
    mesh.run(0.01)
    assert [] == node.copied
    node.cast("replication", Pull("b", {}, 1))
    mesh.run(1.99)
    assert [(7, ["b"])] == [(copied.token, copied.nodes) for copied in node.copied]


def test_copies_are_waited_for_2_s_at_most(mesh: Mesh) -> None:
    """Then the submission is acknowledged without."""
    mesh.nodes["b"].paused_until = mesh.nodes["c"].paused_until = mesh.now + 3
    mesh.nodes["a"].write()
    await_copies(mesh, "a", 1)
    mesh.run(1.9)
    assert [] == mesh.nodes["a"].copied
    mesh.run(0.2)
    assert [[]] == [copied.nodes for copied in mesh.nodes["a"].copied]


def test_who_waits_for_copies_hears_when_the_last_peer_is_gone(mesh: Mesh) -> None:
    """At once."""
    mesh.nodes["b"].journal.full = mesh.nodes["c"].journal.full = True
    mesh.nodes["a"].write()
    await_copies(mesh, "a", 1)
    mesh.run(0.1)
    mesh.kill("b", told=True)
    mesh.kill("c", told=True)
    mesh.run(0.01)
    assert [[]] == [copied.nodes for copied in mesh.nodes["a"].copied]


def test_a_slow_peer_does_not_make_the_sender_hold_more_and_more(mesh: Mesh) -> None:
    """Past some MiB under way, it is left to pull by itself."""
    mesh.nodes["c"].paused_until = mesh.now + 2.0
    before = mesh.bytes["a", "c"]
    for _ in range(50):
        mesh.nodes["a"].write(1000, padding=200)
        mesh.run(0.02)
    assert mesh.bytes["a", "c"] - before < 5 << 20
    mesh.run(8)
    assert mesh.same()


def test_recent_pushes_are_bounded_and_have_no_gap() -> None:
    """Who lacks more than they bring must pull."""
    recent = Recent()
    assert recent.past(0) is None
    for number in range(1, 20):
        recent.add(Push("a", b"x" * 100_000, number, 1))
    assert recent.past(3) is None
    assert [18, 19] == [push.first for push in recent.past(17) or []]
    recent.add(Push("a", b"x", 30, 2))
    assert recent.past(19) is None
    assert [30] == [push.first for push in recent.past(30) or []]


# ---- ready, stable ----


def test_the_first_node_ever_is_ready_at_once() -> None:
    """There is nobody to wait for."""
    mesh = Mesh("a")
    mesh.run(0.1)
    assert mesh.nodes["a"].ready_at is not None


def test_who_starts_asks_for_the_view() -> None:
    """Nothing is ready without one, and where nobody comes or goes there is no new one for long."""
    machine = replication.ReplicationMachine("a")
    sent = [e for e in machine.handle(replication.Start(), 1.0) if isinstance(e, Send)]
    assert [AskView("replication")] == [e.message for e in sent if e.to == "membership"]


def test_who_finds_nobody_is_ready_after_5_s() -> None:
    """All that it remembers may be gone."""
    mesh = Mesh()
    node = mesh.start("a", known=["b"])
    mesh.run(60)
    assert node.ready_at == pytest.approx(5.0, abs=0.1)


def test_who_was_away_is_ready_once_it_has_caught_up(mesh: Mesh) -> None:
    """And not before, however long it takes."""
    old = mesh.kill("c", told=True)
    mesh.nodes["a"].write(5000, padding=500)
    mesh.run(2)
    back = mesh.start("c", old.journal, known=["a", "b"])
    while back.ready_at is None:
        mesh.run(0.001)
    assert 5000 == back.journal.have["a"]
    assert back.ready_at - mesh.now < 1


def test_who_holds_more_than_its_peers_is_ready_too(mesh: Mesh) -> None:
    """Catching up is to what a peer holds; the peers catch up as well."""
    mesh.cut("a", "bc")
    mesh.nodes["a"].write(100)
    mesh.run(8)
    old = mesh.kill("a")
    mesh.cuts.clear()
    back = mesh.start("a", old.journal, known=["b", "c"])
    mesh.run(3)
    assert back.ready_at is not None
    assert mesh.same()


def test_stable_is_what_all_members_hold(mesh: Mesh) -> None:
    """Those that are down keep it back; of those never heard in this life nothing is known."""
    node = mesh.nodes["a"]
    node.write(10)
    mesh.run(2)
    mesh.kill("c")
    node.write(5)
    mesh.run(20)
    node.cast("replication", Asked(1, AskStable()))
    mesh.run(0.01)
    assert [{"a": 10}] == node.replies
    mesh.kill("a", told=True)
    back = mesh.start("a", node.journal, known=["b", "c"])
    mesh.run(10)
    back.cast("replication", Asked(1, AskStable()))
    mesh.run(0.01)
    assert [None] == back.replies


def test_replication_alone_starts_again(mesh: Mesh) -> None:
    """It asks each peer once for all that it holds, and so knows it at once, ready and pushing."""
    node = mesh.nodes["a"]
    node.write(10)
    mesh.run(3)
    node.machines["replication"] = machine = replication.ReplicationMachine("a")
    node.cast("replication", replication.Start())
    for peer in "bc":
        node.cast("replication", LinkUp(peer, mesh.nodes[peer].about, "x:1", 1))
    mesh.run(0.1)
    assert machine.ready
    node.cast("replication", Asked(1, AskStable()))
    node.write()
    mesh.run(0.01)
    assert [{"a": 10}] == node.replies
    assert {"a": 11} == mesh.nodes["b"].journal.have == mesh.nodes["c"].journal.have


# ---- liars ----


def push(first: int, count: int, lines: int, needs: dict[str, int] | None = None) -> Push:
    return Push("b", b"\n".join([b'{"saw":{}}'] * lines), first, count, needs or {})


def pulled_page(mesh: Mesh, **changes: object) -> Entries:
    """A page of b's for the pull that a has under way."""
    pull = mesh.nodes["a"].machines["replication"]._pulling._pull
    assert pull is not None
    return Entries("b", pull=pull.number, **changes)  # type: ignore[arg-type]


LIES = {
    "fewer lines than said": [push(1, 3, 2)],
    "more lines than said": [push(1, 1, 2)],
    "an empty push": [push(1, 0, 0)],
    "number 0": [push(0, 1, 1)],
    "a number beyond all": [push(1 << 60, 1, 1)],
    "held less than before": [Have("b", {"x": 5}), Have("b", {"x": 4})],
    "needs what was never written": [push(1, 1, 1, {"a": 99})],
    "holds what was never written": [PeerVector("b", {"a": 99})],
    "an origin without a name": [PeerVector("b", {"": 1})],
    "too many needs": [push(1, 1, 1, {f"o{n}": 1 for n in range(9000)})],
    "too many origins": [PeerVector("b", {f"o{n}": 1 for n in range(9000)})],
}


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_lying_peer_is_cut_off(mesh: Mesh, lie: str) -> None:
    """With a reason; nothing of it is taken, and the others go on as before."""
    node = mesh.nodes["a"]
    for message in LIES[lie]:
        node.cast("replication", message)
    mesh.run(0.1)
    assert ["b"] == [cut.node for cut in node.cut_off]
    assert {} == node.journal.have
    mesh.nodes["c"].write()
    mesh.run(0.1)
    assert {"c": 1} == node.journal.have
    assert [] == node.rejoin


PAGES = {
    "a gap above the floor": {
        "places": [("x", 3, 1)],
        "blob": b"{}",
        "have": {"x": 3},
        "floor": {"x": 1},
    },
    "beyond what it holds": {"places": [("x", 1, 2)], "blob": b"{}\n{}", "have": {"x": 1}},
    "no lines": {"places": [("x", 1, 2)], "have": {"x": 2}},
    "less than it had said": {"last": True, "have": {"x": 3}},
    "the end left out": {
        "places": [("x", 1, 1)],
        "blob": b"{}",
        "last": True,
        "have": {"x": 9},
    },
    "forgot what it never had": {"last": True, "floor": {"x": 10}, "have": {"x": 9}},
    "not an entry": {"places": [("x", 1, 1)], "blob": b"bad", "have": {"x": 1}},
    "an entry and none": {
        "places": [("y", 1, 1), ("x", 1, 1)],
        "blob": b"{}\nbad",
        "have": {"x": 1, "y": 1},
    },
}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_a_page_that_contradicts_itself_is_not_taken(mesh: Mesh, page: str) -> None:
    """Its sender is cut off."""
    node = mesh.nodes["a"]
    mesh.cut("a", "b", one_way=True)
    node.cast("replication", PeerVector("b", {"x": 9}))
    mesh.run(1.5)
    node.cast("replication", pulled_page(mesh, **PAGES[page]))
    mesh.run(0.5)
    assert ["b"] == [cut.node for cut in node.cut_off]
    assert "x" not in node.journal.have


def test_pages_must_wait_for_each_other(mesh: Mesh) -> None:
    """Who floods pages is cut off: what is kept of them is bounded."""
    node = mesh.nodes["a"]
    mesh.cut("a", "b", one_way=True)
    node.cast("replication", PeerVector("b", {"x": 9}))
    mesh.run(1.5)
    for number in (1, 2, 3):
        page = pulled_page(mesh, places=[("x", number, 1)], blob=b'{"saw":{}}', have={"x": 9})
        node.cast("replication", page)
    mesh.run(0.1)
    assert ["b"] == [cut.node for cut in node.cut_off]


def test_a_push_that_builds_on_what_nobody_holds_is_found_out(mesh: Mesh) -> None:
    """Its sender is asked for it, and does not have it."""
    node = mesh.nodes["a"]
    mesh.nodes["b"].journal.have["b"] = 1  # so that it holds the entry itself
    mesh.nodes["b"].journal.order.append(Body("b", 1, b'{"saw":{}}'))
    node.cast("replication", push(2, 1, 1, {"x": 5}))
    mesh.nodes["b"].journal.have["b"] = 2
    mesh.nodes["b"].journal.floor["b"] = 1
    mesh.run(1)
    assert ["b"] == [cut.node for cut in node.cut_off]


def test_what_is_parked_is_bounded() -> None:
    """A peer may push what cannot be taken for as long as it likes."""
    machine = replication.ReplicationMachine("a")
    machine.handle(replication.Start(), 1.0)
    machine.handle(VectorLoaded("a", {}, {}), 1.0)
    machine.handle(LinkUp("b", About("b", "1", 1), "b:1", 1), 1.0)
    for number in range(2, 100):
        machine.handle(Push("b", b"x" * (1 << 20), number, 1), 1.0)
    assert machine._replica.peers["b"].parked_bytes <= PARKED_BYTES_MAX


def test_needs_of_what_is_parked_count() -> None:
    """However small the entries are."""
    peer = ReplicaPeer("b")
    needs = {f"node{number}": 1 for number in range(ORIGINS_MAX)}
    parked = Parked(2, [Body("b", 2, b"{}")], needs, 2, 0.0)
    room = PARKED_BYTES_MAX // (64 * ORIGINS_MAX)
    assert [True] * 3 == [peer.park(parked) for _ in range(3)]
    assert sum(peer.park(parked) for _ in range(room)) < room
    assert peer.parked_bytes <= PARKED_BYTES_MAX


def test_a_page_may_be_ahead_of_what_the_journal_has_told() -> None:
    """It is read from the disk: a peer may hold an own entry before `Written` tells of it."""
    machine = replication.ReplicationMachine("a")
    sent: list[object] = []

    def hand(message: object) -> None:
        sent.extend(e.message for e in machine.handle(message, 1.0) if isinstance(e, Send))

    hand(replication.Start())
    hand(VectorLoaded("a", {}, {}))
    hand(LinkUp("b", About("b", "1", 1), "b:1", 1))
    hand(Pull("b", {}, 7))
    [read] = [message for message in sent if isinstance(message, ReadPage)]
    body = Body("a", 1, b"{}")
    hand(PageRead(read.token, [body], 1, True, {"a": 1}, {}))
    hand(Have("b", {"a": 1}))
    hand(Push("b", b"{}", 1, 1, {"a": 1}))
    assert not any(isinstance(message, Misbehaved | Rejoin) for message in sent)
    assert not any(isinstance(message, Take) for message in sent)
    hand(Written([body]))
    assert {"a": 1} == machine.have
    assert 1 == sum(isinstance(message, Take) for message in sent)


def test_who_stood_still_catches_up_again(mesh: Mesh) -> None:
    """It is not ready before a peer has answered what it asks now."""
    node = mesh.nodes["c"]
    machine = node.machines["replication"]
    mesh.keep_messages = True
    since = mesh.now + node.clock_offset
    node.cast("replication", CatchUp())
    mesh.run(0.0005)
    assert ["c"] == [one for one, _, message in mesh.messages if isinstance(message, Pull)]
    assert not machine.ready
    mesh.run(0.1)
    assert (True, since) == (machine.ready, machine._told_ready().since)


def test_who_stood_still_and_finds_nobody_is_ready_after_5_s() -> None:
    """As at its start."""
    mesh = Mesh("ab")
    mesh.run(3)
    mesh.kill("b", told=True)
    node = mesh.nodes["a"]
    mesh.run(1)
    node.cast("replication", CatchUp())
    mesh.run(4.9)
    assert not node.machines["replication"].ready
    mesh.run(0.2)
    assert node.machines["replication"].ready


def test_what_an_earlier_life_asked_is_void() -> None:
    """A vector read before this life began may lack what was written since."""
    machine = replication.ReplicationMachine("a")
    machine.handle(replication.Start(), 1.0)
    assert [] == machine.handle(VectorLoaded("a", {"a": 1}, {}, life=5), 1.0)
    assert {} == machine.have


def test_many_pulls_are_one_page_at_a_time(mesh: Mesh) -> None:
    """The journal is not asked more often than it answers."""
    node = mesh.nodes["a"]
    machine = node.machines["replication"]
    reads = 0
    for number in range(100):
        effects = machine.handle(Pull("b", {}, number), mesh.now + node.clock_offset)
        reads += sum(isinstance(e, Send) and e.to == "journal" for e in effects)
    assert 1 == reads


def test_a_page_for_a_pull_that_was_given_up_is_not_sent(mesh: Mesh) -> None:
    """The new pull is answered from its own beginning."""
    node = mesh.nodes["a"]
    machine = node.machines["replication"]
    now = mesh.now + node.clock_offset
    (first,) = [e.message for e in machine.handle(Pull("b", {}, 1), now) if isinstance(e, Send)]
    machine.handle(Pull("b", {"x": 7}, 2), now)
    effects = machine.handle(PageRead(first.token, [], 99, False, {}, {}), now)
    (again,) = [e.message for e in effects if isinstance(e, Send)]
    assert ({"x": 7}, 0) == (again.have, again.after)


def test_one_take_at_a_time_with_all_that_came_meanwhile() -> None:
    """So that nothing is on disk whose cause was refused."""
    machine = replication.ReplicationMachine("a")
    machine.handle(replication.Start(), 1.0)
    machine.handle(VectorLoaded("a", {}, {}), 1.0)
    machine.handle(LinkUp("b", About("b", "1", 1), "b:1", 1), 1.0)
    takes: list[Take] = []

    def hand(message: object) -> None:
        effects = machine.handle(message, 1.0)
        sent = [e.message for e in effects if isinstance(e, Send)]
        takes.extend(m for m in sent if isinstance(m, Take))
        assert not any(isinstance(m, Misbehaved) for m in sent)

    for number in range(1, 5):
        hand(Push("b", b"{}", number, 1))
    assert [[1]] == [[body.number for body in take.bodies] for take in takes]
    hand(Taken(takes[0].token, {"b": 1}))
    assert [2, 3, 4] == [body.number for body in takes[1].bodies]


def test_what_was_taken_after_all_is_needed_by_what_is_written_after_it() -> None:
    """A process that stood still gives up the take, and only then hears that it was done."""
    machine = replication.ReplicationMachine("a")
    sent: list[Send] = []

    def hand(message: object, now: float) -> None:
        sent.extend(e for e in machine.handle(message, now) if isinstance(e, Send))

    hand(replication.Start(), 1.0)
    hand(VectorLoaded("a", {}, {}), 1.0)
    for peer in "bc":
        hand(LinkUp(peer, About(peer, "1", 1), f"{peer}:1", 1), 1.0)
        hand(PeerVector(peer, {}), 1.0)
    hand(Push("b", b"{}", 1, 1), 2.0)
    [take] = [one.message for one in sent if isinstance(one.message, Take)]
    hand(Fired("take"), 2.0 + TAKE_S)
    hand(Taken(take.token, {"b": 1}), 2.0 + TAKE_S)
    hand(Written([Body("a", 1, b"{}")]), 2.0 + TAKE_S)
    assert [{"b": 1}] == [
        one.message.needs
        for one in sent
        if one.to == "replication@c" and isinstance(one.message, Push)
    ]


# ---- bodies ----


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 9), st.binary(min_size=1))))
def test_bodies_survive_the_journey(places: list[tuple[str, int, bytes]]) -> None:
    """Whatever their order."""
    bodies = [Body(o, n, text.replace(b"\n", b" ")) for o, n, text in places]
    assert bodies == split(*join(bodies))


def test_lines_and_places_must_fit() -> None:
    """A count too large costs nothing."""
    with pytest.raises(Malformed, match="1 lines for 1000000000000 entries"):
        split([("a", 1, 10**12)], b"x")
