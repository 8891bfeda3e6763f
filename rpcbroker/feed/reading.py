"""What a client may send, read: decoded lists made into autobahn's messages.

autobahn's parser is loose at some places: it takes 0 as an id, and payloads that the router could not look into; for
some wrong types it has an assertion only, or an error of Python's. All of these are violations here.
"""

from __future__ import annotations

from typing import Any

from autobahn.wamp import message as m

from rpcbroker.feed.errors import Violation
from rpcbroker.feed.messages import Received

MAX_ID = 2**53
"""https://wamp-proto.org/spec.html, "IDs"."""

_FROM_CLIENTS: tuple[type[m.Message], ...] = (
    m.Hello,
    m.Abort,
    m.Authenticate,
    m.Goodbye,
    m.Error,
    m.Publish,
    m.Subscribe,
    m.Unsubscribe,
    m.Call,
    m.Cancel,
    m.Register,
    m.Unregister,
    m.Yield,
)
_BY_TYPE = {each.MESSAGE_TYPE: each for each in _FROM_CLIENTS}
_IDS: dict[type[m.Message], tuple[int, ...]] = {
    m.Error: (2,),
    m.Unsubscribe: (1, 2),
    m.Unregister: (1, 2),
    **dict.fromkeys((m.Publish, m.Subscribe, m.Call, m.Cancel, m.Register, m.Yield), (1,)),
}
"""Where the ids are."""
_ARGS = {m.Error: 5, m.Publish: 4, m.Call: 4, m.Yield: 3}
"""Where the positional arguments begin, if there are any."""
_URI = {m.Publish: 3, m.Subscribe: 3, m.Call: 3, m.Register: 3}
"""Where a URI is that may be refused without ending the session."""
_STANDS_IN = "a"
"""For the URI while autobahn looks at the rest."""


def parse(raw: list[Any]) -> Received:
    """Raises Violation."""
    if not raw or type(raw[0]) is not int or raw[0] not in _BY_TYPE:
        raise Violation("A message of a type that no client sends")
    kind = _BY_TYPE[raw[0]]
    name = kind.__name__.upper()
    for place in _IDS.get(kind, ()):
        if len(raw) <= place or type(raw[place]) is not int or not 1 <= raw[place] <= MAX_ID:
            raise Violation(f"{name}: an id must be a number from 1 to 2^53")
    place = _ARGS.get(kind, len(raw))
    if len(raw) > place and type(raw[place]) is not list:
        raise Violation(f"{name}: positional arguments must be a list")
    if len(raw) > place + 1 and not (type(raw[place + 1]) is dict and all(type(key) is str for key in raw[place + 1])):
        raise Violation(f"{name}: keyword arguments must be a dictionary with texts as keys")
    place, uri = _URI.get(kind, 0), ""
    if place:
        if len(raw) <= place or type(raw[place]) is not str:
            raise Violation(f"{name}: a URI must be a text")
        uri, raw = raw[place], [*raw[:place], _STANDS_IN, *raw[place + 1 :]]
    try:
        message = kind.parse(raw)
    except Exception as error:
        # not only ProtocolError: autobahn asserts some types, and reads others without a look
        raise Violation(f"{name}: {error or 'an option of a wrong type'}"[:200]) from None
    return Received(message, raw[2] if place else {}, uri)
