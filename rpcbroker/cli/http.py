"""HTTP by treq, for `Rest`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from treq.client import HTTPClient
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.error import ConnectError, ConnectionLost, DNSLookupError
from twisted.web.client import Agent, HTTPConnectionPool, RequestNotSent, ResponseFailed, ResponseNeverReceived

from rpcbroker.cli.answers import Answer
from rpcbroker.cli.at_once import AT_ONCE
from rpcbroker.cli.rest import Send
from rpcbroker.cli.stop import Stop

CONNECT_TIMEOUT = 10.0
"""Seconds for TCP and TLS."""


def sender(reactor: Any, *, timeout: float = 30.0) -> Send:
    """What does a request, with `timeout` seconds for the whole of it."""
    pool = HTTPConnectionPool(reactor, persistent=True)
    pool.maxPersistentPerHost = AT_ONCE
    client = HTTPClient(Agent(reactor, connectTimeout=CONNECT_TIMEOUT, pool=pool))

    async def send(method: str, url: str, *, headers: Mapping[str, str], body: bytes | None) -> Answer:
        try:
            response = await client.request(
                method,
                url,
                headers={**headers, "Accept": "application/json"},
                data=body,
                timeout=timeout,
                allow_redirects=False,  # a token goes to the host that it was meant for
            )
            content = await response.content()
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


def _site(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _first(text: str) -> str:
    """What Twisted's errors say, without the numbers."""
    return text.split(":", maxsplit=1)[0].rstrip(".")


def _why(error: Exception) -> str:
    reasons = getattr(error, "reasons", None)
    return _first(reasons[0].getErrorMessage()) if reasons else type(error).__name__
