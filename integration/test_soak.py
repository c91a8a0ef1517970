"""The soak, shorter than by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from integration.soak import soak


@pytest.mark.patient
def test_soak(tmp_path: Path) -> None:
    """Five machines take whatever a seed does to them, for three quarters of a minute."""
    happened = soak(tmp_path, seed=20, for_s=45.0)
    assert happened["tasks"] > 20
