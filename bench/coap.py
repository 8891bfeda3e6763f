"""Measures CoAP of the broker and of its peers, one after another in every round, and prints medians and ratios.

    python bench/coap.py [--seconds 5] [--rounds 3] [--only post,observe] [--peers aiocoap,libcoap]

* post: telemetry, confirmable, from 100 sockets with one unanswered request each, as RFC 7252 4.7 wants it. rpcbroker
  looks at the access token and keeps the values; the last one of every device is read back over REST, and a wrong one
  ends the benchmark. aiocoap's server reads the same payload as JSON and keeps nothing (bench/aiocoap_server.py).
  libcoap's coap-server has no such resource: what is asked of it is a GET of a short text that never changes.
* observe: two-way calls over HTTP to devices that observe; notification, ACK, reply, ACK.
* memory: what a device that observes takes, from its first message on.

Each measurement has a fresh process of the server, on loopback, and one of bench/coap_load.c. The load tells the share
of a core that it took; a result with more than 0.8 is not valid, for the load may have been the limit.
Needs a C compiler, coap-server, and in AIOCOAP_PYTHON the Python of an environment with aiocoap: `make bench` sees to
it.
"""

from __future__ import annotations

import argparse
import socket
import sys
import tempfile
import time
from pathlib import Path

import peers
from aims import Aim
from broker import Broker
from child import machine, prepare, progress
from rounds import OURS, Bench, Result, Round, measure

SOCKETS, WINDOW = 100, 1
"""More requests at once than this fill the receive buffer that the system gives to a socket."""
DEVICES, CALLERS = 200, 64
OBSERVERS = 2_000, 5_000
PEERS = "aiocoap", "libcoap"
SETTLE = 1.0
"""Seconds until memory is looked at."""
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


def memory(bench: Bench) -> None:
    """Of devices that observe their calls, each from a socket of its own."""
    server, port = start(bench)
    observers = [register(port, number) for number in range(DEVICES)]
    time.sleep(SETTLE)
    before = server.rss_kb()
    for count in OBSERVERS:
        observers += [register(port, number) for number in range(len(observers), count)]
        time.sleep(SETTLE)
        print(
            f"memory of {count:,} observers: {(server.rss_kb() - before) / (count - DEVICES):.1f} KB each", flush=True
        )
    for observer in observers:
        observer.close()
    server.stop()


def register(port: int, number: int) -> socket.socket:
    """A device that has registered, and read the answer. Raises SystemExit."""
    observer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    observer.connect(("127.0.0.1", port))
    observer.settimeout(10)
    token = f"B{number}".encode()
    path = b"\x60\x53api\x02v1" + bytes((len(token),)) + token + b"\x03rpc"
    observer.send(b"\x42\x01\x00\x01\x00\x01" + path)
    answer = observer.recv(2048)
    if answer[1] >> 5 != 2:
        raise SystemExit(f"device d{number} may not observe: {answer!r}")
    return observer


ROUNDS = {
    "post": Round(
        f"POST of telemetry (libcoap: GET), {SOCKETS} sockets with {WINDOW} request each",
        post,
        (Aim(12, of="aiocoap"), Aim(0.35, of="libcoap")),
        (OURS, *PEERS),
    ),
    "observe": Round(f"two-way calls, {CALLERS} HTTP callers, {DEVICES} devices that observe", observe),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join((*ROUNDS, "memory")), help="of " + ", ".join((*ROUNDS, "memory")))
    parser.add_argument("--peers", default=",".join(PEERS), help="empty for none")
    options = parser.parse_args()
    chosen, others = options.only.split(","), [name for name in options.peers.split(",") if name]
    if unknown := {*chosen, *others} - {*ROUNDS, *PEERS, "memory"}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    prepare()
    print(machine() + "".join(f", {peers.version(name)}" for name in others), flush=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        bench = Bench(Path(directory), "coap_load.c", devices=max(OBSERVERS), seconds=options.seconds)
        measure(bench, {key: kind for key, kind in ROUNDS.items() if key in chosen}, others, options.rounds)
        if "memory" in chosen:
            progress("memory")
            memory(bench)


if __name__ == "__main__":
    sys.exit(main())
