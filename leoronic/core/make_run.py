"""From a task to what the runner must know to run one attempt of it."""

from __future__ import annotations

from collections.abc import Iterator

from leoronic.core.arrays import split_element
from leoronic.core.run import Run
from leoronic.core.spec import TaskSpec, bash_text

# Of text in one frame: each character may need six bytes there.
RUNS_TEXT_MAX = 1024 * 1024


def make_run(task: str, attempt: int, spec: TaskSpec, node_name: str, root: str = "") -> Run:
    """What the runner needs to know to run one attempt of a task (or of an array's element)."""
    env = dict(spec.env)
    env["LEORONIC_TASK_ID"] = task
    env["LEORONIC_ATTEMPT"] = str(attempt)
    env["LEORONIC_NODE"] = node_name
    env["LEORONIC_ROOT"] = root
    element = split_element(task)
    if element is not None:
        index = element[1] if spec.only is None else spec.only[element[1]]
        env["LEORONIC_INDEX"] = str(index)
        if spec.items is not None:
            env["LEORONIC_ITEM"] = spec.items[index]
    return Run(
        task,
        attempt,
        bash_text(spec),
        env=env,
        stdin=spec.stdin,
        workdir=spec.workdir,
        cpus=spec.cpus,
        memory=spec.memory,
        storage=spec.storage,
        pids=spec.pids,
        time_limit=spec.time_limit,
        fresh_shell=spec.fresh_shell,
    )


def frames(runs: list[Run]) -> Iterator[list[Run]]:
    """`runs` in parts that fit a frame each; one that is big goes alone."""
    some: list[Run] = []
    size = 0
    for run in runs:
        own = len(run.command) + len(run.stdin) + sum(map(len, run.env.values()))
        if some and size + own > RUNS_TEXT_MAX:
            yield some
            some, size = [], 0
        some.append(run)
        size += own
    if some:
        yield some
