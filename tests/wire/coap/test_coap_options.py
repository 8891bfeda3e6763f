"""What the options of a request say, and which of them are refused."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from wire.coap.strategies import MESSAGES

from rpcbroker.wire.coap.blockwise import Block
from rpcbroker.wire.coap.errors import RequestError
from rpcbroker.wire.coap.message import Message, decode, encode
from rpcbroker.wire.coap.numbers import Code
from rpcbroker.wire.coap.numbers import OptionNumber as N
from rpcbroker.wire.coap.options import BadOption, RequestOptions, read

Options = tuple[tuple[int, bytes], ...]


def request(*options: tuple[int, bytes], code: int = Code.GET) -> Message:
    return Message(0, code, 1, b"t", tuple(sorted(options, key=lambda option: option[0])))


def path(*segments: bytes) -> Options:
    return tuple((N.URI_PATH, segment) for segment in segments)


NOTHING: dict[str, Any] = {
    "path": (),
    "query": (),
    "content_format": None,
    "accept": None,
    "observe": None,
    "block1": None,
    "block2": None,
    "size1": None,
    "size2": None,
    "etags": (),
    "if_match": (),
    "if_none_match": False,
    "echo": None,
    "request_tag": None,
    "no_response": None,
}

SAID: list[tuple[str, Options, dict[str, Any]]] = [
    ("nothing", (), {}),
    ("a path", path(b"api", b"v1", b"t", b"rpc"), {"path": ("api", "v1", "t", "rpc")}),
    ("a whole path in one option", path(b"/api/v1/t/rpc"), {"path": ("api", "v1", "t", "rpc")}),
    ("a whole path without its first slash", path(b"api/v1/t/rpc"), {"path": ("api", "v1", "t", "rpc")}),
    ("a slash within one of many segments", path(b"a/b", b"c"), {"path": ("a/b", "c")}),
    ("segments that mean nothing", path(b"..", b"%2e", b".", b""), {"path": ("..", "%2e", ".", "")}),
    ("a segment of 255 bytes", path(b"x" * 255), {"path": ("x" * 255,)}),
    ("200 segments", path(*[b"a"] * 200), {"path": ("a",) * 200}),
    ("UTF-8", path("größe".encode(), "温度".encode()), {"path": ("größe", "温度")}),
    ("queries", ((N.URI_QUERY, b"a=1"), (N.URI_QUERY, b"b")), {"query": ("a=1", "b")}),
    (
        "RFC 7252, appendix B",
        (*path(b"", b"/", b"", b""), (15, b"//"), (15, b"?&")),
        {"path": ("", "/", "", ""), "query": ("//", "?&")},
    ),
    ("another host and port", ((N.URI_HOST, b"example.net"), (N.URI_PORT, b"\x16\x33")), {}),
    ("a content format", ((N.CONTENT_FORMAT, b"2"),), {"content_format": 50}),
    ("content format 0", ((N.CONTENT_FORMAT, b""),), {"content_format": 0}),
    ("content format 0, with a leading zero", ((N.CONTENT_FORMAT, b"\0\0"),), {"content_format": 0}),
    ("accept", ((N.ACCEPT, b"\xff\xff"),), {"accept": 65_535}),
    ("register", ((N.OBSERVE, b""),), {"observe": 0}),
    ("register, with leading zeros", ((N.OBSERVE, b"\0\0\0"),), {"observe": 0}),
    ("deregister", ((N.OBSERVE, b"\x01"),), {"observe": 1}),
    ("observe 2", ((N.OBSERVE, b"\x02"),), {}),
    ("observe 16,777,215", ((N.OBSERVE, b"\xff\xff\xff"),), {}),
    ("observe 16,777,216", ((N.OBSERVE, b"\1\0\0\0"),), {}),
    ("observe 0 in four bytes", ((N.OBSERVE, b"\0\0\0\0"),), {}),
    ("observe twice: the first", ((N.OBSERVE, b""), (N.OBSERVE, b"\x01")), {"observe": 0}),
    ("block 1", ((N.BLOCK1, b"\x1e"),), {"block1": Block(1, True, 6)}),
    ("block 2", ((N.BLOCK2, b""),), {"block2": Block(0, False, 0)}),
    ("the last block there can be", ((N.BLOCK2, b"\xff\xff\xfe"),), {"block2": Block(0xFFFFF, True, 6)}),
    ("sizes", ((N.SIZE1, b"\xff\xff\xff\xff"), (N.SIZE2, b"")), {"size1": 0xFFFFFFFF, "size2": 0}),
    ("a size of five bytes", ((N.SIZE1, bytes(5)),), {}),
    ("tags", ((N.ETAG, b"a"), (N.ETAG, b"12345678")), {"etags": (b"a", b"12345678")}),
    ("an empty tag, and one of nine bytes", ((N.ETAG, b""), (N.ETAG, bytes(9))), {}),
    (
        "conditions",
        ((N.IF_MATCH, b""), (N.IF_MATCH, b"a"), (N.IF_NONE_MATCH, b"")),
        {"if_match": (b"", b"a"), "if_none_match": True},
    ),
    ("echo", ((N.ECHO, b"e" * 40),), {"echo": b"e" * 40}),
    ("echo of 41 bytes", ((N.ECHO, b"e" * 41),), {}),
    ("empty echo", ((N.ECHO, b""),), {}),
    ("a request tag", ((N.REQUEST_TAG, b""),), {"request_tag": b""}),
    ("a request tag of nine bytes", ((N.REQUEST_TAG, bytes(9)),), {}),
    ("no response", ((N.NO_RESPONSE, b"\x1a"),), {"no_response": 26}),
    ("a content format of three bytes", ((N.CONTENT_FORMAT, bytes(3)),), {}),
    ("content format twice: the first", ((N.CONTENT_FORMAT, b"2"), (N.CONTENT_FORMAT, b"<")), {"content_format": 50}),
    ("unknown elective ones", ((10, b"x"), (2048, b"y"), (65_534, b"")), {}),
    ("what belongs to responses", ((N.MAX_AGE, b"<"), (N.LOCATION_PATH, b"\xff"), (N.LOCATION_QUERY, b"q")), {}),
]


@pytest.mark.parametrize(("options", "said"), [pytest.param(*rest, id=name) for name, *rest in SAID])
def test_what_options_say(options: Options, said: dict[str, Any]) -> None:
    message = request(*options)
    expected = RequestOptions(code=Code.GET, raw=message.options, **{**NOTHING, **said})
    assert read(message) == expected
    for _ in range(2):
        assert read(decode(encode(message))) == expected  # remembered, the second time


REFUSED: list[tuple[str, Options, int]] = [
    ("option 9", ((9, b""),), Code.BAD_OPTION),
    ("option 65,535", ((65_535, b"x"),), Code.BAD_OPTION),
    ("a path segment of 300 bytes", path(b"x" * 300), Code.BAD_OPTION),
    ("a query of 256 bytes", ((N.URI_QUERY, b"x" * 256),), Code.BAD_OPTION),
    ("accept twice", ((N.ACCEPT, b"2"), (N.ACCEPT, b"2")), Code.BAD_OPTION),
    ("accept of three bytes", ((N.ACCEPT, bytes(3)),), Code.BAD_OPTION),
    ("an empty host", ((N.URI_HOST, b""),), Code.BAD_OPTION),
    ("two hosts", ((N.URI_HOST, b"a"), (N.URI_HOST, b"b")), Code.BAD_OPTION),
    ("a port of three bytes", ((N.URI_PORT, bytes(3)),), Code.BAD_OPTION),
    ("a condition of nine bytes", ((N.IF_MATCH, bytes(9)),), Code.BAD_OPTION),
    ("if-none-match with a value", ((N.IF_NONE_MATCH, b"x"),), Code.BAD_OPTION),
    ("block 1 of four bytes", ((N.BLOCK1, bytes(4)),), Code.BAD_OPTION),
    ("block 2 of four bytes", ((N.BLOCK2, bytes(4)),), Code.BAD_OPTION),
    ("block 1 twice", ((N.BLOCK1, b"\x0e"), (N.BLOCK1, b"\x1e")), Code.BAD_OPTION),
    ("block 1 of size 7", ((N.BLOCK1, b"\x0f"),), Code.BAD_REQUEST),
    ("block 2 of size 7", ((N.BLOCK2, b"\x07"),), Code.BAD_REQUEST),
    ("a proxy's URI", ((N.PROXY_URI, b"coap://example.net/"),), Code.PROXYING_NOT_SUPPORTED),
    ("a proxy's scheme", ((N.PROXY_SCHEME, b"http"),), Code.PROXYING_NOT_SUPPORTED),
    ("a proxy's URI of 1,035 bytes", ((N.PROXY_URI, b"x" * 1_035),), Code.BAD_OPTION),
    ("a path that is not UTF-8", path(b"a", b"\xff\xfe"), Code.BAD_REQUEST),
    ("a surrogate in the path", path(b"\xed\xa0\x80"), Code.BAD_REQUEST),
    ("an overlong slash in the path", path(b"\xc0\xaf"), Code.BAD_REQUEST),
    ("NUL in the path", path(b"a", b"b\0"), Code.BAD_REQUEST),
    ("a line feed in the path", path(b"a\nb"), Code.BAD_REQUEST),
    ("DEL in the path", path(b"\x7f"), Code.BAD_REQUEST),
    ("U+0085 in the path", path(b"\xc2\x85"), Code.BAD_REQUEST),
    ("NUL in a whole path", path(b"/api/v1/\0/rpc"), Code.BAD_REQUEST),
    ("a query that is not UTF-8", ((N.URI_QUERY, b"\xff"),), Code.BAD_REQUEST),
]


@pytest.mark.parametrize(("options", "code"), [pytest.param(*rest, id=name) for name, *rest in REFUSED])
def test_what_cannot_be_obeyed_is_refused(options: Options, code: int) -> None:
    data = encode(request(*options))
    for _ in range(2):
        with pytest.raises(BadOption) as caught:
            read(decode(data))
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (((9, b""),), "option 9 is critical, and not known here"),
        (((N.ACCEPT, bytes(3)),), "option 17 has a wrong length"),
        (((N.ACCEPT, b""), (N.ACCEPT, b"")), "option 17 may come only once"),
    ],
)
def test_the_complaint_says_which_option(options: Options, text: str) -> None:
    with pytest.raises(BadOption) as caught:
        read(request(*options))
    assert caught.value.message == text


@given(MESSAGES)
def test_no_options_raise_anything_but_bad_option(message: Message) -> None:
    with contextlib.suppress(BadOption):
        read(message)


def test_errors_are_answered_by_their_code() -> None:
    with pytest.raises(RequestError, match="no proxy"):
        read(request((N.PROXY_URI, b"x")))


def test_the_code_is_told_from_the_one_of_an_earlier_message_with_the_same_options() -> None:
    options = path(b"the same")
    for code in (Code.GET, Code.POST, Code.GET):
        assert read(decode(encode(request(*options, code=code)))).code == code


class TestCacheKey:
    """Which requests carry blocks of the same body."""

    BASE = (*path(b"a", b"b"), (N.URI_QUERY, b"q"), (N.CONTENT_FORMAT, b"2"), (N.REQUEST_TAG, b"1"))

    def key(self, *options: tuple[int, bytes], code: int = Code.POST) -> object:
        return read(request(*options, code=code)).cache_key

    @pytest.mark.parametrize(
        "more",
        [
            (N.BLOCK1, b"\x1e"),
            (N.BLOCK2, b"\x06"),
            (N.SIZE1, b"\x01"),
            (N.SIZE2, b"\x01"),
            (N.ECHO, b"e"),
            (N.OBSERVE, b""),
        ],
    )
    def test_it_is_the_same_with_and_without(self, more: tuple[int, bytes]) -> None:
        assert self.key(*self.BASE, more) == self.key(*self.BASE)
        assert hash(self.key(*self.BASE, more)) == hash(self.key(*self.BASE))

    @pytest.mark.parametrize(
        "more",
        [
            (N.URI_PATH, b"c"),
            (N.URI_QUERY, b"r"),
            (N.URI_HOST, b"h"),
            (N.ACCEPT, b"2"),
            (N.REQUEST_TAG, b"2"),
            (2048, b""),
        ],
    )
    def test_it_is_another_one_with(self, more: tuple[int, bytes]) -> None:
        assert self.key(*self.BASE, more) != self.key(*self.BASE)

    def test_it_is_another_one_for_another_method(self) -> None:
        assert self.key(*self.BASE, code=Code.GET) != self.key(*self.BASE)

    def test_a_slash_in_a_segment_is_not_one_between_segments(self) -> None:
        assert self.key(*path(b"a/b", b"c")) != self.key(*path(b"a", b"b", b"c"))

    def test_it_does_not_depend_on_the_token(self) -> None:
        one, other = request(*self.BASE), request(*self.BASE)
        other.token = b"another"
        assert read(one).cache_key == read(other).cache_key
