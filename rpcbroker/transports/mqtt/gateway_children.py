"""Which children a gateway's connection has, and who waits for those that are not there yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core.broker import Broker
from rpcbroker.core.errors import BrokerError, InvalidRequest
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.core.settings import MqttSettings
from rpcbroker.transports.mqtt.gateway_link import ChildLink, Downlink
from rpcbroker.wire.mqtt.packets import ReasonCode

LOOKUPS = 64
"""Children of one gateway that are looked up or made at one time: one gateway must not fill the store's queue."""
PART_SIZE = 500
"""Bytes of memory that a waiting part of a message takes, beside its text."""

_TOLD = {
    CloseReason.TAKEN_OVER: ReasonCode.SESSION_TAKEN_OVER,
    CloseReason.DEVICE_DELETED: ReasonCode.ADMINISTRATIVE_ACTION,
}
"""What a gateway is told when the broker ends a child's link; of the other reasons it has no use."""


class GatewayChildren:
    """Found or made when they are first mentioned, and connected by that.

    A child that something else has taken over, another gateway or a connection of its own, is not taken back by a
    mere mention, lest the two take turns for ever; only by a connect, or when nothing else has it any more.
    """

    _log = Logger()

    def __init__(
        self, gateway: DeviceSession, broker: Broker, downlink: Downlink, settings: Callable[[], MqttSettings]
    ) -> None:
        self._gateway = gateway
        self._broker = broker
        self._downlink = downlink
        self._settings = settings
        self._children: dict[str, ChildLink] = {}
        self._arriving: dict[str, list[Deferred[ChildLink]]] = {}
        """For each that is being found: who waits for it, in their order."""
        self._waiting_size = 0
        self._lookups = DeferredSemaphore(LOOKUPS)

    def __contains__(self, name: str) -> bool:
        """Whether it is there or about to be."""
        return name in self._children or name in self._arriving

    def get(self, name: str) -> ChildLink | None:
        """The child, if it is there."""
        child = self._children.get(name)
        if child is None or child.attached or child.session.connected:
            return child
        # What took it over has left, or it was deleted: it is as if it had never been here.
        del self._children[name]
        return None

    def arrival(self, name: str, type_: str | None, size: int) -> Deferred[ChildLink]:
        """Fires when the child is there, in the order of those who wait for it; there must be none yet.

        `size` is that of what waits, in bytes. Raises Refused, and fails with it.
        """
        settings, size = self._settings(), size + PART_SIZE
        if self._waiting_size + size > settings.max_waiting_for_children:
            raise self._downlink.refusal(ReasonCode.QUOTA_EXCEEDED, "too much waits for children that are not found")
        new = name not in self._arriving
        if new and len(self._children) + len(self._arriving) >= settings.max_children:
            self._downlink.disconnected(name, ReasonCode.QUOTA_EXCEEDED)
            text = f"a gateway has at most {settings.max_children} children"
            raise self._downlink.refusal(ReasonCode.QUOTA_EXCEEDED, text)
        waiting: Deferred[ChildLink] = Deferred()
        self._arriving.setdefault(name, []).append(waiting)
        self._waiting_size += size
        if new:
            found = self._lookups.run(lambda: Deferred.fromCoroutine(self._broker.child(self._gateway, name, type_)))
            found.addCallbacks(self._arrived, self._not_found, callbackArgs=(name,), errbackArgs=(name,))

        def waited(result: Any) -> Any:
            self._waiting_size -= size
            return result

        return waiting.addBoth(waited)

    def release(self, name: str) -> None:
        """Forget a child that something else has taken over: it may be taken back."""
        child = self._children.get(name)
        if child is not None and not child.attached:
            del self._children[name]

    def leave(self, child: ChildLink, cause: str) -> None:
        """The child is gone, says its gateway."""
        self._forget(child)
        child.detach(cause)

    def leave_all(self, cause: str) -> None:
        """The gateway is gone."""
        children, self._children = self._children, {}
        for child in children.values():
            child.detach(cause)

    # -- inside

    def _arrived(self, session: DeviceSession, name: str) -> None:
        child = ChildLink(session, name, self._downlink, self._closed)
        if not self._downlink.ended:
            self._children[name] = child
            child.attach()
        for waiting in self._arriving.pop(name):
            waiting.callback(child)

    def _not_found(self, failure: Failure, name: str) -> None:
        error = failure.value
        if not isinstance(error, BrokerError):
            self._log.failure("a child of gateway {gateway} was not found", failure, gateway=self._gateway.device.name)
        if isinstance(error, InvalidRequest):
            refused = self._downlink.refusal(ReasonCode.IMPLEMENTATION_SPECIFIC_ERROR, error.message)
        else:
            text = f"device {name!r} could not be found or made"
            refused = self._downlink.refusal(ReasonCode.UNSPECIFIED_ERROR, text)
        self._downlink.disconnected(name, refused.code)
        for waiting in self._arriving.pop(name):
            waiting.errback(refused)

    def _closed(self, child: ChildLink, reason: CloseReason) -> None:
        if reason is CloseReason.CREDENTIALS_CHANGED:
            # It was the gateway that proved who it is, not the child: the link is good as ever, once this is over.
            self._broker.deadlines.after(0, self._attach_again, child)
        elif reason is CloseReason.DELIVERY_TIMEOUT:
            # Calls that it did not acknowledge begin anew; it is still callable, for its gateway is here.
            anew = ChildLink(child.session, child.name, self._downlink, self._closed)
            if self._children.get(child.name) is child:
                self._children[child.name] = anew
                self._broker.deadlines.after(0, self._attach_again, anew)
        elif reason is not CloseReason.TAKEN_OVER:
            self._forget(child)
        if reason in _TOLD:
            self._downlink.disconnected(child.name, _TOLD[reason])

    def _attach_again(self, child: ChildLink) -> None:
        if self._children.get(child.name) is child and not child.session.connected:
            child.attach()

    def _forget(self, child: ChildLink) -> None:
        if self._children.get(child.name) is child:
            del self._children[child.name]
