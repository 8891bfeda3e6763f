"""One broker for one state directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO


class InUseError(Exception):
    """Another process holds the state directory; the text is one line for the operator."""


def lock(state_dir: Path) -> IO[str]:
    """Hold `state_dir` until the file is closed or the process ends, kill -9 included. Raises InUseError, OSError."""
    path = state_dir / "lock"
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = file.read(20).strip()
        file.close()
        raise InUseError(f"state directory {state_dir}: the process {holder or 'that holds it'} uses it") from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def holder_of(state_dir: Path) -> str | None:
    """The pid of the process that holds `state_dir`, empty if it has not said; None when nobody does. Raises OSError.

    It looks with a shared lock that it lets go at once; a broker that starts in that very moment is refused.
    """
    try:
        file = (state_dir / "lock").open()
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read(20).strip()
    return None
