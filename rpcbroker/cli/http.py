"""HTTP by treq, for `Rest`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from treq.client import HTTPClient
from treq.content import collect
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError, ConnectionLost, DNSLookupError
from twisted.web.client import Agent, HTTPConnectionPool, RequestNotSent, ResponseFailed, ResponseNeverReceived

from rpcbroker.cli.answers import Answer
from rpcbroker.cli.at_once import AT_ONCE
from rpcbroker.cli.rest import Send
from rpcbroker.cli.stop import Stop

JSON, EVENT_STREAM = "application/json", "text/event-stream"
CONNECT_TIMEOUT = 10.0
"""Seconds for TCP and TLS."""
SILENCE = 60.0
"""Seconds without an event, or one of the comments by which a stream shows that it is there."""


def sender(reactor: Any, *, timeout: float = 30.0, events: Callable[[bytes], object] | None = None) -> Send:
    """What does a request, with `timeout` seconds until it is answered.

    `events` is given each piece of an answer that is a stream of events, and makes that what is asked for first;
    the body of such an answer is empty.
    """
    kinds = f"{EVENT_STREAM}, {JSON};q=0.5" if events else JSON
    pool = HTTPConnectionPool(reactor, persistent=True)
    pool.maxPersistentPerHost = AT_ONCE
    client = HTTPClient(Agent(reactor, connectTimeout=CONNECT_TIMEOUT, pool=pool))

    async def send(method: str, url: str, *, headers: Mapping[str, str], body: bytes | None) -> Answer:
        try:
            response = await client.request(
                method,
                url,
                headers={**headers, "Accept": kinds},
                data=body,
                timeout=timeout,
                allow_redirects=False,  # a token goes to the host that it was meant for
            )
            content = b""
            if events is not None and _kind(response) == EVENT_STREAM:
                await collected(reactor, response, events)
            else:
                content = await response.content()
        except CancelledError:
            raise Stop(f"{_site(url)} has said nothing for {SILENCE:g} s.") from None
        except DeferredTimeout:
            raise Stop(f"{_site(url)} did not answer within {timeout:g} s.") from None
        except DNSLookupError:
            raise Stop(f"{_site(url)} cannot be reached: there is no such host.") from None
        except ConnectError as error:
            raise Stop(
                f"{_site(url)} cannot be reached: {_first(str(error))}.", hint="Is the broker running?"
            ) from None
        except (ResponseFailed, ResponseNeverReceived, RequestNotSent, ConnectionLost) as error:
            raise Stop(f"{_site(url)} closed the connection without an answer ({_why(error)}).") from None
        received = {
            name.decode("latin-1").lower(): values[-1].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        return Answer(response.code, received, content)

    return send


async def collected(reactor: Any, response: Any, events: Callable[[bytes], object]) -> None:
    """Give each piece to `events`, until there are no more. Raises CancelledError when nothing comes any more."""

    def piece(data: bytes) -> None:
        silence.reset(SILENCE)
        events(data)

    def fell_silent() -> None:
        collecting.cancel()

    silence: Any = reactor.callLater(SILENCE, fell_silent)
    collecting: Deferred[None] = collect(response, piece)
    try:
        await collecting
    finally:
        if silence.active():
            silence.cancel()


def _kind(response: Any) -> str:
    found = response.headers.getRawHeaders("content-type", [""])
    return str(found[0].partition(";")[0].strip().lower())


def _site(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _first(text: str) -> str:
    """What Twisted's errors say, without the numbers."""
    return text.split(":", maxsplit=1)[0].rstrip(".")


def _why(error: Exception) -> str:
    reasons = getattr(error, "reasons", None)
    return _first(reasons[0].getErrorMessage()) if reasons else type(error).__name__
