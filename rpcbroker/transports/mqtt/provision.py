"""The face of a stranger that wants to become a device: see docs/enrolment.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred

from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.transports import dialect
from rpcbroker.transports.mqtt.face import Outcome, Refused
from rpcbroker.wire.mqtt.packets import ReasonCode

T = TypeVar("T")

USER = "provision"
"""The user name, or the client id, of strangers."""
LINGER = 60.0
"""Seconds after an answer, or after connecting, until a stranger that asks nothing is sent away."""


class ProvisionFace:
    """One request at a time, and nothing else."""

    free = False

    def __init__(
        self,
        *,
        provision: Callable[[bytes], Deferred[bytes]],
        publish: Callable[[str, bytes, int], object],
        close: Callable[[], None],
        deadlines: Deadlines,
    ) -> None:
        """`provision` is `core.provisioning.Provisioning.provision`; `publish(topic, payload, qos)` speaks to the
        stranger, `close` ends its connection."""
        self._provision = provision
        self._publish = publish
        self._close = close
        self._deadlines = deadlines
        self._gone = False
        self._deadline: Deadline | None = None
        self._wait()

    def seen(self) -> None:
        """A stranger has no presence."""

    def allows(self) -> bool:
        return True

    def grants(self, topic_filter: str) -> bool:
        return topic_filter == dialect.PROVISION_RESPONSE

    def publish(self, topic: str, payload: bytes) -> Outcome:
        """Ask to become a device; fires when the answer has been published, whether it was subscribed to or not.

        Raises Refused, and fails with BadJSON.
        """
        if topic != dialect.PROVISION_REQUEST:
            raise Refused(
                ReasonCode.TOPIC_NAME_INVALID, f"strangers publish to {dialect.PROVISION_REQUEST} only", ends=True
            )
        if self._deadline is None:
            raise Refused(ReasonCode.QUOTA_EXCEEDED, "the request before this one is not answered yet", ends=True)
        self._forget()
        return self._provision(payload).addBoth(self._next).addCallback(self._answer)

    def subscribed(self, topic_filters: frozenset[str]) -> None:
        """An answer does not wait for it."""

    def resumed(self) -> None:
        """As if it were new: it has to ask again."""

    def misheard(self, topic_filter: str) -> None:
        """It is told by its SUBACK."""

    def unheard(self, topic: str) -> None:
        """It is told by its PUBACK."""

    def note(self, miss: NearMiss, detail: str) -> None:
        """There is nobody whom it could be told of."""

    def unsubscribed(self, topic_filters: frozenset[str]) -> None:
        """An answer is published all the same."""

    def gone(self, cause: str) -> None:
        """What was begun goes on to its end; nobody hears of it."""
        self._gone = True
        self._forget()

    def _next(self, result: T) -> T:
        if not self._gone:
            self._wait()
        return result

    def _answer(self, answer: bytes) -> int:
        if not self._gone:
            self._publish(dialect.PROVISION_RESPONSE, answer, 1)
        return ReasonCode.SUCCESS

    def _wait(self) -> None:
        self._deadline = self._deadlines.after(LINGER, lambda _: self._close(), None)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None
