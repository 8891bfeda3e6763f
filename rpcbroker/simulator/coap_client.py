"""Asks a CoAP server, and is told by it: messages, requests (RFC 7252), blocks (RFC 7959), observations (RFC 7641).

Notifications are all taken, however they are ordered: each is a call of its own, not the newest state of something,
and a device knows a call that comes again by its id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.logger import Logger

from rpcbroker.core.deadlines import Clock
from rpcbroker.simulator.carrier import LinkLost
from rpcbroker.wire.coap.blockwise import Block
from rpcbroker.wire.coap.errors import RequestError
from rpcbroker.wire.coap.exchanges import Recent, Retransmission, Timing
from rpcbroker.wire.coap.message import Message, MessageFormatError, decode, encode
from rpcbroker.wire.coap.numbers import Code, OptionNumber, Type, uint

TIMING = Timing()
PATIENCE = 30.0
"""Seconds for a response of its own, after the request was acknowledged."""
EXPONENT = 6
"""Of the blocks: 1,024 bytes, unless the server wants smaller ones."""
MAX_BODY = 1 << 20
"""Bytes of a body: more than any broker's default."""

Options = tuple[tuple[int, bytes], ...]


def option(message: Message, number: int) -> bytes | None:
    """The first option of this number."""
    return next((value for each, value in message.options if each == number), None)


def block2(message: Message) -> Block | None:
    """Which block of its body a response bears. Raises LinkLost for nonsense."""
    value = option(message, OptionNumber.BLOCK2)
    try:
        return None if value is None else Block.decode(value)
    except RequestError as error:
        raise LinkLost(f"The broker sent what is not CoAP: {error.message}.") from None


class _Exchange:
    """A request on its way."""

    __slots__ = ("answered", "datagram", "message_id", "retransmission", "timer", "token")

    def __init__(self, message: Message, answered: Deferred[Message]) -> None:
        self.message_id = message.message_id
        self.token = message.token
        self.datagram = encode(message)
        self.retransmission = Retransmission(TIMING)
        self.answered = answered
        self.timer: Any = None


class CoapClient:
    """One device's side, towards one server."""

    _log = Logger()

    def __init__(
        self,
        send: Callable[[bytes], None],
        *,
        clock: Clock,
        rng: Random,
        notified: Callable[[Message], None] = lambda _message: None,
    ) -> None:
        """`notified` is given what comes with the token in `observed`."""
        self.observed: bytes | None = None
        self.notified = notified
        self.heard: Callable[[], None] = lambda: None
        """Is called whenever anything comes."""
        self._send = send
        self._clock: Any = clock
        self._rng = rng
        self._message_id = rng.getrandbits(16)  # RFC 7252 4.4
        self._exchange: _Exchange | None = None
        self._turn = DeferredLock()  # NSTART is 1 (RFC 7252 4.7)
        self._recent = Recent()
        self._given_up = True

    # -- asking

    async def request(
        self, code: int, options: Options, payload: bytes = b"", *, token: bytes | None = None
    ) -> Message:
        """The response, with its whole body. `options` are in order, without blocks. Raises LinkLost."""
        first = await self._give(code, options, payload, token)
        return await self.whole(first, code, options)

    async def whole(self, first: Message, code: int, options: Options) -> Message:
        """A response with its whole body, of which it bears the first block (RFC 7959 2.4). Raises LinkLost."""
        block = block2(first)
        if block is None or not block.more:
            return first
        kept = tuple(each for each in options if each[0] != OptionNumber.OBSERVE)  # RFC 7959 2.6
        etag = option(first, OptionNumber.ETAG)
        body = bytearray(first.payload)
        while block.more:
            wanted = Block(len(body) >> block.exponent + 4, False, block.exponent)
            part = await self._ask(code, _with(kept, OptionNumber.BLOCK2, wanted.encode()))
            found = block2(part)
            if part.code != first.code or found is None or found.start != len(body):
                raise LinkLost("The broker did not go on with what it had begun to send.")
            if option(part, OptionNumber.ETAG) != etag:
                raise LinkLost("The broker began to send something else.")
            body += part.payload
            if len(body) > MAX_BODY or (found.more and not part.payload):
                raise LinkLost("The broker sent more than a device can take.")
            block = found
        return replace(first, payload=bytes(body))

    async def _give(self, code: int, options: Options, payload: bytes, token: bytes | None) -> Message:
        """The response to a body, which goes in as many blocks as it takes (RFC 7959 2.5)."""
        exponent = EXPONENT
        if len(payload) <= 16 << exponent:
            return await self._ask(code, options, payload, token)
        tagged = _with(options, OptionNumber.SIZE1, uint(len(payload)))
        tagged = _with(tagged, OptionNumber.REQUEST_TAG, self._rng.randbytes(4))  # RFC 9175 3.3
        start = 0
        while True:
            end = start + (16 << exponent)
            block = Block(start >> exponent + 4, end < len(payload), exponent)
            response = await self._ask(
                code, _with(tagged, OptionNumber.BLOCK1, block.encode()), payload[start:end], token
            )
            value = option(response, OptionNumber.BLOCK1)
            wanted = exponent if value is None else min(exponent, (value[-1] if value else 0) & 7)
            if response.code == Code.REQUEST_ENTITY_TOO_LARGE and start == 0 and wanted < exponent:
                exponent = wanted  # RFC 7959 2.9.3: begin anew, with smaller blocks
                continue
            if response.code != Code.CONTINUE:
                return response
            if not block.more:
                raise LinkLost("The broker wants more of a body than there is.")
            start, exponent = end, wanted

    async def _ask(self, code: int, options: Options, payload: bytes = b"", token: bytes | None = None) -> Message:
        """The response to one message; one that asks for a proof of freshness gets it, once (RFC 9175 2.3)."""
        response = await self._exchanged(code, options, payload, token)
        echo = option(response, OptionNumber.ECHO)
        if response.code == Code.UNAUTHORIZED and echo is not None:
            response = await self._exchanged(code, _with(options, OptionNumber.ECHO, echo), payload, token)
        return response

    async def _exchanged(self, code: int, options: Options, payload: bytes, token: bytes | None) -> Message:
        await self._turn.acquire()
        try:
            if self._given_up:
                raise CancelledError
            self._message_id = self._message_id + 1 & 0xFFFF
            message = Message(Type.CON, code, self._message_id, token or self._rng.randbytes(4), options, payload)
            exchange = self._exchange = _Exchange(message, Deferred())
            self._wait(exchange, exchange.retransmission.first(self._rng))
            self._send(exchange.datagram)
            try:
                return await exchange.answered
            finally:
                self._exchange = None
                if exchange.timer is not None and exchange.timer.active():
                    exchange.timer.cancel()
        finally:
            self._turn.release()

    def begin(self, observed: bytes) -> None:
        """Ask, and listen to what comes with this token."""
        self._given_up = False
        self.observed = observed

    def give_up(self) -> None:
        """Whoever waits for a response, or for a turn to ask, gets CancelledError, until the next `begin`."""
        self._given_up = True
        self.observed = None
        if self._exchange is not None:
            self._exchange.answered.cancel()

    def _wait(self, exchange: _Exchange, seconds: float) -> None:
        exchange.timer = self._clock.callLater(seconds, self._send_again, exchange)

    def _send_again(self, exchange: _Exchange) -> None:
        """RFC 7252 4.2"""
        seconds = exchange.retransmission.next()
        if seconds is None:
            self._fail(exchange, "The broker has fallen silent.")
        else:
            self._send(exchange.datagram)
            self._wait(exchange, seconds)

    def _fail(self, exchange: _Exchange, why: str) -> None:
        if not exchange.answered.called:
            exchange.answered.errback(LinkLost(why))

    # -- being told

    def received(self, datagram: bytes) -> None:
        """Take a datagram; what is no message is ignored, or reset (RFC 7252 4.2)."""
        try:
            message = decode(datagram)
        except MessageFormatError as error:
            if error.reset is not None:
                self._send(encode(Message(Type.RST, Code.EMPTY, error.reset)))
            return
        self.heard()
        exchange = self._exchange
        if message.type in (Type.ACK, Type.RST):
            if exchange is not None and message.message_id == exchange.message_id:
                self._acknowledged(exchange, message)
        elif message.code == Code.EMPTY:
            if message.type == Type.CON:  # a ping (RFC 7252 4.3)
                self._send(encode(Message(Type.RST, Code.EMPTY, message.message_id)))
        else:
            self._told(message)

    def _acknowledged(self, exchange: _Exchange, message: Message) -> None:
        if message.type == Type.RST:
            self._fail(exchange, "The broker does not speak CoAP here: it reset the request.")
        elif message.code == Code.EMPTY:
            exchange.timer.cancel()  # the response comes by itself (RFC 7252 5.2.2)
            exchange.timer = self._clock.callLater(
                PATIENCE, self._fail, exchange, "The broker acknowledged a request, and did not answer it."
            )
        elif message.token == exchange.token:
            self._settle(exchange, message)

    def _told(self, message: Message) -> None:
        """A response of its own, or a notification; what comes again is only acknowledged again (RFC 7252 4.5)."""
        exchange = self._exchange
        mine = exchange is not None and message.token == exchange.token
        known = mine or (self.observed is not None and message.token == self.observed)
        lifetime = TIMING.exchange_lifetime if message.type == Type.CON else TIMING.non_lifetime
        before = self._recent.seen(message.message_id, self._clock.seconds(), lifetime)
        if before is not None:
            self._send(before) if before else None
            return
        answer = b""
        if not known or message.type == Type.CON:  # RFC 7252 4.2; RFC 7641 3.6: also what is not confirmable is reset
            answer = encode(Message(Type.ACK if known else Type.RST, Code.EMPTY, message.message_id))
            self._recent.answered(message.message_id, answer)
            self._send(answer)
        if mine and exchange is not None:
            self._settle(exchange, message)
        elif known:
            self.notified(message)

    def _settle(self, exchange: _Exchange, message: Message) -> None:
        if not exchange.answered.called:
            exchange.answered.callback(message)


def _with(options: Options, number: int, value: bytes) -> Options:
    """With one more, in its place (RFC 7252 3.1)."""
    return tuple(sorted((*options, (int(number), value)), key=lambda each: each[0]))
