"""A real worker process carries out calls, whatever the code that it is sent does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from worker_harness import Boss, boss, wait_for

from leoronic.core.calls import Call, Submitted
from leoronic.remote import said, serial
from leoronic.remote.errors import ActorDiedError, TaskCancelledError, TaskError

# The worker process cannot import this file.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def worker() -> Iterator[Boss]:
    """A party with a leased worker."""
    with boss() as made:
        made.start()
        yield made


def square(x: int) -> int:
    return x * x


# ---- results ----


def test_results_of_all_shapes(worker: Boss) -> None:
    """One value, several, none, large ones; arrays come without a copy and cannot be changed."""
    import numpy

    assert 9 == worker.get(worker.call(square, 3))
    assert [1, 2] == worker.get(worker.call(lambda: (1, 2), n_returns=2))
    assert worker.get(worker.call(square, 3, n_returns=0)) is None
    assert 5_000_000 == len(worker.get(worker.call(lambda n: b"x" * n, 5_000_000)))
    array = worker.get(worker.call(lambda a: a + 1, numpy.arange(100_000)))
    assert 100_000 == array[-1]
    with pytest.raises(ValueError, match="shall return 3 values, but returned 2"):
        worker.get(worker.call(lambda: (1, 2), n_returns=3))


def test_many_calls_are_each_answered(worker: Boss) -> None:
    """Thousands at once."""
    numbers = [worker.call(square, n) for n in range(2000)]
    assert [n * n for n in range(2000)] == [worker.get(number) for number in numbers]


def test_a_coroutine_function(worker: Boss) -> None:
    """A function may be asynchronous as well."""

    async def later() -> str:
        await asyncio.sleep(0.01)
        return "later"

    assert "later" == worker.get(worker.call(later))


def test_a_result_that_cannot_be_pickled(worker: Boss) -> None:
    """The call fails, and says what it returned."""
    with pytest.raises(TypeError, match=r"the result of .* cannot be pickled.*lock"):
        worker.get(worker.call(threading.Lock))
    assert 4 == worker.get(worker.call(square, 2))


# ---- exceptions ----


def test_exceptions_come_back_as_what_they_are(worker: Boss) -> None:
    """With their class, attributes and remote traceback, even if their class does not unpickle."""

    class OddError(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} and {b}")
            self.a = a

    def fail() -> None:
        raise OddError(1, 2)

    with pytest.raises(TaskError, match="1 and 2") as caught:
        worker.get(worker.call(fail))
    # Its class was pickled by value, so another process has another: its name must do.
    assert "OddError" == type(caught.value.cause).__name__
    assert 1 == caught.value.a  # type: ignore[attr-defined]
    assert "in fail" in str(caught.value)
    assert "worker task-1 on here" in str(caught.value)
    with pytest.raises(KeyError):
        worker.get(worker.call(lambda: {}["missing"]))


def test_exceptions_that_cannot_be_sent(worker: Boss) -> None:
    """What cannot travel is left out; the text still tells."""

    def locked() -> None:
        error = ValueError("holds a lock")
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        raise error

    def huge() -> None:
        raise ValueError("x" * 50_000_000)

    def mute() -> None:
        class MuteError(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no text")

        raise MuteError

    with pytest.raises(ValueError, match="holds a lock"):
        worker.get(worker.call(locked))
    with pytest.raises(ValueError, match="characters left out") as caught:
        worker.get(worker.call(huge))
    assert len(str(caught.value)) < 200_000
    with pytest.raises(TaskError, match="MuteError"):
        worker.get(worker.call(mute))


def test_arguments_that_do_not_load(worker: Boss) -> None:
    """A class that refuses to be loaded fails the call alone."""

    class Trap:
        def __reduce__(self) -> Any:
            return int, ("no number",)

    with pytest.raises(ValueError, match="invalid literal"):
        worker.get(worker.call(lambda trap: trap, Trap()))
    assert 4 == worker.get(worker.call(square, 2))


def test_code_that_was_never_sent(worker: Boss) -> None:
    """It fails that call, with the reason."""
    worker.get(worker.call(square, 2))
    with pytest.raises(LookupError, match="was not sent"):
        worker.get(worker.call("0" * 64))


# ---- code that leaves ----


def test_a_function_that_exits_fails_alone(worker: Boss) -> None:
    """sys.exit is an exception like others; the reader is not ended by it."""
    with pytest.raises(TaskError, match="SystemExit") as caught:
        worker.get(worker.call(sys.exit, 3))
    assert isinstance(caught.value.cause, SystemExit)
    assert 4 == worker.get(worker.call(square, 2))


def test_a_process_that_is_gone_is_noticed_at_once(worker: Boss) -> None:
    """os._exit and kill -9 break the connection; the status and last lines are the task's."""

    def leave() -> None:
        print("the last line")
        os._exit(7)

    worker.call(leave)
    assert 7 == worker.exit_status()
    wait_for(lambda: len(worker.lost) == 1, "the loss", worker.story)
    assert b"the last line" in worker.written()


def test_a_killed_worker(worker: Boss) -> None:
    """Its connection breaks while a call runs."""
    worker.call(time.sleep, 60)
    wait_for(lambda: worker.channel is not None, "the connection", worker.story)
    os.kill(worker.process.pid, signal.SIGKILL)
    wait_for(lambda: len(worker.lost) == 1, "the loss", worker.story)


def test_a_worker_dies_with_its_parent(tmp_path: Path) -> None:
    """With the runner that is: or it would work on, while it is started again elsewhere."""
    pids = tmp_path / "pids"
    code = (
        "from leoronic.remote.parent import die_with_parent as f; import time; f(); time.sleep(60)"
    )
    script = f"{sys.executable} -c '{code}' & echo $! > {pids}; sleep 1; kill -9 $$"
    assert -signal.SIGKILL == subprocess.run(["bash", "-c", script], check=False).returncode
    child = int(pids.read_text())
    wait_for(lambda: not running(child), "its end", lambda: f"pid {child} runs")


def running(pid: int) -> bool:
    """Whether that process runs; one that has ended may still be in the table."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_a_child_that_comes_back_is_not_a_second_worker(worker: Boss) -> None:
    """Code that forks is answered once, by the parent."""

    def fork() -> str:
        print("before")
        child = os.fork()
        if child:
            return f"parent, status {os.waitpid(child, 0)[1]}"
        print("in the child")
        return "child"

    assert "parent, status 0" == worker.get(worker.call(fork))
    assert 4 == worker.get(worker.call(square, 2))
    assert b"in the child\n" in worker.written()

    def fork_and_raise() -> str:
        child = os.fork()
        if child:
            return f"parent, status {os.waitpid(child, 0)[1]}"
        raise ValueError("in the child")

    assert "parent, status 0" == worker.get(worker.call(fork_and_raise))


def test_prints_arrive(worker: Boss) -> None:
    """Lines of both streams, whatever bytes; the process' own output has them as they are."""

    def speak() -> None:
        print("out")
        print("err", file=sys.stderr)
        sys.stdout.buffer.write(b"\xff\x00binary\n")
        sys.stdout.flush()
        print("no end", end="")

    worker.get(worker.call(speak, label="speak"))
    worker.get(worker.call(lambda: print(" of line")))
    wait_for(lambda: len(worker.printed) >= 4, "the lines", worker.story)
    texts = [(stream, text) for stream, text, _ in worker.printed]
    assert [("stdout", "out\n"), ("stderr", "err\n")] == texts[:2]
    assert ("stdout", "\\xff\x00binary\n") in texts
    assert ("stdout", "no end of line\n") in texts
    assert worker.printed[0][2].startswith("speak pid=")
    assert b"\xff\x00binary\n" in worker.written()


def test_a_flood_of_prints_is_bounded(worker: Boss) -> None:
    """What is too much for the driver is left out there, and said so."""

    def flood() -> None:
        # Many short writes while the loop's thread is kept from running.
        sys.setswitchinterval(60)
        for _ in range(20_000):
            print("x" * 99)
        sys.setswitchinterval(0.005)

    worker.get(worker.call(flood))
    time.sleep(0.1)
    told = sum(len(text) for _, text, _ in worker.printed)
    left_out = [text for _, text, _ in worker.printed if "left out" in text]
    assert told == 2_000_000 or left_out
    assert 2_000_000 == len(worker.written())


def test_stdin_is_empty(worker: Boss) -> None:
    """Code that reads gets the end at once instead of what the worker was told."""
    assert worker.get(worker.call(lambda: os.read(0, 10))) == b""


# ---- cancelling ----


def begun(path: Path) -> None:
    """Tell the test, from the worker, that a call has begun."""
    path.touch()


@pytest.mark.parametrize("how", ["sleeps", "computes"])
def test_cancel_interrupts(worker: Boss, how: str) -> None:
    """A function that sleeps or computes is interrupted; what follows is not touched."""
    mark = worker.root / "begun"

    def work(path: Path, how: str) -> None:
        path.touch()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if how == "sleeps":
                time.sleep(60)

    number = worker.call(work, mark, how)
    after = worker.call(square, 5)
    wait_for(mark.exists, "its begin", worker.story)
    worker.cancel(number)
    with pytest.raises(TaskCancelledError):
        worker.get(number)
    assert 25 == worker.get(after)


def test_cancel_of_one_that_waits(worker: Boss) -> None:
    """It is over at once, and never begins."""
    first = worker.call(time.sleep, 0.5)
    mark = worker.root / "never"
    second = worker.call(begun, mark)
    wait_for(lambda: worker.machine.unanswered == 2, "the sending", worker.story)
    worker.cancel(second)
    with pytest.raises(TaskCancelledError):
        worker.get(second)
    assert first not in worker.results
    worker.get(first)
    assert not mark.exists()


def test_cancel_by_force(worker: Boss) -> None:
    """Code that does not let itself be interrupted ends with its process; others are given back."""
    mark = worker.root / "begun"

    def stubborn(path: Path) -> None:
        path.touch()
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                time.sleep(60)

    number = worker.call(stubborn, mark)
    after = worker.call(square, 5)
    wait_for(mark.exists, "its begin", worker.story)
    worker.cancel(number)
    worker.cancel(number, force=True)
    with pytest.raises(TaskCancelledError):
        worker.get(number)
    assert 1 == worker.exit_status()
    assert [after] == worker.returned


# ---- ending ----


def test_a_lease_is_given_back(worker: Boss) -> None:
    """Asked to end, it finishes what runs, gives back what waits, and exits with 0."""
    mark = worker.root / "begun"

    def work(path: Path) -> str:
        path.touch()
        time.sleep(0.3)
        return "done"

    first = worker.call(work, mark)
    second = worker.call(square, 2)
    wait_for(mark.exists, "its begin", worker.story)
    worker.say(said.ASK, (1, ("end", "idle")))
    assert "done" == worker.get(first)
    assert 0 == worker.exit_status()
    assert [second] == worker.returned
    assert (True, None) == worker.answers[1]


def test_a_worker_whose_lessor_is_gone_ends(worker: Boss) -> None:
    """Nobody wants its results any more."""
    assert 4 == worker.get(worker.call(square, 2))
    worker.call(time.sleep, 60)
    worker.party.stop("the driver ends")
    assert 0 == worker.exit_status()


def test_a_worker_that_waits_gives_back_what_it_has(worker: Boss) -> None:
    """While a function waits for others, nothing else waits behind it."""
    mark = worker.root / "begun"

    def wait(path: Path) -> str:
        from leoronic.remote.context import current

        path.touch()
        time.sleep(0.2)
        blocked = current().on_blocked
        assert blocked is not None
        blocked(True)
        time.sleep(0.2)
        blocked(False)
        return "waited"

    first = worker.call(wait, mark)
    wait_for(mark.exists, "its begin", worker.story)
    second = worker.call(square, 2)
    assert "waited" == worker.get(first)
    assert [second] == worker.returned
    assert [True, False] == worker.blocked
    assert 9 == worker.get(worker.call(square, 3))


def test_a_broken_connection_repeats_nothing(worker: Boss) -> None:
    """The worker connects again, and what it had been doing is answered once."""
    log = worker.root / "log"

    def note(path: Path) -> str:
        with path.open("a") as file:
            file.write("x")
        time.sleep(0.3)
        return "noted"

    assert 4 == worker.get(worker.call(square, 2))
    number = worker.call(note, log)
    wait_for(log.exists, "its begin", worker.story)
    worker.party.post(worker.channel.abort, "cut")
    assert "noted" == worker.get(number)
    assert "x" == log.read_text()
    assert "cut" in worker.lost[0]


# ---- generators ----


def count_up(n: int, path: Path | None = None) -> Iterator[int]:
    for index in range(n):
        if path is not None:
            path.write_text(str(index))
        yield index


def test_a_generator_sends_items_as_they_come(worker: Boss) -> None:
    """Its items are there before it has ended; then it tells how many there were."""
    number = worker.call(count_up, 100, n_returns=-1)
    wait_for(lambda: number in worker.results, "its end", worker.story)
    assert (True, (100,)) == worker.results[number]
    assert list(range(100)) == worker.items[number]


def test_a_generator_waits_for_its_taker(worker: Boss) -> None:
    """With backpressure, so many items at most are made and not taken; cancel ends it."""
    path = worker.root / "made"
    number = worker.call(count_up, 100, path, n_returns=-1, backpressure=5)
    wait_for(lambda: len(worker.items.get(number, [])) == 5, "five items", worker.story)
    time.sleep(0.1)
    assert "4" == path.read_text()
    worker.say(said.TAKEN, [(number, 3)])
    wait_for(lambda: len(worker.items[number]) == 8, "three more", worker.story)
    worker.cancel(number)
    with pytest.raises(TaskCancelledError):
        worker.get(number)


def test_items_outlive_a_broken_connection(worker: Boss) -> None:
    """What was on its way is sent again, before what follows."""
    path = worker.root / "made"
    number = worker.call(count_up, 20, path, n_returns=-1, backpressure=10)
    wait_for(lambda: len(worker.items.get(number, [])) == 10, "ten items", worker.story)
    worker.say(said.TAKEN, [(number, 4)])
    wait_for(lambda: len(worker.items[number]) == 14, "four more", worker.story)
    # As if the last of them had been lost with the connection.
    del worker.items[number][6:]
    worker.party.post(worker.channel.abort, "cut")
    wait_for(lambda: len(worker.items[number]) == 14, "them again", worker.story)
    worker.say(said.TAKEN, [(number, 14)])
    wait_for(lambda: number in worker.results, "its end", worker.story)
    assert list(range(20)) == worker.items[number]


def test_what_is_no_generator(worker: Boss) -> None:
    """The call says so."""
    with pytest.raises(TypeError, match="shall be a generator, but returned int"):
        worker.get(worker.call(square, 3, n_returns=-1))


# ---- questions ----


def test_it_can_be_asked_about_itself(worker: Boss) -> None:
    """Its process and what it has done."""
    worker.get(worker.call(square, 2))
    worker.say(said.ASK, (5, ("about",)))
    wait_for(lambda: 5 in worker.answers, "the answer", worker.story)
    ok, about = worker.answers[5]
    assert (True, worker.process.pid, 1) == (ok, about["pid"], about["executed"])
    worker.say(said.ASK, (6, ("dance",)))
    wait_for(lambda: 6 in worker.answers, "the answer", worker.story)
    assert worker.answers[6][0] is False


def test_calls_for_another_task_are_refused(worker: Boss) -> None:
    """Somebody who reaches the wrong process is told."""
    worker.get(worker.call(square, 2))
    item = (99, 2, "task-2", "x", serial.dump_call((), {}), 1, None)
    worker.party.post(worker.machine.handle, Submitted([Call(99, None)]), 0.0)
    worker.say(said.CALLS, [item])
    with pytest.raises(ActorDiedError, match="task-2 is not here"):
        worker.get(99)
