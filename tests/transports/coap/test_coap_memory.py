"""How much memory devices take that observe and are silent, and that nothing is kept of strangers."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

from coap_air import Air, N, Site

from rpcbroker.transports.coap.exchange import Request, Response
from rpcbroker.wire.coap.message import Message, encode
from rpcbroker.wire.coap.numbers import Code, Type

OBSERVERS = 10_000
"""So many that what is remembered of requests whoever sent them, which is counted too, matters little."""


class Deaf:
    """A port that keeps nothing of what is sent."""

    def send_to(self, address: object, datagram: bytes) -> None:
        """It is lost."""


def world_of_observers() -> tuple[Air, Callable[[int], None]]:
    site = Site()
    world, port = Air(site), Deaf()

    def subscribe(request: Request) -> Response:
        request.register()
        return Response(code=Code.VALID, authenticated=True)

    world.server._handler = subscribe

    def observe(number: int) -> None:
        path = [(N.URI_PATH, segment) for segment in (b"api", b"v1", b"TOKEN%010d" % number, b"rpc")]
        datagram = encode(Message(Type.CON, Code.GET, number, b"%08d" % number, ((N.OBSERVE, b""), *path)))
        world.server.received(datagram, world.server.peers.at((f"10.1.{number >> 8}.{number & 255}", 5683), port))

    return world, observe


def test_observer_takes_less_than_1500_bytes() -> None:
    gc.collect()
    tracemalloc.start()
    try:
        world, observe = world_of_observers()
        for number in range(OBSERVERS):
            observe(number)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        world.clock.advance(600)  # nothing that they sent can come again
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert world.server.observers.count == OBSERVERS
    assert before / OBSERVERS < 2_000
    assert after / OBSERVERS < 1_500


def test_strangers_are_forgotten_when_nothing_of_theirs_can_come_again() -> None:
    world = Air()
    world.site.paths[("obs",)] = world.site.observe
    world.device(1).ask(path="/obs", observe=0)
    for number in range(2, 50):
        world.device(number).ask()
    known = world.device(1).peer
    world.clock.advance(200)
    assert len(world.server.peers) == 49
    assert known.recent is not None
    world.clock.advance(300)
    assert len(world.server.peers) == 1
    assert known.recent is None
    assert world.device(1).peer is known
    assert world.server.observers.count == 1


def test_what_strangers_sent_takes_little_however_much_it_was() -> None:
    """A body that was begun, behind options that mean nothing; and requests that nobody answers well."""
    world, port = Air(), Deaf()
    world.server._handler = lambda request: Response(code=Code.NOT_FOUND, payload=b"nothing is here")
    world.server._admit = lambda request: False
    junk = [(2_000 + 2 * each, bytes(250)) for each in range(100)]
    begun = ((N.URI_PATH, b"big"), (N.BLOCK1, b"\x0e"), *junk)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(1_000):
            peer = world.server.peers.at((f"10.1.{number >> 8}.{number & 255}", 5683), port)
            world.server.received(encode(Message(Type.CON, Code.POST, 1, b"", begun, bytes(1024))), peer)
            for message_id in range(2, 66):
                world.server.received(encode(Message(Type.CON, Code.GET, message_id)), peer)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(world.server.shelf) == 1_000
    assert (after - before) / 1_000 < 5_000
