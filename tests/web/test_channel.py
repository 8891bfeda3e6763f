"""One HTTP connection: deadlines, turns, back-pressure, and what its parser refuses, on a clock.

Over 400 lines: each state of a connection, with each thing that a caller may do in it.
"""

from __future__ import annotations

import json

import pytest
from door import GET, LATER, Door
from hostile import check_error
from hypothesis import given, settings
from hypothesis import strategies as st

from rpcbroker.web.channel import LINGER, MAX_PIECES

HEAD = b"GET /now HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /now HTTP/1.1\r\nHost: x\r\n"
CLOSING = HEAD + b"Connection: close\r\n\r\n"


class Producer:
    """Something that answers at length."""

    paused = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        """Nothing has to be stopped."""


@pytest.fixture
def door() -> Door:
    return Door(request_timeout=30, idle_timeout=75, write_timeout=20)


class TestSilence:
    def test_a_connection_that_says_nothing_is_closed_after_the_idle_timeout(self, door: Door) -> None:
        caller = door.caller()
        door.advance(74)
        assert not caller.wire.closed
        door.advance(1)
        assert caller.wire.closed
        assert not caller.wire.aborted
        assert caller.statuses() == []

    def test_the_time_begins_anew_with_each_answer(self, door: Door) -> None:
        caller = door.caller()
        for _ in range(5):
            door.advance(60)
            assert caller.send(GET) == [200]
        door.advance(74)
        assert not caller.wire.closed
        door.advance(1)
        assert caller.wire.closed

    def test_an_empty_line_does_not_count_as_the_beginning_of_a_request(self, door: Door) -> None:
        caller = door.caller()
        caller.send(b"\r\n")
        door.advance(31)
        assert not caller.wire.closed
        assert caller.send(GET) == [200]

    def test_who_is_silent_and_never_lets_go_is_aborted(self, door: Door) -> None:
        caller = door.caller()
        door.advance(75)
        door.advance(20)
        assert caller.wire.aborted


class TestArrival:
    @pytest.mark.parametrize(
        ("first", "more"),
        [
            (b"G", b"E"),
            (HEAD, b"A: b\r\n"),
            (POST + b"Content-Length: 1000\r\n\r\n", b"x"),
            (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
            (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n"),
        ],
    )
    def test_a_request_that_trickles_is_408_however_lively_it_is(self, door: Door, first: bytes, more: bytes) -> None:
        caller = door.caller()
        door.advance(70)
        assert caller.send(first) == []
        for _ in range(29):
            door.clock.advance(1)
            assert caller.send(more) == []
        door.advance(1)
        (answer,) = caller.answers()
        assert answer.status == 408
        check_error(answer)
        assert "30 s" in json.loads(answer.body)["message"]
        assert caller.wire.closed

    def test_the_time_of_a_pipelined_request_begins_with_its_own_first_byte(self, door: Door) -> None:
        caller = door.caller()
        caller.send(HEAD)
        door.advance(29)
        assert caller.send(b"\r\nG") == [200]
        door.turn()
        door.advance(29)
        assert caller.statuses() == []
        door.advance(1)
        assert caller.statuses() == [408]

    def test_a_refused_caller_may_go_on_for_a_while_and_is_then_aborted(self, door: Door) -> None:
        caller = door.caller()
        assert caller.send(b"what?\r\n" + GET) == [400]
        assert caller.send(GET) == []
        assert not caller.wire.aborted
        door.advance(LINGER)
        assert caller.wire.aborted

    def test_so_is_one_when_all_are_closed(self, door: Door) -> None:
        caller = door.caller()
        caller.send(b"what?\r\n")
        door.site.close_all()
        door.advance(LINGER)
        assert caller.wire.aborted

    def test_an_answer_to_a_refused_caller_is_not_waited_for_by_the_transport(self, door: Door) -> None:
        caller = door.caller()
        caller.send(b"what?\r\n")
        assert caller.wire.producer is None, "it would be resumed, and the connection not be half closed"
        assert caller.wire.half_closed

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            (b"/" * 16_387, 414),
            (HEAD + b"a" * 16_387, 431),
            (HEAD + b"A: b\r\n" * 100 + b"\r\n", 431),
            (HEAD + b"A: b\r\n c\r\n", 400),
            (HEAD + b"what\r\nA: b\r\n", 400),
            (POST + b"Content-Length: " + b"5" * 5000 + b"\r\n\r\n", 400),
            (POST + b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", 415),
            (POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", 400),
            (POST + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n", 413),
        ],
    )
    def test_what_the_parser_cannot_take_is_refused_and_nothing_after_it_is_read(
        self, door: Door, data: bytes, status: int
    ) -> None:
        caller = door.caller()
        for part in (data + b"\r\n" + GET, GET):
            caller.channel.dataReceived(part)
        (answer,) = caller.answers()
        assert answer.status == status
        check_error(answer)


class TestWaiting:
    def test_a_long_call_is_never_cut(self, door: Door) -> None:
        caller = door.caller()
        assert caller.send(LATER) == []
        door.advance(100_000)
        assert not caller.wire.closed
        door.root.answer_all()
        assert caller.statuses() == [200]
        door.advance(74)
        assert not caller.wire.closed
        door.advance(1)
        assert caller.wire.closed

    def test_requests_behind_it_are_kept_up_to_a_limit_and_then_not_read(self, door: Door) -> None:
        caller = door.caller()
        caller.send(LATER + GET * 100)
        assert caller.wire.producerState == "producing"
        caller.send(GET * 1000)
        assert caller.wire.producerState == "paused"
        door.root.answer_all()
        door.turn(1100)
        assert caller.statuses() == [200] * 1101
        assert caller.wire.producerState == "producing"

    def test_a_caller_who_babbles_in_single_bytes_costs_no_more(self, door: Door) -> None:
        caller = door.caller()
        caller.send(LATER)
        for byte in GET * 20:
            caller.send(bytes([byte]))
            assert len(caller.channel._dataBuffer) <= MAX_PIECES + 1
        door.root.answer_all()
        door.turn(20)
        assert caller.statuses() == [200] * 21

    def test_who_hangs_up_is_noticed(self, door: Door) -> None:
        caller = door.caller()
        caller.send(LATER + GET)
        lost: list[object] = []
        door.root.waiting[0].notifyFinish().addErrback(lost.append)
        caller.lose()
        assert lost
        assert door.nothing_is_left()


class TestTurns:
    def test_of_many_requests_at_once_one_is_answered_in_a_turn(self, door: Door) -> None:
        first, second = door.caller(), door.caller()
        assert first.send(GET * 3) == [200]
        assert first.wire.producerState == "paused"
        assert second.send(GET) == [200]
        for _ in range(2):
            door.turn()
            assert first.statuses() == [200]
        assert first.wire.producerState == "producing"
        door.turn()
        assert first.statuses() == []

    def test_what_comes_between_two_turns_is_taken_in_its_order(self, door: Door) -> None:
        caller = door.caller()
        assert caller.send(GET * 2 + POST + b"Content-Length: 3\r\n\r\n") == [200]
        caller.send(b'"a"')
        door.turn(2)
        assert [answer.body for answer in caller.answers()] == [b"{}", b'"a"']

    def test_while_one_of_them_is_waited_for_hanging_up_is_noticed(self, door: Door) -> None:
        caller = door.caller()
        caller.send(GET + LATER)
        door.turn()
        assert caller.wire.producerState == "producing"

    def test_a_caller_who_left_gets_no_turn(self, door: Door) -> None:
        caller = door.caller()
        caller.send(GET * 3)
        caller.lose()
        assert door.nothing_is_left()

    def test_nothing_is_taken_after_a_request_that_closes(self, door: Door) -> None:
        caller = door.caller()
        assert caller.send(CLOSING + GET) == [200]
        door.turn(2)
        assert caller.statuses() == []
        assert caller.wire.closed
        assert caller.wire.producerState == "producing", "or the end of TLS would not be heard"


class TestReading:
    def test_an_answer_that_is_not_read_in_time_ends_the_connection(self, door: Door) -> None:
        caller = door.caller()
        caller.send(GET)
        caller.channel.pauseProducing()
        door.advance(19)
        caller.channel.pauseProducing()
        assert not caller.wire.aborted
        door.advance(1)
        assert caller.wire.aborted

    def test_one_that_is_read_does_not(self, door: Door) -> None:
        caller = door.caller()
        for _ in range(3):
            caller.send(GET)
            caller.channel.pauseProducing()
            door.advance(10)
            caller.channel.pauseProducing()  # as the transport does with each write
            door.advance(9)
            caller.channel.resumeProducing()
        door.advance(19)
        assert not caller.wire.aborted

    def test_while_a_caller_does_not_read_it_is_not_heard(self, door: Door) -> None:
        caller = door.caller()
        caller.send(LATER + GET * 2)
        caller.channel.pauseProducing()
        door.root.answer_all()
        door.turn(5)
        assert caller.statuses() == [200]
        assert caller.wire.producerState == "paused"
        caller.channel.resumeProducing()
        door.turn(5)
        assert caller.statuses() == [200, 200]
        assert caller.wire.producerState == "producing"

    def test_nor_is_its_next_turn_taken(self, door: Door) -> None:
        caller = door.caller()
        assert caller.send(GET * 2) == [200]
        caller.channel.pauseProducing()
        door.turn(3)
        assert caller.statuses() == []
        caller.channel.resumeProducing()
        door.turn(3)
        assert caller.statuses() == [200]
        assert caller.wire.producerState == "producing"

    def test_what_it_sends_while_it_waits_for_an_answer_is_bounded_all_the_same(self, door: Door) -> None:
        caller = door.caller()
        caller.send(LATER)
        caller.channel.pauseProducing()
        caller.send(GET * 1000)
        assert caller.wire.producerState == "paused"
        door.root.answer_all()
        caller.channel.resumeProducing()
        door.turn(1001)
        assert caller.statuses() == [200] * 1001
        assert caller.wire.producerState == "producing"

    def test_when_it_is_closed_then_its_farewell_can_be_heard(self, door: Door) -> None:
        caller = door.caller()
        caller.send(LATER)
        caller.channel.pauseProducing()
        caller.send(GET * 1000)
        assert caller.wire.producerState == "paused"
        caller.channel.loseConnection()
        assert caller.wire.producerState == "producing", "or the end of TLS would not be"

    def test_who_begins_an_answer_then_is_told_at_once(self, door: Door) -> None:
        caller = door.caller()
        caller.send(LATER)
        caller.channel.pauseProducing()
        producer = Producer()
        door.root.waiting[0].registerProducer(producer, True)
        assert producer.paused
        caller.channel.resumeProducing()
        assert not producer.paused

    def test_what_it_has_sent_before_is_then_not_late(self) -> None:
        door = Door(request_timeout=5, idle_timeout=5, write_timeout=20)
        one, two = door.caller(), door.caller()
        for caller, data in ((one, LATER + GET + b"G"), (two, LATER)):
            caller.send(data)
            caller.channel.pauseProducing()
        door.root.answer_all()
        door.advance(15)
        for caller in (one, two):
            caller.channel.resumeProducing()
        door.turn()
        assert (one.statuses(), two.statuses()) == ([200, 200], [200])
        assert not one.wire.closed
        door.advance(5)
        assert one.statuses() == [408]
        assert two.wire.closed

    def test_an_answer_may_be_unread_while_another_is_waited_for(self, door: Door) -> None:
        caller = door.caller()
        caller.send(LATER)
        caller.channel.pauseProducing()
        door.advance(20)
        assert caller.wire.aborted

    def test_the_last_answer_must_be_read_too(self, door: Door) -> None:
        caller = door.caller()
        assert caller.send(CLOSING) == [200]
        door.advance(19)
        assert not caller.wire.aborted
        door.advance(1)
        assert caller.wire.aborted

    def test_when_all_are_closed_those_who_do_not_read_are_aborted(self, door: Door) -> None:
        caller = door.caller()
        caller.send(GET)
        gone: list[object] = []
        door.site.close_all().addCallback(gone.append)
        door.advance(20)
        assert caller.wire.aborted
        caller.lose()
        assert gone
        assert door.nothing_is_left()


class TestTheEnd:
    """What becomes of connections when the broker stops."""

    def stop(self, door: Door) -> None:
        door.site.stopping = True
        door.site.close_all()

    def test_a_connection_whose_requests_were_answered_is_closed_at_once(self, door: Door) -> None:
        caller = door.caller()
        caller.send(GET)
        self.stop(door)
        assert caller.wire.closed

    def test_on_a_new_connection_the_request_that_is_on_its_way_is_answered(self, door: Door) -> None:
        caller = door.caller()
        self.stop(door)
        assert not caller.wire.closed
        caller.channel.dataReceived(GET)
        (answer,) = caller.answers()
        assert (answer.status, answer.headers["connection"]) == (200, ["close"])
        assert caller.wire.closed

    def test_a_request_that_has_begun_is_answered(self, door: Door) -> None:
        caller = door.caller()
        caller.send(GET)
        caller.send(LATER[:30])
        self.stop(door)
        assert not caller.wire.closed
        caller.send(LATER[30:])
        door.root.answer_all()
        assert caller.statuses() == [200]
        assert caller.wire.closed

    def test_a_request_that_is_handled_is_answered(self, door: Door) -> None:
        caller = door.caller()
        caller.send(LATER)
        self.stop(door)
        assert not caller.wire.closed
        door.root.answer_all()
        assert caller.statuses() == [200]
        assert caller.wire.closed


PIECES = [
    b"GET /now HTTP/1.1",
    b"POST /now HTTP/1.1",
    b"HEAD /now HTTP/1.0",
    b"\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"Host: x\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 99999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Connection: close\r\n",
    b"\r\n5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"FFFFFFFFFFFF\r\n",
    b"hello",
    b"{}",
    b": ",
    b"\xff\x80",
    b"%ff/../%00",
    b"a" * 20_000,
]
SENT = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)


@settings(deadline=None, max_examples=300)
@given(sent=SENT, cuts=st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_however_it_is_cut_the_answers_are_the_same_and_errors_are_json(sent: bytes, cuts: list[int]) -> None:
    said = []
    for sizes in (cuts, [len(sent) or 1]):
        door = Door()
        caller = door.caller()
        at = turn = 0
        while at < len(sent):
            size = sizes[turn % len(sizes)] * (500 if len(sent) > 5000 else 1)
            caller.channel.dataReceived(sent[at : at + size])
            door.turn()
            at, turn = at + size, turn + 1
        door.turn(30)
        methods_lie = b"HEAD /now" in sent
        found = [] if methods_lie else caller.answers()
        said.append([answer.status for answer in found])
        for answer in found:
            if answer.status >= 400:
                check_error(answer)
        caller.lose()
        assert door.nothing_is_left()
    assert said[0] == said[1]


def test_who_sends_no_more_while_it_waits_for_an_answer_has_left(door: Door) -> None:
    caller = door.caller()
    caller.send(LATER)
    caller.half_close()
    assert caller.wire.disconnecting
    assert door.root.waiting[0].channel is None, "and what was asked is cancelled"


def test_who_sends_no_more_is_closed_once_what_was_answered_is_out(door: Door) -> None:
    caller = door.caller()
    assert caller.send(GET) == [200]
    caller.half_close()
    assert caller.wire.disconnecting
    caller.half_close()
    caller.lose()
    assert door.nothing_is_left()


def test_who_sends_no_more_after_a_last_answer_does_not_disturb_it(door: Door) -> None:
    caller = door.caller()
    assert caller.send(b"GET /now HTTP/1.0\r\n\r\n") == [200]
    caller.half_close()
    caller.lose()
    assert door.nothing_is_left()


def test_what_came_before_the_end_is_answered(door: Door) -> None:
    caller = door.caller()
    caller.channel.dataReceived(GET * 3)
    caller.half_close()
    assert not caller.wire.disconnecting
    door.turn(3)
    assert caller.statuses() == [200] * 3
    caller.half_close()  # it is tried again to read
    assert caller.wire.disconnecting


def test_a_caller_that_was_refused_and_sends_no_more_may_read_why(door: Door) -> None:
    caller = door.caller()
    caller.channel.dataReceived(b"nonsense\r\n\r\n")
    caller.half_close()
    assert door.site.open_connections == 1, "the transport closes when all is out"
    assert caller.wire.disconnecting
    assert caller.statuses() == [400]
    caller.lose()
    assert door.nothing_is_left()


def test_who_sends_no_more_gets_what_was_answered_before_the_request_that_is_waited_for(door: Door) -> None:
    caller = door.caller()
    caller.channel.dataReceived(GET + LATER)
    door.turn()
    caller.half_close()
    assert door.root.waiting[0].channel is None, "it is cancelled"
    assert door.site.open_connections == 1
    assert caller.wire.disconnecting
    assert caller.statuses() == [200]
    caller.lose()
    assert door.nothing_is_left()


def test_what_comes_after_a_connection_was_closed_is_not_served(door: Door) -> None:
    idle, last = door.caller(), door.caller()
    idle.send(GET)
    assert last.send(CLOSING) == [200]
    door.advance(76)
    assert idle.wire.disconnecting
    for caller in (idle, last):
        assert caller.send(GET) == [], "over TLS it may have been on its way"
        assert not caller.channel._buffer
