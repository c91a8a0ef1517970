"""Options, environment and TOML: one frozen configuration."""

from __future__ import annotations

import dataclasses
import io
import socket
import sys
from pathlib import Path

import pytest

from leoronic import __version__
from leoronic.config import Config, environment, forget_cookie, given_cookie, read_config
from leoronic.core.cookie import COOKIE_LENGTH_MAX
from leoronic.errors import BadRequest

COOKIE = "a-cookie-that-none-can-guess"

GIB = 1 << 30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".leoronic").mkdir()
    return tmp_path


def read(root: Path, *options: str, toml: str = "", **variables: str) -> Config:
    if toml:
        (root / ".leoronic" / "config.toml").write_text(toml)
    return read_config(["--root", str(root), *options], variables)


def test_defaults(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is None is measured at the start; the name is the host's, made fit."""
    monkeypatch.setattr(socket, "gethostname", lambda: "old box!")
    assert Config(root=root, name="old-box-") == read(root)
    monkeypatch.setattr(socket, "gethostname", lambda: "-")
    assert "node" == read(root).name


def test_folders_of_a_node(root: Path) -> None:
    """All within its root."""
    made = read(root)
    assert (root / ".leoronic", root / "inbox", root / ".leoronic" / "output") == (
        made.state_dir,
        made.inbox,
        made.output_dir,
    )


def test_nothing_can_change_later(root: Path) -> None:
    """It is frozen."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        read(root).name = "x"  # type: ignore[misc]


def test_options(root: Path) -> None:
    """Sizes and times with units; tags and resources several times."""
    made = read(
        root,
        *("--name", "n1", "--cpus", "2.5", "--memory", "4GiB", "--storage", "10MiB"),
        *("--tag", "b", "--tag", "a", "--tag", "b", "--resource", "gpu=2", "--resource", "b=0.5"),
        *("--retention", "2h", "--log-format", "json"),
    )
    assert (
        Config(
            root,
            "n1",
            2.5,
            4 * GIB,
            10 << 20,
            (("b", 0.5), ("gpu", 2.0)),
            ("a", "b"),
            "json",
            7200.0,
        )
        == made
    )


def test_later_wins(root: Path) -> None:
    """File, then environment, then options; each setting for itself."""
    toml = 'name = "file"\ncpus = 1\nmemory = "1GiB"\ntag = ["file"]\n'
    made = read(root, "--name", "option", toml=toml, LEORONIC_NAME="env", LEORONIC_CPUS="2")
    assert ("option", 2.0, GIB, ("file",)) == (made.name, made.cpus, made.memory, made.tags)


def test_lists_in_the_environment(root: Path) -> None:
    """Separated by commas; what is empty is not set."""
    made = read(root, LEORONIC_TAG="a,b", LEORONIC_RESOURCE="gpu=1,b=2", LEORONIC_NAME="")
    assert (("a", "b"), (("b", 2.0), ("gpu", 1.0))) == (made.tags, made.resources)


def test_room_for_files(root: Path) -> None:
    """Sizes with units; what is not said depends on the disk."""
    plain = read(root)
    assert (None, None) == (plain.files_quota, plain.files_reserve)
    made = read(root, "--files-quota", "2GiB", toml='files_reserve = "10MiB"')
    assert (2 * GIB, 10 << 20) == (made.files_quota, made.files_reserve)


def test_resources_in_toml(root: Path) -> None:
    """As a table, or as on the command line."""
    assert (("gpu", 2.0),) == read(root, toml="resource = {gpu = 2}").resources
    assert (("gpu", 2.0),) == read(root, toml='resource = ["gpu=2"]').resources
    assert (("gpu", 2.0),) == read(root, toml='resource = "gpu=2"').resources


def test_where_the_root_comes_from(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Option, environment, current folder; absolute in any case."""
    monkeypatch.chdir(root)
    assert root == read_config([], {}).root
    assert root / "x" == read_config([], {"LEORONIC_ROOT": "x"}).root
    assert root / "y" == read_config(["--root", "y"], {"LEORONIC_ROOT": "x"}).root


def test_another_file(root: Path) -> None:
    """Instead of the node's own; it must be there then."""
    (root / "mine.toml").write_text('name = "mine"')
    assert "mine" == read(root, "--config", str(root / "mine.toml"), toml='name = "x"').name
    with pytest.raises(BadRequest, match=r"there is no .*none\.toml"):
        read(root, "--config", str(root / "none.toml"))


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("name =", "is not TOML"),
        (
            "nmae = 1",
            r"unknown nmae; known: cookie, cpus, files_quota, files_reserve, listen, log_",
        ),
        ("name = 5", "name: 5 is not a name"),
        ('name = "a b"', "name: 'a b' is not a name"),
        ("cpus = 0", "cpus: 0 is not a number of cpus"),
        ('cpus = "many"', "cpus: 'many' is not a number of cpus"),
        ("cpus = nan", "cpus: nan is not a number of cpus"),
        ("cpus = [1]", "cpus: "),
        ('memory = "lots"', "memory: "),
        ("memory = -1", "memory: "),
        ('retention = "soon"', "retention: "),
        ('log_format = "xml"', "log_format: 'xml' is not text or json"),
        ("tag = 5", "tag: "),
        ('tag = "a b"', "tag: "),
        ('resource = "gpu"', "resource: 'gpu' is not NAME=N, such as gpu=1"),
        ('resource = "gpu=many"', "resource: "),
        ('resource = "a b=1"', "resource: 'a b' is not a name"),
        ('resource = "gpu=-1"', "resource: "),
        ('resource = "gpu=nan"', "resource: "),
        ('resource = "gpu=inf"', "resource: "),
        ("resource = [5]", "resource: "),
        ('peer = "a b"', r"peer: 'a b' is not ADDR\[:PORT\]"),
        ('peer = ["a", "b:99999"]', "peer: '99999' is not a port"),
        (f"peer = {['a'] * 257}", "peer: at most 256"),
        ('listen = "nowhere:65536"', "listen: '65536' is not a port"),
        ('no_discovery = "maybe"', "no_discovery: 'maybe' is not true or false"),
        ("cookie = 5", "cookie: 5 is not the name of a file"),
    ],
)
def test_mistakes_are_named(root: Path, toml: str, message: str) -> None:
    """The setting and what is wrong with it, in one line."""
    with pytest.raises(BadRequest, match=message) as caught:
        read(root, toml=toml)
    assert "\n" not in caught.value.message or "TOML" in caught.value.message


def test_files_that_can_not_be_read(root: Path) -> None:
    """A folder, or bytes that are no text."""
    path = root / ".leoronic" / "config.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadRequest, match="cannot be read"):
        read(root)
    path.unlink()
    path.mkdir()
    with pytest.raises(BadRequest, match="cannot be read"):
        read(root)


@pytest.mark.parametrize("option", ["--nonsense", "--cpus", "--nam=x"])
def test_wrong_usage(root: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    """Exit code 2 and one line that says where to look; nothing is guessed from a beginning."""
    with pytest.raises(SystemExit) as caught:
        read(root, option)
    assert 2 == caught.value.code
    told = capsys.readouterr().err
    assert told.startswith("leoronic: ")
    assert told.endswith("see `leoronic start --help`\n")
    assert 1 == told.count("\n")


def test_version_and_help(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On stdout, and that is all."""
    for option, text in (("--version", f"leoronic {__version__}\n"), ("--help", "--resource")):
        with pytest.raises(SystemExit) as caught:
            read(root, option)
        assert 0 == caught.value.code
        assert text in capsys.readouterr().out


def test_where_to_listen_and_whom_to_look_for(root: Path) -> None:
    """All addresses and the usual port, in the local network; everything else is said."""
    made = read(root)
    assert ("::", 22580, (), True) == (
        made.listen_host,
        made.listen_port,
        made.peers,
        made.discovery,
    )
    made = read(
        root,
        *("--listen", "22581", "--peer", "attic", "--peer", "[fd00::1]:5", "--peer", "attic:22580"),
        "--no-discovery",
    )
    assert ("::", 22581) == (made.listen_host, made.listen_port)
    assert (("attic:22580", "[fd00::1]:5"), False) == (made.peers, made.discovery)


def test_finding_others_in_file_and_environment(root: Path) -> None:
    """The same settings; several peers are separated by commas in the environment."""
    made = read(root, toml='listen = "10.0.0.1"\npeer = ["a", "b"]\nno_discovery = true\n')
    assert ("10.0.0.1", 22580) == (made.listen_host, made.listen_port)
    assert (("a:22580", "b:22580"), False) == (made.peers, made.discovery)
    made = read(root, LEORONIC_PEER="c,d:1", LEORONIC_NO_DISCOVERY="0", LEORONIC_LISTEN=":7")
    assert (("c:22580", "d:1"), True, 7) == (made.peers, made.discovery, made.listen_port)


def test_a_cookie_in_a_file(root: Path) -> None:
    """It is read when it is asked for, and stripped; the file wins over the environment."""
    path = root / "given"
    path.write_text(f"\n{COOKIE} \n")
    made = read(root, "--cookie", str(path), LEORONIC_COOKIE=COOKIE[::-1])
    assert COOKIE == given_cookie(made)
    path.write_text("é" * COOKIE_LENGTH_MAX)
    assert "é" * COOKIE_LENGTH_MAX == given_cookie(made)
    path.unlink()
    with pytest.raises(BadRequest, match="cannot be read: No such file"):
        given_cookie(made)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "given: that is no cookie"),
        (b"\xff", "given is not text"),
        (b"x" * 2000, "given: that is no cookie"),
        (f"{COOKIE}\n{COOKIE}".encode(), "given: that is no cookie"),
        (b"secret", "given: a cookie of 6 characters can be guessed"),
    ],
)
def test_what_is_no_cookie_in_a_file(root: Path, content: bytes, message: str) -> None:
    """Told before anything is made, and the file is named."""
    path = root / "given"
    path.write_bytes(content)
    with pytest.raises(BadRequest, match=message):
        given_cookie(read(root, "--cookie", str(path)))


def test_a_cookie_on_the_standard_input(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` reads it from there."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{COOKIE}\n".encode())))
    assert COOKIE == given_cookie(read(root, "--cookie", "-"))


def test_a_cookie_in_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the secret itself; it is never shown, and can be taken out of the environment."""
    made = read(root, LEORONIC_COOKIE=COOKIE)
    assert COOKIE == given_cookie(made)
    assert COOKIE not in repr(made)
    assert given_cookie(read(root)) is None
    for text, message in ((" \n", "that is no cookie"), ("secret", "can be guessed")):
        with pytest.raises(BadRequest, match=f"LEORONIC_COOKIE: .*{message}"):
            read(root, LEORONIC_COOKIE=text)
    monkeypatch.setenv("LEORONIC_COOKIE", COOKIE)
    forget_cookie()
    forget_cookie()
    assert "LEORONIC_COOKIE" not in environment()


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's own, for the composition root."""
    monkeypatch.setenv("LEORONIC_NAME", "x")
    assert "x" == environment()["LEORONIC_NAME"]
