"""Folders of tasks, removed with all that is in them, whatever rights the tasks gave it."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path


def remove_tree(folder: Path) -> None:
    """Remove the folder and all that is in it; no link is followed. Harmless if it is not there.

    What cannot be removed stays: who has to know looks whether the folder is still there.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if not os.path.lexists(folder):
        return
    # Out of a folder that its owner may not write to, nothing can be removed: not by root alone.
    _open_up(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _open_up(folder: Path) -> None:
    """Give its owner all rights to it, and to each folder in it."""
    left = [folder]
    while left:
        one = left.pop()
        try:
            mode = one.lstat().st_mode
            if not stat.S_ISDIR(mode):
                continue
            if mode & stat.S_IRWXU != stat.S_IRWXU:
                one.chmod(stat.S_IMODE(mode) | stat.S_IRWXU)
            with os.scandir(one) as found:
                left += [Path(entry) for entry in found if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # of another user, or gone
