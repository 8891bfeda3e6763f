"""One request to another server, and its response, by twisted.web's Agent.

The name of a host is looked up, what comes of that is passed through WebHosts, and nothing but such an address is
connected to: a name may lead elsewhere the next time.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from threading import Thread
from typing import Any

from OpenSSL import SSL
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, DeferredSemaphore, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import (
    IHostnameResolver,
    IReactorPluggableNameResolver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from twisted.web.client import (
    URI,
    Agent,
    HTTPConnectionPool,
    RequestNotSent,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgentEndpointFactory, IResponse
from zope.interface import implementer

from rpcbroker import __version__
from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.outside.http_body import BodyThere
from rpcbroker.outside.web_hosts import WebHosts
from rpcbroker.rules.ports import WebCallFailed, WebCallRefused, WebRequest, WebResponse

CONNECT_TIMEOUT = 10.0
"""Seconds for each address of a host."""
IDLE = 15.0
"""Seconds that a connection is kept for the next request: not so long that servers close it just then."""
PER_HOST = 8
"""Connections to one host that are kept so."""
MAX_KEPT = 32
"""Hosts with such connections."""
MAX_HEAD = 64 << 10
"""Bytes of the head of a response."""
GOODBYE = 2.0
"""Seconds until a connection that is closed is aborted."""
LOOKUPS = 2
"""Names that are looked up at a time for one tenant: a name server that is slow holds a thread."""
THREADS = 16
"""Threads that look up names."""
LookUp = Callable[[str], Deferred[list[str]]]
BROKEN = (ConnectError, DNSLookupError, RequestNotSent, ResponseFailed, ResponseNeverReceived)


class Names:
    """Looks up names as the system does, in threads that nobody waits for at the end."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._threads = ThreadPool(minthreads=0, maxthreads=THREADS, name="web-names")
        self._threads.threadFactory = _daemon
        self._threads.start()

    def look_up(self, host: str) -> Deferred[list[str]]:
        """The addresses of a host, the best one first; none if it is not known."""
        return deferToThreadPool(self._reactor, self._threads, _addresses, host)

    def stop(self) -> None:
        """Threads end, but for those that look up a name."""
        self._threads.adjustPoolsize(0, 0)


def _daemon(*arguments: Any, **more: Any) -> Thread:
    return Thread(*arguments, daemon=True, **more)


def _addresses(host: str) -> list[str]:
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        return []


class TenantExchange:
    """The requests of one tenant."""

    def __init__(self, reactor: Any, *, deadlines: Deadlines, look_up: LookUp, trust_root: Any) -> None:
        self.reactor = reactor
        self.deadlines = deadlines
        self.look_up = look_up
        self.trust_root = trust_root
        self.lookups = DeferredSemaphore(LOOKUPS)
        self._kept: set[tuple[bytes, bytes, int]] = set()
        self._pool = self._new_pool()

    def _new_pool(self) -> HTTPConnectionPool:
        pool = HTTPConnectionPool(self.reactor)
        pool.cachedConnectionTimeout = IDLE
        pool.maxPersistentPerHost = PER_HOST
        return pool

    def renew(self) -> None:
        """What is connected is not used again."""
        self._pool.cachedConnectionTimeout = 0
        self._pool.closeCachedConnections()
        self._pool = self._new_pool()

    def close(self) -> Deferred[None]:
        """Close what is kept; fires when it is closed."""
        closing: Deferred[None] = self._pool.closeCachedConnections()
        return closing

    async def request(self, request: WebRequest, hosts: WebHosts) -> WebResponse:
        """The response. Raises WebCallFailed. Cancelled it hangs up."""
        headers = Headers({"User-Agent": [f"rpcbroker/{__version__}"]})
        for name, value in request.headers.items():
            headers.setRawHeaders(name, [value])
        body = None if request.body is None else BodyThere(request.body)
        way = _Way(self, hosts)
        try:
            agent = Agent.usingEndpointFactory(self.reactor, way, pool=self._pool)
            response = await agent.request(request.method.encode(), request.url.encode(), headers, body)
            return WebResponse(
                status=response.code,
                reason=response.phrase.decode("latin-1"),
                headers={
                    name.decode("latin-1"): tuple(value.decode("latin-1") for value in values)
                    for name, values in response.headers.getAllRawHeaders()
                },
                body=await _body(response, request.max_size),
            )
        except BROKEN as error:
            raise way.refusal or _trouble(error, way.host) from None
        except (ValueError, SSL.Error) as error:
            raise WebCallRefused(f"The request cannot be made: {error}") from None
        finally:
            way.over = True

    def keep(self, key: tuple[bytes, bytes, int]) -> None:
        """A connection to this host will be kept: so that they do not become too many, others are closed."""
        self._kept.add(key)
        if len(self._kept) > MAX_KEPT:
            self._pool.closeCachedConnections()
            self._kept = {key}


def _trouble(error: Exception, host: str) -> WebCallFailed:
    """Twisted's errors in words."""
    if isinstance(error, DNSLookupError):
        return WebCallFailed(f"There is no host {host}")
    if isinstance(error, ConnectError):
        return WebCallFailed(f"{host} cannot be reached: {str(error).partition(':')[0].rstrip('.')}")
    reasons = getattr(error, "reasons", ())
    reason = reasons[0].value if reasons else None
    if isinstance(reason, SSL.Error):
        told = reason.args[0] if reason.args else ()
        return WebCallFailed(f"TLS with {host} failed: {told[0][-1] if told else 'the connection was closed'}")
    if type(reason).__module__.startswith("service_identity"):
        return WebCallFailed(f"TLS with {host} failed: its certificate is another host's")
    if isinstance(error, ResponseNeverReceived):
        return WebCallFailed(f"{host} closed the connection without a response")
    return WebCallFailed(f"{host} sent what is no whole HTTP response")


# -- the way there


@implementer(IAgentEndpointFactory, IHostnameResolver, IReactorPluggableNameResolver)
class _Way:
    """The way of one request to its host. To HostnameEndpoint it is the reactor, and its resolver.

    An address that is not allowed is to it as if it had not been found.
    """

    _log = Logger()

    def __init__(self, exchange: TenantExchange, hosts: WebHosts) -> None:
        self.exchange = exchange
        self.host = ""
        self.refusal: WebCallRefused | None = None
        self.over = False
        """Nobody waits any more."""
        self._hosts = hosts
        self._listed = False
        self._port = 0
        self.nameResolver = self
        reactor = exchange.reactor
        self.callLater, self.seconds, self.connectTCP = reactor.callLater, reactor.seconds, reactor.connectTCP

    def endpointForURI(self, uri: URI) -> _Endpoint:
        """Raises WebCallRefused."""
        self.host, self._port = uri.host.decode("ascii"), uri.port
        if uri.scheme not in (b"http", b"https") or b"@" in uri.netloc or not self.host or not 0 < uri.port < 65_536:
            raise WebCallRefused(f"A URL begins with http://host/ or https://host/, and not {uri.toBytes()[:100]!r}")
        self._listed = self._hosts.lists(self.host, uri.port)
        if not self._listed and not self._hosts.may_allow(uri.port):
            raise self._refused("")
        self.exchange.keep((uri.scheme, uri.host, uri.port))
        return _Endpoint(self, uri)

    def allows(self, address: str) -> bool:
        """Whether to go on to this address of the host."""
        if self._listed or self._hosts.allows(address, self._port):
            return True
        self.refusal = self._refused(f" at {address}")
        return False

    def _refused(self, where: str) -> WebCallRefused:
        return WebCallRefused(f"{self.host}:{self._port}{where} may not be called: [rules] web_hosts says which may")

    def resolveHostName(
        self, resolutionReceiver: Any, hostName: str, portNumber: int = 0, *kinds: Any, **more: Any
    ) -> None:
        found = self.exchange.lookups.run(self._look_up, hostName)
        found.addErrback(self._log_bug).addCallback(self._found, resolutionReceiver, portNumber)

    def _look_up(self, host: str) -> Deferred[list[str]]:
        return succeed([]) if self.over else self.exchange.look_up(host)

    def _found(self, addresses: list[str] | None, receiver: Any, port: int) -> None:
        for address in addresses or ():
            if self.allows(address):
                kind = IPv6Address if ":" in address else IPv4Address
                receiver.addressResolved(kind("TCP", address, port))
        receiver.resolutionComplete()

    def _log_bug(self, failure: Failure) -> None:
        self._log.failure("a name could not be looked up", failure=failure)


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """Connects when there is no connection that was kept; only then what TLS needs is made."""

    def __init__(self, way: _Way, uri: URI) -> None:
        self._way = way
        self._uri = uri

    def connect(self, factory: Any) -> Deferred[Any]:
        way, uri = self._way, self._uri
        endpoint: Any = HostnameEndpoint(way, way.host, uri.port, timeout=CONNECT_TIMEOUT)
        wrapping: Any = _Connections(factory, way.exchange.deadlines)
        if uri.scheme != b"https":
            return endpoint.connect(wrapping).addCallback(lambda connection: connection.wrappedProtocol)
        options = optionsForClientTLS(way.host, trustRoot=way.exchange.trust_root)
        # As wrapClientTLS does, which is not there if twisted.internet.endpoints was imported without OpenSSL.
        over_tls = TLSMemoryBIOFactory(options, True, wrapping)
        return endpoint.connect(over_tls).addCallback(lambda tls: tls.wrappedProtocol.wrappedProtocol)


class _Connection(ProtocolWrapper):
    """Bounds what comes of a head, of which the parser keeps everything, and how long a close takes."""

    factory: _Connections
    _head: int | None = 0
    _aborting: Deadline | None = None

    def write(self, data: bytes) -> None:
        self._head = 0
        super().write(data)

    def writeSequence(self, data: Any) -> None:
        self._head = 0
        super().writeSequence(data)

    def dataReceived(self, data: bytes) -> None:
        if self._head is not None:
            if self._head > MAX_HEAD:
                self.transport.abortConnection()
                return
            self._head += len(data)
        super().dataReceived(data)

    def pauseProducing(self) -> None:
        """The parser does so between head and body."""
        self._head = None
        self.transport.pauseProducing()

    def stopProducing(self) -> None:
        """No more of this body is wanted."""
        self.transport.abortConnection()

    def loseConnection(self) -> None:
        super().loseConnection()
        if self._aborting is None:
            self._aborting = self.factory.deadlines.after(GOODBYE, lambda _: self.transport.abortConnection(), None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._aborting is not None:
            self._aborting.cancel()
        super().connectionLost(reason)


class _Connections(WrappingFactory):
    noisy = False
    protocol = _Connection

    def __init__(self, factory: Any, deadlines: Deadlines) -> None:
        factory.noisy = False  # it has a line for each connection, else
        super().__init__(factory)
        self.deadlines = deadlines


# -- what comes back


def _body(response: IResponse, max_size: int) -> Deferred[bytes]:
    received = _Received(max_size)
    if response.length is not UNKNOWN_LENGTH and response.length > max_size:
        received.too_large = True
    response.deliverBody(received)
    return received.done


class _Received(Protocol):
    """Gathers a body. Cancelled it hangs up."""

    transport: Any

    def __init__(self, max_size: int) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self.transport.stopProducing())
        self.too_large = False
        self._max_size = max_size
        self._body = bytearray()

    def connectionMade(self) -> None:
        if self.too_large:
            self._refuse()

    def dataReceived(self, data: bytes) -> None:
        if self.done.called:
            return
        self._body += data
        if len(self._body) > self._max_size:
            self._refuse()

    def _refuse(self) -> None:
        self.done.errback(WebCallRefused(f"The response has more than {self._max_size:,} bytes"))
        self.transport.stopProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(bytes(self._body))
        else:
            self.done.errback(reason)
