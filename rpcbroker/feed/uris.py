"""URIs of topics and procedures: how they may look, and whose they are.

URIs follow the loose rules, https://wamp-proto.org/spec.html, "URIs": components without spaces and `#`, between dots.
`rpcbroker.*` is the broker's, `wamp.*` the protocol's, and all others are the applications' own.
"""

from __future__ import annotations

import re

from rpcbroker.core.errors import PermissionDenied
from rpcbroker.core.feed import ROOT
from rpcbroker.feed.errors import refused

MAX_LENGTH = 500
"""Characters of a URI: more than any of ours, few enough to look at each."""
MAX_WILDCARD = 10
"""Components of a wildcard: an event may have to be looked for under each choice of those that are given."""
META = "wamp."
METHODS = f"{ROOT}method."
"""What applications may register to answer the questions of devices."""
ON_JOIN, ON_LEAVE = META_TOPICS = ("wamp.session.on_join", "wamp.session.on_leave")
EXACT, PREFIX, WILDCARD = "exact", "prefix", "wildcard"

_COMPONENT = r"[^\s.#]"
_SHAPES = {
    EXACT: re.compile(rf"{_COMPONENT}+(\.{_COMPONENT}+)*"),
    PREFIX: re.compile(rf"({_COMPONENT}+(\.{_COMPONENT}+)*\.?)?"),
    WILDCARD: re.compile(rf"{_COMPONENT}*(\.{_COMPONENT}*)*"),
}


def check(uri: str, match: str = EXACT) -> None:
    """Raises Refused, `wamp.error.invalid_uri`. A prefix may be empty, and any component of a wildcard."""
    if len(uri) > MAX_LENGTH:
        raise refused("wamp.error.invalid_uri", f"The URI is longer than {MAX_LENGTH} characters")
    if match == WILDCARD and uri.count(".") >= MAX_WILDCARD:
        raise refused("wamp.error.invalid_uri", f"The wildcard has more than {MAX_WILDCARD} components")
    if not _SHAPES[match].fullmatch(uri):
        raise refused(
            "wamp.error.invalid_uri",
            "This is no URI",
            hint="Components without spaces and # stand between dots; in patterns some may be empty.",
        )


def is_feed(uri: str) -> bool:
    """Whether it is the broker's."""
    return f"{uri}.".startswith(ROOT)


def is_meta(uri: str) -> bool:
    """Whether it is the protocol's."""
    return f"{uri}.".startswith(META)


def fits_feed(topic: str, match: str) -> bool:
    """Whether something that a subscription fits can be the broker's."""
    if match == PREFIX:
        return topic.startswith(ROOT) or ROOT.startswith(topic)
    if match == WILDCARD:
        return f"{topic}.".startswith((".", ROOT))
    return is_feed(topic)


def require_free(uri: str) -> None:
    """What applications publish or register must be their own. Raises PermissionDenied."""
    if is_feed(uri) or is_meta(uri):
        raise PermissionDenied(
            "This URI is not for applications", hint=f"All but {ROOT}* and {META}* are theirs to publish and register."
        )
