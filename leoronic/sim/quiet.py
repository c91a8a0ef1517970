"""What must hold of one node whenever nothing is under way there, and at the end."""

from __future__ import annotations

from leoronic.core.effects import Asked, Machine, Reply, Send
from leoronic.core.entries import Numbered, Submitted, decode
from leoronic.core.executor import ExecutorMachine
from leoronic.core.queue import QueueMachine, Start
from leoronic.core.queue_messages import (
    CommandsMatched,
    Count,
    Describe,
    LiveTask,
    LoadLive,
    Lookup,
    MatchCommands,
)
from leoronic.core.records import Record
from leoronic.core.scheduler import SchedulerMachine
from leoronic.core.scheduler_messages import Explain
from leoronic.core.tasks import Tasks
from leoronic.journal.schema import STATE_CODES, STATE_NAMES
from leoronic.sim.hosts import MachineHost
from leoronic.sim.invariants import Invariants
from leoronic.sim.journal import JournalHost, load_live
from leoronic.sim.node import SimNode
from leoronic.sim.story import Violation


def is_quiet(node: SimNode) -> bool:
    """Whether what the queue believes and what is on disk must be the same now."""
    journal, queue = node.actors.get("journal"), node.actors.get("queue")
    if node.busy or not isinstance(journal, JournalHost) or not isinstance(queue, MachineHost):
        return False
    machine = queue.machine
    assert isinstance(machine, QueueMachine)
    return journal.idle and not len(queue) and machine._loaded


def waits_for_a_time(node: SimNode) -> bool:
    """Whether the queue is to go on by itself at some time: a retry, an append that failed."""
    queue = node.actors.get("queue")
    return isinstance(queue, MachineHost) and queue.timers > 0


def check_quiet(node: SimNode) -> None:
    """All that can be checked at a quiet moment; `is_quiet` holds."""
    now = node.time.wall()
    journal, queue = node.actors["journal"], node.actors["queue"]
    assert isinstance(journal, JournalHost)
    assert isinstance(queue, MachineHost)
    assert isinstance(queue.machine, QueueMachine)
    # How much has ended is counted from the start of a queue on, and then not made less.
    ended = node.retention is None
    memory_equals_the_journal(queue.machine, fresh_queue(journal, now), now, ended=ended)


def fresh_queue(journal: JournalHost, now: float) -> QueueMachine:
    """A queue that starts now, with every answer at once."""
    machine = QueueMachine()
    messages: list[object] = [Start()]
    while messages:
        for effect in machine.handle(messages.pop(0), now):
            if not isinstance(effect, Send):
                continue
            match effect.message:
                case LoadLive(_, life):
                    messages += load_live(journal.journal, journal.reads, life)
                case Lookup(_, token, refs, keys, left):
                    messages.append(journal.reads.look_up(token, refs, keys, left))
                case MatchCommands(_, regex):
                    messages.append(CommandsMatched(regex, []))
                case _:
                    pass
    return machine


def memory_equals_the_journal(
    kept: QueueMachine, fresh: QueueMachine, now: float, *, ended: bool
) -> None:
    """A queue that has heard everything equals one that has just read it; `ended`: all of it."""
    ours, theirs = _digest(kept, now, ended), _digest(fresh, now, ended)
    for task in sorted(ours.keys() | theirs.keys(), reverse=True):
        if ours.get(task) != theirs.get(task):
            raise Violation(
                "the queue's memory equals the journal",
                f"{task}: remembered {ours.get(task)}, on disk {theirs.get(task)}",
                task,
            )


def _digest(machine: QueueMachine, now: float, ended: bool) -> dict[str, object]:
    described = _ask(machine, Describe(list(machine.tasks.live)), now)
    counts = _ask(machine, Count(), now)
    assert isinstance(described, dict)
    assert isinstance(counts, dict)
    if not ended:
        counts = {state: count for state, count in counts.items() if state not in STATE_CODES}
    digest: dict[str, object] = {"": _merged(counts)}
    for task, live in described.items():
        assert isinstance(live, LiveTask)
        record = machine.tasks.live[task]
        elements = None if live.elements is None else _merged(live.elements)
        digest[task] = (live.order, record.state, elements, *_story_of(record))
    return digest


def _merged(counts: dict[str, int]) -> list[tuple[str, int]]:
    """What no node could run counts as blocked once the scheduler has said so: count it alike."""
    merged = {state: count for state, count in counts.items() if count}
    waiting = merged.pop("waiting", 0) + merged.pop("blocked", 0)
    return sorted((merged | {"waiting": waiting}).items())


def _story_of(record: Record) -> tuple[object, ...]:
    runs = record.runs
    held = record.why_held()
    return (runs.attempt, runs.failures, runs.losses, runs.open_nodes(), record.revision, held)


def _ask(machine: Machine, question: object, now: float) -> object:
    [answer] = [e for e in machine.handle(Asked(0, question), now) if isinstance(e, Reply)]
    return answer.result


def explain(node: SimNode, tasks: list[str]) -> str:
    """Why these do not run, as queue, scheduler and executor see it."""
    now = node.time.wall()
    machines = {n: h.machine for n, h in node.actors.items() if isinstance(h, MachineHost)}
    queue, scheduler = machines.get("queue"), machines.get("scheduler")
    if not isinstance(queue, QueueMachine) or not isinstance(scheduler, SchedulerMachine):
        return "there is no queue or scheduler"
    lines: list[str] = []
    described = _ask(queue, Describe(tasks), now)
    assert isinstance(described, dict)
    for task in tasks:
        live = described.get(task)
        if live is None:
            lines.append(f"{task}: unknown to the queue")
            continue
        status = queue.tasks.live[task].status.name
        why = _ask(scheduler, Explain(live.class_number), node.time.steady())
        lines.append(f"{task}: {status} {live.state} {live.reasons} {live.elements} {why}")
    executor = machines.get("runner")
    if isinstance(executor, ExecutorMachine):
        lines.append(f"executor: {executor._description()}, failed {executor._failed}")
    return "; ".join(lines)


def the_entries_alone_give_the_same(node: SimNode, invariants: Invariants) -> None:
    """Replaying the journal through the queue's records gives what the tables say."""
    journal = node.actors["journal"]
    assert isinstance(journal, JournalHost)
    tasks = Tasks()
    rows = journal.journal.connection.execute(
        "SELECT seq, node, number, body FROM entries e JOIN origins o ON o.origin = e.origin "
        "ORDER BY seq"
    )
    holds: dict[str, tuple[float, str]] = {}
    forgotten = invariants.facts.forgotten
    for place, origin, number, body in rows.fetchall():
        entry = decode(body)
        about = str(getattr(entry, "task", "")).partition(".")[0]
        if about in forgotten and about not in holds and not isinstance(entry, Submitted):
            continue  # it came after its task was forgotten
        orders: dict[str, int] = {}
        if isinstance(entry, Submitted):
            # The journal tells the queue only what makes a task, or changes whose it is.
            rank = (entry.at, origin)
            if entry.task in holds and (rank > holds[entry.task] or entry.task not in tasks.live):
                continue
            holds[entry.task] = rank
            orders[entry.task] = place
        tasks.apply(Numbered(origin, number, entry), orders)
    if tasks.live:
        task = next(iter(tasks.live))
        raise Violation("the entries alone give the same", f"{task} still lives", task)
    for task, facts in invariants.facts.tasks.items():
        if node.id in invariants.facts.forgotten.get(task, ()):
            continue
        [state] = journal.journal.connection.execute(
            "SELECT state FROM tasks WHERE id = ?", (task,)
        ).fetchone()
        if STATE_NAMES.get(state) != facts.final:
            raise Violation("the entries alone give the same", f"{task}: {state}", task)


def nothing_leaks(node: SimNode, invariants: Invariants) -> None:
    """Every table in memory is empty once every task is final."""
    left = leaks(node, invariants)
    if left:
        executor = node.actors["runner"]
        assert isinstance(executor, MachineHost)
        assert isinstance(executor.machine, ExecutorMachine)
        raise Violation(
            "nothing leaks",
            f"on {node.name} after all tasks are final: {left}",
            _example(executor.machine),
        )


def leaks(node: SimNode, invariants: Invariants) -> dict[str, int]:
    """The sizes of what should be empty and is not, once every task is final."""
    machines = {
        name: host.machine for name, host in node.actors.items() if isinstance(host, MachineHost)
    }
    queue, scheduler, executor = machines["queue"], machines["scheduler"], machines["runner"]
    assert isinstance(queue, QueueMachine)
    assert isinstance(scheduler, SchedulerMachine)
    assert isinstance(executor, ExecutorMachine)
    tasks = queue.tasks
    placement = scheduler.placement
    has = executor._has
    sizes: dict[str, int] = {
        "queue.live": len(tasks.live),
        "queue.ready": len(tasks.windows.ready),
        "queue.classes": len(tasks.classes),
        "queue.strangers": len(tasks.strangers),
        "queue.plans": len(queue.requests._plans),
        "queue.claimed": len(queue.requests._claimed),
        "queue.changing": len(queue.requests._changing),
        "queue.parked": len(queue.requests._parked),
        "queue.copying": len(queue.requests._copying),
        "queue.derived": len(queue._derived),
        "graph.waits": len(tasks.graph._waits),
        "graph.broken": len(tasks.graph._broken),
        "graph.children": len(tasks.graph._children),
        "graph.blocked": len(tasks.graph._blocked),
        "graph.moved": len(tasks.graph._moved) + len(tasks.graph._given),
        "graph.movers": len(tasks.graph._movers),
        "gates.regexes": len(tasks.gates._regexes),
        "gates.first_classes": len(tasks.gates._first_classes),
        "scheduler.windows": len(placement.windows),
        "scheduler.held": sum(len(n.ledger.held) for n in placement.nodes.values()),
        "scheduler.ours": sum(len(n.ours) for n in placement.nodes.values()),
        "executor.attempts": len(has.attempts),
        "executor.held": len(has.ledger.held),
        "executor.appends": len(executor._appends),
        "executor.failed": len(executor._failed),
        "executor.unsent": len(executor._unsent),
        "executor.tag_requests": len(executor._tag_requests),
        "executor.lanes": len(has.lanes._lanes) + len(has.lanes._head_of),
        "runner.attempts": _held_by_runner(node),
        "runner.missing": int(node.runner is None),  # a node that stands still starts it later
        "processes": invariants.running,
        "calls": node.calls,
    }
    return {name: size for name, size in sizes.items() if size}


def _held_by_runner(node: SimNode) -> int:
    return 0 if node.runner is None else len(node.runner.machine) + len(node.runner.machine._behind)


def _example(executor: ExecutorMachine) -> str:
    return next((task for task, _ in executor._has.attempts), "")
