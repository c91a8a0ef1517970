"""Stories of nodes that come, go, stand still, and cannot reach each other."""

from __future__ import annotations

import msgspec
import pytest

from leoronic.core.effects import Effect, Send
from leoronic.core.health import LocalHealth
from leoronic.core.lease import LIMIT_S
from leoronic.core.membership import MembershipMachine, Start
from leoronic.core.membership_messages import Addresses, Leave
from leoronic.core.peer import Heartbeat, LinkDown, LinkUp, Probe, ProbeAnswer
from leoronic.core.replication_messages import CatchUp, Ready
from leoronic.core.resources import Capacity
from leoronic.core.timeouts import lan
from leoronic.core.view import AskView, Standing, View
from tests.core.mesh import Mesh


@pytest.fixture
def mesh() -> Mesh:
    """Five nodes that know each other."""
    mesh = Mesh("abcde")
    mesh.run(3.3)
    return mesh


def states(mesh: Mesh) -> set[str]:
    """How all see all others."""
    return {node.state(other) for node in mesh.nodes.values() for other in mesh.nodes}


def deaths(mesh: Mesh) -> list[tuple[str, str]]:
    """(who says so, who is down)."""
    return [(node.id, down.node) for node in mesh.nodes.values() for down in node.downs]


def sent_views(effects: list[Effect]) -> list[View]:
    """The views among what was said."""
    sent = (effect.message for effect in effects if isinstance(effect, Send))
    return [message for message in sent if isinstance(message, View)]


def test_all_learn_of_each_other(mesh: Mesh) -> None:
    """After the handshakes everybody sees everybody, ready and up, and remembers them."""
    for node in mesh.nodes.values():
        assert list("abcde") == node.view.alive() == node.view.owners()
        assert {"abcde".replace(node.id, "")} == {"".join(sorted(node.remembered))}
    assert [] == deaths(mesh)


def test_a_killed_node_is_down_within_six_seconds_everywhere(mesh: Mesh) -> None:
    """Nobody says so before 5 s of silence; each says it once, and names who agrees."""
    mesh.kill("b")
    mesh.run(3.9)
    assert [] == deaths(mesh)
    mesh.run(2.1)
    assert [(node, "b") for node in "acde"] == deaths(mesh)
    reason = mesh.nodes["a"].downs[0].reason
    assert reason.startswith("silent for 5.0 s, and so say ")
    assert "down" == mesh.nodes["a"].state("b")
    mesh.run(30)
    assert 4 == len(deaths(mesh))


def test_time_is_up_exactly() -> None:
    """Whatever the phase of this node's own heartbeats."""
    mesh = Mesh("a")
    mesh.run(0.3)
    mesh.start("b")
    mesh.run(5.01)
    mesh.kill("b")
    mesh.run(4.99)
    assert [] == deaths(mesh)
    mesh.run(0.02)
    assert [("a", "b")] == deaths(mesh)


def test_a_connection_that_lives_again_is_noticed_by_both_at_once() -> None:
    """Not a tick later, in which each would give up what it sees begin on the other."""
    mesh = Mesh("ab")
    mesh.run(3.1)
    mesh.cut("a", "b")
    mesh.run(7.0)
    assert {"up", "down"} == states(mesh)
    mesh.cuts.clear()
    mesh.run(1.0)
    assert {"up"} == states(mesh)


def test_over_a_way_that_is_too_long_no_more_is_said_than_is_heard() -> None:
    """Answers are not answered again and again."""
    mesh = Mesh("ab")
    mesh.run(3.1)
    mesh.delay_s = 2.0
    mesh.run(60.0)
    assert {"up", "down"} == states(mesh)
    mesh.keep_messages = True
    mesh.run(60.0)
    assert 4 * 60 >= len([m for _, _, m in mesh.messages if isinstance(m, Heartbeat)])


def test_a_broken_connection_is_not_a_death(mesh: Mesh) -> None:
    """The node is up until it has been silent for long."""
    mesh.nodes["a"].cast("membership", LinkDown("b", "reset"))
    mesh.run(2)
    assert "up" == mesh.nodes["a"].state("b")
    assert not mesh.nodes["a"].view.members["b"].linked


@pytest.mark.parametrize("paused_s", [0.5, 2.0, 4.0])
def test_a_pause_kills_nobody(mesh: Mesh, paused_s: float) -> None:
    """Neither is the paused node called dead, nor does it call others dead."""
    mesh.nodes["c"].paused_until = mesh.now + paused_s
    mesh.run(15)
    assert [] == deaths(mesh)
    assert {"up"} == states(mesh)


def test_after_a_long_pause_of_its_own_a_node_blames_nobody(mesh: Mesh) -> None:
    """The others have given it up; it says nothing about them, and all is well again after."""
    mesh.nodes["c"].paused_until = mesh.now + 20
    mesh.run(40)
    assert {"c"} == {down for _, down in deaths(mesh)}
    assert {"up"} == states(mesh)


def test_who_may_have_been_given_up_is_not_ready_before_it_has_caught_up(mesh: Mesh) -> None:
    """From the first view after the pause, whatever it is told first; a short one does not count.

    What replication said before it knew of the pause is of no use.
    """
    node = mesh.nodes["c"]
    machine = node.machines["membership"]
    now = mesh.now + node.clock_offset + 3.0
    [view] = sent_views(machine.handle(AskView("queue"), now))
    assert view.members["c"].ready
    now += 5.0
    effects = machine.handle(AskView("queue"), now)
    assert Send("replication", CatchUp()) in effects
    assert {False} == {view.members["c"].ready for view in sent_views(effects)}
    sent = [effect.message for effect in effects if isinstance(effect, Send)]
    assert {False} == {beat.ready for beat in sent if isinstance(beat, Heartbeat)}
    machine.handle(Ready({}, since=now - 5.0), now)
    assert not machine.ready
    machine.handle(Ready({}, since=now), now)
    assert machine.ready


def test_after_a_long_pause_a_node_is_ready_again(mesh: Mesh) -> None:
    """Once a peer has told it what it missed."""
    mesh.nodes["c"].paused_until = mesh.now + 20
    mesh.run(19)
    mesh.nodes["a"].write(10)
    seen = len(mesh.nodes["c"].views)
    mesh.run(10)
    ready = [view.members["c"].ready for view in mesh.nodes["c"].views[seen:]]
    assert (False, True) == (ready[0], ready[-1])
    assert mesh.same()


def test_a_pause_of_all_kills_nobody(mesh: Mesh) -> None:
    """As when a host that carries them all sleeps."""
    for node in mesh.nodes.values():
        node.paused_until = mesh.now + 60
    mesh.run(80)
    assert [] == deaths(mesh)


def test_a_slow_node_does_not_call_others_dead(mesh: Mesh) -> None:
    """A node whose timers are late and whose network is slow gives others more time."""
    slow = mesh.nodes["c"]
    slow.lag = lambda: 0.6
    mesh.run(10)
    mesh.cut("abde", "c", one_way=True)
    mesh.run(9)
    mesh.heal()
    mesh.run(10)
    assert [] == slow.downs


def test_local_health_is_bounded_and_recovers() -> None:
    """Late ticks stretch timeouts up to eightfold; those on time take it back slowly."""
    health = LocalHealth(1.0)
    for _ in range(20):
        health.tick(0.3)
    assert 8 == health.multiplier
    for _ in range(34):
        health.tick(0.2)
    assert 2 == health.multiplier
    health.tick(0.0)
    assert 1 == health.multiplier


def test_two_halves_hold_each_other_for_down_and_heal(mesh: Mesh) -> None:
    """Each side goes on with its own; afterwards all are up again."""
    mesh.cut("ab", "cde")
    mesh.run(8)
    assert ["a", "b"] == mesh.nodes["a"].view.alive()
    assert ["c", "d", "e"] == mesh.nodes["e"].view.alive()
    assert 12 == len(deaths(mesh))
    mesh.heal()
    mesh.run(3)
    assert {"up"} == states(mesh)
    assert list("abcde") == mesh.nodes["a"].view.owners()
    assert 12 == len(deaths(mesh))


def test_two_nodes_that_do_not_reach_each_other_stay_alive_through_a_third() -> None:
    """A path that is missing is no death; the view says through whom it is known, and steadily."""
    mesh = Mesh("abc")
    mesh.run(3)
    mesh.cut("a", "c")
    mesh.run(20)
    assert [] == deaths(mesh)
    member = mesh.nodes["a"].view.members["c"]
    assert ("up", False, True) == (member.state, member.linked, member.ready)
    assert "no direct connection; heard through b" == member.reason
    views = len(mesh.nodes["a"].views)
    mesh.run(20)
    assert views == len(mesh.nodes["a"].views)
    mesh.kill("c")
    mesh.run(9)
    assert [("a", "c"), ("b", "c")] == deaths(mesh)


def test_who_was_never_met_is_known_through_others() -> None:
    """Everybody knows of everybody, even if two could never connect."""
    mesh = Mesh()
    mesh.never = {("a", "c"), ("c", "a")}
    for name in "abc":
        mesh.start(name)
    mesh.run(8)
    for node in mesh.nodes.values():
        assert ["a", "b", "c"] == node.view.owners()
    assert [] == deaths(mesh)
    assert ["b", "c"] == sorted(mesh.nodes["a"].remembered)


def test_of_two_with_a_path_one_way_both_give_up() -> None:
    """Who hears but is not heard does not wait for the other for ever."""
    mesh = Mesh("ab")
    mesh.run(3)
    mesh.cut("a", "b", one_way=True)
    mesh.run(6.1)
    assert [("b", "a")] == deaths(mesh)
    mesh.run(6)
    assert [("a", "b"), ("b", "a")] == sorted(deaths(mesh))
    mesh.run(30)
    assert 2 == len(deaths(mesh))
    mesh.heal()
    mesh.run(3)
    assert {"up"} == states(mesh)


def test_a_path_one_way_with_others_around_is_no_death(mesh: Mesh) -> None:
    """A third hears both; what is sent straight is known to be lost."""
    mesh.cut("a", "b", one_way=True)
    mesh.run(20)
    assert [] == deaths(mesh)
    assert not mesh.nodes["a"].view.members["b"].linked
    assert not mesh.nodes["b"].view.members["a"].linked


def test_who_stops_in_order_has_left_at_once(mesh: Mesh) -> None:
    """No suspicion, neither then nor later."""
    mesh.nodes["b"].cast("membership", Leave())
    mesh.run(0.1)
    assert "left" == mesh.nodes["a"].state("b")
    mesh.run(1.5)
    mesh.kill("b", told=True)
    mesh.run(20)
    assert {"up"} == states(mesh)
    assert "left" == mesh.nodes["a"].state("b")
    assert [] == deaths(mesh)
    mesh.start("b", known=list("acde"))
    mesh.run(3)
    assert "up" == mesh.nodes["a"].state("b")


def test_who_has_left_has_left_for_those_that_start_later(mesh: Mesh) -> None:
    """One that was there then and one that was not say so, by what they remember or are told."""
    mesh.kill("e", told=True)
    mesh.nodes["b"].cast("membership", Leave())
    mesh.run(0.1)
    assert ["b"] == mesh.nodes["a"].remembered_left
    mesh.kill("b", told=True)
    mesh.run(3)
    mesh.kill("a", told=True)
    mesh.run(1)
    mesh.start("e", known=list("abcd"))
    mesh.start("f")
    mesh.start("a", known=list("bcde"), left="b")
    mesh.run(20)
    assert {"left"} == {node.state("b") for node in mesh.nodes.values()}
    assert [] == [one for one in deaths(mesh) if "b" in one]
    mesh.start("b", known=list("acdef"))
    mesh.run(3)
    assert {"up"} == states(mesh)
    assert [] == mesh.nodes["a"].remembered_left


def test_who_has_left_and_is_back_elsewhere(mesh: Mesh) -> None:
    """Those who cannot reach it hear of it, also one that starts anew."""
    mesh.nodes["b"].cast("membership", Leave())
    mesh.run(0.1)
    mesh.kill("b", told=True)
    mesh.kill("a", told=True)
    mesh.cut("a", "b")
    mesh.start("b", known=list("acde"))
    mesh.run(3)
    mesh.start("a", known=list("bcde"), left="b")
    mesh.run(10)
    assert {"up"} == states(mesh)
    assert [] == [one for one in deaths(mesh) if "a" not in one]


def test_a_restart_is_noticed(mesh: Mesh) -> None:
    """A new life is not ready before it says so."""
    old = mesh.kill("b", told=True)
    mesh.start("b", old.journal, known=list("acde"))
    mesh.run(0.0005)
    assert "started_anew" in [event for event, _ in mesh.nodes["a"].logs]
    assert "b" not in mesh.nodes["a"].view.owners()
    mesh.run(3)
    assert "b" in mesh.nodes["a"].view.owners()
    assert [] == deaths(mesh)


def test_who_is_remembered_is_waited_for_and_then_down() -> None:
    """A node that starts gives its old acquaintances time to be heard."""
    mesh = Mesh()
    mesh.start("a", known=["b", "c"])
    mesh.start("c")
    mesh.run(4.9)
    assert "suspect" == mesh.nodes["a"].state("b")
    mesh.run(0.2)
    assert "down" == mesh.nodes["a"].state("b")
    assert "up" == mesh.nodes["a"].state("c")


def test_who_stood_still_says_when_it_really_heard_of_others(mesh: Mesh) -> None:
    """The time that it gives others afterwards is no sign of life to tell."""
    mesh.kill("c")
    mesh.nodes["a"].paused_until = mesh.now + 3.0
    mesh.run(3.1)
    mesh.keep_messages = True
    mesh.nodes["a"].cast("membership", Probe("b", "c"))
    mesh.run(0.01)
    (answer,) = [m for one, _, m in mesh.messages if isinstance(m, ProbeAnswer) and one == "a"]
    assert answer.heard_s is not None
    assert answer.heard_s > 3


def test_what_changes_about_a_node_is_told(mesh: Mesh) -> None:
    """Its capacity, tags and addresses are in everybody's view within a second."""
    node = mesh.nodes["a"]
    node.cast("membership", Standing(Capacity(4000, 8, 9), ["gpu"], False))
    node.cast("membership", Addresses(["10.0.0.1:22580"]))
    mesh.run(1.1)
    about = mesh.nodes["e"].view.members["a"].about
    assert (Capacity(4000, 8, 9), ["gpu"]) == (about.capacity, about.tags)
    assert ["a:22580", "10.0.0.1:22580"] == mesh.nodes["e"].remembered["a"]


def test_the_dead_are_forgotten_after_long() -> None:
    """Until then they stay known, as down; who meets others later forgets them no later."""
    mesh = Mesh("ab", timeouts=lan()._replace(forget_after_s=700.0))
    mesh.run(2)
    mesh.kill("b")
    mesh.run(500)
    assert "down" == mesh.nodes["a"].state("b")
    mesh.start("c")
    views = len(mesh.nodes["a"].views)
    mesh.run(20)
    assert "down" == mesh.nodes["c"].state("b")
    # What c was told is not what it heard.
    assert {"down"} == {view.members["b"].state for view in mesh.nodes["a"].views[views:]}
    mesh.run(200)
    assert "" == mesh.nodes["a"].state("b") == mesh.nodes["c"].state("b")
    assert {"b": [], "c": ["c:22580"]} == mesh.nodes["a"].remembered


def test_the_dead_are_forgotten_by_all_at_about_the_same_time() -> None:
    """Also by who remembers them from before its own start."""
    mesh = Mesh("ab", timeouts=lan()._replace(forget_after_s=700.0))
    mesh.run(2)
    mesh.kill("b")
    mesh.run(500)
    mesh.cut("a", "c")
    mesh.start("c", known=["b"])
    mesh.run(20)
    assert "down" == mesh.nodes["c"].state("b")
    mesh.heal()
    mesh.run(190)
    assert "" == mesh.nodes["a"].state("b") == mesh.nodes["c"].state("b")


def test_an_actor_that_starts_again_is_believed(mesh: Mesh) -> None:
    """What it says of its node is newer than what its earlier life said."""
    node = mesh.nodes["a"]
    node.cast("membership", Standing(Capacity(4000, 8, 9), ["old"], False))
    mesh.run(2)
    machine = MembershipMachine("a", node.about)
    node.machines["membership"] = machine
    node.cast("membership", Start())
    for other in "bcde":
        node.cast("membership", LinkUp(other, mesh.nodes[other].about, "x:1", 1))
    node.cast("membership", Standing(Capacity(4000, 8, 9), ["new"], False))
    mesh.run(2)
    assert ["new"] == mesh.nodes["e"].view.members["a"].about.tags


def test_an_idle_heartbeat_is_small(mesh: Mesh) -> None:
    """Under 120 bytes of JSON, and nothing else is said between idle nodes."""
    before = dict(mesh.bytes)
    mesh.run(60)
    assert max(mesh.bytes[pair] - before[pair] for pair in before) < 60 * 120
    long = Heartbeat("abcdefghij", sent_ms=10**9, echo_ms=10**9, ready=True)
    assert len(msgspec.json.encode(long)) < 120


def test_questions_of_strangers_are_not_answered(mesh: Mesh) -> None:
    """Neither do their heartbeats count."""
    node = mesh.nodes["a"]
    views = len(node.views)
    node.cast("membership", Probe("x", "b"))
    node.cast("membership", Heartbeat("x", sent_ms=1))
    mesh.run(2)
    assert views == len(node.views)


def test_who_starts_again_asks_for_the_view(mesh: Mesh) -> None:
    """It need not wait for a change."""
    node = mesh.nodes["a"]
    views = len(node.views)
    node.cast("membership", AskView("queue"))
    mesh.run(0.01)
    assert [list("abcde")] == [view.alive() for view in node.views[views:]]


def test_a_node_does_not_meet_itself(mesh: Mesh) -> None:
    """A connection to itself, by a detour, changes nothing."""
    node = mesh.nodes["a"]
    node.cast("membership", LinkUp("a", node.about, "x:1", 1))
    mesh.run(10)
    assert list("abcde") == node.view.alive()


def test_nothing_starts_on_who_could_be_given_up() -> None:
    """The lease ends well before anybody gives up."""
    assert lan().heartbeat_s * 2 < lan().suspect_s < LIMIT_S
    assert LIMIT_S + lan().heartbeat_s < lan().down_s
