"""Gets the rivals: Debian packages where we may, Python ones into an environment of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

INSTALL_TIMEOUT_S = 180
PYTHON_PACKAGES = ("hyperqueue", "huey", "redis")


class Unavailable(Exception):
    """A rival cannot run here; says why."""


def program(name: str, package: str) -> str:
    """The path of a program, installed with apt-get if need be. Raises `Unavailable`."""
    found = shutil.which(name)
    if found is None:
        _apt(package)
        found = shutil.which(name)
    if found is None:
        raise Unavailable(f"no {name} here (Debian package {package})")
    return found


@cache
def _apt_updated() -> bool:
    return (
        subprocess.run(
            ["apt-get", "update", "-qq"],
            timeout=INSTALL_TIMEOUT_S,
            capture_output=True,
            check=False,
        ).returncode
        == 0
    )


def _apt(package: str) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    # RUNLEVEL=1: a package that brings a service must not start it.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    try:
        _apt_updated()
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package],
            env=environment,
            timeout=INSTALL_TIMEOUT_S,
            capture_output=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"apt-get took more than {INSTALL_TIMEOUT_S} s") from None


def environment_folder(name: str = "venv") -> Path:
    """Where Python rivals live: kept between runs, apart from the project's environment."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache_home) / "leoronic-bench" / name


@cache
def python(
    name: str = "venv",
    packages: tuple[str, ...] = PYTHON_PACKAGES,
    requirements: Path | None = None,
) -> str:
    """The Python of an environment that has these packages, made if need be.

    Each is imported by the name it is installed by; `requirements` says more about them. Raises
    `Unavailable`.
    """
    folder = environment_folder(name)
    found = folder / "bin" / "python"
    imports = ";".join(f"import {package}" for package in packages)
    wanted = packages if requirements is None else ("-r", str(requirements))
    try:
        if not _runs([str(found), "-c", imports]):
            subprocess.run(
                [sys.executable, "-m", "venv", "--clear", str(folder)],
                timeout=INSTALL_TIMEOUT_S, capture_output=True, check=True,
            )  # fmt: skip
            subprocess.run(
                [str(found), "-m", "pip", "install", "--quiet", *wanted],
                timeout=INSTALL_TIMEOUT_S, capture_output=True, check=True,
            )  # fmt: skip
        if not _runs([str(found), "-c", imports]):
            raise Unavailable("its Python packages are installed, but cannot be imported here")
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        reason = said[-1][:200] if said else str(error)
        raise Unavailable(f"its Python packages cannot be installed here: {reason}") from None
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"its Python packages cannot be installed here: {error}") from None
    return str(found)


def _runs(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    except OSError:
        return False


def compiled(source: Path, folder: Path) -> str:
    """A C program, compiled into `folder`. Raises `Unavailable`."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Unavailable("no C compiler here")
    result = folder / source.stem
    try:
        subprocess.run(
            [compiler, "-O2", "-o", str(result), str(source)],
            timeout=60, capture_output=True, check=True,
        )  # fmt: skip
    except subprocess.SubprocessError as error:
        raise Unavailable(f"{source.name} does not compile here: {error}") from None
    return str(result)
