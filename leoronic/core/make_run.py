"""From a task to what the runner must know to run one attempt of it."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from leoronic.core.arrays import split_element
from leoronic.core.attempt_files import placed_words, private_folder
from leoronic.core.run import Run
from leoronic.core.shell_words import replace_words
from leoronic.core.spec import TaskSpec, bash_text

# Of text in one frame: each character may need six bytes there.
RUNS_TEXT_MAX = 1024 * 1024


def make_run(
    task: str, attempt: int, spec: TaskSpec, node_name: str, root: str = "", python: str = ""
) -> Run:
    """What the runner needs to know to run one attempt of a task (or of an array's element).

    `python` is the interpreter that the node runs on, unless the task's environment names another.
    """
    env = dict(spec.env)
    env["LEORONIC_TASK_ID"] = task
    env["LEORONIC_ATTEMPT"] = str(attempt)
    env["LEORONIC_NODE"] = node_name
    env["LEORONIC_ROOT"] = root
    if python:
        env.setdefault("LEORONIC_PYTHON", python)
    element = split_element(task)
    if element is not None:
        index = element[1] if spec.only is None else spec.only[element[1]]
        env["LEORONIC_INDEX"] = str(index)
        if spec.items is not None:
            env["LEORONIC_ITEM"] = spec.items[index]
    if spec.files and not spec.keep_names:
        folder = f"{root}/{private_folder((task, attempt))}"
        spec = _rewritten(spec, placed_words(spec.files, folder))
    return Run(
        task,
        attempt,
        bash_text(spec),
        env=env,
        stdin=spec.stdin,
        workdir="private" if spec.keep_names else spec.workdir,
        cpus=spec.cpus,
        memory=spec.memory,
        storage=spec.storage,
        pids=spec.pids,
        time_limit=spec.time_limit,
        fresh_shell=spec.fresh_shell,
        keep_folder=bool(spec.files or spec.outputs),
    )


def _rewritten(spec: TaskSpec, words: dict[str, str]) -> TaskSpec:
    """`spec` with those whole words of its command replaced."""
    if isinstance(spec.command, str):
        return structs.replace(spec, command=replace_words(spec.command, words))
    # Each line is a text of its own: no quote goes on in the next.
    return structs.replace(spec, command=[replace_words(line, words) for line in spec.command])


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
