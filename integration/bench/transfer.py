"""A big file to another process on this machine: encrypted, checked on arrival, on disk at the end.

Ours is two processes with what nodes use for files: blob store, TLS, threads. Beside it scp and
rsync through an sshd of our own, a bare stream over TLS that writes nothing, and two hashes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blake3 import blake3

from integration.bench import install
from integration.bench.figure import Figure, Goal, Missing
from integration.bench.install import Unavailable
from integration.bench.session import Session, Work, ours
from leoronic.blobs.hashing import digests
from leoronic.blobs.making import make_from_file
from leoronic.blobs.store import BlobStore
from leoronic.core.blob import BlobRef

SIZE_MIB = 1024
MIB = 1 << 20
ROUNDS = 5
WORK_S_MAX = 120.0
SIDE_ENDS_S_MAX = 5.0
SSHD_STARTS_S_MAX = 10.0
SCP, RSYNC, STREAM = "scp", "rsync over ssh", "bare uvloop TLS stream"
SHA, BLAKE = "sha256 alone", "blake3 alone"

SIDE = "integration.bench.transfer_side"
REPOSITORY = Path(__file__).resolve().parents[2]

_SSHD = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
Subsystem sftp internal-sftp
"""


def measure(session: Session) -> list[Figure]:
    """How fast a file of 1 GiB comes to another node."""
    mib = session.scaled(SIZE_MIB)
    source = session.folder / "source"
    with source.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(MIB))
    store = BlobStore(session.folder / "blobs")
    store.open()
    blob = make_from_file(store, digests()[0], session.folder, source.name, inside=True).blob
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(_side("serve", str(store.folder.path)))
        bare = stack.enter_context(_side("tls-serve", str(mib)))
        works: dict[str, Work | Missing] = {
            "ours": lambda: [mib / _fetched(session.folder, blob, port)],
            STREAM: lambda: [mib / _told("tls-fetch", str(mib), bare)],
            SHA: lambda: [mib / _hashed(source, hashlib.sha256())],
            BLAKE: lambda: [mib / _hashed(source, blake3())],
        }
        try:
            ssh = stack.enter_context(_sshd(session.folder / "ssh"))
        except (Unavailable, OSError, subprocess.SubprocessError) as error:
            works |= {SCP: Missing(str(error)), RSYNC: Missing(str(error))}
        else:
            works[SCP] = lambda: [mib / _by_scp(ssh, source)]
            works[RSYNC] = lambda: [mib / _by_rsync(ssh, source)]
        samples = session.take_turns(session.rounds(ROUNDS), works)
    mine = ours(samples)
    what = "a file to another node, checked and on disk"
    beside = {name: samples[name] for name in (SCP, RSYNC, SHA, BLAKE)}
    return [
        Figure(what, "MiB/s", mine, beside, more=True, goal=Goal(2.5, SCP)),
        Figure(
            f"{what}, beside bytes that go nowhere",
            "MiB/s",
            mine,
            {STREAM: samples[STREAM]},
            more=True,
            goal=Goal(0.5, STREAM),
        ),
    ]


@contextlib.contextmanager
def _side(*arguments: str) -> Iterator[str]:
    """A process of `transfer_side.py` that serves: the port that it says."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", SIDE, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline().decode().strip()
        if not line:
            raise OSError(f"{arguments[0]} has ended")
        yield line
    finally:
        process.stdin.close()
        try:
            process.wait(SIDE_ENDS_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _told(*arguments: str) -> float:
    """The seconds that a process of `transfer_side.py` says."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", SIDE, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        timeout=WORK_S_MAX,
        check=True,
    )
    return float(done.stdout)


def _fetched(folder: Path, blob: BlobRef, port: str) -> float:
    into = folder / "fetched"
    try:
        seconds = _told("fetch", str(into), blob.digest, str(folder / "blobs"), port)
        store = BlobStore(into)
        store.open()
        assert store.size(blob.digest) == blob.size
    finally:
        shutil.rmtree(into, ignore_errors=True)
    return seconds


def _hashed(source: Path, found: Any) -> float:
    """What a core can do, from memory to nowhere."""
    data = source.read_bytes()
    began = time.perf_counter()
    found.update(data)
    return time.perf_counter() - began


def _by_scp(ssh: list[str], source: Path) -> float:
    target = source.with_name("scp-copy")
    return _copied(["scp", "-q", *ssh, str(source), f"127.0.0.1:{target}"], target)


def _by_rsync(ssh: list[str], source: Path) -> float:
    target = source.with_name("rsync-copy")
    port = ssh[ssh.index("-P") + 1]
    shell = ["ssh", "-p", port, *ssh[2:]]
    copy = ["rsync", "--whole-file", "--inplace", "-e", shlex.join(shell)]
    return _copied([*copy, str(source), f"127.0.0.1:{target}"], target)


def _copied(command: list[str], target: Path) -> float:
    """Until the copy is on the disk, as ours is."""
    try:
        began = time.perf_counter()
        subprocess.run(command, stdin=subprocess.DEVNULL, timeout=WORK_S_MAX, check=True)
        with target.open("rb+") as file:
            os.fsync(file.fileno())
        return time.perf_counter() - began
    finally:
        target.unlink(missing_ok=True)


@contextlib.contextmanager
def _sshd(folder: Path) -> Iterator[list[str]]:
    """An sshd with keys of its own, on loopback: the options of scp that reach it.

    Raises `Unavailable`.
    """
    program = install.program("sshd", "openssh-server")
    install.program("rsync", "rsync")
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
        )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    settings = folder / "sshd_config"
    settings.write_text(_SSHD.format(folder=folder, port=port))
    if os.geteuid() == 0:
        # Where Debian's sshd locks itself in; the package makes it as the service starts.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    process = subprocess.Popen(
        [program, "-D", "-e", "-f", str(settings)],
        stdin=subprocess.DEVNULL,
        stderr=(folder / "sshd.log").open("wb"),
    )
    try:
        deadline = time.monotonic() + SSHD_STARTS_S_MAX
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable((folder / "sshd.log").read_text().strip() or "sshd says nothing")
            time.sleep(0.05)
        yield [
            "-P", port, "-F", "/dev/null", "-i", str(folder / "user"), "-o", "BatchMode=yes",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "LogLevel=ERROR",
        ]  # fmt: skip
    finally:
        process.terminate()
        process.wait()
