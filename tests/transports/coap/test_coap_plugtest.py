"""The cases of the ETSI CoAP plugtests that concern a server, by their numbers, on the resources that they ask for.

Not here: CORE_18 and 19 (Location options: nothing that is created here has an address), OBS_04 (a client's matter), and the
halves of CORE_22 and 23 in which a condition is met: nothing here has versions, so all conditional requests are
refused.

Over 400 lines: the cases are numbered, and looked for in one file.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from coap_air import Air, N, Remote, Site, Told, block, content, option
from twisted.internet.defer import Deferred

from rpcbroker.transports.coap.exchange import Refused, Request, Response, Settled
from rpcbroker.wire.coap.blockwise import Block
from rpcbroker.wire.coap.message import Message
from rpcbroker.wire.coap.numbers import Code, ContentFormat, Type, to_uint

CON, NON, ACK, RST = Type
LARGE = b"".join(b"%07d\n" % number for number in range(256))  # 2,048 bytes, as the plugtest has at least 1,024
XML = 41


class Plugtest(Site):
    """Its resources."""

    def __init__(self) -> None:
        super().__init__()
        self.slow: list[Deferred[Response]] = []
        self.value = b"first"
        self.large = LARGE
        self.format = ContentFormat.TEXT.value
        self.paths.update(
            {
                ("test",): self.test,
                ("separate",): self.separate,
                ("seg1", "seg2", "seg3"): lambda request: content(b"deep"),
                ("query",): lambda request: content("&".join(request.query).encode()),
                ("multi-format",): self.multi_format,
                ("validate",): lambda request: content(self.value, etag=self.value[:8]),
                ("large",): lambda request: content(self.large),
                ("large-update",): self.large_update,
                ("large-create",): self.large_update,
                ("large-post",): lambda request: content(request.payload.upper()),
                ("obs",): self.obs,
                ("obs-non",): self.obs,
                ("obs-large",): self.observe,
            }
        )

    def test(self, request: Request) -> Response:
        done = {Code.POST: Code.CHANGED, Code.PUT: Code.CREATED, Code.DELETE: Code.DELETED}
        if request.code == Code.GET:
            return content(b"welcome")
        return Response(code=done[Code(request.code)], authenticated=True)

    def separate(self, request: Request) -> Deferred[Response]:
        self.slow.append(Deferred())
        return self.slow[-1]

    def multi_format(self, request: Request) -> Response:
        forms = {None: (b"text", 0), 0: (b"text", 0), XML: (b"<xml/>", XML)}
        if request.accept not in forms:
            raise Refused(Code.NOT_ACCEPTABLE, "text or XML")
        payload, content_format = forms[request.accept]
        return content(payload, content_format=content_format)

    def large_update(self, request: Request) -> Response:
        self.large = request.payload
        return Response(code=Code.CHANGED if request.path == ("large-update",) else Code.CREATED, authenticated=True)

    def obs(self, request: Request) -> Response:
        if request.code == Code.DELETE:
            return self.clear(Response(code=Code.NOT_FOUND), Response(code=Code.DELETED, authenticated=True))
        if request.code == Code.PUT:
            if request.content_format not in (None, self.format):
                self.format = request.content_format or 0
                changed = Response(code=Code.CHANGED, authenticated=True)
                return self.clear(Response(code=Code.NOT_ACCEPTABLE), changed)
            self.value = request.payload
            self.notify()
            return Response(code=Code.CHANGED, authenticated=True)
        return self.observe(request)

    def clear(self, last: Response, answer: Response) -> Response:
        """What becomes of observers whose resource is gone, or not what they asked for (RFC 7641 4.2)."""
        for observation in self.observations:
            observation.end(last)
        self.observations.clear()
        return answer

    def notify(self, told: Callable[[Settled], None] = lambda became: None) -> None:
        for observation in self.observations:
            assert observation.notify(content(self.value), told)


@pytest.fixture
def site() -> Plugtest:
    return Plugtest()


@pytest.fixture
def air(site: Plugtest) -> Air:
    return Air(site)


@pytest.fixture
def client(air: Air) -> Remote:
    return air.device()


def check(answer: Message, kind: Type, code: Code, payload: bytes = b"", token: bytes = b"t") -> None:
    assert (answer.type, answer.code, answer.payload, answer.token) == (kind, code, payload, token)


METHODS = {
    "GET": (Code.GET, b"", Code.CONTENT, b"welcome"),
    "DELETE": (Code.DELETE, b"", Code.DELETED, b""),
    "PUT": (Code.PUT, b"new", Code.CREATED, b""),
    "POST": (Code.POST, b"more", Code.CHANGED, b""),
}
NUMBERED = [
    pytest.param(kind, *row, id=f"CORE_{number:02} {name} {kind.name}")
    for number, (kind, (name, row)) in enumerate(itertools.product((CON, NON), METHODS.items()), 1)
]


@pytest.mark.parametrize(("kind", "code", "payload", "answered", "body"), NUMBERED)
def test_core_01_to_08_each_method(
    client: Remote, kind: Type, code: Code, payload: bytes, answered: Code, body: bytes
) -> None:
    (answer,) = client.ask(code, payload=payload, kind=kind, message_id=1, token=b"ab")
    check(answer, ACK if kind is CON else NON, answered, body, b"ab")
    if kind is CON:
        assert answer.message_id == 1


def separately(air: Air, site: Plugtest, client: Remote, **more: object) -> Message:
    """The separate answer to a request of `/separate`, behind an empty acknowledgement."""
    assert client.ask(path="/separate", message_id=77, **more) == []
    air.advance(1)
    assert client.heard() == [Message(ACK, Code.EMPTY, 77)]
    site.slow.pop().callback(content(b"separate"))
    (answer,) = client.heard()
    return answer


def test_core_09_separate_response(air: Air, site: Plugtest, client: Remote) -> None:
    answer = separately(air, site, client)
    check(answer, CON, Code.CONTENT, b"separate")
    client.acknowledge(answer)
    air.advance(60)
    assert client.heard() == []


@pytest.mark.parametrize("length", range(1, 9))
def test_core_10_token_of_any_length(client: Remote, length: int) -> None:
    token = bytes(range(length))
    check(client.ask(token=token)[0], ACK, Code.CONTENT, b"welcome", token)


@pytest.mark.parametrize("length", range(1, 9))
def test_core_11_token_in_a_separate_response(air: Air, site: Plugtest, client: Remote, length: int) -> None:
    token = bytes(range(length))
    check(separately(air, site, client, token=token), CON, Code.CONTENT, b"separate", token)


def test_core_12_no_token(client: Remote) -> None:
    check(client.ask(token=b"")[0], ACK, Code.CONTENT, b"welcome", b"")


def test_core_13_several_path_segments(client: Remote) -> None:
    check(client.ask(path="/seg1/seg2/seg3")[0], ACK, Code.CONTENT, b"deep")


def test_core_14_several_queries(client: Remote) -> None:
    (answer,) = client.ask(path="/query", uri_query=["first=1", "second=2", "third=3"])
    check(answer, ACK, Code.CONTENT, b"first=1&second=2&third=3")


def test_core_15_lost_request_or_answer(site: Plugtest, client: Remote) -> None:
    first = client.ask(message_id=5)
    again = client.ask(message_id=5)
    assert first == again
    assert len(site.requests) == 1


def test_core_16_lost_parts_of_a_separate_response(air: Air, site: Plugtest, client: Remote) -> None:
    answer = separately(air, site, client)
    assert client.ask(path="/separate", message_id=77) == [Message(ACK, Code.EMPTY, 77)]
    air.advance(3.1)  # its acknowledgement was lost
    assert client.heard() == [answer]
    client.acknowledge(answer)
    air.advance(100)
    assert client.heard() == []
    assert len(site.requests) == 1


def test_core_17_separate_response_to_a_non_confirmable_request(air: Air, site: Plugtest, client: Remote) -> None:
    assert client.ask(path="/separate", kind=NON) == []
    air.advance(5)
    assert client.heard() == []
    site.slow.pop().callback(content(b"separate"))
    check(client.heard()[0], NON, Code.CONTENT, b"separate")


def test_core_20_accept(client: Remote) -> None:
    for accept, payload in ((0, b"text"), (XML, b"<xml/>")):
        (answer,) = client.ask(path="/multi-format", accept=accept)
        check(answer, ACK, Code.CONTENT, payload)
        assert to_uint(option(answer, N.CONTENT_FORMAT) or b"") == accept
    assert client.ask(path="/multi-format", accept=60)[0].code == Code.NOT_ACCEPTABLE


def test_core_21_etag(site: Plugtest, client: Remote) -> None:
    (first,) = client.ask(path="/validate")
    etag = option(first, N.ETAG)
    assert etag
    (valid,) = client.ask(path="/validate", etag=etag)
    check(valid, ACK, Code.VALID)
    assert option(valid, N.ETAG) == etag
    site.value = b"second"
    (changed,) = client.ask(path="/validate", etag=etag)
    check(changed, ACK, Code.CONTENT, b"second")
    assert option(changed, N.ETAG) not in (None, etag)


@pytest.mark.parametrize("condition", [{"if_match": b"old"}, {"if_none_match": b""}], ids=["CORE_22", "CORE_23"])
def test_core_22_and_23_condition_that_is_not_met(site: Plugtest, client: Remote, condition: dict[str, bytes]) -> None:
    (answer,) = client.ask(Code.PUT, "/validate", b"x", **condition)
    assert answer.code == Code.PRECONDITION_FAILED
    assert not site.requests


# -- observe


def observe(client: Remote, path: str = "/obs", kind: Type = CON, **more: object) -> Message:
    (answer,) = client.ask(path=path, observe=0, kind=kind, **more)
    assert option(answer, N.OBSERVE) is not None
    return answer


@pytest.mark.parametrize(("path", "kind"), [("/obs", CON), ("/obs-non", NON)], ids=["OBS_01", "OBS_02"])
def test_obs_01_and_02_notifications_are_as_the_registration(
    site: Plugtest, client: Remote, path: str, kind: Type
) -> None:
    answer = observe(client, path, kind)
    assert (answer.code, answer.token, option(answer, N.CONTENT_FORMAT)) == (Code.CONTENT, b"t", b"")
    before = to_uint(option(answer, N.OBSERVE) or b"")
    for number in range(3):
        site.value = b"%d" % number
        site.notify()
        (told,) = client.heard()
        check(told, kind, Code.CONTENT, b"%d" % number)
        now = to_uint(option(told, N.OBSERVE) or b"")
        assert now > before
        before = now
        if kind is CON:
            client.acknowledge(told)


def test_obs_03_stop_observing(site: Plugtest, client: Remote) -> None:
    observe(client)
    site.notify()
    client.reset(client.heard()[0])
    assert site.gone == ["the device reset it"]


def test_obs_05_client_is_off(air: Air, site: Plugtest, client: Remote) -> None:
    observe(client)
    site.notify()
    air.advance(200)
    assert len(client.heard()) == 5
    assert len(site.gone) == 1


@pytest.mark.parametrize("kind", [CON, NON])
def test_obs_06_explicit_reset(site: Plugtest, client: Remote, kind: Type) -> None:
    observe(client, kind=kind)
    site.notify()
    client.reset(client.heard()[0])
    assert len(site.gone) == 1
    site.observations.clear()
    client.ask(Code.PUT, "/obs", b"other")
    assert client.heard() == []


def test_obs_07_deleted_resource(air: Air, client: Remote) -> None:
    observe(client)
    answers = air.device(2).ask(Code.DELETE, "/obs")
    check(answers[0], ACK, Code.DELETED)
    (last,) = client.heard()
    check(last, CON, Code.NOT_FOUND)
    assert option(last, N.OBSERVE) is None
    assert air.server.observers.count == 0


def test_obs_08_changed_content_format(air: Air, client: Remote) -> None:
    observe(client)
    air.device(2).ask(Code.PUT, "/obs", b"<xml/>", content_format=XML)
    (last,) = client.heard()
    check(last, CON, Code.NOT_ACCEPTABLE)
    assert option(last, N.OBSERVE) is None
    assert air.server.observers.count == 0


def test_obs_09_update_by_another(air: Air, client: Remote) -> None:
    observe(client)
    air.device(2).ask(Code.PUT, "/obs", b"new value")
    check(client.heard()[0], CON, Code.CONTENT, b"new value")


def test_obs_10_get_does_not_cancel(site: Plugtest, client: Remote) -> None:
    observe(client)
    (answer,) = client.ask(path="/obs", token=b"other")
    assert option(answer, N.OBSERVE) is None
    (answer,) = client.ask(path="/obs", token=b"t")
    site.notify()
    check(client.heard()[0], CON, Code.CONTENT, site.value)


def test_obs_11_lossy(air: Air, site: Plugtest, client: Remote) -> None:
    told = Told()
    observe(client)
    site.notify(told)
    (lost,) = client.heard()
    air.advance(3.1)
    (again,) = client.heard()
    assert again == lost
    client.acknowledge(again)
    client.acknowledge(again)
    assert told.settled == [Settled.ACKNOWLEDGED]
    site.value = b"next"
    site.notify(told)
    assert client.heard()[0].payload == b"next"


def test_obs_12_observe_1_cancels(air: Air, site: Plugtest, client: Remote) -> None:
    observe(client)
    (answer,) = client.ask(path="/obs", observe=1)
    check(answer, ACK, Code.CONTENT, b"now")
    assert option(answer, N.OBSERVE) is None
    assert (site.gone, air.server.observers.count) == (["the device ended it"], 0)


@pytest.mark.parametrize("sizes", [(2048,), (2048, 100, 3000)], ids=["OBS_13", "OBS_14"])
def test_obs_13_and_14_large_notifications(site: Plugtest, client: Remote, sizes: tuple[int, ...]) -> None:
    observe(client, "/obs-large")
    for size in sizes:
        body, told = bytes(size), Told()
        assert site.observations[0].notify(content(body), told)
        (message,) = client.heard()
        client.acknowledge(message)
        got = message.payload
        while (part := block(message)) is not None and part.more:
            (message,) = client.ask(path="/obs-large", token=b"f", block2=Block(part.number + 1, False, part.exponent))
            got += message.payload
        assert got == body
        assert told.settled == [Settled.ACKNOWLEDGED]


# -- blocks


def get_in_blocks(client: Remote, first: dict[str, Block], path: str = "/large") -> tuple[bytes, set[int]]:
    """A body, and how large its blocks were."""
    (answer,) = client.ask(path=path, **first)
    body, sizes = answer.payload, set()
    part = block(answer)
    assert part is not None
    while part.more:
        sizes.add(len(answer.payload))
        (answer,) = client.ask(path=path, block2=Block(part.number + 1, False, part.exponent))
        part = block(answer)
        assert part is not None
        body += answer.payload
    return body, sizes


@pytest.mark.parametrize(
    ("first", "size"),
    [({"block2": Block(0, False, 2)}, 64), ({}, 1024), ({"block2": Block(0, False, 0)}, 16)],
    ids=["BLOCK_01 early", "BLOCK_02 late", "BLOCK_06 early, 16 bytes"],
)
def test_block_01_02_and_06_get(client: Remote, first: dict[str, Block], size: int) -> None:
    assert get_in_blocks(client, first) == (LARGE, {size})


def put_in_blocks(client: Remote, code: Code, path: str, body: bytes) -> Message:
    for number in range(len(body) // 64):
        part = Block(number, (number + 1) * 64 < len(body), 2)
        (answer,) = client.ask(code, path, body[part.start : part.start + 64], block1=part)
        assert block(answer, N.BLOCK1) == part
    return answer


@pytest.mark.parametrize(
    ("code", "path", "answered"),
    [(Code.PUT, "/large-update", Code.CHANGED), (Code.POST, "/large-create", Code.CREATED)],
    ids=["BLOCK_03", "BLOCK_04"],
)
def test_block_03_and_04_put_and_post(site: Plugtest, client: Remote, code: Code, path: str, answered: Code) -> None:
    body = LARGE[::-1]
    assert put_in_blocks(client, code, path, body).code == answered
    assert site.large == body


def test_block_05_both_ways(client: Remote) -> None:
    body = b"letters " * 256
    answer = put_in_blocks(client, Code.POST, "/large-post", body)
    got, part = answer.payload, block(answer)
    while part is not None and part.more:
        (answer,) = client.ask(Code.POST, "/large-post", block2=Block(part.number + 1, False, part.exponent))
        got, part = got + answer.payload, block(answer)
    assert got == body.upper()
