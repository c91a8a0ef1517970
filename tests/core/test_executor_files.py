"""Files of attempts: placed before they start, kept after they end."""

from __future__ import annotations

import pytest

from leoronic.core.blob import FileRef
from leoronic.core.effects import Asked, Reply, Send
from leoronic.core.entries import Finished, Lost
from leoronic.core.executor_messages import Describe, Open, OpenAttempt
from leoronic.core.file_messages import (
    FilesMissing,
    FilesOf,
    FilesPlaced,
    FilesStarted,
    ForgetFiles,
    KeepOutputs,
    OutputsKept,
    PlaceFiles,
)
from leoronic.core.outcome import Outcome
from leoronic.core.queue_messages import FetchSpecs, SpecsFetched, StopAttempt
from leoronic.core.resources import Capacity
from leoronic.core.run import Exited, Forget, Inventory, Runs, Spawned, StartNow
from leoronic.core.spec import TaskSpec
from leoronic.core.staging import STAMP_LAG_S
from tests.core.test_executor import (
    GOOD,
    LIFE,
    NEED,
    NOW,
    Executor,
    assign,
    item,
    to_host,
    to_journal,
)

FILE = FileRef("in.csv", "in.csv", "b3:" + "0" * 64, 10)
KEY = ("a", 1)
FOLDER = ".leoronic/work/a.1"
PLACE = PlaceFiles(KEY, FOLDER, (FILE,))
WITH_FILES = TaskSpec("wc in.csv", files=(FILE,))
LEAVES = TaskSpec("x", outputs=("*.csv",))


@pytest.fixture
def ready() -> Executor:
    """An executor that is open, connected and idle."""
    executor = Executor()
    executor.told(Open([], []))
    executor.told(Inventory([], [], LIFE))
    executor.to_store.clear()
    return executor


def sent_to_host(effects: list[object]) -> list[object]:
    return [e.message for e in effects if isinstance(e, Send) and e.to == "runner_host"]


def start(executor: Executor, spec: TaskSpec) -> list[object]:
    executor.told(assign(item("a")))
    return sent_to_host(list(executor.on_disk(a=spec)))


def test_who_waits_for_files_is_told(ready: Executor) -> None:
    """For `why`: until the files are placed."""
    start(ready, WITH_FILES)

    def staging() -> object:
        [answer] = ready.told(Asked(1, Describe()))
        assert isinstance(answer, Reply)
        return answer.result["staging"]

    assert [KEY] == staging()
    ready.told(FilesPlaced(KEY))
    assert [] == staging()


def test_it_starts_once_its_files_are_there(ready: Executor) -> None:
    """The runner gets it after the store has placed them, and its command finds them."""
    assert [] == start(ready, WITH_FILES)
    assert [PLACE] == ready.to_store
    [runs] = sent_to_host(list(ready.told(FilesPlaced(KEY))))
    assert isinstance(runs, Runs)
    assert ["wc /.leoronic/work/a.1/in.csv"] == [run.command for run in runs.runs]
    assert [] == ready.told(FilesPlaced(KEY))  # told twice


def test_files_that_cannot_be_had(ready: Executor) -> None:
    """The attempt never began: it counts for nothing, and is tried again."""
    start(ready, WITH_FILES)
    lost = Lost("a", 1, "n", NOW, "nobody has in.csv", hold=False, begun=False)
    assert to_journal(lost) in ready.told(FilesMissing(KEY, "nobody has in.csv"))
    ready.to_store.clear()
    ready.on_disk()
    assert [ForgetFiles((KEY,))] == ready.to_store


def test_files_that_are_lost(ready: Executor) -> None:
    """To try again would be for ever: the attempt has failed, and says what it lacks."""
    start(ready, WITH_FILES)
    outcome = Outcome(NOW, NOW, reason="cannot start: in.csv: no node has it: it is lost")
    told = ready.told(FilesMissing(KEY, "in.csv: no node has it", lost=True))
    assert to_journal(Finished("a", 1, "n", outcome, final=True)) in told


def test_an_output_that_does_not_exist(ready: Executor) -> None:
    """What the other task did not leave cannot come later: the attempt has failed."""
    file = FileRef("task:one/x", "x", task="one", output="x")
    ready.told(assign(item("a")))
    effects = ready.on_disk(a=TaskSpec("x", files=(file,)))
    outcome = Outcome(NOW, NOW, reason="cannot start: task one left no x")
    assert to_journal(Finished("a", 1, "n", outcome, final=True)) in effects
    assert [] == ready.to_store


def test_cancelled_while_its_files_come(ready: Executor) -> None:
    """It ends at once; that they arrive later starts nothing."""
    start(ready, WITH_FILES)
    effects = ready.told(StopAttempt("a", 1, "cancelled"))
    outcome = Outcome(NOW, NOW, reason="cancelled")
    assert to_journal(Finished("a", 1, "n", outcome, final=True)) in effects
    assert [] == ready.told(FilesPlaced(KEY))


def test_what_it_leaves_is_kept_before_its_end_is_told(ready: Executor) -> None:
    """The outcome names what was kept, and what could not be."""
    start(ready, LEAVES)
    assert [] == ready.told(Exited("a", 1, GOOD))
    assert [KeepOutputs(KEY, "", ("*.csv",), GOOD.started_at - STAMP_LAG_S)] == ready.to_store
    assert [] == ready.told(Exited("a", 1, GOOD))  # the runner tells it until it is forgotten
    kept = OutputsKept(KEY, (FILE,), ("x.csv: is a folder",))
    outcome = Outcome(
        GOOD.started_at,
        GOOD.finished_at,
        exit_code=0,
        outputs=(FILE,),
        output_problems=("x.csv: is a folder",),
    )
    assert to_journal(Finished("a", 1, "n", outcome, final=True)) in ready.told(kept)
    assert to_host(Forget([KEY])) in ready.on_disk()
    assert ForgetFiles((KEY,)) == ready.to_store[-1]


def test_what_never_ran_leaves_nothing(ready: Executor) -> None:
    """Nobody looks for outputs of an attempt that could not start."""
    start(ready, LEAVES)
    unstarted = Outcome(NOW, NOW, reason="cannot start: no bash")
    effects = ready.told(Exited("a", 1, unstarted))
    assert to_journal(Finished("a", 1, "n", unstarted, final=True)) in effects
    assert [] == ready.to_store


def test_a_private_folder_is_looked_through(ready: Executor) -> None:
    """Outputs are named from where the task ran."""
    start(ready, TaskSpec("x", outputs=("*",), workdir="private"))
    ready.told(Exited("a", 1, GOOD))
    assert [KeepOutputs(KEY, f"/{FOLDER}", ("*",))] == ready.to_store


def test_the_store_begins_anew(ready: Executor) -> None:
    """All that is under way is asked for again; folders of other attempts are left over."""
    start(ready, WITH_FILES)
    ready.told(assign(item("b")))
    ready.on_disk(b=LEAVES)
    ready.told(Exited("b", 1, GOOD))
    ready.to_store.clear()
    ready.told(FilesStarted())
    keep = KeepOutputs(("b", 1), "", ("*.csv",), GOOD.started_at - STAMP_LAG_S)
    expected = [PLACE, keep, FilesOf((KEY, ("b", 1)))]
    assert expected == ready.to_store


def test_a_core_that_starts_again() -> None:
    """What waited for its files waits again; what left files has them kept."""
    executor = Executor()
    known = [
        OpenAttempt("a", 1, NEED, 0, hold_if_lost=False, runner=LIFE, has_folder=True),
        OpenAttempt("b", 1, NEED, 0, False, LIFE, has_folder=True, outputs=("*",), private=True),
    ]
    executor.told(Open(known, []))
    assert [FilesOf((KEY, ("b", 1)))] == executor.to_store
    running = [Spawned("b", 1, 7, NOW)]
    assert Send("journal", FetchSpecs("runner", ["a"])) in executor.told(
        Inventory(running, [], LIFE)
    )
    executor.to_store.clear()
    executor.told(SpecsFetched({"a": WITH_FILES}))
    assert [PLACE] == executor.to_store
    # Nor is it lost when the runner, which does not have it yet, connects again.
    executor.told(Inventory(running, [], LIFE))
    assert [PLACE] == executor.to_store
    executor.told(Exited("b", 1, GOOD))
    assert KeepOutputs(("b", 1), "/.leoronic/work/b.1", ("*",)) == executor.to_store[-1]


def lane(executor: Executor, *tasks: str) -> None:
    """The first of these runs, the others stand behind it; each brings a file, and waits for it."""
    first, *others = tasks
    executor.told(assign(item(first), ahead=tuple(item(task) for task in others)))
    executor.on_disk(**dict.fromkeys(tasks, WITH_FILES))


def placed(executor: Executor, task: str, **fields: bool) -> list[tuple[str, str]]:
    """The files of a task are there: which runs are sent, and behind whom each."""
    sent = sent_to_host(list(executor.told(FilesPlaced((task, 1), **fields))))
    runs = [run for message in sent if isinstance(message, Runs) for run in message.runs]
    return [(run.task, run.behind[0] if run.behind else "") for run in runs]


def test_files_are_placed_while_it_stands_in_a_lane() -> None:
    """It is sent after the one that it stands behind, of which the runner would know nothing."""
    executor = one_slot()
    lane(executor, "a", "b", "c")
    assert ["a", "b", "c"] == [place.key[0] for place in executor.to_store]
    assert [] == placed(executor, "c")
    assert [] == placed(executor, "b")
    assert [("a", ""), ("b", "a"), ("c", "b")] == placed(executor, "a")


def test_who_stands_behind_one_that_is_gone_is_sent() -> None:
    """Its files could not be had, or it was cancelled."""
    executor = one_slot()
    lane(executor, "a", "b", "c", "d")
    placed(executor, "a")
    assert [] == placed(executor, "c") + placed(executor, "d")
    sent = sent_to_host(list(executor.told(StopAttempt("b", 1, "cancelled"))))
    [runs] = [message for message in sent if isinstance(message, Runs)]
    assert [("c", ("a", 1)), ("d", ("c", 1))] == [(run.task, run.behind) for run in runs.runs]


def test_who_waits_for_files_takes_the_share_over() -> None:
    """It holds it until they are there; then it starts behind nobody."""
    executor = one_slot()
    lane(executor, "a", "b")
    placed(executor, "a")
    told = executor.told(Exited("a", 1, GOOD))
    assert not [message for message in sent_to_host(list(told)) if isinstance(message, StartNow)]
    assert [("b", "")] == placed(executor, "b")


def test_who_moves_to_another_lane_while_it_waits() -> None:
    """The runner is not told to start what it does not know."""
    executor = one_slot(Capacity(2000, 100, 100))
    executor.told(assign(item("a"), item("b"), ahead=(item("c"),)))
    executor.on_disk(**dict.fromkeys("abc", WITH_FILES))
    placed(executor, "a")
    placed(executor, "b")
    for task in "ab":
        told = sent_to_host(list(executor.told(Exited(task, 1, GOOD))))
        assert not [message for message in told if isinstance(message, StartNow)]
        executor.on_disk()
    assert [("c", "")] == placed(executor, "c")


@pytest.mark.parametrize("fetched", [False, True])
def test_waiting_for_files_counts_as_running_long(fetched: bool) -> None:
    """Nobody shall stand behind those that have to fetch what they bring."""
    executor = one_slot()
    lane(executor, "a")
    sent = executor.told(FilesPlaced(KEY, fetched), now=NOW + 5)
    assert [] != sent
    executor.told(Exited("a", 1, Outcome(NOW, NOW + 0.001, exit_code=0)))
    executor.on_disk()
    wants = [effect for effect in executor.told(assign(item("b"))) if _wants(effect)]
    assert fetched == (not wants)


def _wants(effect: object) -> bool:
    return isinstance(effect, Send) and bool(getattr(effect.message, "wants", None))


def one_slot(capacity: Capacity | None = None) -> Executor:
    """As `ready`, with room for one task at a time."""
    executor = Executor(capacity or Capacity(1000, 100, 100))
    executor.told(Open([], []))
    executor.told(Inventory([], [], LIFE))
    executor.to_store.clear()
    return executor
