"""A session that is welcome, and the way to it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from rpcbroker.core.model import Principal
from rpcbroker.feed.ports import Connection


class Member:
    """One session of a realm. Compared by identity."""

    __slots__ = (
        "_requests",
        "_seconds",
        "cancels",
        "connection",
        "dropped",
        "id",
        "payloads",
        "principal",
        "slow_since",
    )

    def __init__(
        self,
        session_id: int,
        principal: Principal,
        connection: Connection,
        *,
        cancels: bool,
        payloads: bool,
        seconds: Callable[[], float],
    ) -> None:
        """`cancels`: it says that as a callee it can be interrupted; `payloads` as Joined has it."""
        self.id = session_id
        self.principal = principal
        self.connection = connection
        self.cancels = cancels
        self.payloads = payloads
        self.dropped = 0
        """What was not sent to it, for it reads slowly."""
        self.slow_since: float | None = None
        """Clock seconds, when it took no more; None if it takes all."""
        self._seconds = seconds
        self._requests = count(1)

    @property
    def authid(self) -> str:
        """The user's e-mail, or the API key's name."""
        return self.principal.key_name or self.principal.email

    @property
    def identity(self) -> dict[str, Any]:
        """As meta events and meta procedures tell it."""
        return {
            "session": self.id,
            "authid": self.authid,
            "authrole": self.principal.authority.value,
            "authmethod": "ticket",
            "authprovider": "rpcbroker",
        }

    def disclosed(self, role: str) -> dict[str, Any]:
        """Who it is, for those whom it wants to know it. `role` is caller or publisher."""
        return {
            role: self.id,
            f"{role}_authid": self.authid,
            f"{role}_authrole": self.principal.authority.value,
        }

    def next_request(self) -> int:
        """An id for what the router asks of it. https://wamp-proto.org/spec.html, "IDs": from 1, one by one."""
        return next(self._requests)

    def send(self, message: list[Any]) -> None:
        """At once. Raises ValueError if it cannot be said in the encoding of the session, or is too long for it."""
        encoded = self.connection.serializer.encode(message)
        if len(encoded) > self.connection.most:
            raise ValueError(f"it has {len(encoded)} bytes, and {self.connection.most} are taken")
        self.connection.send(encoded)

    def send_later(self, message: bytes) -> bool:
        """An encoded message that is dropped, and counted, if too much waits for the session already, or it is longer
        than it takes; then False."""
        if self.connection.send_later(message):
            self.slow_since = None
            return True
        self.dropped += 1
        if self.slow_since is None:
            self.slow_since = self._seconds()
        return False

    def is_slow(self, seconds: float) -> bool:
        """Whether it has taken nothing for so long, and something was dropped for that."""
        if not self.connection.waiting:
            self.slow_since = None  # it has taken all that it was sent since
        return self.slow_since is not None and self._seconds() - self.slow_since >= seconds
