"""Where devices find the broker: what it has written down, if it runs on this machine, else the usual ports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from rpcbroker.cli.place import endpoints_of, state_dir_of
from rpcbroker.cli.stop import Stop
from rpcbroker.cli.values import USUAL_PORTS, Address, BrokerUrl

_SERVICE = Path("/var/lib/rpcbroker")
"""Where the broker is that systemd started, as conf/rpcbroker.service has it."""
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})
_SPOKEN = {"mqtt": "MQTT", "coap": "CoAP", "coaps": "CoAP over DTLS"}


class Addresses(NamedTuple):
    """Where one broker is found. `known` is what it says of itself, by scheme; None if nobody knows."""

    url: str
    """Of its REST API."""
    known: Mapping[str, str] | None

    def of(self, *schemes: str) -> BrokerUrl | None:
        """The first of these that it speaks; None: it speaks none of them."""
        if self.known is None:
            return BrokerUrl(schemes[0], urlsplit(self.url).hostname or "localhost", USUAL_PORTS[schemes[0]])
        return next((BrokerUrl.read(self.known[scheme]) for scheme in schemes if scheme in self.known), None)

    def must(self, *schemes: str) -> BrokerUrl:
        """The same. Raises Stop if it speaks none of them."""
        found = self.of(*schemes)
        if found is None:
            raise Stop(
                f"The broker does not listen for {_SPOKEN.get(schemes[0], schemes[0])}.",
                hint="rpcbroker doctor says what it listens on; --broker names another one.",
            )
        return found

    def address(self, *schemes: str) -> Address | None:
        """Host and port only."""
        found = self.of(*schemes)
        return None if found is None else Address(found.host, found.port)


def addresses(url: str, state_dir: str | None) -> Addresses:
    """Of the broker whose REST API is at `url`; `state_dir` is where it keeps things, if it is on this machine."""
    places = [state_dir_of(state_dir)] if state_dir else [state_dir_of(None), _SERVICE]
    for place in places:
        known = {name: at for name, at in endpoints_of(place).items() if _is_url(at)}
        if any(_same(url, known[name]) for name in ("http", "https") if name in known):
            return Addresses(url, known)
    return Addresses(url, None)


def _is_url(text: str) -> bool:
    """Not a socket of this machine only: `mqtt+unix://`."""
    try:
        return urlsplit(text).port is not None
    except ValueError:
        return False


def _same(url: str, known: str) -> bool:
    """Whether both are the same port of this machine."""
    one, other = urlsplit(url), urlsplit(known)
    port = one.port or USUAL_PORTS.get(one.scheme)
    hosts = {one.hostname, other.hostname}
    return one.scheme == other.scheme and port == other.port and (len(hosts) == 1 or hosts <= _HERE)
