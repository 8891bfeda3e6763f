"""What a broker tells a device, read."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Told(NamedTuple):
    """A call, or that nobody waits for one any more: then `method` is None.

    `call_id` is None where the message does not bear it, as over MQTT, where the topic does.
    """

    call_id: int | None
    method: str | None
    params: Any


def read(payload: bytes) -> Told | None:
    """`{"id":7,"method":"m","params":1}` or `{"id":7,"cancel":true}`; None for what is neither."""
    try:
        told = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    method, call_id = told.get("method"), told.get("id")
    if isinstance(call_id, bool) or not isinstance(call_id, int):
        call_id = None
    if isinstance(method, str):
        return Told(call_id, method, told.get("params"))
    return Told(call_id, None, None) if told.get("cancel") is True and call_id is not None else None


def text(value: Any) -> bytes:
    """What a device says, as JSON."""
    return json.dumps(value, separators=(",", ":")).encode()
