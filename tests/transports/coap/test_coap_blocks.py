"""Bodies in blocks (RFC 7959) both ways, and how little strangers get (RFC 7252 11.3, RFC 9175).

Over 400 lines: blocks go both ways, and who may have how many of them belongs to that.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from coap_air import Air, N, Remote, Site, block, content, option
from twisted.internet.defer import Deferred

from rpcbroker.transports.coap.exchange import Refused, Request, Response
from rpcbroker.wire.coap.blockwise import Block
from rpcbroker.wire.coap.message import Message, encode
from rpcbroker.wire.coap.numbers import Code, Type, to_uint

BODY = b"".join(b"%07d\n" % each for each in range(400))  # 3,200 bytes


def air(**settings: object) -> Air:
    site = Site()
    site.paths[("large",)] = lambda request: content(BODY)
    site.paths[("up",)] = lambda request: Response(code=Code.CHANGED, authenticated=True)
    site.paths[("echo",)] = lambda request: content(request.payload)
    site.paths[("stranger",)] = lambda request: content(BODY, authenticated=False)
    site.paths[("small",)] = lambda request: content(b"x")
    return Air(site, **settings)


def fetch(device: Remote, path: str, exponent: int | None, code: int = Code.GET, payload: bytes = b"") -> bytes:
    """Get a large body as a device does that wants blocks of that size."""
    options = {} if exponent is None else {"block2": Block(0, False, exponent)}
    (answer,) = device.ask(code, path, payload, **options)
    got = block(answer)
    assert got is not None
    assert to_uint(option(answer, N.SIZE2) or b"") == len(BODY)
    body, etag = answer.payload, option(answer, N.ETAG)
    while got.more:
        assert len(answer.payload) == got.size
        (answer,) = device.ask(code, path, token=b"other", block2=Block(got.number + 1, False, got.exponent))
        got = block(answer)
        assert got is not None
        assert option(answer, N.ETAG) == etag
        body += answer.payload
    return body


@pytest.mark.parametrize("exponent", [None, 0, 3, 6])
def test_large_answer_comes_in_blocks_of_one_representation(exponent: int | None) -> None:
    world = air()
    assert fetch(world.device(), "/large", exponent) == BODY
    assert len(world.site.requests) == 1


def test_blocks_are_no_larger_than_the_setting_says() -> None:
    world = air(block_size=256)
    (answer,) = world.device().ask(path="/large")
    assert block(answer) == Block(0, True, 4)
    world.server.settings = replace(world.server.settings, block_size=700)
    (answer,) = world.device().ask(path="/large", block2=Block(0, False, 6))
    assert block(answer) == Block(0, True, 5)
    (answer,) = world.device().ask(path="/large", block2=Block(1, False, 6))
    assert (block(answer), answer.payload) == (Block(2, True, 5), BODY[1024:1536])


def test_small_answer_to_who_asks_for_blocks_is_one_block() -> None:
    (answer,) = air().device().ask(path="/small", block2=Block(0, False, 2))
    assert (block(answer), answer.payload) == (Block(0, False, 2), b"x")


def test_block_behind_the_end_is_refused() -> None:
    world = air()
    (answer,) = world.device().ask(path="/large", block2=Block(4, False, 6))
    assert answer.code == Code.BAD_REQUEST
    fetch(world.device(), "/large", 6)
    (answer,) = world.device().ask(path="/large", block2=Block(4, False, 6))
    assert answer.code == Code.BAD_REQUEST
    (answer,) = world.device(2).ask(path="/stranger", block2=Block(0xFFFFF, False, 6))
    assert answer.code == Code.BAD_REQUEST


def test_any_block_can_be_asked_for_first() -> None:
    (answer,) = air().device().ask(path="/large", block2=Block(2, False, 6))
    assert (block(answer), answer.payload) == (Block(2, True, 6), BODY[2048:3072])


def test_answer_is_kept_for_a_minute_and_asked_for_again_then() -> None:
    world = air()
    device = world.device()
    (first,) = device.ask(path="/large")
    world.clock.advance(59)
    device.ask(path="/large", block2=Block(1, False, 6))
    assert len(world.site.requests) == 1
    world.clock.advance(61)
    assert len(world.server.shelf) == 0
    assert world.server.shelf.size == 0
    (later,) = device.ask(path="/large", block2=Block(2, False, 6))
    assert len(world.site.requests) == 2
    assert option(first, N.ETAG) == option(later, N.ETAG)


def test_etag_tells_of_a_change_between_blocks() -> None:
    world = air()
    device = world.device()
    (first,) = device.ask(path="/large")
    world.clock.advance(61)
    world.site.paths[("large",)] = lambda request: content(BODY[::-1])
    (later,) = device.ask(path="/large", block2=Block(1, False, 6))
    assert option(first, N.ETAG) != option(later, N.ETAG)


def test_large_answer_to_a_post_is_made_once() -> None:
    world = air()
    world.site.paths[("post",)] = lambda request: content(BODY)
    device = world.device()
    assert fetch(device, "/post", 6, Code.POST, b"question") == BODY
    assert len(world.site.requests) == 1
    world.clock.advance(61)
    (answer,) = device.ask(Code.POST, "/post", block2=Block(1, False, 6))
    assert answer.code == Code.REQUEST_ENTITY_INCOMPLETE
    assert len(world.site.requests) == 1


# -- Block1


def send(device: Remote, path: str, body: bytes, exponent: int, **more: object) -> list[Message]:
    """Send a body in blocks: all answers."""
    size, answers = 16 << exponent, []
    for start in range(0, len(body), size):
        part = Block(start // size, start + size < len(body), exponent)
        (answer,) = device.ask(Code.POST, path, body[start : start + size], block1=part, **more)
        answers.append(answer)
    return answers


@pytest.mark.parametrize("exponent", [0, 4, 6])
def test_large_body_comes_in_blocks(exponent: int) -> None:
    world = air()
    *continued, last = send(world.device(), "/up", BODY, exponent)
    assert {answer.code for answer in continued} == {Code.CONTINUE}
    assert [block(answer, N.BLOCK1) for answer in continued] == [
        Block(each, True, exponent) for each in range(len(continued))
    ]
    assert (last.code, block(last, N.BLOCK1)) == (Code.CHANGED, Block(len(continued), False, exponent))
    (request,) = world.site.requests
    assert request.payload == BODY
    assert [request.payload for request in world.site.admits] == [BODY[: 16 << exponent]]
    assert len(world.server.shelf) == 0
    assert world.server.shelf.size == 0


def test_body_of_one_block_needs_no_memory() -> None:
    world = air()
    (answer,) = send(world.device(), "/up", b"short", 6)
    assert (answer.code, block(answer, N.BLOCK1)) == (Code.CHANGED, Block(0, False, 6))
    assert not world.site.admits


def test_large_body_gets_a_large_answer() -> None:
    world = air()
    device = world.device()
    *_, last = send(device, "/echo", BODY, 6)
    assert (block(last, N.BLOCK1), block(last, N.BLOCK2)) == (Block(3, False, 6), Block(0, True, 6))
    body = last.payload
    for number in (1, 2, 3):
        (answer,) = device.ask(Code.POST, "/echo", block2=Block(number, False, 6))
        body += answer.payload
    assert body == BODY
    assert len(world.site.requests) == 1


def test_device_that_sends_too_large_blocks_is_told_a_smaller_size() -> None:
    world = air(block_size=256)
    device = world.device()
    (answer,) = device.ask(Code.POST, "/up", BODY[:1024], block1=Block(0, True, 6))
    assert block(answer, N.BLOCK1) == Block(0, True, 4)
    rest = BODY[1024:]
    for start in range(0, len(rest), 256):
        part = Block(4 + start // 256, start + 256 < len(rest), 4)
        (answer,) = device.ask(Code.POST, "/up", rest[start : start + 256], block1=part)
    assert answer.code == Code.CHANGED
    assert world.site.requests[0].payload == BODY


@pytest.mark.parametrize("late", [False, True])
def test_strangers_blocks_keep_no_memory(late: bool) -> None:
    world = air()
    refusal = Refused(Code.UNAUTHORIZED, "who are you?")
    world.site.admission = Deferred() if late else refusal
    device = world.device()
    answers = device.ask(Code.POST, "/up", BODY[:1024], block1=Block(0, True, 6))
    if late:
        world.site.admission.callback(refusal)
        answers = device.heard()
    assert [answer.code for answer in answers] == [Code.UNAUTHORIZED]
    assert len(world.server.shelf) == 0
    world.site.admission = True
    (answer,) = device.ask(Code.POST, "/up", BODY[1024:2048], block1=Block(1, True, 6))
    assert answer.code == Code.REQUEST_ENTITY_INCOMPLETE


def test_admission_may_take_its_time() -> None:
    world = air()
    world.site.admission = Deferred()
    device = world.device()
    assert device.ask(Code.POST, "/up", BODY[:1024], block1=Block(0, True, 6)) == []
    world.site.admission.callback(True)
    assert [answer.code for answer in device.heard()] == [Code.CONTINUE]


def test_bad_blocks() -> None:
    world = air(max_body_size=4096)
    device = world.device()
    first = (BODY[:1024], Block(0, True, 6))
    table = (
        ("starts in the middle", [(BODY[1024:2048], Block(1, True, 6))], Code.REQUEST_ENTITY_INCOMPLETE),
        ("a gap", [first, (BODY[2048:3072], Block(2, True, 6))], Code.REQUEST_ENTITY_INCOMPLETE),
        ("smaller than it says", [(b"short", Block(0, True, 6))], Code.BAD_REQUEST),
        ("larger than it says", [(BODY[:1024], Block(0, False, 0))], Code.BAD_REQUEST),
        ("the same again", [first, first], Code.CONTINUE),
        ("too much is announced", [first], Code.REQUEST_ENTITY_TOO_LARGE),
    )
    for number, (what, blocks, code) in enumerate(table, 1):
        more = {"size1": 0xFFFFFFFF} if code == Code.REQUEST_ENTITY_TOO_LARGE else {}
        for payload, part in blocks:
            (answer,) = device.ask(Code.POST, f"/up{number}", payload, block1=part, **more)
        assert answer.code == code, what
    assert to_uint(option(answer, N.SIZE1) or b"") == 4096
    assert not world.site.requests


def test_endless_body_ends_at_the_limit_and_is_forgotten() -> None:
    world = air()
    device = world.device()
    for number in range(4096):
        (answer,) = device.ask(Code.POST, "/up", bytes(1024), block1=Block(number, True, 6))
        if answer.code != Code.CONTINUE:
            break
    assert (number, answer.code) == (63, Code.REQUEST_ENTITY_TOO_LARGE)
    assert to_uint(option(answer, N.SIZE1) or b"") == 64 << 10
    assert (len(world.server.shelf), world.server.shelf.size) == (0, 0)
    (answer,) = device.ask(Code.POST, "/up", bytes(1024), block1=Block(64, True, 6))
    assert answer.code == Code.REQUEST_ENTITY_INCOMPLETE


def test_body_in_one_datagram_has_the_same_limit() -> None:
    world = air(max_body_size=2000)
    (answer,) = world.device().ask(Code.POST, "/up", bytes(2001))
    assert (answer.code, to_uint(option(answer, N.SIZE1) or b"")) == (Code.REQUEST_ENTITY_TOO_LARGE, 2000)
    (answer,) = air().device().ask(Code.POST, "/up", bytes(60_000))
    assert answer.code == Code.CHANGED


def test_bodies_of_two_devices_never_mix_and_nor_do_two_of_one() -> None:
    world = air()
    ways = ((world.device(1), b"a"), (world.device(2), b"b"), (world.device(1), b"c"))
    for number in range(3):
        for device, letter in ways:
            device.ask(Code.POST, "/up", letter * 64, block1=Block(number, number < 2, 2), request_tag=letter)
    assert [request.payload for request in world.site.requests] == [letter * 192 for _, letter in ways]


def test_one_device_has_four_bodies_at_most() -> None:
    world = air()
    device = world.device()
    for number in range(5):
        device.ask(Code.POST, "/up", bytes(64), block1=Block(0, True, 2), request_tag=number)
    codes = [
        device.ask(Code.POST, "/up", b"", block1=Block(1, False, 2), request_tag=number)[0].code for number in range(5)
    ]
    assert codes == [Code.REQUEST_ENTITY_INCOMPLETE] + [Code.CHANGED] * 4


def test_abandoned_bodies_are_freed_in_the_time_of_an_exchange() -> None:
    world = air()
    for number in range(10_000):
        world.device(number).ask(Code.POST, "/up", bytes(1024), block1=Block(0, True, 6))
        world.sent.clear()
    assert world.server.shelf.size <= 16 << 20
    assert send(world.device(20_000), "/up", BODY, 6)[-1].code == Code.CHANGED
    world.clock.advance(248)
    assert (len(world.server.shelf), world.server.shelf.size) == (0, 0)


def test_bodies_share_a_bounded_memory_and_the_longest_untouched_goes() -> None:
    world = air(max_unfinished=8 << 10)
    for number in range(1, 7):
        world.device(number).ask(Code.POST, "/up", bytes(1024), block1=Block(0, True, 6))
    assert world.server.shelf.size <= 8 << 10
    codes = [
        world.device(number).ask(Code.POST, "/up", b"x", block1=Block(1, False, 6))[0].code for number in range(1, 7)
    ]
    assert codes == [Code.REQUEST_ENTITY_INCOMPLETE] + [Code.CHANGED] * 5


def test_bodies_of_strangers_make_room_for_those_of_devices() -> None:
    world = air(max_unfinished=8 << 10)
    device = world.device(1)
    device.ask(Code.POST, "/up", bytes(1024), block1=Block(0, True, 6))
    world.site.admission = False
    for number in range(2, 50):
        world.device(number).ask(Code.POST, "/up", bytes(1024), block1=Block(0, True, 6))
    assert len(world.server.shelf) > 2
    (last,) = device.ask(Code.POST, "/up", b"x", block1=Block(1, False, 6))
    assert last.code == Code.CHANGED
    (newest,) = world.device(49).ask(Code.POST, "/up", b"x", block1=Block(1, False, 6))
    assert newest.code == Code.CHANGED


# -- strangers


@pytest.mark.parametrize("path", ["/s", "/stranger", "/stranger-with-a-long-path", "/talk", "/nowhere"])
@pytest.mark.parametrize(
    "more", [{}, {"block2": Block(0, False, 6)}, {"block2": Block(1, False, 6)}, {"token": b""}, {"accept": 0}]
)
def test_strangers_get_three_times_what_they_sent_at_most(path: str, more: dict[str, object]) -> None:
    world = air()
    world.site.paths[("stranger-with-a-long-path",)] = world.site.paths[("s",)] = world.site.paths[("stranger",)]
    world.site.paths[("talk",)] = lambda request: _talk()
    device = world.device()
    (answer,) = device.ask(path=path, **more)
    assert len(encode(answer)) <= 3 * device.said
    assert len(world.server.shelf) == 0


def _talk() -> Response:
    raise Refused(Code.FORBIDDEN, "ö" * 500)


def test_stranger_gets_a_body_in_blocks_that_are_small_enough() -> None:
    world = air()
    device = world.device()
    world.site.paths[("s",)] = world.site.paths[("stranger",)]
    (answer,) = device.ask(path="/s")
    assert answer.code == Code.UNAUTHORIZED  # 7 bytes of request: not even the smallest block fits into 21
    body, number, more = b"", 0, True
    while more:
        (answer,) = device.ask(path="/stranger", block2=Block(number, False, 0))
        got = block(answer)
        assert got is not None
        body, number, more = body + answer.payload, number + 1, got.more
    assert body == BODY


def test_diagnostic_text_is_cut_between_characters() -> None:
    world = air()
    world.site.paths[("talk",)] = lambda request: _talk()
    (answer,) = world.device().ask(path="/talk")
    assert answer.code == Code.FORBIDDEN
    assert set(answer.payload.decode()) == {"ö"}


def test_devices_that_have_shown_who_they_are_get_all() -> None:
    (answer,) = air().device().ask(path="/large")
    assert len(answer.payload) == 1024


# -- Echo


def test_large_answer_goes_to_a_proven_address_only_if_that_is_demanded() -> None:
    world = air(require_echo=True)
    device = world.device()
    assert device.ask(path="/small")[0].payload == b"x"
    (challenge,) = device.ask(path="/large")
    assert (challenge.code, challenge.payload) == (Code.UNAUTHORIZED, b"")
    echo = option(challenge, N.ECHO)
    assert echo is not None
    (answer,) = device.ask(path="/large", echo=echo)
    assert len(answer.payload) == 1024
    assert device.peer.proven
    assert len(device.ask(path="/large")[0].payload) == 1024


def test_observers_have_to_prove_their_address_if_that_is_demanded() -> None:
    world = air(require_echo=True)
    world.site.paths[("obs",)] = world.site.observe
    device = world.device()
    (challenge,) = device.ask(path="/obs", observe=0)
    assert (challenge.code, option(challenge, N.OBSERVE)) == (Code.UNAUTHORIZED, None)
    assert world.server.observers.count == 0
    (answer,) = device.ask(path="/obs", observe=0, echo=option(challenge, N.ECHO))
    assert option(answer, N.OBSERVE) is not None


def test_challenge_itself_is_not_too_large() -> None:
    device = air(require_echo=True).device()
    (answer,) = device.ask(path="", observe=0, token=b"")
    assert (answer.code, device.said) == (Code.UNAUTHORIZED, 5)
    assert len(encode(answer)) <= 3 * 5


def test_echo_of_another_address_of_another_time_or_forged_proves_nothing() -> None:
    world = air(require_echo=True)
    device = world.device()
    echo = option(device.ask(path="/large")[0], N.ECHO)
    assert echo is not None
    assert world.device(2).ask(path="/large", echo=echo)[0].code == Code.UNAUTHORIZED
    for forged in (echo[:-1], echo[:-1] + bytes((echo[-1] ^ 1,)), b"\0", b"\0" * 12, b"\0" * 40):
        assert device.ask(path="/large", echo=forged)[0].code == Code.UNAUTHORIZED
    world.clock.advance(302)
    assert device.ask(path="/large", echo=echo)[0].code == Code.UNAUTHORIZED
    assert not device.peer.proven


def test_stranger_with_a_proven_address_gets_whole_blocks() -> None:
    world = air(require_echo=True)
    device = world.device()
    echo = option(device.ask(path="/large")[0], N.ECHO)
    device.ask(path="/small", echo=echo)
    assert len(device.ask(path="/stranger")[0].payload) == 1024


def test_peer_of_a_dtls_session_is_proven() -> None:
    from rpcbroker.transports.coap.peers import CoapPeer

    world = air(require_echo=True)
    sent: list[bytes] = []
    peer = CoapPeer(("192.0.2.9", 9), "192.0.2.9", sent.append, certificate=b"der", proven=True)
    world.server.received(encode(Message(Type.CON, Code.GET, 1, b"", ((N.URI_PATH, b"stranger"),))), peer)
    assert len(sent[0]) > 1024


def test_request_tells_who_asks_and_what() -> None:
    world = air()
    world.device().ask(Code.POST, "/up", b"body", content_format=50, accept=60, uri_query=["a=1", "b"])
    (request,) = world.site.requests
    assert isinstance(request, Request)
    assert (request.code, request.path, request.query) == (Code.POST, ("up",), ("a=1", "b"))
    assert (request.payload, request.content_format, request.accept) == (b"body", 50, 60)
    assert (request.observe, request.peer.host) == (None, "192.0.2.1")
