"""Addresses as people write them, and the line that brings a machine in."""

from __future__ import annotations

import shlex

import pytest

from leoronic.core.addresses import (
    PORT,
    Address,
    best_first,
    is_wildcard,
    join_line,
    parse_address,
    parse_listen,
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("192.168.1.10", "192.168.1.10", PORT),
        ("192.168.1.10:1", "192.168.1.10", 1),
        ("attic", "attic", PORT),
        ("attic.lan:22581", "attic.lan", 22581),
        (" attic ", "attic", PORT),
        ("[::1]", "::1", PORT),
        ("[::1]:5", "::1", 5),
        ("fe80::1%eth0", "fe80::1%eth0", PORT),
        ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65535),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    """Names, IPv4, and IPv6 with brackets or without; what is written can be read again."""
    found = parse_address(text)
    assert Address(host, port) == found
    assert found == parse_address(str(found), 7)


@pytest.mark.parametrize(
    "text",
    ["", ":", ":5", "a:0", "a:65536", "a:x", "a:", "[::1", "[::1]5", "[1.2.3.4]", "[]", "a b", "-a",
     "1:2:3", "a/b", "x" * 400, "a:٣", "a" * 254],
)  # fmt: skip
def test_no_addresses(text: str) -> None:
    """Whatever is not an address is refused as one."""
    with pytest.raises(ValueError, match=r"address|ADDR|port"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("22581", "::", 22581),
        (":22581", "::", 22581),
        ("*:22581", "::", 22581),
        ("127.0.0.1", "127.0.0.1", PORT),
        ("127.0.0.1:5", "127.0.0.1", 5),
        ("[::]:22580", "::", 22580),
        ("0.0.0.0", "0.0.0.0", PORT),
    ],
)
def test_where_to_listen(text: str, host: str, port: int) -> None:
    """A port alone, an address alone, or both."""
    assert Address(host, port) == parse_listen(text)


def test_wildcards() -> None:
    """All addresses, of either kind."""
    assert [True, True, False, False] == [
        is_wildcard(host) for host in ("::", "0.0.0.0", "127.0.0.1", "attic")
    ]


def test_the_addresses_that_others_reach() -> None:
    """IPv4 before IPv6, the order kept otherwise; loopback and link-local only for want of them."""
    found = ["127.0.0.1:1", "[fd00::1]:1", "nonsense!", "192.168.1.9:1", "10.0.0.1:1", "[::1]:1"]
    assert ["192.168.1.9:1", "10.0.0.1:1", "[fd00::1]:1"] == best_first(found)
    assert ["[fe80::1]:1"] == best_first(["127.0.0.1:1", "[fe80::1]:1", "[fe80::1]:1"])
    assert ["127.0.0.1:1", "[::1]:1"] == best_first(["127.0.0.1:1", "[::1]:1"])
    assert [] == best_first([])


def test_the_line_that_joins() -> None:
    """It is for a shell, with the cookie in the environment and the usual port left out."""
    line = join_line("k'1", ["127.0.0.1:22580", "10.0.0.1:22580", "[fd00::1]:22581"])
    assert ["LEORONIC_COOKIE=k'1", "leoronic", "start"] == shlex.split(line)[:3]
    assert ["--peer", "10.0.0.1", "--peer", "[fd00::1]:22581"] == shlex.split(line)[3:]
    assert "LEORONIC_COOKIE=k leoronic start" == join_line("k", [])
