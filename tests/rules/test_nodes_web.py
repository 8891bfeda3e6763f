"""The REST API call node: what it asks, and what it makes of the response.

Over 400 lines: one node, with more to configure than all others.
"""

from __future__ import annotations

from typing import Any

import pytest
from fakes import TENANT
from node_bench import Bench, refusal
from rule_world import RuleWorld
from twisted.internet.defer import Deferred, fail

from rpcbroker.rules.nodes.web import BACKOFF, Parameter, UrlTemplate
from rpcbroker.rules.ports import WebCallFailed, WebCallRefused, WebRequest, WebResponse

NODE = "rest.TbRestApiCallNode"
URL = {"restEndpointUrlPattern": "https://api.example.com/rpc"}
EXPORTED = {
    "restEndpointUrlPattern": "http://localhost/api",
    "requestMethod": "POST",
    "headers": {"Content-Type": "application/json"},
    "useSimpleClientHttpFactory": False,
    "readTimeoutMs": 0,
    "maxParallelRequestsCount": 0,
    "useRedisQueueForMsgPersistence": False,
    "trimQueue": False,
    "maxQueueSize": 0,
    "parseToPlainText": False,
    "enableProxy": False,
    "useSystemProxyProperties": False,
    "proxyHost": None,
    "proxyPort": 0,
    "proxyUser": None,
    "proxyPassword": None,
    "proxyScheme": None,
    "queryParams": None,
    "requestBodyTemplate": None,
    "credentials": {"type": "anonymous"},
    "ignoreRequestBody": False,
    "maxInMemoryBufferSizeInKb": 256,
}


def response(status: int = 200, body: bytes = b'{"a":1}', reason: str = "OK", **headers: str) -> WebResponse:
    given = {name.replace("_", "-"): (value,) for name, value in headers.items()}
    return WebResponse(status=status, reason=reason, headers=given, body=body)


def bench(*answers: Any, **configuration: Any) -> Bench:
    """A node whose server answers so."""
    made = Bench(NODE, URL | configuration)
    made.world.web.answers += answers
    return made


def asked(data: Any = None, *, metadata: dict[str, str] | None = None, **configuration: Any) -> WebRequest:
    """What one message makes of this configuration."""
    made = bench(response(), **configuration)
    made.send(data, **({} if metadata is None else {"metadata": metadata}))
    assert made.labels == ["Success"], made.texts
    return made.world.web.asked[0]


def failure(data: Any = None, *, metadata: dict[str, str] | None = None, **configuration: Any) -> str:
    made = bench(response(), **configuration)
    made.send(data, **({} if metadata is None else {"metadata": metadata}))
    assert made.world.web.asked == []
    return made.failure


# -- the request


def test_the_data_are_posted_as_json() -> None:
    request = asked({"a": [1]})
    assert request == WebRequest(
        method="POST",
        url="https://api.example.com/rpc",
        headers={"Content-Type": "application/json"},
        body=b'{"a":[1]}',
        timeout=10.0,
        max_size=256 << 10,
    )


def test_it_takes_what_thingsboard_exports() -> None:
    assert asked({}, **EXPORTED).url == "http://localhost/api"


def test_each_tenant_calls_as_itself() -> None:
    made = bench(response())
    made.send()
    assert made.world.web.tenants == [TENANT]


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("GET", None),
        ("HEAD", None),
        ("OPTIONS", None),
        ("POST", b"{}"),
        ("PUT", b"{}"),
        ("PATCH", b"{}"),
        ("DELETE", b"{}"),
    ],
)
def test_methods_that_have_a_body(method: str, body: bytes | None) -> None:
    request = asked({}, requestMethod=method)
    assert (request.method, request.body) == (method, body)
    assert asked({}, requestMethod=method, ignoreRequestBody=True).body is None


@pytest.mark.parametrize(
    ("configuration", "data", "body"),
    [
        ({"parseToPlainText": True}, b'"a \\"text\\""', b'a "text"'),
        ({"parseToPlainText": True}, b'{"a":1}', b'{"a":1}'),
        ({"parseToPlainText": True}, b"no JSON", b"no JSON"),
        (
            {"requestBodyTemplate": '{"t":$[temperature],"of":"${deviceName}"}'},
            b'{"temperature":3}',
            b'{"t":3,"of":"A"}',
        ),
        (
            {"requestBodyTemplate": "${deviceName} $[temperature]", "parseToPlainText": True},
            b'{"temperature":3}',
            b"A 3",
        ),
        ({"requestBodyTemplate": ""}, b'{"a":1}', b'{"a":1}'),
    ],
)
def test_bodies(configuration: dict[str, Any], data: bytes, body: bytes) -> None:
    assert asked(data, **configuration).body == body


@pytest.mark.parametrize(
    ("configuration", "data"),
    [({}, b"no JSON"), ({"requestBodyTemplate": '{"of":"$[name]"}'}, b'{"name":"a\\"b"}')],
)
def test_a_body_that_is_no_json_is_not_sent(configuration: dict[str, Any], data: bytes) -> None:
    assert failure(data, **configuration).startswith("The body of the request is not JSON")


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("https://api.example.com/devices/${deviceName}", "https://api.example.com/devices/A"),
        ("https://api.example.com/${evil}?of=${evil}", "https://api.example.com/a%2Fb%3Fc%3D1%262%23%25?of=a%2Fb%3Fc%3D1%262%23%25"),
        ("https://api.example.com/ü ö?q=ä|b", "https://api.example.com/%C3%BC%20%C3%B6?q=%C3%A4%7Cb"),
        ("https://bücher.example/${name}", "https://xn--bcher-kva.example/%C3%BC%20x"),
        ("https://${host}:8080/x/$[n]", "https://other.example:8080/x/7"),
        ("${url}", "https://whole.example/a/b?c=d"),
        ("${url}&e=${name}", "https://whole.example/a/b?c=d&e=%C3%BC%20x"),
        ("  https://api.example.com/x#part ", "https://api.example.com/x"),
        ("https://api.example.com/${line}", "https://api.example.com/a%0D%0AX%3A%20y"),
        ("https://api.example.com/${missing}", "https://api.example.com/$%7Bmissing%7D"),
        ("http://[::1]:8080/${deviceName}", "http://[::1]:8080/A"),
    ],
)  # fmt: skip
def test_values_in_a_url_are_coded(pattern: str, url: str) -> None:
    metadata = {
        "deviceName": "A",
        "evil": "a/b?c=1&2#%",
        "name": "ü x",
        "host": "other.example",
        "url": "https://whole.example/a/b?c=d",
        "line": "a\r\nX: y",
    }
    assert asked({"n": 7}, metadata=metadata, restEndpointUrlPattern=pattern).url == url


@pytest.mark.parametrize(
    ("pattern", "up"),
    [
        ("https://api.example.com/x/${up}/y", ".."),
        ("https://api.example.com/x/${up}", "."),
        ("https://api.example.com/.${up}/y", "."),
        ("${up}", "https://api.example.com/a/../b"),
    ],
)
def test_a_value_leads_to_no_other_directory(pattern: str, up: str) -> None:
    text = failure(metadata={"up": up}, restEndpointUrlPattern=pattern)
    assert text.endswith("has a segment . or .. in its path")


@pytest.mark.parametrize("host", ["a b", "a\r\nX: y", "ex%41mple.com", "x:port"])
def test_a_value_that_makes_no_url_is_refused(host: str) -> None:
    text = failure(metadata={"host": host}, restEndpointUrlPattern="https://${host}/x?token=secret")
    assert "is no URL" in text
    assert "secret" not in text


def test_parameters_are_coded_whole_and_come_behind_those_of_the_url() -> None:
    parameters = [Parameter("a b", "${deviceName}"), Parameter("${deviceName}", "c&d=$[x]")]
    for pattern, url in (("https://h/x", "https://h/x?"), ("https://h/x?y=z#f", "https://h/x?y=z&")):
        made = asked(
            {"x": "ü"},
            restEndpointUrlPattern=pattern,
            queryParams=[{"key": p.key, "value": p.value} for p in parameters],
        )
        assert made.url == url + "a%20b=A&A=c%26d%3D%C3%BC"
    assert UrlTemplate("https://h/", []).fill(None) == "https://h/"  # type: ignore[arg-type]


def test_headers_are_templates_and_those_of_the_connection_are_left_out() -> None:
    request = asked(
        {"n": 7},
        headers={
            "X-${deviceName}": "$[n] of ${deviceName}",
            "Host": "other.example",
            "Content-Length": "99",
            "Connection": "close",
            "transfer-encoding": "chunked",
            "Accept-Encoding": "gzip",
            "Authorization": "Bearer x",
        },
    )
    assert request.headers == {"X-A": "7 of A", "Authorization": "Bearer x"}


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"X": "${line}"}, "The header X has a line break"),
        ({"X": "a\x00${line}"}, "The header X has a line break"),
        ({"${line}": "x"}, "is no name of a header"),
        ({"X-${name}": "x"}, "is no name of a header"),
        ({"X-${missing}": "x"}, "is no name of a header"),
    ],
)
def test_what_would_add_a_header_is_refused(headers: dict[str, str], text: str) -> None:
    assert text in failure(metadata={"line": "a\r\nY: z", "name": "a b"}, headers=headers)


def test_a_request_that_becomes_too_long_is_not_made() -> None:
    metadata = {"long": "x" * 50_000}
    parameters = [{"key": str(number), "value": "${long}"} for number in range(1_000)]
    assert "longer than 65,536 characters" in failure(metadata=metadata, queryParams=parameters)
    assert "longer than 65,536 characters" in failure(
        metadata=metadata, restEndpointUrlPattern="http://h/${long}${long}"
    )
    headers = {f"X-{number}": "${long}" for number in range(1_000)}
    assert "The headers have more than 65,536 characters" in failure(metadata=metadata, headers=headers)


def test_a_server_cannot_make_the_metadata_grow_without_end() -> None:
    made = bench(response(X_A="y" * 2_000), response(500, body=b"z" * 2_000_000))
    made.send(metadata={"long": "x" * (1 << 20)})
    assert "The metadata would have more than 1,048,576 characters" in made.failure
    made.passed.clear()
    made.send()
    ((_, went),) = made.came
    assert len(went.metadata["error_body"]) == 256 << 10


def test_basic_credentials() -> None:
    credentials = {"type": "basic", "username": "me", "password": "pässword"}
    assert asked(credentials=credentials).headers["Authorization"] == "Basic bWU6cMOkc3N3b3Jk"
    assert "Authorization" not in asked(credentials=None).headers


@pytest.mark.parametrize(("given", "seconds"), [(0, 10.0), (2500, 2.5), (60_000, 10.0)])
def test_times_are_within_those_of_the_server(given: int, seconds: float) -> None:
    assert asked(readTimeoutMs=given).timeout == seconds


def test_the_size_of_a_response() -> None:
    assert asked(maxInMemoryBufferSizeInKb=1).max_size == 1024
    assert asked(maxInMemoryBufferSizeInKb=0).max_size == 256 << 10


@pytest.mark.parametrize(
    ("configuration", "text"),
    [
        ({"restEndpointUrlPattern": " "}, "restEndpointUrlPattern is empty"),
        ({"restEndpointUrlPattern": None}, "restEndpointUrlPattern"),
        ({"requestMethod": "FETCH"}, "requestMethod"),
        ({"enableProxy": True}, "enableProxy: proxies are not used here"),
        ({"credentials": {"type": "cert.PEM", "cert": "x"}}, "credentials of type 'cert.PEM' are not known here"),
        ({"credentials": {"type": "basic", "username": "me"}}, "basic credentials are"),
        ({"credentials": {"type": "basic", "username": "a:b", "password": ""}}, "basic credentials are"),
        ({"headers": {"a b": "c"}}, "headers: 'a b' is no name of a header"),
        ({"queryParams": [{"key": "a"}]}, "value"),
        ({"retries": 6}, "retries"),
        ({"retries": -1}, "retries"),
        ({"readTimeoutMs": -1}, "readTimeoutMs"),
        ({"maxInMemoryBufferSizeInKb": 1 << 20}, "maxInMemoryBufferSizeInKb"),
    ],
)
def test_configurations_that_are_refused(configuration: dict[str, Any], text: str) -> None:
    assert text in refusal(NODE, URL | configuration)


# -- the response


def test_a_success_has_the_body_and_the_headers() -> None:
    made = bench(
        WebResponse(
            status=201,
            reason="Made",
            headers={"Content-Type": ("application/json",), "X-A": ("1", "2"), "Devicename": ("evil",)},
            body=b'{"made": true}',
        )
    )
    made.send({"a": 1})
    [(label, went)] = made.came
    assert (label, went.data) == ("Success", b'{"made": true}')
    assert went.metadata == {
        "deviceName": "A",
        "Content-Type": "application/json",
        "X-A": '["1","2"]',
        "Devicename": "evil",
        "status": "CREATED",
        "statusCode": "201",
        "statusReason": "Made",
    }


@pytest.mark.parametrize(
    ("body", "kind", "data"),
    [
        (b"", "text/plain", b"{}"),
        (b' {"a": [1]} ', "text/html", b' {"a": [1]} '),
        (b"plain", "text/plain", b'"plain"'),
        (b'{"a":', "application/json", b'"{\\"a\\":"'),
        (65 * b"[" + 65 * b"]", "application/json", b'"' + 65 * b"[" + 65 * b"]" + b'"'),
        ("ü".encode(), "text/plain", '"ü"'.encode()),
        (b"\xfc", "text/plain; charset=ISO-8859-1", '"ü"'.encode()),
        (b"\x80", 'text/plain; charset="windows-1252"', '"€"'.encode()),
        (b"\xef\xbb\xbf{}", "application/json", b"{}"),
        (b"\xff", "application/json", '"\ufffd"'.encode()),
        (b"x", "text/plain; charset=zip", b'"x"'),
        ("{}".encode("utf-16"), "text/plain;charset=utf-16", b"{}"),
    ],
)
def test_a_body_becomes_json_in_utf_8(body: bytes, kind: str, data: bytes) -> None:
    made = bench(response(body=body, Content_Type=kind))
    made.send()
    assert made.came[0][1].data == data


@pytest.mark.parametrize(
    ("status", "reason", "name"),
    [(404, "Nothing", "NOT_FOUND"), (302, "Found", "FOUND"), (500, "Oh", "INTERNAL_SERVER_ERROR"), (599, "Odd", "599")],
)
def test_any_other_status_is_a_failure_with_what_came(status: int, reason: str, name: str) -> None:
    made = bench(response(status, b"why", reason, Location="x"))
    made.send({"a": 1})
    text = f"{status} {reason} from POST https://api.example.com/rpc"
    assert made.failure == text
    went = made.came[0][1]
    assert went.data == b'{"a":1}'
    assert went.metadata == {
        "deviceName": "A",
        "Location": "x",
        "status": name,
        "statusCode": str(status),
        "statusReason": reason,
        "error": text,
        "error_body": "why",
    }


def test_no_response_is_a_failure_without_a_body() -> None:
    made = bench(fail(WebCallFailed("nobody is there")))
    made.send({"a": 1})
    assert made.failure == "nobody is there"
    assert made.came[0][1].metadata == {"deviceName": "A", "error": "nobody is there"}


def test_the_message_is_acknowledged_before_the_response() -> None:
    waiting: Deferred[WebResponse] = Deferred()
    made = bench(waiting)
    run = made.send()
    assert (run.acknowledged, run.ended) == (True, False)
    waiting.callback(response())
    assert run.ended


# -- again, and at a time


@pytest.mark.parametrize("first", [429, 500, 503, None])
def test_what_may_be_better_another_time_is_tried_again(first: int | None) -> None:
    trouble = [fail(WebCallFailed("x")) if first is None else response(first) for _ in range(2)]
    made = bench(*trouble, response(), retries=3)
    made.send()
    for number, pause in enumerate(BACKOFF[:2], 1):
        made.world.clock.advance(pause - 0.1)
        assert len(made.world.web.asked) == number
        made.world.clock.advance(0.2)
    assert made.labels == ["Success"]
    assert len(made.world.web.asked) == 3


@pytest.mark.parametrize("retries", [0, 1, 5])
def test_it_is_tried_so_often_and_then_fails(retries: int) -> None:
    made = bench(*[response(503, reason="Busy") for _ in range(10)], retries=retries)
    made.send()
    for _ in range(100):
        made.world.clock.advance(0.5)
    assert made.failure.startswith("503 Busy")
    assert len(made.world.web.asked) == 1 + retries


@pytest.mark.parametrize("answer", [404, 302, None])
def test_what_will_not_be_better_is_not_tried_again(answer: int | None) -> None:
    made = bench(fail(WebCallRefused("not allowed")) if answer is None else response(answer), response(), retries=5)
    made.send()
    assert made.labels == ["Failure"]
    assert len(made.world.web.asked) == 1


def test_of_one_node_so_many_are_on_their_way_and_others_wait_for_as_long_as_a_request() -> None:
    waiting: list[Deferred[WebResponse]] = [Deferred() for _ in range(3)]
    made = bench(*waiting, maxParallelRequestsCount=1, readTimeoutMs=2000)
    for number in range(3):
        made.send({"n": number})
    assert len(made.world.web.asked) == 1
    waiting[0].callback(response())
    assert [each.body for each in made.world.web.asked] == [b'{"n":0}', b'{"n":1}']
    made.world.clock.advance(2.1)
    assert made.texts == ["Timeout during waiting for reply!"]
    waiting[1].callback(response())
    assert made.labels == ["Success", "Failure", "Success"]
    made.send({"n": 3})
    assert made.world.web.asked[-1].body == b'{"n":3}'


def test_a_cycle_may_go_through_it() -> None:
    world = RuleWorld()
    world.put(
        {
            "firstNodeIndex": 0,
            "nodes": [{"type": f"org.thingsboard.rule.engine.{NODE}", "name": "Ask", "configuration": URL}],
            "connections": [{"fromIndex": 0, "toIndex": 0, "type": "Failure"}],
        }
    )
    assert world.rules.chains.active(TENANT, None) is not None
