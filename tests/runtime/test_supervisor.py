"""Supervisors: order of start and stop, strategies, escalation, nesting, dynamic children."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from leoronic.core.tree import ChildSpec, SupervisorSpec
from leoronic.errors import BadRequest, Conflict, NotFound
from leoronic.runtime.actor import Actor
from leoronic.runtime.structured import structlog
from leoronic.runtime.supervisor import Escalated, StartFailed, Tree
from tests.runtime.actors import Diary, Echo, child, running, until


def named(name: str, diary: Diary, **fields: Any) -> ChildSpec:
    return child(name, lambda: Echo(name, diary), **fields)


async def running_for(tree: Tree, name: str, time: int) -> None:
    """Wait until the child runs for the `time`-th time."""

    def runs() -> bool:
        line = next(line for line in tree.statistics() if line["name"] == name)
        return bool(line["state"] == "running" and line["restarts"] == time - 1)

    await until(runs)


async def test_started_left_to_right_stopped_in_reverse() -> None:
    """Each child is initialised before the next starts; nested ones in their place."""
    diary: Diary = []

    class Slow(Echo):
        async def started(self) -> None:
            for _ in range(5):
                await asyncio.sleep(0)
            await super().started()

    branch = SupervisorSpec(name="branch", children=(named("b", diary), named("c", diary)))
    async with running(child("a", lambda: Slow("a", diary)), branch, named("d", diary)):
        assert diary == ["+a", "+b", "+c", "+d"]
    assert diary[4:] == ["-d", "-c", "-b", "-a"]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("one_for_one", ["+b"]),
        ("rest_for_one", ["-c", "+b", "+c"]),
        ("one_for_all", ["-c", "-a", "+a", "+b", "+c"]),
    ],
)
async def test_strategies(strategy: str, expected: list[str]) -> None:
    """A crash of the middle child restarts what the strategy says, in order."""
    diary: Diary = []
    children = [named(name, diary) for name in "abc"]
    async with running(*children, strategy=strategy) as tree:
        diary.clear()
        await tree.find("b").cast(ValueError("x"))
        await until(lambda: diary == expected)
        assert await tree.find("b").call(1) == 1


async def test_a_child_that_does_not_start_undoes_the_start() -> None:
    """The first start fails as a whole, and what had started is stopped again."""
    diary: Diary = []

    class Stillborn(Actor):
        async def started(self) -> None:
            raise ValueError("no such disk")

    spec = SupervisorSpec(
        name="root", children=(named("a", diary), child("b", Stillborn), named("c", diary))
    )
    with pytest.raises(StartFailed, match=r"b did not start: ValueError: no such disk"):
        await Tree(spec).start()
    assert diary == ["+a", "-a"]


async def test_what_did_not_start_below_is_told_as_it_is() -> None:
    """However deep it is in the tree, the error names it and what it said, and nothing else."""

    class Stillborn(Actor):
        async def started(self) -> None:
            raise BadRequest("no such disk: choose another")

    below = SupervisorSpec(name="below", children=(child("b", Stillborn),))
    with pytest.raises(StartFailed, match=r"^b did not start: BadRequest: no such") as failed:
        await Tree(SupervisorSpec(name="root", children=(below,))).start()
    assert isinstance(failed.value.__cause__, BadRequest)


@pytest.mark.parametrize(
    ("error", "expected"),
    [(BadRequest("in use: choose another"), []), (KeyError("a bug"), [("b", "KeyError: 'a bug'")])],
)
async def test_a_start_that_fails_is_logged_if_it_is_a_bug(
    error: Exception, expected: list[tuple[str, str]]
) -> None:
    """What a person can mend is raised to whoever starts, who tells it; a traceback is logged."""

    class Stillborn(Actor):
        async def started(self) -> None:
            raise error

    with structlog.testing.capture_logs() as lines, pytest.raises(StartFailed):
        await Tree(SupervisorSpec(name="root", children=(child("b", Stillborn),))).start()
    told = [line for line in lines if line["event"] == "start_failed"]
    assert expected == [(line["child"], line["reason"]) for line in told]
    assert [error] * len(expected) == [line["exc_info"] for line in told]


async def test_a_start_that_takes_too_long_fails() -> None:
    """`started` is bounded by start_s."""

    class Sleeper(Actor):
        async def started(self) -> None:
            await asyncio.Event().wait()

    spec = SupervisorSpec(name="root", children=(child("a", Sleeper, start_s=0.01),))
    with pytest.raises(StartFailed, match=r"not started within 0.01 s"):
        await Tree(spec).start()


async def test_escalation_at_the_root_tells_the_story() -> None:
    """Beyond the intensity all children are stopped in reverse, and wait() raises the story."""
    diary: Diary = []
    times = iter([1.0, 2.0, 3.0])
    async with running(
        named("a", diary), named("b", diary), intensity=2, period_s=10.0, clock=lambda: next(times)
    ) as tree:
        for count in (1, 2, 3):
            await running_for(tree, "a", count)
            await tree.find("a").cast(ValueError(f"at {count}.0"))
        with pytest.raises(Escalated) as escalated:
            await tree.wait()
    assert escalated.value.story == [
        "2.0 s ago a: ValueError: at 1.0",
        "1.0 s ago a: ValueError: at 2.0",
        "0.0 s ago a: ValueError: at 3.0",
    ]
    assert diary == ["+a", "+b", "+a", "+a", "-b"]


async def test_slow_failures_do_not_escalate() -> None:
    """Failures further apart than the period are forgiven, however many."""
    times = iter([11.0 * count for count in range(5)])
    async with running(
        child("a", Echo), intensity=1, period_s=10.0, clock=lambda: next(times)
    ) as tree:
        for count in range(1, 6):
            await running_for(tree, "a", count)
            await tree.find("a").cast(ValueError("x"))
        await running_for(tree, "a", 6)


async def test_a_restart_that_fails_counts_as_a_failure() -> None:
    """A child that cannot start again is tried until the intensity is exceeded."""
    starts = 0

    class Once(Echo):
        async def started(self) -> None:
            nonlocal starts
            starts += 1
            if starts > 1:
                raise ValueError("gone")

    async with running(child("a", Once), intensity=2) as tree:
        await tree.find("a").cast(ValueError("x"))
        with pytest.raises(Escalated) as escalated:
            await tree.wait()
    assert starts == 3
    assert "did not start: ValueError: gone" in escalated.value.story[-1]


async def test_a_branch_that_gives_up_is_one_failure_of_its_parent() -> None:
    """The parent restarts the whole branch, by its own strategy; references stay valid."""
    diary: Diary = []
    branch = SupervisorSpec(
        name="branch", intensity=0, children=(named("b", diary), named("c", diary))
    )
    async with running(
        named("a", diary), branch, named("d", diary), strategy="rest_for_one"
    ) as tree:
        ref = tree.find("b")
        diary.clear()
        await ref.cast(ValueError("x"))
        await until(lambda: diary == ["-c", "-d", "+b", "+c", "+d"])
        assert await ref.call(1) == 1
        lines = {line["name"]: line for line in tree.statistics()}
        assert lines["branch"]["restarts"] == 1
        assert lines["a"]["restarts"] == 0


async def test_the_story_of_a_branch_is_in_its_parents_story() -> None:
    """What reaches the root names the child that failed at the bottom."""
    branch = SupervisorSpec(name="branch", intensity=0, children=(child("b", Echo),))
    async with running(branch, intensity=0) as tree:
        await tree.find("b").cast(ValueError("deep down"))
        with pytest.raises(Escalated) as escalated:
            await tree.wait()
    assert "b: ValueError: deep down" in escalated.value.story[0]


async def test_dynamic_children() -> None:
    """A child may be added and stopped at run time; its name is then free again."""
    diary: Diary = []
    async with running(named("a", diary)) as tree:
        ref = await tree.root.start_child(named("x", diary))
        assert ref is not None
        assert await ref.call(1) == 1
        with pytest.raises(Conflict):
            await tree.root.start_child(named("x", diary))
        await ref.cast(ValueError("x"))
        await until(lambda: diary.count("+x") == 2)
        await tree.root.stop_child("x")
        with pytest.raises(NotFound):
            tree.find("x")
        with pytest.raises(NotFound):
            await tree.root.stop_child("x")
        await tree.root.start_child(named("x", diary))
    assert diary == ["+a", "+x", "+x", "-x", "+x", "-x", "-a"]


async def test_a_dynamic_child_that_does_not_start_harms_nobody() -> None:
    """The one who asked hears of it; the supervisor goes on."""

    class Stillborn(Actor):
        async def started(self) -> None:
            raise ValueError("no")

    async with running(child("a", Echo)) as tree:
        with pytest.raises(StartFailed, match="ValueError: no"):
            await tree.root.start_child(child("x", Stillborn))
        assert await tree.find("a").call(1) == 1
        assert [line["name"] for line in tree.statistics()] == ["root", "a"]


async def test_temporary_children_are_forgotten() -> None:
    """A temporary child that ended leaves nothing behind; a restart of its supervisor has it."""
    diary: Diary = []
    branch = SupervisorSpec(
        name="branch",
        intensity=0,
        children=(named("t", diary, restart="temporary"), named("p", diary)),
    )
    async with running(branch) as tree:
        await tree.find("t").cast(ValueError("x"))
        await until(lambda: tree.directory.get("t") is None)
        await tree.find("p").cast(ValueError("x"))
        await until(lambda: diary == ["+t", "+p", "+t", "+p"])
        await until(lambda: tree.directory.get("t") is not None)


async def test_stop_while_a_child_restarts() -> None:
    """A stop does not wait for a restart under way, and leaves nothing running."""
    diary: Diary = []
    restarting = asyncio.Event()

    class Hangs(Echo):
        async def started(self) -> None:
            await super().started()
            if self.diary.count("+a") > 1:
                restarting.set()
                await asyncio.Event().wait()

    async with running(named("z", diary), child("a", lambda: Hangs("a", diary))) as tree:
        await tree.find("a").cast(ValueError("x"))
        await restarting.wait()
    assert diary == ["+z", "+a", "+a", "-z"]
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "a"]


async def test_statistics() -> None:
    """One line for each supervisor and actor, with what `leoronic status` shows."""
    async with running(child("a", Echo, mailbox_max=7)) as tree:
        await tree.find("a").call(1)
        [root, a] = tree.statistics()
    assert root == {"name": "root", "kind": "supervisor", "state": "running", "restarts": 0}
    assert a == {
        "name": "a",
        "kind": "actor",
        "state": "running",
        "restarts": 0,
        "mailbox": 0,
        "mailbox_high": 1,
        "mailbox_max": 7,
        "handled": 1,
        "lost": 0,
    }
