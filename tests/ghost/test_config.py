"""What a ghost is told at its start."""

from __future__ import annotations

from pathlib import Path

import pytest

from leoronic import node
from leoronic.client import Client
from leoronic.config import read_config
from leoronic.errors import BadRequest, NodeUnreachable
from leoronic.ghost.config import GhostConfig, keep_token, read_ghost_config
from leoronic.wire.token import make_token

TOKEN = make_token("0123456789abcdefghjkmnpqrstvwxyz", b"a certificate")


def read(folder: Path, *arguments: str, **environment: str) -> GhostConfig:
    return read_ghost_config(["--root", str(folder), *arguments], environment)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("2", ("2", True, ())), ("10.0.0.1", ("10.0.0.1:22580", False, ("10.0.0.1:22580",)))],
)
def test_whom_it_asks(tmp_path: Path, word: str, expected: object) -> None:
    """A number, or an address."""
    config = read(tmp_path, word)
    assert expected == (config.wanted, config.is_number, config.given)


def test_whom_it_asks_by_itself(tmp_path: Path) -> None:
    """Nobody is named: the lowest address will do."""
    config = read(tmp_path, "--name", "attic", "--tag", "light", "--peer", "10.0.0.1")
    assert ("", False, ()) == (config.wanted, config.is_number, config.given)
    machine = config.machine
    assert ("attic", ("light",), ("10.0.0.1:22580",)) == (
        machine.name,
        machine.tags,
        machine.peers,
    )


def test_a_wrong_address(tmp_path: Path) -> None:
    """It is told."""
    with pytest.raises(BadRequest, match="is not ADDR"):
        read(tmp_path, "not an address")


@pytest.mark.parametrize("option", ["--listen=:1", "--retention=1d"])
def test_what_is_for_nodes(tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What makes no sense for a ghost is wrong usage."""
    with pytest.raises(SystemExit) as caught:
        read(tmp_path, option)
    assert 2 == caught.value.code
    assert "leoronic ghost --help" in capsys.readouterr().err


def test_the_folder_of_a_node(tmp_path: Path) -> None:
    """It is not taken: what is there would be lost from sight."""
    (tmp_path / ".leoronic").mkdir()
    (tmp_path / ".leoronic" / "leoronic.db").touch()
    with pytest.raises(BadRequest, match="a node's folder"):
        read(tmp_path)


def test_the_token_is_kept(tmp_path: Path) -> None:
    """What was given once need not be given again."""
    (tmp_path / ".leoronic").mkdir()
    with pytest.raises(BadRequest, match="leoronic join --ghost"):
        keep_token(read(tmp_path))
    assert TOKEN == keep_token(read(tmp_path, LEORONIC_TOKEN=TOKEN.encode()))
    assert TOKEN == keep_token(read(tmp_path))
    other = make_token("another cookie, as long as it must be", b"a certificate")
    file = tmp_path / "given"
    file.write_text(other.encode() + "\n")
    assert other == keep_token(read(tmp_path, "--token", str(file)))
    assert other == keep_token(read(tmp_path))


def test_the_folder_of_a_ghost(tmp_path: Path) -> None:
    """It is not made a node's by mistake, and whoever asks there is told whom to ask."""
    (tmp_path / ".leoronic").mkdir()
    (tmp_path / ".leoronic" / "token").write_text("x")
    with pytest.raises(BadRequest, match="is a ghost's folder: `leoronic ghost` starts it"):
        node._refuse_ghosts_folder(read_config(["--root", str(tmp_path)], {}))
    with pytest.raises(NodeUnreachable, match="is a ghost's folder: ghosts answer no commands"):
        Client(root=str(tmp_path)).status()
