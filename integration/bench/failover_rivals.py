"""The rivals on three machines, one of which vanishes: each at its defaults.

The first machine has the head, the others work. All have the same file system, as machines with a
shared home have; only the network is apart.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import ClassVar

from integration.bench import install
from integration.bench.ground import Ground
from integration.bench.install import Unavailable
from integration.bench.side import Side

HERE = Path(__file__).resolve().parent
MACHINES = ("a", "b", "c")
HEAD, OTHER, GONE = MACHINES
CPUS = 2
DASK_PORT = 8786
RAY_PORT = 6379
COMMAND_S_MAX = 20


class Cluster:
    """A rival on the three machines. `within_s`: how long its failover may take."""

    name: ClassVar[str]
    within_s: ClassVar[float]
    by_hand_s: ClassVar[float]
    """What was found when it was measured by hand; told where a run leaves it out."""

    def __init__(self, ground: Ground) -> None:
        """Start it. Raises `Unavailable`."""
        self.ground = ground

    def run(self, count: int) -> None:
        """Have `count` long tasks start on the machine that will be gone."""
        raise NotImplementedError

    def close(self) -> None:
        """End what is not on the machines; the rest ends with them."""


class Dask(Cluster):
    """A scheduler, two workers with their nannies."""

    name = "Dask"
    within_s = 90.0

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        python = install.python("dask", ("distributed",))
        scheduler = f"tcp://{ground.lab.address(HEAD)}:{DASK_PORT}"
        command = (python, "-m", "distributed.cli.dask_scheduler", "--no-dashboard")
        ground.spawn(HEAD, *command, "--port", str(DASK_PORT))
        for machine in (OTHER, GONE):
            ground.spawn(
                machine,
                *(python, "-m", "distributed.cli.dask_worker", scheduler, "--name", machine),
                *("--nthreads", str(CPUS), "--no-dashboard", "--memory-limit", "1GiB"),
                *("--local-directory", str(ground.folder / machine)),
            )
        side = (python, str(HERE / "dask_side.py"), scheduler, str(ground.runs), GONE)
        self._side = Side(ground.inside(HEAD, *side), ground.folder)

    def run(self, count: int) -> None:
        """Submitted with a wish for that worker, which others may take as well."""
        self._side.ask("run", count)

    def close(self) -> None:
        """End the client."""
        self._side.close()


class Ray(Cluster):
    """A head without processors of its own, two nodes."""

    name = "Ray"
    within_s = 480.0
    by_hand_s = 421.0

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        python = install.python("ray", ("ray",))
        # Its sockets are below it, and a socket's path may be 107 bytes long.
        self._temporary = Path(tempfile.mkdtemp(prefix="lr"))
        ray = (str(Path(python).parent / "ray"), "start", "--block", "--disable-usage-stats")
        address = f"{ground.lab.address(HEAD)}:{RAY_PORT}"
        small = ("--object-store-memory", "100000000")
        try:
            ground.spawn(
                HEAD,
                *(*ray, "--head", "--port", str(RAY_PORT), "--num-cpus", "0", *small),
                *("--node-ip-address", ground.lab.address(HEAD)),
                *("--include-dashboard", "false", "--temp-dir", str(self._temporary)),
            )
            # Two that start at once on one file system may take the same names of sockets.
            time.sleep(8)
            for machine in (OTHER, GONE):
                ground.spawn(
                    machine,
                    *(*ray, "--address", address, "--num-cpus", str(CPUS), *small),
                    *("--node-ip-address", ground.lab.address(machine)),
                )
                time.sleep(4)
            side = (python, str(HERE / "ray_side.py"), address, str(ground.runs))
            self._side = Side(ground.inside(HEAD, *side, ground.lab.address(GONE)), ground.folder)
        except Unavailable:
            shutil.rmtree(self._temporary, ignore_errors=True)
            raise

    def run(self, count: int) -> None:
        """Submitted with a soft affinity to that node."""
        self._side.ask("run", count)

    def close(self) -> None:
        """End the driver."""
        self._side.close()
        shutil.rmtree(self._temporary, ignore_errors=True)


class Slurm(Cluster):
    """slurmctld, two slurmd, one munged whose socket all of them reach."""

    name = "Slurm"
    within_s = 600.0
    by_hand_s = 528.0

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self._sbatch = install.program("sbatch", "slurm-client")
        controller = install.program("slurmctld", "slurmctld")
        daemon = install.program("slurmd", "slurmd")
        munged = install.program("munged", "munge")
        self._config = ground.folder / "slurm.conf"
        self._environment = {"SLURM_CONF": str(self._config)}
        socket = self._munge(munged)
        self._config.write_text(self._configuration(socket))
        (ground.folder / "state").mkdir()
        for machine in (OTHER, GONE):
            (ground.folder / f"spool-{machine}").mkdir()
        ground.spawn(HEAD, controller, "-D", "-i", environment=self._environment)
        for machine in (OTHER, GONE):
            ground.spawn(machine, daemon, "-D", environment=self._environment)

    def _munge(self, munged: str) -> Path:
        # It refuses folders that others may write to, as /tmp is; and to run as root by default.
        folder = Path(tempfile.mkdtemp(prefix="lm", dir="/run"))
        folder.chmod(0o755)
        self._munge_folder = folder
        key = folder / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        socket = folder / "socket"
        self.ground.spawn(
            HEAD,
            *(munged, "--foreground", "--force", "--key-file", str(key), "--socket", str(socket)),
            *("--pid-file", str(folder / "pid"), "--seed-file", str(folder / "seed")),
            *("--log-file", str(folder / "log")),
        )
        deadline = time.monotonic() + 10
        while not socket.exists():
            if time.monotonic() > deadline:
                raise Unavailable(f"munged does not start: {self.ground.last_words()}")
            time.sleep(0.05)
        return socket

    def _configuration(self, socket: Path) -> str:
        folder, address = self.ground.folder, self.ground.lab.address
        # A lower weight is taken first.
        nodes = "".join(
            f"NodeName={machine} NodeAddr={address(machine)} CPUs={CPUS} Weight={weight}\n"
            for machine, weight in ((OTHER, 9), (GONE, 1))
        )
        return (
            f"ClusterName=bench\nSlurmctldHost={HEAD}({address(HEAD)})\n"
            f"SlurmUser=root\nAuthType=auth/munge\nAuthInfo=socket={socket}\n"
            f"CredType=cred/munge\nMpiDefault=none\nProctrackType=proctrack/linuxproc\n"
            f"TaskPlugin=task/none\nSelectType=select/cons_tres\n"
            f"SelectTypeParameters=CR_CPU\n"
            f"StateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool-%h\n"
            f"SlurmctldPidFile={folder}/slurmctld.pid\nSlurmdPidFile={folder}/slurmd-%h.pid\n"
            f"{nodes}PartitionName=bench Nodes={OTHER},{GONE} Default=YES MaxTime=INFINITE\n"
        )

    def run(self, count: int) -> None:
        """Jobs that may be queued again, which is the default; that machine is taken first."""
        script = f'echo "$SLURMD_NODENAME $SLURM_JOB_ID" >> {self.ground.runs}; sleep 3600'
        deadline = time.monotonic() + COMMAND_S_MAX
        for _ in range(count):
            while True:
                done = subprocess.run(
                    self.ground.inside(
                        HEAD, self._sbatch, "--parsable", "-n1", "-o", "/dev/null", "--wrap", script
                    ),
                    env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **self._environment},
                    cwd=self.ground.folder,
                    capture_output=True, text=True, timeout=COMMAND_S_MAX, check=False,
                )  # fmt: skip
                if not done.returncode:
                    break
                if time.monotonic() > deadline:
                    raise Unavailable(f"{done.stderr.strip()[-200:]}; {self.ground.last_words()}")
                time.sleep(0.5)

    def close(self) -> None:
        """Take munge's folder away."""
        shutil.rmtree(self._munge_folder, ignore_errors=True)


QUICK: tuple[type[Cluster], ...] = (Dask,)
SLOW: tuple[type[Cluster], ...] = (Ray, Slurm)
