"""What a client may say to the MQTT listener, and what becomes of it when bytes are changed on the way.

Everything is drawn from the `random.Random` that is given, so a seed says it all again.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Sequence

from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import encode
from rpcbroker.wire.mqtt.properties import Property as P

ME, SHORT, GATEWAY = "v1/devices/me/", "v2/", "v1/gateway/"
FILTERS = (
    *(
        ME + rest
        for rest in ("attributes", "rpc/request/+", "rpc/response/+", "attributes/response/+", "rpc/response/1")
    ),
    *(SHORT + rest for rest in ("a", "a/res/+", "r/req/+", "r/res/j/+", "fw/response/+/chunk/+")),
    *(GATEWAY + rest for rest in ("attributes", "rpc", "attributes/response")),
    *("#", "+", "a/#", "a/+/b", "a/b", "$share/g/a/#", "$SYS/#", "/", "/provision/response"),
)
VALUES = ('{"k":1}', '[{"k":"v"},{"j":true}]', '{"ts":1,"values":{"k":{"deep":[1]}}}', "{}", "[]", "null", "1e999")
BOMBS = ("[" * 5000, '{"a":' * 2000, '{"k":' + "9" * 5000 + "}", '{"k":NaN}', "\ud800", '{"k":"\\ud800"}')
CHILDREN = ("child one", "child two", "ü", "")
QUESTIONS = ('{"method":"getCurrentTime","params":{}}', '{"method":"getSessionLimits"}', '{"params":1}', '{"method":7}')


def _topic_and_payload(chance: random.Random) -> tuple[str, str]:
    child = json.dumps(chance.choice(CHILDREN))
    number = chance.choice(("0", "1", "2", "12", "-1", "2147483648", "x", ""))
    telemetry = chance.choice(VALUES)
    answer = chance.choice(('{"got":1}', "1", "", "{"))
    return chance.choice(
        (
            (ME + "telemetry", telemetry),
            (ME + "attributes", telemetry),
            (ME + "attributes/request/" + number, chance.choice(('{"clientKeys":"k","sharedKeys":"s"}', "{}", "7"))),
            (ME + "rpc/request/" + number, chance.choice(QUESTIONS)),
            (ME + "rpc/response/" + number, answer),
            (ME + "claim", chance.choice(('{"secretKey":"s","durationMs":1}', "", "[]"))),
            (SHORT + chance.choice(("t", "t/j", "t/p", "a", "a/j")), telemetry),
            (SHORT + chance.choice(("r/req/", "r/req/j/", "r/res/", "r/res/p/")) + number, chance.choice(QUESTIONS)),
            (SHORT + f"fw/request/{number}/chunk/{number}", "512"),
            (GATEWAY + "connect", f'{{"device":{child},"type":"t"}}'),
            (GATEWAY + "disconnect", f'{{"device":{child}}}'),
            (GATEWAY + "telemetry", f'{{{child}:[{{"ts":1,"values":{{"k":1}}}},{telemetry}]}}'),
            (GATEWAY + "attributes", f"{{{child}:{telemetry}}}"),
            (GATEWAY + "attributes/request", f'{{"id":1,"device":{child},"client":true,"keys":["k"]}}'),
            (GATEWAY + "rpc", f'{{"device":{child},"id":1,"data":{answer or "null"}}}'),
            (GATEWAY + "rpc", f'{{"device":{child},"id":1,"method":"getCurrentTime","params":{{}}}}'),
            (GATEWAY + "claim", f"{{{child}:{{}}}}"),
            ("/provision/request", '{"provisionDeviceKey":"k","provisionDeviceSecret":"s"}'),
            (chance.choice(("a/b", "a/c/b", "a", "/", "$SYS/x", "v1/other")), "free"),
        )
    )


def _publish(chance: random.Random, level: int) -> p.Packet:
    topic, payload = _topic_and_payload(chance)
    if chance.random() < 0.1:
        payload = chance.choice(BOMBS)
    qos = chance.choice((0, 1, 1, 2))
    properties = {}
    if level >= 5 and chance.random() < 0.3:
        some = {
            P.PAYLOAD_FORMAT_INDICATOR: 1,
            P.MESSAGE_EXPIRY_INTERVAL: chance.choice((0, 1, 0xFFFFFFFF)),
            P.CONTENT_TYPE: "application/json",
            P.RESPONSE_TOPIC: "a/b",
            P.CORRELATION_DATA: b"\x00\xff",
            P.TOPIC_ALIAS: chance.randint(1, 3),
            P.USER_PROPERTY: (("a", "b"), ("a", "")),
        }
        properties = {each: some[each] for each in chance.sample(list(some), chance.randint(1, 3))}
        if P.TOPIC_ALIAS in properties and chance.random() < 0.5:
            topic = ""
    return p.Publish(
        topic,
        payload.encode("utf-8", "surrogatepass"),
        qos,
        chance.randint(1, 4) if qos else None,
        bool(qos) and chance.random() < 0.2,
        chance.random() < 0.2,
        properties,
    )


def _subscribe(chance: random.Random, level: int) -> p.Packet:
    def one() -> p.Subscription:
        options = (chance.random() < 0.3, chance.random() < 0.3, chance.randint(0, 2)) if level >= 5 else ()
        return p.Subscription(chance.choice(FILTERS), chance.randint(0, 2), *options)

    many = tuple(one() for _ in range(chance.randint(1, 4)))
    identified = {P.SUBSCRIPTION_IDENTIFIER: (7,)} if level >= 5 and chance.random() < 0.2 else {}
    try:
        encode(p.Subscribe(1, many, identified), level)
    except Exception:
        identified = {P.SUBSCRIPTION_IDENTIFIER: 7}
    return p.Subscribe(chance.randint(1, 0xFFFF), many, identified)


def _acknowledgement(chance: random.Random, _: int) -> p.Packet:
    return chance.choice((p.PubAck, p.PubRec, p.PubRel, p.PubRel, p.PubComp))(chance.randint(1, 4))


def _unsubscribe(chance: random.Random, _: int) -> p.Packet:
    return p.Unsubscribe(9, tuple(chance.sample(FILTERS, 2)))


def _end(chance: random.Random, level: int) -> p.Packet:
    if level >= 5 and chance.random() < 0.5:
        return chance.choice((p.Disconnect(4), p.Disconnect(0, {P.SESSION_EXPIRY_INTERVAL: 1}), p.Auth(0x18)))
    return p.Disconnect()


SAYINGS: tuple[tuple[int, Callable[[random.Random, int], p.Packet]], ...] = (
    (10, _publish),
    (4, _subscribe),
    (4, _acknowledgement),
    (1, _unsubscribe),
    (1, lambda *_: p.PingReq()),
    (1, _end),
)
"""weight, what makes a packet of a level"""


def _connect(chance: random.Random, level: int, tokens: Sequence[str]) -> p.Packet:
    properties = {}
    if level >= 5 and chance.random() < 0.5:
        properties = {
            P.SESSION_EXPIRY_INTERVAL: chance.choice((0, 1, 60, 0xFFFFFFFF)),
            P.RECEIVE_MAXIMUM: chance.choice((1, 2, 0xFFFF)),
            P.TOPIC_ALIAS_MAXIMUM: chance.choice((0, 5)),
            P.MAXIMUM_PACKET_SIZE: chance.choice((1, 30, 0xFFFFFFFF)),
        }
    will = p.Will("a/b", b"gone", chance.randint(0, 2), chance.random() < 0.5) if chance.random() < 0.2 else None
    user = chance.choice((*tokens, *tokens, "provision", "nobody", None))
    password = b"p" if user is not None and chance.random() < 0.1 else None
    clean, keep_alive = chance.random() < 0.6, chance.choice((0, 1, 60))
    return p.Connect(level, chance.choice(("", "a", "b", "c")), clean, keep_alive, user, password, will, properties)


def conversation(chance: random.Random, tokens: Sequence[str], level: int) -> list[bytes]:
    """A CONNECT and up to twelve more packets of one protocol level, each well formed."""
    kinds = chance.choices([make for _, make in SAYINGS], [weight for weight, _ in SAYINGS], k=chance.randint(0, 12))
    packets = [_connect(chance, level, tokens), *(make(chance, level) for make in kinds)]
    return [encode(packet, level) for packet in packets]


Bytes = bytearray
INTERESTING = (0x00, 0x01, 0x7F, 0x80, 0xFF)


def _changed(chance: random.Random, data: Bytes, at: int) -> None:
    data[at] = chance.choice((*INTERESTING, data[at] ^ 1 << chance.randrange(8), chance.randrange(256)))


def _inserted(chance: random.Random, data: Bytes, at: int) -> None:
    data[at:at] = chance.randbytes(chance.choice((1, 2, 40)))


def _removed(chance: random.Random, data: Bytes, at: int) -> None:
    del data[at : at + chance.choice((1, 2, 10))]


def _repeated(chance: random.Random, data: Bytes, at: int) -> None:
    data[at:at] = data[at : at + chance.choice((1, 4, 50))]


def _length(chance: random.Random, data: Bytes, at: int) -> None:
    data[at : at + 2] = chance.choice((b"\x00\x00", b"\xff\xff", b"\x00\x01", b"\x80\x80"))


def _remaining_length(chance: random.Random, data: Bytes, _: int) -> None:
    data[1:2] = chance.choice(
        (b"\x00", b"\x01", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff\x7f", b"\x80\x00", b"\x80\x80\x04")
    )


def _cut(_: random.Random, data: Bytes, at: int) -> None:
    del data[at:]


MUTATIONS = (_changed, _changed, _inserted, _removed, _repeated, _length, _remaining_length, _cut)


def mutated(chance: random.Random, packets: list[bytes]) -> list[bytes]:
    """The same with up to four changes of bytes and of order; a CONNECT that opens the door is left alone mostly."""
    packets = list(packets)
    if chance.random() < 0.25:
        return packets
    first = 0 if len(packets) == 1 or chance.random() < 0.2 else 1
    for _ in range(chance.randint(1, 4)):
        which = chance.randrange(first, len(packets))
        match chance.randrange(8):
            case 0:
                packets.insert(which, chance.choice(packets))
            case 1:
                packets[which], packets[first] = packets[first], packets[which]
            case _ if packets[which]:
                data = Bytes(packets[which])
                chance.choice(MUTATIONS)(chance, data, chance.randrange(len(data)))
                packets[which] = bytes(data)
    return packets


def written(chance: random.Random, packets: list[bytes]) -> list[bytes]:
    """How the bytes come: a packet at a time, all at once, cut anywhere, or (a short one) byte by byte."""
    whole = b"".join(packets)
    match chance.randrange(4):
        case 0:
            return [packet for packet in packets if packet]
        case 1 if len(whole) < 200:
            return [whole[i : i + 1] for i in range(len(whole))]
        case 2:
            edges = [0, *sorted(chance.randint(0, len(whole)) for _ in range(chance.randint(1, 6))), len(whole)]
            return [whole[a:b] for a, b in itertools.pairwise(edges) if a < b]
    return [whole]


UPGRADE = (
    b"GET /mqtt HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)


def framed(chance: random.Random, data: bytes) -> bytes:
    """`data` in a WebSocket frame; one in ten is not quite what RFC 6455 has."""
    first, masked, length = 0x82, 0x80, len(data)
    if chance.random() < 0.1:
        match chance.randrange(4):
            case 0:
                first = chance.choice((0x80, 0x81, 0x02, 0x88, 0x89, 0x8A, 0xF2, 0x8F))
            case 1:
                masked = 0
            case 2:
                length = chance.choice((0, length + 1, 126, 1 << 20, (1 << 62)))
            case 3:
                data = data[: len(data) // 2]
    head = bytes((first,))
    if length < 126:
        head += bytes((masked | length,))
    elif length < 1 << 16:
        head += bytes((masked | 126,)) + length.to_bytes(2, "big")
    else:
        head += bytes((masked | 127,)) + length.to_bytes(8, "big")
    return head + (bytes(4) if masked else b"") + data  # a mask of zeros changes nothing: RFC 6455 5.3
