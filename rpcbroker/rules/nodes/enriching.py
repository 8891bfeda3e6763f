"""Nodes that add to a message what is known of its device: attributes, telemetry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.core.model import Point, Scope
from rpcbroker.rules.errors import BadConfiguration, NodeFailed
from rpcbroker.rules.message import RuleMessage
from rpcbroker.rules.node import NodeType, Out, Outcome, Place
from rpcbroker.rules.nodes.bodies import body_of, require_device, with_metadata
from rpcbroker.rules.templates import Template, text_of
from rpcbroker.rules.types import FAILURE, SUCCESS

MAX_POINTS = 1_000
"""Points of one key that one node may add."""
_PREFIXES = {Scope.CLIENT: "cs_", Scope.SHARED: "shared_", Scope.SERVER: "ss_"}


class FetchTo(StrEnum):
    """Where it is added."""

    DATA = "DATA"
    METADATA = "METADATA"


class GetAttributesConfiguration(msgspec.Struct, rename="camel"):
    """Which ones; names may have places for what the message says. Old exports have `fetchToData`.

    They are called `cs_`, `shared_` and `ss_` with their name then; the latest points of `latestTsKeyNames` just by
    their name, with `getLatestValueWithTs` as `{"ts":ms,"value":v}`.
    """

    client_attribute_names: list[str] | None = None
    shared_attribute_names: list[str] | None = None
    server_attribute_names: list[str] | None = None
    latest_ts_key_names: list[str] | None = None
    tell_failure_if_absent: bool = True
    fetch_to: FetchTo | None = None
    fetch_to_data: bool = False
    get_latest_value_with_ts: bool = False


class GetAttributesNode:
    """Adds attributes and the latest telemetry. What is not there is a failure, if that is wanted."""

    def __init__(self, configuration: GetAttributesConfiguration, place: Place) -> None:
        self._scopes = {
            Scope.CLIENT: _templates(configuration.client_attribute_names),
            Scope.SHARED: _templates(configuration.shared_attribute_names),
            Scope.SERVER: _templates(configuration.server_attribute_names),
        }
        self._latest = _templates(configuration.latest_ts_key_names)
        self._strict = configuration.tell_failure_if_absent
        to = configuration.fetch_to or (FetchTo.DATA if configuration.fetch_to_data else FetchTo.METADATA)
        self._to_data = to is FetchTo.DATA
        self._with_time = configuration.get_latest_value_with_ts
        self._estate = place.around.estate

    def __call__(self, message: RuleMessage) -> Deferred[Outcome]:
        return Deferred.fromCoroutine(self._enrich(message))

    async def _enrich(self, message: RuleMessage) -> Outcome:
        require_device(message)
        device_id = message.originator.id
        found: dict[str, Any] = {}
        absent = []
        for scope, templates in self._scopes.items():
            keys = _filled(templates, message)
            attributes = await self._estate.attributes(device_id, scope, keys) if keys else ()
            found |= {_PREFIXES[scope] + each.key: each.value for each in attributes}
            absent += _absent(scope.value, keys, {each.key for each in attributes})
        keys = _filled(self._latest, message)
        latest = await self._estate.latest(device_id, keys) if keys else {}
        found |= {key: _point(point) if self._with_time else point.value for key, point in latest.items()}
        absent += _absent("LATEST_TS", keys, latest.keys())
        enriched = _with_data(message, found) if self._to_data else _with_metadata(message, found)
        if absent and self._strict:
            raise NodeFailed(
                f"The following attribute/telemetry keys is not present in the DB: {'; '.join(absent)}", enriched
            )
        return (Out(SUCCESS, enriched),)


class FetchMode(StrEnum):
    """Which points of an interval."""

    FIRST = "FIRST"
    LAST = "LAST"
    ALL = "ALL"


class Order(StrEnum):
    """Of points, by their times."""

    ASC = "ASC"
    DESC = "DESC"


class TimeUnit(StrEnum):
    """Of the ends of an interval."""

    MILLISECONDS = "MILLISECONDS"
    SECONDS = "SECONDS"
    MINUTES = "MINUTES"
    HOURS = "HOURS"
    DAYS = "DAYS"


_MILLISECONDS = {
    TimeUnit.MILLISECONDS: 1,
    TimeUnit.SECONDS: 1_000,
    TimeUnit.MINUTES: 60_000,
    TimeUnit.HOURS: 3_600_000,
    TimeUnit.DAYS: 86_400_000,
}
Amount = Annotated[int, Meta(ge=0, le=2**31)]


class GetTelemetryConfiguration(msgspec.Struct, rename="camel"):
    """Which points: those from so long ago to so long ago, or with `useMetadataIntervalPatterns` from and to times
    (epoch ms) that the message names. `limit` and `orderBy` are of `fetchMode` ALL.

    Points are not aggregated here: another `aggregation` than NONE is refused for ALL, and means nothing else.
    """

    latest_ts_key_names: list[str] | None = None
    fetch_mode: FetchMode = FetchMode.FIRST
    order_by: Order | None = None
    aggregation: str | None = None
    limit: Annotated[int, Meta(ge=1)] = MAX_POINTS
    use_metadata_interval_patterns: bool = False
    start_interval: Amount = 2
    start_interval_time_unit: TimeUnit = TimeUnit.MINUTES
    end_interval: Amount = 1
    end_interval_time_unit: TimeUnit = TimeUnit.MINUTES
    start_interval_pattern: str | None = None
    end_interval_pattern: str | None = None

    def __post_init__(self) -> None:
        if self.fetch_mode is FetchMode.ALL and self.aggregation not in (None, "", "NONE"):
            raise BadConfiguration(f"aggregation must be NONE here, not {self.aggregation[:50]!r}")
        if not self.latest_ts_key_names:
            raise BadConfiguration("latestTsKeyNames must name at least one key")


class GetTelemetryNode:
    """Adds points to the metadata: of FIRST and LAST the value, of ALL the text of `[{"ts":ms,"value":v}, ...]`."""

    def __init__(self, configuration: GetTelemetryConfiguration, place: Place) -> None:
        self._keys = _templates(configuration.latest_ts_key_names)
        self._mode = configuration.fetch_mode
        descending = self._mode is FetchMode.LAST or (
            self._mode is FetchMode.ALL and configuration.order_by is Order.DESC
        )
        self._step = -1 if descending else 1
        self._limit = min(configuration.limit, MAX_POINTS)
        self._patterns: tuple[Template, Template] | None = None
        if configuration.use_metadata_interval_patterns:
            self._patterns = (
                Template(configuration.start_interval_pattern or ""),
                Template(configuration.end_interval_pattern or ""),
            )
        self._ago = (
            configuration.start_interval * _MILLISECONDS[configuration.start_interval_time_unit],
            configuration.end_interval * _MILLISECONDS[configuration.end_interval_time_unit],
        )
        self._around = place.around

    def __call__(self, message: RuleMessage) -> Deferred[Outcome]:
        return Deferred.fromCoroutine(self._enrich(message))

    async def _enrich(self, message: RuleMessage) -> Outcome:
        require_device(message)
        device_id = message.originator.id
        start, end = self._interval(message)
        keys = _filled(self._keys, message)
        history = await self._around.estate.history(device_id, keys, start=start, end=end)
        found: dict[str, Any] = {}
        for key, points in history.items():
            in_order = points[:: self._step]
            if self._mode is FetchMode.ALL:
                found[key] = [_point(point) for point in in_order[: self._limit]]
            else:
                found[key] = in_order[0].value
        return (Out(SUCCESS, _with_metadata(message, found)),)

    def _interval(self, message: RuleMessage) -> tuple[int, int]:
        if self._patterns is None:
            now = self._around.now_ms()
            start, end = now - self._ago[0], now - self._ago[1]
        else:
            start, end = (_time(pattern, message) for pattern in self._patterns)
        if start > end:
            raise NodeFailed("The interval ends before it starts")
        return start, end


def _time(pattern: Template, message: RuleMessage) -> int:
    text = pattern.fill(message)
    try:
        return int(text)
    except ValueError:
        raise NodeFailed(f"The interval {pattern.text!r} is no time in milliseconds: {text[:50]!r}") from None


def _templates(names: Sequence[str] | None) -> tuple[Template, ...]:
    return tuple(Template(name) for name in names or ())


def _filled(templates: Sequence[Template], message: RuleMessage) -> list[str]:
    """The names, each once."""
    return list(dict.fromkeys(template.fill(message) for template in templates))


def _absent(where: str, wanted: Sequence[str], there: Any) -> list[str]:
    missing = [key for key in wanted if key not in there]
    return [f"[{where}]: {', '.join(missing)}"] if missing else []


def _point(point: Point) -> dict[str, Any]:
    return {"ts": point.ts, "value": point.value}


def _with_metadata(message: RuleMessage, found: Mapping[str, Any]) -> RuleMessage:
    texts = {key: text_of(jsontext.decode(jsontext.encode(value))) for key, value in found.items()}
    return with_metadata(message, texts)


def _with_data(message: RuleMessage, found: Mapping[str, Any]) -> RuleMessage:
    body = body_of(message)
    if type(body) is not dict:
        raise NodeFailed("Message body is not an object!")
    return replace(message, data=jsontext.encode({**body, **found}))


GET_ATTRIBUTES = NodeType(
    name="org.thingsboard.rule.engine.metadata.TbGetAttributesNode",
    configuration=GetAttributesConfiguration,
    make=GetAttributesNode,
    labels=(SUCCESS, FAILURE),
)
GET_TELEMETRY = NodeType(
    name="org.thingsboard.rule.engine.metadata.TbGetTelemetryNode",
    configuration=GetTelemetryConfiguration,
    make=GetTelemetryNode,
    labels=(SUCCESS, FAILURE),
)
