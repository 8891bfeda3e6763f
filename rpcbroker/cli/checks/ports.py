"""Listeners: can they be had; and of a broker that runs, are they there."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

from OpenSSL import SSL

from rpcbroker.cli.checks.endpoint import Endpoint, check, endpoints
from rpcbroker.cli.checks.subject import Subject, Verdict, Verdicts, ok, problem

TIMEOUT = 2.0
"""Seconds for this very machine to accept a connection."""
_PRIVILEGED = 1024
_PING = bytes.fromhex("40000001")
"""An empty confirmable message, which every CoAP endpoint answers (RFC 7252 4.3)."""
_NOT_CHECKED = "is given by the system: not checked"


def ports(subject: Subject) -> Verdicts:
    """Each listener of the configuration, on its own and beside the others."""
    try:
        wanted = list(endpoints(subject.settings))
        for endpoint in wanted:
            check(endpoint)
    except ValueError as error:
        yield problem(f"{error}", "rpcbroker config check FILE")
        return
    if not wanted:
        yield problem("there is no listener at all", "Set [http] listen, and [mqtt] or [coap] listen.")
    for place, endpoint in enumerate(wanted):
        if any(endpoint.excludes(other) for other in wanted[:place]):
            yield problem(f"{endpoint.label}: another listener has the same place", "Give each a port of its own.")
        elif endpoint.kind != "unix" and endpoint.port is None:
            yield ok(f"{endpoint.label} {_NOT_CHECKED}")
        elif subject.runs:
            yield _answers(endpoint, subject)
        else:
            yield _unix_free(endpoint) if endpoint.kind == "unix" else _free(endpoint)


def _free(endpoint: Endpoint) -> Verdict:
    """Bound, but not listened on: no device may mistake this for the broker."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    try:
        with closing(socket.socket(family, socket.SOCK_DGRAM if endpoint.datagrams else socket.SOCK_STREAM)) as probe:
            if not endpoint.datagrams:  # where it would mean that both get some of them
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((endpoint.host, endpoint.port))
    except OSError as error:
        return problem(f"{endpoint.label}: {error.strerror or error}", _why(endpoint, error))
    return ok(f"{endpoint.label} can be listened on")


def _why(endpoint: Endpoint, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        kind = "u" if endpoint.datagrams else "t"
        return f"Another program listens there; ss -l{kind}np 'sport = :{endpoint.port}' shows which."
    if error.errno == errno.EACCES and (endpoint.port or 0) < _PRIVILEGED:
        return (
            "Ports below 1024 need a right: AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit,"
            " or a start as root with twistd --uid. If the broker has it, run this with the same right."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return "No interface of this machine has that address now; ip address shows them."
    return "Change it, or this machine."


def _unix_free(endpoint: Endpoint) -> Verdict:
    path = Path(endpoint.options.get("address", ""))
    if not os.access(path.parent, os.W_OK | os.X_OK):
        return problem(f"{endpoint.label}: {path.parent} is not there, or not writable", "Make it, for this user.")
    if path.exists() and _connects(path=path):
        return problem(f"{endpoint.label}: another program listens there", "Name another socket.")
    if path.exists() and not path.is_socket():
        return problem(f"{endpoint.label}: there is a file of that name", "Name another socket.")
    return ok(f"{endpoint.label} can be listened on")


def _answers(endpoint: Endpoint, subject: Subject) -> Verdict:
    """A connection is accepted, or a datagram answered; the broker tells the first of those without a number."""
    if endpoint.kind == "unix":
        good = _connects(path=Path(endpoint.options.get("address", "")))
    elif endpoint.port:
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(endpoint.host, endpoint.host)  # noqa: S104
        good = _reached(endpoint, host, endpoint.port)
    else:
        parts = urlsplit(subject.endpoints.get(endpoint.name, ""))
        if parts.port is None:
            return ok(f"{endpoint.label} {_NOT_CHECKED}")
        good = _reached(endpoint, parts.hostname or "", parts.port)
    if good:
        return ok(f"{endpoint.label} {'answers' if endpoint.datagrams else 'accepts connections'}")
    return problem(
        f"{endpoint.label}: the broker runs, but nothing listens there",
        "Restart it if its configuration was changed; or it runs with another --config than this.",
    )


def _reached(endpoint: Endpoint, host: str, port: int) -> bool:
    if endpoint.datagrams:
        return _responds(host, port, _client_hello() if endpoint.kind == "dtls" else _PING)
    return _connects(host, port)


def _responds(host: str, port: int, question: bytes) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
            probe.settimeout(TIMEOUT)
            probe.connect((host, port))
            probe.send(question)
            return bool(probe.recv(2048))
    except OSError:
        return False


def _client_hello() -> bytes:
    """The first datagram of a DTLS handshake: it costs the broker no memory."""
    connection = SSL.Connection(SSL.Context(SSL.DTLS_CLIENT_METHOD))
    connection.set_connect_state()
    with suppress(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(2048)


def _connects(host: str = "", port: int = 0, *, path: Path | None = None) -> bool:
    try:
        if path is None:
            socket.create_connection((host, port), TIMEOUT).close()
            return True
        with closing(socket.socket(socket.AF_UNIX)) as probe:
            probe.settimeout(TIMEOUT)
            probe.connect(str(path))
            return True
    except OSError:
        return False
