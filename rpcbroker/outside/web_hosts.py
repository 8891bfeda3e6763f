"""Which hosts rule nodes may call."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

PUBLIC = "*"
"""The entry that stands for all public hosts."""

_ENTRY = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]*(?::[^\[\]]*:[^\[\]]*)?))(?::([0-9]{1,5}))?", re.ASCII)
"""`host`, `host:port`, `[IPv6]:port`, or IPv6 as it is."""
_NAME = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*", re.ASCII)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_CLOUDS_OWN = frozenset(map(IPv4Address, ("168.63.129.16", "192.0.0.192")))
"""Addresses that look public, where a machine in a cloud finds that cloud's administration."""


class _Entry(NamedTuple):
    """One entry of the list. `network` and `name` exclude each other; without both it is all that is public."""

    network: IPv4Network | IPv6Network | None
    name: str
    port: int | None


class WebHosts:
    """Hosts are looked up, and it is the address to be connected to that has to be allowed: `allows`.

    Only hosts that are listed by name may be at any address: `lists`.
    """

    def __init__(self, listed: Sequence[str]) -> None:
        """`listed` as [rules] web_hosts has them; none: all public ones. Raises ValueError, which names the entry."""
        self._entries = [_entry(text) for text in listed] or [_entry(PUBLIC)]
        self._by_address = [entry for entry in self._entries if not entry.name]

    def lists(self, host: str, port: int) -> bool:
        """Whether this host is listed by name."""
        host = host.lower().removesuffix(".")
        return any(
            _fits(entry, port) and (host.endswith(entry.name[1:]) if entry.name[0] == "*" else host == entry.name)
            for entry in self._entries
            if entry.name
        )

    def may_allow(self, port: int) -> bool:
        """Whether there is any address that is allowed: if not, who is not listed by name need not be looked up."""
        return any(_fits(entry, port) for entry in self._by_address)

    def allows(self, address: str, port: int) -> bool:
        """Whether this address may be called, whatever the name of its host."""
        ip = _meant(ip_address(address))
        return any(
            _fits(entry, port) and (_is_public(ip) if entry.network is None else ip in entry.network)
            for entry in self._by_address
        )


def _fits(entry: _Entry, port: int) -> bool:
    return entry.port is None or entry.port == port


def _entry(text: str) -> _Entry:
    match = _ENTRY.fullmatch(text.strip().lower())
    host, port = (match[1] or match[2], match[3]) if match else ("", None)
    number = None if port is None else int(port)
    if not host or (number is not None and not 0 < number < 65_536):
        raise ValueError(_fault(text))
    if host == PUBLIC:
        return _Entry(None, "", number)
    try:
        return _Entry(ip_network(host), "", number)
    except ValueError:
        name = host.removesuffix(".")
        if not _NAME.fullmatch(name) or name.rpartition(".")[2].isdecimal():
            raise ValueError(_fault(text)) from None
        return _Entry(None, name, number)


def _fault(text: str) -> str:
    return (
        f"{text[:100]!r} is no host: there are names such as api.example.com and *.example.com, addresses, networks "
        "such as 10.0.0.0/8 and fd00::/8, and * for all that are public, each with a port such as :8080, or without; "
        "before a port IPv6 has brackets"
    )


def _meant(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that stands in an IPv6 one, for that is where it leads."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)


def _is_public(ip: IPv4Address | IPv6Address) -> bool:
    if not ip.is_global or ip.is_multicast or ip.is_reserved or ip in _CLOUDS_OWN:
        return False
    return (isinstance(ip, IPv4Address) or ip in _GLOBAL_UNICAST) and not _is_here(ip)


def _is_here(ip: IPv4Address | IPv6Address) -> bool:
    """Whether it is an address of this machine: what is sent there goes out from that address. Nothing is sent."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(ip), 9))
            return ip_address(probe.getsockname()[0]) == ip
    except OSError:
        return False  # there is no way to it
