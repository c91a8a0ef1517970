"""What the benchmark makes of its samples: ratios, goals, a table and its place in a document."""

from __future__ import annotations

import pytest

from integration.bench import table
from integration.bench.figure import Figure, Goal, Missing, format_number, format_samples


def test_the_ratio_says_how_many_times_better_ours_is() -> None:
    """By medians; for a rate more is better, for a time less."""
    rate = Figure("tasks", "1/s", [100.0, 300.0, 200.0], {"xargs": [100.0, 50.0, 900.0]}, True)
    assert 2.0 == rate.ratio("xargs")
    assert 0.5 == Figure("time", "ms", [4.0], {"tsp": [2.0]}).ratio("tsp")


def test_there_is_no_ratio_without_two_numbers() -> None:
    """A rival that is missing, unknown, without samples or at nothing at all."""
    rivals: dict[str, list[float] | Missing] = {"a": Missing("gone"), "b": [], "c": [0.0]}
    figure = Figure("tasks", "1/s", [1.0], rivals, True)
    assert [None] * 4 == [figure.ratio(name) for name in ("a", "b", "c", "d")]


@pytest.mark.parametrize(
    ("more", "goal", "expected"),
    [
        (True, Goal(10), True),
        (True, Goal(11), False),
        (False, Goal(10), True),
        (False, Goal(9), False),
        (True, Goal(2, "rival"), True),
        (True, Goal(2.1, "rival"), False),
        (True, Goal(1, "nobody"), None),
        (True, None, None),
    ],
)
def test_a_goal_is_a_bound_or_a_multiple_of_a_rival(
    more: bool, goal: Goal | None, expected: bool | None
) -> None:
    """At least where more is better, at most where less is; unknown without the rival."""
    figure = Figure("tasks", "1/s", [10.0], {"rival": [5.0]}, more, goal)
    assert expected is figure.met()


def test_numbers_have_three_digits_that_mean_something() -> None:
    """Fewer decimals the greater the number; the spread beside the median of several."""
    assert ["1,234", "12.3", "1.23", "0.123"] == [
        format_number(value) for value in (1234.4, 12.34, 1.234, 0.1234)
    ]
    assert ["-", "5.00", "2.00 (1.00 to 9.00)"] == [
        format_samples(samples) for samples in ([], [5.0], [9.0, 1.0, 2.0])
    ]


def test_each_rival_has_a_row_and_one_that_is_missing_says_why() -> None:
    """The figure, its goal and whether it is met stand in the first of them."""
    figure = Figure(
        "tasks", "1/s", [30.0], {"xargs": [10.0], "tsp": Missing("no a|b")}, True, Goal(2, "xargs")
    )
    assert [
        ("tasks, 1/s", "30.0", "xargs: 10.0", "3.00 x", "2 x xargs", "yes"),
        ("", "", "tsp: not available: no a|b", "", "", ""),
    ] == table.rows(figure)
    lines = table.markdown([figure]).splitlines()
    assert 4 == len(lines)
    assert "no a\\|b" in lines[3]
    assert 1 == len({len(line) for line in lines})


def test_a_figure_without_rivals_has_one_row() -> None:
    """With its goal, missed."""
    figure = Figure("idle", "MiB", [50.0], {}, False, Goal(45))
    assert [("idle, MiB", "50.0", "", "", "at most 45", "NO")] == table.rows(figure)


def test_the_table_replaces_what_is_between_its_marks() -> None:
    """The rest of the document stays as it is; one without the marks is refused."""
    document = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    once = table.replaced(document, "new")
    assert f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n" == once
    assert once == table.replaced(once, "new")
    with pytest.raises(ValueError, match="needs the lines"):
        table.replaced("nothing here", "new")


def test_a_part_replaces_only_itself() -> None:
    """Others stay, a new one comes to its place, one that is no part any more is dropped."""
    order = ("a", "b", "c")
    document = table.with_parts(
        f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n", {"c": "C\n\nmore", "a": "A"}, order
    )
    assert [("a", "A"), ("c", "C\n\nmore")] == parts_in(document)
    document = table.with_parts(document, {"b": "B", "a": "A2"}, order)
    assert [("a", "A2"), ("b", "B"), ("c", "C\n\nmore")] == parts_in(document)
    assert document == table.with_parts(document, {}, order)
    assert ("before\n", "\nafter\n") == (
        document.partition(table.BEGIN)[0], document.partition(table.END)[2],
    )  # fmt: skip
    assert [("c", "C\n\nmore")] == parts_in(table.with_parts(document, {}, ("c",)))
    with pytest.raises(ValueError, match="needs the lines"):
        table.with_parts("nothing here", {"a": "A"}, order)


def parts_in(document: str) -> list[tuple[str, str]]:
    """Name and text of the parts between the marks."""
    return table._PART.findall(table.between(document))


def test_a_table_has_its_own_marks() -> None:
    """One that is written between other marks leaves the first alone."""
    document = f"{table.BEGIN}\nfigures\n{table.END}\n{table.SIZES_BEGIN}\nold\n{table.SIZES_END}\n"
    found = table.replaced(document, "new", table.SIZES_BEGIN, table.SIZES_END)
    assert document.replace("old", "new") == found
