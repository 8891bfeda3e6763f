"""Golden bytes, made by hand from the OASIS standards: (name, level, hex, packet)."""

from __future__ import annotations

from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.properties import Property as P

USER = P.USER_PROPERTY

VECTORS: list[tuple[str, int, str, p.Packet]] = [
    (
        "connect 3.1",
        3,
        "10 10 0006 4D5149736470 03 02 003C 0002 6162",
        p.Connect(3, "ab", True, 60),
    ),
    ("connect 3.1.1", 4, "10 0E 0004 4D515454 04 02 000A 0002 6162", p.Connect(4, "ab", True, 10)),
    (
        "connect 3.1.1 with everything",
        4,
        "10 1B 0004 4D515454 04 F4 0000 0001 61 0001 74 0001 77 0002 7573 0002 7077".replace("F4", "EC"),
        p.Connect(4, "a", False, 0, "us", b"pw", p.Will("t", b"w", 1, True)),
    ),
    (
        "connect 5.0",
        5,
        "10 17 0004 4D515454 05 82 001E 05 11 00000064 0001 61 0002 7573",
        p.Connect(5, "a", True, 30, "us", properties={P.SESSION_EXPIRY_INTERVAL: 100}),
    ),
    ("connack 3.1.1", 4, "20 02 01 00", p.ConnAck(True, 0)),
    ("connack 3.1.1 refused", 4, "20 02 00 05", p.ConnAck(False, 5)),
    ("connack 5.0", 5, "20 06 00 00 03 21 0014", p.ConnAck(False, 0, {P.RECEIVE_MAXIMUM: 20})),
    ("publish QoS 0", 4, "30 05 0001 74 6869", p.Publish("t", b"hi")),
    ("publish QoS 1", 4, "3B 07 0001 74 0007 6869", p.Publish("t", b"hi", 1, 7, True, True)),
    ("publish QoS 1, 5.0", 5, "32 06 0001 74 0007 00", p.Publish("t", b"", 1, 7)),
    (
        "publish with properties",
        5,
        "30 12 0001 74 0E 02 0000003C 26 0001 61 0001 62 01 01".replace("0E", "0E"),
        p.Publish(
            "t", b"", properties={P.MESSAGE_EXPIRY_INTERVAL: 60, P.PAYLOAD_FORMAT_INDICATOR: 1, USER: (("a", "b"),)}
        ),
    ),
    ("puback", 4, "40 02 0001", p.PubAck(1)),
    ("puback 5.0", 5, "40 02 0001", p.PubAck(1)),
    ("puback with a code", 5, "40 03 0001 99", p.PubAck(1, 0x99)),
    ("puback with properties", 5, "40 07 0001 10 03 1F 0000", p.PubAck(1, 0x10, {P.REASON_STRING: ""})),
    ("pubrec", 4, "50 02 0001", p.PubRec(1)),
    ("pubrel", 4, "62 02 0001", p.PubRel(1)),
    ("pubcomp", 5, "70 03 0001 92", p.PubComp(1, 0x92)),
    ("subscribe", 4, "82 08 000A 0003 612F62 01", p.Subscribe(10, (p.Subscription("a/b", 1),))),
    (
        "subscribe 5.0",
        5,
        "82 0A 000A 02 0B 05 0002 612B 2D".replace("612B", "2F2B"),
        p.Subscribe(10, (p.Subscription("/+", 1, True, True, 2),), {P.SUBSCRIPTION_IDENTIFIER: 5}),
    ),
    ("suback", 4, "90 04 000A 01 80", p.SubAck(10, (1, 0x80))),
    ("suback 5.0", 5, "90 04 000A 00 8F", p.SubAck(10, (0x8F,))),
    ("unsubscribe", 4, "A2 05 000B 0001 61", p.Unsubscribe(11, ("a",))),
    ("unsubscribe 5.0", 5, "A2 06 000B 00 0001 61", p.Unsubscribe(11, ("a",))),
    ("unsuback", 4, "B0 02 000B", p.UnsubAck(11)),
    ("unsuback 5.0", 5, "B0 04 000B 00 11", p.UnsubAck(11, (0x11,))),
    ("pingreq", 4, "C0 00", p.PingReq()),
    ("pingresp", 5, "D0 00", p.PingResp()),
    ("disconnect", 4, "E0 00", p.Disconnect()),
    ("disconnect 5.0", 5, "E0 02 8E 00", p.Disconnect(0x8E)),
    ("auth", 5, "F0 08 18 06 15 0003 504C4E", p.Auth(0x18, {P.AUTHENTICATION_METHOD: "PLN"})),
]
