"""Telemetry and attributes over REST. Only devices have any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from rpcbroker.api import checks
from rpcbroker.api.routes import Note
from rpcbroker.core.audit import recorded
from rpcbroker.core.broker import Broker
from rpcbroker.core.errors import InvalidRequest
from rpcbroker.core.jsontext import BadJSON
from rpcbroker.core.model import Attribute, Principal, Scope
from rpcbroker.core.presence import PRESENCE_KEYS
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.values import LATEST_TIME, parse_attributes, split_keys
from rpcbroker.schema.values import (
    MAX_LIMIT,
    AttributeJSON,
    AttributesQuery,
    DeleteAttributesQuery,
    DeleteTimeseriesQuery,
    PointJSON,
    TimeseriesQuery,
    attribute_json,
    point_json,
    presence_attributes,
)

WRITABLE = (Scope.SERVER, Scope.SHARED)
MAX_KEYS_TEXT = 64 << 10
"""Characters of `keys`: the target of a request is bounded as a whole, far below."""


class Values:
    """The handlers of `/api/plugins/telemetry`."""

    def __init__(self, *, broker: Broker, now_ms: Callable[[], int]) -> None:
        self._broker = broker
        self._now_ms = now_ms

    # -- attributes

    async def attribute_keys(self, principal: Principal, *, entity_type: str, entity_id: UUID) -> list[str]:
        """The keys of a device's attributes, in all scopes."""
        found = await self._attributes(await self._session(principal, entity_type, entity_id), tuple(Scope), [])
        return sorted({each.key for each in found})

    async def attribute_keys_of_scope(
        self, principal: Principal, *, entity_type: str, entity_id: UUID, scope: str
    ) -> list[str]:
        """The keys of a device's attributes in one scope."""
        one = _scope(scope)
        found = await self._attributes(await self._session(principal, entity_type, entity_id), (one,), [])
        return [each.key for each in found]

    async def attributes(
        self, principal: Principal, *, entity_type: str, entity_id: UUID, query: AttributesQuery
    ) -> list[AttributeJSON]:
        """A device's attributes, in all scopes."""
        keys = _keys(query.keys)
        return await self._attributes(await self._session(principal, entity_type, entity_id), tuple(Scope), keys)

    async def attributes_of_scope(
        self, principal: Principal, *, entity_type: str, entity_id: UUID, scope: str, query: AttributesQuery
    ) -> list[AttributeJSON]:
        """A device's attributes in one scope."""
        one, keys = _scope(scope), _keys(query.keys)
        return await self._attributes(await self._session(principal, entity_type, entity_id), (one,), keys)

    async def save_attributes(
        self, principal: Principal, *, entity_type: str, entity_id: UUID, scope: str, body: bytes, note: Note
    ) -> None:
        """Write attributes of a device; it is told of shared ones. Answered when they are stored.

        Those in CLIENT_SCOPE only the device writes.
        """
        _require_device(entity_type)
        await self.save_device_attributes(principal, device_id=entity_id, scope=scope, body=body, note=note)

    async def save_device_attributes(
        self, principal: Principal, *, device_id: UUID, scope: str, body: bytes, note: Note
    ) -> None:
        """Write attributes of a device; it is told of shared ones. Answered when they are stored.

        Those in CLIENT_SCOPE only the device writes.
        """
        one = _writable(scope)
        try:
            values = parse_attributes(body, self._broker.attributes.settings, cast=False)
        except BadJSON as error:
            raise InvalidRequest(f"Invalid JSON: {error}") from None
        if not values:
            raise InvalidRequest("There are no attributes in the body")
        _require_not_presence(one, values)
        session = await self._session(principal, "DEVICE", device_id)
        _tell(note, session, {"scope": one.value, "keys": list(values)})
        await self._broker.write_attributes(session, one, values)

    async def delete_attributes(
        self,
        principal: Principal,
        *,
        entity_type: str,
        entity_id: UUID,
        scope: str,
        query: DeleteAttributesQuery,
        note: Note,
    ) -> None:
        """Delete attributes of a device; it is told of shared ones."""
        _require_device(entity_type)
        await self.delete_device_attributes(principal, device_id=entity_id, scope=scope, query=query, note=note)

    async def delete_device_attributes(
        self, principal: Principal, *, device_id: UUID, scope: str, query: DeleteAttributesQuery, note: Note
    ) -> None:
        """Delete attributes of a device; it is told of shared ones."""
        one, keys = _scope(scope), _required_keys(query.keys)
        _require_not_presence(one, keys)
        session = await self._session(principal, "DEVICE", device_id)
        _tell(note, session, {"scope": one.value, "keys": keys})
        await self._broker.delete_attributes(session, one, keys)

    # -- telemetry

    async def timeseries_keys(self, principal: Principal, *, entity_type: str, entity_id: UUID) -> list[str]:
        """The keys of a device's telemetry."""
        await self._session(principal, entity_type, entity_id)
        return await self._broker.telemetry.keys(entity_id)

    async def timeseries(
        self, principal: Principal, *, entity_type: str, entity_id: UUID, query: TimeseriesQuery
    ) -> dict[str, list[PointJSON]]:
        """A device's telemetry: the latest point of each key, or with startTs and endTs those of a time.

        Of each key the last points are kept, as many as the setting telemetry.window says. Of a key that is
        asked for and has no point, the latest is null.
        """
        keys, strict = _keys(query.keys), query.use_strict_data_types
        if query.start_ts is None and query.end_ts is None:
            await self._session(principal, entity_type, entity_id)
            wanted = keys or await self._broker.telemetry.keys(entity_id)
            found = await self._broker.telemetry.latest(entity_id, wanted)
            nothing = PointJSON(self._now_ms(), None)
            return {key: [point_json(found[key], strict=strict) if key in found else nothing] for key in wanted}
        start, end = _time(query.start_ts, query.end_ts)
        if not keys:
            raise InvalidRequest("keys must be given with startTs and endTs")
        if query.agg != "NONE":
            raise InvalidRequest(
                f"Points are not aggregated here: agg must be NONE, not: {query.agg[:20]}",
                hint="Ask for the points, and aggregate them where you need it.",
            )
        if not 1 <= query.limit <= MAX_LIMIT:
            raise InvalidRequest(f"limit must be 1 to {MAX_LIMIT}")
        step = _step(query.order_by)
        await self._session(principal, entity_type, entity_id)
        history = await self._broker.telemetry.history(entity_id, keys, start=start, end=end)
        return {
            key: [point_json(point, strict=strict) for point in points[::step][: query.limit]]
            for key, points in history.items()
        }

    async def save_timeseries(
        self, principal: Principal, *, entity_type: str, entity_id: UUID, any_scope: str, body: bytes, note: Note
    ) -> None:
        """Post telemetry in the name of a device. The word behind `timeseries` has no meaning."""
        await self._save_timeseries(principal, entity_type, entity_id, body, note)

    async def save_timeseries_with_ttl(
        self,
        principal: Principal,
        *,
        entity_type: str,
        entity_id: UUID,
        any_scope: str,
        ttl: str,
        body: bytes,
        note: Note,
    ) -> None:
        """Post telemetry in the name of a device. Points are kept by number: a time to live has no meaning."""
        await self._save_timeseries(principal, entity_type, entity_id, body, note)

    async def delete_timeseries(
        self,
        principal: Principal,
        *,
        entity_type: str,
        entity_id: UUID,
        query: DeleteTimeseriesQuery,
        note: Note,
    ) -> None:
        """Delete telemetry of a device: all of some keys, or with startTs and endTs what is of a time."""
        keys = _required_keys(query.keys)
        start, end = 0, LATEST_TIME + 1
        if not query.delete_all_data_for_keys:
            start, end = _time(query.start_ts, query.end_ts)
        session = await self._session(principal, entity_type, entity_id)
        data: dict[str, Any] = {"keys": keys}
        if not query.delete_all_data_for_keys:
            data |= {"startTs": start, "endTs": end}
        _tell(note, session, data)
        keep_latest = not (query.delete_latest or query.delete_all_data_for_keys)
        await self._broker.telemetry.delete(entity_id, keys, start=start, end=end, keep_latest=keep_latest)

    # -- inside

    async def _session(self, principal: Principal, entity_type: str, device_id: UUID) -> DeviceSession:
        _require_device(entity_type)
        return await self._broker.session_for(principal, device_id)

    async def _attributes(
        self, session: DeviceSession, scopes: Sequence[Scope], keys: Sequence[str]
    ) -> list[AttributeJSON]:
        stored: tuple[Attribute, ...] = await self._broker.attributes.read(session.device.id, scopes, keys)
        found = [attribute_json(each) for each in stored]
        if Scope.SERVER in scopes:
            found += [each for each in presence_attributes(session.presence) if not keys or each.key in keys]
        return found

    async def _save_timeseries(
        self, principal: Principal, entity_type: str, device_id: UUID, body: bytes, note: Note
    ) -> None:
        telemetry = self._broker.telemetry
        session = await self._session(principal, entity_type, device_id)
        _tell(note, session, {})
        try:
            posted = telemetry.parse(body)
            _tell(note, session, {"keys": list(dict.fromkeys(key for _, values in posted for key in values))})
            kept = telemetry.keep(device_id, posted)
            if kept is not None:
                await kept
        except BadJSON as error:
            raise InvalidRequest(f"Invalid JSON: {error}") from None


def _require_device(entity_type: str) -> None:
    if entity_type != "DEVICE":
        raise InvalidRequest(f"Only a DEVICE has telemetry and attributes here, not: {entity_type[:20]}")


def _scope(text: str) -> Scope:
    try:
        return Scope(text)
    except ValueError:
        raise InvalidRequest(f"The scope must be one of {', '.join(Scope)}, not: {text[:20]}") from None


def _writable(text: str) -> Scope:
    scope = _scope(text)
    if scope not in WRITABLE:
        raise InvalidRequest(f"Only the device writes attributes in {scope.value}: use {' or '.join(WRITABLE)}")
    return scope


def _require_not_presence(scope: Scope, keys: Any) -> None:
    found = sorted(PRESENCE_KEYS & set(keys)) if scope is Scope.SERVER else []
    if found:
        raise InvalidRequest(f"{', '.join(found)}: the broker knows that itself, nobody else can change it")


def _keys(text: str | None) -> list[str]:
    return split_keys(checks.plain("keys", text, most=MAX_KEYS_TEXT) or "")


def _required_keys(text: str) -> list[str]:
    keys = _keys(text)
    if not keys:
        raise InvalidRequest("keys must name at least one key")
    return keys


def _time(start: int | None, end: int | None) -> tuple[int, int]:
    if start is None or end is None:
        raise InvalidRequest("startTs and endTs must be given together")
    if end < start:
        raise InvalidRequest("endTs must not be before startTs")
    return start, end


def _step(order: str) -> int:
    if order.upper() not in {"ASC", "DESC"}:
        raise InvalidRequest(f"orderBy must be ASC or DESC, not: {order[:20]}")
    return 1 if order.upper() == "ASC" else -1


def _tell(note: Note, session: DeviceSession, data: dict[str, Any]) -> None:
    note.about(session.device.id, session.device.name)
    note.data = {name: recorded(value) for name, value in data.items()}
