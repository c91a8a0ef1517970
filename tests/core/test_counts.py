"""How many tasks are in each state: kept as they change, against looking at every one of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from leoronic.core.arrays import ArrayRecord
from leoronic.core.entries import (
    Cancelled,
    Entry,
    Finished,
    Held,
    Lost,
    Numbered,
    Released,
    Started,
    Submitted,
)
from leoronic.core.outcome import Outcome
from leoronic.core.resources import Capacity
from leoronic.core.spec import After, TaskSpec
from leoronic.core.tasks import Tasks
from leoronic.core.view import About, Member, View

IDS = ("a", "b", "c", "d", "e.0", "e.1", "e")
SPECS = {
    "a": TaskSpec("x"),
    "b": TaskSpec("x", after=(After("a"),)),
    "c": TaskSpec("x", memory=5),
    "d": TaskSpec("x", retries=3),
    "e": TaskSpec("x", count=3),
}


def counted_one_by_one(tasks: Tasks) -> dict[str, int]:
    counts = dict.fromkeys(("waiting", "blocked", "held", "running"), 0)
    for record in tasks.live.values():
        if not isinstance(record, ArrayRecord):
            counts[tasks.state_of(record)] += 1
    return counts


def view(memory: int, alone: bool) -> View:
    """What is there: `n`, and `m` unless it is down; both with that much memory."""
    members = {}
    for node, state in (("n", "up"), ("m", "down" if alone else "up")):
        about = About(node, "1", 1, capacity=Capacity(1000, memory, 1))
        members[node] = Member(node, about, state, ready=True)
    return View("n", members)


_ids = st.sampled_from(IDS)
_attempts = st.integers(1, 3)
_codes = st.integers(0, 1)
_nodes = st.sampled_from(["n", "m"])
_steps = st.one_of(
    st.builds(lambda task: Submitted(task, SPECS[task], 0.0), st.sampled_from(sorted(SPECS))),
    st.builds(
        lambda task, attempt, node: Started(task, attempt, node, 0.0), _ids, _attempts, _nodes
    ),
    st.builds(
        lambda task, attempt, node, code, final: Finished(
            task, attempt, node, Outcome(0.0, 0.0, exit_code=code), final
        ),
        _ids, _attempts, _nodes, _codes, st.booleans(),
    ),
    st.builds(
        lambda task, attempt, node: Lost(task, attempt, node, 0.0, "x"), _ids, _attempts, _nodes
    ),
    st.builds(lambda task, revision: Held(task, revision, 0.0), _ids, _attempts),
    st.builds(lambda task, revision: Released(task, revision, 0.0), _ids, _attempts),
    st.builds(lambda task: Cancelled(task, 0.0), _ids),
    st.builds(view, st.sampled_from([0, 1, 4]), st.booleans()),
)  # fmt: skip


@given(st.lists(_steps, max_size=40))
def test_counts_that_are_kept_equal_counts_made_anew(steps: list[Entry | View]) -> None:
    """Whatever happens: singles, graphs, arrays and their elements, classes no node can run."""
    tasks = Tasks()
    for number, step in enumerate(steps, 1):
        tasks.now = float(number)
        if isinstance(step, View):
            tasks.see(step)
        else:
            tasks.apply(Numbered("nm"[number % 2], number, step))
        tasks.windows.feed()
        assert counted_one_by_one(tasks) == tasks.count_singles()
