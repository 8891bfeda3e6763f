"""What the kernel knows. None where it does not tell."""

from __future__ import annotations

import ctypes
import re
import resource
from pathlib import Path

_TIME_ERROR = 5
_BIGGER_THAN_TIMEX = 512


def synchronised() -> bool | None:
    """Whether something keeps the clock true: NTP, PTP or a radio. It is asked as timedatectl asks."""
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_BIGGER_THAN_TIMEX))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def open_files(pid: str | None) -> int:
    """How many files the process may open; this one's limit when `pid` does not tell."""
    try:
        found = re.search(r"^Max open files +(\d+)", Path(f"/proc/{pid}/limits").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1]) if found else resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def memory() -> int | None:
    """Bytes that a new process could have without swapping."""
    try:
        found = re.search(r"^MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) << 10 if found else None
