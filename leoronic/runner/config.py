"""What a runner is told when it starts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """Where a runner works and how much it may hold.

    `root` is the tasks' folder, `state_dir` the node's own (`ROOT/.leoronic`), `output_dir` where
    output is kept. Sizes are bytes, durations seconds.
    """

    root: Path
    state_dir: Path
    output_dir: Path
    attempts_max: int = 4096
    linger_s: float = 5.0
    grace_s: float = 5.0
    # A stream in memory may grow to this; above it goes to a file of its own.
    memory_bytes_max: int = 256 * 1024
    # From this age on, output goes to a file as it comes, so that little is lost with a runner.
    file_after_s: float = 1.0
    pack_bytes_max: int = 64 * 1024 * 1024
    # All tasks without a limit of their own share this one: a fork bomb fills it, not the machine.
    tasks_pids_max: int = 4096
    # An attempt that ends sooner is announced by its outcome alone: half the messages.
    announce_after_s: float = 0.02
    use_cgroups: bool = True
    # The most bash processes kept warm; 0 for none.
    warm_shells_max: int = 8
    # So many tasks within a second make it worth starting one.
    warm_after_starts: int = 4
    warm_idle_s: float = 60.0

    @property
    def work_dir(self) -> Path:
        """Where private working folders are that stay: they are the file store's to remove."""
        return self.state_dir / "work"

    @property
    def scratch_dir(self) -> Path:
        """Where the other private working folders are: they are the runner's to remove."""
        return self.state_dir / "scratch"

    @property
    def state_id(self) -> str:
        """Names this node's state folder among all on this machine, the same after a restart."""
        path = self.state_dir.resolve()
        seed = f"{path}\0{path.stat().st_ino}".encode(errors="surrogateescape")
        return hashlib.blake2s(seed, digest_size=6).hexdigest()
