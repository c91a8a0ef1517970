"""Stories of the executor: each step names everything that it says."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from leoronic.core.effects import Asked, Effect, Fail, Fired, Reply, Send, SetTimer
from leoronic.core.entries import Finished, Lost, Started, Tagged, Untagged
from leoronic.core.executor import STRAYS_S, ExecutorMachine, Start
from leoronic.core.executor_messages import (
    Abandon,
    Describe,
    LoadOpen,
    Open,
    OpenAttempt,
    RunnerDown,
    SetDraining,
    SetTag,
    WaitIdle,
)
from leoronic.core.holdings import AFTER_OTHERS_S, LATER_S, RESERVED_S
from leoronic.core.make_run import make_run
from leoronic.core.outcome import Outcome
from leoronic.core.peer import (
    Assign,
    AssignClass,
    AssignItem,
    Freed,
    Held,
    Interest,
    Offer,
    Reserve,
)
from leoronic.core.queue_messages import (
    Append,
    Appended,
    AppendFailed,
    FetchSpecs,
    SpecsFetched,
    StopAttempt,
)
from leoronic.core.resources import Capacity, Need
from leoronic.core.run import (
    AttemptKey,
    Exited,
    ExitedMany,
    Forget,
    Inventory,
    Kill,
    Runs,
    Spawned,
    StartNow,
)
from leoronic.core.runs import STOPPED_WITH_NODE
from leoronic.core.sharing import INTEREST_S, KEEP_S
from leoronic.core.spec import TaskSpec
from leoronic.core.view import AskView, Standing
from leoronic.errors import DiskFull, Refused
from tests.core.views import make_view

NOW = 1000.0
NODE = Capacity(2000, 100, 100)
NEED = Need(1000, 0, 0)
PLAIN = AssignClass(1, NEED)
PINNED = AssignClass(2, NEED, pinned=True)
GOOD = Outcome(NOW - 1.0, NOW, exit_code=0)
BAD = Outcome(NOW - 1.0, NOW, exit_code=1)
LIFE = "life 1"


def item(
    task: str,
    attempt: int = 1,
    *,
    retries_left: int = 0,
    hold: bool = False,
    of: AssignClass = PLAIN,
) -> AssignItem:
    return AssignItem(task, attempt, retries_left, of.number, hold)


def assign(
    *items: AssignItem, ahead: tuple[AssignItem, ...] = (), owner: str = "n", **fields: Any
) -> Assign:
    """What `owner`'s scheduler says: run these."""
    return Assign(owner, list(items), list(ahead), [PLAIN, PINNED], **fields)


class Executor:
    """The machine, and the numbers of its appends."""

    def __init__(self, capacity: Capacity = NODE) -> None:
        self.machine = ExecutorMachine("n", "name", capacity, ("fixed",))
        self.token = 0
        self.to_membership: list[object] = []
        self.to_store: list[object] = []

    def told(self, message: object, now: float = NOW) -> list[Effect]:
        """What it says to `message`; membership and files apart. Tokens of appends become 0."""
        effects = []
        for effect in self.machine.handle(message, now):
            if isinstance(effect, Send) and effect.to == "membership":
                self.to_membership.append(effect.message)
            elif isinstance(effect, Send) and effect.to == "file_store":
                self.to_store.append(effect.message)
            else:
                effects.append(self._without_token(effect))
        return effects

    def _without_token(self, effect: Effect) -> Effect:
        if isinstance(effect, Send) and isinstance(effect.message, Append):
            append = effect.message
            self.token = append.token
            return Send(effect.to, Append(append.sender, 0, append.entries, append.want_specs))
        return effect

    def on_disk(
        self,
        *refused: tuple[str, int],
        unknown: tuple[tuple[str, int], ...] = (),
        **specs: TaskSpec,
    ) -> list[Effect]:
        """The last append is on disk."""
        both = frozenset({*refused, *unknown})
        return self.told(Appended(self.token, both, specs, unknown=frozenset(unknown)))

    def running(self, *tasks: str) -> None:
        """These tasks run, one cpu each."""
        self.told(assign(*[item(task) for task in tasks]))
        self.on_disk(**{task: TaskSpec("x") for task in tasks})


def to_journal(*entries: Any, want_specs: bool = False) -> Send:
    return Send("journal", Append("runner", 0, list(entries), want_specs))


def offer(*held: Held, **changes: Any) -> Send:
    fields = {"tags": frozenset({"fixed"}), "draining": False, **changes}
    return Send("scheduler", Offer("n", "name", NODE, held=list(held), **fields))


def to_host(message: object) -> Send:
    return Send("runner_host", message)


def freed(*keys: tuple[str, int], **fields: Any) -> Send:
    return Send("scheduler", Freed("n", [(key, None) for key in keys], **fields))


def declined(*keys: tuple[str, int], **fields: Any) -> Send:
    return Send("scheduler", Freed("n", declined=list(keys), **fields))


@pytest.fixture
def ready() -> Executor:
    """An executor that is open, connected and idle."""
    executor = Executor()
    life = int(NOW * 1_000_000)
    assert [Send("journal", LoadOpen("runner", life))] == executor.told(Start())
    assert [] == executor.told(Open([], []))
    assert [offer(fresh=True)] == executor.told(Inventory([], [], LIFE))
    return executor


def started(task: str, attempt: int = 1) -> Started:
    return Started(task, attempt, "n", NOW, LIFE)


# ---- the life of an attempt ----


def test_started_is_on_disk_before_anything_runs(ready: Executor) -> None:
    """Assigned, written down, run; ended, written down, forgotten."""
    assert [to_journal(started("a"), want_specs=True)] == ready.told(assign(item("a")))
    spec = TaskSpec("echo hi")
    assert [to_host(Runs([make_run("a", 1, spec, "name")]))] == ready.on_disk(a=spec)
    assert [] == ready.told(Spawned("a", 1, 5, NOW))
    assert [to_journal(Finished("a", 1, "n", GOOD, True)), freed(("a", 1))] == ready.told(
        Exited("a", 1, GOOD)
    )
    assert [to_host(Forget([("a", 1)]))] == ready.on_disk()


def test_a_start_that_the_journal_refuses(ready: Executor) -> None:
    """The task ended meanwhile: nothing runs, its share is free again."""
    ready.told(assign(item("a"), item("b")))
    spec = TaskSpec("x")
    assert [to_host(Runs([make_run("b", 1, spec, "name")])), freed(("a", 1))] == ready.on_disk(
        ("a", 1), a=spec, b=spec
    )


def test_many_ends_share_one_append(ready: Executor) -> None:
    """Whatever ended together is written and forgotten together."""
    ready.running("a", "b")
    assert [
        to_journal(Finished("a", 1, "n", GOOD, True), Finished("b", 1, "n", BAD, True)),
        freed(("a", 1), ("b", 1)),
    ] == ready.told(ExitedMany([Exited("a", 1, GOOD), Exited("b", 1, BAD)]))
    assert [to_host(Forget([("a", 1), ("b", 1)]))] == ready.on_disk()


def test_an_end_told_twice_is_written_once(ready: Executor) -> None:
    """While it is on its way to the disk a repetition changes nothing; after, it is forgotten."""
    ready.running("a")
    ready.told(Exited("a", 1, GOOD))
    assert [] == ready.told(Exited("a", 1, GOOD))
    ready.on_disk()
    assert [to_host(Forget([("a", 1)]))] == ready.told(Exited("a", 1, GOOD))


@pytest.mark.parametrize(
    ("outcome", "retries_left", "final"),
    [(GOOD, 3, True), (BAD, 1, False), (BAD, 0, True)],
)
def test_what_is_final(ready: Executor, outcome: Outcome, retries_left: int, final: bool) -> None:
    """A success, or a failure with no retries left."""
    ready.told(assign(item("a", retries_left=retries_left)))
    ready.on_disk(a=TaskSpec("x"))
    [append, _] = ready.told(Exited("a", 1, outcome))
    assert to_journal(Finished("a", 1, "n", outcome, final)) == append


def test_an_attempt_that_never_began_is_dated(ready: Executor) -> None:
    """An outcome without times gets those of now."""
    ready.running("a")
    [append, _] = ready.told(Exited("a", 1, Outcome(0.0, 0.0, reason="cannot start: no")), NOW + 5)
    outcome = Outcome(NOW + 5, NOW + 5, reason="cannot start: no")
    assert to_journal(Finished("a", 1, "n", outcome, True)) == append


# ---- what does not fit ----


def test_what_does_not_fit_is_declined_and_all_is_told_again(ready: Executor) -> None:
    """The ledger here is the authority; the scheduler's was wrong, so it is put right by level."""
    ready.running("a", "b")
    effects = ready.told(assign(item("c")))
    held = [Held("a", 1, NEED, "n"), Held("b", 1, NEED, "n")]
    assert [declined(("c", 1)), offer(*held)] == effects


def test_the_same_assignment_twice_starts_once(ready: Executor) -> None:
    """An attempt that is known is not begun again."""
    ready.told(assign(item("a")))
    assert [] == ready.told(assign(item("a")))


def test_what_is_assigned_again_as_it_ends_is_not_left_behind(ready: Executor) -> None:
    """Its owner is told that it is here, and so must be told when it is not."""
    ready.running("a")
    ready.told(Exited("a", 1, GOOD))
    assert [offer(queued=[("a", 1)], seen=7)] == ready.told(assign(item("a"), number=7))
    assert [to_host(Forget([("a", 1)])), freed(("a", 1))] == ready.on_disk()


def test_draining_declines_all_but_what_is_meant_for_this_node(ready: Executor) -> None:
    """Draining is told at once; a pinned task runs nevertheless; undone, all is as before."""
    assert [Reply(1, None), offer(draining=True)] == ready.told(Asked(1, SetDraining(True)))
    assert declined(("a", 1)) in ready.told(assign(item("a")))
    assert [to_journal(started("b"), want_specs=True)] == ready.told(assign(item("b", of=PINNED)))
    told = offer(Held("b", 1, NEED, "n"))
    assert [Reply(2, None), told] == ready.told(Asked(2, SetDraining(False)))


def test_a_capacity_that_changed_is_offered(ready: Executor) -> None:
    """What runs stays; the same capacity again says nothing."""
    ready.running("a")
    assert [] == ready.told(NODE)
    small = Capacity(500, 1, 1)
    [sent] = ready.told(small)
    assert isinstance(sent, Send)
    assert isinstance(sent.message, Offer)
    assert (small, [Held("a", 1, NEED, "n")]) == (sent.message.capacity, sent.message.held)


# ---- stopping ----


def test_stop_what_runs(ready: Executor) -> None:
    """It is killed; however it ends, that end is final."""
    ready.told(assign(item("a", retries_left=5)))
    ready.on_disk(a=TaskSpec("x"))
    assert [to_host(Kill("a", 1, "cancelled"))] == ready.told(StopAttempt("a", 1, "cancelled"))
    [append, _] = ready.told(Exited("a", 1, BAD))
    assert to_journal(Finished("a", 1, "n", BAD, True)) == append
    assert [] == ready.told(StopAttempt("a", 1, "cancelled"))


def test_stop_what_is_about_to_start(ready: Executor) -> None:
    """Written down as started already: it is sent and killed, so that it has an end."""
    ready.told(assign(item("a")))
    assert [] == ready.told(StopAttempt("a", 1, "cancelled"))
    spec = TaskSpec("x")
    assert [
        to_host(Runs([make_run("a", 1, spec, "name")])),
        to_host(Kill("a", 1, "cancelled")),
    ] == ready.on_disk(a=spec)


def test_stop_what_is_not_there(ready: Executor) -> None:
    """Nothing to do."""
    assert [] == ready.told(StopAttempt("a", 1, "cancelled"))


def test_stop_while_the_runner_is_away(ready: Executor) -> None:
    """A kill that could not be told is told when the runner is back."""
    ready.running("a")
    ready.told(RunnerDown())
    assert [] == ready.told(StopAttempt("a", 1, "cancelled"))
    assert [to_host(Kill("a", 1, "cancelled")), offer(Held("a", 1, NEED, "n"))] == ready.told(
        Inventory([Spawned("a", 1, 5, NOW)], [], LIFE)
    )


# ---- the disk ----


def test_an_append_that_fails_is_tried_again_each_second(ready: Executor) -> None:
    """Nothing is forgotten while the disk is full."""
    ready.running("a")
    ready.told(Exited("a", 1, GOOD))
    full = DiskFull("full")
    assert [SetTimer("append", NOW + 1.0)] == ready.told(AppendFailed(ready.token, full))
    finished = to_journal(Finished("a", 1, "n", GOOD, True))
    assert [finished] == ready.told(Fired("append"), NOW + 1.0)
    assert [SetTimer("append", NOW + 2.0)] == ready.told(AppendFailed(ready.token, full), NOW + 1.0)
    assert [finished] == ready.told(Fired("append"), NOW + 2.0)
    assert [to_host(Forget([("a", 1)]))] == ready.on_disk()


def test_one_timer_for_all_that_failed(ready: Executor) -> None:
    """Several appends that failed are repeated together, in order."""
    ready.told(assign(item("a")))
    first = ready.token
    ready.told(assign(item("b")))
    assert 1 == len(ready.told(AppendFailed(first, DiskFull("full"))))
    assert [] == ready.told(AppendFailed(ready.token, DiskFull("full")))
    assert [
        to_journal(started("a"), want_specs=True),
        to_journal(started("b"), want_specs=True),
    ] == ready.told(Fired("append"))


def test_answers_to_an_earlier_life_are_ignored(ready: Executor) -> None:
    """Tokens count on from the time of the start, so another life's mean nothing."""
    assert [] == ready.told(Appended(1))
    assert [] == ready.told(AppendFailed(2, DiskFull("full")))
    ready.running("a")
    later = Executor()
    later.told(Start(), NOW + 60.0)
    later.told(Open([], []))
    later.told(Inventory([], [], LIFE))
    later.told(assign(item("b")))
    assert later.token != ready.token
    assert [] == later.told(Appended(ready.token, specs={"b": TaskSpec("x")}))


# ---- reconciling with the runner ----

OPEN = OpenAttempt("a", 1, NEED, 2, False)


def opened(*attempts: OpenAttempt, tags: tuple[str, ...] = ()) -> Executor:
    executor = Executor()
    executor.told(Start())
    assert [] == executor.told(Open(list(attempts), list(tags)))
    return executor


def test_what_still_runs_is_taken_back() -> None:
    """After a restart of the core: it holds its share, and ends as ever."""
    executor = opened(OPEN)
    assert [offer(Held("a", 1, NEED), fresh=True)] == executor.told(
        Inventory([Spawned("a", 1, 5, NOW)], [], LIFE)
    )
    assert [to_journal(Finished("a", 1, "n", BAD, False)), freed(("a", 1))] == executor.told(
        Exited("a", 1, BAD)
    )


def test_what_ended_meanwhile_is_written() -> None:
    """The runner kept the outcome until somebody made it durable."""
    executor = opened(OPEN)
    effects = executor.told(Inventory([], [Exited("a", 1, GOOD)], LIFE))
    assert [
        to_journal(Finished("a", 1, "n", GOOD, True)),
        freed(("a", 1)),
        offer(fresh=True, queued=[("a", 1)]),
    ] == effects


@pytest.mark.parametrize("hold", [False, True])
def test_what_the_runner_no_longer_has_is_lost(hold: bool) -> None:
    """The journal says it started, another life of the runner had it: nobody can account for it."""
    executor = opened(OpenAttempt("a", 1, NEED, 2, hold, "life 0"))
    lost = Lost("a", 1, "n", NOW, "the runner no longer has it", hold)
    assert [
        to_journal(lost),
        freed(("a", 1)),
        offer(fresh=True, queued=[("a", 1)]),
    ] == executor.told(Inventory([], [], LIFE))
    assert [to_host(Forget([("a", 1)])), freed(("a", 1))] == executor.on_disk()


def test_what_never_reached_this_runner_is_sent_again() -> None:
    """The same life of the runner forgets nothing: so it never ran, and may run now."""
    executor = opened(OpenAttempt("a", 1, NEED, 2, True, LIFE))
    assert [
        Send("journal", FetchSpecs("runner", ["a"])),
        offer(Held("a", 1, NEED), fresh=True),
    ] == (executor.told(Inventory([], [], LIFE)))
    spec = TaskSpec("x")
    assert [to_host(Runs([make_run("a", 1, spec, "name")]))] == executor.told(
        SpecsFetched({"a": spec})
    )


def test_what_the_journal_does_not_know_is_superseded() -> None:
    """It runs without leave: killed; its end is forgotten as unknown.

    Nobody knows what it needs, so nothing starts beside it; unless it can't be killed.
    """
    executor = opened()
    stray = Inventory([Spawned("z", 3, 5, NOW)], [], LIFE)
    wait = SetTimer("strays", NOW + STRAYS_S)
    assert [to_host(Kill("z", 3, "superseded")), wait] == executor.told(stray)
    assert [declined(("a", 1), retry_s=LATER_S)] == executor.told(assign(item("a")))
    assert [to_host(Forget([("z", 3)])), offer(fresh=True)] == executor.told(Exited("z", 3, GOOD))
    assert [to_journal(started("a"), want_specs=True)] == executor.told(assign(item("a")))
    other = opened()
    other.told(stray)
    assert [offer(fresh=True)] == other.told(Fired("strays"), NOW + STRAYS_S)


def test_before_it_is_known_what_runs_here_nothing_starts() -> None:
    """A scheduler elsewhere may go by what it was told by an earlier life."""
    executor = Executor()
    executor.told(Start())
    early = assign(item("a"), owner="m", ahead=(item("b"),))
    [sent] = executor.told(early)
    assert to("m", Freed("n", declined=[("a", 1), ("b", 1)], retry_s=LATER_S)) == sent


def test_an_inventory_that_comes_first_waits_for_the_journal() -> None:
    """The journal's word comes first: nothing is killed or forgotten until it has spoken."""
    executor = Executor()
    executor.told(Start())
    assert [] == executor.told(Inventory([Spawned("a", 1, 5, NOW)], [], LIFE))
    assert [] == executor.told(Exited("a", 1, GOOD))
    assert [
        to_journal(Finished("a", 1, "n", GOOD, True)),
        freed(("a", 1)),
        offer(fresh=True, queued=[("a", 1)]),
    ] == executor.told(Open([OPEN], []))


def test_an_early_inventory_of_a_runner_that_went_is_void() -> None:
    """What was running may not run any more; an outcome stays true."""
    executor = Executor()
    executor.told(Start())
    executor.told(Inventory([Spawned("a", 1, 5, NOW)], [], LIFE))
    executor.told(RunnerDown())
    assert [] == executor.told(Open([OPEN], []))


def test_starts_wait_for_the_runner(ready: Executor) -> None:
    """While it is away starts are written and kept; they are sent, once, when it is back."""
    ready.told(RunnerDown())
    ready.told(assign(item("a")))
    spec = TaskSpec("x")
    assert [] == ready.on_disk(a=spec)
    assert [
        to_host(Runs([make_run("a", 1, spec, "name")])),
        offer(Held("a", 1, NEED, "n")),
    ] == (ready.told(Inventory([], [], "life 2")))


def test_nothing_is_offered_before_it_is_known_what_runs() -> None:
    """A look at the disk, a tag or a drain in between must not invite assignments."""
    executor = Executor()
    executor.told(Start())
    assert [] == executor.told(Capacity(1, 1, 1))
    assert [Reply(1, None)] == executor.told(Asked(1, SetDraining(True)))
    executor.told(Open([], ["x"]))
    assert [] == executor.told(Capacity(2, 1, 1))
    [sent] = executor.told(Inventory([], [], LIFE))
    assert isinstance(sent, Send)
    assert isinstance(sent.message, Offer)
    assert (True, frozenset({"fixed", "x"})) == (sent.message.draining, sent.message.tags)


# ---- tags ----


def test_a_tag_is_durable_before_it_counts(ready: Executor) -> None:
    """Written, then offered and answered, with the fixed ones."""
    assert [to_journal(Tagged("n", "gpu", NOW))] == ready.told(Asked(1, SetTag("gpu", True)))
    assert [Reply(1, ["fixed", "gpu"]), offer(tags=frozenset({"fixed", "gpu"}))] == ready.on_disk()
    assert [to_journal(Untagged("n", "gpu", NOW))] == ready.told(Asked(2, SetTag("gpu", False)))
    assert [Reply(2, ["fixed"]), offer()] == ready.on_disk()


def test_a_tag_given_at_the_start_stays(ready: Executor) -> None:
    """It can't be removed while the node runs."""
    [refused] = ready.told(Asked(1, SetTag("fixed", False)))
    assert isinstance(refused, Fail)
    assert isinstance(refused.error, Refused)


def test_a_tag_that_can_not_be_written_is_refused(ready: Executor) -> None:
    """The person is told; it is not tried again behind their back."""
    ready.told(Asked(1, SetTag("gpu", True)))
    error = DiskFull("full")
    assert [Fail(1, error)] == ready.told(AppendFailed(ready.token, error))


# ---- lanes ----

SHORT = Outcome(NOW - 0.001, NOW, exit_code=0)


def short(ready: Executor) -> dict[int, int]:
    """Let one short task end beside another that runs; what the executor wants then."""
    ready.running("a", "b")
    [_, sent] = ready.told(Exited("a", 1, SHORT))
    assert isinstance(sent, Send)
    assert isinstance(sent.message, Freed)
    ready.on_disk()
    return sent.message.wants


def ahead(ready: Executor, *tasks: str) -> list[Effect]:
    return ready.told(assign(ahead=tuple(item(task) for task in tasks)))


def test_short_tasks_are_wanted_ahead(ready: Executor) -> None:
    """About 30 ms of work for each that runs."""
    assert {PLAIN.number: 16} == short(ready)


def test_a_node_with_one_slot_opens_a_lane() -> None:
    """Of a class known to be short the first that starts has room behind it, and that is told."""
    executor = Executor(Capacity(1000, 100, 100))
    executor.told(Start())
    executor.told(Open([], []))
    executor.told(Inventory([], [], LIFE))
    executor.running("a")
    assert freed(("a", 1)) in executor.told(Exited("a", 1, SHORT))  # there is no lane any more
    executor.on_disk()
    assert freed(wants={1: 16}, seen=7) in executor.told(assign(item("b"), number=7))


def test_handing_on_is_told_with_what_matters(ready: Executor) -> None:
    """A share that stays in its lane is no news; that the lane is half empty is, and says all."""
    short(ready)
    tasks = [f"c{number}" for number in range(16)]
    ahead(ready, *tasks)
    ready.told(Appended(ready.token, specs=dict.fromkeys(tasks, TaskSpec("x"))))
    keys = [("b", 1), *[(task, 1) for task in tasks]]
    handed_on: list[tuple[AttemptKey, AttemptKey | None]] = [*pairwise(keys)]
    told = [ready.told(Exited(*key, SHORT))[1:] for key in keys[:8]]
    assert [[]] * 7 == told[:7]
    assert [Send("scheduler", Freed("n", handed_on[:8], wants={1: 8}))] == told[7]
    assert [] == ready.told(Exited(*keys[8], SHORT))[1:]  # it was asked for what there is room for
    more = Freed("n", handed_on[8:9], wants={1: 8})
    assert [Send("scheduler", more)] == ahead(ready, "d")[1:]  # and it has sent so little


def test_one_stands_behind_the_other_and_takes_over(ready: Executor) -> None:
    """It holds nothing until the one before it ends; then the share passes on."""
    short(ready)
    assert [to_journal(started("c"), want_specs=True)] == ahead(ready, "c")
    [sent] = ready.on_disk(c=TaskSpec("x"))
    assert isinstance(sent, Send)
    assert isinstance(sent.message, Runs)
    assert [("b", 1)] == [run.behind for run in sent.message.runs]
    effects = ready.told(Exited("b", 1, SHORT))
    assert to_journal(Finished("b", 1, "n", SHORT, True)) == effects[0]
    assert isinstance(effects[1], Send)
    assert [(("b", 1), ("c", 1))] == effects[1].message.attempts  # type: ignore[attr-defined]


def test_ahead_without_anything_to_stand_behind_starts_at_once(ready: Executor) -> None:
    """The ones it was meant for have ended meanwhile: if there is room, and its owner is told."""
    taken = Send("scheduler", Freed("n", taken=[Held("c", 1, NEED, "n")]))
    assert [to_journal(started("c"), want_specs=True), taken] == ahead(ready, "c")
    assert [to_journal(started("d"), want_specs=True)] == ahead(ready, "d")  # behind that one
    ready.told(assign(item("e", of=PINNED)))
    look(ready, "m")
    effects = ready.told(assign(ahead=(item("f"),), owner="m"))
    assert [to("m", Freed("n", declined=[("f", 1)]))] == effects


def test_ahead_is_declined_while_draining(ready: Executor) -> None:
    """Though there is something to stand behind."""
    short(ready)
    ready.told(Asked(1, SetDraining(True)))
    assert [declined(("c", 1))] == ahead(ready, "c")


def test_one_moves_to_a_lane_that_is_empty(ready: Executor) -> None:
    """When a slot has nothing behind it, the last of the longest lane starts there."""
    short(ready)
    ready.running("d")
    ahead(ready, "c1")
    ready.on_disk(c1=TaskSpec("x"))
    effects = ready.told(Exited("d", 1, SHORT))
    assert to_host(StartNow("c1", 1)) == effects[-2]


def test_what_stands_behind_is_assigned_again(ready: Executor) -> None:
    """Its scheduler has forgotten it: it is told all that there is, and nothing starts twice."""
    short(ready)
    ahead(ready, "c")
    told = offer(Held("b", 1, NEED, "n"), queued=[("c", 1)])
    assert [told] == ready.told(assign(item("c")))


def test_stop_what_stands_behind(ready: Executor) -> None:
    """A queued attempt is killed like any other; nothing of the ledger changes hands."""
    short(ready)
    ahead(ready, "c")
    ready.on_disk(c=TaskSpec("x"))
    assert [to_host(Kill("c", 1, "cancelled"))] == ready.told(StopAttempt("c", 1, "cancelled"))
    outcome = Outcome(NOW, NOW, reason="cancelled")
    finished = to_journal(Finished("c", 1, "n", outcome, True))
    assert [finished, freed(("c", 1), wants={1: 16})] == ready.told(Exited("c", 1, outcome))


def test_starts_refused_together_with_what_stood_behind(ready: Executor) -> None:
    """An array is cancelled while its elements are written down: none starts, none holds a share.

    One of them had changed lanes by then, and is not there any more to be told.
    """
    short(ready)
    elements = [f"x.{index}" for index in range(4)]
    items = [item(task) for task in elements]
    ready.told(assign(items[0], ahead=tuple(items[1:])))
    spec = TaskSpec("x", count=4)
    refused = [(task, 1) for task in elements]
    effects = ready.on_disk(*refused, **dict.fromkeys(elements, spec))
    assert [] == [
        effect for effect in effects if isinstance(effect, Send) and effect.to != "scheduler"
    ]
    [answer] = ready.told(Asked(1, Describe()))
    assert isinstance(answer, Reply)
    assert ([["b", 1]], 1.0) == (answer.result["running"], answer.result["free"]["cpus"])  # type: ignore[index]


# ---- the end of the node ----


def test_waiting_until_nothing_runs(ready: Executor) -> None:
    """Answered at once if idle, else when the last end is on disk."""
    assert [Reply(1, None)] == ready.told(Asked(1, WaitIdle()))
    ready.running("a")
    assert [] == ready.told(Asked(2, WaitIdle()))
    ready.told(Exited("a", 1, GOOD))
    assert [to_host(Forget([("a", 1)])), Reply(2, None)] == ready.on_disk()


def test_a_node_that_stops_ends_what_runs(ready: Executor) -> None:
    """It is lost, and so runs again, but not before it has ended here."""
    ready.running("a", "b")
    kills = [to_host(Kill(task, 1, STOPPED_WITH_NODE)) for task in "ab"]
    assert kills == ready.told(Abandon())
    ended = Outcome(NOW - 1.0, NOW, signal=15, reason=STOPPED_WITH_NODE)
    lost = Lost("a", 1, "n", NOW, STOPPED_WITH_NODE, False)
    assert [to_journal(lost), freed(("a", 1))] == ready.told(Exited("a", 1, ended))
    # One that has ended by itself meanwhile has its outcome.
    done = Finished("b", 1, "n", GOOD, final=True)
    assert to_journal(done) in ready.told(Exited("b", 1, GOOD))
    assert declined(("c", 1), retry_s=LATER_S) in ready.told(assign(item("c")))


def test_a_failure_while_the_node_stops_is_not_final(ready: Executor) -> None:
    """What failed by itself is tried again as often as it may."""
    ready.told(assign(item("a", retries_left=1)))
    ready.on_disk(a=TaskSpec("x"))
    ready.told(Abandon())
    failed = Finished("a", 1, "n", BAD, final=False)
    assert to_journal(failed) in ready.told(Exited("a", 1, BAD))


def test_nothing_starts_on_a_node_that_stops(ready: Executor) -> None:
    """What the runner never got never began: neither sent late, nor forgotten half way."""
    ready.told(RunnerDown())
    ready.running("a")
    ready.told(assign(item("b")))
    never = [Lost(t, 1, "n", NOW, STOPPED_WITH_NODE, hold=False, begun=False) for t in "ab"]
    assert [to_journal(never[0]), freed(("a", 1))] == ready.told(Abandon())
    ready.on_disk()
    back = ready.told(Inventory([], [], "life 2"))
    ready.token -= 1  # that of the start
    told = ready.on_disk(b=TaskSpec("x"))
    assert to_journal(never[1]) in told
    sent = [effect.to for effect in [*back, *told] if isinstance(effect, Send)]
    assert "runner_host" not in sent


def test_description(ready: Executor) -> None:
    """For people: what is free, what runs."""
    ready.running("a")
    [answer] = ready.told(Asked(1, Describe()))
    assert (
        Reply(
            1,
            {
                "tags": ["fixed"],
                "draining": False,
                "running": [["a", 1]],
                "cpus": 2.0,
                "memory": 100,
                "storage": 100,
                "resources": {},
                "free": {"cpus": 1.0, "memory": 100, "storage": 100},
                "connected": True,
                "staging": [],
            },
        )
        == answer
    )


# ---- what the runner is told ----


def test_the_environment_of_a_task() -> None:
    """Tasks see who they are; elements see their index and item, redone ones the original's."""
    spec = TaskSpec("x", env={"A": "b"}, items=["p", "q", "r"], only=[2, 0])
    run = make_run("t.0", 3, spec, "name", "/root")
    assert {
        "A": "b",
        "LEORONIC_TASK_ID": "t.0",
        "LEORONIC_ATTEMPT": "3",
        "LEORONIC_NODE": "name",
        "LEORONIC_ROOT": "/root",
        "LEORONIC_INDEX": "2",
        "LEORONIC_ITEM": "r",
    } == run.env
    assert "LEORONIC_INDEX" not in make_run("t", 1, TaskSpec("x"), "name").env


def test_a_task_is_told_of_the_interpreter_unless_it_names_one() -> None:
    """A worker runs where the node's own Python has what it needs, or where its user says so."""
    for env, expected in (({}, "/node/python"), ({"LEORONIC_PYTHON": "mine"}, "mine")):
        run = make_run("t", 1, TaskSpec("x", env=env), "name", "/root", "/node/python")
        assert expected == run.env["LEORONIC_PYTHON"]
    assert "LEORONIC_PYTHON" not in make_run("t", 1, TaskSpec("x"), "name").env


# ---- several owners ----


def to(node: str, message: object) -> Send:
    return Send(f"scheduler@{node}", message)


def look(executor: Executor, *owners: str, need: Need | None = None, number: int = 0) -> None:
    """These nodes' schedulers want to be told what gets free."""
    for owner in owners:
        executor.told(Interest(owner, True, need, number))


def test_the_interested_are_told(ready: Executor) -> None:
    """An offer at once; then what others take, and what gets free; `off` ends it."""
    ready.running("a")
    full = Offer("n", "name", NODE, frozenset({"fixed"}), False, [Held("a", 1, NEED, "n")], seen=7)
    assert [to("m", full)] == ready.told(Interest("m", True, None, 7))
    taken = Freed("n", taken=[Held("b", 1, NEED, "n")])
    assert to("m", taken) in ready.told(assign(item("b")))
    ready.on_disk(b=TaskSpec("x"))
    told = Freed("n", [(("a", 1), None)])
    assert [Send("scheduler", told), to("m", told)] == ready.told(Exited("a", 1, GOOD))[1:]
    assert [] == ready.told(Interest("m", False))
    assert 2 == len(ready.told(Exited("b", 1, GOOD)))


def test_interest_that_is_not_repeated_ends(ready: Executor) -> None:
    """Its scheduler may be gone, or have forgotten."""
    ready.running("a")
    look(ready, "m")
    assert [] == [
        effect
        for effect in ready.told(Exited("a", 1, GOOD), NOW + INTEREST_S)
        if isinstance(effect, Send) and effect.to == "scheduler@m"
    ]


def test_only_those_who_are_there_stay_interested(ready: Executor) -> None:
    """A view without them ends it."""
    ready.running("a")
    look(ready, "m", "o")
    ready.told(make_view("n", "m"))
    sent = {effect.to for effect in ready.told(Exited("a", 1, GOOD)) if isinstance(effect, Send)}
    assert {"journal", "scheduler", "scheduler@m"} == sent


def test_what_another_owner_assigned(ready: Executor) -> None:
    """It is taken like our own; only its owner hears of what is wanted of its classes."""
    ready.running("a")
    effects = ready.told(assign(item("b"), owner="m"))
    assert [
        to_journal(started("b"), want_specs=True),
        Send("scheduler", Freed("n", taken=[Held("b", 1, NEED, "m")])),
    ] == effects
    ready.on_disk(b=TaskSpec("x"))
    look(ready, "m")
    ready.told(Exited("a", 1, SHORT))
    [_, own, other] = ready.told(Exited("b", 1, SHORT))
    assert isinstance(own, Send)
    assert Freed("n", [(("b", 1), None)]) == own.message
    assert to("m", Freed("n", [(("b", 1), None)])) == other


def test_lanes_are_of_one_owner(ready: Executor) -> None:
    """Equal numbers of two owners are two classes: nobody queues up behind another's."""
    short(ready)
    ready.told(assign(item("x", of=PINNED)))  # no room is left
    look(ready, "m")
    effects = ready.told(assign(ahead=(item("c"),), owner="m"))
    assert [to("m", Freed("n", declined=[("c", 1)]))] == effects


def test_an_owner_that_is_declined_is_told_all(ready: Executor) -> None:
    """Though it had shown no interest: its attempt comes back, and what is held here."""
    ready.running("a", "b")
    held = [Held("a", 1, NEED, "n"), Held("b", 1, NEED, "n")]
    full = Offer("n", "name", NODE, frozenset({"fixed"}), False, held, seen=3)
    assert [to("m", Freed("n", declined=[("c", 1)])), to("m", full)] == ready.told(
        assign(item("c"), owner="m", number=3)
    )


@pytest.mark.parametrize("fields", [{"stale": True}, {"number": 4}, {"number": 5}])
def test_nothing_of_a_late_assignment_starts(ready: Executor, fields: dict[str, Any]) -> None:
    """Its owner may have given up on this node, or it came over a connection that is gone."""
    look(ready, "m", number=5)
    effects = ready.told(assign(item("c"), ahead=(item("d"),), owner="m", **fields))
    freed = Freed("n", declined=[("c", 1), ("d", 1)], retry_s=LATER_S)
    assert to("m", freed) == effects[0]
    assert 2 == len(effects)


def test_an_unknown_class_is_declined(ready: Executor) -> None:
    """An assignment that does not describe what it names starts nothing, and harms nothing."""
    effects = ready.told(Assign("m", [item("c")], [item("d")]))
    assert to("m", Freed("n", declined=[("c", 1), ("d", 1)], retry_s=LATER_S)) == effects[0]


def test_a_start_of_what_is_not_known_here_is_given_back(ready: Executor) -> None:
    """The owner's entries were still under way: to be tried again a little later.

    Even if they came between the refusal and its being told.
    """
    ready.told(assign(item("c"), owner="m"))
    assert [
        Send("scheduler", Freed("n", [(("c", 1), None)])),
        to("m", Freed("n", declined=[("c", 1)], retry_s=LATER_S)),
    ] == ready.on_disk(unknown=(("c", 1),), c=TaskSpec("x"))


def test_who_holds_less_is_let_in_first(ready: Executor) -> None:
    """Room that another waits for, and has less of, is kept for it; but not for long."""
    ready.running("a", "b")
    look(ready, "m", need=NEED)
    ready.told(Exited("a", 1, GOOD))
    told = ready.told(assign(item("c")))
    assert Send("scheduler", Freed("n", declined=[("c", 1)], retry_s=AFTER_OTHERS_S)) == told[0]
    assert to_journal(started("d"), want_specs=True) == ready.told(assign(item("d"), owner="m"))[0]
    ready.told(Exited("b", 1, GOOD))
    assert to_journal(started("e"), want_specs=True) == ready.told(assign(item("e")))[0]


def test_room_is_not_kept_for_long(ready: Executor) -> None:
    """Whoever it was kept for did not come."""
    ready.running("a", "b")
    look(ready, "m", need=NEED)
    ready.told(Exited("a", 1, GOOD))
    ready.told(assign(item("c")))
    late = Started("c", 1, "n", NOW + KEEP_S, LIFE)
    effects = ready.told(assign(item("c")), NOW + KEEP_S)
    assert to_journal(late, want_specs=True) == effects[0]


def test_lanes_run_dry_while_another_waits(ready: Executor) -> None:
    """Who has more than its share must not pass it on from one of its tasks to the next."""
    ready.running("a", "b")
    look(ready, "m", need=NEED)
    effects = ready.told(Exited("a", 1, SHORT))
    assert Send("scheduler", Freed("n", [(("a", 1), None)])) == effects[1]
    effects = ready.told(assign(ahead=(item("c"),)))
    assert [Send("scheduler", Freed("n", declined=[("c", 1)]))] == effects


def test_a_reservation_holds_for_other_owners(ready: Executor) -> None:
    """What would delay the big task waits; the big one itself, or its end, lifts that."""
    ready.running("a")
    big = AssignClass(9, Need(2000, 0, 0))
    ready.told(Reserve("m", 9, big.need, 6.0))
    assert declined(("b", 1), retry_s=RESERVED_S) == ready.told(assign(item("b")))[0]
    ready.told(Exited("a", 1, GOOD))
    assert declined(("b", 1), retry_s=RESERVED_S) == ready.told(assign(item("b")))[0]
    assert (
        to_journal(started("big"), want_specs=True)
        == (ready.told(Assign("m", [item("big", of=big)], classes=[big]))[0])
    )
    ready.on_disk(big=TaskSpec("x"))
    ready.told(Exited("big", 1, GOOD))
    assert to_journal(started("b"), want_specs=True) == ready.told(assign(item("b")))[0]


def test_a_reservation_ends(ready: Executor) -> None:
    """By time, or when its owner says so."""
    ready.running("a")
    ready.told(Reserve("m", 9, Need(2000, 0, 0), 6.0))
    ready.told(Reserve("m", 9))
    assert to_journal(started("b"), want_specs=True) == ready.told(assign(item("b")))[0]
    ready.on_disk(b=TaskSpec("x"))
    ready.told(Exited("b", 1, GOOD))
    ready.told(Reserve("m", 9, Need(2000, 0, 0), 6.0))
    late = Started("c", 1, "n", NOW + 6.0, LIFE)
    assert to_journal(late, want_specs=True) == ready.told(assign(item("c")), NOW + 6.0)[0]


@pytest.mark.parametrize(("outcome", "final"), [(BAD, False), (GOOD, True)])
def test_a_superseded_run_does_not_end_its_task(
    ready: Executor, outcome: Outcome, final: bool
) -> None:
    """The task goes on elsewhere; but a success that came before the kill counts."""
    ready.running("a")
    ready.told(StopAttempt("a", 1, "superseded"))
    [append, _] = ready.told(Exited("a", 1, outcome))
    assert to_journal(Finished("a", 1, "n", outcome, final)) == append


# ---- membership ----


def test_membership_is_told_what_others_should_know(ready: Executor) -> None:
    """Once, on each change, and again if it turns out not to know."""
    standing = Standing(NODE, ["fixed"], False)
    assert [AskView("runner"), standing] == ready.to_membership
    ready.to_membership.clear()
    ready.told(Asked(1, SetDraining(True)))
    assert [Standing(NODE, ["fixed"], True)] == ready.to_membership
    ready.to_membership.clear()
    ready.told(make_view("n"))
    assert [Standing(NODE, ["fixed"], True)] == ready.to_membership


def test_an_offer_names_the_last_entry() -> None:
    """How all ended that it does not show is on disk by then; the journal tells at the start."""
    executor = Executor()
    executor.told(Start())
    executor.told(Open([], [], number=41))
    [sent] = executor.told(Inventory([], [], LIFE))
    assert 41 == sent.message.number  # type: ignore[union-attr]
    executor.told(Asked(1, SetTag("x", True)))
    sends = executor.told(Appended(executor.token, number=42))
    offers = [e.message for e in sends if isinstance(e, Send) and isinstance(e.message, Offer)]
    assert [42] == [offer.number for offer in offers]
    look(executor, "m")
    [told] = executor.told(Interest("m", True))
    assert 42 == told.message.number  # type: ignore[union-attr]
