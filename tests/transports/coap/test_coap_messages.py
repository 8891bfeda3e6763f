"""The message layer: RFC 7252 4, on a Clock, each time and each byte.

Over 400 lines: all of RFC 7252 4, clause by clause.
"""

from __future__ import annotations

import gc
import itertools
from dataclasses import replace

import pytest
from coap_air import Air, N, Remote, Site, Told, content, option
from twisted.internet.defer import Deferred

from rpcbroker.transports.coap.exchange import Refused, Request, Response
from rpcbroker.wire.coap.blockwise import Block
from rpcbroker.wire.coap.message import Message, encode
from rpcbroker.wire.coap.numbers import Code, Type

CON, NON, ACK, RST = Type


def air(**settings: object) -> Air:
    site = Site()
    site.paths[("test",)] = lambda request: content(b"hello")
    site.paths[("post",)] = lambda request: Response(code=Code.CREATED, authenticated=True)
    site.paths[("late",)] = lambda request: _later(site)
    return Air(site, **settings)


LATER: list[Deferred[Response]] = []


def _later(site: Site) -> Deferred[Response]:
    LATER.append(Deferred())
    return LATER[-1]


@pytest.fixture(autouse=True)
def nothing_is_late() -> None:
    LATER.clear()


def test_answer_is_piggybacked_on_the_acknowledgement() -> None:
    device = air().device()
    (answer,) = device.ask(message_id=7, token=b"abc")
    assert answer == Message(ACK, Code.CONTENT, 7, b"abc", ((N.CONTENT_FORMAT, b""),), b"hello")


def test_non_confirmable_request_gets_a_non_confirmable_answer_with_an_id_of_ours() -> None:
    device = air().device()
    first, second = *device.ask(kind=NON, message_id=7), *device.ask(kind=NON, message_id=8)
    assert (first.type, first.code, first.token, first.payload) == (NON, Code.CONTENT, b"t", b"hello")
    assert second.message_id == (first.message_id + 1) & 0xFFFF


def test_first_message_id_of_each_peer_is_drawn() -> None:
    world = air()
    drawn = {world.device(number).ask(kind=NON)[0].message_id for number in range(1, 9)}
    assert len(drawn) == 8
    assert max(drawn) > 255


def test_repeated_post_is_obeyed_once_and_answered_with_the_same_bytes() -> None:
    world = air()
    device = world.device()
    answers = [device.ask(Code.POST, "/post", b"{}", message_id=9) for _ in range(1000)]
    assert len(world.site.requests) == 1
    assert {encode(answer) for (answer,) in answers} == {encode(answers[0][0])}


def test_same_message_id_from_another_address_is_another_message() -> None:
    world = air()
    for number in (1, 2, 3):
        assert world.device(number).ask(Code.POST, "/post", message_id=9)
    assert len(world.site.requests) == 3


def test_message_id_is_new_again_after_its_lifetime() -> None:
    world = air()
    device = world.device()
    device.ask(Code.POST, "/post", message_id=9)
    world.clock.advance(246)
    device.ask(Code.POST, "/post", message_id=9)
    assert len(world.site.requests) == 1
    world.clock.advance(2)
    device.ask(Code.POST, "/post", message_id=9)
    assert len(world.site.requests) == 2


def test_repeated_non_confirmable_request_is_ignored() -> None:
    world = air()
    device = world.device()
    device.ask(kind=NON, message_id=9)
    assert device.ask(kind=NON, message_id=9) == []
    assert len(world.site.requests) == 1


def test_late_answer_is_a_separate_confirmable_message() -> None:
    world = air()
    device = world.device()
    assert device.ask(path="/late", message_id=9) == []
    world.advance(0.52)
    assert device.heard() == [Message(ACK, Code.EMPTY, 9)]
    assert device.ask(path="/late", message_id=9) == [Message(ACK, Code.EMPTY, 9)]
    LATER[0].callback(content(b"at last"))
    (answer,) = device.heard()
    assert (answer.type, answer.code, answer.token, answer.payload) == (CON, Code.CONTENT, b"t", b"at last")
    assert device.acknowledge(answer) == []
    world.advance(100)
    assert device.heard() == []
    assert len(world.site.requests) == 1


def test_answer_in_time_is_piggybacked_though_it_came_later() -> None:
    world = air()
    device = world.device()
    device.ask(path="/late", message_id=9)
    world.advance(0.4)
    LATER[0].callback(content(b"quick"))
    (answer,) = device.heard()
    assert (answer.type, answer.message_id, answer.payload) == (ACK, 9, b"quick")
    world.advance(10)
    assert device.heard() == []


def test_late_answer_to_a_non_confirmable_request_is_non_confirmable() -> None:
    world = air()
    device = world.device()
    device.ask(path="/late", kind=NON)
    world.advance(5)
    assert device.heard() == []
    LATER[0].callback(content(b"at last"))
    assert [answer.type for answer in device.heard()] == [NON]


def times_of_sending(world: Air) -> list[float]:
    return [time for time, _, message in world.sent if message.type == CON]


def test_separate_answer_is_sent_again_at_exactly_these_times_and_given_up() -> None:
    world = air(piggyback_timeout=0.0)
    device = world.device()
    device.ask(path="/late")
    world.advance(1)
    LATER[0].callback(content(b"x"))
    world.advance(200)
    times = times_of_sending(world)
    waits = [round(after - before, 6) for before, after in itertools.pairwise(times)]
    # Random(0): the second draw, after the message id, makes the first wait 2.385 s; deadlines are on the next 1/64 s.
    assert waits == [2.390625, 4.78125, 9.546875, 19.09375]
    assert device.peer.awaited is None


@pytest.mark.parametrize("answer", [ACK, RST])
def test_separate_answer_is_not_sent_again_once_the_peer_said_something_of_it(answer: Type) -> None:
    world = air(piggyback_timeout=0.0)
    device = world.device()
    device.ask(path="/late")
    world.advance(1)
    LATER[0].callback(content(b"x"))
    world.advance(4)
    first, again = [message for message in device.heard() if message.type == CON]
    assert first == again
    device.say(answer, 0, first.message_id)
    world.advance(200)
    assert device.heard() == []


def test_transmission_parameters_are_settings() -> None:
    world = air(piggyback_timeout=0.0, ack_timeout=1.0, max_retransmit=1)
    world.device().ask(path="/late")
    world.advance(1)
    LATER[0].callback(content(b"x"))
    world.advance(100)
    assert len(times_of_sending(world)) == 2
    world.server.settings = replace(world.server.settings, max_retransmit=3)
    world.device(2).ask(path="/late")
    world.advance(1)
    LATER[1].callback(content(b"x"))
    world.advance(100)
    assert len(times_of_sending(world)) == 2 + 4


def test_strangers_are_not_sent_more_than_three_times_what_they_sent_in_all_retransmissions() -> None:
    world = air(piggyback_timeout=0.0)
    device = world.device()
    device.ask(path="/late")
    size = 4 + 1 + 5
    world.advance(1)
    LATER[0].callback(Response(code=Code.CREATED))
    world.advance(200)
    assert sum(len(encode(message)) for _, _, message in world.sent[1:]) <= 3 * size
    assert len(times_of_sending(world)) > 1


ODDITIES = {
    "ping": ((CON, 0, 5), [Message(RST, 0, 5)]),
    "empty non-confirmable": ((NON, 0, 5), []),
    "response that nobody asked for": ((CON, Code.CONTENT, 5, b"t"), [Message(RST, 0, 5)]),
    "the same, non-confirmable": ((NON, Code.CONTENT, 5, b"t"), []),
    "the same in an acknowledgement": ((ACK, Code.CONTENT, 5, b"t"), []),
    "acknowledgement of nothing": ((ACK, 0, 5), []),
    "reset of nothing": ((RST, 0, 5), []),
    "request in an acknowledgement": ((ACK, Code.GET, 5, b"t", ((N.URI_PATH, b"test"),)), []),
    "request in a reset": ((RST, Code.GET, 5, b"t", ((N.URI_PATH, b"test"),)), []),
    "2.31 as a request": ((CON, Code.CONTINUE, 5, b"t"), [Message(RST, 0, 5)]),
    "class 1": ((CON, 0x21, 5), [Message(RST, 0, 5)]),
    "class 3": ((CON, 0x61, 5), [Message(RST, 0, 5)]),
    "class 6": ((CON, 0xC1, 5), [Message(RST, 0, 5)]),
    "class 7": ((CON, 0xE1, 5), [Message(RST, 0, 5)]),
    "class 7, non-confirmable": ((NON, 0xE1, 5), []),
}


@pytest.mark.parametrize(("said", "answer"), ODDITIES.values(), ids=ODDITIES)
def test_oddities(said: tuple[object, ...], answer: list[Message]) -> None:
    world = air()
    assert world.device().say(*said) == answer
    assert not world.site.requests


BROKEN = {
    "nothing": (b"", []),
    "one byte": (b"\x40", []),
    "three bytes": (b"\x40\x01\x00", []),
    "version 0": (b"\x00\x01\x00\x05", []),
    "version 2": (b"\x80\x01\x00\x05", []),
    "version 3": (b"\xc0\x01\x00\x05", []),
    "token length 9": (b"\x49\x01\x00\x05" + bytes(9), [Message(RST, 0, 5)]),
    "token length 15": (b"\x4f\x01\x00\x05" + bytes(15), [Message(RST, 0, 5)]),
    "token length 9, non-confirmable": (b"\x59\x01\x00\x05" + bytes(9), []),
    "token cut off": (b"\x44\x01\x00\x05ab", [Message(RST, 0, 5)]),
    "empty with a token": (b"\x41\x00\x00\x05t", [Message(RST, 0, 5)]),
    "empty with a payload": (b"\x40\x00\x00\x05\xffx", [Message(RST, 0, 5)]),
    "marker without payload": (b"\x40\x01\x00\x05\xff", [Message(RST, 0, 5)]),
    "option length 15": (b"\x40\x01\x00\x05\xbf", [Message(RST, 0, 5)]),
    "option delta 15": (b"\x40\x01\x00\x05\xf1x", [Message(RST, 0, 5)]),
    "option cut off": (b"\x40\x01\x00\x05\xb9abc", [Message(RST, 0, 5)]),
    "options beyond 65535": (b"\x40\x01\x00\x05" + b"\xe0\xff\xff" * 2, [Message(RST, 0, 5)]),
}


@pytest.mark.parametrize(("datagram", "answer"), BROKEN.values(), ids=BROKEN)
def test_broken_datagrams(datagram: bytes, answer: list[Message]) -> None:
    world = air()
    assert world.device().throw(datagram) == answer
    assert not world.site.requests


ANSWERS = {
    "unknown critical option": (lambda d: d.say(CON, 1, 5, b"t", ((11, b"test"), (9999, b""))), Code.BAD_OPTION),
    "unknown elective option": (lambda d: d.say(CON, 1, 5, b"t", ((11, b"test"), (9998, b""))), Code.CONTENT),
    "repeated critical option": (
        lambda d: d.say(CON, 1, 5, b"t", ((11, b"test"), (17, b""), (17, b""))),
        Code.BAD_OPTION,
    ),
    "accept of three bytes": (lambda d: d.say(CON, 1, 5, b"t", ((11, b"test"), (17, b"abc"))), Code.BAD_OPTION),
    "proxy-uri": (lambda d: d.ask(proxy_uri="coap://x/test"), Code.PROXYING_NOT_SUPPORTED),
    "proxy-scheme": (lambda d: d.ask(proxy_scheme="coap"), Code.PROXYING_NOT_SUPPORTED),
    "uri-host and uri-port": (lambda d: d.ask(uri_host="elsewhere", uri_port=1), Code.CONTENT),
    "path that is not UTF-8": (lambda d: d.say(CON, 1, 5, b"t", ((11, b"\xff"),)), Code.BAD_REQUEST),
    "path with NUL": (lambda d: d.say(CON, 1, 5, b"t", ((11, b"te\0st"),)), Code.BAD_REQUEST),
    "dots": (lambda d: d.ask(path="/x/../test"), Code.NOT_FOUND),
    "percent": (lambda d: d.ask(path="/%74est"), Code.NOT_FOUND),
    "long segment": (lambda d: d.ask(path="/" + "x" * 256), Code.BAD_OPTION),
    "many segments": (lambda d: d.ask(path="/x" * 200), Code.NOT_FOUND),
    "method 0.08": (lambda d: d.ask(8), Code.METHOD_NOT_ALLOWED),
    "method 0.31": (lambda d: d.ask(31), Code.METHOD_NOT_ALLOWED),
    "if-match": (lambda d: d.ask(if_match=b"x"), Code.PRECONDITION_FAILED),
    "if-none-match": (lambda d: d.ask(if_none_match=b""), Code.PRECONDITION_FAILED),
    "block size 7": (lambda d: d.ask(block2=b"\x07"), Code.BAD_REQUEST),
    "block number of four bytes": (lambda d: d.ask(block2=b"\1\2\3\4"), Code.BAD_OPTION),
}


@pytest.mark.parametrize(("ask", "code"), ANSWERS.values(), ids=ANSWERS)
def test_options_and_methods(ask: object, code: int) -> None:
    (answer,) = ask(air().device())  # type: ignore[operator]
    assert (answer.type, answer.code) == (ACK, code)


def test_unknown_critical_option_of_a_non_confirmable_request_is_rejected() -> None:
    assert air().device().say(NON, 1, 5, b"t", ((9999, b""),)) == [Message(RST, 0, 5)]


def test_answers_that_are_not_wanted_are_not_sent() -> None:
    world = air()
    device = world.device()
    assert device.ask(Code.POST, "/post", kind=NON, no_response=2) == []
    assert device.ask(Code.POST, "/post", message_id=5, no_response=2) == [Message(ACK, 0, 5)]
    assert [answer.code for answer in device.ask(Code.POST, "/none", kind=NON, no_response=2)] == [Code.NOT_FOUND]
    assert device.ask(Code.POST, "/none", kind=NON, no_response=26) == []
    assert len(world.site.requests) == 4


def test_error_of_the_handler_is_logged_and_answered(no_dropped_failures: list[str]) -> None:
    world = air()

    def broken(request: Request) -> Response:
        raise ZeroDivisionError

    world.site.paths[("broken",)] = broken
    (answer,) = world.device().ask(path="/broken")
    assert (answer.code, answer.payload) == (Code.INTERNAL_SERVER_ERROR, b"")
    device = world.device()
    device.ask(path="/late")
    LATER[0].errback(ZeroDivisionError())
    assert [each.code for each in device.heard()] == [Code.INTERNAL_SERVER_ERROR]
    assert len(no_dropped_failures) == 2
    no_dropped_failures.clear()


def test_refusal_that_comes_late_is_answered() -> None:
    device = air().device()
    device.ask(path="/late")
    LATER[0].errback(Refused(Code.FORBIDDEN, "no"))
    (answer,) = device.heard()
    assert (answer.code, answer.payload) == (Code.FORBIDDEN, b"no")


def test_etag_that_the_device_has_is_enough() -> None:
    world = air()
    world.site.paths[("test",)] = lambda request: content(b"hello", etag=b"v1", max_age=5)
    (answer,) = world.device().ask(etag=[b"v0", b"v1"])
    assert (answer.code, answer.payload) == (Code.VALID, b"")
    assert (option(answer, N.ETAG), option(answer, N.MAX_AGE)) == (b"v1", b"\5")
    (answer,) = world.device().ask(etag=b"v0")
    assert (answer.code, option(answer, N.ETAG), answer.payload) == (Code.CONTENT, b"v1", b"hello")


def test_datagrams_beyond_the_rate_of_their_address_are_dropped_unread() -> None:
    world = air(address_rate=((3, 1.0),))
    device = world.device()
    assert [len(device.ask()) for _ in range(5)] == [1, 1, 1, 0, 0]
    assert len(world.device(2).ask()) == 1
    world.clock.advance(1)
    assert len(device.ask()) == 1


def test_peers_are_bounded_and_the_one_that_was_silent_for_longest_is_forgotten() -> None:
    world = air(max_peers=10)
    devices = [world.device(number) for number in range(1, 11)]
    for device in devices:
        device.ask(Code.POST, "/post", message_id=9)
    first = devices[0].peer
    world.device(11).ask()
    assert len(world.server.peers) == 10
    assert devices[0].peer is first
    assert devices[1].peer.recent is None  # it is met for the first time again


def test_flood_of_addresses_and_message_ids_is_held_in_a_bounded_memory() -> None:
    world = air(max_peers=50)
    for number in range(2000):
        world.device(number).ask(message_id=number)
        world.sent.clear()
    assert len(world.server.peers) == 50
    device = world.device(1)
    for number in range(70_000):
        device.throw(b"\x40\x01" + (number & 0xFFFF).to_bytes(2, "big") + b"\xb4test")
        world.sent.clear()
        device.heard()
    assert device.peer.recent is not None
    assert len(device.peer.recent) <= 64


def test_message_ids_that_wait_for_an_acknowledgement_are_not_used_again() -> None:
    world = air(piggyback_timeout=0.0)
    device = world.device()
    device.ask(path="/late")
    world.advance(0.1)
    LATER[0].callback(content(b"x"))
    peer = device.peer
    (waiting,) = peer.awaited or {}
    peer.last_message_id = (waiting - 1) & 0xFFFF
    assert device.ask(kind=NON)[0].message_id == (waiting + 1) & 0xFFFF


def test_message_ids_wrap() -> None:
    device: Remote = air().device()
    device.ask(kind=NON)
    device.peer.last_message_id = 0xFFFE
    assert [device.ask(kind=NON)[0].message_id for _ in range(3)] == [0xFFFF, 0, 1]


def test_peer_that_acknowledges_nothing_cannot_use_up_message_ids() -> None:
    world = air(piggyback_timeout=0.0)
    device = world.device()
    for _ in range(2100):
        device.ask(path="/late")
    world.advance(0.1)
    for late in LATER:
        late.callback(content(b"x"))
    answers = [answer for answer in device.heard() if answer.code == Code.CONTENT]
    assert len(answers) == 2100
    assert len([answer for answer in answers if answer.type == CON]) == 2048


def test_what_is_done_leaves_no_cycles_for_the_garbage_collector() -> None:
    world = air(piggyback_timeout=0.0)
    world.site.paths[("obs",)] = world.site.observe
    world.site.paths[("large",)] = lambda request: content(bytes(2000))
    device = world.device()
    gc.collect()
    gc.disable()
    try:
        device.ask()
        device.ask(path="/late")
        world.advance(0.1)
        LATER.pop().callback(content(b"x"))
        device.acknowledge(device.heard()[-1])
        device.ask(path="/obs", observe=0)
        world.site.observations[0].notify(content(b"x"), Told())
        device.acknowledge(device.heard()[0])
        world.site.observations[0].notify(content(b"y"), Told())
        device.reset(device.heard()[0])
        device.ask(Code.POST, "/test", bytes(64), block1=Block(0, True, 2))
        device.ask(Code.POST, "/test", bytes(64), block1=Block(1, False, 2))
        device.ask(path="/large")
        world.site.observations.clear()
        world.site.requests.clear()
        world.clock.advance(1000)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_answer_to_a_peer_that_was_lost_is_not_sent_again() -> None:
    site, answer = Site(), Deferred[Response]()
    site.paths["slow",] = lambda request: answer
    world = Air(site)
    device = world.device()
    device.ask(path="/slow")
    world.advance(1)
    world.server.lost(device.peer, "too many addresses")
    answer.callback(content(b"late"))
    world.advance(100)
    assert [message.payload for message in device.heard()] == [b"", b"late"]
