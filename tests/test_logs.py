"""Log lines: JSON for programs, text for people, and nothing else on stderr."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leoronic.logs import configure_logs
from leoronic.runtime import log
from leoronic.runtime.log import get_logger
from leoronic.runtime.structured import structlog
from leoronic.writing import keep_writing, logs_are_text


class Stderr(io.TextIOWrapper):
    """As the real one: bytes below, and surrogates written with backslashes."""

    def __init__(self, *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(), "utf-8", errors="backslashreplace", write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def text(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Whatever is configured here is undone."""
    handlers, hook = list(logging.getLogger().handlers), sys.excepthook
    makers = list(log._makers)
    yield
    log._makers[:] = makers
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers
    sys.excepthook = hook


def configured(
    monkeypatch: pytest.MonkeyPatch, log_format: str | None = "json", **fields: Any
) -> Stderr:
    stderr = Stderr(**fields)
    monkeypatch.setattr(sys, "stderr", stderr)
    configure_logs("one", log_format)
    return stderr


@pytest.mark.parametrize(
    ("log_format", "terminal", "expected"),
    [("text", False, True), ("json", True, False), (None, True, True), (None, False, False)],
)
def test_what_is_chosen(
    monkeypatch: pytest.MonkeyPatch, log_format: str | None, terminal: bool, expected: bool
) -> None:
    """As asked for, else by whether a person is watching."""
    monkeypatch.setattr(sys, "stderr", Stderr(terminal=terminal))
    assert expected == logs_are_text(log_format)


def test_a_line_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """What CONTRACT names is there, and what was given besides."""
    stderr = configured(monkeypatch)
    logger = get_logger(actor="queue")
    logger.info("attempt lost", task="a", attempt=2, where=Path("/x"), node="another")
    get_logger().debug("not worth a line")
    [line] = stderr.lines()
    assert line.pop("timestamp").endswith("Z")
    assert {
        "event": "attempt lost",
        "level": "info",
        "node": "one",
        "actor": "queue",
        "task": "a",
        "attempt": 2,
        "where": "/x",
    } == line


@pytest.mark.parametrize("value", ["inbox/\udcff.json", 2**70, {1: "x"}, {"a": b"\xff"}, object])
def test_whatever_is_logged_is_a_line_of_json(
    monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    """A name of any bytes, a number of any size: no value can make logging fail."""
    stderr = configured(monkeypatch)
    get_logger().info("x", value=value, other="é\n")
    [line] = stderr.lines()
    assert ("x", "é\n") == (line["event"], line["other"])


def test_text_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without colours where there is no terminal."""
    stderr = configured(monkeypatch, "text")
    get_logger().info("ready", id="x\udcff")
    assert "ready" in stderr.text()
    assert "\x1b[" not in stderr.text()
    assert "\x1b[" in _coloured(monkeypatch)


def _coloured(monkeypatch: pytest.MonkeyPatch) -> str:
    stderr = configured(monkeypatch, None, terminal=True)
    get_logger().info("ready")
    return stderr.text()


def test_nobody_reads_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written before arrives; what is written after is dropped, and nothing is raised."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(sys, "stdout", stream)
        keep_writing()
        configure_logs("one", "json")
        get_logger().info("before")
        assert b"before" in os.read(read, 1000)
        os.close(read)
        get_logger().info("after")
        print("x" * 100_000, flush=True)
        print("x", file=sys.stderr)


def test_what_the_standard_library_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings of asyncio and others become lines like ours; less is left out."""
    stderr = configured(monkeypatch)
    logging.getLogger("asyncio").warning("slow %s", "callback")
    logging.getLogger("asyncio").info("not worth a line")
    [line] = stderr.lines()
    assert ("slow callback", "warning", "asyncio") == (line["event"], line["level"], line["logger"])


def test_an_error_nobody_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, with the whole traceback in it."""
    stderr = configured(monkeypatch)
    try:
        raise ValueError("mine")
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
    [line] = stderr.lines()
    assert ("uncaught error", "critical", "ValueError") == (
        line["event"],
        line["level"],
        line["reason"],
    )
    assert "ValueError: mine" in line["exception"]
