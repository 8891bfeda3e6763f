"""Persistent calls of every kind, as a broker leaves them in a store."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from fakes import EPOCH_MS, TENANT, device

from rpcbroker.core.calls import Call, CallState
from rpcbroker.core.errors import Reason
from rpcbroker.core.records import KeptCall, record_of

DUE = EPOCH_MS + 60_000


def rpc_id(number: int) -> UUID:
    return UUID(int=7_000 + number)


def kept_call(
    number: int,
    state: CallState = CallState.QUEUED,
    *,
    ended: bool = False,
    oneway: bool = False,
    reason: Reason | None = None,
    response: bytes | None = None,
    additional_info: Any = None,
    of: UUID | None = None,
) -> KeptCall:
    """Its wire id is `number`, and its rpc id is `rpc_id(number)`."""
    call = Call(
        rpc_id(number),
        number,
        TENANT,
        of or device().id,
        "setGpio",
        b'{"pin":7}',
        oneway,
        EPOCH_MS,
        DUE,
        DUE,
        5,
        persistent=True,
        additional_info=additional_info,
    )
    record = record_of(call, ((EPOCH_MS, "accepted", "from admin@example.org"), (EPOCH_MS, "routed", None)))
    record.state, record.reason = state, reason
    record.ended_time = EPOCH_MS + 5 if ended else None
    return KeptCall(call=call, record=record, due_time=DUE, response=response)


EVERY_KIND = (
    kept_call(1),
    kept_call(2, CallState.SENT),
    kept_call(3, CallState.DELIVERED),
    kept_call(4, CallState.TIMEOUT, oneway=True),
    kept_call(5, CallState.DELIVERED, ended=True, oneway=True),
    kept_call(6, CallState.SUCCESSFUL, ended=True, response=b'{"error":"no such pin"}', additional_info={"a": [1]}),
    kept_call(7, CallState.EXPIRED, ended=True, reason=Reason.NO_REPLY),
    kept_call(8, CallState.FAILED, ended=True, reason=Reason.NO_ACK, response=b'{"error":"x"}'),
    kept_call(9, CallState.DELETED, ended=True, reason=Reason.CANCELLED),
    kept_call(10, CallState.QUEUED, of=device(101).id),
)
