"""What a device says to the server where each message is a request that gets its answer: over HTTP and CoAP.

All methods charge what they cost to the device's rates and note its sign of life. They raise, and their Deferreds fail
with, BrokerErrors only: InvalidRequest for what is not JSON of the right form, TooManyRequests, Unavailable and others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.errors import InvalidRequest, TooManyRequests
from rpcbroker.core.model import Device
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.questions import Question, QuestionText
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.values import points_in


class AttributesQuestion(msgspec.Struct, rename="camel"):
    """Which attributes a device asks for, as comma-separated keys; neither is all."""

    client_keys: str | None = None
    shared_keys: str | None = None

    @property
    def keys(self) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
        """Client and shared keys: an empty tuple is all, None is none."""
        if self.client_keys is None and self.shared_keys is None:
            return (), ()
        return _split(self.client_keys), _split(self.shared_keys)


class Enrolment(Protocol):
    """How strangers become devices, and devices a customer's."""

    def provision(self, request: bytes) -> Deferred[bytes]:
        """See core.provisioning."""

    def claim(self, device: Device, offer: bytes) -> Deferred[None]:
        """See core.claiming."""


class Uplinks:
    """What devices of one protocol say. `protocol` is its name as people know it."""

    def __init__(self, broker: Broker, enrolment: Enrolment, *, protocol: str) -> None:
        self._broker = broker
        self._enrolment = enrolment
        self._protocol = protocol

    @property
    def protocol(self) -> str:
        return self._protocol

    # -- calls

    def reply(self, session: DeviceSession, wire_id: int, payload: bytes) -> bool | Deferred[bool]:
        """The reply to a call: JSON, or nothing. As DeviceSession.receive. What is not JSON ends no call."""
        session.seen(self._protocol)
        if payload:
            self._require_json(session, payload, f"replied to call {wire_id}")
        return session.receive(wire_id, payload)

    def progress(self, session: DeviceSession, wire_id: int, payload: bytes) -> bool | Deferred[bool]:
        """The device is at it, and says so in JSON. As DeviceSession.progress."""
        self._charge(session)
        self._require_json(session, payload, f"reported progress of call {wire_id}")
        return session.progress(wire_id, payload)

    def ask(
        self,
        session: DeviceSession,
        payload: bytes,
        own: Mapping[str, Callable[[], bytes]],
        timeout: float | None = None,
    ) -> bytes | Deferred[bytes]:
        """The answer to a device's question; as Broker.ask."""
        self._charge(session)
        try:
            asked = jsontext.decode_as(QuestionText, payload)
        except jsontext.BadJSON as error:
            self._refuse(session, "asked the server", error)
        question = Question(
            method=asked.method, params=bytes(asked.params), transport=self._protocol, own=own, timeout=timeout
        )
        return self._broker.ask(session, question)

    # -- values

    def telemetry(self, session: DeviceSession, payload: bytes) -> Deferred[None] | None:
        """Keep what the device measured; None: it is kept already."""
        telemetry, quotas = self._broker.telemetry, self._broker.quotas
        session.seen(self._protocol)
        try:
            posted = telemetry.parse(payload)
        except jsontext.BadJSON as error:
            self._refuse(session, "posted telemetry", error)
        if quotas.any:  # asked here, for counting the points is not for nothing
            self._charge(session, points_in(posted))
        return self._broker.keep_telemetry(session, posted)

    def attributes(self, session: DeviceSession, payload: bytes) -> Deferred[None]:
        """Store the device's own attributes."""
        attributes = self._broker.attributes
        try:
            values = attributes.parse(payload)
        except jsontext.BadJSON as error:
            self._refuse(session, "posted attributes", error)
        self._charge(session, len(values))
        return self._broker.keep_attributes(session, values)

    def read_attributes(self, session: DeviceSession, question: AttributesQuestion) -> Deferred[bytes]:
        """What it asks for: JSON text such as `{"client":{...},"shared":{...}}`, empty halves left out."""
        self._charge(session)
        return self._halves(session, *question.keys).addCallback(
            lambda halves: jsontext.encode({name: half for name, half in halves.items() if half})
        )

    def shared_attributes(self, session: DeviceSession) -> Deferred[bytes]:
        """All that an application has set for the device: JSON text `{"k":v}`."""
        self._charge(session)
        return self._halves(session, None, ()).addCallback(lambda halves: jsontext.encode(halves["shared"]))

    def _halves(
        self, session: DeviceSession, client: tuple[str, ...] | None, shared: tuple[str, ...] | None
    ) -> Deferred[dict[str, Any]]:
        asked = Deferred.fromCoroutine(self._broker.attributes.of_device(session.device.id, client, shared))
        return asked.addCallback(lambda halves: dict(zip(("client", "shared"), halves, strict=True)))

    # -- enrolment

    def claim(self, session: DeviceSession, payload: bytes) -> Deferred[None]:
        """The device offers itself."""
        self._charge(session)
        claimed = self._enrolment.claim(session.device, payload)

        def refused(failure: Failure) -> NoReturn:
            failure.trap(jsontext.BadJSON)
            self._refuse(session, "offered itself to be claimed", failure.value)

        return claimed.addErrback(refused)

    def provision(self, payload: bytes) -> Deferred[bytes]:
        """What a stranger's request is answered with: JSON text with a `status`."""
        return self._enrolment.provision(payload)

    # -- what all have in common

    def asks_for_more(self, session: DeviceSession) -> None:
        """The device asks for calls, or for updates: it is there, and that costs what a message does."""
        self._charge(session)

    def _charge(self, session: DeviceSession, points: int = 0) -> None:
        session.seen(self._protocol)
        quotas = self._broker.quotas
        if quotas.any and not quotas.charge(session.device, points=points):
            session.note(NearMiss.RATE_LIMITED, "sends more than it may ([limits])")
            raise TooManyRequests("More messages than this device may send", retry_after=1.0)

    def _require_json(self, session: DeviceSession, payload: bytes, did: str) -> None:
        try:
            jsontext.decode(payload)
        except jsontext.BadJSON as error:
            self._refuse(session, did, error)

    def _refuse(self, session: DeviceSession, did: str, error: Exception) -> NoReturn:
        session.note(NearMiss.BAD_PAYLOAD, f"{did} with what cannot be read: {error}")
        raise InvalidRequest(f"Invalid payload: {error}") from None


def _split(keys: str | None) -> tuple[str, ...] | None:
    return None if keys is None else tuple(key for key in (each.strip() for each in keys.split(",")) if key)
