"""The broker's log: to stderr, a file or syslog, as text or as JSON, by level, and never a storm."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from string import Formatter
from typing import IO, Any

from twisted.internet.error import ReactorNotRunning
from twisted.logger import FileLogObserver, ILogObserver, LogLevel, formatEvent, textFileLogObserver
from twisted.python.logfile import LogFile
from zope.interface import implementer

from rpcbroker.core.settings import LogSettings
from rpcbroker.host.repeats import Event, Repeats

FILE_SIZE = 10_000_000
"""Bytes of a log file; then it is kept as `<name>.1` and a new one is begun."""
OLD_FILES = 9
"""Log files that are kept beside the one that is written: a log cannot fill a disk."""

SMALL_TALK = frozenset(
    {
        "twistd {version} ({exe} {pyVersion}) starting up.",
        "reactor class: {reactor}.",
        "Timing out client: {peer}",
        "Forcibly timing out client: {peer}",
    }
)
"""What Twisted says at info level, and here is worth debug level at most."""

Write = Callable[[Event], None]


@implementer(ILogObserver)
class Logs:
    """What all events go through on their way to `write`. May be called from any thread."""

    def __init__(self, settings: LogSettings, write: Write) -> None:
        self.settings = settings
        """May be replaced at any time."""
        self._write = write
        self._repeats = Repeats()
        self._lock = threading.RLock()  # the one in it may be interrupted by a signal that is logged

    def __call__(self, event: Event) -> None:
        if _level(event) < LogLevel.levelWithName(self.settings.level):
            return
        with self._lock:
            self._write_all(self._repeats.passed(event, self.settings.repeats))

    def sum_up(self, now: float, *, of_all: bool = False) -> None:
        """Log how many events were withheld in minutes that are over, or in all. `now` is in epoch seconds."""
        with self._lock:
            self._write_all(self._repeats.sums(now, of_all=of_all))

    def _write_all(self, events: list[Event]) -> None:
        for event in events:
            self._write(event)


def _level(event: Event) -> Any:
    """Its own, or less: for small talk, what older parts of Twisted tell of every port, and a second SIGTERM."""
    level = event.get("log_level") or LogLevel.info
    failure = event.get("log_failure")
    if failure is not None and failure.check(ReactorNotRunning):
        return LogLevel.debug
    usual = event.get("log_namespace") == "log_legacy" or event.get("log_format") in SMALL_TALK
    return LogLevel.debug if usual and level is LogLevel.info else level


def text(file: IO[Any]) -> Write:
    """Twisted's lines of text."""
    write: Write = textFileLogObserver(file)
    return write


def json_lines(file: IO[Any]) -> Write:
    """One JSON object a line."""
    write: Write = FileLogObserver(file, lambda event: json_line(event) + "\n")
    return write


def json_line(event: Event) -> str:
    """`time` (UTC, ISO 8601), `level`, `logger`, `message`, and the template's fields that JSON knows.

    A failure's traceback is in `traceback`.
    """
    moment = datetime.fromtimestamp(event.get("log_time") or 0.0, UTC)
    line = {
        "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": _level(event).name,
        "logger": event.get("log_namespace") or "-",
        "message": formatEvent(event),
    }
    failure = event.get("log_failure")
    if failure is not None:
        line["traceback"] = failure.getTraceback()
    fields = {name: event[name] for name in _fields(event) if _is_plain(event.get(name))}
    return json.dumps(fields | line)


def _fields(event: Event) -> list[str]:
    try:
        parsed = list(Formatter().parse(str(event.get("log_format") or "")))
    except ValueError:
        return []
    return [name for _, name, *_ in parsed if name and not name.startswith("log_")]


def _is_plain(value: object) -> bool:
    return isinstance(value, (str, bool, int)) or (isinstance(value, float) and math.isfinite(value))


class File:
    """A log file that is begun anew when it is full, and opened again when somebody has moved it away."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self._path = path
        self._file = self._open()

    def write(self, text: str) -> None:
        self._file.write(text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def rotate(self) -> None:
        """Begin a new one."""
        self._file.rotate()

    def reopen(self) -> None:
        """Go on in the file that now has the name. Raises OSError, and then goes on in the old one."""
        old, self._file = self._file, self._open()
        old.close()

    def _open(self) -> LogFile:
        return LogFile.fromFullPath(self._path, rotateLength=FILE_SIZE, maxRotatedFiles=OLD_FILES)
