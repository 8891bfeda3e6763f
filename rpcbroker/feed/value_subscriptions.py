"""Subscriptions to a device's attributes and telemetry: what there is now, then each change, and nothing between lost.

Data is `{"key": [[ts, "value"], ...]}` as ThingsBoard's WebSocket has it: epoch ms, and values as text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from rpcbroker.core import jsontext
from rpcbroker.core.broker import Broker
from rpcbroker.core.feed import Feed, FeedEvent, Watch
from rpcbroker.core.model import Attribute, Principal, Scope
from rpcbroker.core.presence import PRESENCE_KEYS
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.schema.values import value_text

Data = dict[str, list[list[Any]]]
Tell = Callable[[Data], object]

_PRESENCE = frozenset({"connected", "disconnected", "callable", "not_callable"})
MAX_BEHIND = 1_000
"""Changes that may come while it is read what there is; more are a device that floods, and its oldest are left out."""


class Subscription:
    """One of either kind. Nothing is told before `begin` has told what there is."""

    def __init__(self, feed: Feed, session: DeviceSession, keys: Iterable[str], tell: Tell, owner: object) -> None:
        """No keys are all of them. `tell` is given data, and never fails. All of one `owner` are one watcher."""
        self.session = session
        self._feed = feed
        self._keys = frozenset(keys)
        self.size = sum(map(len, self._keys)) + len(self._keys)
        """Characters of its keys, with commas between them."""
        self._tell = tell
        self._owner = owner
        self._begun = False
        self._behind: deque[FeedEvent] = deque(maxlen=MAX_BEHIND)
        self._watches: list[tuple[Watch, Callable[[], None]]] = []

    def become(self, principal: Principal) -> None:
        """Whose it is from now on."""
        for watch, _ in self._watches:
            watch.principal = principal

    def end(self) -> None:
        for _, end in self._watches:
            end()
        self._watches = []

    def _watch(self, principal: Principal, wants: Callable[[FeedEvent], bool], *, values: bool = True) -> None:
        """Raises TooManyRequests."""
        watch = Watch(
            principal, self._happened, device_id=self.session.device.id, values=values, wants=wants, owner=self._owner
        )
        self._watches.append((watch, self._feed.watch(watch)))

    def _begin(self, data: Data) -> None:
        """That is what there was when it was read; what happened since comes behind it."""
        self._begun = True
        self._tell(data)
        while self._behind:
            self._happened(self._behind.popleft())

    def _happened(self, event: FeedEvent) -> None:
        if not self._begun:
            self._behind.append(event)
        elif data := self._data(event):
            self._tell(data)

    def _data(self, event: FeedEvent) -> Data:
        raise NotImplementedError

    def _is_wanted(self, key: str) -> bool:
        return not self._keys or key in self._keys


class AttributeSubscription(Subscription):
    """Attributes of some scopes; what is deleted is told as an empty text."""

    def __init__(self, feed: Feed, session: DeviceSession, keys: Iterable[str], tell: Tell, owner: object) -> None:
        super().__init__(feed, session, keys, tell, owner)
        self._scopes: tuple[Scope, ...] = ()
        self._presence: dict[str, Any] = {}

    async def begin(self, broker: Broker, principal: Principal, scopes: tuple[Scope, ...]) -> None:
        """Raises TooManyRequests, Unavailable."""
        self._scopes = scopes
        self._watch(principal, self._is_of_scopes)
        has_presence = Scope.SERVER in self._scopes and (not self._keys or bool(self._keys & PRESENCE_KEYS))
        if has_presence:
            self._watch(principal, _is_presence, values=False)
        found: tuple[Attribute, ...] = await broker.attributes.read(
            self.session.device.id, self._scopes, tuple(self._keys)
        )
        data: Data = {}
        for each in found:
            data.setdefault(each.key, []).append([each.updated_time, value_text(each.value)])
        self._begin(data | self._changed_presence() if has_presence else data)

    def _is_of_scopes(self, event: FeedEvent) -> bool:
        return event.fields.get("scope") in self._scopes

    def _data(self, event: FeedEvent) -> Data:
        if _is_presence(event):
            return self._changed_presence()
        data = {key: [[event.ts, _text(value)]] for key, value in event.fields["values"].items()}
        data |= {key: [[event.ts, ""]] for key in event.fields["deleted"]}
        return {key: points for key, points in data.items() if self._is_wanted(key)}

    def _changed_presence(self) -> Data:
        """What is otherwise than when it was told last."""
        now = {key: fact for key, fact in self.session.presence.attributes().items() if self._is_wanted(key)}
        changed = {key: fact for key, fact in now.items() if self._presence.get(key) != fact}
        self._presence = now
        return {key: [[time, _text(value)]] for key, (time, value) in changed.items()}


class TelemetrySubscription(Subscription):
    """Telemetry: of each key the points that are later than the one told last, or of the same time and posted later."""

    def __init__(self, feed: Feed, session: DeviceSession, keys: Iterable[str], tell: Tell, owner: object) -> None:
        super().__init__(feed, session, keys, tell, owner)
        self._told: dict[str, int] = {}

    async def begin(
        self, broker: Broker, principal: Principal, *, window: tuple[int, int] | None = None, limit: int = 0
    ) -> None:
        """With what there is of a `window` of time (from, to before; `limit` points of a key), or the latest points.

        Raises TooManyRequests, NotFound, Unavailable.
        """
        self._watch(principal, _is_telemetry)
        telemetry, device_id = broker.telemetry, self.session.device.id
        keys = sorted(self._keys) or await telemetry.keys(device_id)
        if window is None:
            latest = await telemetry.latest(device_id, keys)
            data: Data = {key: [[point.ts, value_text(point.value)]] for key, point in latest.items()}
        else:
            data = await history(broker, self.session, keys, window, limit)
        self._told = {key: points[0][0] for key, points in data.items()}
        self._begin(data)

    def _data(self, event: FeedEvent) -> Data:
        data: Data = {}
        for each in event.fields["values"]:
            ts = each["ts"]
            for key, value in each["values"].items():
                if self._is_wanted(key) and ts >= self._told.get(key, 0):
                    self._told[key] = ts
                    data.setdefault(key, []).insert(0, [ts, _text(value)])
        return data


async def history(
    broker: Broker, session: DeviceSession, keys: Iterable[str], window: tuple[int, int], limit: int
) -> Data:
    """Points from the one time to before the other, the latest first, of each key not more than `limit`.

    Keys without any are left out. Raises NotFound, Unavailable.
    """
    start, end = window
    found = await broker.telemetry.history(session.device.id, tuple(keys), start=start, end=end)
    return {
        key: [[point.ts, value_text(point.value)] for point in points[-limit:][::-1]] for key, points in found.items()
    }


def _is_presence(event: FeedEvent) -> bool:
    return event.topic.rpartition(".")[2] in _PRESENCE


def _is_telemetry(event: FeedEvent) -> bool:
    return event.topic.endswith(".telemetry")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else jsontext.encode(value).decode()
