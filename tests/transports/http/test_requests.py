"""Requests that are answered at once: what devices say, and what is wrong with what they say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import Slow, result_of
from hostile import check_error
from http_world import TOKEN, HttpDevice, HttpWorld
from twisted.internet.defer import fail
from twisted.logger import LogLevel, globalLogPublisher

from rpcbroker.core.errors import Unavailable
from rpcbroker.core.model import Scope
from rpcbroker.core.near_misses import NearMiss
from rpcbroker.core.settings import LimitsSettings


@pytest.fixture
def world() -> HttpWorld:
    return HttpWorld()


JSON = b'{"a":1}'

GOOD = [
    ("POST", "telemetry", JSON, b""),
    ("POST", "telemetry", b'[{"ts":1,"values":{"a":1}}]', b""),
    ("POST", "TELEMETRY", JSON, b""),
    ("POST", "attributes", JSON, b""),
    ("POST", "claim", b"", b""),
    ("POST", "claim", b'{"secretKey":"s"}', b""),
    ("POST", "rpc/7", JSON, b""),
    ("POST", "rpc/7", b"", b""),
    ("POST", "rpc/-1", b"1", b""),
    ("POST", "Rpc/7/Progress", b"5", b""),
    ("GET", "attributes", None, b"{}"),
    ("GET", "attributes?clientKeys=a,b&sharedKeys=", None, b"{}"),
]


@pytest.mark.parametrize(("method", "path", "body", "said"), GOOD)
def test_what_a_device_may_say(world: HttpWorld, method: str, path: str, body: bytes | None, said: bytes) -> None:
    answer = world.request(method, path, body)
    assert (answer.status, answer.body) == (200, said)
    assert answer.headers["content-length"] == [str(len(said))]
    assert answer.headers.get("content-type") == (["application/json"] if said else None)
    assert answer.headers["cache-control"] == ["no-store"]
    assert "date" in answer.headers
    assert world.session().presence.seen_cause == "HTTP"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "image/png", "", "a;b=c"])
def test_bodies_may_be_called_anything(world: HttpWorld, kind: str) -> None:
    assert world.request("POST", "attributes", JSON, f"Content-Type: {kind}").status == 200
    assert world.request("GET", "attributes").body == b'{"client":{"a":1}}'


BAD = [
    ("POST", "telemetry", b"", 400),
    ("POST", "telemetry", b"a=1", 400),
    ("POST", "telemetry", b"5", 400),
    ("POST", "telemetry", b'{"a":NaN}', 400),
    ("POST", "telemetry", b'{"a":"\\ud800"}', 400),
    ("POST", "telemetry", b'{"a":1e400}', 400),
    ("POST", "telemetry", b"\xef\xbb\xbf{}", 400),
    ("POST", "telemetry", b"[" * 100_000, 400),
    ("POST", "attributes", b"", 400),
    ("POST", "attributes", b"[1]", 400),
    ("POST", "attributes", b'{"a":', 400),
    ("POST", "claim", b"secret", 400),
    ("POST", "rpc", b"", 400),
    ("POST", "rpc", b"{}", 400),
    ("POST", "rpc", b'{"method":5}', 400),
    ("POST", "rpc/7", b"on", 400),
    ("POST", "rpc/7", b"{'a':1}", 400),
    ("POST", "rpc/7/progress", b"", 400),
    ("POST", "rpc/seven", b"1", 400),
    ("POST", "rpc/2147483648", b"1", 400),
    ("POST", "rpc/", b"1", 400),
    ("POST", "rpc/99999999999", b"1", 400),
    ("POST", "rpc/1.5/progress", b"1", 400),
    ("GET", "attributes?clientKeys=%ff", None, 400),
    ("GET", "", None, 404),
    ("GET", "rpcs", None, 404),
    ("GET", "rpc;x=1", None, 404),
    ("GET", "attributes/update", None, 404),
    ("POST", "rpc/7/progress/", b"1", 404),
    ("GET", "../../etc/passwd", None, 404),
    ("GET", "%2e%2e", None, 404),
    ("GET", "rpc%00", None, 404),
    ("GET", "rpc%2f7", None, 400),
    ("GET", "rpc%ff", None, 400),
    ("GET", "firmware?title=a&version=1", None, 404),
    ("GET", "software", None, 404),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), BAD, ids=lambda value: repr(value)[:30])
def test_what_is_wrong_is_said(world: HttpWorld, method: str, path: str, body: bytes | None, status: int) -> None:
    answer = world.request(method, path, body)
    assert answer.status == status
    check_error(answer)
    assert TOKEN.encode() not in answer.body
    assert TOKEN not in str(answer.headers)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "telemetry", "POST"),
        ("GET", "telemetry", "POST"),
        ("HEAD", "rpc", "GET, POST"),
        ("DELETE", "rpc", "GET, POST"),
        ("GET", "rpc/7", "POST"),
        ("HEAD", "attributes/updates", "GET"),
        ("POST", "attributes/updates", "GET"),
        ("PATCH", "attributes", "GET, POST, HEAD"),
        ("TRACE", "claim", "POST"),
        ("OPTIONS", "rpc", "GET, POST"),
        ("CONNECT", "rpc", "GET, POST"),
        ("get", "attributes", "DELETE, GET, HEAD, POST, PUT"),
    ],
)
def test_other_methods_are_refused_with_those_that_there_are(
    world: HttpWorld, method: str, path: str, allowed: str
) -> None:
    answer = world.request(method, path, b"{}")
    assert answer.status == 405
    assert answer.headers["allow"] == [allowed]


def test_head_is_get_without_its_body(world: HttpWorld) -> None:
    world.request("POST", "attributes", JSON)
    answer = world.request("HEAD", "attributes")
    assert answer.status == 200
    assert answer.headers["content-length"] == ["18"]
    assert world.request("GET", "attributes").body == b'{"client":{"a":1}}'


def test_a_question_is_answered_or_names_its_method(world: HttpWorld) -> None:
    assert world.request("POST", "rpc", b'{"method":"getCurrentTime","params":{}}').status == 200
    limits = json.loads(world.request("POST", "rpc", b'{"method":"getSessionLimits","params":{}}').body)
    assert limits["maxPayloadSize"] == 65536
    answer = world.request("POST", "rpc", b'{"method":"getWeather","params":{}}')
    assert answer.status == 404
    assert answer.headers["content-type"] == ["application/json"]
    assert "getWeather" in json.loads(answer.body)["error"]


def test_strangers_are_always_answered_200_unless_it_is_not_json(world: HttpWorld) -> None:
    device = HttpDevice(world)
    body = b'{"provisionDeviceKey":"k","provisionDeviceSecret":"s"}'
    for path, sent in (("/api/v1/provision", body), ("/api/v1/Provision", body), ("/api/v1/provision", b"k")):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(sent)}\r\n\r\n"
        device.channel.dataReceived(head.encode() + sent)
    world.clock.advance(0)
    world.clock.advance(0)
    answers = device.answers()
    assert [answer.status for answer in answers] == [200, 200, 400]
    assert answers[0].body == b'{"status":"NOT_FOUND"}'


@pytest.mark.parametrize(
    "token",
    ["WRONG", "x" * 10_000, "undefined", "TOKEN100%0d%0aSet-Cookie:%20a", "%00", "TOKEN100%20", "token100", "%20"],
)
def test_an_unknown_token_is_refused_alike_whatever_it_is(world: HttpWorld, token: str) -> None:
    answer = world.request("POST", "telemetry", JSON, token=token)
    assert answer.status == 401
    said = json.loads(answer.body)
    assert (said["errorCode"], said["message"]) == (10, "No device has this access token")
    assert "set-cookie" not in answer.headers
    assert set(answer.headers) == set(world.request("POST", "telemetry", JSON, token="ALSOWRONG").headers)


def test_a_token_may_be_coded(world: HttpWorld) -> None:
    assert world.request("POST", "telemetry", JSON, token="%54OKEN100").status == 200


@pytest.mark.parametrize(("path", "body"), [("rpc/7", b'"%b"' % (b"x" * 65_535)), ("rpc", b"x" * 65_537)])
def test_bodies_of_calls_are_limited(world: HttpWorld, path: str, body: bytes) -> None:
    answer = world.request("POST", path, body)
    assert answer.status == 413
    assert json.loads(answer.body)["message"] == "Payload size exceeds the limit of 65536 bytes"
    assert world.request("POST", path.replace("rpc", "%72pc"), body).status == 413, "however it is spelled"
    assert world.request("POST", "attributes", JSON + b" " * 70_000).status == 200, "others are not"


def test_a_body_that_is_too_large_is_refused_before_it_comes(world: HttpWorld) -> None:
    device = HttpDevice(world)
    device.ask("POST", "rpc/7", "Content-Length: 65537", "Expect: 100-continue")
    assert device.statuses() == [413]
    device = HttpDevice(world)
    device.ask("POST", "rpc/7", "Transfer-Encoding: chunked")
    device.channel.dataReceived(b"10001\r\n")
    assert device.statuses() == [413]


def test_more_than_a_device_may_send_is_429_for_each_kind_of_request(world: HttpWorld) -> None:
    world.session()
    world.broker.quotas.reconfigure(
        LimitsSettings(device_messages=((1, 60.0),), device_telemetry_messages=((1, 60.0),))
    )
    assert world.request("POST", "telemetry", JSON).status == 200
    answer = world.request("POST", "telemetry", JSON)
    assert answer.status == 429
    assert int(answer.headers["retry-after"][0]) >= 1
    assert world.request("GET", "attributes").status == 200
    for method, path, body in [
        ("GET", "rpc", None),
        ("GET", "attributes", None),
        ("GET", "attributes/updates", None),
        ("POST", "rpc", b'{"method":"getCurrentTime"}'),
        ("POST", "claim", b""),
        ("POST", "rpc/7/progress", b"1"),
    ]:
        assert world.request(method, path, body).status == 429, path
    assert world.stream().statuses() == [429]
    assert world.session().missed(NearMiss.RATE_LIMITED) == 8


def test_what_cannot_be_kept_now_is_503(world: HttpWorld) -> None:
    world.session()
    real = world.store.values.save_attributes
    world.store.values.save_attributes = lambda *_, **__: fail(Unavailable("The store is full"))
    try:
        answer = world.request("POST", "attributes", JSON)
    finally:
        world.store.values.save_attributes = real
    assert answer.status == 503
    check_error(answer)


def test_an_answer_that_takes_its_time_is_not_missed_and_who_left_does_not_matter(world: HttpWorld) -> None:
    device, left = HttpDevice(world), HttpDevice(world)
    with Slow(world.store, "matching_credentials") as slow:
        for each in (device, left):
            each.ask("POST", "attributes", body=JSON)
        assert device.answers() == []
        device.half_close()
        assert not device.wire.disconnecting
        left.lose()
        slow.arrive()
    assert device.statuses() == [200]
    device.half_close()
    assert device.wire.disconnecting
    assert left.answers() == []
    attributes = result_of(
        world.store.values.attributes(world.device.id, scopes=[Scope.CLIENT], keys=[], after_writes=True)
    )
    assert [each.key for each in attributes] == ["a"]


def test_a_poller_that_left_before_it_was_known_does_not_poll(world: HttpWorld) -> None:
    device = HttpDevice(world)
    with Slow(world.store, "matching_credentials") as slow:
        device.ask("GET", "rpc")
        device.lose()
        slow.arrive()
    assert not world.session().connected
    assert world.devices.open_polls == 0


def test_a_bug_is_500_and_tells_the_token_to_nobody(world: HttpWorld, no_dropped_failures: list[str]) -> None:
    seen: list[Any] = []
    globalLogPublisher.addObserver(seen.append)
    world.session()

    def bug(*_: Any) -> None:
        raise RuntimeError("a bug")

    world.broker.telemetry.parse = bug
    try:
        answer = world.request("POST", "telemetry", JSON)
    finally:
        globalLogPublisher.removeObserver(seen.append)
    assert answer.status == 500
    check_error(answer)
    (event,) = [event for event in seen if event.get("log_level") is LogLevel.critical]
    assert TOKEN not in str(event["log_format"].format(**event))
    no_dropped_failures.clear()


def test_tokens_are_in_no_line_of_the_log(world: HttpWorld) -> None:
    lines: list[str] = []

    def write(event: Any) -> None:
        lines.append(str({name: value for name, value in event.items() if not name.startswith("log_")}))

    globalLogPublisher.addObserver(write)
    try:
        for method, path, body, *_ in (*GOOD, *BAD):
            world.request(method, path, body)
        world.request("POST", "rpc/7", b"x" * 70_000)
        world.poll().lose()
        world.stream().lose()
    finally:
        globalLogPublisher.removeObserver(write)
    assert not [line for line in lines if TOKEN in line]


def test_upgrades_to_what_is_not_spoken_here_mean_nothing(world: HttpWorld) -> None:
    answer = world.request("GET", "attributes", None, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
    assert answer.status == 200
    assert "upgrade" not in answer.headers


def test_1000_requests_in_one_piece_are_answered_in_order(world: HttpWorld) -> None:
    device = HttpDevice(world)
    bodies = [json.dumps({"method": f"unknown-{number}"}).encode() for number in range(1000)]
    head = f"POST /api/v1/{TOKEN}/rpc HTTP/1.1\r\nHost: x\r\n"
    device.channel.dataReceived(
        b"".join(b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body) for body in bodies)
    )
    for _ in bodies:
        world.clock.advance(0)
    said = [json.loads(answer.body)["error"] for answer in device.answers()]
    assert [text.rpartition("-")[2].strip('"') for text in said] == [str(number) for number in range(1000)]
