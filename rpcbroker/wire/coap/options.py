"""What the options of a request say (RFC 7252 5.4, 5.10; 7641, 7959, 7967, 9175)."""

from __future__ import annotations

import re
from typing import NamedTuple

from rpcbroker.wire.coap.blockwise import Block
from rpcbroker.wire.coap.errors import BadOption
from rpcbroker.wire.coap.message import Message
from rpcbroker.wire.coap.numbers import Code, OptionNumber, to_uint, uint

__all__ = ["BadOption", "RequestOptions", "read", "to_uint", "uint"]

_N = OptionNumber
_LENGTHS: dict[int, tuple[int, int]] = {
    number.value: bounds  # plain integers, for the hash of an enumeration is slow
    for number, bounds in {
        _N.IF_MATCH: (0, 8),
        _N.URI_HOST: (1, 255),
        _N.ETAG: (1, 8),
        _N.IF_NONE_MATCH: (0, 0),
        _N.OBSERVE: (0, 3),
        _N.URI_PORT: (0, 2),
        _N.LOCATION_PATH: (0, 255),
        _N.URI_PATH: (0, 255),
        _N.CONTENT_FORMAT: (0, 2),
        _N.MAX_AGE: (0, 4),
        _N.URI_QUERY: (0, 255),
        _N.ACCEPT: (0, 2),
        _N.LOCATION_QUERY: (0, 255),
        _N.BLOCK2: (0, 3),
        _N.BLOCK1: (0, 3),
        _N.SIZE2: (0, 4),
        _N.PROXY_URI: (1, 1034),
        _N.PROXY_SCHEME: (1, 255),
        _N.SIZE1: (0, 4),
        _N.ECHO: (1, 40),
        _N.NO_RESPONSE: (0, 1),
        _N.REQUEST_TAG: (0, 8),
    }.items()
}
"""The options that are known: how many bytes they have, at least and at most (RFC 7252 table 4)."""

_IF_MATCH = _N.IF_MATCH.value
_ETAG = _N.ETAG.value
_IF_NONE_MATCH = _N.IF_NONE_MATCH.value
_OBSERVE = _N.OBSERVE.value
_LOCATION_PATH = _N.LOCATION_PATH.value
_URI_PATH = _N.URI_PATH.value
_CONTENT_FORMAT = _N.CONTENT_FORMAT.value
_URI_QUERY = _N.URI_QUERY.value
_ACCEPT = _N.ACCEPT.value
_LOCATION_QUERY = _N.LOCATION_QUERY.value
_BLOCK2 = _N.BLOCK2.value
_BLOCK1 = _N.BLOCK1.value
_SIZE2 = _N.SIZE2.value
_PROXY_URI = _N.PROXY_URI.value
_PROXY_SCHEME = _N.PROXY_SCHEME.value
_SIZE1 = _N.SIZE1.value
_ECHO = _N.ECHO.value
_NO_RESPONSE = _N.NO_RESPONSE.value
_REQUEST_TAG = _N.REQUEST_TAG.value

_REPEATABLE = frozenset({_IF_MATCH, _ETAG, _LOCATION_PATH, _URI_PATH, _URI_QUERY, _LOCATION_QUERY, _REQUEST_TAG})
_NOT_IN_KEY = frozenset({_OBSERVE, _BLOCK1, _BLOCK2})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NONE: list[bytes] = []
_NO_VALUE = (None,)


class RequestOptions(NamedTuple):
    """The options of a request, or of a response; what is not there is None, or empty.

    Uri-Host and Uri-Port are accepted and say nothing: whatever arrives here is meant for here. Who serves no
    conditional requests must refuse those that have `if_match` or `if_none_match` (RFC 7252 5.10.8).
    """

    code: int
    """The code of the message: what `cache_key` begins with."""
    path: tuple[str, ...]
    query: tuple[str, ...]
    content_format: int | None
    accept: int | None
    observe: int | None
    """0: register, 1: deregister."""
    block1: Block | None
    block2: Block | None
    size1: int | None
    size2: int | None
    etags: tuple[bytes, ...]
    if_match: tuple[bytes, ...]
    if_none_match: bool
    echo: bytes | None
    request_tag: bytes | None
    no_response: int | None
    """Which classes of responses are not wanted, as bits (RFC 7967 2.1)."""
    raw: tuple[tuple[int, bytes], ...]
    """All of them, as they came."""

    @property
    def cache_key(self) -> tuple[object, ...]:
        """What messages of one peer have in common that carry blocks of the same body (RFC 7959 2.4, 2.5; 9175 3.3).

        It has all options but those that are no part of a Cache-Key (RFC 7252 5.4.6; 7641 2) and the blocks.
        """
        return (
            self.code,
            *(option for option in self.raw if option[0] & 0x1E != 0x1C and option[0] not in _NOT_IN_KEY),
        )


def read(message: Message) -> RequestOptions:
    """What the options of a message say. Raises BadOption for what cannot be obeyed."""
    remembered = message.remembered
    if remembered is None:
        return _read(message.code, message.options)
    found: RequestOptions | None = remembered.request
    if found is None or found.code != message.code:
        found = remembered.request = _read(message.code, message.options)
    return found


def _read(code: int, options: tuple[tuple[int, bytes], ...]) -> RequestOptions:
    found: dict[int, list[bytes]] = {}
    for number, value in options:
        bounds = _LENGTHS.get(number)
        if bounds is not None and bounds[0] <= len(value) <= bounds[1]:
            if number not in found:
                found[number] = [value]
                continue
            if number in _REPEATABLE:
                found[number].append(value)
                continue
        # Unknown, of a wrong length, or once too often: all are treated alike (RFC 7252 5.4.1, 5.4.3, 5.4.5).
        if number & 1:
            raise BadOption(Code.BAD_OPTION, _complaint(number, known=bounds is not None, repeated=number in found))
    if _PROXY_URI in found or _PROXY_SCHEME in found:
        raise BadOption(Code.PROXYING_NOT_SUPPORTED, "this is no proxy")  # RFC 7252 5.10.2
    get = found.get
    observe = _number(get(_OBSERVE))
    return RequestOptions(
        code,
        _path(get(_URI_PATH, _NONE)),
        tuple([_text(value, "query") for value in get(_URI_QUERY, _NONE)]),
        _number(get(_CONTENT_FORMAT)),
        _number(get(_ACCEPT)),
        observe if observe is not None and observe < 2 else None,  # RFC 7641 2
        _block(get(_BLOCK1)),
        _block(get(_BLOCK2)),
        _number(get(_SIZE1)),
        _number(get(_SIZE2)),
        tuple(get(_ETAG, _NONE)),
        tuple(get(_IF_MATCH, _NONE)),
        _IF_NONE_MATCH in found,
        get(_ECHO, _NO_VALUE)[0],
        get(_REQUEST_TAG, _NO_VALUE)[0],
        _number(get(_NO_RESPONSE)),
        options,
    )


def _complaint(number: int, *, known: bool, repeated: bool) -> str:
    """For the makers of the device, who need to know which option it is."""
    if not known:
        return f"option {number} is critical, and not known here"
    return f"option {number} may come only once" if repeated else f"option {number} has a wrong length"


def _number(values: list[bytes] | None) -> int | None:
    return None if values is None else to_uint(values[0])


def _block(values: list[bytes] | None) -> Block | None:
    return None if values is None else Block.decode(values[0])


def _text(value: bytes, what: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadOption(Code.BAD_REQUEST, f"the {what} is not UTF-8") from None  # RFC 7252 3.2


def _path(values: list[bytes]) -> tuple[str, ...]:
    """Segments as they are: nothing in them means anything, neither `..` nor `%` (RFC 7252 5.10.1)."""
    segments = tuple([_text(value, "path") for value in values])
    for segment in segments:
        if _CONTROL.search(segment):
            raise BadOption(Code.BAD_REQUEST, "the path has a control character")
    if len(segments) == 1 and "/" in segments[0]:
        return tuple(segments[0].removeprefix("/").split("/"))  # a whole path in one option, as some devices send it
    return segments
