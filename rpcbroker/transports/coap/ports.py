"""CoAP, whole: its ports, what stands behind them, and what they count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from twisted.internet.interfaces import IListeningPort

from rpcbroker.core.broker import Broker
from rpcbroker.core.settings import CoapSettings
from rpcbroker.transports.coap.counters import CoapCounters, DtlsCounters
from rpcbroker.transports.coap.peers import DatagramPort, SocketAddress
from rpcbroker.transports.coap.server import CoapServer
from rpcbroker.transports.coap.site import CoapSite
from rpcbroker.transports.coap.udp import UdpPort
from rpcbroker.transports.uplinks import Enrolment, Uplinks

PROTOCOLS = ("CoAP", "CoAPs")
"""What is spoken over UDP and over DTLS, as people know it."""


class CoapPorts:
    """One server on all ports: a device may observe on one of them, and answer on another."""

    def __init__(
        self,
        *,
        broker: Broker,
        enrolment: Enrolment,
        settings: CoapSettings,
        now_ms: Callable[[], int],
        rng: Random,
        secret: bytes,
        reactor: Any,
    ) -> None:
        """`secret` nobody else may know: by it an address proves that it receives what is sent there."""
        over_udp, over_dtls = (Uplinks(broker, enrolment, protocol=each) for each in PROTOCOLS)
        site = CoapSite(over_udp, over_dtls, broker, settings=lambda: self.settings, now_ms=now_ms)
        self.server = CoapServer(
            site.handle,
            site.admit,
            settings=settings,
            deadlines=broker.deadlines,
            rng=rng,
            seconds=reactor.seconds,
            secret=secret,
        )
        self.dtls_counters = DtlsCounters()
        self._secret = secret
        self._reactor = reactor
        self._ports: list[UdpPort] = []
        self._dtls: list[Any] = []
        """The DtlsPorts: OpenSSL is loaded with the first."""

    @property
    def settings(self) -> CoapSettings:
        """May be replaced at any time."""
        return self.server.settings

    @settings.setter
    def settings(self, settings: CoapSettings) -> None:
        self.server.settings = settings

    def listen(self, port: int, interface: str) -> IListeningPort:
        """Speak CoAP there. Raises CannotListenError."""
        opened = UdpPort(port, interface=interface, reactor=self._reactor)
        self.server.serve(opened)
        return self._start(opened)

    def listen_dtls(self, port: int, interface: str, identity: Callable[[], Any]) -> IListeningPort:
        """Speak it over DTLS, each new session with the Identity that is then given. Raises CannotListenError."""
        from rpcbroker.transports.coap.dtls import DtlsPort

        opened = UdpPort(port, interface=interface, reactor=self._reactor)
        of_local: dict[DatagramPort, DtlsPort] = {}

        def received(datagram: bytes, address: SocketAddress, local: DatagramPort) -> None:
            sessions = of_local.get(local)
            if sessions is None:
                sessions = of_local[local] = DtlsPort(
                    self.server,
                    identity,
                    deadlines=self.server.deadlines,
                    seconds=self._reactor.seconds,
                    secret=self._secret,
                    counters=self.dtls_counters,
                )
                sessions.send_to = local.send_to
                self._dtls.append(sessions)
            sessions.received(datagram, address)

        opened.received = received
        return self._start(opened)

    def _start(self, port: UdpPort) -> IListeningPort:
        port.startListening()
        self._ports.append(port)
        listening: IListeningPort = port
        return listening

    def close(self) -> None:
        """End what has to be told of its end, while the ports are open."""
        for sessions in self._dtls:
            sessions.close()

    # -- what is counted

    @property
    def counters(self) -> CoapCounters:
        return self.server.messages.counters

    @property
    def datagrams(self) -> Mapping[str, int]:
        """By direction, and how many of those that were received were skipped: see fairness.py."""
        return {
            "received": sum(port.datagrams_received for port in self._ports),
            "sent": sum(port.datagrams_sent for port in self._ports),
            "skipped": sum(port.datagrams_skipped for port in self._ports),
        }

    @property
    def peers(self) -> int:
        """Addresses that are remembered, DTLS sessions not counted."""
        return len(self.server.peers)

    @property
    def observations(self) -> int:
        return self.server.observers.count

    @property
    def dtls_sessions(self) -> int:
        return sum(map(len, self._dtls))
