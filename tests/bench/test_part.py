"""What is kept of a part that was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from integration.bench import __main__ as bench
from integration.bench import table
from integration.bench.figure import Figure, Goal, Missing
from integration.bench.part import Part, read_json, write_json
from integration.bench.scale import Size


def part(name: str, ours: float = 30.0) -> Part:
    rivals: dict[str, list[float] | Missing] = {"xargs": [10.0], "tsp": Missing("not here")}
    figure = Figure("tasks", "1/s", [ours], rivals, True, Goal(2, "xargs"))
    plain = Figure("idle", "MiB", [50.0])
    return Part(
        name, "2 processors", "2026-11-20 19:13", 0.7, 2.9, 10.9, ("--slow",), [figure, plain],
        [Size(2, 260.0, 260.0, 46.0, 0.2, 1.0)],
    )  # fmt: skip


def test_a_part_tells_when_and_how_busy(tmp_path: Path) -> None:
    """Also the machine, the options and how long it took; then the table."""
    text = part("rate").markdown()
    for word in ("`rate --slow`", "2026-11-20 19:13", "0.7 before", "2.9 at the end", "10.9 min"):
        assert word in text
    assert table.markdown(part("rate").figures) == text.rpartition("\n\n")[2]


def test_parts_come_back_from_their_file(tmp_path: Path) -> None:
    """All of them, whole: goals, rivals that are missing, whether more is better."""
    path = tmp_path / "all.json"
    parts = [part("rate"), part("scale")]
    write_json(path, parts)
    assert parts == read_json(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"parts": []}', '{"parts": {"rate": {}}}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    """In words."""
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="does not hold"):
        read_json(path)


def test_earlier_parts_are_put_into_the_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of several files; what the document has besides stays, and so does what a file has."""
    document = tmp_path / "performance.md"
    document.write_text(f"{table.BEGIN}\n{table.END}\n")
    monkeypatch.setattr(bench, "DOCUMENT", document)
    one, other, kept = (tmp_path / name for name in ("one.json", "other.json", "kept.json"))
    write_json(one, [small("rate", 1.0), small("calm", 1.0)])
    write_json(other, [small("rate", 2.0)])
    write_json(kept, [small("idle", 3.0), small("calm", 9.0)])
    called = ["bench", "--from", str(one), "--from", str(other), "--write", "--json", str(kept)]
    monkeypatch.setattr("sys.argv", called)
    assert 0 == bench.main()
    expected = [("rate", small("rate", 2.0).markdown()), ("calm", small("calm", 1.0).markdown())]
    assert expected == table._PART.findall(document.read_text())
    found = {part.name: part.figures[0].ours for part in read_json(kept)}
    assert {"idle": [3.0], "calm": [1.0], "rate": [2.0]} == found
    one.write_text(json.dumps({}))
    before = document.read_text()
    assert 1 == bench.main()
    assert before == document.read_text()
    assert "one.json" in capsys.readouterr().err


def test_a_part_that_is_not_known_is_not_lost_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused, by name."""
    document = tmp_path / "performance.md"
    document.write_text(f"{table.BEGIN}\n{table.END}\n")
    monkeypatch.setattr(bench, "DOCUMENT", document)
    write_json(tmp_path / "one.json", [small("speed", 1.0)])
    monkeypatch.setattr("sys.argv", ["bench", "--from", str(tmp_path / "one.json"), "--write"])
    assert 1 == bench.main()
    assert "speed" in capsys.readouterr().err


def small(name: str, ours: float) -> Part:
    """A part without sizes, which would be drawn."""
    return Part(name, "here", "then", 0.0, 0.0, None, (), [Figure("x", "s", [ours])])
