"""The present state, and the number of the last event that is in it: where a watcher begins without a gap."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

from rpcbroker.core import access
from rpcbroker.core.broker import Broker
from rpcbroker.core.feed import Feed
from rpcbroker.core.feed_sources import call_fields, presence_fields
from rpcbroker.core.model import Principal
from rpcbroker.core.records import CallRecord
from rpcbroker.core.sessions import DeviceSession

MAX_DEVICES = 2_000
MAX_CALLS = 2_000
"""How many a snapshot tells of; `counts` knows of all."""


class Snapshot:
    """Made in one turn, so that nothing happens between what it tells and `seq`."""

    def __init__(self, broker: Broker, feed: Feed, *, now_ms: Callable[[], int]) -> None:
        self._broker = broker
        self._feed = feed
        self._now_ms = now_ms

    def of_all(self, principal: Principal) -> dict[str, Any]:
        """Of all devices that this principal may see, and that were needed since the start."""
        sessions = self._broker.sessions_of(principal.tenant_id)
        return self._of(principal, [each for each in sessions if access.may_see(principal, each.device)])

    def of_device(self, principal: Principal, session: DeviceSession) -> dict[str, Any]:
        """Of one that it may see."""
        return self._of(principal, [session])

    def _of(self, principal: Principal, sessions: list[DeviceSession]) -> dict[str, Any]:
        now, seq = self._now_ms(), self._feed.seq(principal.tenant_id)
        by_id = {session.device.id: session for session in sessions}
        here = (pending.record for session in sessions for pending in session.calls)
        routed = (each for each in self._broker.rules.calls(principal.tenant_id) if each.device_id in by_id)
        calls: list[CallRecord] = list(chain(routed, here))
        sessions.sort(key=lambda session: not session.connected)
        return {
            "seq": seq,
            "ts": now,
            "counts": {
                "devices": len(sessions),
                "connected": _count(session.connected for session in sessions),
                "callable": _count(session.callable for session in sessions),
                "calls": len(calls),
            },
            "truncated": len(sessions) > MAX_DEVICES or len(calls) > MAX_CALLS,
            "devices": [
                {
                    "deviceId": str(session.device.id),
                    "deviceName": session.device.name,
                    "type": session.device.type,
                    **presence_fields(session.presence),
                }
                for session in sessions[:MAX_DEVICES]
            ],
            "calls": [call_fields(each, by_id[each.device_id].device, now=now) for each in calls[:MAX_CALLS]],
        }


def _count(facts: Iterable[bool]) -> int:
    return sum(facts)
