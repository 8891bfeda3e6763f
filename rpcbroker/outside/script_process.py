"""The broker's side of one process that runs scripts: what it was given, what it answers, and when it is killed."""

from __future__ import annotations

import os
import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from rpcbroker.core import jsontext
from rpcbroker.core.deadlines import Deadline, Deadlines
from rpcbroker.core.rules_settings import RulesSettings
from rpcbroker.outside.script_jobs import Job
from rpcbroker.rules.ports import Script

START = 10.0
"""Seconds that a worker may take to start."""
READING = 5e-6
"""Seconds more, for each character, that a job may take for which the worker has to read the script first."""
MOST_STARVED = 8
"""Times its time, on the clock, that a script may take at the most, however busy the machine is."""
MAX_OUTPUT = 1 << 20
"""Characters that a script may return."""
MAX_FRAME = 8 << 20
"""The longest answer, in bytes; a worker that says more is out of its mind."""
MAX_READ = 16 << 20
"""Characters of scripts that a worker keeps; those that ran longest ago are told to it again when they run."""

_ANSWER = msgspec.json.Decoder(tuple[str, int])


class Owner(Protocol):
    """Who has the worker."""

    @property
    def timeout(self) -> float:
        """Seconds that a script may run."""

    def started(self) -> None:
        """A worker is ready."""

    def settled(self, job: Job, word: str, seconds: float, text: str) -> None:
        """A job is done: the worker's word and text, and the processor time that it took."""

    def lost(self, worker: WorkerProcess, why: str, *, overtime: bool) -> None:
        """The worker is no more, and has `jobs` still; `overtime`: the first of them had its time and more."""


class _Given(NamedTuple):
    job: Job
    reading: float
    """Seconds that the worker may take to read the script for it."""


class WorkerProcess(ProcessProtocol):
    """One process. It runs its jobs in order, so if it has to be killed it is for the first of them."""

    def __init__(self, owner: Owner, deadlines: Deadlines, seconds: Callable[[], float]) -> None:
        self.ready = False
        self.alone = False
        """Its only job is one that runs alone."""
        self.owes = False
        """It has run one alone, and what is short comes first now."""
        self.load = 0.0
        """Seconds that its jobs will take."""
        self.ended: Deferred[None] = Deferred()
        """Fires when the process is gone."""
        self._owner = owner
        self._deadlines = deadlines
        self._seconds = seconds
        self._given: deque[_Given] = deque()
        self._since = 0.0
        """When the first job began, as far as can be seen from here."""
        self._watch: Deadline | None = deadlines.after(START, self._not_started, None)
        self._knows: OrderedDict[int, int] = OrderedDict()
        """Numbers of the scripts that it keeps, and their sizes."""
        self._size = 0
        self._has_prelude = False
        self._buffer = bytearray()
        self._complaint = b""
        self._lost = False

    @property
    def jobs(self) -> list[Job]:
        """Those that it has, in the order in which it runs them."""
        return [given.job for given in self._given]

    # -- to the process

    def give(self, job: Job) -> None:
        """Run it behind those that are there."""
        reading = 0.0 if job.known and job.number in self._knows else READING * len(job.script.source)
        if job.script.language == "TBEL" and not self._has_prelude:
            self._has_prelude = True
            self._say(["prelude"], files("rpcbroker.rules").joinpath("tbel.js").read_bytes())
        if job.known is None:
            self._say(["check", *_language(job.script)], job.script.source.encode("utf-8", "replace"))
        else:
            self._tell(job)
            milliseconds = round(self._owner.timeout * 1000)
            self._say(["run", str(job.lane.tenant_id), job.number, milliseconds], job.values)
        if not self._given:
            self._since = self._seconds()
            if self._watch is None:
                self._watch_first()
        self._given.append(_Given(job, reading))
        self.load += job.seconds

    def _tell(self, job: Job) -> None:
        if job.number in self._knows:
            self._knows.move_to_end(job.number)
            return
        self._say(["script", job.number, *_language(job.script)], job.script.source.encode("utf-8", "replace"))
        self._knows[job.number] = len(job.script.source)
        self._size += len(job.script.source)
        while self._size > MAX_READ and len(self._knows) > 1:
            number, size = self._knows.popitem(last=False)
            self._size -= size
            self._say(["forget", number], b"")

    def _say(self, header: list[object], text: bytes) -> None:
        line = jsontext.encode(header)
        size = len(line) + 1 + len(text)
        self.transport.writeSequence([size.to_bytes(4, "big"), line, b"\n", text])

    def kill(self) -> None:
        """End the process without a word to its owner."""
        self._lost = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self.transport is None:
            self.ended.callback(None)
            return
        try:
            self.transport.signalProcess("KILL")
        except ProcessExitedAlready:
            return  # processEnded is on its way

    def fail(self, why: str, *, overtime: bool = False) -> None:
        """End the process, and tell its owner."""
        if not self._lost:
            self.kill()
            self._owner.lost(self, why, overtime=overtime)

    # -- how long jobs take

    def _not_started(self, _: object) -> None:
        self._watch = None
        self.fail(f"the process did not start within {START:g} s")

    def _watch_first(self) -> None:
        """Look at the first job when it has had its time; the worker stops most of those that take longer by itself."""
        reading = self._given[0].reading if self._given else 0.0
        left = self._since + self._owner.timeout + reading - self._seconds()
        self._watch = self._deadlines.after(left, self._look, None)

    def _look(self, _: object) -> None:
        self._watch = None
        if not self._given:
            return
        first = self._given[0]
        if self._since + self._owner.timeout + first.reading > self._seconds():
            self._watch_first()
        else:
            # It may have answered while the broker was busy, so what it says is read before it is judged.
            self._watch = self._deadlines.after(0, self._suspect, first)

    def _suspect(self, first: _Given) -> None:
        """It has had its time on the clock; whether also on a processor shows now, for the machine may be busy."""
        self._watch_again(first, self._processor_time())

    def _watch_again(self, first: _Given, before: float) -> None:
        self._watch = None
        timeout = self._owner.timeout
        if not self._given:
            return
        if self._given[0] is not first:
            self._watch_first()
        elif (
            self._processor_time() - before >= timeout / 2
            or self._seconds() - self._since > MOST_STARVED * timeout + first.reading
        ):
            self.fail("killed, for a script took too long", overtime=True)
        else:
            self._watch = self._deadlines.after(timeout / 4, lambda _: self._watch_again(first, before), None)

    def _processor_time(self) -> float:
        """Seconds that the process has had until now."""
        try:
            with open(f"/proc/{self.transport.pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return self._seconds()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # -- from the process

    def outReceived(self, data: bytes) -> None:
        if self._lost:
            return
        buffer = self._buffer
        buffer += data
        while len(buffer) >= 4:
            size = int.from_bytes(buffer[:4], "big")
            if size > MAX_FRAME:
                self.fail("it said more than it may")
                return
            if len(buffer) < 4 + size:
                return
            frame = bytes(buffer[4 : 4 + size])
            del buffer[: 4 + size]
            self._answered(frame)
            if self._lost:
                return

    def errReceived(self, data: bytes) -> None:
        self._complaint = (self._complaint + data)[-2000:]

    def _answered(self, frame: bytes) -> None:
        line, _, text = frame.partition(b"\n")
        try:
            word, microseconds = _ANSWER.decode(line)
            said = text.decode()
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.fail("it said what is no answer")
            return
        if not self.ready:
            self._begun(word, said)
        elif self._given:
            job = self._given.popleft().job
            self._since = self._seconds()
            self.load = self.load - job.seconds if self._given else 0.0
            self.alone = self.alone and bool(self._given)
            self._owner.settled(job, word, microseconds / 1e6, said)
        else:
            self.fail("it answered what nobody asked")

    def _begun(self, word: str, text: str) -> None:
        if word != "ready":
            self.fail(text)
            return
        self.ready = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._owner.started()

    def processEnded(self, reason: Failure) -> None:
        self.fail(self._why(reason))
        if not self.ended.called:
            self.ended.callback(None)

    def _why(self, reason: Failure) -> str:
        complaint = self._complaint.decode("utf-8", "replace").strip().rpartition("\n")[2]
        if complaint and not self.ready:
            return complaint[-500:]
        if reason.check(ProcessTerminated) and reason.value.signal is not None:
            return f"the process was ended by signal {reason.value.signal}"
        return f"the process exited with status {reason.value.exitCode}"


def _language(script: Script) -> tuple[str, tuple[str, ...]]:
    return script.language, script.arguments


def worker_command(settings: RulesSettings) -> list[str]:
    """Starts a worker: Python without what makes its start slow, and with this package and quickjs in its path."""
    quickjs = find_spec("_quickjs")
    places = [str(Path(__file__).parents[2])]
    if quickjs is not None and quickjs.origin is not None:
        places.append(str(Path(quickjs.origin).parent))
    start = (
        f"import sys; sys.path += {places!r}; from rpcbroker.outside.script_worker import main; "
        f"main({settings.script_memory}, {MAX_OUTPUT})"
    )
    return [sys.executable, "-I", "-S", "-c", start]
