"""What a device hears over CoAP: calls and updates of its shared attributes, as notifications (RFC 7641)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from functools import partial

from rpcbroker.core import jsontext
from rpcbroker.core.calls import Call, Step
from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.settings import CoapSettings
from rpcbroker.transports.coap import formats
from rpcbroker.transports.coap.exchange import Observation, Peer, Response, Settled
from rpcbroker.wire.coap.numbers import Code

MAX_UPDATES = 32
"""Changes of attributes that wait while a device is slow or asleep; the oldest make room."""
MAX_CANCELS = 32
"""Calls that it waits to be told nobody waits for."""
REFRESHED = 30.0
"""Seconds without a word on a persistent call, after which a device that registers again with the same token counts as
one that has lost it: nothing else tells a restart from a refresh."""
MAX_WINDOW = 86_400.0
"""Seconds that a device may say to be awake after each message."""

_ENDED = Response(code=Code.DELETED, authenticated=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSurroundings:
    """What all links share; `settings` is asked for at each use."""

    deadlines: Deadlines
    settings: Callable[[], CoapSettings]
    links: MutableMapping[DeviceSession, CoapLink] = field(default_factory=dict)
    """Those that are attached. A device has one at most."""


class CoapLink:
    """The observations of one device: the Link that its calls go over."""

    __slots__ = (
        "_around",
        "_awake",
        "_calls",
        "_cancels",
        "_falls_asleep",
        "_on_its_way",
        "_session",
        "_updates",
        "_waiting",
        "protocol",
    )

    transient = False

    def __init__(self, session: DeviceSession, protocol: str, around: LinkSurroundings) -> None:
        """`protocol` is CoAP, or CoAPs for all that it hears over DTLS."""
        self._session = session
        self._around = around
        self.protocol = protocol
        self._calls: Observation | None = None
        self._on_its_way: int | None = None
        """The wire id of the call that the device was notified of last, until it is known what became of that."""
        self._updates: Observation | None = None
        self._cancels: deque[Response] | None = None
        self._waiting: deque[Response] | None = None
        """Changes of attributes that were not sent yet."""
        self._awake = False
        """Whether the device listens now."""
        self._falls_asleep: Deadline | None = None

    # -- what is observed

    def observe_calls(self, observation: Observation) -> None:
        """The device wants to be called. One observation does that: an older one ends, and is told so.

        As after each request, `heard` comes next.
        """
        before = self._calls
        self._calls = observation
        self._enter(observation, self._go_on)
        if before is not None:
            if before is not observation:
                self._session.taken_over()
                before.end(_ENDED)
            self._session.give_unanswered(self, REFRESHED if before is observation else 0)
        self._session.subscribe(self)

    def observe_attributes(self, observation: Observation) -> None:
        """The device wants to hear of its shared attributes; an older observation of that kind ends."""
        before = self._updates
        self._updates = observation
        self._enter(observation, self._send_updates)
        if before is not None and before is not observation:
            before.end(_ENDED)

    def _enter(self, observation: Observation, ready: Callable[[], None]) -> None:
        observation.gone = partial(self.lose, observation)
        observation.ready = ready
        if self._around.links.get(self._session) is not self:
            self._around.links[self._session] = self
            self._session.attach(self)

    def lose(self, observation: Observation, cause: str) -> None:
        """It has ended; `cause` is half a sentence that goes on after "the device". Without any the link is gone."""
        if self._drop(observation):
            self._part(cause)

    def _drop(self, observation: Observation) -> bool:
        """Forget it; False if it is none of these any more."""
        if observation is self._calls:
            self._calls = self._cancels = None
        elif observation is self._updates:
            self._updates = self._waiting = None
        else:
            return False
        return True

    def _part(self, cause: str) -> None:
        """Go on without what was dropped."""
        if self._calls is not None:
            return
        if self._updates is not None:
            self._session.unsubscribe(self, cause)
        else:
            self._leave()
            self._session.detach(self, cause)

    def _leave(self) -> None:
        if self._falls_asleep is not None:
            self._falls_asleep.cancel()
        if self._around.links.get(self._session) is self:
            del self._around.links[self._session]

    # -- what the device does

    def heard(self, peer: Peer) -> None:
        """A request of the device has come: it listens now, and perhaps elsewhere than it did."""
        window = self._window()
        for observation in (self._calls, self._updates):
            if observation is not None and observation.peer.secure is peer.secure:  # nothing of DTLS in plain text
                observation.reach(peer, soon=window is not None)
        self._stir(window)

    def arrived(self, wire_id: int) -> None:
        """The device has something to say of that call, and so it has it: only its acknowledgement was lost, or comes
        later than that (RFC 7252 4.2)."""
        if self._calls is not None and self._on_its_way == wire_id:
            self._calls.withdraw(Settled.ACKNOWLEDGED)

    def _stir(self, window: float | None) -> None:
        """The device is awake, for so many seconds, or for ever."""
        if self._falls_asleep is not None:
            self._falls_asleep.cancel()
            self._falls_asleep = None
        if window is not None:
            self._falls_asleep = self._around.deadlines.after(window, self._sleep, None)
        if not self._awake:
            self._awake = True
            if self._calls is not None:
                self._go_on()
                self._session.subscribe(self)
            self._send_updates()

    def _sleep(self, _: None) -> None:
        self._falls_asleep = None
        self._awake = False
        self._session.unsubscribe(self, "sleeps")
        for observation in (self._calls, self._updates):
            if observation is not None:
                observation.withdraw()  # to be sent again when it wakes: silence says nothing now

    def _window(self) -> float | None:
        """Seconds for which it listens after each message of its own; None if it always does."""
        psm = self._session.device.psm
        if psm is True:
            return self._around.settings().psm_activity_window
        if isinstance(psm, (int, float)) and psm > 0:
            return min(psm / 1000, MAX_WINDOW)
        return None

    # -- the Link that the session knows

    def deliver(self, call: Call) -> bool:
        """Notify the device of the call."""
        observation = self._calls
        if observation is None or observation.busy:
            return False
        self._on_its_way = call.wire_id
        text = b'{"id":%d,"method":%b,"params":%b}' % (call.wire_id, jsontext.encode(call.method), call.params)
        sent = _Sent(self, observation, call)
        if not observation.notify(_notification(observation, text), sent.settled):
            return False
        sent.later = True
        if not sent.known:
            self._session.report(call.wire_id, Step.WRITTEN)
        return True

    def cancel(self, call: Call) -> bool:
        """Notify the device, after what is on its way, unless it sleeps."""
        observation = self._calls
        if observation is None or not self._awake:
            return False
        response = _notification(observation, b'{"id":%d,"cancel":true}' % call.wire_id)
        if not self._cancels and observation.notify(response, partial(self._settle, observation, response)):
            return True
        if self._cancels is None:
            self._cancels = deque()
        if len(self._cancels) >= MAX_CANCELS:
            return False
        self._cancels.append(response)
        return True

    def attributes_changed(self, update: bytes) -> None:
        """Notify the device, if it observes its attributes, now or when it can be."""
        observation = self._updates
        if observation is None:
            return
        if self._waiting is None:
            self._waiting = deque()
        if len(self._waiting) >= MAX_UPDATES:
            self._waiting.popleft()
            self._session.note(NearMiss.QUEUE_OVERFLOW, f"was not told of changed attributes: {MAX_UPDATES} wait")
        self._waiting.append(_notification(observation, update))
        self._send_updates()

    def close(self, reason: CloseReason) -> None:
        """End all observations; each is told so by a last 2.02."""
        self._leave()
        calls, self._calls = self._calls, None
        updates, self._updates = self._updates, None
        for observation in (calls, updates):
            if observation is not None:
                observation.end(_ENDED)

    def why_not_callable(self) -> str:
        window = None if self._calls is None else self._window()
        if window is None:
            return "does not observe /api/v1/{token}/rpc"
        return f"sleeps; it takes calls for {window:g} s after each message of its own"

    # -- what becomes of notifications

    def _go_on(self) -> None:
        """The next notification of calls can go out."""
        while self._awake and self._calls is not None and self._cancels:
            if not self._notify_next(self._calls, self._cancels):
                return
        self._session.resume(self)

    def _send_updates(self) -> None:
        while self._awake and self._updates is not None and self._waiting:
            if not self._notify_next(self._updates, self._waiting):
                return

    def _notify_next(self, observation: Observation, waiting: deque[Response]) -> bool:
        response = waiting.popleft()  # before it is sent, for that may be settled, and the next one sent, at once
        if observation.notify(response, partial(self._settle, observation, response)):
            return True
        waiting.appendleft(response)
        return False

    def _settle(self, observation: Observation, response: Response, outcome: Settled) -> None:
        """What became of a notification that no call waits for."""
        if outcome in _FAILURES:
            self.lose(observation, _FAILURES[outcome])
        elif outcome is Settled.DROPPED and not self._awake:
            if observation is self._calls:
                self._cancels = deque((response, *(self._cancels or ())))
            elif observation is self._updates:
                self._waiting = deque((response, *(self._waiting or ())))

    def settle_call(self, observation: Observation, call: Call, outcome: Settled, *, later: bool) -> None:
        """What became of the notification of a call; `later`: not while it was sent."""
        session, wire_id = self._session, call.wire_id
        self._on_its_way = None
        if outcome is Settled.ACKNOWLEDGED:
            if later:
                session.seen(self.protocol)
            session.report(wire_id, Step.ACKNOWLEDGED)
            return
        if outcome is Settled.UNFETCHED:
            session.report(wire_id, Step.UNACKNOWLEDGED)
            return
        dropped = outcome in _FAILURES and self._drop(observation)
        if outcome is not Settled.UNACKNOWLEDGED:
            asleep = observation is self._calls and not self._awake
            session.take_back(wire_id, self, "for the device sleeps" if asleep else "for its observation has ended")
        elif call.persistent:  # without a link it is left to the store, and nothing can be told of it
            session.report(wire_id, Step.UNACKNOWLEDGED)
        if dropped:
            self._part(_FAILURES[outcome])
        if outcome is Settled.UNACKNOWLEDGED and not call.persistent:  # who waits is told that the device is gone
            session.report(wire_id, Step.UNACKNOWLEDGED)


_FAILURES = {
    Settled.UNACKNOWLEDGED: "did not acknowledge a notification (NO_ACK)",
    Settled.REJECTED: "reset a notification",
}
"""Outcomes that end the observation, and the cause that people are told."""


class _Sent:
    """The notification of a call, and whether it is known what became of it."""

    __slots__ = ("_call", "_link", "_observation", "known", "later")

    def __init__(self, link: CoapLink, observation: Observation, call: Call) -> None:
        self._link = link
        self._observation = observation
        self._call = call
        self.known = False
        self.later = False

    def settled(self, outcome: Settled) -> None:
        self.known = True
        self._link.settle_call(self._observation, self._call, outcome, later=self.later)


def _notification(observation: Observation, text: bytes) -> Response:
    """JSON text in the format that the registration asked for."""
    content_format = formats.chosen(observation.accept, None)
    payload = formats.write(text, content_format)
    return Response(code=Code.CONTENT, payload=payload, content_format=content_format, authenticated=True)
