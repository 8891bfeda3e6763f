"""Answers to requests of applications that came over REST."""

from __future__ import annotations

import msgspec

from rpcbroker.rules.errors import NodeFailed
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.node import NodeType, Out, Outcome, Place
from rpcbroker.rules.nodes.rpc import as_json, key_or
from rpcbroker.rules.types import FAILURE, SUCCESS


class RestReplyConfiguration(msgspec.Struct):
    """Where the metadata says whom to answer; what is blank is `serviceId`, `requestUUID`."""

    service_id: str | None = msgspec.field(default=None, name="serviceIdMetaDataAttribute")
    request_id: str | None = msgspec.field(default=None, name="requestIdMetaDataAttribute")


class RestReplyNode:
    """Answers the request with the data of the message."""

    def __init__(self, configuration: RestReplyConfiguration, place: Place) -> None:
        self._service = key_or(configuration.service_id, "serviceId")
        self._request = key_or(configuration.request_id, "requestUUID")
        self._estate = place.around.estate

    def __call__(self, message: RuleMessage) -> Outcome:
        request = message.metadata.get(self._request)
        if not request:
            raise NodeFailed("Request id is not present in the metadata!")
        if not message.metadata.get(self._service):
            raise NodeFailed("Service id is not present in the metadata!")
        if not message.data:
            raise NodeFailed("Request body is empty!")
        self._estate.respond(request, as_json(message.data))
        return (Out(SUCCESS, message),)


REST_REPLY = NodeType(
    name="org.thingsboard.rule.engine.rest.TbSendRestApiCallReplyNode",
    configuration=RestReplyConfiguration,
    make=RestReplyNode,
    labels=(SUCCESS, FAILURE),
)
