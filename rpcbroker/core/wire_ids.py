"""The ids that devices see: positive 32-bit numbers, never used twice for one device.

Every device counts for itself. What the store remembers is one number for all of them: no device
was ever given an id above it. It is raised in blocks, well ahead of use, so that no call waits for
the disk; after a restart every device goes on above it.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core.errors import Reason, Unavailable

BLOCK = 8_192
HIGHEST = 2**31 - 1
BEGIN_AGAIN = HIGHEST - 16 * BLOCK
"""A process that starts above it counts from 1: 2**31 ids are used up, no call of then can still be alive."""


class WireIds:
    """The store's promise about wire ids, kept ahead of what the devices use."""

    _log = Logger()

    def __init__(self, reserve: Callable[[int], Deferred[None]]) -> None:
        """`reserve(upto)` fires when the store has written the number down."""
        self._reserve = reserve
        self._promised = 0
        self._asking = True  # until it is known what was promised before, nothing may be
        self._behind = True
        self.first = 1
        """Where a device's count begins in this process."""

    def start(self, reserved: int) -> None:
        """Go on above `reserved`, which the store has kept from before."""
        if reserved > BEGIN_AGAIN:
            reserved = 0
        self.first = reserved + 1
        self._promised = reserved
        self._asking = False
        self._raise_promise()

    def after(self, wire_id: int) -> int:
        """The id that follows `wire_id`. Raises Unavailable while the store is behind by a whole block."""
        following = wire_id + 1
        if following > HIGHEST:
            following = 1
        if following > self._promised - BLOCK // 2:
            self._raise_promise()
            if following > self._promised:
                self._behind = True
                raise Unavailable(
                    "The store is not keeping up with new calls",
                    reason=Reason.STORE_UNAVAILABLE,
                    hint="Try again in a second.",
                )
        return following

    def assure(self) -> bool:
        """Whether ids can be had. If not the store is asked again: without calls nobody else would."""
        if self._behind:
            self._raise_promise()
        return not self._behind

    def _raise_promise(self) -> None:
        if self._asking:
            return
        self._asking = True
        upto = min(HIGHEST, self._promised + BLOCK)

        def kept(_: None) -> None:
            self._asking = False
            self._behind = False
            self._promised = upto

        def failed(failure: Failure) -> None:
            self._asking = False
            self._log.error("wire ids up to {upto} could not be reserved: {error}", upto=upto, error=failure.value)

        self._reserve(upto).addCallbacks(kept, failed)
