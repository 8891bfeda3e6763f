"""Which listeners the configuration wants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rpcbroker.core.settings import Settings


class Wanted(NamedTuple):
    """A listener of the configuration: `[section] key` has `description`."""

    section: str
    key: str
    description: str

    @property
    def label(self) -> str:
        return f"[{self.section}] {self.key}"


def wanted(settings: Settings) -> Iterator[Wanted]:
    """All that the configuration has, in the order in which they are opened."""
    yield from (Wanted("http", "listen", description) for description in settings.http.listen)
    yield from (Wanted("mqtt", "listen", description) for description in settings.mqtt.listen)
    yield from (Wanted("wamp", "rawsocket_listen", description) for description in settings.wamp.rawsocket_listen)
    yield from (Wanted("coap", "listen", description) for description in settings.coap.listen)
    yield from (Wanted("coap", "dtls_listen", description) for description in settings.coap.dtls_listen)
