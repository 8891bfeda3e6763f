"""What a device says of its calls, for itself or through its gateway: the reply, and progress before it."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from rpcbroker.core import jsontext
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.sessions import DeviceSession
from rpcbroker.transports.mqtt.face import Outcome
from rpcbroker.wire.mqtt.packets import ReasonCode

_SUCCESS = int(ReasonCode.SUCCESS)


def reply(session: DeviceSession, wire_id: int, payload: bytes) -> Outcome:
    """Any JSON, or nothing. It is acknowledged when it cannot be lost any more, also if nobody waited for it.

    Fails with Unavailable if it could not be kept.
    """
    try:
        if payload:
            jsontext.decode(payload)
    except jsontext.BadJSON as error:
        return _when_known(session.receive_bad(wire_id, str(error), payload), ReasonCode.PAYLOAD_FORMAT_INVALID)
    return _when_known(session.receive(wire_id, payload), _SUCCESS)


def progress(session: DeviceSession, wire_id: int, payload: bytes) -> Outcome:
    """Any JSON; what is none is noted, and the call goes on. Fails with Unavailable if the call could not be read."""
    try:
        jsontext.decode(payload)
    except jsontext.BadJSON as error:
        session.note(NearMiss.BAD_PAYLOAD, f"reported progress of call {wire_id} in what is not JSON: {error}")
        return ReasonCode.PAYLOAD_FORMAT_INVALID
    return _when_known(session.progress(wire_id, payload), _SUCCESS)


def _when_known(waited: bool | Deferred[bool], code: int) -> Outcome:
    # To ask whether something is a Deferred takes four times as long.
    return code if type(waited) is bool else waited.addCallback(lambda _: code)
