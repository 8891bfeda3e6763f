"""Where the broker listens: Twisted's endpoint strings, with certificates that may change, and systemd's sockets."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from itertools import chain
from pathlib import Path
from typing import Any

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from rpcbroker.host.tls import METHODS, Certificates, TlsError, TlsFiles, load

BACKLOG = 4096
"""Connections that may wait to be accepted. With Twisted's 50 a fleet that reconnects loses SYNs, and seconds."""

ASKING = frozenset({"mqtt"})
"""Sections whose `ssl:` listeners ask for a certificate: devices may have one, callers over HTTP have none."""

_SSL_ARGUMENTS = (
    "port",
    "privateKey",
    "certKey",
    "sslmethod",
    "interface",
    "backlog",
    "extraCertChain",
    "dhParameters",
)
_PART = r":((?:\\.|[^\\:])*)"
_SYSTEMD_ARGUMENTS = ("domain", "index", "name")


class ListenError(Exception):
    """A listener cannot be opened; the text is one line for the operator."""


def check(section: str, description: str, directory: Path) -> float | None:
    """Whether `[section] listen` may have `description`. Raises ListenError.

    Reads the certificate that it names, and tells at which epoch second it ends. Relative paths start
    at `directory`. A socket of systemd's need not be there yet.
    """
    try:
        if description.startswith("ssl:"):
            return load(_ssl(description, directory)[1]).not_after
        if description.startswith("systemd:"):
            _systemd(description)
        else:
            serverFromString(None, description)
    except Exception as error:  # a plugin for an endpoint may raise what it likes
        raise _no_endpoint(section, description, error) from None
    return None


class Listeners:
    """All open listeners of one process.

    `ports` by the section of each; `urls`: a name, such as `http` or `mqtts`, and where clients on this
    machine find the first one of that kind.
    """

    _log = Logger()

    def __init__(self, reactor: Any, *, directory: Path, certificates: Certificates) -> None:
        """Relative paths start at `directory`: twistd may have changed the current one."""
        self.urls: dict[str, str] = {}
        self.ports: defaultdict[str, list[IListeningPort]] = defaultdict(list)
        self._reactor = reactor
        self._directory = directory
        self._certificates = certificates

    def open(self, section: str, description: str, factory: Factory) -> None:
        """Listen; who comes is `factory`'s. Raises ListenError."""
        secure = description.startswith("ssl:")
        opening = self._listen_ssl if secure else self._listen
        outcome: list[Any] = []
        opening(section, description, factory).addBoth(outcome.append)
        if not outcome or isinstance(outcome[0], Failure):
            why = outcome[0].getErrorMessage() if outcome else "it did not open at once"
            raise _cannot_listen(section, description, why)
        port = outcome[0]
        if not secure and "backlog=" not in description and hasattr(port, "socket"):
            port.socket.listen(BACKLOG)
        self.ports[section].append(port)
        scheme = f"{section}s" if secure else section
        self.urls.setdefault(scheme, _url(scheme, port))

    def close(self) -> Deferred[Any]:
        """Take no more connections; those that are open stay. Fires when all are closed, well or not."""
        ports = chain(*self.ports.values())
        return gatherResults([maybeDeferred(port.stopListening).addErrback(self._not_closed) for port in ports])

    def _not_closed(self, failure: Failure) -> None:
        """Somebody may have removed the file of a UNIX socket: no reason not to go on to the end."""
        self._log.warn("a listener was not closed in good order: {error}", error=failure.value)

    def _listen(self, section: str, description: str, factory: Factory) -> Deferred[IListeningPort]:
        try:
            if description.startswith("systemd:"):
                _systemd(description)
            endpoint = serverFromString(self._reactor, description)
        except LookupError:
            raise _cannot_listen(section, description, "systemd handed over no such socket") from None
        except Exception as error:  # a plugin for an endpoint may raise what it likes
            raise _no_endpoint(section, description, error) from None
        opened: Deferred[IListeningPort] = endpoint.listen(factory)
        return opened

    def _listen_ssl(self, section: str, description: str, factory: Factory) -> Deferred[IListeningPort]:
        try:
            given, files = _ssl(description, self._directory)
            name = f"[{section}] ssl:{given['port']}"
            certificate = self._certificates.add(name, files, asks=section in ASKING)
        except (ValueError, TlsError) as error:
            raise _no_endpoint(section, description, error) from None
        return maybeDeferred(
            self._reactor.listenTCP,
            int(given["port"]),
            TLSMemoryBIOFactory(certificate, False, factory, self._reactor),
            backlog=int(given.get("backlog", BACKLOG)),
            interface=given.get("interface", ""),
        )


def _no_endpoint(section: str, description: str, error: object) -> ListenError:
    return ListenError(f"[{section}] listen: {description!r} is no endpoint: {error}")


def _cannot_listen(section: str, description: str, why: object) -> ListenError:
    return ListenError(f"[{section}] listen: cannot listen on {description!r}: {why}")


def _ssl(description: str, directory: Path) -> tuple[dict[str, str], TlsFiles]:
    """What an `ssl:` endpoint string says, by Twisted's rules. Raises ValueError."""
    given = _arguments(description, _SSL_ARGUMENTS)
    for name in {"port", "backlog"} & set(given):
        if not given[name].isdecimal():
            raise ValueError(f"{name} must be a number, not {given[name]!r}")
    if "port" not in given:
        raise ValueError("the port is missing")
    method = given.get("sslmethod", "TLS_METHOD")
    if method not in METHODS:
        raise ValueError(f"sslmethod must be one of {', '.join(METHODS)}; there is nothing below TLS 1.2")
    key = directory / given.get("privateKey", "server.pem")
    files = TlsFiles(
        private_key=key,
        certificate=directory / given["certKey"] if "certKey" in given else key,
        chain=directory / given["extraCertChain"] if "extraCertChain" in given else None,
        dh_parameters=directory / given["dhParameters"] if "dhParameters" in given else None,
        highest=METHODS[method],
    )
    return given, files


def _systemd(description: str) -> None:
    """Raises ValueError for what will not work with any socket."""
    given = _arguments(description, _SYSTEMD_ARGUMENTS)
    if ("index" in given) == ("name" in given):
        raise ValueError("it must have either a name= or an index=")
    if not given.get("index", "0").isdecimal():
        raise ValueError(f"index must be a number, not {given['index']!r}")
    if given.get("domain") not in ("INET", "INET6"):
        # Twisted removes the file of an adopted UNIX socket when it stops, and systemd makes it only once.
        raise ValueError("its domain must be INET or INET6; for a UNIX socket use unix:")


def _arguments(description: str, names: tuple[str, ...]) -> dict[str, str]:
    """The arguments of an endpoint string; those without a name by their place. A backslash escapes.

    Raises ValueError.
    """
    given: dict[str, str] = {}
    positions = iter(names)
    if not re.fullmatch(rf"\w+(?:{_PART})*", description):
        raise ValueError("it ends in the middle of something")
    for part in re.findall(_PART, description):
        named = re.fullmatch(r"((?:\\.|[^\\=])*)=(.*)", part)
        name, value = named.groups() if named else (next(positions, ""), part)
        name, value = (re.sub(r"\\(.)", r"\1", text) for text in (name, value))
        if name not in names or name in given:
            raise ValueError(f"{part!r} is not understood; there are {', '.join(names)}, each once")
        given[name] = value
    return given


def _url(scheme: str, port: IListeningPort) -> str:
    host = port.getHost()
    if isinstance(host, UNIXAddress):
        return f"{scheme}+unix://{os.fsdecode(host.name)}"
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host.host, host.host)  # noqa: S104 - read, not bound
    return f"{scheme}://{f'[{address}]' if ':' in address else address}:{host.port}"
