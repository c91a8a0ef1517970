"""The queue's machine alone: what it says to the journal, to replication, to whoever asks."""

from __future__ import annotations

from typing import Any

from leoronic.core.effects import Asked, CancelTimer, Effect, Fail, Fired, Reply, Send, SetTimer
from leoronic.core.entries import Cancelled, Finished, Lost, Numbered, Started, Submitted, Suspected
from leoronic.core.outcome import Outcome
from leoronic.core.queue import QueueMachine, Start
from leoronic.core.queue_messages import (
    Accepted,
    Append,
    Appended,
    AppendFailed,
    AskBegun,
    AskReached,
    Begun,
    ChangedTasks,
    ChangeTasks,
    Committed,
    Count,
    Describe,
    Flip,
    LiveTask,
    Loaded,
    LoadedRun,
    LoadedTask,
    LoadLive,
    LookedUp,
    NodeDown,
    Offered,
    QueueStarted,
    Reached,
    StopAttempt,
    SubmitSpecs,
    Withdrawn,
)
from leoronic.core.replication_messages import AwaitCopies, Copied
from leoronic.core.requests import COPIES_S, PARKED_REQUESTS_MAX
from leoronic.core.runs import LOST, OPEN
from leoronic.core.spec import TaskSpec
from leoronic.core.view import AskView, View
from leoronic.errors import DiskFull, Unavailable
from tests.core.views import make_view

NOW = 1000.0
ALONE = make_view("n")


def started(machine: QueueMachine, *tasks: LoadedTask, number: int = 0, view: View = ALONE) -> None:
    """Bring a machine to where it serves."""
    assert [
        Send("journal", LoadLive("queue", int(NOW * 1_000_000))),
        Send("membership", AskView("queue")),
    ] == machine.handle(Start(), NOW)
    machine.handle(view, NOW)
    machine.handle(Loaded(list(tasks)), NOW)
    machine.handle(Loaded([], last=True, node="n", number=number), NOW)


def sent(effects: list[Effect], to: str) -> list[Any]:
    """The messages among `effects` to one actor."""
    return [effect.message for effect in effects if isinstance(effect, Send) and effect.to == to]


def submit(machine: QueueMachine, request: object, *specs: TaskSpec) -> Append:
    """Ask for these; what goes to the journal."""
    [append] = sent(machine.handle(Asked(request, SubmitSpecs(list(specs))), NOW), "journal")
    assert isinstance(append, Append)
    return append


def ask(machine: QueueMachine, message: object) -> Any:
    """An answer that needs nobody else."""
    [reply] = [e for e in machine.handle(Asked(0, message), NOW) if isinstance(e, Reply)]
    return reply.result


def test_requests_wait_until_the_queue_is_loaded() -> None:
    """They are parked, answered once all is loaded, and refused when they are too many."""
    machine = QueueMachine()
    machine.handle(Start(), NOW)
    for request in range(PARKED_REQUESTS_MAX):
        assert [] == machine.handle(Asked(request, Count()), NOW)
    [refused] = machine.handle(Asked("one more", Count()), NOW)
    assert isinstance(refused, Fail)
    assert isinstance(refused.error, Unavailable)
    effects = machine.handle(Loaded([], last=True, node="n"), NOW)
    assert Send("control", QueueStarted()) == effects[0]
    assert list(range(PARKED_REQUESTS_MAX)) == [e.request for e in effects[1:]]  # type: ignore[union-attr]


def test_what_is_committed_before_the_load_is_in_the_load() -> None:
    """A commit that was under way when this life began is told twice; the task exists once."""
    machine = QueueMachine()
    machine.handle(Start(), NOW)
    machine.handle(ALONE, NOW)
    spec = TaskSpec("x")
    entry = Numbered("n", 1, Submitted("a", spec, NOW))
    machine.handle(Committed([entry]), NOW)
    machine.handle(Loaded([LoadedTask("a", 1, "n", spec)]), NOW)
    effects = machine.handle(Loaded([], last=True, node="n", number=1), NOW)
    [offered] = [e.message for e in effects if isinstance(e, Send) and e.to == "scheduler"]
    assert ["a"] == [item.task for item in offered.items]  # type: ignore[attr-defined]
    assert 1 == len(machine.tasks.classes)
    machine.handle(Asked(1, ChangeTasks("cancel", ["a"])), NOW)


def test_answers_to_an_earlier_life_are_ignored() -> None:
    """Tokens of another life mean nothing."""
    machine = QueueMachine()
    started(machine)
    assert [] == machine.handle(Appended(1), NOW)
    assert [] == machine.handle(LookedUp(1, {}), NOW)


def test_a_submission_is_answered_only_when_it_is_on_disk() -> None:
    """Append first; the answer follows `Appended`, and only that."""
    machine = QueueMachine()
    started(machine)
    [append] = sent(machine.handle(Asked(7, SubmitSpecs([TaskSpec("x")], "door")), NOW), "journal")
    [entry] = append.entries
    assert isinstance(entry, Submitted)
    assert ("door", NOW) == (entry.source, entry.at)
    effects = machine.handle(Appended(append.token, number=41), NOW)
    assert [
        SetTimer("copies", NOW + COPIES_S),
        Send("replication", AwaitCopies(append.token, 41)),
    ] == effects
    assert [
        Reply(7, Accepted([entry.task], ["l", "m"])),
        CancelTimer("copies"),
    ] == machine.handle(Copied(append.token, ["m", "l"]), NOW)
    assert [] == machine.handle(Copied(append.token, ["m"]), NOW)


def test_a_replication_that_says_nothing_holds_nobody_up() -> None:
    """After 3 s each is told what is known: the task is safe on this disk."""
    machine = QueueMachine()
    started(machine)
    first, second = submit(machine, 1, TaskSpec("x")), submit(machine, 2, TaskSpec("x"))
    machine.handle(Appended(first.token), NOW)
    assert [] == machine.handle(Fired("nothing"), NOW + 1.0)
    assert [Send("replication", AwaitCopies(second.token, 0))] == machine.handle(
        Appended(second.token), NOW + 1.0
    )
    ids = [append.entries[0].task for append in (first, second)]  # type: ignore[union-attr]
    assert [
        Reply(1, Accepted(ids[:1])),
        SetTimer("copies", NOW + 4.0),
    ] == machine.handle(Fired("copies"), NOW + 3.0)
    assert [Reply(2, Accepted(ids[1:]))] == machine.handle(Fired("copies"), NOW + 4.0)
    assert [] == machine.handle(Copied(second.token, ["m"]), NOW + 5.0)


def test_changes_wait_for_no_copies() -> None:
    """A cancellation is answered as soon as it is on this disk."""
    machine = QueueMachine()
    started(machine, LoadedTask("a", 1, "n", TaskSpec("x")))
    [append] = sent(machine.handle(Asked(1, ChangeTasks("cancel", ["a"])), NOW), "journal")
    assert [Reply(1, ChangedTasks(["a"], []))] == machine.handle(Appended(append.token), NOW)


# ---- one of several nodes ----

BESIDE_M = make_view("n", "m")
WITHOUT_M = make_view("n", "m down silent for 5 s")
OF_M = LoadedTask("a", 1, "m", TaskSpec("x"), [LoadedRun(1, "m", OPEN)])


def test_what_was_loaded_is_taken_over_and_given_up() -> None:
    """A node that is down when this queue starts: its tasks go on here."""
    machine = QueueMachine()
    waits = LoadedTask("b", 2, "m", TaskSpec("x"))
    machine.handle(Start(), NOW)
    machine.handle(WITHOUT_M, NOW)
    machine.handle(Loaded([OF_M, waits]), NOW)
    effects = machine.handle(Loaded([], last=True, node="n"), NOW)
    [offered] = sent(effects, "scheduler")
    assert isinstance(offered, Offered)
    assert ["b"] == [item.task for item in offered.items]
    [append] = sent(effects, "journal")
    lost = Lost("a", 1, "m", NOW, "node name-m is down: silent for 5 s")
    assert [lost] == append.entries
    effects = machine.handle(Committed([Numbered("n", 1, lost)]), NOW)
    [offered] = sent(effects, "scheduler")
    assert [("a", 2)] == [(item.task, item.attempt) for item in offered.items]
    [withdrawn] = sent(machine.handle(BESIDE_M, NOW), "scheduler")
    assert isinstance(withdrawn, Withdrawn)


def test_a_loss_is_written_when_there_is_room() -> None:
    """A second after the disk was full; but not if the node is back by then."""
    machine = QueueMachine()
    started(machine, OF_M, view=BESIDE_M)
    [append] = sent(machine.handle(WITHOUT_M, NOW), "journal")
    full = DiskFull("full")
    assert [SetTimer("append", NOW + 1.0)] == machine.handle(AppendFailed(append.token, full), NOW)
    [again] = sent(machine.handle(Fired("append"), NOW + 1.0), "journal")
    assert [("a", 1, "m")] == [(lost.task, lost.attempt, lost.node) for lost in again.entries]
    machine.handle(AppendFailed(again.token, full), NOW + 1.0)
    machine.handle(BESIDE_M, NOW + 1.0)
    assert [] == machine.handle(Fired("append"), NOW + 2.0)


def test_a_suspicion_is_written_down() -> None:
    """Membership's word becomes an entry, as soon as there is room."""
    machine = QueueMachine()
    started(machine, view=BESIDE_M)
    [append] = sent(machine.handle(NodeDown("m", "silent"), NOW), "journal")
    assert [Suspected("m", NOW, "silent")] == append.entries
    machine.handle(AppendFailed(append.token, DiskFull("full")), NOW)
    [again] = sent(machine.handle(Fired("append"), NOW + 1.0), "journal")
    assert append.entries == again.entries
    machine.handle(Appended(again.token), NOW + 1.0)
    assert [] == machine.handle(Fired("append"), NOW + 2.0)


def test_a_suspicion_before_all_is_loaded_waits_for_that() -> None:
    """It is not lost."""
    machine = QueueMachine()
    machine.handle(Start(), NOW)
    assert [] == machine.handle(NodeDown("m", "silent"), NOW)
    effects = machine.handle(Loaded([], last=True, node="n"), NOW)
    [append] = sent(effects, "journal")
    assert [Suspected("m", NOW, "silent")] == append.entries


def test_what_is_superseded_is_stopped_again_after_a_restart() -> None:
    """By level: also if the queue that heard of it is gone, and whatever view there is."""
    machine = QueueMachine()
    runs = [LoadedRun(1, "n", LOST), LoadedRun(2, "m", OPEN)]
    machine.handle(Start(), NOW)
    machine.handle(Loaded([LoadedTask("a", 1, "n", TaskSpec("x"), runs)]), NOW)
    effects = machine.handle(Loaded([], last=True, node="n"), NOW)
    # `me` is known only with the last batch.
    assert [StopAttempt("a", 1, "superseded")] == sent(effects, "runner")


def test_orders_and_flips_of_a_commit() -> None:
    """A task of another has its place in this node's order; flips come after the entries."""
    machine = QueueMachine()
    started(machine)
    good = Outcome(1.0, 2.0, exit_code=0)
    entries = [
        Numbered("m", 7, Submitted("a", TaskSpec("x"), NOW)),
        Numbered("m", 8, Submitted("b", TaskSpec("x"), NOW)),
        Numbered("m", 9, Started("b", 1, "m", NOW)),
        Numbered("m", 10, Finished("b", 1, "m", good, final=True)),
        Numbered("n", 1, Cancelled("b", NOW)),
    ]
    flips = [Flip("b", "succeeded", "cancelled")]
    machine.handle(Committed(entries, {"a": 501, "b": 502}, flips), NOW)
    counts = ask(machine, Count())
    assert (0, 1) == (counts["succeeded"], counts["cancelled"])
    assert 501 == ask(machine, Describe(["a"]))["a"].order


def test_whose_a_task_is_is_told() -> None:
    """With its owner, and if that is another node, that it decides."""
    machine = QueueMachine()
    array = LoadedTask("b", 2, "n", TaskSpec("x", count=3))
    started(machine, LoadedTask("a", 1, "m", TaskSpec("x")), array, view=BESIDE_M)

    def told(*ids: str) -> dict[str, tuple[str, list[str]]]:
        found: dict[str, LiveTask] = ask(machine, Describe(list(ids)))
        return {task: (one.owner, one.reasons) for task, one in found.items()}

    assert {"a": ("m", ["node name-m decides when it starts"]), "b": ("n", [])} == told("a", "b")
    assert {"b.2": ("n", [])} == told("b.2")
    machine.handle(make_view("n", "m", catching_up=("n", "m")), NOW)
    assert {"a": ("", ["no node has caught up with the others yet"])} == told("a")


def test_the_run_that_is_told_of() -> None:
    """The highest that is under way."""
    machine = QueueMachine()
    runs = [LoadedRun(1, "m", OPEN), LoadedRun(2, "n", LOST)]
    started(machine, LoadedTask("a", 1, "m", TaskSpec("x"), runs), view=BESIDE_M)
    told = ask(machine, Describe(["a"]))["a"]
    assert ("running", 1, "m") == (told.state, told.attempt, told.node)


def test_what_runs_elsewhere_is_not_forgiven_in_advance() -> None:
    """A release counts for the losses before the lowest attempt that is under way."""
    machine = QueueMachine()
    runs = [LoadedRun(1, "m", LOST, hold=True), LoadedRun(2, "m", OPEN), LoadedRun(3, "n", LOST)]
    started(machine, LoadedTask("a", 1, "n", TaskSpec("x"), runs), view=BESIDE_M)
    [append] = sent(machine.handle(Asked(1, ChangeTasks("release", ["a"])), NOW), "journal")
    assert (1, 1) == (append.entries[0].revision, append.entries[0].attempt)


def test_the_scheduler_learns_when_all_has_begun() -> None:
    """What it has in hand has not, until an entry tells; before that there is no answer."""
    machine = QueueMachine()
    started(machine, LoadedTask("a", 1, "n", TaskSpec("x"), []), view=BESIDE_M)
    question = AskBegun([("a", 1), ("gone", 3)])
    assert [] == sent(machine.handle(question, NOW), "scheduler")
    machine.handle(Committed([Numbered("m", 1, Started("a", 1, "m", NOW))]), NOW)
    assert [Begun(question.attempts)] == sent(machine.handle(question, NOW), "scheduler")


def test_the_scheduler_learns_what_has_been_applied() -> None:
    """After all that follows from it, each origin once, and also if nothing else is told of it."""
    machine = QueueMachine()
    machine.handle(Start(), NOW)
    machine.handle(BESIDE_M, NOW)
    assert [] == machine.handle(AskReached({"m": 7, "o": 3, "p": 2}), NOW)
    waits = LoadedTask("a", 1, "n", TaskSpec("x"), [LoadedRun(1, "m", OPEN)])
    effects = machine.handle(Loaded([waits], last=True, node="n", have={"m": 6, "o": 4}), NOW)
    assert [Reached({"o": 4})] == sent(effects, "scheduler")
    again = Numbered("m", 7, Lost("a", 1, "m", NOW, "it is gone"))
    effects = machine.handle(Committed([again], have={"m": 7}), NOW)
    offered, reached = sent(effects, "scheduler")
    assert (["a"], Reached({"m": 7})) == ([one.task for one in offered.items], reached)
    assert [] == sent(machine.handle(Committed([], have={"p": 1}), NOW), "scheduler")
    told = sent(machine.handle(Committed([], have={"p": 2}), NOW), "scheduler")
    assert [Reached({"p": 2})] == told
    told = sent(machine.handle(AskReached({"m": 5}), NOW), "scheduler")
    assert [Reached({"m": 7})] == told
