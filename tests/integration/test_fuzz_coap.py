"""Datagrams that are almost CoAP, against the real daemon: they disturb nobody, and leave nothing behind.

FUZZ_SEED does a run again: what address N of a seed says depends on what it hears, and on nothing else.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from coap_socket import CoapSocket, Udp
from daemon import Daemon, wait_for
from device_kinds import CoapKind
from honest import Honest, gauge, memory
from hostile import check_log
from mutating_coap import datagram

from rpcbroker.wire.coap.numbers import Code

SECONDS, LONG = 20, 600
ATTACKERS = 3
BURST = 30
"""Datagrams that are sent before it is looked what came back."""
PING, PONG = b"\x40\x00\xff\xff", b"\x70\x00\xff\xff"
LOST = 1.0
"""Seconds after which a pong is not waited for any more."""
GROWTH = 48 << 20
"""Bytes that the daemon may grow by: what is kept of addresses, bodies, answers and observations is bounded."""
SETTINGS = {
    "RPCBROKER_COAP_ACK_TIMEOUT": "200ms",
    "RPCBROKER_COAP_MAX_RETRANSMIT": "2",
    "RPCBROKER_COAP_MAX_PEERS": "2000",
    "RPCBROKER_COAP_MAX_UNFINISHED": "4MiB",
}
TOKENS = [f"hostile-{n}" for n in range(4)]


class Attacker:
    """Address after address until it is told to stop; `number` is the next of all attackers' addresses."""

    def __init__(self, url: str, seed: int, numbers: Iterator[int], done: threading.Event) -> None:
        to = urlsplit(url)
        self._address = (to.hostname, to.port)
        self._seed = seed
        self._numbers = numbers
        self._done = done
        self.sent = 0
        self.answered = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._done.is_set():
            chance = random.Random(f"{self._seed} {next(self._numbers)}")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.settimeout(LOST)
                heard: list[int] = []
                for _ in range(chance.choice((1, 3, 10))):
                    self._attack(chance, peer, heard)

    def _attack(self, chance: random.Random, peer: socket.socket, heard: list[int]) -> None:
        """A burst, and then a ping: what is not read yet fills no more than a part of the daemon's buffer."""
        for _ in range(chance.randint(1, BURST)):
            peer.sendto(datagram(chance, TOKENS, heard[-20:]), self._address)
            self.sent += 1
        peer.sendto(PING, self._address)
        with contextlib.suppress(TimeoutError):
            while (said := peer.recv(65536)) != PONG:
                assert said[0] >> 6 == 1
                self.answered += said[1] != 0
                heard.append(int.from_bytes(said[2:4], "big"))

    def join(self) -> None:
        self._thread.join(30)


class Answering:
    """A device over CoAP that answers each call."""

    def __init__(self, device: CoapKind) -> None:
        self._device = device
        device.connect()
        device.start(self._answer)

    def _answer(self) -> None:
        while (call := self._device.calls.get()) is not None:
            self._device.reply(call.number, {"got": call.params})

    def stop(self) -> None:
        self._device.calls.put(None)  # type: ignore[arg-type]
        self._device.close()


def attack(directory: Path, seconds: float, seed: int) -> None:
    print(f"FUZZ_SEED={seed}")
    daemon = Daemon(directory, **SETTINGS).login()
    over, done = threading.Event(), threading.Event()
    for token in (*TOKENS, "POSTING"):
        daemon.add_device(token, token)
    device = CoapKind(daemon, "HONEST")
    answering = Answering(device)
    try:
        url = daemon.endpoints["coap"]
        with CoapSocket(Udp(url)) as meter:

            def post(number: int) -> bool:
                return meter.ask(Code.POST, "api/v1/POSTING/telemetry", b'{"n":%d}' % number).code == Code.CREATED

            honest = Honest(daemon, device.device_id, post, over)
            numbers = itertools.count()
            attackers = [Attacker(url, seed, numbers, done) for _ in range(ATTACKERS)]
            done.wait(seconds / 4)
            before = memory(daemon)  # what is bounded has grown to its bounds by then
            done.wait(seconds * 3 / 4)
            done.set()
            for each in attackers:
                each.join()
            over.set()
            honest.join()
        sent, answered = sum(each.sent for each in attackers), sum(each.answered for each in attackers)
        told = f"seed {seed}, {next(numbers)} addresses, {sent} datagrams, {answered} answers"
        print(honest.check(told))
        wait_for(lambda: gauge(daemon, "rpcbroker_calls_pending") == 0, f"{told}: the end of the calls")
        growth = memory(daemon) - before
        print(f"+{growth} bytes")
        assert growth < GROWTH, told
        assert answered > sent / 5, f"{told}: it is no fuzzing of what is behind the codec if little gets there"
    finally:
        over.set()
        done.set()
        answering.stop()
        daemon.stop()
    check_log(daemon)


def seed_or(default: int) -> int:
    return int(os.environ.get("FUZZ_SEED", default))


def test_mutated_datagrams_disturb_nobody_and_leave_nothing(tmp_path: Path) -> None:
    attack(tmp_path, SECONDS, seed_or(7))


@pytest.mark.soak
def test_ten_minutes_of_mutated_datagrams_disturb_nobody_and_leave_nothing(tmp_path: Path) -> None:
    attack(tmp_path, LONG, seed_or(random.randrange(10**9)))
