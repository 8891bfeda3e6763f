"""The message layer: what a datagram is, what is sent again, and what came already (RFC 7252 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Protocol, TypeAlias

from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.core.limits import RateLimit
from rpcbroker.core.settings import CoapSettings
from rpcbroker.transports.coap.counters import CoapCounters
from rpcbroker.transports.coap.exchange import Settled
from rpcbroker.transports.coap.peers import CoapPeer
from rpcbroker.wire.coap.exchanges import Recent, Retransmission, Timing
from rpcbroker.wire.coap.message import Message, MessageFormatError, datagram_of, decode
from rpcbroker.wire.coap.numbers import Type

Options: TypeAlias = "tuple[tuple[int, bytes], ...]"

CON, NON, ACK, RST = (kind.value for kind in Type)

MAX_AWAITED = 2_048
"""Messages that one peer may leave unacknowledged; further ones are non-confirmable, or it could use up our ids. Beside
them are its notifications, at most as many as it may have observations."""


class Upwards(Protocol):
    """What is told of what came."""

    def heard(self, peer: CoapPeer) -> None:
        """Something came that is a message, from one who observes."""

    def requested(self, peer: CoapPeer, message: Message, size: int) -> None:
        """A request, for the first time, in a datagram of `size` bytes."""

    def reset(self, peer: CoapPeer, message_id: int) -> None:
        """The peer makes nothing of a non-confirmable message of ours, or of one that is settled."""


class Transmission:
    """One confirmable message of ours: sent again until it is acknowledged, rejected or given up."""

    __slots__ = ("_again_sent", "_datagram", "_deadline", "_done", "_hurried", "_messages", "_schedule", "peer", "sent")

    def __init__(
        self,
        messages: Messages,
        peer: CoapPeer,
        datagram: bytes,
        timing: Timing,
        done: Callable[[Transmission, Settled], None] | None,
        again_sent: Callable[[], None] | None = None,
    ) -> None:
        self.peer = peer
        self.sent = 1
        """How often it was sent, as it is due."""
        self._hurried = True
        self._messages = messages
        self._datagram = datagram
        self._done = done
        self._again_sent = again_sent
        self._schedule = Retransmission(timing)
        if peer.awaited is None:
            peer.awaited = {}
        peer.awaited[self._message_id] = self
        self._deadline: Deadline | None = messages.deadlines.after(
            self._schedule.first(messages.rng), self._again, None
        )
        peer.send(datagram)

    @property
    def _message_id(self) -> int:
        return int.from_bytes(self._datagram[2:4], "big")

    def acknowledged(self) -> None:
        """The peer has it."""
        self._settle(Settled.ACKNOWLEDGED)

    def reset(self) -> None:
        """The peer makes nothing of it."""
        self._settle(Settled.REJECTED)

    def lost(self) -> None:
        """The peer is gone."""
        self._settle(Settled.UNACKNOWLEDGED)

    def cancel(self) -> None:
        """It is not sent any more, and nothing is told of it."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None  # each knows the other
        awaited = self.peer.awaited
        if awaited is not None:
            awaited.pop(self._message_id, None)
            if not awaited:
                self.peer.awaited = None

    def hurry(self) -> None:
        """The peer is there after all, perhaps for a moment: what was sent in vain goes out before it is due, once."""
        if not self._hurried:
            self._hurried = True
            self._messages.counters.sent_again += 1
            self.peer.send(self._datagram)

    def also_to(self, peer: CoapPeer) -> Transmission:
        """The same for another address, from now on, under a message id of its own."""
        message_id = self._messages.next_message_id(peer)
        datagram = self._datagram[:2] + message_id.to_bytes(2, "big") + self._datagram[4:]
        return Transmission(self._messages, peer, datagram, self._messages.timing, self._done)

    def _again(self, _: None) -> None:
        wait = self._schedule.next()
        if wait is None:
            self._messages.counters.given_up += 1
            self._settle(Settled.UNACKNOWLEDGED)
            return
        self.sent += 1
        self._hurried = False
        self._messages.counters.sent_again += 1
        self._deadline = self._messages.deadlines.after(wait, self._again, None)
        self.peer.send(self._datagram)
        if self._again_sent is not None:
            self._again_sent()

    def _settle(self, what: Settled) -> None:
        self.cancel()
        done, self._done = self._done, None
        if done is not None:
            done(self, what)


class Messages:
    """The messages of all peers."""

    def __init__(
        self,
        upwards: Upwards,
        *,
        settings: CoapSettings,
        deadlines: Deadlines,
        rng: Random,
        seconds: Callable[[], float],
    ) -> None:
        self.deadlines = deadlines
        self.rng = rng
        self.seconds = seconds
        self.counters = CoapCounters()
        self._upwards = upwards
        self._rate = RateLimit(settings.address_rate, seconds)
        self.configure(settings)

    def configure(self, settings: CoapSettings) -> None:
        """From now on these hold."""
        self.settings = settings
        self.timing = Timing(ack_timeout=settings.ack_timeout, max_retransmit=settings.max_retransmit)
        self._con_lifetime = self.timing.exchange_lifetime
        self._non_lifetime = self.timing.non_lifetime
        self._rate.rate = settings.address_rate

    # -- what comes

    def received(self, datagram: bytes, peer: CoapPeer) -> None:
        """A datagram, from the network or out of a DTLS record."""
        if self._rate.rate and self._rate.take(peer.host):
            self.counters.limited += 1
            return
        try:
            message = decode(datagram)
        except MessageFormatError as error:
            self.counters.malformed += 1
            if error.reset is not None:
                self.reject(peer, error.reset)
            return
        peer.heard = self.seconds()
        if peer.observing:
            self._upwards.heard(peer)
        kind, code, message_id = message.type, message.code, message.message_id
        if kind <= NON:
            if 0 < code < 32:
                self._request(peer, message, len(datagram))
            elif kind == CON:  # a ping, or a response that nobody asked for: RFC 7252 4.2, 4.3
                self.reject(peer, message_id)
        elif code == 0:  # an acknowledgement or a reset bears nothing else here: RFC 7252 4.2
            awaited = peer.awaited.get(message_id) if peer.awaited is not None else None
            if awaited is None:
                if kind == RST:
                    self._upwards.reset(peer, message_id)
            elif kind == ACK:
                awaited.acknowledged()
            else:
                awaited.reset()

    def _request(self, peer: CoapPeer, message: Message, size: int) -> None:
        recent = peer.recent
        if recent is None:
            recent = peer.recent = Recent()
        lifetime = self._con_lifetime if message.type == CON else self._non_lifetime
        answer = recent.seen(message.message_id, peer.heard, lifetime)
        if answer is None:
            self._upwards.requested(peer, message, size)
            return
        self.counters.repeated += 1
        if answer:
            peer.send(answer)  # RFC 7252 4.5

    # -- what goes

    def acknowledge(
        self,
        peer: CoapPeer,
        message_id: int,
        code: int = 0,
        token: bytes = b"",
        options: Options = (),
        payload: bytes = b"",
    ) -> None:
        """Acknowledge a confirmable request, with its answer or without, and again whenever it comes again."""
        datagram = datagram_of(ACK, code, message_id, token, options, payload)
        if peer.recent is not None:
            peer.recent.answered(message_id, datagram)
        peer.send(datagram)

    def forget(self, peer: CoapPeer, message_id: int) -> None:
        """The request may be obeyed again if it comes again: a stranger's, that was refused (RFC 7252 4.5)."""
        if peer.recent is not None:
            peer.recent.forget(message_id)
            if not peer.recent:
                peer.recent = None

    def reject(self, peer: CoapPeer, message_id: int) -> None:
        """Answer a message by a Reset."""
        peer.send(datagram_of(RST, 0, message_id))

    def tell(self, peer: CoapPeer, code: int, token: bytes, options: Options, payload: bytes) -> int:
        """Send a non-confirmable message: its message id."""
        message_id = self.next_message_id(peer)
        peer.send(datagram_of(NON, code, message_id, token, options, payload))
        return message_id

    def confirm(
        self,
        peer: CoapPeer,
        code: int,
        token: bytes,
        options: Options,
        payload: bytes,
        done: Callable[[Transmission, Settled], None] | None = None,
        *,
        again_sent: Callable[[], None] | None = None,
        most: int | None = None,
    ) -> Transmission:
        """Send a confirmable message; `done` is told what became of it, `again_sent` whenever it was sent again.

        All its transmissions have `most` bytes.
        """
        datagram = datagram_of(CON, code, self.next_message_id(peer), token, options, payload)
        timing = self.timing
        if most is not None:
            again = min(timing.max_retransmit, max(0, most // len(datagram) - 1))
            timing = replace(timing, max_retransmit=again)
        return Transmission(self, peer, datagram, timing, done, again_sent)

    def is_behind(self, peer: CoapPeer) -> bool:
        """Whether it gets no more confirmable messages: it is lost, or has left too many unacknowledged."""
        return peer.lost or (peer.awaited is not None and len(peer.awaited) >= MAX_AWAITED)

    def ping(self, peer: CoapPeer, done: Callable[[Transmission, Settled], None]) -> None:
        """Ask whether it is there: a Reset says so (RFC 7252 4.3)."""
        self.confirm(peer, 0, b"", (), b"", done)

    def next_message_id(self, peer: CoapPeer) -> int:
        """One that says nothing else to this peer now (RFC 7252 4.4)."""
        last = peer.last_message_id
        number = self.rng.getrandbits(16) if last is None else last + 1 & 0xFFFF
        if peer.awaited is not None:
            while number in peer.awaited:
                number = number + 1 & 0xFFFF
        peer.last_message_id = number
        return number

    def lost(self, peer: CoapPeer) -> None:
        """It is gone: nothing that it did not acknowledge is sent any more."""
        peer.recent = None
        for awaited in tuple((peer.awaited or {}).values()):
            awaited.lost()
