"""What needs real sockets: floods, forged sources, and peers that vanish or never finish.

Over 400 lines: all of it attacks one daemon, which takes longer to start than most attacks.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from coap_socket import CoapSocket, Udp, option, request
from daemon import Daemon, wait_for
from device_kinds import CoapKind
from honest import gauge, memory
from hostile import Bystander, attacked, check_log

from rpcbroker.transports.coap.fairness import PATIENCE
from rpcbroker.wire.coap.blockwise import Block
from rpcbroker.wire.coap.message import Message, decode, encode
from rpcbroker.wire.coap.numbers import Code, OptionNumber, Type, uint

SETTINGS = {
    "RPCBROKER_COAP_ACK_TIMEOUT": "300ms",
    "RPCBROKER_COAP_MAX_RETRANSMIT": "2",
    "RPCBROKER_COAP_MAX_PEERS": "1000",
    "RPCBROKER_COAP_MAX_OBSERVATIONS_PER_PEER": "20",
    "RPCBROKER_COAP_MAX_UNFINISHED": "1MiB",
    "RPCBROKER_RPC_MIN_TIMEOUT": "100ms",
}
GROWTH = 24 << 20
"""Bytes that the daemon may grow by, whatever is done to it."""
NAMES = itertools.count(1)
ADDRESSES = IPv4Network("127.64.0.0/10").hosts()
BEYOND_THE_LIMIT = 66
"""Blocks of 1,024 bytes: more than `coap.max_body_size`."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with attacked(tmp_path_factory.mktemp("hostile"), **SETTINGS) as daemon:
        yield daemon


@pytest.fixture
def token(daemon: Daemon) -> str:
    """The access token, and the name, of a fresh device."""
    token = f"device-{next(NAMES)}"
    daemon.add_device(token, token)
    return token


@pytest.fixture
def peer(daemon: Daemon) -> Iterator[CoapSocket]:
    with CoapSocket(Udp(daemon.endpoints["coap"])) as peer:
        yield peer


class Raw:
    """A socket that says what it is told to and nothing by itself.

    It has an address of the loopback interface that none had before: message ids are remembered for minutes.
    """

    def __init__(self, daemon: Daemon) -> None:
        to = urlsplit(daemon.endpoints["coap"])
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((str(next(ADDRESSES)), 0))
        self.socket.connect((to.hostname, to.port))
        self.socket.settimeout(10)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, message: Message | bytes) -> None:
        self.socket.send(message if isinstance(message, bytes) else encode(message))

    def next(self) -> Message:
        return decode(self.socket.recv(65536))

    def ask(self, message: Message) -> Message:
        self.send(message)
        return self.next()

    def hears_nothing(self, seconds: float = 0.3) -> bool:
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(65536)
        except TimeoutError:
            return True
        else:
            return False
        finally:
            self.socket.settimeout(10)


def observing(daemon: Daemon, token: str) -> Raw:
    """A device that waits for calls and acknowledges nothing by itself."""
    raw = Raw(daemon)
    answer = raw.ask(request(Code.GET, f"api/v1/{token}/rpc", token=b"obs", message_id=1, observe=0))
    assert answer.code == Code.VALID
    return raw


def device_id(daemon: Daemon, token: str) -> str:
    status, found = daemon.ask("GET", f"/api/tenant/device?deviceName={token}")
    assert status == 200
    found_id: str = found["id"]["id"]
    return found_id


class Calling:
    """A two-way call that is made in a thread."""

    def __init__(self, daemon: Daemon, token: str, **body: Any) -> None:
        path = f"/api/rpc/twoway/{device_id(daemon, token)}"
        self.answers: list[Any] = []
        self._thread = threading.Thread(
            target=lambda: self.answers.append(daemon.ask("POST", path, {"method": "m", "timeout": 10_000} | body))
        )
        self._thread.start()

    def answer(self) -> tuple[int, Any]:
        self._thread.join(30)
        (answer,) = self.answers
        found: tuple[int, Any] = answer
        return found


# -- what is no message


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_less_than_a_header_is_ignored(daemon: Daemon, length: int) -> None:
    with Raw(daemon) as raw:
        raw.send(b"\x40\x01\x00"[:length])
        assert raw.hears_nothing(0.1)
        assert raw.ask(Message(Type.CON, Code.EMPTY, 7)) == Message(Type.RST, Code.EMPTY, 7)


def test_the_largest_datagram_of_anything_is_no_trouble(daemon: Daemon, token: str) -> None:
    with Raw(daemon) as raw, Bystander(daemon.http):
        for body in (bytes(60_000), b"\x40" * 60_000, b"\x00" * 60_000):
            raw.send(b"\x40\x02\x00\x07" + body)
            raw.send(encode(request(Code.POST, f"api/v1/{token}/telemetry", message_id=8)) + b"\xff" + body)
        raw.send(Message(Type.CON, Code.EMPTY, 9))
        seen = [raw.next().message_id]
        while seen[-1] != 9:
            seen.append(raw.next().message_id)


# -- floods


def test_a_flood_of_addresses_and_message_ids_is_served_and_leaves_nothing(daemon: Daemon, token: str) -> None:
    before = memory(daemon)
    post = request(Code.POST, f"api/v1/{token}/telemetry", b'{"flood":1}')
    answered = 0
    with Bystander(daemon.http):
        for _ in range(4_000):
            with Raw(daemon) as raw:
                for message_id in range(10):
                    post.message_id = message_id
                    raw.send(post)
                for _ in range(10):
                    answered += raw.next().code == Code.CREATED
    assert answered == 40_000
    assert memory(daemon) - before < GROWTH


FLOOD = """
import itertools, socket, sys
flood = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
flood.bind((sys.argv[1], 0))
flood.connect((sys.argv[2], int(sys.argv[3])))
head, tail = map(bytes.fromhex, sys.argv[4:])
posts = [head + number.to_bytes(2, "big") + tail for number in range(1 << 16)]
for post in itertools.cycle(posts):
    flood.send(post)
"""
"""As fast as a process can."""


@contextlib.contextmanager
def flooded(daemon: Daemon, post: Message) -> Iterator[None]:
    """Somebody posts this under one message id after the other, and reads no answer."""
    datagram, to = encode(post), urlsplit(daemon.endpoints["coap"])
    arguments = [str(next(ADDRESSES)), str(to.hostname), str(to.port), datagram[:2].hex(), datagram[4:].hex()]
    flood = subprocess.Popen([sys.executable, "-c", FLOOD, *arguments])
    try:
        yield
        assert flood.poll() is None, "it still floods"
    finally:
        flood.kill()
        flood.wait()


def skipped(daemon: Daemon) -> float:
    return gauge(daemon, 'rpcbroker_coap_datagrams_total{direction="skipped"}')


def test_one_that_floods_without_reading_starves_nobody(daemon: Daemon, token: str, peer: CoapSocket) -> None:
    before = memory(daemon)
    with Bystander(daemon.http), flooded(daemon, request(Code.POST, f"api/v1/{token}/telemetry", b'{"flood":1}')):
        wait_for(lambda: skipped(daemon), "the flood's being noticed")
        for number in range(20):
            post = json.dumps({"honest": number}).encode()
            assert peer.ask(Code.POST, f"api/v1/{token}/telemetry", post).code == Code.CREATED
    assert memory(daemon) - before < GROWTH
    time.sleep(2 * PATIENCE)  # what of the flood still lay there is read first
    seen = skipped(daemon)
    with Raw(daemon) as raw:  # when the flood is over, nobody is left out
        for number in range(1_000):
            raw.send(request(Code.POST, f"api/v1/{token}/telemetry", b'{"after":1}', message_id=number))
            if number % 100 == 99:
                assert [raw.next().code for _ in range(100)] == [Code.CREATED] * 100
    assert skipped(daemon) == seen


def test_the_same_datagram_a_thousand_times_is_one_request(daemon: Daemon, token: str) -> None:
    question = request(Code.POST, f"api/v1/{token}/rpc", b'{"method":"getCurrentTime","params":{}}', message_id=77)
    with Raw(daemon) as raw:
        raw.send(question)
        first = raw.socket.recv(65536)
        assert decode(first).code == Code.CONTENT
        time.sleep(0.01)  # the time goes on, and would be another in another answer
        for _ in range(1_000):
            raw.send(question)
            assert raw.socket.recv(65536) == first


def test_ten_thousand_registrations_from_one_address_are_one_observer_of_each_device(
    daemon: Daemon, token: str
) -> None:
    before = memory(daemon)
    with Raw(daemon) as raw, Bystander(daemon.http):
        register = request(Code.GET, f"api/v1/{token}/rpc", observe=0)
        for number in range(10_000):
            register.message_id, register.token = number, number.to_bytes(4, "big")
            raw.send(register)
            while (answer := raw.next()).token != register.token:  # the last word to the one before
                if answer.type == Type.CON:
                    raw.send(Message(Type.ACK, Code.EMPTY, answer.message_id))
            assert answer.code == Code.VALID
        calling = Calling(daemon, token)
        heard = raw.next()
        while heard.code != Code.CONTENT:
            heard = raw.next()
        assert heard.token == register.token
        raw.send(Message(Type.ACK, Code.EMPTY, heard.message_id))
        assert raw.hears_nothing()
        number = json.loads(heard.payload)["id"]
        raw.send(request(Code.POST, f"api/v1/{token}/rpc/{number}", b"1", message_id=20_000))
        assert calling.answer() == (200, 1)
    assert memory(daemon) - before < GROWTH


def test_one_address_has_so_many_observations_and_no_more(daemon: Daemon) -> None:
    tokens = [f"device-{next(NAMES)}" for _ in range(25)]
    for token in tokens:
        daemon.add_device(token, token)
    with Raw(daemon) as raw:
        observed = 0
        for number, token in enumerate(tokens):
            answer = raw.ask(
                request(Code.GET, f"api/v1/{token}/attributes", message_id=number, token=bytes((number,)), observe=0)
            )
            assert answer.code == Code.CONTENT  # a plain answer, if no more: RFC 7641 4.1
            observed += option(answer, OptionNumber.OBSERVE) is not None
        assert observed == 20


# -- blocks


def block1(device: str, number: int, more: bool, payload: bytes, **what: Any) -> Message:
    """One block of 1,024 bytes of telemetry, all of one body, if `what` does not say otherwise."""
    block = (int(OptionNumber.BLOCK1), Block(number, more, 6).encode())
    what = {"message_id": number, "token": b"t"} | what
    return request(Code.POST, f"api/v1/{device}/telemetry", payload, more=(block,), **what)


def test_bodies_that_are_never_finished_take_no_more_than_their_share(daemon: Daemon, token: str) -> None:
    before = memory(daemon)
    with Bystander(daemon.http), contextlib.ExitStack() as stack:
        for number in range(600):
            raw = stack.enter_context(Raw(daemon))
            for block in range(10):
                answer = raw.ask(block1(token, block, True, b" " * 1024))
                if answer.code != Code.CONTINUE:
                    assert answer.code in (Code.REQUEST_ENTITY_INCOMPLETE, Code.SERVICE_UNAVAILABLE), number
                    break
        honest = stack.enter_context(Raw(daemon))
        body = b'{"text":"' + b"x" * 3_000 + b'"}'
        for block in range(3):
            part = body[block << 10 : (block + 1) << 10]
            answer = honest.ask(block1(token, block, block < 2, part))
            assert answer.code == (Code.CONTINUE if block < 2 else Code.CREATED)
    assert memory(daemon) - before < GROWTH


def test_a_body_without_an_end_is_refused_at_the_limit(daemon: Daemon, token: str) -> None:
    with Raw(daemon) as raw:
        codes = []
        for block in range(BEYOND_THE_LIMIT):
            answer = raw.ask(block1(token, block, True, b" " * 1024))
            codes.append(answer.code)
            if answer.code != Code.CONTINUE:
                break
        assert codes == [Code.CONTINUE] * (len(codes) - 1) + [Code.REQUEST_ENTITY_TOO_LARGE]
        assert 60 < len(codes) <= 65
        assert option(answer, OptionNumber.SIZE1) == uint(64 << 10)
        announced = block1(token, 0, True, b" " * 1024, message_id=100, token=b"u")
        announced.options = (*announced.options, (int(OptionNumber.SIZE1), uint(1 << 32 - 1)))
        assert raw.ask(announced).code == Code.REQUEST_ENTITY_TOO_LARGE


def test_bodies_of_two_addresses_never_mix(daemon: Daemon, token: str) -> None:
    """All is the same but the address: path, token, message ids."""
    with Raw(daemon) as one, Raw(daemon) as other:
        bodies = [json.dumps({key: key * 1_500}).encode() for key in "ab"]
        for block in range(2):
            for raw, body in zip((one, other), bodies, strict=True):
                part = body[block << 10 : (block + 1) << 10]
                answer = raw.ask(block1(token, block, block == 0, part))
                assert answer.code == (Code.CONTINUE if block == 0 else Code.CREATED)
    path = f"/api/plugins/telemetry/DEVICE/{device_id(daemon, token)}/values/timeseries?keys=a,b"

    def posted() -> dict[str, Any] | None:
        values = daemon.ask("GET", path)[1]
        found = {key: points[0]["value"] for key, points in values.items()}
        return found if all(found.values()) else None

    assert wait_for(posted, "what was posted") == {"a": "a" * 1_500, "b": "b" * 1_500}


# -- forged sources


@pytest.mark.parametrize("kind", [Type.ACK, Type.RST])
def test_a_stolen_message_id_is_worth_nothing_elsewhere(daemon: Daemon, token: str, kind: Type) -> None:
    with observing(daemon, token) as device, Raw(daemon) as thief:
        calling = Calling(daemon, token)
        notified = device.next()
        assert notified.type == Type.CON
        thief.send(Message(kind, Code.EMPTY, notified.message_id))
        again = device.next()  # for nobody else has acknowledged it
        assert again == notified
        device.send(Message(Type.ACK, Code.EMPTY, notified.message_id))
        number = json.loads(notified.payload)["id"]
        device.send(request(Code.POST, f"api/v1/{token}/rpc/{number}", b"true", message_id=2))
        assert calling.answer() == (200, True)


def test_a_stolen_token_of_an_observation_ends_it_not(daemon: Daemon, token: str) -> None:
    """Who has no access token can do nothing, and an observation is ended only from where it is."""
    with observing(daemon, token) as device, Raw(daemon) as thief:
        thief.send(request(Code.GET, f"api/v1/{token}/rpc", token=b"obs", message_id=1, observe=1))
        thief.next()
        answer = thief.ask(request(Code.GET, "api/v1/WRONG/rpc", token=b"obs", message_id=2, observe=0))
        assert answer.code == Code.UNAUTHORIZED
        assert option(answer, OptionNumber.OBSERVE) is None
        calling = Calling(daemon, token)
        notified = device.next()
        device.send(Message(Type.ACK, Code.EMPTY, notified.message_id))
        number = json.loads(notified.payload)["id"]
        device.send(request(Code.POST, f"api/v1/{token}/rpc/{number}", b"true", message_id=2))
        assert calling.answer() == (200, True)


@pytest.mark.parametrize("path", [".well-known/core", "api/v1/WRONG/rpc", "api/v1", "a", "api/v1/provision"])
@pytest.mark.parametrize("code", [Code.GET, Code.POST, Code.PUT])
def test_nobody_gets_more_than_three_times_what_he_sent(daemon: Daemon, code: Code, path: str) -> None:
    """An address that was never heard of may be somebody else's, at whom the answer is aimed."""
    with Raw(daemon) as raw:
        sent = encode(request(code, path, message_id=1, token=b"tk"))
        raw.send(sent)
        assert len(raw.socket.recv(65536)) <= 3 * len(sent)
        assert raw.hears_nothing(0.1)


def test_a_reply_to_the_call_of_another_device_answers_nothing(daemon: Daemon, token: str) -> None:
    other = f"device-{next(NAMES)}"
    daemon.add_device(other, other)
    device, thief = CoapKind(daemon, f"device-{next(NAMES)}"), CoapSocket(Udp(daemon.endpoints["coap"]))
    device.connect()
    calling = Calling(daemon, device.name)
    number = device.called().number
    for path in (f"api/v1/{other}/rpc/{number}", f"api/v1/{token}/rpc/{number}"):
        assert thief.ask(Code.POST, path, b'"forged"').code == Code.CREATED  # as any late reply
    assert thief.ask(Code.POST, f"api/v1/WRONG/rpc/{number}", b'"forged"').code == Code.UNAUTHORIZED
    assert not calling.answers
    device.reply(number, "mine")
    assert calling.answer() == (200, "mine")
    device.close()
    thief.close()


# -- observers


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (".well-known/core", Code.CONTENT),
        ("api/v1/{}/telemetry", None),
        ("api/v1/{}/nothing", None),
        ("api/v1/{}/claim", None),
        ("api/v1/nobody/rpc", Code.UNAUTHORIZED),
        ("nothing", Code.NOT_FOUND),
    ],
)
def test_what_cannot_be_observed_is_not(peer: CoapSocket, token: str, path: str, code: Code | None) -> None:
    answer = peer.ask(Code.GET, path.format(token), observe=0)
    assert option(answer, OptionNumber.OBSERVE) is None
    assert answer.code == code if code else answer.code >> 5 == 4
    assert token.encode() not in answer.payload


@pytest.mark.parametrize("way", ["silent", "gone", "reset"])
def test_an_observer_that_vanished_is_found_out_by_the_next_call(daemon: Daemon, token: str, way: str) -> None:
    with observing(daemon, token) as device:
        daemon.wait_callable(device_id(daemon, token))
        if way == "gone":
            device.socket.close()  # from now on its port is unreachable: ICMP says so
        calling = Calling(daemon, token, timeout=3_000)
        if way == "reset":
            device.send(Message(Type.RST, Code.EMPTY, device.next().message_id))
        path = f"/api/device/{device_id(daemon, token)}/presence"
        wait_for(lambda: not daemon.ask("GET", path)[1]["callable"]["value"], "the end of the observation", 5)
        if way == "silent":
            assert len([device.next() for _ in range(3)]) == 3  # once, and max_retransmit times again
            assert device.hears_nothing(1.0)
        status, error = calling.answer()
        assert status == 504
        assert error["reason"] in ("NO_ACK", "DISCONNECTED")


# -- what is written down


def test_no_token_is_ever_in_the_log(tmp_path: Path) -> None:
    good, bad = "Geheim-0123456789", "Falsch-0123456789"
    daemon = Daemon(tmp_path, RPCBROKER_LOG_LEVEL="debug", **SETTINGS).login()
    status, made = daemon.ask("POST", "/api/device", {"name": "quiet"})
    assert status == 200
    credentials = daemon.ask("GET", f"/api/device/{made['id']['id']}/credentials")[1]
    assert daemon.ask("POST", "/api/device/credentials", credentials | {"credentialsId": good})[0] == 200
    with CoapSocket(Udp(daemon.endpoints["coap"])) as peer:
        for token, path in itertools.product(
            (good, bad), ("rpc", "telemetry", "rpc/x", "nothing", "attributes?a=b", "")
        ):
            for code, body in ((Code.POST, b'{"a":1}'), (Code.POST, b"{"), (Code.GET, b""), (Code.PUT, b"")):
                peer.ask(code, f"api/v1/{token}/{path}", body, observe=0 if code == Code.GET else None)
            for method, content in (("POST", {"a": 1}), ("POST", None), ("PUT", None), ("DELETE", None)):
                daemon.ask(method, f"/api/v1/{token}/{path}", content)
            daemon.ask("GET", f"/api/v1/{token}/{path}{'&' if '?' in path else '?'}timeout=50")
    connection = socket.create_connection(("127.0.0.1", int(daemon.http.rpartition(":")[2])), 10)
    with connection:
        events = f"GET /api/v1/{good}/rpc HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
        connection.sendall(events.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        with Raw(daemon) as raw:
            raw.send(b"\x40\x02\x00\x07" + b"\xbd\x04" + good.encode())
            raw.send(encode(request(Code.POST, f"api/v1/{good}/rpc/1", b"[" * 1000)))
            raw.next()
    daemon.stop()
    check_log(daemon)
    log = daemon.log.read_text()
    assert good not in log
    assert bad not in log
