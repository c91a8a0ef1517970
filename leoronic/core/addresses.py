"""Addresses of peer ports as text: HOST:PORT, an IPv6 host in brackets; and the line that joins."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

PORT = 22580
"""Where a node listens for others unless it is told another port."""
ADDRESS_LENGTH_MAX = 300
JOIN_ADDRESSES_MAX = 4

_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


class Address(NamedTuple):
    """A host (name, or IP address without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, port: int = PORT) -> Address:
    """The address in `HOST`, `HOST:PORT`, `[IPV6]`, `[IPV6]:PORT` or a bare IPv6 address.

    `port` is taken where none is given. Raises `ValueError` that says what would be right.
    """
    text = text.strip()
    if len(text) > ADDRESS_LENGTH_MAX:
        raise ValueError("an address is at most 300 characters long")
    host, given = _split(text)
    if not host or not (ip_of(host) or _NAME.fullmatch(host)):
        raise ValueError(f"{text!r} is not ADDR[:PORT], such as 192.168.1.10 or [fe80::1]:{PORT}")
    return Address(host, port if given is None else _port(given, 1))


def _split(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host or (rest and not rest.startswith(":")):
            return "", None
        return host, rest[1:] if rest else None
    if text.count(":") > 1:
        return text, None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _port(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text[:6]) < 65536):
        raise ValueError(f"{text!r} is not a port: a number from {least} to 65535")
    return int(text)


def parse_listen(text: str) -> Address:
    """The address in `ADDR:PORT`, `ADDR`, `PORT` or `:PORT`; all addresses where none is given.

    Port 0 is any that is free. Raises `ValueError`.
    """
    text = text.strip()
    port = text.removeprefix(":")
    if port.isascii() and port.isdigit():
        return Address("::", _port(port, 0))
    host, given = _split("[::]" + text[1:] if text.startswith("*") else text)
    if given is not None and _port(given, 0) == 0:
        return Address(parse_address(f"[{host}]" if ":" in host else host).host, 0)
    return parse_address("[::]" + text[1:] if text.startswith("*") else text)


def ip_of(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address that `host` is; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_wildcard(host: str) -> bool:
    """Whether listening there is listening on all addresses of the machine."""
    found = ip_of(host)
    return found is not None and found.is_unspecified


def best_first(addresses: Iterable[str]) -> list[str]:
    """Addresses (HOST:PORT) that other machines may reach, those most likely to work first.

    Those of this machine alone (loopback) are left out unless there are no others, as are those
    that mean something on one link only. What cannot be read is left out.
    """
    ranked: list[tuple[int, int, str]] = []
    for place, text in enumerate(addresses):
        try:
            address = parse_address(text)
        except ValueError:
            continue
        ranked.append((_rank(address.host), place, str(address)))
    best = sorted(ranked)
    far = [text for rank, _, text in best if rank < _LINK_LOCAL]
    near = [text for rank, _, text in best if rank == _LINK_LOCAL]
    return list(dict.fromkeys(far or near or [text for _, _, text in best]))


_IPV4, _NAMED, _IPV6, _LINK_LOCAL, _LOOPBACK = range(5)


def _rank(host: str) -> int:
    ip = ip_of(host)
    if ip is None:
        return _LOOPBACK if host == "localhost" else _NAMED
    if ip.is_loopback:
        return _LOOPBACK
    if ip.is_link_local:
        return _LINK_LOCAL
    return _IPV4 if ip.version == 4 else _IPV6


def join_line(cookie: str, addresses: Iterable[str]) -> str:
    """What is to be pasted into a shell of another machine, in the folder of its node.

    The cookie goes by the environment: what stands among a process's arguments, all can read.
    """
    return f"LEORONIC_COOKIE={shlex.quote(cookie)} leoronic start{_peers(addresses)}"


def ghost_line(token: str, addresses: Iterable[str]) -> str:
    """The same for a ghost: `token` lets it in, as a ghost only."""
    return f"LEORONIC_TOKEN={shlex.quote(token)} leoronic ghost{_peers(addresses)}"


def _peers(addresses: Iterable[str]) -> str:
    return "".join(
        f" --peer {shlex.quote(_short(text))}"
        for text in best_first(addresses)[:JOIN_ADDRESSES_MAX]
    )


def _short(text: str) -> str:
    address = parse_address(text)
    return text if address.port != PORT else str(address).removesuffix(f":{PORT}")
