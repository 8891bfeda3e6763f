"""Endpoint strings, as far as doctor has to understand them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rpcbroker.core.settings import Settings
from rpcbroker.host import listeners
from rpcbroker.host.wanted import wanted

_PART = re.compile(r"((?:\\.|[^:\\])*)(?::|$)", re.DOTALL)
_KEY = re.compile(r"(\w+)=(.*)", re.DOTALL)
_POSITIONS = {"tcp": "port", "tcp6": "port", "ssl": "port", "udp": "port", "dtls": "port", "unix": "address"}
"""What the first word after the kind means, if it has no name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A listener of `[section]`. `port` is 0 when the system chooses it, None when there is none to check."""

    section: str
    text: str
    kind: str
    options: dict[str, str]
    port: int | None

    @property
    def label(self) -> str:
        return f"[{self.section}] {self.text}"

    @property
    def datagrams(self) -> bool:
        """Whether it is one of UDP, whose ports are others than TCP's."""
        return self.kind in ("udp", "dtls")

    @property
    def host(self) -> str:
        """Where it listens; empty for every IPv4 address."""
        host = self.options.get("interface", "::" if self.kind == "tcp6" else "")
        return "" if host == "0.0.0.0" else host  # noqa: S104 - read, not bound

    def excludes(self, other: Endpoint) -> bool:
        """Whether not both can be had."""
        if self.kind == "unix" or other.kind == "unix":
            return self.kind == other.kind and self.options.get("address") == other.options.get("address")
        if self.datagrams is not other.datagrams:
            return False
        anywhere = {"", "::"} & {self.host, other.host}
        return bool(self.port) and self.port == other.port and (self.host == other.host or bool(anywhere))

    @property
    def name(self) -> str:
        """As endpoints.json calls it."""
        return f"{self.section}s" if self.kind in ("ssl", "dtls") else self.section


def endpoints(settings: Settings) -> Iterator[Endpoint]:
    """All that the broker listens on. Raises ValueError for what is none."""
    for listener in wanted(settings):
        listeners.check_form(listener)
        yield parse(listener.section, listener.description)


def check(endpoint: Endpoint) -> None:
    """Have Twisted read it, unless that needs files or what systemd gives to the broker alone. Raises ValueError."""
    if endpoint.kind in ("ssl", "tls", "systemd") or endpoint.datagrams:
        return
    from twisted.internet.endpoints import serverFromString

    try:
        serverFromString(None, endpoint.text)
    except Exception as error:  # a plugin for an endpoint may raise what it likes
        raise ValueError(f"{endpoint.label} is no endpoint: {error}") from None


def parse(section: str, text: str) -> Endpoint:
    """`kind:value:name=value`, with backslashes before colons that are meant. Raises ValueError."""
    kind, *rest = [match[1] for match in _PART.finditer(text)]
    if rest and not rest[-1]:
        rest.pop()  # what the pattern finds behind the end
    first = _POSITIONS.get(kind)
    options = {}
    for place, part in enumerate(rest):
        if match := _KEY.fullmatch(part):
            options[match[1]] = _plain(match[2])
        elif place == 0 and first:
            options[first] = _plain(part)
    port = None
    if first == "port":
        number = options.get("port", "")
        port = int(number) if re.fullmatch(r"[0-9]{1,5}", number, re.ASCII) else -1
        if not 0 <= port <= 65_535:
            raise ValueError(f"[{section}] {text}: {number or 'nothing'!r} is no port")
    return Endpoint(section=section, text=text, kind=kind, options=options, port=port)


def _plain(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word, flags=re.DOTALL)
