"""Reading what runs of this machine printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from leoronic.actors.own_output import read_stream
from leoronic.core.outcome import StreamRef
from leoronic.errors import Refused


def test_a_file_of_the_folder_is_read(tmp_path: Path) -> None:
    """From the place that is asked for."""
    (tmp_path / "t.1.stdout").write_bytes(b"0123456789")
    assert b"34" == read_stream(tmp_path, StreamRef(8, file="t.1.stdout", offset=1), 2, 2)


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "..", ".", "", "a/../b"])
def test_no_other_file_is_read(tmp_path: Path, name: str) -> None:
    """Entries come from other nodes: where they lead out of the folder, they are refused."""
    folder = tmp_path / "output"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    with pytest.raises(Refused):
        read_stream(folder, StreamRef(6, file=name), 0, 6)


def test_no_link_is_followed(tmp_path: Path) -> None:
    """Whoever may write to the folder does not hand out other files by it."""
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "link").symlink_to("secret")
    with pytest.raises(Refused):
        read_stream(tmp_path, StreamRef(6, file="link"), 0, 6)
