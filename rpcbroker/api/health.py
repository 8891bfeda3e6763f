"""Is it alive; is it ready, and if not, what is not; which version is it, and where do devices find it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcbroker import __version__
from rpcbroker.core.deadlines import Clock
from rpcbroker.core.errors import BrokerError, Reason, Unavailable
from rpcbroker.core.model import Principal
from rpcbroker.schema.health import EndpointsJSON, HealthJSON, VersionJSON

TIME_LIMIT = 2.0
"""Seconds that a part may take to say that it is ready: less than most probes wait for the answer."""
READY = "ready"

Check = Callable[[], Deferred[Any] | str | None]
"""Asks one part: None is ready, a text is why not; a Deferred fires when it is, or fails with why not."""


class Health:
    """The handlers that probes ask."""

    def __init__(self, checks: Mapping[str, Check], clock: Clock, urls: Callable[[], Mapping[str, str]] = dict) -> None:
        """`checks` by the name of the part, as operators are to read it; `urls` of the listeners, by their schemes."""
        self._urls = urls
        self._parts = {name: _Part(name, check, clock) for name, check in checks.items()}
        self.stopping = False

    async def healthy(self) -> HealthJSON:
        """Whether the server runs: it answers."""
        return HealthJSON("ok")

    async def ready(self) -> HealthJSON:
        """Whether calls are taken and every part is ready; if not, 503 names what is not, and why."""
        if self.stopping:
            raise Unavailable("Not ready: server (shutting down)", reason=Reason.SHUTTING_DOWN)
        asked = {name: part.ask() for name, part in self._parts.items()}
        parts = {name: await answer for name, answer in asked.items()}
        missing = [f"{name} ({said})" for name, said in parts.items() if said != READY]
        if missing:
            raise Unavailable(f"Not ready: {', '.join(missing)}")
        return HealthJSON(READY, parts)

    async def version(self) -> VersionJSON:
        """Which version it is."""
        return VersionJSON("rpcbroker", __version__)

    async def endpoints(self, principal: Principal) -> EndpointsJSON:
        """What the server listens for, and where a client on its own machine finds that.

        From elsewhere the ports are the same, unless something stands between.
        """
        return EndpointsJSON(dict(self._urls()))


class ListeningPort(Protocol):
    """What Twisted's ports have, beyond `IListeningPort`."""

    @property
    def connected(self) -> bool | int: ...


def listening(ports: Sequence[ListeningPort]) -> Check:
    """All of these are open; `ports` is looked at when the check is asked, and must not be empty then."""
    return lambda: None if ports and all(port.connected for port in ports) else "not listening"


class _Part:
    """One check. Only one question is on its way to a part: who asks meanwhile waits for the same answer.

    A store that hangs is so not given one more thing to do by every probe.
    """

    _log = Logger()

    def __init__(self, name: str, check: Check, clock: Clock) -> None:
        self._name = name
        self._check = check
        self._clock = clock
        self._asking: dict[Deferred[str], DelayedCall] = {}
        self._on_its_way = False

    def ask(self) -> Deferred[str]:
        """READY, or why not. Never fails, and fires within TIME_LIMIT."""
        answer: Deferred[str] = Deferred(lambda cancelled: self._asking.pop(cancelled).cancel())
        self._asking[answer] = self._clock.callLater(TIME_LIMIT, lambda: self._give_up(answer))
        if not self._on_its_way:
            self._on_its_way = True
            maybeDeferred(self._check).addCallbacks(self._said, self._failed).addCallback(self._tell)
        return answer

    def _said(self, result: Any) -> str:
        return result if isinstance(result, str) else READY

    def _failed(self, failure: Failure) -> str:
        if isinstance(failure.value, BrokerError):
            return failure.value.message
        self._log.failure("asking whether {part} is ready failed", failure=failure, part=self._name)
        return "it could not be asked: the server's log says more"

    def _tell(self, said: str) -> None:
        self._on_its_way = False
        asking, self._asking = self._asking, {}
        for answer, timer in asking.items():
            timer.cancel()
            answer.callback(said)

    def _give_up(self, answer: Deferred[str]) -> None:
        del self._asking[answer]
        answer.callback(f"no answer within {TIME_LIMIT:g} s")
