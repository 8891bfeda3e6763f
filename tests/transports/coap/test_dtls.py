"""DTLS sessions against OpenSSL's client in memory: what comes lost, twice, in another order, forged or not at all.

Over 400 lines: the client side of DTLS, and what the network does to both sides, are told together.
"""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import certificates as c
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from dtls_client import HEADER, DtlsClient, context, records
from OpenSSL import SSL
from twisted.internet.task import Clock

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.setting import Duration, parse_rate
from rpcbroker.core.settings import CoapSettings
from rpcbroker.host.tls import Certificate, TlsFiles
from rpcbroker.transports.coap import dtls
from rpcbroker.transports.coap.counters import DtlsCounters
from rpcbroker.transports.coap.dtls import DtlsPort
from rpcbroker.transports.coap.peers import CoapPeer

HERE = ("192.0.2.1", 40_001)
THERE = ("192.0.2.2", 40_002)
DTLS_1_0 = 0xFEFF


@dataclass
class Server:
    """Writes down what it is told."""

    settings: CoapSettings = field(default_factory=CoapSettings)
    received_: list[tuple[CoapPeer, bytes]] = field(default_factory=list)
    lost_: list[tuple[CoapPeer, str]] = field(default_factory=list)

    def received(self, datagram: bytes, peer: CoapPeer) -> None:
        self.received_.append((peer, datagram))

    def lost(self, peer: CoapPeer, why: str) -> None:
        peer.send(b"too late")
        self.lost_.append((peer, why))


class World:
    """A port, and the way to it and back."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = Clock()
        self.clock.advance(1_000_000.0)
        self.server = Server()
        self.counters = DtlsCounters()
        files = c.make(directory, serial=1)
        self.certificate = Certificate(
            "[coap] dtls:5684", TlsFiles(private_key=files.key, certificate=files.certificate)
        )
        self.sent: defaultdict[Any, list[bytes]] = defaultdict(list)
        self.port = DtlsPort(
            self.server,
            lambda: self.certificate.identity,
            deadlines=Deadlines(self.clock),
            seconds=self.clock.seconds,
            secret=b"secret",
            counters=self.counters,
        )
        self.port.send_to = lambda address, datagram: self.sent[address].append(datagram)

    def give(self, *datagrams: bytes, address: Any = HERE) -> list[bytes]:
        """They come from there; what is sent back."""
        for datagram in datagrams:
            self.port.received(datagram, address)
        return self.sent.pop(address, [])

    def talk(self, client: DtlsClient, datagrams: list[bytes], address: Any = HERE) -> None:
        """Until neither side has anything to say."""
        while datagrams:
            datagrams = client.take(*self.give(*datagrams, address=address))

    def join(self, address: Any = HERE, client: DtlsClient | None = None) -> DtlsClient:
        """A session, established."""
        client = client or DtlsClient()
        self.talk(client, client.hello(), address)
        assert client.established, client.failed
        return client

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload in self.server.received_]

    @property
    def reasons(self) -> list[str]:
        return [why for _, why in self.server.lost_]

    def say(self, client: DtlsClient, payload: bytes, address: Any = HERE) -> CoapPeer:
        """The peer from which it has come."""
        self.give(client.seal(payload), address=address)
        peer, came = self.server.received_[-1]
        assert came == payload
        return peer

    def set(self, **more: Any) -> None:
        self.server.settings = replace(self.server.settings, **more)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# -- sessions


def test_both_sides_hear_each_other(world: World) -> None:
    client = world.join()
    peer = world.say(client, b"one")
    assert (peer.proven, peer.host, peer.address, peer.certificate) == (True, "192.0.2.1", HERE, None)
    peer.send(b"two")
    client.take(*world.sent.pop(HERE))
    assert client.received == [b"two"]
    assert world.say(client, b"three") is peer
    assert (len(world.port), world.counters) == (1, DtlsCounters(handshakes=1))


def test_a_message_is_one_datagram_and_one_record(world: World) -> None:
    peer = world.say(world.join(), b"x")
    peer.send(b"y" * 1_100)
    (datagram,) = world.sent.pop(HERE)
    assert records(datagram) == [datagram]
    assert len(datagram) <= world.server.settings.dtls_mtu


def test_the_certificate_that_was_shown_is_the_peers(world: World, tmp_path: Path) -> None:
    (tmp_path / "device").mkdir()
    mine = c.make(tmp_path / "device", serial=2)
    peer = world.say(world.join(client=DtlsClient(context(mine))), b"x")
    shown = x509.load_pem_x509_certificate(mine.certificate.read_bytes())
    assert peer.certificate == shown.public_bytes(Encoding.DER)


def test_an_expired_certificate_is_for_the_login_to_refuse(world: World, tmp_path: Path) -> None:
    (tmp_path / "device").mkdir()
    mine = c.make(tmp_path / "device", serial=2, days=-1)
    assert world.say(world.join(client=DtlsClient(context(mine))), b"x").certificate is not None


def test_a_certificate_without_its_key_is_refused(world: World, tmp_path: Path) -> None:
    """Who shows somebody's certificate signs with another key: OpenSSL's client would not, so its record is changed."""
    (tmp_path / "device").mkdir()
    client = DtlsClient(context(c.make(tmp_path / "device", serial=2)))
    flight = client.take(*world.give(*client.take(*world.give(*client.hello()))))
    pieces = [bytearray(record) for record in records(b"".join(flight))]
    (verify,) = [piece for piece in pieces if piece[0] == 22 and piece[HEADER] == 15]
    verify[-1] ^= 1
    world.talk(client, [b"".join(pieces)])
    assert not client.established
    assert (len(world.port), world.counters.failed_handshakes) == (0, 1)


def test_the_cipher_that_constrained_devices_have(world: World) -> None:
    """RFC 7252 9.1.3.2: TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8"""
    client = world.join(client=DtlsClient(ciphers=b"ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"))
    assert client.connection.get_cipher_name() == "ECDHE-ECDSA-AES128-CCM8"
    world.say(client, b"x")


def test_what_is_not_dtls_1_2_is_refused(world: World) -> None:
    made = context(highest=DTLS_1_0)
    client = DtlsClient(made, ciphers=b"ALL:@SECLEVEL=0")
    world.talk(client, client.hello())
    assert client.failed
    assert (len(world.port), world.counters.failed_handshakes) == (0, 1)


def test_a_cipher_without_forward_secrecy_is_refused(world: World) -> None:
    client = DtlsClient(ciphers=b"AES128-SHA:@SECLEVEL=0")
    world.talk(client, client.hello())
    assert client.failed
    assert len(world.port) == 0


def test_renegotiation_is_refused(world: World) -> None:
    client = world.join()
    client.connection.renegotiate()
    with pytest.raises(SSL.WantReadError):
        client.connection.do_handshake()
    said = world.give(client.connection.bio_read(1 << 16))
    assert [record[0] for datagram in said for record in records(datagram)] == [21], "an alert"
    client.take(*said)
    assert "no renegotiation" in client.failed
    assert not world.reasons
    assert len(world.port) == 1


# -- before it costs memory


def test_without_a_cookie_nothing_is_kept_and_little_is_sent(world: World) -> None:
    hellos = [DtlsClient().hello()[0] for _ in range(20)]
    for number in range(2_000):
        hello = hellos[number % 20]
        (answer,) = world.give(hello, address=("192.0.2.9", number + 1))
        assert len(answer) < len(hello)
    assert not world.port._handshakes
    assert not world.port._sessions


def test_a_cookie_is_good_for_one_address_only(world: World) -> None:
    client = DtlsClient()
    (second,) = client.take(*world.give(*client.hello()))
    (answer,) = world.give(second, address=THERE)
    assert answer[HEADER] == 3, "HelloVerifyRequest once more"
    assert not world.port._handshakes
    world.talk(client, [second])
    assert client.established


def test_a_cookie_is_good_for_a_minute_and_not_for_three(world: World) -> None:
    slow, late = DtlsClient(), DtlsClient()
    (in_time,) = slow.take(*world.give(*slow.hello()))
    (too_late,) = late.take(*world.give(*late.hello()))
    world.clock.advance(60)
    world.talk(slow, [in_time])
    assert slow.established
    world.clock.advance(120)
    (answer,) = world.give(too_late)
    assert answer[HEADER] == 3


def test_handshakes_that_stand_still_end(world: World) -> None:
    client = DtlsClient()
    world.give(*client.take(*world.give(*client.hello())))
    assert len(world.port._handshakes) == 1
    world.clock.advance(dtls.HANDSHAKE_TIMEOUT - 1)
    assert len(world.port._handshakes) == 1
    world.clock.advance(2)
    assert not world.port._handshakes
    assert world.counters.failed_handshakes == 1
    assert not world.reasons, "the server never heard of it"


def test_of_too_many_handshakes_the_oldest_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtls, "MAX_HANDSHAKES", 3)
    for number in range(5):
        client = DtlsClient()
        address = ("192.0.2.9", number + 1)
        world.give(*client.take(*world.give(*client.hello(), address=address)), address=address)
    assert [port for _, port in world.port._handshakes] == [3, 4, 5]
    world.join()


def test_an_address_that_begins_too_often_is_not_heard(world: World) -> None:
    world.set(address_rate=parse_rate("5:10"))
    client = world.join()
    assert [len(world.give(*DtlsClient().hello(), address=("192.0.2.1", port))) for port in range(1, 5)] == [1, 1, 0, 0]
    assert world.counters.dropped == 2
    world.say(client, b"sessions are the server's to count")
    world.join(THERE)
    world.clock.advance(10)
    world.join(("192.0.2.1", 9))


# -- what the network does


@pytest.mark.parametrize("seed", range(20))
def test_records_that_come_twice_and_in_another_order(world: World, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    (tmp_path / "device").mkdir()
    client = DtlsClient(context(c.make(tmp_path / "device", serial=2)))

    def shuffled(datagrams: list[bytes]) -> list[bytes]:
        """What comes after ChangeCipherSpec stays there: too early, it would have to be sent again a second later."""
        pieces = records(b"".join(datagrams)) * 2
        rng.shuffle(pieces)
        return sorted(pieces, key=lambda piece: (piece[3:5], piece[0] == 20))

    flight = client.take(*world.give(*client.hello()))
    for _ in range(4):
        flight = client.take(*shuffled(world.give(*shuffled(flight))))
    assert client.established, client.failed
    world.say(client, b"x")
    assert world.payloads == [b"x"]


def test_a_repeated_message_is_given_once(world: World) -> None:
    client = world.join()
    sealed = client.seal(b"x")
    world.give(sealed, sealed)
    assert world.payloads == [b"x"]


def test_messages_in_another_order_and_some_lost(world: World) -> None:
    client = world.join()
    sealed = [client.seal(bytes([number])) for number in range(6)]
    world.give(sealed[3], sealed[0], sealed[5], sealed[1])
    assert world.payloads == [b"\3", b"\0", b"\5", b"\1"]


def test_several_records_in_one_datagram(world: World) -> None:
    client = world.join()
    world.give(client.seal(b"one") + client.seal(b"two"))
    assert world.payloads == [b"one", b"two"]


def test_a_message_that_overtakes_the_end_of_the_handshake(world: World) -> None:
    old = world.join()
    new = DtlsClient()
    third = new.take(*world.give(*new.take(*world.give(*new.hello()))))
    pieces = records(b"".join(third))
    world.give(*pieces[:-1])
    world.give(old.seal(b"x"), pieces[-1])
    assert world.payloads == [b"x"]
    assert world.reasons == ["the device began a new DTLS session"]


def test_the_hello_of_a_session_that_comes_late_changes_nothing(world: World) -> None:
    client = DtlsClient()
    first = client.hello()
    second = client.take(*world.give(*first))
    world.talk(client, second)
    peer = world.say(client, b"x")
    world.give(*second, *first)
    assert world.say(client, b"y") is peer
    assert (len(world.port), len(world.port._handshakes), world.reasons) == (1, 0, [])


def test_garbage_never_raises_and_ends_nothing(world: World) -> None:
    client = world.join()
    rng = random.Random(0)
    good = client.seal(b"lost")
    hello = DtlsClient().hello()[0]
    for number in range(3_000):
        kind = (good, hello, rng.randbytes(rng.randrange(80)))[number % 3]
        made = bytearray(kind)
        for _ in range(rng.randrange(1, 4)):
            if made:
                made[rng.randrange(len(made))] = rng.randrange(256)
        if number % 5 == 0:
            del made[rng.randrange(len(made) + 1) :]
        if bytes(made) != good:
            world.give(bytes(made))
            world.give(bytes(made), address=THERE)
    world.say(client, b"x")
    assert world.payloads == [b"x"]
    assert not world.reasons
    world.join(THERE)


@pytest.mark.parametrize("datagram", [b"", b"\x17", bytes(12), bytes(60_000), b"\x16\xfe\xfd" + bytes(60_000)])
def test_datagrams_of_no_session_are_dropped(world: World, datagram: bytes) -> None:
    assert world.give(datagram) == []
    assert world.counters.dropped == 1


@pytest.mark.parametrize("cut", [60, 100])
def test_a_broken_hello_is_not_found_by_the_next_session(world: World, cut: int) -> None:
    """OpenSSL keeps errors by thread."""
    client = world.join()
    (hello,) = DtlsClient().hello()
    broken = hello[:11] + (cut - HEADER).to_bytes(2, "big") + hello[HEADER:cut]
    for datagram in (broken, hello[:cut], hello[:HEADER] + b"\1" + bytes(len(hello) - HEADER - 1)):
        world.give(datagram, address=THERE)
        sealed = bytearray(client.seal(b"x"))
        sealed[-1] ^= 1
        world.give(bytes(sealed))
    assert not world.reasons
    world.say(client, b"y")


def test_a_forged_alert_ends_nothing(world: World) -> None:
    client = world.join()
    fatal = b"\x15\xfe\xfd" + bytes(8) + b"\0\2" + b"\2\x28"
    world.give(fatal, fatal)
    world.say(client, b"x")
    assert not world.reasons


# -- the end


def test_close_notify_ends_the_session(world: World) -> None:
    client = world.join()
    peer = world.say(client, b"x")
    world.give(client.close_notify())
    assert world.server.lost_ == [(peer, "the device closed the DTLS session")]
    assert len(world.port) == 0
    assert world.give(client.close_notify()) == []


def test_a_new_session_at_the_same_address_replaces_the_old_one_when_it_is_complete(world: World) -> None:
    """RFC 6347 4.2.8"""
    old, new = world.join(), DtlsClient()
    peer = world.say(old, b"old")
    second = new.take(*world.give(*new.hello()))
    assert world.say(old, b"during the cookie exchange") is peer
    third = new.take(*world.give(*second))
    assert world.say(old, b"during the handshake") is peer
    assert not world.reasons
    world.talk(new, third)
    assert new.established
    assert world.server.lost_ == [(peer, "the device began a new DTLS session")]
    assert world.say(new, b"new") is not peer
    assert len(world.port) == 1


def test_the_old_session_can_end_while_a_new_one_is_made(world: World) -> None:
    old, new = world.join(), DtlsClient()
    third = new.take(*world.give(*new.take(*world.give(*new.hello()))))
    world.give(old.close_notify())
    assert world.reasons == ["the device closed the DTLS session"]
    world.talk(new, third)
    world.say(new, b"x")


def test_idle_sessions_end_and_are_told(world: World) -> None:
    world.set(dtls_idle_timeout=Duration(300.0))
    quiet, busy = world.join(), world.join(THERE)
    gone, stays = world.say(quiet, b"x"), world.say(busy, b"x", THERE)
    world.clock.pump([50.0] * 5)
    world.say(busy, b"y", THERE)
    stays.send(b"what is sent does not count")
    gone.send(b"what is sent does not count")
    quiet.take(*world.sent.pop(HERE))
    world.clock.pump([50.0, 1.0])
    assert world.server.lost_ == [(gone, "nothing came over its DTLS session for 300 s")]
    quiet.take(*world.sent.pop(HERE))
    assert quiet.closed, "by a close_notify"
    world.clock.pump([50.0] * 6)
    assert [peer for peer, _ in world.server.lost_] == [gone, stays]
    assert not world.clock.getDelayedCalls(), "nothing to look for"


def test_garbage_keeps_no_session(world: World) -> None:
    world.set(dtls_idle_timeout=Duration(30.0))
    client = world.join()
    sealed = bytearray(client.seal(b"x"))
    sealed[-1] ^= 1
    for _ in range(4):
        world.clock.advance(8)
        world.give(bytes(sealed))
    assert world.reasons == ["nothing came over its DTLS session for 30 s"]


def test_of_too_many_sessions_the_one_silent_for_longest_ends(world: World) -> None:
    world.set(max_dtls_peers=2)
    first, second = world.join(HERE), world.join(THERE)
    peers = [world.say(first, b"x", HERE), world.say(second, b"x", THERE)]
    world.say(first, b"y", HERE)
    world.join(("192.0.2.3", 1))
    assert world.server.lost_ == [(peers[1], "there are too many DTLS sessions")]
    second.take(*world.sent.pop(THERE))
    assert second.closed
    world.say(first, b"z", HERE)


def test_at_the_end_all_are_told(world: World) -> None:
    client, half = world.join(), DtlsClient()
    peer = world.say(client, b"x")
    world.give(*half.take(*world.give(*half.hello(), address=THERE)), address=THERE)
    world.port.close()
    client.take(*world.sent.pop(HERE))
    assert client.closed
    assert world.server.lost_ == [(peer, "the server stops")]
    assert not world.port._handshakes
    assert world.port._sweeping is None
    peer.send(b"too late")
    assert not world.sent[HERE]


def test_new_certificate_files_are_for_new_sessions(world: World) -> None:
    def serial(client: DtlsClient) -> int:
        shown = client.connection.get_peer_certificate(as_cryptography=True)
        assert shown is not None
        return shown.serial_number

    old = world.join()
    c.make(world.directory, serial=77)
    world.certificate.check(0.0)
    new = world.join(THERE)
    assert (serial(old), serial(new)) == (1, 77)
    world.say(old, b"x")
    world.say(new, b"x", THERE)


def test_the_path_takes_every_datagram_of_a_handshake(world: World, tmp_path: Path) -> None:
    """A chain that is longer than a datagram comes in fragments."""
    world.port._mtu = 300
    client = DtlsClient()
    second = client.take(*world.give(*client.hello()))
    flight = world.give(*second)
    assert len(flight) > 1
    assert max(map(len, flight)) <= 300
    world.talk(client, client.take(*flight))
    assert client.established
