"""Measures CoAP of the broker and of its peers, one after another in every round, and prints medians and ratios.

    python bench/coap.py [--seconds 5] [--rounds 3] [--only post,observe] [--peers aiocoap,libcoap]

* post: telemetry, confirmable, from 100 sockets with one unanswered request each, as RFC 7252 4.7 wants it. rpcbroker
  looks at the access token and keeps the values; the last one of every device is read back over REST, and a wrong one
  ends the benchmark. aiocoap's server reads the same payload as JSON and keeps nothing (bench/aiocoap_server.py).
  libcoap's coap-server has no such resource: what is asked of it is a GET of a short text that never changes.
* observe: two-way calls over HTTP to devices that observe; notification, ACK, reply, ACK.

Each measurement has a fresh process of the server, on loopback, and one of bench/coap_load.c. The load tells the share
of a core that it took; a result with more than 0.8 is not valid, for the load may have been the limit.
Needs a C compiler, coap-server, and in AIOCOAP_PYTHON the Python of an environment with aiocoap: `make bench` sees to
it.
"""

from __future__ import annotations

import peers
from aims import Aim
from broker import Broker
from rounds import OURS, Bench, Result, Round, main

SOCKETS, WINDOW = 100, 1
"""More requests at once than this fill the receive buffer that the system gives to a socket."""
DEVICES, CALLERS = 200, 64
PEERS = "aiocoap", "libcoap"
ON_LOOPBACK = {"RPCBROKER_COAP_LISTEN": "udp:0:interface=127.0.0.1"}


def start(bench: Bench) -> tuple[Broker, int]:
    """The broker, and its port."""
    server = Broker(bench.directory, **ON_LOOPBACK)
    return server, int(server.endpoints["coap"].rsplit(":", 1)[1])


def post(bench: Bench, name: str) -> Result:
    """Telemetry."""
    if name != OURS:
        peer = getattr(peers, name)(bench.directory)
        mode = "get" if name == "libcoap" else "post"
        result = bench.run(peer, mode, peer.port, SOCKETS, WINDOW, bench.warm_up, bench.seconds)
        peer.stop()
        return result
    server, port = start(bench)
    result = bench.run(server, "post", port, SOCKETS, WINDOW, bench.warm_up, bench.seconds)
    bench.compare_last(server, result.last)
    server.stop()
    return result


def observe(bench: Bench, name: str) -> Result:
    """Calls."""
    server, port = start(bench)
    told = bench.callers(server, DEVICES)
    result = bench.run(
        server, "observe", port, DEVICES, CALLERS, bench.warm_up, bench.seconds, server.http[1], told=told
    )
    server.stop()
    return result


ROUNDS = {
    "post": Round(
        f"POST of telemetry (libcoap: GET), {SOCKETS} sockets with {WINDOW} request each",
        post,
        (Aim(12, of="aiocoap"), Aim(0.35, of="libcoap")),
        (OURS, *PEERS),
    ),
    "observe": Round(f"two-way calls, {CALLERS} HTTP callers, {DEVICES} devices that observe", observe),
}


if __name__ == "__main__":
    main(__doc__, ROUNDS, "coap_load.c", devices=DEVICES, beside={name: name for name in PEERS})
