"""Log lines without structlog."""

from __future__ import annotations

import json

import pytest

from leoronic.runtime.plain_log import PlainLogger


def test_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON, with the fields that every line has, and those of the event."""
    log = PlainLogger({"node": "attic", "actor": "link"}, text=False)
    log.debug("not written")
    log.warning("lost", peer="b", seconds=1.5)
    line = json.loads(capsys.readouterr().err)
    assert "T" in line.pop("timestamp")
    assert line == {
        "event": "lost",
        "level": "warning",
        "node": "attic",
        "actor": "link",
        "peer": "b",
        "seconds": 1.5,
    }


def test_a_traceback_and_what_is_no_plain_data(capsys: pytest.CaptureFixture[str]) -> None:
    """Both are told: a log line must not end an actor."""
    log = PlainLogger({}, text=False)
    log.error("broken", exc_info=ValueError("why"), name="\udcff", what=object())
    line = json.loads(capsys.readouterr().err)
    assert "ValueError: why" in line["exception"]
    assert "object object" in line["what"]


def test_a_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """Text, for a terminal."""
    PlainLogger({"actor": "link"}, text=True).info("lost", peer="b")
    assert capsys.readouterr().err.endswith("[info    ] lost actor=link peer=b\n")
