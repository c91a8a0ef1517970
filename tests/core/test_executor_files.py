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
from leoronic.core.run import Exited, Forget, Inventory, Runs, Spawned
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
