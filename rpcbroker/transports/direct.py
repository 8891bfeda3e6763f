"""Bytes to a TCP connection without a turn of the reactor in between."""

from __future__ import annotations

from typing import Any

from twisted.internet.tcp import Server


def send(transport: Any, data: bytes) -> None:
    """Write `data`: at once, as far as the socket takes it, if nothing waits before it; the rest as Twisted does.

    Twisted keeps what is written until the socket says that it has room, which costs two system calls and a
    turn of the reactor for what a socket nearly always has room for. A failure is left to Twisted to find.
    """
    if type(transport) is Server and transport.connected and not transport.TLS and not _waits(transport):
        sent = transport.writeSomeData(data)
        if type(sent) is int:
            if sent == len(data):
                return
            data = data[sent:]
    transport.write(data)


def _waits(transport: Server) -> bool:
    return bool(transport.dataBuffer or transport._tempDataBuffer or transport.disconnecting)
