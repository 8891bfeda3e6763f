"""Measures two-way calls of the broker and of Crossbar, one after another in every round; prints medians and ratios.

    python bench/rpc.py [--seconds 5] [--rounds 3] [--only rpc,at-300] [--peers bridge,rawsocket,websocket,bare]

Ours are calls over HTTP with a user's token, to devices over MQTT at QoS 0, each with its own access token. Crossbar's
are WAMP calls, in JSON, to callees with a procedure each: `bridge` from its HTTP bridge to callees over RawSocket,
`rawsocket` and `websocket` over these on both sides. Nobody is authenticated there, its one role may do everything,
and its log is off. Request and answer have the same text in all of them; the connections stay. `bare` is no broker, but
bench/bare_loop.py: what of a call is the kernel's and the interpreter's, whatever stands behind.

* rpc: 64 callers, each with its next call when it has its answer, and 200 devices.
* at-300: 300 calls a second, however long they take; the latency counts from when a call should have begun.
* tls: as rpc, over HTTPS and MQTT over TLS, against ours without. Handshakes are not counted.
* growth, growth-300: as rpc and at-300, with 10,000 devices, of which the same 200 are called, against 200 in all,
  and these again, whose figures would be the same on a machine that is always as fast. The three brokers are there at
  once and are called in turn, a tenth of a second each, so that a slow phase of the machine is one of all three.

Each measurement has a fresh process of the broker, on loopback, and one of bench/rpc_load.c, whose share of a core is
printed: a result with more than 0.8 is not valid, for the load may have been the limit. What each device is called
with and each answer is compared to the byte; the first that is wrong ends the benchmark, and so does a lost connection.
Of Crossbar the CPU time is that of its worker, without its controller.
Needs a C compiler, OpenSSL, its program and its headers, and in CROSSBAR_PYTHON the Python of an environment with
crossbar: `make bench` sees to it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aims import Aim
from broker import Broker
from crossbar import Crossbar
from peers import BARE, BareLoop
from rounds import OURS, Bench, Load, Result, Round, main

DEVICES, CALLERS, RATE = 200, 64, 300
MANY = 10_000
PEERS = "bridge", "rawsocket", "websocket"
PLAIN, FEW = f"{OURS}, plain", f"{OURS}, {DEVICES} devices"
AGAIN = f"{FEW} again"


def calls(*, rate: float = 0, tls: bool = False) -> Callable[[Bench, str], Result]:
    """So many calls a second, or with 0 as many as there can be. Ours of another name is measured without TLS."""

    def run(bench: Bench, name: str) -> Result:
        plain, told = name != OURS or not tls, ""
        if name in PEERS:
            server: Any = Crossbar(bench.directory)
            way, callers = name, server.rawsocket if name == "rawsocket" else server.http
            devices = server.http if name == "websocket" else server.rawsocket
        elif name == "bare":
            ids = bench.ids[:DEVICES]
            server = BareLoop(bench.directory, ids)
            way, callers, devices, told = "mqtt", server.http, server.mqtt, "\n".join(("no-token", *ids))
        else:
            server = Broker(bench.directory, **({} if plain else secured(bench.directory)))
            told = bench.callers(server, DEVICES)
            way, callers, devices = (
                ("mqtt", server.http, server.mqtt) if plain else ("mqtts", server.https, server.mqtts)
            )
        counts = CALLERS, DEVICES, 0, rate, bench.warm_up, bench.seconds
        result = bench.run(server, way, callers[1], devices[1], *counts, told=told)
        server.stop()
        return result

    return run


def calls_in_turn(*, rate: float = 0) -> Callable[[Bench, Sequence[str]], list[Result]]:
    """The same of brokers that are there at once, ours with many devices, the others with those that are called."""

    def run(bench: Bench, names: Sequence[str]) -> list[Result]:
        loads = []
        for number, name in enumerate(names):
            server = Broker(bench.copy_of_state(f"broker-{number}"))
            idle = MANY - DEVICES if name == OURS else 0
            counts = CALLERS, DEVICES, idle, rate, bench.warm_up, bench.seconds
            told = bench.callers(server, DEVICES)
            loads.append(Load(server, server.http[1], (server.mqtt[1], *counts), told))
        results = bench.run_in_turn("mqtt", loads)
        for load in loads:
            load.server.stop()
        return results

    return run


def secured(directory: Path) -> dict[str, str]:
    """Settings by which the broker listens with TLS too, and a certificate of this benchmark. Raises SystemExit."""
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    if not certificate.exists():
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days 1"
        try:
            subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(f"no certificate can be made: {error}") from None
    plain, tls = "tcp:0:interface=127.0.0.1", f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
    return {f"RPCBROKER_{spoken}_LISTEN": f"{plain} {tls}" for spoken in ("HTTP", "MQTT")}


_P99 = Aim(1.5, figure="p99_ms", most=True)
ROUNDS = {
    "rpc": Round(
        f"two-way calls, {CALLERS} callers, {DEVICES} devices",
        calls(),
        (Aim(7, 5, of="bridge"), Aim(3.5, 2.5, of="rawsocket"), Aim(5.5, 4, of="websocket")),
        (OURS, *PEERS, "bare"),
    ),
    "at-300": Round(
        f"{RATE} two-way calls a second, {DEVICES} devices",
        calls(rate=RATE),
        (Aim(0.35, figure="p50_ms", of="bridge", most=True), _P99),
        (OURS, "bridge", "bare"),
    ),
    "tls": Round(
        f"two-way calls over TLS on both sides, {CALLERS} callers, {DEVICES} devices",
        calls(tls=True),
        (Aim(0.6, of=PLAIN),),
        (OURS, PLAIN),
    ),
    "growth": Round(
        f"two-way calls, {CALLERS} callers, {DEVICES} of {MANY:,} devices",
        calls_in_turn(),
        (Aim(0.95, of=FEW),),
        (OURS, FEW, AGAIN),
        in_turn=True,
    ),
    "growth-300": Round(
        f"{RATE} two-way calls a second, {DEVICES} of {MANY:,} devices",
        calls_in_turn(rate=RATE),
        names=(OURS, FEW, AGAIN),
        in_turn=True,
    ),
}


if __name__ == "__main__":
    beside = dict.fromkeys(PEERS, "crossbar") | {"bare": BARE}
    main(__doc__, ROUNDS, "rpc_load.c", "-lssl", "-lcrypto", devices=MANY, beside=beside)
