"""The attributes of all devices: what is acknowledged is stored, and who has written reads what was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from msgspec import Raw
from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.core.events import AttributesKept, EventBus
from rpcbroker.core.model import Attribute, Scope
from rpcbroker.core.ports import KeptValues
from rpcbroker.core.settings import AttributeSettings
from rpcbroker.core.values import Value, parse_attributes

T = TypeVar("T")


class Attributes:
    """Keeps attributes by scope, and tells devices of shared ones."""

    def __init__(
        self,
        store: KeptValues,
        *,
        settings: AttributeSettings,
        now_ms: Callable[[], int],
        tell: Callable[[UUID, bytes], None],
        events: EventBus,
    ) -> None:
        """`tell` is given a device and the JSON text of what became of its shared attributes, as Link has it."""
        self.settings = settings
        self._store = store
        self._now_ms = now_ms
        self._tell = tell
        self._events = events
        self._writes: Counter[UUID] = Counter()

    def parse(self, payload: bytes) -> dict[str, Value]:
        """The attributes in JSON text that a device posts. Raises BadJSON."""
        return parse_attributes(payload, self.settings)

    def save(
        self,
        device_id: UUID,
        scope: Scope,
        values: Mapping[str, Value],
        *,
        only_changed: bool = False,
        tell: bool = True,
    ) -> Deferred[Any]:
        """Fires with the list of keys that were written, when they are stored; of shared ones the device has been told
        then, unless `tell` is False.

        `only_changed`: what stands there already is not written again, and keeps its time; nobody is told of it.
        Fails with InvalidRequest if they are more than a device may have, NotFound if it is gone, Unavailable.
        """
        saved = self._store.save_attributes(
            device_id, scope, values, now=self._now_ms(), most=self.settings.max_keys, only_changed=only_changed
        )

        def stored(written: list[str]) -> None:
            changed = {key: values[key] for key in written}
            if tell:
                self._told(device_id, scope, changed)
            if changed:
                self._events.emit(AttributesKept, device_id, scope, changed, ())

        return self._written(device_id, saved, stored)

    def delete(self, device_id: UUID, scope: Scope, keys: Sequence[str]) -> Deferred[list[str]]:
        """Fires with those that there were, when they are gone; of shared ones the device has been told then."""
        deleted = self._store.delete_attributes(device_id, scope, keys)

        def done(gone: list[str]) -> None:
            if gone:
                self._told(device_id, scope, {"deleted": gone})
                self._events.emit(AttributesKept, device_id, scope, {}, gone)

        return self._written(device_id, deleted, done)

    def read(self, device_id: UUID, scopes: Sequence[Scope] = (), keys: Sequence[str] = ()) -> Deferred[Any]:
        """A tuple of those Attributes that there are; no scopes, or no keys, are all.

        What was given to `save` before is in it, stored or not yet.
        """
        return self._store.attributes(device_id, scopes=scopes, keys=keys, after_writes=device_id in self._writes)

    async def of_device(
        self, device_id: UUID, client_keys: Sequence[str] | None, shared_keys: Sequence[str] | None
    ) -> tuple[dict[str, Raw], dict[str, Raw]]:
        """What a device asks for: its client and its shared attributes, key -> JSON text.

        Of each an empty sequence of keys is all, and None is none.
        """
        asked = {Scope.CLIENT: client_keys, Scope.SHARED: shared_keys}
        wanted = {scope: frozenset(keys) for scope, keys in asked.items() if keys is not None}
        if not wanted:
            return {}, {}
        found: tuple[Attribute, ...] = await self.read(device_id, tuple(wanted))
        halves: dict[Scope, dict[str, Raw]] = {scope: {} for scope in asked}
        for each in found:
            keys = wanted[each.scope]
            if not keys or each.key in keys:
                halves[each.scope][each.key] = each.value
        return halves[Scope.CLIENT], halves[Scope.SHARED]

    def _written(self, device_id: UUID, writing: Deferred[T], then: Callable[[T], None]) -> Deferred[Any]:
        self._writes[device_id] += 1

        def done(result: Any) -> Any:
            self._writes[device_id] -= 1
            if not self._writes[device_id]:
                del self._writes[device_id]
            return result

        def tell(result: T) -> T:
            then(result)
            return result

        return writing.addBoth(done).addCallback(tell)

    def _told(self, device_id: UUID, scope: Scope, update: Mapping[str, Any]) -> None:
        if scope is Scope.SHARED and update:
            self._tell(device_id, jsontext.encode(update))
