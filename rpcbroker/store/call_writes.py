"""Persistent calls written, many at a time, inside a transaction that may write more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID
from zlib import crc32

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from rpcbroker.core import jsontext
from rpcbroker.core.errors import AlreadyExists, BrokerError, InvalidRequest, NotFound, Unavailable
from rpcbroker.core.records import KeptCall
from rpcbroker.store import tables as t
from rpcbroker.store.queries import exists, run, run_each

Row = tuple[Any, ...]
"""Parameters of one of the statements here, made on the reactor's thread: what a call's record says may change."""

INSERT = f"INSERT INTO rpc ({', '.join(t.rpc.c.keys())}) VALUES ({', '.join('?' * len(t.rpc.c))})"  # noqa: S608
_ADVANCE = """
UPDATE rpc SET due_time = ?, expiration_time = ?, status = ?, unacknowledged = ?, omitted = ?, moments = ?
WHERE tenant_id = ? AND id = ? AND ended_time IS NULL
"""
_END = """
UPDATE rpc SET ended_time = ?, expiration_time = ?, status = ?, unacknowledged = ?, omitted = ?, moments = ?,
    reason = ?, device_error = ?, response = ?
WHERE tenant_id = ? AND id = ? AND ended_time IS NULL
"""


def sum_of(method: str) -> int:
    """See the table."""
    return crc32(method.encode())


def insert_row(kept: KeptCall) -> Row:
    """In the order of the table's columns."""
    call, record = kept.call, kept.record
    info, response = call.additional_info, kept.response
    return (
        call.tenant_id.hex,
        call.rpc_id.hex,
        call.device_id.hex,
        call.wire_id,
        call.oneway,
        call.created_time,
        record.expiration_time,
        call.latest_time,
        kept.due_time,
        record.ended_time,
        record.state.value,
        record.reason and record.reason.value,
        record.device_error,
        call.retries,
        call.max_retries,
        kept.unacknowledged,
        call.strategy.value,
        record.omitted,
        sum_of(call.method),
        call.method,
        jsontext.encode(record.moments).decode(),
        call.params.decode(),
        None if response is None else response.decode(),
        None if info is None else jsontext.encode(info).decode(),
    )


def advance_row(kept: KeptCall) -> Row:
    return (kept.due_time, *_progress(kept), kept.call.tenant_id.hex, kept.call.rpc_id.hex)


def end_row(kept: KeptCall) -> Row:
    record, response = kept.record, kept.response
    return (
        record.ended_time,
        *_progress(kept),
        record.reason and record.reason.value,
        record.device_error,
        None if response is None else response.decode(),
        kept.call.tenant_id.hex,
        kept.call.rpc_id.hex,
    )


def _progress(kept: KeptCall) -> Row:
    record = kept.record
    return (
        record.expiration_time,
        record.state.value,
        kept.unacknowledged,
        record.omitted,
        jsontext.encode(record.moments).decode(),
    )


def write_calls(
    connection: Connection, inserts: Sequence[Row], advances: Sequence[Row], ends: Sequence[Row]
) -> tuple[list[BrokerError | None], list[bool]]:
    """In this order. What became of each insert: None is well; and whether each end took effect."""
    inserted = run_each(connection, INSERT, inserts) if inserts else []
    if advances:
        run(connection, _ADVANCE, list(advances))
    ended = run_each(connection, _END, ends) if ends else []
    refused = [
        _refusal(connection, row, found) if isinstance(found, Exception) else None
        for row, found in zip(inserts, inserted, strict=True)
    ]
    return refused, [found == 1 for found in ended]


def _refusal(connection: Connection, row: Row, error: Exception) -> BrokerError:
    """Why this row could not be inserted."""
    if not isinstance(error, IntegrityError):
        return InvalidRequest("A member of the call is more than the store can keep")
    tenant_id, rpc_id, device_id = map(UUID, row[:3])
    if exists(connection, sa.select(t.rpc.c.id).where(t.rpc.c.tenant_id == tenant_id, t.rpc.c.id == rpc_id)):
        return AlreadyExists(f"A call with the id {rpc_id} already exists")
    if not exists(connection, sa.select(t.device.c.id).where(t.device.c.id == device_id)):
        return NotFound("Device with requested id wasn't found!")
    return Unavailable(
        "The device has another call under this wire id", hint="Something in the store is broken: rpcbroker check."
    )
