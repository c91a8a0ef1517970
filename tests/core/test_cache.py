"""A task that was done before is answered from what it did then."""

from __future__ import annotations

import pytest
from msgspec import structs

from leoronic.core.blob import FileRef
from leoronic.core.cache_key import cache_key
from leoronic.core.outcome import Outcome, StreamRef
from leoronic.core.queue_messages import SubmitSpecs
from leoronic.core.requests import FIND_S
from leoronic.core.spec import TaskSpec
from leoronic.core.validate import parse_task
from leoronic.errors import BadRequest
from tests.core.world import World

DIGEST = "b3:" + "0" * 64
FILE = FileRef("in.csv", "in.csv", DIGEST, 10)
LEFT = FileRef("out.csv", "out.csv", "b3:" + "1" * 64, 20)
SPEC = TaskSpec("wc in.csv", files=(FILE,), outputs=("*.csv",), cache=True)


@pytest.fixture
def world() -> World:
    return World()


def keyed(spec: TaskSpec) -> TaskSpec:
    return structs.replace(spec, cache_key=cache_key(spec))


def test_what_does_the_same_has_the_same_key() -> None:
    """Where, when and under which name it runs changes nothing."""
    same = structs.replace(SPEC, name="x", id="y", memory=5, cpus=2.0, priority=3, retries=2)
    assert "" != cache_key(SPEC) == cache_key(same)


@pytest.mark.parametrize(
    "change",
    [
        {"command": "wc -l in.csv"},
        {"env": {"A": "b"}},
        {"stdin": "x"},
        {"files": (structs.replace(FILE, digest="b3:" + "2" * 64),)},
        {"files": (structs.replace(FILE, path="./in.csv"),)},
        {"outputs": ("*.txt",)},
        {"workdir": "private"},
        {"keep_names": True},
    ],
)
def test_what_does_something_else_has_another(change: dict[str, object]) -> None:
    """Command, files or surroundings differ."""
    assert cache_key(SPEC) != cache_key(structs.replace(SPEC, **change))


@pytest.mark.parametrize(
    "spec",
    [
        structs.replace(SPEC, cache=False),
        structs.replace(SPEC, count=3),
        structs.replace(SPEC, files=(FileRef("task:a/x", task="a", output="x"),)),
    ],
)
def test_what_has_none(spec: TaskSpec) -> None:
    """It was not asked for, or cannot be known."""
    assert "" == cache_key(spec)


def test_arrays_are_not_answered_for() -> None:
    """That is told, rather than ignored."""
    with pytest.raises(BadRequest, match="an array is not answered for"):
        parse_task({"command": "x", "cache": True, "count": 3})


def test_what_other_tasks_leave_is_not_known_yet() -> None:
    """That is told as well."""
    for files in ("task:a/x", ["in", "task:a/x"]):
        with pytest.raises(BadRequest, match="leaves is not known when this is submitted"):
            parse_task({"command": "x", "cache": True, "files": files})


def test_it_is_answered_at_once(world: World) -> None:
    """Nothing runs; the outputs are those of the task that did the same."""
    [first] = world.submit(keyed(SPEC))
    assert [first] == world.running()
    world.outputs[first] = (LEFT,)
    small = StreamRef(2, b"10")
    large = StreamRef(5000, file="1.pack", offset=7)
    world.end((first, 1), Outcome(1.0, 2.0, exit_code=0, stdout=small, stderr=large))
    [again] = world.submit(keyed(SPEC))
    assert [] == world.running()
    assert ["succeeded", "succeeded"] == world.states(first, again)
    row = world.reads.task(again)
    assert row is not None
    assert (first, "") == (row.spec.cached_from, world.reads.task(first).spec.cached_from)  # type: ignore[union-attr]
    [run] = world.reads.attempts(again)
    assert run.outcome == Outcome(world.now, world.now, exit_code=0, stdout=small, outputs=(LEFT,))
    # Nobody looks for a copy of output that is not here.
    assert [] == [one for one in world.reads.outputs_to_keep(10) if one.task == again]
    # What runs after it may start.
    [last] = world.submit(TaskSpec("y", after=parse_task({"command": "y", "after": again}).after))
    assert [last] == world.running()


def test_what_was_left_must_still_be_somewhere(world: World) -> None:
    """If no node has it any more the task runs; from then on that one answers."""
    [first] = world.submit(keyed(SPEC))
    world.outputs[first] = (LEFT,)
    world.end((first, 1), Outcome(1.0, 2.0, exit_code=0))
    world.lost = frozenset([LEFT.digest])
    [second] = world.submit(keyed(SPEC))
    assert [second] == world.running()
    assert "" == world.reads.task(second).spec.cached_from  # type: ignore[union-attr]
    again = structs.replace(LEFT, digest="b3:" + "3" * 64)
    world.outputs[second] = (again,)
    world.end((second, 1), Outcome(1.0, 2.0, exit_code=0))
    [third] = world.submit(keyed(SPEC))
    assert [] == world.running()
    assert second == world.reads.task(third).spec.cached_from  # type: ignore[union-attr]


def test_a_file_store_that_says_nothing_holds_nobody_up(world: World) -> None:
    """Then the task runs: that it can be answered for is not known."""
    [first] = world.submit(keyed(SPEC))
    world.outputs[first] = (LEFT,)
    world.end((first, 1), Outcome(1.0, 2.0, exit_code=0))
    world.lost = None
    request = world.ask_later("queue", SubmitSpecs([keyed(SPEC)]))
    world.run_until_idle()
    assert [] == world.running()
    world.advance(FIND_S + 0.1)
    [second] = world.answer(request).ids
    assert [second] == world.running()


def test_only_success_counts(world: World) -> None:
    """What failed, or still runs, answers for nothing."""
    [first] = world.submit(keyed(SPEC))
    [second] = world.submit(keyed(SPEC))
    assert [first, second] == world.running()
    world.end((first, 1), Outcome(1.0, 2.0, exit_code=1))
    [third] = world.submit(keyed(SPEC))
    assert third in world.running()


def test_blobs_are_needed_while_somebody_refers_to_them(world: World) -> None:
    """What a task brings while it lives, what it left while it is remembered."""
    [task] = world.submit(SPEC)
    assert {DIGEST} == world.reads.needed([DIGEST, LEFT.digest])
    world.outputs[task] = (LEFT,)
    world.end((task, 1), Outcome(1.0, 2.0, exit_code=0))
    assert {LEFT.digest} == world.reads.needed([DIGEST, LEFT.digest])
    assert [LEFT.digest] == world.reads.needed_page("", 10)
    assert [] == world.reads.needed_page(LEFT.digest, 10)


def test_an_output_is_brought_by_the_next(world: World) -> None:
    """It is found when the task starts; what was not left stays without a digest."""
    [first] = world.submit(SPEC)
    files = (
        FileRef("task:f/out.csv", "out.csv", task="f", output="out.csv"),
        FileRef("task:f/no.csv", "no.csv", task="f", output="no.csv"),
    )
    named = structs.replace(SPEC, name="f", cache=False)
    [second] = world.submit(named)
    after = parse_task({"command": "x", "after": "f"}).after
    [third] = world.submit(TaskSpec("x", files=files, after=after))
    world.end((first, 1), Outcome(1.0, 2.0, exit_code=0))
    world.outputs[second] = (LEFT,)
    world.end((second, 1), Outcome(1.0, 2.0, exit_code=0))
    spec = world.reads.specs([third])[third]
    assert [(second, LEFT.digest, 20), (second, "", 0)] == [
        (file.task, file.digest, file.size) for file in spec.files
    ]
