"""The numbers of CoAP: types, codes, options and content formats, each by the name that its RFC gives it.

Messages bear plain integers, which compare equal to these; enumerations are slow to make and to look up.
"""

from __future__ import annotations

from enum import IntEnum


class Type(IntEnum):
    """What the message layer does with a message (RFC 7252 3)."""

    CON = 0
    """Confirmable: is sent again until it is answered."""
    NON = 1
    ACK = 2
    RST = 3


class Code(IntEnum):
    """Class in the upper three bits, detail in the lower five: 0x84 is 4.04 (RFC 7252 12.1; 7959, 8132, 8516, 8768)."""

    EMPTY = 0x00
    GET = 0x01
    POST = 0x02
    PUT = 0x03
    DELETE = 0x04
    FETCH = 0x05
    PATCH = 0x06
    IPATCH = 0x07
    CREATED = 0x41
    DELETED = 0x42
    VALID = 0x43
    CHANGED = 0x44
    CONTENT = 0x45
    CONTINUE = 0x5F
    BAD_REQUEST = 0x80
    UNAUTHORIZED = 0x81
    BAD_OPTION = 0x82
    FORBIDDEN = 0x83
    NOT_FOUND = 0x84
    METHOD_NOT_ALLOWED = 0x85
    NOT_ACCEPTABLE = 0x86
    REQUEST_ENTITY_INCOMPLETE = 0x88
    CONFLICT = 0x89
    PRECONDITION_FAILED = 0x8C
    REQUEST_ENTITY_TOO_LARGE = 0x8D
    UNSUPPORTED_CONTENT_FORMAT = 0x8F
    UNPROCESSABLE_ENTITY = 0x96
    TOO_MANY_REQUESTS = 0x9D
    INTERNAL_SERVER_ERROR = 0xA0
    NOT_IMPLEMENTED = 0xA1
    BAD_GATEWAY = 0xA2
    SERVICE_UNAVAILABLE = 0xA3
    GATEWAY_TIMEOUT = 0xA4
    PROXYING_NOT_SUPPORTED = 0xA5
    HOP_LIMIT_REACHED = 0xA8


class OptionNumber(IntEnum):
    """Odd ones are critical (RFC 7252 5.4.1, 5.10, 12.2; 7641 2; 7959 2.1, 4; 7967 2; 9175 2.2.1, 3.2)."""

    IF_MATCH = 1
    URI_HOST = 3
    ETAG = 4
    IF_NONE_MATCH = 5
    OBSERVE = 6
    URI_PORT = 7
    LOCATION_PATH = 8
    URI_PATH = 11
    CONTENT_FORMAT = 12
    MAX_AGE = 14
    URI_QUERY = 15
    ACCEPT = 17
    LOCATION_QUERY = 20
    BLOCK2 = 23
    BLOCK1 = 27
    SIZE2 = 28
    PROXY_URI = 35
    PROXY_SCHEME = 39
    SIZE1 = 60
    ECHO = 252
    NO_RESPONSE = 258
    REQUEST_TAG = 292


class ContentFormat(IntEnum):
    """What a payload is (RFC 7252 12.3; CBOR: RFC 8949 9.3)."""

    TEXT = 0
    """`text/plain; charset=utf-8`"""
    LINK = 40
    """`application/link-format` (RFC 6690)"""
    OCTETS = 42
    """`application/octet-stream`"""
    JSON = 50
    CBOR = 60


def dotted(code: int) -> str:
    """A code as people write it: `4.04` (RFC 7252 3)."""
    return f"{code >> 5}.{code & 0x1F:02}"


def uint(value: int) -> bytes:
    """How an option says a number: big-endian, without leading zeros, 0 as nothing (RFC 7252 3.2)."""
    return value.to_bytes((value.bit_length() + 7) >> 3, "big")


def to_uint(value: bytes) -> int:
    """The number that an option says; leading zeros are allowed (RFC 7252 3.2)."""
    return int.from_bytes(value, "big")
