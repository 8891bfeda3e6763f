"""What other parts count, as /metrics reads it: interfaces, and one number of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol


class MqttCounts(Protocol):
    """What the MQTT listener counts."""

    @property
    def connections(self) -> int: ...

    @property
    def handshakes(self) -> int: ...

    @property
    def refusals(self) -> int: ...

    @property
    def violations(self) -> int: ...

    @property
    def kept_sessions(self) -> int: ...

    @property
    def dropped(self) -> Mapping[str, int]: ...


class WampCounts(Protocol):
    """What the router of WAMP counts."""

    @property
    def open_sessions(self) -> int: ...

    @property
    def dropped(self) -> int: ...


class CoapNumbers(Protocol):
    """Of messages of all ports, over UDP and DTLS."""

    @property
    def limited(self) -> int: ...

    @property
    def malformed(self) -> int: ...

    @property
    def repeated(self) -> int: ...

    @property
    def sent_again(self) -> int: ...

    @property
    def given_up(self) -> int: ...


class DtlsNumbers(Protocol):
    """Of handshakes, and of datagrams that belong to no session."""

    @property
    def handshakes(self) -> int: ...

    @property
    def failed_handshakes(self) -> int: ...

    @property
    def dropped(self) -> int: ...


class CoapCounts(Protocol):
    """What the ports of CoAP count."""

    @property
    def datagrams(self) -> Mapping[str, int]: ...

    @property
    def counters(self) -> CoapNumbers: ...

    @property
    def dtls_counters(self) -> DtlsNumbers: ...

    @property
    def peers(self) -> int: ...

    @property
    def observations(self) -> int: ...

    @property
    def dtls_sessions(self) -> int: ...


class WebCounts(Protocol):
    """What is counted of calls of rule nodes to other servers."""

    @property
    def outcomes(self) -> Mapping[str, int]: ...

    @property
    def running(self) -> int: ...

    @property
    def waiting(self) -> int: ...


class ScriptNumbers(Protocol):
    """What became of scripts since the start."""

    @property
    def runs(self) -> int: ...

    @property
    def failures(self) -> int: ...

    @property
    def runaways(self) -> int: ...

    @property
    def suspended(self) -> int: ...

    @property
    def kills(self) -> int: ...


class ScriptCounts(Protocol):
    """What the pool of scripts counts."""

    @property
    def counts(self) -> ScriptNumbers: ...

    @property
    def workers(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """A number that is read when somebody asks; with a `label`, one number for each of its values.

    A name that ends in `_total` is a counter, any other a gauge.
    """

    name: str
    help: str
    read: Callable[[], float | Mapping[str, float]]
    label: str | None = None
