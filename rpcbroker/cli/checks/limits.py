"""Open files and memory, against what the configuration and the store promise."""

from __future__ import annotations

from rpcbroker.cli.checks.subject import Subject, Verdicts, ok, problem, warning
from rpcbroker.cli.words import counted, size

OTHER_FILES = 100
"""Files that are no connection: the store's, logs, listeners, the interpreter's own."""
AT_REST = 96 << 20
"""Bytes of a broker with no device connected, as `make bench` measures it, and a little more."""
PER_DEVICE = 8 << 10
"""Bytes of a connected device: twice what `make bench` measures of an idle one."""


def open_files(subject: Subject) -> Verdicts:
    """Every connection is one; a broker without any left accepts nobody."""
    devices, callers = _devices(subject), subject.settings.http.max_connections
    whose = "the broker" if subject.runs else "a process started here"
    text = (
        f"{whose} may open {subject.open_files:,}; {counted(devices, 'device')}, {callers:,} HTTP connections "
        f"([http] max_connections) and {OTHER_FILES} others are {(needed := devices + callers + OTHER_FILES):,}"
    )
    raise_it = f"LimitNOFILE={needed} in the unit, or ulimit -n {needed}"
    if subject.open_files < devices + OTHER_FILES:
        yield problem(text, raise_it)
    elif subject.open_files < needed:
        yield warning(text, f"{raise_it}, or lower [http] max_connections.")
    else:
        yield ok(text)


def memory(subject: Subject) -> Verdicts:
    """For all devices of the store, connected."""
    if subject.memory is None:
        yield ok("how much is free is not known")
        return
    needed = (0 if subject.runs else AT_REST) + PER_DEVICE * _devices(subject)
    text = f"{size(subject.memory)} are free; {counted(_devices(subject), 'device')} need about {size(needed)}"
    if subject.memory < needed:
        yield warning(text, "Stop something else, or take a bigger machine.")
    else:
        yield ok(text)


def _devices(subject: Subject) -> int:
    return subject.examined.devices if subject.examined else 0
