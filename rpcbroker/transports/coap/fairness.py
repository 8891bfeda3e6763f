"""Who is served when more datagrams come than can be.

The system throws away what finds a socket's buffer full, whoever sent it, so that one address that floods starves all
others. To read a datagram and leave it alone takes a small part of what it takes to serve it: while the system throws
some away, nobody is served more than a share of what is read, and the buffer has room for the others again.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Hashable

SHARE = 64
"""Datagrams of one address that are served before others have their turn."""
PATIENCE = 0.5
"""Seconds for which the system has to throw datagrams away until shares hold, for many devices that speak at the same
moment are no flood; and for which nobody wanted more than a share when they hold no longer.
"""

_SO_MEMINFO = 55
"""Linux's number; Python does not know it."""
_MEMINFO = struct.Struct("9I")
_DROPS = 8
"""Where in it the datagrams are counted that the system threw away."""


def thrown_away(port: socket.socket) -> int:
    """How many datagrams the system had no room for; always 0 where it does not tell."""
    try:
        return int(_MEMINFO.unpack(port.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[_DROPS])
    except (OSError, struct.error):
        return 0


class Fairness:
    """Whether shares hold, and who has had his one."""

    def __init__(self) -> None:
        self.holds = False
        self._thrown_away = 0
        self._since: float | None = None
        """When the system was first seen to throw datagrams away, if it still does."""
        self._looked_at = self._skipped_at = 0.0
        self._came: Counter[Hashable] = Counter()

    def behind(self, thrown_away: int, now: float) -> None:
        """There may be more than was read; so many the system has thrown away by now."""
        if thrown_away == self._thrown_away:
            self._since = None
        elif self._since is None or now - self._looked_at >= PATIENCE:
            self._since = now
        elif now - self._since >= PATIENCE:
            self.holds = True
            self._since = None
            self._skipped_at = now
        self._thrown_away, self._looked_at = thrown_away, now

    def still_holds(self, now: float) -> bool:
        """Whether they do: they end when for some time nobody wanted more."""
        self.holds = now - self._skipped_at < PATIENCE
        return self.holds

    def admits(self, host: Hashable) -> bool:
        """Whether a datagram from there is served in this turn."""
        came = self._came[host] = self._came[host] + 1
        return came <= SHARE

    def end_turn(self, now: float) -> int:
        """Returns how many were not served."""
        skipped = sum(came - SHARE for came in self._came.values() if came > SHARE)
        self._came.clear()
        if skipped:
            self._skipped_at = now
        return skipped
