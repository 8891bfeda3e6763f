"""How one device can be reached, and what is said about it: its links, its presence, what it nearly did right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from sys import intern

from twisted.logger import Logger

from rpcbroker.core.calls import CallState
from rpcbroker.core.census import Census
from rpcbroker.core.errors import CallFailed, CallTimeout, NoActiveConnection, QueueFull, Reason
from rpcbroker.core.events import EventBus, NearlyMissed, PresenceChanged
from rpcbroker.core.model import Device
from rpcbroker.core.near_misses import RELEVANT, Diagnostics, Missed, NearMiss
from rpcbroker.core.ports import CloseReason, Link
from rpcbroker.core.presence import Presence

FLAPS, FLAP_WINDOW = 4, 60.0
"""So many connections replaced by others within so many seconds are two clients that fight for one device.

A device that lost its network replaces its own old connection once, and one on a bad line perhaps twice a
minute; two clients that come back whenever they are closed, as libraries do after 1 to 15 s, do it for ever.
"""

SEEN_EVERY = 60_000
"""Milliseconds: so often at most it is told, and written down, that a device without a link was seen."""


class Links:
    """The ways to a device. It knows nothing of calls but why they cannot be delivered."""

    __slots__ = (
        "_all",
        "_diagnostics",
        "_events",
        "_now_ms",
        "_takeovers",
        "_told",
        "callable",
        "device",
        "presence",
    )

    _log = Logger()

    def __init__(self, device: Device, presence: Presence, *, now_ms: Callable[[], int], events: EventBus) -> None:
        self.device = device
        self.presence = presence
        self._now_ms = now_ms
        self._events = events
        self._all: tuple[Link, ...] = ()
        self.callable: tuple[Link, ...] = ()
        """Those that can take calls now."""
        self._diagnostics: Diagnostics | None = None
        self._takeovers: tuple[float, ...] = ()
        self._told = 0

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._all)

    def __contains__(self, link: Link | None) -> bool:
        return link in self._all

    def __iter__(self) -> Iterator[Link]:
        return iter(self._all)

    # -- what becomes of them

    def attach(self, link: Link, seconds: float) -> None:
        """A connection of the device. One device has one that lasts: an older one is closed."""
        older = () if link.transient else tuple(other for other in self._all if not other.transient)
        self._all = (link, *(other for other in self._all if other not in older))
        for other in older:
            self.unsubscribe(other, CloseReason.TAKEN_OVER.value)
            other.close(CloseReason.TAKEN_OVER)
        new = len(self._all) == 1 or not link.transient
        now = self._now_ms()
        if new:
            self.presence.connect(now, _connected(link))
        if any(other.protocol == link.protocol for other in older):
            self.taken_over(seconds)
        self._tell_presence(now, True if new else None)

    def detach(self, link: Link, cause: str) -> None:
        """The connection is gone. Harmless if it was closed from here."""
        if link not in self._all:
            return
        self._all = tuple(other for other in self._all if other is not link)
        self.unsubscribe(link, cause)
        now = self._now_ms()
        if self._all:
            self.presence.stay_connected(_connected(self._all[0]))
        else:
            self.presence.disconnect(now, cause)
        self._tell_presence(now, None if self._all else False)

    def subscribe(self, link: Link) -> None:
        """One of them can take calls now."""
        if link not in self.callable:
            callable_ = (*self.callable, link)
            self.callable = self._all if callable_ == self._all else callable_  # mostly one, so one is kept
            if len(callable_) == 1:
                now = self._now_ms()
                self.presence.become_callable(now, _subscribed(link))
                self._tell_presence(now, callable_=True)

    def unsubscribe(self, link: Link, cause: str) -> None:
        """It can take no more calls."""
        if link in self.callable:
            self.callable = tuple(other for other in self.callable if other is not link)
            if self.callable:
                self.presence.stay_callable(_subscribed(self.callable[0]))
            else:
                self._cease_callable(cause)

    def close(self, reason: CloseReason) -> None:
        """End all of them."""
        links, self._all = self._all, ()
        if self.callable:
            self._cease_callable(reason.value)
        for link in links:
            link.close(reason)
        if links:
            now = self._now_ms()
            self.presence.disconnect(now, reason.value)
            self._tell_presence(now, False)

    def seen(self, cause: str) -> None:
        """The device sent something, over a link or without any."""
        now = self._now_ms()
        presence = self.presence
        presence.seen_time, presence.seen_cause = now, cause
        if not self._all and now - self._told >= SEEN_EVERY:
            self._tell_presence(now)

    def count(self, census: Census) -> None:
        """Add them."""
        for link in self._all:
            census.connected[link.protocol] += 1
        for link in self.callable:
            census.callable[link.protocol] += 1

    def _cease_callable(self, cause: str) -> None:
        self.callable = ()
        now = self._now_ms()
        self.presence.cease_callable(now, cause)
        self._tell_presence(now, callable_=False)

    def _tell_presence(self, now: int, connected: bool | None = None, *, callable_: bool | None = None) -> None:
        """`connected` and `callable_` as PresenceChanged has them."""
        self._told = now
        self._events.emit(PresenceChanged, self.device, self.presence, connected, callable_)

    # -- near misses

    def note(self, miss: NearMiss, detail: str) -> None:
        """Keep a near miss; the first one of a kind is logged.

        `detail` is half a sentence that goes on after "it", without payloads and secrets.
        """
        if self._diagnostics is None:
            self._diagnostics = Diagnostics()
        if self._diagnostics.note(miss, detail, self._now_ms()):
            self._log.info(
                "device {name}: it {detail} ({miss}; further ones are only counted)",
                name=self.device.name,
                detail=detail,
                miss=miss.value,
            )
        self._events.emit(NearlyMissed, self.device, miss, detail)

    def near_misses(self) -> tuple[tuple[NearMiss, Missed], ...]:
        """All kinds that there were since the broker started, the newest first."""
        return tuple(self._diagnostics or ())

    def missed(self, miss: NearMiss) -> int:
        """How often that was."""
        return self._diagnostics.count(miss) if self._diagnostics else 0

    def taken_over(self, seconds: float) -> None:
        """A connection of the device was closed because of a newer one of the same protocol."""
        recent = (time for time in self._takeovers if seconds - time < FLAP_WINDOW)
        self._takeovers = (*recent, seconds)[-FLAPS:]
        if len(self._takeovers) == FLAPS:
            detail = f"was replaced {FLAPS} times within {FLAP_WINDOW:.0f} s by another connection of its own"
            self.note(NearMiss.CONNECTION_FLAPPING, detail)

    # -- reasons and hints

    def no_connection(self) -> NoActiveConnection:
        """Nothing could take the call."""
        reason = self.why_not()
        return NoActiveConnection(_NO_CONNECTION[reason], reason=reason, hint=f"The device {self.whereabouts(reason)}.")

    def no_ack(self) -> CallTimeout:
        """The call may have reached the device."""
        return CallTimeout(
            "The device did not acknowledge the call",
            reason=Reason.NO_ACK,
            hint=f"Whether the call reached the device is not known; it {self.whereabouts(Reason.NO_ACK)}.",
        )

    def no_reply(self) -> CallTimeout:
        """The device has the call."""
        return CallTimeout(
            "The device did not reply in time",
            reason=Reason.NO_REPLY,
            hint=f"The device got the call but did not answer it; it {self.whereabouts(Reason.NO_REPLY)}.",
        )

    def no_answer(self, state: CallState) -> CallFailed:
        """Why a call that was not answered in time was not, given the state in which it was."""
        if state is CallState.DELIVERED:
            return self.no_reply()
        if state is not CallState.QUEUED:
            return self.no_ack()
        if not self.callable:
            return self.no_connection()
        return CallTimeout(
            "The call was still waiting for its turn",
            reason=Reason.EXPIRED,
            hint=f"The device {self.where()}, but has not done with the calls before this one.",
        )

    def queue_full(self, number: int, setting: str) -> QueueFull:
        """One call too many."""
        return QueueFull(
            f"{number} calls wait for this device already",
            reason=Reason.QUEUE_FULL,
            hint=f"The device {self.whereabouts(Reason.QUEUE_FULL)}. The limit is rpc.{setting}.",
        )

    def why_not(self) -> Reason:
        """Why nothing can take a call now."""
        if self._all:
            return Reason.NO_SUBSCRIPTION
        return Reason.DISCONNECTED if self.presence.ever_connected else Reason.NEVER_CONNECTED

    def whereabouts(self, reason: Reason) -> str:
        """Half a sentence that goes on after 'the device', with the newest near miss that may explain `reason`."""
        diagnostics, since = self._diagnostics, self.presence.connected_time or 0
        missed = diagnostics.newest(RELEVANT.get(reason, frozenset()), since) if diagnostics else None
        return f"{self.where()}; it {missed.detail}" if missed else self.where()

    def where(self) -> str:
        """Half a sentence that goes on after 'the device'."""
        if self._all:
            link = next(iter(self.callable), self._all[0])
            ago = self._ago(self.presence.connected.time)
            if self.callable:
                return f"connected over {link.protocol} {ago} and can take calls"
            return f"connected over {link.protocol} {ago}, but {link.why_not_callable()}"
        if self.presence.ever_connected:
            fact = self.presence.connected
            return f"disconnected {self._ago(fact.time)} ({fact.cause})"
        if self.presence.seen_time is not None:
            ago = self._ago(self.presence.seen_time)
            return f"was last seen {ago} over {self.presence.seen_cause}, but has never waited for calls"
        return "has never connected; its credentials have not been used yet"

    def _ago(self, time: int | None) -> str:
        if time is None:
            return "at an unknown time"
        seconds = max(0, self._now_ms() - time) // 1000
        for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
            if seconds >= 2 * length:
                return f"{seconds // length} {unit} ago"
        return f"{seconds} s ago"


def _connected(link: Link) -> str:
    return intern(f"connected over {link.protocol}")


def _subscribed(link: Link) -> str:
    return intern(f"subscribed over {link.protocol}")


_NO_CONNECTION = {
    Reason.NO_SUBSCRIPTION: "The device is connected but cannot take calls",
    Reason.DISCONNECTED: "The device is not connected",
    Reason.NEVER_CONNECTED: "The device has never connected",
}
