"""To the queue and the scheduler of a node, ghosts are executors like nodes."""

from __future__ import annotations

from msgspec import structs

from leoronic.core.barrier import SETTLE_S, Barriers
from leoronic.core.effects import Send
from leoronic.core.entries import Cancelled, Lost, Started
from leoronic.core.executor import CLAIRVOYANT, ExecutorMachine, Start
from leoronic.core.executor_messages import Open, OpenAttempt, Relaying
from leoronic.core.peer import Assign, Interest, Offer
from leoronic.core.queue_messages import Append, StopAttempt, StopOnGhost
from leoronic.core.resources import Capacity, Need
from leoronic.core.run import Inventory
from leoronic.core.runs import STOPPED_AS
from leoronic.core.view import DOWN, SUSPECT, About, GhostMember, Standing, View
from tests.core.entering import hear, sent, submitted, tasks_of
from tests.core.scheduling import Scheduler, two
from tests.core.views import BIG, make_view

G = "g1"


def with_ghost(
    view: View, clairvoyant: str, state: str = "up", life: int = 1, *, linked: bool = True
) -> View:
    """The view, with a ghost."""
    about = About("name-g1", "1", life, capacity=BIG)
    ghost = GhostMember(G, about, clairvoyant, state, "no node has it", linked)
    return structs.replace(view, ghosts={G: ghost})


# ---- the queue ----


def test_who_owns_a_task_gives_up_what_ran_on_a_ghost_that_is_down() -> None:
    """Not while it may yet find another node; and nobody else does."""
    for me, other, expected in (("a", "b", 1), ("b", "a", 0)):
        view = make_view(me, other)
        tasks = tasks_of(view=with_ghost(view, "b"))
        hear(tasks, ("a", submitted()), ("b", Started("a", 1, G, 1.0)))
        tasks.see(with_ghost(view, "b", SUSPECT))
        assert [] == tasks.appends
        tasks.see(with_ghost(view, "b", DOWN))
        assert expected == len(tasks.appends)
        for lost in tasks.appends:
            assert isinstance(lost, Lost)
            assert "ghost name-g1 is down: no node has it" == lost.suspicion


def test_who_has_a_ghost_stops_what_must_not_go_on_there() -> None:
    """The task was cancelled, or goes on elsewhere; other nodes leave it to that one."""
    for clairvoyant, cancelled in (("a", 1), ("b", 0)):
        tasks = tasks_of(view=with_ghost(make_view("a", "b"), clairvoyant))
        hear(tasks, ("a", submitted()), ("b", Started("a", 1, G, 1.0)))
        sent(tasks)
        hear(tasks, ("b", Started("a", 2, "b", 1.0)))
        stop = ("relay", StopOnGhost(G, StopAttempt("a", 1, STOPPED_AS)))
        assert [stop] * cancelled == [one for one in sent(tasks) if one[0] == "relay"]
        hear(tasks, ("b", Cancelled("a", 2.0)))
        stop = ("relay", StopOnGhost(G, StopAttempt("a", 1, "cancelled")))
        assert [stop] * cancelled == [one for one in sent(tasks) if one[0] == "relay"]


def test_a_loss_that_a_ghost_tells_leaves_nothing_to_stop() -> None:
    """It is its own word, whoever wrote it down."""
    tasks = tasks_of(view=with_ghost(make_view("a"), "a"))
    hear(tasks, ("a", submitted()), ("a", Started("a", 1, G, 1.0)))
    hear(tasks, ("a", Lost("a", 1, G, 2.0, "why", told=True)), ("a", Cancelled("a", 3.0)))
    assert [] == [one for one in sent(tasks) if one[0] == "relay"]


def test_a_task_for_which_only_a_ghost_is_large_enough_is_not_blocked() -> None:
    """While the ghost is there."""
    small = Capacity(1000, 1, 1)
    view = with_ghost(make_view("n", capacity=small), "n")
    tasks = tasks_of(submitted(cpus=4.0), view=view)
    assert {} == tasks.feasibility.obstacles
    tasks.see(with_ghost(make_view("n", capacity=small), "n", DOWN))
    assert 1 == len(tasks.feasibility.obstacles)


# ---- the scheduler ----


def ghost_offer(scheduler: Scheduler) -> list[Send]:
    """The ghost offers what it has; what the scheduler says to it then."""
    said = scheduler.offer(node=G, name="name-g1", seen=scheduler.machine._out.number)
    sends = [one for one in said if isinstance(one, Send) and one.to == f"runner@{G}"]
    return [one for one in sends if isinstance(one.message, Assign)]


def test_tasks_are_placed_on_ghosts() -> None:
    """When the node itself is full; and `why` names them."""
    scheduler = Scheduler()
    scheduler.told(with_ghost(make_view("n"), "n"))
    scheduler.add("a", "b", "c")
    scheduler.told(with_ghost(make_view("n"), "n"))
    [assign] = ghost_offer(scheduler)
    assert isinstance(assign.message, Assign)
    assert ["c"] == [item.task for item in assign.message.items]


def test_a_ghost_that_has_another_node_is_asked_anew() -> None:
    """What was said to it by way of the other may be lost."""
    scheduler = two()
    scheduler.told(with_ghost(make_view("n", "m"), "n"))
    scheduler.add(*"abcdefgh")
    asked: list[int] = []
    for clairvoyant in "nmmn":
        said = scheduler.told(with_ghost(make_view("n", "m"), clairvoyant))
        to_ghost = [one for one in said if isinstance(one, Send) and one.to == f"runner@{G}"]
        asked.append(sum(isinstance(one.message, Interest) for one in to_ghost))
    assert [0, 1, 0, 1] == asked


def test_what_a_ghost_did_may_stand_in_the_journal_of_one_that_is_away() -> None:
    """So for a while it counts as out of reach; not if that node is at hand."""
    for members, expected in ((("m down silent",), {G}), (("m",), set())):
        scheduler = two()
        scheduler.told(with_ghost(make_view("n", "m"), "m"))
        view = make_view("n", *members)
        if expected:
            gone = structs.replace(view.members["m"], linked=False)
            view = structs.replace(view, members={**view.members, "m": gone})
        scheduler.told(with_ghost(view, "n"))
        assert expected == scheduler.machine.pictures.out_of_reach


def test_a_barrier_waits_for_the_entries_of_all_clairvoyants() -> None:
    """A ghost's word stands on those."""
    barriers = Barriers()
    barriers.begin("n", 1, [G], 0.0)
    assert barriers.heard(G, 1, {"a": 5, "b": 7}, 0.0, alone=False)
    assert {"a": 5, "b": 7} == barriers.behind()
    barriers.reached({"a": 5, "b": 6})
    assert [] == barriers.pass_due(SETTLE_S + 1.0)
    barriers.reached({"b": 7})
    assert ["n"] == barriers.pass_due(SETTLE_S + 1.0)


# ---- the executor ----


def standings(machine: ExecutorMachine, message: object) -> list[Standing]:
    """What membership hears."""
    said = machine.handle(message, 100.0)
    return [e.message for e in said if isinstance(e, Send) and isinstance(e.message, Standing)]


def test_a_clairvoyant_offers_one_cpu_less_and_has_a_tag() -> None:
    """As long as it serves ghosts; whatever else changes meanwhile."""
    machine = ExecutorMachine("n", "name", Capacity(2000, 5, 5), ("fixed",))
    machine.handle(Start(), 100.0)
    machine.handle(Open([], ["blue"]), 100.0)
    [told] = standings(machine, Relaying(True))
    assert (1000, ["blue", CLAIRVOYANT, "fixed"]) == (told.capacity.cpus_milli, told.tags)
    assert [] == standings(machine, Relaying(True))
    [told] = standings(machine, Capacity(2000, 9, 9))
    assert Capacity(1000, 9, 9) == told.capacity
    [told] = standings(machine, Relaying(False))
    assert (Capacity(2000, 9, 9), ["blue", "fixed"]) == (told.capacity, told.tags)


def test_a_single_cpu_is_not_taken_away() -> None:
    """A node of one cpu goes on running tasks."""
    machine = ExecutorMachine("n", "name", Capacity(1000, 5, 5))
    machine.handle(Start(), 100.0)
    machine.handle(Open([], []), 100.0)
    [told] = standings(machine, Relaying(True))
    assert (1000, [CLAIRVOYANT]) == (told.capacity.cpus_milli, told.tags)


def test_a_ghost_offers_only_to_those_who_ask() -> None:
    """It has no scheduler of its own."""
    machine = ExecutorMachine(G, "name", Capacity(1000, 5, 5), ghost=True)
    machine.handle(Start(), 100.0)
    said = machine.handle(Open([], []), 100.0)
    said += machine.handle(Inventory([], [], "life"), 100.0)
    said += machine.handle(Interest("a", True), 100.0)
    offers = [e.to for e in said if isinstance(e, Send) and isinstance(e.message, Offer)]
    assert ["scheduler@a"] == offers


def test_what_a_ghost_had_in_an_earlier_life_does_not_run_again() -> None:
    """It may have ended, and the node that knows may be out of reach: the runner has forgotten it.

    A loss leaves it to others to try again, under another number; an end that comes after all wins.
    """
    machine = ExecutorMachine(G, "name", Capacity(1000, 5, 5), ghost=True)
    machine.handle(Start(), 100.0)
    open = OpenAttempt("a", 1, Need(1000, 0, 0), 0, False, "life")
    machine.handle(Open([open], []), 100.0)
    said = machine.handle(Inventory([], [], "life"), 100.0)
    asked = [e.message for e in said if isinstance(e, Send) and e.to == "journal"]
    [append] = asked
    assert isinstance(append, Append)
    [lost] = append.entries
    assert isinstance(lost, Lost)
    assert ("a", 1, True) == (lost.task, lost.attempt, lost.begun)


def test_a_ghost_carries_its_tag_and_a_node_does_not() -> None:
    """So a task can keep off ghosts, or ask for one; also after tags were set by hand."""
    for ghost, expected in ((True, ["blue", "fixed", "ghost"]), (False, ["blue", "fixed"])):
        machine = ExecutorMachine(G, "name", Capacity(1000, 5, 5), ("fixed",), ghost=ghost)
        machine.handle(Start(), 100.0)
        machine.handle(Open([], ["blue"]), 100.0)
        machine.handle(Interest("a", True), 100.0)
        said = machine.handle(Inventory([], [], "life"), 100.0)
        offers = [e.message for e in said if isinstance(e, Send) and isinstance(e.message, Offer)]
        assert [expected] == [sorted(tags) for tags in {offer.tags for offer in offers}]
