"""Long polls: all that one device has open are one link, and each is answered once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from rpcbroker.core import direct, jsontext
from rpcbroker.core.calls import Call, Step
from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.core.errors import BrokerError, NotAuthenticated, TooManyRequests, Unavailable
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.settings import HttpDeviceSettings
from rpcbroker.transports.http.answers import TEXT, Render, answer, lighten, refuse

MAX_CANCELLED = 10
"""Cancelled calls that wait for the next poll, which tells the device of one; of more it is not told."""
LOOK_AGAIN = 1 / 64
"""Seconds until it is asked again whether the socket has taken an answer."""
DELETED = b"Device was deleted!"


class Wanted(Enum):
    """What a poll waits for."""

    CALLS = auto()
    UPDATES = auto()


class Poll:
    """One request that waits. It is the `waiter` of its request."""

    __slots__ = ("deadline", "link", "request", "wanted")

    def __init__(self, request: Any, link: HttpLink, wanted: Wanted) -> None:
        self.request = request
        self.link = link
        self.wanted = wanted
        self.deadline: Deadline | None = None

    def lost(self) -> None:
        """The device has left."""
        self.link.leave(self, "its poll was given up")

    def half_closed(self) -> bool:
        """A call that was given to who has left would be lost, and to who has not, another poll can bring it."""
        self.link.time_out(self)
        return True


class PollSurroundings:
    """What the polls of all devices share, and how many there are."""

    def __init__(
        self,
        *,
        settings: Callable[[], HttpDeviceSettings],
        deadlines: Deadlines,
        seconds: Callable[[], float],
        render: Render,
    ) -> None:
        """`settings` are asked for at each use, for they may change."""
        self.settings = settings
        self.deadlines = deadlines
        self.seconds = seconds
        self.render = render
        self.links: dict[DeviceSession, HttpLink] = {}
        """Those of devices that poll, or did so a moment ago."""
        self.open = 0
        """Polls and event streams that are open."""

    def count(self) -> None:
        """One more is to be open. Raises Unavailable."""
        if self.open >= self.settings().max_polls:
            raise Unavailable("No more polls are taken now", hint="The limit is http_devices.max_polls.")
        self.open += 1

    def wait(self, session: DeviceSession, request: Any, wanted: Wanted, seconds: float) -> None:
        """Let a request wait for so long, and then be answered 408. Raises TooManyRequests, Unavailable."""
        link = self.links.get(session) or HttpLink(session, self)
        link.wait(request, wanted, seconds)


class HttpLink:
    """All polls of one device. Calls go out over it while one of them waits for calls.

    It is attached from the first poll until `poll_grace` after the last one, and remembered for as long as a persistent
    call that it was given must not go out again.
    """

    __slots__ = ("_around", "_attached", "_cancelled", "_grace", "_held", "_last", "_polls", "_session", "_unsure")

    protocol = "HTTP"
    transient = True

    def __init__(self, session: DeviceSession, around: PollSurroundings) -> None:
        self._session = session
        self._around = around
        self._attached = False
        self._polls: dict[Wanted, dict[Poll, None]] = {Wanted.CALLS: {}, Wanted.UPDATES: {}}
        """Those that wait, the one that waits longest first."""
        self._last = 0.0
        """When the last of them ended, on the clock of the deadlines."""
        self._grace: Deadline | None = None
        self._cancelled: deque[int] | None = None
        self._held: dict[int, Deadline] | None = None
        """Persistent calls that the device was given, and has neither replied to nor reported on for long."""
        self._unsure: list[tuple[Any, Call]] | None = None
        """Calls that were written to these connections, and that their sockets had not taken yet."""

    # -- polls come and go

    def wait(self, request: Any, wanted: Wanted, seconds: float) -> None:
        """See PollSurroundings."""
        around, polls = self._around, self._polls[wanted]
        if sum(map(len, self._polls.values())) >= around.settings().max_polls_per_device:
            raise TooManyRequests(
                "More polls than a device may have open; the limit is http_devices.max_polls_per_device", retry_after=1
            )
        around.count()
        around.links[self._session] = self
        if not self._attached:
            self._attached = True
            self._session.attach(self)
        poll = Poll(request, self, wanted)
        polls[poll] = None
        request.waiter = poll
        if wanted is Wanted.CALLS:
            if self._unsure:  # the oldest comes first, also if it comes once more
                self._look_whether_taken()
            if self._cancelled:
                self._tell(poll, self._cancelled.popleft())
                return
            if len(polls) == 1:
                self._session.subscribe(self)
        if poll in polls:
            lighten(request)
            poll.deadline = around.deadlines.after(seconds, self.time_out, poll)

    def time_out(self, poll: Poll) -> None:
        """There is nothing for it."""
        if self.leave(poll, "no poll waits"):
            answer(poll.request, 408)

    def leave(self, poll: Poll, cause: str) -> bool:
        """It waits no more. False if it has left before."""
        if not self._remove(poll):
            return False
        self._left(poll, cause)
        return True

    def _remove(self, poll: Poll) -> bool:
        polls = self._polls[poll.wanted]
        if poll not in polls:
            return False
        del polls[poll]
        self._around.open -= 1
        if poll.deadline is not None:
            poll.deadline.cancel()
        return True

    def _left(self, poll: Poll, cause: str) -> None:
        if poll.wanted is Wanted.CALLS and not self._polls[Wanted.CALLS]:
            self._session.unsubscribe(self, cause)
        if not any(self._polls.values()):
            self._last = self._around.seconds()
            if self._grace is None:
                self._grace = self._around.deadlines.after(self._around.settings().poll_grace, self._look, None)

    def _look(self, _: None) -> None:
        """Whether the device has stayed away for long: one deadline serves any number of polls."""
        self._grace = None
        if any(self._polls.values()):
            return
        left = self._last + self._around.settings().poll_grace - self._around.seconds()
        if left > 0:
            self._grace = self._around.deadlines.after(left, self._look, None)
            return
        self._attached = False
        self._cancelled = None
        self._session.detach(self, "it has not polled since")
        self._forget()

    def _forget(self) -> None:
        if not self._attached and not self._held and self._around.links.get(self._session) is self:
            del self._around.links[self._session]

    # -- the Link that the session knows

    def deliver(self, call: Call) -> bool | None:
        """Answer the poll that waits longest."""
        wire_id = call.wire_id
        if call.persistent and self._held is not None and wire_id in self._held:
            return None
        polls = self._polls[Wanted.CALLS]
        poll = next(iter(polls), None)
        while poll is not None and direct.peer_left(poll.request.channel.transport):
            self.time_out(poll)
            poll = next(iter(polls), None)
        if poll is None:
            return False
        self._remove(poll)
        channel = poll.request.channel
        transport = channel.transport
        if call.persistent:
            self._hold(wire_id)
        answer(
            poll.request,
            200,
            b'{"id":%d,"method":%b,"params":%b}' % (wire_id, jsontext.encode(call.method), call.params),
        )
        channel.site.outgoing.flush()  # only of what was sent it can be asked whether it was taken
        if direct.is_tls(transport) or direct.waits(transport):
            if call.persistent or not call.oneway:  # which would end by it
                self._session.report(wire_id, Step.WRITTEN)
            self._watch(transport, call)
        else:
            self._taken(call)
        self._left(poll, "its poll was given a call")
        return True

    def _watch(self, transport: Any, call: Call) -> None:
        if self._unsure is None:
            self._unsure = []
            self._around.deadlines.after(LOOK_AGAIN, self._look_again, None)
        self._unsure.append((transport, call))

    def _look_again(self, _: None) -> None:
        self._look_whether_taken()
        if self._unsure:
            self._around.deadlines.after(LOOK_AGAIN, self._look_again, None)
        else:
            self._unsure = None

    def _look_whether_taken(self) -> None:
        """What no socket has taken the device cannot have, not even in part: JSON is nothing without its end."""
        unsure, self._unsure = self._unsure or [], []
        for given in unsure:
            transport, call = given
            if not direct.waits(transport):
                self._taken(call)
            elif direct.is_lost(transport):
                self._release(call.wire_id)
                self._session.take_back(call.wire_id, self, "for the connection of the poll was lost")
            else:
                self._unsure.append(given)

    def _taken(self, call: Call) -> None:
        self._session.report(call.wire_id, Step.ACKNOWLEDGED)
        if call.oneway:
            self._release(call.wire_id)

    def cancel(self, call: Call) -> bool:
        """Tell a poll that waits, or the next one."""
        self._release(call.wire_id)
        poll = next(iter(self._polls[Wanted.CALLS]), None)
        if poll is not None:
            self._tell(poll, call.wire_id)
            return True
        if self._cancelled is None:
            self._cancelled = deque()
        if len(self._cancelled) < MAX_CANCELLED:
            self._cancelled.append(call.wire_id)
        return False

    def _tell(self, poll: Poll, wire_id: int) -> None:
        self._remove(poll)
        answer(poll.request, 200, b'{"id":%d,"cancel":true}' % wire_id)
        self._left(poll, "its poll was told of a cancelled call")

    def attributes_changed(self, update: bytes) -> None:
        """Answer all polls that wait for it. What comes while none waits is not kept: the device can ask."""
        for poll in tuple(self._polls[Wanted.UPDATES]):
            if self.leave(poll, "its poll was given an update"):
                answer(poll.request, 200, update)

    def close(self, reason: CloseReason) -> None:
        """Answer all polls. The device may come again, if it is let in."""
        self._attached = False
        for deadline in (self._held or {}).values():
            deadline.cancel()
        if self._grace is not None:
            self._grace.cancel()
        self._grace = self._held = self._cancelled = None
        self._forget()
        waiting = [poll for polls in self._polls.values() for poll in polls]
        for poll in waiting:
            self._remove(poll)
        for poll in waiting:
            self._answer_closed(poll.request, reason)

    def _answer_closed(self, request: Any, reason: CloseReason) -> None:
        error = _ERRORS.get(reason)
        if reason is CloseReason.DEVICE_DELETED:
            answer(request, 403, DELETED, content_type=TEXT)
        elif error is not None:
            refuse(request, self._around.render(error))
        else:
            answer(request, 408)

    def why_not_callable(self) -> str:
        return "has no poll waiting for calls"

    # -- persistent calls that it has

    def heard(self, wire_id: int) -> None:
        """The device has reported progress of a call: it has it, and is given it once more only after a while."""
        if self._held is not None and wire_id in self._held:
            self._hold(wire_id)

    def answered(self, wire_id: int) -> None:
        """The device has replied to it."""
        self._release(wire_id)

    def _hold(self, wire_id: int) -> None:
        if self._held is None:
            self._held = {}
        elif wire_id in self._held:
            self._held[wire_id].cancel()
        after = self._around.settings().redeliver_after
        self._held[wire_id] = self._around.deadlines.after(after, self._give_again, wire_id)

    def _give_again(self, wire_id: int) -> None:
        if self._release(wire_id):
            self._session.take_back(wire_id, self, "for the device has neither replied nor reported on it")

    def _release(self, wire_id: int) -> bool:
        deadline = self._held.pop(wire_id, None) if self._held else None
        if deadline is None:
            return False
        deadline.cancel()
        self._forget()
        return True


_ERRORS: dict[CloseReason, BrokerError] = {
    CloseReason.CREDENTIALS_CHANGED: NotAuthenticated("The access token is not good any more"),
    CloseReason.SHUTTING_DOWN: Unavailable("The server is shutting down", hint="Try again."),
}
"""What polls are told that end because the link does."""
