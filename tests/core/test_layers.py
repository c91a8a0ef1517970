"""The arrows of the architecture: who may import whom, and what `core` must never touch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "leoronic"

# A layer may import itself and those named here; nothing else of this package.
ALLOWED = {
    "errors": set(),
    "durable": set(),
    "core": {"errors"},
    "wire": {"core", "durable", "errors"},
    "journal": {"core", "errors"},
    "blobs": {"core", "durable", "errors"},
    "runtime": {"wire", "core", "errors"},
    "runner": {"runtime", "wire", "core", "durable", "errors"},
    "actors": {
        "journal",
        "blobs",
        "runner",
        "runtime",
        "wire",
        "core",
        "durable",
        "errors",
        "package",
    },
    "config": {"core", "errors", "package"},
    "writing": set(),
    "lives": {"durable"},
    "logs": {"runtime", "writing"},
    "stopping": {"runtime", "core", "errors"},
    "beginning": {"runner", "runtime", "config", "errors"},
    "ghost": {
        "actors",
        "blobs",
        "runner",
        "runtime",
        "wire",
        "core",
        "config",
        "writing",
        "lives",
        "stopping",
        "beginning",
        "durable",
        "errors",
        "package",
    },
    "itself": {"actors", "wire", "core", "config", "lives", "durable", "errors", "package"},
    "children": {"actors", "ghost", "runtime", "blobs", "core", "itself"},
    "life": {
        "actors",
        "runtime",
        "core",
        "config",
        "logs",
        "itself",
        "children",
        "stopping",
        "errors",
        "package",
    },
    "node": {
        "life",
        "ghost",
        "runner",
        "runtime",
        "wire",
        "config",
        "logs",
        "writing",
        "beginning",
        "errors",
    },
    "__main__": {"node", "client"},
    "sim": {"journal", "wire", "core", "errors"},
    "client": {"blobs", "wire", "core", "errors", "package"},
    "remote": {"client", "wire", "core", "errors", "package"},
}
IMPURE = {"asyncio", "time", "random", "os", "socket", "sqlite3", "subprocess", "threading"}


def imports(path: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def layer(module: str) -> str:
    """The layer of `leoronic.LAYER...`; the package itself (its version) is `package`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "package"


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_layer_imports_only_the_layers_below_it(path: Path) -> None:
    """An arrow is an import, and there are no others."""
    relative = path.relative_to(PACKAGE)
    own = relative.parts[0].removesuffix(".py")
    used = {layer(name) for name in imports(path) if name.split(".")[0] == "leoronic"}
    assert set() == used - ALLOWED[own] - {own}


@pytest.mark.parametrize("path", sorted((PACKAGE / "core").rglob("*.py")), ids=lambda p: p.name)
def test_the_core_is_pure(path: Path) -> None:
    """What decides touches no clock, chance, file, socket or thread."""
    assert set() == {name.split(".")[0] for name in imports(path)} & IMPURE
