"""Where the broker listens: Twisted's endpoint strings, with certificates that may change, and systemd's sockets.

Datagrams have strings of the same form: `udp:PORT` and `dtls:PORT:privateKey=KEY.pem:certKey=CERTIFICATE.pem`, each
perhaps with `:interface=ADDRESS`.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core.direct import Outgoing
from rpcbroker.host.tls import Certificate, Certificates, TlsError, TlsFiles
from rpcbroker.host.wanted import Wanted

BACKLOG = 4096
"""Connections that may wait to be accepted. With Twisted's 50 a fleet that reconnects loses SYNs, and seconds."""

ASKING = frozenset({"mqtt"})
"""Sections whose `ssl:` listeners ask for a certificate: devices may have one, callers over HTTP have none."""

SCHEMES = {"wamp": "rs", "wamps": "rss"}
"""Of URLs, where they are not called as what is spoken there: clients of WAMP say so for RawSocket."""

HIGHEST_PORT = 65_535
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
_DATAGRAM_ARGUMENTS = {
    "udp": ("port", "interface"),
    "dtls": ("port", "privateKey", "certKey", "interface", "extraCertChain"),
}
_DATAGRAMS = {("coap", "listen"): "udp", ("coap", "dtls_listen"): "dtls"}
"""Settings of listeners for datagrams, and the kind that each takes."""
_PART = r":((?:\\.|[^\\:])*)"
_SYSTEMD_ARGUMENTS = ("domain", "index", "name")


class ListenError(ValueError):
    """A listener cannot be opened; the text is one line for the operator."""


def check(listener: Wanted, directory: Path) -> float | None:
    """Whether it may be so described. Raises ListenError.

    Reads the certificate that it names, and tells at which epoch second it ends. Relative paths start
    at `directory`. A socket of systemd's need not be there yet.
    """
    description = listener.description
    try:
        if kind := _DATAGRAMS.get(listener[:2]):
            given = _datagrams(description, kind)
            return _end(_files(given, directory)) if kind == "dtls" else None
        if description.startswith("ssl:"):
            return _end(_ssl(description, directory)[1])
        if description.startswith("systemd:"):
            _systemd(description)
        else:
            serverFromString(None, description)
    except Exception as error:  # a plugin for an endpoint may raise what it likes
        raise _no_endpoint(listener, error) from None
    return None


def _end(files: TlsFiles) -> float:
    from rpcbroker.host.key_files import load

    return load(files).not_after


def check_form(listener: Wanted) -> None:
    """The same of a listener for datagrams without looking at files, of any other nothing. Raises ListenError."""
    if kind := _DATAGRAMS.get(listener[:2]):
        try:
            _datagrams(listener.description, kind)
        except ValueError as error:
            raise _no_endpoint(listener, error) from None


class Listeners:
    """All open listeners of one process.

    `ports` by the section of each; `urls`: a name, such as `http` or `mqtts` or `wamp`, and where clients on this
    machine find the first one of that kind.
    """

    _log = Logger()

    def __init__(self, reactor: Any, *, directory: Path, certificates: Certificates, outgoing: Outgoing) -> None:
        """Relative paths start at `directory`: twistd may have changed the current one."""
        self.urls: dict[str, str] = {}
        self.ports: defaultdict[str, list[IListeningPort]] = defaultdict(list)
        self._datagrams: list[IListeningPort] = []
        self._reactor = reactor
        self._directory = directory
        self._certificates = certificates
        self._outgoing = outgoing

    def open(self, listener: Wanted, factory: Factory) -> None:
        """Listen; who comes is `factory`'s. Raises ListenError."""
        secure = listener.description.startswith("ssl:")
        opening = self._listen_ssl if secure else self._listen
        outcome: list[Any] = []
        opening(listener, factory).addBoth(outcome.append)
        if not outcome or isinstance(outcome[0], Failure):
            why = outcome[0].getErrorMessage() if outcome else "it did not open at once"
            raise _cannot_listen(listener, why)
        port = outcome[0]
        if not secure and "backlog=" not in listener.description and hasattr(port, "socket"):
            port.socket.listen(BACKLOG)
        self._opened(listener.section, port, secure=secure)

    def open_udp(self, listener: Wanted, listen: Callable[[int, str], IListeningPort]) -> None:
        """`listen` opens a port on an interface, and raises CannotListenError. Raises ListenError."""
        try:
            given = _datagrams(listener.description, "udp")
        except ValueError as error:
            raise _no_endpoint(listener, error) from None
        self._open_datagrams(listener, lambda: listen(*_place(given)))

    def open_dtls(self, listener: Wanted, listen: Callable[[int, str, Certificate], IListeningPort]) -> None:
        """The same, with a certificate that changes when its files do. Raises ListenError."""
        try:
            given = _datagrams(listener.description, "dtls")
            name = f"[{listener.section}] dtls:{given['port']}"
            certificate = self._certificates.add(name, _files(given, self._directory))
        except (ValueError, TlsError) as error:
            raise _no_endpoint(listener, error) from None
        self._open_datagrams(listener, lambda: listen(*_place(given), certificate), secure=True)

    def close(self) -> Deferred[Any]:
        """Take no more connections; those that are open stay. Fires when all are closed, well or not."""
        return self._close(port for port in chain(*self.ports.values()) if port not in self._datagrams)

    def close_datagrams(self) -> Deferred[Any]:
        """Receive no more datagrams, and send none: replies of devices come in by the very port. Fires as `close`."""
        return self._close(self._datagrams)

    def _close(self, ports: Iterable[IListeningPort]) -> Deferred[Any]:
        return gatherResults([maybeDeferred(port.stopListening).addErrback(self._not_closed) for port in ports])

    def _not_closed(self, failure: Failure) -> None:
        """Somebody may have removed the file of a UNIX socket: no reason not to go on to the end."""
        self._log.warn("a listener was not closed in good order: {error}", error=failure.value)

    def _opened(self, section: str, port: IListeningPort, *, secure: bool) -> None:
        self.ports[section].append(port)
        name = f"{section}s" if secure else section
        self.urls.setdefault(name, _url(SCHEMES.get(name, name), port))

    def _open_datagrams(self, listener: Wanted, listen: Callable[[], IListeningPort], *, secure: bool = False) -> None:
        try:
            port = listen()
        except CannotListenError as error:
            raise _cannot_listen(listener, error) from None
        self._datagrams.append(port)
        self._opened(listener.section, port, secure=secure)

    def _listen(self, listener: Wanted, factory: Factory) -> Deferred[IListeningPort]:
        try:
            if listener.description.startswith("systemd:"):
                _systemd(listener.description)
            endpoint = serverFromString(self._reactor, listener.description)
        except LookupError:
            raise _cannot_listen(listener, "systemd handed over no such socket") from None
        except Exception as error:  # a plugin for an endpoint may raise what it likes
            raise _no_endpoint(listener, error) from None
        opened: Deferred[IListeningPort] = endpoint.listen(factory)
        return opened

    def _listen_ssl(self, listener: Wanted, factory: Factory) -> Deferred[IListeningPort]:
        try:
            given, files = _ssl(listener.description, self._directory)
            name = f"[{listener.section}] ssl:{given['port']}"
            certificate = self._certificates.add(name, files, asks=listener.section in ASKING)
        except (ValueError, TlsError) as error:
            raise _no_endpoint(listener, error) from None
        from rpcbroker.host.direct_tls import DirectTLSFactory

        return maybeDeferred(
            self._reactor.listenTCP,
            int(given["port"]),
            DirectTLSFactory(certificate, factory, self._reactor, self._outgoing),
            backlog=int(given.get("backlog", BACKLOG)),
            interface=given.get("interface", ""),
        )


def _no_endpoint(listener: Wanted, error: object) -> ListenError:
    return ListenError(f"{listener.label}: {listener.description!r} is no endpoint: {error}")


def _cannot_listen(listener: Wanted, why: object) -> ListenError:
    return ListenError(f"{listener.label}: cannot listen on {listener.description!r}: {why}")


def _datagrams(description: str, kind: str) -> dict[str, str]:
    """What a string such as `udp:5683` says. Raises ValueError."""
    if not description.startswith(f"{kind}:"):
        raise ValueError(f"it must begin with {kind}:")
    given = _arguments(description, _DATAGRAM_ARGUMENTS[kind])
    port, interface = given.get("port", ""), given.get("interface", "")
    if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or int(port) > HIGHEST_PORT:
        raise ValueError(f"port must be a number from 0 to {HIGHEST_PORT}, not {port!r}")
    if interface and not isIPAddress(interface) and not isIPv6Address(interface):
        raise ValueError(f"interface must be an address, not {interface!r}")
    return given


def _place(given: dict[str, str]) -> tuple[int, str]:
    return int(given["port"]), given.get("interface", "")


def _ssl(description: str, directory: Path) -> tuple[dict[str, str], TlsFiles]:
    """What an `ssl:` endpoint string says, by Twisted's rules. Raises ValueError."""
    from rpcbroker.host.key_files import METHODS

    given = _arguments(description, _SSL_ARGUMENTS)
    for name in {"port", "backlog"} & set(given):
        if not given[name].isdecimal():
            raise ValueError(f"{name} must be a number, not {given[name]!r}")
    if "port" not in given:
        raise ValueError("the port is missing")
    method = given.get("sslmethod", "TLS_METHOD")
    if method not in METHODS:
        raise ValueError(f"sslmethod must be one of {', '.join(METHODS)}; there is nothing below TLS 1.2")
    return given, _files(given, directory, highest=METHODS[method])


def _files(given: dict[str, str], directory: Path, *, highest: Any = None) -> TlsFiles:
    key = directory / given.get("privateKey", "server.pem")
    return TlsFiles(
        private_key=key,
        certificate=directory / given["certKey"] if "certKey" in given else key,
        chain=directory / given["extraCertChain"] if "extraCertChain" in given else None,
        dh_parameters=directory / given["dhParameters"] if "dhParameters" in given else None,
        highest=highest,
    )


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
