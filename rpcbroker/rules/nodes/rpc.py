"""Calls to devices, and answers to their questions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.errors import BrokerError, CallTimeout, NoActiveConnection
from rpcbroker.rules.errors import NodeFailed
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.node import Effect, NodeType, Out, Outcome, Place
from rpcbroker.rules.nodes.bodies import object_of, require_device
from rpcbroker.rules.ports import WantedCall
from rpcbroker.rules.types import FAILURE, SUCCESS

UNKNOWN_METHOD = "Unknown Method"


class CallConfiguration(msgspec.Struct, rename="camel"):
    """`timeoutInSeconds` counts where the message names no expirationTime."""

    timeout_in_seconds: int = 60


class CallNode:
    """Calls the device that the message is about, and goes on with its reply."""

    effect: Effect | None = Effect.CALL

    def __init__(self, configuration: CallConfiguration, place: Place) -> None:
        self._timeout = configuration.timeout_in_seconds
        self._around = place.around

    def __call__(self, message: RuleMessage) -> Deferred[Outcome]:
        called = self._around.estate.call(message, wanted(message, self._timeout))
        return called.addCallbacks(_replied, _failed, (message,), None, (message,))


def wanted(message: RuleMessage, timeout: float) -> WantedCall:
    """What the message asks of its device. Raises NodeFailed."""
    require_device(message)
    body = object_of(message)
    if "method" not in body:
        raise NodeFailed("Method is not present in the message!")
    if "params" not in body:
        raise NodeFailed("Params are not present in the message!")
    metadata = message.metadata
    method = body["method"]
    return WantedCall(
        method=method if isinstance(method, str) else jsontext.encode(method).decode(),
        params=_raw(body["params"], "params"),
        oneway=metadata.get("oneway") == "true",
        persistent=metadata.get("persistent") == "true",
        expiration_time=_number(metadata, "expirationTime"),
        timeout=timeout,
        retries=_number(metadata, "retries"),
        additional_info=_info(body.get("additionalInfo")),
    )


def _raw(value: Any, name: str) -> bytes:
    """A text is JSON text itself; anything else is made JSON text."""
    if not isinstance(value, str):
        return jsontext.encode(value)
    try:
        return jsontext.compact(value.encode())
    except jsontext.BadJSON as error:
        raise NodeFailed(f"{name} is a text that is not JSON: {error}") from None


def _info(value: Any) -> Any:
    return jsontext.decode(_raw(value, "additionalInfo"))


def _number(metadata: Any, name: str) -> int | None:
    text = metadata.get(name)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise NodeFailed(f"{name} in the metadata is no number: {text[:50]!r}") from None


def _replied(reply: bytes, message: RuleMessage) -> Outcome:
    return (Out(SUCCESS, replace(message, data=reply)),)


def _failed(failure: Failure, message: RuleMessage) -> Outcome:
    failure.trap(BrokerError)
    word = failure_word(failure.value)
    data = jsontext.encode({"error": word})
    raise NodeFailed(word, replace(message, data=data)) from None


def failure_word(error: BrokerError) -> str:
    """What the wire calls it."""
    if isinstance(error, NoActiveConnection):
        return "NO_ACTIVE_CONNECTION"
    return "TIMEOUT" if isinstance(error, CallTimeout) else error.reason or error.message


class ReplyConfiguration(msgspec.Struct):
    """Where the metadata says whom to answer; what is blank is `serviceId`, `sessionId`, `requestId`."""

    service_id: str | None = msgspec.field(default=None, name="serviceIdMetaDataAttribute")
    session_id: str | None = msgspec.field(default=None, name="sessionIdMetaDataAttribute")
    request_id: str | None = msgspec.field(default=None, name="requestIdMetaDataAttribute")


class ReplyNode:
    """Answers a device's question with the data of the message."""

    def __init__(self, configuration: ReplyConfiguration, place: Place) -> None:
        self._service = key_or(configuration.service_id, "serviceId")
        self._session = key_or(configuration.session_id, "sessionId")
        self._request = key_or(configuration.request_id, "requestId")
        self._estate = place.around.estate

    def __call__(self, message: RuleMessage) -> Outcome:
        metadata = message.metadata
        request, session = metadata.get(self._request), metadata.get(self._session)
        require_device(message)
        if not request:
            raise NodeFailed("Request id is not present in the metadata!")
        if not metadata.get(self._service):
            raise NodeFailed("Service id is not present in the metadata!")
        if not session:
            raise NodeFailed("Session id is not present in the metadata!")
        if not message.data:
            raise NodeFailed("Request body is empty!")
        self._estate.reply(session, request, as_json(message.data))
        return (Out(SUCCESS, message),)


def key_or(given: str | None, default: str) -> str:
    """What is configured as a key of the metadata, or the usual one if that is blank."""
    return given if given and given.strip() else default


def as_json(data: bytes) -> bytes:
    """Data as JSON text: what is none is a text."""
    try:
        return jsontext.compact(data)
    except jsontext.BadJSON:
        return jsontext.encode(data.decode(errors="replace"))


class OwnAnswerConfiguration(msgspec.Struct):
    """There is nothing to configure."""


class OwnAnswerNode:
    """Answers a device's question with what the broker itself knows."""

    def __init__(self, configuration: OwnAnswerConfiguration, place: Place) -> None:
        self._estate = place.around.estate

    def __call__(self, message: RuleMessage) -> Outcome | Deferred[Outcome]:
        answer = self._estate.answer_itself(message)
        if isinstance(answer, Deferred):
            return answer.addCallback(self._answered, message)
        return self._answered(answer, message)

    def _answered(self, answer: bytes | None, message: RuleMessage) -> Outcome:
        if answer is None:
            return (Out(UNKNOWN_METHOD, message),)
        self._estate.reply(message.metadata.get("sessionId", ""), message.metadata.get("requestId", ""), answer)
        return (Out(SUCCESS, replace(message, data=answer)),)


REQUEST = NodeType(
    name="org.thingsboard.rule.engine.rpc.TbSendRPCRequestNode",
    configuration=CallConfiguration,
    make=CallNode,
    labels=(SUCCESS, FAILURE),
    takes_time=True,
)
REPLY = NodeType(
    name="org.thingsboard.rule.engine.rpc.TbSendRPCReplyNode",
    configuration=ReplyConfiguration,
    make=ReplyNode,
    labels=(SUCCESS, FAILURE),
)
OWN_ANSWER = NodeType(
    name="rpcbroker.rules.OwnAnswer",
    configuration=OwnAnswerConfiguration,
    make=OwnAnswerNode,
    labels=(SUCCESS, UNKNOWN_METHOD, FAILURE),
)
