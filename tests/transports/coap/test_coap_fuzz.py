"""Whatever comes, nothing escapes, nobody is sent more than it may, and in the end nothing is kept."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from coap_air import Air, N, Site, Told, content
from hypothesis import given, settings
from hypothesis import strategies as st
from mutating import MUTATIONS
from twisted.internet.defer import Deferred

from rpcbroker.core.errors import TooManyRequests
from rpcbroker.transports.coap.exchange import Refused, Request, Response
from rpcbroker.wire.coap.blockwise import Block
from rpcbroker.wire.coap.message import Message, encode
from rpcbroker.wire.coap.numbers import Code, Type, uint

PATHS = (b"obs", b"large", b"echo", b"late", b"stranger", b"nowhere", b"limited", b"\xff", b"")
LARGE = bytes(3000)


def air(late: list[Deferred[Response]]) -> Air:
    site = Site()

    def wait(request: Request) -> Deferred[Response]:
        late.append(Deferred())
        return late[-1]

    def limited(request: Request) -> Response:
        raise TooManyRequests("slowly", retry_after=3.0)

    site.paths.update(
        {
            ("obs",): site.observe,
            ("large",): lambda request: content(LARGE),
            ("echo",): lambda request: content(request.payload),
            ("late",): wait,
            ("stranger",): lambda request: content(LARGE, authenticated=False),
            ("limited",): limited,
        }
    )
    return Air(site, max_peers=8, max_unfinished=8192, max_body_size=4096, max_observations_per_peer=4)


def _block(chance: random.Random) -> bytes:
    return Block(chance.choice((0, 0, 0, 1, 2, 3, 0xFFFFF)), chance.random() < 0.7, chance.choice((0, 2, 6))).encode()


OPTIONS: dict[int, Callable[[random.Random], bytes]] = {
    N.OBSERVE: lambda chance: uint(chance.choice((0, 0, 0, 1, 2))),
    N.BLOCK1: _block,
    N.BLOCK2: _block,
    N.SIZE1: lambda chance: uint(chance.choice((0, 3000, 1 << 31))),
    N.ECHO: lambda chance: chance.randbytes(12),
    N.ETAG: lambda chance: chance.randbytes(4),
    N.ACCEPT: lambda chance: uint(chance.choice((0, 50, 60))),
    N.CONTENT_FORMAT: lambda chance: uint(chance.choice((0, 50, 60))),
    N.REQUEST_TAG: lambda chance: chance.choice((b"a", b"b")),
    N.NO_RESPONSE: lambda chance: uint(chance.choice((0, 2, 26))),
    N.IF_MATCH: lambda chance: b"v",
    9999: lambda chance: b"x",
}


def said(chance: random.Random) -> bytes:
    """A message that a device may send, or may not."""
    if chance.random() < 0.2:
        return encode(Message(chance.choice(list(Type)), 0, chance.randrange(1 << 16)))
    options = [(N.URI_PATH.value, chance.choice(PATHS))]
    options += [
        (number, OPTIONS[number](chance)) for number in chance.sample(list(OPTIONS), chance.choice((0, 1, 1, 2)))
    ]
    return encode(
        Message(
            chance.choice((Type.CON, Type.CON, Type.NON, Type.ACK, Type.RST)),
            chance.choice((Code.GET, Code.GET, Code.POST, Code.POST, Code.PUT, Code.CONTENT, 9, 0x21)),
            chance.choice((1, 2, 3, chance.randrange(1 << 16))),
            chance.choice((b"", b"t", b"token", bytes(8))),
            tuple(sorted(options)),
            chance.choice((b"", b"x", bytes(64), bytes(1024))),
        )
    )


def mutated(chance: random.Random, datagram: bytes) -> bytes:
    data = bytearray(datagram)
    for _ in range(chance.choice((0, 0, 1, 2))):
        if data:
            chance.choice(MUTATIONS)(chance, data, chance.randrange(len(data)))
    return bytes(data)


def check_that_nothing_is_kept(world: Air) -> None:
    """After a day without a word from anybody."""
    for _ in range(50):
        world.clock.advance(2000)
    assert len(world.server.peers) == 0
    assert (len(world.server.shelf), world.server.shelf.size) == (0, 0)
    assert world.server.observers.count == 0
    assert not world.server.deadlines._slots


@pytest.mark.parametrize("seed", range(40))
def test_mutated_conversations(seed: int) -> None:
    chance, late = random.Random(seed), list[Deferred[Response]]()
    world, told = air(late), Told()
    for _ in range(400):
        device = world.device(chance.choice((1, 2, 3, 4, chance.randrange(5, 30))))
        match chance.randrange(12):
            case 0:
                for sent in device.heard()[-3:]:
                    device.say(chance.choice((Type.ACK, Type.RST)), 0, sent.message_id)
            case 1:
                world.clock.advance(chance.choice((0.01, 0.6, 3.0, 50.0)))
            case 2 if world.site.observations:
                observation = chance.choice(world.site.observations)
                observation.notify(content(chance.choice((b"", b"x", LARGE))), told)
                observation.reach(device.peer, soon=chance.random() < 0.5)
            case 3 if world.site.observations:
                chance.choice(world.site.observations).end(chance.choice((None, Response(code=Code.DELETED))))
            case 4 if late:
                answer = late.pop()
                if chance.random() < 0.5:
                    answer.callback(content(chance.choice((b"", b"x", LARGE))))
                else:
                    answer.errback(Refused(Code.FORBIDDEN, "no"))
            case 5:
                world.server.lost(device.peer, "gone")
            case _:
                device.throw(mutated(chance, said(chance)))
        assert len(world.server.peers) <= 8
        assert world.server.shelf.size <= 8192 + 4096
        assert world.server.observers.count <= 8 * 4
        assert world.server.shelf.size == sum(kept.size for kept in world.server.shelf._all)
        assert world.server.observers.count == sum(map(len, world.server.observers._of.values()))
    while late:
        late.pop().callback(content(b"x"))
    check_that_nothing_is_kept(world)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=20))
def test_random_datagrams(datagrams: list[bytes]) -> None:
    world = air([])
    for datagram in datagrams:
        answers = world.device().throw(datagram)
        assert sum(len(encode(answer)) for answer in answers) <= max(3 * len(datagram), 4)
    check_that_nothing_is_kept(world)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_behind_a_good_header(rest: bytes) -> None:
    world = air([])
    for first in (0x40, 0x44, 0x50, 0x58):
        datagram = bytes((first, Code.POST)) + b"\0\1" + rest
        world.device(first).throw(datagram)
    assert len(world.server.peers) == 4
    check_that_nothing_is_kept(world)
