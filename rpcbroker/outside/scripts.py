"""Runs scripts in processes apart: a loop, a bomb or a crash in one costs nobody else anything.

Each tenant has a lane of its own, and lanes take turns. A worker is given what takes about `SHARE` seconds at a time,
for there is no time to lose between short scripts; what takes long, or whose tenant's scripts lately did, runs alone in
a worker, and never in all workers at once, so that others are never behind it.

A little over 400 lines: who runs what, where and when, is one set of rules.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from twisted.internet.defer import Deferred, DeferredList, fail
from twisted.internet.interfaces import IReactorProcess
from twisted.logger import Logger

from rpcbroker.core import jsontext
from rpcbroker.core.deadlines import Clock, Deadlines
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.outside.script_jobs import Job, Known, Lane, ScriptCounts
from rpcbroker.outside.script_process import WorkerProcess, worker_command
from rpcbroker.rules.ports import Script, ScriptFailed, ScriptRefused

SHARE = 0.002
"""Seconds of work that a worker has before it; behind it others wait."""
LONG = 0.02
"""Seconds of processor time from which a script runs alone."""
LONG_FOR = 60.0
"""Seconds for which the scripts of a tenant run alone after one of them took long."""
UNKNOWN = SHARE
"""Seconds that a script is thought to take that has not run yet, and has no more than some lines."""
PER_BYTE = 1e-6
"""Seconds more for each byte of a script that a worker has not read yet."""
STRIKES = 3
SUSPENDED_FOR = 60.0
"""Seconds for which a script is not run that ran away three times in a row."""
BROKEN_FOR = 5.0
"""Seconds for which no worker is started after one could not start."""
MAX_WAITING = 10_000
"""Runs of one tenant that wait; one more fails at once."""
MAX_WAITING_SIZE = 64 << 20
"""Bytes of what these are given: beyond it one more fails, too."""
MAX_SCRIPTS = 10_000
"""Scripts whose runs are remembered."""


class ScriptPool:
    """`rules.ports.Scripts` in child processes: the first is started when first needed, others when those are busy."""

    _log = Logger()

    def __init__(
        self,
        reactor: IReactorProcess,
        clock: Clock,
        deadlines: Deadlines,
        settings: Callable[[], RulesSettings],
        *,
        command: Callable[[RulesSettings], Sequence[str]] | None = None,
    ) -> None:
        """`command` starts a worker; tests have others than `worker_command`."""
        self.counts = ScriptCounts()
        self._reactor = reactor
        self._clock = clock
        self._deadlines = deadlines
        self._settings = settings
        self._command = command or worker_command
        self._numbers: OrderedDict[Script, int] = OrderedDict()
        self._last_number = 0
        self._known: OrderedDict[tuple[UUID, int], Known] = OrderedDict()
        self._lanes: dict[UUID | None, Lane] = {}
        self._quick: deque[Lane] = deque()
        self._long: deque[Lane] = deque()
        """Lanes with jobs stand in one of the two: in the second those whose next job runs alone."""
        self._workers: list[WorkerProcess] = []
        self._draining: WorkerProcess | None = None
        """It is given no more, until it is empty, and then what runs alone."""
        self._broken = ""
        self._broken_until = 0.0
        self._stopped = False

    @property
    def workers(self) -> int:
        """Processes that there are now."""
        return len(self._workers)

    @property
    def waiting(self) -> int:
        """Runs that no worker has yet."""
        return sum(len(lane.jobs) for lane in self._lanes.values())

    @property
    def timeout(self) -> float:
        """See script_process.Owner."""
        return self._settings().script_timeout

    # -- what nodes ask for

    def check(self, script: Script) -> Deferred[None]:
        """See Scripts."""
        most = self._settings().max_script_size
        if len(script.source) > most:
            return fail(ScriptRefused(f"it is larger than {size(most)}"))
        return self._put(self._job(None, script, 0, b"", None))

    def run(self, tenant_id: UUID, script: Script, values: Sequence[Any]) -> Deferred[Any]:
        """See Scripts."""
        number = self._number(script)
        known = self._known.get((tenant_id, number))
        if known is None:
            known = self._known[tenant_id, number] = Known(_guess(script))
            if len(self._known) > MAX_SCRIPTS:
                self._known.popitem(last=False)
        now = self._clock.seconds()
        if known.suspended_until > now:
            self.counts.suspended += 1
            return self._fails(
                f"suspended: the script ran away {STRIKES} times in a row ({known.why}); "
                f"it is run again in {known.suspended_until - now:.0f} s"
            )
        try:
            data = jsontext.encode(values)
        except (TypeError, ValueError) as error:
            return self._fails(f"what the script is given is not JSON: {error}")
        return self._put(self._job(tenant_id, script, number, data, known))

    def stop(self) -> Deferred[None]:
        """Kill all workers; what waits fails. Fires when there is no process left."""
        self._stopped = True
        workers, self._workers = self._workers, []
        left = [job for worker in workers for job in worker.jobs]
        left += [job for lane in self._lanes.values() for job in lane.jobs]
        self._forget()
        for worker in workers:
            worker.kill()
        for job in left:
            self._end(job, ScriptFailed("the broker is stopping"))
        return DeferredList([worker.ended for worker in workers]).addCallback(lambda _: None)

    # -- what waits

    def _fails(self, why: str) -> Deferred[Any]:
        self.counts.failures += 1
        return fail(ScriptFailed(why))

    def _number(self, script: Script) -> int:
        number = self._numbers.get(script)
        if number is None:
            self._last_number += 1
            number = self._numbers[script] = self._last_number
            if len(self._numbers) > MAX_SCRIPTS:
                self._numbers.popitem(last=False)
        return number

    def _job(self, tenant_id: UUID | None, script: Script, number: int, values: bytes, known: Known | None) -> Job:
        lane = self._lanes.get(tenant_id)
        if lane is None:
            lane = self._lanes[tenant_id] = Lane(tenant_id)
        seconds = _guess(script) if known is None else known.seconds
        return Job(lane, script, number=number, values=values, known=known, seconds=seconds)

    def _put(self, job: Job) -> Deferred[Any]:
        if self._stopped:
            return self._fails("the broker is stopping")
        if not self._workers and self._is_broken():
            return self._fails(self._broken)
        if len(job.lane.jobs) >= MAX_WAITING:
            return self._fails(f"{MAX_WAITING:,} scripts wait to be run already")
        if job.lane.size > MAX_WAITING_SIZE:
            return self._fails(f"scripts wait already with {size(job.lane.size)} that they are given")
        job.lane.add(job)
        if job.known is not None:
            job.known.in_order.append(job)
        if len(job.lane.jobs) == 1:
            self._line_up(job.lane)
        self._give()
        return job.waiting

    def _again(self, jobs: list[Job]) -> None:
        """Those that a worker had when it ended, before all that waits."""
        for job in reversed(jobs):
            self._over(job)
            lane = job.lane = self._lanes.setdefault(job.lane.tenant_id, job.lane)  # it may have a new one by now
            lane.put_back(job)
            if lane.parked or len(lane.jobs) == 1:
                self._line_up(lane)

    def _line_up(self, lane: Lane) -> None:
        lane.parked = lane.is_held
        if lane.parked:
            return  # it lines up when that is over
        alone = lane.long_until > self._clock.seconds() or lane.jobs[0].seconds > LONG
        (self._long if alone else self._quick).append(lane)

    def _next(self, lanes: deque[Lane]) -> Job | None:
        """The next that somebody waits for, if it may run as `lanes` do."""
        while lanes:
            lane = lanes.popleft()
            while lane.jobs and lane.jobs[0].waiting.called:  # nobody waits any more, but perhaps for those behind it
                self._deadlines.after(0.0, Job.leave, lane.take())
            if not lane.jobs:
                self._leave(lane)
                continue
            if lane.is_held:
                lane.parked = True
                continue
            if lanes is self._quick and (lane.long_until > self._clock.seconds() or lane.jobs[0].seconds > LONG):
                self._long.append(lane)
                continue
            job = lane.take()
            if not job.proven:
                lane.proves = job
            if lane.jobs:
                self._line_up(lane)
            else:
                self._leave(lane)
            return job
        return None

    def _over(self, job: Job) -> None:
        """No worker has the job any more."""
        lane = job.lane
        if lane.proves is job:
            lane.proves = None
            if lane.parked:
                self._line_up(lane)

    def _leave(self, lane: Lane) -> None:
        if lane.proves is None and lane.long_until <= self._clock.seconds():
            self._lanes.pop(lane.tenant_id, None)

    # -- who runs it

    def _give(self) -> None:
        moved = True
        while moved and (self._quick or self._long):
            long, moved = len(self._long), False
            for worker in sorted(self._workers, key=lambda each: each.load):
                job = self._for(worker)
                if job is not None:
                    worker.give(job)
                    moved = True
            # What was among the quick may have turned out to run alone, after all workers were asked for that.
            moved = moved or len(self._long) > long
        starting = any(not worker.ready for worker in self._workers)
        wanted = len(self._workers) < self._settings().script_workers and not starting and not self._is_broken()
        if wanted and (self._quick or self._long):
            self._start()

    def _is_broken(self) -> bool:
        return self._broken_until > self._clock.seconds()

    def _for(self, worker: WorkerProcess) -> Job | None:
        if not worker.ready or worker.alone:
            return None
        if self._drains(worker):
            if worker.jobs:
                return None
            self._draining = None
            job = self._next(self._long)
            worker.alone = worker.owes = job is not None
            if job is not None:
                return job
        if worker.load >= SHARE:
            worker.owes = False
            return None
        job = self._next(self._quick)
        worker.owes = worker.owes and job is not None
        return job

    def _drains(self, worker: WorkerProcess) -> bool:
        """Whether this one is to run next what runs alone: as long as others stay for what does not.

        Who has just done that owes a turn to what is short; that matters where there is one worker only.
        """
        if not self._long or (worker.owes and self._quick):
            return False
        if self._draining is None:
            most = self._settings().script_workers
            alone = sum(each.alone for each in self._workers)
            free = sum(each.ready and not each.alone for each in self._workers)
            if alone >= max(1, most // 2) or (free == 1 < most and not self._is_broken()):
                return False
            self._draining = worker
        return self._draining is worker

    def _start(self) -> None:
        worker = WorkerProcess(self, self._deadlines, self._clock.seconds)
        self._workers.append(worker)
        command = self._command(self._settings())
        try:
            self._reactor.spawnProcess(worker, command[0], command, env={})
        except OSError as error:
            worker.fail(str(error))

    def started(self) -> None:
        """See script_process.Owner."""
        self._give()

    def lost(self, worker: WorkerProcess, why: str, *, overtime: bool) -> None:
        """See script_process.Owner."""
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        if self._draining is worker:
            self._draining = None
        self.counts.kills += 1
        if not worker.ready:
            self._cannot_start(why)
            return
        jobs = worker.jobs
        if jobs and overtime:
            self._ran_away(jobs.pop(0), self._too_long())
        elif jobs:
            jobs[0].deaths += 1
            if jobs[0].deaths > 1:
                self._ran_away(jobs.pop(0), f"the script's process ended twice: {why}")
        if not overtime:
            self._log.warn("a process that runs scripts ended: {why}", why=why)
        self._again(jobs)
        self._give()
        self._fail_if_broken()

    def _cannot_start(self, why: str) -> None:
        self._broken = f"scripts cannot be run here: {why}"
        self._broken_until = self._clock.seconds() + BROKEN_FOR
        self._log.error("{broken}", broken=self._broken)
        self._fail_if_broken()

    def _fail_if_broken(self) -> None:
        """What waits, if there is no worker, and none is started now."""
        if self._workers or not self._is_broken():
            return
        jobs = [job for lane in self._lanes.values() for job in lane.jobs]
        self._forget()
        for job in jobs:
            self._end(job, ScriptFailed(self._broken))

    def _forget(self) -> None:
        self._lanes.clear()
        self._quick.clear()
        self._long.clear()

    # -- what became of it

    def settled(self, job: Job, word: str, seconds: float, text: str) -> None:
        """See script_process.Owner."""
        lane, known = job.lane, job.known
        if known is not None:
            # A single one may have been held up by the machine, or by what came before it.
            known.seconds = seconds = (known.seconds + seconds) / 2
        if seconds > LONG:
            self._took_long(lane)
        if word == "slow":
            self._ran_away(job, self._too_long())
        elif word == "memory":
            self._ran_away(job, f"the script took more than {size(self._settings().script_memory)}")
        else:
            if known is not None:
                known.strikes = 0
            self._end(job, _outcome(word, text))
        self._give()

    def _took_long(self, lane: Lane) -> None:
        self._lanes.setdefault(lane.tenant_id, lane).long_until = self._clock.seconds() + LONG_FOR

    def _too_long(self) -> str:
        return f"the script took longer than {self.timeout * 1000:g} ms"

    def _ran_away(self, job: Job, why: str) -> None:
        self.counts.runaways += 1
        self._took_long(job.lane)
        known = job.known
        if known is None:
            self._end(job, ScriptRefused(why))
            return
        known.strikes += 1
        if known.strikes >= STRIKES:
            known.suspended_until, known.why = self._clock.seconds() + SUSPENDED_FOR, why
        self._end(job, ScriptFailed(why))

    def _end(self, job: Job, result: Any) -> None:
        self._over(job)
        if job.known is not None:
            job.known.proven = True
            self.counts.runs += 1
            self.counts.failures += isinstance(result, Exception)
        job.result = result
        job.leave()


def _outcome(word: str, text: str) -> Any:
    if word == "refused":
        return ScriptRefused(text)
    if word != "ok":
        return ScriptFailed(text)
    try:
        return jsontext.decode(text.encode())
    except jsontext.BadJSON as error:
        return ScriptFailed(f"what the script returned is {error}")


def _guess(script: Script) -> float:
    return UNKNOWN + PER_BYTE * len(script.source)


def size(count: int) -> str:
    """Bytes as people write them: 64 MiB."""
    for unit, bytes_ in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= bytes_:
            return f"{count / bytes_:g} {unit}"
    return f"{count} B"
