"""Golden bytes, made by hand from the OASIS standards: (name, level, hex, packet)."""

from __future__ import annotations

from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.properties import Property as P

USER = P.USER_PROPERTY
A_B = {USER: (("a", "b"),)}

Vector = tuple[str, int, str, p.Packet]

CLIENT: list[Vector] = [
    ("connect 3.1", 3, "10 10 0006 4D5149736470 03 02 003C 0002 6162", p.Connect(3, "ab", True, 60)),
    (
        "connect 3.1 with everything",
        3,
        "10 1D 0006 4D5149736470 03 EE 003C 0001 61 0001 74 0001 77 0002 7573 0002 7077",
        p.Connect(3, "a", True, 60, "us", b"pw", p.Will("t", b"w", 1, True)),
    ),
    ("connect 3.1.1", 4, "10 0E 0004 4D515454 04 02 000A 0002 6162", p.Connect(4, "ab", True, 10)),
    ("connect 3.1.1 without a client id", 4, "10 0C 0004 4D515454 04 02 FFFF 0000", p.Connect(4, "", True, 0xFFFF)),
    (
        "connect 3.1.1 with everything",
        4,
        "10 1B 0004 4D515454 04 EC 0000 0001 61 0001 74 0001 77 0002 7573 0002 7077",
        p.Connect(4, "a", False, 0, "us", b"pw", p.Will("t", b"w", 1, True)),
    ),
    (
        "connect 5.0",
        5,
        "10 17 0004 4D515454 05 82 001E 05 11 00000064 0001 61 0002 7573",
        p.Connect(5, "a", True, 30, "us", properties={P.SESSION_EXPIRY_INTERVAL: 100}),
    ),
    (
        "connect 5.0 with a password and no user",
        5,
        "10 12 0004 4D515454 05 42 000A 00 0001 61 0002 7077",
        p.Connect(5, "a", True, 10, None, b"pw"),
    ),
    (
        "connect 5.0 with every property",
        5,
        (
            "10 57 0004 4D515454 05 16 000A 24 11 FFFFFFFF 21 000A 27 00001000 22 FFFF 17 00 19 01"
            "26 0001 61 0001 62 15 0001 6D 16 0002 0102 0000"
            "1F 18 00000005 01 01 02 0000000A 03 0001 74 08 0001 72 09 0001 63 26 0001 61 0001 62 0001 77 0001 78"
        ),
        p.Connect(
            5,
            "",
            True,
            10,
            will=p.Will(
                "w",
                b"x",
                2,
                False,
                {
                    P.WILL_DELAY_INTERVAL: 5,
                    P.PAYLOAD_FORMAT_INDICATOR: 1,
                    P.MESSAGE_EXPIRY_INTERVAL: 10,
                    P.CONTENT_TYPE: "t",
                    P.RESPONSE_TOPIC: "r",
                    P.CORRELATION_DATA: b"c",
                    **A_B,
                },
            ),
            properties={
                P.SESSION_EXPIRY_INTERVAL: 0xFFFFFFFF,
                P.RECEIVE_MAXIMUM: 10,
                P.MAXIMUM_PACKET_SIZE: 4096,
                P.TOPIC_ALIAS_MAXIMUM: 0xFFFF,
                P.REQUEST_PROBLEM_INFORMATION: 0,
                P.REQUEST_RESPONSE_INFORMATION: 1,
                **A_B,
                P.AUTHENTICATION_METHOD: "m",
                P.AUTHENTICATION_DATA: b"\x01\x02",
            },
        ),
    ),
    ("publish 3.1, QoS 0", 3, "30 05 0001 74 6869", p.Publish("t", b"hi")),
    ("publish 3.1, sent again", 3, "3A 06 0001 74 000A 21", p.Publish("t", b"!", 1, 10, True)),
    ("publish QoS 0", 4, "30 05 0001 74 6869", p.Publish("t", b"hi")),
    ("publish nothing, retained", 4, "31 03 0001 74", p.Publish("t", b"", retain=True)),
    ("publish QoS 1", 4, "3B 07 0001 74 0007 6869", p.Publish("t", b"hi", 1, 7, True, True)),
    ("publish QoS 2", 4, "34 05 0001 74 0009", p.Publish("t", b"", 2, 9)),
    ("publish 200 bytes", 4, "30 CB01 0001 74" + "78" * 200, p.Publish("t", b"x" * 200)),
    ("publish to U+FEFF and an emoji", 4, "30 09 0007 EFBBBF F09F9880", p.Publish("\ufeff\U0001f600", b"")),
    ("publish 5.0, QoS 0", 5, "30 06 0001 74 00 6869", p.Publish("t", b"hi")),
    ("publish 5.0, QoS 1", 5, "32 06 0001 74 0007 00", p.Publish("t", b"", 1, 7)),
    ("publish 5.0, QoS 2", 5, "3D 06 0001 74 FFFF 00", p.Publish("t", b"", 2, 0xFFFF, True, True)),
    (
        "publish with properties",
        5,
        "30 20 0001 74 1A 01 01 02 0000003C 03 0001 74 08 0001 72 09 0001 63 26 0001 61 0001 62 78 79",
        p.Publish(
            "t",
            b"xy",
            properties={
                P.PAYLOAD_FORMAT_INDICATOR: 1,
                P.MESSAGE_EXPIRY_INTERVAL: 60,
                P.CONTENT_TYPE: "t",
                P.RESPONSE_TOPIC: "r",
                P.CORRELATION_DATA: b"c",
                **A_B,
            },
        ),
    ),
    ("publish to an alias", 5, "30 06 0000 03 23 0001", p.Publish("", b"", properties={P.TOPIC_ALIAS: 1})),
    ("puback 3.1", 3, "40 02 0001", p.PubAck(1)),
    ("puback", 4, "40 02 FFFF", p.PubAck(0xFFFF)),
    ("puback 5.0", 5, "40 02 0001", p.PubAck(1)),
    ("puback with a code", 5, "40 03 0001 99", p.PubAck(1, 0x99)),
    ("puback with properties", 5, "40 07 0001 10 03 1F 0000", p.PubAck(1, 0x10, {P.REASON_STRING: ""})),
    ("pubrec 3.1", 3, "50 02 0001", p.PubRec(1)),
    ("pubrec", 4, "50 02 0001", p.PubRec(1)),
    ("pubrec with properties", 5, "50 0B 0001 00 07 26 0001 61 0001 62", p.PubRec(1, 0, A_B)),
    ("pubrel 3.1", 3, "62 02 0001", p.PubRel(1)),
    ("pubrel", 4, "62 02 0001", p.PubRel(1)),
    ("pubrel with a code", 5, "62 03 0001 92", p.PubRel(1, 0x92)),
    ("pubcomp 3.1", 3, "70 02 0001", p.PubComp(1)),
    ("pubcomp", 4, "70 02 0001", p.PubComp(1)),
    ("pubcomp with a code", 5, "70 03 0001 92", p.PubComp(1, 0x92)),
    ("subscribe 3.1", 3, "82 06 000A 0001 61 01", p.Subscribe(10, (p.Subscription("a", 1),))),
    ("subscribe", 4, "82 08 000A 0003 612F62 01", p.Subscribe(10, (p.Subscription("a/b", 1),))),
    (
        "subscribe to two",
        4,
        "82 0B 0001 0002 612F 02 0001 23 00",
        p.Subscribe(1, (p.Subscription("a/", 2), p.Subscription("#", 0))),
    ),
    (
        "subscribe 5.0",
        5,
        "82 0A 000A 02 0B 05 0002 2F2B 2D",
        p.Subscribe(10, (p.Subscription("/+", 1, True, True, 2),), {P.SUBSCRIPTION_IDENTIFIER: 5}),
    ),
    (
        "subscribe shared",
        5,
        "82 10 0001 00 000A 24736861 72652F672F61 01",
        p.Subscribe(1, (p.Subscription("$share/g/a", 1),)),
    ),
    ("unsubscribe 3.1", 3, "A2 05 000B 0001 61", p.Unsubscribe(11, ("a",))),
    ("unsubscribe", 4, "A2 08 000B 0001 61 0001 2B", p.Unsubscribe(11, ("a", "+"))),
    ("unsubscribe 5.0", 5, "A2 06 000B 00 0001 61", p.Unsubscribe(11, ("a",))),
    ("unsubscribe with properties", 5, "A2 0D 000B 07 26 0001 61 0001 62 0001 61", p.Unsubscribe(11, ("a",), A_B)),
    ("pingreq 3.1", 3, "C0 00", p.PingReq()),
    ("pingreq", 4, "C0 00", p.PingReq()),
    ("pingreq 5.0", 5, "C0 00", p.PingReq()),
    ("disconnect 3.1", 3, "E0 00", p.Disconnect()),
    ("disconnect", 4, "E0 00", p.Disconnect()),
    ("disconnect 5.0", 5, "E0 00", p.Disconnect()),
    (
        "disconnect with a session expiry",
        5,
        "E0 07 04 05 11 00000064",
        p.Disconnect(4, {P.SESSION_EXPIRY_INTERVAL: 100}),
    ),
    ("auth", 5, "F0 08 18 06 15 0003 504C4E", p.Auth(0x18, {P.AUTHENTICATION_METHOD: "PLN"})),
    ("auth without anything", 5, "F0 00", p.Auth()),
]
"""What a client may write (and, PUBLISH and the acknowledgements, a server too)."""

SERVER: list[Vector] = [
    ("connack 3.1 refused", 3, "20 02 00 04", p.ConnAck(False, 4)),
    ("connack", 4, "20 02 01 00", p.ConnAck(True, 0)),
    ("connack refused", 4, "20 02 00 05", p.ConnAck(False, 5)),
    ("connack 5.0", 5, "20 06 00 00 03 21 0014", p.ConnAck(False, 0, {P.RECEIVE_MAXIMUM: 20})),
    ("connack 5.0 refused", 5, "20 03 00 86 00", p.ConnAck(False, 0x86)),
    (
        "connack with every property",
        5,
        (
            "20 3F 01 00 3C 11 00000064 21 0014 24 01 25 01 27 00010000 12 0001 63 22 0000 1F 0001 72"
            "26 0001 61 0001 62 28 01 29 00 2A 00 13 000A 1A 0001 69 1C 0001 73 15 0001 6D 16 0001 64"
        ),
        p.ConnAck(
            True,
            0,
            {
                P.SESSION_EXPIRY_INTERVAL: 100,
                P.RECEIVE_MAXIMUM: 20,
                P.MAXIMUM_QOS: 1,
                P.RETAIN_AVAILABLE: 1,
                P.MAXIMUM_PACKET_SIZE: 65536,
                P.ASSIGNED_CLIENT_IDENTIFIER: "c",
                P.TOPIC_ALIAS_MAXIMUM: 0,
                P.REASON_STRING: "r",
                **A_B,
                P.WILDCARD_SUBSCRIPTION_AVAILABLE: 1,
                P.SUBSCRIPTION_IDENTIFIER_AVAILABLE: 0,
                P.SHARED_SUBSCRIPTION_AVAILABLE: 0,
                P.SERVER_KEEP_ALIVE: 10,
                P.RESPONSE_INFORMATION: "i",
                P.SERVER_REFERENCE: "s",
                P.AUTHENTICATION_METHOD: "m",
                P.AUTHENTICATION_DATA: b"d",
            },
        ),
    ),
    (
        "publish for two subscriptions",
        5,
        "30 09 0001 74 05 0B 01 0B 8001",
        p.Publish("t", b"", properties={P.SUBSCRIPTION_IDENTIFIER: (1, 128)}),
    ),
    ("suback 3.1", 3, "90 03 000A 02", p.SubAck(10, (2,))),
    ("suback", 4, "90 04 000A 01 80", p.SubAck(10, (1, 0x80))),
    ("suback 5.0", 5, "90 04 000A 00 8F", p.SubAck(10, (0x8F,))),
    ("suback with a reason", 5, "90 08 000A 04 1F 0001 72 00", p.SubAck(10, (0,), {P.REASON_STRING: "r"})),
    ("unsuback 3.1", 3, "B0 02 000B", p.UnsubAck(11)),
    ("unsuback", 4, "B0 02 000B", p.UnsubAck(11)),
    ("unsuback 5.0", 5, "B0 05 000B 00 00 11", p.UnsubAck(11, (0, 0x11))),
    ("pingresp 3.1", 3, "D0 00", p.PingResp()),
    ("pingresp", 4, "D0 00", p.PingResp()),
    ("pingresp 5.0", 5, "D0 00", p.PingResp()),
    ("disconnect by the server", 5, "E0 02 8E 00", p.Disconnect(0x8E)),
]

OTHER_FORMS: list[Vector] = [
    ("subscribe 3.1, sent again", 3, "8A 06 000A 0001 61 01", p.Subscribe(10, (p.Subscription("a", 1),))),
    ("unsubscribe 3.1, sent again", 3, "AA 05 000B 0001 61", p.Unsubscribe(11, ("a",))),
    ("pubrel 3.1, sent again", 3, "6A 02 0001", p.PubRel(1)),
    ("puback that says success", 5, "40 03 0001 00", p.PubAck(1)),
    ("puback that says no properties", 5, "40 04 0001 00 00", p.PubAck(1)),
    ("disconnect with a code alone", 5, "E0 01 04", p.Disconnect(4)),
    ("disconnect with nothing, at length", 5, "E0 02 00 00", p.Disconnect()),
]
"""Read, but not what is written for the same packet."""

WRITTEN = CLIENT + SERVER
VECTORS = WRITTEN + OTHER_FORMS
