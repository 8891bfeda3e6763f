"""What a stranger may say over MQTT, and when it is sent away."""

from __future__ import annotations

import pytest
from fakes import error_of, result_of
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rpcbroker.core.deadlines import Deadlines
from rpcbroker.core.jsontext import BadJSON
from rpcbroker.transports.mqtt.face import Refused
from rpcbroker.transports.mqtt.provision import LINGER, ProvisionFace

TICK = 1 / 32
REQUEST, RESPONSE = "/provision/request", "/provision/response"


class Stranger:
    def __init__(self) -> None:
        self.clock = Clock()
        self.asked: list[tuple[bytes, Deferred[bytes]]] = []
        self.heard: list[tuple[str, bytes, int]] = []
        self.closed = 0
        self.face = ProvisionFace(
            provision=self._provision,
            publish=lambda *message: self.heard.append(message),
            close=self._close,
            deadlines=Deadlines(self.clock),
        )

    def _provision(self, request: bytes) -> Deferred[bytes]:
        waiting: Deferred[bytes] = Deferred()
        self.asked.append((request, waiting))
        return waiting

    def _close(self) -> None:
        self.closed += 1


def test_only_the_answer_can_be_subscribed_to() -> None:
    face = Stranger().face
    assert face.grants("/provision/response")
    for other in ("provision/response", "/provision/request", "/provision/+", "#", "v1/devices/me/rpc/request/+"):
        assert not face.grants(other)


def test_the_answer_is_published_before_the_request_is_acknowledged() -> None:
    stranger = Stranger()
    outcome = stranger.face.publish(REQUEST, b"{}")
    assert isinstance(outcome, Deferred)
    ((request, waiting),) = stranger.asked
    assert (request, stranger.heard, outcome.called) == (b"{}", [], False)
    waiting.callback(b"answer")
    assert stranger.heard == [(RESPONSE, b"answer", 1)]
    assert result_of(outcome) == 0


def test_anything_else_ends_the_connection() -> None:
    for topic in ("provision/request", "v1/devices/me/telemetry", RESPONSE, ""):
        stranger = Stranger()
        with pytest.raises(Refused) as refused:
            stranger.face.publish(topic, b"{}")
        assert (refused.value.code, refused.value.ends) == (0x90, True)
        assert stranger.asked == []


def test_one_request_at_a_time() -> None:
    stranger = Stranger()
    stranger.face.publish(REQUEST, b"1")
    with pytest.raises(Refused) as refused:
        stranger.face.publish(REQUEST, b"2")
    assert (refused.value.code, refused.value.ends) == (0x97, True)
    assert len(stranger.asked) == 1


def test_it_is_sent_away_a_minute_after_the_answer() -> None:
    stranger = Stranger()
    stranger.clock.advance(LINGER - 1)
    stranger.face.publish(REQUEST, b"1")
    stranger.clock.advance(LINGER * 2)
    assert not stranger.closed, "a slow store is not its fault"
    stranger.asked[0][1].callback(b"a")
    stranger.clock.advance(LINGER - 1)
    assert not stranger.closed
    stranger.clock.advance(1 + TICK)
    assert stranger.closed == 1


def test_and_so_is_one_that_asks_nothing() -> None:
    stranger = Stranger()
    stranger.clock.advance(LINGER + TICK)
    assert stranger.closed == 1


def test_what_is_no_request_fails_and_the_next_one_may_be_better() -> None:
    stranger = Stranger()
    outcome = stranger.face.publish(REQUEST, b"?")
    stranger.asked[0][1].errback(BadJSON("no"))
    assert isinstance(error_of(outcome), BadJSON)  # type: ignore[arg-type]
    stranger.face.publish(REQUEST, b"{}")
    assert len(stranger.asked) == 2
    assert stranger.heard == []


def test_when_it_has_gone_nothing_is_said_or_closed() -> None:
    stranger = Stranger()
    outcome = stranger.face.publish(REQUEST, b"{}")
    stranger.face.gone("lost")
    stranger.asked[0][1].callback(b"answer")
    assert result_of(outcome) == 0  # type: ignore[arg-type]
    stranger.clock.advance(LINGER * 2)
    assert (stranger.heard, stranger.closed) == ([], 0)
    silent = Stranger()
    silent.face.gone("lost")
    silent.clock.advance(LINGER * 2)
    assert not silent.closed
