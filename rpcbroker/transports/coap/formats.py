"""What bodies are written in: JSON, which the broker carries, also as plain text, and CBOR (RFC 8949).

cbor2 is loaded with the first body that needs it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any, NoReturn

from rpcbroker.core import jsontext
from rpcbroker.core.errors import InvalidRequest, UnsupportedMediaType
from rpcbroker.transports.coap.exchange import Refused
from rpcbroker.wire.coap.numbers import Code, ContentFormat

_JSON = frozenset({None, ContentFormat.TEXT, ContentFormat.JSON})
"""Content formats of requests that are taken for JSON text: many devices name none."""
_OFFERED = (ContentFormat.JSON, ContentFormat.CBOR, ContentFormat.TEXT)


def check_accept(accept: int | None) -> None:
    """Raises Refused where an answer of this content format is asked for and cannot be given (RFC 7252 5.10.4)."""
    if accept is not None and accept not in _OFFERED:
        raise Refused(Code.NOT_ACCEPTABLE, "answers are JSON (50), CBOR (60) or text (0)")


def chosen(accept: int | None, content_format: int | None) -> int:
    """What the answer is written in: what was asked for, else as the request, else JSON."""
    if accept is not None:
        return accept
    return ContentFormat.JSON if content_format is None else content_format


def check_content_format(content_format: int | None) -> None:
    """Raises UnsupportedMediaType for bodies that are not read here (RFC 7252 5.10.3)."""
    if content_format not in _JSON and content_format != ContentFormat.CBOR:
        raise UnsupportedMediaType("bodies are JSON (50), CBOR (60) or text (0)")


def read(payload: bytes, content_format: int | None) -> bytes:
    """A request's body as JSON text; JSON is not looked into. Raises UnsupportedMediaType, InvalidRequest."""
    if content_format in _JSON:
        return payload
    check_content_format(content_format)
    return jsontext.encode(_from_cbor(payload)) if payload else b""


def write(text: bytes, content_format: int) -> bytes:
    """JSON text as an answer's body in one of the formats that can be chosen."""
    if content_format == ContentFormat.CBOR:
        import cbor2

        encoded: bytes = cbor2.dumps(jsontext.decode(text))
        return encoded
    return text


class _NoTags(dict[int, Any]):
    """What decodes each tag: nothing. Tags make times, sets, and values that hold themselves (RFC 8949 3.4)."""

    def __missing__(self, _: int) -> Any:
        return _refuse_tag


def _refuse_tag(*_: Any) -> NoReturn:
    raise ValueError("tags are not read")


_NO_TAGS: Mapping[int, Any] = _NoTags()


def _from_cbor(payload: bytes) -> Any:
    """The value, if JSON can say it. Raises InvalidRequest."""
    import cbor2

    stream = io.BytesIO(payload)
    try:
        value = cbor2.CBORDecoder(stream, semantic_decoders=_NO_TAGS, max_depth=jsontext.MAX_DEPTH).decode()
    except cbor2.CBORDecodeError as error:
        raise _unreadable(error.__cause__ or error) from None
    except (ValueError, OverflowError, MemoryError, RecursionError) as error:
        raise _unreadable(error) from None
    if stream.tell() != len(payload):
        raise _unreadable("something follows the value")
    rest = [value]
    while rest:
        each = rest.pop()
        kind = type(each)
        if kind is dict:
            if any(type(key) is not str for key in each):
                raise _unreadable("a key is not text")
            rest.extend(each.values())
        elif kind is list:
            rest.extend(each)
        elif kind is float:
            if not math.isfinite(each):
                raise _unreadable("a number is not finite")
        elif each is not None and kind not in (str, int, bool):
            raise _unreadable("a value is none that JSON has")
    return value


def _unreadable(why: object) -> InvalidRequest:
    return InvalidRequest(f"Invalid payload: not CBOR that can be read here: {why}")
