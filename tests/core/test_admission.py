"""Submissions on their way in, one plan at a time."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from leoronic.core.admission import Plan, make_ids
from leoronic.core.blob import FileRef
from leoronic.core.entries import Submitted
from leoronic.core.queue_messages import Known, LookedUp, SubmitSpecs
from leoronic.core.spec import After, TaskSpec
from leoronic.errors import BadRequest, Conflict


def plan(*specs: TaskSpec) -> Plan:
    return Plan("request", SubmitSpecs(list(specs), "door"))


def answer(**known: list[Known] | TaskSpec) -> LookedUp:
    """What the journal found: lists of `Known`, and specs of tasks by id."""
    found = {ref: one for ref, one in known.items() if isinstance(one, list)}
    specs = {ref: one for ref, one in known.items() if isinstance(one, TaskSpec)}
    return LookedUp(1, found, specs)


# ---- ids ----


def test_ids_are_twelve_plain_letters() -> None:
    """No letters that are taken for each other, and nothing that a shell would touch."""
    for task in make_ids("n", 1, 100):
        assert 12 == len(task)
        assert set(task) <= set("0123456789abcdefghjkmnpqrstvwxyz")


def test_ids_are_unique() -> None:
    """Within a node, across nodes and across lives."""
    made = make_ids("n/1", 1, 20_000) + make_ids("n/2", 1, 20_000) + make_ids("m/1", 1, 20_000)
    assert 60_000 == len(set(made))


@given(st.integers(1, 5000), st.integers(0, 40), st.integers(0, 40))
@example(472, 40, 1)  # where ids begin to begin otherwise
def test_ids_depend_on_their_number_alone(first: int, count: int, more: int) -> None:
    """However many are made at once."""
    together = make_ids("n", first, count + more)
    assert together == make_ids("n", first, count) + make_ids("n", first + count, more)


def test_a_few_letters_name_a_task() -> None:
    """Neighbours share two letters, and almost none share five."""
    made = make_ids("n", 510, 510)
    assert 1 == len({task[:2] for task in made})
    assert len({task[:5] for task in made}) > 500


# ---- plans ----


def test_what_must_be_looked_up() -> None:
    """Own ids, what is redone, and what `after` names outside this batch; each once."""
    one = plan(
        TaskSpec("x", id="a", name="first", after=(After("out"), After("b"), After("second"))),
        TaskSpec("x", id="b", name="second", after=(After("out"),)),
        TaskSpec("x", redo_of="old"),
    )
    assert ["a", "b"] == one.own_ids()
    assert ["a", "b", "old", "out"] == one.references()
    assert [] == plan(TaskSpec("x", name="n")).references()


def test_entries_carry_full_ids() -> None:
    """Names and beginnings are resolved on the way in; repetitions are dropped."""
    spec = TaskSpec("x", after=(After("na", "ended"), After("abcdef"), After("abcdef")))
    one = plan(spec)
    found = answer(na=[Known("n1", None)], abcdef=[Known("abcdef", "succeeded")])
    assert 1 == one.resolve(found, "seed", 5, 9.0)
    [entry] = one.entries
    assert isinstance(entry, Submitted)
    assert (After("n1", "ended"), After("abcdef")) == entry.spec.after
    assert (make_ids("seed", 5, 1)[0], 9.0, "door") == (entry.task, entry.at, entry.source)


def test_mistakes_have_places() -> None:
    """A single task needs no index; in a batch each mistake names its task."""
    with pytest.raises(BadRequest, match=r"^after: no task has the id or name 'z'$"):
        plan(TaskSpec("x", after=(After("z"),))).resolve(answer(), "s", 1, 0.0)
    with pytest.raises(BadRequest) as caught:
        plan(
            TaskSpec("x", id="a", after=(After("b"), After("z"))),
            TaskSpec("x", id="b", after=(After("a"), After("y"))),
        ).resolve(answer(y=[Known("y1", None), Known("y2", None)]), "s", 1, 0.0)
    assert "no task was added" == caught.value.message
    assert [
        "tasks[0].after: no task has the id or name 'z'",
        "tasks[1].after: 'y' fits 2 tasks; say more",
        "after: tasks wait for each other in a circle: a > b > a",
    ] == caught.value.problems


def test_what_is_known_already_is_not_written_again() -> None:
    """The rest of the batch is; all ids are answered."""
    one = plan(TaskSpec("x", id="a"), TaskSpec("y", id="b"))
    one.resolve(answer(a=TaskSpec("x", id="a", priority=3)), "s", 1, 0.0)
    assert ["a", "b"] == one.ids
    assert ["b"] == [entry.task for entry in one.entries if isinstance(entry, Submitted)]


@pytest.mark.parametrize(
    "other",
    [TaskSpec("y"), TaskSpec("x", count=2), TaskSpec("x", items=["p"])],
    ids=["command", "count", "items"],
)
def test_another_task_of_the_same_id_is_a_conflict(other: TaskSpec) -> None:
    """What it runs, and how often, is what counts."""
    with pytest.raises(Conflict, match="the id a belongs to another task"):
        plan(TaskSpec("x", id="a")).resolve(answer(a=other), "s", 1, 0.0)


def test_a_task_is_redone_once() -> None:
    """Its redo is redone then: so what it blocked waits for one task, not two."""
    again = TaskSpec("x", redo_of="a")
    with pytest.raises(Conflict, match="a was redone as b: redo that one"):
        plan(again).resolve(answer(a=[Known("a", "failed", "b")]), "s", 1, 0.0)
    with pytest.raises(Conflict, match="a cannot be redone twice"):
        plan(again, again).resolve(answer(a=[Known("a", "failed")]), "s", 1, 0.0)
    assert 1 == plan(again).resolve(answer(a=[Known("a", "failed")]), "s", 1, 0.0)


# ---- outputs of other tasks ----


def brings(ref: str, *after: After, path: str = "out") -> TaskSpec:
    """A task with a file `task:ref/path`, as validation hands it on."""
    file = FileRef(f"task:{ref}/{path}", task=ref, output=path)
    return TaskSpec("x", files=(file,), after=(*after, After(ref)))


def test_an_element_s_output() -> None:
    """It waits for the whole array, of which nothing else need be said."""
    one = plan(brings("ar.2"))
    assert ["ar.2", "ar"] == one.references()
    assert ["ar.2"] == one.outputs_wanted()
    one.resolve(answer(ar=[Known("array", None, elements=3)]), "s", 1, 0.0)
    [entry] = one.entries
    assert isinstance(entry, Submitted)
    assert ("array.2", (After("array"),)) == (entry.spec.files[0].task, entry.spec.after)


def test_an_element_s_output_in_one_batch() -> None:
    """The array need not be known to anybody yet."""
    two = plan(TaskSpec("x", name="ar", count=3), brings("ar.2"))
    array = make_ids("s", 1, 1)[0]
    two.resolve(answer(), "s", 1, 0.0)
    last = two.entries[-1]
    assert isinstance(last, Submitted)
    assert (f"{array}.2", (After(array),)) == (last.spec.files[0].task, last.spec.after)


@pytest.mark.parametrize(
    ("ref", "told"),
    [
        ("ar", "files: task:ar/out: ar is an array: name an element of it, as task:ar.0/out"),
        ("ar.3", "files: task:ar.3/out: there is no element 3: ar has the elements 0 to 2"),
        ("one.0", "files: task:one.0/out: there is no element 0: one is no array"),
        ("no.0", "after: no task has the id or name 'no.0'"),
        ("old", "files: task:old/out: old has ended and left no out, but a, b"),
    ],
)
def test_outputs_that_there_cannot_be(ref: str, told: str) -> None:
    """They refuse the submission, with the reason."""
    known = answer(
        ar=[Known("ar", None, elements=3)],
        one=[Known("one", None)],
        old=[Known("old", "succeeded")],
    )
    with pytest.raises(BadRequest) as caught:
        plan(brings(ref)).resolve(structs.replace(known, left={"old": ("a", "b")}), "s", 1, 0.0)
    assert told == caught.value.message


def test_what_a_failed_task_may_yet_leave() -> None:
    """It blocks what waits for its success, which a redo mends: that is not refused."""
    known = answer(old=[Known("old", "failed")])
    one = plan(brings("old"))
    one.resolve(structs.replace(known, left={"old": ()}), "s", 1, 0.0)
    assert 1 == len(one.entries)


def test_an_element_cannot_be_waited_for() -> None:
    """Unless for its output."""
    with pytest.raises(BadRequest, match=r"'ar\.1' is an element: wait for the array 'ar'"):
        plan(TaskSpec("x", after=(After("ar.1"),))).resolve(
            answer(ar=[Known("ar", None, elements=3)]), "s", 1, 0.0
        )


def test_what_is_said_of_a_task_holds_for_its_output() -> None:
    """Also if it is said by another name: that it must succeed follows only if nothing is said."""
    one = plan(brings("abc", After("abcdef", "ended")))
    found = [Known("abcdef", None)]
    one.resolve(answer(abc=found, abcdef=found), "s", 1, 0.0)
    [entry] = one.entries
    assert isinstance(entry, Submitted)
    assert (After("abcdef", "ended"),) == entry.spec.after
