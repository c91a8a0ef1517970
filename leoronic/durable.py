"""Files that a power cut leaves as they were or as they are to be, and nothing in between."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Replace the file at `path`, or make it, with mode 0600; once this returns it is on the disk.

    Raises `OSError`; then the file is as it was, or as it is to be.
    """
    new = path.with_name(path.name + ".new")
    # What an earlier try left, or somebody else put there, is not written to.
    new.unlink(missing_ok=True)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in `folder` on the disk: a file that is synced may still be without one.

    Raises `OSError`.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
