"""The cookie file, and what is derived from a cookie."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from leoronic.errors import BadRequest
from leoronic.wire.cookie import (
    authority_seed,
    fingerprint,
    keep_cookie,
    new_cookie,
    read_cookies,
    write_cookies,
)

COOKIE = "0123456789abcdefghjkmnpqrstvwxyz"


def test_a_new_cookie() -> None:
    """160 bits; easily pasted."""
    made = {new_cookie() for _ in range(100)}
    assert 100 == len(made)
    assert all(len(cookie) == 32 and cookie.isalnum() for cookie in made)


def test_what_is_derived() -> None:
    """The same everywhere and for ever: a change would part the clusters that exist."""

    def hkdf(info: bytes, length: int) -> bytes:
        return HKDF(SHA256(), length, b"leoronic cookie 1", info).derive(COOKIE.encode())

    assert "030eaec5" == fingerprint(COOKIE)
    assert hkdf(b"fingerprint", 4).hex() == fingerprint(COOKIE)
    assert hkdf(b"certificate authority", 32) == authority_seed(COOKIE)
    assert fingerprint(COOKIE) != fingerprint(COOKIE + "0")
    assert fingerprint(COOKIE) != authority_seed(COOKIE)[:4].hex()


def test_the_file(tmp_path: Path) -> None:
    """Only its owner may read it; blank lines and spaces do no harm; replaced at once."""
    path = tmp_path / "cookie"
    other = new_cookie()
    write_cookies(path, [COOKIE])
    write_cookies(path, [other, COOKIE])
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert [other, COOKIE] == read_cookies(path)
    path.write_text(f"\n  {COOKIE} \n\n{COOKIE}\n")
    assert [COOKIE] == read_cookies(path)
    assert ["cookie"] == [found.name for found in tmp_path.iterdir()]


def test_others_may_read_it(tmp_path: Path) -> None:
    """Refused, with what to do."""
    path = tmp_path / "cookie"
    write_cookies(path, [COOKIE])
    path.chmod(0o640)
    with pytest.raises(BadRequest, match=r"mode 0640.*chmod 600 .*cookie.*cookie rotate"):
        read_cookies(path)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"short\n", b"\xff" * 40, b"x" * 2000, (COOKIE + "\n").encode() * 5]
)
def test_what_is_no_cookie_file(tmp_path: Path, content: bytes) -> None:
    """The file is named."""
    path = tmp_path / "cookie"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(BadRequest, match=str(path)):
        read_cookies(path)


def test_the_first_start_and_those_after(tmp_path: Path) -> None:
    """Made once; a given one replaces it, unless it is there already."""
    path = tmp_path / "cookie"
    (made,) = keep_cookie(path)
    assert [made] == keep_cookie(path)
    assert [COOKIE] == keep_cookie(path, f" {COOKIE}\n")
    write_cookies(path, [made, COOKIE])
    assert [made, COOKIE] == keep_cookie(path, COOKIE)
    with pytest.raises(BadRequest):
        keep_cookie(path, "x")
