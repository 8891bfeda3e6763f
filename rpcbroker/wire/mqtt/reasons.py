"""Which reason codes may stand in which packet (MQTT 5.0, table 2-6 by packet)."""

from __future__ import annotations

from typing import Any

from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import packets as p

_PUBLISHED = frozenset({0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99})
_RELEASED = frozenset({0x00, 0x92})
_FROM_EITHER = frozenset({0x00, *range(0x80, 0x84), 0x90, *range(0x93, 0x9A)})

FROM_CLIENT = _FROM_EITHER | {0x04}
"""What a client may say in a DISCONNECT (3.14.2.1); the others are the server's."""

ALLOWED: dict[type[Any], frozenset[int]] = {
    p.ConnAck: frozenset({0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, *range(0x99, 0x9E), 0x9F}),  # 3.2.2.2
    p.PubAck: _PUBLISHED,  # 3.4.2.1
    p.PubRec: _PUBLISHED,  # 3.5.2.1
    p.PubRel: _RELEASED,  # 3.6.2.1
    p.PubComp: _RELEASED,  # 3.7.2.1
    p.SubAck: frozenset({0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2}),  # 3.9.3
    p.UnsubAck: frozenset({0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91}),  # 3.11.3
    p.Disconnect: FROM_CLIENT | {0x87, 0x89, *range(0x8B, 0x90), *range(0x9A, 0xA3)},  # 3.14.2.1, 4.12 for 0x8C
    p.Auth: frozenset({0x00, 0x18, 0x19}),  # 3.15.2.1
}

ALLOWED_V3: dict[type[Any], frozenset[int]] = {
    p.ConnAck: frozenset(p.ConnectReturnCode),  # MQTT 3.1.1, 3.2.2.3
    p.SubAck: frozenset({0, 1, 2, 0x80}),  # MQTT-3.9.3-2 (3.1.1)
}


def known(code: int, packet_type: type[Any], level: int = 5) -> int:
    """`code`, if it may stand in such a packet; else WireError."""
    if code not in (ALLOWED if level >= 5 else ALLOWED_V3)[packet_type]:
        raise WireError(f"code 0x{code:02X} in {packet_type.__name__}", p.ReasonCode.PROTOCOL_ERROR)
    return code
