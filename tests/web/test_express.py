"""What the express lane takes, and what it leaves to Twisted's parser."""

from __future__ import annotations

import pytest
from door import Door
from hostile import check_error
from hypothesis import given
from hypothesis import strategies as st

from rpcbroker.web import express
from rpcbroker.web.express import MAX_FIELDS, MAX_HEAD, PlainRequest, read_request

HEAD = b"POST /hot HTTP/1.1\r\nHost: x\r\n"
PLAIN = HEAD + b"Content-Length: 2\r\n\r\n{}"


def hot(request: PlainRequest) -> None:
    request.respond(200, request.content.getvalue() + b";" + request.path, "text/plain", {"X-A": "b"})


def door(**settings: object) -> Door:
    found = Door(**settings)
    found.site._hot = lambda method, path: hot if method == b"POST" and path == b"/hot" else None
    return found


def hear(data: bytes) -> PlainRequest | None:
    found = read_request(data, None)
    return found and found[0]


def test_a_plain_request_is_read() -> None:
    found = read_request(
        b"GET /a/B-7_.~?x=1&y=&x=2,3 HTTP/1.1\r\nHost: h:80\r\nX-A:  b c  \r\nEmpty:\r\n\r\nrest", None
    )
    assert found is not None
    request, size = found
    assert size == len(b"GET /a/B-7_.~?x=1&y=&x=2,3 HTTP/1.1\r\nHost: h:80\r\nX-A:  b c  \r\nEmpty:\r\n\r\n")
    assert (request.method, request.path) == (b"GET", b"/a/B-7_.~")
    assert request.args == {b"x": [b"1", b"2,3"], b"y": [b""]}
    assert request.getHeader(b"x-a") == b"b c"
    assert request.requestHeaders.getRawHeaders(b"empty") == (b"",)
    assert request.requestHeaders.getRawHeaders(b"accept", ()) == ()
    assert request.content.read() == b""
    assert repr(request) == "<PlainRequest GET /a/B-7_.~>"


def test_a_body_is_what_the_length_says() -> None:
    found = read_request(PLAIN + PLAIN, None)
    assert found is not None
    assert (found[0].content.read(), found[1]) == (b"{}", len(PLAIN))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PLAIN[:-1],
        PLAIN[:-4],
        PLAIN.replace(b"POST", b"PUT"),
        PLAIN.replace(b"POST", b"post"),
        PLAIN.replace(b"/hot", b"//hot"),
        PLAIN.replace(b"/hot", b"/h%6ft"),
        PLAIN.replace(b"/hot", b"/hot?a=%20"),
        PLAIN.replace(b"/hot", b"/hot?a+b"),
        PLAIN.replace(b"/hot", b"http://x/hot"),
        PLAIN.replace(b" /hot ", b"  /hot "),
        PLAIN.replace(b"1.1", b"1.0"),
        PLAIN.replace(b"Host: x\r\n", b""),
        PLAIN.replace(b"Host: x\r\n", b"Host: x\r\nHost: x\r\n"),
        PLAIN.replace(b"Host: x\r\n", b"Host: x\r\n folded\r\n"),
        PLAIN.replace(b"Host: x", b"Host : x"),
        PLAIN.replace(b"Host: x", b"Host: \xe4"),
        PLAIN.replace(b"Host: x", b"Host: x\t"),
        PLAIN.replace(b"Host: x\r\n", b"Host: x\n"),
        PLAIN.replace(b"Host: x", b"Host: x\ry"),
        PLAIN.replace(b"Host: x", b"Host: x\x00"),
        PLAIN.replace(b": 2", b": 02"),
        PLAIN.replace(b": 2", b": +2"),
        PLAIN.replace(b": 2", b": 2, 2"),
        PLAIN.replace(b": 2", b": 2_0"),
        PLAIN.replace(b": 2", b":"),
        PLAIN.replace(b": 2", b": 1234567890"),
        PLAIN.replace(b"Content-Length: 2\r\n", b"Content-Length: 2\r\ncontent-length: 2\r\n"),
        PLAIN.replace(b"Content-Length: 2\r\n", b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"),
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        HEAD + b"Connection: close\r\n\r\n",
        HEAD + b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
        HEAD + b"Accept: application/json, TEXT/event-stream\r\n\r\n",
        HEAD + b"".join(b"X-%d: 1\r\n" % number for number in range(MAX_FIELDS)) + b"\r\n",
        HEAD + b"X: " + b"x" * MAX_HEAD + b"\r\n\r\n",
    ],
)
def test_what_leaves_a_doubt_is_left_to_twisted(data: bytes) -> None:
    assert hear(data) is None


def test_fields_are_read_once_for_a_caller_who_says_the_same_again() -> None:
    express.read_fields.cache_clear()
    assert hear(PLAIN) is not None
    assert hear(PLAIN.replace(b"/hot", b"/other")) is not None
    assert express.read_fields.cache_info()[:2] == (1, 1)


def test_a_plain_request_is_answered_without_the_resource() -> None:
    here = door()
    one = here.caller()
    one.channel.dataReceived(PLAIN)
    (answer,) = one.answers()
    assert (answer.status, answer.body) == (200, b"{};/hot")
    assert answer.headers["x-a"] == ["b"]
    assert answer.headers["content-length"] == [str(len(answer.body))]
    here.advance(here.site.settings.idle_timeout - 1)
    assert not one.wire.closed, "it may be used again"
    here.advance(1)
    assert one.wire.closed


def test_requests_in_one_piece_are_answered_in_order_one_a_turn() -> None:
    here = door()
    one = here.caller()
    kinds = [PLAIN, b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n", PLAIN.replace(b"{}", b"[]"), PLAIN]
    one.channel.dataReceived(b"".join(kinds))
    said = [answer.body for answer in one.answers()]
    assert said == [b"{};/hot"]
    here.turn(3)
    said += [answer.body for answer in one.answers()]
    assert said == [b"{};/hot", b"{}", b"[];/hot", b"{};/hot"]


def test_answers_of_one_turn_go_out_at_its_end() -> None:
    here = door()
    callers = here.caller(), here.caller()
    here.site.outgoing.gather()
    assert [caller.send(PLAIN) for caller in callers] == [[], []]
    here.site.outgoing.release()
    assert [caller.statuses() for caller in callers] == [[200], [200]]


def test_the_last_answer_is_out_before_its_connection_closes() -> None:
    here = door()
    waiting: list[PlainRequest] = []
    here.site._hot = lambda method, path: waiting.append
    one = here.caller()
    one.channel.dataReceived(PLAIN)
    one.channel.finish()
    here.site.outgoing.gather()
    hot(waiting[0])
    assert one.wire.closed
    assert one.statuses() == [200]


@pytest.mark.parametrize(("following", "status"), [(b"GET /now HTTP/1.1\r\nHost: x\r\n\r\n", 200), (b"?\r\n\r\n", 400)])
def test_what_is_answered_the_long_way_in_the_same_turn_comes_after_it(following: bytes, status: int) -> None:
    here = door()
    one = here.caller()
    here.site.outgoing.gather()
    one.channel.dataReceived(PLAIN)
    one.channel.dataReceived(following)
    here.site.outgoing.release()
    here.turn()
    first, second = one.answers()
    assert (first.body, second.status) == (b"{};/hot", status)


def test_of_requests_that_come_one_by_one_in_a_turn_one_is_served_in_it() -> None:
    here = door()
    one, other = here.caller(), here.caller()
    here.site.outgoing.gather()
    for _ in range(3):
        one.channel.dataReceived(PLAIN)  # as TLS hands on what came in one read
    other.channel.dataReceived(PLAIN)
    assert one.wire.producerState == "paused"
    here.site.outgoing.release()
    assert [len(caller.answers()) for caller in (one, other)] == [1, 1]
    here.turn()
    assert len(one.answers()) == 1
    here.turn()
    assert len(one.answers()) == 1
    assert one.wire.producerState == "producing"
    here.site.outgoing.gather()
    one.channel.dataReceived(PLAIN)
    here.site.outgoing.release()
    assert len(one.answers()) == 1, "in another turn the next one is served at once"


def test_what_comes_while_one_is_answered_waits() -> None:
    here = door()
    waiting: list[PlainRequest] = []
    here.site._hot = lambda method, path: waiting.append
    one = here.caller()
    one.channel.dataReceived(PLAIN)
    one.channel.dataReceived(PLAIN[:20])
    one.channel.dataReceived(PLAIN[20:])
    assert len(waiting) == 1
    hot(waiting[0])
    here.turn()
    assert [answer.status for answer in one.answers()] == [200]
    assert len(waiting) == 2
    hot(waiting[1])
    assert [answer.status for answer in one.answers()] == [200]


def test_who_leaves_has_what_it_asked_for_cancelled() -> None:
    here = door()
    waiting: list[PlainRequest] = []
    here.site._hot = lambda method, path: waiting.append
    one = here.caller()
    one.channel.dataReceived(PLAIN)
    (request,) = waiting
    one.lose()
    assert request.channel is None
    hot(request)
    assert not one.answers()
    assert here.nothing_is_left()


@pytest.mark.parametrize("limit", [{"max_body_size": 1}, {"address_rate": ((1, 60),)}])
def test_limits_are_those_of_the_long_way(limit: dict[str, object]) -> None:
    found = []
    for pieces in ([PLAIN, PLAIN], [PLAIN[:1], PLAIN[1:], PLAIN[:1], PLAIN[1:]]):
        here = door(**limit)
        one = here.caller()
        for piece in pieces:
            one.channel.dataReceived(piece)
            here.turn()
        found.append(one.answers())
    assert found[0][-1].status in (413, 429)
    assert found[0][-1].status == found[1][-1].status
    assert len(found[0]) == len(found[1])
    check_error(found[0][-1])


def test_bodies_have_no_room_here_when_they_have_none_on_the_long_way() -> None:
    here = door()
    here.site.arriving = here.site.room_for_bodies - 1
    one = here.caller()
    assert one.send(PLAIN) == [503]
    here.site.arriving = 0
    assert here.caller().send(PLAIN) == [200]


def test_nothing_is_taken_once_the_broker_stops() -> None:
    here = door()
    here.site.stopping = True
    one = here.caller()
    one.channel.dataReceived(PLAIN)
    (answer,) = one.answers()
    assert answer.headers["connection"] == ["close"]


def test_a_request_in_an_empty_line_goes_the_long_way_from_then_on() -> None:
    here = door()
    one = here.caller()
    one.channel.dataReceived(b"\r\n")
    one.channel.dataReceived(PLAIN)
    assert not one.channel._on_express_lane
    one.channel.dataReceived(b"\r\n" + PLAIN)
    assert len(one.answers()) == 2


MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, len(PLAIN)),
        st.sampled_from(["insert", "delete", "replace"]),
        st.sampled_from(
            [b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"%", b"?", b"/", b"\x00", b"\xff", b"0", b"A", b","]
        ),
    ),
    max_size=3,
)


@given(MUTATIONS, st.integers(1, len(PLAIN) - 1))
def test_both_ways_answer_the_same_to_whatever_comes(changes: list[tuple[int, str, bytes]], cut: int) -> None:
    """A request that is whole may be taken; the same in two pieces never is."""
    data = PLAIN
    for place, kind, what in changes:
        data = data[:place] + (b"" if kind == "delete" else what) + data[place + (kind != "insert") :]
    outcomes = []
    for pieces in ([data + PLAIN], [data[:cut], data[cut:] + PLAIN]):
        here = Door()
        here.site._hot = lambda method, path: _as_the_resource if path == b"/now" else None
        one = here.caller()
        for piece in pieces:
            one.channel.dataReceived(piece.replace(b"/hot", b"/now"))
        here.turn(4)
        outcomes.append(([(answer.status, answer.body) for answer in one.answers()], one.wire.closed))
    assert outcomes[0] == outcomes[1]


def _as_the_resource(request: PlainRequest) -> None:
    request.respond(200, request.content.read() or b"{}", "application/json", {})
