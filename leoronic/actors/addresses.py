"""Addresses of this machine and of others: interfaces, DNS, and the file of peers once met."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Container, Iterable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import ifaddr
import msgspec

from leoronic.core.addresses import Address, ip_of, is_wildcard, parse_address
from leoronic.core.member_record import Acquaintance
from leoronic.durable import replace_file

REMEMBERED_MAX = 512
ADDRESSES_MAX = 16
FILE_BYTES_MAX = 1024 * 1024

# Bridges to containers and virtual machines: the same addresses are found on many machines.
_VIRTUAL = ("docker", "br-", "veth", "virbr", "lxc", "cni", "podman")


def own_addresses(host: str, port: int) -> list[str]:
    """HOST:PORT of each address at which others may reach who listens at `host`, the best first.

    Those of the machine alone (loopback) only if there are no others.
    """
    if not is_wildcard(host):
        return [str(Address(host, port))]
    found: list[tuple[int, int, str]] = []
    for place, (interface, ip) in enumerate(_interfaces()):
        if ip.version == 6 and host == "0.0.0.0":
            continue
        if ip.is_link_local and ip.version == 6:
            continue  # Means something only together with an interface of the other machine.
        found.append((_rank(interface, ip), place, str(Address(str(ip), port))))
    far = [text for rank, _, text in sorted(found) if rank < _LOOPBACK]
    return (far or [text for _, _, text in sorted(found)])[:ADDRESSES_MAX]


def is_here(host: str) -> bool:
    """Whether this machine has the address `host` now."""
    ip = ip_of(host)
    if ip is None or (ip.version == 6 and ip.is_link_local):
        return True  # Only its interface could tell.
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(ip), 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def _interfaces() -> list[tuple[str, IPv4Address | IPv6Address]]:
    found = []
    for adapter in ifaddr.get_adapters():
        for given in adapter.ips:
            ip = ip_of(given.ip if isinstance(given.ip, str) else given.ip[0])
            if ip is not None:
                found.append((adapter.nice_name, ip))
    return found


_IPV4, _IPV6, _SELF_GIVEN, _BRIDGE, _LOOPBACK = range(5)


def _rank(interface: str, ip: IPv4Address | IPv6Address) -> int:
    if ip.is_loopback:
        return _LOOPBACK
    if interface.startswith(_VIRTUAL):
        return _BRIDGE
    if ip.is_link_local:
        return _SELF_GIVEN
    return _IPV4 if ip.version == 4 else _IPV6


async def resolve(text: str) -> list[str]:
    """HOST:PORT of each IP address of `text` (HOST:PORT). Raises `OSError`."""
    address = parse_address(text)
    if ip_of(address.host) is not None:
        return [text]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    hosts = dict.fromkeys(str(place[0]) for _, _, _, _, place in found)
    return [str(Address(host, address.port)) for host in hosts][:ADDRESSES_MAX]


def valid(addresses: Iterable[str]) -> list[str]:
    """Those of `addresses` that are HOST:PORT, each once, at most `ADDRESSES_MAX`."""
    found: dict[str, None] = {}
    for text in addresses:
        try:
            found[str(parse_address(text))] = None
        except ValueError:
            continue
    return list(found)[:ADDRESSES_MAX]


def read_remembered(path: Path) -> dict[str, Acquaintance]:
    """Members by id, those that changed last at the end; {} if there is no such file.

    Raises `OSError`, and `ValueError` if it holds something else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX)
    except FileNotFoundError:
        return {}
    return {one.id: one._replace(addresses=valid(one.addresses)) for one in _decoded(content)}


def _decoded(content: bytes) -> list[Acquaintance]:
    try:
        return _decoder.decode(content).peers
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a list of peers: {error}") from error


class _File(msgspec.Struct):
    peers: list[Acquaintance]


_decoder = msgspec.json.Decoder(_File)


def met_before(path: Path) -> list[Acquaintance]:
    """As `read_remembered`, for membership; nobody if it can't be read, which discovery tells."""
    try:
        return list(read_remembered(path).values())
    except (OSError, ValueError):
        return []


def write_remembered(path: Path, peers: dict[str, Acquaintance]) -> None:
    """Replace the file at once: a power cut leaves the old one or the new. Raises `OSError`.

    Losing the newest is harmless: the others, or mDNS, tell of them again.
    """
    replace_file(path, msgspec.json.encode(_File(list(peers.values()))))


def remembering(
    known: dict[str, Acquaintance],
    members: dict[str, list[str]],
    names: dict[str, str],
    left: Container[str] = (),
) -> dict[str, Acquaintance]:
    """`known` with what is told now: what changed at the end, the oldest dropped.

    A member without addresses is forgotten; one without a name keeps that it had.
    """
    found = dict(known)
    for node, addresses in members.items():
        before = found.get(node)
        name = names.get(node) or (before.name if before else "")
        now = Acquaintance(node, name, valid(addresses), node in left)
        if now == before:
            continue
        found.pop(node, None)
        if now.addresses:
            found[node] = now
    return dict(list(found.items())[-REMEMBERED_MAX:])
