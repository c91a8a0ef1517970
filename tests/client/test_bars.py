"""Progress bars: only on a terminal, and gone when they are done."""

from __future__ import annotations

import sys

import pytest

from leoronic.client.bars import Bars


def test_nothing_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """No bar, and nothing to draw one is imported."""
    sys.modules.pop("rich.progress", None)
    with Bars() as bars:
        bars.show("x", 1, 2)
        bars.end("x")
    assert ("", "") == capsys.readouterr()
    assert "rich.progress" not in sys.modules


def test_bars_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bar for each label, harmless whatever it is called; cleared at the end."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with Bars() as bars:
        bars.show("a[red]\x1b[2J", 0, 4 << 20)
        bars.show("a[red]\x1b[2J", 1 << 20, 4 << 20)
        bars.show("other", 3, 3)
        bars.end("other")
        bars.end("unknown")
    out, err = capsys.readouterr()
    assert "" == out
    assert "a[red]\\x1b[2J" in err
    assert "1.0/4.0 MiB" in err
    assert err.endswith(("\x1b[2K", "\x1b[?25h"))


def test_nothing_if_not_wanted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with --json."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Bars(enabled=False) as bars:
        bars.show("x", 1, 2)
    assert ("", "") == capsys.readouterr()
