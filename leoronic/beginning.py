"""How the processes of a node, or of a ghost, begin: what both do alike."""

from __future__ import annotations

import fcntl
import os
from functools import partial
from pathlib import Path
from typing import Any

from leoronic.config import Config
from leoronic.errors import BadRequest
from leoronic.runner.actor import RunnerActor
from leoronic.runner.config import RunnerConfig
from leoronic.runtime.host import run_host
from leoronic.runtime.keeper import Adopt
from leoronic.runtime.memory import one_arena


def adoption(arguments: list[str]) -> tuple[Adopt | None, int | None]:
    """What a replaced keeper is told (see `KeeperLink`), taken out of `arguments`: and the lock."""
    told: dict[str, int] = {}
    for option in ("--adopt", "--link", "--lock"):
        if option in arguments:
            at = arguments.index(option)
            told[option] = int(arguments[at + 1])
            del arguments[at : at + 2]
    if "--adopt" not in told:
        return None, None
    return Adopt(told["--adopt"], told["--link"]), told["--lock"]


def take_lock(config: Config) -> int:
    """Make the folders and take their lock; raises `BadRequest` if somebody else has it."""
    config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = config.state_dir / "lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(lock, 20).decode(errors="replace").split("\n")[0]
        raise BadRequest(
            f"{_what_runs(config.root)} runs in {config.root} already (process {pid}); "
            "start this one elsewhere with --root DIR; to join others with it, stop it first "
            "(`leoronic stop`), then start it again with this line"
        ) from None
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock


def renew_lock(lock: int) -> None:
    """A keeper in the place of one that was killed: the lock's file names it from now on."""
    rest = os.pread(lock, 100, 0).partition(b"\n")[2]
    content = f"{os.getpid()}\n".encode() + rest
    os.pwrite(lock, content, 0)
    os.ftruncate(lock, len(content))


def _what_runs(root: Path) -> str:
    return "a node" if (root / ".leoronic" / "leoronic.db").exists() else "a ghost"


def runner_main(config: Config, host: dict[str, Any]) -> int:
    """A forked host process: the runner."""
    os.chdir("/")
    one_arena()
    settings = RunnerConfig(config.root, config.state_dir, config.output_dir)
    return run_host(partial(RunnerActor, settings), host)
