"""Whatever bytes come, in whatever pieces and state: packets or a WireError, and after that nothing."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutating import conversation, mutated
from wire.strategies import LEVEL, packets

from rpcbroker.wire.errors import WireError
from rpcbroker.wire.mqtt import packets as p
from rpcbroker.wire.mqtt.codec import FrameReader, decode, encode
from rpcbroker.wire.mqtt.connection import ConnectionState, Limits, ServerConnection

LIMITS = Limits(
    max_packet_size=1 << 12, connect_timeout=10.0, receive_maximum=3, unfinished_v3=3, topic_alias_maximum=2
)
TOLD_BY_VERSION_3 = (p.ConnAck, p.SubAck, p.UnsubAck, p.PingResp, p.PubAck, p.PubRec, p.PubRel, p.PubComp)


STATES = [*ConnectionState, *[ConnectionState.OPEN] * 6]
"""Most of what there is to get wrong is behind CONNECT."""


def talk(seed: bytes, state: ConnectionState, level: int) -> bytes:
    """What a client says in that state, more or less."""
    chance = random.Random(seed)
    packets_of_it = conversation(chance, ["token"], level)
    return b"".join(mutated(chance, packets_of_it[state is not ConnectionState.AWAITING_CONNECT :] or packets_of_it))


STRAY = st.just(b"") | st.binary(max_size=60) | packets().map(lambda case: encode(case[1], case[0]))
CASES = {
    "state": st.sampled_from(STATES),
    "level": LEVEL,
    "seed": st.binary(min_size=8, max_size=8),
    "stray": STRAY,
    "cuts": st.lists(st.integers(0, 1 << 12), max_size=6),
    "decision": st.sampled_from(["accept", "accept", "accept", "refuse", "later"]),
}


def answers(packet: p.Packet, level: int, decision: str) -> list[p.Packet]:
    """What a broker says to a packet, by the book."""
    match packet:
        case p.Connect():
            return [p.ConnAck(False, 0 if decision == "accept" else 5 if level < 5 else 0x87)]
        case p.Publish(qos=1, packet_id=int(number)):
            return [p.PubAck(number)]
        case p.Publish(qos=2, packet_id=int(number)):
            return [p.PubRec(number)]
        case p.PubRel(packet_id=number):
            return [p.PubComp(number)]
        case p.PubRec(packet_id=number):
            return [p.PubRel(number)]
        case p.Subscribe():
            return [p.SubAck(packet.packet_id, (0,) * len(packet.subscriptions))]
        case p.Unsubscribe():
            return [p.UnsubAck(packet.packet_id, (0,) * len(packet.filters) if level >= 5 else ())]
        case p.PingReq():
            return [p.PingResp()]
    return []


def brought_to(state: ConnectionState, level: int) -> ServerConnection:
    server = ServerConnection(LIMITS, 0.0)
    if state is not ConnectionState.AWAITING_CONNECT:
        list(server.receive(encode(p.Connect(level, "c"), level), 0.0))
    if state is ConnectionState.OPEN:
        server.send(p.ConnAck(False, 0))
    elif state is ConnectionState.CLOSED:
        server.send(p.ConnAck(False, 5 if level < 5 else 0x87))
    return server


def check(state: ConnectionState, level: int, seed: bytes, stray: bytes, cuts: list[int], decision: str) -> None:
    server = brought_to(state, level)
    stream = talk(seed, state, level) + stray
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    said = b""
    ended = server.state is ConnectionState.CLOSED
    for now, (a, b) in enumerate(itertools.pairwise(edges)):
        try:
            for packet in server.receive(stream[a:b], float(now)):
                assert not ended, "after the end something came"
                if isinstance(packet, p.Connect) and decision == "later":
                    continue
                for answer in answers(packet, server.level, decision):
                    if server.state in (ConnectionState.OPEN, ConnectionState.AWAITING_DECISION):
                        said += server.send(answer)
        except WireError as error:
            assert not ended, "after the end something was wrong"
            said += server.farewell(error)
            assert server.state is ConnectionState.CLOSED
        ended = server.state is ConnectionState.CLOSED
        deadline = server.next_deadline()
        assert ended == (deadline is None) or server.state is ConnectionState.OPEN
    reader = FrameReader(1 << 20)
    reader.feed(said)
    told_in = 5 if server.level >= 5 or (not server.level and said[1:2] == b"\x03") else 4
    told = [decode(first, body, told_in) for first, body in reader]
    assert b"".join(encode(packet, told_in) for packet in told) == said, "what is said is whole packets"
    assert told_in == 5 or all(isinstance(packet, TOLD_BY_VERSION_3) for packet in told)


@settings(max_examples=1_000, deadline=None)
@given(**CASES)
def test_nothing_but_packets_and_wire_errors(**case: Any) -> None:
    check(**case)


@pytest.mark.soak
@settings(max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(**CASES)
def test_nothing_but_packets_and_wire_errors_for_long(**case: Any) -> None:
    check(**case)
