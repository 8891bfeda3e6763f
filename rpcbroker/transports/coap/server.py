"""The request layer of CoAP: a request, whole, goes to the handler, and its answer back (RFC 7252 5, 7641, 7959).

Over 400 lines, for what a request is until it is answered and what the server does with it are one story.

It knows nothing of what paths mean. Below it is the message layer (messages.py), beside it what it shares with
observations: bodies in blocks (blocks.py), and how answers become messages (answers.py).
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.core.errors import BrokerError
from rpcbroker.core.settings import CoapSettings
from rpcbroker.transports.coap.answers import shaped
from rpcbroker.transports.coap.blocks import Kept, Shelf
from rpcbroker.transports.coap.echo import Echo
from rpcbroker.transports.coap.errors import refusal
from rpcbroker.transports.coap.exchange import Admit, Answer, Handler, Observation, Refused, Request, Response, Settled
from rpcbroker.transports.coap.messages import CON, NON, Messages, Options, Transmission
from rpcbroker.transports.coap.observing import CoapObservation, Observers
from rpcbroker.transports.coap.peers import CoapPeer, DatagramPort, Peers, SocketAddress
from rpcbroker.transports.coap.udp import UdpPort
from rpcbroker.wire.coap.blockwise import Assembly, Block, Incomplete, TooLarge, exponent_of
from rpcbroker.wire.coap.errors import RequestError
from rpcbroker.wire.coap.message import Message, encode_options
from rpcbroker.wire.coap.numbers import Code, OptionNumber, uint
from rpcbroker.wire.coap.options import BadOption, RequestOptions, read

_log = Logger()

_METHODS = range(Code.GET, Code.IPATCH + 1)
_ASKED_AGAIN = (Code.GET, Code.FETCH)
"""Methods that are safe: asking once more changes nothing."""

_ANSWER_KEPT = 60.0
"""Seconds for which the rest of a large answer waits to be fetched."""

_BLOCK1, _SIZE1, _ECHO = (number.value for number in (OptionNumber.BLOCK1, OptionNumber.SIZE1, OptionNumber.ECHO))
_CONTENT = Code.CONTENT.value
_SUCCESS = 2
"""The class of codes that tell of one."""


class Exchange:
    """One request until it is answered."""

    __slots__ = (
        "_acknowledged",
        "_deadline",
        "_server",
        "answered",
        "extra",
        "message",
        "observation",
        "options",
        "peer",
        "size",
    )

    def __init__(
        self, server: CoapServer, peer: CoapPeer, message: Message, size: int, options: RequestOptions | None
    ) -> None:
        self._server = server
        self.peer = peer
        self.message = message
        self.size = size
        """Bytes of the datagram."""
        self.options = options
        """None: they cannot be obeyed."""
        self.extra: Options = ()
        """Options of the answer that are no business of the handler."""
        self.observation: CoapObservation | None = None
        self.answered = False
        self._acknowledged = False
        self._deadline: Deadline | None = None

    # -- for the handler

    def register(self) -> Observation | None:
        """See exchange.Request."""
        options = self.options
        assert options is not None
        if self.peer.lost:
            return None
        observers = self._server.observers
        observation = observers.register(self.peer, self.message.token, hash(options.path))
        if observation is not None:
            wanted = options.block2
            observation.registered(
                confirmable=self.message.type == CON,
                accept=options.accept,
                exponent=observers.exponent if wanted is None else wanted.exponent,
                body_key=hash(options.cache_key),
            )
        self.observation = observation
        return observation

    def deregister(self) -> None:
        """See exchange.Request."""
        observation = self._server.observers.find(self.peer, self.message.token)
        if observation is not None:
            observation.lose("the device ended it")

    # -- what becomes of it

    def wait(self, answer: Deferred[Response]) -> None:
        """It takes its time: after a while the request is acknowledged without it (RFC 7252 5.2.2)."""
        answer.addCallbacks(self.answer, self._fail)
        if not self.answered and self.message.type == CON:
            server = self._server
            patience = server.settings.piggyback_timeout
            self._deadline = server.deadlines.after(patience, self._acknowledge, None)

    def answer(self, response: Response) -> None:
        """Send the answer."""
        self.answered = True
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None  # each knows the other
        self._send(response, *self._server.finish(self, response))
        if self.observation is not None:
            self.observation.answered()

    def _send(self, response: Response, code: int, options: Options, payload: bytes) -> None:
        messages, peer, message = self._server.messages, self.peer, self.message
        trusted = peer.proven or response.authenticated
        wanted = (
            self.options is None or not self.options.no_response or not self.options.no_response >> (code >> 5) - 1 & 1
        )
        if message.type == CON and not self._acknowledged:
            if wanted:
                messages.acknowledge(peer, message.message_id, code, message.token, options, payload)
            else:  # RFC 7967 2.1
                messages.acknowledge(peer, message.message_id)
        elif not wanted:
            pass
        elif message.type == NON or messages.is_behind(peer):
            messages.tell(peer, code, message.token, options, payload)
        else:
            most = None if trusted else self._server.AMPLIFICATION * self.size
            messages.confirm(peer, code, message.token, options, payload, self._settled, most=most)
        if not trusted:
            messages.forget(peer, message.message_id)

    def _fail(self, failure: Failure) -> None:
        self.answer(self._server.refusal(failure.value, failure))

    def _acknowledge(self, _: None) -> None:
        self._acknowledged = True
        self._server.messages.acknowledge(self.peer, self.message.message_id)

    def _settled(self, _: Transmission, became: Settled) -> None:
        """The peer that makes nothing of the answer has forgotten that it asked."""
        if became is Settled.REJECTED and self.observation is not None:
            self.observation.lose("the device reset it")  # RFC 7641 3.6


class CoapServer:
    """All that speaks CoAP with one handler, over UDP and over DTLS.

    `admit` is asked before a large body is gathered; see exchange.py for both. `secret` is for Echo, and nobody else's.
    """

    AMPLIFICATION = 3
    """So many times as large as a stranger's request its answer may be (RFC 7252 11.3)."""

    def __init__(
        self,
        handler: Handler,
        admit: Admit,
        *,
        settings: CoapSettings,
        deadlines: Deadlines,
        rng: Random,
        seconds: Callable[[], float],
        secret: bytes,
    ) -> None:
        self.deadlines = deadlines
        self._handler = handler
        self._admit = admit
        self.messages = Messages(self, settings=settings, deadlines=deadlines, rng=rng, seconds=seconds)
        self.shelf = Shelf(settings.max_unfinished, deadlines)
        self._echo = Echo(secret, seconds)
        self.peers = Peers(
            settings.max_peers,
            deadlines=deadlines,
            seconds=seconds,
            lifetime=lambda: self.messages.timing.exchange_lifetime,
            oldest=self._oldest_observer,
            lost=self.lost,
        )
        self.observers = Observers(self.messages, self.shelf, self.peers)

    @property
    def settings(self) -> CoapSettings:
        """May be replaced at any time; the new ones hold for what comes then."""
        return self.messages.settings

    @settings.setter
    def settings(self, settings: CoapSettings) -> None:
        self.messages.configure(settings)
        self.shelf.limit = settings.max_unfinished
        self.observers.exponent = exponent_of(settings.block_size)
        self.peers.limit = settings.max_peers

    # -- from below

    def serve(self, port: UdpPort) -> None:
        """Speak CoAP on this UDP port."""
        at, received = self.peers.at, self.messages.received

        def from_port(datagram: bytes, address: SocketAddress, local: DatagramPort) -> None:
            received(datagram, at(address, local))

        port.received = from_port

    def received(self, datagram: bytes, peer: CoapPeer) -> None:
        """A datagram from it."""
        self.messages.received(datagram, peer)

    def lost(self, peer: CoapPeer, why: str) -> None:
        """It is gone, and so are its observations; `why` is half a sentence, such as `the DTLS session was closed`."""
        peer.lost = True
        self.observers.lost(peer, why)
        self.messages.lost(peer)
        self.shelf.lost(peer)
        self.peers.forget(peer)

    def _oldest_observer(self) -> CoapPeer | None:
        return self.observers.oldest()

    def heard(self, peer: CoapPeer) -> None:
        """See Upwards."""
        self.observers.heard(peer)

    def reset(self, peer: CoapPeer, message_id: int) -> None:
        """See Upwards."""
        if peer.observing:
            self.observers.reset(peer, message_id)

    def requested(self, peer: CoapPeer, message: Message, size: int) -> None:
        """See Upwards."""
        try:
            options = read(message)
        except BadOption as bad:
            if message.type == NON and bad.code == Code.BAD_OPTION:
                self.messages.reject(peer, message.message_id)  # RFC 7252 5.4.1
            else:
                Exchange(self, peer, message, size, None).answer(_refused(bad))
            return
        exchange = Exchange(self, peer, message, size, options)
        try:
            answer = self._serve(exchange, options)
        except Exception as error:
            exchange.extra = _limit_of(error)
            answer = self.refusal(error)
        if isinstance(answer, Response):
            exchange.answer(answer)
        else:
            exchange.wait(answer)

    # -- requests

    def _serve(self, exchange: Exchange, options: RequestOptions) -> Answer:
        peer, message, settings = exchange.peer, exchange.message, self.settings
        if message.code not in _METHODS:
            raise Refused(Code.METHOD_NOT_ALLOWED, "no such method")
        if options.if_match or options.if_none_match:  # RFC 7252 5.10.8: no resource here has versions to compare
            raise Refused(Code.PRECONDITION_FAILED, "conditional requests are not served")
        if options.echo is not None and not peer.proven:
            peer.proven = self._echo.proves(peer, options.echo)
        if settings.require_echo and options.observe == 0 and not peer.proven:
            return self._challenge(exchange)  # RFC 7641 7: notifications are many answers to one request
        if options.block1 is not None:
            return self._upload(exchange, options, options.block1)
        if options.block2 is not None and options.block2.number > 0:
            kept = self.shelf.get(peer, self.observers.key_of(hash(options.cache_key)))
            if kept is not None and isinstance(kept.content, Response):
                return kept.content
            if message.code not in _ASKED_AGAIN:
                raise Refused(Code.REQUEST_ENTITY_INCOMPLETE, "this answer is not kept any more")
        if len(message.payload) > settings.max_body_size:
            raise TooLarge(Code.REQUEST_ENTITY_TOO_LARGE, "the body is too large", settings.max_body_size)
        return self._handler(self._request(exchange, options, message.payload))

    def _request(self, exchange: Exchange, options: RequestOptions, payload: bytes) -> Request:
        return Request(
            peer=exchange.peer,
            code=options.code,
            path=options.path,
            query=options.query,
            payload=payload,
            content_format=options.content_format,
            accept=options.accept,
            observe=options.observe,
            register=exchange.register,
            deregister=exchange.deregister,
        )

    def _upload(self, exchange: Exchange, options: RequestOptions, block: Block) -> Answer:
        """One block of a body that comes in several (RFC 7959 2.5)."""
        peer, payload = exchange.peer, exchange.message.payload
        key = "body", hash(options.cache_key)  # what it is made of may be large, and anybody's
        if block.number == 0:
            gathered = Assembly(self.settings.max_body_size)
            body = gathered.add(block, payload, options.size1)
            if body is None:
                admitted = self._admit(self._request(exchange, options, payload))
                if isinstance(admitted, Deferred):
                    return admitted.addCallback(lambda outcome: self._begin(exchange, block, key, gathered, outcome))
                return self._begin(exchange, block, key, gathered, admitted)
        else:
            kept = self.shelf.get(peer, key)
            if kept is None or not isinstance(kept.content, Assembly):
                raise Incomplete(Code.REQUEST_ENTITY_INCOMPLETE, "the blocks before this one are not here")
            body = self._grow(kept, block, payload, options.size1)
        if body is None:
            return self._continue(exchange, block)
        exchange.extra = ((_BLOCK1, self._told(block)),)
        return self._handler(self._request(exchange, options, body))

    def _grow(self, kept: Kept, block: Block, payload: bytes, size1: int | None) -> bytes | None:
        assert isinstance(kept.content, Assembly)
        try:
            body = kept.content.add(block, payload, size1)
        except TooLarge:
            self.shelf.take(kept)
            raise
        if body is None:
            self.shelf.touch(kept)
        else:
            self.shelf.take(kept)
        return body

    def _begin(
        self, exchange: Exchange, block: Block, key: tuple[str, int], gathered: Assembly, admitted: Refused | bool
    ) -> Response:
        if isinstance(admitted, Refused):
            raise admitted
        self.shelf.put(exchange.peer, key, gathered, self.messages.timing.exchange_lifetime, known=admitted)
        return self._continue(exchange, block)

    def _continue(self, exchange: Exchange, block: Block) -> Response:
        exchange.extra = ((_BLOCK1, self._told(block)),)
        return Response(code=Code.CONTINUE, authenticated=True)

    def _told(self, block: Block) -> bytes:
        """What is said of a block that came: perhaps that the next ones shall be smaller (RFC 7959 2.3)."""
        return block._replace(exponent=min(block.exponent, self.observers.exponent)).encode()

    # -- answers

    def finish(self, exchange: Exchange, response: Response) -> tuple[int, Options, bytes]:
        """The code, the options and the payload that answer a request: one block of the response if it is large."""
        peer, options, observation = exchange.peer, exchange.options, exchange.observation
        observe = None
        if observation is not None:
            if response.code >> 5 == _SUCCESS:
                if not observation.ended:
                    observe = self.observers.next_number()
            else:  # RFC 7641 4.1
                observation.end()
        if (
            not response.payload
            and observe is None
            and response.content_format is None
            and response.max_age is None
            and response.etag is None
        ):  # most are
            return response.code, exchange.extra, b""
        if options is None:
            return self._within(exchange, response, observe)
        if response.etag is not None and response.etag in options.etags and response.code == _CONTENT:
            response = Response(
                code=Code.VALID, etag=response.etag, max_age=response.max_age, authenticated=response.authenticated
            )
        if not peer.proven and not response.authenticated:
            return self._within(exchange, response, observe)
        wanted = options.block2
        try:
            shape = shaped(
                response, exponent=self.observers.exponent, wanted=wanted, observe=observe, extra=exchange.extra
            )
        except BadOption as bad:
            return bad.code, (), bad.message.encode()
        if shape.more or (wanted is not None and wanted.number > 0):
            self._keep(peer, options, response, shape.more)
        if (
            self.settings.require_echo
            and not peer.proven
            and len(shape.payload) + len(encode_options(shape.options)) + 5 > self.AMPLIFICATION * exchange.size
        ):
            response = self._challenge(exchange)
            return response.code, exchange.extra, b""
        return shape.code, shape.options, shape.payload

    def _within(self, exchange: Exchange, response: Response, observe: bytes | None) -> tuple[int, Options, bytes]:
        """The same for a stranger, whose address may be a victim's; nothing is kept for it."""
        options = exchange.options
        room = self.AMPLIFICATION * exchange.size - 4 - len(exchange.message.token)
        wanted = None if options is None else options.block2
        try:
            code, options_, payload, _ = shaped(
                response,
                exponent=self.observers.exponent,
                wanted=wanted,
                observe=observe,
                extra=exchange.extra,
                room=room,
            )
        except BadOption as bad:
            return bad.code, (), b""
        return code, options_, payload

    def _keep(self, peer: CoapPeer, options: RequestOptions, response: Response, more: bool) -> None:
        """The rest of it will be fetched; or this was the rest."""
        key = self.observers.key_of(hash(options.cache_key))
        kept = self.shelf.get(peer, key)
        if kept is not None and kept.content is response:
            self.shelf.touch(kept)
            if not more:
                kept.finish(True)
        elif more:
            self.shelf.put(peer, key, response, _ANSWER_KEPT)

    def _challenge(self, exchange: Exchange) -> Response:
        room = self.AMPLIFICATION * exchange.size - 4 - len(exchange.message.token)
        challenge: Options = ((_ECHO, self._echo.challenge(exchange.peer)),)
        exchange.extra = challenge if len(encode_options(challenge)) <= room else ()
        return Response(code=Code.UNAUTHORIZED)

    def refusal(self, error: BaseException, failure: Failure | None = None) -> Response:
        """The answer to a request that failed."""
        if isinstance(error, RequestError):
            return _refused(error)
        if isinstance(error, BrokerError | Refused):
            return refusal(error)
        _log.failure("a CoAP request failed", failure=failure)
        return Response(code=Code.INTERNAL_SERVER_ERROR)


def _refused(error: RequestError) -> Response:
    return Response(code=error.code, payload=error.message.encode())


def _limit_of(error: Exception) -> Options:
    """How much would be taken, where too much came (RFC 7959 4)."""
    return ((_SIZE1, uint(error.limit)),) if isinstance(error, TooLarge) else ()
