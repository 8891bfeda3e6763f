"""WAMP without a wire: the router around a Rest, and peers that speak lists with it."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import msgspec
from rest import Rest

from rpcbroker.core.feed_settings import FeedSettings, WampSettings
from rpcbroker.core.settings import Settings
from rpcbroker.feed.member import Member
from rpcbroker.feed.messages import Type
from rpcbroker.feed.session import Session
from rpcbroker.feed.wamp import Wamp

HELLO = {
    "roles": {"publisher": {}, "subscriber": {}, "caller": {}, "callee": {"features": {"call_canceling": True}}},
    "authmethods": ["ticket"],
}


class Lists:
    """As ports.Serializer, with nothing but JSON. `encoded` counts what was encoded; what is in `unsayable` cannot be."""

    binary = False

    def __init__(self, name: str = "json") -> None:
        self.name = name
        self.encoded = 0
        self.unsayable: list[Any] = []

    def decode(self, data: bytes) -> list[Any]:
        message: list[Any] = json.loads(data)
        return message

    def encode(self, message: list[Any]) -> bytes:
        if any(value in message[-1] for value in self.unsayable if isinstance(message[-1], list)):
            raise ValueError("this cannot be said")
        self.encoded += 1
        return msgspec.json.encode(message)

    def joined(self, first: bytes, second: bytes) -> bytes:
        return msgspec.json.encode(json.loads(first) + json.loads(second))

    def encode_members(self, members: dict[str, Any]) -> bytes:
        return msgspec.json.encode(members)[1:]

    def event(
        self, subscription: int, publication: int, topic: str | None, *, n: int, members: bytes, count: int
    ) -> bytes:
        details = {} if topic is None else {"topic": topic}
        return self.encode([Type.EVENT, subscription, publication, details, [], {"n": n, **json.loads(b"{" + members)}])


class Peer:
    """As ports.Connection: the client's end of one."""

    peer = "192.0.2.1"

    def __init__(self, serializer: Lists) -> None:
        self.serializer = serializer
        self.session: Session
        self.sent: list[list[Any]] = []
        self.closed: tuple[int, str] | None = None
        self.stalled = False
        self.most = 1 << 24
        self._requests = count(1)

    @property
    def member(self) -> Member:
        assert self.session.requests is not None
        return self.session.requests.member

    @property
    def waiting(self) -> int:
        return 1 << 30 if self.stalled else 0

    def send(self, message: bytes) -> None:
        if self.closed is None:
            self.sent.append(json.loads(message))

    def send_later(self, message: bytes) -> bool:
        if self.stalled or len(message) > self.most:
            return False
        self.send(message)
        return True

    def close(self, code: int, reason: str) -> None:
        self.closed = self.closed or (code, reason)

    def say(self, *message: Any) -> list[list[Any]]:
        """What comes of it."""
        self.sent.clear()
        self.session.receive([int(part) if isinstance(part, Type) else part for part in message])
        return self.told()

    def told(self) -> list[list[Any]]:
        """What has come since that was asked."""
        told, self.sent = self.sent, []
        return told

    def request(self, kind: Type, *rest: Any) -> list[Any]:
        """With an id of its own; the one answer, without its type and the id."""
        request = next(self._requests)
        (answer,) = self.say(kind, request, *rest)
        if answer[0] == Type.ERROR:
            assert answer[1:3] == [kind, request]
            return answer[4:]
        assert answer[1] == request
        return answer[2:]

    def subscribe(self, topic: str, **options: Any) -> int:
        (subscription,) = self.request(Type.SUBSCRIBE, options, topic)
        assert isinstance(subscription, int), subscription
        return subscription

    def register(self, procedure: str, **options: Any) -> int:
        (registration,) = self.request(Type.REGISTER, options, procedure)
        assert isinstance(registration, int), registration
        return registration

    def publish(self, topic: str, *args: Any, **options: Any) -> list[Any]:
        """What an acknowledgement says."""
        return self.request(Type.PUBLISH, {"acknowledge": True} | options, topic, list(args))

    def call(self, procedure: str, *args: Any, **options: Any) -> int:
        """The id of the request; the answer may come later."""
        request = next(self._requests)
        self.sent.clear()
        self.session.receive([48, request, options, procedure, list(args)])
        return request

    def result(self, procedure: str, *args: Any) -> list[Any]:
        """Of a call that is answered at once: the positional results, or the URI of the error."""
        self.call(procedure, *args)
        (answer,) = self.told()
        if answer[0] == Type.ERROR:
            return [answer[4]]
        assert answer[0] == Type.RESULT
        return [*answer, []][3]


class WampWorld(Rest):
    """A Rest with WAMP beside it."""

    def __init__(self, *, wamp: Any = None, feed: Any = None, **more: Any) -> None:
        super().__init__(feed=feed, **more)
        self.ids = count(1_000_000)
        self.lists = Lists()
        self.wamp = Wamp(
            settings=Settings(wamp=WampSettings(**wamp or {}), feed=FeedSettings(**feed or {})),
            broker=self.broker,
            store=self.store,
            feed=self.feed,
            trail=self.rest.trail,
            rights=self.rest.who,
            now_ms=self.now_ms,
            seconds=self.clock.seconds,
            new_uuid=self.new_uuid,
            new_id=lambda: next(self.ids),
        )
        self.router = self.wamp.router

    def connect(self, serializer: Lists | None = None) -> Peer:
        peer = Peer(serializer or self.lists)
        peer.session = self.router.connected(peer)
        return peer

    def join(self, ticket: str = "", serializer: Lists | None = None, **hello: Any) -> Peer:
        """A tenant administrator, if no ticket says another."""
        peer = self.connect(serializer)
        assert peer.say(Type.HELLO, "rpcbroker", HELLO | hello) == [[Type.CHALLENGE, "ticket", {}]]
        (welcome,) = peer.say(Type.AUTHENTICATE, ticket or self.token, {})
        assert welcome[0] == Type.WELCOME, welcome
        assert welcome[1] == peer.member.id
        return peer

    async def key_for_customer(self, customer_id: Any, **scope: Any) -> str:
        """An administrator's, for what is this customer's."""
        customer = {"entityType": "CUSTOMER", "id": str(customer_id)}
        return await self.api_key(**{"access": "CALL", "customerId": customer} | scope)

    async def api_key(self, description: str = "k", *, token: str = "", **scope: Any) -> str:
        body = {"description": description, "scope": scope}
        made = await self.ok("POST", "/api/apiKey", body, token=token)
        return str(made["value"])

    def pass_time(self, seconds: float) -> None:
        """In steps, so that what is looked at each second is."""
        for _ in range(round(seconds * 4)):
            self.clock.advance(0.25)
