"""Devices of test_calls_machine.py that poll: the link that all polls of one are, and what may happen to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from call_model import Acks, Disk, Place, Told, Way
from hypothesis import strategies as st
from hypothesis.stateful import rule

from rpcbroker.core.calls import Call, Step
from rpcbroker.core.ports import CloseReason
from rpcbroker.core.sessions import DeviceSession

picks = st.integers(0, 15)


@dataclass(eq=False)
class Polls(Way):
    """Another one beside it, that takes one call for each poll that waits, and a persistent one once in a while only."""

    left: Callable[[Polls], None] = lambda _: None
    """Is told when none waits any more."""
    waiting: int = 0
    attached: bool = False
    held: set[int] = field(default_factory=set)
    """Persistent calls that the device has, and has not kept for so long that it must have lost them."""
    unsure: list[Told] = field(default_factory=list)
    """What may have been written to a connection that is lost."""
    protocol: str = "POLL"
    transient: bool = True

    def deliver(self, call: Call) -> bool | None:
        if call.wire_id in self.held:
            return None
        if not self.waiting:
            return False
        self.waiting -= 1
        told = self.given_to(self, call)
        if call.persistent:
            self.held.add(call.wire_id)
        if self.acks is Acks.AT_ONCE:
            self.acknowledge(told)
        else:
            if call.persistent or not call.oneway:
                self.session.report(call.wire_id, Step.WRITTEN)
            self.unsure.append(told)
        self.look()
        return True

    def look(self) -> None:
        """Whether any waits still."""
        if not self.waiting and self.subscribed:
            self.subscribed = False
            self.left(self)
            self.session.unsubscribe(self, "no poll waits")

    def decide(self, which: int, *, lost: bool) -> None:
        """What became of one that may not have been written."""
        told = self.unsure.pop(which % len(self.unsure))
        assert told.wire_id is not None
        if not lost:
            self.acknowledge(told)
            return
        self.held.discard(told.wire_id)
        self.take_back(told)

    def give_again(self, told: Told) -> None:
        """The device has said nothing of it for long."""
        assert told.wire_id is not None
        self.held.discard(told.wire_id)
        self.take_back(told)

    def take_back(self, told: Told) -> None:
        assert told.wire_id is not None
        told.again.add(self)
        if told.has is self and (told.request.persistent or told.acknowledged is None):
            told.has = None
        self.session.take_back(told.wire_id, self, "for the model says so")

    def cancel(self, call: Call) -> bool:
        self.held.discard(call.wire_id)
        if not self.waiting:
            return False
        self.cancelled.append(call.wire_id)
        self.waiting -= 1
        self.look()
        return True

    def close(self, reason: CloseReason) -> None:
        super().close(reason)
        self.waiting, self.attached = 0, False
        self.held.clear()


class PollingDevices:
    """The part of the machine that polls."""

    places: list[Place]
    calls: list[Told]
    disk: Disk
    session: Callable[[Place], DeviceSession]
    given_to: Callable[[Way, Call], Told]

    def gone(self, way: Way) -> None:
        """What went out on it is not heard of any more, or not waited for."""
        for told in self.calls:
            if told.has is way:
                told.has = None

    def is_at_hand(self, told: Told) -> bool:
        """Whether what the device says of it is known at once: it is in memory, or the disk answers."""
        assert told.wire_id is not None
        return self.disk.settled or self.session(told.place).calls.get(told.wire_id) is not None

    def shelved(self, place: Place, leaving: Way) -> None:
        """If the device cannot be called any more, of persistent calls only the store knows."""
        if any(way is not None and way is not leaving and way.subscribed for way in (place.way, place.polls)):
            return
        for told in self.calls:
            if told.place is place and told.request.persistent:
                told.has = None

    @rule(pick=picks, acks=st.sampled_from(Acks), number=st.integers(1, 3))
    def poll(self, pick: int, acks: Acks, number: int) -> None:
        place = self.places[pick % len(self.places)]
        polls = place.polls
        if polls is None or polls.closed or not (polls.attached or polls.held):
            polls = place.polls = Polls(
                self.session(place), acks, False, self.given_to, left=lambda polls: self.shelved(place, polls)
            )
        if not polls.attached:
            polls.attached = True
            polls.session.attach(polls)
        polls.waiting += number
        if not polls.subscribed:
            polls.subscribed = True
            polls.session.subscribe(polls)

    @rule(pick=picks)
    def poll_ends(self, pick: int) -> None:
        polls = self.places[pick % len(self.places)].polls
        if polls is not None and polls.waiting:
            polls.waiting -= 1
            polls.look()

    @rule(pick=picks)
    def polls_no_more(self, pick: int) -> None:
        polls = self.places[pick % len(self.places)].polls
        if polls is not None and polls.attached and not polls.waiting:
            polls.attached = False
            self.gone(polls)
            polls.session.detach(polls, "it has not polled since")

    @rule(pick=picks, which=picks, lost=st.booleans())
    def poll_is_decided(self, pick: int, which: int, lost: bool) -> None:
        polls = self.places[pick % len(self.places)].polls
        if polls is not None and polls.unsure and all(map(self.is_at_hand, polls.unsure)):
            polls.decide(which, lost=lost)

    @rule(pick=picks, which=picks)
    def poll_gives_again(self, pick: int, which: int) -> None:
        place = self.places[pick % len(self.places)]
        polls = place.polls
        if polls is not None and polls.held:
            polls.give_again(place.seen[sorted(polls.held)[which % len(polls.held)]])
