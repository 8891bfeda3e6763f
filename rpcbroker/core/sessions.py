"""The broker's side of one device: its links, its pending calls, its presence. It outlives connections.

A little over 400 lines, a fourth of them sentences: whoever changes what can happen to a call sees what is said of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from sys import intern

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from rpcbroker.core.calls import UNACKNOWLEDGED_STATES, Call, CallState, Reply, Step
from rpcbroker.core.census import Census
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.errors import (
    BadReply,
    CallCancelled,
    CallFailed,
    CallTimeout,
    NoActiveConnection,
    QueueFull,
    Reason,
)
from rpcbroker.core.events import (
    CallAdvanced,
    CallOpened,
    CallRefused,
    CallSettled,
    EventBus,
    NearlyMissed,
    PresenceChanged,
)
from rpcbroker.core.model import Device
from rpcbroker.core.near_misses import RELEVANT, Diagnostics, Missed, NearMiss
from rpcbroker.core.pending import PendingCall, PendingCalls
from rpcbroker.core.ports import CloseReason, Link
from rpcbroker.core.presence import Presence
from rpcbroker.core.wire_ids import WireIds

FLAPS, FLAP_WINDOW = 4, 60.0
"""So many connections replaced by others within so many seconds are two clients that fight for one device.

A device that lost its network replaces its own old connection once, and one on a bad line perhaps twice a
minute; two clients that come back whenever they are closed, as libraries do after 1 to 15 s, do it for ever.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all sessions share.

    `now_ms` is the wall clock in epoch ms, `seconds` the clock of the deadlines; `max_pending` is asked
    for at each call, for it may change.
    """

    now_ms: Callable[[], int]
    seconds: Callable[[], float]
    deadlines: Deadlines
    wire_ids: WireIds
    events: EventBus
    max_pending: Callable[[], int]


class DeviceSession:
    """One device, as the broker sees it."""

    __slots__ = (
        "_around",
        "_callable",
        "_diagnostics",
        "_last_wire_id",
        "_links",
        "_pending",
        "_takeovers",
        "device",
        "presence",
    )

    _log = Logger()

    def __init__(self, device: Device, presence: Presence, around: Surroundings) -> None:
        self.device = device
        self.presence = presence
        self._around = around
        self._links: tuple[Link, ...] = ()
        self._callable: tuple[Link, ...] = ()
        self._pending = PendingCalls(self._settled)
        self._last_wire_id = around.wire_ids.first - 1
        self._diagnostics: Diagnostics | None = None
        self._takeovers: tuple[float, ...] = ()

    @property
    def connected(self) -> bool:
        """Whether there is any way to the device now."""
        return bool(self._links)

    # -- the caller's side

    def next_wire_id(self) -> int:
        """The wire id of the next call; used once. Raises Unavailable if the store lags far behind."""
        self._last_wire_id = self._around.wire_ids.after(self._last_wire_id)
        return self._last_wire_id

    @property
    def pending_count(self) -> int:
        return len(self._pending)

    def call(self, call: Call, *, connect_timeout: float | None) -> Deferred[Reply]:
        """Give `call` to the device, now or when it can take calls. The Deferred fails with CallFailed."""
        around = self._around
        left = (call.expiration_time - around.now_ms()) / 1000
        refusal = self._refusal(left, connect_timeout)
        if refusal is not None:
            refusal.rpc_id = call.rpc_id
            around.events.emit(CallRefused, call, refusal.reason)
            return fail(refusal)
        pending = self._pending.open(call)
        pending.since = around.seconds()
        waiting = pending.waiting
        pending.deadline = around.deadlines.after(left, self._expire, call.wire_id)
        around.events.emit(CallOpened, call)
        if self._callable:
            for link in self._callable:
                self._give(pending, link)
        elif connect_timeout is not None:
            pending.connect_deadline = around.deadlines.after(connect_timeout, self._connect_expire, call.wire_id)
        return waiting

    def _refusal(self, left: float, connect_timeout: float | None) -> CallFailed | None:
        if left <= 0:
            return CallTimeout(
                "The call had expired when it came in",
                reason=Reason.EXPIRED,
                hint="expirationTime is in the past: compare the caller's clock with the server's.",
            )
        if len(self._pending) >= self._around.max_pending():
            return QueueFull(
                f"{len(self._pending)} calls wait for this device already",
                reason=Reason.QUEUE_FULL,
                hint=f"The device {self._whereabouts(Reason.QUEUE_FULL)}. The limit is rpc.max_pending_per_device.",
            )
        if connect_timeout is not None and connect_timeout <= 0 and not self._callable:
            return self._no_connection()
        return None

    # -- the device's side

    def attach(self, link: Link) -> None:
        """A connection of the device. One device has one: an older one is closed."""
        older = self._links
        self._links = (link,)
        if self._callable:
            self._cease_callable(CloseReason.TAKEN_OVER.value)
        for other in older:
            other.close(CloseReason.TAKEN_OVER)
        self.presence.connect(self._around.now_ms(), intern(f"connected over {link.protocol}"))
        if any(other.protocol == link.protocol for other in older):
            self.taken_over()
        self._tell_presence()

    def detach(self, link: Link, cause: str) -> None:
        """The connection is gone; calls go on waiting. Harmless if it was closed from here."""
        if link not in self._links:
            return
        self._links = tuple(other for other in self._links if other is not link)
        self.unsubscribe(link, cause)
        if not self._links:
            self.presence.disconnect(self._around.now_ms(), cause)
            self._tell_presence()

    def subscribe(self, link: Link) -> None:
        """The link can take calls now: it is given all that the device has not acknowledged, oldest first."""
        if link not in self._links:
            return
        if link not in self._callable:
            self._callable = (*self._callable, link)
            self.presence.become_callable(self._around.now_ms(), intern(f"subscribed over {link.protocol}"))
            self._tell_presence()
        self.resume(link)

    def resume(self, link: Link) -> None:
        """The link can take more. What it was given already it is not given again."""
        for pending in self._pending:
            given = pending.given_to is link or pending.state not in UNACKNOWLEDGED_STATES
            if not given and not self._give(pending, link):
                break

    def hand_to(self, wire_id: int, link: Link) -> bool:
        """The link has this call from an earlier one of the same kind. False if it need not go out again."""
        pending = self._pending.get(wire_id)
        if pending is None or pending.state not in UNACKNOWLEDGED_STATES:
            return False
        pending.given_to = link
        return True

    def unsubscribe(self, link: Link, cause: str) -> None:
        """The link can take no more calls."""
        if link in self._callable:
            self._callable = tuple(other for other in self._callable if other is not link)
            if not self._callable:
                self._cease_callable(cause)

    def seen(self, cause: str) -> None:
        """The device sent something."""
        self.presence.seen(self._around.now_ms(), cause)

    def receive(self, wire_id: int, payload: bytes) -> bool:
        """The device replied with JSON text, or nothing. False, counted, logged once, if nobody waits."""
        if self._pending.settle(wire_id, payload):
            return True
        detail = f"replied to call {wire_id}, which does not wait: it was one-way, or the reply came too late"
        self.note(NearMiss.UNKNOWN_REPLY, detail)
        return False

    def receive_bad(self, wire_id: int, why: str) -> bool:
        """The device replied with something that is not JSON."""
        self.note(NearMiss.BAD_PAYLOAD, f"replied to call {wire_id} with what is not JSON: {why}")
        error = BadReply(
            "The device's reply is not JSON",
            reason=Reason.BAD_REPLY,
            hint=f"The device published a reply that cannot be passed on: {why}.",
        )
        return self._pending.fail(wire_id, Step.FAILED, error)

    def report(self, wire_id: int, step: Step, error: CallFailed | None = None) -> None:
        """A link tells what became of a call that it was given."""
        pending = self._pending.get(wire_id)
        if pending is None:
            return
        if step is Step.FAILED:
            assert error is not None
            if error.reason is Reason.TOO_LARGE:
                self.note(NearMiss.OVERSIZED_DOWNLINK, "was called with more than it takes at once")
            self._pending.fail(wire_id, step, error)
            return
        if not pending.advance(step):
            return
        if pending.connect_deadline is not None:
            pending.connect_deadline.cancel()
        if step is Step.UNACKNOWLEDGED:
            pending.unacknowledged += 1
            if pending.unacknowledged > pending.call.max_retries:
                self._pending.fail(wire_id, Step.FAILED, self._no_ack())
                return
        elif pending.call.oneway:
            self._pending.hand_over(wire_id)
            return
        self._around.events.emit(CallAdvanced, pending.call, pending.state)

    # -- what it nearly did

    def note(self, miss: NearMiss, detail: str) -> None:
        """Keep a near miss; the first one of a kind is logged.

        `detail` is half a sentence that goes on after "it", without payloads and secrets.
        """
        if self._diagnostics is None:
            self._diagnostics = Diagnostics()
        if self._diagnostics.note(miss, detail, self._around.now_ms()):
            self._log.info(
                "device {name}: it {detail} ({miss}; further ones are only counted)",
                name=self.device.name,
                detail=detail,
                miss=miss.value,
            )
        self._around.events.emit(NearlyMissed, self.device, miss, detail)

    def near_misses(self) -> tuple[tuple[NearMiss, Missed], ...]:
        """All kinds that there were since the broker started, the newest first."""
        return tuple(self._diagnostics or ())

    def missed(self, miss: NearMiss) -> int:
        """How often that was."""
        return self._diagnostics.count(miss) if self._diagnostics else 0

    def taken_over(self) -> None:
        """A connection of the device was closed because of a newer one of the same protocol."""
        now = self._around.seconds()
        self._takeovers = (*(time for time in self._takeovers if now - time < FLAP_WINDOW), now)[-FLAPS:]
        if len(self._takeovers) == FLAPS:
            detail = f"was replaced {FLAPS} times within {FLAP_WINDOW:.0f} s by another connection of its own"
            self.note(NearMiss.CONNECTION_FLAPPING, detail)

    # -- the broker's side

    def attributes_changed(self, update: bytes) -> None:
        """Tell the device, over all its links, what became of shared attributes; `update` as Link has it."""
        for link in self._links:
            link.attributes_changed(update)

    def whereabouts(self) -> str:
        """A sentence for people: whether the device can be called, and if not, what is in the way."""
        return f"The device {self._whereabouts(Reason.NO_REPLY if self._callable else self._why_not())}."

    def count(self, census: Census) -> None:
        """Add this device, and the calls that wait for it."""
        for link in self._links:
            census.connected[link.protocol] += 1
        for link in self._callable:
            census.callable[link.protocol] += 1
        if self._pending:
            self._pending.count(census.waiting)

    def close(self, reason: CloseReason) -> None:
        """End all links; calls go on waiting."""
        links = self._links
        self._links = ()
        if self._callable:
            self._cease_callable(reason.value)
        for link in links:
            link.close(reason)
        if links:
            self.presence.disconnect(self._around.now_ms(), reason.value)
            self._tell_presence()

    def end(self, message: str, reason: Reason) -> None:
        """Nothing more will happen here: fail all calls."""
        self._pending.fail_all(Step.CANCELLED, lambda: CallCancelled(message, reason=reason))

    # -- inside

    @staticmethod
    def _give(pending: PendingCall, link: Link) -> bool:
        before, pending.given_to = pending.given_to, link
        taken = link.deliver(pending.call)
        if not taken:
            pending.given_to = before
        return taken

    def _cease_callable(self, cause: str) -> None:
        self._callable = ()
        self.presence.cease_callable(self._around.now_ms(), cause)
        self._tell_presence()

    def _tell_presence(self) -> None:
        self._around.events.emit(PresenceChanged, self.device, self.presence)

    def _settled(self, pending: PendingCall, reason: Reason | None, payload: bytes) -> None:
        around, link = self._around, pending.given_to
        transport = None if link is None else link.protocol
        seconds = around.seconds() - pending.since
        around.events.emit(CallSettled, pending.call, pending.state, reason, payload, transport, seconds)

    def _expire(self, wire_id: int) -> None:
        pending = self._pending.get(wire_id)
        if pending is not None:
            self._pending.fail(wire_id, Step.EXPIRED, self._why_expired(pending.state))

    def _connect_expire(self, wire_id: int) -> None:
        pending = self._pending.get(wire_id)
        if pending is not None and pending.state is CallState.QUEUED and not self._callable:
            self._pending.fail(wire_id, Step.EXPIRED, self._no_connection())

    # -- reasons and hints

    def _why_expired(self, state: CallState) -> CallFailed:
        if state is CallState.DELIVERED:
            return CallTimeout(
                "The device did not reply in time",
                reason=Reason.NO_REPLY,
                hint=f"The device got the call but did not answer it; it {self._whereabouts(Reason.NO_REPLY)}.",
            )
        if state is CallState.QUEUED and not self._callable:
            return self._no_connection()
        return self._no_ack()

    def _no_ack(self) -> CallTimeout:
        return CallTimeout(
            "The device did not acknowledge the call",
            reason=Reason.NO_ACK,
            hint=f"Whether the call reached the device is not known; it {self._whereabouts(Reason.NO_ACK)}.",
        )

    def _no_connection(self) -> NoActiveConnection:
        reason = self._why_not()
        return NoActiveConnection(
            _NO_CONNECTION[reason], reason=reason, hint=f"The device {self._whereabouts(reason)}."
        )

    def _why_not(self) -> Reason:
        """Why nothing can take a call now."""
        if self._links:
            return Reason.NO_SUBSCRIPTION
        return Reason.DISCONNECTED if self.presence.ever_connected else Reason.NEVER_CONNECTED

    def _whereabouts(self, reason: Reason) -> str:
        """Half a sentence that goes on after 'the device', with the newest near miss that may explain `reason`."""
        diagnostics, since = self._diagnostics, self.presence.connected_time or 0
        missed = diagnostics.newest(RELEVANT.get(reason, frozenset()), since) if diagnostics else None
        return f"{self._where()}; it {missed.detail}" if missed else self._where()

    def _where(self) -> str:
        if self._links:
            link = self._links[0]
            ago = self._ago(self.presence.connected.time)
            if self._callable:
                return f"connected over {link.protocol} {ago} and can take calls"
            return f"connected over {link.protocol} {ago}, but {link.why_not_callable()}"
        if self.presence.ever_connected:
            fact = self.presence.connected
            return f"disconnected {self._ago(fact.time)} ({fact.cause})"
        return "has never connected; its credentials have not been used yet"

    def _ago(self, time: int | None) -> str:
        if time is None:
            return "at an unknown time"
        seconds = max(0, self._around.now_ms() - time) // 1000
        for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
            if seconds >= 2 * length:
                return f"{seconds // length} {unit} ago"
        return f"{seconds} s ago"


_NO_CONNECTION = {
    Reason.NO_SUBSCRIPTION: "The device is connected but cannot take calls",
    Reason.DISCONNECTED: "The device is not connected",
    Reason.NEVER_CONNECTED: "The device has never connected",
}
