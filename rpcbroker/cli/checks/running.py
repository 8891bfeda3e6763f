"""Whether a broker runs, and answers."""

from __future__ import annotations

import socket
import ssl
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from rpcbroker.cli.checks.subject import Subject, Verdicts, ok, problem, warning

TIMEOUT = 5.0
"""Seconds for a broker on this very machine to answer."""
_PROBES = ("/healthz", "/readyz")


def process(subject: Subject) -> Verdicts:
    """The state directory has one holder; it answers on the listener that it wrote down."""
    if not subject.runs:
        yield ok(f"no broker runs on {subject.state_dir}")
        return
    who = f"process {subject.holder}" if subject.holder else "a process that has not said its number"
    if not subject.endpoints:
        yield warning(f"{who} holds {subject.state_dir}, and is not ready", "It starts, or ends: look again.")
        return
    url = subject.endpoints.get("http") or subject.endpoints.get("https")
    if url is None:
        yield ok(f"{who} runs; it has no HTTP listener that could be asked")
        return
    for path in _PROBES:
        try:
            status, why = ask(url, path), ""
        except (OSError, HTTPException) as error:
            status, why = 0, getattr(error, "strerror", None) or str(error) or type(error).__name__
        if status == 200:
            yield ok(f"{who} answers {url}{path}")
        else:
            what = f"with status {status}" if status else f"not at all ({why})"
            yield problem(f"{who} answers {url}{path} {what}", "Its log says more.")


def ask(url: str, path: str) -> int:
    """The status of a GET, without a proxy. Raises OSError, HTTPException."""
    connection = _connection(url)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def _connection(url: str) -> HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme.endswith("+unix"):
        connection = HTTPConnection("localhost", timeout=TIMEOUT)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(TIMEOUT)
        connection.sock.connect(parts.path)
        return connection
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "http":
        return HTTPConnection(host, port, timeout=TIMEOUT)
    context = ssl.create_default_context()
    context.check_hostname = False  # the certificate is for the name that callers use, and not for this address
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, port, timeout=TIMEOUT, context=context)
