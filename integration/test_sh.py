"""`leoronic.sh`: bash tasks as calls; every wait has a limit."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Node, kill, wait_until

import leoronic
from leoronic import sh
from leoronic.core import commands
from leoronic.errors import BadRequest

WITHIN_S = 30.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("sh") / "a", "--cpus", "2")
    made.start()
    leoronic.init(str(made.root))
    try:
        yield made
    finally:
        leoronic.shutdown()
        made.close()


pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("node")]


def get(refs: Any) -> Any:
    return leoronic.get(refs, timeout=WITHIN_S)


def test_it_returns_what_is_printed(node: Node) -> None:
    """As text, or as bytes; it is a task like any other."""
    ref = sh("echo hello; echo aside >&2", labels={"mine": "yes"})
    assert "hello\n" == get(ref)
    assert "succeeded" == node.show(ref.task)["state"]
    assert {"yes", "sh"} <= set(node.show(ref.task)["labels"].values())
    assert b"\xff\0" == get(sh(r"printf '\xff\0'", text=False))
    assert "" == get(sh("true"))


def test_many_at_once() -> None:
    """Each gets its own."""
    refs = [sh(f"echo {n}", cpus=0.1) for n in range(100)]
    assert list(range(100)) == [int(text) for text in get(refs)]


def test_options() -> None:
    """Those of a task; `sh.options` keeps some for many."""
    small = sh.options(cpus=0.1, env={"WHO": "me"})
    assert "me\n" == get(small("echo $WHO"))
    assert "you\n" == get(small("echo $WHO", env={"WHO": "you"}))
    assert "in" == get(sh("cat", stdin="in"))
    assert "1\n2\n" == get(sh(["echo 1", "echo 2"]))
    with pytest.raises(TypeError, match="did you mean cpus"):
        sh("true", cpu=2)
    with pytest.raises(TypeError, match="did you mean memory"):
        sh.options(memry=2)


def test_a_failure_tells_all(node: Node) -> None:
    """Exit code and last lines; what was printed before is there too."""
    with pytest.raises(leoronic.ShError) as caught:
        get(sh("echo out; seq 30 >&2; exit 3"))
    error = caught.value
    assert (3, "failed", "out\n") == (error.exit_code, error.state, error.stdout)
    assert error.stderr.endswith("29\n30\n")
    assert error.task == node.show(error.task)["id"]
    assert "exit code 3" in str(error)
    assert "\n  30" in str(error)
    assert "\n  20\n" not in str(error)


@pytest.mark.parametrize(
    ("command", "options", "code", "text"),
    [
        ("kill -9 $$", {"fresh_shell": True}, 137, "SIGKILL"),
        ("sleep 60", {"time_limit": 0.3}, 124, "time limit"),
        ("true", {"cpus": 64}, 1, "can never start"),
        (["false", "echo never"], {}, 1, "exit code 1"),
    ],
)
def test_ways_to_fail(command: Any, options: dict[str, Any], code: int, text: str) -> None:
    """A signal, a time limit, needs that nobody can meet, a line that fails."""
    with pytest.raises(leoronic.ShError, match=text) as caught:
        get(sh(command, **options))
    assert code == caught.value.exit_code


def test_what_is_refused() -> None:
    """The node's own words are raised where the value is asked for."""
    with pytest.raises(BadRequest, match="no file /not/there"):
        get(sh("true", files=["/not/there"]))
    with pytest.raises(BadRequest, match="output_bytes_max"):
        get(sh("seq 1000", output_bytes_max=100))
    with pytest.raises(BadRequest, match="JSON"):
        sh("true", env={"A": object()})


def test_retries(node: Node, tmp_path: Path) -> None:
    """Its output is that of the attempt that succeeded."""
    text = get(sh("echo $LEORONIC_ATTEMPT; [ $LEORONIC_ATTEMPT = 3 ]", retries=5, retry_delay=0.01))
    assert "3\n" == text


def test_files_go_with_it(tmp_path: Path) -> None:
    """From here, and from one to the next; and what one leaves is an input of another."""
    (tmp_path / "words.txt").write_text("b\na\n")
    ordered = sh(
        "sort words.txt > sorted.txt", files=["words.txt"], cwd=str(tmp_path),
        outputs=["sorted.txt"], workdir="private",
    )  # fmt: skip
    found = sh(f"cat {ordered.left('sorted.txt')}", files=[ordered.left("sorted.txt")])
    assert "a\nb\n" == get(found)
    assert "b\na\n" == get(sh(f"cat {tmp_path}/words.txt", files=tmp_path / "words.txt"))


def test_one_after_the_other(node: Node, tmp_path: Path) -> None:
    """`after` takes what `sh` returned."""
    path = tmp_path / "log"
    first = sh(f"sleep 0.3; echo first >> {path}")
    second = sh(f"echo second >> {path}; cat {path}", after=[first])
    assert "first\nsecond\n" == get(second)
    failed = sh("false")
    never = sh("true", after=failed)
    with pytest.raises(leoronic.ShError, match="can never start"):
        get(never)
    # Whoever called it was told so: it must not run after all.
    assert "cancelled" == node.show(never.task)["state"]


def test_it_is_a_reference_like_any_other() -> None:
    """Argument of a function, in `wait`, awaited, as a future."""

    @leoronic.remote
    def shout(text: str) -> str:
        return text.upper()

    assert "HELLO\n" == get(shout.remote(sh("echo hello")))
    slow, quick = sh("sleep 60"), sh("echo quick")
    assert ([quick], [slow]) == leoronic.wait([slow, quick], timeout=WITHIN_S)
    assert "quick\n" == quick.future().result(WITHIN_S)

    async def main() -> str:
        found: str = await asyncio.wait_for(sh("echo later"), WITHIN_S)
        return found

    assert "later\n" == asyncio.run(main())
    leoronic.cancel(slow)
    with pytest.raises(leoronic.ShError, match="cancelled"):
        get(slow)


def test_a_failure_reaches_who_depends_on_it() -> None:
    """A call whose argument failed fails as that did."""

    @leoronic.remote
    def shout(text: str) -> str:
        return text.upper()

    with pytest.raises(leoronic.ShError) as caught:
        get(shout.remote(sh("exit 5")))
    assert 5 == caught.value.exit_code


def test_in_a_worker() -> None:
    """A function may call bash, too."""

    @leoronic.remote
    def count(text: str) -> int:
        return int(leoronic.get(leoronic.sh("wc -c", stdin=text), timeout=WITHIN_S))

    assert 5 == get(count.remote("hello"))


def test_its_core_is_killed(node: Node, tmp_path: Path) -> None:
    """The task goes on, and its output arrives all the same."""
    gate = tmp_path / "gate"
    ref = sh(f"until [ -e {gate} ]; do sleep 0.05; done; echo survived")
    node.wait_state(ref.task, "running")
    kill(node.core_pid())
    wait_until(node.answers, "another core")
    gate.touch()
    assert "survived\n" == get(ref)


def test_idle_workers_do_not_keep_it_waiting() -> None:
    """Functions' workers with nothing to do give way at once."""

    @leoronic.remote
    def square(x: int) -> int:
        return x * x

    get([square.remote(n) for n in range(100)])
    began = time.monotonic()
    get(sh("true", cpus=2))
    assert time.monotonic() - began < 1.5


def test_on_another_machine(node: Node, tmp_path: Path) -> None:
    """Its output and what it leaves come from there; an executor's calls go there, too."""
    joined = node.ask(commands.Join())
    (tmp_path / "cookie").write_text(joined["cookie"] + "\n")
    (tmp_path / "cookie").chmod(0o600)
    there = Node(
        tmp_path / "there", "--name", "there", "--cpus", "2", "--tag", "far",
        "--peer", joined["addresses"][0], "--cookie", str(tmp_path / "cookie"),
    )  # fmt: skip
    try:
        there.start()
        wait_until(lambda: "up" == node.states().get("there"), "it has joined", story=node.states)
        far = sh.options(conditions=["worker:tag far"])
        big = "seq 300000"
        assert "there\n" == get(far("echo $LEORONIC_NODE"))
        assert "".join(f"{n}\n" for n in range(1, 300001)) == get(far(big))
        with pytest.raises(leoronic.ShError, match="exit code 4"):
            get(far("exit 4"))
        left = far("echo kept > kept.txt", outputs=["kept.txt"], workdir="private")
        near = sh(f"cat {left.left('kept.txt')}", files=[left.left("kept.txt")])
        assert "kept\n" == get(near)
        with leoronic.Executor(conditions=["worker:tag far"]) as executor:
            names = set(executor.map(os.getenv, ["LEORONIC_NODE"] * 20, timeout=WITHIN_S))
        assert {"there"} == names
    finally:
        there.close()
