"""Observations: what is told to whom, one notification at a time, and who is still there (RFC 7641)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from rpcbroker.core.deadlines import Deadline
from rpcbroker.transports.coap.answers import shaped
from rpcbroker.transports.coap.blocks import Kept, Shelf
from rpcbroker.transports.coap.exchange import Peer, Response, Settled
from rpcbroker.transports.coap.messages import Messages, Transmission
from rpcbroker.transports.coap.peers import CoapPeer, Peers, UdpPeer
from rpcbroker.wire.coap.blockwise import exponent_of
from rpcbroker.wire.coap.observe import following, value_of


def _nobody(*_: object) -> None:
    """Called for those who want to know nothing."""


class CoapObservation:
    """One entry in the list of observers; see exchange.Observation."""

    __slots__ = (
        "_elsewhere",
        "_exponent",
        "_kept",
        "_message_id",
        "_observers",
        "_opening",
        "_settled",
        "_soon",
        "_tries",
        "_unconfirmed",
        "accept",
        "body_key",
        "confirmable",
        "ended",
        "gone",
        "path",
        "peer",
        "ready",
        "token",
    )

    def __init__(self, observers: Observers, peer: CoapPeer, token: bytes, path: int) -> None:
        self.peer = peer
        self.token = token
        self.path = path
        """The hash of the path: whether a registration is for the same resource."""
        self.confirmable = True
        self.accept: int | None = None
        self.body_key = 0
        """What a large notification is kept under; see `Observers.body_key`."""
        self.gone: Callable[[str], None] = _nobody
        self.ready: Callable[[], None] = _nobody
        self._observers = observers
        self._exponent = 0
        self._unconfirmed = 0
        self._message_id: int | None = None
        self._elsewhere: CoapPeer | None = None
        """Where the device was heard last, if it was not here."""
        self._soon = False
        """Whether there is no time to see first whether it is here."""
        self.ended = False
        self._opening = False
        """Whether a registration is not answered yet."""
        self._settled: Callable[[Settled], None] | None = None
        """Who waits for the end of the notification that is on its way; None: there is none."""
        self._tries: tuple[Transmission, ...] = ()
        """Its messages that are not acknowledged: to the peer, and to where it may be now."""
        self._kept: Kept | None = None
        """Its body, if blocks of it were not fetched yet."""

    def registered(self, *, confirmable: bool, accept: int | None, exponent: int, body_key: int) -> None:
        """What the registration, or the newest one, wants."""
        self.confirmable = confirmable
        self.accept = accept
        self._exponent = exponent
        self.body_key = body_key
        self._opening = True

    def answered(self) -> None:
        """The registration is: now notifications may follow."""
        self._opening = False
        if not self.busy:
            self.ready()

    @property
    def busy(self) -> bool:
        """See exchange.Observation. One that has ended stays busy for ever."""
        return self.ended or self._opening or self._settled is not None

    def notify(self, response: Response, settled: Callable[[Settled], None]) -> bool:
        """See exchange.Observation."""
        if self.busy:
            return False
        observers, peer = self._observers, self.peer
        code, options, payload, more = shaped(
            response, exponent=min(self._exponent, observers.exponent), observe=observers.next_number()
        )
        if more:
            self._kept = observers.keep(peer, self.body_key, response, self._fetched)
        self._settled = settled
        messages = observers.messages
        doubtful = self._elsewhere is not None  # whether it is here has to be found out
        if self.confirmable or doubtful or self._unconfirmed + 1 >= messages.settings.confirm_every:  # RFC 7641 4.5
            self._unconfirmed = 0
            self._tries = (
                messages.confirm(peer, code, self.token, options, payload, self._tried, again_sent=self._try_elsewhere),
            )
            self._try_elsewhere()
        else:
            self._unconfirmed += 1
            self._message_id = messages.tell(peer, code, self.token, options, payload)
            if not more:
                self._settled = None
                settled(Settled.ACKNOWLEDGED)
        return True

    def withdraw(self, became: Settled = Settled.DROPPED) -> None:
        """See exchange.Observation."""
        self._stop_trying()
        self._put_down()
        self._done(became)

    def end(self, response: Response | None = None) -> None:
        """See exchange.Observation."""
        if self.ended:
            return
        self._leave(Settled.DROPPED)
        if response is not None:
            messages = self._observers.messages
            code, options, payload, _ = shaped(response, exponent=self._observers.exponent)
            send = messages.confirm if self.confirmable and not messages.is_behind(self.peer) else messages.tell
            send(self.peer, code, self.token, options, payload)

    def reach(self, peer: Peer, *, soon: bool) -> None:
        """See exchange.Observation."""
        assert isinstance(peer, CoapPeer)
        self._soon = soon
        if peer is self.peer:
            self._elsewhere = None
            for attempt in self._tries:
                attempt.hurry()
        else:
            self._elsewhere = peer
            self._try_elsewhere()

    def _try_elsewhere(self) -> None:
        """What was sent once only may arrive yet."""
        peer = self._elsewhere
        if peer is None or not self._tries or (self._tries[0].sent < 2 and not self._soon):
            return
        if peer.lost:
            self._elsewhere = None
        elif not self._observers.messages.is_behind(peer) and all(attempt.peer is not peer for attempt in self._tries):
            self._tries = (*self._tries, self._tries[0].also_to(peer))

    def is_message(self, message_id: int) -> bool:
        """Whether its last non-confirmable notification had that id."""
        return message_id == self._message_id

    def lose(self, why: str, became: Settled = Settled.DROPPED) -> None:
        """It ends from the other side."""
        if not self.ended:
            gone = self.gone
            self._leave(became)
            gone(why)

    def _leave(self, became: Settled) -> None:
        self.ended = True
        self._observers.remove(self)
        self._stop_trying()
        self._put_down()
        self.gone = self.ready = _nobody  # they know who knows this observation
        settled, self._settled = self._settled, None
        if settled is not None:
            settled(became)

    def _put_down(self) -> None:
        """Nobody shall fetch the rest of its body."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.done = None
            self._observers.shelf.take(kept)

    def _stop_trying(self) -> None:
        for attempt in self._tries:
            attempt.cancel()
        self._tries = ()

    def _tried(self, attempt: Transmission, became: Settled) -> None:
        """One of the messages of the notification was acknowledged, rejected or given up."""
        self._tries = tuple(other for other in self._tries if other is not attempt)
        here = attempt.peer is self.peer
        if became is Settled.ACKNOWLEDGED:
            self._stop_trying()
            if not here:
                self._move(attempt.peer)
            if self._kept is None:
                self._done(Settled.ACKNOWLEDGED)
            else:
                self._observers.shelf.touch(self._kept)
        elif became is Settled.REJECTED and here:
            self.lose("the device reset it", Settled.REJECTED)  # RFC 7641 3.6
        elif not self._tries:
            self.lose("the device did not acknowledge a notification", Settled.UNACKNOWLEDGED)  # RFC 7641 4.5

    def _fetched(self, whole: bool) -> None:
        """The last block was fetched, or nobody came for it in time, or the body had to make room."""
        self._kept = None
        self._stop_trying()
        self._done(Settled.ACKNOWLEDGED if whole else Settled.UNFETCHED)

    def _done(self, became: Settled) -> None:
        settled, self._settled = self._settled, None
        if settled is not None:
            settled(became)
            if not self.busy:
                self.ready()

    def _move(self, peer: CoapPeer) -> None:
        """The device has another address."""
        observers = self._observers
        observers.remove(self)
        if self._kept is not None:
            self._kept = observers.shelf.move(self._kept, peer)
        self.peer = peer
        self._elsewhere = None
        observers.add(self)


class Observers:
    """All observations, by peer and token; the peer that was silent for longest comes first."""

    def __init__(self, messages: Messages, shelf: Shelf, peers: Peers) -> None:
        self.messages = messages
        self.shelf = shelf
        self.exponent = exponent_of(messages.settings.block_size)
        self._peers = peers
        self._of: OrderedDict[CoapPeer, dict[bytes, CoapObservation]] = OrderedDict()
        self._number = 0
        self._sweep: Deadline | None = None
        self.count = 0
        """How many there are."""

    def next_number(self) -> bytes:
        """The value of the next Observe option, whoever gets it: numbers of each observation increase, and wrap.

        The seconds of a reactor are those of the wall clock, which goes on over a restart.
        """
        self._number = following(self._number, self.messages.seconds())  # RFC 7641 4.4
        return value_of(self._number)

    @staticmethod
    def key_of(body_key: int) -> tuple[str, int]:
        """Under what the body of an answer, or of a notification, is kept."""
        return "answer", body_key

    def keep(self, peer: CoapPeer, body_key: int, response: Response, done: Callable[[bool], None]) -> Kept:
        """A notification's body, for its other blocks."""
        return self.shelf.put(peer, self.key_of(body_key), response, self.messages.timing.max_transmit_wait, done)

    # -- the list

    def register(self, peer: CoapPeer, token: bytes, path: int) -> CoapObservation | None:
        """The observation with this peer, token and path; a new one if there is none. None: there are too many."""
        of_peer = self._of.get(peer)
        if of_peer is not None:
            older = of_peer.get(token)
            if older is not None and older.path == path:
                return older
            if older is not None:
                older.lose("the device uses its token for another path")  # RFC 7641 4.1
            elif len(of_peer) >= self.messages.settings.max_observations_per_peer:
                return None
        observation = CoapObservation(self, peer, token, path)
        self.add(observation)
        return observation

    def find(self, peer: CoapPeer, token: bytes) -> CoapObservation | None:
        """The observation with this peer and token."""
        of_peer = self._of.get(peer)
        return None if of_peer is None else of_peer.get(token)

    def add(self, observation: CoapObservation) -> None:
        """Put it on the list; one with the same peer and token is replaced."""
        peer = observation.peer
        older = self.find(peer, observation.token)
        if older is not None:
            older.lose("another one took its address and token")
        of_peer = self._of.get(peer)
        if of_peer is None:
            of_peer = self._of[peer] = {}
            peer.observing = True
            self._peers.observes(peer)
            if self._sweep is None:
                self._watch(self.messages.settings.confirm_after)
        of_peer[observation.token] = observation
        self.count += 1

    def remove(self, observation: CoapObservation) -> None:
        """Take it off the list."""
        peer = observation.peer
        of_peer = self._of.get(peer)
        if of_peer is None or of_peer.get(observation.token) is not observation:
            return
        del of_peer[observation.token]
        self.count -= 1
        if not of_peer:
            del self._of[peer]
            peer.observing = False
            self._peers.ceases(peer)

    # -- what becomes of peers

    def heard(self, peer: CoapPeer) -> None:
        """It is there, and was heard of just now."""
        self._of.move_to_end(peer)

    def reset(self, peer: CoapPeer, message_id: int) -> None:
        """It makes nothing of that non-confirmable message: RFC 7641 3.6."""
        for observation in self._of.get(peer, {}).values():
            if observation.is_message(message_id):
                observation.lose("the device reset it", Settled.REJECTED)
                break

    def lost(self, peer: CoapPeer, why: str) -> None:
        """It is gone."""
        for observation in tuple(self._of.get(peer, {}).values()):
            observation.lose(why)

    def oldest(self) -> CoapPeer | None:
        """The one with a UDP address that was silent for longest."""
        return next((peer for peer in self._of if isinstance(peer, UdpPeer)), None)

    def _watch(self, seconds: float) -> None:
        self._sweep = self.messages.deadlines.after(seconds, self._ask_the_silent, None)

    def _ask_the_silent(self, _: Any) -> None:
        """Who was silent for too long is asked whether it is there: RFC 7641 4.5 demands it once a day."""
        self._sweep = None
        messages = self.messages
        now, patience = messages.seconds(), messages.settings.confirm_after
        while self._of:
            peer = next(iter(self._of))
            left = peer.heard + patience - now
            if left > 0:
                self._watch(left)
                break
            peer.heard = now
            self._of.move_to_end(peer)
            if peer.awaited is None:  # what is on its way to it asks the same
                messages.ping(peer, self._asked)

    def _asked(self, attempt: Transmission, became: Settled) -> None:
        if became is Settled.UNACKNOWLEDGED:
            self.lost(attempt.peer, "the device did not answer a ping")
