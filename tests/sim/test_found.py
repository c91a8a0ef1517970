"""What the simulator found, each as the shortest story that shows it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from leoronic.core import executor, executor_messages, peer, queue
from leoronic.core.bodies import too_old
from leoronic.core.effects import Asked, Effect, Fail, Send
from leoronic.core.entries import (
    Cancelled,
    Finished,
    Held,
    Lost,
    Numbered,
    Started,
    Submitted,
    encode,
)
from leoronic.core.executor import ExecutorMachine
from leoronic.core.executor_messages import Open, OpenAttempt
from leoronic.core.outcome import Outcome
from leoronic.core.peer import Assign, AssignClass, AssignItem, Entries, Freed, Offer
from leoronic.core.queue import QueueMachine
from leoronic.core.queue_messages import (
    Append,
    Appended,
    AppendFailed,
    FetchSpecs,
    Flip,
    Known,
    Loaded,
    LookedUp,
    Offered,
    SubmitSpecs,
)
from leoronic.core.replication_messages import Body
from leoronic.core.resources import Capacity, Need
from leoronic.core.run import Exited, ExitedMany, Forget, Inventory, Runs
from leoronic.core.runs import STOPPED_AS
from leoronic.core.spec import After, TaskSpec
from leoronic.core.tasks import Tasks
from leoronic.core.view import UP, About, Member, View
from leoronic.errors import BadRequest, Conflict, DiskFull
from leoronic.journal.database import create
from leoronic.journal.journal import Journal
from leoronic.journal.reads import Reads

NOW = 1_700_000_000.0
ONE_CPU = Need(1000, 0, 0)
DONE = Outcome(NOW, NOW + 1, exit_code=0)
FAILED = Outcome(NOW, NOW + 1, exit_code=1)


def sent(effects: list[Effect], kind: type) -> list[object]:
    return [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, kind)]


# ---- the executor ----


def executor_that_asked() -> tuple[ExecutorMachine, int]:
    machine = ExecutorMachine("n", "node", Capacity(1000, 0, 0))
    [load] = sent(machine.handle(executor.Start(), NOW), executor_messages.LoadOpen)
    assert isinstance(load, executor_messages.LoadOpen)
    return machine, load.life


def test_an_outcome_told_before_the_journals_word_is_kept() -> None:
    """While the journal has not said what ran here, an outcome is not unknown: it is early."""
    machine, life = executor_that_asked()
    told = ExitedMany([Exited("t", 1, DONE)])
    assert [] == sent(machine.handle(told, NOW), Forget)
    effects = machine.handle(Open([OpenAttempt("t", 1, ONE_CPU, 0, False)], [], life), NOW)
    [append] = sent(effects, Append)
    assert isinstance(append, Append)
    assert [Finished("t", 1, "n", DONE, True)] == append.entries


def test_an_inventory_of_a_connection_that_broke_does_not_count() -> None:
    """An early inventory is void once the runner is down: what ran then may not run any more."""
    machine, life = executor_that_asked()
    machine.handle(Inventory([], []), NOW)
    machine.handle(executor_messages.RunnerDown(), NOW)
    effects = machine.handle(Open([OpenAttempt("t", 1, ONE_CPU, 0, False)], [], life), NOW)
    assert [] == sent(effects, Offer)
    assert [] == sent(effects, Append)


def test_an_answer_meant_for_an_earlier_life_is_void() -> None:
    """The journal may answer a dead executor's question: its successor must not believe it."""
    machine, life = executor_that_asked()
    machine.handle(Inventory([], []), NOW)
    stale = Open([OpenAttempt("t", 1, ONE_CPU, 0, False)], [], life - 5)
    assert [] == machine.handle(stale, NOW)
    [offer] = sent(machine.handle(Open([], [], life), NOW), Offer)
    assert isinstance(offer, Offer)
    assert [] == offer.held


def test_what_stood_in_lanes_of_an_earlier_life_is_not_sent_all_at_once() -> None:
    """Those behind a running attempt hold no share; sent again without their lane, they do."""
    machine, life = executor_that_asked()
    attempts = [OpenAttempt(task, 1, ONE_CPU, 0, False, "r1") for task in ("a", "b", "c")]
    machine.handle(Open(attempts, [], life), NOW)
    effects = machine.handle(Inventory([], [], "r1"), NOW)
    assert [FetchSpecs("runner", ["a"])] == sent(effects, FetchSpecs)
    [append] = sent(effects, Append)
    assert isinstance(append, Append)
    assert ["b", "c"] == [entry.task for entry in append.entries if isinstance(entry, Lost)]


def test_who_declines_tells_all_that_it_holds() -> None:
    """Else a scheduler with a wrong ledger would assign the same again at once, for ever."""
    machine, life = executor_that_asked()
    machine.handle(Inventory([], []), NOW)
    machine.handle(Open([], [], life), NOW)
    one = [AssignClass(1, ONE_CPU)]
    machine.handle(Assign("n", [AssignItem("a", 1, class_number=1)], [], one), NOW)
    effects = machine.handle(Assign("n", [AssignItem("b", 1, class_number=1)], [], one), NOW)
    [freed] = sent(effects, Freed)
    assert isinstance(freed, Freed)
    assert [("b", 1)] == freed.declined
    [offer] = sent(effects, Offer)
    assert isinstance(offer, Offer)
    assert [peer.Held("a", 1, ONE_CPU, "n")] == offer.held


def test_two_inventories_of_one_runner_lose_nothing() -> None:
    """What was sent after the first is not in the second, if that was under way already."""
    machine, life = executor_that_asked()
    machine.handle(Inventory([], [], "r1"), NOW)
    machine.handle(Open([], [], life), NOW)
    one = [AssignClass(1, ONE_CPU)]
    assign = Assign("n", [AssignItem("a", 1, class_number=1)], [], one)
    [append] = sent(machine.handle(assign, NOW), Append)
    assert isinstance(append, Append)
    machine.handle(executor_messages.RunnerDown(), NOW)
    machine.handle(Appended(append.token, specs={"a": TaskSpec("x")}), NOW)
    [runs] = sent(machine.handle(Inventory([], [], "r2"), NOW), Runs)
    assert isinstance(runs, Runs)
    assert ["a"] == [run.task for run in runs.runs]
    effects = machine.handle(Inventory([], [], "r2"), NOW)
    assert [FetchSpecs("runner", ["a"])] == sent(effects, FetchSpecs)
    assert [] == sent(effects, Append)


def test_a_later_attempt_is_begun_with_what_its_owner_knew() -> None:
    """Of the first, everybody knows all that there is to know."""
    machine, life = executor_that_asked()
    machine.handle(Inventory([], []), NOW)
    machine.handle(Open([], [], life), NOW)
    items = [AssignItem(task, 1 + (task == "b"), 3, 1, True) for task in "ab"]
    one = [AssignClass(1, Need(500, 0, 0))]
    [append] = sent(machine.handle(Assign("n", items, [], one), NOW), Append)
    assert isinstance(append, Append)
    assert [
        Started("a", 1, "n", NOW),
        Started("b", 2, "n", NOW, retries_left=3, hold_if_lost=True),
    ] == append.entries


# ---- the queue ----


def loaded_queue(number: int, now: float = NOW) -> QueueMachine:
    machine = QueueMachine()
    machine.handle(queue.Start(), now)
    machine.handle(Loaded([], last=True, node="n", number=number), now)
    return machine


def submitted(machine: QueueMachine, spec: TaskSpec, now: float = NOW) -> Append:
    [append] = sent(machine.handle(Asked(1, SubmitSpecs([spec])), now), Append)
    assert isinstance(append, Append)
    return append


def test_ids_of_refused_submissions_are_not_given_again_after_a_restart() -> None:
    """A refused submission spends an id without an entry: counting entries is not enough."""
    machine = loaded_queue(0)
    refused = submitted(machine, TaskSpec("a"))
    machine.handle(AppendFailed(refused.token, DiskFull("full")), NOW)
    kept = submitted(machine, TaskSpec("b")).entries[0]
    after_restart = submitted(loaded_queue(1, NOW + 1), TaskSpec("c"), NOW + 1).entries[0]
    assert isinstance(kept, Submitted)
    assert isinstance(after_restart, Submitted)
    assert kept.task != after_restart.task


def asked_with(spec: TaskSpec, *known: Known) -> list[Effect]:
    """Submit `spec`, whose references the journal knows as `known`."""
    machine = loaded_queue(9)
    machine.handle(Asked(1, SubmitSpecs([spec])), NOW)
    token = machine._out.token
    return machine.handle(LookedUp(token, {k.id: [k] for k in known}), NOW)


def test_a_task_that_was_redone_is_redone_by_its_redo() -> None:
    """Two redos of one task would leave open which of them its children wait for."""
    spec = TaskSpec("a", redo_of="old")
    [fail] = asked_with(spec, Known("old", "failed", redone_as="new"))
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, Conflict)
    assert "was redone as new" in fail.error.message


def test_one_task_is_not_waited_for_in_two_ways_at_once() -> None:
    """It cannot both succeed and fail; that it ended follows from either."""
    impossible = TaskSpec("a", after=(After("x"), After("x", "failed")))
    [fail] = asked_with(impossible, Known("x", None))
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, BadRequest)
    [append] = sent(
        asked_with(
            TaskSpec("a", after=(After("x", "ended"), After("x", "failed"))), Known("x", None)
        ),
        Append,
    )
    assert isinstance(append, Append)
    [entry] = append.entries
    assert isinstance(entry, Submitted)
    assert (After("x", "failed"),) == entry.spec.after


FIRST = ("queue:is_first",)


def tasks_of_one() -> Tasks:
    """Nothing yet, on a node that is alone and owns all that is submitted there."""
    about = About("node", "", 1, capacity=Capacity(4000, 0, 0))
    tasks = Tasks()
    tasks.now = NOW
    tasks.see(View("n", {"n": Member("n", about, UP, True)}))
    return tasks


def offered(tasks: Tasks) -> list[str]:
    """What the scheduler is shown now."""
    tasks.windows.feed()
    effects, tasks.effects[:] = list(tasks.effects), []
    offers = sent(effects, Offered)
    return [item.task for offer in offers if isinstance(offer, Offered) for item in offer.items]


def test_who_waits_to_be_first_is_woken_when_the_one_before_is_held() -> None:
    """A task that waits for another, and is then held, changes nothing else that would wake it."""
    tasks = tasks_of_one()
    waits = TaskSpec("x", after=(After("other"),))
    tasks.apply(Numbered("n", 1, Submitted("a", waits, NOW)))
    tasks.apply(Numbered("n", 2, Submitted("b", TaskSpec("x", conditions=FIRST), NOW)))
    assert [] == offered(tasks)
    tasks.apply(Numbered("n", 3, Held("a", 1, NOW)))
    assert ["b"] == offered(tasks)


def test_only_the_first_array_is_first() -> None:
    """Its elements are offered together, and not those of the next array of the same class."""
    tasks = tasks_of_one()
    for number, name in enumerate("ab", 1):
        spec = TaskSpec("x", conditions=FIRST, count=2)
        tasks.apply(Numbered("n", number, Submitted(name, spec, NOW)))
    assert ["a.0", "a.1"] == offered(tasks)


def tasks_with(*tasks: tuple[str, TaskSpec]) -> Tasks:
    """The same, and what was submitted."""
    found = tasks_of_one()
    for number, (task, spec) in enumerate(tasks, 1):
        found.apply(Numbered("n", number, Submitted(task, spec, NOW)))
    return found


REDO = TaskSpec("x", redo_of="a")
A_AND_WHO_WAITS = (("a", TaskSpec("x")), ("waits", TaskSpec("x", after=(After("a"),))))


def test_a_redo_may_come_before_the_end_that_it_answers() -> None:
    """Elsewhere the task had ended; here it has not: once it has, the journal tells of the redo."""
    tasks = tasks_with(*A_AND_WHO_WAITS, ("again", REDO))
    tasks.apply(Numbered("n", 4, Cancelled("a", NOW)))
    assert ["a"] == list(tasks.strangers)
    tasks.parent_known("a", "cancelled", "again")
    assert {"again": "succeeded"} == tasks.graph.waiting_for("waits")


@pytest.mark.parametrize("order", ["bc", "cb"])
def test_of_two_redos_that_which_the_journal_names_is_waited_for(order: str) -> None:
    """Two nodes redid one task at the same time: all come to wait for the same redo."""
    tasks = tasks_with(*A_AND_WHO_WAITS)
    tasks.apply(Numbered("n", 3, Cancelled("a", NOW)))
    for number, redo in enumerate(order, 4):
        tasks.strangers.clear()
        tasks.apply(Numbered("n", number, Submitted(redo, REDO, NOW)))
    assert ["a"] == list(tasks.strangers)
    tasks.parent_known("a", "cancelled", order[0])  # this answer is of before the second came
    assert {order[0]: "succeeded"} == tasks.graph.waiting_for("waits")
    tasks.parent_known("a", "cancelled", "c")
    tasks.parent_known("a", "cancelled", "c")
    assert {"c": "succeeded"} == tasks.graph.waiting_for("waits")


def test_who_waits_for_a_redo_is_asked_again_when_the_redone_turns_out_otherwise() -> None:
    """It had succeeded after all: nothing waits for its redo, as a queue that starts would see."""
    tasks = tasks_with(*A_AND_WHO_WAITS)
    tasks.apply(Numbered("n", 3, Cancelled("a", NOW)))
    tasks.apply(Numbered("n", 4, Submitted("again", REDO, NOW)))
    tasks.strangers.clear()
    tasks.flip(Flip("a", "cancelled", "succeeded"))
    assert ["a"] == list(tasks.strangers)
    tasks.parent_known("a", "succeeded", "again")
    assert ["waits"] == [task for task in offered(tasks) if task == "waits"]


def test_what_an_array_runs_after_may_turn_out_otherwise_when_some_of_it_has_begun() -> None:
    """An element that is to begin again waits like the rest of the array."""
    array = TaskSpec("x", after=(After("a"),), count=3)
    tasks = tasks_with(("a", TaskSpec("x")), ("many", array))
    tasks.apply(Numbered("n", 3, Finished("a", 1, "n", DONE, True)))
    assert ["many.0", "many.1", "many.2"] == offered(tasks)
    tasks.apply(Numbered("n", 4, Started("many.0", 1, "n", NOW)))
    tasks.flip(Flip("a", "succeeded", "cancelled"))
    tasks.apply(Numbered("n", 5, Lost("many.0", 1, "n", NOW, "its runner ended")))
    tasks.windows.offer_again()
    assert [] == offered(tasks)
    tasks.flip(Flip("a", "cancelled", "succeeded"))
    assert ["many.0", "many.1", "many.2"] == offered(tasks)


# ---- the journal ----


@pytest.fixture
def journal() -> Iterator[Journal]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create(connection, "n")
    yield Journal(connection, "n")
    connection.close()


def write(journal: Journal, *entries: Submitted | Started | Finished | Cancelled) -> None:
    journal.write(entries)
    journal.commit()


def winners(journal: Journal) -> list[tuple[object, ...]]:
    """(element, attempt, state) of what gives each element its state."""
    return journal.connection.execute(
        "SELECT task, attempt, state FROM attempts WHERE winner = 1"
    ).fetchall()


def test_a_cancel_of_an_element_wins_though_it_had_just_ended(journal: Journal) -> None:
    """As on a node where the two come in the other order: all must agree."""
    write(journal, Submitted("a", TaskSpec("x", count=2), NOW), Started("a.0", 1, "n", NOW))
    write(journal, Finished("a.0", 1, "n", DONE, True), Cancelled("a.0", NOW))
    assert [("a.0", 0, 3)] == winners(journal)


def test_an_element_that_was_cancelled_stays_so_when_its_process_ends(journal: Journal) -> None:
    """The outcome of what was running is kept, and decides nothing."""
    write(journal, Submitted("a", TaskSpec("x", count=2), NOW), Started("a.0", 1, "n", NOW))
    write(journal, Cancelled("a.0", NOW), Finished("a.0", 1, "n", FAILED, True))
    assert [("a.0", 0, 3)] == winners(journal)


def test_an_element_and_its_array_may_be_cancelled_one_after_the_other(journal: Journal) -> None:
    """On some nodes the end of what ran comes between the two: on disk they are alike."""
    begun = Submitted("a", TaskSpec("x", count=2), NOW), Started("a.0", 1, "n", NOW)
    ended = Finished("a.0", 1, "n", Outcome(NOW, NOW + 1, signal=15, reason="cancelled"), True)
    write(journal, *begun, Cancelled("a.0", NOW), ended, Cancelled("a", NOW))
    found = Reads(journal.connection).digest()
    connection = sqlite3.connect(":memory:", isolation_level=None)
    create(connection, "n")
    write(Journal(connection, "n"), *begun, Cancelled("a.0", NOW), Cancelled("a", NOW), ended)
    assert found == Reads(connection).digest()
    connection.close()


def test_a_run_that_two_nodes_tell_of_is_alike_on_all() -> None:
    """A ghost ran one attempt for each side of a split: on disk the order does not matter."""
    found = set()
    for order in ((0, 1), (1, 0)):
        connection = sqlite3.connect(":memory:", isolation_level=None)
        create(connection, "n")
        journal = Journal(connection, "n")
        write(journal, Submitted("t", TaskSpec("x"), NOW))
        starts = [Body(w, 1, encode(Started("t", 1, "g", NOW + d))) for d, w in enumerate("ab")]
        journal.take([starts[index] for index in order])
        journal.commit()
        found.add(Reads(connection).digest())
        connection.close()
    assert 1 == len(found)


def test_what_ran_on_when_its_task_had_succeeded_fails_nothing(journal: Journal) -> None:
    """After a restart it is ended as before: it gave way, and nobody had cancelled the task."""
    write(journal, Submitted("t", TaskSpec("x"), NOW), Started("t", 1, "m", NOW))
    write(journal, Started("t", 2, "n", NOW), Finished("t", 1, "m", DONE, True))
    [known] = Reads(journal.connection).open_attempts("n")
    assert STOPPED_AS == known.stop_reason


def test_an_array_that_is_cancelled_as_it_ends_is_counted_by_its_elements(
    journal: Journal,
) -> None:
    """Its outcome changes, those of its elements do not; the queue counts elements."""
    write(journal, Submitted("a", TaskSpec("x", count=1), NOW), Started("a.0", 1, "n", NOW))
    write(journal, Finished("a.0", 1, "n", FAILED, True))
    written = journal.write([Cancelled("a", NOW)])
    assert [Flip("a", "failed", "cancelled", array=True)] == written.flips


def test_the_redo_of_what_a_live_task_runs_after_is_not_forgotten(journal: Journal) -> None:
    """Through it a live task waits for the redo of the redo; a queue that starts must find both."""
    write(journal, Submitted("old", TaskSpec("x"), NOW), Started("old", 1, "n", NOW))
    write(journal, Finished("old", 1, "n", FAILED, True))
    write(journal, Submitted("waits", TaskSpec("x", after=(After("old"),)), NOW))
    write(
        journal, Submitted("redo", TaskSpec("x", redo_of="old"), NOW), Started("redo", 1, "n", NOW)
    )
    write(journal, Finished("redo", 1, "n", FAILED, True))
    write(journal, Submitted("again", TaskSpec("x", redo_of="redo"), NOW))
    assert 0 == journal.trim(NOW + 100, 10, journal.vector())
    write(journal, Cancelled("waits", NOW))
    assert 2 == journal.trim(NOW + 100, 1, journal.vector()) + journal.trim(
        NOW + 100, 1, journal.vector()
    )
    journal.commit()


def test_what_is_left_of_the_retries_is_what_its_owner_knew(journal: Journal) -> None:
    """That the first attempt failed, elsewhere, may not be here when this node starts again."""
    spec = TaskSpec("x", retries=1)
    write(journal, Submitted("t", spec, NOW), Started("t", 2, "n", NOW, "r", 0, hold_if_lost=True))
    [known] = Reads(journal.connection).open_attempts("n")
    assert (0, True) == (known.retries_left, known.hold_if_lost)


# ---- replication ----


def page_that_forgot(floor: dict[str, int]) -> Entries:
    return Entries("b", b"", [], floor, True, {"a": 9, "c": 9}, pull=1)


def test_who_never_heard_of_a_node_that_was_forgotten_may_be_too_old() -> None:
    """What it still holds of others may have ended there."""
    page = page_that_forgot({"a": 5, "c": 5})
    assert "this node holds 0 entries of c; b has forgotten some up to 5" == too_old(
        page, {"a": 9}, {}
    )


def test_a_newcomer_is_not_too_old() -> None:
    """Neither one that has nothing, nor one that has written something before it met anybody."""
    page = page_that_forgot({"a": 5, "c": 5})
    assert too_old(page, {}, {}) is None
    assert too_old(page, {"me": 3}, {}) is None
