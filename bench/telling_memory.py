"""The broker, which tells what its memory is made of when it is asked to; bench/device_memory.py runs it.

At SIGUSR2 the bytes of each part go as JSON to the file in MEMORY_TOLD; at SIGUSR1 garbage is collected and malloc
gives back what it can, and then they do.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

from twisted.application.app import run
from twisted.scripts.twistd import ServerOptions, runApp

LIBC = ctypes.CDLL(None)
MALLINFO = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class Mallinfo(ctypes.Structure):
    """mallinfo(3), of all of malloc's arenas."""

    _fields_ = [(name, ctypes.c_size_t) for name in MALLINFO.split()]


LIBC.mallinfo2.restype = Mallinfo


def parts() -> dict[str, int]:
    """Bytes that are resident, and of Python's small objects and of malloc what is used and what is free."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    malloc, (used, in_all) = LIBC.mallinfo2(), small_objects()
    return {
        "resident": resident,
        "objects": used,
        "room": in_all - used,
        "malloc": malloc.uordblks + malloc.hblkhd,
        "free": malloc.fordblks,
    }


def small_objects() -> tuple[int, int]:
    """Bytes of them, and of the arenas where they are. The interpreter tells it on its stderr only."""
    kept = os.dup(2)
    with tempfile.TemporaryFile("w+") as told:
        os.dup2(told.fileno(), 2)
        sys._debugmallocstats()
        os.dup2(kept, 2)
        os.close(kept)
        told.seek(0)
        text = told.read()
    used, in_all = (
        re.search(rf"^{name} += +([0-9,]+)$", text, re.MULTILINE) for name in ("# bytes in allocated blocks", "Total")
    )
    return int(used[1].replace(",", "")), int(in_all[1].replace(",", ""))


def tell(*_: object) -> None:
    Path(os.environ["MEMORY_TOLD"]).write_text(json.dumps(parts()))


def give_back(*_: object) -> None:
    gc.collect()
    LIBC.malloc_trim(0)
    tell()


def main() -> None:
    signal.signal(signal.SIGUSR2, tell)
    signal.signal(signal.SIGUSR1, give_back)
    sys.argv[0] = "twistd"
    run(runApp, ServerOptions)


if __name__ == "__main__":
    main()
