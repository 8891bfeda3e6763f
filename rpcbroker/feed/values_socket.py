"""ThingsBoard's own WebSocket, as far as its RPC widgets need it: attributes and telemetry as they change.

https://thingsboard.io/docs/user-guide/telemetry/#websocket-api. Entity queries, counts and alarms are not served, and
whoever asks for them is told so. Calls never come this way: they are made over REST.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from uuid import UUID

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.deadlines import Deadline
from rpcbroker.core.errors import (
    BrokerError,
    InvalidRequest,
    NotAuthenticated,
    NotFound,
    PermissionDenied,
    TooManyRequests,
)
from rpcbroker.core.feed import Feed
from rpcbroker.core.feed_settings import WampSettings
from rpcbroker.core.jsontext import BadJSON
from rpcbroker.core.model import Principal, Scope
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.values import LATEST_TIME, split_keys
from rpcbroker.feed import values_commands as wire
from rpcbroker.feed.ports import Rights
from rpcbroker.feed.value_subscriptions import AttributeSubscription, Data, Subscription, TelemetrySubscription, history
from rpcbroker.feed.values_commands import Command, Login, Misread

VALUES_PATHS = ("/api/ws", "/api/ws/plugins/telemetry")
"""Where it is spoken."""
MAX_TEXT = 32 << 10
"""Bytes of a message that comes in, as with other servers."""
MAX_KEYS = 256 << 10
"""Characters of the keys that a socket may name in its subscriptions, all together."""
MAX_WAITING = 1_000
"""Commands of a socket that wait: they are done one after the other."""
LOOK_INTERVAL = 1.0
"""Seconds until it is looked again whether who has logged in still may."""
POINTS = 100
"""Of a key, where no limit is given."""

INTERNAL, BAD, UNAUTHORIZED = 1, 2, 3
ERROR_CODES: dict[type, int] = {
    BrokerError: INTERNAL,
    InvalidRequest: BAD,
    NotFound: BAD,
    TooManyRequests: BAD,
    NotAuthenticated: UNAUTHORIZED,
    PermissionDenied: UNAUTHORIZED,
}
"""The values of `errorCode`."""
INVALID, POLICY, FAULT, LATER = 1007, 1008, 1011, 1013
"""Codes of close frames."""


class Peer(Protocol):
    """The connection, which speaks text, and closes where binary messages come, or longer ones than MAX_TEXT."""

    def send_later(self, message: bytes) -> bool:
        """One message of text, together with others. False if more waits for the peer than may: it is not sent."""
        ...

    def close(self, code: int, reason: str) -> None:
        """When all that was sent is out."""
        ...


class ValuesSockets:
    """What all of them share."""

    def __init__(self, *, broker: Broker, feed: Feed, rights: Rights, settings: Callable[[], WampSettings]) -> None:
        self.broker = broker
        self.feed = feed
        self.rights = rights
        self.settings = settings

    def socket(self, token: str = "") -> ValuesSocket:
        """For a new connection; `token` is what its URL has."""
        return ValuesSocket(self, token)


class ValuesSocket:
    """One connection: who it is, what it subscribed to, and the commands that wait."""

    _log = Logger()
    binary = False
    """Messages are text."""

    def __init__(self, shared: ValuesSockets, token: str) -> None:
        self._shared = shared
        self._ticket = token
        self._peer: Peer | None = None
        self._principal: Principal | None = None
        self._deadline: Deadline | None = None
        """Until it must have logged in; then, until it is looked at that again."""
        self._subscriptions: dict[int, Subscription] = {}
        self._commands: deque[Command | Misread] = deque()
        self._working: Deferred[None] | None = None

    # -- the connection

    def opened(self, peer: Peer) -> None:
        """It speaks WebSocket. Who came without a token has to log in within `wamp.hello_timeout`."""
        self._peer = peer
        if self._ticket:
            self._log_in(self._ticket)
        else:
            timeout = self._shared.settings().hello_timeout
            self._deadline = self._shared.broker.deadlines.after(timeout, self._close_late, None)

    def received(self, message: bytes) -> None:
        """A whole message, of at most MAX_TEXT bytes."""
        if self._peer is None:
            return
        try:
            login, commands = wire.parse(message)
        except BadJSON as error:
            if self._principal is None:
                self._close(INVALID, str(error))
            else:
                self._fail(-1, InvalidRequest(str(error)))
            return
        if self._admit(login):
            self._commands.extend(commands)
            if len(self._commands) > MAX_WAITING:
                self._close(POLICY, "too many commands at once")
            elif self._working is None:
                self._working = Deferred.fromCoroutine(self._work())
                self._working.addBoth(self._idle)

    def closed(self) -> None:
        """It is gone. Harmless when it was told before."""
        self._peer = None
        self._commands.clear()
        if self._deadline is not None:
            self._deadline.cancel()
        if self._working is not None:
            self._working.cancel()
        for subscription in self._subscriptions.values():
            subscription.end()
        self._subscriptions.clear()

    def _close(self, code: int, reason: str) -> None:
        peer = self._peer
        self.closed()
        if peer is not None:
            peer.close(code, reason)

    # -- who it is

    def _admit(self, login: Login | None) -> bool:
        """Whether the commands of this message may be done."""
        if login is not None:
            self._log_in(login.ticket)
        elif self._principal is None:
            self._close(POLICY, "the first message must have an authCmd")
        return self._peer is not None

    def _log_in(self, ticket: str) -> None:
        """Also again, with another token of the same user."""
        before = self._principal
        try:
            principal = self._shared.rights.of_ticket(ticket)
            self._shared.rights.count(principal)
        except TooManyRequests as error:
            self._close(LATER, error.message)
            return
        except BrokerError as error:
            self._close(INVALID, error.message)
            return
        if before is not None and (before.user_id, before.tenant_id) != (principal.user_id, principal.tenant_id):
            self._close(POLICY, "another user must open another connection")
            return
        self._ticket = ticket
        self._become(principal)

    def _become(self, principal: Principal) -> None:
        self._principal = principal
        for subscription in self._subscriptions.values():
            subscription.become(principal)
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._shared.broker.deadlines.after(LOOK_INTERVAL, self._look, None)

    def _look(self, _: None) -> None:
        try:
            principal = self._shared.rights.of_ticket(self._ticket)
        except BrokerError as error:
            self._close(POLICY, error.message)
        else:
            self._become(principal)

    def _close_late(self, _: None) -> None:
        self._close(POLICY, "nobody has logged in")

    # -- commands

    async def _work(self) -> None:
        """One after the other, so that a peer takes no more than its turn of the store."""
        while self._commands:
            command = self._commands.popleft()
            try:
                await self._do(command)
            except BrokerError as error:
                self._fail(command.cmd_id, error, command)

    def _idle(self, result: Any) -> None:
        self._working = None
        if self._peer is not None and result is not None:
            self._log.failure("a command failed", failure=result)
            self._close(FAULT, "the server has a fault; its log says more")

    async def _do(self, command: Command | Misread) -> None:
        """Raises BrokerError."""
        principal = self._principal
        assert principal is not None
        if isinstance(command, Misread):
            raise InvalidRequest(command.why)
        if command.unsubscribe or command.type.upper().endswith("UNSUBSCRIBE"):
            self._unsubscribe(command.cmd_id)
            return
        self._shared.rights.count(principal)
        match command.type:
            case wire.ATTRIBUTES:
                await self._attributes(principal, command)
            case wire.TIMESERIES:
                await self._telemetry(principal, command)
            case wire.HISTORY:
                await self._history(principal, command)
            case other:
                raise InvalidRequest(
                    f"{other[:40]} is not served here: subscribe to {wire.ATTRIBUTES} or {wire.TIMESERIES} of a device"
                )

    async def _attributes(self, principal: Principal, command: Command) -> None:
        scopes = _scopes(command.scope)
        subscription = AttributeSubscription(*await self._subscribed(principal, command))
        await self._begin(command.cmd_id, subscription, subscription.begin(self._shared.broker, principal, scopes))

    async def _telemetry(self, principal: Principal, command: Command) -> None:
        _require_points(command)
        start, length = command.start_ts or 0, command.time_window or 0
        window = (start, min(start + length, LATEST_TIME) + 1) if length > 0 else None
        subscription = TelemetrySubscription(*await self._subscribed(principal, command))
        beginning = subscription.begin(self._shared.broker, principal, window=window, limit=command.limit or POINTS)
        await self._begin(command.cmd_id, subscription, beginning)

    async def _history(self, principal: Principal, command: Command) -> None:
        _require_points(command)
        keys = split_keys(command.keys or "")
        if not keys:
            raise InvalidRequest("keys must name at least one key")
        session = await self._session(principal, command)
        window = command.start_ts or 0, LATEST_TIME if command.end_ts is None else command.end_ts + 1
        self._tell(command.cmd_id, await history(self._shared.broker, session, keys, window, command.limit or POINTS))

    async def _session(self, principal: Principal, command: Command) -> DeviceSession:
        """The device that it is about; unknown and foreign ones are alike. Raises NotFound, PermissionDenied."""
        if not self._shared.feed.settings.payloads:
            raise PermissionDenied("Values may not be watched here", hint="feed.payloads is off.")
        if command.entity_type not in (None, "DEVICE"):
            raise InvalidRequest(f"Only a DEVICE has telemetry and attributes here, not: {command.entity_type[:20]}")
        try:
            device_id = UUID(command.entity_id or "")
        except ValueError:
            raise InvalidRequest("entityId must be the id of a device") from None
        return await self._shared.broker.session_for(principal, device_id)

    async def _subscribed(self, principal: Principal, command: Command) -> tuple[Any, ...]:
        """What a Subscription is made of. Raises as `_session`, and TooManyRequests."""
        session, cmd_id = await self._session(principal, command), command.cmd_id
        self._unsubscribe(cmd_id)  # the new one takes its place
        most = self._shared.settings().max_subscriptions
        if len(self._subscriptions) >= most:
            raise TooManyRequests(f"A connection may have {most} subscriptions", retry_after=0)
        keys = split_keys(command.keys or "")
        if sum(each.size for each in self._subscriptions.values()) + len(command.keys or "") > MAX_KEYS:
            raise TooManyRequests(
                f"The subscriptions of a connection may name keys of {MAX_KEYS} characters: "
                "one without keys is to all that the device has",
                retry_after=0,
            )
        return self._shared.feed, session, keys, lambda data: self._tell(cmd_id, data), self

    async def _begin(self, cmd_id: int, subscription: Subscription, beginning: Awaitable[None]) -> None:
        """Raises what `beginning` raises, and then there is no subscription."""
        self._subscriptions[cmd_id] = subscription
        try:
            await beginning
        except BaseException:
            self._unsubscribe(cmd_id)
            raise

    def _unsubscribe(self, cmd_id: int) -> None:
        subscription = self._subscriptions.pop(cmd_id, None)
        if subscription is not None:
            subscription.end()

    # -- what is told

    def _tell(self, cmd_id: int, data: Data) -> None:
        latest = {key: points[0][0] for key, points in data.items() if points}
        self._send(_update(cmd_id, data=data, latestValues=latest))

    def _fail(self, cmd_id: int, error: BrokerError, command: Command | Misread | None = None) -> None:
        text = f"{error.message}. {error.hint}" if error.hint else error.message
        code = _error_code(error)
        if isinstance(command, Command) and command.type not in (wire.ATTRIBUTES, wire.TIMESERIES, wire.HISTORY):
            name = wire.UPDATES.get(command.type, command.type[:40])
            self._send({"cmdId": cmd_id, "cmdUpdateType": name, "errorCode": code, "errorMsg": text, "data": None})
        else:
            self._send(_update(cmd_id, errorCode=code, errorMsg=text))

    def _send(self, message: dict[str, Any]) -> None:
        """What cannot be told now is not told later: the values would be wrong, and nobody would know."""
        if self._peer is not None and not self._peer.send_later(jsontext.encode(message)):
            self._close(LATER, "values are not read as fast as they come")


def _update(cmd_id: int, **members: Any) -> dict[str, Any]:
    """As on the wire, with all its members."""
    rest: dict[str, Any] = {"errorCode": 0, "errorMsg": None, "data": {}, "latestValues": {}}
    return {"subscriptionId": cmd_id, **rest, **members}


def _scopes(text: str | None) -> tuple[Scope, ...]:
    if not text or text == "ANY_SCOPE":
        return tuple(Scope)
    try:
        return (Scope(text),)
    except ValueError:
        raise InvalidRequest(f"The scope must be one of {', '.join(Scope)}, not: {text[:20]}") from None


def _require_points(command: Command) -> None:
    agg = command.agg or "NONE"
    if agg != "NONE":
        raise InvalidRequest(f"Points are not aggregated here: agg must be NONE, not: {agg[:20]}")
    if command.limit is not None and command.limit < 0:
        raise InvalidRequest("limit must not be negative")


def _error_code(error: BrokerError) -> int:
    """That of the nearest class which has one."""
    return next(ERROR_CODES[kind] for kind in type(error).__mro__ if kind in ERROR_CODES)
