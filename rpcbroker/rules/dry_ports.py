"""A message to try, and ports that do nothing with it but tell what would have been done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http.client import responses
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import msgspec
from twisted.internet.defer import Deferred, fail, succeed

from rpcbroker.core import jsontext
from rpcbroker.core.errors import BrokerError, NoActiveConnection, Reason
from rpcbroker.core.model import Attribute, Device, Point, Scope
from rpcbroker.core.questions import OwnAnswers, Question
from rpcbroker.core.settings import AttributeSettings, TelemetrySettings
from rpcbroker.core.values import Value, parse_attributes, parse_telemetry
from rpcbroker.rules import types
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.ports import Direction, Script, Scripts, WantedCall, WebRequest, WebResponse

OWN_OF_MQTT = {"getSessionLimits": lambda: b"{}"}
"""What only a connection knows, which there is none of: that it is answered can be told, not with what."""


ScopeName = Annotated[str, msgspec.Meta(pattern=f"^({'|'.join(Scope)})$")]


class DryDevice(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """A device that need not exist."""

    name: str = "device"
    type: str = "default"
    id: UUID | None = None
    additional_info: Any = None


class DryMessage(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """A message to try, and the world that it finds.

    `related` are the devices that any search for related ones finds. `reply` is what devices reply, unless they are
    `offline`, and `web_reply` what other servers answer with, under the status `web_status`. What `metadata` has too
    little of for a message of its type is added: ids, names, times.
    """

    type: str
    data: Any = msgspec.field(default_factory=dict)
    metadata: dict[str, str] = {}
    originator: DryDevice = msgspec.field(default_factory=DryDevice)
    related: list[DryDevice] = []
    attributes: dict[ScopeName, dict[str, msgspec.Raw]] = {}
    telemetry: dict[str, msgspec.Raw] = {}
    reply: Any = msgspec.field(default_factory=dict)
    offline: bool = False
    web_reply: Any = msgspec.field(default_factory=dict)
    web_status: Annotated[int, msgspec.Meta(ge=200, le=599)] = 200


def asking(method: str, params: Any) -> DryMessage:
    """A device asks the server."""
    return DryMessage(types.QUESTION, {"method": method, "params": params})


def calling(method: str, params: Any) -> DryMessage:
    """A caller calls the device."""
    return DryMessage(types.CALL, {"method": method, "params": jsontext.encode(params).decode()})


class DeedKind(StrEnum):
    """What nodes do beyond their chain."""

    CALL = "call"
    REPLY = "reply"
    RESPOND = "respond"
    TELEMETRY = "save telemetry"
    ATTRIBUTES = "save attributes"
    WEB = "web"
    LOG = "log"


class Deed(NamedTuple):
    """Something that would have been done: its members are values that JSON has."""

    kind: DeedKind
    detail: dict[str, Any]


@dataclass(slots=True)
class Told:
    """Who waits for something: the first answer is theirs."""

    answer: bytes | None = None
    error: str | None = None

    @property
    def yet(self) -> bool:
        return self.answer is not None or self.error is not None


@dataclass(kw_only=True)
class DryEstate:
    """A tenant that has the devices of one DryMessage: `ports.Estate`. `do` is told of each deed."""

    given: DryMessage
    message: RuleMessage
    devices: Mapping[UUID, Device]
    do: Callable[[Deed], None]
    now_ms: Callable[[], int]
    new_uuid: Callable[[], UUID]
    told: Told = field(default_factory=Told)

    def device(self, device_id: UUID) -> Deferred[Device | None]:
        return succeed(self.devices.get(device_id))

    def device_named(self, name: str) -> Deferred[Device | None]:
        return succeed(next((device for device in self.devices.values() if device.name == name), None))

    def related(self, device_id: UUID, direction: Direction, relation: str, *, levels: int) -> Deferred[list[UUID]]:
        return succeed([other for other in self.devices if other != self.message.originator.id])

    # -- RPC

    def call(self, message: RuleMessage, wanted: WantedCall) -> Deferred[bytes]:
        device = self.devices.get(message.originator.id)
        detail = {
            "device": device.name if device else str(message.originator.id),
            "method": wanted.method,
            "params": msgspec.Raw(wanted.params),
            "oneway": wanted.oneway,
            "persistent": wanted.persistent,
        }
        self.do(Deed(DeedKind.CALL, detail))
        outcome = self._outcome(wanted)
        if self._stands_for_the_call(message) and not self.told.yet:
            if isinstance(outcome, bytes):
                self.told.answer = outcome
            else:
                self.told.error = outcome.message
        return succeed(outcome) if isinstance(outcome, bytes) else fail(outcome)

    def _outcome(self, wanted: WantedCall) -> bytes | BrokerError:
        if wanted.persistent:
            return jsontext.encode({"rpcId": str(self.new_uuid())})
        if self.given.offline:
            return NoActiveConnection("The device is offline", reason=Reason.DISCONNECTED)
        return b"{}" if wanted.oneway else jsontext.encode(self.given.reply)

    def _stands_for_the_call(self, message: RuleMessage) -> bool:
        """As Submissions.take has it."""
        same = message.metadata.get("requestUUID") == self.message.metadata.get("requestUUID")
        return message.type == self.message.type == types.CALL and same and "originServiceId" in message.metadata

    def reply(self, session_id: str, request_id: str, payload: bytes) -> None:
        asked = self.message.type == types.QUESTION and self._is("sessionId", session_id)
        waits = asked and self._is("requestId", request_id)
        self.do(Deed(DeedKind.REPLY, {"payload": msgspec.Raw(payload), "waitedFor": waits and not self.told.yet}))
        if waits and not self.told.yet:
            self.told.answer = payload

    def answer_itself(self, message: RuleMessage) -> bytes | Deferred[bytes] | None:
        if not self._is("sessionId", message.metadata.get("sessionId", "")):
            return None
        return self.own_answer()

    @property
    def asked(self) -> Mapping[str, Any]:
        """The question, as its message has it."""
        body = self.message.body()
        return body if isinstance(body, dict) else {}

    def own_answer(self) -> bytes | Deferred[bytes] | None:
        """What the broker itself answers to the question; None if it does not know the method."""
        device = self.devices.get(self.message.originator.id)
        if self.message.type != types.QUESTION or device is None:
            return None
        own = OwnAnswers(self._attributes_of_device, self.now_ms)
        params = jsontext.encode(self.asked.get("params"))
        question = Question(method=str(self.asked.get("method")), params=params, transport="MQTT", own=OWN_OF_MQTT)
        return own.answer(device, question)

    async def _attributes_of_device(
        self, _: UUID, client_keys: Sequence[str] | None, shared_keys: Sequence[str] | None
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        return self._half(Scope.CLIENT, client_keys), self._half(Scope.SHARED, shared_keys)

    def _half(self, scope: Scope, keys: Sequence[str] | None) -> Mapping[str, Any]:
        there = {} if keys is None else self.given.attributes.get(scope, {})
        return {key: value for key, value in there.items() if not keys or key in keys}

    def respond(self, request_id: str, payload: bytes) -> None:
        waits = self.message.type == types.REST_REQUEST and self._is("requestUUID", request_id)
        self.do(Deed(DeedKind.RESPOND, {"payload": shown(payload), "waitedFor": waits and not self.told.yet}))
        if waits and not self.told.yet:
            self.told.answer = payload

    def _is(self, key: str, value: str) -> bool:
        return self.message.metadata.get(key) == value

    # -- values

    def save_telemetry(self, device_id: UUID, data: bytes, *, time: int) -> Deferred[None] | None:
        posted = parse_telemetry(data, TelemetrySettings(), now_ms=time)
        points = [{"ts": ts, "values": values} for ts, values in posted]
        self.do(Deed(DeedKind.TELEMETRY, {"device": self._name(device_id), "points": points}))
        return None

    def save_attributes(
        self, device_id: UUID, scope: Scope, data: bytes, *, tell: bool, only_changed: bool
    ) -> Deferred[Mapping[str, Value]]:
        values = parse_attributes(data, AttributeSettings())
        self.do(Deed(DeedKind.ATTRIBUTES, {"device": self._name(device_id), "scope": scope, "values": values}))
        return succeed(values)

    def _name(self, device_id: UUID) -> str:
        device = self.devices.get(device_id)
        return device.name if device else str(device_id)

    def attributes(self, device_id: UUID, scope: Scope, keys: Sequence[str]) -> Deferred[tuple[Attribute, ...]]:
        there = self.given.attributes.get(scope, {}) if device_id in self.devices else {}
        now = self.now_ms()
        return succeed(tuple(Attribute(scope, key, now, raw) for key, raw in there.items() if not keys or key in keys))

    def latest(self, device_id: UUID, keys: Sequence[str]) -> Deferred[Mapping[str, Point]]:
        there = self.given.telemetry if device_id in self.devices else {}
        now = self.now_ms()
        return succeed({key: Point(now, raw) for key, raw in there.items() if not keys or key in keys})

    def history(
        self, device_id: UUID, keys: Sequence[str], *, start: int, end: int
    ) -> Deferred[Mapping[str, list[Point]]]:
        there = self.given.telemetry if device_id in self.devices else {}
        return succeed({key: [Point(end, raw)] for key, raw in there.items() if key in keys})


@dataclass
class DryWeb:
    """Other servers: all of them answer, with the same."""

    status: int
    answer: bytes
    do: Callable[[Deed], None]

    def call(self, tenant_id: UUID, request: WebRequest) -> Deferred[WebResponse]:
        body = None if request.body is None else shown(request.body)
        self.do(Deed(DeedKind.WEB, {"method": request.method, "url": request.url, "body": body}))
        headers = {"Content-Type": ("application/json",)}
        reason = responses.get(self.status, "")
        return succeed(WebResponse(status=self.status, reason=reason, headers=headers, body=self.answer))


class CountedScripts:
    """Scripts, and whether one runs."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts
        self._waits: Deferred[None] | None = None
        self.running = 0

    def check(self, script: Script) -> Deferred[None]:
        return self._scripts.check(script)

    def run(self, tenant_id: UUID, script: Script, values: Sequence[Any]) -> Deferred[Any]:
        told: Deferred[Any] = Deferred()

        def ran(outcome: Any) -> None:
            told.callback(outcome)  # the chain goes on in there, and may run another one
            self.running -= 1
            waits, self._waits = self._waits, None
            if waits is not None:
                waits.callback(None)

        self.running += 1
        self._scripts.run(tenant_id, script, values).addBoth(ran)
        return told

    def one_more(self) -> Deferred[None]:
        """When the next one that runs has ended, and what came of that has happened."""
        self._waits = Deferred()
        return self._waits


def shown(data: bytes) -> Any:
    """JSON as it is, anything else as a text."""
    try:
        return msgspec.Raw(jsontext.compact(data))
    except jsontext.BadJSON:
        return data.decode(errors="replace")
