"""A device that stays connected, whatever carries its calls: what a connection is, and the loop around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.task import deferLater

from rpcbroker.core.deadlines import Clock
from rpcbroker.simulator.device import SimulatedDevice

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds between two attempts to connect: the first pause, doubled each time up to the longest."""
CRASH_PAUSE = 5.0
"""Seconds that a device needs to come back after a crash."""
GOODBYE = 2.0
"""Seconds that the broker has to take a device's last words."""


class Refused(Exception):
    """The broker does not want this device; trying again will not help."""


class LinkLost(Exception):
    """The connection ended, or was of no use; the next one may be better."""


class Connection(Protocol):
    """One connection of one device; how it ends is up to whoever calls one of the methods, or to the broker."""

    ready: Deferred[None]
    """Fires when the device can be called, or fails with Refused or LinkLost."""
    gone: Deferred[None]
    """Fires when the connection has ended, after `ready` has; fails with LinkLost if there is more to say of it."""

    def report(self, values: dict[str, Any]) -> None:
        """Send telemetry. Nothing once it has ended."""

    def goodbye(self) -> None:
        """Leave in good order."""

    def vanish(self) -> None:
        """Leave as if the power had failed: nothing more is said, not even what is on its way."""

    def sleep(self) -> None:
        """Leave for a while, as devices of this protocol do that save power."""


class Carrier(Protocol):
    """A way to the broker for one device."""

    def connect(self) -> Deferred[Connection]:
        """Begin a connection. Fails with ConnectError, DNSLookupError or LinkLost."""

    def close(self) -> Deferred[None]:
        """Give back what outlives connections; fires when that is done."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Seconds that a device is awake, and then asleep, in turn."""

    awake: float
    asleep: float


class ConnectedDevice:
    """A device that stays connected: it tries again, ever more slowly, until it is stopped or refused.

    Twisted's ClientService counts a connection as good before the broker has accepted the device,
    and loses its way when that connection is closed meanwhile; hence a loop of our own.
    """

    def __init__(
        self,
        carrier: Carrier,
        device: SimulatedDevice,
        *,
        clock: Clock,
        rng: Random,
        schedule: Schedule | None = None,
        on_link: Callable[[str | None], None] = lambda _trouble: None,
    ) -> None:
        """`on_link(None)`: it can be called now. `on_link(sentence)`: not now, and why; it tries again."""
        self._carrier = carrier
        self._clock: Any = clock
        self._rng = rng
        self._schedule = schedule
        self._on_link = on_link
        self._connection: Connection | None = None
        self._waiting: Deferred[Any] | None = None
        self._interrupted = False
        self._stopping = False
        self._asleep = False
        self._crashed = False
        self._failures = 0
        self._device = device
        device.on_crash = self._crash
        device.on_values = self._report

    def run(self) -> Deferred[None]:
        """Connect, and stay connected. Fires when stopped; fails with Refused."""
        return Deferred.fromCoroutine(self._run())

    def stop(self) -> None:
        """Disconnect in good order; what `run` returned fires when the connection is gone."""
        self._stopping = True
        if self._connection is not None:
            self._connection.goodbye()
        else:
            self._interrupt()

    def _crash(self) -> None:
        if self._connection is not None:
            self._crashed = True
            self._connection.vanish()

    def _report(self, values: dict[str, Any]) -> None:
        if self._connection is not None:
            self._connection.report(values)

    def _fall_asleep(self) -> None:
        self._asleep = True
        if self._connection is not None:
            self._connection.sleep()
        else:
            self._interrupt()

    def _interrupt(self) -> None:
        """End what is waited for: an attempt, or a pause."""
        if self._waiting is not None:
            self._interrupted = True
            self._waiting.cancel()

    async def _wait_for(self, what: Deferred[Any]) -> Any:
        """Its result, or None when it was interrupted."""
        self._waiting = what
        try:
            return await what
        except CancelledError:
            if not self._interrupted:
                raise
            return None
        finally:
            self._waiting = None
            self._interrupted = False

    async def _run(self) -> None:
        try:
            while not self._stopping:
                await self._be_awake()
                if self._asleep and not self._stopping and self._schedule is not None:
                    self._on_link(f"Asleep for {self._schedule.asleep:g} s.")
                    await self._wait_for(deferLater(self._clock, self._schedule.asleep))
                    self._asleep = False
        finally:
            await self._carrier.close()

    async def _be_awake(self) -> None:
        """Until it falls asleep, or is stopped. Raises Refused."""
        falling = None if self._schedule is None else self._clock.callLater(self._schedule.awake, self._fall_asleep)
        self._failures = 0
        try:
            while not (self._stopping or self._asleep):
                trouble = await self._one_connection()
                if self._stopping or self._asleep:
                    return
                pause = min(FIRST_PAUSE * 2**self._failures, LONGEST_PAUSE) * self._rng.uniform(0.8, 1.2)
                self._failures = min(self._failures + 1, 10)
                if self._crashed:
                    trouble, pause = f"The device crashed, and comes back in {CRASH_PAUSE:g} s.", CRASH_PAUSE
                    self._crashed = False
                self._on_link(trouble)
                await self._wait_for(deferLater(self._clock, pause))
        finally:
            if falling is not None and falling.active():
                falling.cancel()

    async def _one_connection(self) -> str:
        """From connecting until the connection is gone, and how it ended. Raises Refused."""
        try:
            connection: Connection | None = await self._wait_for(self._carrier.connect())
        except LinkLost as error:
            return str(error)
        except (ConnectError, DNSLookupError) as error:
            return f"The broker cannot be reached: {str(error).partition(':')[0].rstrip('.')}."
        if connection is None:
            return "The device gave up connecting."
        self._connection = connection
        trouble = ""
        refusal: Refused | None = None
        try:
            await connection.ready
        except LinkLost as error:
            trouble = str(error)
        except Refused as error:
            refusal = error
        else:
            self._failures = 0
            self._on_link(None)
            self._device.connected()
        try:
            await connection.gone
        except LinkLost as error:
            trouble = trouble or str(error)
        self._connection = None
        if refusal is not None:
            raise refusal
        return trouble or "The broker closed the connection."
