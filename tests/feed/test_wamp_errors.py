"""Every error of the broker has a URI, and words that people can read."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from rpcbroker.core import errors as e
from rpcbroker.feed import uris
from rpcbroker.feed.errors import OWN, TABLE, Told, refused, told


def tree(root: type[e.BrokerError] = e.BrokerError) -> Iterator[type[e.BrokerError]]:
    yield root
    for each in root.__subclasses__():
        yield from tree(each)


@pytest.mark.parametrize("error", sorted(set(tree()), key=lambda each: each.__name__))
def test_every_error_has_a_row(error: type[e.BrokerError]) -> None:
    assert TABLE[error].startswith((OWN, "wamp.error."))
    uris.check(TABLE[error])


@pytest.mark.parametrize("reason", e.Reason)
def test_every_reason_is_a_uri(reason: e.Reason) -> None:
    uri, _, kwargs = told(e.CallFailed("It failed", reason=reason))
    assert uri == f"rpcbroker.error.{reason.value.lower()}"
    assert kwargs == {"reason": reason.value}


def test_what_else_is_known_is_told_by_name() -> None:
    error = e.CallTimeout("No answer", reason=e.Reason.NO_REPLY, hint="Look at it.", rpc_id=UUID(int=1))
    assert told(error) == (
        "rpcbroker.error.no_reply",
        ["No answer"],
        {"reason": "NO_REPLY", "hint": "Look at it.", "rpcId": str(UUID(int=1))},
    )
    assert told(e.TooManyRequests("Slowly", retry_after=1.5)).kwargs == {"retryAfter": 1.5}
    assert told(e.PermissionDenied("No")) == Told("wamp.error.not_authorized", ["No"], {})
    assert told(refused("wamp.error.x", "No", hint="Yes.")) == ("wamp.error.x", ["No"], {"hint": "Yes."})
