"""The one validator: whatever a door was handed, to task specs, or to a list of every mistake.

A text holds one task, an array of tasks, JSON lines, or `{"defaults": {...}, "tasks": [...]}`. It
is accepted whole or refused whole. A task's own field replaces the default of that name wholly:
`env`, `labels` and other collections are not merged.

Each mistake is told with its place: `tasks[3].memory: ...` in arrays and documents,
`line 4: memory: ...` in JSON lines, `memory: ...` in a single task.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import msgspec

from leoronic.core import json_text
from leoronic.core.fields import (
    CHECKS,
    COMMAND_BYTES_MAX,
    MISTAKES_MAX,
    NODE_FIELDS,
    FieldMistakesError,
    near_miss,
)
from leoronic.core.json_text import NotJsonError
from leoronic.core.spec import After, TaskSpec
from leoronic.errors import BadRequest

PROBLEMS_MAX = 50
SLICE_BYTES = 16 * 1024
SLICE_TASKS = 200

Place = Callable[[str], str]
"""Path inside a task ("" for the task itself) -> where that is in the whole text, with ": "."""

_NO_DEFAULT = object()


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return _NO_DEFAULT if field.default is msgspec.NODEFAULT else field.default


_DEFAULTS = {field.name: _default(field) for field in msgspec.structs.fields(TaskSpec)}
# Of a command shorter than this, no character can bring it over the limit in bytes.
_SHORT_COMMAND_LENGTH = COMMAND_BYTES_MAX // 4


def parse_tasks(
    data: bytes, *, lines: bool | None = None, internal: bool = False
) -> list[TaskSpec]:
    """The tasks in `data`. Raises `BadRequest` with all mistakes (at most 50 and how many more).

    `lines` says whether it is JSON lines; None finds out. `internal` allows the fields that only
    the node may set: `redo_of`, `node` and `only`.
    """
    slices = parse_in_slices(data, lines=lines, internal=internal)
    while True:
        try:
            next(slices)
        except StopIteration as end:
            specs: list[TaskSpec] = end.value
            return specs


def parse_in_slices(
    data: bytes, *, lines: bool | None = None, internal: bool = False
) -> Generator[None, None, list[TaskSpec]]:
    """As `parse_tasks`, pausing after some milliseconds of work: who iterates may do other things.

    Only the decoding of a text that is not JSON lines is one step.
    """
    problems = _Problems()
    specs: list[TaskSpec] = []
    try:
        yield from _parse(json_text.without_bom(data), lines, _Reader(problems, internal), specs)
    except NotJsonError as error:
        problems.add(str(error))
    except _TooManyError:
        pass
    problems.raise_if_any()
    return specs


def parse_task(task: dict[str, Any], *, internal: bool = False) -> TaskSpec:
    """The spec of one task given as plain data. Raises `BadRequest` with all mistakes."""
    problems = _Problems()
    spec = None
    with contextlib.suppress(_TooManyError):
        spec = _Reader(problems, internal).read(task, _here)
    problems.raise_if_any()
    assert spec is not None  # a task without problems has a spec
    return spec


class _TooManyError(Exception):
    """So much is wrong that the rest is not looked at."""


class _Problems:
    """Mistakes found, the first of them kept. Raises `_TooManyError` when there are too many."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.count = 0

    @property
    def full(self) -> bool:
        """Whether the text of another would not be kept."""
        return self.count >= PROBLEMS_MAX

    def add(self, problem: str) -> None:
        if not self.full:
            self.kept.append(problem)
        self.count += 1
        if self.count >= MISTAKES_MAX:
            raise _TooManyError

    def raise_if_any(self) -> None:
        if not self.count:
            return
        problems = list(self.kept)
        at_least = "at least " if self.count >= MISTAKES_MAX else ""
        if self.count > PROBLEMS_MAX:
            problems.append(f"and {at_least}{self.count - PROBLEMS_MAX} more")
        message = (
            problems[0]
            if self.count == 1
            else f"{at_least}{self.count} mistakes: {problems[0]}, ..."
        )
        raise BadRequest(message, problems)


def _parse(
    data: bytes, lines: bool | None, reader: _Reader, specs: list[TaskSpec]
) -> Generator[None, None, None]:
    if not data or data.isspace():
        raise NotJsonError("there is no task in it: the text is empty")
    if lines is None:
        lines = json_text.looks_like_lines(data)
    if lines:
        yield from _parse_lines(data, reader, specs)
        return
    document = json_text.decode(data, reader.problems.add)
    if isinstance(document, list):
        yield from _parse_array(document, reader, specs)
    elif isinstance(document, dict) and "tasks" in document:
        yield from _parse_document(document, reader, specs)
    else:
        specs += reader.read_all([(document, _here)])


def _parse_lines(
    data: bytes, reader: _Reader, specs: list[TaskSpec]
) -> Generator[None, None, None]:
    before = 0
    for part in json_text.line_slices(data, SLICE_BYTES):
        tasks = json_text.decode_lines(part)
        plain = reader.read_plain(tasks)
        if plain is None:
            numbers = json_text.line_numbers(part)
            plain = reader.read_all(
                (task, _in_line(before + number))
                for number, task in zip(numbers, tasks, strict=True)
            )
        specs += plain
        before += part.count(b"\n")
        yield


def _parse_array(
    tasks: list[object], reader: _Reader, specs: list[TaskSpec]
) -> Generator[None, None, None]:
    if not tasks:
        raise NotJsonError("there is no task in it: the array is empty")
    yield  # after the decoding
    start = 0
    for end in _slice_ends(tasks):
        part = tasks[start:end]
        plain = reader.read_plain(part)
        if plain is None:
            plain = reader.read_all((task, _in_array(i)) for i, task in enumerate(part, start))
        specs += plain
        start = end
        yield


def _slice_ends(tasks: list[object]) -> Iterator[int]:
    """Where to pause in an array: after SLICE_TASKS tasks, earlier where they have conditions."""
    weight = 0
    for end, task in enumerate(tasks, 1):
        conditions = task.get("conditions") if type(task) is dict else None
        # A regex takes as long as many tasks.
        if type(conditions) is list:
            weight += 4 * len(conditions)
        elif type(conditions) is str:
            weight += len(conditions) // 5
        weight += 1
        if weight >= SLICE_TASKS:
            yield end
            weight = 0
    if weight:
        yield len(tasks)


def _parse_document(
    document: dict[str, object], reader: _Reader, specs: list[TaskSpec]
) -> Generator[None, None, None]:
    for key in document:
        if key not in ("defaults", "tasks"):
            hint = "" if reader.problems.full else near_miss(key, ("defaults", "tasks"))
            reader.problems.add(f"{key[:100]}: not a field beside defaults and tasks{hint}")
    defaults, tasks = document.get("defaults", {}), document["tasks"]
    if isinstance(defaults, dict):
        reader.read_defaults(defaults)
    else:
        reader.problems.add("defaults: must be an object")
    if not isinstance(tasks, list):
        raise NotJsonError("tasks: must be an array")
    yield from _parse_array(tasks, reader, specs)


class _Reader:
    """Plain data to specs, one task after the other, collecting what is wrong."""

    def __init__(self, problems: _Problems, internal: bool) -> None:
        self.problems = problems
        self._internal = internal
        self._defaults: dict[str, Any] = {}
        self._default_names: frozenset[str] = frozenset()
        self._ids: set[str] = set()

    def read_defaults(self, defaults: dict[str, object]) -> None:
        """Use these fields where a task does not have them."""
        if "id" in defaults:
            self.problems.add("defaults.id: each task needs an id of its own")
        self._default_names = frozenset(defaults)
        self._defaults = self._checked(
            {name: value for name, value in defaults.items() if name != "id"}, _in_defaults
        )

    def read_plain(self, tasks: list[object]) -> list[TaskSpec] | None:
        """All of `tasks` if each is a command and nothing else, the common case; else None."""
        if self._default_names:
            return None
        specs: list[TaskSpec] = []
        append = specs.append
        for task in tasks:
            if type(task) is not dict or len(task) != 1:
                return None
            command = task.get("command")
            if (
                type(command) is not str
                or len(command) > _SHORT_COMMAND_LENGTH
                or "\0" in command
                or not command
                or command.isspace()
            ):
                return None
            append(TaskSpec(command))
        return specs

    def read_all(self, tasks: Iterable[tuple[object, Place]]) -> list[TaskSpec]:
        """The specs of those `tasks` that have no mistake."""
        specs = [self.read(task, place) for task, place in tasks]
        return [spec for spec in specs if spec is not None]

    def read(self, task: object, place: Place) -> TaskSpec | None:
        """The spec of `task`, or None after telling what is wrong."""
        if isinstance(task, json_text.BadLine):
            for problem in task:
                self.problems.add(f"{place('')}{problem}")
            return None
        if not isinstance(task, dict):
            self.problems.add(f"{place('')}a task must be an object, not {json_text.kind(task)}")
            return None
        before = self.problems.count
        fields = self._checked(task, place)
        if self._default_names:
            fields = {
                **{name: v for name, v in self._defaults.items() if name not in task},
                **fields,
            }
        self._check_together(task, fields, place)
        return TaskSpec(**fields) if self.problems.count == before and "command" in fields else None

    def _checked(self, task: dict[Any, object], place: Place) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for name, value in task.items():
            check = CHECKS.get(name)
            if check is None or (name in NODE_FIELDS and not self._internal):
                why = "" if self.problems.full else _why_unknown(name)
                self.problems.add(f"{place(str(name)[:100])}{why}")
                continue
            try:
                checked = check(value)
            except FieldMistakesError as mistakes:
                for inner, problem in mistakes.places:
                    self.problems.add(f"{place(name + inner)}{problem}")
                continue
            except ValueError as error:
                self.problems.add(f"{place(name)}{error}")
                continue
            # What is default is left out, so that equal specs have equal text.
            if checked != _DEFAULTS[name]:
                fields[name] = checked
        return fields

    def _check_together(
        self, task: dict[Any, object], fields: dict[str, Any], place: Place
    ) -> None:
        if "command" not in task and "command" not in self._default_names:
            self.problems.add(f"{place('command')}missing: a task needs a command")
        if "count" in fields and "items" in fields:
            self.problems.add(f"{place('items')}a task has count or items, not both")
        if "cache" in fields and not fields.keys().isdisjoint(("count", "items")):
            self.problems.add(
                f"{place('cache')}an array is not answered for: submit its elements as tasks"
            )
        if "cache" in fields and any(file.task for file in fields.get("files", ())):
            self.problems.add(
                f"{place('cache')}what another task leaves is not known when this is submitted: "
                "bring a file, or leave cache out"
            )
        _follow_outputs(fields)
        task_id = fields.get("id")
        if task_id is not None:
            if task_id in self._ids:
                self.problems.add(f'{place("id")}"{task_id}" is the id of an earlier task here')
            self._ids.add(task_id)


def _follow_outputs(fields: dict[str, Any]) -> None:
    """Who brings another task's output waits for that task to succeed, if not told otherwise."""
    after: tuple[After, ...] = fields.get("after", ())
    waited_for = {one.id for one in after}
    tasks = [file.task for file in fields.get("files", ()) if file.task]
    more = [After(task) for task in dict.fromkeys(tasks) if task not in waited_for]
    if more:
        fields["after"] = (*after, *more)


def _why_unknown(name: object) -> str:
    if name in NODE_FIELDS:
        return "set by the node itself, not from outside"
    return f"not a field of a task{near_miss(name, CHECKS.keys() - NODE_FIELDS)}"


def _here(path: str) -> str:
    return f"{path}: " if path else ""


def _in_defaults(path: str) -> str:
    return f"defaults.{path}: " if path else "defaults: "


def _in_array(i: int) -> Place:
    return lambda path: f"tasks[{i}].{path}: " if path else f"tasks[{i}]: "


def _in_line(number: int) -> Place:
    return lambda path: f"line {number}: {path}: " if path else f"line {number}: "
