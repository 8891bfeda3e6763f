"""Messages of what has happened: to persistent calls, to the presence of devices, to their attributes.

Only what a tenant's root chain does anything with is made a message, and what none of them does is not listened for. A
message begins a moment after what it tells: the broker is not called back in the middle of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from twisted.logger import Logger

from rpcbroker.core import jsontext
from rpcbroker.core.calls import Call, CallState
from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.errors import Reason, Unavailable
from rpcbroker.core.events import (
    AttributesChanged,
    CallAdvanced,
    CallDeleted,
    CallOpened,
    CallRefused,
    CallSettled,
    EventBus,
    PresenceChanged,
)
from rpcbroker.core.model import Device, Scope
from rpcbroker.rules import types
from rpcbroker.rules.engine import Engine
from rpcbroker.rules.message import DEVICE, Originator, RuleMessage
from rpcbroker.rules.messages import Messages

Render = Callable[[Call, CallState, bytes], bytes]
"""A persistent call in a state, with the JSON text of its response or nothing -> the JSON text of all that."""


class Happenings:
    """All tenants'."""

    _log = Logger()

    def __init__(
        self,
        events: EventBus,
        deadlines: Deadlines,
        engine: Engine,
        messages: Messages,
        *,
        render: Render,
    ) -> None:
        self._events = events
        self._deadlines = deadlines
        self._engine = engine
        self._messages = messages
        self._render = render
        self._heard: dict[UUID, frozenset[str]] = {}
        """Tenant -> types of messages that its root chain does anything with."""
        self._listening: dict[type[Any], Callable[[], None]] = {}
        self._next: list[tuple[UUID, RuleMessage]] = []
        self._listeners: dict[type[Any], tuple[Callable[[Any], None], frozenset[str]]] = {
            CallOpened: (lambda event: self._call(event.call, CallState.QUEUED), _of(CallState.QUEUED)),
            CallAdvanced: (
                lambda event: self._call(event.call, event.state),
                _of(CallState.QUEUED, CallState.SENT, CallState.DELIVERED, CallState.TIMEOUT),
            ),
            CallSettled: (
                lambda event: self._call(event.call, event.state, event.payload),
                _of(*CallState) - _of(CallState.QUEUED),
            ),
            CallRefused: (self._refused, _of(CallState.EXPIRED)),
            CallDeleted: (
                lambda event: self._call(event.call, CallState.DELETED, event.payload),
                _of(CallState.DELETED),
            ),
            PresenceChanged: (self._presence, frozenset({types.CONNECTED, types.DISCONNECTED})),
            AttributesChanged: (self._attributes, frozenset({types.ATTRIBUTES_UPDATED, types.ATTRIBUTES_DELETED})),
        }

        self._told = frozenset[str]().union(*(of for _, of in self._listeners.values()))

    def hear(self, tenant_id: UUID, heard: frozenset[str]) -> None:
        """The tenant's root chain does something with messages of these types, and no others, from now on."""
        heard &= self._told  # questions are heard of by nearly all, and are none of these
        if heard:
            self._heard[tenant_id] = heard
        else:
            self._heard.pop(tenant_id, None)
        wanted = frozenset[str]().union(*self._heard.values())
        for kind, (listener, of) in self._listeners.items():
            if of & wanted and kind not in self._listening:
                self._listening[kind] = self._events.listen(kind, listener)
            elif not of & wanted and kind in self._listening:
                self._listening.pop(kind)()

    # -- what has happened

    def _call(self, call: Call, state: CallState, payload: bytes = b"") -> None:
        type_ = f"RPC_{state}"
        if not call.persistent or not self._hears(call.tenant_id, type_):
            return
        about = Originator(DEVICE, call.device_id)
        text = self._render(call, state, payload)
        self._soon(call.tenant_id, self._messages.about(about, type_, text, {}))

    def _refused(self, event: CallRefused) -> None:
        if event.reason is Reason.EXPIRED:  # it is in the store, all the same
            self._call(event.call, CallState.EXPIRED)

    def _presence(self, event: PresenceChanged) -> None:
        if event.connected is None:
            return
        type_ = types.CONNECTED if event.connected else types.DISCONNECTED
        known = {key: value for key, (_, value) in event.presence.attributes().items()}
        if event.connected:
            del known["active"]
        self._about(event.device, type_, known, {"scope": Scope.SERVER.value})

    def _attributes(self, event: AttributesChanged) -> None:
        metadata = {"scope": event.scope.value}
        if event.values:
            self._about(event.device, types.ATTRIBUTES_UPDATED, event.values, metadata)
        if event.deleted:
            self._about(event.device, types.ATTRIBUTES_DELETED, {"attributes": list(event.deleted)}, metadata)

    # -- messages

    def _hears(self, tenant_id: UUID, type_: str) -> bool:
        return type_ in self._heard.get(tenant_id, ())

    def _about(self, device: Device, type_: str, data: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        if self._hears(device.tenant_id, type_):
            message = self._messages.of_device(device, type_, jsontext.encode(data), metadata)
            self._soon(device.tenant_id, message)

    def _soon(self, tenant_id: UUID, message: RuleMessage) -> None:
        if not self._next:
            self._deadlines.after(0.0, self._begin, None)
        self._next.append((tenant_id, message))

    def _begin(self, _: None) -> None:
        now, self._next = self._next, []
        for tenant_id, message in now:
            try:
                self._engine.begin(tenant_id, message)
            except Unavailable as error:
                why = error.message
                self._log.warn("{type} of {tenant}: {why}", type=message.type, tenant=tenant_id, why=why)


def _of(*states: CallState) -> frozenset[str]:
    """The types of messages that tell of them."""
    return frozenset(f"RPC_{state}" for state in states)
