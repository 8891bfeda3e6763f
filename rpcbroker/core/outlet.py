"""What goes out on one connection whose peer may read slowly: at once, or gathered; and how much waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IHalfCloseableDescriptor, IPushProducer, ISSLTransport
from zope.interface import implementer

from rpcbroker.core.deadlines import Deadline, Deadlines

FACTOR = 4
"""What has to be sent may be so many times what is dropped if it is more."""


def let_go(transport: Any) -> None:
    """End a connection when what was written is out, and swallow what still comes until the peer ends it, too.

    To close with bytes unread is a reset, and the peer would not see what it was told last. TLS has no half of an end.
    """
    if IHalfCloseableDescriptor.providedBy(transport) and not ISSLTransport.providedBy(transport):
        transport.loseWriteConnection()
    else:
        transport.loseConnection()


@implementer(IPushProducer)
class Outlet:
    """The one who writes to a transport. What is put in first goes out first.

    While the peer does not read, what comes waits here, for so it can be counted: the transport tells that it is
    empty, and not how full it is.
    """

    __slots__ = (
        "_blocked",
        "_changed",
        "_deadline",
        "_deadlines",
        "_gather",
        "_max_waiting",
        "_size",
        "_there",
        "_transport",
        "_waiting",
    )

    def __init__(
        self,
        transport: Any,
        deadlines: Deadlines,
        *,
        gather: Callable[[], float],
        max_waiting: Callable[[], int],
        changed: Callable[[bool], object],
    ) -> None:
        """`gather`: seconds for which `later` may wait for more; `max_waiting`: bytes, beyond which it takes nothing.
        `changed` is called with whether the peer does not read, whenever that may have changed.
        """
        self._transport = transport
        self._deadlines = deadlines
        self._gather = gather
        self._max_waiting = max_waiting
        self._changed = changed
        self._waiting: list[bytes] = []
        self._size = 0
        """Bytes of them."""
        self._there = 0
        """Bytes that the transport was given, and may not have been able to send."""
        self._blocked = False
        self._deadline: Deadline | None = None
        transport.registerProducer(self, True)

    def write(self, *data: bytes) -> None:
        """At once, behind all that waits. A peer for whom FACTOR times as much waits as may is not waited for."""
        self._waiting += data
        self._size += sum(map(len, data))
        if not self._blocked:
            self.flush()
        elif self.waiting > FACTOR * self._max_waiting():
            self.close()
            self._transport.abortConnection()

    def later(self, *data: bytes) -> bool:
        """Together with others. False if so much waits already that it is not sent."""
        size = sum(map(len, data))
        if self._there + self._size + size > self._max_waiting():
            return False
        self._waiting += data
        self._size += size
        if self._deadline is None and not self._blocked:
            gather = self._gather()
            if gather:
                self._deadline = self._deadlines.after(gather, Outlet.flush, self)
            else:
                self.flush()
        return True

    @property
    def waiting(self) -> int:
        """Bytes that the peer has not taken, at most."""
        return self._there + self._size

    def flush(self) -> None:
        """Give all to the transport, though it may not be able to send it."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._waiting:
            data, self._waiting = b"".join(self._waiting), []
            self._size = 0
            self._there += len(data)
            self._transport.write(data)
            if not self._blocked:
                self._there = 0

    def close(self) -> None:
        """Forget what waits."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._waiting.clear()
        self._size = 0

    # -- what the transport tells

    def pauseProducing(self) -> None:
        if not self._blocked:
            self._blocked = True
            self._changed(True)

    def resumeProducing(self) -> None:
        if self._blocked:
            self._blocked = False
            self._there = 0
            self.flush()
        if not self._blocked:
            self._changed(False)

    def stopProducing(self) -> None:
        """The connection is gone, and says so itself."""
