"""What waits to be run: a job, the lane of its tenant, what is known of its script; and what became of all."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred

from rpcbroker.rules.ports import Script

NOT_YET = object()
"""The result of a run that goes on."""


class Known:
    """A script of one tenant: how long it takes, and how often it ran away one time after the other.

    Its runs are over in the order in which they were asked for, whichever processes they are in: messages of a device
    that pass the node keep their order.
    """

    __slots__ = ("in_order", "proven", "seconds", "strikes", "suspended_until", "why")

    def __init__(self, seconds: float) -> None:
        self.in_order: deque[Job] = deque()
        """Its runs that nobody was told of yet."""
        self.proven = False
        """It has run once."""
        self.seconds = seconds
        self.strikes = 0
        self.suspended_until = 0.0
        self.why = ""

    def tell(self) -> None:
        """Tell who waits for the first of its runs, as far as these are over."""
        while self.in_order and self.in_order[0].is_over:
            self.in_order.popleft().tell()


class Lane:
    """What one tenant has waiting; checks have one together. Its jobs run alone until `long_until`.

    While it proves a script, which is to run it for the first time, further ones that are not proven wait: so what
    runs away as soon as it is there does so in one worker, and not in all of them.
    """

    __slots__ = ("jobs", "long_until", "parked", "proves", "size", "tenant_id")

    def __init__(self, tenant_id: UUID | None) -> None:
        self.tenant_id = tenant_id
        self.jobs: deque[Job] = deque()
        self.size = 0
        """Bytes of what its jobs are given."""
        self.long_until = 0.0
        self.proves: Job | None = None
        self.parked = False
        """Its next job has to wait for that."""

    def add(self, job: Job) -> None:
        """Behind all others."""
        self.jobs.append(job)
        self.size += len(job.values)

    def put_back(self, job: Job) -> None:
        """Before all others."""
        self.jobs.appendleft(job)
        self.size += len(job.values)

    def take(self) -> Job:
        """The next one."""
        job = self.jobs.popleft()
        self.size -= len(job.values)
        return job

    @property
    def is_held(self) -> bool:
        """Whether its next job has to wait until another is over."""
        return self.proves is not None and not self.jobs[0].proven


class Job:
    """One run, or, if `known` is None, one check. `seconds` is how long it will take, as far as one can tell."""

    __slots__ = ("deaths", "known", "lane", "number", "result", "script", "seconds", "values", "waiting")

    def __init__(
        self, lane: Lane, script: Script, *, number: int, values: bytes, known: Known | None, seconds: float
    ) -> None:
        self.lane = lane
        self.script = script
        self.number = number
        self.values = values
        self.known = known
        self.seconds = seconds
        self.deaths = 0
        """Processes that ended while it ran."""
        self.waiting: Deferred[Any] = Deferred(lambda _: None)
        self.result: Any = NOT_YET
        """An exception is what it failed with."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or nobody waits for that any more."""
        return self.result is not NOT_YET or self.waiting.called

    def tell(self) -> None:
        """Tell who waits for it."""
        if not self.waiting.called:
            tell = self.waiting.errback if isinstance(self.result, Exception) else self.waiting.callback
            tell(self.result)

    def leave(self) -> None:
        """It is over: who waits is told when those before it are over, too."""
        if self.known is None:
            self.tell()
        else:
            self.known.tell()

    @property
    def proven(self) -> bool:
        """Whether the script has run before."""
        return self.known is not None and self.known.proven


@dataclass(slots=True)
class ScriptCounts:
    """What became of scripts since the start."""

    runs: int = 0
    failures: int = 0
    runaways: int = 0
    """Of the failures: those that took too long or too much memory."""
    suspended: int = 0
    """Of the failures: those that were not run, because the script had run away before."""
    kills: int = 0
    """Workers that were killed, or ended by themselves."""
