"""What a hostile caller may send over HTTP, as a table: the real daemon, plain sockets.

Each row is followed by an honest request over the same connection: it is answered if the connection
may stay, and must not be if the broker cannot know where the hostile one ended.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from daemon import EMAIL, PASSWORD, Daemon
from hostile import Bystander, answers, attacked, check_error, exchange, statuses

HONEST = b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
MEGABYTE = 1 << 20
TWOWAY = "/api/rpc/twoway/5c1a1bd0-0000-1000-8000-000000000000"


class Row(NamedTuple):
    """`item` counts the kinds of attack; `statuses` are all answers until the broker closes."""

    item: int
    name: str
    data: bytes
    statuses: list[int]


def get(target: bytes = b"/version", *headers: bytes, method: bytes = b"GET", host: bytes | None = b"x") -> bytes:
    lines = [method + b" " + target + b" HTTP/1.1", *([] if host is None else [b"Host: " + host]), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return get(TWOWAY.encode(), *headers, method=b"POST") + body


def chunked(body: bytes, *headers: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", *headers, body=body)


def lengths(*values: bytes) -> bytes:
    return post(*(b"Content-Length: " + value for value in values), body=b"12345")


REFUSED, GOES_ON = [400], [400, 200]
"""Bad, and the connection is closed; bad, and it stays."""

LENGTH = [
    Row(119, "a negative length", lengths(b"-1"), REFUSED),
    Row(119, "a length in scientific notation", lengths(b"1e3"), REFUSED),
    Row(119, "a length with a plus", lengths(b"+5"), REFUSED),
    Row(119, "a hexadecimal length", lengths(b"0x5"), REFUSED),
    Row(119, "an empty length", lengths(b""), REFUSED),
    Row(119, "a length of 5,000 digits", lengths(b"5" * 5000), REFUSED),
    Row(119, "two lengths that differ", lengths(b"5", b"6"), REFUSED),
    Row(119, "two lengths that are equal", lengths(b"5", b"5"), REFUSED),
    Row(119, "a list of lengths", lengths(b"5, 5"), REFUSED),
    Row(119, "a length of 2**64", lengths(b"18446744073709551616"), [413]),
    Row(119, "a length smaller than the body", lengths(b"3"), [401, 405]),
    Row(119, "length and chunks", chunked(b"0\r\n\r\n", b"Content-Length: 5"), REFUSED),
    Row(
        119, "chunks and length", post(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), REFUSED
    ),
    Row(119, "transfer coding identity", post(b"Transfer-Encoding: identity"), REFUSED),
    Row(119, "transfer coding gzip", post(b"Transfer-Encoding: gzip, chunked"), REFUSED),
    Row(119, "transfer coding xchunked", post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), REFUSED),
    Row(119, "transfer coding twice", chunked(b"0\r\n\r\n", b"Transfer-Encoding: chunked"), REFUSED),
    Row(119, "chunks and identity", chunked(b"0\r\n\r\n", b"Transfer-Encoding: identity"), REFUSED),
]
CHUNKS = [
    Row(120, "good chunks with an extension and a trailer", chunked(b"2;a=b\r\n{}\r\n0\r\nA: b\r\n\r\n"), [401, 200]),
    Row(120, "a chunk of 2**64 - 1", chunked(b"FFFFFFFFFFFFFFFF\r\n"), [413]),
    Row(120, "a chunk size of 1,000 digits", chunked(b"F" * 1000 + b"\r\n"), [413]),
    Row(120, "a negative chunk", chunked(b"-1\r\n"), REFUSED),
    Row(120, "a chunk with a prefix", chunked(b"0x2\r\n{}\r\n0\r\n\r\n"), REFUSED),
    Row(120, "a chunk size after a space", chunked(b" 2\r\n{}\r\n0\r\n\r\n"), REFUSED),
    Row(120, "a chunk size before a space", chunked(b"2 \r\n{}\r\n0\r\n\r\n"), REFUSED),
    Row(120, "no chunk size", chunked(b"\r\n{}\r\n0\r\n\r\n"), REFUSED),
    Row(120, "a chunk size that ends in a bare LF", chunked(b"2\n{}\n0\n\n"), REFUSED),
    Row(120, "no CRLF after a chunk", chunked(b"2\r\n{}0\r\n\r\n"), REFUSED),
    Row(120, "a bare LF in an extension", chunked(b"2;a\nb\r\n{}\r\n0\r\n\r\n"), REFUSED),
    Row(120, "an endless extension", chunked(b"2;" + b"a" * MEGABYTE), REFUSED),
    Row(120, "endless trailers", chunked(b"0\r\n" + b"A: b\r\n" * 100_000), REFUSED),
    Row(120, "one endless trailer", chunked(b"0\r\nA: " + b"b" * MEGABYTE), REFUSED),
    Row(120, "chunks beyond the limit", chunked((b"10000\r\n" + b"x" * 65536 + b"\r\n") * 17), [413]),
    Row(120, "a million chunks of one byte", chunked(b"1\r\nx\r\n" * MEGABYTE + b"0\r\n\r\n"), REFUSED),
    Row(120, "10,000 chunks of one byte", chunked(b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"), [401, 200]),
    Row(120, "a million chunks of ten bytes", chunked(b"A\r\n0123456789\r\n" * MEGABYTE), [413]),
    Row(120, "extensions without end", chunked((b"1;" + b"a" * 1000 + b"\r\nx\r\n") * 10_000), REFUSED),
]
HEAD = [
    Row(121, "a first line of 1 MB", get(b"/" + b"a" * MEGABYTE), [414]),
    Row(121, "10,000 headers", get(b"/version", *[b"A%d: b" % i for i in range(10_000)]), [431]),
    Row(121, "101 headers", get(b"/version", *[b"A: b"] * 100), [431]),
    Row(121, "100 headers", get(b"/version", *[b"A: b"] * 99), [200, 200]),
    Row(121, "a header of 1 MB", get(b"/version", b"A: " + b"b" * MEGABYTE), [431]),
    Row(121, "a header name of 1 MB", get(b"/version", b"a" * MEGABYTE), [431]),
    Row(121, "headers of 17 kB", get(b"/version", *[b"A: " + b"b" * 1000] * 17), [431]),
    Row(121, "a header without a colon", get(b"/version", b"what"), REFUSED),
    Row(121, "a bad header before a good one", get(b"/version", b"what", b"A: b"), REFUSED),
    Row(121, "a header without a name", get(b"/version", b": b"), REFUSED),
    Row(121, "a folded header", get(b"/version", b"A: b", b" c"), REFUSED),
    Row(121, "a header folded by a tab", get(b"/version", b"A: b", b"\tc"), REFUSED),
    Row(121, "a space before the first header", b"GET /version HTTP/1.1\r\n Host: x\r\n\r\n", REFUSED),
    Row(121, "a space before the colon", get(b"/version", b"Content-Length : 5"), REFUSED),
    Row(121, "a name that is no token", get(b"/version", b"A(b): c"), REFUSED),
    Row(121, "a name beyond ASCII", get(b"/version", b"\xc3\xa4: c"), REFUSED),
    Row(121, "lines that end in a bare LF", get().replace(b"\r\n", b"\n"), REFUSED),
    Row(121, "lines that end in a bare CR", get().replace(b"\r\n", b"\r"), REFUSED),
    Row(121, "a bare LF in a value", get(b"/version", b"A: b\nC: d"), REFUSED),
    Row(121, "a bare CR in a value", get(b"/version", b"A: b\rC: d"), REFUSED),
    Row(121, "a NUL in a value", get(b"/version", b"A: b\0c"), REFUSED),
    Row(121, "a NUL in a name", get(b"/version", b"A\0: b"), REFUSED),
    Row(121, "a NUL in the path", get(b"/ver\0sion"), REFUSED),
    Row(121, "a space in the path", get(b"/ver sion"), REFUSED),
    Row(121, "a tab in the first line", b"GET\t/version\tHTTP/1.1\r\nHost: x\r\n\r\n", REFUSED),
    Row(121, "a method that is no token", get(method=b"G(T"), REFUSED),
    Row(121, "no target", b"GET  HTTP/1.1\r\nHost: x\r\n\r\n", REFUSED),
    Row(121, "HTTP/0.9", b"GET /version\r\n", REFUSED),
    Row(121, "HTTP/2.0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", REFUSED),
    Row(121, "HTTP/1.2", get().replace(b"1.1", b"1.2"), REFUSED),
    Row(121, "http/1.1", get().replace(b"HTTP", b"http"), REFUSED),
    Row(121, "an empty line first", b"\r\n" + get(), [200, 200]),
    Row(121, "empty lines first", b"\r\n" * 1000 + get(), REFUSED),
    Row(121, "an MQTT CONNECT", b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a\r\n", REFUSED),
]
HOSTS = [
    Row(122, "no Host", get(host=None), GOES_ON),
    Row(122, "two Hosts", get(b"/version", b"Host: y"), GOES_ON),
    Row(122, "the same Host twice", get(b"/version", b"host: x"), GOES_ON),
    Row(122, "no Host in HTTP/1.0", b"GET /version HTTP/1.0\r\n\r\n", [200]),
    Row(122, "two Hosts in HTTP/1.0", b"GET /version HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n", REFUSED),
    Row(122, "our own URL", get(b"http://X/version"), [200, 200]),
    Row(122, "our own URL without Host", b"GET http://x/version HTTP/1.0\r\n\r\n", [200]),
    Row(122, "our own URL without a path", get(b"http://x"), [200, 200]),
    Row(122, "the URL of another host", get(b"http://y/version"), GOES_ON),
    Row(122, "another port", get(b"http://x:1/version"), GOES_ON),
    Row(122, "a URL with a user", get(b"http://me@x/version"), GOES_ON),
    Row(122, "a URL without a host", get(b"http:///version", host=b""), GOES_ON),
    Row(122, "a URL of another scheme", get(b"ftp://x/version"), GOES_ON),
    Row(122, "no path and no URL", get(b"version"), GOES_ON),
    Row(122, "the whole server", get(b"*", method=b"OPTIONS"), [200, 200]),
    Row(122, "the whole server by GET", get(b"*"), GOES_ON),
]
BODIES = [
    Row(123, "100-continue and too large", post(b"Content-Length: 99999999", b"Expect: 100-continue"), [413]),
    Row(123, "100-continue", post(b"Content-Length: 2", b"Expect: 100-Continue", body=b"{}"), [100, 401, 200]),
    Row(123, "another expectation", post(b"Content-Length: 2", b"Expect: a-miracle", body=b"{}"), [417]),
    Row(123, "two expectations", post(b"Content-Length: 2", b"Expect: 100-continue", b"Expect: x"), [417]),
    Row(123, "a gzip bomb", post(b"Content-Encoding: gzip", b"Content-Length: 1034", body=gzip.compress(b"0" * MEGABYTE)), [415]),
    Row(123, "gzip in chunks", chunked(b"0\r\n\r\n", b"Content-Encoding: gzip"), [415]),
    Row(123, "coded as it is", post(b"Content-Encoding: identity", b"Content-Length: 2", body=b"{}"), [401, 200]),
]  # fmt: skip
PATHS = [
    Row(124, path.decode("latin-1"), get(path), expected)
    for path, expected in [
        (b"/..", [404, 200]),
        (b"/api/../../../../etc/passwd", [404, 200]),
        (b"/api/device/../../version", [404, 200]),
        (b"/%2e%2e/%2e%2e/etc/passwd", [404, 200]),
        (b"/api/device/..%2f..%2fetc%2fpasswd", GOES_ON),
        (b"/api/device/%2e%2e%5c%2e%2e", [401, 200]),
        (b"/version%00", [404, 200]),
        (b"/version/", [404, 200]),
        (b"//version", GOES_ON),
        (b"//evil.example/version", GOES_ON),
        (b"/%2Fversion", GOES_ON),
        (b"/api%2fauth%2fuser", GOES_ON),
        (b"/api//auth/user", [404, 200]),
        (b"/version;x", [404, 200]),
        (b"/version|/x", [404, 200]),
        (b"/%76ersion", [200, 200]),
        (b"/version?a=%ff", [200, 200]),
        (b"/version#a", [404, 200]),
        (b"/%", [404, 200]),
        (b"/%zz", [404, 200]),
        (b"/%ff", GOES_ON),
        (b"/\xa4", GOES_ON),
        (b"/%c0%ae%c0%ae/%c0%af", GOES_ON),
        (b"/%ed%a0%80", GOES_ON),
        (b"/%e2%80%ae", [404, 200]),
        (b"/" + b"a/" * 8000, [404, 200]),
        (b"/?" + b"a&" * 8000, [200, 200]),
    ]
]
METHODS = [
    Row(125, f"{method.decode()} {target.decode()}", get(target, method=method), [status, 200])
    for method, target, status in [
        (b"FOO", b"/version", 405),
        (b"get", b"/version", 405),
        (b"Get", b"/version", 405),
        (b"head", b"/version", 405),
        (b"TRACE", b"/version", 405),
        (b"CONNECT", b"x:443", 400),
        (b"M" * 10_000, b"/version", 405),
        (b"POST", b"/version", 405),
        (b"DELETE", b"/version", 405),
        (b"OPTIONS", b"/version", 405),
        (b"PATCH", b"/api/device", 405),
        (b"GET", TWOWAY.encode(), 405),
        (b"DELETE", b"/nothing", 404),
    ]
]
CROWDS = [
    Row(128, "an upgrade to nothing known", get(b"/version", b"Connection: Upgrade", b"Upgrade: foo/2"), [200, 200]),
    Row(128, "an upgrade to HTTP/2", get(b"/version", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"), [200, 200]),
    Row(128, "an upgrade to WebSocket", get(b"/version", b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"), [200, 200]),
]  # fmt: skip
TABLE = [*LENGTH, *CHUNKS, *HEAD, *HOSTS, *BODIES, *PATHS, *METHODS, *CROWDS]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with attacked(tmp_path_factory.mktemp("broker")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def device(broker: Daemon) -> str:
    return broker.add_device("d", "D")


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.item}-{row.name[:60]}")
def test_each_is_answered_as_it_deserves_and_others_do_not_suffer(broker: Daemon, row: Row) -> None:
    with Bystander(broker.http):
        assert statuses(broker.http, row.data + HONEST) == row.statuses


def test_a_get_and_its_head_differ_in_the_body_only(broker: Daemon) -> None:
    for target in (b"/version", b"/nothing", b"/api/auth/user", b"http://y/version"):
        full, _ = answers(exchange(broker.http, get(target) + HONEST))
        short = answers(exchange(broker.http, get(target, b"Connection: close", method=b"HEAD")), bodies=False)
        (head,) = short
        ignored = {"date", "connection"}
        assert head.status == full.status
        assert {k: v for k, v in head.headers.items() if k not in ignored} == {
            k: v for k, v in full.headers.items() if k not in ignored
        }
        assert int(head.headers["content-length"][0]) == len(full.body) > 0


def test_the_allowed_methods_are_named(broker: Daemon) -> None:
    (answer, _) = answers(exchange(broker.http, get(method=b"DELETE") + HONEST))
    assert answer.headers["allow"] == ["GET, HEAD"]


def signed_in(broker: Daemon, path: str, body: bytes, *headers: bytes) -> bytes:
    credentials = b"X-Authorization: Bearer " + (broker.token or "").encode()
    length = b"Content-Length: %d" % len(body)
    return get(path.encode(), credentials, length, *headers, method=b"POST") + body


NOT_JSON = [
    b"",
    b"{",
    b"nonsense",
    b"{'method':'x'}",
    b'{"method":"x"} x',
    b'{"method":"x","params":NaN}',
    b'{"method":"x","params":-Infinity}',
    b'{"method":"x","params":1e400}',
    b'{"method":"x","params":' + b"9" * 5000 + b"}",
    b'{"method":"\\ud800"}',
    b'{"method":"x","params":"\\udc00\\ud800"}',
    b'{"method":"\xff"}',
    b'{"method":"\xed\xa0\x80"}',
    b'{"method":"\x00"}',
    b'\xef\xbb\xbf{"method":"x"}',
    '{"method":"x"}'.encode("utf-16"),
    '{"method":"x"}'.encode("utf-32-le"),
    b"[" * MEGABYTE,
    b'{"method":"x","params":' + b'{"a":' * 200_000,
    b'{"method":"x","params":' + b"[" * 65 + b"]" * 65 + b"}",
    b'"' + b"\\" * (MEGABYTE - 2),
]
NO_CALL = [
    b"null",
    b"5",
    b'"x"',
    b"[]",
    b'[{"method":"x"}]',
    b"{}",
    b'{"Method":"x"}',
    b'{"method":"x","timeout":1e400}',
]
NO_DEVICE = [b"null", b"[]", b"{}", b'{"name":5}', b'{"name":null}', b'{"name":"\\u0000"}', b'{"name":"' + b"n" * 10_000 + b'"}']  # fmt: skip


@pytest.mark.parametrize("charset", [b"", b"; charset=utf-16", b"; charset=nonsense"])
@pytest.mark.parametrize("body", [*NOT_JSON, *NO_CALL], ids=lambda body: repr(body[:40]))
def test_126_a_body_that_is_no_call_is_400(broker: Daemon, device: str, body: bytes, charset: bytes) -> None:
    request = signed_in(broker, f"/api/rpc/twoway/{device}", body, b"Content-Type: application/json" + charset)
    with Bystander(broker.http):
        assert statuses(broker.http, request + HONEST) == GOES_ON


@pytest.mark.parametrize("body", [*NOT_JSON, *NO_DEVICE], ids=lambda body: repr(body[:40]))
def test_126_a_body_that_is_no_device_is_400_and_nothing_is_stored(broker: Daemon, device: str, body: bytes) -> None:
    with Bystander(broker.http):
        assert statuses(broker.http, signed_in(broker, "/api/device", body) + HONEST) == GOES_ON
    status, page = broker.ask("GET", "/api/tenant/devices?pageSize=10&page=0")
    assert (status, [found["id"]["id"] for found in page["data"]]) == (200, [device])


def test_126_of_a_member_given_twice_the_last_counts(broker: Daemon, device: str) -> None:
    body = b'{"method":5,"connectTimeout":60000,"method":"x","connectTimeout":0}'
    assert statuses(broker.http, signed_in(broker, f"/api/rpc/twoway/{device}", body) + HONEST) == [504, 200]


@pytest.mark.parametrize("value", ["-1", "0", "NaN", "1e18", "9" * 400, "%00", "%ff", "1&pageSize=x", ""])
def test_126_numbers_in_a_query(broker: Daemon, value: str) -> None:
    credentials = f"X-Authorization: Bearer {broker.token}".encode()
    request = get(f"/api/tenant/devices?page=0&pageSize={value}".encode(), credentials)
    assert statuses(broker.http, request + HONEST) == GOES_ON


def test_128_a_thousand_requests_in_one_segment_are_answered_in_order(broker: Daemon, device: str) -> None:
    body = b'{"method":"x","connectTimeout":0}'
    kinds = [
        (get(), 200),
        (get(b"/nothing"), 404),
        (signed_in(broker, f"/api/rpc/twoway/{device}", body), 504),
        (post(), 401),
        (get(method=b"FOO"), 405),
    ]
    sequence = [kinds[i * i % 7 % 5] for i in range(1000)]
    with Bystander(broker.http):
        found = statuses(broker.http, b"".join(data for data, _ in sequence) + HONEST)
    assert found == [status for _, status in sequence] + [200]


def token_of(broker: Daemon) -> tuple[dict[str, object], dict[str, object], str]:
    head, claims, signature = (broker.token or "").split(".")
    return json.loads(unpack(head)), json.loads(unpack(claims)), signature


def unpack(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def pack(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_129_forged_tokens_are_401(broker: Daemon) -> None:
    head, claims, signature = token_of(broker)
    good = broker.token or ""
    forged = {
        "nothing": "",
        "no token": "x",
        "two parts": "x.y",
        "not base64": "ä.ö.ü".encode().decode("latin-1"),
        "no signature": f"{good.rsplit('.', 1)[0]}.",
        "alg none": f"{pack(head | {'alg': 'none'})}.{pack(claims)}.",
        "alg nOnE": f"{pack(head | {'alg': 'nOnE'})}.{pack(claims)}.",
        "alg HS256": f"{pack(head | {'alg': 'HS256'})}.{pack(claims)}.{signature}",
        "alg a list": f"{pack(head | {'alg': ['HS512']})}.{pack(claims)}.{signature}",
        "a key of its own": f"{pack(head | {'jwk': {'kty': 'oct', 'k': 'AAAA'}})}.{pack(claims)}.{signature}",
        "a key from a path": f"{pack(head | {'kid': '../../dev/null'})}.{pack(claims)}.{signature}",
        "another role": f"{pack(head)}.{pack(claims | {'scopes': ['SYS_ADMIN']})}.{signature}",
        "a later end": f"{pack(head)}.{pack(claims | {'exp': 2**40})}.{signature}",
        "a number beyond JSON's": f"{pack(head)}.{pack(claims | {'exp': float('inf')})}.{signature}",
        "another signature": good[:-8] + ("A" * 8),
        "cut": good[:-1],
        "longer": good + "A" * 8,
        "deep": f"{base64.urlsafe_b64encode(b'[' * 9000).decode()}.{pack(claims)}.{signature}",
        "10 kB": "a" * 10_000,
    }
    shapes = set()
    for name, token in forged.items():
        request = get(b"/api/auth/user", b"X-Authorization: Bearer " + token.encode("latin-1")) + HONEST
        answer, _ = answers(exchange(broker.http, request))
        check_error(answer)
        assert answer.status == 401, name
        shapes.add(json.loads(answer.body)["errorCode"])
        assert answer.headers["www-authenticate"] == ["Bearer, ApiKey"]
    assert shapes == {10}


def test_129_a_token_counts_in_its_header_only(broker: Daemon) -> None:
    token = (broker.token or "").encode()
    for name in (b"token", b"access_token", b"X-Authorization", b"Authorization", b"accessToken"):
        request = get(b"/api/auth/user?" + name + b"=" + token) + get(
            b"/api/auth/user", b"Cookie: " + name + b"=" + token
        )
        assert statuses(broker.http, request + HONEST) == [401, 401, 200]


def test_129_a_refresh_token_opens_nothing(broker: Daemon) -> None:
    pair = broker.ask("POST", "/api/auth/login", {"username": EMAIL, "password": PASSWORD})[1]
    request = get(b"/api/auth/user", f"X-Authorization: Bearer {pair['refreshToken']}".encode())
    assert statuses(broker.http, request + HONEST) == [401, 200]


def test_129_unknown_and_foreign_ids_look_alike(broker: Daemon) -> None:
    shapes = set()
    for number in (1, 2):
        path = f"/api/device/5c1a1bd0-0000-1000-8000-00000000000{number}"
        status, said = broker.ask("GET", path)
        shapes.add((status, said["message"].replace(path[-36:], ""), said["errorCode"]))
    assert len(shapes) == 1


def test_129_guessing_a_password_is_slowed_down(broker: Daemon) -> None:
    guess = {"username": "victim@example.org", "password": "guess"}
    found = [broker.ask("POST", "/api/auth/login", guess)[0] for _ in range(7)]
    assert (found[:4], found[-1]) == ([401] * 4, 429)
    body = json.dumps(guess).encode()
    answer, _ = answers(exchange(broker.http, signed_in(broker, "/api/auth/login", body) + HONEST))
    assert int(answer.headers["retry-after"][0]) >= 1
    assert json.loads(answer.body)["errorCode"] == 33


@pytest.mark.parametrize(
    "target",
    [
        "/nothing%0d%0aSet-Cookie:%20a=b",
        "/version?a=%0d%0aSet-Cookie:%20a=b",
        "/api/device/%0d%0aSet-Cookie:%20a=b",
        "/api/tenant/devices?deviceName=%0d%0aSet-Cookie:%20a=b",
        "/api/tenant/devices?pageSize=%0d%0aSet-Cookie:%20a=b&page=0",
        "//%0d%0aSet-Cookie:%20a=b/..",
        "/version/%e5%98%8d%e5%98%8aSet-Cookie:%20a=b",
    ],
)
def test_130_nothing_of_a_request_becomes_a_header(broker: Daemon, target: str) -> None:
    more = [
        f"X-Authorization: Bearer {broker.token}".encode(),
        b"Origin: http://evil.example",
        b"X-RPC-Id: hostile",
        b"Access-Control-Request-Method: GET",
    ]
    for method in (b"GET", b"POST", b"OPTIONS", b"FOO"):
        found = answers(exchange(broker.http, get(target.encode(), *more, method=method) + HONEST))
        assert len(found) == 2
        names = {name for answer in found for name in answer.headers}
        assert not {"set-cookie", "location"} & names
        assert not [name for name in names if name.startswith("access-control-")]
        assert not [
            value for answer in found for values in answer.headers.values() for value in values if "ostile" in value
        ]


def test_130_a_token_with_a_line_end_is_no_token(broker: Daemon) -> None:
    request = get(b"/api/auth/user", b"X-Authorization: Bearer a\rSet-Cookie: a=b")
    assert statuses(broker.http, request + HONEST) == REFUSED


def test_the_tables_cover_what_a_row_can_be(tmp_path: Path) -> None:
    assert {row.item for row in TABLE} == {119, 120, 121, 122, 123, 124, 125, 128}
    assert len({(row.item, row.name[:60]) for row in TABLE}) == len(TABLE)
