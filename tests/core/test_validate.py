from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leoronic.core.blob import FileRef
from leoronic.core.fields import CHECKS, MISTAKES_MAX, FieldMistakesError
from leoronic.core.spec import After, TaskSpec, decode, encode
from leoronic.core.validate import (
    PROBLEMS_MAX,
    SLICE_BYTES,
    SLICE_TASKS,
    parse_in_slices,
    parse_task,
    parse_tasks,
)
from leoronic.errors import BadRequest


def problems_of(data: bytes, **options: Any) -> list[str]:
    with pytest.raises(BadRequest) as caught:
        parse_tasks(data, **options)
    assert caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.problems


def test_every_field_of_a_spec_has_its_check() -> None:
    """A field added to the spec cannot be forgotten in the validator."""
    assert set(TaskSpec.__struct_fields__) == set(CHECKS)


def test_files_and_outputs() -> None:
    """Of a text with semicolons or a list; who brings another's output waits for that task."""
    brought = (
        FileRef("a;b"),
        FileRef("/x/c.csv"),
        FileRef("task:one/./out/d", task="one", output="out/d"),
        FileRef("task:two/e", task="two", output="e"),
    )
    after = (After("two", "ended"), After("two"), After("one"))
    task = {
        "command": "x",
        "files": r"a\;b;/x/c.csv; task:one/./out/d ;task:two/e;a\;b",
        "outputs": ["out//*.csv", "out/*.csv", "**/x"],
        "after": [{"id": "two", "when": "ended"}, "two"],
        "keep_names": "true",
    }
    expected = TaskSpec(
        "x",
        after=after,
        files=brought,
        outputs=("out/*.csv", "**/x"),
        keep_names=True,
    )
    assert expected == parse_task(task)
    assert expected == decode(encode(expected))


def test_one_task_with_everything() -> None:
    """Texts become numbers, lists become what is kept."""
    task = {
        "command": ["cd x", "make"],
        "memory": "512M",
        "cpus": "0.5",
        "storage": "1GiB",
        "resources": {"gpu": 1, "none": 0},
        "concurrent": "False",
        "conditions": r"worker:tag  a; queue:all_with_cmd_done x\;y ;worker:tag a",
        "workdir": "private",
        "after": ["a.1", {"id": "b", "when": "ended"}, "a.1"],
        "name": "build it",
        "id": "b_1-x",
        "labels": ["nightly", "team=a=b"],
        "priority": -3,
        "env": {"A_1": "x y"},
        "stdin": "in",
        "time_limit": "1h30m",
        "retries": 3,
        "retry_delay": "2s",
        "on_loss": "hold",
        "items": ["", "x"],
        "fresh_shell": True,
        "pids": 10,
        "files": [],
        "keep_names": False,
        "outputs": "",
    }
    expected = TaskSpec(
        command=["cd x", "make"],
        memory=512 * 1024**2,
        cpus=0.5,
        storage=1024**3,
        resources={"gpu": 1.0},
        concurrent=False,
        conditions=("worker:tag a", "queue:all_with_cmd_done x;y"),
        workdir="private",
        after=(After("a.1"), After("b", "ended")),
        name="build it",
        id="b_1-x",
        labels={"nightly": "", "team": "a=b"},
        priority=-3,
        env={"A_1": "x y"},
        stdin="in",
        time_limit=5400.0,
        retries=3,
        retry_delay=2.0,
        on_loss="hold",
        items=["", "x"],
        fresh_shell=True,
        pids=10,
    )
    assert [expected] == parse_tasks(json.dumps(task).encode())
    assert expected == parse_task(task)


def test_what_is_default_is_left_out() -> None:
    """A default written out gives the same text as one left out."""
    written = {"command": "a", "cpus": 1, "memory": "0", "labels": [], "on_loss": "retry"}
    assert encode(TaskSpec("a")) == encode(parse_task({**written, "count": None, "id": ""}))


@pytest.mark.parametrize(
    "data",
    [
        b'[{"command":"a"},{"command":"b"}]',
        b'{"command":"a"}\n{"command":"b"}',
        b'\n {"command":"a"}\r\n\n{"command":"b"}\n\n',
        b'\xef\xbb\xbf[\n{"command":"a"},\n{"command":"b"}]',
        b'{"tasks":[{"command":"a"},{"command":"b"}]}',
        b'{"defaults":{},"tasks":[\n{"command":"a"},\n{"command":"b"}\n]}',
        b'{"defaults":{"command":"b"},\n"tasks":[{"command":"a"},{}]}',
    ],
)
def test_the_shapes_of_a_text(data: bytes) -> None:
    """An array, JSON lines and a document are told apart without being asked."""
    assert [TaskSpec("a"), TaskSpec("b")] == parse_tasks(data)


def test_a_task_over_several_lines() -> None:
    """One task pretty-printed is not taken for JSON lines."""
    assert [TaskSpec("a", count=3)] == parse_tasks(b'{\n  "command": "a",\n  "count" : 3\n}\n')


def test_defaults_are_replaced_not_merged() -> None:
    """A task's own field wins wholly, even where it is the default of the defaults."""
    document = {
        "defaults": {"memory": "1G", "env": {"A": "1"}, "retries": 2},
        "tasks": [{"command": "a", "memory": 0, "env": {"B": "2"}}, {"command": "b"}],
    }
    assert [
        TaskSpec("a", env={"B": "2"}, retries=2),
        TaskSpec("b", memory=1024**3, env={"A": "1"}, retries=2),
    ] == parse_tasks(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"command":"a","memory":"12Q"}', "memory: '12Q' is not a size"),
        (b'[{"command":"a"},{"command":"a","cpus":-1}]', "tasks[1].cpus: must be from 0"),
        (b'{"command":"a"}\n\n{"command":"a","cpus":[]}', "line 3: cpus: must be a number"),
        (b'{"command":"a"}\n{"command":\n{"command":"b"}', "line 2: not JSON: "),
        (b'{"defaults":{"cpu":1},"tasks":[{"command":"a"}]}', "defaults.cpu: not a field"),
        (b'{"defaults":{"id":"x"},"tasks":[{"command":"a"}]}', "defaults.id: each task needs"),
        (b'{"defaults":1,"tasks":[{"command":"a"}]}', "defaults: must be an object"),
        (b'{"default":{},"tasks":[{"command":"a"}]}', "default: not a field beside"),
        (b'{"tasks":3}', "tasks: must be an array"),
        (b'{"command":"a","env":{"1x":"a"}}', "env.1x: the name of a variable"),
        (b'{"command":"a","items":["a",3]}', "items[1]: must be a text, not a number"),
        (b"[3]", "tasks[0]: a task must be an object, not a number"),
        (b'"x"', "a task must be an object, not a text"),
        (b'{"command":"a"}\n3', "line 2: a task must be an object, not a number"),
        (b"{}", "command: missing"),
        (b'[{"memory":1}]', "tasks[0].command: missing"),
    ],
)
def test_each_mistake_names_its_place(data: bytes, expected: str) -> None:
    """The place of a mistake is told in terms of the shape of the text."""
    (problem,) = problems_of(data)
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("memroy", 1, 'did you mean "memory"'),
        ("redo_of", "x", "set by the node itself"),
        ("node", "x", "set by the node itself"),
        ("only", [1], "set by the node itself"),
        ("files", 3, "must be a list of files, or a text separated by ;, not a number"),
        ("files", ["a\nb"], "a path with a newline or another control character is not taken"),
        ("files", ["task:x"], 'an output of another task is written "task:ID/PATH"'),
        ("files", ["task:x/../y"], "../y leads out of the task's folder"),
        ("files", ["task:x/*.csv"], "task:x/*.csv: no globs here: name each file"),
        ("files", [""], "must not be empty: files are named by their paths"),
        ("outputs", ["/etc/*"], "/etc/* leads out of the task's folder"),
        ("outputs", ["a/../../b"], "a/../../b leads out of the task's folder"),
        ("outputs", ["~/x"], "~ is not expanded here"),
        ("outputs", ["./"], "./ names no file"),
        ("keep_names", "perhaps", "must be true or false"),
        ("command", "", "must not be empty"),
        ("command", " \n", "must not be empty"),
        ("command", [], "must not be empty"),
        ("command", ["", " "], "must not be empty"),
        ("command", 3, "must be a text or a list of lines"),
        ("command", "a\0b", "a NUL byte cannot be in a bash command"),
        ("command", ["a", "b\0"], "a NUL byte cannot be in a bash command"),
        ("command", "x" * (1024**2 + 1), "at most 1 MiB"),
        ("command", "é" * (1024**2 // 2 + 1), "at most 1 MiB"),
        ("command", ["x" * 600_000] * 2, "at most 1 MiB"),
        ("memory", -1, "negative"),
        ("memory", None, "not a size"),
        ("cpus", "many", "must be a number"),
        ("cpus", True, "must be a number"),
        ("cpus", 10**400, "must be from 0"),
        ("cpus", "inf", "must be from 0"),
        ("cpus", "nan", "must be a number"),
        ("resources", {"cpus": 1}, "field of the task itself"),
        ("resources", {"a b": 1}, "one word"),
        ("resources", [], "must be an object"),
        ("concurrent", 1, "must be true or false"),
        ("concurrent", "no", "must be true or false"),
        ("conditions", ["queue:first"], "did you mean"),
        ("conditions", [3], "must be a text"),
        ("conditions", 3, "must be a list"),
        ("workdir", "privat", 'did you mean "private"'),
        ("after", 3, "must be a list"),
        ("after", [{"id": "a", "when": "later"}], 'must be "succeeded"'),
        ("after", [{"id": "a", "whn": "x"}], 'did you mean "when"'),
        ("after", [{}], "must be an id or a name"),
        ("after", [" "], "must not be blank"),
        ("name", "a\nb", "one line"),
        ("name", "x" * 201, "at most 200"),
        ("id", "a.1", "letters, digits, _ and - only"),
        ("id", "x" * 65, "at most 64"),
        ("id", 3, "must be a text"),
        ("labels", ["a b=c"], "one word"),
        ("labels", {"a": 1}, "must be a text"),
        ("labels", "a", "must be a list"),
        ("priority", 1_000_001, "must be from"),
        ("priority", "1", "must be a whole number"),
        ("env", {"A": "x\0"}, "NUL"),
        ("env", {"A": 3}, 'must be a text, such as "3"'),
        ("env", {"A": "x" * 131_070}, "at most"),
        ("env", {f"A{i}": "x" * 131_000 for i in range(9)}, "in all"),
        ("stdin", "a\0", "NUL"),
        ("time_limit", 0, "more than 0 s"),
        ("time_limit", "soon", "not a duration"),
        ("retries", 1001, "must be from 0 to 1000"),
        ("retries", 1.5, "must be a whole number"),
        ("retries", True, "must be a whole number"),
        ("retry_delay", None, "not a duration"),
        ("on_loss", "hld", 'did you mean "hold"'),
        ("count", 0, "must be from 1"),
        ("count", 10_000_001, "must be from 1"),
        ("items", [], "at least one"),
        ("items", "a", "must be a list"),
        ("items", ["a\0"], "NUL"),
        ("pids", 0, "must be from 1"),
        ("name", "\ud800", "surrogate"),
    ],
)
def test_what_each_field_refuses(field: str, value: object, said: str) -> None:
    """A value that can never work is refused with what would be right."""
    with pytest.raises(BadRequest) as caught:
        parse_task({"command": "a", field: value})
    (problem,) = caught.value.problems
    assert problem.startswith(field)
    assert said in problem


def test_count_and_items_exclude_each_other() -> None:
    """An array is made by one of the two."""
    assert problems_of(b'{"command":"a","count":2,"items":["x"]}') == [
        "items: a task has count or items, not both"
    ]


def test_an_id_twice_in_one_batch() -> None:
    """Two tasks of one batch cannot have the same id."""
    assert problems_of(b'{"command":"a","id":"q"}\n{"command":"b","id":"q"}') == [
        'line 2: id: "q" is the id of an earlier task here'
    ]


def test_the_node_may_set_its_own_fields() -> None:
    """From inside, redo_of and node are accepted."""
    fields = {"redo_of": "x", "node": "n", "only": [3, 5]}
    expected = TaskSpec("a", redo_of="x", node="n", only=[3, 5])
    assert expected == parse_task({"command": "a", **fields}, internal=True)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "there is no task in it: the text is empty"),
        (b" \n\t", "there is no task in it: the text is empty"),
        (b"[]", "there is no task in it: the array is empty"),
        (b'{"tasks":[]}', "there is no task in it: the array is empty"),
        (b'{"command":"a"', "not JSON: expecting ',' delimiter (column 15)"),
        (b'[\n{"command":"a"},\n]', "not JSON: expecting value (line 3, column 1)"),
        (b'{"command":"a","cpus":NaN}', "not JSON: it holds NaN, Infinity, or half of a"),
        (rb'{"command":"\ud800"}', "not JSON: it holds NaN, Infinity, or half of a surrogate"),
        (b'{"command":"\xff"}', "not JSON: a text in it is not UTF-8"),
        (b"[" * 200_000, "not JSON that can be read: nested too deeply"),
        (b'{"a":' * 200_000, "not JSON that can be read: nested too deeply"),
        (b'{"command":"a","cpus":1e999}', "not JSON that can be read: a number in it is too"),
        (b'{"command":"a","cpus":' + b"9" * 5000 + b"}", "not JSON that can be read: a number"),
    ],
)
def test_texts_that_cannot_be_read(data: bytes, expected: str) -> None:
    """What is no JSON, or holds no task, is refused with the reason."""
    (problem,) = problems_of(data)
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"command":"a","command":"a"}', '"command" is there more than once'),
        (
            b'{"command":"a"}\n{"command":"a:b","id":"x", "id" : "y"}',
            'line 2: "id" is there more than once',
        ),
        (
            b'[{"command":"a"},{"command":"\\":","env":{"A":"1","A":"2"}}]',
            'tasks[1].env: "A" is there more than once',
        ),
    ],
)
def test_a_key_twice(data: bytes, expected: str) -> None:
    """A key that stands twice is a mistake, not a silent choice."""
    assert [expected] == problems_of(data)


def test_strings_that_look_like_keys() -> None:
    """A command full of quotes and colons is not taken for doubled keys."""
    command = '{"a": 1, "a" : 2}'
    data = json.dumps({"command": command, "env": {"command": '":'}}).encode()
    assert [TaskSpec(command, env={"command": '":'})] == parse_tasks(data)
    assert len(parse_tasks(data + b"\n" + data)) == 2


def test_many_mistakes_are_counted() -> None:
    """All mistakes are found, the first fifty are told."""
    problems = problems_of(b"\n".join([b'{"command":1,"cpus":"x"}'] * 60))
    assert len(problems) == PROBLEMS_MAX + 1
    assert problems[-1] == "and 70 more"
    assert problems[2].startswith("line 2: command: ")


@pytest.mark.parametrize("separator", [b"\n", b","])
def test_too_many_mistakes_end_the_reading(
    separator: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large text full of mistakes costs no more than a small one; hints only where they show."""
    hints: list[object] = []
    monkeypatch.setattr("leoronic.core.validate.near_miss", lambda word, _: hints.append(word))
    data = separator.join([b'{"cmd":"x"}'] * 20_000)
    problems = problems_of(data if separator == b"\n" else b"[" + data + b"]")
    assert problems[-1] == f"and at least {MISTAKES_MAX - PROBLEMS_MAX} more"
    assert PROBLEMS_MAX / 2 == len(hints)  # every other mistake is the missing command


def test_one_task_full_of_mistakes() -> None:
    """The same within a task, and within a field."""
    problems = problems_of(json.dumps({f"x{i}": 1 for i in range(10_000)}).encode())
    assert problems[-1] == f"and at least {MISTAKES_MAX - PROBLEMS_MAX} more"
    problems = problems_of(json.dumps({"command": "x", "items": [1] * 10_000}).encode())
    assert problems[-1] == f"and at least {MISTAKES_MAX - PROBLEMS_MAX} more"
    for field, value in (("items", [1] * 10_000), ("labels", {f"a{i} ": "" for i in range(60)})):
        with pytest.raises(FieldMistakesError) as caught:
            CHECKS[field](value)
        assert min(len(value), MISTAKES_MAX) == len(caught.value.places)
    with pytest.raises(BadRequest, match="at least 500 mistakes"):
        parse_task({f"x{i}": 1 for i in range(10_000)})


def test_a_large_object_with_a_doubled_key() -> None:
    """Finding it takes no longer than reading the object."""
    keys = "".join(f'"k{i}":1,' for i in range(50_000))
    problems = problems_of(f'{{"command":"x","env":{{{keys}"z":1,"z":1}}}}'.encode())
    assert problems[0] == 'env: "z" is there more than once'


def steps_of(data: bytes) -> tuple[int, list[TaskSpec]]:
    """How often reading it pauses, and what it holds."""
    slices, steps = parse_in_slices(data), 0
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return steps, end.value
        steps += 1


def test_a_large_text_is_read_in_slices() -> None:
    """Who reads it may do other things between two of them; the tasks are the same."""
    tasks = [{"command": f"echo {i}", **({"name": "n"} if i % 7 else {})} for i in range(5000)]
    expected = [TaskSpec(f"echo {i}", name="n" if i % 7 else "") for i in range(5000)]
    lines = b"\n \r\n".join(json.dumps(task).encode() for task in tasks) + b"\n" * SLICE_BYTES * 2
    steps, specs = steps_of(lines)
    assert expected == specs
    assert len(lines) // SLICE_BYTES - 2 <= steps <= len(lines) // SLICE_BYTES + 1
    for document in (tasks, {"tasks": tasks}):
        steps, specs = steps_of(json.dumps(document).encode())
        assert expected == specs
        assert 1 + len(tasks) // SLICE_TASKS == steps


def test_conditions_make_slices_shorter() -> None:
    """A regex takes as long as many tasks."""
    task: dict[str, Any] = {"command": "x", "conditions": ["queue:all_with_cmd_done a"] * 49}
    assert 1 + 50 == steps_of(json.dumps([task] * 100).encode())[0]
    task["conditions"] = "queue:all_with_cmd_done a;" * 40
    assert 1 + 100 == steps_of(json.dumps([task] * 100).encode())[0]


def test_places_and_ids_go_on_from_slice_to_slice() -> None:
    """Line numbers, indexes, and the ids that another must differ from, are of the whole text."""
    tasks = [b'{"command":"x","id":"a"}', *[b'{"command":"x"}'] * 5000, b'{"command":"x","id":"a"}']
    said = '"a" is the id of an earlier task here'
    assert [f"line 5002: id: {said}"] == problems_of(b"\n".join(tasks))
    assert [f"tasks[5001].id: {said}"] == problems_of(b"[" + b",".join(tasks) + b"]")


def test_lines_can_be_asked_for() -> None:
    """Told that the text is lines, even a single one is named by its line."""
    (problem,) = problems_of(b'{"command":1}', lines=True)
    assert problem.startswith("line 1: command: ")
    assert [TaskSpec("a")] == parse_tasks(b'{"command":"a"}', lines=True)


names = st.sampled_from([*CHECKS, "tasks", "defaults", "x"])
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["512M", "1h", "queue:is_first", "worker:tag x", "true", "a=b"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(names | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


def accepted_or_refused(data: bytes, lines: bool | None) -> None:
    try:
        specs = parse_tasks(data, lines=lines)
    except BadRequest as error:
        refused = error
    else:
        assert specs
        assert specs == [decode(encode(spec)) for spec in specs]
        return
    assert refused.problems


@given(values, st.sampled_from([None, True, False]))
def test_any_json_is_accepted_or_refused(value: object, lines: bool | None) -> None:
    """No JSON does anything but become specs or raise BadRequest."""
    accepted_or_refused(json.dumps(value).encode(), lines)
    accepted_or_refused(json.dumps({"command": "a", "x": value}).encode(), lines)


@given(st.dictionaries(names, values, max_size=4), st.sampled_from([None, True, False]))
def test_any_task_is_accepted_or_refused(task: dict[str, Any], lines: bool | None) -> None:
    """No task does anything but become a spec or raise BadRequest."""
    accepted_or_refused(json.dumps({"command": "a", **task}, indent=1).encode(), lines)
    with contextlib.suppress(BadRequest):
        parse_task({"command": "a", **task})


@given(
    st.binary() | st.text('{}[]",:\\ \n01ae').map(str.encode), st.sampled_from([None, True, False])
)
def test_any_bytes_are_accepted_or_refused(data: bytes, lines: bool | None) -> None:
    """No bytes do anything but become specs or raise BadRequest."""
    accepted_or_refused(data, lines)
