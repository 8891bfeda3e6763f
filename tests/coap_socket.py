"""CoAP on a real socket, over UDP or DTLS: it asks, acknowledges what is confirmable, and hands on what it hears."""

from __future__ import annotations

import contextlib
import itertools
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from certificates import Files
from OpenSSL import SSL

from rpcbroker.wire.coap.message import Message, decode, encode
from rpcbroker.wire.coap.numbers import Code, OptionNumber, Type, uint

SECONDS = 10.0
"""How long an answer is waited for."""
AGAIN = 0.5
"""A confirmable request is sent again after so many seconds: a broker that is flooded drops datagrams."""
MTU = 1_200
"""Bytes of a DTLS record."""


class Wire(Protocol):
    """Datagrams to one server, and from it."""

    def send(self, datagram: bytes) -> None: ...

    def receive(self) -> bytes | None:
        """The next one. None: it is closed."""

    def close(self) -> None: ...


class Udp:
    """A socket of its own."""

    def __init__(self, url: str) -> None:
        to = urlsplit(url)
        host = to.hostname or ""
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect((host, to.port))

    def send(self, datagram: bytes) -> None:
        self.socket.send(datagram)

    def receive(self) -> bytes | None:
        try:
            return self.socket.recv(65536) or None
        except ConnectionRefusedError:  # nobody listens there any more (ICMP)
            return None

    def close(self) -> None:
        """The reader is woken up; it has the socket until then."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class Dtls:
    """A DTLS session, in which the device shows `shown`, if that is given."""

    def __init__(self, url: str, shown: Files | None = None) -> None:
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_verify(SSL.VERIFY_NONE)  # whom it speaks to is not what is tested with it
        if shown is not None:
            context.use_certificate_file(str(shown.certificate))
            context.use_privatekey_file(str(shown.key))
        self._connection = SSL.Connection(context)
        self._connection.set_ciphertext_mtu(MTU)
        self._connection.set_connect_state()
        self._lock = threading.Lock()  # OpenSSL has no more than one thread in a connection
        self._udp = Udp(url)
        self._shake_hands()

    def _shake_hands(self) -> None:
        self._udp.socket.settimeout(SECONDS)
        while True:
            try:
                self._connection.do_handshake()
                break
            except SSL.WantReadError:
                self._flush()
            self._connection.bio_write(self._udp.socket.recv(65536))
        self._flush()
        self._udp.socket.settimeout(None)

    def _flush(self) -> None:
        with contextlib.suppress(SSL.WantReadError):
            while True:
                self._udp.send(self._connection.bio_read(65536))

    def send(self, datagram: bytes) -> None:
        with self._lock:
            self._connection.send(datagram)
            self._flush()

    def receive(self) -> bytes | None:
        while (datagram := self._udp.receive()) is not None:
            with self._lock:
                self._connection.bio_write(datagram)
                try:
                    return self._connection.recv(65536)
                except SSL.WantReadError:
                    continue
                except SSL.ZeroReturnError:
                    return None
        return None

    def close(self) -> None:
        with self._lock, contextlib.suppress(SSL.Error, OSError):
            self._connection.shutdown()
            self._flush()
        self._udp.close()

    @property
    def socket(self) -> socket.socket:
        return self._udp.socket


class CoapSocket:
    """One endpoint. `heard` is given what nothing here waits for, such as notifications, in a thread of its own."""

    def __init__(self, wire: Udp | Dtls, heard: Callable[[Message], None] = lambda _: None) -> None:
        self.wire = wire
        self._heard = heard
        self._ids = itertools.count(secrets.randbelow(1 << 16))  # the port may have been another socket's a moment ago
        self._tokens = itertools.count(1)
        self._waiting: dict[bytes, queue.Queue[Message]] = {}
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> CoapSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.wire.close()
        self._reader.join(SECONDS)
        assert not self._reader.is_alive()
        self.wire.socket.close()

    def new_token(self) -> bytes:
        return next(self._tokens).to_bytes(4, "big")

    def ask(
        self,
        code: int,
        path: str,
        payload: bytes = b"",
        *,
        kind: int = Type.CON,
        token: bytes | None = None,
        observe: int | None = None,
        more: tuple[tuple[int, bytes], ...] = (),
    ) -> Message:
        """The answer to a request; `more` are further options."""
        token = self.new_token() if token is None else token
        answers = self._waiting[token] = queue.Queue()
        number = next(self._ids) & 0xFFFF
        sent = request(code, path, payload, kind=kind, message_id=number, token=token, observe=observe, more=more)
        end = time.monotonic() + SECONDS
        while True:
            self.wire.send(encode(sent))
            try:
                return answers.get(timeout=AGAIN if kind == Type.CON else SECONDS)
            except queue.Empty:
                assert time.monotonic() < end, f"no answer to {path} within {SECONDS} s"

    def _read(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionRefusedError):  # it, or the broker, has left meanwhile
            while (datagram := self.wire.receive()) is not None:
                self._take(decode(datagram))

    def _take(self, message: Message) -> None:
        if message.type == Type.CON:
            self.wire.send(encode(Message(Type.ACK, Code.EMPTY, message.message_id)))
        if message.code == Code.EMPTY and message.type == Type.ACK:
            return  # the answer comes in a message of its own
        waiting = self._waiting.pop(message.token, None)
        if waiting is None:
            self._heard(message)
        else:
            waiting.put(message)


def request(
    code: int,
    path: str,
    payload: bytes = b"",
    *,
    kind: int = Type.CON,
    message_id: int = 0,
    token: bytes = b"",
    observe: int | None = None,
    more: tuple[tuple[int, bytes], ...] = (),
) -> Message:
    """A request to the segments of `path`; a query may follow them."""
    path, _, query = path.partition("?")
    options = [(int(OptionNumber.URI_PATH), segment.encode()) for segment in path.strip("/").split("/")]
    options += [(int(OptionNumber.URI_QUERY), each.encode()) for each in query.split("&") if each]
    if observe is not None:
        options.append((int(OptionNumber.OBSERVE), uint(observe)))
    return Message(
        kind, code, message_id, token, tuple(sorted([*options, *more], key=lambda option: option[0])), payload
    )


def option(message: Message, number: int) -> bytes | None:
    """The first of these options that a message has."""
    return next((value for each, value in message.options if each == number), None)
