"""A WAMP client by hand, over RawSocket, in JSON: https://wamp-proto.org/spec.html, "RawSocket Transport"."""

from __future__ import annotations

import json
import socket
from typing import Any

from rpcbroker.feed.messages import Type

HELLO = {"roles": {"publisher": {}, "subscriber": {}, "caller": {}, "callee": {}}, "authmethods": ["ticket"]}
MAGIC, LARGEST, JSON = 0x7F, 15, 1


class WampClient:
    """One connection, blocking; a read takes 15 s at most."""

    def __init__(self, url: str) -> None:
        """`url` as the broker tells it."""
        host, port = url.rsplit("/", 1)[1].rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=15)
        self._stream = self.socket.makefile("rb")
        self.socket.sendall(bytes([MAGIC, LARGEST << 4 | JSON, 0, 0]))
        answer = self._stream.read(4)
        assert answer[0] == MAGIC
        assert answer[1] & 15 == JSON, answer

    def join(self, ticket: str) -> WampClient:
        assert self.say(Type.HELLO, "rpcbroker", HELLO).hear()[0] == Type.CHALLENGE
        assert self.say(Type.AUTHENTICATE, ticket, {}).hear()[0] == Type.WELCOME
        return self

    def say(self, *message: Any) -> WampClient:
        return self.say_bytes(json.dumps(message).encode())

    def say_bytes(self, message: bytes) -> WampClient:
        self.socket.sendall(len(message).to_bytes(4, "big") + message)
        return self

    def hear(self) -> list[Any]:
        """The next message; an empty list at the end of the connection."""
        head = self._stream.read(4)
        if not head:
            return []
        message: list[Any] = json.loads(self._stream.read(int.from_bytes(head[1:], "big")))
        return message

    def call(self, request: int, procedure: str, *args: Any) -> list[Any]:
        return self.say(Type.CALL, request, {}, procedure, args).hear()

    def close(self) -> None:
        self._stream.close()
        self.socket.close()

    def __enter__(self) -> WampClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
