"""An application message on its way to many: encoded once for each form in which it leaves."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from sys import getsizeof
from typing import Any

from rpcbroker.wire.mqtt import numbers as n
from rpcbroker.wire.mqtt.fields import encode_text, encode_varint, fixed_header
from rpcbroker.wire.mqtt.packets import NO_PROPERTIES, Properties
from rpcbroker.wire.mqtt.properties import Property, encode_pairs

_NOT_PASSED_ON = frozenset(
    {
        Property.TOPIC_ALIAS,
        Property.SUBSCRIPTION_IDENTIFIER,
        Property.MESSAGE_EXPIRY_INTERVAL,
        Property.WILL_DELAY_INTERVAL,
    }
)
"""What belongs to one hop; the expiry is written anew, for time has passed: MQTT-3.3.2-6."""

_EXPIRY = bytes((Property.MESSAGE_EXPIRY_INTERVAL,))
_IDENTIFIER = bytes((Property.SUBSCRIPTION_IDENTIFIER,))
_ALIAS = bytes((Property.TOPIC_ALIAS,))


class Message:
    """What somebody published, or what the server has to say.

    `expires` is the second (of whatever clock the caller uses) from which nobody is given it any more.
    """

    __slots__ = (
        "_head",
        "_passed_on",
        "_properties_size",
        "_whole",
        "expires",
        "payload",
        "properties",
        "qos",
        "retain",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        *,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
        now: float = 0.0,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
        self.expires: float | None = None
        if properties:
            interval = properties.get(Property.MESSAGE_EXPIRY_INTERVAL)
            if interval is not None:
                self.expires = now + interval
            self._properties_size: int | None = None  # most messages have none: those are not to be slower for it
        self._head: bytes | None = None
        self._passed_on: bytes | None = None
        self._whole: dict[int, bytes] | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes while it waits, about."""
        size = len(self.topic) + len(self.payload)
        if not self.properties:
            return size
        if self._properties_size is None:
            self._properties_size = sum(map(_in_memory, self.properties.values()))
        return size + self._properties_size

    def expired(self, now: float) -> bool:
        return self.expires is not None and self.expires <= now

    def frame(
        self,
        *,
        level: int,
        qos: int,
        packet_id: int | None,
        now: float,
        dup: bool = False,
        retain: bool = False,
        identifiers: Sequence[int] = (),
        alias: int = 0,
        name_topic: bool = True,
    ) -> bytes:
        """The bytes of its PUBLISH for one client. `alias` 0 is none; with one the topic may be left out."""
        first = n.PUBLISH << 4 | dup << 3 | qos << 1 | retain
        plain = packet_id is None and not alias and not identifiers and self.expires is None
        if plain:
            key = first << 8 | level
            if self._whole is None:
                self._whole = {}
            whole = self._whole.get(key)
            if whole is not None:
                return whole
        if self._head is None:
            self._head = encode_text(self.topic)
        head = self._head if name_topic else b"\x00\x00"
        if packet_id is not None:
            head += packet_id.to_bytes(2, "big")
        if level >= 5:
            head += self._properties(now, identifiers, alias)
        data = fixed_header(first, len(head) + len(self.payload)) + head + self.payload
        if plain and self._whole is not None:
            self._whole[key] = data
        return data

    def _properties(self, now: float, identifiers: Sequence[int], alias: int) -> bytes:
        if self._passed_on is None:
            kept = {key: value for key, value in self.properties.items() if key not in _NOT_PASSED_ON}
            self._passed_on = encode_pairs(kept, n.PUBLISH) if kept else b""
        body = self._passed_on
        if self.expires is not None:
            body += _EXPIRY + max(0, ceil(self.expires - now)).to_bytes(4, "big")  # MQTT-3.3.2-6
        for identifier in identifiers:
            body += _IDENTIFIER + encode_varint(identifier)  # MQTT-3.3.4-4
        if alias:
            body += _ALIAS + alias.to_bytes(2, "big")
        return encode_varint(len(body)) + body


def _in_memory(value: Any) -> int:
    """Bytes that the value of a property takes: short ones more than ten times as many as when they are sent.

    Never less than it takes when it is sent, which for some texts is more.
    """
    size = getsizeof(value)
    if isinstance(value, tuple):
        return size + sum(map(_in_memory, value))
    if isinstance(value, str) and not value.isascii():
        return max(size, 5 + len(value.encode()))  # with its length, and the property's number
    return size
