"""Nodes that keep what messages say of their device: telemetry, attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.errors import BrokerError
from rpcbroker.core.model import Scope
from rpcbroker.core.values import LATEST_TIME, Value
from rpcbroker.rules.errors import BadConfiguration, NodeFailed
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.node import Effect, Enter, NodeType, Out, Outcome, Place
from rpcbroker.rules.nodes.bodies import require_device
from rpcbroker.rules.types import ATTRIBUTES, ATTRIBUTES_UPDATED, FAILURE, SUCCESS, TELEMETRY

EACH = "ON_EVERY_MESSAGE"


class ProcessingSettings(msgspec.Struct):
    """When something is kept: `ON_EVERY_MESSAGE`. The other ways, which leave messages out, are not known here."""

    type: str = EACH

    def __post_init__(self) -> None:
        if self.type != EACH:
            raise BadConfiguration(f"processingSettings: type must be {EACH}, not {self.type[:50]!r}")


class SaveTelemetryConfiguration(msgspec.Struct, rename="camel"):
    """`useServerTs`: points have the time at which they are kept, not that of the message.

    `defaultTTL`, and a `TTL` in the metadata, are not looked at: points are kept by number.
    """

    use_server_ts: bool = False
    processing_settings: ProcessingSettings | None = None


class SaveTelemetryNode:
    """Keeps the telemetry that the message has: `{"k":v}`, `{"ts":ms,"values":{"k":v}}`, or an array of such.

    What has no time has the one of the metadata's `ts`, or else that of the message.
    """

    def __init__(self, configuration: SaveTelemetryConfiguration, place: Place) -> None:
        self._server_time = configuration.use_server_ts
        self._around = place.around
        self.effect = None if self._server_time else Effect.TELEMETRY

    def __call__(self, message: RuleMessage) -> Outcome | Deferred[Outcome]:
        _require(message, TELEMETRY)
        time = self._around.now_ms() if self._server_time else _time(message)
        done = (Out(SUCCESS, message),)
        try:
            saving = self._around.estate.save_telemetry(message.originator.id, message.data, time=time)
        except (jsontext.BadJSON, BrokerError) as error:
            raise _not_kept(error) from None
        return done if saving is None else saving.addCallbacks(lambda _: done, _fail)


class SaveAttributesConfiguration(msgspec.Struct, rename="camel"):
    """In which scope; the metadata's `scope` wins. Old exports have `notifyDevice` as a text.

    `notifyDevice`: the device hears of shared attributes in any case, and not only if the metadata's `notifyDevice` is
    "true" or absent. `updateAttributesOnlyOnValueChange`: what stands there already is not written again.
    `sendAttributesUpdatedNotification`: what is written, unless in the device's own scope, is a message for the root
    chain, too.
    """

    scope: Scope | None = None
    notify_device: bool | str | None = None
    send_attributes_updated_notification: bool | None = None
    update_attributes_only_on_value_change: bool | None = None
    processing_settings: ProcessingSettings | None = None


class SaveAttributesNode:
    """Stores the attributes that the message has: `{"k":v}`."""

    def __init__(self, configuration: SaveAttributesConfiguration, place: Place) -> None:
        self._scope = configuration.scope or Scope.CLIENT
        self._tell = _is_true(configuration.notify_device)
        self._send = bool(configuration.send_attributes_updated_notification)
        self._only_changed = bool(configuration.update_attributes_only_on_value_change)
        self._around = place.around
        same = self._scope is Scope.CLIENT and self._only_changed
        self.effect = Effect.ATTRIBUTES if same else None

    def __call__(self, message: RuleMessage) -> Deferred[Outcome]:
        _require(message, ATTRIBUTES)
        told = message.metadata.get("notifyDevice")
        scope = self._scope_of(message)
        try:
            saving = self._around.estate.save_attributes(
                message.originator.id,
                scope,
                message.data,
                tell=self._tell or not told or _is_true(told),
                only_changed=self._only_changed,
            )
        except (jsontext.BadJSON, BrokerError) as error:
            raise _not_kept(error) from None
        return saving.addCallbacks(self._saved, _fail, (message, scope))

    def _scope_of(self, message: RuleMessage) -> Scope:
        text = message.metadata.get("scope")
        try:
            return Scope(text) if text else self._scope
        except ValueError:
            raise NodeFailed(f"scope in the metadata is none of {', '.join(Scope)}: {str(text)[:50]!r}") from None

    def _saved(self, written: Mapping[str, Value], message: RuleMessage, scope: Scope) -> Outcome:
        done = Out(SUCCESS, message)
        if not (self._send and written and scope is not Scope.CLIENT):
            return (done,)
        metadata = {name: message.metadata[name] for name in ("deviceName", "deviceType") if name in message.metadata}
        updated = replace(
            message,
            id=self._around.new_uuid(),
            type=ATTRIBUTES_UPDATED,
            data=jsontext.encode(written),
            metadata=metadata | {"scope": scope.value},
            time=self._around.now_ms(),
        )
        return done, Enter(None, updated)


def _require(message: RuleMessage, type_: str) -> None:
    if message.type != type_:
        raise NodeFailed(f"Unsupported msg type: {message.type}")
    require_device(message)


def _time(message: RuleMessage) -> int:
    try:
        time = int(message.metadata.get("ts") or message.time)
    except ValueError:
        return message.time
    if not 0 <= time <= LATEST_TIME:
        raise NodeFailed("ts in the metadata is no time in milliseconds since 1970")
    return time


def _is_true(value: bool | str | None) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")


def _fail(failure: Failure) -> Outcome:
    failure.trap(jsontext.BadJSON, BrokerError)
    raise _not_kept(failure.value) from None


def _not_kept(error: Exception) -> NodeFailed:
    """Who sent the message hears what the broker refuses, not what is wrong with what the chain made of it."""
    return NodeFailed(error.message, cause=error) if isinstance(error, BrokerError) else NodeFailed(str(error))


SAVE_TELEMETRY = NodeType(
    name="org.thingsboard.rule.engine.telemetry.TbMsgTimeseriesNode",
    configuration=SaveTelemetryConfiguration,
    make=SaveTelemetryNode,
    labels=(SUCCESS, FAILURE),
)
SAVE_ATTRIBUTES = NodeType(
    name="org.thingsboard.rule.engine.telemetry.TbMsgAttributesNode",
    configuration=SaveAttributesConfiguration,
    make=SaveAttributesNode,
    labels=(SUCCESS, FAILURE),
)
