"""docs/commands.md keeps up with the commands and the fields that there are."""

from __future__ import annotations

import re
from pathlib import Path

import click
import msgspec
import pytest

from leoronic.client.cli import COMMANDS, cli
from leoronic.core.fields import NODE_FIELDS
from leoronic.core.spec import TaskSpec
from leoronic.core.validate import parse_tasks

TEXT = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
FIELDS = [field for field in msgspec.structs.fields(TaskSpec) if field.name not in NODE_FIELDS]


def rows() -> dict[str, list[str]]:
    """The rows of the table of fields, cells by column."""
    section = TEXT.partition("## The fields of a task")[2].partition("\n## ")[0]
    table = section.partition("| field |")[2].partition("\n\n")[0].split("\n")[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    return {row[0].strip("`"): row for row in cells}


def options(name: str) -> set[str]:
    """The options of a command, but for those that all have."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    found = {
        option
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if option.startswith("--")
    }
    return found - {"--root", "--json"}


def test_every_field_is_in_the_table() -> None:
    """All fields that a task may have, in their order, and nothing else."""
    assert [field.name for field in FIELDS] == list(rows())


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_the_default_is_told(field: msgspec.structs.FieldInfo) -> None:
    """The third column is what a task has that says nothing."""
    default = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        default = field.default_factory()
    special = {"command": "required", "id": "made", "name": '`""`', "stdin": '`""`'}
    words = {None: "none", True: "`true`", False: "`false`"}
    if isinstance(default, str):
        expected = f"`{default}`"
    elif isinstance(default, tuple | dict):
        expected = "`{}`" if isinstance(default, dict) else "`[]`"
    elif isinstance(default, bool) or default is None:
        expected = words[default]
    else:
        expected = f"`{default:g}`" if isinstance(default, int | float) else ""
    assert special.get(field.name, expected) == rows()[field.name][2]


def test_the_options_of_submit_are_in_the_table() -> None:
    """Every option of `submit` stands beside its field."""
    named = {option for row in rows().values() for option in re.findall(r"--[a-z-]+", row[3])}
    assert options("submit") - {"--wait"} == named - {"--"}


@pytest.mark.parametrize(
    "name", [n for n in COMMANDS if n not in ("submit", "start", "ghost", "completion")]
)
def test_every_command_has_its_options_in_the_table(name: str) -> None:
    """What the page says to be all options is all options."""
    lines = [line for line in TEXT.split("\n") if line.startswith("| `leoronic") and name in line]
    assert lines
    shown = set(re.findall(r"--[a-z-]+|-f\b", " ".join(lines)))
    assert options(name) <= {"--follow" if option == "-f" else option for option in shown}


def test_the_example_is_accepted() -> None:
    """The document in the page is what the validator takes."""
    example = TEXT.partition("```json\n")[2].partition("```")[0]
    specs = parse_tasks(example.encode())
    assert ["fetch", "render", "join", "complain"] == [spec.name for spec in specs]
    assert {spec.retry_delay for spec in specs} == {30.0}
    assert {when for spec in specs for when in [a.when for a in spec.after]} == {
        "succeeded",
        "failed",
    }
