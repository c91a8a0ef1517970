"""Commands about the cluster: join, cookie, splits, and nodes where there are many."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fake_node import NODE, STATUS, Error, FakeNode, Item, task
from ran import Ran
from rich.console import Console

from leoronic.client import cluster_text, top
from leoronic.client.cli import main
from leoronic.client.commands import execute
from leoronic.client.snapshot import Snapshot
from leoronic.core.commands import Cookie, Drain, Exec, Join, Splits, TagAdd

Run = Callable[..., Ran]
Start = Callable[..., FakeNode]

BARN = NODE | {
    "id": "n2", "name": "barn", "address": "10.0.0.2:22580", "seen_s": 0.4, "running": 0,
    "tags": ["old"], "owner_of": ["shed"],
}  # fmt: skip
SHED = NODE | {
    "id": "n3", "name": "shed", "address": "10.0.0.3:22580", "state": "down", "seen_s": 190.0,
    "reason": "not heard of for 5 s, by attic and barn", "tags": [], "free": {},
}  # fmt: skip
NODES = [NODE, BARN, SHED]
SPLIT: dict[str, Any] = {
    "id": "3f2a",
    "name": "nightly",
    "runs": [
        {"attempt": 1, "node": "shed", "state": "succeeded", "exit_code": 0, "won": False,
         "started_at": "2026-11-20T12:00:00Z", "finished_at": "2026-11-20T12:00:12Z"},
        {"attempt": 2, "node": "barn", "state": "failed", "exit_code": 3, "won": True,
         "started_at": "2026-11-20T12:00:06Z", "finished_at": None},
    ],
    "suspicions": [{"node": "shed", "by": "barn", "at": "2026-11-20T12:00:05Z",
                    "reason": "silent for 5 s"}],
    "seconds_lost": 12.0,
    "outputs_differ": True,
}  # fmt: skip
LINE = "LEORONIC_COOKIE=k leoronic start --peer 10.0.0.1"
COOKIE = {"cookie": "secret", "fingerprint": "f2", "old": "f1", "nodes": {"attic": True}}


def lines(text: str) -> list[str]:
    return text.strip("\n").split("\n")


def test_join_prints_one_line(run: Run, start: Start) -> None:
    """The line alone on stdout, what it is for on stderr; --json has its parts."""
    answer = {"addresses": ["10.0.0.1:22580"], "cookie": "k", "line": LINE}
    node = start(join=answer)
    ran = run("join")
    assert (0, LINE + "\n") == (ran.code, ran.out)
    assert 1 == ran.err.count("\n")
    assert "paste that" in ran.err
    assert "secret" in ran.err
    assert answer == json.loads(run("join", "--json").out)
    assert [Join(), Join()] == node.commands()


@pytest.mark.parametrize("at", [["127.0.0.1:1", "[::1]:1"], ["localhost:1"], []])
def test_join_where_nobody_could(run: Run, start: Start, at: list[str]) -> None:
    """A node that only its own machine can reach says how to change that."""
    start(join={"addresses": at, "cookie": "k", "line": LINE})
    assert "--listen ADDR" in run("join").err


def test_splits(run: Run, start: Start) -> None:
    """Each run with its node, which of them counts, who was suspected, and what it cost."""
    node = start(splits={"splits": [SPLIT, SPLIT | {"outputs_differ": None, "seconds_lost": 0.0}]})
    ran = run("splits", "--limit", "5")
    shown = lines(ran.out)
    assert "3f2a nightly: ran 2 times, 12 s lost, the outputs differ" == shown[0]
    assert ["1", "shed", "succeeded"] == shown[2].split()[:3]
    assert "counts" == shown[3].split()[-1]
    assert "exit code 3" in shown[3]
    assert ["not", "counted"] == shown[2].split()[-2:]
    assert "  the higher attempt counts" == shown[4]
    assert shown[5].endswith("barn took shed for down: silent for 5 s")
    assert "3f2a nightly: ran 2 times" == shown[7]
    assert [Splits(5)] == node.commands()
    assert 2 == len(json.loads(run("splits", "--json").out)["splits"])


@pytest.mark.parametrize(
    ("other", "won", "why"),
    [
        ((1, "failed"), (1, "succeeded"), "of the same attempt, the run that succeeded counts"),
        ((1, "failed"), (1, "failed"), "of the same attempt with the same end, the run on the node"
         " with the higher id counts"),
        ((2, "superseded"), (1, "failed"), "the run that ended counts, the others were stopped"),
    ],
)  # fmt: skip
def test_why_a_run_counts(other: tuple[int, str], won: tuple[int, str], why: str) -> None:
    """The rule that chose it is told in words; nothing while nothing is chosen."""
    runs: list[dict[str, Any]] = [
        {"attempt": attempt, "node": "n", "state": state} for attempt, state in (other, won)
    ]
    runs[0]["won"], runs[1]["won"] = False, True
    found = cluster_text.splits([SPLIT | {"runs": runs}], width=None, colour=False)
    assert f"  {why}" == found[4]
    runs[1]["won"] = False
    found = cluster_text.splits([SPLIT | {"runs": runs}], width=None, colour=False)
    assert "count" not in "\n".join(found)


def test_no_splits(run: Run, start: Start) -> None:
    """Nothing on stdout, and the good news on stderr."""
    start(splits={"splits": []})
    ran = run("splits")
    assert (0, "", "leoronic: nothing ran twice\n") == (ran.code, ran.out, ran.err)


@pytest.mark.parametrize("action", ["show", "rotate", "finish"])
def test_the_cookie_is_not_shown(run: Run, start: Start, action: str) -> None:
    """Its fingerprint, and who has it; the secret itself only for those who ask for it."""
    node = start(cookie=COOKIE)
    ran = run("cookie", action)
    expected = ["cookie  f2 (its fingerprint)", "also accepted: f1", "have it: attic"]
    assert (0, expected) == (ran.code, lines(ran.out))
    found = run("cookie", action, "--json")
    assert "secret" not in ran.out + ran.err + found.out + found.err
    assert "f2" == json.loads(found.out)["fingerprint"]
    assert [Cookie(action), Cookie(action)] == node.commands()


def test_the_secret_itself(run: Run, start: Start) -> None:
    """For `--cookie -` of another node: that and nothing else."""
    start(cookie=COOKIE)
    assert "secret\n" == run("cookie", "show", "--secret").out
    assert COOKIE == json.loads(run("cookie", "show", "--secret", "--json").out)


def test_nodes_that_cannot_be_asked_for_the_cookie(run: Run, start: Start) -> None:
    """They are not said to lack it; who had it is told."""
    nodes = {"attic": True, "shed": True, "barn": False}
    start(cookie=COOKIE | {"nodes": nodes, "not_there": ["shed", "barn"]})
    shown = lines(run("cookie", "show").out)
    assert ["have it: attic", "not there to ask: shed (had it), barn"] == shown[2:]


def test_nodes_that_lack_the_new_cookie(run: Run, start: Start) -> None:
    """They are named, with what to do about it; a change that all have can be finished."""
    start(cookie=COOKIE | {"nodes": {"attic": True, "shed": False}})
    ran = run("cookie", "rotate")
    assert "lack it: shed" in lines(ran.out)
    assert ran.err.startswith("leoronic: shed will be given it when they are back; only then")
    assert "" == run("cookie", "finish").err
    start(cookie=COOKIE)
    assert "`leoronic cookie finish`" in run("cookie", "rotate").err


def test_a_table_of_many_nodes() -> None:
    """Those that are gone have no free room; why, since when, and who stands in is told."""
    found = cluster_text.nodes(NODES, width=None, colour=False)
    parts = [[part.strip() for part in line.split("  ") if part.strip()] for line in found]
    titles = ["FREE CPUS", "FREE MEMORY", "FREE STORAGE", "RUNNING", "TAGS", "ADDRESS"]
    assert ["NODE", "STATE", *titles, "SEEN", "NOTE"] == parts[0]
    usual = ["0.5 of 2", "3 of 4 GiB", "10 of 20 GiB"]
    assert ["attic", "up", *usual, "3", "fast, gpu", "127.0.0.1:22580"] == parts[1]
    assert ["barn", "up", *usual, "0", "old", "10.0.0.2:22580", "stands in for shed"] == parts[2]
    why = "not heard of for 5 s, by attic and barn"
    assert ["shed", "down", "10.0.0.3:22580", "3 min 10 s ago", why] == parts[3]
    assert "\x1b[31mdown\x1b[0m" in "\n".join(cluster_text.nodes(NODES, width=None, colour=True))
    assert 100 >= max(map(len, cluster_text.nodes(NODES, width=100, colour=False)))


@pytest.mark.parametrize(
    ("width", "gone", "kept"),
    [(120, ["STORAGE"], ["MEMORY", "TAGS"]), (100, ["STORAGE", "MEMORY"], ["TAGS", "CPUS"]),
     (80, ["STORAGE", "MEMORY", "TAGS"], []),
     (60, ["STORAGE", "MEMORY", "TAGS", "CPUS"], [])],
)  # fmt: skip
def test_nodes_on_a_narrow_terminal(width: int, gone: list[str], kept: list[str]) -> None:
    """What matters least is left out; what is left is whole, but for long notes."""
    found = cluster_text.nodes(NODES, width=width, colour=False)
    assert width >= max(map(len, found))
    assert not [word for word in gone if word in found[0]]
    assert all(word in found[0] for word in ["NODE", "STATE", "ADDRESS", "SEEN", "NOTE", *kept])
    for word in ("shed", "down", "10.0.0.3:22580", "3 min 10 s ago"):
        assert word in found[3]


def test_addresses_where_nobody_was_met(run: Run, start: Start) -> None:
    """Under the table, each with its reason, and in --json."""
    places = [
        {"address": "10.77.0.99:22580", "reason": "no answer within 5 s"},
        {"address": "10.77.0.98:22580", "reason": "it belongs to another cluster"},
    ]
    start(nodes={"nodes": NODES, "unreached": places})
    assert [
        "10.77.0.99:22580: does not answer: no answer within 5 s",
        "10.77.0.98:22580: it belongs to another cluster",
    ] == lines(run("nodes").out)[-2:]
    assert places == json.loads(run("nodes", "--json").out)["unreached"]


def test_versions_are_shown_where_they_differ() -> None:
    """While a cluster is being upgraded it matters who is at which."""
    newer = BARN | {"version": "0.2.0"}
    assert "VERSION" not in cluster_text.nodes(NODES, width=None, colour=False)[0]
    found = cluster_text.nodes([NODE, newer], width=None, colour=False)
    assert "0.2.0" in found[2]
    assert "0.1.0" in found[1]


def test_a_node_that_does_not_answer_at_once() -> None:
    """What it has is shown, and nothing is made up about what is free or running there."""
    slow = BARN | {"free": None, "running": None, "tags": [], "owner_of": []}
    row = cluster_text.nodes([NODE, slow], width=None, colour=False)[2]
    assert ["barn", "up", "2", "4", "GiB", "20", "GiB", "10.0.0.2:22580"] == row.split()
    shown = drawn([NODE, slow])
    assert shown[1].endswith("1.5 of 4 in use")
    assert ["barn", "up", "2", "cpus", "4", "GiB"] == shown[5].split()


def test_nodes_that_are_catching_up() -> None:
    """A node that does not own tasks yet says so; one that is gone need not."""
    assert "is catching up" == cluster_text.node_note(NODE | {"ready": False})
    assert "" == cluster_text.node_note(NODE | {"ready": True, "owner_of": []})
    assert "is catching up" not in cluster_text.node_note(SHED | {"ready": False})


def test_nodes_in_status(run: Run, start: Start) -> None:
    """Nodes are counted by state, in the order of how well they are."""
    start(status=STATUS | {"nodes": {"down": 1, "odd": 1, "up": 4, "left": 0}})
    assert "nodes       4 up, 1 down, 1 odd" in run("status").out
    assert "none" == cluster_text.node_counts({}, colour=False)


def drawn(nodes: list[dict[str, Any]], width: int = 100, height: int = 24) -> list[str]:
    snapshot = Snapshot()
    snapshot.status, snapshot.nodes = STATUS, nodes
    snapshot.running = [task(id="r1", state="running", finished_at=None, node="barn")]
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, color_system=None, highlight=False)
    console.print(top.View().draw(snapshot, 1_795_176_010.0, width, height))
    return [line.rstrip() for line in out.getvalue().rstrip("\n").split("\n")]


def test_top_shows_all_nodes() -> None:
    """Gauges of all that are there together, a line for each node, and where each task runs."""
    shown = drawn(NODES)
    assert shown[1].endswith("3 of 4 in use")
    assert shown[2].endswith("2 GiB of 8 GiB in use")
    assert ["shed", "down"] == shown[4].split()[:2]
    assert shown[4].endswith("not heard of for 5 s, by attic and barn")
    assert ["attic", "up", "1.5", "of", "2", "cpus"] == shown[5].split()[:6]
    assert ["barn", "up"] == shown[6].split()[:2]
    assert any("r1" in line and "on barn" in line for line in shown)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (200, 60)])
def test_top_fits_with_a_hundred_nodes(width: int, height: int) -> None:
    """Some are shown, those in trouble first, and the others are counted."""
    many = [NODE | {"id": f"n{i}", "name": f"node-with-a-name-{i}"} for i in range(100)]
    shown = drawn([*many, SHED], width, height)
    assert height >= len(shown)
    assert width >= max(map(len, shown))
    assert any(line.startswith("shed") for line in shown)
    rest = 101 - (min(height // 3, height - 8) - 1)
    assert any(line.startswith(f"and {rest} more nodes: {rest} up") for line in shown)


def output(command: Any, blob: bytes) -> Any:
    if command.stream == "stdout":
        yield Item({"offset": 0}, f"from {command.id}\n".encode())
    yield {"at_end": True}


def test_exec_on_all_nodes(run: Run, start: Start) -> None:
    """Each line has its node's name in front; a node that is down is named, and exit code 3."""
    node = start(
        exec={"ids": {"attic": "a", "barn": "b"}, "skipped": {"shed": "down for 3 min"}},
        logs=output,
        wait={"tasks": [task()], "timed_out": False},
    )
    ran = run("exec", "--all", "--", "uptime")
    assert (3, ["attic: from a", "barn: from b"]) == (ran.code, sorted(lines(ran.out)))
    assert "leoronic: not on shed: down for 3 min\n" == ran.err
    assert Exec("uptime", all=True) == node.commands()[0]
    ran = run("exec", "--all", "--json", "--", "uptime")
    assert {"skipped": "down for 3 min"} == json.loads(ran.out)["shed"]
    assert "from b\n" == json.loads(ran.out)["barn"]["stdout"]


def test_lines_of_several_nodes_stay_whole(run: Run, start: Start) -> None:
    """What one node prints in parts is printed by the line, what lacks an end gets one."""

    def parts(command: Any, blob: bytes) -> Any:
        if command.stream == "stdout":
            yield Item({"offset": 0}, b"one\nt")
            yield Item({"offset": 5}, b"wo")
        yield {"at_end": True}

    start(
        exec={"ids": {"attic": "a", "barn": "b"}}, logs=parts,
        wait={"tasks": [task()], "timed_out": False},
    )  # fmt: skip
    ran = run("exec", "--all", "--", "x")
    assert ["attic: one", "attic: two", "barn: one", "barn: two"] == sorted(lines(ran.out))
    assert ran.out.endswith("two\n")


def test_a_line_without_end() -> None:
    """It is handed on once it is longer than anybody would hold."""
    found: list[bytes] = []
    sink = execute._Prefixed(b"a: ", found.append)
    sink(b"x" * (execute.LINE_BYTES_MAX + 1))
    sink.end()
    assert [b"a: " + b"x" * (execute.LINE_BYTES_MAX + 1) + b"\n"] == found


def test_a_node_that_hangs_delays_no_other(
    run: Run, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the others print is there while one of them is still silent."""
    printed: list[bytes] = []
    barn_has_printed = threading.Event()

    def to_stdout(data: bytes) -> None:
        printed.append(data)
        if data.startswith(b"barn"):
            barn_has_printed.set()

    def logs(command: Any, blob: bytes) -> Any:
        if command.id == "a":
            assert barn_has_printed.wait(20)
        yield from output(command, blob)

    monkeypatch.setattr(execute, "to_stdout", to_stdout)
    start(
        exec={"ids": {"attic": "a", "barn": "b"}}, logs=logs,
        wait={"tasks": [task()], "timed_out": False},
    )  # fmt: skip
    assert 0 == run("exec", "--all", "--", "x").code
    assert [b"barn: from b\n", b"attic: from a\n"] == printed


def test_exec_tells_what_went_wrong_on_one_of_them(run: Run, start: Start) -> None:
    """An answer that is an error is the error of the command, whichever node it was about."""

    def logs(command: Any, blob: bytes) -> Any:
        yield from [Error("not_found", "no such task")] if command.id == "b" else [{"at_end": True}]

    start(
        exec={"ids": {"attic": "a", "barn": "b"}}, logs=logs,
        wait={"tasks": [task()], "timed_out": False},
    )  # fmt: skip
    ran = run("exec", "--all", "--", "x")
    assert (1, "leoronic: no such task\n") == (ran.code, ran.err)


def test_exec_fails_as_the_command_does(run: Run, start: Start) -> None:
    """The code of the first that failed, before that of a node that is down."""
    start(
        exec={"ids": {"attic": "a"}, "skipped": {"shed": "down"}},
        logs=output,
        wait={"tasks": [task(state="failed", exit_code=7)], "timed_out": False},
    )
    ran = run("exec", "--tag", "old", "--", "uptime")
    assert (7, "leoronic: not on shed: down\nleoronic: failed on attic (exit code 7)\n") == (
        ran.code,
        ran.err,
    )


def test_other_nodes_are_named(run: Run, start: Start) -> None:
    """Tags and draining of another node are asked of the node that answers."""
    node = start(tagadd={"node": "barn", "tags": ["gpu"]}, drain=BARN | {"state": "draining"})
    assert 0 == run("tag", "add", "gpu", "--node", "barn").code
    assert "draining" in run("drain", "barn").out
    assert [TagAdd("gpu", "barn"), Drain("barn")] == node.commands()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("drain ", ["attic", "barn", "shed"]),
        ("drain b", ["barn"]),
        ("exec --node s", ["shed"]),
        ("exec --tag ", ["fast", "gpu", "old"]),
        ("tag add --node a", ["attic"]),
        ("tag del g", ["gpu"]),
    ],
)
def test_nodes_and_tags_complete(
    start: Start,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    expected: list[str],
) -> None:
    """Names of nodes and tags that begin as typed, but none that a shell would split."""
    node = start(nodes={"nodes": [*NODES, NODE | {"name": "two words"}]})
    monkeypatch.setenv("_LEORONIC_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"leoronic {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" "))))
    # click ends the process itself after completing.
    with pytest.raises(SystemExit):
        main([])
    assert [f"plain,{word}" for word in expected] == capfd.readouterr().out.split()
    node.stop()
    with pytest.raises(SystemExit):
        main([])
    assert "" == capfd.readouterr().out.strip()
