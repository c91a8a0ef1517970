"""What a process has of the cluster, without connections."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, cast

from leoronic.remote.context import Context, _print
from leoronic.remote.refs import ObjectRef


def test_only_own_calls_are_cancelled() -> None:
    """The number of another process' call says nothing here."""
    posted: list[Any] = []
    party = SimpleNamespace(post=lambda *what: posted.append(what))
    context = cast(Context, SimpleNamespace(owner=("n", "p"), party=party, _cancel=None))
    Context.cancel(context, ObjectRef(("n", "other", 1 << 32)), is_forced=False)
    assert [] == posted
    Context.cancel(context, ObjectRef(("n", "p", 1 << 32)), is_forced=False)
    assert [(None, 1, False)] == posted


def test_what_cannot_be_printed_harms_nothing() -> None:
    """Letters that the stream does not have are escaped; one that is closed gets nothing."""
    raw = io.BytesIO()
    ascii_only = io.TextIOWrapper(raw, encoding="ascii")
    _print("für\n", ascii_only)
    assert b"f\\xfcr\n" == raw.getvalue()
    closed = io.StringIO()
    closed.close()
    _print("x\n", closed)
    _print("x\n", None)
